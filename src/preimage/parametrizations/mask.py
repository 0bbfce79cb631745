"""A mask laid over photos: the parameters are the mask, and the network sees the photo through it (paper 4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.parametrizations.parametrization import Parametrization
from preimage.priors import Gaussian

Shows = Literal["kept", "deleted", "both"]


@dataclass(frozen=True, eq=False)
class MaskOver(Parametrization):
    """P(v) = v, a coarse mask m [N, 1, height, width] in [0, 1]; what the network gets is
    M x0 + (1 - M) x1 with M(y) = sum_u g_sigma(y / s - u) m(u) (paper 4, equation 6): M is the mask, each cell
    repeated over its pixels and then blurred, x0 the photo and x1 the perturbed one.

    photos, perturbed: x0 and x1, [N, C, H, W]; there may be several x1 of each photo, [N * K, C, H, W], photo by photo,
        and then the network gets as many pictures. Views (jitter) move both alike, and not the mask (SPEC M.5-3); they
        may cut them down to `seen`, (height, width) in pixels.
    sigma: of the blur, in pixels; 0: none.
    shows: "kept", that; "deleted", the photo where the mask is 0; "both", one picture of each kind.
    gradient_through_blur: False leaves the blur out of the gradient, as the published code does (SPEC M.5-2).
    """

    photos: Tensor = field(kw_only=True)
    perturbed: Tensor = field(kw_only=True)
    seen: tuple[int, int] = field(kw_only=True)
    sigma: float = field(default=0.0, kw_only=True)
    shows: Shows = field(default="kept", kw_only=True)
    gradient_through_blur: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        if self.height > self.seen[0] or self.width > self.seen[1]:
            raise RequestError(
                f"a mask of {self.height} x {self.width} cells is larger than what it is laid over, "
                f"{self.seen[0]} x {self.seen[1]}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, self.height, self.width)

    def image(self, parameters: Tensor) -> Tensor:
        return parameters

    def parameters(self, images: Tensor) -> Tensor:
        return images

    def over(self, masks: Tensor) -> Tensor:
        """M of coarse masks m, [N, 1, height, width] -> [N, 1, *seen]."""
        cells, smoothed = self._cells, self._smoothed
        if self.gradient_through_blur:
            return _separably(masks, smoothed)
        repeated = _separably(masks, cells)
        return repeated + (_separably(masks, smoothed) - repeated).detach()

    def picture(self, parameters: Tensor) -> Tensor:
        return self.over(parameters).clamp(0, 1)

    def as_seen(self, images: Tensor, view: Callable[[Tensor], Tensor]) -> Tensor:
        over = self.over(images)
        photos, perturbed = view(self.photos), view(self.perturbed)
        several = len(perturbed) // len(photos)
        if several > 1:
            photos, over = photos.repeat_interleave(several, 0), over.repeat_interleave(several, 0)
        kept = torch.lerp(perturbed, photos, over)
        if self.shows == "kept":
            return kept
        deleted = torch.lerp(photos, perturbed, over)
        return deleted if self.shows == "deleted" else torch.stack([kept, deleted], 1).flatten(0, 1)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "MaskOver",
            "cells": [self.height, self.width],
            "sigma": self.sigma,
            "shows": self.shows,
            "gradient_through_blur": self.gradient_through_blur,
        }

    @cached_property
    def _cells(self) -> tuple[Tensor, Tensor]:
        """Each cell repeated over its pixels, as matrices [pixels, cells] for either axis."""
        rows, columns = (
            _nearest(pixels, cells).to(self.photos)
            for pixels, cells in zip(self.seen, (self.height, self.width), strict=True)
        )
        return rows, columns

    @cached_property
    def _smoothed(self) -> tuple[Tensor, Tensor]:
        if not self.sigma:
            return self._cells
        rows, columns = (_blur(self.sigma, len(cells)).to(cells) @ cells for cells in self._cells)
        return rows, columns


def _separably(masks: Tensor, matrices: tuple[Tensor, Tensor]) -> Tensor:
    return matrices[0] @ masks @ matrices[1].T


def _nearest(pixels: int, cells: int) -> Tensor:
    out = torch.zeros(pixels, cells)
    out[torch.arange(pixels), torch.arange(pixels) * cells // pixels] = 1
    return out


def _blur(sigma: float, pixels: int) -> Tensor:
    """Convolution with a Gaussian along one axis, mirrored at the border's edges, as a matrix [pixels, pixels]."""
    profile = Gaussian(sigma=sigma).profile
    reach = len(profile) // 2
    matrix = torch.zeros(pixels, pixels, dtype=torch.float64)
    rows = torch.arange(pixels)
    for shift, weight in zip(range(-reach, reach + 1), profile, strict=True):
        around = (rows + shift) % (2 * pixels)
        matrix[rows, torch.where(around < pixels, around, 2 * pixels - 1 - around)] += weight
    return matrix.float()


def grid(size: tuple[int, int], cells: int) -> tuple[int, int]:
    """(height, width) of a mask with so many cells along the shorter side of a picture, the cells being square."""
    side = min(size) / cells
    height, width = (max(1, math.floor(whole / side + 0.5)) for whole in size)
    return height, width
