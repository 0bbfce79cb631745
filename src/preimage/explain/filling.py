"""What a mask removes, filled in by a prior instead of blurred: what would be there, given the rest of the photo?

Beyond paper 4, with paper 3's inpainting (section S10; SPEC P23).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.errors import RequestError
from preimage.explain.learning import Learned, MaskRun, shortened
from preimage.explain.method import Found, Question
from preimage.explain.perturbation import Kind
from preimage.images import centre_crop
from preimage.network import Network
from preimage.objectives import written
from preimage.result import number
from preimage.sample.prior import SHIPPED, Prior, load_prior
from preimage.sample.sampling import sample

if TYPE_CHECKING:
    from preimage.explain.mask import Mask

_REMOVED = 0.5
"""A pixel counts as removed where less than this of it is kept."""
_APART = 7_000_003
"""How far the seeds of one filling are from those of the next."""


@dataclass(frozen=True)
class Filling:
    """What a mask removes is filled in by a prior, from the photo that is left and nothing else.

    A blur shows a network what it never sees, and a mask may live on that. Here a removed region becomes what the prior
    makes up there. The chains are under no condition but their surroundings: not under the class that is explained,
    which they would put back, nor under other classes, whose chains would attack the network; and not even the network
    is asked.

    What is filled in depends on what is removed, so masks are learned in rounds. The first is learned with the `first`
    perturbation, as ever. Then, in each round, the region that the mask removes, `grow` pixels larger on all sides, is
    filled in by several chains, and the mask learned on from where it was, with these pictures in the blur's place; the
    mean of their scores counts. What every mask is worth is told by other fillings than it was learned with: of its own
    region alone, by chains with other seeds.

    prior: of images of the size at which the network is shown the photo. rounds: 0 tells only what the first mask is
        worth when what it removes is filled in. chains: pictures for each photo.
    grow: in pixels for photos of 224, scaled for others, one at least.
    steps, context, epsilons, move, last: of the chains, which start from noise (see `preimage.sample`, form
        "released"). Defaults are our own, chosen on the prior `cifar10` (docs/explain.md): paper 3's inpainting leaves
        all chains in one place, since without a class little but noise tells them apart.
    """

    prior: Prior
    rounds: int = 2
    chains: int = 4
    first: Kind = "blur"
    grow: float = 16.0
    steps: int = 60
    context: float = 1000 / 255**2
    epsilons: tuple[float, float, float] = (1.0, 1.0, 60.0)
    move: float = 1.0
    last: float = 0.3

    def __post_init__(self) -> None:
        if not isinstance(self.prior, Prior):
            object.__setattr__(self, "prior", load_prior(self.prior))
        if self.prior.generator is None or self.prior.encoder is None:
            raise RequestError(f"{self.prior.name} cannot fill anything in: it takes a generator and an encoder")
        for what, least in (("rounds", 0), ("chains", 1), ("steps", 1)):
            given = getattr(self, what)
            if type(given) is not int or given < least:
                raise RequestError(f"a filling has {what} of {least} or more, in whole numbers, not {given}")
        if not 0 < self.context < math.inf:
            raise RequestError(f"a filling has a context above zero, not {self.context}: it is all that chains go by")
        if self.first not in ("blur", "constant", "noise"):
            raise RequestError(f"the first mask is learned with blur, constant or noise, not '{self.first}'")
        if not 0 <= self.grow < math.inf:
            raise RequestError(f"a filling grows by zero pixels or more, not {self.grow}")

    def __str__(self) -> str:
        return f"filled in by {self.prior.name}"

    def describe(self) -> dict[str, Any]:
        """Every setting, as plain JSON types."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "prior"}
        return {"prior": self.prior.name, **own, "epsilons": list(self.epsilons)}

    def explain(self, method: Mask, asked: Question) -> Found:
        """Masks of a question, learned in rounds; `Found.details` has "rounds", for each photo a list of what each was
        worth:

        "perturbed by"; "deleted", mean of 1 - mask; "removed", the share of pixels of which less than half is kept;
        "masked", the score under the mask as it was learned; "filled", the score of each chain's picture, in which what
        is removed is filled in and all else exactly the photo; and, of what is removed, its "overlap" (intersection
        over union) with what the first mask removes, and which share of that "survives", None where that is nothing.

        Raises `RequestError` where the prior makes images of another size or other channels.
        """
        prior = self.prior
        if (prior.height, prior.width) != asked.size or prior.channels != asked.network.channels:
            raise RequestError(
                f"{prior.name} makes images of {prior.channels} x {prior.height} x {prior.width}, but the network is "
                f"shown {asked.network.channels} x {asked.size[0]} x {asked.size[1]}"
            )
        usual = replace(method, perturbation=self.first)
        run, best, notes, details = usual.learn(asked)
        found = run.found(best, notes, details, best.climb.interrupted)
        worth = [_Worth(asked, i) for i in range(len(asked))]
        for detail, one in zip(details, worth, strict=True):
            detail["rounds"] = one.rounds
        interrupted = found.interrupted
        fills: Tensor | None = None
        for turn in range(self.rounds + 1):
            if interrupted:
                break
            removed = _removed(run, best)
            made = self.filled(asked, removed, 2 * turn)
            if made is None:
                interrupted = True
                break
            fills = made
            scores, over = run.masked_scores(best.masks), run.over_photos(best.masks)
            for i, one in enumerate(worth):
                one.add(self.first if turn == 0 else str(prior.name), over[i], removed[i], float(scores[i]), fills[i])
            if turn == self.rounds:
                break
            larger = _grown(removed, max(1, round(asked.pixels(self.grow))) if self.grow else 0)
            perturbed = self.filled(asked, larger, 2 * turn + 1)
            if perturbed is None:
                interrupted = True
                break
            run = MaskRun(method, asked, _both(asked, run.margin, larger, perturbed), run.factors)
            best = run.learn(best.masks)
            interrupted = best.climb.interrupted
            over, traces = run.over_photos(best.masks).cpu(), best.traces
            assert found.masks is not None and found.traces is not None
            found = replace(
                found,
                masks=over,
                heatmaps=1 - over,
                traces=torch.cat([found.traces, traces]),
                scores={**found.scores, "masked": run.masked_scores(best.masks)},
            )
            for i, loss in enumerate(best.losses):
                details[i] |= {"loss": number(loss), "loss without a mask": number(run.untouched[i])}
        if fills is not None and not interrupted:
            found = replace(found, fills=fills.cpu())
            found.scores["filled"] = torch.tensor([one.mean for one in worth])
            for i, one in enumerate(worth):
                notes[i].extend(one.notes())
        return replace(found, notes=notes, details=details, interrupted=interrupted)

    def filled(self, asked: Question, removed: Tensor, turn: int) -> Tensor | None:
        """Each photo with what is removed, [N, H, W], made up by each chain: [N, chains, C, H, W]; None after Ctrl-C.

        turn: whose seeds the chains have. Pixels that are not removed are exactly the photo's; where nothing is
        removed, all pictures are the photo, and where everything is, the prior goes by nothing at all.
        """
        # (to an objective that is nothing, chains are under no condition, and no network has to be run)
        nothing = Network(_Nothing(), asked.size, channels=asked.network.channels, name="nothing")
        options: dict[str, Any] = {
            "prior": self.prior,
            "epsilons": self.epsilons,
            "steps": self.steps,
            "every": self.steps,
            "chains": self.chains,
            "move": self.move,
            "last": self.last,
            "progress": False,
        }
        made: list[Tensor] = []
        for photo, hole, seed in zip(asked.photos, removed, asked.seeds, strict=True):
            if not hole.any():
                made.append(photo.expand(self.chains, *photo.shape))
                continue
            if not hole.all():
                options |= {"fill": (photo.cpu(), hole.cpu()), "context": self.context}
            chain = sample(nothing, written(lambda y: y[:, 0], name="nothing"), seed=seed + _APART * turn, **options)
            options.pop("fill", None)
            options.pop("context", None)
            if chain.interrupted:
                return None
            made.append(chain.images.to(photo))
        return torch.stack(made)


