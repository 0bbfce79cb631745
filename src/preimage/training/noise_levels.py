"""How much noise the joint variants are trained with, measured from the photos."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from preimage.errors import RequestError
from preimage.training.encoding import Encoding
from preimage.training.photos import Photos
from preimage.training.randomness import generator

PAPER: dict[str, float] = {"x": 0.01, "h1": 0.1, "h": 0.1}
"""Shares of the mean pixel and of the mean activations (paper 3, S9.5: sigma 1, 4 and 1 there; SPEC P9)."""

_PHOTOS = 2000


@dataclass(frozen=True)
class Means:
    """Mean absolute value of pixels, features and codes, and the root of the mean square of codes."""

    x: float
    h: float
    h1: float | None
    h_root_mean_square: float

    def noise(self, shares: dict[str, float]) -> dict[str, float]:
        """Standard deviations of the noise, from shares of these means; keys x, h1, h.

        Raises `RequestError` for other keys, shares below zero, and noise on features where there are none.
        """
        for key, share in shares.items():
            if key not in PAPER:
                raise RequestError(f"noise is added to {', '.join(PAPER)}, not to '{key}'")
            if not 0 <= share < float("inf"):
                raise RequestError(f"the noise on {key} is a share of its mean, from 0 on, not {share}")
        if shares.get("h1") and self.h1 is None:
            raise RequestError("noise on h1 needs features to match: say at which tap")
        of = {"x": self.x, "h1": self.h1 or 0.0, "h": self.h}
        return {key: shares.get(key, 0.0) * of[key] for key in PAPER}


def measured_means(photos: Photos, encoding: Encoding, seed: int = 0) -> Means:
    """Means over all photos, or over 2,000 of them that are drawn by the seed. Absolute values, so that a layer without
    ReLU has a scale too; behind a ReLU they are the activations themselves.

    Raises `RequestError` where the code is zero, or not finite, on all photos.
    """
    drawn = torch.randperm(len(photos), generator=generator(seed, "means"))[:_PHOTOS]
    sums = torch.zeros(4, dtype=torch.float64)
    for part in torch.split(drawn, 64):
        images = photos.batch(part)
        code, features = encoding.of(images)
        found = [images.abs(), code.abs(), features.abs() if features is not None else code[:0], code.square()]
        sums += torch.stack([one.double().flatten(1).mean(1).sum().cpu() if len(one) else sums[0] * 0 for one in found])
    x, h, h1, square = (sums / len(drawn)).tolist()
    if not 0 < h < float("inf"):
        raise RequestError(f"the code at {encoding.code} is {'zero' if h == 0 else 'not finite'} on all photos")
    return Means(x, h, h1 if encoding.match is not None else None, square**0.5)
