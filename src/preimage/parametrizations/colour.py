"""The colours of natural images, decorrelated.

Neighbouring channels of photographs say nearly the same, so that a gradient step on raw channels mostly changes
brightness. Parameters in which the channels are independent even that out: a matrix A with A A^T = covariance of
the pixels maps independent channels to correlated ones (Lucid's `color_decorrelation`; Olah et al. 2017).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.images import image_files, read_image

PHOTOGRAPHS = torch.tensor([[-0.5730, -0.1556, 0.0425], [-0.5809, -0.0011, -0.0837], [-0.5782, 0.1553, 0.0420]])
"""Measured by `measured_colours` on 2,479 photographs of ten ImageNet classes (`experiments/colours.py`)."""


def measured_colours(images: str | Path | Iterable[Tensor], channels: int = 3) -> Tensor:
    """The matrix [channels, channels] that gives independent parameters the colours of these images.

    images: a folder of image files, or tensors [channels, H, W] in [0, 1]. Its columns are the principal axes of
    all pixels, the strongest first, scaled so that the longest has length 1.

    Raises `RequestError` if there are no images, if one has another number of channels, or all are of one colour.
    """
    if isinstance(images, (str, Path)):
        images = (read_image(path, channels) for path in image_files(images))
    count = 0
    total, products = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, channels).double()
    for image in images:
        if image.ndim != 3 or image.shape[0] != channels:
            raise RequestError(f"colours are measured on images [{channels}, H, W], not {list(image.shape)}")
        pixels = image.double().flatten(1)
        count += pixels.shape[1]
        total += pixels.sum(1)
        products += pixels @ pixels.T
    if count == 0:
        raise RequestError("there are no images to measure colours on")
    mean = total / count
    values, axes = torch.linalg.eigh(products / count - torch.outer(mean, mean))
    matrix = (axes * values.clamp_min(0).sqrt()).flip(1)
    longest = matrix.norm(dim=0).max()
    if longest < 1e-6:
        raise RequestError("the images to measure colours on are all of one colour")
    scaled: Tensor = matrix / longest
    return scaled.float()
