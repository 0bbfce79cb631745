"""Which photographs an experiment takes, and the share of them that something holds for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor

import networks
from preimage.images import centre_crop, read_image


def balanced(count: int) -> list[tuple[Path, int]]:
    """`count` photographs with their classes, as evenly over the classes as there are photographs of each."""
    by_class: dict[int, list[Path]] = defaultdict(list)
    for path, label in networks.photographs():
        by_class[label].append(path)
    rounds = max(map(len, by_class.values()))
    turns = ((paths[i], label) for i in range(rounds) for label, paths in sorted(by_class.items()) if i < len(paths))
    return [taken for taken, _ in zip(turns, range(count), strict=False)]


def cropped(photos: Sequence[tuple[Path, int]], side: int) -> Tensor:
    """The centres of photographs, [N, 3, side, side]."""
    return torch.stack([centre_crop(read_image(path), (side, side)) for path, _ in photos])


def share(holds: Tensor) -> dict[str, object]:
    """Of bool [N]: the share and its 95 % bootstrap interval over the photographs (percentiles, 10,000 resamples)."""
    values = holds.double().numpy()
    if values.min() == values.max():
        return {"share": float(values.mean()), "interval": [float(values.mean())] * 2, "of": len(values)}
    found = bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return {"share": float(values.mean()), "interval": [round(float(x), 4) for x in found], "of": len(values)}
