"""Many units of a layer on one canvas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convolutions import convolutions, normal
from preimage import Network, RequestError, UnknownTapError
from preimage.objectives import EachItsOwn, Objective, Tiling, tiled, unit
from preimage.optimization import Ascent, Stage, climb
from preimage.parametrizations import Pixels

few = settings(max_examples=15, deadline=None)


def climbed(network: Network, objective: Objective, start: Tensor) -> Tensor:
    """The canvas after three steps of plain ascent."""
    asked, kind = EachItsOwn((objective,)), Pixels(*start.shape[1:])
    stages = [Stage(3, Ascent(1.0))]
    return climb(network, asked, kind, start, stages, torch.Generator().manual_seed(0)).parameters[0]


def own_gradients(network: Network, tiling: Tiling) -> tuple[Tensor, list[Tensor]]:
    """At the canvas: the gradient of the tiled objective, and that of each unit by itself."""
    canvas = normal(0, 1, 1, *tiling.size).requires_grad_(True)
    activations = network.run(canvas, tiling.objective.places())
    scores = [term.score(activations) for _, term in tiling.objective.terms]  # type: ignore[attr-defined]
    own = [torch.autograd.grad(score.sum(), canvas, retain_graph=True)[0] for score in scores]
    (total,) = torch.autograd.grad(tiling.objective.score(activations).sum(), canvas)
    return total, own


@pytest.mark.parametrize(
    ("layers", "side", "gap"),
    [
        (((3, 2, 1),), 16, 0),
        (((3, 2, 1),), 16, 3),
        (((3, 1, 0),), 16, 1),
        (((3, 1, 1), (3, 1, 1)), 16, 3),
        (((3, 2, 1), (3, 2, 1)), 32, 0),
        (((3, 2, 0), (3, 2, 0)), 31, 0),
        (((4, 2, 1),), 16, 2),
        (((7, 2, 3), (3, 2, 1), (3, 2, 1)), 64, 8),
        (((3, 1, 0),), 16, 0),
        (((5, 2, 0),), 21, 1),
        (((3, 1, 1), (3, 1, 1)), 16, 0),
        (((4, 2, 1),), 16, 0),
        (((7, 2, 3), (3, 2, 1), (3, 2, 1)), 64, 5),
    ],
)
def test_in_each_tile_the_gradient_is_the_unit_s_own_and_whole(
    layers: tuple[tuple[int, int, int], ...], side: int, gap: int
) -> None:
    check_tiles(convolutions(*layers), side, [3, 0, 4, 1, 1], gap)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("layers", "gap"),
    [
        (((3, 3, 0),), 0),
        (((3, 2, 1),), 0),
        (((5, 2, 2), (5, 2, 2)), 0),
        (((3, 3, 1),), 0),
        (((3, 2, 1), (1, 2, 0)), 0),
        (((3, 2, 1), (1, 2, 0)), 1),
    ],
)
def test_a_few_tiles_hold_whole_fields_too(layers: tuple[tuple[int, int, int], ...], gap: int, count: int) -> None:
    check_tiles(convolutions(*layers), 48, list(range(count)), gap)


def check_tiles(module: nn.Sequential, side: int, channels: list[int], gap: int) -> None:
    """Every unit's whole field lies in its own tile, and nothing else pulls there."""
    network, tap = Network(module, side), str(len(module) - 1)
    tiling = tiled(network, tap, channels, gap)
    total, own = own_gradients(network, tiling)
    row = network.taps()[tap]
    for gradient, (top, left) in zip(own, tiling.corners, strict=True):
        tile = torch.zeros(tiling.size, dtype=torch.bool)
        tile[top : top + tiling.side[0], left : left + tiling.side[1]] = True
        assert torch.equal(gradient[0, 0, tile], total[0, 0, tile])
        assert gradient[0, 0, ~tile].count_nonzero() == 0
        where = gradient[0, 0].nonzero()
        assert tuple((where.amax(0) - where.amin(0) + 1).tolist()) == row.receptive_field
    assert len(set(tiling.positions)) == len(channels)


