"""Parameters -> image: pixels, sigmoids, Fourier coefficients, geometry, masks, codes; and photographs' colours."""

from preimage.parametrizations.code import Code, FilledIn
from preimage.parametrizations.colour import PHOTOGRAPHS, measured_colours
from preimage.parametrizations.fourier import Fourier
from preimage.parametrizations.geometry import Geometry
from preimage.parametrizations.mask import MaskOver
from preimage.parametrizations.parametrization import Parametrization
from preimage.parametrizations.pixels import Pixels, SigmoidPixels
from preimage.parametrizations.smooth_mask import SmoothMaskOver

__all__ = [
    "PHOTOGRAPHS",
    "Code",
    "FilledIn",
    "Fourier",
    "Geometry",
    "MaskOver",
    "Parametrization",
    "Pixels",
    "SigmoidPixels",
    "SmoothMaskOver",
    "measured_colours",
]
