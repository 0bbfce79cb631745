"""Does the answer fall by as much as the heat map says? (Bhatt, Weller & Moura 2020)"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.measure import Case, Measure, Quantity, Raw, plain

_ROUNDING = 1e-6
"""Numbers that lie closer together, of the largest, are equal as far as float32 can tell."""


@dataclass(frozen=True)
class Faithfulness(Measure):
    """Random parts of the photo are taken away: the correlation of what the heat map says of them with how much the
    answer falls, from -1 to 1; higher is better.

    Bhatt, Weller & Moura 2020, definition 3: Pearson's correlation, over random subsets S of the same size, of the sum
    of the heat map over S with f(x) - f(x without S). Their subsets are of single features. Ours are of square patches,
    as Samek et al. 2017 take away, because a network hardly sees a single pixel go.

    runs: how many subsets are drawn. share: of the patches that each takes away. patch: its side in pixels of a photo
        of 224, which is divided into 14 x 14; scaled for other sizes. perturbation: what is put there, constant is the
        network's mean colour.

    Only the differences of a heat map count here, and their sign does. Constant ones have no correlation and are left
    out, as are photos whose answer stays the same.
    """

    name: ClassVar[str] = "faithfulness"
    source: ClassVar[str] = "Bhatt, Weller & Moura 2020"

    runs: int = 100
    share: float = 0.2
    patch: float = 16.0
    perturbation: Literal["constant", "blur", "noise"] = "constant"

    def __post_init__(self) -> None:
        if self.runs < 3:
            raise RequestError(f"a correlation takes at least 3 runs, not {self.runs}")
        if not 0 < self.share < 1:
            raise RequestError(f"the share of the patches that goes lies between 0 and 1, not {self.share}")
        if not self.patch > 0:
            raise RequestError(f"patches have a side above zero, not {self.patch}")

    def measure(self, case: Case) -> Raw:
        if not case.heatmap.isfinite().all():
            raise RequestError("the heat map has values that are not finite")
        patches = patches_of(case.size, case.pixels(self.patch))
        count = int(patches.max()) + 1
        if count < 2:
            raise RequestError(f"patches of {self.patch:g} pixels leave only one on a photo; ask for smaller ones")
        taken = min(max(round(self.share * count), 1), count - 1)
        draws = torch.rand(self.runs, count, generator=torch.Generator().manual_seed(case.seed % 2**32))
        gone = torch.zeros(self.runs, count, dtype=torch.bool).scatter_(1, draws.argsort(1)[:, :taken], True)
        sums, answers = sums_and_answers(case, gone[:, patches], case.without(self.perturbation))
        return {
            "correlation": correlation(sums, answers),
            "constant": _equal(sums),
            "unmoved": _equal(answers),
            "patches": count,
            "taken": taken,
        }

    def quantities(self, raws: Sequence[Raw | None], labels: Sequence[str], seed: int) -> list[Quantity]:
        constant = sum(raw is not None and raw["constant"] for raw in raws)
        unmoved = sum(raw is not None and raw["unmoved"] and not raw["constant"] for raw in raws)
        notes = [f"{constant} constant heat maps left out, which have no correlation"] if constant else []
        notes += [f"{unmoved} photos left out whose answer stays the same, whatever goes"] if unmoved else []
        return [Quantity("correlation", plain(raws, "correlation"), notes=tuple(notes))]


def patches_of(size: tuple[int, int], side: float) -> Tensor:
    """The number of the patch that each pixel belongs to, int64 [H, W]: a grid.

    size: (H, W). side: of a patch in pixels, about; no less than one and no more than the photo. Where another up to a
        factor of sqrt(2) away divides the photo, it is taken: of patches of unlike sizes the larger ones count more.
    """
    cells = [_cells(length, side) for length in size]
    rows, columns = (torch.arange(length) * n // length for length, n in zip(size, cells, strict=True))
    return rows[:, None] * cells[1] + columns


def _cells(length: int, side: float) -> int:
    def factor(cells: int) -> float:
        return max(cells * side / length, length / (cells * side))

    nearest = min((n for n in range(1, length + 1) if length % n == 0), key=factor)
    return nearest if factor(nearest) <= math.sqrt(2) else min(max(round(length / side), 1), length)


def sums_and_answers(case: Case, gone: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """What the heat map says of each part, and what is answered without it: float64 [runs] both.

    gone: bool [runs, H, W], the pixels of each part. other: [C, H, W], what is put there.
    """
    sums, answers = [], []
    for some in torch.split(gone, case.chunk):
        sums.append(some.flatten(1).double() @ case.heatmap.flatten().double())
        answers.append(case.scores(torch.where(some[:, None], other, case.photo)))
    return torch.cat(sums), torch.cat(answers).double()


def correlation(sums: Tensor, answers: Tensor) -> float | None:
    """Pearson's, of the sums with how far the answers fall; None where one is always the same, up to rounding."""
    if _equal(sums) or _equal(answers):
        return None
    return float(np.corrcoef(sums.numpy(), -answers.numpy())[0, 1])


def _equal(values: Tensor) -> bool:
    return bool(values.max() - values.min() <= _ROUNDING * values.abs().max())
