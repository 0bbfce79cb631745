"""Does an explanation point at the object? (Zhang et al. 2016; paper 4, section 5.3; SPEC M20)"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.boxes import checked_map
from preimage.evaluation.data.example import Annotation, Box
from preimage.evaluation.measure import Case, Measure, Needs, Quantity, Raw
from preimage.evaluation.view import View

Maxima = Literal["mean", "first"]
"""Where a heat map has its largest value more than once: the mean of these places, or the first of them row by row."""

AreaOf = Literal["all", "class"]
"""Whose area says whether a photo is difficult: that of all annotated objects, or of those of the asked class."""


@dataclass(frozen=True)
class Pointing(Measure):
    """How often the largest value of a heat map lies on the object: the pointing game, of all cases and difficult ones.

    A hit: some pixel of an object of the class is no further from the point than `tolerance`, from centre to centre, in
    pixels of what the network is shown (SPEC M.5-12: a circle of this radius meets the segmentation; exactly this far
    away is a hit). Objects are what their regions say, or where one has none, its box. Crowds are objects like others,
    for hits, for areas and as other classes: so it is in the code of excitation backprop, of paper 4 and of TorchRay.

    A case is difficult if the areas of the photo's objects (`area_of`, overlaps counted twice) sum to less than
    `small` of the photo's, and there is an object of another class.

    The two numbers are means over the classes of each class's share of hits.

    tolerance: in pixels of photos of 224; for others it is scaled (`Case.pixels`).
    maxima: paper 4 takes the mean, because masks saturate; excitation backprop's code and TorchRay the first. A method
        that names a point itself (variable occlusion) is taken at its word. So a heat map that is the same everywhere
        points at the centre, or with "first" at the corner.
    area_of: the code of paper 4 sums all objects; excitation backprop's text speaks of the class's.

    Raises `RequestError` for settings that make no sense, and when measuring, where no object of the class is known,
    or none of it is shown.
    """

    name: ClassVar[str] = "pointing"
    source: ClassVar[str] = "Zhang et al. 2016; paper 4, section 5.3, supplement, section 4; SPEC M20"
    needs: ClassVar[Needs] = "regions"

    tolerance: float = 15.0
    maxima: Maxima = "mean"
    area_of: AreaOf = "all"
    small: float = 0.25

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise RequestError(f"a tolerance is a number of pixels from 0 on, not {self.tolerance}")
        if self.maxima not in ("mean", "first"):
            raise RequestError(f"of several maxima, 'mean' or 'first' is taken, not '{self.maxima}'")
        if self.area_of not in ("all", "class"):
            raise RequestError(f"the area is that of 'all' objects or of the 'class', not of '{self.area_of}'")
        if not 0 < self.small <= 1:
            raise RequestError(f"the share of a photo that is small is above 0 and at most 1, not {self.small}")

    def measure(self, case: Case) -> Raw:
        """Whether the point hits, and all that decides it.

        "hit"; "distance" of the point from the object, in shown pixels; "point": (row, column) of a shown pixel;
        "maxima": how many there are (0: the method named the point); "by": "regions", "boxes" or both; "difficult";
        "area": share of the photo (`area_of`).
        """
        objects = [one for one in case.annotations() if one.region is not None or one.box is not None]
        if not objects:
            raise RequestError(f"{case.example.path.name}: no region and no box of '{case.label}' is known")
        shown = torch.stack([_shown(one, case.view) for one in objects]).any(0)
        if not shown.any():
            raise RequestError(f"{case.example.path.name}: nothing of '{case.label}' is in the part that is shown")
        (row, column), count = self.point(case)
        pixels = shown.nonzero().double()
        distance = float((pixels - torch.tensor([row, column], dtype=torch.float64)).square().sum(1).min().sqrt())
        of = case.example.annotations if self.area_of == "all" else case.annotations()
        area = sum(_area(one, case.view) for one in of) / (case.view.file[0] * case.view.file[1])
        has_others = any(one.label != case.label for one in case.example.annotations)
        return {
            "hit": int(distance <= case.pixels(self.tolerance)),
            "distance": distance,
            "point": [row, column],
            "maxima": count,
            "by": " and ".join(dict.fromkeys("boxes" if one.region is None else "regions" for one in objects)),
            "difficult": area < self.small and has_others,
            "area": area,
        }

    def point(self, case: Case) -> tuple[tuple[float, float], int]:
        """Where a case's heat map points, (row, column) of a pixel, or between some; and how many maxima there are."""
        if case.point is not None:
            return (float(case.point[0]), float(case.point[1])), 0
        heatmap = checked_map(case.heatmap)
        places = (heatmap == heatmap.max()).nonzero().double()
        row, column = (places.mean(0) if self.maxima == "mean" else places[0]).tolist()
        return (row, column), len(places)

    def quantities(self, raws: Sequence[Raw | None], labels: Sequence[str], seed: int) -> list[Quantity]:
        """The share of hits of "all" cases and of "difficult" ones, each the mean over the classes."""
        every = [None if raw is None else float(raw["hit"]) for raw in raws]
        hard = [None if raw is None or not raw["difficult"] else float(raw["hit"]) for raw in raws]
        notes = []
        if boxed := sum(raw is not None and raw["by"] != "regions" for raw in raws):
            notes.append(f"{boxed} of {len(raws)} cases go by boxes, for want of regions: easier to hit")
        if several := sum(raw is not None and raw["maxima"] > 1 for raw in raws):
            taken = "the mean of them" if self.maxima == "mean" else "the first of them"
            notes.append(f"{several} of {len(raws)} heat maps have several maxima; {taken} is the point")
        none = () if any(value is not None for value in hard) else ("no case is difficult",)
        return [
            Quantity("all", every, by_class=True, notes=tuple(notes)),
            Quantity("difficult", hard, by_class=True, notes=(*notes, *none)),
        ]


def _shown(one: Annotation, view: View) -> Tensor:
    """Where an object is shown: bool [H, W]. However small it is, nothing of it is lost but what is cut off."""
    if one.region is None:
        assert one.box is not None
        return _shown_box(one.box, view)
    region = one.region.read(*view.file)
    shown = view.region(region)
    # Where the photo was made smaller, the nearest pixel would leave out thin things.
    rows = np.array([math.floor(view.point(0, i + 0.5)[1]) for i in range(view.file[0])])
    columns = np.array([math.floor(view.point(j + 0.5, 0)[0]) for j in range(view.file[1])])
    down, across = np.nonzero(region)
    down, across = rows[down], columns[across]
    inside = (down >= 0) & (down < view.shown[0]) & (across >= 0) & (across < view.shown[1])
    shown[down[inside], across[inside]] = True
    return shown


def _shown_box(box: Box, view: View) -> Tensor:
    """The pixels that a box of the file covers, if only in part."""
    shown = torch.zeros(view.shown, dtype=torch.bool)
    part = view.box(box)
    if part is not None:
        # What is a whole number but for rounding is one.
        left, top, right, bottom = (round(side, 6) for side in part)
        shown[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] = True
    return shown


def _area(one: Annotation, view: View) -> float:
    """Of an object, in pixels of the file; 0 where only points are known."""
    if one.region is not None:
        return float(one.region.read(*view.file).sum())
    if one.box is None:
        return 0.0
    return (one.box[2] - one.box[0]) * (one.box[3] - one.box[1])
