"""Extremal perturbations: of all masks that keep a given share of a photo, the one that keeps the answer best.

Fong, Patrick & Vedaldi 2019, "Understanding Deep Networks via Extremal Perturbations and Smooth Masks". What paper 4
balances by weights (how large the mask is, how smooth) is fixed here beforehand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from preimage.errors import RequestError
from preimage.explain.method import Found, Method, Question
from preimage.objectives import EachItsOwn, Label, Objective
from preimage.optimization import Momentum, Stage, climb
from preimage.parametrizations.smooth_mask import SmoothMaskOver, blur_pyramid
from preimage.priors import Clip
from preimage.priors.regularizers import Area
from preimage.transforms import Flip

_GROWTH, _PIECE = 1.0035, 20
_LIKE_LOGITS = 10.0
"""Other scores are scaled to differ by this much between the photo and the blurred one, as a class's logit does."""


@dataclass(frozen=True)
class Extremal(Method):
    """A smooth mask of a given area, learned so that what it keeps holds the answer best.

    areas: shares of the photo to keep; of several, the mask of each is learned, and the heat map is their mean.
    iterations, step_size: of gradient ascent with momentum 0.9 (a step of 0.01 with dampening in the published code).
    weight: of the area constraint, |sorted m - (0 ... 0 1 ... 1)|^2 as a mean over the pixels; it grows by 0.35 % a
        step, here every 20 steps. levels, blur: of the pyramid, from sigma = `blur` down to the photo itself.
    step, sigma: of the mask's cells and discs; like `blur` in pixels of a photo of 224, scaled for others.
    flip: show the network every other picture mirrored, at random. The area is that of the mask with its margin around
        the photo, as in the published code: discs at the border are as dear as others.

    The published code counts the area on a mask with a margin around the photo; here it is the photo's own.
    """

    name: ClassVar[str] = "extremal"
    source: ClassVar[str] = "Fong et al. 2019"

    areas: tuple[float, ...] = (0.1,)
    iterations: int = 800
    step_size: float = 0.001
    weight: float = 300.0
    levels: int = 8
    blur: float = 20.0
    step: float = 7.0
    sigma: float = 21.0
    flip: bool = True

    def __post_init__(self) -> None:
        if not self.areas or not all(0 < area < 1 for area in self.areas):
            raise RequestError(f"areas are shares of the photo between 0 and 1, not {list(self.areas)}")
        if self.iterations < 1 or self.levels < 2:
            raise RequestError("extremal perturbations take at least 1 iteration and 2 levels")

    def steps(self) -> int:
        return self.iterations * len(self.areas)

    def explain(self, asked: Question) -> Found:
        network, count = asked.network, len(asked)
        sigmas = [asked.pixels(self.blur) * (1 - i / (self.levels - 1)) for i in range(self.levels)]
        pyramid = blur_pyramid(asked.photos, sigmas)
        parametrization = SmoothMaskOver(
            1,
            *asked.size,
            pyramid=pyramid,
            step=max(1, round(asked.pixels(self.step))),
            sigma=asked.pixels(self.sigma),
        )
        plain = asked.together()
        with torch.no_grad():
            photo, blurred = (plain.score(network.run(one, plain.places())) for one in (pyramid[:, -1], pyramid[:, 0]))
        objective = EachItsOwn(
            tuple(_scaled(one, float(a - b)) for one, a, b in zip(asked.objectives, photo, blurred, strict=True))
        )
        masks, kept, interrupted = [], [], False
        for area in self.areas:
            reached = climb(
                network,
                objective,
                parametrization,
                torch.ones(count, *parametrization.shape, device=pyramid.device),
                self._stages(area),
                torch.Generator().manual_seed(asked.seeds[0]),
                on_step=lambda: asked.on_step(1),
            )
            with torch.no_grad():
                seen = parametrization.as_seen(reached.images(), lambda images: images)
                kept.append(plain.score(network.run(seen, plain.places())))
            masks.append(reached.pictures()[:, 0])
            interrupted = reached.interrupted
            if interrupted:
                break
        mask = torch.stack(masks).mean(0).clamp(0, 1)
        scores = {"photo": photo, "perturbed": blurred}
        scores |= {
            "masked" if len(self.areas) == 1 else f"kept {area:g}": s for area, s in zip(self.areas, kept, strict=False)
        }
        return Found(mask, mask, scores, interrupted=interrupted)

    def _stages(self, area: float) -> list[Stage]:
        stages = []
        for first in range(0, self.iterations, _PIECE):
            stages.append(
                Stage(
                    min(_PIECE, self.iterations - first),
                    Momentum(self.step_size, 0.9) if first == 0 else None,
                    transforms=(Flip(),) if self.flip else (),
                    regularizers=(Area(self.weight * _GROWTH**first, area),),
                    smooth_solution=Clip(0.0, 1.0),
                )
            )
        return stages


def _scaled(objective: Objective, falls: float) -> Objective:
    if isinstance(objective, Label) and objective.kind == "logit":
        return objective
    if not (math.isfinite(falls) and falls != 0):
        raise RequestError(f"{objective} is the same for the photo and for the blurred one; there is no part to find")
    return _LIKE_LOGITS / abs(falls) * objective
