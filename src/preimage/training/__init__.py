"""Training the generators and denoisers that `sample` uses, on one's own photos and one's own network."""

from preimage.training.denoiser_training import (
    CODES,
    IMAGES,
    TrainedDenoiser,
    train_code_denoiser,
    train_image_denoiser,
)
from preimage.training.divergence import DivergedError
from preimage.training.loop import Progress, Schedule
from preimage.training.losses import LOSSES, SHARES
from preimage.training.noise_levels import PAPER
from preimage.training.pausing import Pausing
from preimage.training.photos import PhotoFolder, Photos, PhotoTensor
from preimage.training.prior_training import DEFAULT_LOSSES, GENERATORS, TrainedPrior, train_prior

__all__ = [
    "CODES",
    "DEFAULT_LOSSES",
    "GENERATORS",
    "IMAGES",
    "LOSSES",
    "PAPER",
    "SHARES",
    "DivergedError",
    "Pausing",
    "PhotoFolder",
    "PhotoTensor",
    "Photos",
    "Progress",
    "Schedule",
    "TrainedDenoiser",
    "TrainedPrior",
    "train_code_denoiser",
    "train_image_denoiser",
    "train_prior",
]
