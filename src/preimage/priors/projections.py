"""What keeps a solution within bounds, step by step; it takes the place of K_e in the update rule."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.errors import RequestError


@dataclass(frozen=True, eq=False)
class Clip:
    """Every number is brought back between `low` and `high` after each step: masks to [0, 1] (paper 4, SPEC M.2).

    low, high: numbers, or tensors of the parameters' shape (a ball around each of a batch of photos).

    Raises `RequestError` where a lower bound lies above the upper one.
    """

    low: float | Tensor = 0.0
    high: float | Tensor = 1.0

    def __post_init__(self) -> None:
        low, high = (torch.as_tensor(bound) for bound in (self.low, self.high))
        if not bool((low <= high).all()):
            raise RequestError("the lower of two bounds must not lie above the upper one, and both are numbers")

    def __call__(self, values: Tensor) -> Tensor:
        return values.clamp_min(self.low).clamp_max(self.high)

    def __repr__(self) -> str:
        said = ("..." if isinstance(bound, Tensor) else str(bound) for bound in (self.low, self.high))
        return f"Clip({', '.join(said)})"
