"""From a heat map to the box around what is important in it, and how well two boxes agree (paper 4, section 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.data.example import Box

Kind = Literal["value", "energy", "mean"]
"""How alpha says which pixels remain:

`value`: those at least alpha of the way from the smallest value to the largest.
`energy`: the largest ones, for as long as they sum to less than alpha of the whole.
`mean`: those of at least alpha times the mean.
"""


def threshold(heatmap: Tensor, kind: Kind, alpha: float) -> Tensor:
    """Which pixels of a heat map remain: bool [H, W] (SPEC M.5-10, M.5-11).

    heatmap: [H, W], larger is more important. What is 0 counts as removed whatever alpha is, as all that falls below
    the threshold is set to 0. A map with negative values is shifted first, so that its smallest is 0: shares of a sum
    and multiples of a mean have no meaning otherwise (`value` is the same with and without it).

    Of `energy`, the pixel that brings the sum to alpha is removed, as in the authors' code; equal pixels share the fate
    of their first, so that the order in which they lie makes no difference and a saturated part stays whole.

    Raises `RequestError` for maps that are not [H, W] or not finite, and alphas that are negative or not finite.
    """
    levels, lowest = _levels(heatmap, kind, [alpha])
    return levels >= lowest[0]


def boxes_at(heatmap: Tensor, kind: Kind, alphas: Sequence[float]) -> Tensor:
    """`tightest_box(threshold(heatmap, kind, alpha))` for many alphas at once: int64 [A, 4]."""
    levels, lowest = _levels(heatmap, kind, alphas)
    top, bottom = _extent(levels.amax(1) >= lowest[:, None])
    left, right = _extent(levels.amax(0) >= lowest[:, None])
    return torch.stack([left, top, right, bottom], 1)


def tightest_box(remaining: Tensor) -> Box:
    """The box around all that remains, bool [H, W], not around its largest part; of nothing, the whole image."""
    top, bottom = _extent(remaining.any(1)[None])
    left, right = _extent(remaining.any(0)[None])
    return int(left), int(top), int(right), int(bottom)


def iou(box: Box, other: Box) -> float:
    """Intersection over union of two boxes; see `ious`."""
    return float(ious(torch.tensor([box], dtype=torch.float64), torch.tensor([other], dtype=torch.float64)))


def ious(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of each of boxes [A, 4] with each of others [B, 4]: float64 [A, B].

    Our boxes end just outside of their last pixels. Those of ILSVRC and Pascal VOC name their last pixels, and count
    the first one as 1: (xmin, ymin, xmax, ymax) is (xmin - 1, ymin - 1, xmax, ymax) here. So their sides of
    xmax - xmin + 1 pixels (the "+ 1 convention" of SPEC M.5-10) are ours of right - left.

    Raises `RequestError` for boxes without area.
    """
    boxes, others = boxes.double()[:, None], others.double()[None]
    areas = [(some[..., 2:] - some[..., :2]) for some in (boxes, others)]
    if any(bool((sides <= 0).any()) for sides in areas):
        raise RequestError("a box is left, top, right, bottom with left < right and top < bottom")
    common = (torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])).clamp(0)
    intersection = common.prod(-1)
    return intersection / (areas[0].prod(-1) + areas[1].prod(-1) - intersection)


def checked_map(heatmap: Tensor) -> Tensor:
    """A heat map as float64 [H, W] on the CPU; raises `RequestError` if it is none, or not finite."""
    if heatmap.ndim != 2 or not heatmap.numel():
        raise RequestError(f"a heat map is [H, W], not {list(heatmap.shape)}")
    if not heatmap.isfinite().all():
        raise RequestError("the heat map has values that are not finite")
    return heatmap.detach().cpu().double()


def _levels(heatmap: Tensor, kind: Kind, alphas: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Levels [H, W], and for each alpha the lowest that remains, [A]: every kind of threshold is such a one."""
    given = torch.as_tensor(alphas, dtype=torch.float64)
    if given.ndim != 1 or not given.isfinite().all() or (given < 0).any():
        raise RequestError(f"alphas are numbers from 0 on, not {list(alphas)}")
    values = checked_map(heatmap)
    values = values - values.min().clamp(max=0)
    if kind == "value":
        levels = values - values.min()
        lowest = given * levels.max()
    elif kind == "mean":
        levels, lowest = values, given * values.mean()
    elif kind == "energy":
        levels, lowest = values, _lowest_within(values, given)
    else:
        raise RequestError(f"a threshold is one of {', '.join(get_args(Kind))}, not '{kind}'")
    return torch.where(values > 0, levels, -torch.inf), lowest


def _lowest_within(values: Tensor, alphas: Tensor) -> Tensor:
    """Of values from 0 on, the lowest that remains of each share of their sum, [A]; infinity where none does."""
    different, counts = (torch.from_numpy(some[::-1].copy()) for some in np.unique(values, return_counts=True))
    sums = (different * counts).cumsum(0)
    # With the first pixel of each level.
    reached = torch.cat([sums.new_zeros(1), sums[:-1]]) + different
    remaining = torch.searchsorted(reached, alphas * sums[-1])
    return torch.cat([different.new_full((1,), torch.inf), different])[remaining]


def _extent(some: Tensor) -> tuple[Tensor, Tensor]:
    """Of bool [A, length], the first that is true and the one after the last, [A]; of none, 0 and length."""
    length = some.shape[1]
    first, after = some.int().argmax(1), length - some.flip(1).int().argmax(1)
    none = ~some.any(1)
    return first.masked_fill(none, 0), after.masked_fill(none, length)
