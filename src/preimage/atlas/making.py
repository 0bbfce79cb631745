"""One unit of an atlas's work, in whatever process: it gives the content of the file that is finished with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.atlas.examples import Chosen, Photos, shown, strongest_of
from preimage.atlas.incoming import contributions, preceding, strongest
from preimage.atlas.parts import Array, packed, sealed
from preimage.atlas.plan import BatchPlan, TapPlan
from preimage.atlas.reading import Unit
from preimage.atlas.tuning import moving, tuned
from preimage.errors import RequestError
from preimage.maximize import maximize
from preimage.network import Network, Place
from preimage.network.lazy import LazyNetwork
from preimage.optimization import scaled
from preimage.recipes import Recipe
from preimage.result import Result, number

_TRACE = 60
"""Scores that are kept of each run."""


@dataclass(frozen=True)
class Tune:
    """Find the step size of a tap. place: of the tap in the plan."""

    place: int
    file: str
    units: int = 0


@dataclass(frozen=True)
class Look:
    """Look at a chunk of the photos."""

    chunk: int
    file: str
    units: int = 0


@dataclass(frozen=True)
class Make:
    """Make the pictures of a batch. factor: times the recipe's step size. before: the tap that its units are made from;
    None: there is none."""

    place: int
    batch: BatchPlan
    factor: float
    before: str | None

    @property
    def file(self) -> str:
        """Where they are kept."""
        return self.batch.file

    @property
    def units(self) -> int:
        """How many pictures that are."""
        return len(self.batch.channels)


@dataclass(frozen=True)
class Show:
    """Cut a batch's strongest photos."""

    place: int
    batch: BatchPlan
    chosen: Chosen
    units: int = 0

    @property
    def file(self) -> str:
        """Where they are kept."""
        return self.batch.examples_file


Task = Tune | Look | Make | Show


