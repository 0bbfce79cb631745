"""The step size that leads highest: all candidates race in one batch, and the hopeless drop out.

Paper 0, supplement section 2 (SPEC A8): "the most visually satisfying image always corresponds to the highest
activation". Too small a step leaves the image faint, too large a one fills it with noise; between them the activation
that a run converges to has one maximum. Not so in a first layer, which is linear: there it grows with the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network
from preimage.objectives import EachItsOwn, Objective
from preimage.optimization.loop import Climb, climb
from preimage.optimization.scaled import Scaled
from preimage.optimization.stage import Stage
from preimage.parametrizations import Parametrization

Ending = Literal["last step", "converged", "hopeless", "not finite"]

OCTAVES = tuple(range(-6, 7))
"""Powers of two by which a recipe's step size is multiplied at first (SPEC A.3-5)."""

_FURTHEST = 12
_RECORDED = 50
_LOOK_EVERY = 10


@dataclass(frozen=True)
class Trial:
    """One step size: `factor` times the recipe's own. activation: the mean of the last 10 scores. steps: how many it
    was given. ended: why it went no further."""

    factor: float
    activation: float
    steps: int
    ended: Ending
    trace: tuple[float, ...] = ()


@dataclass(frozen=True)
class Search:
    """All that was tried for one objective, by rising step size, and the factor that led highest.

    cost: the steps of all candidates together, in plain runs of the recipe.
    """

    objective: str
    trials: tuple[Trial, ...]
    factor: float
    cost: float

    def as_dict(self) -> dict[str, Any]:
        """What was tried, as plain JSON types."""
        tried = [[t.factor, None if math.isnan(t.activation) else t.activation, t.steps, t.ended] for t in self.trials]
        return {"objective": self.objective, "factor": self.factor, "cost": round(self.cost, 2), "tried": tried}

    def __str__(self) -> str:
        lowest, highest = self.trials[0].factor, self.trials[-1].factor
        return (
            f"{self.objective}: {self.factor:g} times the recipe's step size, the best of {len(self.trials)} from "
            f"{lowest:g} to {highest:g}; the search cost as much as {self.cost:.1f} runs"
        )


def search_step_size(
    network: Network,
    objective: Objective,
    parametrization: Parametrization,
    start: Tensor,
    stages: Sequence[Stage],
    seed: int,
    *,
    octaves: Sequence[float] = OCTAVES,
    tolerance: float = 1e-3,
    drop_hopeless: bool = True,
    noise_seed: int | None = None,
) -> Search:
    """Race step sizes 2^octave times those of `stages`, all from `start` [*shape] and under the same views.

    A candidate has converged when the least-squares slope of its last 50 activations is below `tolerance` a step
    (1e-3 in the paper), and is hopeless when it would stay below what another has reached even if it rose to the last
    step as fast as it does now. Where the best is the largest or smallest one, four more are tried beyond it.

    Raises `RequestError` where the score is constant, or has its maximum at no step size within 12 octaves (a
    first layer, whose answer grows with the image), and for optimizers that find step lengths by themselves.
    """
    stages = [stage for stage in stages if stage.steps]
    steps = sum(stage.steps for stage in stages)
    trials: dict[float, Trial] = {}
    ahead = sorted(octaves)
    while ahead:
        race = _Race(steps, tolerance, _best(trials) if drop_hopeless else None, drop_hopeless)
        factors = tuple(2.0**octave for octave in ahead)
        reached = climb(
            network,
            EachItsOwn((objective,) * len(ahead)),
            parametrization,
            start.expand(len(ahead), *start.shape).clone(),
            [scaled(stage, factors) for stage in stages],
            torch.Generator().manual_seed(seed),
            noise=[torch.Generator().manual_seed(seed if noise_seed is None else noise_seed) for _ in ahead],
            referee=race,
        )
        if reached.interrupted:
            raise KeyboardInterrupt
        trials |= {octave: race.trial(i, 2.0**octave) for i, octave in enumerate(ahead)}
        ahead = _beyond(trials, objective)
    best = max((o for o in trials if trials[o].ended != "not finite"), key=lambda o: trials[o].activation)
    ordered = tuple(trials[octave] for octave in sorted(trials))
    return Search(str(objective), ordered, 2.0**best, sum(t.steps for t in ordered) / steps)


