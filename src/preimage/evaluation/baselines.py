"""Heat maps that know nothing of network or photo. A measure that cannot tell a method from them says nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.method import Found, Method, Question


@dataclass(frozen=True)
class Centre(Method):
    """The nearer to the photo's centre, the more important: photographers put things there."""

    name: ClassVar[str] = "centre"
    source: ClassVar[str] = "Zhang et al. 2016, the pointing game's baseline"

    def explain(self, asked: Question) -> Found:
        height, width = asked.size
        # (Halves are exact, so that both sides of the centre are rounded alike.)
        down, across = ((torch.arange(side) - (side - 1) / 2) / side for side in (height, width))
        away = torch.hypot(down[:, None], across)
        return Found((1 - away / away.max()).expand(len(asked), height, width).clone())


@dataclass(frozen=True)
class Random(Method):
    """Uniform noise, drawn for each photo anew.

    cells: of independent values along each side, joined bilinearly; 0: every pixel is independent.
    """

    name: ClassVar[str] = "random"
    source: ClassVar[str] = "chance"

    cells: int = 0

    def __post_init__(self) -> None:
        if self.cells < 0:
            raise RequestError(f"cells of noise are 0 (each pixel) or more, not {self.cells}")

    def explain(self, asked: Question) -> Found:
        drawn: list[Tensor] = []
        # (Seeds are of what is asked, and would be the same for all photos of a class.)
        for seed, photo in zip(asked.seeds, asked.photos.cpu(), strict=True):
            digest = hashlib.sha256(f"{seed}".encode() + photo.contiguous().numpy().tobytes()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
            cells = asked.size if self.cells == 0 else (self.cells, self.cells)
            noise = torch.rand((1, 1, *cells), generator=generator)
            drawn.append(F.interpolate(noise, asked.size, mode="bilinear", align_corners=False)[0, 0])
        return Found(torch.stack(drawn))


BASELINES: tuple[Method, ...] = (Centre(), Random())
"""`evaluate` knows them as methods too, and adds them to whatever is asked."""
