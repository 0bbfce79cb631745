"""How near a recovered objective is to the one that was asked (paper 1, sections 3.4 and 3.5; SPEC I11, I12)."""

from __future__ import annotations

import torch
from torch import Tensor

from preimage.recover.solving import Solution, admissible, shrinking, stretching


def angle(a: Tensor, b: Tensor) -> Tensor:
    """Degrees between lines, 0 to 90: min(acos(a^T b), acos(-a^T b)); [..., features] each, of any length.

    NaN where one of them is zero. By the lengths of sum and difference of unit vectors, which keeps small angles exact
    where acos does not.
    """
    a, b = (one / one.norm(dim=-1, keepdim=True) for one in (a, b))
    apart, along = (a - b).norm(dim=-1), (a + b).norm(dim=-1)
    return torch.rad2deg(2 * torch.atan2(torch.minimum(apart, along), torch.maximum(apart, along)))


def projected_angle(a: Tensor, b: Tensor, response: Tensor, cosine_power: float, space: Tensor | None) -> Tensor:
    """The angle between what a and b, [N, features], have in Z_k(y)^-1 C (SPEC I12); `angle` where C is everything."""
    allowed = admissible(response, cosine_power, space)
    project = allowed @ allowed.mT
    return angle((project @ a[..., None])[..., 0], (project @ b[..., None])[..., 0])


def projected_target(target: Tensor, response: Tensor, cosine_power: float, space: Tensor | None) -> Tensor:
    """The one objective that could be recovered of a target in a perfect world, Z_k^-1 C C^T Z_k x normalised
    (section 2.2): the target modulo what the critical space leaves out. [N, features]."""
    seen = shrinking(response, cosine_power) @ target[..., None]
    if space is not None:
        seen = space @ (space.mT @ seen)
    back = (stretching(response, cosine_power) @ seen)[..., 0]
    projected: Tensor = back / back.norm(dim=-1, keepdim=True)
    return projected


def fraction_inside(target: Tensor, response: Tensor, cosine_power: float, space: Tensor | None) -> Tensor:
    """How much of each target lives where it can be recovered: |v| / (|v| + |w|) for x = v + w, v in Z_k^-1 C and w
    perpendicular to it (figure 2's caption); [N], 1 where C is everything."""
    allowed = admissible(response, cosine_power, space)
    inside = (allowed @ (allowed.mT @ target[..., None]))[..., 0]
    v, w = inside.norm(dim=-1), (target - inside).norm(dim=-1)
    fraction: Tensor = v / (v + w)
    return fraction


def contributions(target: Tensor, solution: Solution) -> Tensor:
    """c_j^2 of each target, [N, features]: its squared coefficients in the left-singular vectors by rising singular
    value (section 3.5, SPEC I11); their mean over the samples is alpha_j. `solution` has to be without a constraint."""
    return (solution.objectives @ target[..., None])[..., 0].square()
