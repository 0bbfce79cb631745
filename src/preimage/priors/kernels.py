"""Smoothing kernels: Gaussian and Sobolev, and how their widths follow from a filter size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property, reduce

import torch
from torch import Tensor

from preimage.errors import RequestError

_NEGLIGIBLE = 1e-4
"""Paper 2 counts smaller entries of a kernel as none (its "1e-4 rule", SPEC S10)."""
_REACH = 3.0
"""A Gaussian without a given size reaches so many standard deviations."""


@dataclass(frozen=True)
class Gaussian:
    """Smoothing with a Gaussian of standard deviation `sigma` pixels, each channel by itself, pictures mirrored at
    their border's edges, so that it is symmetric and means stay. With the default sigma it is positive definite up to
    size 11 only (9 with margin 0): wider ones, cut off by the rule below, turn some updates downhill.

    size: an odd number of pixels; default: three standard deviations to either side.
    sigma: default: the largest that suits the size, that is, of which no entry above 1e-4 comes closer than `margin`
        pixels to the filter's border (paper 2, section 4; SPEC S10 and S.3-4, whose two readings are margins 1 and 0).
    `kernel` is [size, size] and sums to 1.

    Raises `RequestError` for an even size, a size or sigma that is not above zero, or neither; when called, for a
    picture narrower than `size`.
    """

    size: int | None = None
    sigma: float = None  # type: ignore[assignment]  # (never None once it is made)
    margin: int = field(default=1, repr=False)

    def __post_init__(self) -> None:
        _check(self.size, "sigma", self.sigma)
        if self.sigma is None:
            object.__setattr__(self, "sigma", _fitting(_gaussian_row, _reach(self.size, self.margin)))
        if self.size is None:
            object.__setattr__(self, "size", 2 * math.ceil(_REACH * self.sigma) + 1)

    @cached_property
    def profile(self) -> Tensor:
        """One row of the separable kernel, float64 [size], summing to 1."""
        assert self.size is not None
        return _gaussian_row(self.sigma, self.size)

    @property
    def kernel(self) -> Tensor:
        """The kernel as it is applied, float32 [size, size]."""
        return torch.outer(self.profile, self.profile).float()

    def __call__(self, values: Tensor) -> Tensor:
        padded = _padded(values, len(self.profile) // 2)
        return _filtered(_filtered(padded, self.profile, 3), self.profile, 2)


@dataclass(frozen=True)
class Sobolev:
    """Smoothing with the solution S of (Id - gamma Laplacian) S = delta, each channel by itself, borders as `Gaussian`.

    It is what turns an L2 gradient into that of the Sobolev space H1 (paper 2, equation 9; SPEC S9): sharper at its
    centre than a Gaussian of the same support. Solved exactly with the five-point Laplacian on a large periodic grid,
    cropped to `size` and scaled to sum to 1 (SPEC S.3-3). With the default gamma positive definite.

    size: an odd number of pixels; default: as many as gamma and the 1e-4 rule ask for.
    gamma: in pixels squared; default: the largest that suits the size (see `Gaussian`).
    `kernel` is [size, size].

    Raises `RequestError` for an even size, a size or gamma that is not above zero, or neither; when called, for a
    picture narrower than `size`.
    """

    size: int | None = None
    gamma: float = None  # type: ignore[assignment]  # (never None once it is made)
    margin: int = field(default=1, repr=False)

    def __post_init__(self) -> None:
        _check(self.size, "gamma", self.gamma)
        if self.gamma is None:
            object.__setattr__(self, "gamma", _fitting(_sobolev_row, _reach(self.size, self.margin)))
        if self.size is None:
            object.__setattr__(self, "size", 2 * (_support(_sobolev_row(self.gamma)) + self.margin) + 1)

    @cached_property
    def kernel(self) -> Tensor:
        """The kernel as it is applied, float32 [size, size]."""
        assert self.size is not None
        grid = max(_GRID, 4 * self.size + 1)
        first = (grid - self.size) // 2
        cropped: Tensor = _sobolev(self.gamma, grid)[first : first + self.size, first : first + self.size]
        return (cropped / cropped.sum()).float()

    def __call__(self, values: Tensor) -> Tensor:
        assert self.size is not None
        padded = _padded(values, self.size // 2)
        if self.size <= _SMALL:
            least = torch.finfo(values.dtype).eps
            parts = (_filtered(_filtered(padded, row, 3), row * s, 2) for row, s in self._parts if abs(s) > least)
            return reduce(Tensor.add_, parts)
        height, width = padded.shape[2:]
        shape = _fast_length(height), _fast_length(width)
        product = torch.fft.rfft2(padded, s=shape) * torch.fft.rfft2(self.kernel.to(padded), s=shape)
        whole: Tensor = torch.fft.irfft2(product, s=shape)
        return whole[:, :, self.size - 1 : height, self.size - 1 : width]

    @cached_property
    def _parts(self) -> list[tuple[Tensor, float]]:
        """The kernel as a sum of separable ones, sign * row row^T, in float64."""
        values, rows = torch.linalg.eigh(self.kernel.double())
        return [(row, float(value)) for row, value in zip(rows.T, values, strict=True)]


_GRID = 257
_SMALL = 7
"""Up to this size sums of separable parts are faster than Fourier transforms (`benchmarks/filters.py`)."""


def _gaussian_row(sigma: float, size: int = _GRID) -> Tensor:
    row = torch.exp(-((torch.arange(size, dtype=torch.float64) - size // 2) / sigma).square() / 2)
    return row / row.sum()


def _sobolev(gamma: float, grid: int) -> Tensor:
    """S on a periodic grid x grid, centred, summing to 1: 1 / (1 + gamma (4 - 2 cos w_x - 2 cos w_y)) backwards."""
    waves = 2 - 2 * torch.cos(2 * math.pi * torch.fft.fftfreq(grid, dtype=torch.float64))
    solution: Tensor = torch.fft.fftshift(torch.fft.ifft2(1 / (1 + gamma * (waves[:, None] + waves[None]))).real)
    return solution


def _sobolev_row(gamma: float) -> Tensor:
    """The middle row of S, in which entries fall most slowly."""
    return _sobolev(gamma, _GRID)[_GRID // 2]


def _support(row: Tensor) -> int:
    """How far from the centre entries of a kernel lie that are not negligible."""
    counted = (row > _NEGLIGIBLE).nonzero()
    if not len(counted):
        raise RequestError(
            f"a kernel so wide has no entry above {_NEGLIGIBLE:g}, so that its size and its parameter do not follow "
            "from one another; give both"
        )
    return int((counted - len(row) // 2).abs().max())


@cache
def _fitting(row: Callable[[float], Tensor], reach: int) -> float:
    """The largest parameter of which no entry beyond `reach` counts; by bisection, since the support grows with it."""

    def support(parameter: float) -> int:
        # Of a Gaussian in two dimensions, the middle row is a row times the centre of the other axis.
        values = row(parameter)
        return _support(values * values[len(values) // 2] if row is _gaussian_row else values)

    low, high = 1e-3, 1.0
    while support(high) <= reach:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if support(middle) <= reach else (low, middle)
    return low


def _reach(size: int | None, margin: int) -> int:
    assert size is not None
    reach = (size - 1) // 2 - margin
    if reach < 1:
        raise RequestError(
            f"a kernel of {size} pixels a side with a margin of {margin} has no room; it takes {2 * margin + 3} or more"
        )
    return reach


def _check(size: int | None, name: str, parameter: float | None) -> None:
    if size is None and parameter is None:
        raise RequestError(f"a kernel needs a size or a {name}")
    if size is not None and type(size) is not int:
        raise RequestError(f"a kernel's size is a whole number of pixels, not {size!r}")
    if size is not None and (size < 1 or size % 2 == 0):
        raise RequestError(f"a kernel has an odd number of pixels a side, 1 at least, not {size}")
    if parameter is not None and not (math.isfinite(parameter) and parameter > 0):
        raise RequestError(f"a kernel needs a {name} above zero pixels, not {parameter}")


def _padded(values: Tensor, reach: int) -> Tensor:
    if values.ndim != 4:
        raise RequestError(f"a kernel smooths pixels [N, C, H, W], not parameters {list(values.shape)}")
    height, width = values.shape[2:]
    if 2 * reach + 1 > min(height, width):
        raise RequestError(
            f"a kernel of {2 * reach + 1} pixels a side is wider than the picture, {height} x {width}; "
            "ask for a larger picture, or take a smaller kernel"
        )
    if not reach:
        return values
    # Mirrored at the pixels' edges and not at their centres: only so is the filter symmetric, and a smoothed gradient
    # the gradient in another metric (SPEC S9). (F.pad knows the other kind only.)
    values = torch.cat([values[:, :, :reach].flip(2), values, values[:, :, -reach:].flip(2)], 2)
    return torch.cat([values[..., :reach].flip(3), values, values[..., -reach:].flip(3)], 3)


def _fast_length(length: int) -> int:
    """The smallest even number from `length` on without prime factors above 7: other transforms take up to twice as
    long."""
    length += length % 2
    while True:
        rest = length
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 2


def _filtered(values: Tensor, profile: Tensor, axis: int) -> Tensor:
    """Along one axis, without padding. Shifted sums are five times as fast as a grouped convolution on a CPU."""
    length = values.shape[axis] - len(profile) + 1
    weights = profile.tolist()
    total: Tensor = values.narrow(axis, 0, length) * weights[0]
    for shift, weight in enumerate(weights[1:], 1):
        total.add_(values.narrow(axis, shift, length), alpha=weight)
    return total
