"""Convolutions without anything between, which are linear, and what their units see."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def convolutions(*layers: tuple[int, int, int], bias: bool = False) -> nn.Sequential:
    """Convolutions without anything between: (kernel, stride, padding) of each."""
    torch.manual_seed(0)
    widths = [1] + [4] * (len(layers) - 1) + [5]
    return nn.Sequential(
        *(
            nn.Conv2d(widths[i], widths[i + 1], kernel, stride, padding, bias=bias)
            for i, (kernel, stride, padding) in enumerate(layers)
        )
    )
