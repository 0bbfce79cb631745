"""What scenes are composed of: garments with clean silhouettes, and photographs to put them on.

Garments are Fashion-MNIST's (Xiao, Rasul & Vollgraf 2017; MIT licence), 28 x 28 pixels of grey on black, out of the
Debian package `dataset-fashion-mnist`; photographs are Imagenette's (`networks.photographs`). Both are split into a
training and a test part that share no garment and no photograph.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

import networks
from registry import cached

Split = Literal["train", "test"]

FASHION = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
"""The classes of Fashion-MNIST, in its order."""

DARK = 20
"""A pixel of at most this grey, of 255, is not of the garment ..."""
SMALLEST_HOLE = 12
"""... unless it is in a hole of fewer pixels: prints and seams are dark too, but the hole in a handle is larger."""

DRESSED = (0, 566)
"""ImageNet classes whose photographs are no canvases, since on most of them somebody wears garments of his own: anglers
with a tench, players of the French horn."""

_PACKAGE, _SHA256 = "dataset-fashion-mnist", "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0"
_FILES = {"train": "train", "test": "t10k"}


@cache
def garments(split: Split) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All garments of a split, uint8 [N, 28, 28], and the index of each in `FASHION`, [N] (60,000 and 10,000)."""
    folder = cached("fashion-mnist", _write_fashion_mnist)
    images, labels = (folder / f"{_FILES[split]}-{what}-ubyte.gz" for what in ("images-idx3", "labels-idx1"))
    pixels = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16)
    return pixels.reshape(-1, 28, 28), np.frombuffer(gzip.decompress(labels.read_bytes()), np.uint8, offset=8).astype(
        int
    )


def silhouette(garment: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels are the garment's: lighter than `DARK`, or in a small hole; bool, of the same shape."""
    light: NDArray[np.bool_] = garment > DARK
    outside, count = ndimage.label(np.pad(~light, 1, constant_values=True))
    sizes = np.bincount(outside.ravel(), minlength=count + 1)
    small = sizes < SMALLEST_HOLE
    small[[0, outside[0, 0]]] = False
    light |= small[outside][1:-1, 1:-1]
    return light


@cache
def photographs(split: Split) -> tuple[Path, ...]:
    """Photographs of things, to be canvases; each fifth is for tests."""
    paths = [path for path, label in networks.photographs() if label not in DRESSED]
    return tuple(path for i, path in enumerate(paths) if (i % 5 == 0) == (split == "test"))


@cache
def photograph(path: Path) -> Image.Image:
    """A photograph's pixels, RGB."""
    with Image.open(path) as file:
        return file.convert("RGB")


def _write_fashion_mnist(to: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            _run(["apt-get", "-qq", "download", _PACKAGE], folder)
        except subprocess.CalledProcessError:  # a fresh machine does not know any package yet
            _run(["apt-get", "-qq", "update"], folder)
            _run(["apt-get", "-qq", "download", _PACKAGE], folder)
        archive = next(Path(folder).glob("*.deb"))
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != _SHA256:
            raise SystemExit(f"{archive.name} has sha256 {found}, but {_SHA256} was expected; nothing was kept")
        _run(["dpkg", "-x", str(archive), "."], folder)
        to.mkdir()
        for path in (Path(folder) / "usr/share/datasets/fashion-mnist").glob("*.gz"):
            (to / path.name).write_bytes(path.read_bytes())


def _run(command: list[str], folder: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is needed to fetch {_PACKAGE}, a package of Debian and Ubuntu") from None
