"""Random smooth surfaces, seen from the front: maps of their normals, depth and mask, at any resolution (SPEC I.5).

Where paper 1 has isosurfaces of scanned and simulated volumes, these are isosurfaces of random fields in the unit cube:
a few Gaussian blobs, which give the shape, and plane waves, which give the detail. Rays go straight through it
(orthographic), one through the centre of each pixel, and stop where the field first rises above zero; so a small
picture of a surface is rendered, and not made from the large one.

    python experiments/surfaces.py sheet.png      # a sheet to look at: shaded, normals, depth, mask
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Values = NDArray[np.float32]
"""Sines and exponentials are most of the work, and several times slower in float64. Depths are right to 1e-6, and to
1e-4 where a ray only grazes the surface."""

MAPS = ("normal x", "normal y", "normal z", "depth", "mask")
PLANES = 64
"""How many depths are looked at for the first one inside; the shortest wave is nine planes long."""
NEWTON_STEPS = 3
FRONT = 0.05
"""How far the field is pushed down behind the front side of the cube, so that no surface is cut open by it."""


@dataclass(frozen=True)
class Surface:
    """Where a field is zero; it is above zero inside. Lengths are in units of the cube; depth grows away from the eye.

    centres: (x, y, depth) of the blobs, [blobs, 3]. widths: their standard deviations. heights: of the field there.
    waves: radians per unit along x, y and depth, [waves, 3]. phases, amplitudes: [waves]. level: taken off everywhere.
    """

    centres: Values
    widths: Values
    heights: Values
    waves: Values
    phases: Values
    amplitudes: Values
    level: float

    def across(self, x: Values, y: Values) -> Values:
        """What every term of the field has of a ray at (x, y): [rays, terms]."""
        blobs, even, odd = self._across(x, y)
        flat = np.full((len(x), 2), [-self.level, -self._highest()], np.float32)
        return np.concatenate([blobs, even, odd, flat], 1)

    def slopes_across(self, x: Values, y: Values) -> tuple[Values, Values]:
        """How `across` changes along x and along y, [rays, terms] each."""
        blobs, even, odd = self._across(x, y)
        flat = np.zeros((len(x), 2), np.float32)
        along_x, along_y = (
            np.concatenate([(self.centres[:, i] - at[:, None]) / self.widths**2 * blobs, k * odd, -k * even, flat], 1)
            for i, (at, k) in enumerate(((x, self.waves[:, 0]), (y, self.waves[:, 1])))
        )
        return along_x, along_y

    def _across(self, x: Values, y: Values) -> tuple[Values, Values, Values]:
        right, up = (at[:, None] - self.centres[:, i] for i, at in enumerate((x, y)))
        blobs = self.heights * np.exp(-(right**2 + up**2) / (2 * self.widths**2))
        angles = x[:, None] * self.waves[:, 0] + y[:, None] * self.waves[:, 1] + self.phases
        return blobs, self.amplitudes * np.cos(angles), -self.amplitudes * np.sin(angles)

    def along(self, depth: Values) -> tuple[Values, Values]:
        """What every term of the field has of a depth, [depths, terms], and the slopes of that."""
        away, variance = depth[:, None] - self.centres[:, 2], self.widths**2
        blobs = np.exp(-(away**2) / (2 * variance))
        k = self.waves[:, 2]
        even, odd = np.cos(depth[:, None] * k), np.sin(depth[:, None] * k)
        one, front = np.ones_like(depth)[:, None], np.exp(-((depth / FRONT) ** 2) / 2)[:, None]
        return (
            np.concatenate([blobs, even, odd, one, front], 1),
            np.concatenate(
                [-away / variance * blobs, -k * odd, k * even, 0 * one, -depth[:, None] / FRONT**2 * front], 1
            ),
        )

    def _highest(self) -> float:
        return float(self.heights.sum() + np.abs(self.amplitudes).sum())


def surface(seed: int, index: int) -> Surface:
    """Surface `index` of a seed: the same two numbers give the same surface."""
    generator = np.random.default_rng((seed, index))
    blobs, waves = int(generator.integers(3, 17)), 24
    directions = generator.normal(size=(waves, 3))
    cycles = _log_uniform(generator, 1, 7, waves)
    roughness = _log_uniform(generator, 0.02, 0.4)
    values = {
        "centres": generator.uniform((0, 0, 0.25), (1, 1, 0.9), (blobs, 3)),
        "widths": _log_uniform(generator, 0.05, 0.22, blobs),
        "heights": generator.uniform(0.7, 1.3, blobs),
        "waves": 2 * np.pi * cycles[:, None] * directions / np.linalg.norm(directions, axis=1, keepdims=True),
        "phases": generator.uniform(0, 2 * np.pi, waves),
        # The power falls as that of photographs does.
        "amplitudes": roughness * np.sqrt(2 / np.sum(cycles**-2.0)) / cycles,
    }
    level = float(generator.uniform(0.3, 0.7))
    return Surface(**{name: value.astype(np.float32) for name, value in values.items()}, level=level)


def rendered(of: Surface, side: int) -> NDArray[np.float32]:
    """What is seen of a surface by side x side rays: maps [5, side, side], in the order of `MAPS`.

    Normals have length 1 and point at the eye: x to the right, y upwards, z towards the eye, never below zero. Depth
    goes from 0, the front side of the cube, to 1, its back. The mask is 1 where a ray hits, and -1 where none does;
    normals are zero and the depth is 1 there.
    """
    centres = (np.arange(side, dtype=np.float32) + 0.5) / side
    y, x = (one.ravel() for one in np.meshgrid(1 - centres, centres, indexing="ij"))
    value = of.across(x, y)
    planes = np.linspace(0, 1, PLANES, dtype=np.float32)
    fields = value @ of.along(planes)[0].T
    inside = fields > 0
    hits = np.flatnonzero(inside.any(1))
    behind = inside[hits].argmax(1)
    before, after = (fields[hits, plane] for plane in (behind - 1, behind))
    low, high = planes[behind - 1], planes[behind]
    depth = low + (high - low) * before / (before - after)
    value, (along_x, along_y) = value[hits], of.slopes_across(x[hits], y[hits])
    for _ in range(NEWTON_STEPS):
        terms, slopes = of.along(depth)
        field, slope = np.einsum("rt,rt->r", value, terms), np.einsum("rt,rt->r", value, slopes)
        # The field rises there; where it hardly does, a step could lead out of the bracket.
        depth = np.clip(depth - field / np.maximum(slope, 1e-3), low, high)
    terms, slopes = of.along(depth)
    normals = np.stack(
        [
            -np.einsum("rt,rt->r", along_x, terms),
            -np.einsum("rt,rt->r", along_y, terms),
            np.maximum(np.einsum("rt,rt->r", value, slopes), 0),
        ]
    )
    maps = np.zeros((5, side * side), np.float32)
    maps[3], maps[4] = 1, -1
    maps[:3, hits] = normals / np.linalg.norm(normals, axis=0)
    maps[3, hits], maps[4, hits] = depth, 1
    return maps.reshape(5, side, side)


def pairs(seed: int, indices: Sequence[int], side: int = 32, factor: int = 2) -> tuple[Tensor, Tensor]:
    """The same surfaces at two resolutions: float32 [N, 5, side, side] and [N, 5, factor side, factor side]."""
    seen = [surface(seed, index) for index in indices]
    low, high = (np.stack([rendered(one, length) for one in seen]) for length in (side, factor * side))
    return torch.from_numpy(low), torch.from_numpy(high)


def shaded(maps: Tensor) -> Tensor:
    """A picture of what the maps [N, 5, H, W] describe, lit from the upper left: [N, 1, H, W] in [0, 1]."""
    light = torch.tensor([-0.5, 0.6, 0.62]).view(1, 3, 1, 1)
    lit = 0.15 + 0.85 * (maps[:, :3] * light).sum(1, keepdim=True).clamp(0, 1)
    return torch.where(maps[:, 4:] > 0, lit, torch.ones(()))


def as_picture(maps: Tensor) -> Tensor:
    """Maps [N, 5, H, W] as a row of RGB pictures [N, 3, H, 4 W] in [0, 1]: shaded, normals, depth, mask.

    Where the mask says that there is no surface, normals and depth are shown as background, whatever they are.
    """
    there = maps[:, 4:] > 0
    nearness, mask = torch.where(there, 1 - maps[:, 3:4], 0.0), (maps[:, 4:] + 1) / 2
    grey = [one.expand(-1, 3, -1, -1) for one in (shaded(maps), nearness, mask)]
    return torch.cat([grey[0], torch.where(there, maps[:, :3] + 1, 1.0) / 2, *grey[1:]], 3).clamp(0, 1)


def _log_uniform(generator: np.random.Generator, low: float, high: float, count: int | None = None) -> NDArray[Any]:
    return np.exp(generator.uniform(np.log(low), np.log(high), count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    seen = [rendered(surface(asked.seed, i), asked.side) for i in range(asked.count)]
    rows = as_picture(torch.from_numpy(np.stack(seen)))
    left, right = rows[0::2], rows[1::2]
    sheet = torch.cat([torch.cat(list(half), 1) for half in (left, right)], 2)
    Image.fromarray((sheet * 255).round().byte().permute(1, 2, 0).numpy()).save(asked.out)


if __name__ == "__main__":
    main()
