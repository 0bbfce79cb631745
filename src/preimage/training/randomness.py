"""Randomness that follows from the seed and the step alone, so that nothing of it has to be kept to go on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor


def generator(seed: int, what: str, number: int = 0) -> torch.Generator:
    """The randomness for one purpose at one step; independent of every other."""
    digest = hashlib.sha256(f"{seed} {what} {number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


@contextmanager
def seeded(seed: int, what: str) -> Iterator[None]:
    """Within the block, what draws from PyTorch's own randomness (new layers) does so by this seed; then as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, what).initial_seed())
        yield


def batch_at(step: int, count: int, batch: int, seed: int) -> Tensor:
    """Which of `count` items step number `step` (from 0) shows: int64 [batch].

    Every item once before any is shown again, in another order each time.
    """
    first = step * batch
    found = []
    for turn in range(first // count, (first + batch - 1) // count + 1):
        begin = max(first - turn * count, 0)
        found.append(_order(turn, count, seed)[begin : first + batch - turn * count])
    return torch.cat(found)


@lru_cache(maxsize=2)
def _order(turn: int, count: int, seed: int) -> Tensor:
    """In which all items are shown for the n-th time; kept, because many steps follow each other in it."""
    return torch.randperm(count, generator=generator(seed, "order", turn))
