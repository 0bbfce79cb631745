"""What must not change the answer: jitter, padding, cropping, rescaling, rotation."""

from preimage.transforms.affine import Affine, rescale, rotate
from preimage.transforms.shifting import Crop, Jitter, Pad
from preimage.transforms.transform import InTurn, Transform, View

__all__ = ["Affine", "Crop", "InTurn", "Jitter", "Pad", "Transform", "View", "rescale", "rotate"]
