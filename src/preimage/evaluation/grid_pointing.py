"""Which of several photos is the class on? (Böhle, Fritz & Schiele 2021)"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from preimage.errors import RequestError
from preimage.evaluation.asked import Asked
from preimage.evaluation.data.example import Example
from preimage.evaluation.measure import Case, Measure, Quantity, Raw, plain


@dataclass(frozen=True)
class GridPointing(Measure):
    """How much of a heat map lies on the photo of the asked class, in a mosaic of photos of different classes.

    No boxes are needed: where the class is, is known. Every photo is asked about once, in a cell drawn at random,
    beside photos of other classes drawn at random; the mosaic has the size that the network is shown, so photos are
    smaller than by themselves. (Published mosaics are larger instead, for which ask for a larger `size`, and take only
    photos that the network is sure of.) Which photos stand beside it depends on all that are asked about.

    side: photos side by side, `side` x `side` of them.

    `localisation`: the share of the positive part of the map that lies in the right cell; 1 / side^2 is chance.
    `pointing`: whether its maximum (or the point that the method names) does.
    """

    name: ClassVar[str] = "grid-pointing"
    source: ClassVar[str] = "Böhle et al. 2021"

    side: int = 2

    def __post_init__(self) -> None:
        if self.side < 2:
            raise RequestError(f"a mosaic has at least 2 photos side by side, not {self.side}")

    def arrange(self, asked: Sequence[Asked], seed: int) -> list[Asked]:
        """Each photo amid others, none of its class, and no two of one class where there are classes enough."""
        # (What could not be read is asked about, to be counted, but must spoil no other mosaic.)
        readable = [one for one in asked if one.index >= 0]
        by_class: dict[int, list[Asked]] = defaultdict(list)
        holds: dict[Path, set[int | str]] = defaultdict(set)
        for one in readable:
            by_class[one.index].append(one)
            holds[one.example.path] |= {one.index, *one.example.labels}
        if len(by_class) <= 1:
            raise RequestError("mosaics take photos of at least two classes")
        random = np.random.default_rng(seed)
        count, classes, made = self.side**2 - 1, sorted(by_class), []
        for one in asked:
            taken = {one.index, *holds[one.example.path]}
            around: list[Example] = []
            for k in random.permutation(len(classes)):
                if len(around) == count:
                    break
                some = by_class[classes[k]]
                for j in random.permutation(len(some)):
                    if holds[some[j].example.path].isdisjoint(taken):
                        around.append(some[j].example)
                        taken |= holds[some[j].example.path]
                        break
            if len(around) < count:
                others = [other.example for other in readable if one.index not in holds[other.example.path]]
                if not others:
                    raise RequestError(f"mosaics take photos without the class '{one.label}', and there are none")
                around += [others[k] for k in random.integers(len(others), size=count - len(around))]
            cell = int(random.integers(count + 1))
            made.append(Asked((*around[:cell], one.example, *around[cell:]), one.label, one.index, cell))
        return made

    def measure(self, case: Case) -> Raw:
        n, (height, width) = self.side, (case.heatmap.shape[0], case.heatmap.shape[1])
        row, column = divmod(case.cell, n)
        inside = torch.zeros_like(case.heatmap, dtype=torch.bool)
        inside[height * row // n : height * (row + 1) // n, width * column // n : width * (column + 1) // n] = True
        positive = case.heatmap.double().clamp_min(0)
        total = float(positive.sum())
        if case.point is not None:
            hit = float(inside[case.point])
        else:
            # Of several maxima, each counts in part.
            hit = float(inside[case.heatmap == case.heatmap.max()].double().mean())
        # A map that marks nothing is as good as one that marks everything.
        share = float(positive[inside].sum()) / total if total > 0 else float(inside.double().mean())
        return {"localisation": share, "pointing": hit, "empty": total == 0}

    def quantities(self, raws: Sequence[Raw | None], labels: Sequence[str], seed: int) -> list[Quantity]:
        empty = sum(raw is not None and raw["empty"] for raw in raws)
        said = (f"{empty} maps without a positive value, counted as chance",) if empty else ()
        return [
            Quantity("localisation", plain(raws, "localisation"), notes=said),
            Quantity("pointing", plain(raws, "pointing")),
        ]
