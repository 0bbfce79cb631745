"""Runs of the loop whose pixels are looked at as they are, without the bounds of a picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch

import preimage as pi
from preimage.objectives import EachItsOwn, resolve
from preimage.optimization import Climb, Referee, climb
from preimage.recipes import Recipe


def climbed(
    network: pi.Network,
    asked: Sequence[str],
    recipe: Recipe,
    steps: int,
    window: int | None = None,
    referee: Referee | None = None,
) -> Climb:
    """`maximize` as far as the pixels: the same start for all of `asked`, the same views for every recipe."""
    seen = (window, window) if window else network.input_size
    recipe = recipe.stretched(steps).windowed(*seen)
    parametrization = recipe.parametrization(3, *(round(side * recipe.canvas) for side in seen), None)
    start = parametrization.start(torch.Generator().manual_seed(0)).expand(len(asked), *parametrization.shape).clone()
    objective = EachItsOwn(tuple(resolve(list(asked), network)))
    views = torch.Generator().manual_seed(1)
    return climb(network, objective, parametrization, start, recipe.stages, views, referee=referee)
