"""The images whose objective can be recovered (Reinbold & Westermann 2020, arXiv:2007.10757, section 3.2)."""

from __future__ import annotations

from torch import Tensor

from preimage.network.smoothing import WIDTH
from preimage.objectives import as_directions, floored_directions
from preimage.optimization import LBFGS, Adam, Stage
from preimage.parametrizations import SigmoidPixels
from preimage.recipes.recipe import Recipe


def _sigmoid(channels: int, height: int, width: int, colours: Tensor | None) -> SigmoidPixels:
    return SigmoidPixels(channels, height, width)


PLAIN = Recipe(
    "plain",
    "paper 1, section 3.2 (SPEC I5)",
    "sigmoid pixels, 800 steps of Adam, then 300 of L-BFGS on the network with smoothed kinks, no transform and no "
    "regularizer; channels and classes are asked as directions, cosine squared",
    _sigmoid,
    (
        # A floor under the cosine gets directions off the saddle at the start; L-BFGS then climbs the exact score,
        # without kinks: on one no step leads higher, but the gradient does not vanish, and nothing can be recovered.
        Stage(800, Adam(0.05), asks=floored_directions),
        Stage(300, LBFGS(), asks=as_directions, smoothing=WIDTH),
    ),
)
