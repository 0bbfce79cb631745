"""The best settings for `invert` that we know; `experiments/good_inversions.py` shows what they reach."""

from __future__ import annotations

from preimage.optimization import LBFGS, Adam, Stage
from preimage.priors import TotalVariation
from preimage.recipes.lucid import FOURIER
from preimage.recipes.recipe import Recipe
from preimage.transforms import ColourJitter, Jitter

INVERSION = Recipe(
    "default",
    "preimage",
    "Fourier coefficients scaled by 1/f, L-BFGS, a little total variation",
    FOURIER.parametrization,
    (Stage(200, LBFGS(history=20), regularizers=(TotalVariation(1e-6),)),),
)

_VIEW = (Jitter(8), ColourJitter(contrast=0.3, brightness=0.1))

ROBUST = Recipe(
    "robust",
    "preimage",
    "for deep layers: Fourier coefficients, a random shift of up to 8 pixels and other colours in each step, Adam",
    FOURIER.parametrization,
    (
        Stage(170, Adam(0.05), transforms=_VIEW, regularizers=(TotalVariation(3e-6),)),
        Stage(30, None, transforms=_VIEW, regularizers=(TotalVariation(3e-6),), last_step_size=0.05),
    ),
)
