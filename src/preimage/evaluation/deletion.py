"""The answer while the most important pixels go (Petsiuk, Das & Saenko 2018; SPEC M17)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.curves import SHARES, answers_along, area_under
from preimage.evaluation.measure import Better, Case, Measure, Quantity, Raw, plain
from preimage.explain.explaining import LEAST_PROBABILITY
from preimage.network import Network
from preimage.objectives import Objective
from preimage.priors import Gaussian

_SIGMA = 10 / 224
"""Of the blur, as a share of the photo's shorter side (paper 4; SPEC M.2, M.5-4)."""
_BATCH = 16


@dataclass(frozen=True)
class Deletion(Measure):
    """The area under the class's probability while the most important pixels are taken away; lower is better.

    steps: into which the pixels are divided. perturbation: what takes their place; published is a constant colour,
        and as many steps as a photo has rows.

    `relative`: the same, of the photo's own probability, so that sure and unsure answers weigh alike; photos to whose
    class the network gives less than a thousandth are left out there.
    """

    name: ClassVar[str] = "deletion"
    source: ClassVar[str] = "Petsiuk et al. 2018"

    steps: int = 20
    perturbation: Literal["constant", "blur", "noise"] = "constant"

    def __post_init__(self) -> None:
        check_curve(self.steps, self.perturbation)

    def measure(self, case: Case) -> Raw:
        shares = [i / self.steps for i in range(self.steps + 1)]
        curve = answers_along(case.scores, case.photo, case.without(self.perturbation), case.heatmap, shares)
        return {"curve": curve.tolist(), "area": area_under(curve, shares), "photo": case.score}

    def quantities(self, raws: Sequence[Raw | None], labels: Sequence[str], seed: int) -> list[Quantity]:
        return areas(raws, "lower")


def areas(raws: Sequence[Raw | None], better: Better) -> list[Quantity]:
    """The area under each curve, and the same of the photo's own answer."""
    found = plain(raws, "area")
    photos = plain(raws, "photo")
    faint = sum(photo is not None and photo < LEAST_PROBABILITY for photo in photos)
    relative = [
        None if area is None or photo is None or photo < LEAST_PROBABILITY else area / photo
        for area, photo in zip(found, photos, strict=True)
    ]
    notes = (f"{faint} photos left out whose class has a probability below {LEAST_PROBABILITY}",) if faint else ()
    return [Quantity("area", found, better), Quantity("relative", relative, better, notes=notes)]


def check_curve(steps: int, perturbation: str) -> None:
    """Raises `RequestError` for less than one step, and for an unknown perturbation."""
    if perturbation not in ("constant", "blur", "noise"):
        raise RequestError(f"a perturbation is blur, constant or noise, not '{perturbation}'")
    if steps < 1:
        raise RequestError(f"a curve takes at least 1 step, not {steps}")


def deletion_curve(
    network: Network,
    photos: Tensor,
    heatmaps: Tensor,
    objectives: Sequence[Objective],
    shares: Sequence[float] = SHARES,
) -> Tensor:
    """What the network answers while more and more of each photo is blurred, the most important pixels first.

    photos: float32 [N, C, H, W] in [0, 1]. heatmaps: [N, H, W], larger is more important; of equal ones, those further
        up and left go first. objectives: one for each photo, bound; `label(..., "prob")` for probabilities.
    shares: of the pixels to blur, each between 0 and 1.
    Returns scores, float32 [N, len(shares)].

    Raises `RequestError` for shapes that do not fit together, and for heat maps that are not finite.
    """
    if photos.ndim != 4 or heatmaps.shape != (len(photos), *photos.shape[2:]) or len(objectives) != len(photos):
        raise RequestError(
            f"photos {list(photos.shape)}, heat maps {list(heatmaps.shape)} and {len(objectives)} objectives do not "
            "fit together; they are [N, C, H, W], [N, H, W] and N"
        )
    photos, heatmaps = photos.cpu(), heatmaps.cpu()
    blurred = Gaussian(sigma=_SIGMA * min(photos.shape[2:]))(photos)
    out = []
    with torch.no_grad(), network.held():
        for i, objective in enumerate(objectives):

            def scores(images: Tensor, asked: Objective = objective) -> Tensor:
                parts = torch.split(images, _BATCH)
                return torch.cat(
                    [asked.score(network.run(some.to(network.device), asked.places())).cpu() for some in parts]
                )

            out.append(answers_along(scores, photos[i], blurred[i], heatmaps[i], shares))
    return torch.stack(out) if out else torch.empty(0, len(shares))
