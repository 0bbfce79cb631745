"""How surely and how variously a network answers to images (Salimans et al. 2016; paper 3, table S3; SPEC P24)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from preimage.errors import RequestError

SPLITS = 10
_ROUNDING = 1e-3
"""By how much a network in float32 or less may miss a sum of 1."""


def inception_score(probabilities: Tensor, splits: int = SPLITS, seed: int = 0) -> tuple[float, float]:
    """exp(E_x KL(p(y|x) || p(y))) of each of `splits` equal parts of the images: mean and standard deviation over them.

    1 where every image is answered alike, the number of classes where each answer is sure and all are equally frequent.
    Published scores are of Inception's answers on ImageNet: those of another network compare only with its own, and
    only for as many images and splits, because a part of n images scores n at most.

    probabilities: float [N, classes], rows sum to 1 (`Network.class_scores(images, softmax=True)`). splits: 1 to N. The
    images are shuffled by `seed` first, because parts of images that are sorted by class would look alike. The standard
    deviation is that of these parts (dividing by their number), as in the authors' code.

    Computed in float64. Raises `RequestError` for anything else.
    """
    if not isinstance(probabilities, Tensor) or probabilities.ndim != 2 or not probabilities.numel():
        raise RequestError("an inception score is of probabilities [N, classes]")
    exact = probabilities.detach().cpu().double()
    if not ((exact >= 0).all() and ((exact.sum(1) - 1).abs() < _ROUNDING).all()):
        raise RequestError("probabilities are not negative and sum to 1 for each image; take the softmax of logits")
    if not 1 <= splits <= len(exact):
        raise RequestError(f"{len(exact)} images are split into 1 to {len(exact)} parts, not {splits}")
    exact = exact / exact.sum(1, keepdim=True)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(exact)))
    scores = torch.stack([_score(part) for part in torch.tensor_split(exact[order], splits)])
    return float(scores.mean()), float(scores.std(correction=0))


def _score(part: Tensor) -> Tensor:
    """The mean divergence is the entropy of the mean minus the mean of the entropies."""
    divergence: Tensor = torch.special.entr(part.mean(0)).sum() - torch.special.entr(part).sum(1).mean()
    return divergence.exp()
