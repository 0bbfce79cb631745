"""The papers' measures of how good a picture or an explanation is."""

from preimage.evaluation.agreement import Agreement, agreement

__all__ = ["Agreement", "agreement"]
