"""The recipe that users of Lucid and its ports know (Olah, Mordvintsev & Schubert 2017, "Feature visualization")."""

from __future__ import annotations

from torch import Tensor

from preimage.optimization import Adam, Stage
from preimage.parametrizations import Fourier
from preimage.recipes.recipe import Recipe
from preimage.transforms import Jitter, rescale, rotate


def _fourier(channels: int, height: int, width: int, colours: Tensor | None) -> Fourier:
    return Fourier(channels, height, width, colours=colours)


FOURIER = Recipe(
    "fourier",
    "Olah et al. 2017, Lucid",
    "Fourier coefficients scaled by 1/f, decorrelated colours, small jitter, rescaling and rotation, Adam",
    _fourier,
    (
        Stage(
            512,
            Adam(0.05),
            transforms=(Jitter(8), rescale(0.9, 1.1), rotate(10), Jitter(4)),
        ),
    ),
)
