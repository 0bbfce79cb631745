"""The answer while the most important pixels come back (Petsiuk, Das & Saenko 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from preimage.evaluation.curves import answers_along, area_under
from preimage.evaluation.deletion import areas, check_curve
from preimage.evaluation.measure import Case, Measure, Quantity, Raw


@dataclass(frozen=True)
class Insertion(Measure):
    """The area under the class's probability while the most important pixels are put into a blurred photo; higher is
    better.

    steps: into which the pixels are divided. perturbation: what they are put into; published is a blurred photo (here
        with paper 4's sigma, 10 pixels of 224, where RISE has 5), and as many steps as a photo has rows.

    `relative`: the same, of the photo's own probability.
    """

    name: ClassVar[str] = "insertion"
    source: ClassVar[str] = "Petsiuk et al. 2018"

    steps: int = 20
    perturbation: Literal["constant", "blur", "noise"] = "blur"

    def __post_init__(self) -> None:
        check_curve(self.steps, self.perturbation)

    def measure(self, case: Case) -> Raw:
        shares = [i / self.steps for i in range(self.steps + 1)]
        curve = answers_along(case.scores, case.without(self.perturbation), case.photo, case.heatmap, shares)
        return {"curve": curve.tolist(), "area": area_under(curve, shares), "photo": case.score}

    def quantities(self, raws: Sequence[Raw | None], labels: Sequence[str], seed: int) -> list[Quantity]:
        return areas(raws, "higher")
