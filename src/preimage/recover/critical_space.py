"""Where objectives can be told apart at all: critical spaces, and which to take (paper 1, sections 2.2, 3.5; SPEC I9).

Directions of features that move no image (a dead feature; (1, ..., 1) of logits that a softmax reads) answer equation 3
for every image alike. A critical space C leaves them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.recover.angles import projected_angle
from preimage.recover.co_kernel import ROUNDING, CoKernels, check_grams
from preimage.recover.principal_vectors import ROUNDED, same_space
from preimage.recover.solving import solve
from preimage.recover.threshold_search import search

TURN = 45.0
"""Spaces of one dimension and no principal angle above this, in degrees, are one: as alike as Algorithm 1 asks of
what it merges. They turn a little with nearly every threshold."""

TIE = 1.0
"""Degrees; medians that are no further apart are no reason to leave out a dimension."""


@dataclass(frozen=True, eq=False)
class CriticalSpace:
    """A subspace C of the features' space, and what it leaves out.

    basis: float64 [features, c], orthonormal columns that span C.
    complement: float64 [features, features - c], orthonormal: the co-kernel that the samples have in common.
    thresholds: the lowest rho that gives this space (excluded: it is a ratio of singular values) and the highest seen
        (included). A true co-kernel lasts over decades. (0, 0) of the whole space where only rho = 0 gives it.
    """

    basis: Tensor
    complement: Tensor
    thresholds: tuple[float, float]

    @property
    def dimension(self) -> int:
        """c, of 1 to all features."""
        return self.basis.shape[1]

    @classmethod
    def whole(cls, features: int, thresholds: tuple[float, float] = (0.0, 0.0)) -> CriticalSpace:
        """All of R^features: nothing is left out."""
        return cls.without(torch.zeros(features, 0, dtype=torch.float64), thresholds)

    @classmethod
    def without(cls, complement: Tensor, thresholds: tuple[float, float] = (0.0, 0.0)) -> CriticalSpace:
        """The orthogonal complement of an orthonormal basis [features, m], m below features; of m = 0 everything."""
        basis = torch.linalg.qr(complement, mode="complete")[0][:, complement.shape[1] :]
        return cls(basis, complement, thresholds)

    def residual(self, grams: Tensor) -> Tensor:
        """|(C^perp)^T Dy|_2 / |Dy|_2 of each Jacobian, [n], from its Gram matrix [n, features, features]: how little
        of it is lost by leaving the complement out, 0 (nothing) to 1 (SPEC I.4-9). NaN of a Jacobian of zeros.

        Raises `RequestError` for other precision, and Jacobians of other features.
        """
        check_grams(grams)
        if grams.shape[1] != len(self.basis):
            raise RequestError(f"this space has {len(self.basis)} features, but the Jacobians have {grams.shape[1]}")
        largest = torch.linalg.eigvalsh(grams)[:, -1]
        if self.complement.shape[1] == 0:
            return torch.zeros_like(largest)
        lost = torch.linalg.eigvalsh(self.complement.mT @ grams @ self.complement)[:, -1]
        share: Tensor = (lost / largest).clamp_min(0).sqrt()
        return share


def critical_spaces(
    grams: Tensor, *, below: float = 1.0, turn: float = TURN, resolution: float | None = None
) -> list[CriticalSpace]:
    """The critical spaces that Algorithm 1 gives for thresholds rho in (1e-8, 1), by rising rho (SPEC I.4-12).

    The space changes only where rho passes a singular value's share of the largest, of any sample. Up to 800 such
    ratios, every one is tried: nothing is missed. Of more, by bisection in log rho wherever the spaces at both ends
    differ, until they are `resolution` apart: a space that lasts for less, or that comes and goes between two equal
    ones, may be missed. One space is kept of each run of equal dimension that turns by no more than `turn`: the first,
    which takes the least singular values of each sample. The whole space is always the first of the list, also where
    every threshold that can be told from zero gives less, and is listed only once.

    grams: Dy Dy^T of some samples, float64 [n, features, features], without dead features (`dead_features`).
    below: only thresholds up to this one are tried, in (1e-8, 1]. High ones give small spaces, and take longest.
    turn: degrees, [0, 90); 0 keeps every space that differs by more than rounding.
    resolution: decades; 0 tries every ratio whatever their number; None: 0 up to 800 ratios, else 1/16.

    Raises `RequestError` for other shapes or precision, fewer than two samples, a Jacobian of zeros, or a `below`,
    `turn` or `resolution` out of range.
    """
    if not ROUNDING < below <= 1:
        raise RequestError(
            f"thresholds lie between 1e-8 and 1, so they can be searched up to such a number, not {below:g}"
        )
    if not 0 <= turn < 90:
        raise RequestError(
            f"how far spaces may turn and count as one is an angle of 0 to below 90 degrees, not {turn:g}"
        )
    if resolution is not None and not resolution >= 0:
        raise RequestError(f"thresholds are told apart to 0 or more decades, not {resolution:g}")
    samples = CoKernels(grams)
    turn = max(turn, ROUNDED)
    tried = search(samples, below, turn, resolution)
    features, runs = grams.shape[1], list[CriticalSpace]()
    for co_kernel, lowest, highest in tried:
        if runs and same_space(runs[-1].complement, co_kernel, turn):
            runs[-1] = replace(runs[-1], thresholds=(runs[-1].thresholds[0], highest))
        else:
            runs.append(CriticalSpace.without(co_kernel, (lowest, highest)))
    until = runs[0].thresholds[1] if runs[0].dimension == features else 0.0
    return [CriticalSpace.without(grams[0, :, :0], (0.0, until)), *(one for one in runs if one.dimension < features)]


def choose_space(
    spaces: Sequence[CriticalSpace], responses: Tensor, grams: Tensor, targets: Tensor, cosine_power: float = 2.0
) -> tuple[int, Tensor]:
    """Which space recovers known objectives best, and the median projected angles of all, degrees [spaces].

    The paper takes the smallest median (section 3.5; SPEC I.4-13). Between spaces of nearly all features that is fair.
    But where little is left, everything projects to nearly the same: in one dimension any two objectives are 0 degrees
    apart. So each median counts as a share of what chance gives in the same space (`median_angles`), at most 1, and 1
    in one dimension. Of spaces that come within a degree of the best share the one of most dimensions is taken, and
    of those the first in the list.

    Arguments and errors: those of `median_angles`.
    """
    medians, chance = median_angles(spaces, responses, grams, targets, cosine_power)
    shares = torch.where(chance > ROUNDED, medians / chance, 1.0).clamp_max(1)
    equals = ((shares - shares.min()) * chance <= TIE).nonzero()[:, 0].tolist()
    return max(equals, key=lambda i: spaces[i].dimension), medians


def median_angles(
    spaces: Sequence[CriticalSpace], responses: Tensor, grams: Tensor, targets: Tensor, cosine_power: float = 2.0
) -> tuple[Tensor, Tensor]:
    """The median projected angle between what is recovered and what was asked, and what chance gives; degrees [spaces].

    Chance: the same recovered objectives against the next sample's target, of the last against the first's.

    responses, targets: y and x of samples whose objectives are known, float64 [n, features], n at least 2.
    grams: their Dy Dy^T, float64 [n, features, features]. cosine_power: k, as the samples were made.

    Raises `RequestError` for no spaces, fewer than two samples, other shapes or precision, and targets of zeros.
    """
    if not spaces:
        raise RequestError("there are no critical spaces to choose from")
    if targets.shape != responses.shape or targets.dtype != torch.float64 or len(targets) < 2:
        raise RequestError(
            f"spaces are judged by two or more known objectives, float64 [n, features] like the responses "
            f"{list(responses.shape)}, not {targets.dtype} {list(targets.shape)}"
        )
    if not (targets.any(1) & targets.isfinite().all(1)).all():
        raise RequestError("a known objective is a direction: finite numbers that are not all zero")
    check_grams(grams)
    medians = []
    for one in spaces:
        basis = None if one.dimension == len(one.basis) else one.basis
        found = solve(responses, grams, cosine_power, basis).best
        own, other = (projected_angle(x, found, responses, cosine_power, basis) for x in (targets, targets.roll(-1, 0)))
        # No angle (NaN) is of a target with nothing in the space: not recovered at all.
        medians.append(torch.stack([angles.nan_to_num(nan=90.0).quantile(0.5) for angles in (own, other)]))
    own, other = torch.stack(medians, 1)
    return own, other


def dead_features(grams: Tensor, share: float = 1e-8) -> list[int]:
    """Features that move with no image: rows of Dy that are zero in all samples (section 2.1).

    They answer equation 3 for every image, and a space without them says nothing else; take them out first.

    grams: float64 [n, features, features]. share: a row counts as zero up to this share of its sample's longest.
    """
    check_grams(grams)
    squares = grams.diagonal(dim1=1, dim2=2)
    dead = squares <= share**2 * squares.amax(1, keepdim=True)
    return [int(i) for i in dead.all(0).nonzero()[:, 0]]
