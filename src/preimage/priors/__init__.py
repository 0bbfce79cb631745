"""What keeps an image plausible."""

from preimage.priors.deblurring import Deblur
from preimage.priors.denoisers import Encoding, Grey, Learned, NoisyReconstruction, Reconstruction
from preimage.priors.kernels import Gaussian, Sobolev
from preimage.priors.prior import Denoiser, Kernel, Schedule
from preimage.priors.projections import Clip
from preimage.priors.regularizers import L1, L2, Area, HuberTotalVariation, Regularizer, TotalVariation
from preimage.priors.schedules import BlurAndDeblur, Every, FallingBlur

__all__ = [
    "L1",
    "L2",
    "Area",
    "BlurAndDeblur",
    "Clip",
    "Deblur",
    "Denoiser",
    "Encoding",
    "Every",
    "FallingBlur",
    "Gaussian",
    "Grey",
    "HuberTotalVariation",
    "Kernel",
    "Learned",
    "NoisyReconstruction",
    "Reconstruction",
    "Regularizer",
    "Schedule",
    "Sobolev",
    "TotalVariation",
]
