"""What the loop does for a number of steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from preimage.objectives import Objective
from preimage.optimization.optimizer import Optimizer
from preimage.priors import Denoiser, Kernel, Regularizer
from preimage.transforms import Transform


@dataclass(frozen=True)
class Stage:
    """One setting of the update rule (HOUSE.md; module `preimage.optimization.loop`) and how long it lasts.

    steps: how many; when a user asks for another total, all stages are stretched alike.
    optimizer: A; None goes on with the one of the stage before, memory included.
    asks: the objective of this stage, made from the one that the user asked.
    transforms: T, one after the other. regularizers: the R_i. smooth_solution, smooth_update: K_e and K_f.
    denoiser, pull: r and eps_1. noise: eps_3.
    last_step_size: step sizes fall linearly, towards this share of themselves at the stage's end.
    """

    steps: int
    optimizer: Optimizer | None
    asks: Callable[[Objective], Objective] | None = None
    transforms: tuple[Transform, ...] = ()
    regularizers: tuple[Regularizer, ...] = ()
    smooth_solution: Kernel | None = None
    smooth_update: Kernel | None = None
    denoiser: Denoiser | None = None
    pull: float = 0.0
    noise: float = 0.0
    last_step_size: float = field(default=1.0)

    def describe(self) -> dict[str, Any]:
        """Every setting that is in force, as plain JSON types."""
        said: dict[str, Any] = {"steps": self.steps}
        for name in ("optimizer", "smooth_solution", "smooth_update", "denoiser"):
            if getattr(self, name) is not None:
                said[name] = repr(getattr(self, name))
        if self.asks is not None:
            said["asks"] = getattr(self.asks, "__name__", repr(self.asks))
        for name in ("transforms", "regularizers"):
            if getattr(self, name):
                said[name] = [repr(one) for one in getattr(self, name)]
        for name, silent in (("pull", 0.0), ("noise", 0.0), ("last_step_size", 1.0)):
            if getattr(self, name) != silent:
                said[name] = getattr(self, name)
        return said
