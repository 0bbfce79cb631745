"""The loop, and the optimizers that it climbs with."""

from preimage.optimization.first_order import Adam, Ascent, Momentum, NormalisedAscent
from preimage.optimization.lbfgs import LBFGS
from preimage.optimization.loop import Climb, check_finite, climb
from preimage.optimization.optimizer import Ascender, Evaluate, Optimizer
from preimage.optimization.stage import Stage

__all__ = [
    "LBFGS",
    "Adam",
    "Ascender",
    "Ascent",
    "Climb",
    "Evaluate",
    "Momentum",
    "NormalisedAscent",
    "Optimizer",
    "Stage",
    "check_finite",
    "climb",
]
