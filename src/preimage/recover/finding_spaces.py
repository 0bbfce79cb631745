"""Identifying the critical space of a layer with objectives that are known (paper 1, sections 2.2 and 3.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.maximize import BATCH, maximize
from preimage.network import Network, Place
from preimage.network.smoothing import WIDTH
from preimage.objectives import Aggregate, direction
from preimage.recipes import Recipe, find_recipe
from preimage.recover.angles import projected_angle
from preimage.recover.critical_space import CriticalSpace, choose_space, critical_spaces
from preimage.recover.sensitivity import MEMORY, Sensitivity, sensitivity
from preimage.recover.solving import solve
from preimage.recover.targets import sample_targets
from preimage.result import number

COUNT = 32
"""How many known objectives Algorithm 1 gets (section 3.5)."""


@dataclass(frozen=True)
class FoundSpaces:
    """The critical spaces of a layer, and how well known objectives are recovered with each.

    spaces: the whole space first. medians: degrees between what was recovered and what was asked, projected on the
        space, float64 [spaces]. best: the number of the space to take. targets: the known objectives, [n, features].
    sensitivity: of their images.
    """

    spaces: list[CriticalSpace]
    medians: Tensor
    best: int
    targets: Tensor
    sensitivity: Sensitivity
    cosine_power: float

    @property
    def space(self) -> CriticalSpace:
        """The one to give to `recover`."""
        return self.spaces[self.best]

    def angles(self, which: int | None = None) -> Tensor:
        """Projected angles of all known objectives with one of the spaces (default: the best), degrees [n]."""
        space = self.spaces[self.best if which is None else which]
        basis = None if not space.complement.shape[1] else space.basis
        found = solve(self.sensitivity.response, self.sensitivity.gram, self.cosine_power, basis).best
        return projected_angle(found, self.targets, self.sensitivity.response, self.cosine_power, basis)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types: each space's dimension, thresholds, what it leaves out, and the median angle."""
        return {
            "known_objectives": len(self.targets),
            "best": self.best,
            "spaces": [
                {
                    "dimension": space.dimension,
                    "thresholds": [number(value) for value in space.thresholds],
                    "left_out": [[number(value) for value in column] for column in space.complement.T.tolist()],
                    "median_angle": number(float(median)),
                }
                for space, median in zip(self.spaces, self.medians, strict=True)
            ],
        }


def find_critical_space(
    network: Network,
    at: str | Place,
    *,
    count: int = COUNT,
    cosine_power: float = 2.0,
    aggregate: Aggregate = "max-mean",
    recipe: str | Recipe = "plain",
    steps: int | None = None,
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    batch_size: int = BATCH,
    memory: int = MEMORY,
    progress: bool | None = None,
) -> FoundSpaces:
    """Make images for `count` objectives that are known, find the directions that move none of them, and take the
    critical space with which those objectives are recovered best.

    count: at least 2; the paper has 32. Others: as in `preimage.maximize` and `preimage.recover`.

    Raises `RequestError` for what those refuse, and where Ctrl-C ended it before the images were done.
    """
    if count < 2:
        raise RequestError(f"a critical space takes at least 2 known objectives, not {count}")
    place = at if isinstance(at, Place) else Place(at)
    features = network.tap(place.tap).channels
    targets = sample_targets(count, features, torch.Generator().manual_seed(seed))
    settings = find_recipe(recipe)
    made = maximize(
        network,
        [direction(place.tap, x, cosine_power, aggregate, after_relu=place.after_relu) for x in targets],
        recipe=settings,
        steps=steps,
        size=size,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
    )
    if made.interrupted or made.made is None:
        raise RequestError("the images of known objectives were interrupted, so no critical space was found")
    seen = sensitivity(
        network,
        made.made.parameters,
        place,
        made.made.parametrization,
        aggregate=aggregate,
        smoothing=settings.stages[-1].smoothing or WIDTH,
        memory=memory,
    )
    spaces = critical_spaces(seen.gram)
    best, medians = choose_space(spaces, seen.response, seen.gram, targets, cosine_power)
    return FoundSpaces(spaces, medians, best, targets, seen, cosine_power)
