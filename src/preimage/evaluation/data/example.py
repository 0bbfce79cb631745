"""A photo with what is known to be on it, in pixels of its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels from the top left corner of the image; right and bottom are just outside, so that
a box of one pixel is (x, y, x + 1, y + 1)."""


class Region(Protocol):
    """Where an object is, pixel by pixel; plain data that can be sent to another process."""

    def read(self, height: int, width: int) -> NDArray[np.bool_]:
        """bool [height, width], the size of the file's image."""


@dataclass(frozen=True)
class Annotation:
    """One object on a photo.

    label: its class, as the data set calls it. box, region: where it is, where the data set says so.
    points: named ones, (name, x, y), in pixels from the top left corner of the image; the first pixel's centre is at
        (0.5, 0.5).
    crowd: several objects of the class in one (COCO's `iscrowd`).
    """

    label: str
    box: Box | None = None
    region: Region | None = None
    points: tuple[tuple[str, float, float], ...] = ()
    crowd: bool = False


@dataclass(frozen=True)
class Example:
    """A photo, the classes that are asked of it, and its objects.

    labels: as the data set calls them, each once; none: what the network answers first is asked.
    size: (height, width) of the file's image in pixels.
    """

    path: Path
    labels: tuple[str, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    size: tuple[int, int] = (0, 0)

    def of(self, label: str) -> list[Annotation]:
        """Its objects of this class."""
        return [one for one in self.annotations if one.label == label]


@dataclass(frozen=True)
class Fault:
    """Something wrong with a data set: in which file, and what, in a sentence."""

    path: Path
    says: str

    def __str__(self) -> str:
        return f"{self.path}: {self.says}"


@dataclass(frozen=True)
class Data:
    """A data set: what it is made of, and what is wrong with it.

    examples: those that have no fault, in the data set's order. faults: of all others, in that order.
    labels: all classes that occur, sorted. source: as one types it, `coco:photos,instances.json`.
    skipped: what is left out on purpose, and how many (the blacklist of ILSVRC, say).
    """

    source: str
    examples: tuple[Example, ...]
    faults: tuple[Fault, ...] = ()
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """All classes that occur, sorted."""
        return sorted({label for one in self.examples for label in one.labels})

    def describe(self) -> dict[str, Any]:
        """As plain JSON types, for settings."""
        return {"source": self.source, "photos": len(self.examples), "faults": len(self.faults), **self.skipped}
