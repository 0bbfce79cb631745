"""Zoom, shift and rotation as one resampling to a fixed size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RequestError
from preimage.transforms.transform import Transform, View, uniform

Interpolation = Literal["bilinear", "nearest"]
_BORDERS = {"reflect": "reflection", "replicate": "border", "black": "zeros"}


@dataclass(frozen=True)
class Affine(Transform):
    """One random zoom, shift and rotation; the result has the size of the image.

    zoom: lowest and highest magnification, drawn evenly on a logarithmic scale; above 1 the network looks at a part
        of the image, below 1 it sees the whole image smaller, continued as `border` says.
    shift: how far the view's centre may move from the image's, as a share of the image's size.
    rotation: by up to so many degrees either way.
    border: `reflect`, `replicate` or `black`.
    mirror: whether left and right are exchanged half of the time.
    """

    zoom: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    rotation: float = 0.0
    interpolation: Interpolation = "bilinear"
    border: Literal["reflect", "replicate", "black"] = "reflect"
    mirror: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise RequestError(f"zoom goes from a lower to a higher magnification above zero, not {self.zoom}")

    def draw(self, generator: torch.Generator) -> View:
        extent = 1 / math.exp(uniform(math.log(self.zoom[0]), math.log(self.zoom[1]), generator))
        angle = math.radians(uniform(-self.rotation, self.rotation, generator))
        # grid_sample counts from -1 to 1, so a share of the whole size is twice that.
        down, right = (2 * uniform(-self.shift, self.shift, generator) for _ in range(2))
        cos, sin = extent * math.cos(angle), extent * math.sin(angle)
        side = -1 if self.mirror and uniform(0, 1, generator) < 0.5 else 1

        def view(images: Tensor) -> Tensor:
            height, width = images.shape[2:]
            # Rotation happens in pixels, not in shares of the sides.
            across, along = [cos, -sin * height / width, right], [sin * width / height, cos, down]
            matrix = [[side * number for number in across], along]
            grid = F.affine_grid(images.new_tensor([matrix]), [1, 1, height, width], align_corners=False)
            return F.grid_sample(
                images,
                grid.expand(len(images), -1, -1, -1),
                mode=self.interpolation,
                padding_mode=_BORDERS[self.border],
                align_corners=False,
            )

        return view


def rescale(low: float, high: float, interpolation: Interpolation = "bilinear") -> Affine:
    """Magnification only. Nearest interpolation shares gradients between places and scales, but not between
    neighbouring pixels (paper 0, section 3; SPEC A3, A4)."""
    return Affine(zoom=(low, high), interpolation=interpolation)


def rotate(degrees: float, interpolation: Interpolation = "bilinear") -> Affine:
    """Rotation only, by up to `degrees` either way."""
    return Affine(rotation=degrees, interpolation=interpolation)
