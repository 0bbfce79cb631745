"""The left null space that Jacobians have in common, roughly (paper 1, Algorithm 1; SPEC I8, I.4-11).

Jacobians come as Gram matrices Dy Dy^T, as everywhere in this room. Their eigenvalues are squares of singular values,
so a singular value below 1e-8 of the largest is rounding, and is counted as zero; of hundreds of features rounding
reaches a few times as far.
"""

from __future__ import annotations

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.recover.principal_vectors import merged

ROUNDING = 1e-8
"""Singular values below this share of the largest cannot be told from zero by a Gram matrix in float64."""


def check_grams(grams: Tensor, least: int = 1) -> None:
    """Raises `RequestError` unless these are at least so many Gram matrices, float64 [n, features, features]."""
    if grams.dtype != torch.float64:
        raise RequestError(f"co-kernels are looked for in float64, not {grams.dtype}")
    if grams.ndim != 3 or grams.shape[1] != grams.shape[2] or 0 in grams.shape[1:]:
        raise RequestError(f"Gram matrices of Jacobians are [n, features, features], not {list(grams.shape)}")
    if len(grams) < least:
        raise RequestError(
            f"what Jacobians have in common takes at least {least} of them (the paper takes 32), not {len(grams)}"
        )
    if not grams.isfinite().all():
        raise RequestError("the Gram matrices hold values that are not finite")
    largest = grams.abs().amax((1, 2), keepdim=True)
    if ((grams - grams.mT).abs() > ROUNDING * largest).any():
        raise RequestError("Gram matrices of Jacobians, Dy Dy^T, are symmetric, and these are not")


class CoKernels:
    """Algorithm 1 of some samples for any threshold rho, from one decomposition.

    grams: Dy Dy^T of each sample, float64 [n, features, features], n at least 2; their order is that of the queue.
    ratios: float64 [n, features], ascending, the singular values of each Jacobian by its largest; 0 where below 1e-8.

    Raises `RequestError` for other shapes or precision, fewer than two samples, and a Jacobian of zeros.
    """

    def __init__(self, grams: Tensor) -> None:
        check_grams(grams, least=2)
        eigenvalues, self._vectors = torch.linalg.eigh(grams)
        largest = eigenvalues[:, -1:]
        if not (largest > 0).all():
            zeros = (largest[:, 0] <= 0).nonzero().flatten().tolist()
            raise RequestError(f"the Jacobians of samples {zeros} are zero: no feature depends on the image there")
        if (eigenvalues[:, :1] < -ROUNDING * largest).any():
            raise RequestError("Gram matrices of Jacobians, Dy Dy^T, have no negative eigenvalues, and these have")
        ratios = (eigenvalues / largest).clamp_min(0).sqrt()
        self.ratios = torch.where(ratios < ROUNDING, 0.0, ratios)
        self._merges: dict[int, tuple[tuple[int, ...], Tensor]] = {}

    def at(self, rho: float) -> Tensor:
        """The common co-kernel for one threshold in (1e-8, 1): orthonormal [features, m], m = 0 if there is none."""
        if not ROUNDING < rho < 1:
            raise RequestError(
                f"a threshold is a share of the largest singular value, between 1e-8 (rounding) and 1, not {rho:g}"
            )
        counts: list[int] = (self.ratios < rho).sum(1).tolist()
        queue: list[tuple[tuple[int, ...], Tensor]] = [
            ((count,), self._vectors[i, :, :count]) for i, count in enumerate(counts)
        ]
        merges = 0
        while len(queue) > 1:
            (key_a, a), (key_b, b), *queue = queue
            queue.append((key_a + key_b, self._merge(merges, key_a, a, key_b, b)))
            merges += 1
        return queue[0][1]

    def _merge(self, which: int, key_a: tuple[int, ...], a: Tensor, key_b: tuple[int, ...], b: Tensor) -> Tensor:
        # Which samples the i-th merge joins does not depend on rho, and what it gives depends on rho only by how many
        # vectors each of those samples brings. Searching for thresholds, most merges repeat the last one.
        key, known = self._merges.get(which, ((), a))
        if key != key_a + key_b:
            known = merged(a, len(key_a), b, len(key_b))
            self._merges[which] = (key_a + key_b, known)
        return known


def co_kernel(grams: Tensor, rho: float) -> Tensor:
    """Algorithm 1: what the Jacobians' left-singular vectors below rho |Dy|_2 have in common; see `CoKernels`."""
    return CoKernels(grams).at(rho)
