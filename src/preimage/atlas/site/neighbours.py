"""Which units have pictures that look alike to the network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 8
"""How many a unit's page shows."""

_COSINES = 10_000_000
"""Of the matrix of all cosines so many are held at once: 40 MB, as the copies that are made of them."""

_DIGITS = 4
"""Cosines are compared as they are shown: a last bit that differs from machine to machine changes no order."""


def neighbours(embeddings: NDArray[np.floating], count: int = NEIGHBOURS) -> list[list[tuple[int, float]]]:
    """For each row the `count` others whose directions are closest: (row, cosine in [-1, 1]), the closest first.

    embeddings: [n, d]. Each column's mean is taken off first: features are hardly ever negative, so that all pictures
    share a direction, and the few that have most of it would be everybody's neighbours (of 88 units of the bundled
    network one would be among the 8 of 25 others; without the mean none is of more than 15). Rows with a value that
    is not finite have no neighbours and are nobody's; likewise rows that are the mean. Of equally close ones the
    earlier row comes first.
    """
    found: list[list[tuple[int, float]]] = [[] for _ in range(len(embeddings))]
    finite = np.flatnonzero(np.isfinite(embeddings).all(axis=1))
    if len(finite) < 2:
        return found
    known = embeddings[finite].astype(np.float32)
    scale = float(np.abs(known).max()) or 1.0  # squares of float16's largest values overflow no float32, sums may
    known /= scale
    known -= known.mean(axis=0)
    lengths = np.linalg.norm(known, axis=1)
    directed = lengths > 1e-6
    rows, known = finite[directed], known[directed] / lengths[directed, None]
    count = min(count, len(rows) - 1)
    if count < 1:
        return found
    together = max(1, _COSINES // len(rows))
    for first in range(0, len(rows), together):
        cosines = np.round(known[first : first + together] @ known.T, _DIGITS).clip(-1, 1)
        here = np.arange(len(cosines))
        cosines[here, first + here] = -np.inf  # itself
        least = np.partition(cosines, -count, axis=1)[:, -count]
        for i in here:
            close = np.flatnonzero(cosines[i] >= least[i])  # all that are as close as the last, in their order
            order = close[np.argsort(-cosines[i, close], kind="stable")][:count]
            found[rows[first + i]] = [(int(rows[j]), round(float(cosines[i, j]), _DIGITS)) for j in order]
    return found
