"""Images of geometry: normals, depth and mask of a surface seen from the front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.parametrizations.parametrization import Parametrization
from preimage.parametrizations.pixels import logit

MaskKind = Literal["one", "free"]


@dataclass(frozen=True)
class Geometry(Parametrization):
    """Normals by two angles, depth and mask by sigmoids (paper 1, section 3.7; SPEC I3): parameters [N, p, H, W].

    The image has five channels, all within [0, 1]: (n + 1) / 2 for the normal n = (x, y, z), the depth, and
    (m + 1) / 2 for the mask m. A network that takes normals and masks in [-1, 1] is opened with
    `Network(module, mean=(.5, .5, .5, 0, .5), std=(.5, .5, .5, 1, .5))`, which undoes that; the first three channels
    by themselves are the normal map as people are used to see it.

    n = (sin theta cos phi, sin theta sin phi, cos theta), with phi the first parameter itself, which may turn as often
    as it likes, and theta = pi (sigmoid(second) - 1/2) within [-pi/2, pi/2]: the length is 1, and z = cos theta is
    never negative. The depth is sigmoid(third). All parameters zero is a wall facing the eye; there phi does not
    matter, and has no gradient.

    mask: "one", which is hard-coded (p = 3), or "free", m = 2 sigmoid(fourth) - 1 within [-1, 1] (p = 4). The paper's
        table 1 counts 128^2 * 4 parameters, a free mask.

    Raises `RequestError` for other numbers of channels than 5, and other masks.
    """

    mask: MaskKind = "free"

    def __post_init__(self) -> None:
        if self.channels != 5:
            raise RequestError(f"geometry has 5 channels (three of the normal, depth, mask), not {self.channels}")
        if self.mask not in get_args(MaskKind):
            raise RequestError(f"a mask is 'one' or 'free', not '{self.mask}'")

    @property
    def shape(self) -> tuple[int, ...]:
        return (4 if self.mask == "free" else 3, self.height, self.width)

    def image(self, parameters: Tensor) -> Tensor:
        phi, theta = parameters[:, 0], torch.pi * (torch.sigmoid(parameters[:, 1]) - 0.5)
        across = torch.sin(theta)
        # (in float32 pi / 2 is rounded upwards, where the cosine is below zero)
        towards = torch.cos(theta).clamp_min(0)
        normal = torch.stack([across * torch.cos(phi), across * torch.sin(phi), towards], 1)
        depth = torch.sigmoid(parameters[:, 2:3])
        mask = torch.sigmoid(parameters[:, 3:]) if self.mask == "free" else torch.ones_like(depth)
        return torch.cat([(normal + 1) / 2, depth, mask], 1)

    def parameters(self, images: Tensor) -> Tensor:
        """Normals of any length count by their direction, those that point away are laid on the rim, and without a
        length they face the eye; theta is not negative."""
        x, y, z = (2 * images[:, :3] - 1).unbind(1)
        # (`logit` cuts off what lies beyond the rim)
        theta = torch.atan2(torch.hypot(x, y), z)
        angles = [torch.atan2(y, x), logit(theta / torch.pi + 0.5)]
        rest = logit(images[:, 3:] if self.mask == "free" else images[:, 3:4])
        return torch.cat([torch.stack(angles, 1), rest], 1)
