"""The inverse of blurring."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.priors.kernels import Gaussian


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
        if float(self.kernel.profile.max()) > 1 - 1e-9:
            raise RequestError(f"{self.kernel} has no width: deblurring with it undoes nothing")
        if self.base not in ("minimum", "zero"):
            raise RequestError(f"the base of deblurring is minimum or zero, not '{self.base}'")

    def __call__(self, values: Tensor) -> Tensor:
        # (K is its own transpose, at the borders too)
        if self.base == "zero":
            return self._sharpened(values.clamp_min(0))
        least = values.amin((1, 2, 3), keepdim=True)
        return self._sharpened(values - least) + least

    def _sharpened(self, data: Tensor) -> Tensor:
        sharp, tiny = data, torch.finfo(data.dtype).tiny
        for _ in range(self.iterations):
            sharp = sharp * self.kernel(data / self.kernel(sharp).clamp_min(tiny))
        return sharp
