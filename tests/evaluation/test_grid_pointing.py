"""The grid pointing game: maps with known answers, and which photos stand beside each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from annotated import filled
from explained import case_of, notes, signed, summing, uniform, values
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare
from torch import Tensor

from preimage import RequestError
from preimage.evaluation.asked import Asked
from preimage.evaluation.baselines import Centre, Random
from preimage.evaluation.data.example import Example
from preimage.evaluation.grid_pointing import GridPointing
from preimage.evaluation.measure import Raw
from preimage.explain.method import Method, Question
from preimage.objectives import label

few = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**31)


def measured(heatmap: Tensor, cell: int, side: int = 2, point: tuple[int, int] | None = None) -> Raw:
    height, width = heatmap.shape
    case = case_of(summing(torch.ones(1, height, width)), torch.zeros(1, height, width), heatmap)
    found = GridPointing(side).measure(replace(case, cell=cell, point=point))
    json.dumps(found)
    assert found["empty"] == (not bool((heatmap > 0).any()))
    return {name: found[name] for name in ("localisation", "pointing")}


def cell_of(height: int, width: int, cell: int, side: int) -> Tensor:
    """1 in this cell, 0 elsewhere."""
    row, column = divmod(cell, side)
    rows, columns = ([length * i // side for i in range(side + 1)] for length in (height, width))
    return filled(height, width, (columns[column], rows[row], columns[column + 1], rows[row + 1]))


SIZES = [(2, (12, 16)), (2, (13, 15)), (3, (12, 18)), (3, (16, 17)), (4, (224, 224))]
on_grids = pytest.mark.parametrize(("side", "size"), SIZES)


# --- maps ---------------------------------------------------------------------------------------------------------


@on_grids
def test_a_perfect_map_and_an_inverted_one(side: int, size: tuple[int, int]) -> None:
    for cell in range(side**2):
        right = cell_of(*size, cell, side)
        assert measured(right, cell, side) == {"localisation": 1, "pointing": 1}
        assert measured(1 - right, cell, side) == {"localisation": 0, "pointing": 0}
        assert measured(-right, cell, side)["pointing"] == 0
        # Only in its own cell.
        other = (cell + 1) % side**2
        assert measured(right, other, side) == {"localisation": 0, "pointing": 0}


@on_grids
def test_a_map_that_is_the_same_everywhere_is_chance(side: int, size: tuple[int, int]) -> None:
    """That is, the cell's share of the picture; all of them together are the picture."""
    found = [measured(torch.ones(size), cell, side) for cell in range(side**2)]
    for cell, one in enumerate(found):
        share = float(cell_of(*size, cell, side).mean())
        assert one == {"localisation": pytest.approx(share), "pointing": pytest.approx(share)}
    assert sum(one["localisation"] for one in found) == pytest.approx(1)
    if size[0] % side == size[1] % side == 0:
        assert found[0]["localisation"] == pytest.approx(1 / side**2)


@pytest.mark.parametrize("value", [0.0, -0.0, -2.0])
def test_a_map_without_a_positive_value_is_chance_and_that_is_said(value: float) -> None:
    empty = {**measured(torch.full((12, 16), value), 2), "empty": True}
    assert empty == {"localisation": 0.25, "pointing": 0.25, "empty": True}
    right = {**measured(cell_of(12, 16, 2, 2), 2), "empty": False}
    assert values(GridPointing(), empty, right, None) == {
        "localisation": [0.25, 1.0, None],
        "pointing": [0.25, 1.0, None],
    }
    said = notes(GridPointing(), empty, right, None)
    assert said == {"localisation": ("1 maps without a positive value, counted as chance",), "pointing": ()}
    assert set(notes(GridPointing(), right, None).values()) == {()}


def test_negative_values_are_no_part_of_the_share() -> None:
    heatmap = 3 * cell_of(12, 16, 1, 2) + cell_of(12, 16, 2, 2) - 100 * cell_of(12, 16, 0, 2)
    assert measured(heatmap, 1) == {"localisation": 0.75, "pointing": 1}
    assert measured(heatmap, 2) == {"localisation": 0.25, "pointing": 0}
    assert measured(heatmap, 0) == {"localisation": 0, "pointing": 0}


