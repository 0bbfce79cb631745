"""Worlds small enough to know the answers: pictures of a few pixels, linear encoders and generators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from preimage import Network
from preimage.training import Schedule, TrainedPrior, train_prior

SIDE, CODE = 4, 5

SCHEDULE = Schedule(steps=7, batch=8, rate=1e-2)


def pictures(count: int = 40, channels: int = 1, side: int = SIDE, seed: int = 0) -> Tensor:
    """Bytes [count, channels, side, side], of which some directions vary more than others."""
    generator = torch.Generator().manual_seed(seed)
    pixels = channels * side * side
    spread = torch.linspace(1, 0.05, pixels)
    turned = torch.linalg.qr(torch.randn(pixels, pixels, generator=generator)).Q
    values = 0.5 + 0.12 * (torch.randn(count, pixels, generator=generator) * spread) @ turned.T
    return (values.clamp(0, 1) * 255).round().to(torch.uint8).view(count, channels, side, side)


def encoder(seed: int = 0) -> Network:
    """Taps `1` (features, 9 numbers, before and behind a ReLU the same tap `2`) and `4`, the code (5 numbers)."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 9), nn.ReLU(), nn.Linear(9, CODE), nn.ReLU())
    return Network(module, SIDE, channels=1, name="encoder")


def linear_encoder(rows: Tensor, offset: Tensor) -> Network:
    """Its code `1` is `rows` [CODE, pixels] times the pixels, plus `offset` [CODE]."""
    linear = nn.Linear(rows.shape[1], rows.shape[0])
    with torch.no_grad():
        linear.weight.copy_(rows)
        linear.bias.copy_(offset)
    return Network(nn.Sequential(nn.Flatten(), linear), SIDE, channels=1, name="linear")


def linear_generator(seed: int = 0, code: int = CODE) -> nn.Module:
    """An affine map from codes to pixels."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(code, SIDE**2), nn.Unflatten(1, (1, SIDE, SIDE)))


def small_discriminator(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 6), nn.LeakyReLU(0.3), nn.Linear(6, 1), nn.Flatten(0))


PLAIN = {"width": 2, "hidden": 6, "norm": False}
"""A generator in which no image of a batch has a say in another."""


def trained(folder: Path, network: Network | None = None, **options: Any) -> TrainedPrior:
    """The same small training everywhere: all four losses, noise everywhere."""
    everything: dict[str, Any] = {
        "code": "4",
        "match": "2",
        "losses": ("image", "match", "code", "adversarial"),
        "noise": {"x": 0.01, "h1": 0.1, "h": 0.1},
        "generator": {"width": 2, "hidden": 6},
        "discriminator": {"width": 2, "hidden": 6},
        "adversary_waits": 2,
        "schedule": SCHEDULE,
        "checkpoint_every": 2,
        "preview_every": 3,
    }
    return train_prior(network or encoder(), pictures(), folder, **{**everything, **options})


def same(one: Any, other: Any) -> bool:
    """Whether two checkpoints, or parts of them, are equal bit for bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
