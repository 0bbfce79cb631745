"""The learned mask: the smallest part of a photo without which, or with which alone, the answer changes, or stays.

Fong & Vedaldi 2017, "Interpretable Explanations of Black Boxes by Meaningful Perturbation" (paper 4, SPEC M1 to M8).
The mask is a parametrization, the games are objectives and regularizers, and the loop is the one of every other verb.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.filling import Filling, as_filling
from preimage.explain.learning import CELLS, Learned, MaskRun
from preimage.explain.method import Found, Method, Question
from preimage.explain.perturbation import Perturbation
from preimage.result import number
from preimage.sample.prior import Prior

Game = Literal["deletion", "preservation", "both"]
Start = Literal["circle", "random", "half", "zeros", "ones"]

_WEIGHTS = (1e-4, 1e-2)
"""lambda_1 and lambda_2 (SPEC M.2)."""
_AT_TAPS = {112: (5e-5, 1e-2), 56: (1e-4, 1e-2), 28: (1e-4, 1e-2), 14: (5e-3, 1e-2), 7: (1e-2, 1e-3)}
"""The same for maps of so many rows: those of VGG-16's five pooling layers (SPEC M.2)."""
_AGAIN: tuple[Start, ...] = ("half", "random")
"""What a run that did not converge starts from again, in turn."""