def test_of_several_maxima_each_counts_in_part() -> None:
    heatmap = torch.zeros(12, 16)
    heatmap[[0, 0, 11, 11, 5], [0, 7, 0, 15, 8]] = 2.0
    assert [measured(heatmap, cell)["pointing"] for cell in range(4)] == pytest.approx([0.4, 0.2, 0.2, 0.2])
    # A saturated map as much as what it saturates to.
    saturated = (5 * heatmap * (1 + uniform(0, 12, 16))).clamp(max=1.0)
    assert [measured(saturated, cell)["pointing"] for cell in range(4)] == pytest.approx([0.4, 0.2, 0.2, 0.2])


def test_the_border_between_cells() -> None:
    for (row, column), cell in {(5, 7): 0, (5, 8): 1, (6, 7): 2, (6, 8): 3}.items():
        dot = filled(12, 16, (column, row, column + 1, row + 1))
        assert [measured(dot, one)["pointing"] for one in range(4)] == [float(one == cell) for one in range(4)]
        assert [measured(dot, one)["localisation"] for one in range(4)] == [float(one == cell) for one in range(4)]


def test_a_method_s_own_point_goes_before_its_maximum() -> None:
    right = cell_of(12, 16, 0, 2)
    assert measured(right, 0, point=(11, 15)) == {"localisation": 1, "pointing": 0}
    assert measured(right, 3, point=(6, 8)) == {"localisation": 0, "pointing": 1}


