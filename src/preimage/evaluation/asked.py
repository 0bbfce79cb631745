"""What an evaluation asks: pictures made of photos, and a class for each."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.data.example import Data, Example
from preimage.evaluation.view import Fit, View
from preimage.images import read_image


@dataclass(frozen=True)
class Asked:
    """A picture and the class that is asked of it.

    examples: the photo; or those of a square mosaic, row by row. of: which of them is asked about.
    label: its class, as the data set calls it; index: the network's output. Empty and -1: its first answer.
    """

    examples: tuple[Example, ...]
    label: str
    index: int
    of: int = 0

    @property
    def example(self) -> Example:
        """The photo that is asked about."""
        return self.examples[self.of]

    @property
    def side(self) -> int:
        """How many photos stand side by side."""
        return math.isqrt(len(self.examples))

    def view(self, size: tuple[int, int], fit: Fit) -> View:
        """How the photo that is asked about is brought to its place."""
        n, (row, column) = self.side, divmod(self.of, self.side)
        shape = (size[0] * (row + 1) // n - size[0] * row // n, size[1] * (column + 1) // n - size[1] * column // n)
        return View(self.example.size, shape, fit)

    def picture(self, size: tuple[int, int], fit: Fit, channels: int) -> Tensor:
        """What the network is shown: float32 [channels, *size] in [0, 1].

        Raises `RequestError` where a file cannot be read.
        """
        n = self.side
        cells = [
            (size[0] * (i + 1) // n - size[0] * i // n, size[1] * (i + 1) // n - size[1] * i // n) for i in range(n)
        ]
        rows = []
        for row in range(n):
            made = []
            for column in range(n):
                example = self.examples[row * n + column]
                photo = read_image(example.path, channels)
                if example.size not in ((0, 0), (photo.shape[1], photo.shape[2])):
                    height, width = example.size
                    now = f"{photo.shape[2]} x {photo.shape[1]}"
                    raise RequestError(
                        f"'{example.path}' has {now} pixels now, not {width} x {height} as when the data set was opened"
                    )
                shape = (cells[row][0], cells[column][1])
                made.append(View((photo.shape[1], photo.shape[2]), shape, fit).image(photo))
            rows.append(torch.cat(made, 2))
        return torch.cat(rows, 1)


def drawn(data: Data, limit: int | None, seed: int) -> list[Example]:
    """`limit` examples, drawn by `seed` as evenly over the classes as there are photos of each; None: all, in order.

    A larger limit draws the same ones first, so that an evaluation of 100 photos is the beginning of one of 1,000.
    """
    if limit is None:
        return list(data.examples)
    random = np.random.default_rng(seed)
    by_class: dict[str, list[int]] = defaultdict(list)
    for i in random.permutation(len(data.examples)).tolist():
        for label in data.examples[i].labels or ("",):
            by_class[label].append(i)
    names = sorted(by_class)
    left = {names[k]: iter(by_class[names[k]]) for k in random.permutation(len(names))}
    turns: dict[int, None] = {}
    while left and len(turns) < limit:
        for name in list(left):
            found = next((i for i in left[name] if i not in turns), None)
            if found is None:
                del left[name]
            else:
                turns[found] = None
    return [data.examples[i] for i in list(turns)[:limit]]


def questions(examples: Sequence[Example], classes: Mapping[str, int] | None) -> list[Asked]:
    """One for each photo and class of it.

    classes: the network's output for each; others are left out. None: its first answer is asked.
    """
    if classes is None:
        return [Asked((one,), "", -1) for one in examples]
    return [Asked((one,), label, classes[label]) for one in examples for label in one.labels if label in classes]