@dataclass(frozen=True)
class Mask(Method):
    """A mask learned so that the answer vanishes while as little as possible is blurred away.

    game: "deletion" (paper 4, equation 6; SPEC M1): perturb as little as possible so that the answer vanishes.
        "preservation" (supplement, equation 1; M2): keep as little as possible so that it stays. "both" at once: what
        is kept is to hold the answer, and the rest alone is not to; one mask, two pictures.
    iterations, step_size: of Adam (SPEC M.2). l1, tv, beta: lambda_1, lambda_2 and beta of equation 6. The weights are
        for a mask of `weights_for` x `weights_for` cells; on other grids the same mask costs the same (SPEC M.6).
        Default: 1e-4 and 1e-2; at a tap those published for the layer of VGG-16 with the most similar map.
    cells: along the shorter side; default: 28, or fewer where a cell would be smaller than 4 pixels.
    perturbation: "blur", "constant" (the network's mean colour), "noise" (SPEC M4); or a picture; or a function that
        makes other pictures [N, C, H, W] out of photos; or a prior (a `Prior`, its file, or `cifar10`), or a `Filling`
        with settings of its own: then what is removed is filled in by inpainting.
    blur, mask_blur, jitter: sigma_0 of the blurred photo, sigma_m of the mask, and by how many pixels less one each
        step may move the photo under the mask; in pixels for photos of 224 (SPEC M.5-4), scaled for others, on which
        the jitter is one pixel at least.
    start: "circle" (supplement, section 2; see `circular_masks`), "random", "half", "zeros", "ones" (SPEC M5), or a
        tensor [h, w], or [photos, h, w] with one for each photo.
    at: a tap, whose activations are masked instead of the photo's pixels (SPEC M7): one cell for each position, whose
        channels all become zero where the mask is, without blur and jitter, and with weights that are not scaled.
    again: start runs that fail again from another mask. A run fails that ends no better than with no mask at all, worse
        than it began, or not finite (SPEC M.5-18); `notes` says so. Of all runs the best is kept.
    anisotropic, gradient_through_blur: see `TotalVariation` and `MaskOver`.
    """

    name: ClassVar[str] = "mask"
    source: ClassVar[str] = "paper 4, equation 6"
    asks_probabilities: ClassVar[bool] = True

    game: Game = "deletion"
    iterations: int = 300
    step_size: float = 0.1
    l1: float | None = None
    tv: float | None = None
    beta: float = 3.0
    weights_for: int = CELLS
    cells: int | None = None
    perturbation: Perturbation | Prior | Filling = "blur"
    blur: float = 10.0
    mask_blur: float = 5.0
    jitter: int = 4
    start: Start | Tensor = "circle"
    at: str | None = None
    again: bool = True
    anisotropic: bool = False
    gradient_through_blur: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "perturbation", as_filling(self.perturbation))
        for what in ("iterations", "cells", "weights_for"):
            given = getattr(self, what)
            if given is not None and (type(given) is not int or given < 1):
                raise RequestError(f"a mask has {what} of 1 or more, in whole numbers, not {given}")
        for what in ("step_size", "beta", "blur"):
            if not 0 < getattr(self, what) < math.inf:
                raise RequestError(f"a mask has a {what} above zero, not {getattr(self, what)}")
        for what in ("l1", "tv", "mask_blur", "jitter"):
            if getattr(self, what) is not None and not 0 <= getattr(self, what) < math.inf:
                raise RequestError(f"a mask has a {what} of zero or more, not {getattr(self, what)}")
        if self.game not in ("deletion", "preservation", "both"):
            raise RequestError(f"a game is 'deletion', 'preservation' or 'both', not '{self.game}'")
        if isinstance(self.perturbation, Filling) and self.game != "deletion":
            # (of what is kept, a filled picture is the photo itself, so that to keep less of it would cost nothing)
            raise RequestError(f"a prior fills in what is deleted: play the game 'deletion', not '{self.game}'")
        plain = isinstance(self.perturbation, str) and self.perturbation in ("blur", "constant")
        if self.at is not None and (self.cells is not None or not plain):
            raise RequestError(
                "a mask at a tap has one cell for each position, and sets activations to zero: it takes no cells and "
                "no perturbation"
            )

    def steps(self) -> int:
        return self.iterations * (1 + self.perturbation.rounds if isinstance(self.perturbation, Filling) else 1)

    def explain(self, asked: Question) -> Found:
        if isinstance(self.perturbation, Filling):
            return self.perturbation.explain(self, asked)
        run, best, notes, details = self.learn(asked)
        return run.found(best, notes, details, best.climb.interrupted)

    def learn(self, asked: Question) -> tuple[MaskRun, Learned, list[list[str]], list[dict[str, Any]]]:
        """The best mask of each photo, what it was learned with, and what is to be said of it."""
        run = MaskRun(self, asked)
        starts, details = run.starts(self.start)
        best = run.learn(starts)
        notes = run.notes
        interrupted = best.climb.interrupted
        for start in () if isinstance(self.start, Tensor) or not self.again else _AGAIN:
            failed = [i for i in range(len(asked)) if best.failed(i, run.untouched[i])]
            if interrupted or not failed or start == self.start:
                continue
            for i in failed:
                notes[i].extend(run.lost_by_jitter(i) if not notes[i] else [])
            other = run.some(failed).learn_from(start)
            interrupted = other.climb.interrupted
            for position, i in enumerate([] if interrupted else failed):
                notes[i].append(f"the mask did not converge; started again from '{start}'")
                if not best.losses[i] <= other.losses[position]:
                    best.take(i, other, position)
        for i, loss in enumerate(best.losses):
            if not loss < run.untouched[i]:
                notes[i].append("no mask was found that does better than none: do not read it")
            details[i] |= {"loss": number(loss), "loss without a mask": number(run.untouched[i]), **run.weights}
        best.climb.interrupted = interrupted
        return run, best, notes, details

    def describe(self) -> dict[str, Any]:
        said = super().describe()
        if isinstance(self.perturbation, Filling):
            return {**said, "perturbation": str(self.perturbation), "filling": self.perturbation.describe()}
        # What is not there is not said.
        return said if self.at is None else {**said, "perturbation": "constant", "jitter": 0, "mask_blur": 0.0}

    def weights(self, cells: tuple[int, int]) -> tuple[float, float]:
        """lambda_1 and lambda_2 for a mask of (height, width) cells."""
        if self.at is None:
            own, share = _WEIGHTS, cells[0] * cells[1] / self.weights_for**2
        else:
            # As maps get smaller, lambda_1 has to grow and lambda_2 to fall (supplement, section 6.4).
            own, share = min(_AT_TAPS.items(), key=lambda row: abs(math.log(row[0] ** 2 / (cells[0] * cells[1]))))[1], 1
        l1, tv = (given if given is not None else own for given, own in zip((self.l1, self.tv), own, strict=True))
        return l1 / share, tv * share ** (self.beta / 2 - 1)


@dataclass(frozen=True)
class PreservingMask(Mask):
    """A mask learned so that the answer stays while as little as possible is kept."""

    name: ClassVar[str] = "mask-preserve"
    source: ClassVar[str] = "paper 4, supplement, equation 1"
    game: Game = "preservation"


@dataclass(frozen=True)
class HybridMask(Mask):
    """A mask learned so that what is kept holds the answer, and the rest alone does not."""

    name: ClassVar[str] = "mask-both"
    source: ClassVar[str] = "paper 4, equation 6 and supplement, equation 1, at once"
    game: Game = "both"
