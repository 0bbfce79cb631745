"""How small a box is enough to take the answer away (paper 4, section 5.3; SPEC M18)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from preimage.errors import RequestError
from preimage.evaluation.boxes import boxes_at
from preimage.evaluation.measure import Case, Measure, Quantity, Raw

ALPHAS = tuple(i / 100 for i in range(100))
"""The thresholds at which heat maps are cut (SPEC M18)."""


@dataclass(frozen=True)
class DeletionGame(Measure):
    """The area of the tightest box of a heat map whose blurring takes most of the answer away; lower is better.

    The heat map is cut at each of 100 thresholds (h - min < alpha (max - min) goes), the tightest box of what remains
    is blurred, and of the normalised answer, (s - s_blurred) / (s_photo - s_blurred), no more may be left than a given
    share. The box of the last alpha that satisfies this counts. Boxes only shrink as alpha grows, so it is the
    smallest too (SPEC M.5-15). Areas are shares of the photo; paper 4's are pixels of 224 x 224, 50176 times as much.

    suppressed: shares of the answer that have to go.

    What is 0 never remains, so that not every heat map has a box around all of the photo, and it may be that none of
    its boxes is enough. The published code leaves such photos out, which flatters the method that they are hard for
    (SPEC M.5-15). Here the whole photo counts as its box, and `notes` says how many these are and what the mean is
    without them. Photos whose answer does not fall when all is blurred are left out, for every method alike.
    """

    name: ClassVar[str] = "deletion-game"
    source: ClassVar[str] = "paper 4, section 5.3"

    suppressed: tuple[float, ...] = (0.8, 0.9, 0.95, 0.99)

    def __post_init__(self) -> None:
        if not self.suppressed or not all(0 < share <= 1 for share in self.suppressed):
            raise RequestError(
                f"what has to go is a share of the answer, above 0 and at most 1, not {list(self.suppressed)}"
            )

    def measure(self, case: Case) -> Raw:
        blurred = case.without("blur")
        nothing = float(case.scores(blurred[None])[0])
        span = case.score - nothing
        if not span > 0:
            return {"falls": False, "areas": [None] * len(self.suppressed)}
        height, width = case.size
        # Cut at many thresholds, a heat map often has the same box; the last alpha of each is what counts.
        boxes = list(dict.fromkeys(tuple(map(int, box)) for box in boxes_at(case.heatmap, "value", ALPHAS)))[::-1]
        areas: list[float | None] = [None] * len(self.suppressed)
        # From the smallest on; where most is suppressed, less is too, so that the rest need not be looked at.
        for first in range(0, len(boxes), case.chunk):
            some = boxes[first : first + case.chunk]
            images = case.photo.expand(len(some), *case.photo.shape).clone()
            for image, (left, top, right, bottom) in zip(images, some, strict=True):
                image[:, top:bottom, left:right] = blurred[:, top:bottom, left:right]
            left_over = (case.scores(images) - nothing) / span
            for (left, top, right, bottom), share in zip(some, left_over.tolist(), strict=True):
                for i, wanted in enumerate(self.suppressed):
                    if areas[i] is None and share <= 1 - wanted + 1e-9:
                        areas[i] = (right - left) * (bottom - top) / (height * width)
            if None not in areas:
                break
        return {"falls": True, "areas": areas}

    def quantities(self, raws: Sequence[Raw | None], labels: Sequence[str], seed: int) -> list[Quantity]:
        out = []
        for i, wanted in enumerate(self.suppressed):
            counting = [raw for raw in raws if raw is not None and raw["falls"]]
            found = [raw["areas"][i] for raw in counting if raw["areas"][i] is not None]
            notes = []
            if len(found) < len(counting):
                mean = f"{sum(found) / len(found):.3f}" if found else "nothing"
                notes.append(f"no box was enough for {len(counting) - len(found)} photos; without them {mean}")
            still = sum(raw is not None and not raw["falls"] for raw in raws)
            if still:
                notes.append(f"{still} photos left out whose answer does not fall when everything is blurred")
            values = [
                None if raw is None or not raw["falls"] else 1.0 if raw["areas"][i] is None else raw["areas"][i]
                for raw in raws
            ]
            out.append(Quantity(f"{100 * wanted:.10g}%", values, "lower", notes=tuple(notes)))
        return out
