"""Asking the network about thousands of randomly masked copies of a photo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.method import Found, Method, Question
from preimage.explain.occlusion import answers_without


@dataclass(frozen=True)
class RISE(Method):
    """How probable the answer is, on average, while the pixel is shown and random other parts of the photo are not.

    Petsiuk, Das & Saenko 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models", equation 6: the
    heat map is sum_i score(M_i) M_i / (N p). What is hidden shows the network's mean colour.

    samples: N, the number of masks; 4000 are published for VGG-16, 8000 for ResNet-50.
    cells: along each side of the coarse grid from which a mask is enlarged bilinearly, by one cell more than the photo
        needs, so that it can be shifted by up to a cell (section 3.2).
    shown: p, with which probability a cell is shown.

    Raises `RequestError` for numbers that make no sense.
    """

    name: ClassVar[str] = "rise"
    source: ClassVar[str] = "Petsiuk, Das & Saenko 2018, equation 6"
    asks_probabilities: ClassVar[bool] = True

    samples: int = 4000
    cells: int = 7
    shown: float = 0.5

    def __post_init__(self) -> None:
        for what, value in (("samples", self.samples), ("cells", self.cells)):
            if type(value) is not int or value < 1:
                raise RequestError(f"{what} are a whole number above zero, not {value}")
        if not (isinstance(self.shown, Real) and 0 < self.shown <= 1):
            raise RequestError(f"a cell is shown with a probability above 0 and of at most 1, not {self.shown}")

    def steps(self) -> int:
        return self.samples

    def draw(self, size: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
        """Grids [samples, cells, cells] of 0 and 1, and (down, across) by how many pixels each is shifted [samples, 2].

        size: (height, width) of the photo.
        """
        generator = torch.Generator().manual_seed(seed)
        grids = (torch.rand((self.samples, self.cells, self.cells), generator=generator) < self.shown).float()
        shifts = [torch.randint(_cell(side, self.cells), (self.samples,), generator=generator) for side in size]
        return grids, torch.stack(shifts, 1)

    def explain(self, asked: Question) -> Found:
        device = asked.network.device
        down, across = (enlarging(side, self.cells).to(device) for side in asked.size)
        rows, columns = (torch.arange(side, device=device) for side in asked.size)
        # All of a photo's masks at once: the same however many go through the network together.
        drawn = [[values.to(device) for values in self.draw(asked.size, seed)] for seed in asked.seeds]

        def hidden(i: int, which: slice) -> Tensor:
            grids, shifts = (values[which] for values in drawn[i])
            to_rows, to_columns = down[shifts[:, :1] + rows], across[shifts[:, 1:] + columns]
            return 1 - to_rows @ grids @ to_columns.mT

        behind = asked.mean_colour().expand_as(asked.photos)
        heatmaps = torch.zeros(len(asked), *asked.size, device=device)
        with asked.network.held():
            whole = asked.photo_scores()
            for i, masks, scores in answers_without(asked, behind, self.samples, hidden, self.steps()):
                heatmaps[i] += torch.einsum("k,khw->hw", scores, 1 - masks)
        return Found(heatmaps / (self.samples * self.shown), scores={"photo": whole})


def enlarging(side: int, cells: int) -> Tensor:
    """Bilinear enlargement along one axis as a matrix: float32 [(cells + 1) * pixels of a cell, cells], rows sum to 1.

    side: of the photo in pixels, of which a cell has ceil(side / cells). Cells are mirrored at the border cells'
    centres, as the published code has it (skimage.transform.resize, order 1, mode "reflect").
    """
    length = (cells + 1) * _cell(side, cells)
    at = (torch.arange(length, dtype=torch.float64) + 0.5) * (cells / length) - 0.5
    before = at.floor()
    matrix = torch.zeros(length, cells, dtype=torch.float64)
    for cell, weight in ((before, 1 - (at - before)), (before + 1, at - before)):
        inside = (cells - 1 - (cells - 1 - cell.abs()).abs()).clamp(min=0).long()
        matrix.scatter_add_(1, inside[:, None], weight[:, None])
    return matrix.float()


def _cell(side: int, cells: int) -> int:
    return math.ceil(side / cells)
