"""Does the box around an explanation find the object? (paper 4, section 5.2; SPEC M19)"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.boxes import Kind, boxes_at, ious
from preimage.evaluation.data.example import Box
from preimage.evaluation.measure import Case, Measure, Needs, Quantity, Raw
from preimage.evaluation.view import View

_KINDS: tuple[Kind, ...] = ("value", "energy", "mean")
_WHOLE = "whole"
_TWENTIETHS = tuple(i / 20 for i in range(20))
_HALVES = tuple(i / 2 for i in range(21))


@dataclass(frozen=True)
class Localisation(Measure):
    """How often the box around the important pixels is not the object's: the localisation error, by kind of threshold.

    The heat map is thresholded as the network was shown the photo, and the tightest box around all that remains is
    brought to the file's pixels. It is right if its IoU with any box of the class is `least_iou` or more; boxes of
    crowds do not count. How many of the largest values remain, alpha, is chosen for each kind of threshold on cases
    that are held out: the alpha of the least error there; of several, the one with the largest mean IoU there; of
    those, the smallest. The error is that of the other cases. There is no "best alpha on all": that would be choosing
    by the answer.

    value, energy, mean: the alphas to choose from, see `preimage.evaluation.boxes.Kind`.
    held_out: share of the cases (at least one of them, and not all), drawn by the evaluation's seed: the same ones for
        every method, whether they failed or not. The paper holds out 5000 photos of the training set.
    least_iou: ILSVRC's criterion.

    Where the paper resizes what remains of the map with interpolation before it looks for the box, here the box of the
    nearest pixels is taken, so that it does not grow by what interpolation adds at its sides.

    Raises `RequestError` for settings that make no sense, and when measuring, where no box of the class is known.
    """

    name: ClassVar[str] = "localisation"
    source: ClassVar[str] = "paper 4, section 5.2; ILSVRC's localisation task; SPEC M19"
    needs: ClassVar[Needs] = "boxes"

    value: tuple[float, ...] = _TWENTIETHS
    energy: tuple[float, ...] = _TWENTIETHS
    mean: tuple[float, ...] = _HALVES
    held_out: float = 0.5
    least_iou: float = 0.5

    def __post_init__(self) -> None:
        for kind in _KINDS:
            alphas = getattr(self, kind)
            if not alphas or not all(math.isfinite(alpha) and alpha >= 0 for alpha in alphas):
                raise RequestError(f"alphas of '{kind}' are one or more numbers from 0 on, not {alphas}")
            if list(alphas) != sorted(set(alphas)):
                raise RequestError(f"alphas of '{kind}' are given once each, the smallest first, not as {alphas}")
        if not 0 < self.held_out < 1:
            raise RequestError(f"the held-out share lies between 0 and 1, not at {self.held_out}")
        if not 0 < self.least_iou <= 1:
            raise RequestError(f"the least IoU is above 0 and at most 1, not {self.least_iou}")

    def measure(self, case: Case) -> Raw:
        """For each kind, the IoU with the object of each alpha's box; "whole", that of the whole photo's."""
        truth = [one.box for one in case.annotations() if one.box is not None and not one.crowd]
        if not truth:
            raise RequestError(f"{case.example.path.name}: no box of '{case.label}' is known (crowds do not count)")
        objects = torch.tensor(truth, dtype=torch.float64)
        height, width = case.view.file
        found: dict[str, list[float]] = {
            kind: _overlaps(boxes_at(case.heatmap, kind, getattr(self, kind)), objects, case.view) for kind in _KINDS
        }
        return {**found, _WHOLE: float(ious(torch.tensor([[0, 0, width, height]]), objects).max())}

    def quantities(self, raws: Sequence[Raw | None], labels: Sequence[str], seed: int) -> list[Quantity]:
        """The error by "value", "energy" and "mean": 1 where the object was not found; held-out cases do not count."""
        held = self._held(raws, seed)
        return [self._error(kind, raws, held) for kind in _KINDS]

    def _held(self, raws: Sequence[Raw | None], seed: int) -> list[bool]:
        """Which cases are held out: all of a photo or none, so that alpha is not chosen on what it is measured on."""
        photos = [str(i) if raw is None else str(raw.get("file", i)) for i, raw in enumerate(raws)]
        # In an order of their own, so that a photo that failed with one method moves few others.
        order = sorted(set(photos), key=lambda photo: hashlib.sha256(f"{seed} {photo}".encode()).digest())
        if len(order) == len(photos):
            return self.split(len(raws), seed)
        held = {photo for photo, is_held in zip(order, self.split(len(order), seed), strict=True) if is_held}
        return [photo in held for photo in photos]

    def split(self, count: int, seed: int) -> list[bool]:
        """Which of so many photos are held out."""
        some = min(max(round(self.held_out * count), 1), count - 1) if count > 1 else 0
        drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:some].tolist()
        held = [False] * count
        for i in drawn:
            held[i] = True
        return held

    def _error(self, kind: Kind, raws: Sequence[Raw | None], held: Sequence[bool]) -> Quantity:
        alphas: tuple[float, ...] = getattr(self, kind)
        chosen_on = [raw[kind] for raw, is_held in zip(raws, held, strict=True) if is_held and raw is not None]
        if not chosen_on:
            why = "no held-out case was measured, so that no alpha can be chosen: there is no error to report"
            return Quantity(kind, [None] * len(raws), "lower", notes=(why,))
        overlaps = torch.tensor(chosen_on, dtype=torch.float64)
        missed = (overlaps < self.least_iou).sum(0).tolist()
        best = min(range(len(alphas)), key=lambda i: (missed[i], -float(overlaps[:, i].mean()), i))
        values: list[float | None] = [
            None if raw is None or is_held else float(raw[kind][best] < self.least_iou)
            for raw, is_held in zip(raws, held, strict=True)
        ]
        counted = [raw for raw, value in zip(raws, values, strict=True) if raw is not None and value is not None]
        notes = [
            f"alpha = {alphas[best]:g}, chosen on {len(chosen_on)} held-out cases, where the error is "
            f"{missed[best] / len(chosen_on):.1%}"
        ]
        if len(alphas) > 1 and best in (0, len(alphas) - 1) and missed[best] < len(chosen_on):
            notes.append("this alpha is at the end of those that were tried")
        if counted:
            whole = sum(raw[_WHOLE] < self.least_iou for raw in counted) / len(counted)
            notes.append(f"the box of the whole photo has an error of {whole:.1%}")
        return Quantity(kind, values, "lower", notes=tuple(notes))


def _overlaps(boxes: Tensor, objects: Tensor, view: View) -> list[float]:
    """Of each box of what is shown, [A, 4], the largest IoU with an object of the file, [G, 4]."""
    brought = torch.tensor([in_file(tuple(box), view) for box in boxes.tolist()], dtype=torch.float64)
    return [float(overlap) for overlap in ious(brought, objects).amax(1)]


def in_file(box: Box, view: View) -> Box:
    """A shown box in whole pixels of the file: those whose centres lie in it, or the one nearest to its middle.

    As if the shown pixels had been resampled to the file's, each taking the nearest one.
    """
    left, top, right, bottom = view.file_box(box)
    height, width = view.file
    (left, right), (top, bottom) = _pixels(left, right, width), _pixels(top, bottom, height)
    return left, top, right, bottom


def _pixels(low: float, high: float, length: int) -> tuple[int, int]:
    # What is a whole number but for rounding is one.
    first, after = (min(max(math.ceil(round(end, 6) - 0.5), 0), length) for end in (low, high))
    if first < after:
        return first, after
    middle = min(max(math.floor((low + high) / 2), 0), length - 1)
    return middle, middle + 1