class _Nothing(nn.Module):
    """Answers every image with 0."""

    def forward(self, images: Tensor) -> Tensor:
        return 0 * images.flatten(1).sum(1, keepdim=True)


@dataclass
class _Worth:
    """What the masks of one photo are worth when what they remove is filled in."""

    asked: Question
    index: int

    def __post_init__(self) -> None:
        self.rounds: list[dict[str, Any]] = []
        self._first: Tensor | None = None
        self.mean = math.nan

    def add(self, by: str, mask: Tensor, removed: Tensor, masked: float, fills: Tensor) -> None:
        """One more round: its mask [H, W], what that removes [H, W], and the photo with that filled in [K, C, H, W]."""
        self._first = removed if self._first is None else self._first
        both, either, first = ((one.sum()) for one in (removed & self._first, removed | self._first, self._first))
        scores = self.asked.scores(self.index, fills)
        self.mean = float(scores.mean())
        self.rounds.append(
            {
                "perturbed by": by,
                "deleted": number(float(1 - mask.mean())),
                "removed": number(float(removed.float().mean())),
                "masked": number(masked),
                "filled": [number(value) for value in scores.tolist()],
                "overlap": number(float(both / either)) if either else None,
                "survives": number(float(both / first)) if first else None,
            }
        )

    def notes(self) -> list[str]:
        """What came of it, in sentences."""
        first, last = self.rounds[0], self.rounds[-1]
        if first["survives"] is None:
            return ["less than half of any pixel is removed by the first mask, so nothing was filled in"]
        said = []
        if len(self.rounds) > 1:
            said.append(
                f"of what the mask learned with {first['perturbed by']} removes ({first['removed']:.0%} of the photo), "
                f"{last['survives']:.0%} is still removed by the mask that was learned with the prior "
                f"({last['removed']:.0%} of the photo; intersection over union {last['overlap']:.2f})"
            )
        photo = float(self.asked.scores(self.index, self.asked.photos[self.index : self.index + 1])[0])
        mean = sum(value or 0.0 for value in first["filled"]) / len(first["filled"])
        if len(self.rounds) > 1 and last["masked"] < photo / 2 <= self.mean:
            said.append(
                f"filled in anew, what the last mask removes leaves half of the answer or more ({self.mean:.2g} of "
                f"{photo:.2g}, where it was learned with pictures that left {last['masked']:.2g}): it lives on those"
            )
        if photo > 0 and mean >= photo / 2:
            said.append(
                f"filled in by the prior, what the first mask removes leaves half of the answer or more ({mean:.2g} of "
                f"{photo:.2g}): the rest of the photo holds it, or the prior puts it back"
            )
        return said