@few
@given(st.integers(1, 12), st.integers(0, 9))
def test_tiles_lie_in_rows_that_are_about_as_long_as_there_are(count: int, gap: int) -> None:
    network = Network(convolutions((3, 2, 1), (3, 2, 1)), 32)
    channels = [i % 5 for i in range(count)]
    tiling = tiled(network, "1", channels, gap)
    assert tiling.channels == tuple(channels)
    field, stride = 7, 4
    assert all(field + gap <= side < field + gap + stride and side % stride == 0 for side in tiling.side)
    (rows, below), (columns, right) = (divmod(n, long) for n, long in zip(tiling.size, tiling.side, strict=True))
    assert below == right == stride
    assert columns - 1 <= rows <= columns and (rows - 1) * columns < count <= rows * columns
    assert len(set(tiling.corners)) == count
    canvas = normal(0, 1, *tiling.size)
    tiles = tiling.cut(canvas)
    for tile, (top, left) in zip(tiles, tiling.corners, strict=True):
        assert torch.equal(tile, canvas[:, top : top + tiling.side[0], left : left + tiling.side[1]])
    asked = [(term.index, weight) for weight, term in tiling.objective.terms]  # type: ignore[attr-defined]
    assert asked == [(one, 1.0) for one in channels]
    assert tiling.positions == tuple(term.position for _, term in tiling.objective.terms)  # type: ignore[attr-defined]
    for position, corner in zip(tiling.positions, tiling.corners, strict=True):
        for unit_of_axis, begin, side, whole in zip(position, corner, tiling.side, tiling.size, strict=True):
            # Unit u of this network sees the pixels 4 u - 3 to 4 u + 3.
            assert 0 <= begin <= 4 * unit_of_axis - 3 and 4 * unit_of_axis + 3 < begin + side <= whole


def test_positions_are_rows_and_columns_in_the_order_of_the_channels() -> None:
    """Of six channels two rows of three: a tile of 8 pixels is two units of this network."""
    tiling = tiled(Network(convolutions((3, 2, 1), (3, 2, 1)), (32, 48)), "1", [4, 3, 2, 1, 0, 4])
    (top, left), *_ = tiling.positions
    assert tiling.positions == tuple((top + 2 * y, left + 2 * x) for y in range(2) for x in range(3))
    (top, left), *_ = tiling.corners
    assert tiling.corners == tuple((top + 8 * y, left + 8 * x) for y in range(2) for x in range(3))
    assert tiling.size == (2 * 8 + 4, 3 * 8 + 4)


def test_one_pass_makes_the_pictures_that_each_unit_would_have_made_alone() -> None:
    network = Network(convolutions((3, 2, 1), (3, 2, 1)), 32)
    tiling = tiled(network, "1", [0, 1, 2])
    start = 0.1 * normal(1, 1, 1, *tiling.size)
    together = climbed(network, tiling.objective, start)
    for i, (_, term) in enumerate(tiling.objective.terms):  # type: ignore[attr-defined]
        alone = climbed(network, term.bind(network), start)
        torch.testing.assert_close(tiling.cut(together)[i], tiling.cut(alone)[i], rtol=1e-5, atol=1e-6)


def test_what_cannot_be_tiled() -> None:
    module = nn.Sequential(*convolutions((3, 2, 1), (9, 1, 4)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4))
    network = Network(module, 16)
    for tap, said in (("1", "each unit sees the whole input"), ("2", "cannot be tiled"), ("4", "cannot be tiled")):
        with pytest.raises(RequestError, match=f"'{tap}' cannot be tiled") as caught:
            tiled(network, tap, [0])
        assert said in str(caught.value)
    with pytest.raises(RequestError, match="no channel to put on the canvas"):
        tiled(network, "0", [])
    with pytest.raises(RequestError, match="channels 0 to 3, not 4"):
        tiled(network, "0", [0, 4])
    with pytest.raises(UnknownTapError, match="no tap 'nowhere'"):
        tiled(network, "nowhere", [0])


def test_the_units_of_a_tiling_can_be_written_down() -> None:
    tiling = tiled(Network(convolutions((3, 2, 1)), 16), "0", [2])
    (term,) = tiling.objective.terms  # type: ignore[attr-defined]
    assert term == (1.0, unit("0", 2, *term[1].position))
    assert str(tiling.objective) == str(term[1])
