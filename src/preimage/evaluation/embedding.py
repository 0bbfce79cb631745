"""Images as points, between which distances mean something: their pixels, or what a network makes of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.judging import resampled
from preimage.network import Network, Place

Embedding = Callable[[Tensor], Tensor]
"""Images, float [N, C, H, W] in [0, 1] -> points, float32 [N, D] on the CPU."""


def in_pixels(images: Tensor) -> Tensor:
    """Each image's pixels, one after the other: [N, C * H * W]."""
    return images.detach().cpu().float().flatten(1)


def by_features(network: Network, tap: str | Place) -> Embedding:
    """What `network` makes of images at `tap` (before a final ReLU, unless a `Place` says otherwise), all channels and
    positions one after the other, brought to length 1; images are resampled to the size that it takes.

    Raises `UnknownTapError`.
    """
    place = tap if isinstance(tap, Place) else Place(tap)
    network.tap(place.tap)

    @torch.no_grad()
    def embed(images: Tensor) -> Tensor:
        found = network.run(resampled(images, network.input_size).to(network.device), [place])[place]
        return torch.nn.functional.normalize(found.cpu().flatten(1), dim=1)

    return embed


def embedded(images: Tensor, embedding: Embedding, chunk: int = 256) -> Tensor:
    """The points of images [N, C, H, W], floats in [0, 1] or bytes, `chunk` at a time: float32 [N, D]."""
    if not isinstance(images, Tensor) or images.ndim != 4 or not len(images):
        shape = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise RequestError(f"images are a tensor [N, C, H, W] with at least one of them, not {shape}")
    return torch.cat([embedding(as_floats(some)) for some in torch.split(images, chunk)])


def as_floats(images: Tensor) -> Tensor:
    """Bytes as floats in [0, 1]; floats as they are. Raises `RequestError` for other values."""
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point() or not (images.isfinite().all() and images.min() >= 0 and images.max() <= 1):
        raise RequestError("images are bytes, or floats in [0, 1]")
    return images
