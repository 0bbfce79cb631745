"""Networks that look at known squares of a photo, and at nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage import Network, explain
from preimage.explain import Explanation, Mask
from preimage.explain.mask import Game

SIDE = 64
BOX = (16, 24, 20, 24)
"""Top, left, height and width in pixels; whole cells of a mask of 16 x 16."""
Box = tuple[int, int, int, int]


def noise(seed: int, height: int = SIDE, width: int | None = None) -> Tensor:
    """A photo [3, H, W] with detail everywhere: random squares of 2 x 2 pixels."""
    width = height if width is None else width
    coarse = torch.rand((1, 3, height // 2, width // 2), generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, scale_factor=2, mode="nearest")[0]


def inside(box: Box, height: int = SIDE, width: int | None = None) -> Tensor:
    """[H, W], true in the square."""
    out = torch.zeros(height, height if width is None else width, dtype=torch.bool)
    out[box[0] : box[0] + box[2], box[1] : box[1] + box[3]] = True
    return out


def overlap(found: Tensor, wanted: Tensor) -> float:
    """Intersection over union."""
    return float((found & wanted).sum() / (found | wanted).sum())


class Sharpness(nn.Module):
    """Class k is as likely as square k is full of detail: 0.9 / classes if it is as sharp as `noise`, and 0.02 if flat.

    The last class has the rest of the probability.
    """

    def __init__(self, *boxes: Box) -> None:
        super().__init__()
        self.boxes = boxes
        self.register_buffer("full", self.detail(noise(1000, 256)[None]))

    @staticmethod
    def detail(images: Tensor) -> Tensor:
        grey = images.mean(1, keepdim=True)
        return (grey - F.avg_pool2d(grey, 7, 1, 3, count_include_pad=False)).abs().mean((1, 2, 3))

    def forward(self, images: Tensor) -> Tensor:
        seen = (images[:, :, t : t + h, left : left + w] for t, left, h, w in self.boxes)
        found = [self.detail(one) / self.full for one in seen]
        likely = 0.02 + 0.88 / len(self.boxes) * torch.stack(found, 1)
        return torch.cat([likely, 1 - likely.sum(1, keepdim=True)], 1).clamp_min(1e-6).log()


def sharpness(*boxes: Box, size: int | tuple[int, int] = SIDE) -> Network:
    return Network(Sharpness(*(boxes or (BOX,))), size, channels=3)


class Weighted(nn.Module):
    """Class 0 has the probability sum of weights * image over channels and pixels, class 1 the rest."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights.clone())

    def forward(self, images: Tensor) -> Tensor:
        likely = (images * self.weights).flatten(1).sum(1)
        return torch.stack([likely, 1 - likely], 1).clamp_min(1e-6).log()


def weighted(weights: Tensor) -> Network:
    """Over photos that are white and a perturbation that is black, a network that is shown the mask itself."""
    channels, height, width = weights.shape
    return Network(Weighted(weights), (height, width), mean=(0.0,) * channels)


class Watching(nn.Module):
    """A network, and every batch of images that it is shown while a mask is learned."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            self.shown.append(images.detach().clone())
        out: Tensor = self.inner(images)
        return out


def watched(network: Network) -> tuple[Network, Sequence[Tensor]]:
    module = Watching(network.module)
    return Network(module, network.input_size, mean=network.mean, channels=network.channels), module.shown


GAMES: list[Game] = ["deletion", "preservation", "both"]


class Indifferent(nn.Module):
    """Always the same answer, also while gradients are asked."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([images.sum((1, 2, 3)) * 0, images.sum((1, 2, 3)) * 0], 1)


def explained(network: Network, photo: Any, target: Any = "class:0", **settings: Any) -> Explanation:
    made = explain(network, photo, target, method=Mask(**settings))
    assert isinstance(made, Explanation)
    return made