@few
@given(seeds, st.integers(2, 4), st.integers(4, 20), st.integers(4, 20))
def test_all_cells_together_are_the_whole(seed: int, side: int, height: int, width: int) -> None:
    """Each pixel is in one cell, and by brute force in which."""
    heatmap = signed(seed, height, width)
    heatmap[0, 0] = 0.5
    found = [measured(heatmap, cell, side) for cell in range(side**2)]
    assert sum(one["localisation"] for one in found) == pytest.approx(1)
    assert sum(one["pointing"] for one in found) == pytest.approx(1)
    shares = [0.0] * side**2
    for row in range(height):
        for column in range(width):
            i, j = (
                max(k for k in range(side) if length * k // side <= at)
                for at, length in ((row, height), (column, width))
            )
            shares[i * side + j] += max(0.0, float(heatmap[row, column])) / float(heatmap.clamp_min(0).sum())
    assert [one["localisation"] for one in found] == pytest.approx(shares, abs=1e-6)


@few
@given(seeds, st.floats(1e-3, 1e3))
def test_the_scale_of_a_map_makes_no_difference(seed: int, scale: float) -> None:
    heatmap = signed(seed, 12, 16).double()
    for cell in range(4):
        assert measured(heatmap * scale, cell) == pytest.approx(measured(heatmap, cell))


# --- what knows nothing -------------------------------------------------------------------------------------------


def baseline(method: Method, height: int, width: int, *of: int) -> Tensor:
    network = summing(torch.ones(1, height, width))
    photos = torch.zeros(len(of), 1, height, width)
    asked = Question(network, tuple(photos), (label(0).bind(network),) * len(of), (height, width), of, fitted=photos)
    return method.explain(asked).heatmaps


@pytest.mark.parametrize("size", [(12, 16), (64, 64), (96, 96), (224, 224), (100, 50)])
def test_the_centre_is_exactly_chance_where_cells_are_alike(size: tuple[int, int]) -> None:
    (heatmap,) = baseline(Centre(), *size, 0)
    for cell in range(4):
        assert measured(heatmap, cell)["localisation"] == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("size", [(16, 32), (64, 64), (224, 224)])
def test_the_centre_s_maximum_is_in_all_four_cells(size: tuple[int, int]) -> None:
    (heatmap,) = baseline(Centre(), *size, 0)
    assert [measured(heatmap, cell)["pointing"] for cell in range(4)] == [0.25] * 4


@pytest.mark.parametrize("size", [(12, 16), (96, 96), (384, 384)])
def test_the_centre_s_maximum_is_in_all_four_cells_of_any_even_size(size: tuple[int, int]) -> None:
    (heatmap,) = baseline(Centre(), *size, 0)
    assert [measured(heatmap, cell)["pointing"] for cell in range(4)] == [0.25] * 4


def test_where_cells_are_not_alike_the_centre_is_chance_over_all_cells() -> None:
    """Which is fair, as cells are drawn evenly; but not in each: of 3 x 3, the middle one has the most."""
    for side, size, middle in ((3, (30, 30), 4), (2, (15, 15), 3), (3, (16, 16), 4)):
        (heatmap,) = baseline(Centre(), *size, 0)
        found = [measured(heatmap, cell, side) for cell in range(side**2)]
        assert sum(one["localisation"] for one in found) == pytest.approx(1)
        assert max(found, key=lambda one: one["localisation"])["localisation"] == found[middle]["localisation"]
        assert [one["pointing"] for one in found] == [float(cell == middle) for cell in range(side**2)]
    (heatmap,) = baseline(Centre(), 30, 30, 0)
    assert measured(heatmap, 4, 3)["localisation"] > 1.5 / 9 > 1 / 9 > measured(heatmap, 0, 3)["localisation"]


@pytest.mark.parametrize("cells", [0, 7])
def test_noise_is_chance(cells: int) -> None:
    heatmaps = baseline(Random(cells), 28, 28, *range(400))
    found = [measured(one, 0) for one in heatmaps]
    assert binomtest(round(sum(one["pointing"] for one in found)), 400, 0.25).pvalue > 1e-3
    shares = torch.tensor([one["localisation"] for one in found])
    assert abs(float(shares.mean()) - 0.25) < 4 * float(shares.std()) / 20


# --- mosaics ------------------------------------------------------------------------------------------------------


def photo(name: str, *labels: str) -> Example:
    return Example(Path(f"{name}.png"), labels)


def asked_of(examples: Sequence[Example]) -> list[Asked]:
    index = {one: i for i, one in enumerate(sorted({one for example in examples for one in example.labels}))}
    return [Asked((one,), name, index[name]) for one in examples for name in one.labels]


def of_counts(*counts: int) -> list[Asked]:
    return asked_of([photo(f"{k}-{i}", f"class {k}") for k, count in enumerate(counts) for i in range(count)])


@few
@given(seeds, st.lists(st.integers(1, 5), min_size=2, max_size=12), st.integers(2, 3))
def test_every_photo_is_asked_about_once_amid_others(seed: int, counts: list[int], side: int) -> None:
    asked = of_counts(*counts)
    made = GridPointing(side).arrange(asked, seed)
    assert len(made) == len(asked)
    for one, mosaic in zip(asked, made, strict=True):
        assert len(mosaic.examples) == side**2 and mosaic.side == side
        assert mosaic.example is one.example
        assert (mosaic.label, mosaic.index) == (one.label, one.index)
        others = [mosaic.examples[i] for i in range(side**2) if i != mosaic.of]
        assert all(mosaic.label not in other.labels for other in others)
        if len(counts) >= side**2:
            assert len({other.labels for other in others}) == side**2 - 1


def test_the_seed_decides_what_stands_where() -> None:
    asked = of_counts(5, 5, 5, 5, 5)
    assert GridPointing().arrange(asked, 1) == GridPointing().arrange(asked, 1)
    assert GridPointing().arrange(asked, 1) != GridPointing().arrange(asked, 2)


def test_cells_classes_and_photos_are_drawn_evenly() -> None:
    made = GridPointing().arrange(of_counts(200, 200, 200, 200), 0)
    assert chisquare([sum(one.of == cell for one in made) for cell in range(4)]).pvalue > 1e-3
    asked = of_counts(1200, 4, 4, 4, 4, 4)
    around = [
        other for one in GridPointing().arrange(asked, 0)[:1200] for other in one.examples if other is not one.example
    ]
    names = [other.path.stem for other in around]
    assert chisquare([sum(name.startswith(f"{k}-") for name in names) for k in range(1, 6)]).pvalue > 1e-3
    assert chisquare([names.count(name) for name in sorted(set(names))]).pvalue > 1e-3 and len(set(names)) == 20


def test_fewer_classes_than_cells_stand_there_more_than_once() -> None:
    for mosaic in GridPointing(3).arrange(of_counts(3, 3), 0):
        others = [one for i, one in enumerate(mosaic.examples) if i != mosaic.of]
        assert {one.labels for one in others} == {("class 1",) if mosaic.label == "class 0" else ("class 0",)}


@few
@given(seeds)
def test_a_photo_of_two_classes_is_asked_about_both_and_stands_beside_neither(seed: int) -> None:
    both, cat, dog, hen = photo("both", "cat", "dog"), photo("cat", "cat"), photo("dog", "dog"), photo("hen", "hen")
    made = GridPointing().arrange(asked_of([both, cat, dog, hen]), seed)
    assert [(one.example, one.label) for one in made] == [
        (both, "cat"), (both, "dog"), (cat, "cat"), (dog, "dog"), (hen, "hen")
    ]  # fmt: skip
    for mosaic in made:
        others = [one for i, one in enumerate(mosaic.examples) if i != mosaic.of]
        assert all(mosaic.label not in one.labels for one in others)
        assert (both in others) <= (mosaic.label == "hen")


def test_no_two_of_one_class_where_there_are_classes_enough() -> None:
    examples = [photo("ab", "a", "b"), *(photo(f"{name}{i}", name) for name in "abcdef" for i in range(2))]
    for seed in range(50):
        for mosaic in GridPointing().arrange(asked_of(examples), seed):
            names = [name for i, one in enumerate(mosaic.examples) if i != mosaic.of for name in one.labels]
            assert len(names) == len(set(names))


def test_no_other_photo_has_the_asked_output_under_another_name() -> None:
    """Two names for one class of the network; or a photo of no class, which the network answers so."""
    cats = [Asked((photo(f"cat{i}", "cat"),), "cat", 281) for i in range(3)]
    unnamed = [Asked((photo(f"unnamed{i}"),), "tabby", 281) for i in range(3)]
    dogs = [Asked((photo(f"dog{i}", "dog"),), "dog", 7) for i in range(3)]
    for mosaic in GridPointing().arrange([*cats, *unnamed, *dogs], 0):
        others = [one.path.stem for i, one in enumerate(mosaic.examples) if i != mosaic.of]
        assert all(name.startswith("dog") is (mosaic.index == 281) for name in others)


def test_what_could_not_be_read_spoils_no_other_mosaic() -> None:
    unread = Asked((photo("unread"),), "", -1)
    made = GridPointing().arrange([unread, *of_counts(3, 3, 3)], 0)
    assert len(made) == 10
    assert all(unread.example not in one.examples for one in made[1:])


# --- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(), (5,)])
def test_one_class_makes_no_mosaic(counts: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match="at least two classes"):
        GridPointing().arrange(of_counts(*counts), 0)


def test_photos_that_all_show_the_class_make_no_mosaic() -> None:
    with pytest.raises(RequestError, match="without the class 'cat', and there are none"):
        GridPointing().arrange(asked_of([photo("x", "cat", "dog"), photo("y", "cat")]), 0)


@pytest.mark.parametrize("side", [1, 0, -1])
def test_a_mosaic_has_two_photos_side_by_side(side: int) -> None:
    with pytest.raises(RequestError, match="at least 2 photos side by side"):
        GridPointing(side)


def test_what_is_described() -> None:
    assert GridPointing(3).describe() == {"name": "grid-pointing", "side": 3}
    assert [one.better for one in GridPointing().quantities([], [], 0)] == ["higher", "higher"]
