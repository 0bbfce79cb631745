"""The trained networks of `experiments/networks.py`, fetched once from the package registries."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import networks
import preimage as pi
from preimage.images import centre_crop, read_image


@pytest.fixture(scope="session")
def squeezenet() -> pi.Network:
    return pi.Network(networks.squeezenet(), name="squeezenet")


@pytest.fixture(scope="session")
def resnet50() -> pi.Network:
    return pi.Network(networks.resnet50(), name="resnet50")


@pytest.fixture(scope="session")
def bundled() -> pi.Network:
    return pi.load()


@pytest.fixture(scope="session")
def photographs() -> list[tuple[Path, int]]:
    """Forty photographs of eight classes, five each."""
    by_class: dict[int, list[Path]] = {}
    for path, label in networks.photographs():
        by_class.setdefault(label, []).append(path)
    return [(path, label) for label, paths in sorted(by_class.items()) if len(paths) >= 10 for path in paths[:5]][:40]


def stacked(photographs: list[tuple[Path, int]], network: pi.Network) -> Tensor:
    """The photographs at the network's input size, [N, 3, H, W]."""
    return torch.stack([centre_crop(read_image(path), network.input_size) for path, _ in photographs])
