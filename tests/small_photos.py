"""Photos of noise, small enough that a network sees a hundred of them in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def photo(path: Path, seed: int, size: tuple[int, int] = (40, 36)) -> Path:
    """A PNG file of (height, width) pixels; no two seeds look alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def folder(root: Path, **counts: int) -> str:
    """A data set of so many photos of each class, as `evaluate` takes it."""
    for i, (name, count) in enumerate(counts.items()):
        for k in range(count):
            photo(root / name / f"{k}.png", 100 * i + k)
    return f"folder:{root}"


def damage(path: Path) -> None:
    """What tells a photo's size stays, and most of its pixels go."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
