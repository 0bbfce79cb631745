"""What must not change the answer: jitter, padding, moving windows, rescaling, rotation."""

from preimage.transforms.affine import Affine, rescale, rotate
from preimage.transforms.colour import ColourJitter
from preimage.transforms.flip import Flip
from preimage.transforms.shifting import Jitter, Pad
from preimage.transforms.transform import InTurn, Transform, View
from preimage.transforms.window import Window, WindowsAround

__all__ = [
    "Affine",
    "ColourJitter",
    "Flip",
    "InTurn",
    "Jitter",
    "Pad",
    "Transform",
    "View",
    "Window",
    "WindowsAround",
    "rescale",
    "rotate",
]
