"""A: gradient -> step. The loop knows optimizers by these two interfaces only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Parameters [N, ...] -> (J of each image [N], gradient of J [N, ...]), under the view of the present step."""


class Ascender(ABC):
    """An optimizer at work on one batch: it holds what it remembers from step to step."""

    @abstractmethod
    def step(self, parameters: Tensor, value: Tensor, gradient: Tensor, evaluate: Evaluate) -> Tensor:
        """What to add to `parameters` [N, ...] so that J grows, given J [N] and its gradient there.

        `evaluate` is for those that look ahead along a line; each image is treated on its own.
        """

    @abstractmethod
    def keep(self, images: Tensor) -> None:
        """Go on with some images of the batch only: `images` is bool [N]."""


class Optimizer(ABC):
    """Settings of a way to climb."""

    looks_ahead = False
    """Whether steps call `evaluate`; the loop then remembers the last point that was looked at. Such an optimizer
    finds the length of its steps by itself."""

    @property
    def forgets(self) -> bool:
        """Whether a step depends on nothing but the gradient where it starts."""
        return False

    @abstractmethod
    def start(self) -> Ascender:
        """Begin with empty memory."""


def per_image(numbers: Tensor, like: Tensor) -> Tensor:
    """[N] -> [N, 1, 1, ...], to scale each image's parameters."""
    return numbers.view(-1, *(1,) * (like.ndim - 1))
