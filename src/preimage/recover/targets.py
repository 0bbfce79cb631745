"""Target objectives whose sparseness is spread evenly (Reinbold & Westermann 2020, section S2; SPEC I10, I.4-16).

Directions drawn evenly from the sphere are all about equally dense once there are many features, and canonical
objectives e_i, what feature visualization mostly asks for, as good as never occur. So the sparseness is drawn first,
and then a vector that has it is looked for from a random one on, without leaving the sphere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from preimage.errors import RequestError

TINY = 1e-8
"""Entries of a unit vector below this become zero, if the tolerance allows it (SPEC I.4-16)."""

FINEST = 1e-10
"""The smallest tolerance: rounding is well below it for thousands of features."""

# Of the line search: the share of the expected decrease that a step has to bring, what a step that brings less is
# multiplied by, and how much former values count in the one that has to be beaten. All three are from Wen & Yin's own
# program, which after five trials takes any step.
DECREASE, SHORTENING, MEMORY, TRIALS = 1e-4, 0.2, 0.85, 20

STATIONARY = 1e-18
"""Share of F below which |grad F|^2 is rounding: vectors of zeros and equal entries to about nine digits."""


def hoyer(vectors: Tensor) -> Tensor:
    """Hoyer's sparseness (sqrt(n) - |x|_1 / |x|_2) / (sqrt(n) - 1) of vectors [..., n] of any length; [...].

    0: all entries are of the same size; 1: only one is not zero. Of a single feature (n = 1), where the formula is
    0 / 0, it is 1: the only direction is canonical.

    Raises `RequestError` for a vector that is all zeros or not finite.
    """
    features = vectors.shape[-1] if vectors.ndim else 0
    largest = vectors.abs().amax(-1, keepdim=True) if features else vectors.new_zeros(1)
    if not (torch.isfinite(largest) & (largest > 0)).all():
        raise RequestError("sparseness is that of finite vectors [..., n] that are not all zero")
    sizes = vectors.abs() / largest
    root = math.sqrt(features)
    if features == 1:
        return sizes[..., 0]
    sparseness: Tensor = (root - sizes.sum(-1) / sizes.norm(dim=-1)) / (root - 1)
    return sparseness.clamp(0, 1)


def sample_targets(count: int, features: int, generator: torch.Generator) -> Tensor:
    """Target objectives: unit vectors without negative entries, of Hoyer sparseness uniform in [0, 1] (section S2).

    float64 [count, features], on the generator's device; the same state of the generator gives the same bytes.

    Raises `RequestError` for fewer than one target or two features.
    """
    if count < 1 or features < 2:
        raise RequestError(f"at least 1 target of at least 2 features can be drawn, not {count} of {features}")
    device = generator.device
    sparseness = torch.rand(count, generator=generator, device=device, dtype=torch.float64)
    start = torch.randn(count, features, generator=generator, device=device, dtype=torch.float64)
    return with_sparseness(start, sparseness)


def with_sparseness(start: Tensor, sparseness: Tensor, *, tolerance: float = 1e-4, iterations: int = 500) -> Tensor:
    """Unit vectors without negative entries, each of the asked Hoyer sparseness, found from `start`; float64 [N, n].

    start: directions, float64 [N, n], of any length. sparseness: float64 [N], in [0, 1].
    tolerance: what the sparseness of every result is nearer than. iterations: of `curvilinear_search`, at most; rows
    that are not there by then are brought there by `by_powers`.

    Raises `RequestError` for other types or shapes, a sparseness outside [0, 1], and starts from which it cannot be
    reached, because zeros stay zeros and largest entries of the same size stay of the same size.
    """
    if start.dtype != torch.float64 or sparseness.dtype != torch.float64:
        raise RequestError(f"targets are looked for in float64, not in {start.dtype} and {sparseness.dtype}")
    if start.ndim != 2 or start.shape[1] < 2 or sparseness.shape != start.shape[:1]:
        raise RequestError(
            f"starts [N, n] of n > 1 features take one sparseness each, [N], "
            f"not {list(start.shape)} and {list(sparseness.shape)}"
        )
    if not ((sparseness >= 0) & (sparseness <= 1)).all():
        raise RequestError("sparseness lies between 0, all entries of the same size, and 1, one entry alone")
    if not tolerance >= FINEST:
        raise RequestError(f"a tolerance must be {FINEST:g} or more, not {tolerance:g}")
    hoyer(start)  # says what is wrong with vectors that have none
    found = curvilinear_search(_unit(start), sparseness, tolerance / 2, iterations).abs()
    far = (hoyer(found) - sparseness).abs() >= tolerance / 2
    found[far] = by_powers(found[far], sparseness[far])
    # n zeros for entries of this size change |x|_1, and so the sparseness, by a few hundredths of the tolerance.
    tiny = min(TINY, 0.01 * tolerance / math.sqrt(start.shape[1]))
    found = _unit(torch.where(found < tiny, 0.0, found))
    missed = ((hoyer(found) - sparseness).abs() >= tolerance).nonzero()[:, 0].tolist()
    if missed:
        raise RequestError(
            f"start {missed[0]} leads to no vector of sparseness {sparseness[missed[0]]:g}: it has zeros, which stay, "
            "or largest entries of the same size, which stay so"
        )
    return found


def curvilinear_search(start: Tensor, sparseness: Tensor, tolerance: float, iterations: int) -> Tensor:
    """Minimise F(x) = (hoyer(x) - s)^2 on the sphere (Wen & Yin 2013, algorithm 2), all rows at once, each by itself.

    start: unit vectors, float64 [N, n], n > 1. sparseness: s, float64 [N]. Returns unit vectors of any sign, [N, n].
    Steps are those of Barzilai & Borwein, shortened until F falls below a mean of its former values. A row stays as it
    is once F < tolerance^2, and where F is stationary or no step makes it smaller.

    F has a kink wherever an entry is zero, where the plain method swings to and fro: of 300 targets of 10, 100 and
    512 features it left 45, 71 and 81 short of their sparseness. So an entry that a sparsening step carries across
    zero stays zero (the orthant rule of Andrew & Gao 2007), and such a step may not go beyond the sparseness that is
    asked, because zeros do not come back.
    """
    found = start.clone()
    rows = torch.arange(len(start), device=start.device)
    x, s = start, sparseness
    value, gradient = _objective(x, s)
    slope = gradient.square().sum(-1)
    beaten, weight = value, torch.ones_like(value)
    # It would arrive at once if the sparseness changed all along the curve as it does at its start.
    step = 2 * value / slope.clamp_min(1e-300)
    failed = torch.zeros_like(rows, dtype=torch.bool)
    for iteration in range(iterations):
        going = (value.sqrt() >= tolerance) & (slope > STATIONARY * value) & ~failed
        if not going.all():
            rows, x, s, value, gradient, slope, beaten, weight, step = (
                of_rows[going] for of_rows in (rows, x, s, value, gradient, slope, beaten, weight, step)
            )
        if not len(rows):
            break
        ahead, reached = _along(x, s, gradient, step, tolerance)
        for _ in range(TRIALS):
            failed = reached > beaten - DECREASE * step * slope
            if not failed.any():
                break
            step = torch.where(failed, SHORTENING * step, step)
            ahead[failed], reached[failed] = _along(x[failed], s[failed], gradient[failed], step[failed], tolerance)
        failed = reached > beaten - DECREASE * step * slope
        ahead = torch.where(failed[:, None], x, ahead)
        before, x, downhill = x, ahead, gradient
        found[rows] = x
        value, gradient = _objective(x, s)
        slope = gradient.square().sum(-1)
        moved, turned = x - before, gradient - downhill
        product = (moved * turned).sum(-1).abs()
        long = iteration % 2 == 1
        step = moved.square().sum(-1) / product if long else product / turned.square().sum(-1)
        step = step.nan_to_num(0.0).clamp(1e-20, 1e20)
        weight, older = MEMORY * weight + 1, MEMORY * weight
        beaten = (older * beaten + value) / weight
    return found


def cayley_step(points: Tensor, gradients: Tensor, steps: Tensor) -> Tensor:
    """Y(tau) = (I + tau/2 W)^-1 (I - tau/2 W) x with W = g x^T - x g^T, which turns x on the sphere, against g.

    points: x, unit vectors [N, n]. gradients: g, [N, n]. steps: tau, [N]. Wen & Yin 2013, section 2, where the inverse
    of the rank 2 update is that of a 2 x 2 matrix; of a single vector it comes out as
    Y = ((1 - t^2 p) x - 2 t g') / (1 + t^2 p) with t = tau/2, g' = g - (g^T x) x and p = |g'|^2:
    the great circle through x against g, by the angle 2 atan(t |g'|).
    """
    along = gradients - (gradients * points).sum(-1, keepdim=True) * points
    half = steps[:, None] / 2
    bend = half.square() * along.square().sum(-1, keepdim=True)
    return ((1 - bend) * points - 2 * half * along) / (1 + bend)


def by_powers(vectors: Tensor, sparseness: Tensor) -> Tensor:
    """|x|^p of unit length, with the p > 0 that gives the asked Hoyer sparseness: [N, n], from [N, n] and [N].

    It rises with p, from 0 to 1 where no entry is zero and one is the largest (SPEC I.4-16), and p is bisected down to
    rounding; where the sparseness cannot be reached, p ends at the limit that is nearer, 1e-12 or 1e12.
    """
    sizes = vectors.abs()
    logarithms = (sizes / sizes.amax(-1, keepdim=True)).log()
    low, high = (torch.full_like(sparseness, math.log(end)) for end in (1e-12, 1e12))
    for _ in range(64):
        middle = (low + high) / 2
        dense = hoyer((logarithms * middle.exp()[:, None]).exp()) < sparseness
        low, high = torch.where(dense, middle, low), torch.where(dense, high, middle)
    return _unit((logarithms * ((low + high) / 2).exp()[:, None]).exp())


def _objective(points: Tensor, sparseness: Tensor) -> tuple[Tensor, Tensor]:
    """F and its gradient along the sphere, in which an entry that is zero has no part."""
    off = hoyer(points) - sparseness
    signs = points.sign()
    along = signs - (signs * points).sum(-1, keepdim=True) * points
    return off.square(), (-2 * off / (math.sqrt(points.shape[-1]) - 1))[:, None] * along


def _along(x: Tensor, s: Tensor, gradient: Tensor, step: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Where a step leads, entries that cross zero held there, and F of it; infinite where they are held too soon."""
    turned = cayley_step(x, gradient, step)
    crossing = (turned * x < 0) & (hoyer(x) < s)[:, None]
    ahead = torch.where(crossing, 0.0, turned)
    nothing = (ahead == 0).all(-1)
    ahead = _unit(torch.where(nothing[:, None], x, ahead))
    reached = hoyer(ahead)
    too_soon = nothing | (crossing.any(-1) & (reached > s + tolerance))
    return ahead, torch.where(too_soon, torch.inf, (reached - s).square())


def _unit(vectors: Tensor) -> Tensor:
    # By the largest entry first, whose square may be more than a number can hold, or less.
    vectors = vectors / vectors.abs().amax(-1, keepdim=True)
    unit: Tensor = vectors / vectors.norm(dim=-1, keepdim=True)
    return unit
