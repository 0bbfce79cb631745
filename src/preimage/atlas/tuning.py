"""The step size of a tap: that of several of its units, which have to agree that it is better than the recipe's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import torch
from torch import Tensor

from preimage.atlas.plan import TapPlan
from preimage.errors import RequestError
from preimage.maximize import prepared
from preimage.network import Network
from preimage.objectives import Objective
from preimage.optimization import Search, search_step_size
from preimage.recipes import Recipe

UNITS = 3
"""By which a tap is judged: one alone often prefers a step size by chance, which then spoils all the others."""
OCTAVES = (-2, -1, 0, 1, 2)
"""Powers of two by which the recipe's step size is multiplied at first."""
_MORE, _FURTHEST = 3, 8
"""So many more are tried where the best is at an end, and none beyond that octave."""
_LOOKED_AT = 8


def moving(network: Network, members: Sequence[Objective], image: Tensor) -> list[int]:
    """The first `UNITS` of some objectives on which an image [C, H, W] has any influence, by number."""
    found: list[int] = []
    for i, member in enumerate(members[:_LOOKED_AT]):
        if len(found) < UNITS and _moves(network, member, image):
            found.append(i)
    return found


@dataclass(frozen=True)
class Tuning:
    """The factor for all units of a tap; says: why; searches: what was tried for each unit, and what that cost."""

    factor: float
    says: str
    searches: list[Search]


def tuned(
    network: Network, tap: TapPlan, members: Sequence[Objective], recipe: Recipe, steps: int | None, seed: int
) -> Tuning:
    """The step size of a tap by some of its units (paper 0, SPEC A8).

    Raises `RequestError` as `preimage.optimization.search_step_size` and `agreed` do.
    """
    searches = _raced(network, tap, members, recipe, steps, seed, OCTAVES)
    while True:
        factor, says = agreed(searches)
        # (also of those that were not finite for some unit, beyond which there is nothing to look for)
        octave = round(math.log2(factor))
        tried = [round(math.log2(trial.factor)) for one in searches for trial in one.trials]
        side = 1 if octave == max(tried) else -1 if octave == min(tried) else 0
        if not side or abs(octave) >= _FURTHEST:
            return Tuning(factor, says, searches)
        further = [octave + side * i for i in range(1, _MORE + 1)]
        try:
            more = _raced(network, tap, members, recipe, steps, seed, further)
        except RequestError:  # not finite any more
            return Tuning(factor, says, searches)
        searches = [_together(one, other) for one, other in zip(searches, more, strict=True)]


def _together(one: Search, other: Search) -> Search:
    trials = sorted([*one.trials, *other.trials], key=lambda trial: trial.factor)
    best = max((t for t in trials if not math.isnan(t.activation)), key=lambda t: t.activation, default=trials[0])
    return Search(one.objective, tuple(trials), best.factor, one.cost + other.cost)


def _raced(
    network: Network,
    tap: TapPlan,
    members: Sequence[Objective],
    recipe: Recipe,
    steps: int | None,
    seed: int,
    octaves: Sequence[float],
) -> list[Search]:
    size, window = (None, tap.seen) if recipe.has_window else (tap.seen, None)
    setting = prepared(network, members, recipe.stretched(steps), size=size, window=window)
    starts = setting.starts(members, seed)
    return [
        search_step_size(
            network,
            member,
            setting.parametrization,
            start.to(network.device),
            setting.recipe.stages,
            setting.scored,
            setting.views(seed),
            octaves=octaves,
            beyond=False,
            batch_size=max(tap.batch, 1),
        )
        for member, start in zip(members, starts, strict=True)
    ]


def agreed(searches: Sequence[Search]) -> tuple[float, str]:
    """The factor for all of a tap, and why.

    Each unit's activations become shares between its lowest and highest; the factor with the highest mean share wins,
    unless another is within one standard error of the units' differences: of those the nearest to the recipe's own
    step size is taken. Where pictures do equally well, the activation says nothing about which is the better one.

    Raises `RequestError` where no step size is finite for all of them.
    """
    tried = [{t.factor: t.activation for t in one.trials} for one in searches]
    factors = _factors(searches)
    if not factors:
        raise RequestError("no step size gives a finite score for all units it was tried on")
    shares = {factor: [_share(one, factor, factors) for one in tried] for factor in factors}
    best = max(factors, key=lambda factor: mean(shares[factor]))
    alike = [factor for factor in factors if _as_good(shares[factor], shares[best])]
    chosen = min(alike, key=lambda factor: (abs(math.log2(factor)), factor))
    units = ", ".join(one.objective for one in searches)
    runs = sum(one.cost for one in searches)
    others = [factor for factor in alike if factor != chosen]
    also = f"; {', '.join(f'{one:g}' for one in others)} did as well" if others else ""
    return chosen, (
        f"{chosen:g} times the recipe's step size, the best for {units} of {len(factors)} from {factors[0]:g} to "
        f"{factors[-1]:g}{also}; the search cost as much as {runs:.1f} pictures"
    )


def _factors(searches: Sequence[Search]) -> list[float]:
    """Those that were finite for all, by size."""
    finite = [{t.factor for t in one.trials if not math.isnan(t.activation)} for one in searches]
    return sorted(set.intersection(*finite))


def _share(activations: dict[float, float], factor: float, factors: Sequence[float]) -> float:
    values = [activations[one] for one in factors]
    low, high = min(values), max(values)
    return (activations[factor] - low) / (high - low) if high > low else 1.0


def _as_good(shares: Sequence[float], best: Sequence[float]) -> bool:
    less = [b - a for a, b in zip(shares, best, strict=True)]
    error = stdev(less) / math.sqrt(len(less)) if len(less) > 1 else 0.0
    return mean(less) <= error + 1e-9  # (what is exactly as good may differ by rounding)


def _moves(network: Network, objective: Objective, image: Tensor) -> bool:
    """Whether an image has any influence on what is asked."""
    image = image[None].to(network.device).requires_grad_(True)
    with torch.enable_grad():
        score = objective.score(network.run(image, objective.places()))
        (gradient,) = torch.autograd.grad(score.sum(), image)
    return bool(gradient.isfinite().all() and gradient.abs().sum() > 0)
