"""The photos that a prior is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from preimage.errors import RequestError
from preimage.images import MAX_PIXELS, centre_crop, image_files, read_image

MEMORY = 2 * 2**30
"""Bytes that the pixels of all photos may take; beyond that they are read again whenever they are shown."""

_READERS = 8


class Photos(Protocol):
    """Square photos of one size."""

    channels: int
    size: int

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> Tensor:
        """float32 [n, channels, size, size] in [0, 1], on the CPU."""

    def digest(self) -> str:
        """What tells these photos from others, wherever they lie."""


class PhotoTensor:
    """Photos in memory: uint8 [N, channels, size, size], or floats in [0, 1].

    Raises `RequestError` for other shapes and values.
    """

    def __init__(self, pixels: Tensor):
        if pixels.ndim != 4 or not len(pixels) or pixels.shape[2] != pixels.shape[3]:
            raise RequestError(f"photos to train on have the shape [N, channels, size, size], not {list(pixels.shape)}")
        if pixels.dtype != torch.uint8:
            pixels = pixels.detach().float().cpu()
            low, high = float(pixels.min()), float(pixels.max())
            # (also of values that are no numbers)
            if not (low >= 0 and high <= 1):
                raise RequestError(f"photos to train on have values in [0, 1], not between {low:g} and {high:g}")
        self._pixels = pixels.cpu()
        self.channels, self.size = pixels.shape[1], pixels.shape[2]

    def __len__(self) -> int:
        return len(self._pixels)

    def batch(self, indices: Tensor) -> Tensor:
        chosen = self._pixels[indices]
        return chosen.float() / 255 if chosen.dtype == torch.uint8 else chosen

    def digest(self) -> str:
        return hashlib.sha256(self._pixels.contiguous().numpy().tobytes()).hexdigest()[:16]


class PhotoFolder:
    """All image files below a folder, each read when it is shown.

    size: the side in pixels to which the largest centred square of each photo is resampled; None: all are squares of
    one size and stay as they are.

    Raises `RequestError` for files that are no images, and, without `size`, for photos of different sizes.
    """

    def __init__(self, folder: str | Path, channels: int = 3, size: int | None = None):
        self._folder, self._files = Path(folder), image_files(folder)
        self._resampled = size is not None
        self.channels = channels
        self.size = size if size is not None else _common_side(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def batch(self, indices: Tensor) -> Tensor:
        with ThreadPoolExecutor(_READERS) as readers:
            return torch.stack(list(readers.map(self._read, indices.tolist())))

    def digest(self) -> str:
        said = [f"{path.relative_to(self._folder)} {path.stat().st_size}" for path in self._files]
        return hashlib.sha256("\n".join([str(self.size), *said]).encode()).hexdigest()[:16]

    def _read(self, index: int) -> Tensor:
        image = read_image(self._files[index], self.channels)
        if self._resampled:
            return centre_crop(image, (self.size, self.size))
        if tuple(image.shape[1:]) != (self.size, self.size):
            raise RequestError(f"'{self._files[index]}' is no longer {self.size} x {self.size}")
        return image


def opened(photos: str | Path | Tensor | Photos, channels: int, size: int | None = None) -> Photos:
    """A folder, a tensor or photos that are opened already; those that fit into `MEMORY` are read at once.

    Raises `RequestError` as `PhotoFolder` and `PhotoTensor` do, and where they do not have these channels.
    """
    if isinstance(photos, Tensor):
        if size is not None and photos.ndim == 4 and photos.shape[2:] != (size, size):
            whole = photos.float() / 255 if photos.dtype == torch.uint8 else photos
            photos = torch.stack([centre_crop(one, (size, size)) for one in whole])
        photos = PhotoTensor(photos)
    elif isinstance(photos, (str, Path)):
        photos = PhotoFolder(photos, channels, size)
        if len(photos) * channels * photos.size**2 <= MEMORY:
            # As bytes, which is what files hold; of photos that were resampled it rounds by 1/510 at most.
            parts = torch.split(torch.arange(len(photos)), 256)
            bytes_ = [(photos.batch(part) * 255).round().to(torch.uint8) for part in parts]
            photos = PhotoTensor(torch.cat(bytes_))
    if photos.channels != channels:
        raise RequestError(f"the network takes images of {channels} channels, but the photos have {photos.channels}")
    return photos


def _common_side(files: Sequence[Path]) -> int:
    """The side of all photos; only the files' headers are read."""
    sizes: dict[Path, tuple[int, ...]] = {}
    for path in files:
        try:
            with Image.open(path) as file:
                sizes[path] = _upright(file)
        except Exception:  # no image, which `read_image` says, or one with damaged metadata only
            sizes[path] = tuple(reversed(read_image(path, 1).shape[1:]))
    first = files[0]
    for path, size in sizes.items():
        if size != sizes[first]:
            raise RequestError(
                f"photos to train on have one size, but '{first}' is {_times(sizes[first])} and '{path}' "
                f"{_times(size)}; --size N crops all to squares and resamples them to N x N"
            )
    width, height = sizes[first]
    if width != height:
        raise RequestError(
            f"photos to train on are square, but '{first}' is {_times(sizes[first])}; --size N crops all to squares "
            "and resamples them to N x N"
        )
    if width * height > MAX_PIXELS:
        read_image(first)
    return width


def _upright(file: Image.Image) -> tuple[int, int]:
    """Width and height, held as the EXIF orientation says."""
    turned = file.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (file.height, file.width) if turned else (file.width, file.height)


def _times(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
