"""What is asked of a network, and how questions combine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
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

    def all_places(self) -> frozenset[Place]:
        """What the network has to compute at one time or another; more than `places` for a sequence."""
        return self.places()

    def check(self, steps: int) -> None:  # noqa: B027 (most objectives are asked all the time)
        """Raise `RequestError` if something would never be asked in so many steps."""

    def at(self, progress: float) -> Objective:
        """What is asked when this share of the steps, from 0 to 1, is done; itself, unless it is a sequence."""
        return self

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

    def at(self, progress: float) -> Objective:
        now = tuple((weight, term.at(progress)) for weight, term in self.terms)
        return self if all(a[1] is b[1] for a, b in zip(now, self.terms, strict=True)) else WeightedSum(now)

    def all_places(self) -> frozenset[Place]:
        return frozenset().union(*(term.all_places() for _, term in self.terms))

    def check(self, steps: int) -> None:
        for _, term in self.terms:
            term.check(steps)

    def __str__(self) -> str:
        out = ""
        for weight, term in self.terms:
            sign = "-" if weight < 0 else "+"
            lead = f" {sign} " if out else sign.replace("+", "")
            out += f"{lead}{'' if abs(weight) == 1 else f'{abs(weight):g} * '}{term}"
        return out


@dataclass(frozen=True, repr=False)
class EachItsOwn(Objective):
    """A batch in which image i is asked `members[i]`.

    Where a transform shows the network several views of each image (image by image), every member is asked for all
    views of its own image, and the mean of its scores counts.
    """

    members: tuple[Objective, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise RequestError("there is no objective to optimise")

    def places(self) -> frozenset[Place]:
        return frozenset().union(*(member.places() for member in self.members))

    def score(self, activations: Activations) -> Tensor:
        counts = {len(value) for value in activations.values()}
        views, left = divmod(max(counts), len(self.members))
        if len(counts) > 1 or left or not views:
            raise RequestError(f"{len(self.members)} objectives, but {sorted(counts)} images")
        scores = [
            member.score({place: activations[place][i * views : (i + 1) * views] for place in member.places()})
            for i, member in enumerate(self.members)
        ]
        if views > 1:
            scores = [score.mean(0, keepdim=True) for score in scores]
        return torch.cat(scores)

    def bind(self, network: Network) -> Objective:
        return EachItsOwn(tuple(member.bind(network) for member in self.members))

    def each(self, change: Callable[[Objective], Objective]) -> Objective:
        return EachItsOwn(tuple(member.each(change) for member in self.members))

    def at(self, progress: float) -> EachItsOwn:
        now = tuple(member.at(progress) for member in self.members)
        return self if all(a is b for a, b in zip(now, self.members, strict=True)) else EachItsOwn(now)

    def all_places(self) -> frozenset[Place]:
        return frozenset().union(*(member.all_places() for member in self.members))

    def check(self, steps: int) -> None:
        for member in self.members:
            member.check(steps)

    def kept(self, images: Sequence[bool]) -> EachItsOwn:
        """Some images of the batch only."""
        return EachItsOwn(tuple(member for member, stays in zip(self.members, images, strict=True) if stays))

    def __str__(self) -> str:
        return "[" + ", ".join(map(str, self.members)) + "]"


def _terms(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, WeightedSum) else ((1.0, objective),)


def _sum(a: Objective, b: Objective, sign: float) -> Objective:
    if not isinstance(b, Objective):
        return NotImplemented
    return WeightedSum((*_terms(a), *_terms(b * sign)))
