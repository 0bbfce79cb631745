"""The learned mask: the smallest part of a photo without which, or with which alone, the answer changes, or stays.

Fong & Vedaldi 2017, "Interpretable Explanations of Black Boxes by Meaningful Perturbation" (paper 4, SPEC M1 to M8).
The mask is a parametrization, the games are objectives and regularizers, and the loop is the one of every other verb.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.circle import circular_masks
from preimage.explain.method import Found, Method, Question
from preimage.explain.perturbation import Perturbation, perturbed
from preimage.images import centre_crop
from preimage.network import Answering, Beyond, Place
from preimage.objectives import EachItsOwn, Label, Objective, WeightedSum, each_view
from preimage.optimization import Adam, Climb, Stage, climb
from preimage.parametrizations import MaskOver
from preimage.parametrizations.mask import Shows, grid
from preimage.priors import L1, Clip, TotalVariation
from preimage.result import number
from preimage.transforms import Window

Game = Literal["deletion", "preservation", "both"]
Start = Literal["circle", "random", "half", "zeros", "ones"]

_CELLS, _SMALLEST_CELL = 28, 4
_WEIGHTS = (1e-4, 1e-2)
"""lambda_1 and lambda_2 (SPEC M.2)."""
_AT_TAPS = {112: (5e-5, 1e-2), 56: (1e-4, 1e-2), 28: (1e-4, 1e-2), 14: (5e-3, 1e-2), 7: (1e-2, 1e-3)}
"""The same for maps of so many rows: those of VGG-16's five pooling layers (SPEC M.2)."""
_APART = 1_000_003
"""How far the seeds of random starts are from those of noise."""
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
        makes other pictures [N, C, H, W] out of photos.
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
    weights_for: int = _CELLS
    cells: int | None = None
    perturbation: Perturbation = "blur"
    blur: float = 10.0
    mask_blur: float = 5.0
    jitter: int = 4
    start: Start | Tensor = "circle"
    at: str | None = None
    again: bool = True
    anisotropic: bool = False
    gradient_through_blur: bool = True

    def __post_init__(self) -> None:
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
        plain = isinstance(self.perturbation, str) and self.perturbation in ("blur", "constant")
        if self.at is not None and (self.cells is not None or not plain):
            raise RequestError(
                "a mask at a tap has one cell for each position, and sets activations to zero: it takes no cells and "
                "no perturbation"
            )

    def steps(self) -> int:
        return self.iterations

    def explain(self, asked: Question) -> Found:
        run = _Run(self, asked)
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
        return run.found(best, notes, details, interrupted)

    def describe(self) -> dict[str, Any]:
        said = super().describe()
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


@dataclass
class _Learned:
    """Masks after a run. losses: what is to be as low as can be, [N], and begun, what it was at the start."""

    masks: Tensor
    losses: list[float]
    begun: list[float]
    traces: Tensor
    climb: Climb

    def failed(self, index: int, untouched: float) -> bool:
        """Whether a mask ended no better than none at all, worse than it began, or not finite."""
        return not (self.losses[index] < untouched and self.losses[index] <= self.begun[index])

    def take(self, index: int, other: _Learned, position: int) -> None:
        self.masks[index], self.losses[index] = other.masks[position], other.losses[position]
        self.begun[index] = other.begun[position]
        self.traces[:, index] = other.traces[:, position]


