"""The step size that leads highest: all candidates race in one batch, and the hopeless drop out.

Paper 0, supplement section 2 (SPEC A8): "the most visually satisfying image always corresponds to the highest
activation". Too small a step leaves the image faint, too large a one fills it with noise; between them the activation
that a run converges to has one maximum. Not so in a first layer, which is linear: there it grows with the image.

The paper's networks divide by the local contrast (LRN), which ends that growth in all other layers. Networks without
it are piecewise linear: the activation grows with the image's magnitude in every layer, whatever it shows
(`experiments/step_size.py`). So candidates are compared by the score of the picture that they would hand over, which
lies in [0, 1], and not by that of pixels which no picture has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network
from preimage.objectives import EachItsOwn, Objective
from preimage.optimization.loop import Climb, climb
from preimage.optimization.scaled import Scaled
from preimage.optimization.scoring import plain_scores
from preimage.optimization.stage import Stage
from preimage.parametrizations import Parametrization

Ending = Literal["last step", "converged", "hopeless", "not finite"]

_FINISHED = ("last step", "converged")

OCTAVES = tuple(range(-6, 7))
"""Powers of two by which a recipe's step size is multiplied at first (SPEC A.3-5)."""

_FURTHEST = 12
_LOOK_EVERY = 5
_RECORDED = 10
"""So many looks, that is the last 50 steps, tell the slope of the activation."""
_ALIKE = 0.002
"""Activations that differ by less, as a share of all differences, are not higher or lower."""


@dataclass(frozen=True)
class Trial:
    """One step size: `factor` times the recipe's own. activation: of the picture, the mean of the last looks. steps:
    how many it was given. ended: why it went no further. trace: the activation after every 5 steps."""

    factor: float
    activation: float
    steps: int
    ended: Ending
    trace: tuple[float, ...] = ()


@dataclass(frozen=True)
class Search:
    """All that was tried for one objective, by rising step size, and the factor that led highest.

    cost: the steps of all candidates together, in plain runs of the recipe; a look at the pictures, one pass forward
        after every five steps, comes on top.
    """

    objective: str
    trials: tuple[Trial, ...]
    factor: float
    cost: float

    def as_dict(self) -> dict[str, Any]:
        """What was tried, as plain JSON types; `tried` has rows of factor, activation, steps and ending."""
        tried = [[t.factor, None if math.isnan(t.activation) else t.activation, t.steps, t.ended] for t in self.trials]
        return {
            "objective": self.objective,
            "factor": self.factor,
            "cost": round(self.cost, 2),
            "says": str(self),
            "tried": tried,
        }

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
    size: tuple[int, int],
    seed: int,
    *,
    octaves: Sequence[float] = OCTAVES,
    tolerance: float = 1e-3,
    drop_hopeless: bool = True,
    beyond: bool = True,
    batch_size: int | None = None,
    on_step: Callable[[], object] | None = None,
) -> Search:
    """Race step sizes 2^octave times those of `stages`, all from `start` [*shape] and under the same views.

    size: at which pictures are asked (see `plain_scores`). batch_size: how many race at once, at most.
    A candidate has converged when the least-squares slope of its activation over the last 50 steps is below
    `tolerance` a step (1e-3 in the paper; where all activations lie within less than one of each other, that share
    of their spread). It is hopeless when it rises no faster than before, and would stay below another one even if it
    rose to the last step as fast as it does now and the other fell for 50 steps more; it is raced again if the other
    one comes to less after all. Where the largest or smallest one does as well as any, four more are tried beyond it,
    unless `beyond` is False.

    Nobody is judged before the stages have come to where they do the same until the end: `blur`, whose kernel narrows
    to its last step, costs as many runs as there are candidates.

    Raises `RequestError` where the score is constant, where it has no maximum within 14 octaves (a first layer, whose
    answer only grows with the image), and for optimizers that find step lengths by themselves.
    """
    stages = [stage for stage in stages if stage.steps]
    steps = sum(stage.steps for stage in stages)
    trials: dict[float, Trial] = {}
    later = sorted(octaves)
    settled = _settled(stages, objective)
    alone, spent = EachItsOwn((objective,)), 0
    begin = float(plain_scores(network, alone, parametrization.picture(start[None]), size))
    while later:
        ahead, later = later[:batch_size], later[batch_size:] if batch_size else []
        factors = tuple(2.0**octave for octave in ahead)
        everyone = EachItsOwn((objective,) * len(ahead))
        race = _Race(network, everyone, size, (settled, steps), tolerance, _best(trials), drop_hopeless)
        reached = climb(
            network,
            everyone,
            parametrization,
            start.expand(len(ahead), *start.shape).clone(),
            [scaled(stage, factors) for stage in stages],
            torch.Generator().manual_seed(seed),
            noise=[torch.Generator().manual_seed(seed) for _ in ahead],
            referee=race,
            on_step=on_step,
        )
        if reached.interrupted:
            raise KeyboardInterrupt
        done = {octave: race.trial(i, 2.0**octave) for i, octave in enumerate(ahead)}
        trials |= done
        spent += sum(trial.steps for trial in done.values())
        later = later or _given_up_too_early(trials)
        if not later:
            further = _beyond(trials, objective, begin)
            later = further if beyond else []
    best = max((o for o in trials if trials[o].ended in _FINISHED), key=lambda o: trials[o].activation)
    ordered = tuple(trials[octave] for octave in sorted(trials))
    return Search(str(objective), ordered, 2.0**best, spent / steps)


