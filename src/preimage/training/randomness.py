"""Randomness that follows from the seed and the step alone, so that nothing of it has to be kept to go on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

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
        order = torch.randperm(count, generator=generator(seed, "order", turn))
        begin = max(first - turn * count, 0)
        found.append(order[begin : first + batch - turn * count])
    return torch.cat(found)
