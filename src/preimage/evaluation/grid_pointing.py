"""Which of several photos is the class on? (Böhle, Fritz & Schiele 2021)"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from preimage.errors import RequestError
from preimage.evaluation.asked import Asked
from preimage.evaluation.measure import Case, Measure, Quantity, Raw, plain


@dataclass(frozen=True)
class GridPointing(Measure):
    """How much of a heat map lies on the photo of the asked class, in a mosaic of photos of different classes.

    No boxes are needed: where the class is, is known. Every photo is asked about once, in a cell drawn at random,
    beside photos of other classes drawn at random; the mosaic has the size that the network is shown, so photos are
    smaller than by themselves (published mosaics are larger instead: ask for a larger `size`).

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
        by_class: dict[str, list[Asked]] = defaultdict(list)
        for one in asked:
            by_class[one.label].append(one)
        count = self.side**2 - 1
        if len(by_class) <= 1:
            raise RequestError("mosaics take photos of at least two classes")
        random = np.random.default_rng(seed)
        made = []
        for one in asked:
            # A photo may hold several classes; none of the others on a mosaic may hold the one that is asked.
            others = {
                label: [other for other in some if one.label not in other.example.labels]
                for label, some in by_class.items()
                if label != one.label
            }
            names = [label for label, some in others.items() if some]
            if not names:
                raise RequestError(f"mosaics take photos without the class '{one.label}', and there are none")
            which = random.choice(len(names), count, replace=len(names) < count)
            around = [others[names[i]][random.integers(len(others[names[i]]))].example for i in which]
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
        share = float(positive[inside].sum()) / total if total > 0 else None
        return {"localisation": share, "pointing": hit}

    def quantities(self, raws: Sequence[Raw | None], labels: Sequence[str], seed: int) -> list[Quantity]:
        values = plain(raws, "localisation")
        empty = sum(raw is not None and value is None for raw, value in zip(raws, values, strict=True))
        said = (f"{empty} maps without a positive value left out",) if empty else ()
        return [Quantity("localisation", values, notes=said), Quantity("pointing", plain(raws, "pointing"))]
