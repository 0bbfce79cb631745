"""Noticing that training goes nowhere, before its checkpoint is worth nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from torch import nn

from preimage.errors import RequestError

LIMIT = 100.0


class DivergedError(RequestError, ArithmeticError):
    """A loss became infinite, no number, or far larger than where it began."""

    __str__ = ValueError.__str__


class Watch:
    """Raises `DivergedError` at a loss that is not finite, or beyond `limit` times the larger of 1 and its first value.

    first: what the losses were at their first step; it is added to as losses come, and belongs into checkpoints.
    """

    def __init__(self, first: dict[str, float] | None = None, limit: float = LIMIT):
        self.first = {} if first is None else first
        self._limit = limit

    def check(self, step: int, losses: Mapping[str, float]) -> None:
        """Look at the losses of one step."""
        for name, value in losses.items():
            if not math.isfinite(value):
                raise DivergedError(
                    f"training diverged: the {name} loss is {value} at step {step}; the last checkpoint is kept; "
                    "a lower learning rate may help"
                )
            bound = self._limit * max(1.0, self.first.setdefault(name, value))
            if value > bound:
                raise DivergedError(
                    f"training diverged: the {name} loss is {value:.3g} at step {step}, where it began at "
                    f"{self.first[name]:.3g}; the last checkpoint is kept; a lower learning rate may help"
                )


def check_weights(step: int, modules: Iterable[nn.Module]) -> None:
    """Raise `DivergedError` if any weight is infinite or no number; before every checkpoint."""
    for module in modules:
        if not all(bool(weight.isfinite().all()) for weight in module.parameters()):
            raise DivergedError(
                f"training diverged: a weight is not finite after step {step}; the last checkpoint is kept; "
                "a lower learning rate may help"
            )
