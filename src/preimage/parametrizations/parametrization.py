"""Parameters -> image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Parametrization(ABC):
    """A differentiable map P from parameters v to images [N, channels, height, width] on the [0, 1] scale.

    channels, height, width: of the image.
    spread: standard deviation of the parameters that one starts from.
    """

    channels: int
    height: int
    width: int
    spread: float = 0.01

    @property
    def prefers_smooth(self) -> bool:
        """Whether equal steps in the parameters change coarse detail more than fine."""
        return False

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one image's parameters."""

    @abstractmethod
    def image(self, parameters: Tensor) -> Tensor:
        """Parameters [N, *shape] -> images [N, channels, height, width]."""

    def picture(self, parameters: Tensor) -> Tensor:
        """The image as it is shown and handed over, within [0, 1]."""
        return self.image(parameters).clamp(0, 1)

    def as_seen(self, images: Tensor, view: Callable[[Tensor], Tensor]) -> Tensor:
        """What the network gets: the images under a view (see `preimage.transforms`), [N, C, H, W].

        With n pictures for each image, [N * n, C, H, W], image by image.
        """
        return view(images)

    @abstractmethod
    def parameters(self, images: Tensor) -> Tensor:
        """Parameters whose image comes as close to `images` as this parametrization allows."""

    def resized(self, height: int, width: int) -> Parametrization:
        """The same parametrization for images of another size."""
        return replace(self, height=height, width=width)

    def describe(self) -> dict[str, Any]:
        """Its kind and every setting, as plain JSON types."""
        said = {one.name: getattr(self, one.name) for one in fields(self)}
        plain = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in said.items()}
        return {"kind": type(self).__name__, **plain}

    def start(self, generator: torch.Generator) -> Tensor:
        """Random parameters of one image, drawn on the CPU so that every device starts from the same ones."""
        return torch.randn(self.shape, generator=generator) * self.spread