def scaled(stage: Stage, factors: tuple[float, ...]) -> Stage:
    """The stage with the step size of image i multiplied by `factors[i]`."""
    return stage if stage.optimizer is None else replace(stage, optimizer=Scaled(stage.optimizer, factors))


def _settled(stages: Sequence[Stage], objective: Objective) -> int:
    """The step from which on a run goes on in the same way: same scale, same kernels, the last of a sequence."""
    settled, offset = 0, 0
    for stage in stages:
        if stage.scale != stages[-1].scale:
            settled = offset + stage.steps
        elif stage.settled():
            settled = offset + stage.settled()
        offset += stage.steps
    last = objective.at((offset - 1) / offset)
    return max([settled, *(step + 1 for step in range(offset) if objective.at(step / offset) != last)])


class _Race:
    """A referee: it looks at the pictures now and then, and stops what has converged, is hopeless, or not finite."""

    def __init__(
        self,
        network: Network,
        objective: EachItsOwn,
        size: tuple[int, int],
        steps: tuple[int, int],
        tolerance: float,
        best: float,
        drops: bool,
    ):
        self._network = network
        self._objective = objective
        self._size = size
        self._settled, self._steps = steps
        self._tolerance = tolerance
        self._best = best
        self._drops = drops
        self._endings: list[Ending | None] = [None] * len(objective.members)
        self._traces: list[list[float]] = [[] for _ in objective.members]
        self._given = [0] * len(objective.members)

    def __call__(self, reached: Climb) -> Tensor:
        done = len(reached.trace)
        for i in self._going():
            self._given[i] = done
        if done % _LOOK_EVERY == 0 or done == self._steps:
            self._look(reached)
            if done - self._settled >= _RECORDED * _LOOK_EVERY or not self._settled:
                self._judge(done)
        return torch.tensor([ending is None for ending in self._endings])

    def _going(self) -> list[int]:
        return [i for i, ending in enumerate(self._endings) if ending is None]

    def _look(self, reached: Climb) -> None:
        going = self._going()
        asked = self._objective.kept([ending is None for ending in self._endings])
        scores = plain_scores(self._network, asked, reached.pictures()[going], self._size)
        bounded = reached.parameters[going].flatten(1).isfinite().all(1)
        for i, score, is_bounded in zip(going, scores.tolist(), bounded.tolist(), strict=True):
            self._traces[i].append(score)
            if not (is_bounded and math.isfinite(score)):
                self._endings[i] = "not finite"

    def _judge(self, done: int) -> None:
        going = [i for i in self._going() if len(self._traces[i]) >= _RECORDED]
        recent = {i: self._traces[i][-_RECORDED:] for i in going}
        slope = {i: least_squares_slope(recent[i]) / _LOOK_EVERY for i in going}
        left = self._steps - done
        least = {i: _level(recent[i]) + min(slope[i], 0.0) * min(left, _RECORDED * _LOOK_EVERY) for i in going}
        highest = max([self._best, *least.values()])
        values = [value for trace in self._traces for value in trace[-1:]]
        tolerance = self._tolerance * min(1.0, max(values) - min(values))
        for i in going:
            half = _RECORDED // 2
            quickens = least_squares_slope(recent[i][half:]) > max(least_squares_slope(recent[i][:half]), 0.0)
            if abs(slope[i]) <= tolerance:
                self._endings[i] = "converged"
                self._best = max(self._best, _level(recent[i]))
            elif self._drops and not quickens and _level(recent[i]) + max(slope[i], 0.0) * left < highest:
                self._endings[i] = "hopeless"

    def trial(self, i: int, factor: float) -> Trial:
        ending = self._endings[i] or "last step"
        activation = math.nan if ending == "not finite" else _level(self._traces[i])
        return Trial(factor, activation, self._given[i], ending, tuple(self._traces[i]))


