"""The frozen network E: what it makes of photos, and of images that were made."""

from __future__ import annotations

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network, Place
from preimage.training.photos import Photos

MEMORY = 2**30
"""Bytes that the codes and features of all photos may take; beyond that they are computed whenever they are needed."""

_AT_ONCE = 256


def as_place(said: str | Place) -> Place:
    """A tap's name as the place behind its ReLU, where codes are taken (SPEC P.5-9)."""
    return said if isinstance(said, Place) else Place(said, after_relu=True)


class Encoding:
    """A user's network with its code h at one tap, and the features h1 that G has to match at another.

    Raises `RequestError` where the taps are no codes, or where the network does not take photos of this size.
    """

    def __init__(self, network: Network, code: Place, match: Place | None, size: int):
        network.check_size((size, size))
        self.network, self.code, self.match = network, code, match
        grey = torch.full((1, network.channels, size, size), 0.5)
        with torch.no_grad():
            found = network.run(grey, self._places())
        self.code_shape = tuple(found[code].shape[1:])
        if len(self.code_shape) not in (1, 3) or len(set(self.code_shape[1:])) > 1:
            raise RequestError(
                f"{code} has shape {list(self.code_shape)}; a code is a vector, or has channels and a square of places"
            )

    def _places(self) -> list[Place]:
        return [self.code] if self.match is None else [self.code, self.match]

    def of(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Code and features of images [n, C, size, size], without gradients."""
        with torch.no_grad():
            found = self.network.run(images, self._places())
        return found[self.code], None if self.match is None else found[self.match]

    def beyond(self, images: Tensor, features: Tensor) -> Tensor:
        """The code that follows from these features [n, ...] of images, in the place of their own."""
        assert self.match is not None
        with torch.no_grad():
            found: Tensor = self.network.run(images, [self.code], instead=(self.match.tap, features))[self.code]
        return found

    def reached(self, images: Tensor, places: list[Place]) -> dict[Place, Tensor]:
        """Activations at these places only, through which gradients flow back to the images."""
        return self.network.run(images, places)

    def of_all(self, photos: Photos) -> tuple[Tensor, Tensor | None] | None:
        """Codes and features of all photos on the CPU, float32; None if they would take more than `MEMORY`."""
        first = self.of(photos.batch(torch.zeros(1, dtype=torch.int64)))
        if len(photos) * sum(4 * one.numel() for one in first if one is not None) > MEMORY:
            return None
        kept = [None if one is None else torch.empty(len(photos), *one.shape[1:]) for one in first]
        for part in torch.split(torch.arange(len(photos)), _AT_ONCE):
            for whole, one in zip(kept, self.of(photos.batch(part)), strict=True):
                if whole is not None and one is not None:
                    whole[part] = one.cpu()
        assert kept[0] is not None
        return kept[0], kept[1]
