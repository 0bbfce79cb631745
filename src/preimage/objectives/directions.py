"""Asking for a direction in the space of a layer's channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network, Place, smooth_max_pool
from preimage.objectives.classes import Label
from preimage.objectives.objective import Activations, Objective
from preimage.objectives.units import Channel, flat_position

Aggregate = Literal["max-mean", "mean", "centre"]


@dataclass(frozen=True, repr=False, eq=False)
class Direction(Objective):
    """S_x(y) = x^T y (x^T y / |y|)^k for the layer's aggregated response y (paper 1, section 2; SPEC I1, I4).

    `floor`, if given, bounds the cosine from below (the max(0.1, cos) of the Lucid library, SPEC I.4-2): without
    it S has a saddle where x and y are perpendicular, and for odd k it rewards what points the other way.
    `width`, if given, is how wide the kinks of the aggregation's maxima are made, in the units of the layer
    (`preimage.network.smoothing`). `features`, if given, are the channels that y consists of, instead of all.
    """

    place: Place
    vector: Tensor
    cosine_power: float = 2.0
    aggregate: Aggregate = "max-mean"
    floor: float | None = None
    width: float | None = None
    features: tuple[int, ...] | None = None

    def places(self) -> frozenset[Place]:
        return frozenset({self.place})

    def score(self, activations: Activations) -> Tensor:
        activation = activations[self.place]
        if self.features is not None:
            activation = activation[:, list(self.features)]
        response = aggregated(activation, self.aggregate, self.width)
        vector = self.vector.to(response)
        projection = response @ vector
        if self.cosine_power == 0:
            return projection
        # |y| > 0 keeps the gradient finite where nothing answers at all.
        cosine = projection / response.norm(dim=1).clamp_min(1e-12)
        if self.floor is not None:
            cosine = cosine.clamp_min(self.floor)
        score: Tensor = projection * cosine**self.cosine_power
        return score

    def without_kinks(self, activations: Activations, share: float) -> Direction:
        values = activations[self.place]
        if not has_maxima(values, self.aggregate):
            return self
        return replace(self, width=maxima_width(values, share))

    def bind(self, network: Network) -> Direction:
        tap = network.tap(self.place.tap)
        if self.features is not None:
            if not all(0 <= index < tap.channels for index in self.features):
                raise RequestError(f"'{tap.name}' has channels 0 to {tap.channels - 1}, not all of {self.features}")
            if len(set(self.features)) < len(self.features):
                raise RequestError(f"no feature of '{tap.name}' counts twice, but {self.features} were given")
            if len(self.vector) != len(self.features):
                raise RequestError(f"{len(self.features)} features take as many numbers, not {len(self.vector)}")
            return self
        if self.vector.shape != (tap.channels,):
            raise RequestError(
                f"a direction at '{tap.name}' has shape [{tap.channels}], one number per channel, "
                f"not {list(self.vector.shape)}"
            )
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Direction) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return (
            self.place,
            tuple(self.vector.tolist()),
            self.cosine_power,
            self.aggregate,
            self.floor,
            self.width,
            self.features,
        )

    def __str__(self) -> str:
        strongest = int(self.vector.abs().argmax())
        strongest = strongest if self.features is None else self.features[strongest]
        return f"direction({self.place}, {len(self.vector)} channels, strongest {strongest}, cos^{self.cosine_power:g})"


def direction(
    tap: str,
    vector: Tensor | Sequence[float],
    cosine_power: float = 2.0,
    aggregate: Aggregate = "max-mean",
    *,
    floor: float | None = None,
    after_relu: bool = False,
    features: Sequence[int] | None = None,
) -> Direction:
    """A direction in channel space: x^T y times the k-th power of the cosine between x and y.

    vector: [channels]; it is scaled to unit length.
    cosine_power: k; 0 leaves the plain projection.
    aggregate: how a map becomes one number per channel: mean of 3 x 3 maxima, mean, or the central position.
    features: the channels that y consists of, instead of all; then `vector` has one number for each of them.

    Raises `RequestError` for a vector of zeros or one that is not finite, a negative power or an unknown aggregate.
    """
    values = torch.as_tensor(vector, dtype=torch.float64).detach().cpu().clone()
    length = values.norm()
    if values.ndim != 1 or not torch.isfinite(length) or length == 0:
        raise RequestError("a direction needs one finite number per channel, not all of them zero")
    if cosine_power < 0:
        raise RequestError(f"cosine_power must not be negative, but is {cosine_power:g}")
    if aggregate not in get_args(Aggregate):
        raise RequestError(f"aggregate must be one of {', '.join(get_args(Aggregate))}, not '{aggregate}'")
    chosen = None if features is None else tuple(int(index) for index in features)
    return Direction(
        Place(tap, after_relu), (values / length).float(), float(cosine_power), aggregate, floor, None, chosen
    )


def floored_cosines(objective: Objective) -> Objective:
    """The same question with every cosine kept above 0.1, as Lucid does to get off the start (SPEC I.4-2)."""

    def change(leaf: Objective) -> Objective:
        return replace(leaf, floor=0.1) if isinstance(leaf, Direction) and leaf.floor is None else leaf

    return objective.each(change)


def as_directions(objective: Objective) -> Objective:
    """The same question as paper 1 asks it: of a channel or a class logit the direction e_i, S = y_i (y_i / |y|)^2 for
    the layer's means of maxima y, so that the feature is to stand out and not only to be strong."""

    def change(leaf: Objective) -> Objective:
        if isinstance(leaf, Channel):
            index, count = leaf.index, leaf.channels
        elif isinstance(leaf, Label) and leaf.kind == "logit" and isinstance(leaf.label, int):
            index, count = leaf.label, leaf.classes
        else:
            return leaf
        if count is None:
            raise RequestError(f"{leaf} is asked as a direction once it is bound to a network")
        vector = torch.zeros(count)
        vector[index] = 1
        return Direction(leaf.place, vector)

    return objective.each(change)


def floored_directions(objective: Objective) -> Objective:
    """`as_directions` with `floored_cosines`."""
    return floored_cosines(as_directions(objective))


def aggregated(activation: Tensor, aggregate: Aggregate, width: Tensor | float | None = None) -> Tensor:
    """The feature response y, [N, channels], of an activation [N, channels, *positions] (SPEC I4).

    width: of the smoothed kinks of the maxima, a number or one per image, [N]; None: maxima as they are.
    """
    if activation.ndim == 2:
        return activation
    if has_maxima(activation, aggregate):
        if width is None:
            activation = F.max_pool2d(activation, 3, stride=1)
        else:
            wide = torch.as_tensor(width, dtype=activation.dtype, device=activation.device).view(-1, 1, 1, 1)
            activation = smooth_max_pool(activation, wide, (3, 3), (1, 1))
    flat = activation.flatten(2)
    if aggregate == "centre":
        return flat[:, :, flat_position(tuple(activation.shape[2:]), None, "the layer")]
    return flat.mean(2)


def maxima_width(activation: Tensor, share: float) -> float:
    """How wide the kinks of the maxima over an image's activation are made, in the units of the layer."""
    return share * float(activation.detach().abs().mean())


def has_maxima(activation: Tensor, aggregate: Aggregate) -> bool:
    """Whether this activation is pooled by its maxima: a map of at least 3 x 3 positions."""
    return activation.ndim == 4 and aggregate == "max-mean" and min(activation.shape[2:]) >= 3
