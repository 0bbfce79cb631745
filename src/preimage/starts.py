"""Images to start from (`start=`), other than noise alone (paper 0's code, SPEC A16)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.images import centre_crop, image_files, read_image


def mean_image(folder: str | Path, size: tuple[int, int], channels: int = 3) -> Tensor:
    """The mean of all images in a folder, each cropped to its centre: [channels, height, width] in [0, 1].

    Faces, and whatever else is always photographed alike, grow out of their mean. Raises `RequestError` for a folder
    without images, or with one that cannot be read.
    """
    files = image_files(folder)
    return sum((centre_crop(read_image(path, channels), size) for path in files), torch.zeros(())) / len(files)


def centre_biased(
    size: tuple[int, int], channels: int = 3, *, spread: float = 8 / 255, reach: float = 0.25, seed: int = 0
) -> Tensor:
    """Grey, with noise that fades from the centre outwards, so that one object grows there: [channels, height, width].

    spread: the noise's standard deviation at the centre, on the [0, 1] scale. reach: that of the Gaussian by which it
    fades, as a share of each side.

    Raises `RequestError` for a spread or reach that is not above zero.
    """
    if not (spread > 0 and reach > 0):
        raise RequestError(f"spread and reach lie above zero, not {spread} and {reach}")
    down, right = (torch.exp(-(((torch.arange(n) + 0.5) / n - 0.5) / reach).square() / 2) for n in size)
    noise = torch.randn((channels, *size), generator=torch.Generator().manual_seed(seed))
    return (0.5 + spread * noise * torch.outer(down, right)).clamp(0, 1)
