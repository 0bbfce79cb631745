"""Parameters -> image: pixels, sigmoid pixels, Fourier coefficients; and the colours of photographs."""

from preimage.parametrizations.colour import PHOTOGRAPHS, measured_colours
from preimage.parametrizations.fourier import Fourier
from preimage.parametrizations.parametrization import Parametrization
from preimage.parametrizations.pixels import Pixels, SigmoidPixels

__all__ = [
    "PHOTOGRAPHS",
    "Fourier",
    "Parametrization",
    "Pixels",
    "SigmoidPixels",
    "measured_colours",
]
