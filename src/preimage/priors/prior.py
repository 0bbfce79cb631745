"""What the loop knows of priors that act on the solution or on its update, and nothing more."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Kernel(Protocol):
    """A smoothing filter: K_e on the solution ("elastic") or K_f on the update ("fluid"); paper 2, SPEC S5 to S7."""

    def __call__(self, values: Tensor) -> Tensor:
        """Smooth parameters or gradients; the shape stays."""


class Denoiser(Protocol):
    """r(v): parameters moved towards what it finds plausible; the loop adds eps_1 (r(v) - v) (SPEC P6 to P10)."""

    def __call__(self, values: Tensor) -> Tensor:
        """The plausible neighbour of each v; the shape stays."""
