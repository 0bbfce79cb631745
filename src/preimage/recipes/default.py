"""The best single-image recipes that we know: of classes and channels (`experiments/transfer_recognition.py` is how we
chose it), and of units at one place."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from preimage.objectives import log_probabilities
from preimage.optimization import Adam, Stage
from preimage.parametrizations import Fourier
from preimage.recipes.recipe import Recipe
from preimage.transforms import Affine, ColourJitter


def _fourier(channels: int, height: int, width: int, colours: Tensor | None) -> Fourier:
    return Fourier(channels, height, width, colours=colours, centred=True)


# From twice as close to half as far: the object has to be whole, and its parts have to hold on their own.
_VIEW = (Affine(zoom=(1 / 1.8, 2.0), shift=0.2, rotation=15, mirror=True), ColourJitter(contrast=0.5, brightness=0.15))

DEFAULT = Recipe(
    "default",
    "preimage",
    "Fourier coefficients scaled by 1/f, decorrelated colours without a tint, one wide random zoom, shift, rotation "
    "and change of colour a step, Adam; classes by their logit first, by their log-probability in the last third",
    _fourier,
    (
        Stage(134, Adam(0.05), transforms=_VIEW),
        Stage(66, None, asks=log_probabilities, transforms=_VIEW),
    ),
)

# A unit at one place tells left from right: under views that are mirrored half of the time, oriented edges become
# wedges, which other units answer to more strongly. Nor does it see the whole of anything that is half as large.
_NARROW = (Affine(zoom=(1 / 1.4, 1.4), shift=0.1, rotation=15), ColourJitter(contrast=0.5, brightness=0.15))

UNIT = Recipe(
    "unit",
    "preimage",
    "the default with narrower views, never mirrored: for a unit at one place, on a canvas of what it sees",
    _fourier,
    tuple(replace(stage, transforms=_NARROW) for stage in DEFAULT.stages),
)
