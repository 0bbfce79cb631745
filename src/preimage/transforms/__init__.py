"""What must not change the answer: jitter, padding, cropping, rescaling, rotation."""

from preimage.transforms.affine import Affine, rescale, rotate
from preimage.transforms.colour import ColourJitter
from preimage.transforms.shifting import Crop, Jitter, Pad
from preimage.transforms.transform import InTurn, Transform, View

__all__ = ["Affine", "ColourJitter", "Crop", "InTurn", "Jitter", "Pad", "Transform", "View", "rescale", "rotate"]
