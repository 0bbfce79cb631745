"""Explicit energies R(image): what makes an image implausible, as a number to subtract from the score.

All are sums over pixels and channels, not means, because the papers' weights are meant for sums (SPEC M.2).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Regularizer(ABC):
    """An energy of images, counted with `weight`."""

    weight: float

    @abstractmethod
    def energy(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> the energy of each, [N], without the weight."""


@dataclass(frozen=True)
class TotalVariation(Regularizer):
    """Sum over pixels of |grad u|^beta, with forward differences and nothing beyond the border.

    beta: 1 is the usual total variation (paper 2, SPEC S8), 2 the Dirichlet energy, 3 that of paper 4's masks.
    epsilon: keeps the gradient finite where the image is flat; |grad u| is sqrt(dx^2 + dy^2 + epsilon^2), and the
        constant is subtracted again, so that a flat image has no energy.
    anisotropic: |dx|^beta + |dy|^beta instead, as paper 4 writes it (its code has the other; SPEC M.5-1).
    """

    beta: float = 1.0
    epsilon: float = 1e-6
    anisotropic: bool = False

    def energy(self, images: Tensor) -> Tensor:
        down = F.pad(images[:, :, 1:] - images[:, :, :-1], (0, 0, 0, 1))
        right = F.pad(images[:, :, :, 1:] - images[:, :, :, :-1], (0, 1))
        if self.anisotropic:
            return self._of(down.square()) + self._of(right.square())
        return self._of(down.square() + right.square())

    def _of(self, squared: Tensor) -> Tensor:
        if self.beta == 2:
            return squared.flatten(1).sum(1)
        floor = self.epsilon**2
        energy: Tensor = (squared + floor) ** (self.beta / 2) - floor ** (self.beta / 2)
        return energy.flatten(1).sum(1)


@dataclass(frozen=True)
class HuberTotalVariation(Regularizer):
    """Sum over differences d between neighbours of (d/t)^2 where |d| <= t, and of |d|/t beyond (SPEC A16).

    Paper 0's code calls it "cv_norm": its derivative by d/t is 2 d/t for small differences, and the sign of d for
    larger ones, so that edges are not held against an image more the stronger they are.
    threshold: t; the published code counts in levels of 0..255, so 1/255.
    """

    threshold: float = 1 / 255

    def energy(self, images: Tensor) -> Tensor:
        down, right = images[:, :, 1:] - images[:, :, :-1], images[:, :, :, 1:] - images[:, :, :, :-1]
        return self._of(down) + self._of(right)

    def _of(self, differences: Tensor) -> Tensor:
        size = differences.abs() / self.threshold
        return size.where(size > 1, size.square()).flatten(1).sum(1)


@dataclass(frozen=True)
class L1(Regularizer):
    """Sum of |u - centre|."""

    centre: float = 0.5

    def energy(self, images: Tensor) -> Tensor:
        return (images - self.centre).abs().flatten(1).sum(1)


@dataclass(frozen=True)
class L2(Regularizer):
    """Half the sum of (u - centre)^2, so that its gradient is weight decay: weight * (u - centre) (SPEC A7)."""

    centre: float = 0.5

    def energy(self, images: Tensor) -> Tensor:
        return (images - self.centre).square().flatten(1).sum(1) / 2


@dataclass(frozen=True)
class Area(Regularizer):
    """Mean over pixels of (sort(m) - r)^2, r being 0 for the first and 1 for the last values, so that a mask m in
    [0, 1] covers just this share of the picture, with 0 and 1 only (Fong, Patrick & Vedaldi 2019, equation 3).

    share: of the pixels, between 0 and 1.
    """

    share: float = 0.1

    def energy(self, images: Tensor) -> Tensor:
        ordered = images.flatten(1).sort(1).values
        wanted = torch.zeros_like(ordered[0])
        wanted[int(len(wanted) * (1 - self.share)) :] = 1
        return (ordered - wanted).square().mean(1)