class _Run:
    """One batch at work."""

    def __init__(self, method: Mask, asked: Question, given: tuple[Tensor, Tensor] | None = None):
        """given: the perturbed photos, as they are and on the larger canvas, where they have been made already."""
        self._method, self._asked = method, asked
        network = asked.network
        self._network: Answering = network
        shows: dict[Game, Shows] = {"deletion": "kept", "preservation": "kept", "both": "both"}
        if method.at is not None:
            place = Place(network.tap(method.at).name, after_relu=True)
            with torch.no_grad():
                values = network.run(asked.photos, [place])[place]
            if values.ndim != 4:
                raise RequestError(f"'{method.at}' has no positions to lay a mask over")
            self._network = network.beyond(place.tap, asked.photos)
            seen = (values.shape[2], values.shape[3])
            self._photos, self._perturbed, cells, sigma = values, torch.zeros_like(values), seen, 0.0
            self._jitter: tuple[Window, ...] = ()
            self.plain_photos, self.plain_perturbed = self._photos, self._perturbed
        else:
            # Less than two pixels would move nothing.
            margin = max(2, round(asked.pixels(method.jitter))) if method.jitter > 1 else 0
            side = method.cells or max(1, min(_CELLS, min(asked.size) // _SMALLEST_CELL))
            seen, cells = asked.size, grid(asked.size, side)
            self.plain_photos = asked.photos
            sigma = asked.pixels(method.mask_blur)
            # One pixel less: the published offsets are 0 to 3 where the photo is 4 pixels larger.
            self._photos = asked.canvases(margin)[_shortened(margin)] if margin else self.plain_photos
            self.plain_perturbed, self._perturbed = self._perturb(margin) if given is None else given
            self._jitter = (Window(*seen),) if margin else ()
        self.parametrization = MaskOver(
            1,
            *cells,
            photos=self._photos,
            perturbed=self._perturbed,
            seen=seen,
            sigma=sigma,
            shows=shows[method.game],
            gradient_through_blur=method.gradient_through_blur,
        )
        self._plainly = replace(self.parametrization, photos=self.plain_photos, perturbed=self.plain_perturbed)
        self.notes: list[list[str]] = [[] for _ in range(len(asked))]
        self._objectives, self._factors = self._normalised()
        l1, tv = method.weights(cells)
        self.weights = {"l1": number(l1), "tv": number(tv)}
        self.regularizers = (
            L1(l1, centre=1.0 if method.game == "deletion" else 0.0),
            TotalVariation(tv, method.beta, anisotropic=method.anisotropic),
        )
        # What a mask has to beat: none at all.
        self.untouched = self.losses(torch.ones(len(asked), 1, *cells, device=self._photos.device))

    def some(self, rows: list[int]) -> _Run:
        """The same for some of the photos."""
        asked = self._asked
        few = replace(
            asked,
            pictures=tuple(asked.pictures[i] for i in rows),
            fitted=asked.photos[rows],
            objectives=tuple(asked.objectives[i] for i in rows),
            of=tuple(asked.of[i] for i in rows) if asked.of else (),
            seeds=tuple(asked.seeds[i] for i in rows),
            on_step=lambda _: None,
        )
        return _Run(self._method, few, (self.plain_perturbed[rows], self._perturbed[rows]))

    def _perturb(self, margin: int) -> tuple[Tensor, Tensor]:
        """The perturbed photos, as they are and on a canvas that is larger by `margin`, less one pixel."""
        asked, kind = self._asked, self._method.perturbation
        sigma = asked.pixels(self._method.blur)
        if not margin:
            plain = perturbed(self.plain_photos, kind, asked, sigma)
            return plain, plain
        if isinstance(kind, str) and kind == "blur":
            return perturbed(self.plain_photos, kind, asked, sigma), perturbed(self._photos, kind, asked, sigma)
        if isinstance(kind, str) and kind in ("constant", "noise"):
            # The same noise for both.
            made = perturbed(self._photos, kind, asked, sigma)
            return made[:, :, : asked.size[0], : asked.size[1]], made
        # A generator may take photos of one size only, and give other pictures each time.
        plain = perturbed(self.plain_photos, kind, asked, sigma)
        size = (asked.size[0] + margin, asked.size[1] + margin)
        resized = torch.stack([centre_crop(one, size) for one in plain])
        return plain, resized[_shortened(margin)]

    def starts(self, start: Start | Tensor) -> tuple[Tensor, list[dict[str, Any]]]:
        """Masks [N, 1, h, w] to start from, and what is to be said of each."""
        count, cells = len(self._asked), (self.parametrization.height, self.parametrization.width)
        nothing: list[dict[str, Any]] = [{} for _ in range(count)]
        if isinstance(start, Tensor):
            given = start.detach().float().to(self._photos)
            given = given[:, 0] if given.ndim == 4 and given.shape[1] == 1 else given
            of = self._asked.of or tuple(range(count))
            photos = self._asked.given if self._asked.of else count
            if given.ndim == 2:
                given = given.expand(photos, *given.shape)
            if given.shape != (photos, *cells):
                raise RequestError(
                    f"a mask to start from has shape {list(cells)} here, or [{photos}, {cells[0]}, {cells[1]}] for "
                    f"{photos} photos, not {list(start.shape)}"
                )
            masks = given[list(of), None]
            if not (masks.isfinite().all() and masks.min() >= 0 and masks.max() <= 1):
                raise RequestError("a mask to start from has values in [0, 1]")
            return masks, nothing
        if start == "circle":
            masks, radii = circular_masks(self._asked, self._plainly, self._few, self._method.game)
            return masks, [{"radius": radius} for radius in radii]
        if start == "random":
            generators = (torch.Generator().manual_seed(seed + _APART) for seed in self._asked.seeds)
            return torch.stack([torch.rand((1, *cells), generator=one) for one in generators]).to(self._photos), nothing
        constants = {"half": 0.5, "zeros": 0.0, "ones": 1.0}
        if start not in constants:
            raise RequestError(f"a mask starts from circle, random, {', '.join(constants)} or a tensor, not '{start}'")
        return torch.full((count, 1, *cells), constants[start], device=self._photos.device), nothing

    def learn(self, starts: Tensor) -> _Learned:
        """Climb from these masks."""
        stage = Stage(
            self._method.iterations,
            Adam(self._method.step_size),
            transforms=self._jitter,
            regularizers=self.regularizers,
            smooth_solution=Clip(0.0, 1.0),
        )
        reached = climb(
            self._network,
            self._objectives,
            self.parametrization,
            starts,
            [stage],
            torch.Generator().manual_seed(self._asked.views_seed),
            on_step=lambda: self._asked.on_step(1),
            # A photo whose score is not finite must not end the others' run; its loss tells.
            referee=lambda climbed: torch.ones(len(climbed.parameters), dtype=torch.bool),
        )
        begun, ended = self.losses(starts), self.losses(reached.parameters)
        trace = torch.stack(reached.trace).cpu() if reached.trace else torch.empty(0, len(starts))
        return _Learned(reached.parameters.clone(), ended, begun, trace / torch.tensor(self._factors), reached)

    def learn_from(self, start: Start) -> _Learned:
        """Climb from masks of this kind."""
        return self.learn(self.starts(start)[0])

    def lost_by_jitter(self, index: int) -> list[str]:
        """A note where a photo's answer does not survive the resampling that makes room for the jitter."""
        if not self._jitter:
            return []
        height, width = self._asked.size
        one = slice(index, index + 1)
        moved = self._photos[one, :, :height, :width]
        shown = torch.cat([self.plain_photos[one], self.plain_perturbed[one], moved])
        photo, other, there = self._few(index, shown).tolist()
        if not photo > other or there - other >= (photo - other) / 2:
            return []
        return ["resampling the photo by a few pixels, to jitter it, loses half of the answer or more; try jitter=0"]

    def found(self, best: _Learned, notes: list[list[str]], details: list[dict[str, Any]], interrupted: bool) -> Found:
        """What the masks say, at the photos' size."""
        asked, game = self._asked, self._method.game
        masks = self.parametrization.picture(best.masks)
        if masks.shape[2:] != asked.size:
            masks = F.interpolate(masks, asked.size, mode="nearest")
        masks = masks[:, 0].cpu()
        plain = EachItsOwn(asked.objectives)
        scores = {
            "photo": self._scores(self.plain_photos, plain),
            "perturbed": self._scores(self.plain_perturbed, plain),
        }
        shown = self._plainly.as_seen(best.masks, lambda images: images)
        if game == "both":
            scores |= {"kept": self._scores(shown[0::2], plain), "deleted": self._scores(shown[1::2], plain)}
        else:
            scores["masked"] = self._scores(shown, plain)
        heatmaps = 1 - masks if game == "deletion" else masks
        return Found(heatmaps, masks, scores, best.traces, notes, details, interrupted)

    @torch.no_grad()
    def losses(self, masks: Tensor) -> list[float]:
        """What masks [N, 1, h, w] cost, lower is better; of the photos as they are, without jitter."""
        shown = self._plainly.as_seen(masks, lambda images: images)
        total = -self._scores(shown, self._objectives)
        for one in self.regularizers:
            total = total + one.weight * one.energy(masks).cpu()
        return [float(loss) for loss in total]

    @torch.no_grad()
    def _scores(self, images: Tensor, asked: EachItsOwn) -> Tensor:
        return asked.score(self._network.run(images, asked.places())).cpu()

    def _few(self, index: int, images: Tensor) -> Tensor:
        """What photo `index` is asked of other images [M, C, H, W] (or activations): [M]."""
        asked = self._asked
        network = (
            self._network
            if self._method.at is None
            else Beyond(asked.network, self._method.at, asked.photos[index : index + 1])
        )
        one = asked.objectives[index]
        with torch.no_grad():
            return torch.cat([one.score(network.run(some, one.places())) for some in torch.split(images, asked.chunk)])

    def _normalised(self) -> tuple[EachItsOwn, list[float]]:
        """The game as an objective of each photo, and what it is of the score that was asked."""
        asked, sign = self._asked, -1.0 if self._method.game == "deletion" else 1.0
        plain = EachItsOwn(asked.objectives)
        photo, other = self._scores(self.plain_photos, plain), self._scores(self.plain_perturbed, plain)
        factors: list[float] = []
        members: list[Objective] = []
        for i, one in enumerate(asked.objectives):
            # The weights of equation 6 are meant for scores from 0 to 1.
            unit = 1.0 if is_probability(one) else abs(float(photo[i] - other[i]))
            if unit == 0:
                unit = 1.0
                self.notes[i].append("the answer is the same for the photo and for the perturbed one: nothing to find")
            if self._method.game == "both":
                members.append(2 / unit * each_view((one, -one)))
            else:
                members.append(one if sign == unit == 1 else sign / unit * one)
            factors.append(sign / unit)
        return EachItsOwn(tuple(members)), factors


def _shortened(margin: int) -> tuple[slice | EllipsisType, ...]:
    """The index that takes one pixel off a canvas on each axis, if there is a margin."""
    return (..., slice(-1), slice(-1)) if margin else (...,)


def is_probability(objective: Objective) -> bool:
    """Whether this is a class's probability, or a sum of several."""
    if isinstance(objective, WeightedSum):
        return all(weight == 1 and is_probability(term) for weight, term in objective.terms)
    return isinstance(objective, Label) and objective.kind == "prob"
