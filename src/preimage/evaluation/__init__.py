"""The papers' measures of how good a picture or an explanation is."""

from preimage.evaluation.agreement import Agreement, agreement
from preimage.evaluation.attack import Attack, attack
from preimage.evaluation.deletion import deletion_curve

__all__ = ["Agreement", "Attack", "agreement", "attack", "deletion_curve"]
