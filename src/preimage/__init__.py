"""preimage shows what a trained vision network has learned and why it decided as it did.

import preimage as pi

net = pi.load()
result = pi.maximize(net, ["stage3.1:7", "class:tabby"])
result.save("out")
"""

from preimage import objectives, parametrizations, priors, starts, transforms
from preimage.atlas import Atlas, atlas
from preimage.canvas import placed
from preimage.errors import NonFiniteScoreError, RequestError, UnknownTapError
from preimage.evaluation import Evaluation, agreement, evaluate, measures
from preimage.explain import Explanation, Explanations, explain, methods
from preimage.invert import Inversion, invert
from preimage.maximize import maximize
from preimage.network import Network, Place, load
from preimage.recipes import Recipe, recipes
from preimage.recover import (
    Audit,
    Comparison,
    CriticalSpace,
    Recoveries,
    Recovery,
    compare,
    find_critical_space,
    recover,
)
from preimage.result import Result
from preimage.sample import Chain, Condition, Prior, load_prior, sample

__all__ = [
    "Atlas",
    "Audit",
    "Chain",
    "Comparison",
    "Condition",
    "CriticalSpace",
    "Evaluation",
    "Explanation",
    "Explanations",
    "Inversion",
    "Network",
    "NonFiniteScoreError",
    "Place",
    "Prior",
    "Recipe",
    "Recoveries",
    "Recovery",
    "RequestError",
    "Result",
    "UnknownTapError",
    "agreement",
    "atlas",
    "compare",
    "evaluate",
    "explain",
    "find_critical_space",
    "invert",
    "load",
    "load_prior",
    "maximize",
    "measures",
    "methods",
    "objectives",
    "parametrizations",
    "placed",
    "priors",
    "recipes",
    "recover",
    "sample",
    "starts",
    "transforms",
]
