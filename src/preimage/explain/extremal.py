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
"""Scores other than logits, and weaker logits, are scaled to fall by so much from the photo to the blurred one."""


@dataclass(frozen=True)
class Extremal(Method):
    """A smooth mask of a given area, learned so that what it keeps holds the answer best.

    areas: shares to keep, of the mask with its margin of `sigma` pixels around the photo, so that discs at the border
        are as dear as others (0.1 of it is up to 0.14 of a photo of 224); of several, the mask of each is learned, and
        the heat map is their mean.
    iterations, step_size: of gradient ascent with momentum 0.9 (0.01 with dampening 0.9 in the published code, which
        is the same but for its first step).
    weight: of the area constraint, |sorted m - (0 ... 0 1 ... 1)|^2 as a mean over the pixels; it grows by 0.35 % a
        step, here every 20 steps. levels, blur: of the pyramid, from sigma = `blur` down to the photo itself.
    step, sigma: of the mask's cells and discs; like `blur` in pixels of a photo of 224, scaled for others.
    flip: show the network mirrored pictures, each time with probability 1/2.
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
        if not isinstance(self.areas, tuple):
            object.__setattr__(self, "areas", tuple(self.areas) if isinstance(self.areas, list) else (self.areas,))
        if not self.areas or not all(isinstance(area, float) and 0 < area < 1 for area in self.areas):
            raise RequestError(f"areas are shares of the photo between 0 and 1, not {list(self.areas)}")
        if self.iterations < 1 or self.levels < 2:
            raise RequestError("extremal perturbations take at least 1 iteration and 2 levels")
        for what in ("step_size", "weight", "blur", "step", "sigma"):
            if not 0 < getattr(self, what) < math.inf:
                raise RequestError(f"extremal perturbations take a {what} above zero, not {getattr(self, what)}")

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
        falls = (photo - blurred).tolist()
        objective = EachItsOwn(tuple(_scaled(one, fall) for one, fall in zip(asked.objectives, falls, strict=True)))
        same = "the answer is the same for the photo and for the blurred one: nothing to find"
        notes = [[same] if fall == 0 else [] for fall in falls]
        masks, kept, interrupted = [], [], False
        for area in self.areas:
            reached = climb(
                network,
                objective,
                parametrization,
                torch.ones(count, *parametrization.shape, device=pyramid.device),
                self._stages(area),
                torch.Generator().manual_seed(asked.views_seed),
                on_step=lambda: asked.on_step(1),
                # A photo whose score is not finite must not end the others' run.
                referee=lambda climbed: torch.ones(len(climbed.parameters), dtype=torch.bool),
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
        return Found(mask, mask, scores, notes=notes, interrupted=interrupted)

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
    """Scores that fall by less than a class's logit usually does are scaled to; else the area is all that counts."""
    is_logit = isinstance(objective, Label) and objective.kind == "logit"
    if falls == 0 or not math.isfinite(falls) or (is_logit and abs(falls) >= _LIKE_LOGITS):
        return objective
    return _LIKE_LOGITS / abs(falls) * objective
