"""Many filters of a layer on one canvas, in one pass (paper 0's code, SPEC A13)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network
from preimage.objectives.objective import Objective, WeightedSum
from preimage.objectives.units import unit


@dataclass(frozen=True)
class Tiling:
    """objective: all units together. size: (height, width) of the canvas in pixels. side: (height, width) of a tile.
    corners: (top, left) of the tile of each channel, in the order of `channels`."""

    channels: tuple[int, ...]
    objective: Objective
    size: tuple[int, int]
    side: tuple[int, int]
    corners: tuple[tuple[int, int], ...]
    positions: tuple[tuple[int, int], ...]

    def cut(self, canvas: Tensor) -> Tensor:
        """The tiles of a canvas [C, H, W], as [channels, C, height, width]."""
        height, width = self.side
        return torch.stack([canvas[:, top : top + height, left : left + width] for top, left in self.corners])


def tiled(network: Network, tap: str, channels: Sequence[int], gap: int = 0) -> Tiling:
    """One unit of each channel, so far apart that their receptive fields, with `gap` pixels between, do not overlap.

    Every unit has a tile of its own; the gradient of the sum of all units is each unit's own gradient in its tile, so
    that one pass makes all pictures. It takes a recipe that does not move the picture, such as "unconstrained" or
    "plain": what another one shows the network is no longer a unit in its tile.

    Raises `RequestError` where the tap's receptive field is not known or no smaller than the network's input.
    """
    if gap < 0:
        raise RequestError(f"there are 0 pixels or more between two fields, not {gap}")
    if not channels:
        raise RequestError("there is no channel to put on the canvas")
    network.tap(tap)
    row = network.taps()[network.tap(tap).name]
    if row.receptive_field is None or row.stride is None or len(row.shape) != 3:
        raise RequestError(f"'{tap}' cannot be tiled: its units see the whole input, or its stride is not known")
    if any(field >= whole for field, whole in zip(row.receptive_field, network.input_size, strict=True)):
        raise RequestError(f"'{tap}' cannot be tiled: each unit sees the whole input")
    columns = math.ceil(math.sqrt(len(channels)))
    rows = -(-len(channels) // columns)
    # How many units of the map lie between one tile and the next.
    apart = [-(-(field + gap) // stride) for field, stride in zip(row.receptive_field, row.stride, strict=True)]
    side = (apart[0] * row.stride[0], apart[1] * row.stride[1])
    cells = [(i // columns, i % columns) for i in range(len(channels))]
    size = _canvas((rows, columns), side, row.stride)
    # Where there are few tiles, the border may cut off what the central unit sees; where units lie is the same.
    probe = _canvas((max(rows, 3), max(columns, 3)), side, row.stride)
    seen = network.sees(row.name, probe)
    with torch.no_grad():
        (values,) = network.run(torch.full((1, network.channels, *probe), 0.5), [tap]).values()
    if seen is None or values.ndim != 4:
        raise RequestError(f"'{tap}' cannot be tiled: what its units see cannot be measured")
    first, corner = [], []
    for axis in (0, 1):
        # The first unit whose field begins inside its tile, counted back from the central one, which sees all of its.
        centre, top, stride = (values.shape[2 + axis] - 1) // 2, seen[0][axis], row.stride[axis]
        margin = (side[axis] - row.receptive_field[axis]) // 2
        first.append(centre - (top - margin) // stride)
        corner.append((top - margin) % stride)
    positions = [(first[0] + y * apart[0], first[1] + x * apart[1]) for y, x in cells]
    units = [unit(tap, index, *position) for index, position in zip(channels, positions, strict=True)]
    return Tiling(
        tuple(channels),
        WeightedSum(tuple((1.0, one) for one in units)).bind(network),
        size,
        side,
        tuple((corner[0] + y * side[0], corner[1] + x * side[1]) for y, x in cells),
        tuple(positions),
    )


def _canvas(tiles: tuple[int, int], side: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
    """One stride larger than its tiles, which begin where the fields do."""
    height, width = (count * long + step for count, long, step in zip(tiles, side, stride, strict=True))
    return height, width
