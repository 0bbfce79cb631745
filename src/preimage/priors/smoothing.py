"""Blurring, and its inverse."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RequestError

_NEGLIGIBLE = 3.0
"""A Gaussian reaches so many standard deviations, unless its size is given."""


@dataclass(frozen=True)
class Gaussian:
    """Blurring with a Gaussian of standard deviation `sigma` pixels, each channel by itself, reflecting borders.

    size: an odd number of pixels; default: three standard deviations to either side.
    `kernel` is [size, size] and sums to 1.

    Raises `RequestError` for a size or sigma that is not above zero, or an even size.
    """

    size: int | None = None
    sigma: float = field(kw_only=True)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise RequestError(f"a Gaussian needs a sigma above zero pixels, not {self.sigma}")
        if self.size is not None and (self.size < 1 or self.size % 2 == 0):
            raise RequestError(f"a kernel has an odd number of pixels a side, 1 at least, not {self.size}")

    @cached_property
    def profile(self) -> Tensor:
        """One row of the separable kernel, [size], summing to 1."""
        reach = math.ceil(_NEGLIGIBLE * self.sigma) if self.size is None else (self.size - 1) // 2
        row = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float64) / self.sigma).square() / 2)
        return row / row.sum()

    @property
    def kernel(self) -> Tensor:
        """The kernel as it is applied, float32 [size, size]."""
        return torch.outer(self.profile, self.profile).float()

    def __call__(self, values: Tensor) -> Tensor:
        if values.ndim != 4:
            raise RequestError(f"a blur needs pixels [N, C, H, W], not parameters {list(values.shape)}")
        reach = (len(self.profile) - 1) // 2
        if reach >= min(values.shape[2:]):
            raise RequestError(
                f"a kernel of {2 * reach + 1} pixels a side is too large for images {list(values.shape)}"
            )
        padded = F.pad(values, (reach,) * 4, mode="reflect")
        return _filtered(_filtered(padded, self.profile, 3), self.profile, 2)


def _filtered(values: Tensor, profile: Tensor, axis: int) -> Tensor:
    """Along one axis, without padding. Shifted sums are five times as fast as a grouped convolution on a CPU."""
    length = values.shape[axis] - len(profile) + 1
    weights = profile.tolist()
    total: Tensor = values.narrow(axis, 0, length) * weights[0]
    for shift, weight in enumerate(weights[1:], 1):
        total.add_(values.narrow(axis, shift, length), alpha=weight)
    return total


@dataclass(frozen=True)
class Deblur:
    """Richardson-Lucy deconvolution: what, blurred by `kernel`, gives these values (paper 0, SPEC A6).

    u <- u * K^T (d / (K u)), starting from d; all d must be non-negative (SPEC A.3-1), so that
    base: "minimum" (each image's smallest value is subtracted first and added afterwards; nothing is lost), or
        "zero" (values below zero, the mean colour, become zero, as in the published code).
    """

    kernel: Gaussian
    iterations: int = 10
    base: str = "minimum"

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise RequestError(f"deblurring takes at least one iteration, not {self.iterations}")
        if len(self.kernel.profile) < 2:
            raise RequestError("a deblurring kernel of one pixel undoes nothing; it needs 3 pixels a side or more")
        if self.base not in ("minimum", "zero"):
            raise RequestError(f"the base of deblurring is minimum or zero, not '{self.base}'")

    def __call__(self, values: Tensor) -> Tensor:
        # (the kernel is symmetric, so that it is its own transpose, but for the weight of reflected pixels)
        if self.base == "zero":
            return self._sharpened(values.clamp_min(0))
        least = values.amin((1, 2, 3), keepdim=True)
        return self._sharpened(values - least) + least

    def _sharpened(self, data: Tensor) -> Tensor:
        sharp, tiny = data, torch.finfo(data.dtype).tiny
        for _ in range(self.iterations):
            sharp = sharp * self.kernel(data / self.kernel(sharp).clamp_min(tiny))
        return sharp


class Grey:
    """r(v) = 0: pulling towards it is weight decay, v <- v - eps_1 v (paper 0, SPEC A7)."""

    def __call__(self, values: Tensor) -> Tensor:
        return torch.zeros_like(values)

    def __repr__(self) -> str:
        return "Grey()"
