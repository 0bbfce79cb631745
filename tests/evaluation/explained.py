"""Cases on small networks whose answers are known, for tests of measures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from preimage import Network, explain
from preimage.evaluation.data.example import Example
from preimage.evaluation.measure import Case, Measure, Raw
from preimage.evaluation.view import View
from preimage.objectives import Objective, label

Again = Callable[[Tensor, Network | None], Tensor]


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def signed(seed: int, *shape: int) -> Tensor:
    return uniform(seed, *shape) * 2 - 1


class Sums(nn.Module):
    """Class k is the sum of all pixels times weights[k]: [K, C, H, W]."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", images, self.weights)


def summing(weights: Tensor) -> Network:
    """A linear network; weights: [K, C, H, W], or [C, H, W] for one class."""
    weights = weights if weights.ndim == 4 else weights[None]
    return Network(Sums(weights), tuple(weights.shape[2:]), channels=weights.shape[1])


def never(photos: Tensor, other: Network | None) -> Tensor:
    raise AssertionError("this measure explains nothing anew")


def always(heatmap: Tensor) -> Again:
    """A method that says the same of everything."""
    return lambda photos, other: heatmap.expand(len(photos), *heatmap.shape)


def method(name: str, network: Network) -> Again:
    """One of `explain`'s, asked about class 0."""
    return lambda photos, other: (
        explain(other or network, photos, "class:0", method=[name], least_probability=0.0, progress=False).heatmaps
    )


def case_of(
    network: Network,
    photo: Tensor,
    heatmap: Tensor,
    *,
    again: Again = never,
    asked: Objective | None = None,
    seed: int = 0,
    chunk: int = 16,
) -> Case:
    """asked: default the logit of class 0."""
    size = (photo.shape[1], photo.shape[2])
    objective, example, view = (asked or label(0)).bind(network), Example(Path("photo.png")), View(size, size)
    return Case(network, photo, heatmap, objective, "", example, view, again, seed=seed, chunk=chunk)


def values(measure: Measure, *raws: Raw | None) -> dict[str, list[float | None]]:
    """All quantities by name."""
    return {one.name: one.values for one in measure.quantities(raws, [""] * len(raws), 0)}


def notes(measure: Measure, *raws: Raw | None) -> dict[str, tuple[str, ...]]:
    return {one.name: one.notes for one in measure.quantities(raws, [""] * len(raws), 0)}
