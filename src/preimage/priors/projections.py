"""What keeps a solution within bounds, step by step; it takes the place of K_e in the update rule."""

from __future__ import annotations

from dataclasses import dataclass

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
        upside_down = self.low > self.high
        if bool(upside_down.any()) if isinstance(upside_down, Tensor) else upside_down:
            raise RequestError("the lower of two bounds must not lie above the upper one")

    def __call__(self, values: Tensor) -> Tensor:
        return values.clamp(self.low, self.high)  # type: ignore[arg-type]  # (both tensors, or both numbers)

    def __repr__(self) -> str:
        said = (str(bound) if isinstance(bound, float) else "..." for bound in (self.low, self.high))
        return f"Clip({', '.join(said)})"
