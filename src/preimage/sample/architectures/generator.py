"""G: codes to images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from preimage.errors import RequestError
from preimage.sample.architectures.limits import LARGEST_SIDE, checked_code_shape, whole

SLOPE = 0.3
"""Of the leaky ReLU below zero (SPEC P27)."""


class Generator(nn.Module):
    """The up-convolutional network of Dosovitskiy and Brox, scaled to the code and the image (paper 3, S9; SPEC P27).

    code_shape: (length,), or (channels, side, side) for a layer that has places. channels, size: of the images.
    width: channels of the last up-convolution; every one before has twice as many, up to `widest`.
    hidden: width of the first two of the three fully connected layers of a vector code; default its length. A code
    that has places gets none.
    norm: batch normalisation before every leaky ReLU, as in Radford et al. 2016 (arXiv:1511.06434). The paper's G has
    none and learns for days; with it a discriminator's opinion becomes shapes, instead of textures, within an hour.

    As in the paper, three fully connected layers lead to a small image, then up-convolutions (4 x 4, stride 2, padding
    1) double it until it is large enough, each followed by a 3 x 3 convolution, with a leaky ReLU after every layer but
    the last; what is too large is cut off around the centre (256 to 227 there). Otherwise than in the paper: the
    convolution behind the last up-convolution makes the colours, where the paper's last ones have none in between; a
    sigmoid ends it, so that images lie in [0, 1], where the paper clips pixel values around the mean colour; and codes
    are divided by `code_scale`, a number that training measures, so that any network's codes are of the same size.

    Takes codes [N, *code_shape], gives images [N, channels, size, size] in [0, 1].

    Raises `RequestError` for settings out of range, or a code with more places than the image.
    """

    code_scale: Tensor

    def __init__(
        self,
        code_shape: Sequence[int],
        channels: int,
        size: int,
        width: int = 24,
        widest: int = 256,
        hidden: int | None = None,
        norm: bool = False,
    ):
        super().__init__()
        shape = checked_code_shape(code_shape)
        whole("channels", channels, 1, 4)
        whole("size", size, 2, LARGEST_SIDE)
        whole("width", width, 1, 4096)
        whole("widest", widest, 1, 4096)
        hidden = whole("hidden", shape[0] if hidden is None else hidden)
        self.settings: dict[str, Any] = {
            "code_shape": list(shape),
            "channels": channels,
            "size": size,
            "width": width,
            "widest": widest,
            "hidden": hidden,
            "norm": bool(norm),
        }
        self.register_buffer("code_scale", torch.ones(()))
        if len(shape) == 3 and shape[1] > size:
            raise RequestError(f"a code with {shape[1]} x {shape[2]} places needs larger images than {size} x {size}")
        doublings = math.ceil(math.log2(size / (shape[1] if len(shape) == 3 else 7)))
        doublings = max(doublings, 1 if len(shape) == 1 else 0)
        widths = [min(width * 2**i, widest) for i in reversed(range(doublings))]
        if len(shape) == 1:
            side, into = math.ceil(size / 2**doublings), widths[0]
            self.fully_connected: nn.Module = nn.Sequential(
                nn.Linear(shape[0], hidden, bias=not norm),
                *_activated(nn.BatchNorm1d(hidden) if norm else None),
                nn.Linear(hidden, hidden, bias=not norm),
                *_activated(nn.BatchNorm1d(hidden) if norm else None),
                nn.Linear(hidden, into * side * side, bias=not norm),
                *_activated(nn.BatchNorm1d(into * side * side) if norm else None),
                nn.Unflatten(1, (into, side, side)),
            )
        else:
            into = shape[0]
            self.fully_connected = nn.Identity()
        layers: list[nn.Module] = []
        for i, out in enumerate(widths):
            layers.append(nn.ConvTranspose2d(into, out, 4, 2, 1, bias=not norm))
            layers += _activated(nn.BatchNorm2d(out) if norm else None)
            into = out
            # (behind the last up-convolution it makes the colours, without a leaky ReLU)
            if i < len(widths) - 1:
                layers.append(nn.Conv2d(out, out, 3, padding=1, bias=not norm))
                layers += _activated(nn.BatchNorm2d(out) if norm else None)
        layers.append(nn.Conv2d(into, channels, 3, padding=1))
        self.upconvolutions = nn.Sequential(*layers)
        self.size = size
        self.code_shape = shape

    def forward(self, codes: Tensor) -> Tensor:
        """Codes [N, *code_shape] to images [N, channels, size, size] in [0, 1]."""
        if tuple(codes.shape[1:]) != self.code_shape:
            raise RequestError(f"this generator takes codes [N, {_joined(self.code_shape)}], not {list(codes.shape)}")
        made = self.upconvolutions(self.fully_connected(codes / self.code_scale))
        above = (made.shape[2] - self.size) // 2
        cut: Tensor = made[:, :, above : above + self.size, above : above + self.size]
        return cut.float().sigmoid()


def _activated(norm: nn.Module | None) -> list[nn.Module]:
    return [*([] if norm is None else [norm]), nn.LeakyReLU(SLOPE)]


def _joined(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
