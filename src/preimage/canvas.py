"""How large a picture has to be for what its units see, and where a small picture belongs in a large one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network, Tap
from preimage.objectives import Objective


def receptive_field_size(network: Network, objectives: Sequence[Objective]) -> tuple[int, int]:
    """(height, width) of the smallest canvas that holds the receptive field of every unit that is asked.

    Whole strides, ceil(field / stride) * stride, and at most the network's input (paper 0's code, SPEC A10).

    Raises `RequestError` where a receptive field is not known.
    """
    table = network.taps()
    sizes = [
        network.input_size if place.tap == network.logits else _canvas(network, table[network.tap(place.tap).name])
        for one in objectives
        for place in one.places()
    ]
    return max(height for height, _ in sizes), max(width for _, width in sizes)


def placed(network: Network, image: Tensor, tap: str, size: tuple[int, int] | None = None, grey: float = 0.5) -> Tensor:
    """A picture of one unit's receptive field, put where the central unit of a larger picture sees it.

    image: [C, h, w], made for `TAP:CHANNEL@centre` on a canvas of its receptive field. size: of the larger picture,
    default the network's input. Returns [C, H, W], `grey` elsewhere; what would lie outside is cut off.
    Units are `stride` pixels apart wherever they are, so the picture moves by as many strides as the unit does.

    Raises `RequestError` where the tap has no positions or its stride is not known.
    """
    row = network.taps()[network.tap(tap).name]
    if len(row.shape) != 3 or row.stride is None:
        raise RequestError(f"'{tap}' has no positions {row.stride} pixels apart, so there is no place to put a picture")
    whole = size or network.input_size
    with torch.no_grad():
        small, large = (
            network.run(torch.full((1, network.channels, *sides), grey), [tap]) for sides in (image.shape[1:], whole)
        )
    (few,), (many,) = (values.values() for values in (small, large))
    corner = [
        ((n - 1) // 2 - (m - 1) // 2) * stride
        for n, m, stride in zip(many.shape[2:], few.shape[2:], row.stride, strict=True)
    ]
    out = torch.full((image.shape[0], *whole), grey)
    top, left = (max(c, 0) for c in corner)
    bottom, right = (min(c + side, n) for c, side, n in zip(corner, image.shape[1:], whole, strict=True))
    out[:, top:bottom, left:right] = image[
        :, top - corner[0] : bottom - corner[0], left - corner[1] : right - corner[1]
    ]
    return out


def _canvas(network: Network, row: Tap) -> tuple[int, int]:
    if row.receptive_field is None:
        raise RequestError(f"the receptive field of '{row.name}' is not known; give a size in pixels")
    stride = row.stride or (1, 1)
    sides = (math.ceil(f / s) * s for f, s in zip(row.receptive_field, stride, strict=True))
    height, width = (min(side, whole) for side, whole in zip(sides, network.input_size, strict=True))
    return height, width
