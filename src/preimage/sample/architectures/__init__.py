"""The networks that a prior consists of: plain torch modules that are rebuilt from their settings alone."""

from preimage.sample.architectures.building import ARCHITECTURES, MOST_WEIGHTS, build, name_of
from preimage.sample.architectures.denoisers import CodeDenoiser, ImageDenoiser
from preimage.sample.architectures.discriminator import Discriminator
from preimage.sample.architectures.encoder import Classifier, Encoder
from preimage.sample.architectures.generator import Generator

__all__ = [
    "ARCHITECTURES",
    "MOST_WEIGHTS",
    "Classifier",
    "CodeDenoiser",
    "Discriminator",
    "Encoder",
    "Generator",
    "ImageDenoiser",
    "build",
    "name_of",
]
