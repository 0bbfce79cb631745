"""Hiding one square of a photo after the other, and asking the network again each time.

Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", as paper 4 sets it up for comparison
(supplement, sections 3 and 4.1; SPEC M14, M.5-8, M.5-9). The published settings are for photos of 224 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.method import Found, Method, Question

Masks = Callable[[int, slice], Tensor]
"""(photo's index, which of its masks) -> [k, H, W] in [0, 1], 1 where the photo is hidden."""


@dataclass(frozen=True)
class Occlusion(Method):
    """How far the answer falls, on average, while a square that covers the pixel hides its part of the photo.

    The heat map is sum_k M_k (score of the photo - score without square k) / sum_k M_k, pixel by pixel: larger is more
    important, and it has the unit of the score.

    square: its side in pixels, for photos of 224; scaled for others and rounded.
    positions: of its centre along each axis, evenly from border to border; squares are cut off there. What falls on
        the same pixels as another is not asked again.
    stride: instead of so many positions, every so many pixels (of 224) from the upper left corner on, until the square
        reaches the border; as Captum does it.
    colour: of the square, a number in [0, 1] or one for each channel; default: the network's mean colour.

    Raises `RequestError` for settings that make no sense, and when asked, for a square that covers a whole photo, or
    for squares that leave some of its pixels uncovered.
    """

    name: ClassVar[str] = "occlusion"
    source: ClassVar[str] = "Zeiler & Fergus 2014; paper 4, supplement, section 3"

    square: float = 35.0
    positions: int = 28
    stride: float | None = None
    colour: float | tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_positions(self.positions)
        check_above_zero("a square's side", self.square)
        if self.stride is not None:
            check_above_zero("a stride", self.stride)
        if self.colour is not None:
            values = (self.colour,) if isinstance(self.colour, Real) else tuple(self.colour)  # type: ignore[arg-type]
            if not values or not all(isinstance(one, Real) and 0 <= one <= 1 for one in values):
                raise RequestError(f"a colour is a number in [0, 1], or one for each channel, not {self.colour}")

    def steps(self) -> int:
        return self.positions**2

    def explain(self, asked: Question) -> Found:
        rows, columns = self._windows(asked)
        count = len(rows) * len(columns)

        def squares(_: int, which: slice) -> Tensor:
            k = torch.arange(which.start, which.stop, device=rows.device)
            return rows[k // len(columns), :, None] * columns[k % len(columns), None]

        return mean_falls(asked, self._colour(asked).expand_as(asked.photos), count, squares, self.steps())

    def _windows(self, asked: Question) -> tuple[Tensor, Tensor]:
        """What the squares cover of the rows [n, H] and of the columns [m, W], 1 or 0."""
        side = max(1, round(asked.pixels(self.square)))
        if side >= min(asked.size):
            raise RequestError(
                f"a square of {side} pixels is as large as the photo, {asked.size[0]} x {asked.size[1]}; "
                f"it has to be smaller than {min(asked.size)} ({min(asked.size) / asked.pixels(1):g} on photos of 224)"
            )
        covered = []
        for length in asked.size:
            pixels = torch.arange(length, device=asked.network.device)
            first = torch.tensor(self._starts(asked, length, side), device=asked.network.device)[:, None]
            covered.append(((first <= pixels) & (pixels < first + side)).float())
            if not covered[-1].any(0).all():
                every = "so few positions" if self.stride is None else f"a stride of {self.stride:g}"
                raise RequestError(
                    f"squares of {side} pixels with {every} leave pixels of a photo of {asked.size[0]} x "
                    f"{asked.size[1]} uncovered; ask for larger squares, or for more of them"
                )
        return covered[0], covered[1]

    def _starts(self, asked: Question, length: int, side: int) -> list[int]:
        if self.stride is not None:
            stride = max(1, round(asked.pixels(self.stride)))
            return [stride * k for k in range(math.ceil((length - side) / stride) + 1)]
        firsts = (round(centre - side / 2) for centre in centres(length, self.positions))
        # Of the outermost squares of one pixel, rounding would leave nothing.
        return list(dict.fromkeys(min(max(first, 1 - side), length - 1) for first in firsts))

    def _colour(self, asked: Question) -> Tensor:
        if self.colour is None:
            return asked.mean_colour()
        channels = asked.network.channels
        values = (self.colour,) * channels if isinstance(self.colour, Real) else tuple(self.colour)  # type: ignore[arg-type]
        if len(values) != channels:
            raise RequestError(f"a colour has {channels} channels here, not {len(values)}")
        return torch.tensor(values, dtype=torch.float32, device=asked.network.device)[:, None, None]


def mean_falls(asked: Question, behind: Tensor, count: int, masks: Masks, steps: int) -> Found:
    """The mean, at every pixel, of how far the answer falls under the masks that hide it, each counting by how much.

    Arguments as `answers_without`.
    """
    totals = torch.zeros(len(asked), *asked.size, device=asked.network.device)
    weights = torch.zeros_like(totals)
    with asked.network.held():
        whole = asked.photo_scores()
        for i, hidden, scores in answers_without(asked, behind, count, masks, steps):
            totals[i] += torch.einsum("k,khw->hw", whole[i] - scores, hidden)
            weights[i] += hidden.sum(0)
    return Found(totals / weights, scores={"photo": whole})


def answers_without(
    asked: Question, behind: Tensor, count: int, masks: Masks, steps: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Show the network each photo `count` times with a part of it hidden.

    behind: [N, C, H, W], what shows where a mask is 1. steps: how many to report altogether.
    Yields (photo's index, its next masks [k, H, W], the scores [k] with what they hide hidden), photo by photo, with
    as many masks at a time as may go through the network together.
    """
    done, total = 0, len(asked) * count
    for i in range(len(asked)):
        for start in range(0, count, asked.chunk):
            hidden = masks(i, slice(start, min(start + asked.chunk, count)))
            yield i, hidden, asked.scores(i, torch.lerp(asked.photos[i], behind[i], hidden[:, None]))
            before, done = done, done + len(hidden)
            asked.on_step(steps * done // total - steps * before // total)


def centres(length: int, positions: int) -> list[float]:
    """So many positions along an axis, evenly from border to border (the published code's; SPEC M.5-8), in pixels."""
    return [length * k / (positions - 1) for k in range(positions)]


def check_positions(positions: int) -> None:
    """Raise `RequestError` unless these can be spread from border to border."""
    if type(positions) is not int or positions < 2:
        raise RequestError(f"there are at least 2 positions along each axis, a whole number, not {positions}")


def check_above_zero(what: str, value: float) -> None:
    """Raise `RequestError` for what is no number above zero."""
    if not (isinstance(value, Real) and math.isfinite(value) and value > 0):
        raise RequestError(f"{what} is a number above zero, not {value}")