def scaled(stage: Stage, factors: tuple[float, ...]) -> Stage:
    """The stage with the step size of image i multiplied by `factors[i]`."""
    return stage if stage.optimizer is None else replace(stage, optimizer=Scaled(stage.optimizer, factors))


class _Race:
    """A referee: it stops what has converged, is hopeless, or is not finite."""

    def __init__(self, steps: int, tolerance: float, best: float | None, drops: bool):
        self._steps = steps
        self._tolerance = tolerance
        self._best = -math.inf if best is None else best
        self._drops = drops
        self._endings: list[Ending | None] = []
        self._trace: list[Tensor] = []

    def __call__(self, reached: Climb) -> Tensor:
        latest = reached.trace[-1].cpu()
        if not self._endings:
            self._endings = [None] * len(latest)
        self._trace = reached.trace
        for i, value in enumerate(latest.tolist()):
            if self._endings[i] is None and not math.isfinite(value):
                self._endings[i] = "not finite"
        done = len(self._trace)
        if done >= _RECORDED and done % _LOOK_EVERY == 0:
            self._judge(done)
        return torch.tensor([ending is None for ending in self._endings])

    def _judge(self, done: int) -> None:
        going = [i for i, ending in enumerate(self._endings) if ending is None]
        recent = torch.stack(self._trace[-_RECORDED:]).cpu()[:, going].double()
        slopes = least_squares_slopes(recent)
        now = recent[-10:].mean(0)
        self._best = max([self._best, *now.tolist()])
        for i, slope, value in zip(going, slopes.tolist(), now.tolist(), strict=True):
            if abs(slope) < self._tolerance:
                self._endings[i] = "converged"
            elif self._drops and value + max(slope, 0.0) * (self._steps - done) < self._best:
                self._endings[i] = "hopeless"

    def trial(self, i: int, factor: float) -> Trial:
        scores = torch.stack(self._trace).cpu()[:, i]
        trace = scores[scores.isfinite()]
        ending = self._endings[i] or "last step"
        activation = math.nan if ending == "not finite" or not len(trace) else float(trace[-10:].mean())
        return Trial(factor, activation, len(trace), ending, tuple(trace.tolist()))


def least_squares_slopes(values: Tensor) -> Tensor:
    """The slope of the straight line through each column of [steps, N], per step."""
    times = torch.arange(len(values), dtype=values.dtype) - (len(values) - 1) / 2
    slopes: Tensor = (times @ values) / times.square().sum()
    return slopes


def _best(trials: dict[float, Trial]) -> float | None:
    return max((t.activation for t in trials.values() if not math.isnan(t.activation)), default=None)


def _beyond(trials: dict[float, Trial], objective: Objective) -> list[float]:
    """Four more octaves where the best one lies at an end of what was tried; none where it lies within."""
    finite = {octave: trial.activation for octave, trial in trials.items() if trial.ended != "not finite"}
    if not finite:
        raise RequestError(f"the score of {objective} is not finite at any of {len(trials)} step sizes")
    values = list(finite.values())
    if max(values) == min(values):
        raise RequestError(
            f"the score of {objective} is {values[0]:g} at every step size: it does not depend on the image, "
            "so there is no step size to find"
        )
    best = max(finite, key=lambda octave: finite[octave])
    if min(trials) < best < max(trials):
        return []
    if abs(best) >= _FURTHEST:
        raise RequestError(
            f"the score of {objective} is highest at the {'largest' if best > 0 else 'smallest'} step size that was "
            f"tried, {2.0**best:g} times the recipe's: it has no best one. A first layer's answer grows with the image "
            "itself (paper 0, section 2); give an optimizer with a step size, or a recipe whose pixels are bounded"
        )
    return [best + n for n in range(1, 5)] if best > 0 else [best - n for n in range(4, 0, -1)]