@dataclass
class Work:
    """All that a task needs, so that any process can do any of them.

    embedding: the tap of embeddings. threads: that a task computes with, in whatever process; on it depend the last
    bits of what is computed.
    """

    network: LazyNetwork
    taps: Sequence[TapPlan]
    recipe: Recipe
    at_centre: Recipe
    steps: int | None
    seed: int
    audit: bool
    tune: bool
    embedding: str
    photos: Photos | None
    examples: int
    threads: int

    def __call__(self, task: Task) -> bytes:
        """The content of the task's file. Raises `KeyboardInterrupt` where Ctrl-C ended it."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            if isinstance(task, Tune):
                return sealed(self._tuned(self.taps[task.place]))
            if isinstance(task, Look):
                assert self.photos is not None
                return packed(*strongest_of(self.network.opened(), self.taps, self.photos, task.chunk, self.examples))
            if isinstance(task, Show):
                assert self.photos is not None
                tap = self.taps[task.place]
                crops, examples = shown(self.network.opened(), tap, self.photos, task.chosen)
                return packed({"crops": crops}, {"tap": tap.tap, "examples": examples})
            return self._made(self.taps[task.place], task)
        finally:
            torch.set_num_threads(before)

    def recipe_of(self, tap: TapPlan) -> Recipe:
        """With which its units are made."""
        return self.at_centre if tap.asked == "centre" else self.recipe

    def _asked(self, tap: TapPlan, factor: float, count: int) -> dict[str, Any]:
        """What `maximize` is given for so many units of a tap."""
        recipe = self.recipe_of(tap)
        if factor != 1:
            recipe = replace(recipe, stages=tuple(scaled(stage, (factor,) * count) for stage in recipe.stages))
        # How large the picture is follows from what the network sees at once, where a window moves over it.
        sizes = {"window" if recipe.has_window else "size": tap.seen}
        return {"recipe": recipe, "seed": self.seed, "batch_size": max(count, tap.batch), "progress": False, **sizes}

    def _tuned(self, tap: TapPlan) -> dict[str, Any]:
        """The step size of a tap, see `preimage.atlas.tuning`, and what its units are made from."""
        network = self.network.opened()
        members = [tap.objective(index).bind(network) for index in range(tap.channels[0], tap.channels[1] + 1)[:8]]
        noise = torch.rand(network.channels, *tap.seen, generator=torch.Generator().manual_seed(self.seed))
        out: dict[str, Any] = {"tap": tap.tap, "factor": 1.0, "units": [], "tried": [], "cost": 0.0}
        out["incoming"] = preceding(network, tap.tap, members[:4], noise)
        if not self.tune:
            return out | {"says": "the recipe's own step size, as it was asked for"}
        some = moving(network, members, noise)
        if not some:
            none = "the picture has no influence on any of the first units that were tried"
            return out | {"units": [tap.written(tap.channels[0])], "says": f"the recipe's own step size: {none}"}
        out["units"] = [tap.written(tap.channels[0] + i) for i in some]
        try:
            found = tuned(network, tap, [members[i] for i in some], self.recipe_of(tap), self.steps, self.seed)
        except RequestError as error:
            return out | {"says": f"the recipe's own step size, because no best one was found: {error}"}
        kept = [[written, one.as_dict()["tried"]] for written, one in zip(out["units"], found.searches, strict=True)]
        cost = round(sum(one.cost for one in found.searches), 2)
        return out | {"factor": found.factor, "says": found.says, "tried": kept, "cost": cost}

    def _made(self, tap: TapPlan, task: Make) -> bytes:
        network = self.network.opened()
        channels = list(task.batch.channels)
        found: dict[int, _Unit] = {}
        with network.held():
            self._climbed(tap, task, channels, found)
        good = next((one for one in found.values() if one.image is not None), None)
        shape = (network.channels, *tap.seen) if good is None or good.image is None else good.image.shape
        features = network.tap(self.embedding).channels
        images = np.full((len(channels), *shape), 128, np.uint8)
        embedding = np.zeros((len(channels), features), np.float16)
        for i, channel in enumerate(channels):
            one = found[channel]
            if one.image is not None and one.embedding is not None:
                images[i], embedding[i] = one.image, one.embedding
        settings = {"size": list(shape[1:]), "seen": list(tap.seen), "factor": task.factor, "seed": self.seed}
        recipe = self.recipe_of(tap)
        settings |= {"recipe": recipe.name, "steps": recipe.stretched(self.steps).steps}
        document = {"tap": tap.tap, "units": [found[channel].said for channel in channels], "settings": settings}
        arrays: dict[str, Array] = {"images": images, "embedding": embedding}
        return packed({**arrays, "channels": np.array(channels, np.int32)}, document)

    def _climbed(self, tap: TapPlan, task: Make, channels: list[int], found: dict[int, _Unit]) -> None:
        """Make these units; where they cannot be made together, each half alone, until it is known which it is."""
        network = self.network.opened()
        members = [tap.objective(index).bind(network) for index in channels]
        try:
            result = maximize(network, members, steps=self.steps, **self._asked(tap, task.factor, len(channels)))
            if result.interrupted:
                raise KeyboardInterrupt
            images = result.images
            given = [] if task.before is None else strongest(contributions(network, members, images, task.before))
            embedding = embedded(network, images, self.embedding)
        except RequestError as error:
            if len(channels) == 1:
                found[channels[0]] = _Unit(_failed(tap, channels[0], str(error)))
                return
            middle = len(channels) // 2
            self._climbed(tap, task, channels[:middle], found)
            self._climbed(tap, task, channels[middle:], found)
            return
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
            raise RequestError(
                f"{len(channels)} units of '{tap.tap}' do not fit into the device's memory; ask with a smaller memory="
            ) from error
        audits = _audited(result) if self.audit else [None] * len(channels)
        pixels = (images * 255).round().to(torch.uint8).numpy()
        for i, channel in enumerate(channels):
            said: Unit = {
                "channel": channel,
                "objective": tap.written(channel),
                "score": number(float(result.scores[i])),
                "trace": _thinned(result.trace[:, i]),
                "failure": None,
                "incoming": [
                    {"tap": task.before, "channel": index, "share": float(f"{share:.4g}")}
                    for index, share in (given[i] if given else [])
                    if task.before is not None
                ],
                "audit": audits[i],
            }
            found[channel] = _Unit(said, pixels[i], embedding[i])


@dataclass
class _Unit:
    said: Unit
    image: Array | None = None
    embedding: Array | None = None


def _failed(tap: TapPlan, channel: int, why: str) -> Unit:
    return {
        "channel": channel,
        "objective": tap.written(channel),
        "score": None,
        "trace": [],
        "failure": " ".join(why.split()),
        "incoming": [],
        "audit": None,
    }


def _thinned(trace: Tensor) -> list[float | None]:
    """At most 60 scores, evenly spaced, the first and the last among them."""
    steps = len(trace)
    some = torch.linspace(0, max(steps - 1, 0), min(steps, _TRACE)).round().long()
    return [number(value) for value in trace[some].tolist()]


def _audited(result: Result) -> list[dict[str, Any] | None]:
    """Of each picture what it is the answer to; all together, or each alone where one of them cannot be told."""
    try:
        return [_brief(one) for one in result.audit()]
    except RequestError:
        out: list[dict[str, Any] | None] = []
        for i in range(len(result.objectives)):
            try:
                out.append(_brief(result.audit([i])[0]))
            except RequestError as error:
                out.append({"refused": " ".join(str(error).split())})
        return out


def _brief(audit: Any) -> dict[str, Any]:
    said = audit.as_dict()
    kept = {key: said[key] for key in ("verdict", "says", "cosine", "angle", "residual", "rank", "inside", "notes")}
    return kept | {"tap": said["answer_to"]["tap"], "strongest": said["answer_to"]["strongest"][:3]}


def embedding_tap(network: Network) -> str:
    """The last tap with positions, else the last of all."""
    table = network.taps()
    with_positions = [row.name for row in table if len(row.shape) == 3 and row.shape[1] * row.shape[2] > 1]
    return with_positions[-1] if with_positions else table[-1].name


@torch.no_grad()
def embedded(network: Network, images: Tensor, tap: str) -> Array:
    """What a network makes of pictures at a tap, averaged over positions and brought to length 1: float16 [N, d].

    images: float [N, C, H, W] in [0, 1], resampled to the network's input size.
    """
    place = Place(tap, after_relu=True)
    if tuple(images.shape[2:]) != network.input_size:
        images = F.interpolate(images, network.input_size, mode="bilinear", antialias=True, align_corners=False)
    values = network.run(images.to(network.device), [place])[place].float().cpu()
    values = values.flatten(2).mean(2) if values.ndim > 2 else values
    return F.normalize(values, dim=1).to(torch.float16).numpy()
