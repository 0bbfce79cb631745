"""Which units an atlas has, and in which batches they are made: it follows from the settings alone.

`job.json` holds `Plan.as_dict()` and the settings of the run, see `preimage.atlas.settings`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import torch

from preimage.canvas import pair, picture_and_window
from preimage.errors import RequestError
from preimage.network import Network, Tap
from preimage.objectives import Objective, channel, label, neuron
from preimage.recipes import Recipe
from preimage.result import file_stem

BATCH, MOST, SMALL = 16, 128, 64
"""How many units are optimised together unless one says: 16, and of pictures below 64 x 64 pixels as many as have no
more pixels together, up to 128: what a step takes besides arithmetic is shared by them. (40 units of 80 pixels in one
batch are slower than 16 on a CPU, whose caches they leave.)"""
MEMORY = 2 * 2**30

Asked = Literal["channel", "centre", "class"]
"""What a unit is asked for: the mean of its channel; the one unit at the centre of its map; the logit of its class."""

_CHANNELS = re.compile(r"(?P<tap>.+):(?P<first>\d{1,9})(-(?P<last>\d{1,9}))?")


@dataclass(frozen=True)
class BatchPlan:
    """Units that are made together. channels: theirs. file, examples_file: of their pictures and photos."""

    key: str
    number: int
    channels: range

    @property
    def file(self) -> str:
        """Where their pictures are kept."""
        return f"units-{self.key}-{self.number:04}.safetensors"

    @property
    def examples_file(self) -> str:
        """Where their strongest photos are kept."""
        return f"examples-{self.key}-{self.number:04}.safetensors"


@dataclass(frozen=True)
class TapPlan:
    """The units of one tap.

    key: what its files are called. kind, shape, receptive_field, stride: as in `Network.taps()`.
    channels: (first, last) of those that are made, both included. asked: what of. seen: (height, width) in pixels that
    the network sees at once: as much as the unit does. batch: how many are made together, at most.
    """

    tap: str
    key: str
    kind: str
    shape: tuple[int, ...]
    receptive_field: tuple[int, int] | None
    stride: tuple[int, int] | None
    channels: tuple[int, int]
    asked: Asked
    seen: tuple[int, int]
    batch: int

    @property
    def count(self) -> int:
        """How many units there are."""
        return self.channels[1] - self.channels[0] + 1

    @cached_property
    def batches(self) -> list[BatchPlan]:
        """As few batches as can be, as equal as can be, in the order of channels."""
        number = math.ceil(self.count / self.batch)
        ends = [self.channels[0] + self.count * i // number for i in range(number + 1)]
        return [BatchPlan(self.key, i, range(ends[i], ends[i + 1])) for i in range(number)]

    @property
    def tune_file(self) -> str:
        """Where its step size is kept."""
        return f"tune-{self.key}.json"

    def objective(self, index: int) -> Objective:
        """What one of its units is asked."""
        if self.asked == "class":
            return label(index)
        return neuron(self.tap, index) if self.asked == "centre" else channel(self.tap, index)

    def written(self, index: int) -> str:
        """The same as one types it."""
        if self.asked == "class":
            return f"class:{index}"
        return f"{self.tap}:{index}@centre" if self.asked == "centre" else f"{self.tap}:{index}"

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types; `taps_of` reads it back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def taps_of(settings: Mapping[str, Any]) -> list[TapPlan]:
    """The plan in an atlas's settings; raises `RequestError` where there is none that can be read."""

    def read(one: Mapping[str, Any]) -> TapPlan:
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in one.items()}
        return TapPlan(**values)

    try:
        return [read(one) for one in settings["taps"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"the atlas's job.json has no plan that can be read: {error}") from error


def planned(
    network: Network,
    at: str | Sequence[str] | None,
    recipe: Recipe,
    *,
    size: int | tuple[int, int] | None = None,
    memory: int = MEMORY,
    batch_size: int | None = None,
    units: int | None = None,
) -> list[TapPlan]:
    """The units of all taps that are asked.

    at: taps, any of them with channels (`layer3.2:0-31`); None: the whole network, see `whole_network`.
    size: of what the network sees at once. Default: where a unit's whole receptive field is smaller than the network's
        input, that field around the central unit of the map; elsewhere the network's input, and the mean of the
        channel. units: so many of each tap, the first ones.
    memory: bytes that a batch may take, by `bytes_per_picture`. batch_size: units in a batch, at most; default: 16, and
        more of smaller pictures.

    Raises `RequestError` for taps that do not exist or are asked twice, sizes at which the network does not get there,
    and a memory in which not one picture fits.
    """
    if (batch_size is not None and batch_size < 1) or (units is not None and units < 1):
        raise RequestError(f"batch_size and units are at least 1, not {batch_size} and {units}")
    table = network.taps()
    names = whole_network(network) if at is None else [at] if isinstance(at, str) else list(at)
    if not names:
        raise RequestError("an atlas is of one tap at least")
    plans: list[TapPlan] = []
    for given in names:
        name, channels = _read(network, given)
        row: Tap = table[name]
        if any(one.tap == name for one in plans):
            raise RequestError(f"'{name}' is asked twice; ask for it once, with all its channels")
        first, last = channels
        if units is not None:
            last = min(last, first + units - 1)
        stem, used = file_stem(name), {one.key for one in plans}
        key = next(one for one in (stem, *(f"{stem}-{i}" for i in range(2, len(used) + 3))) if one not in used)
        asked, seen = _asked(network, row, recipe, size)
        each = bytes_per_picture(network, row, recipe, seen)
        if each > memory:
            raise RequestError(
                f"one picture of '{name}' takes about {each / 2**20:,.0f} MB, which does not fit into a memory of "
                f"{memory / 2**20:,.0f} MB"
            )
        together = batch_size or max(BATCH, min(MOST, BATCH * SMALL**2 // math.prod(seen)))
        batch = min(together, memory // each)
        plans.append(
            TapPlan(name, key, row.kind, row.shape, row.receptive_field, row.stride, (first, last), asked, seen, batch)
        )
    return plans


def whole_network(network: Network) -> list[str]:
    """The taps that stand for all: of neighbours with equally many channels that see equally much, the last.

    A convolution, its normalisation and its activation are the same units, of which the last is asked (before its
    ReLU); a residual block is its sum. What only averages over positions is left out.
    """
    table = network.taps()
    kept: list[Tap] = []
    for row, following in zip(table, [*table[1:], None], strict=True):
        if following is None or row.receptive_field is None or _alike(row) != _alike(following):
            pools = kept and kept[-1].channels == row.channels and math.prod(row.shape) == row.channels
            if not pools or row.name == _logits(network):
                kept.append(row)
    return [row.name for row in kept]


def _alike(row: Tap) -> tuple[Any, ...]:
    return row.channels, row.receptive_field, row.shape[1:] if row.stride is not None else (1, 1)


def _read(network: Network, given: str) -> tuple[str, tuple[int, int]]:
    """A tap and its first and last channel."""
    match = _CHANNELS.fullmatch(given)
    name = network.tap(match["tap"] if match else given).name
    count = network.tap(name).channels
    if match is None:
        return name, (0, count - 1)
    first, last = int(match["first"]), int(match["last"] or match["first"])
    if not first <= last < count:
        raise RequestError(f"'{name}' has channels 0 to {count - 1}, not {first} to {last}")
    return name, (first, last)


def _asked(
    network: Network, row: Tap, recipe: Recipe, size: int | tuple[int, int] | None
) -> tuple[Asked, tuple[int, int]]:
    is_label = len(row.shape) == 1 and row.name == _logits(network)
    asked: Asked = "class" if is_label else "channel"
    seen = network.input_size if size is None else pair("size", size)
    if size is None and len(row.shape) == 3 and row.receptive_field is not None and not is_label:
        central = neuron(row.name, 0).bind(network)
        field = picture_and_window(network, recipe, [central], "receptive-field", None)[1]
        if field != network.input_size:
            asked, seen = "centre", field
    with torch.no_grad():
        if seen != network.input_size:
            network.run(torch.full((1, network.channels, *seen), 0.5, device=network.device), [row.name])
    return asked, seen


def _logits(network: Network) -> str | None:
    try:
        return network.logits
    except RequestError:  # a network without classes
        return None


def bytes_per_picture(network: Network, row: Tap, recipe: Recipe, seen: tuple[int, int]) -> int:
    """About what one picture of a tap takes while it is optimised.

    Every value that the network computes down to this tap, twice (itself and its gradient), at the size that is seen;
    and the picture with its parameters, their gradient and an optimizer's memory, six times. In float64 where the
    recipe smooths kinks, and three times as much then. A part's output counts beside those of the parts inside it, so
    this is rather too much.
    """
    values = 0
    for one in network.taps():
        values += math.prod(one.shape)
        if one.name == row.name:
            break
    share = seen[0] * seen[1] / (network.input_size[0] * network.input_size[1])
    pixels = network.channels * seen[0] * seen[1] * recipe.canvas**2
    smooths = any(stage.smoothing is not None for stage in recipe.stages)
    return math.ceil((2 * values * share + 6 * pixels) * (24 if smooths else 4))


def picture_size(recipe: Recipe, seen: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a finished picture of which the network sees so much at once."""
    scale = recipe.canvas if recipe.has_window else 1.0
    return round(seen[0] * scale), round(seen[1] * scale)


def bytes_on_disk(network: Network, taps: Sequence[TapPlan], recipe: Recipe, examples: int, features: int) -> int:
    """About what the parts of an atlas take: pictures, embeddings, two kilobytes a unit, photos; half as much again of
    the pictures for its pages.

    examples: photos of each unit. features: how many numbers an embedding has.
    """
    total = 0
    for tap in taps:
        height, width = picture_size(recipe, tap.seen)
        pictures = network.channels * height * width
        photos = 0
        if examples:
            from preimage.atlas.examples import crop_size

            photos = examples * network.channels * math.prod(crop_size(tap, network.input_size))
        total += tap.count * (pictures + photos + (pictures + photos) // 2 + 2 * features + 2048)
    return total