def _level(scores: Sequence[float]) -> float:
    last = scores[-3:]
    return sum(last) / len(last)


def least_squares_slope(values: Sequence[float]) -> float:
    """The slope of the straight line through values at 0, 1, 2 ..."""
    middle = (len(values) - 1) / 2
    squares = sum((i - middle) ** 2 for i in range(len(values)))
    return sum((i - middle) * value for i, value in enumerate(values)) / squares


def _best(trials: dict[float, Trial]) -> float:
    return max((t.activation for t in trials.values() if t.ended in _FINISHED), default=-math.inf)


def _given_up_too_early(trials: dict[float, Trial]) -> list[float]:
    """Those that were hopeless beside one that has come to nothing since."""
    best = _best(trials)
    return sorted(o for o, trial in trials.items() if trial.ended == "hopeless" and trial.activation > best)


def _beyond(trials: dict[float, Trial], objective: Objective, begin: float) -> list[float]:
    """Four more octaves where the best one lies at an end of what was tried; none where it lies within.

    begin: the score of the start, by which a score that never changes is known.
    """
    finite = {octave: trial.activation for octave, trial in trials.items() if trial.ended != "not finite"}
    if not finite:
        raise RequestError(f"the score of {objective} is not finite at any of {len(trials)} step sizes")
    low, high = min(finite.values()), _best(trials)
    if low == high == begin:
        raise RequestError(
            f"the score of {objective} is {high:g} at every step size, as at the start: the image has no influence "
            "on it there, so there is no step size to find"
        )
    as_good = [octave for octave, value in finite.items() if value >= high - _ALIKE * (high - low)]
    is_open = {-1: min(as_good) == min(trials), 1: max(as_good) == max(trials)}
    if not any(is_open.values()):
        return []
    # Where all do equally badly, they are too large rather than too small.
    side = -1 if is_open[-1] else 1
    end = min(trials) if side < 0 else max(trials)
    if abs(end) < _FURTHEST:
        return [end + side * n for n in range(1, 5)]
    if high - begin <= _ALIKE * (high - low):
        raise RequestError(
            f"no step size that was tried brings the score of {objective} above that of the start, {begin:g}; "
            "it may take more steps, or another start"
        )
    why = (
        "So it is where an answer only grows with the image, as a first layer's does (paper 0, section 2)"
        if side > 0
        else "The steps of this recipe are far too long for it"
    )
    raise RequestError(
        f"the score of {objective} is as high at {2.0**end:g} times the recipe's step size as at any other, and "
        f"none {'larger' if side > 0 else 'smaller'} was tried: it has no best one. {why}; give an optimizer with a "
        "step size of its own"
    )
