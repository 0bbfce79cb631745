"""What a network answers to photos perturbed under a mask, in ways that the mask may not have been made for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import bootstrap
from torch import Tensor

import preimage as pi
from preimage.explain import Question
from preimage.explain.perturbation import perturbed
from preimage.objectives import Objective, label

KINDS = ("blur", "constant", "noise")
THRESHOLDS = [round(0.05 * i, 2) for i in range(20)]


def strongest(network: pi.Network, photos: Tensor) -> tuple[list[int], Tensor]:
    """The network's first answer to each photo [N, C, H, W], and its probability [N]."""
    place = pi.Place(network.logits, True)
    with torch.no_grad(), network.held():
        logits = torch.cat([network.run(some, [place])[place] for some in torch.split(photos, 16)])
    values, classes = logits.softmax(1).max(1)
    return classes.tolist(), values


def answers(network: pi.Network, photos: Tensor, masks: Tensor, classes: Sequence[int], kind: str) -> Tensor:
    """The probability of each photo's class, the photo [N, C, H, W] being perturbed where its mask [N, H, W] is 0."""
    objectives: tuple[Objective, ...] = tuple(label(c, "prob").bind(network) for c in classes)
    size = (photos.shape[2], photos.shape[3])
    asked = Question(network, tuple(photos), objectives, size, tuple(range(len(photos))))
    other = perturbed(photos, kind, asked, asked.pixels(10.0))
    shown = torch.lerp(other, photos, masks[:, None])
    return torch.cat([asked.scores(i, shown[i : i + 1]) for i in range(len(photos))])


def left_under(network: pi.Network, photos: Tensor, masks: Tensor, classes: Sequence[int]) -> dict[str, Tensor]:
    """For each perturbation the share of the score that is left, (s - s_all) / (s_photo - s_all) cut to [0, 1], [N].

    s_all is the score when all is perturbed, which is how we read the s_mask of SPEC M17.
    """
    whole, nothing = torch.ones_like(masks), torch.zeros_like(masks)
    out = {}
    for kind in KINDS:
        photo, every, some = (answers(network, photos, m, classes, kind) for m in (whole, nothing, masks))
        out[kind] = ((some - every) / (photo - every).clamp_min(1e-6)).clamp(0, 1)
    return out


def curve_under(network: pi.Network, photos: Tensor, masks: Tensor, classes: Sequence[int], kind: str) -> Tensor:
    """SPEC M17: masks brought to [0, 1] and cut at each threshold; the share of the score left, [N, thresholds].

    At threshold a everything is perturbed where the mask is a or less.
    """
    low, high = masks.amin((1, 2), keepdim=True), masks.amax((1, 2), keepdim=True)
    scaled = (masks - low) / (high - low).clamp_min(1e-12)
    whole, nothing = torch.ones_like(masks), torch.zeros_like(masks)
    photo, every = (answers(network, photos, m, classes, kind) for m in (whole, nothing))
    columns = [answers(network, photos, (scaled > a).float(), classes, kind) for a in THRESHOLDS]
    span = (photo - every).clamp_min(1e-6)
    return torch.stack([((some - every) / span).clamp(0, 1) for some in columns], 1)


def mean(values: Tensor | Sequence[float]) -> dict[str, object]:
    """The mean of values [N] with its 95 % bootstrap interval (percentiles, 10,000 resamples)."""
    array = np.asarray(values, dtype=float)
    if np.ptp(array) == 0:
        return {
            "mean": round(float(array.mean()), 4),
            "interval": [round(float(array.mean()), 4)] * 2,
            "of": len(array),
        }
    found = bootstrap((array,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0))
    interval = [round(float(x), 4) for x in found.confidence_interval]
    return {"mean": round(float(array.mean()), 4), "interval": interval, "of": len(array)}
