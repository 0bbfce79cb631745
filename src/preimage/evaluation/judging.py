"""What a network that had no part in making images answers to them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network

CHUNK = 64


def resampled(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [N, C, H, W] at (height, width), bilinear and without aliases; as they are if they have it."""
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def judged(judge: Network, images: Tensor, chunk: int = CHUNK) -> Tensor:
    """The probabilities of the judge's classes, float32 [N, classes] on the CPU.

    images: float [N, C, H, W] in [0, 1]; where they do not have the size that the judge takes, they are resampled to
        it. chunk: how many are shown at once.

    Raises `RequestError` for other shapes, or where the judge tells fewer than two classes apart.
    """
    if not isinstance(judge, Network):
        raise RequestError(f"a judge is a preimage.Network, not {type(judge).__name__}")
    if not isinstance(images, Tensor) or images.ndim != 4 or not len(images):
        shape = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise RequestError(f"images are a tensor [N, C, H, W] with at least one of them, not {shape}")
    with judge.held():
        parts = [
            judge.class_scores(resampled(some, judge.input_size), chunk, softmax=True)
            for some in torch.split(images, chunk)
        ]
    found = torch.cat(parts)
    if found.shape[1] < 2:
        raise RequestError(f"'{judge.name}' does not classify: its answer has {found.shape[1]} numbers")
    return found
