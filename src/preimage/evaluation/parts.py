"""Which parts of an animal are deleted, which are kept? (paper 4, section 5.4; SPEC M21)"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.boxes import checked_map
from preimage.evaluation.measure import Case, Measure, Needs, Quantity, Raw
from preimage.evaluation.view import View

Over = Literal["points", "photos"]
"""Of what a class's mean is taken: of all its points, or of its photos, each of which is the mean of its points."""


@dataclass(frozen=True)
class Parts(Measure):
    """How much more a mask keeps of an animal's feet than of its eyes: mask values around points, and their ratio.

    Of each point, the mean mask value of the `window` x `window` pixels of the file around it; pixels outside of what
    is shown do not count, nor do points. The mask is 1 - heat map, 1 where the photo is kept, between pixels linearly
    interpolated. "eyes" and "feet" are the means over the classes of each class's mean; "ratio" the mean over the
    classes of feet : eyes. Above 1, the eyes matter more. Only photos that show both count, and only classes with
    `least` of them.

    The outputs that come with the paper's code give, over 76 classes of animals, eyes .207, feet .555 and a ratio of
    2.97 (SPEC M.4). These are facts about a network as a method sees it; whether they are right can be said only of
    photos where one knows what it looks at.

    eyes, feet: a point belongs to a group if its name contains one of these, in small or capital letters.
    window: odd, in pixels of the file. least: photos; the paper's code says 10, and keeps classes with more.
    scaled: each heat map to [0, 1], its smallest value to 0 and its largest to 1, as the paper's code did with masks
        (without a word: `scipy.misc.imresize` does so). A map that is the same everywhere says nothing, and everything
        is kept. Otherwise maps are taken as they are, which makes sense of masks alone: a map that sums to 1 has tiny
        values everywhere.
    over: the paper takes points, so that a photo with four feet counts twice as much as one with two.

    Raises `RequestError` for settings that make no sense, and when measuring, where no point of the class is one or the
    other, and for maps outside [0, 1] that are not to be scaled.
    """

    name: ClassVar[str] = "parts"
    source: ClassVar[str] = "paper 4, section 5.4, supplement, section 7; SPEC M21"
    needs: ClassVar[Needs] = "points"

    eyes: tuple[str, ...] = ("eye",)
    feet: tuple[str, ...] = ("foot", "feet", "paw", "hoof", "hooves")
    window: int = 5
    least: int = 10
    scaled: bool = True
    over: Over = "points"

    def __post_init__(self) -> None:
        for group in ("eyes", "feet"):
            parts = getattr(self, group)
            if (
                not isinstance(parts, (tuple, list))
                or not parts
                or not all(isinstance(one, str) and one for one in parts)
            ):
                raise RequestError(f"{group} are named by one or more parts of names, not by {parts!r}")
        if type(self.window) is not int or self.window < 1 or self.window % 2 == 0:
            raise RequestError(f"a window has an odd number of pixels, not {self.window}")
        if type(self.least) is not int or self.least < 1:
            raise RequestError(f"the least number of photos of a class is 1 or more, not {self.least}")
        if self.over not in ("points", "photos"):
            raise RequestError(f"a class's mean is over its 'points' or its 'photos', not '{self.over}'")

    def measure(self, case: Case) -> Raw:
        """The mean mask value at the photo's "eyes" and "feet", None where none is shown.

        "eye_points", "foot_points": how many those are; "hidden": points that are not shown.
        """
        points = [point for one in case.annotations() for point in one.points]
        groups = {group: [(x, y) for name, x, y in points if self._group(name) == group] for group in ("eyes", "feet")}
        if not any(groups.values()):
            names = ", ".join(sorted({name for name, _, _ in points})) or "none"
            raise RequestError(
                f"{case.example.path.name}: no point of '{case.label}' is named like "
                f"{', '.join((*self.eyes, *self.feet))}; there are {names}"
            )
        mask = self._mask(case)
        found = {
            group: [value for x, y in some if (value := self._around(mask, x, y, case.view)) is not None]
            for group, some in groups.items()
        }
        means = {group: sum(values) / len(values) if values else None for group, values in found.items()}
        eyes, feet = len(found["eyes"]), len(found["feet"])
        hidden = sum(map(len, groups.values())) - eyes - feet
        return {**means, "eye_points": eyes, "foot_points": feet, "hidden": hidden}

    def quantities(self, raws: Sequence[Raw | None], labels: Sequence[str], seed: int) -> list[Quantity]:
        """ "eyes", "feet" and "ratio", the mean over the classes of feet : eyes; better is neither."""
        counts = [raw is not None and raw["eyes"] is not None and raw["feet"] is not None for raw in raws]
        photos = Counter(label for label, both in zip(labels, counts, strict=True) if both)
        few = sorted(label for label in set(labels) if photos[label] < self.least)
        some = [
            raw if both and photos[label] >= self.least else None
            for raw, label, both in zip(raws, labels, counts, strict=True)
        ]
        notes = [f"{len(photos.keys() - set(few))} classes with {self.least} or more photos that show eyes and feet"]
        if few:
            notes.append(f"{len(few)} classes have fewer and are left out")
        if hidden := sum(raw["hidden"] for raw in some if raw is not None):
            notes.append(f"{hidden} points are cut off and do not count")
        eyes, eye_points = self._values(some, "eyes", "eye_points")
        feet, foot_points = self._values(some, "feet", "foot_points")
        return [
            Quantity("eyes", eyes, None, by_class=True, divisor=eye_points, notes=tuple(notes)),
            Quantity("feet", feet, None, by_class=True, divisor=foot_points, notes=tuple(notes)),
            Quantity(
                "ratio",
                _each_over_its_class(feet, foot_points, labels),
                None,
                by_class=True,
                divisor=_each_over_its_class(eyes, eye_points, labels),
                notes=tuple(notes),
            ),
        ]

    def _values(
        self, raws: Sequence[Raw | None], group: str, points: str
    ) -> tuple[list[float | None], list[float | None] | None]:
        """Of each photo its mean; or the sum over its points and how many these are, whose quotient is theirs."""
        if self.over == "photos":
            return [None if raw is None else float(raw[group]) for raw in raws], None
        sums = [None if raw is None else float(raw[group]) * raw[points] for raw in raws]
        return sums, [None if raw is None else float(raw[points]) for raw in raws]

    def _group(self, name: str) -> str | None:
        said = name.lower()
        for group, parts in (("eyes", self.eyes), ("feet", self.feet)):
            if any(part.lower() in said for part in parts):
                return group
        return None

    def _mask(self, case: Case) -> Tensor:
        heatmap = checked_map(case.heatmap)
        low, high = heatmap.min(), heatmap.max()
        if self.scaled:
            heatmap = (heatmap - low) / (high - low) if high > low else torch.zeros_like(heatmap)
        elif low < 0 or high > 1:
            raise RequestError(
                f"a heat map that is not to be scaled has values in [0, 1], not from {low:.3g} to {high:.3g}"
            )
        return 1 - heatmap

    def _around(self, mask: Tensor, x: float, y: float, view: View) -> float | None:
        """The mean of the mask in the window around a point of the file; None if the point is not shown."""
        height, width = view.file
        # The last pixel's far side is still its own.
        column, row = min(math.floor(x), width - 1), min(math.floor(y), height - 1)
        if not _is_shown(column, row, view):
            return None
        reach = self.window // 2
        columns = [i for i in range(max(column - reach, 0), min(column + reach + 1, width)) if _is_shown(i, row, view)]
        rows = [i for i in range(max(row - reach, 0), min(row + reach + 1, height)) if _is_shown(column, i, view)]
        places = (
            [view.point(column + 0.5, i + 0.5)[1] for i in rows],
            [view.point(i + 0.5, row + 0.5)[0] for i in columns],
        )
        down, across = (_weights(some, length) for some, length in zip(places, mask.shape, strict=True))
        return float((down @ mask @ across.T).mean())


def _is_shown(column: int, row: int, view: View) -> bool:
    """Whether the centre of a pixel of the file lies in what is shown."""
    x, y = view.point(column + 0.5, row + 0.5)
    return 0 <= column < view.file[1] and 0 <= row < view.file[0] and 0 <= x < view.shown[1] and 0 <= y < view.shown[0]


def _weights(places: Sequence[float], length: int) -> Tensor:
    """How much each of `length` pixels has of the values at these places, linearly interpolated: [places, length]."""
    at = (torch.tensor(places, dtype=torch.float64) - 0.5).clamp(0, length - 1)
    return (1 - (at[:, None] - torch.arange(length)).abs()).clamp(min=0)


def _each_over_its_class(
    values: Sequence[float | None], points: Sequence[float | None] | None, labels: Sequence[str]
) -> list[float | None]:
    """Sums over points, divided by how many of them a photo of the class has on average: their mean is the points'."""
    if points is None:
        return list(values)
    total: Counter[str] = Counter()
    photos: Counter[str] = Counter()
    for label, number in zip(labels, points, strict=True):
        if number is not None:
            total[label] += int(number)
            photos[label] += 1
    return [
        None if value is None else value * photos[label] / total[label]
        for value, label in zip(values, labels, strict=True)
    ]
