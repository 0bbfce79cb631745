"""What must not change the answer: random changes of the image, drawn anew in every step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

View = Callable[[Tensor], Tensor]
"""Images -> images, with all random numbers already drawn: an optimizer may look at one view many times."""


class Transform(ABC):
    """A random change of images [N, C, H, W], drawn once a step and the same for all images of a batch.

    It keeps the shape from step to step: a new shape would make the convolution library plan anew, and on a GPU
    forbid graph capture.
    """

    @abstractmethod
    def draw(self, generator: torch.Generator) -> View:
        """Draw the random numbers of one step (on the CPU) and return what to do with the images."""


class InTurn(Transform):
    """Several transforms, one after the other; with none, images stay as they are."""

    def __init__(self, transforms: Sequence[Transform]):
        self.transforms = tuple(transforms)

    def draw(self, generator: torch.Generator) -> View:
        views = [transform.draw(generator) for transform in self.transforms]

        def view(images: Tensor) -> Tensor:
            for one in views:
                images = one(images)
            return images

        return view

    def __repr__(self) -> str:
        return f"InTurn({list(self.transforms)})"


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """One number from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def integer(low: int, high: int, generator: torch.Generator) -> int:
    """One whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
