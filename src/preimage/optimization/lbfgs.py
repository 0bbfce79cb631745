"""L-BFGS over a batch in which every image has its own memory and its own line search (SPEC I.4-3).

One L-BFGS over the sum of a batch's objectives would take one step length for all, and mix their curvatures.
Here the N problems are solved side by side: all numbers that are one per image are vectors [N], and one
evaluation of the batch serves all line searches at once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.optimization.optimizer import Ascender, Evaluate, Optimizer, per_image


@dataclass(frozen=True)
class LBFGS(Optimizer):
    """Limited-memory BFGS with a weak Wolfe line search.

    history: how many pairs of steps and gradient changes are remembered.
    evaluations: how often one line search may look, at most.
    sufficient, curvature: the constants c1, c2 of the Wolfe conditions.

    The line search brackets and bisects (Lewis & Overton 2013, "Nonsmooth optimization via quasi-Newton
    methods"): it needs no interpolation, so kinks of ReLU networks do not stall it as they do cubic ones.
    """

    history: int = 100
    evaluations: int = 25
    sufficient: float = 1e-4
    curvature: float = 0.9

    looks_ahead = True

    def start(self) -> Ascender:
        return _QuasiNewton(self)


class _QuasiNewton(Ascender):
    def __init__(self, settings: LBFGS):
        self._settings = settings
        # (step s [N, D], fall of the gradient y [N, D], 1 / s^T y [N], zero where the pair is not to be used)
        self._pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=settings.history)
        self._scale: Tensor | None = None  # of the initial inverse Hessian, [N]; zero: no pair yet
        self._last: tuple[Tensor, Tensor] | None = None

    def step(self, parameters: Tensor, value: Tensor, gradient: Tensor, evaluate: Evaluate) -> Tensor:
        flat, slope = parameters.flatten(1), gradient.flatten(1)
        self._learn(flat, slope)
        direction = self._direction(slope)
        ascent = (direction * slope).sum(1)
        # Where memory misleads (no ascent), forget it and follow the gradient.
        lost = ~(ascent > 0)
        if lost.any():
            self._forget(lost)
            direction = torch.where(lost[:, None], slope, direction)
            ascent = (direction * slope).sum(1)
        assert self._scale is not None
        first_length = torch.where(self._scale > 0, 1.0, (1 / slope.abs().sum(1).clamp_min(1e-30)).clamp_max(1.0))
        length = self._search(parameters, value, direction.view_as(parameters), ascent, first_length, evaluate)
        self._forget(length == 0)
        return (length[:, None] * direction).view_as(parameters)

    def keep(self, images: Tensor) -> None:
        pairs = ((step[images], fall[images], inverse[images]) for step, fall, inverse in self._pairs)
        self._pairs = deque(pairs, maxlen=self._settings.history)
        self._scale = None if self._scale is None else self._scale[images]
        self._last = None if self._last is None else (self._last[0][images], self._last[1][images])

    def _learn(self, flat: Tensor, slope: Tensor) -> None:
        if self._scale is None:
            self._scale = torch.zeros(len(flat), device=flat.device, dtype=flat.dtype)
        if self._last is not None:
            step, fall = flat - self._last[0], self._last[1] - slope  # J is climbed: -J has the gradient -slope
            product = (step * fall).sum(1)
            good = product > 1e-10 * step.norm(dim=1) * fall.norm(dim=1)
            inverse = torch.where(good, 1 / product, torch.zeros_like(product))
            self._pairs.append((step, fall, inverse))
            scale = product / fall.square().sum(1).clamp_min(1e-30)
            self._scale = torch.where(good, scale, self._scale)
        self._last = (flat.clone(), slope.clone())

    def _direction(self, slope: Tensor) -> Tensor:
        """The two-loop recursion (Nocedal & Wright, algorithm 7.4), for all images at once."""
        assert self._scale is not None
        out, weights = slope, []
        for step, fall, inverse in reversed(self._pairs):
            weight = inverse * (step * out).sum(1)
            weights.append(weight)
            out = out - weight[:, None] * fall
        out = out * torch.where(self._scale > 0, self._scale, torch.ones_like(self._scale))[:, None]
        for (step, fall, inverse), weight in zip(self._pairs, reversed(weights), strict=True):
            out = out + (weight - inverse * (fall * out).sum(1))[:, None] * step
        return out

    def _forget(self, images: Tensor) -> None:
        if images.any() and self._scale is not None:
            self._pairs = deque(
                ((step, fall, torch.where(images, 0.0, inverse)) for step, fall, inverse in self._pairs),
                maxlen=self._settings.history,
            )
            self._scale = torch.where(images, 0.0, self._scale)

    def _search(
        self, start: Tensor, value: Tensor, direction: Tensor, ascent: Tensor, length: Tensor, evaluate: Evaluate
    ) -> Tensor:
        """Each image's step length: the first that rises enough and has flattened enough; 0 if none rises."""
        low, high = torch.zeros_like(length), torch.full_like(length, torch.inf)
        done = ascent <= 0
        length = torch.where(done, 0.0, length)
        for _ in range(self._settings.evaluations):
            reached, gradient = evaluate(start + per_image(length, start) * direction)
            slope = (gradient.flatten(1) * direction.flatten(1)).sum(1)
            rises = reached >= value + self._settings.sufficient * length * ascent
            flattened = slope <= self._settings.curvature * ascent
            done = done | (rises & flattened)
            if done.all():
                return length
            high = torch.where(~done & ~rises, length, high)
            low = torch.where(~done & rises, length, low)
            middle = torch.where(torch.isinf(high), 2 * length, (low + high) / 2)
            length = torch.where(done, length, middle)
        return torch.where(done, length, low)
