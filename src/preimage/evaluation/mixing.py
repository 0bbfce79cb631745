"""How soon a chain forgets where it was (paper 3, figures S13, S14 and S23; SPEC P.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.ms_ssim import ssim

LAGS = 20
PAIRS = 1000
_STILL = 1e-6
"""Of the largest value of any dimension: what moves by less is rounding, and noise too small to mean anything."""


@dataclass(frozen=True)
class Mixing:
    """How alike samples are that lie some steps apart; a chain that mixes faster forgets sooner.

    steps: how far apart, in steps of the chain. autocorrelation: of the codes at each, averaged over the dimensions
    that move; None where none does. still: how many dimensions never move, which are left out. dimensions: of how many.
    change: 1 - SSIM of images so far apart, where there are images. apart: 1 - SSIM of images of different chains,
    which `change` reaches in chains that have forgotten everything; None for one chain. chains, kept: how many, and how
    many samples of each.
    """

    steps: tuple[int, ...]
    autocorrelation: tuple[float, ...] | None
    still: int
    dimensions: int
    change: tuple[float, ...] | None
    apart: float | None
    chains: int
    kept: int

    def __str__(self) -> str:
        ends = f"after {self.steps[0]} and {self.steps[-1]} steps"
        still = f"; {self.still} of {self.dimensions} dimensions never move" if self.still else ""
        if self.autocorrelation is None:
            return f"none of {self.dimensions} dimensions moves in {self.kept} samples of {self.chains} chains"
        return f"autocorrelation {self.autocorrelation[0]:.3f} and {self.autocorrelation[-1]:.3f} {ends}{still}"

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {key: list(one) if isinstance(one, tuple) else one for key, one in asdict(self).items()}


def mixing(
    codes: Tensor, images: Tensor | None = None, *, every: int = 1, lags: int = LAGS, each_its_own_mean: bool = False
) -> Mixing:
    """Measure chains by what was kept of them.

    codes: float [kept, chains, ...], what the chains move through. images: [kept, chains, C, H, W] in [0, 1], what they
        look like. every: how many steps lie between two that were kept. lags: up to how many kept samples apart, fewer
        than kept. each_its_own_mean: see `autocorrelation`.

    Raises `RequestError` for other shapes, and for too few samples.
    """
    correlations, moves = autocorrelation(codes, lags, each_its_own_mean=each_its_own_mean)
    if every < 1:
        raise RequestError(f"at least every step is kept: every is 1 or more, not {every}")
    change, apart = None, None
    if images is not None:
        if images.ndim != 5 or images.shape[:2] != codes.shape[:2]:
            raise RequestError(f"images {list(images.shape)} are not those of codes {list(codes.shape)}")
        change = tuple(changes(images, lags).tolist())
        apart = between_chains(images)
    kept, chains = codes.shape[:2]
    return Mixing(
        tuple(every * lag for lag in range(1, lags + 1)),
        tuple(correlations[:, moves].nanmean(1).tolist()) if moves.any() else None,
        int((~moves).sum()),
        len(moves),
        change,
        apart,
        chains,
        kept,
    )


def autocorrelation(codes: Tensor, lags: int = LAGS, *, each_its_own_mean: bool = False) -> tuple[Tensor, Tensor]:
    """How a code depends on what it was: of each dimension at lags 1 to `lags`, float64 [lags, D]; and whether it moves
    at all, bool [D] (NaN where not).

    codes: float [kept, chains, ...], the last of them flattened to D dimensions.

    sum c_t c_(t+k) / sqrt(sum c_t^2 sum c_(t+k)^2) over all chains and times t, of the codes c less their mean; it lies
    between -1 and 1. The mean is that over all chains, so that chains that stay where they began count as remembering
    everything. each_its_own_mean: subtract each chain's own instead, which asks only whether a chain moves on within
    the part of space that it has seen; of short chains that is too low by about (1 + rho) / (1 - rho) / kept.

    A dimension moves where its values differ by more than a millionth of the largest of all codes. Raises
    `RequestError` for other shapes, for values that are not finite, and unless 1 <= lags < kept.
    """
    if not isinstance(codes, Tensor) or codes.ndim < 3 or not codes.numel():
        shape = list(codes.shape) if isinstance(codes, Tensor) else type(codes).__name__
        raise RequestError(f"the codes of chains are a tensor [kept, chains, ...], not {shape}")
    kept = len(codes)
    if not 1 <= lags < kept:
        raise RequestError(f"of {kept} samples a chain, lags are 1 to {kept - 1}, not {lags}")
    flat = codes.detach().cpu().double().flatten(2)
    if not flat.isfinite().all():
        raise RequestError("the codes of chains have values that are not finite")
    moves = flat.flatten(0, 1).amax(0) - flat.flatten(0, 1).amin(0) > _STILL * flat.abs().max()
    centred = flat - flat.mean(0 if each_its_own_mean else (0, 1), keepdim=True)
    found = []
    for lag in range(1, lags + 1):
        before, after = centred[:-lag], centred[lag:]
        size = (before.square().sum((0, 1)) * after.square().sum((0, 1))).sqrt()
        found.append(torch.where(moves & (size > 0), (before * after).sum((0, 1)) / size, torch.nan))
    return torch.stack(found), moves


def changes(images: Tensor, lags: int | Sequence[int] = LAGS, pairs: int = PAIRS) -> Tensor:
    """The mean 1 - SSIM of images of one chain that lie `lags` kept samples apart (a number: 1 to it), [lags].

    images: [kept, chains, C, H, W] in [0, 1]. pairs: how many are compared at most, spread evenly over times and
        chains.
    """
    chosen = range(1, lags + 1) if isinstance(lags, int) else lags
    found = []
    for lag in chosen:
        if not 1 <= lag < len(images):
            raise RequestError(f"of {len(images)} samples a chain, lags are 1 to {len(images) - 1}, not {lag}")
        before, after = images[:-lag].flatten(0, 1), images[lag:].flatten(0, 1)
        some = _spread(len(before), pairs)
        found.append(1 - ssim(before[some], after[some]).mean())
    return torch.stack(found).cpu()


def between_chains(images: Tensor, pairs: int = PAIRS) -> float | None:
    """The mean 1 - SSIM of images of different chains at the same time; None for one chain.

    images: [kept, chains, C, H, W] in [0, 1]. pairs: as in `changes`.
    """
    kept, chains = images.shape[:2]
    if chains < 2:
        return None
    first, second = torch.triu_indices(chains, chains, 1)
    some = _spread(kept * len(first), pairs)
    time, pair = some // len(first), some % len(first)
    return float(1 - ssim(images[time, first[pair]], images[time, second[pair]]).mean())


def _spread(count: int, most: int) -> Tensor:
    """At most `most` of the numbers below `count`, evenly."""
    return torch.arange(min(count, most)) * count // min(count, most)
