"""Mirroring from side to side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.transforms.transform import Transform, View, uniform


@dataclass(frozen=True)
class Flip(Transform):
    """Mirror the images left to right, with this probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise RequestError(f"a probability lies between 0 and 1, not {self.probability}")

    def draw(self, generator: torch.Generator) -> View:
        turned = uniform(0, 1, generator) < self.probability

        def view(images: Tensor) -> Tensor:
            return images.flip(3) if turned else images

        return view
