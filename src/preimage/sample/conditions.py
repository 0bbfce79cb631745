"""What chains are conditioned on: any objective of any network, or several of several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network, Place
from preimage.objectives import Objective, as_shares, class_gradients, resolve
from preimage.objectives.objective import Activations

Gradient = Literal["logprob", "prob", "logit", "unsure", "as asked"]
"""Of a class: d log s_c (paper 3's), ds_c, dl_c (table S2), or (1 - s_c) dl_c, the released code's. "as asked" leaves
hidden units as they are, too; else they count as shares of their layer."""


@dataclass(frozen=True)
class Condition:
    """What one network is asked, and how much that counts among several conditions."""

    network: Network
    objective: str | Objective
    weight: float = 1.0


@dataclass(frozen=True)
class Judges:
    """Several networks that see the same images, each at its own size; an `Answering`.

    Taps are named NUMBER/TAP.
    """

    networks: tuple[Network, ...]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Borrow all modules for many runs at once."""
        with ExitStack() as stack:
            for network in self.networks:
                stack.enter_context(network.held())
            yield

    def run(self, images: Tensor, taps: Iterable[str | Place]) -> dict[Place, Tensor]:
        """As `Network.run`, for the taps of all."""
        wanted: dict[int, dict[Place, Place]] = {}
        for tap in taps:
            place = tap if isinstance(tap, Place) else Place(tap)
            number, own = place.tap.split("/", 1)
            wanted.setdefault(int(number), {})[place] = Place(own, place.after_relu)
        found: dict[Place, Tensor] = {}
        for index, places in wanted.items():
            network = self.networks[index]
            answers = network.run(fitted(images, network), places.values())
            found |= {place: answers[own] for place, own in places.items()}
        return found


def fitted(images: Tensor, network: Network) -> Tensor:
    """Images at the size that a network takes, [N, C, H, W]."""
    if tuple(images.shape[2:]) == network.input_size:
        return images
    return F.interpolate(images, network.input_size, mode="bilinear", antialias=True, align_corners=False)


@dataclass(frozen=True, repr=False)
class Asked(Objective):
    """An objective, bound, of one network among several."""

    terms: tuple[tuple[float, int, Objective], ...]
    name: str

    def places(self) -> frozenset[Place]:
        return frozenset(_of(number, place) for _, number, term in self.terms for place in term.places())

    def score(self, activations: Activations) -> Tensor:
        total: Tensor | float = 0.0
        for weight, number, term in self.terms:
            own = {place: activations[_of(number, place)] for place in term.places()}
            total = total + weight * term.score(own)
        assert isinstance(total, Tensor)
        return total

    def bind(self, network: Network) -> Asked:
        return self

    def __str__(self) -> str:
        return self.name


def _of(number: int, place: Place) -> Place:
    return Place(f"{number}/{place.tap}", place.after_relu)


def conditions(
    network: Network, objectives: str | Objective | Sequence[str | Objective], also: Sequence[Condition], gradient: str
) -> tuple[Judges, list[Asked]]:
    """The networks that judge, and what they are asked: one for each of `objectives`, with all of `also`."""
    if gradient not in get_args(Gradient):
        raise RequestError(f"gradient is one of {', '.join(get_args(Gradient))}, not '{gradient}'")

    def asked(objective: Objective) -> Objective:
        if gradient == "as asked":
            return objective
        return class_gradients(as_shares(objective), gradient)  # type: ignore[arg-type]

    networks = [network]
    shared = []
    for one in also:
        if one.network not in networks:
            networks.append(one.network)
        for objective in resolve(one.objective, one.network):
            shared.append((one.weight, networks.index(one.network), asked(objective)))
    found = []
    for objective in resolve(objectives, network):
        terms = ((1.0, 0, asked(objective)), *shared)
        name = " and ".join([str(objective), *(f"{weight:g} * {term}" for weight, _, term in shared)])
        found.append(Asked(terms, name))
    return Judges(tuple(networks)), found
