"""Pictures as the pages show them: each in a file of its own, and many small ones together on a sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SMALL = 64
"""Pictures of at most so many pixels a side are kept exactly, and shown with their pixels visible."""

THUMBNAIL = 128
"""The longer side of a larger picture on a sheet, in pixels."""

PER_SHEET = 64
"""So few that a sheet is decoded in milliseconds, wherever in the atlas a view happens to need one of its pictures."""

Pixels = NDArray[np.uint8]


def picture(pixels: Pixels) -> Image.Image:
    """Bytes [C, H, W] as a picture; numbers of channels other than 1 and 3 are laid side by side."""
    if len(pixels) == 3:
        return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return Image.fromarray(np.concatenate(list(pixels), axis=1)).convert("RGB")


def is_small(image: Image.Image) -> bool:
    """Whether it is kept exactly and shown with its pixels visible."""
    return max(image.size) <= SMALL


def thumbnail(image: Image.Image, side: int = THUMBNAIL) -> Image.Image:
    """The picture, its longer side no longer than `side`."""
    if max(image.size) <= side:
        return image
    share = side / max(image.size)
    width, height = (max(1, round(length * share)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Sheet:
    """Pictures of one size, row by row, each with a margin of one pixel that repeats its edge.

    The margin is there because a browser that scales a sheet mixes pixels across the border of a picture.
    """

    image: Image.Image
    columns: int
    rows: int
    width: int
    height: int
    lossless: bool

    def as_dict(self) -> dict[str, int]:
        """What the page has to know to find a picture on it."""
        return {"columns": self.columns, "rows": self.rows, "width": self.width, "height": self.height}


def sheet(pictures: Sequence[Image.Image], columns: int | None = None) -> Sheet:
    """Pictures of one size, at least one, on a sheet that is about square, or has so many columns."""
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    width, height = pictures[0].size
    laid = np.zeros((rows * (height + 2), columns * (width + 2), 3), dtype=np.uint8)
    for i, one in enumerate(pictures):
        top, left = i // columns * (height + 2), i % columns * (width + 2)
        padded = np.pad(np.asarray(one.convert("RGB")), ((1, 1), (1, 1), (0, 0)), mode="edge")
        laid[top : top + height + 2, left : left + width + 2] = padded
    return Sheet(Image.fromarray(laid), columns, rows, width, height, is_small(pictures[0]))


def square(image: Image.Image, side: int) -> Image.Image:
    """The middle of a picture, `side` pixels wide and high."""
    least = min(image.size)
    left, top = ((length - least) // 2 for length in image.size)
    how = Image.Resampling.NEAREST if is_small(image) else Image.Resampling.LANCZOS
    # (cropped first: with a box, Pillow's filter would still look beyond it)
    return image.crop((left, top, left + least, top + least)).resize((side, side), how)
