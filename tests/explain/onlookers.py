"""Networks of which one knows where they look, and what runs through them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from preimage import Network
from preimage.explain import Question
from preimage.objectives import resolve


def picture(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def weights(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Looking(nn.Module):
    """Class 0 is the sum of all pixels [C, H, W], each to a power and times its weight; class 1 is 0.

    It notes how many images it was shown at a time.
    """

    def __init__(self, weights: Tensor, power: int = 1):
        super().__init__()
        self.weights, self.power = nn.Parameter(weights), power
        self.shown: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(len(images))
        seen = (images**self.power * self.weights).flatten(1).sum(1)
        return torch.stack([seen, torch.zeros_like(seen)], 1)


def looking(weights: Tensor, power: int = 1, mean: Sequence[float] | None = None) -> Network:
    return Network(Looking(weights, power), tuple(weights.shape[1:]), mean, channels=len(weights), name="looking")


def square(size: tuple[int, int], top: int, left: int, side: int, channels: int = 1) -> Tensor:
    """1 in one square of [channels, *size], 0 elsewhere."""
    inside = torch.zeros(channels, *size)
    inside[:, top : top + side, left : left + side] = 1
    return inside


def rectifying(seed: int, size: tuple[int, int], stride: int = 2) -> Network:
    """A random network with two rectified convolutions and five classes."""
    torch.manual_seed(seed)
    convolutions = nn.Sequential(nn.Conv2d(3, 6, 5, stride), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(inplace=True))
    with torch.no_grad():
        width = convolutions(torch.zeros(1, 3, *size)).numel()
    module = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(width, 5))
    return Network(module, size, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), name="rectifying")


def question(network: Network, photos: Tensor, target: str, seeds: Sequence[int] = (), chunk: int = 16) -> Question:
    """What `explain` would ask of these photos [N, C, H, W], of the network's own size."""
    (objective,) = resolve(target, network)
    count = len(photos)
    return Question(
        network, tuple(photos), (objective,) * count, network.input_size, tuple(seeds or range(count)), chunk
    )
