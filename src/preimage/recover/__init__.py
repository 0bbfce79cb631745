"""Inverse feature visualization: from an image back to the objective that it is the answer to (paper 1)."""

from preimage.recover.angles import angle, contributions, fraction_inside, projected_angle, projected_target
from preimage.recover.audit import Audit, audit
from preimage.recover.comparison import Comparison, MatchRate
from preimage.recover.correspondence import compare
from preimage.recover.critical_space import CriticalSpace, choose_space, critical_spaces, dead_features
from preimage.recover.finding_spaces import FoundSpaces, find_critical_space
from preimage.recover.recovering import recover
from preimage.recover.recovery import Recoveries, Recovery
from preimage.recover.sensitivity import Sensitivity, sensitivity
from preimage.recover.solving import Solution, solve
from preimage.recover.targets import hoyer, sample_targets

__all__ = [
    "Audit",
    "Comparison",
    "CriticalSpace",
    "FoundSpaces",
    "MatchRate",
    "Recoveries",
    "Recovery",
    "Sensitivity",
    "Solution",
    "angle",
    "audit",
    "choose_space",
    "compare",
    "contributions",
    "critical_spaces",
    "dead_features",
    "find_critical_space",
    "fraction_inside",
    "hoyer",
    "projected_angle",
    "projected_target",
    "recover",
    "sample_targets",
    "sensitivity",
    "solve",
]
