"""What keeps an image plausible."""

from preimage.priors.prior import Denoiser, Kernel
from preimage.priors.regularizers import L1, L2, Regularizer, TotalVariation

__all__ = ["L1", "L2", "Denoiser", "Kernel", "Regularizer", "TotalVariation"]
