"""Asking the units of a layer: a whole channel, or one position of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network, Place, Tap
from preimage.network.taps import token_grid
from preimage.objectives.objective import Activations, Objective

CENTRE = "centre"


@dataclass(frozen=True, repr=False)
class Channel(Objective):
    """The mean of one channel over all its positions. `channels`: how many the layer has, once it is bound."""

    place: Place
    index: int
    channels: int | None = field(default=None, compare=False)

    def places(self) -> frozenset[Place]:
        return frozenset({self.place})

    def score(self, activations: Activations) -> Tensor:
        values = activations[self.place][:, self.index]
        return values if values.ndim == 1 else values.flatten(1).mean(1)

    def bind(self, network: Network) -> Channel:
        return replace(self, channels=check_channel(network, self.place.tap, self.index).channels)

    def __str__(self) -> str:
        return f"{self.place}:{self.index}"


@dataclass(frozen=True, repr=False)
class Unit(Objective):
    """One channel at one position: (y, x), or the centre of whatever map the image gives."""

    place: Place
    index: int
    position: tuple[int, int] | None = None

    def places(self) -> frozenset[Place]:
        return frozenset({self.place})

    def score(self, activations: Activations) -> Tensor:
        values = activations[self.place][:, self.index]
        if values.ndim == 1:
            return values
        return values.flatten(1)[:, flat_position(tuple(values.shape[1:]), self.position, self.place.tap)]

    def bind(self, network: Network) -> Unit:
        tap = check_channel(network, self.place.tap, self.index)
        if self.position is not None and len(tap.shape) == 1:
            raise RequestError(
                f"'{tap.name}' has no positions: its shape is {tap.channels}; ask {tap.name}:{self.index}"
            )
        return self

    def __str__(self) -> str:
        at = CENTRE if self.position is None else "{},{}".format(*self.position)
        return f"{self.place}:{self.index}@{at}"


def channel(tap: str, index: int, *, after_relu: bool = False) -> Channel:
    """The mean of channel `index` at `tap`, taken before a ReLU that the tap ends in (SPEC A11) unless `after_relu`."""
    return Channel(Place(tap, after_relu), index)


def unit(tap: str, index: int, y: int, x: int, *, after_relu: bool = False) -> Unit:
    """Channel `index` at row `y`, column `x` of its map (of a transformer's patches), counted from 0."""
    return Unit(Place(tap, after_relu), index, (y, x))


def neuron(tap: str, index: int, *, after_relu: bool = False) -> Unit:
    """Channel `index` at the centre of its map; of a layer without positions, the neuron itself."""
    return Unit(Place(tap, after_relu), index)


def check_channel(network: Network, tap: str, index: int) -> Tap:
    """The tap's row; raises `RequestError`, naming the range, if it has no channel `index`."""
    row = network.tap(tap)
    if not 0 <= index < row.channels:
        raise RequestError(f"'{tap}' has channels 0 to {row.channels - 1}, not {index}")
    return row


def flat_position(shape: tuple[int, ...], position: tuple[int, int] | None, tap: str) -> int:
    """(y, x) -> index into the flattened positions of a map [H, W] or of a token sequence [T]."""
    if len(shape) == 2:
        prefix, rows, columns = 0, shape[0], shape[1]
    elif len(shape) == 1 and (grid := token_grid(shape[0])):
        prefix, rows, columns = grid
    else:
        raise RequestError(f"'{tap}' has no rows and columns: its positions are {' x '.join(map(str, shape))}")
    y, x = ((rows - 1) // 2, (columns - 1) // 2) if position is None else position
    if not (0 <= y < rows and 0 <= x < columns):
        raise RequestError(f"'{tap}' has rows 0 to {rows - 1} and columns 0 to {columns - 1}, not {y},{x}")
    return prefix + y * columns + x
