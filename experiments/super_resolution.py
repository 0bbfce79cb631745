"""SRNet: a network that doubles the resolution of geometry images, for the last rows of paper 1 (E22 to E25; SPEC I17).

    pi.maximize(opened(), "blocks.7:3", recipe=recipe("free"))      # with experiments/ on the path

The paper takes the network that Weiss et al. (2019) trained on isosurfaces, after Sajjadi et al. (2018); this one is
built after the paper's description (section 3.1), without the recurrent part, and trained on the surfaces of
`surfaces.py`. `weights/super_resolution.json` says how, and how good it is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

import preimage as pi
from preimage.parametrizations.geometry import Geometry, MaskKind
from preimage.recipes import Recipe, find_recipe

WEIGHTS = Path(__file__).parent / "weights"
SIDE = 32
"""Of the pictures that it was trained on; the paper's are 128 wide. It takes any."""
FACTOR = 2
FILTERS, BLOCKS = 64, 10
TAP = "blocks.7"
"""The 8th residual block, behind its addition."""
MEAN, STD = (0.5, 0.5, 0.5, 0.0, 0.5), (0.5, 0.5, 0.5, 1.0, 0.5)
"""From images in [0, 1] to normals and masks in [-1, 1] and depths in [0, 1]."""


class Block(nn.Module):
    """A residual block: two convolutions and a ReLU between them, added to what came in."""

    def __init__(self, filters: int):
        super().__init__()
        self.conv1 = nn.Conv2d(filters, filters, 3, padding=1)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.relu(self.conv1(x)))


class SRNet(nn.Module):
    """Maps [N, 5, H, W], in the order of `surfaces.MAPS`, to maps [N, 5, factor H, factor W].

    Ten residual blocks at the low resolution; what they say is upscaled, folded into five maps, and added to the
    bilinearly upscaled input. Normals come out with lengths near 1, depth and mask near their ranges: see `finished`.
    Where there is no surface, nothing is asked of normals and depth, and they are anything.
    """

    input_size = (SIDE, SIDE)

    def __init__(self, factor: int = FACTOR):
        super().__init__()
        self.factor = factor
        self.entry = nn.Sequential(nn.Conv2d(5, FILTERS, 3, padding=1), nn.ReLU())
        self.blocks = nn.Sequential(*(Block(FILTERS) for _ in range(BLOCKS)))
        self.upscale = nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=False)
        self.fold = nn.Sequential(
            nn.Conv2d(FILTERS, FILTERS, 3, padding=1), nn.ReLU(), nn.Conv2d(FILTERS, 5, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        # A tap's last ReLU is looked for through additions too, and from the entry to the last block there is nothing
        # else. The factor ends that: a block is asked for its sum, and not for what that were without the entry's ReLU.
        deep = self.blocks(1 * self.entry(x))
        return self.upscale(x) + self.fold(self.upscale(deep))


def bilinear(maps: Tensor, factor: int = FACTOR) -> Tensor:
    """Maps [N, 5, H, W] upscaled to [N, 5, factor H, factor W], which the network is measured against."""
    return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


def finished(maps: Tensor) -> Tensor:
    """The same maps [N, 5, H, W] with normals of length 1, depth within [0, 1], and a mask of -1 and 1."""
    mask = torch.where(maps[:, 4:] > 0, 1.0, -1.0)
    return torch.cat([F.normalize(maps[:, :3]), maps[:, 3:4].clamp(0, 1), mask], 1)


def super_resolution() -> SRNet:
    """SRNet as it was trained here; it takes normals and masks in [-1, 1] and depths in [0, 1]."""
    module = SRNet()
    module.load_state_dict(load_file(WEIGHTS / "super_resolution.safetensors"))
    module.eval()
    return module


def opened(side: int = SIDE) -> pi.Network:
    """The same, opened for images [N, 5, side, side] in [0, 1], as `preimage.parametrizations.Geometry` makes them."""
    return pi.Network(super_resolution(), (side, side), MEAN, STD, name="super_resolution")


def recipe(mask: MaskKind = "free") -> Recipe:
    """The recipe `plain` (paper 1: 800 steps of Adam, 300 of L-BFGS) for geometry images; E22 and E24 have mask "one",
    E23 and E25 "free"."""
    return replace(
        find_recipe("plain"),
        name=f"plain-geometry-{mask}",
        source="paper 1, sections 3.7 and 4.1 (SPEC I3, I5)",
        says=f"normals by angles, depth by a sigmoid, mask {mask}; 800 steps of Adam, then 300 of L-BFGS",
        parametrization=lambda channels, height, width, colours: Geometry(channels, height, width, mask=mask),
    )
