"""Networks and scores of which the best step size is known, or well defined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from preimage import Network, Recipe
from preimage.objectives import Objective, label
from preimage.optimization import Ascent, Search, Stage, search_step_size
from preimage.parametrizations import Pixels

SIDE, GOAL, STEEP = 4, 0.25, 2.0
START = 0.5 - GOAL
"""How far grey is from the goal."""


class Peak(nn.Module):
    """-STEEP (mean - GOAL)^2: of plain ascent with step size s, the distance d of the mean becomes (1 - s c) d in every
    step, c = 2 STEEP / pixels. So s = 1 / c is best, and d after n steps is known for all others."""

    def forward(self, images: Tensor) -> Tensor:
        return -STEEP * (images.mean((1, 2, 3)) - GOAL).square()[:, None]


CURVATURE = 2 * STEEP / SIDE**2


def peak() -> tuple[Network, Objective]:
    network = Network(Peak(), SIDE, channels=1)
    return network, label(0).bind(network)


def ascent(best: int) -> Ascent:
    """The step size of which 2^best times as much is best for `Peak`."""
    return Ascent(2.0**-best / CURVATURE)


def peak_search(stages: Sequence[Stage], **more: Any) -> Search:
    network, asked = peak()
    kind, start = Pixels(1, SIDE, SIDE), torch.zeros(1, SIDE, SIDE)
    return search_step_size(network, asked, kind, start, stages, (SIDE, SIDE), 0, **more)


def known(best: int, factor: float, steps: int) -> float:
    """The score of the picture, all of one grey, that plain ascent on `Peak` reaches."""
    grey = GOAL + START * (1 - factor * 2.0**-best) ** steps
    return -STEEP * (min(max(grey, 0.0), 1.0) - GOAL) ** 2


class Convolutional(nn.Sequential):
    """Three layers with random weights, answers of some units in size."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        super().__init__(
            nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, 1, 1), nn.ReLU(), nn.Conv2d(6, 4, 3, 1, 1)
        )
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)


def pixels(channels: int, height: int, width: int, colours: Tensor | None) -> Pixels:
    return Pixels(channels, height, width)


def recipe(*stages: Stage) -> Recipe:
    return Recipe("mine", "here", "", pixels, stages)
