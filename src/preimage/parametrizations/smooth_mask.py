"""Masks with smooth outlines whatever their parameters are, laid over photos (Fong, Patrick & Vedaldi 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from preimage.errors import RequestError
from preimage.parametrizations.parametrization import Parametrization
from preimage.priors import Gaussian

_COLDNESS = 20.0


@dataclass(frozen=True, eq=False)
class SmoothMaskOver(Parametrization):
    """P(v) = m with m(u) = smax_i k(u - i) v(i): the "max-convolution" of Fong, Patrick & Vedaldi 2019, section 3.2.

    v is a coarse grid [N, 1, rows, columns] of one cell for `step` pixels; k(d) = exp(-2 max(0, |d| / sigma - 1/2)^2)
    lies around each cell's centre; smax x = sum x exp(20 x) / sum exp(20 x). Each cell that is on draws a disc with a
    soft edge, and overlapping discs do not add up. The image is the mask in [0, 1], with a `margin` of pixels
    around the photo, so that a cell at the border draws as much as any other; height and width are the photo's.

    The network gets photos blurred the more the smaller m is: linearly between `levels` of a pyramid.

    pyramid: [N, levels, C, height, width], from the most blurred to the photo itself; see `blur_pyramid`.
    """

    pyramid: Tensor = field(kw_only=True)
    step: int = field(default=7, kw_only=True)
    sigma: float = field(default=21.0, kw_only=True)

    def __post_init__(self) -> None:
        if self.step < 1 or not self.sigma > 0:
            raise RequestError(f"a step has 1 pixel or more and a sigma above zero, not {self.step} and {self.sigma}")

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, math.ceil(self.height / self.step), math.ceil(self.width / self.step))

    def image(self, parameters: Tensor) -> Tensor:
        reach, beyond = self._reach, self.margin // self.step
        rows, columns = (cells + 2 * beyond for cells in self.shape[1:])
        around = F.unfold(parameters, 2 * reach + 1, padding=reach + beyond)
        smoothed: Tensor = _SmoothMaximum.apply(around, self._weights)  # type: ignore[no-untyped-call]
        return F.fold(smoothed, (rows * self.step, columns * self.step), self.step, stride=self.step)

    def picture(self, parameters: Tensor) -> Tensor:
        return self._cropped(self.image(parameters)).clamp(0, 1)

    def parameters(self, images: Tensor) -> Tensor:
        rows, columns = self.shape[1:]
        return F.interpolate(self._cropped(images), (rows, columns), mode="area")

    def as_seen(self, images: Tensor, view: Callable[[Tensor], Tensor]) -> Tensor:
        last = self.pyramid.shape[1] - 1
        shares = (1 - (self._cropped(images)[:, None] * last - self._levels).abs()).clamp_min(0)
        return view((self.pyramid * shares).sum(1))

    def describe(self) -> dict[str, Any]:
        return {"kind": "SmoothMaskOver", "cells": list(self.shape[1:]), "step": self.step, "sigma": self.sigma}

    @property
    def margin(self) -> int:
        """How many pixels the mask goes on beyond the photo, in whole cells."""
        return math.ceil(self.sigma / self.step) * self.step

    def _cropped(self, masks: Tensor) -> Tensor:
        margin = self.margin
        return masks[:, :, margin : margin + self.height, margin : margin + self.width]

    @property
    def _reach(self) -> int:
        """How many cells away a cell is still of weight."""
        return 1 + math.ceil(self.sigma / self.step)

    @cached_property
    def _levels(self) -> Tensor:
        return torch.arange(self.pyramid.shape[1], device=self.pyramid.device).view(1, -1, 1, 1, 1)

    @cached_property
    def _weights(self) -> Tensor:
        """k from each neighbouring cell's centre to each pixel of a cell, [neighbours, pixels]."""
        middle = (self.step - 1) / 2
        pixels = torch.arange(self.step) - middle
        cells = torch.arange(-self._reach, self._reach + 1) * self.step
        apart = (pixels[None] - cells[:, None]).square()  # [cells, pixels] along one axis
        squared = apart[:, None, :, None] + apart[None, :, None, :]
        weights = torch.exp(-2 * (squared.sqrt() / self.sigma - 0.5).clamp_min(0).square())
        return weights.reshape(len(cells) ** 2, self.step**2).to(self.pyramid)


class _SmoothMaximum(torch.autograd.Function):
    """sum_i x_i exp(20 x_i) / sum_i exp(20 x_i) with x_i = weight_i v_i, over the neighbours i of each cell.

    One neighbour at a time: all of them at once, tens of times the mask, do not fit into a processor's cache, and
    waiting for memory takes several times as long as the arithmetic.

    around: v of each cell's neighbours, [N, neighbours, cells]. weights: [neighbours, pixels]. Returns, for each pixel
    of each cell, [N, pixels, cells].
    """

    @staticmethod
    def forward(ctx: Any, around: Tensor, weights: Tensor) -> Tensor:
        total = around.new_zeros(around.shape[0], weights.shape[1], around.shape[2])
        maximum = torch.zeros_like(total)
        for v, weight in zip(around.unbind(1), weights, strict=True):
            x = v[:, None] * weight[:, None]
            share = torch.exp(_COLDNESS * x)
            total += share
            maximum.addcmul_(x, share)
        maximum /= total
        ctx.save_for_backward(around, weights, total, maximum)
        return maximum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        around, weights, total, maximum = ctx.saved_tensors
        # d maximum / d x_i = exp(20 x_i) (1 + 20 (x_i - maximum)) / total.
        slope = slope / total
        offset = 1 - _COLDNESS * maximum
        out = torch.empty_like(around)
        for i, (v, weight) in enumerate(zip(around.unbind(1), weights, strict=True)):
            scaled = _COLDNESS * (v[:, None] * weight[:, None])
            out[:, i] = torch.einsum("npc,p->nc", torch.exp(scaled).mul_(scaled.add_(offset)).mul_(slope), weight)
        return out, None


def blur_pyramid(photos: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Photos [N, C, H, W] blurred with Gaussians of so many pixels each, [N, levels, C, H, W]; 0 leaves them as they
    are. Of a Gaussian wider than the photo the part that fits is taken."""
    largest = (min(photos.shape[2:]) - 1) // 2 * 2 + 1
    blurred = [Gaussian(min(2 * math.ceil(3 * s) + 1, largest), s)(photos) if s > 0 else photos for s in sigmas]
    return torch.stack(blurred, 1)
