"""Cases with hand-made heat maps, and objects whose places are known exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from preimage import Network
from preimage.evaluation.data.example import Annotation, Box, Example
from preimage.evaluation.measure import Case
from preimage.evaluation.view import Fit, View
from preimage.objectives import label

CAT, DOG = "cat", "dog"


@dataclass(frozen=True, eq=False)
class Pixels:
    """A region given as it is."""

    pixels: NDArray[np.bool_]

    def read(self, height: int, width: int) -> NDArray[np.bool_]:
        assert self.pixels.shape == (height, width)
        return self.pixels


def region(height: int, width: int, *boxes: tuple[int, int, int, int]) -> Pixels:
    """All pixels of these boxes (left, top, right, bottom)."""
    pixels = np.zeros((height, width), dtype=bool)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = True
    return Pixels(pixels)


def boxed(*boxes: Box, name: str = CAT, crowd: bool = False) -> list[Annotation]:
    return [Annotation(name, box=box, crowd=crowd) for box in boxes]


def filled(height: int, width: int, *boxes: tuple[int, int, int, int], value: float = 1.0) -> Tensor:
    """A heat map that is 0 outside of these boxes."""
    return value * torch.from_numpy(region(height, width, *boxes).pixels).float()


def case(
    heatmap: Tensor,
    annotations: Sequence[Annotation],
    file: tuple[int, int] | None = None,
    fit: Fit = "squash",
    point: tuple[int, int] | None = None,
    name: str = CAT,
) -> Case:
    """A heat map [H, W] of a photo that is shown at its size; file: (height, width) of the photo itself."""
    height, width = heatmap.shape
    size = file or (height, width)
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(height * width, 2)), (height, width), channels=1)
    example = Example(Path("photo.png"), (name,), tuple(annotations), size)

    def again(photos: Tensor, of: Network | None) -> Tensor:
        raise AssertionError("measures on annotations ask for no other heat map")

    return Case(
        network,
        torch.zeros(1, height, width),
        heatmap,
        label(0).bind(network),
        name,
        example,
        View(size, (height, width), fit),
        again,
        point,
    )
