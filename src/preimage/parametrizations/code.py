"""Images parametrized by a generator's code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.parametrizations.parametrization import Parametrization

Generate = Callable[[Tensor], Tensor]
"""Codes [N, *code shape] -> images [N, channels, height, width] in [0, 1], differentiable."""


@dataclass(frozen=True, eq=False)
class Code(Parametrization):
    """P(v) = G(h): the parameters are the code of a generator (paper 3, equations 8 to 11).

    generate: G. code: the shape of one code. encode: images -> codes, for starts that are images; None: there are none.
    spread: standard deviation of the codes that one starts from; the released code starts from N(0, 1) (SPEC P.3).
    """

    spread: float = 1.0
    generate: Generate = field(kw_only=True)
    code: tuple[int, ...] = field(kw_only=True)
    encode: Callable[[Tensor], Tensor] | None = field(default=None, kw_only=True)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.code

    def image(self, parameters: Tensor) -> Tensor:
        return self.generate(parameters)

    def parameters(self, images: Tensor) -> Tensor:
        if self.encode is None:
            raise RequestError("a generator without an encoder cannot start from an image")
        with torch.no_grad():
            return self.encode(images)

    def resized(self, height: int, width: int) -> Code:
        if (height, width) != (self.height, self.width):
            raise RequestError(f"this generator makes images of {self.height} x {self.width}, not {height} x {width}")
        return self

    def describe(self) -> dict[str, Any]:
        return {"kind": "Code", "code": list(self.code), "size": [self.height, self.width], "spread": self.spread}


@dataclass(frozen=True, eq=False)
class FilledIn(Parametrization):
    """An image of which a part is known: x = M P(v) + (1 - M) x_real (paper 3, equation 25; inpainting).

    `image` is P(v) itself, which regularizers may compare with what is known; the network, and whoever looks, get x.

    inner: P. known: x_real, float32 [channels, height, width]. missing: M, 1 where pixels are made up, [1, height,
        width] of zeros and ones.
    """

    inner: Parametrization = field(kw_only=True)
    known: Tensor = field(kw_only=True)
    missing: Tensor = field(kw_only=True)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape

    def image(self, parameters: Tensor) -> Tensor:
        return self.inner.image(parameters)

    def parameters(self, images: Tensor) -> Tensor:
        return self.inner.parameters(images)

    def start(self, generator: torch.Generator) -> Tensor:
        return self.inner.start(generator)

    def filled(self, images: Tensor) -> Tensor:
        """x of images P(v): known pixels are exactly what they were."""
        missing = self.missing.to(images.device, torch.bool)
        return torch.where(missing, images, self.known.to(images))

    def as_seen(self, images: Tensor, view: Callable[[Tensor], Tensor]) -> Tensor:
        return self.inner.as_seen(self.filled(images), view)

    def picture(self, parameters: Tensor) -> Tensor:
        return self.filled(self.inner.picture(parameters))

    def resized(self, height: int, width: int) -> FilledIn:
        if (height, width) != (self.height, self.width):
            raise RequestError(f"a photo of {self.height} x {self.width} is filled in, not {height} x {width}")
        return self

    def describe(self) -> dict[str, Any]:
        return {**self.inner.describe(), "missing pixels": int(self.missing.sum())}
