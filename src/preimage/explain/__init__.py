"""explain: which part of the photo made the answer? Learned masks, and what they are compared with (paper 4)."""

from preimage.explain.explaining import explain
from preimage.explain.explanation import Explanation, Explanations
from preimage.explain.mask import HybridMask, Mask, PreservingMask
from preimage.explain.method import Found, Method, Question
from preimage.explain.methods import Methods, find_method, methods

__all__ = [
    "Explanation",
    "Explanations",
    "Found",
    "HybridMask",
    "Mask",
    "Method",
    "Methods",
    "PreservingMask",
    "Question",
    "explain",
    "find_method",
    "methods",
]
