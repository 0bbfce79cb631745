"""Guided backprop (SPEC M10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from preimage.explain.gradient import through_rectifiers, with_gradient
from preimage.explain.method import Found, Method, Question
from preimage.network.backward_rules import RectifierRule


@dataclass(frozen=True)
class GuidedBackprop(Method):
    """The pixels that raise the answer through units which are on and raise it themselves.

    Springenberg et al. 2015: the gradient, but every ReLU hands back only what is positive, and only where it is on
    (a ReLU6 also only where it is below 6); then as `Gradient`. Adebayo et al. 2018 show that such maps hardly depend
    on the class. Raises `RequestError` for a network without ReLUs; where there are other activation functions
    besides, a note says so.
    """

    name: ClassVar[str] = "guided-backprop"
    source: ClassVar[str] = "Springenberg et al. 2015; paper 4, SPEC M10"

    def explain(self, asked: Question) -> Found:
        photos = with_gradient(asked.photos)
        return through_rectifiers(asked, self, RectifierRule("guided", photos), photos)
