"""Gradients averaged over many variants of a photo, for the methods that are such averages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.method import Question


def averaged_gradients(asked: Question, variant: Callable[[int, int], Tensor], weights: Sequence[float]) -> Tensor:
    """For each photo, sum_k weights[k] * gradient of its objective with respect to its variant k: [N, C, H, W].

    variant: (photo's index, k) -> [C, H, W], called once for each, photo by photo, in the order of k.
    Variants of several photos go through the network together. Reports one step for each weight.

    Raises `RequestError` if no gradient comes back from what is asked.
    """
    total = torch.zeros_like(asked.photos)
    wanted = [(i, k) for i in range(len(asked)) for k in range(len(weights))]
    with asked.network.held():
        for start in range(0, len(wanted), asked.chunk):
            some = wanted[start : start + asked.chunk]
            gradients = _gradients(asked, [i for i, _ in some], torch.stack([variant(i, k) for i, k in some]))
            for (i, k), gradient in zip(some, gradients, strict=True):
                total[i] += weights[k] * gradient
            done = start + len(some)
            asked.on_step(done // len(asked) - start // len(asked))
    return total


def _gradients(asked: Question, photos: list[int], images: Tensor) -> Tensor:
    """Of what photo `photos[row]` is asked, with respect to `images[row]`; rows of the same photo are neighbours."""
    places = frozenset().union(*(asked.objectives[i].places() for i in set(photos)))
    with torch.enable_grad():
        images = images.detach().requires_grad_(True)
        activations = asked.network.run(images, places)
        scores = []
        for i, rows in groupby(range(len(photos)), lambda row: photos[row]):
            here, objective = list(rows), asked.objectives[i]
            of_photo = {place: activations[place][here[0] : here[-1] + 1] for place in objective.places()}
            scores.append(objective.score(of_photo))
        score = torch.cat(scores).sum()
        found = torch.autograd.grad(score, images, allow_unused=True) if score.requires_grad else (None,)
        if found[0] is None:
            raise RequestError(
                f"{asked.network.name} lets no gradient through to the photo; methods that only look at its answers, "
                "such as occlusion and rise, can explain it"
            )
    return found[0]
