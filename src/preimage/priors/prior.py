"""What the loop knows of priors that act on the solution or on its update, and nothing more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor


class Kernel(Protocol):
    """A filter: K_e on the solution ("elastic") or K_f on the update ("fluid"); paper 2, SPEC S5 to S7."""

    def __call__(self, values: Tensor) -> Tensor:
        """Smooth parameters or gradients [N, C, H, W]; the shape stays."""


class Denoiser(Protocol):
    """r(v): parameters moved towards what it finds plausible; the loop adds eps_1 (r(v) - v) (SPEC P6 to P10)."""

    def __call__(self, values: Tensor) -> Tensor:
        """The plausible neighbour of each v; the shape stays."""


class Schedule(ABC):
    """A kernel that changes from step to step, or is there in some steps only."""

    @abstractmethod
    def at(self, step: int, steps: int) -> Kernel | None:
        """The kernel that follows step `step` (from 0) of `steps`; None: nothing happens then."""

    def settled(self, steps: int) -> int:
        """From which step on nothing changes any more, but for what repeats."""
        return 0

    def check(self, steps: int) -> None:  # noqa: B027 (most schedules have nothing to refuse)
        """Raise `RequestError` if something that is planned never happens within `steps` steps."""
