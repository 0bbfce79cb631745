"""What the loop does for a number of steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from preimage.errors import RequestError
from preimage.objectives import Objective
from preimage.optimization.optimizer import Optimizer
from preimage.priors import Denoiser, Kernel, Regularizer, Schedule
from preimage.transforms import Transform


@dataclass(frozen=True)
class Stage:
    """One setting of the update rule (HOUSE.md; module `preimage.optimization.loop`) and how long it lasts.

    steps: how many; when a user asks for another total, all stages are stretched alike.
    optimizer: A; None goes on with the one of the stage before, memory included.
    asks: the objective of this stage, made from the one that the user asked.
    transforms: T, one after the other. regularizers: the R_i. smooth_solution, smooth_update: K_e and K_f, in every
        step or as a schedule says. denoiser, pull: r and eps_1. noise: eps_3.
    move: where given, all that a step changes (noise included, before K_e) is scaled to this mean |change| of each
        image's parameters, as paper 3's released code has it (SPEC P.3); only the proportions of eps_1, eps_2 and eps_3
        count then.
    accept: take a step with the probability that makes exp J the density that is sampled, and else stay (Metropolis et
        al. 1953, Hastings 1970; SPEC P1): for an `Ascent` of sigma^2 / 2 with noise sigma that is MALA, for a step size
        of 0 MH. J then has to be the logarithm of a density of v, regularizers included.
    last_step_size: step sizes fall linearly, towards this share of themselves at the stage's end.
    hold: for so many steps the transforms' random numbers stay the same.
    scale: the picture's sides in this stage, as a share of what they are in the end ("octaves", SPEC A5, S11).
    smoothing: where given, the network and the objective's maxima are without kinks in this stage, and everything is in
        float64; how wide kinks are made, as a share of the mean size of what comes out of a layer on each image at the
        start of the stage (`preimage.network.smoothing`).
    weights_per_gradient: regularizers' weights are in units of the score's own mean |gradient| by the image's pixels
        at the start of the stage, image by image, so that one weight suits every network and objective (SPEC S.3-6, 7).
    """

    steps: int
    optimizer: Optimizer | None
    asks: Callable[[Objective], Objective] | None = None
    transforms: tuple[Transform, ...] = ()
    regularizers: tuple[Regularizer, ...] = ()
    smooth_solution: Kernel | Schedule | None = None
    smooth_update: Kernel | Schedule | None = None
    denoiser: Denoiser | None = None
    pull: float = 0.0
    noise: float = 0.0
    move: float | None = None
    accept: bool = False
    last_step_size: float = 1.0
    hold: int = 1
    scale: float = 1.0
    smoothing: float | None = None
    weights_per_gradient: bool = False

    def __post_init__(self) -> None:
        if self.hold < 1:
            raise RequestError(f"a view is held for at least one step, not {self.hold}")
        if not self.scale > 0:
            raise RequestError(f"a picture's scale lies above zero, not {self.scale}")
        if self.smoothing is not None and not self.smoothing > 0:
            raise RequestError(f"kinks are smoothed over a width above zero, not {self.smoothing}")
        if self.move is not None and not self.move > 0:
            raise RequestError(f"the mean change of a step is above zero, not {self.move}")
        if self.accept:
            self._check_reversible()

    def check(self) -> None:
        """Raise `RequestError` if something that is planned never happens within the stage's steps."""
        for kernel in (self.smooth_solution, self.smooth_update):
            if isinstance(kernel, Schedule):
                kernel.check(self.steps)

    def _check_reversible(self) -> None:
        """What can be accepted or rejected is a step whose way back is as well known."""
        if not self.noise > 0:
            raise RequestError("steps are accepted or rejected where they are random: noise= has to be above zero")
        if self.optimizer is None or not self.optimizer.forgets:
            raise RequestError("a step can be accepted or rejected of an optimizer without memory: Ascent(step_size)")
        kernels = (self.smooth_solution, self.smooth_update)
        if any((*kernels, self.transforms, self.move, self.weights_per_gradient, self.last_step_size != 1)):
            raise RequestError(
                "a step can be accepted or rejected where nothing else happens to it: no transforms, filters, move=, "
                "falling step sizes or weights per gradient"
            )

    def settled(self) -> int:
        """From which of its steps on a stage does the same again and again."""
        kernels = (self.smooth_solution, self.smooth_update)
        return max([0, *(kernel.settled(self.steps) for kernel in kernels if isinstance(kernel, Schedule))])

    def solution_kernel(self, step: int) -> Kernel | None:
        """K_e in this step."""
        return _now(self.smooth_solution, step, self.steps)

    def update_kernel(self, step: int) -> Kernel | None:
        """K_f in this step."""
        return _now(self.smooth_update, step, self.steps)

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
        for name, silent in _SILENT.items():
            if getattr(self, name) != silent:
                said[name] = getattr(self, name)
        return said


_SILENT = {
    "pull": 0.0,
    "noise": 0.0,
    "move": None,
    "accept": False,
    "last_step_size": 1.0,
    "hold": 1,
    "scale": 1.0,
    "smoothing": None,
    "weights_per_gradient": False,
}


def _now(kernel: Kernel | Schedule | None, step: int, steps: int) -> Kernel | None:
    return kernel.at(step, steps) if isinstance(kernel, Schedule) else kernel
