"""Does the heat map stay the same where the photo hardly changes? (Yeh et al. 2019)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from preimage.errors import RequestError
from preimage.evaluation.measure import Case, Measure, Quantity, Raw


@dataclass(frozen=True)
class Sensitivity(Measure):
    """The largest change of the heat map among photos so near that one sees no difference; lower is better.

    Yeh et al. 2019, definition 2 (max-sensitivity), estimated as they do by drawing: the largest of
    |h(x + d) - h(x)| / |h(x)| in the Euclidean norm, d uniform in [-radius, radius] for each pixel and channel, and
    x + d cut to [0, 1]. The division makes it comparable between methods, whose heat maps have scales of their own.

    samples: how many d are drawn. The largest of more is larger: compare only what has the same number.
    radius: on the scale of [0, 1], the default 5 of 255 grey levels.

    Methods that draw noise of their own draw the same for each photo. A heat map that is always the same is at its best
    here (Yeh et al. say so too); `notes` counts those. Heat maps that are zero everywhere do not count.
    """

    name: ClassVar[str] = "sensitivity"
    source: ClassVar[str] = "Yeh et al. 2019"

    samples: int = 4
    radius: float = 0.02

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise RequestError(f"sensitivity takes at least one sample, not {self.samples}")
        if not 0 < self.radius <= 1:
            raise RequestError(f"the radius of the noise lies between 0 and 1, not {self.radius}")

    def measure(self, case: Case) -> Raw:
        heatmap = case.heatmap.double()
        size = float(heatmap.norm())
        if size == 0:
            return {"changes": None}
        generator = torch.Generator().manual_seed(case.seed % 2**32)
        noise = torch.rand(self.samples, *case.photo.shape, generator=generator) * 2 - 1
        found = case.again((case.photo + self.radius * noise).clamp(0, 1), None).double().cpu()
        changes = (found - heatmap).flatten(1).norm(dim=1) / size
        if not changes.isfinite().all():
            raise RequestError("the heat map has values that are not finite")
        return {"changes": changes.tolist()}

    def quantities(self, raws: Sequence[Raw | None], labels: Sequence[str], seed: int) -> list[Quantity]:
        changes = [None if raw is None else raw["changes"] for raw in raws]
        largest = [None if one is None else max(one) for one in changes]
        zero = sum(raw is not None and raw["changes"] is None for raw in raws)
        same = sum(one == 0 for one in largest)
        notes = [f"{zero} heat maps left out that are zero everywhere"] if zero else []
        notes += [f"{same} heat maps do not depend on the photo at all, which is no merit"] if same else []
        return [Quantity("largest change", largest, "lower", notes=tuple(notes))]
