"""The deconvnet (Zeiler & Fergus 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from preimage.explain.gradient import through_rectifiers, with_gradient
from preimage.explain.method import Found, Method, Question
from preimage.network.backward_rules import RectifierRule


@dataclass(frozen=True)
class Deconvnet(Method):
    """The pixels that raise the answer through units which raise it themselves, be they on or off.

    Zeiler & Fergus 2014, in the form of Simonyan et al. 2014: the gradient, but every ReLU hands back what is positive,
    wherever it is on; then as `Gradient`. Raises `RequestError` for a network without ReLUs; where there are other
    activation functions besides, a note says so.
    """

    name: ClassVar[str] = "deconvnet"
    source: ClassVar[str] = "Zeiler & Fergus 2014"

    def explain(self, asked: Question) -> Found:
        photos = with_gradient(asked.photos)
        return through_rectifiers(asked, self, RectifierRule("deconvnet", photos), photos)
