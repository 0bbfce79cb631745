"""How different the images of one class are from each other: MS-SSIM of random pairs (paper 3, table S3; SPEC P24)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.ms_ssim import ms_ssim, scales_that_fit

PAIRS = 100


@dataclass(frozen=True)
class Diversity:
    """MS-SSIM within each class; lower is more diverse.

    classes: their numbers, ascending. means, deviations: over each class's pairs (the deviation of these pairs, not an
    estimate for more). pairs: how many there were. scales: of MS-SSIM; compare only what has the same number.
    """

    classes: tuple[int, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    pairs: tuple[int, ...]
    scales: int

    @property
    def mean(self) -> float:
        """The mean of the classes' means."""
        return float(np.mean(self.means))

    @property
    def deviation(self) -> float:
        """The standard deviation of the classes' means: how much classes differ."""
        return float(np.std(self.means))

    def more_diverse(self, real: Diversity) -> int:
        """How many classes are more diverse than the least diverse of `real`, as table S3's last column counts them:
        of itself, all but that one.

        Raises `RequestError` where the scales differ.
        """
        if self.scales != real.scales:
            raise RequestError(f"MS-SSIM of {self.scales} scales does not compare with that of {real.scales}")
        return sum(mean < max(real.means) for mean in self.means)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        keys = ("class", "ms_ssim", "ms_ssim_deviation", "pairs")
        rows = zip(self.classes, self.means, self.deviations, self.pairs, strict=True)
        return {
            "ms_ssim": self.mean,
            "ms_ssim_deviation": self.deviation,
            "scales": self.scales,
            "classes": [dict(zip(keys, row, strict=True)) for row in rows],
        }


def diversity(
    images: Tensor, classes: Tensor | Sequence[int], *, pairs: int = PAIRS, scales: int | None = None, seed: int = 0
) -> Diversity:
    """MS-SSIM of random pairs of images of the same class.

    images: float [N, C, H, W] in [0, 1]. classes: of each. pairs: how many are drawn of each class, no pair twice; all
        that there are where there are fewer. scales: see `ms_ssim`. seed: of the draw, which for one class does not
        depend on what other classes there are.

    Raises `RequestError` for other shapes, and where a class has a single image.
    """
    labels = classes_of(images, classes)
    if pairs < 1:
        raise RequestError(f"diversity takes at least one pair, not {pairs}")
    count = scales_that_fit(*images.shape[2:]) if scales is None else scales
    found: list[tuple[int, float, float, int]] = []
    for label in sorted(set(labels.tolist())):
        own = (labels == label).nonzero()[:, 0]
        if len(own) < 2:
            raise RequestError(f"class {label} has a single image, and a pair takes two")
        first, second = drawn_pairs(len(own), pairs, np.random.default_rng([seed, label]))
        values = ms_ssim(images[own[first]], images[own[second]], count)
        found.append((label, float(values.mean()), float(values.std(correction=0)), len(values)))
    numbers, means, deviations, counts = zip(*found, strict=True)
    return Diversity(numbers, means, deviations, counts, count)


def drawn_pairs(count: int, pairs: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Different pairs of two different numbers below `count` (the first the smaller): int64 [pairs, or all there are].

    Every pair is as likely as any other.
    """
    whole = count * (count - 1) // 2
    drawn = random.choice(whole, min(pairs, whole), replace=False)
    # Pair number p is (p - j (j - 1) / 2, j): the pairs below j come first.
    second = ((1 + np.sqrt(1 + 8 * drawn.astype(np.float64))) / 2).astype(np.int64)
    first = drawn - second * (second - 1) // 2
    return torch.from_numpy(first), torch.from_numpy(second)


def classes_of(images: Tensor, classes: Tensor | Sequence[int]) -> Tensor:
    """The class of each image, int64 [N] on the CPU; raises `RequestError` where they do not belong together."""
    if not isinstance(images, Tensor) or images.ndim != 4 or not len(images):
        shape = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise RequestError(f"images are a tensor [N, C, H, W] with at least one of them, not {shape}")
    labels = torch.as_tensor(classes).cpu()
    if labels.shape != (len(images),) or labels.is_floating_point() or labels.is_complex() or labels.min() < 0:
        raise RequestError(f"{len(images)} images take as many classes, whole numbers from 0 on")
    return labels.long()
