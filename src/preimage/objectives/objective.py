"""What is asked of a network, and how questions combine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network, Place

Activations = Mapping[Place, Tensor]
"""Float32 activations [N, channels, *positions] by place, as `Network.run` returns them."""


class Objective(ABC):
    """A score of the activations, one number per image; larger is what is wanted.

    Objectives add, subtract and scale: `2 * a - b` is an objective too. One made from names (a class called
    "tabby") is resolved against a network by `bind`, which also checks that the network has what is asked.
    """

    @abstractmethod
    def places(self) -> frozenset[Place]:
        """What the network has to compute for this."""

    @abstractmethod
    def score(self, activations: Activations) -> Tensor:
        """The score of each image, float32 [N]."""

    @abstractmethod
    def bind(self, network: Network) -> Objective:
        """The same objective with every name resolved; raises `RequestError` if `network` cannot be asked this."""

    @abstractmethod
    def __str__(self) -> str:
        """How one would write it down."""

    def each(self, change: Callable[[Objective], Objective]) -> Objective:
        """The same combination with `change` applied to every objective that is not itself a combination."""
        return change(self)

    def __repr__(self) -> str:
        return f"<objective {self}>"

    def __add__(self, other: Objective) -> Objective:
        return _sum(self, other, 1.0)

    def __sub__(self, other: Objective) -> Objective:
        return _sum(self, other, -1.0)

    def __mul__(self, factor: float) -> Objective:
        if not isinstance(factor, Real):
            return NotImplemented
        return WeightedSum(tuple((weight * float(factor), term) for weight, term in _terms(self)))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Objective:
        if not isinstance(divisor, Real):
            return NotImplemented
        return self * (1.0 / float(divisor))

    def __neg__(self) -> Objective:
        return self * -1.0


@dataclass(frozen=True, repr=False)
class WeightedSum(Objective):
    """Several objectives at once, each with its weight."""

    terms: tuple[tuple[float, Objective], ...]

    def places(self) -> frozenset[Place]:
        return frozenset().union(*(term.places() for _, term in self.terms))

    def score(self, activations: Activations) -> Tensor:
        weighted = [weight * term.score(activations) for weight, term in self.terms]
        return torch.stack(weighted).sum(0)

    def bind(self, network: Network) -> Objective:
        return WeightedSum(tuple((weight, term.bind(network)) for weight, term in self.terms))

    def each(self, change: Callable[[Objective], Objective]) -> Objective:
        return WeightedSum(tuple((weight, term.each(change)) for weight, term in self.terms))

    def __str__(self) -> str:
        out = ""
        for weight, term in self.terms:
            sign = "-" if weight < 0 else "+"
            lead = f" {sign} " if out else sign.replace("+", "")
            out += f"{lead}{'' if abs(weight) == 1 else f'{abs(weight):g} * '}{term}"
        return out


@dataclass(frozen=True, repr=False)
class EachItsOwn(Objective):
    """A batch in which image i is asked `members[i]`."""

    members: tuple[Objective, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise RequestError("there is no objective to optimise")

    def places(self) -> frozenset[Place]:
        return frozenset().union(*(member.places() for member in self.members))

    def score(self, activations: Activations) -> Tensor:
        count = {len(value) for value in activations.values()}
        if count != {len(self.members)}:
            raise RequestError(f"{len(self.members)} objectives, but {sorted(count)} images")
        scores = [
            member.score({place: activations[place][i : i + 1] for place in member.places()})
            for i, member in enumerate(self.members)
        ]
        return torch.cat(scores)

    def bind(self, network: Network) -> Objective:
        return EachItsOwn(tuple(member.bind(network) for member in self.members))

    def each(self, change: Callable[[Objective], Objective]) -> Objective:
        return EachItsOwn(tuple(member.each(change) for member in self.members))

    def __str__(self) -> str:
        return "[" + ", ".join(map(str, self.members)) + "]"


def _terms(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, WeightedSum) else ((1.0, objective),)


def _sum(a: Objective, b: Objective, sign: float) -> Objective:
    if not isinstance(b, Objective):
        return NotImplemented
    return WeightedSum((*_terms(a), *_terms(b * sign)))
