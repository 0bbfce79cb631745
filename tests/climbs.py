"""Small networks with known gradients, and the loop as `maximize` calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from preimage import Network
from preimage.objectives import EachItsOwn, label
from preimage.optimization import Climb, Stage, climb
from preimage.parametrizations import Parametrization, Pixels

C, SIDE, CLASSES = 2, 6, 3


class Linear(nn.Module):
    """scores = W x, so that the gradient of class k is row k of W."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(CLASSES, C * SIDE * SIDE, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T


def linear(seed: int = 0) -> tuple[Network, Tensor]:
    """A network and its rows as images [classes, C, SIDE, SIDE]."""
    module = Linear(seed)
    return Network(module, SIDE, channels=C), module.weight.detach().view(CLASSES, C, SIDE, SIDE)


class Curved(nn.Module):
    """Takes any size; scores = mean over places of w . tanh(x), so that gradients change from step to step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.25]]))

    def forward(self, images: Tensor) -> Tensor:
        return images.tanh().mean((2, 3)) @ self.weight.T


def curved() -> Network:
    return Network(Curved(), SIDE, channels=C)


def normal(seed: int, count: int, side: int = SIDE) -> Tensor:
    return torch.randn((count, C, side, side), generator=torch.Generator().manual_seed(seed))


def asked(network: Network, *classes: int) -> EachItsOwn:
    return EachItsOwn(tuple(label(k).bind(network) for k in classes))


def climbed(
    network: Network,
    objective: EachItsOwn,
    start: Tensor,
    stages: Sequence[Stage],
    *,
    kind: Parametrization | None = None,
    seed: int = 0,
    **more: Any,
) -> Climb:
    """The loop, with one generator of noise per image, as `maximize` calls it."""
    noise = [torch.Generator().manual_seed(seed + i) for i in range(len(start))]
    kind = kind or Pixels(C, SIDE, SIDE)
    return climb(network, objective, kind, start, stages, torch.Generator().manual_seed(seed), noise=noise, **more)


class Smooth:
    """A kernel: the mean with the neighbour to the left, `share` of it."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, values: Tensor) -> Tensor:
        return (1 - self.share) * values + self.share * values.roll(1, -1)
