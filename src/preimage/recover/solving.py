"""Grad-IFV: which objective has its maximum here? (Reinbold & Westermann 2020, section 2.1 and S1; SPEC I1, I7)

Everything is a function of the feature response y and of the Gram matrix Dy Dy^T of its Jacobian, both in float64, so
that the Jacobian itself, [features, parameters], need never be kept. Singular values are roots of eigenvalues, and so
below 1e-8 of the largest they are rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.errors import RequestError

NEARLY_EQUAL = 1e-12
"""Two smallest eigenvalues that are no further apart than this share of the largest, where rounding decides: the answer
is a plane (SPEC I.4-6)."""


@dataclass(frozen=True)
class Solution:
    """The objectives that an image could be the answer to, the likeliest first.

    objectives: float64 [N, c, features], unit vectors x = U sigma, one for each left-singular vector of
        M = U^T Z_k Dy, by rising singular value; each with the sign that the image answers positively (x^T y >= 0).
    singular_values: float64 [N, c], of M, ascending: |x^T Z_k Dy| of each.
    """

    objectives: Tensor
    singular_values: Tensor

    @property
    def best(self) -> Tensor:
        """The predicted objective of each image, [N, features]."""
        return self.objectives[:, 0]

    @property
    def is_plane(self) -> Tensor:
        """Whether the two smallest singular values cannot be told apart, so that only a plane is known; bool [N]."""
        if self.singular_values.shape[1] < 2:
            return torch.zeros(len(self.singular_values), dtype=torch.bool)
        eigenvalues = self.singular_values.square()
        return eigenvalues[:, 1] - eigenvalues[:, 0] <= NEARLY_EQUAL * eigenvalues[:, -1]


def shrinking(response: Tensor, cosine_power: float) -> Tensor:
    """Z_k(y) = Id - k / (k + 1) y y^T / |y|^2, which shrinks along the response: [..., features, features]."""
    unit, eye = _unit(response)
    return eye - cosine_power / (cosine_power + 1) * unit[..., :, None] * unit[..., None, :]


def stretching(response: Tensor, cosine_power: float) -> Tensor:
    """The inverse of `shrinking`, Id + k y y^T / |y|^2 (Sherman & Morrison)."""
    unit, eye = _unit(response)
    return eye + cosine_power * unit[..., :, None] * unit[..., None, :]


def admissible(response: Tensor, cosine_power: float, space: Tensor | None) -> Tensor:
    """An orthonormal basis U of Z_k^-1 C, [..., features, c], of the objectives that are allowed (S1).

    space: an orthonormal basis of the critical space C, [features, c]; None for all of R^features, where U = Id.
    """
    if space is None:
        return _unit(response)[1].expand(*response.shape, response.shape[-1])
    left: Tensor = torch.linalg.svd(stretching(response, cosine_power) @ space, full_matrices=False)[0]
    return left


def solve(response: Tensor, gram: Tensor, cosine_power: float = 2.0, space: Tensor | None = None) -> Solution:
    """All x by rising |x^T Z_k Dy| among unit vectors with Z_k x in C; the first is the answer to equation 3.

    response: y, float64 [N, features]. gram: Dy Dy^T, float64 [N, features, features]. cosine_power: k.
    space: an orthonormal basis of C, [features, c]; None: no constraint.

    Raises `RequestError` for other precision or shapes, numbers that are not finite, a space whose basis is none, and a
    response of zeros, which has no direction.
    """
    features = response.shape[-1]
    if response.dtype != torch.float64 or gram.dtype != torch.float64:
        raise RequestError(f"objectives are recovered in float64, not {response.dtype} and {gram.dtype}")
    if response.ndim != 2 or gram.shape != (*response.shape, features):
        raise RequestError(
            f"responses [N, features] take matrices [N, features, features], not {list(response.shape)} and "
            f"{list(gram.shape)}"
        )
    if space is not None and (space.ndim != 2 or space.shape[0] != features):
        raise RequestError(
            f"a critical space of {features} features has a basis [{features}, c], not {list(space.shape)}"
        )
    if not (response.isfinite().all() and gram.isfinite().all() and 0 <= cosine_power < float("inf")):
        raise RequestError("responses, Jacobians and the cosine's power have to be finite, and the power not negative")
    if space is not None and not _is_basis(space):
        raise RequestError("a critical space is given by orthonormal columns in float64, at least one")
    allowed = admissible(response, cosine_power, space)
    reduced = allowed.mT @ shrinking(response, cosine_power)
    eigenvalues, vectors = torch.linalg.eigh(reduced @ gram @ reduced.mT)
    found = (allowed @ vectors).mT
    positive = torch.where((found * response[:, None]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    return Solution(found * positive, eigenvalues.clamp_min(0).sqrt())


def _is_basis(space: Tensor) -> bool:
    if space.dtype != torch.float64 or not 0 < space.shape[1] <= space.shape[0]:
        return False
    eye = torch.eye(space.shape[1], dtype=space.dtype, device=space.device)
    return torch.allclose(space.mT @ space, eye, atol=1e-8)


def _unit(response: Tensor) -> tuple[Tensor, Tensor]:
    length = response.norm(dim=-1, keepdim=True)
    if not (length > 0).all():
        raise RequestError(
            "no feature answers this image at all, so there is no objective that it could be the answer to"
        )
    return response / length, torch.eye(response.shape[-1], dtype=response.dtype, device=response.device)
