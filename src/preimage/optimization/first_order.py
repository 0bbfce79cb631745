"""Optimizers that look at the gradient only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from preimage.optimization.optimizer import Ascender, Evaluate, Optimizer, per_image


@dataclass(frozen=True)
class Ascent(Optimizer):
    """Plain gradient ascent: step_size * g (SPEC A1, S4).

    per_first_gradient: divide by the mean |g| of each image's first step, once and for all. A step size is then what
        the first step changes a pixel by, on average, in any network (SPEC S.3-6).
    """

    step_size: float
    per_first_gradient: bool = False

    @property
    def forgets(self) -> bool:
        return not self.per_first_gradient

    def start(self) -> Ascender:
        return _Straight(self.step_size, "first" if self.per_first_gradient else "never")


@dataclass(frozen=True)
class NormalisedAscent(Optimizer):
    """step_size * g / mean |g|, the mean over what each image's gradient reaches: all steps are equally long
    (SPEC A5, A6)."""

    step_size: float

    def start(self) -> Ascender:
        return _Straight(self.step_size, "always")


class _Straight(Ascender):
    def __init__(self, step_size: float, normalised: Literal["never", "first", "always"]):
        self._step_size = step_size
        self._normalise = _Normaliser(normalised)

    def step(self, parameters: Tensor, value: Tensor, gradient: Tensor, evaluate: Evaluate) -> Tensor:
        return self._step_size * self._normalise(gradient)

    def keep(self, images: Tensor) -> None:
        self._normalise.keep(images)


class _Normaliser:
    """Divides by the mean |g| of each image: of its first gradient, of every one, or never."""

    def __init__(self, when: Literal["never", "first", "always"]):
        self._when = when
        self._mean: Tensor | None = None

    def __call__(self, gradient: Tensor) -> Tensor:
        if self._when == "never":
            return gradient
        # What lies outside the window of the network has no gradient, and no say in how long a step is.
        reached = (gradient != 0).flatten(1).sum(1).clamp_min(1)
        mean = gradient.abs().flatten(1).sum(1) / reached
        if self._mean is not None and self._when == "first":
            # An image that had no gradient at all has had no first one.
            mean = self._mean.where(self._mean > 0, mean)
        self._mean = mean
        tiny = torch.finfo(gradient.dtype).tiny
        return gradient / per_image(mean.clamp_min(tiny), gradient)

    def keep(self, images: Tensor) -> None:
        self._mean = _kept(self._mean, images)


@dataclass(frozen=True)
class SignAscent(Optimizer):
    """step_size * sign(g): every number changes by as much (Kurakin, Goodfellow & Bengio 2017; SPEC M22)."""

    step_size: float

    def start(self) -> Ascender:
        return _Signs(self.step_size)


class _Signs(Ascender):
    def __init__(self, step_size: float):
        self._step_size = step_size

    def step(self, parameters: Tensor, value: Tensor, gradient: Tensor, evaluate: Evaluate) -> Tensor:
        return self._step_size * gradient.sign()

    def keep(self, images: Tensor) -> None:
        pass


@dataclass(frozen=True)
class Momentum(Optimizer):
    """u <- momentum * u + step_size * g, and u is the step.

    per_first_gradient: as in `Ascent`.
    """

    step_size: float
    momentum: float = 0.9
    per_first_gradient: bool = False

    def start(self) -> Ascender:
        return _Rolling(self)


class _Rolling(Ascender):
    def __init__(self, settings: Momentum):
        self._settings = settings
        self._normalise = _Normaliser("first" if settings.per_first_gradient else "never")
        self._velocity: Tensor | None = None

    def step(self, parameters: Tensor, value: Tensor, gradient: Tensor, evaluate: Evaluate) -> Tensor:
        pushed = self._settings.step_size * self._normalise(gradient)
        self._velocity = pushed if self._velocity is None else self._settings.momentum * self._velocity + pushed
        return self._velocity

    def keep(self, images: Tensor) -> None:
        self._velocity = _kept(self._velocity, images)
        self._normalise.keep(images)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Kingma & Ba (2015), for ascent; 0.05 is the Lucid library's step size (SPEC I.4-3)."""

    step_size: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def start(self) -> Ascender:
        return _Adapting(self)


class _Adapting(Ascender):
    def __init__(self, settings: Adam):
        self._settings = settings
        self._steps = 0
        self._mean: Tensor | None = None
        self._square: Tensor | None = None

    def step(self, parameters: Tensor, value: Tensor, gradient: Tensor, evaluate: Evaluate) -> Tensor:
        if self._mean is None or self._square is None:
            self._mean, self._square = torch.zeros_like(gradient), torch.zeros_like(gradient)
        first, second = self._settings.betas
        self._steps += 1
        self._mean.lerp_(gradient, 1 - first)
        self._square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        unbiased = (self._square / (1 - second**self._steps)).sqrt_().add_(self._settings.epsilon)
        return torch.div(self._mean, unbiased).mul_(self._settings.step_size / (1 - first**self._steps))

    def keep(self, images: Tensor) -> None:
        self._mean, self._square = _kept(self._mean, images), _kept(self._square, images)


def _kept(memory: Tensor | None, images: Tensor) -> Tensor | None:
    return None if memory is None else memory[images]
