"""Settings for `invert`: paper 2's schemes, and the best that we know."""

from __future__ import annotations

from torch import Tensor

from preimage.optimization import LBFGS, Adam, Momentum, Stage
from preimage.parametrizations import Fourier, Pixels
from preimage.priors import Gaussian, Kernel, Sobolev, TotalVariation
from preimage.recipes.demons import SAYS, Scheme, under_scheme
from preimage.recipes.recipe import Recipe
from preimage.transforms import ColourJitter, Jitter

_SIZE = 11


def _pixels(channels: int, height: int, width: int, colours: Tensor | None) -> Pixels:
    return Pixels(channels, height, width, spread=0.01)


def _fourier(channels: int, height: int, width: int, colours: Tensor | None) -> Fourier:
    return Fourier(channels, height, width, colours=colours)


def _inversion(scheme: Scheme, kernel: Kernel, suffix: str = "") -> Recipe:
    # The paper descends without momentum, by steps of 20 levels of an unknown unit. That takes too long here.
    # Filtering the solution shrinks it in every step; longer steps keep up with that, and do not diverge.
    levels = 0.3 if "elastic" in scheme else 0.1
    stage = Stage(300, Momentum(levels / 255, per_first_gradient=True))
    return Recipe(
        f"{scheme}{suffix}",
        "after paper 2, section 3.2 (SPEC S-T1)",
        SAYS[scheme]
        + (f" by a {type(kernel).__name__} filter of {_SIZE} pixels" if scheme != "tv" else "")
        + "; with momentum",
        _pixels,
        (under_scheme(stage, scheme, kernel),),
    )


INVERSION = Recipe(
    "default",
    "preimage",
    "Fourier coefficients scaled by 1/f, L-BFGS, a little total variation",
    _fourier,
    (Stage(200, LBFGS(history=20), regularizers=(TotalVariation(1e-6),)),),
)

_VIEW = (Jitter(8), ColourJitter(contrast=0.3, brightness=0.1))

ROBUST = Recipe(
    "robust",
    "preimage",
    "for deep layers: Fourier coefficients, a random shift of up to 8 pixels and other colours in each step, Adam",
    _fourier,
    (
        Stage(170, Adam(0.05), transforms=_VIEW, regularizers=(TotalVariation(3e-6),)),
        Stage(30, None, transforms=_VIEW, regularizers=(TotalVariation(3e-6),), last_step_size=0.05),
    ),
)

_FILTERED: tuple[Scheme, ...] = ("fluid", "elastic", "fluid-elastic")

INVERSIONS = (
    _inversion("tv", Sobolev(_SIZE)),
    *(_inversion(scheme, Sobolev(_SIZE)) for scheme in _FILTERED),
    *(_inversion(scheme, Gaussian(_SIZE), "-gaussian") for scheme in _FILTERED),
)
