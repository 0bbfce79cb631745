"""Where objects are, pixel by pixel, in the ways in which data sets write it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from preimage.errors import RequestError
from preimage.evaluation.data.checking import MARGIN, FaultyError
from preimage.extras import from_extra
from preimage.images import MAX_PIXELS

_COMPRESSED = re.compile(rb"([P-o]{0,7}[0-O])*")
"""COCO's run lengths in bytes: five bits each from `0` on, and a sixth that says that the number goes on."""

VOID = 255
"""What VOC paints where it is not said what there is."""


def coco_masks() -> Any:
    """The module `pycocotools.mask`; raises `RequestError` if it is not installed."""
    return from_extra("pycocotools.mask", "evaluation")


@dataclass(frozen=True)
class Polygons:
    """COCO's polygons, each as x, y, x, y ... in pixels; a pixel belongs to it as pycocotools says."""

    outlines: tuple[tuple[float, ...], ...]

    def _encoded(self, height: int, width: int) -> Any:
        masks = coco_masks()
        return masks.merge(masks.frPyObjects([list(one) for one in self.outlines], height, width))

    def read(self, height: int, width: int) -> NDArray[np.bool_]:
        return RunLengths((height, width), self._encoded(height, width)["counts"]).read(height, width)

    def why_wrong(self, height: int, width: int) -> str | None:
        for outline in self.outlines:
            # With four numbers pycocotools takes it for a box.
            if len(outline) < 6 or len(outline) % 2:
                return f"has a polygon of {len(outline)} numbers; at least three points are needed, of two numbers each"
            xs, ys = outline[::2], outline[1::2]
            if min(*xs, *ys) < -MARGIN or max(xs) > width + MARGIN or max(ys) > height + MARGIN:
                return f"has a polygon that reaches outside of the image of {width} x {height}"
        return None if coco_masks().area(self._encoded(height, width)) else "has polygons that cover no pixel"


@dataclass(frozen=True)
class RunLengths:
    """COCO's run lengths: how many pixels in turn are outside and inside, column by column.

    size: (height, width). counts: the numbers, or bytes as COCO compresses them. Decoded here, because pycocotools
    reads beyond its memory where the numbers are too few.
    """

    size: tuple[int, int]
    counts: tuple[int, ...] | bytes

    def read(self, height: int, width: int) -> NDArray[np.bool_]:
        says = self._why_unreadable(height, width)
        if says:
            raise RequestError(f"a mask {says}")
        counts = self._numbers()
        inside = np.arange(len(counts)) % 2 == 1
        return np.ascontiguousarray(np.repeat(inside, counts).reshape(width, height).T)

    def why_wrong(self, height: int, width: int) -> str | None:
        return self._why_unreadable(height, width) or (
            None if self._numbers()[1::2].any() else "has a mask that covers no pixel"
        )

    def _why_unreadable(self, height: int, width: int) -> str | None:
        if self.size != (height, width):
            return f"has a mask of {self.size[1]} x {self.size[0]}, but the image is {width} x {height}"
        try:
            counts = self._numbers()
        except FaultyError as error:
            return str(error)
        if counts.min(initial=0) < 0 or counts.max(initial=0) > height * width or counts.sum() != height * width:
            return f"has run lengths that do not fill its mask of {width} x {height}"
        return None

    def _numbers(self) -> NDArray[np.int64]:
        if not isinstance(self.counts, bytes):
            return np.asarray(self.counts, dtype=np.int64)
        if not _COMPRESSED.fullmatch(self.counts):
            raise FaultyError("has run lengths in bytes that are not as COCO compresses them")
        if not self.counts:
            return np.zeros(0, dtype=np.int64)
        digits = np.frombuffer(self.counts, dtype=np.uint8).astype(np.int64) - 48
        ends = np.flatnonzero(digits < 32)
        starts = np.concatenate([[0], ends[:-1] + 1])
        place = np.arange(len(digits)) - np.repeat(starts, ends - starts + 1)
        numbers = np.add.reduceat((digits & 31) << 5 * place, starts)
        negative = (digits[ends] & 16) > 0
        numbers -= np.where(negative, 1 << 5 * (ends - starts + 1), 0)
        # From the fourth on, each is written as the difference from the last but one.
        numbers[1::2] = np.cumsum(numbers[1::2])
        numbers[2::2] = np.cumsum(numbers[2::2])
        return numbers


@dataclass(frozen=True)
class Painted:
    """An object in VOC's way: the pixels of an image that have the object's number.

    objects: a palette or grey PNG, 1 for the first object and so on. classes: another with the number of the class
    at each pixel, to be compared with, and class_number: which that is, where it is known.
    """

    objects: Path
    number: int
    classes: Path | None = None
    class_number: int | None = None

    def read(self, height: int, width: int) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = self._painted(self.objects, height, width) == self.number
        return inside

    def why_wrong(self, height: int, width: int) -> str | None:
        try:
            inside = self.read(height, width)
            if not inside.any():
                return f"has a mask that covers no pixel: {self.objects.name} never says {self.number}"
            if self.classes is None:
                return None
            found = sorted(set(self._painted(self.classes, height, width)[inside].tolist()) - {VOID})
        except RequestError as error:
            return f"has a mask that cannot be used: {error}"
        expected = found[:1] if self.class_number is None else [self.class_number]
        if found != expected or found == [0]:
            should = "a single class" if self.class_number is None else f"class {self.class_number}"
            said = ", ".join(map(str, found)) or "none"
            return f"is {should}, but within its mask {self.classes.parent.name}/{self.classes.name} says {said}"
        return None

    @staticmethod
    def _painted(path: Path, height: int, width: int) -> NDArray[np.uint8]:
        numbers = _numbers_painted(path)
        if numbers.shape != (height, width):
            raise RequestError(
                f"{path} is {numbers.shape[1]} x {numbers.shape[0]}, but the image is {width} x {height}"
            )
        return numbers


@lru_cache(maxsize=2)
def _numbers_painted(path: Path) -> NDArray[np.uint8]:
    """[height, width]: the objects of a photo are read one after the other, and so are the images of both kinds."""
    try:
        with Image.open(path) as file:
            if file.width * file.height > MAX_PIXELS:
                raise RequestError(f"{path} has more than {MAX_PIXELS:,} pixels")
            if file.mode not in ("P", "L"):
                raise RequestError(f"{path} has colours ({file.mode}); VOC's masks have a palette, or are grey")
            numbers = np.array(file)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{path} cannot be read: {error}") from error
    numbers.flags.writeable = False
    return numbers
