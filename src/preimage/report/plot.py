"""Scores as small drawings: while optimising, and while a photograph is perturbed."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDTH, HEIGHT = 120, 28
_MOST_POINTS = 60


def sparkline(values: Sequence[float]) -> str:
    """SVG path data of the values, from the left to the right edge and from the lowest below to the highest above.

    Values that are not finite are left out; a long trace is thinned, keeping its last point.
    """
    points = [(i, v) for i, v in enumerate(values) if math.isfinite(v)]
    if not points:
        return ""
    stride = -(-len(points) // _MOST_POINTS)
    points = points[::-1][::stride][::-1]
    lowest, highest = min(v for _, v in points), max(v for _, v in points)
    span, last = (highest - lowest) or 1.0, max(len(values) - 1, 1)
    drawn = [f"{i / last * WIDTH:.1f},{(HEIGHT - 2) - (v - lowest) / span * (HEIGHT - 4):.1f}" for i, v in points]
    return "M" + "L".join(drawn)


def falling(values: Sequence[float]) -> str:
    """SVG path data of scores from the left to the right edge; zero lies below, and above what the first or, if that is
    higher, the highest is. Values that are not finite are left out."""
    known = [(i, v) for i, v in enumerate(values) if math.isfinite(v)]
    if not known:
        return ""
    highest, last = max([*(v for _, v in known), 1e-12]), max(len(values) - 1, 1)
    points = (f"{i / last * WIDTH:.1f},{(HEIGHT - 2) - max(v, 0.0) / highest * (HEIGHT - 4):.1f}" for i, v in known)
    return "M" + "L".join(points)
