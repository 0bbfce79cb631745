"""Excitation backprop, plain and contrastive (SPEC M11, M12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.gradient import with_gradient
from preimage.explain.layers import activations, at_photo_size, check_behind, excitation_layer, layer_place
from preimage.explain.method import Found, Method, Question
from preimage.network.excitation import TINY, Additions, Excitation, contrast_last_layers
from preimage.objectives import EachItsOwn, resolve


@dataclass(frozen=True)
class ExcitationBackprop(Method):
    """Where in a middle layer the units are that excite the answer, each unit's mass shared out to those below it.

    Zhang et al. 2016; rules, and what they are for residuals, BatchNorm and activations below zero: see
    `preimage.network.excitation`. The mass at the top is d score / d activation: one at a class's logit, so that the
    mass of a network without residuals is a probability. Heatmaps [N, H, W]: the sum over the layer's channels,
    bilinear to the photo's size. Any objective behind the layer.

    at: the layer; default: the first of at most 28 x 28 positions that all of the answer passes through and that is
        never negative (GoogLeNet's pool2/3x3_s2, as in paper 4).
    stabilizer: what is added to each excitation before something is divided by it.
    additions: "signed", as TorchRay and zennit share a sum of two activations; "positive", which keeps all mass
        positive where they have opposite signs.

    Raises `RequestError` at what has no rule: gates, attention, GELU ...
    """

    name: ClassVar[str] = "excitation-backprop"
    source: ClassVar[str] = "Zhang et al. 2016; paper 4, SPEC M11"

    at: str | None = None
    stabilizer: float = TINY
    additions: Additions = "signed"

    def __post_init__(self) -> None:
        if not self.stabilizer >= 0:
            raise RequestError(f"a stabilizer is not negative, and {self.stabilizer} is")
        if self.additions not in ("signed", "positive"):
            raise RequestError(f"additions are 'signed' or 'positive', not '{self.additions}'")

    def explain(self, asked: Question) -> Found:
        mass, tap = self.mass(asked)
        maps = at_photo_size(self._map(mass), asked.size)
        return Found(maps, details=[{"at": tap} for _ in range(len(asked))])

    def mass(self, asked: Question) -> tuple[Tensor, str]:
        """The mass of every unit, [N, channels, h, w], and the name of the layer."""
        network, objective = asked.network, self._objective(asked)
        with network.held():
            place = layer_place(network, self.at or excitation_layer(network, objective))
            values = with_gradient(activations(asked, place))
            rules = Excitation(values, asked.photos, stabilizer=self.stabilizer, additions=self.additions)
            with torch.enable_grad():
                with rules:
                    found = network.beyond(place.tap, asked.photos).run(values, objective.places())
                score = objective.score(found).sum()
            check_behind(score, asked, place)
            self._prepare(list(found.values()))
            mass = torch.autograd.grad(score, values)[0]
        return mass, place.tap

    def _objective(self, asked: Question) -> EachItsOwn:
        return asked.together()

    def _prepare(self, outputs: list[Tensor]) -> None:
        """Change the way back before it is gone."""

    def _map(self, mass: Tensor) -> Tensor:
        return mass.sum(1)


@dataclass(frozen=True)
class ContrastiveExcitationBackprop(ExcitationBackprop):
    """Where in a middle layer the units are that excite the answer more than they excite what speaks against it.

    Zhang et al. 2016, section 3.4; SPEC M.5-13. The mass that the last layer with weights hands down, less that which
    it would hand down with all weights negated, without normalising again; the signed difference goes on down by the
    rules of `ExcitationBackprop`. Heatmaps [N, H, W]: the sum over channels, then what is positive of it.

    contrast: None, or another class (`class:NAME`), whose mass is taken off instead of that of the negated weights.
    """

    name: ClassVar[str] = "contrastive-excitation-backprop"
    source: ClassVar[str] = "Zhang et al. 2016, section 3.4; paper 4, SPEC M12"

    contrast: str | None = None

    def _objective(self, asked: Question) -> EachItsOwn:
        if self.contrast is None:
            return asked.together()
        others = resolve(self.contrast, asked.network)
        if len(others) != 1:
            raise RequestError(f"a contrast is one class, not the {len(others)} of '{self.contrast}'")
        # The rules are linear: the mass of the difference is the difference of the masses.
        return EachItsOwn(tuple(one - others[0] for one in asked.objectives))

    def _prepare(self, outputs: list[Tensor]) -> None:
        if self.contrast is None:
            contrast_last_layers(*outputs)

    def _map(self, mass: Tensor) -> Tensor:
        return mass.sum(1).clamp(min=0)
