"""Which layer a method looks at unless one says, and going back from what is asked to a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.method import Question
from preimage.network import Network, Place, Tap
from preimage.objectives import EachItsOwn

EXCITATION_SIDE = 28
"""Excitation backprop stops at maps of 28 x 28: GoogLeNet's pool2/3x3_s2 at 224 pixels (SPEC M11)."""

_SAME = 1e-3
_chosen: WeakKeyDictionary[Network, dict[tuple[str, frozenset[Place]], str]] = WeakKeyDictionary()


def excitation_layer(network: Network, objective: EachItsOwn) -> str:
    """The first layer of at most 28 x 28 positions that all of the answer passes through and that is never negative.

    pool2/3x3_s2 of GoogLeNet, `layer2.0` of a ResNet, `features.5` of SqueezeNet 1.1. If none is never negative: the
    first that all passes through. Found with images of noise, so that it does not depend on the photos.

    Raises `RequestError` if there is none.
    """

    def choose() -> str | None:
        layers = _Layers(network, objective.places())
        small = [tap for tap in layers.maps() if max(tap.shape[1:]) <= EXCITATION_SIDE]
        for tap in sorted(small, key=lambda tap: bool(layers.values(tap).min() < 0)):
            if layers.is_passage(tap):
                return layers.outermost(tap)
        return None

    return _choice("excitation", network, objective, choose)


def grad_cam_layer(network: Network, objective: EachItsOwn) -> str:
    """The last layer with positions that does not hold the class scores yet, by its outermost name.

    `layer4` of a ResNet, `inception5b` of GoogLeNet, `features` of SqueezeNet.

    Raises `RequestError` if there is none, or if the network goes on with tokens behind it.
    """

    def choose() -> str | None:
        layers = _Layers(network, objective.places())
        maps = [tap for tap in layers.maps() if not layers.is_class_scores(tap)]
        if not maps:
            return None
        if any(len(tap.shape) == 2 for tap in layers.before[layers.before.index(maps[-1]) + 1 :]):
            raise RequestError(
                f"{network.name} goes on with tokens behind '{maps[-1].name}', its last map; name a layer with at="
            )
        return layers.outermost(maps[-1])

    return _choice("grad-cam", network, objective, choose)


def layer_place(network: Network, name: str) -> Place:
    """Where a layer's activations are taken: behind a final ReLU, as the network goes on with them."""
    return Place(network.tap(name).name, after_relu=True)


def activations(asked: Question, place: Place) -> Tensor:
    """What the photos give at a layer: [N, channels, h, w], without a gradient.

    Raises `RequestError` if the layer has no positions.
    """
    with torch.no_grad():
        values = asked.network.run(asked.photos, [place])[place]
    if values.ndim != 4:
        raise RequestError(f"'{place.tap}' has no map of positions, its shape is {list(values.shape[1:])}")
    return values.detach().clone()


def check_behind(score: Tensor, asked: Question, place: Place) -> None:
    """Raise `RequestError` if what is asked does not depend on the layer."""
    if not score.requires_grad:
        raise RequestError(f"{asked.objectives[0]} does not depend on '{place.tap}'; take a layer before it with at=")


def at_photo_size(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [N, h, w] of a layer, bilinear, at the photos' size: [N, H, W]."""
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _choice(what: str, network: Network, objective: EachItsOwn, choose: Callable[[], str | None]) -> str:
    known = _chosen.setdefault(network, {})
    key = (what, objective.places())
    if key not in known:
        name = choose()
        if name is None:
            raise RequestError(
                f"{network.name} has no layer for {what} before {objective.members[0]}; name one with at="
            )
        known[key] = name
    return known[key]


class _Layers:
    """The layers before some places, tried out with two images of noise."""

    def __init__(self, network: Network, places: Iterable[Place]):
        self._network, self._places = network, list(places)
        taps = list(network.taps())
        names = [tap.name for tap in taps]
        self.before: list[Tap] = taps[: min(names.index(network.tap(place.tap).name) for place in self._places)]
        generator = torch.Generator().manual_seed(0)
        images = torch.rand((2, network.channels, *network.input_size), generator=generator).to(network.device)
        self._one, self._other = images[:1], images[1:]
        asked = [layer_place(network, place.tap) for place in self._places]
        wanted = [Place(tap.name, after_relu=True) for tap in self.maps()]
        with torch.no_grad(), network.held():
            seen = network.run(self._one, [*wanted, *asked])
            self._seen = {place.tap: value for place, value in seen.items()}
            self._answers = [self._flat(network.run(image, self._places)) for image in (self._one, self._other)]
        # The ReLU that a layer ends in gives what the layer does, and is not before it.
        self.before = [
            tap for tap in self.before if not any(_is_same(self._seen.get(tap.name), seen[place]) for place in asked)
        ]

    def maps(self) -> list[Tap]:
        """Layers with more than one position, of which the whole output is one tensor."""
        return [tap for tap in self.before if len(tap.shape) == 3 and max(tap.shape[1:]) > 1 and "[" not in tap.name]

    def values(self, tap: Tap) -> Tensor:
        """What a layer gives for noise, [1, channels, h, w]."""
        return self._seen[tap.name]

    def outermost(self, tap: Tap) -> str:
        """The name highest up of a layer that gives the same: `layer4` for `layer4.2.relu#3`."""
        value = self.values(tap)
        same = [one for one in self.maps() if _is_same(self.values(one), value)]
        return min(same, key=lambda one: one.name.count(".")).name

    def is_passage(self, tap: Tap) -> bool:
        """Whether nothing of the image reaches the answer on another way."""
        with torch.no_grad(), self._network.held():
            answer = self._flat(self._network.beyond(tap.name, self._other).run(self.values(tap), self._places))
        one, other = self._answers
        return bool((answer - one).abs().max() <= _SAME * (one - other).abs().max())

    def is_class_scores(self, tap: Tap) -> bool:
        """Whether a layer holds the scores already, for each position: one channel for each that is asked."""
        answer = self._network.tap(self._places[0].tap)
        if answer.channels != tap.channels:
            return False
        values = self.values(tap).detach().clone().requires_grad_()
        with torch.enable_grad(), self._network.held():
            first = self._network.beyond(tap.name, self._one).run(values, self._places)[self._places[0]][:, 0].sum()
            if not first.requires_grad:
                return False
            gradient = torch.autograd.grad(first, values)[0]
        return not bool(gradient[:, 1:].any())

    def _flat(self, values: dict[Place, Tensor]) -> Tensor:
        return torch.cat([values[place].flatten() for place in self._places])


def _is_same(one: Tensor | None, other: Tensor) -> bool:
    return one is not None and one.shape == other.shape and torch.equal(one, other)
