"""What two subspaces have in common: principal angles and vectors, and a rough intersection (paper 1, Algorithm 1).

Knyazev & Argentati 2002; SPEC I.4-11. Subspaces are orthonormal bases, float64 [features, dimension].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

APART = math.radians(45)
"""Principal vectors at this angle or more are not common to both subspaces (section 2.2)."""

ROUNDING = 1e-9
"""A pair of vectors at exactly 45 degrees is dropped however its angle was rounded; in radians."""

NEARLY_PARALLEL = 1e-4
"""Radians; below it a spherical interpolation divides by next to nothing, and a linear one differs by 1e-13."""

ORTHONORMAL = 1e-10
"""How far the products of merged vectors may be from those of an orthonormal basis; rounding leaves 1e-14."""

ROUNDED = 1e-5
"""Degrees by which two ways to the same space may differ."""


def principal_vectors(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Orthonormal p in span(a) and q in span(b), paired so that p_i^T q_j is zero for i != j, by rising angle.

    Two tensors [features, m] with m the smaller of both dimensions, and the angles, radians [m] in [0, pi / 2].
    """
    left, _, right = torch.linalg.svd(a.mT @ b, full_matrices=False)
    p, q = a @ left, b @ right.mT
    # By the lengths of sum and difference: the arc cosine of the singular values knows no angle below 1e-8.
    return p, q, 2 * torch.atan2((p - q).norm(dim=0), (p + q).norm(dim=0))


def slerp(p: Tensor, q: Tensor, angles: Tensor, share: float) -> Tensor:
    """Spherical linear interpolation of unit vectors, the columns of p and q [features, m]: `share` of the way to q.

    angles: between the pairs, radians [m]. Of principal vectors the result is orthonormal again.
    """
    near = angles < NEARLY_PARALLEL
    sine = torch.where(near, 1.0, angles.sin())
    to_p = torch.where(near, 1 - share, ((1 - share) * angles).sin() / sine)
    to_q = torch.where(near, share, (share * angles).sin() / sine)
    between = to_p * p + to_q * q
    length = torch.where(near, between.norm(dim=0), 1.0)
    return between / length


def merged(a: Tensor, a_weight: int, b: Tensor, b_weight: int) -> Tensor:
    """The rough intersection of two subspaces: interpolated principal vectors, those 45 degrees apart or more dropped.

    a_weight, b_weight: how many samples each stands for. Orthonormal [features, at most the smaller dimension].
    """
    p, q, angles = principal_vectors(a, b)
    kept = angles < APART - ROUNDING
    common = slerp(p[:, kept], q[:, kept], angles[kept], b_weight / (a_weight + b_weight))
    products = common.mT @ common
    assert (
        (products - torch.eye(len(products), dtype=products.dtype, device=products.device)).abs().lt(ORTHONORMAL).all()
    )
    return common


def same_space(a: Tensor, b: Tensor, degrees: float) -> bool:
    """Whether two subspaces have one dimension and no principal angle above `degrees` (0 to 90)."""
    if a.shape != b.shape:
        return False
    beyond = b - a @ (a.mT @ b)  # its singular values are the sines of the principal angles
    allowed = math.sin(math.radians(degrees))
    length = float(beyond.norm())
    if length <= allowed or length > allowed * math.sqrt(max(beyond.shape[1], 1)):
        return length <= allowed
    return float(torch.linalg.matrix_norm(beyond, ord=2)) <= allowed
