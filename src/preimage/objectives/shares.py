"""How sure a hidden layer is of one of its channels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network, Place
from preimage.objectives.objective import Activations, Objective
from preimage.objectives.units import Channel, Unit, check_channel, flat_position


@dataclass(frozen=True, repr=False)
class Share(Objective):
    """log of the softmax over a layer's channels at one position: paper 3's condition on a hidden unit (figures S19 and
    S20; SPEC P20), which makes of any channel something like a class.

    position: (y, x), or the centre of whatever map the image gives; a layer without positions has none.
    """

    place: Place
    index: int
    position: tuple[int, int] | None = None

    def places(self) -> frozenset[Place]:
        return frozenset({self.place})

    def score(self, activations: Activations) -> Tensor:
        values = activations[self.place]
        if values.ndim > 2:
            spot = flat_position(tuple(values.shape[2:]), self.position, self.place.tap)
            values = values.flatten(2)[:, :, spot]
        return values.log_softmax(1)[:, self.index]

    def bind(self, network: Network) -> Share:
        tap = check_channel(network, self.place.tap, self.index)
        if self.position is not None and len(tap.shape) == 1:
            raise RequestError(f"'{tap.name}' has no positions: its shape is {tap.channels}")
        return self

    def __str__(self) -> str:
        at = "" if self.position is None else "@{},{}".format(*self.position)
        return f"logprob {self.place}:{self.index}{at}"


def as_shares(objective: Objective) -> Objective:
    """The same question with every unit, and every channel (at the centre of its map), replaced by its share."""

    def change(leaf: Objective) -> Objective:
        if isinstance(leaf, Unit):
            return Share(leaf.place, leaf.index, leaf.position)
        return Share(leaf.place, leaf.index) if isinstance(leaf, Channel) else leaf

    return objective.each(change)
