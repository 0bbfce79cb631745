"""One batch of photos while their masks are learned: what they start from, the climb, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import EllipsisType
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.circle import circular_masks
from preimage.explain.method import Found, Question
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

if TYPE_CHECKING:
    from preimage.explain.mask import Game, Mask, Start

CELLS, _SMALLEST_CELL = 28, 4
_APART = 1_000_003
"""How far the seeds of random starts are from those of noise."""


@dataclass
class Learned:
    """Masks after a run. losses: what is to be as low as can be, [N], and begun, what it was at the start."""

    masks: Tensor
    losses: list[float]
    begun: list[float]
    traces: Tensor
    climb: Climb

    def failed(self, index: int, untouched: float) -> bool:
        """Whether a mask ended no better than none at all, worse than it began, or not finite."""
        return not (self.losses[index] < untouched and self.losses[index] <= self.begun[index])

    def take(self, index: int, other: Learned, position: int) -> None:
        self.masks[index], self.losses[index] = other.masks[position], other.losses[position]
        self.begun[index] = other.begun[position]
        self.traces[:, index] = other.traces[:, position]


class MaskRun:
    """One batch at work."""

    def __init__(
        self,
        method: Mask,
        asked: Question,
        given: tuple[Tensor, Tensor] | None = None,
        factors: list[float] | None = None,
    ):
        """given: the perturbed photos, as they are and on the larger canvas, where they have been made already; several
        for each photo are [N * K, C, H, W], and the mean of the scores counts. factors: of the scores, from another run
        of the same photos, whose weights are then the same."""
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
            margin = self.margin = max(2, round(asked.pixels(method.jitter))) if method.jitter > 1 else 0
            side = method.cells or max(1, min(CELLS, min(asked.size) // _SMALLEST_CELL))
            seen, cells = asked.size, grid(asked.size, side)
            self.plain_photos = asked.photos
            sigma = asked.pixels(method.mask_blur)
            # One pixel less: the published offsets are 0 to 3 where the photo is 4 pixels larger.
            self._photos = asked.canvases(margin)[shortened(margin)] if margin else self.plain_photos
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
        self._objectives, self.factors = self._normalised(factors)
        l1, tv = method.weights(cells)
        self.weights = {"l1": number(l1), "tv": number(tv)}
        self.regularizers = (
            L1(l1, centre=1.0 if method.game == "deletion" else 0.0),
            TotalVariation(tv, method.beta, anisotropic=method.anisotropic),
        )
        # What a mask has to beat: none at all.
        self.untouched = self.losses(torch.ones(len(asked), 1, *cells, device=self._photos.device))

    def some(self, rows: list[int]) -> MaskRun:
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
        return MaskRun(self._method, few, (self.plain_perturbed[rows], self._perturbed[rows]))

    def _perturb(self, margin: int) -> tuple[Tensor, Tensor]:
        """The perturbed photos, as they are and on a canvas that is larger by `margin`, less one pixel."""
        # (a `Filling` gives its pictures itself)
        asked, kind = self._asked, cast(Perturbation, self._method.perturbation)
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
        return plain, resized[shortened(margin)]

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

    def learn(self, starts: Tensor) -> Learned:
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
        return Learned(reached.parameters.clone(), ended, begun, trace / torch.tensor(self.factors), reached)

    def learn_from(self, start: Start) -> Learned:
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

    def found(self, best: Learned, notes: list[list[str]], details: list[dict[str, Any]], interrupted: bool) -> Found:
        """What the masks say, at the photos' size."""
        asked, game = self._asked, self._method.game
        masks = self.over_photos(best.masks).cpu()
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

    def over_photos(self, masks: Tensor) -> Tensor:
        """Masks [N, 1, h, w] at the photos' size, as they are laid over them: [N, H, W]."""
        over = self.parametrization.picture(masks)
        if over.shape[2:] != self._asked.size:
            over = F.interpolate(over, self._asked.size, mode="nearest")
        return over[:, 0]

    @torch.no_grad()
    def masked_scores(self, masks: Tensor) -> Tensor:
        """What is asked of each photo under its mask [N, 1, h, w], as it is, without jitter: [N], on the CPU."""
        return self._scores(self._plainly.as_seen(masks, lambda images: images), EachItsOwn(self._asked.objectives))

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

    def _normalised(self, given: list[float] | None) -> tuple[EachItsOwn, list[float]]:
        """The game as an objective of each photo, and what it is of the score that was asked."""
        asked, sign = self._asked, -1.0 if self._method.game == "deletion" else 1.0
        plain = EachItsOwn(asked.objectives)
        photo, other = self._scores(self.plain_photos, plain), self._scores(self.plain_perturbed, plain)
        factors: list[float] = []
        members: list[Objective] = []
        for i, one in enumerate(asked.objectives):
            # The weights of equation 6 are meant for scores from 0 to 1.
            unit = 1.0 if is_probability(one) else abs(float(photo[i] - other[i]))
            if given is not None:
                unit = sign / given[i]
            if unit == 0:
                unit = 1.0
                self.notes[i].append("the answer is the same for the photo and for the perturbed one: nothing to find")
            if self._method.game == "both":
                members.append(2 / unit * each_view((one, -one)))
            else:
                members.append(one if sign == unit == 1 else sign / unit * one)
            factors.append(sign / unit)
        return EachItsOwn(tuple(members)), factors


def shortened(margin: int) -> tuple[slice | EllipsisType, ...]:
    """The index that takes one pixel off a canvas on each axis, if there is a margin."""
    return (..., slice(-1), slice(-1)) if margin else (...,)


def is_probability(objective: Objective) -> bool:
    """Whether this is a class's probability, or a sum of several."""
    if isinstance(objective, WeightedSum):
        return all(weight == 1 and is_probability(term) for weight, term in objective.terms)
    return isinstance(objective, Label) and objective.kind == "prob"
