"""Images on a grid, like beside like: t-SNE moved onto a grid (paper 3, figures S11, S12, S19 and S20; SPEC P18)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.extras import from_extra

EMPTY = -1
_FEWEST = 4
_PERPLEXITY = 30.0


def grid_map(points: Tensor, columns: int | None = None, *, seed: int = 0) -> Tensor:
    """Which image stands where: int64 [rows, columns], every number below N once, and -1 in cells that stay empty.

    points: float [N, D], where alike images are near to each other (`embedding.embedded`); N at least 4. columns:
        default the grid nearest to a square.

    t-SNE (van der Maaten & Hinton 2008; perplexity 30, or a third of the others where there are fewer) puts them on a
    plane; its map is scaled to the grid, and each image gets a cell so that the sum of squared distances moved is the
    smallest. The same seed, machine and thread count give the same map.

    Raises `RequestError` for other shapes, for points that are all equal, and where SciPy or scikit-learn is missing.
    """
    if not isinstance(points, Tensor) or points.ndim != 2 or len(points) < _FEWEST or not points.shape[1]:
        shape = list(points.shape) if isinstance(points, Tensor) else type(points).__name__
        raise RequestError(f"a map takes points [N, D], {_FEWEST} or more, not {shape}")
    known = points.detach().cpu().float()
    if not known.isfinite().all():
        raise RequestError("the points of a map are finite")
    if (known == known[0]).all():
        raise RequestError("the points of a map are all the same; there is nothing to sort them by")
    count = len(known)
    wide = math.ceil(math.sqrt(count)) if columns is None else columns
    if not 1 <= wide <= count:
        raise RequestError(f"{count} images stand in 1 to {count} columns, not {wide}")
    rows = -(-count // wide)
    return _on_grid(_on_plane(known, seed), rows, wide)


def _on_plane(points: Tensor, seed: int) -> Tensor:
    """t-SNE, each axis from 0 to 1: float64 [N, 2]."""
    perplexity = min(_PERPLEXITY, (len(points) - 1) / 3)
    # Its start, two principal axes, takes points of two dimensions at least.
    flat = torch.nn.functional.pad(points, (0, max(0, 2 - points.shape[1]))).numpy()
    tsne = from_extra("sklearn.manifold", "evaluation").TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    found = torch.from_numpy(tsne.fit_transform(flat)).double()
    return (found - found.amin(0)) / (found.amax(0) - found.amin(0)).clamp_min(1e-12)


def _on_grid(plane: Tensor, rows: int, columns: int) -> Tensor:
    down, right = (torch.arange(n, dtype=torch.float64) for n in (rows, columns))
    cells = torch.cartesian_prod(down, right)
    wanted = torch.stack([plane[:, 1] * (rows - 1), plane[:, 0] * (columns - 1)], 1)
    cost = torch.cdist(wanted, cells).square()
    image, cell = from_extra("scipy.optimize", "evaluation").linear_sum_assignment(cost.numpy())
    order = torch.full((rows * columns,), EMPTY)
    order[torch.from_numpy(cell)] = torch.from_numpy(image)
    return order.view(rows, columns)
