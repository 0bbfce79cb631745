"""The gradient averaged over noisy copies of a photo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.averaged_gradients import averaged_gradients
from preimage.explain.method import Found, Method, Question


@dataclass(frozen=True)
class SmoothGrad(Method):
    """How strongly the answer depends on each pixel, on average over noisy copies of the photo.

    Smilkov, Thorat, Kim, Viegas & Wattenberg 2017, "SmoothGrad: removing noise by adding noise", section 2: the mean
    gradient of n copies with Gaussian noise; the heat map is its largest magnitude among the channels.

    samples: n. spread: the noise's standard deviation as a share of the photo's largest value less its smallest
        (section 3.1 recommends 0.1 to 0.2); 0 is the plain gradient. Noisy copies may leave [0, 1], as published.

    Raises `RequestError` for numbers that make no sense, or if no gradient comes back from what is asked.
    """

    name: ClassVar[str] = "smoothgrad"
    source: ClassVar[str] = "Smilkov et al. 2017, section 2"

    samples: int = 50
    spread: float = 0.15

    def __post_init__(self) -> None:
        if type(self.samples) is not int or self.samples < 1:
            raise RequestError(f"a mean takes at least 1 of samples, a whole number, not {self.samples}")
        if not (isinstance(self.spread, Real) and math.isfinite(self.spread) and self.spread >= 0):
            raise RequestError(f"a spread is a number from 0 on, not {self.spread}")

    def steps(self) -> int:
        return self.samples

    def explain(self, asked: Question) -> Found:
        photos = asked.photos
        sigmas = self.spread * (photos.amax((1, 2, 3)) - photos.amin((1, 2, 3)))
        generators = [torch.Generator().manual_seed(seed) for seed in asked.seeds]

        def noisy(i: int, _: int) -> Tensor:
            # One by one, so that the noise is the same whatever goes through the network together.
            noise = torch.randn(photos.shape[1:], generator=generators[i])
            return photos[i] + sigmas[i] * noise.to(photos)

        gradients = averaged_gradients(asked, noisy, [1 / self.samples] * self.samples)
        return Found(gradients.abs().amax(1), scores={"photo": asked.photo_scores()})
