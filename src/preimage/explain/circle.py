"""Discs to start a mask from (paper 4, supplement, section 2; SPEC M5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.explain.method import PUBLISHED_SIDE, Question
from preimage.parametrizations import MaskOver
from preimage.priors import Gaussian

if TYPE_CHECKING:
    from preimage.explain.mask import Game

RADII = range(0, 180, 5)
"""In pixels of a photo of 224: 0 to 175, both included (SPEC M.5-5: the published code stops before the last)."""
_SOFT = 10.0
_ENOUGH = 0.99


def discs(size: tuple[int, int], cells: tuple[int, int]) -> Tensor:
    """Centred discs of all `RADII`, 1 inside, softened and brought down to so many cells: [radii, 1, *cells].

    size: (height, width) of the photos in pixels. The disc of radius 0 is one pixel.
    """
    unit = min(size) / PUBLISHED_SIDE
    rows, columns = (torch.arange(side) - side // 2 for side in size)
    away = (rows[:, None].square() + columns.square()).sqrt()
    hard = torch.stack([(away <= radius * unit).float() for radius in RADII])[:, None]
    return F.interpolate(Gaussian(sigma=_SOFT * unit)(hard), cells, mode="nearest")


def circular_masks(
    asked: Question, parametrization: MaskOver, scores: Callable[[int, Tensor], Tensor], game: Game
) -> tuple[Tensor, list[float | None]]:
    """For each photo the mask [N, 1, h, w] of the smallest disc that is enough, and its radius in pixels.

    Enough: without the disc, the score has fallen by 99 % of what it falls by when all is perturbed; for the
    preservation game, the disc alone holds 99 % of that. None where no disc is enough, or where the score does not fall
    when all is perturbed: then the mask perturbs everything.

    parametrization: with the photos as they are. scores: (index of the photo, images) -> scores.
    """
    preserves = game == "preservation"
    inside = discs(asked.size, (parametrization.height, parametrization.width)).to(parametrization.photos)
    masks = inside if preserves else 1 - inside
    over = parametrization.over(masks)
    chosen: list[Tensor] = []
    radii: list[float | None] = []
    for i in range(len(asked)):
        photo, other = parametrization.photos[i : i + 1], parametrization.perturbed[i : i + 1]
        whole, nothing = scores(i, torch.cat([photo, other]))
        first = None
        # The smallest is wanted: what is larger need not be looked at once one is enough.
        for position in range(0, len(over) if whole > nothing else 0, asked.chunk):
            some = over[position : position + asked.chunk]
            left = (scores(i, torch.lerp(other, photo, some)) - nothing) / (whole - nothing)
            enough = left >= _ENOUGH if preserves else left < 1 - _ENOUGH
            if bool(enough.any()):
                first = position + int(enough.int().argmax())
                break
        if first is None:
            chosen.append(torch.zeros_like(masks[0]))
            radii.append(None)
        else:
            chosen.append(inside[first] if game == "both" else masks[first])
            radii.append(RADII[first] * min(asked.size) / PUBLISHED_SIDE)
    return torch.stack(chosen), radii
