"""What is asked of a network, and how questions combine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Self

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

    def without_kinks(self, activations: Activations, share: float) -> Objective:
        """The same without kinks of its own, as wide as this share of the mean size of one image's activations; itself
        where it has none."""
        return self

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


class Combined(Objective):
    """An objective made of others: what concerns each of them is handed on."""

    @property
    @abstractmethod
    def parts(self) -> tuple[Objective, ...]:
        """What it is made of."""

    @abstractmethod
    def of(self, parts: tuple[Objective, ...]) -> Self:
        """The same combination of other parts."""

    def places(self) -> frozenset[Place]:
        return frozenset().union(*(part.places() for part in self.parts))

    def all_places(self) -> frozenset[Place]:
        return frozenset().union(*(part.all_places() for part in self.parts))

    def bind(self, network: Network) -> Self:
        return self.of(tuple(part.bind(network) for part in self.parts))

    def each(self, change: Callable[[Objective], Objective]) -> Self:
        return self.of(tuple(part.each(change) for part in self.parts))

    def at(self, progress: float) -> Objective:
        now = tuple(part.at(progress) for part in self.parts)
        return self if all(a is b for a, b in zip(now, self.parts, strict=True)) else self.of(now)

    def check(self, steps: int) -> None:
        for part in self.parts:
            part.check(steps)


@dataclass(frozen=True, repr=False)
class WeightedSum(Combined):
    """Several objectives at once, each with its weight."""

    terms: tuple[tuple[float, Objective], ...]

    @property
    def parts(self) -> tuple[Objective, ...]:
        return tuple(term for _, term in self.terms)

    def of(self, parts: tuple[Objective, ...]) -> Self:
        return type(self)(tuple((weight, part) for (weight, _), part in zip(self.terms, parts, strict=True)))

    def score(self, activations: Activations) -> Tensor:
        weighted = [weight * term.score(activations) for weight, term in self.terms]
        return torch.stack(weighted).sum(0)

    def __str__(self) -> str:
        out = ""
        for weight, term in self.terms:
            sign = "-" if weight < 0 else "+"
            lead = f" {sign} " if out else sign.replace("+", "")
            out += f"{lead}{'' if abs(weight) == 1 else f'{abs(weight):g} * '}{term}"
        return out


@dataclass(frozen=True, repr=False)
class Members(Combined):
    """A combination without any numbers of its own."""

    members: tuple[Objective, ...]

    @property
    def parts(self) -> tuple[Objective, ...]:
        return self.members

    def of(self, parts: tuple[Objective, ...]) -> Self:
        return replace(self, members=parts)


@dataclass(frozen=True, repr=False)
class EachItsOwn(Members):
    """A batch in which image i is asked `members[i]`.

    Where a transform shows the network several views of each image (image by image), every member is asked for all
    views of its own image, and the mean of its scores counts.
    """

    def __post_init__(self) -> None:
        if not self.members:
            raise RequestError("there is no objective to optimise")

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

    def at(self, progress: float) -> EachItsOwn:
        now = super().at(progress)
        assert isinstance(now, EachItsOwn)
        return now

    def smoothed(self, activations: Activations, share: float) -> EachItsOwn:
        """The same with the kinks of its own maxima as wide as this share of the mean size of each image's activations
        (`preimage.network.smoothing`)."""
        views = len(next(iter(activations.values()))) // len(self.members)
        members = []
        for i, member in enumerate(self.members):
            own = {place: value[i * views : (i + 1) * views] for place, value in activations.items()}
            members.append(member.each(lambda leaf, own=own: leaf.without_kinks(own, share)))  # type: ignore[misc]
        return EachItsOwn(tuple(members))

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
