"""The network's answer on the way from one picture to another, pixel by pixel in the order of a heat map."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from preimage.errors import RequestError

SHARES = tuple(i / 20 for i in range(21))
"""Of the pixels: none, every twentieth more, all."""


def answers_along(
    scores: Callable[[Tensor], Tensor], begin: Tensor, end: Tensor, heatmap: Tensor, shares: Sequence[float] = SHARES
) -> Tensor:
    """What is answered while more and more of `begin` is replaced by `end`, the most important pixels first.

    scores: images [M, C, H, W] -> [M]. begin, end: float32 [C, H, W]. heatmap: [H, W], larger is more important; of
        equal ones (much of a mask that is cut to [0, 1]), those further up and left go first. shares: of the pixels to
        replace, each between 0 and 1.
    Returns float32 [len(shares)]. Raises `RequestError` for other shares, and for heat maps that are not finite.
    """
    if not all(0 <= share <= 1 for share in shares):
        raise RequestError(f"shares of the pixels lie between 0 and 1, not {list(shares)}")
    if not heatmap.isfinite().all():
        raise RequestError("a heat map has values that are not finite")
    order = heatmap.flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    limits = torch.tensor([round(share * len(order)) for share in shares])
    replaced = (rank < limits[:, None]).view(len(shares), 1, *heatmap.shape)
    return scores(torch.where(replaced, end, begin))


def area_under(answers: Tensor, shares: Sequence[float] = SHARES) -> float:
    """The area under such a curve, by the trapezoidal rule."""
    return float(torch.trapezoid(answers.double(), torch.tensor(shares, dtype=torch.float64)))
