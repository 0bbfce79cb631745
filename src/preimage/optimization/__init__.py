"""The loop, and the optimizers that it climbs with."""

from preimage.optimization.first_order import Adam, Ascent, Momentum, NormalisedAscent, SignAscent
from preimage.optimization.lbfgs import LBFGS
from preimage.optimization.loop import Climb, Referee, check_finite, climb
from preimage.optimization.optimizer import Ascender, Evaluate, Optimizer
from preimage.optimization.scaled import ClippedByContribution, Scaled
from preimage.optimization.scoring import plain_scores
from preimage.optimization.stage import Stage
from preimage.optimization.step_size import Search, Trial, scaled, search_step_size

__all__ = [
    "LBFGS",
    "Adam",
    "Ascender",
    "Ascent",
    "Climb",
    "ClippedByContribution",
    "Evaluate",
    "Momentum",
    "NormalisedAscent",
    "Optimizer",
    "Referee",
    "Scaled",
    "Search",
    "SignAscent",
    "Stage",
    "Trial",
    "check_finite",
    "climb",
    "plain_scores",
    "scaled",
    "search_step_size",
]
