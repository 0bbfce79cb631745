"""Moving and padding by whole pixels: no interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RequestError
from preimage.transforms.transform import Transform, View, integer

Border = Literal["reflect", "replicate", "circular"]


@dataclass(frozen=True)
class Jitter(Transform):
    """Shift by up to `pixels` in each direction; what comes in from outside continues the image as `border` says."""

    pixels: int
    border: Border = "reflect"

    def draw(self, generator: torch.Generator) -> View:
        down, right = (integer(-self.pixels, self.pixels, generator) for _ in range(2))

        def view(images: Tensor) -> Tensor:
            height, width = images.shape[2:]
            _check_margin(self, self.pixels, images)
            # Pad only on the sides that are needed, then cut off as much on the others.
            sides = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
            top, left = max(-down, 0), max(-right, 0)
            return F.pad(images, sides, mode=self.border)[:, :, top : top + height, left : left + width]

        return view


@dataclass(frozen=True)
class Pad(Transform):
    """Add a frame of `pixels` on every side: of one value, or continued as `border` says."""

    pixels: int
    value: float = 0.5
    border: Border | None = None

    def draw(self, generator: torch.Generator) -> View:
        def view(images: Tensor) -> Tensor:
            if self.border is None:
                return F.pad(images, (self.pixels,) * 4, value=self.value)
            _check_margin(self, self.pixels, images)
            return F.pad(images, (self.pixels,) * 4, mode=self.border)

        return view


def _check_margin(transform: Transform, pixels: int, images: Tensor) -> None:
    if pixels >= min(images.shape[2:]):
        raise RequestError(f"{transform} needs images of more than {pixels} pixels a side, not {list(images.shape)}")