def as_filling(perturbation: Any) -> Any:
    """A `Filling` of what is a prior, its file or its name; any other perturbation as it is."""
    if isinstance(perturbation, Prior) or _is_pair(perturbation) or _is_file(perturbation):
        return Filling(load_prior(perturbation))
    return perturbation


def _is_pair(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], nn.Module)


def _is_file(given: Any) -> bool:
    return isinstance(given, (str, Path)) and (str(given) in SHIPPED or Path(given).suffix == ".safetensors")


def _removed(run: MaskRun, best: Learned) -> Tensor:
    return run.over_photos(best.masks) < _REMOVED


def _grown(removed: Tensor, pixels: int) -> Tensor:
    """What lies within so many pixels of what is removed, [N, H, W], along both axes."""
    return F.max_pool2d(removed[:, None].float(), 2 * pixels + 1, 1, pixels)[:, 0] > 0


def _both(asked: Question, margin: int, removed: Tensor, fills: Tensor) -> tuple[Tensor, Tensor]:
    """Filled photos [N, K, C, H, W] as they are and on the larger canvas of the jitter, [N * K, C, ...]; outside of
    what is removed, the canvas is that of the photos."""
    plain = fills.flatten(0, 1)
    if not margin:
        return plain, plain
    size = (asked.size[0] + margin, asked.size[1] + margin)
    larger = torch.stack([centre_crop(one, size) for one in plain])
    hole = F.interpolate(removed[:, None].float(), size, mode="nearest") > 0
    several = fills.shape[1]
    canvases = asked.canvases(margin).repeat_interleave(several, 0)
    return plain, torch.where(hole.repeat_interleave(several, 0), larger, canvases)[shortened(margin)]
