"""Windows that move over a canvas larger than what the network takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RequestError
from preimage.transforms.affine import Interpolation
from preimage.transforms.transform import Transform, View, integer, uniform

Placing = Literal["uniform", "edges", "middle"]

_EDGES = 224 / 300
"""How often the published code puts the window at one of the two ends of an axis (SPEC A2)."""


@dataclass(frozen=True)
class Window(Transform):
    """The part of the canvas that the network sees: paper 0's jittering, with or without resizing (SPEC A2 to A5).

    height, width: of what the network gets; None until `fitted` fills them in.
    scale: the window's sides on the canvas, as a share of height and width, drawn evenly between these two (and at
        most the canvas); the window is then resampled. (1, 1) cuts out whole pixels.
    interpolation: of the resampling, without antialiasing. `nearest` shares gradients between places and scales,
        but not between neighbouring pixels (paper 0, section 3).
    placing: where the window lies, each axis by itself. `uniform`: anywhere. `edges`: at one of the two ends with
        probability 224/300, else anywhere (paper 0's code). `middle`: normally distributed around the middle, with
        0.3 of the free range as standard deviation (Øygard's code).
    frame: so many pixels inside the window's border do not learn; there the network's padding shows. At most an eighth
        of the window. The canvas is continued by as many, so that all of it is reached.

    Raises `RequestError` where the canvas is smaller than the window.
    """

    height: int | None = None
    width: int | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    interpolation: Interpolation = "bilinear"
    placing: Placing = "uniform"
    frame: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise RequestError(f"a window's scale goes from a lower to a higher share above zero, not {self.scale}")
        if self.frame < 0:
            raise RequestError(f"a window's frame has at least 0 pixels, not {self.frame}")

    def fitted(self, height: int, width: int) -> Window:
        """The same window for a network that takes height x width, unless it has a size already."""
        return replace(self, height=self.height or height, width=self.width or width)

    def draw(self, generator: torch.Generator) -> View:
        share = uniform(*self.scale, generator)
        places = [self._place(generator) for _ in range(2)]

        def view(images: Tensor) -> Tensor:
            sides = window_sides(self, images)
            frame = min(self.frame, min(sides) // 8)
            canvas = F.pad(images, (frame,) * 4, mode="replicate") if frame else images
            if self.scale == (1.0, 1.0):
                free = [whole - side for whole, side in zip(canvas.shape[2:], sides, strict=True)]
                top, left = (min(int(p * (f + 1)), f) for p, f in zip(places, free, strict=True))
                seen = canvas[:, :, top : top + sides[0], left : left + sides[1]]
            else:
                seen = self._resampled(canvas, share, places, sides)
            return _without_frame(seen, frame) if frame else seen

        return view

    def _place(self, generator: torch.Generator) -> float:
        """Where the window lies along one axis: 0 at one end, 1 at the other."""
        if self.placing == "middle":
            return min(max(0.5 + 0.3 * float(torch.randn((), generator=generator)), 0.0), 1.0)
        anywhere, chance = uniform(0, 1, generator), uniform(0, 1, generator)
        if self.placing == "edges" and chance < _EDGES:
            return float(chance < _EDGES / 2)
        return anywhere

    def _resampled(self, canvas: Tensor, share: float, places: list[float], sides: tuple[int, int]) -> Tensor:
        rows = []
        for axis, (place, whole, side) in enumerate(zip(places, canvas.shape[2:], sides, strict=True)):
            extent = min(share * side / whole, 1.0)
            # grid_sample counts from -1 to 1; the middle of the window lies within the free range.
            middle = (2 * place - 1) * (1 - extent)
            rows.append([0.0, extent, middle] if axis == 0 else [extent, 0.0, middle])
        matrix = canvas.new_tensor([[rows[1], rows[0]]])
        grid = F.affine_grid(matrix, [1, 1, *sides], align_corners=False).expand(len(canvas), -1, -1, -1)
        return F.grid_sample(canvas, grid, mode=self.interpolation, padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class WindowsAround(Transform):
    """Several views of every image: one window around each of `centres`, moved by up to `jitter` pixels at random.

    For pictures that show several things, each in its place (SPEC A15): what view i is asked, an objective made by
    `preimage.objectives.each_view` says. Images [N, C, H, W] become [N * centres, C, height, width], image by image.

    centres: (y, x) as shares of the canvas. height, width: of what the network gets; None until `fitted`.

    Raises `RequestError` where the canvas is smaller than a window.
    """

    centres: tuple[tuple[float, float], ...]
    jitter: int = 0
    height: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        if not self.centres or not all(0 <= share <= 1 for centre in self.centres for share in centre):
            raise RequestError(f"centres are shares (y, x) of the canvas from 0 to 1, not {self.centres}")
        if self.jitter < 0:
            raise RequestError(f"windows move by up to 0 pixels or more, not {self.jitter}")

    def fitted(self, height: int, width: int) -> WindowsAround:
        """The same windows for a network that takes height x width, unless they have a size already."""
        return replace(self, height=self.height or height, width=self.width or width)

    def draw(self, generator: torch.Generator) -> View:
        moves = [[integer(-self.jitter, self.jitter, generator) for _ in range(2)] for _ in self.centres]

        def view(images: Tensor) -> Tensor:
            sides, whole = window_sides(self, images), images.shape[2:]
            seen = []
            for centre, move in zip(self.centres, moves, strict=True):
                corner = [round(centre[axis] * whole[axis] - sides[axis] / 2) + move[axis] for axis in range(2)]
                top, left = (min(max(c, 0), n - s) for c, n, s in zip(corner, whole, sides, strict=True))
                seen.append(images[:, :, top : top + sides[0], left : left + sides[1]])
            return torch.stack(seen, 1).flatten(0, 1)

        return view


def window_sides(window: Window | WindowsAround, images: Tensor) -> tuple[int, int]:
    """Height and width of a window on these images; raises `RequestError` if it does not fit."""
    height, width = images.shape[2:]
    sides = window.height or height, window.width or width
    if sides[0] > height or sides[1] > width:
        raise RequestError(
            f"a window of {sides[0]} x {sides[1]} pixels does not fit on a canvas of {height} x {width}; "
            "the canvas has to be as large as the window or larger"
        )
    return sides


def _without_frame(seen: Tensor, frame: int) -> Tensor:
    """The same values; gradients flow to what lies inside the frame only."""
    height, width = seen.shape[2:]
    inside = torch.zeros((height, width), dtype=torch.bool, device=seen.device)
    inside[frame : height - frame, frame : width - frame] = True
    return torch.where(inside, seen, seen.detach())
