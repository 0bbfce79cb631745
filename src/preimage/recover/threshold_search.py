"""For which thresholds Algorithm 1 gives which co-kernel: a search over rho (paper 1, section 3.5; SPEC I9, I.4-12)."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from preimage.recover.co_kernel import ROUNDING, CoKernels
from preimage.recover.principal_vectors import same_space

EXACT = 800
"""Up to so many distinct ratios of singular values every one is tried; takes about a second."""

DECADES = 1 / 16
"""How near the bisection comes to a threshold where the space changes. SPEC I.4-12 has 1e-3, which of 342 features
finds a thousand spaces that each last for a thousandth of a decade, and takes minutes."""

Tried = tuple[Tensor, float, float]
"""A co-kernel, and the ratios of singular values between which its threshold lies."""


def search(samples: CoKernels, below: float, turn: float, resolution: float | None) -> Iterator[Tried]:
    """Co-kernels by rising threshold in (1e-8, below). `turn`, `resolution`: see `critical_spaces`.

    Between two neighbouring ratios of singular values, the higher included, every threshold gives the same.
    """
    ratios = torch.unique(samples.ratios[(samples.ratios > ROUNDING) & (samples.ratios < below)])
    edges = [ROUNDING, *ratios.tolist(), below]
    if resolution is None:
        resolution = 0.0 if len(ratios) <= EXACT else DECADES
    return _bisected(samples, edges, turn, resolution) if resolution else _every(samples, edges)


def _every(samples: CoKernels, edges: Sequence[float]) -> Iterator[Tried]:
    for low, high in pairwise(edges):
        yield samples.at(math.sqrt(low * high)), low, high


def _bisected(samples: CoKernels, edges: Sequence[float], turn: float, decades: float) -> Iterator[Tried]:
    """Both sides of every change of the co-kernel that is seen."""

    def tried(i: int) -> Tried:
        return samples.at(math.sqrt(edges[i] * edges[i + 1])), edges[i], edges[i + 1]

    def between(low: int, before: Tensor, high: int, after: Tensor) -> Iterator[Tried]:
        near = edges[high] <= edges[low + 1] * 10**decades
        if near or high - low < 2 or same_space(before, after, turn):
            return
        middle = bisect_left(edges, math.sqrt(edges[low + 1] * edges[high])) - 1
        middle = min(max(middle, low + 1), high - 1)
        found = tried(middle)
        yield from between(low, before, middle, found[0])
        yield found
        yield from between(middle, found[0], high, after)

    last = len(edges) - 2
    lowest, highest = tried(0), tried(last)
    yield lowest
    if last:
        yield from between(0, lowest[0], last, highest[0])
        yield highest
