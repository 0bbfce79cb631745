"""Does what a mask deletes count in general, or only for the perturbation it was made with? (SPEC M17)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch

from preimage.errors import RequestError
from preimage.evaluation.measure import Case, Measure, Quantity, Raw

Kind = Literal["blur", "constant", "noise"]
KINDS: tuple[Kind, ...] = get_args(Kind)
THRESHOLDS = tuple(i / 20 for i in range(20))
"""At which masks are cut (SPEC M17)."""
_ROUNDING = 1e-6
"""A fall of the answer that float32 cannot tell from none."""


@dataclass(frozen=True)
class Representativeness(Measure):
    """How much of the answer is left when what is important is blurred, made plain or made noise; lower is better.

    The mask, 1 where the photo is kept, is brought to [0, 1] and cut at each threshold a: everything goes where it is a
    or less. Of a heat map that is no mask, 1 - (h - min) / (max - min) is cut; for one made of a mask this is the mask.
    What is left of the answer s is (s - s_all) / (s_photo - s_all), cut to [0, 1], where s_all is the answer when all
    is perturbed. A region that matters takes the answer away under all three; an artefact only under its own.

    thresholds: each in [0, 1).

    A heat map that marks everything is at its best here: `deleted`, the mean share of the photo that goes, belongs to
    it. Constant heat maps mark nothing and do not count, nor do photos whose answer does not fall when all is
    perturbed.
    """

    name: ClassVar[str] = "representativeness"
    source: ClassVar[str] = "paper 4, supplement; SPEC M17"

    thresholds: tuple[float, ...] = THRESHOLDS

    def __post_init__(self) -> None:
        if not self.thresholds or not all(0 <= one < 1 for one in self.thresholds):
            raise RequestError(f"thresholds of a mask lie in [0, 1), not {list(self.thresholds)}")

    def measure(self, case: Case) -> Raw:
        heatmap = case.heatmap.double()
        if not heatmap.isfinite().all():
            raise RequestError("the heat map has values that are not finite")
        low, high = heatmap.min(), heatmap.max()
        if not low < high:
            return {"constant": True, "curves": dict.fromkeys(KINDS), "deleted": None}
        kept = (high - heatmap) / (high - low)
        gone = kept <= torch.tensor(self.thresholds, dtype=kept.dtype)[:, None, None]
        curves: dict[str, list[float] | None] = {}
        for kind in KINDS:
            other = case.without(kind)
            nothing = float(case.scores(other[None])[0])
            span = case.score - nothing
            if span <= _ROUNDING:
                curves[kind] = None
                continue
            shown = (torch.where(some[:, None], other, case.photo) for some in torch.split(gone, case.chunk))
            left = (torch.cat([case.scores(images) for images in shown]).double() - nothing) / span
            curves[kind] = left.clamp(0, 1).tolist()
        return {"constant": False, "curves": curves, "deleted": gone.double().mean((1, 2)).tolist()}

    def quantities(self, raws: Sequence[Raw | None], labels: Sequence[str], seed: int) -> list[Quantity]:
        constant = sum(raw is not None and raw["constant"] for raw in raws)
        said = [f"{constant} constant heat maps left out, which mark nothing"] if constant else []
        out = []
        for kind in KINDS:
            curves = [None if raw is None else raw["curves"][kind] for raw in raws]
            unmoved = sum(raw is not None and raw["curves"][kind] is None for raw in raws) - constant
            notes = [f"{unmoved} photos left out whose answer does not fall under {kind}"] if unmoved else []
            out.append(Quantity(f"left under {kind}", [_mean(one) for one in curves], "lower", notes=(*said, *notes)))
        deleted = [None if raw is None else raw["deleted"] for raw in raws]
        out.append(Quantity("deleted", [_mean(one) for one in deleted], None, notes=tuple(said)))
        return out


def mean_curve(raws: Sequence[Raw | None], kind: Kind) -> list[float]:
    """What is left at each threshold, the mean over all cases that count, as SPEC M17 plots it; empty if none does."""
    curves = [raw["curves"][kind] for raw in raws if raw is not None and raw["curves"][kind] is not None]
    return torch.tensor(curves, dtype=torch.float64).mean(0).tolist() if curves else []


def _mean(curve: list[float] | None) -> float | None:
    return None if curve is None else sum(curve) / len(curve)
