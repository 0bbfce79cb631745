"""Paper 4's other settings of the learned mask, by the name that comes behind `mask@` (SPEC M.2, M3, M7, M8)."""

from __future__ import annotations

from preimage.explain.mask import Mask


def _at(tap: str, l1: float, tv: float) -> Mask:
    return Mask(at=tap, l1=l1, tv=tv)


PUBLISHED_MASKS: dict[str, Mask] = {
    # For sharper masks that cover more of the object; meant for the target top:5 (supplement, section 6.2).
    "localisation": Mask(l1=1e-3, beta=2.0),
    # Its photos have 227 pixels and its cells 7.57, which makes 30 and not the 32 of the text (SPEC M.5-7).
    "alexnet": Mask(cells=30, weights_for=30),
    # Taps as torchvision calls them; for another network, `dataclasses.replace(..., at=TAP)`.
    "alexnet-pool1": _at("features.2", 1e-4, 1e-2),
    "alexnet-pool2": _at("features.5", 5e-3, 1e-2),
    "alexnet-relu3": _at("features.7", 5e-3, 1e-2),
    "alexnet-relu4": _at("features.9", 5e-3, 1e-2),
    "alexnet-pool5": _at("features.12", 1e-2, 1e-3),
    "vgg16-pool1": _at("features.4", 5e-5, 1e-2),
    "vgg16-pool2": _at("features.9", 1e-4, 1e-2),
    "vgg16-pool3": _at("features.16", 1e-4, 1e-2),
    "vgg16-pool4": _at("features.23", 5e-3, 1e-2),
    "vgg16-pool5": _at("features.30", 1e-2, 1e-3),
}
