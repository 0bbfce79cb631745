"""Optimizers made of another one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from preimage.errors import RequestError
from preimage.optimization.optimizer import Ascender, Evaluate, Optimizer, per_image


@dataclass(frozen=True)
class Scaled(Optimizer):
    """The steps of `optimizer`, those of image i `factors[i]` times as long."""

    optimizer: Optimizer
    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.optimizer.looks_ahead:
            raise RequestError(f"{self.optimizer} finds the length of its steps by itself; it has no step size")

    def start(self) -> Ascender:
        return _Stretched(self.optimizer.start(), self.factors)


class _Stretched(Ascender):
    def __init__(self, inner: Ascender, factors: tuple[float, ...]):
        self._inner = inner
        self._factors = factors

    def step(self, parameters: Tensor, value: Tensor, gradient: Tensor, evaluate: Evaluate) -> Tensor:
        step = self._inner.step(parameters, value, gradient, evaluate)
        return step * per_image(step.new_tensor(self._factors), step)

    def keep(self, images: Tensor) -> None:
        self._inner.keep(images)
        self._factors = tuple(f for f, stays in zip(self._factors, images.tolist(), strict=True) if stays)


@dataclass(frozen=True)
class ClippedByContribution(Optimizer):
    """`optimizer`, given no gradient where |g v| is below its mean over the image (paper 0's "use_clip", SPEC A16).

    v is counted from mid-grey, as `Pixels` does: a pixel that says little is left alone.
    """

    optimizer: Optimizer

    def __post_init__(self) -> None:
        if self.optimizer.looks_ahead:
            raise RequestError(f"{self.optimizer} searches along the gradient, so parts of it cannot be left out")

    def start(self) -> Ascender:
        return _Clipping(self.optimizer.start())


class _Clipping(Ascender):
    def __init__(self, inner: Ascender):
        self._inner = inner

    def step(self, parameters: Tensor, value: Tensor, gradient: Tensor, evaluate: Evaluate) -> Tensor:
        contribution = (gradient * parameters).abs()
        mean = per_image(contribution.flatten(1).mean(1), contribution)
        return self._inner.step(parameters, value, gradient.where(contribution >= mean, 0.0), evaluate)

    def keep(self, images: Tensor) -> None:
        self._inner.keep(images)
