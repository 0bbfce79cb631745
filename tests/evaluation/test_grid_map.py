"""Images on a grid: each once, like beside like, as near to the map as a permutation can be."""

from __future__ import annotations

import time

import pytest
import torch
from explained import uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage import RequestError
from preimage.evaluation.embedding import embedded, in_pixels
from preimage.evaluation.grid_map import _on_grid, grid_map

few = settings(max_examples=8, deadline=None)


def neighbours(order: Tensor, points: Tensor) -> float:
    """The mean distance of points side by side or one above the other."""
    placed = points[order]
    across, down = (placed[:, 1:] - placed[:, :-1]).norm(dim=2), (placed[1:] - placed[:-1]).norm(dim=2)
    return float(torch.cat([across.flatten(), down.flatten()]).mean())


@few
@given(st.integers(0, 2**31), st.integers(4, 40), st.data())
def test_every_image_stands_in_one_place(seed: int, count: int, data: st.DataObject) -> None:
    columns = data.draw(st.none() | st.integers(1, count))
    order = grid_map(uniform(seed, count, 5), columns, seed=seed % 100)
    wide = columns or order.shape[1]
    assert order.dtype == torch.int64 and order.shape == (-(-count // wide), wide)
    if columns is None:
        assert abs(order.shape[0] - order.shape[1]) <= 1
    assert sorted(order[order >= 0].tolist()) == list(range(count))
    assert (order[order < 0] == -1).all()


def test_like_stands_beside_like() -> None:
    """Four hundred points of ten heaps, in seconds: neighbours are nearer than in all of 200 random orders."""
    heaps = torch.randn(10, 20, generator=torch.Generator().manual_seed(0)) * 5
    which = torch.arange(400) % 10
    points = heaps[which] + torch.randn(400, 20, generator=torch.Generator().manual_seed(1))
    begin = time.perf_counter()
    order = grid_map(points)
    assert time.perf_counter() - begin < 60  # a few seconds on a free core; the machines of tests are not
    assert order.shape == (20, 20)
    random = torch.Generator().manual_seed(2)
    others = [neighbours(torch.randperm(400, generator=random).view(20, 20), points) for _ in range(200)]
    assert neighbours(order, points) < 0.5 * min(others)
    kinds = which[order]
    assert (kinds[:, 1:] == kinds[:, :-1]).double().mean() > 0.6  # by chance 0.1


def test_points_of_one_dimension_too() -> None:
    random = torch.Generator().manual_seed(0)
    points = torch.linspace(0, 1, 64)[torch.randperm(64, generator=random)][:, None]
    others = [neighbours(torch.randperm(64, generator=random).view(8, 8), points) for _ in range(200)]
    assert neighbours(grid_map(points), points) < 0.5 * min(others)


def test_a_plane_that_is_a_grid_stays_one() -> None:
    """Each image goes to the cell it is in, whatever the order in which they are given."""
    down, right = torch.meshgrid(torch.linspace(0, 1, 3), torch.linspace(0, 1, 4), indexing="ij")
    plane = torch.stack([right.flatten(), down.flatten()], 1).double()
    given = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    order = _on_grid(plane[given], 3, 4)
    assert torch.equal(given[order], torch.arange(12).view(3, 4))
    left_out = _on_grid(plane[:11], 3, 4)
    assert left_out.flatten().tolist() == [*range(11), -1]


def test_the_same_seed_gives_the_same_map() -> None:
    points = uniform(0, 50, 8)
    assert torch.equal(grid_map(points, seed=3), grid_map(points, seed=3))


def test_of_images_in_pixels() -> None:
    """Dark, middling and bright ones: each kind keeps together."""
    kinds = torch.arange(36) % 3
    images = kinds.view(-1, 1, 1, 1) * 0.4 + 0.1 * uniform(0, 36, 3, 4, 4)
    points = embedded((images * 255).byte(), in_pixels)
    assert points.shape == (36, 48) and float(points.max()) <= 1
    order = grid_map(points)
    assert (kinds[order][:, 1:] == kinds[order][:, :-1]).double().mean() > 0.6  # by chance 1 / 3


def test_what_makes_no_map_is_said() -> None:
    points = uniform(0, 9, 3)
    with pytest.raises(RequestError, match=r"points \[N, D\], 4 or more, not \[3, 3\]"):
        grid_map(points[:3])
    with pytest.raises(RequestError, match=r"4 or more, not \[9\]"):
        grid_map(points[:, 0])
    with pytest.raises(RequestError, match="all the same"):
        grid_map(torch.ones(9, 3))
    with pytest.raises(RequestError, match="finite"):
        grid_map(points * torch.nan)
    for columns in (0, 10):
        with pytest.raises(RequestError, match="9 images stand in 1 to 9 columns"):
            grid_map(points, columns)
