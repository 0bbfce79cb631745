"""How large a picture has to be for what its units see, and where a small picture belongs in a large one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network, Tap
from preimage.objectives import Objective
from preimage.recipes import Recipe


def receptive_field_size(network: Network, objectives: Sequence[Objective]) -> tuple[int, int]:
    """(height, width) of the smallest canvas on which the central unit of every tap that is asked sees its whole field.

    Whole strides, at least ceil(field / stride) * stride (paper 0's code, SPEC A10; where layers have padding, the
    central unit may need more), and at most the network's input.

    Raises `RequestError` where a receptive field is not known.
    """
    table = network.taps()
    taps = {network.tap(place.tap).name for one in objectives for place in one.all_places()}
    sizes = [_canvas(network, table[tap]) if len(table[tap].shape) > 1 else network.input_size for tap in taps]
    return max(height for height, _ in sizes), max(width for _, width in sizes)


def picture_and_window(
    network: Network,
    settings: Recipe,
    members: Sequence[Objective],
    size: int | tuple[int, int] | str | None,
    window: int | tuple[int, int] | None,
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The picture's (height, width), and what the network sees of it at once (see `maximize`).

    Raises `RequestError` for sizes that do not fit together, or are none.
    """
    by_field = size == "receptive-field"
    asked = None if size is None or by_field else pair("size", size)
    if window is not None and by_field:
        raise RequestError("either a window of so many pixels, or one of the receptive field; not both")
    if window is not None:
        seen = pair("window", window)
    elif by_field:
        seen = receptive_field_size(network, members)
    elif settings.has_window:
        seen = settings.own_window or network.input_size
    else:
        seen = asked or network.input_size
    if not settings.has_window:
        if asked not in (None, seen):
            raise RequestError(f"recipe '{settings.name}' shows the network the whole picture; size= says how large")
        return seen, seen
    whole = asked or (round(seen[0] * settings.canvas), round(seen[1] * settings.canvas))
    if whole[0] < seen[0] or whole[1] < seen[1]:
        raise RequestError(
            f"recipe '{settings.name}' moves a window of {seen[0]} x {seen[1]} pixels over the picture, which does not "
            f"fit on a canvas of {whole[0]} x {whole[1]}; ask for a larger size, or for a smaller window"
        )
    smallest = min(stage.scale for stage in settings.stages)
    if round(whole[0] * smallest) < seen[0] or round(whole[1] * smallest) < seen[1]:
        raise RequestError(
            f"recipe '{settings.name}' begins with a picture of {smallest:.3g} times its final size, over which "
            f"a window of {seen[0]} x {seen[1]} pixels moves; {whole[0]} x {whole[1]} is too small for that, it takes "
            f"{_large_enough(seen[0], smallest)} x {_large_enough(seen[1], smallest)} or more"
        )
    return whole, seen


def _large_enough(side: int, scale: float) -> int:
    """The smallest canvas of which a part of this scale is as large as `side`."""
    whole = side
    while round(whole * scale) < side:
        whole += 1
    return whole


def check_size(network: Network, members: Sequence[Objective], size: tuple[int, int]) -> None:
    """Raise `RequestError` if the network does not get as far as the taps that are asked with images of this size."""
    if size == network.input_size:
        return  # it was opened with one
    with torch.no_grad():
        grey = torch.full((1, network.channels, *size), 0.5, device=network.device)
        network.run(grey, frozenset().union(*(member.all_places() for member in members)))


def takes(network: Network, members: Sequence[Objective], size: tuple[int, int]) -> bool:
    """Whether the network gets as far as the taps that are asked with images of this size."""
    try:
        check_size(network, members, size)
    except RequestError:
        return False
    return True


def pair(what: str, size: object) -> tuple[int, int]:
    """One side or (height, width), as a pair; raises `RequestError` for anything else."""
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise RequestError(f"a {what} is one side or (height, width), in whole pixels above zero, not {size}")
    return sides[0], sides[1]


def placed(
    network: Network, image: Tensor, tap: str, size: int | tuple[int, int] | None = None, grey: float = 0.5
) -> Tensor:
    """A picture of one unit's receptive field, put where the central unit of a larger picture sees it.

    image: [C, h, w], made for `TAP:CHANNEL@centre` on a canvas of its receptive field. size: of the larger picture,
    default the network's input. Returns [C, H, W], `grey` elsewhere; what would lie outside is cut off.
    Units are `stride` pixels apart wherever they are, so the picture moves by as many strides as the unit does.

    Raises `RequestError` where the tap has no positions or its stride is not known.
    """
    row = network.taps()[network.tap(tap).name]
    if len(row.shape) != 3 or row.stride is None:
        raise RequestError(f"'{tap}' has no positions, so there is no place to put a picture")
    if image.ndim != 3 or image.shape[0] != network.channels:
        raise RequestError(f"a picture has shape [{network.channels}, h, w] here, not {list(image.shape)}")
    whole = network.input_size if size is None else pair("size", size)
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
    sides = [math.ceil(f / s) * s for f, s in zip(row.receptive_field, stride, strict=True)]
    while True:
        size = min(sides[0], network.input_size[0]), min(sides[1], network.input_size[1])
        seen = network.sees(row.name, size)
        if seen is None or size == network.input_size:
            return size
        short = [seen[1][axis] < row.receptive_field[axis] and size[axis] < network.input_size[axis] for axis in (0, 1)]
        if not any(short):
            return size
        sides = [side + step * is_short for side, step, is_short in zip(sides, stride, short, strict=True)]
