"""Parameters -> image: pixels, sigmoids, Fourier coefficients, geometry, masks; and the colours of photographs."""

from preimage.parametrizations.colour import PHOTOGRAPHS, measured_colours
from preimage.parametrizations.fourier import Fourier
from preimage.parametrizations.geometry import Geometry
from preimage.parametrizations.mask import MaskOver
from preimage.parametrizations.parametrization import Parametrization
from preimage.parametrizations.pixels import Pixels, SigmoidPixels
from preimage.parametrizations.smooth_mask import SmoothMaskOver

__all__ = [
    "PHOTOGRAPHS",
    "Fourier",
    "Geometry",
    "MaskOver",
    "Parametrization",
    "Pixels",
    "SigmoidPixels",
    "SmoothMaskOver",
    "measured_colours",
]
