"""What knows nothing: the centre, and noise; and that measures say so of them where chance is known."""

from __future__ import annotations

import pytest
import torch
from explained import case_of, signed, summing, uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, kstest
from torch import Tensor

from preimage import RequestError, explain
from preimage.evaluation.baselines import BASELINES, Centre, Random
from preimage.evaluation.deletion import Deletion
from preimage.evaluation.insertion import Insertion
from preimage.explain.method import Method, Question
from preimage.objectives import label

few = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**62)
sides = st.integers(2, 60)


def asked(size: tuple[int, int], *of: int) -> Question:
    """As many photos as there are seeds, all black."""
    network = summing(torch.ones(2, 1, *size))
    photos = torch.zeros(len(of), 1, *size)
    return Question(network, tuple(photos), (label(0).bind(network),) * len(of), size, of, fitted=photos)


def centre(height: int, width: int) -> Tensor:
    (found,) = Centre().explain(asked((height, width), 0)).heatmaps
    return found


def explained(method: Method, photos: Tensor, classes: list[str], seed: int = 0) -> Tensor:
    """By `explain`, as evaluations ask; each photo one class."""
    network = summing(torch.ones(3, *photos.shape[1:]))
    targets = [[one] for one in classes]
    made = explain(network, photos, targets, method=[method], least_probability=0.0, seed=seed, progress=False)
    heatmaps: Tensor = made.heatmaps
    return heatmaps


# --- the centre ---------------------------------------------------------------------------------------------------


@few
@given(sides, sides)
def test_the_nearer_to_the_centre_the_more_important(height: int, width: int) -> None:
    """In shares of each side, so that all corners are the least important, at 0."""
    found = centre(height, width)
    assert found.shape == (height, width) and found.dtype == torch.float32
    rows, columns = ((torch.arange(side).double() + 0.5) / side - 0.5 for side in (height, width))
    away = torch.sqrt(rows[:, None] ** 2 + columns**2)
    torch.testing.assert_close(found.double(), 1 - away / away[0, 0], rtol=0, atol=1e-6)
    assert found.min() == pytest.approx(0, abs=1e-6)


@few
@given(st.integers(1, 30), st.integers(1, 30))
def test_of_odd_sides_the_one_pixel_in_the_middle_is_the_most_important(down: int, across: int) -> None:
    found = centre(2 * down + 1, 2 * across + 1)
    assert (found == found.max()).nonzero().tolist() == [[down, across]]
    assert found.max() == 1


@pytest.mark.parametrize("side", [2, 4, 8, 16, 32, 64, 100, 128, 224, 256])
def test_of_even_sides_the_four_in_the_middle_are(side: int) -> None:
    found = centre(side, side)
    half = side // 2
    expected = [[half - 1, half - 1], [half - 1, half], [half, half - 1], [half, half]]
    assert (found == found.max()).nonzero().tolist() == expected


@pytest.mark.parametrize("side", [96, 192, 384])
def test_of_all_even_sides_they_are(side: int) -> None:
    """Sizes of scenes and of ViTs; a single maximum is a hit in one cell of a mosaic and never in the other three."""
    found = centre(side, side)
    assert int((found == found.max()).sum()) == 4
    assert torch.equal(found, found.flip(0)) and torch.equal(found, found.flip(1)) and torch.equal(found, found.T)


def test_it_is_the_same_for_all_photos_and_its_maps_are_their_own() -> None:
    found = Centre().explain(asked((6, 8), 0, 1, 2)).heatmaps
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    found[0].zero_()
    assert found[1].max() > 0


# --- noise --------------------------------------------------------------------------------------------------------


@few
@given(seeds, seeds, st.integers(0, 5))
def test_the_same_seed_gives_the_same_noise(seed: int, other: int, cells: int) -> None:
    first, second, third = Random(cells).explain(asked((6, 8), seed, other, seed)).heatmaps
    assert torch.equal(first, third)
    if seed % 2**32 != other % 2**32:
        assert not torch.equal(first, second)
    (alone,) = Random(cells).explain(asked((6, 8), seed)).heatmaps
    assert torch.equal(alone, first)


def test_noise_is_uniform() -> None:
    found = Random().explain(asked((50, 60), 5)).heatmaps
    assert found.min() >= 0 and found.max() < 1
    assert kstest(found.flatten().numpy(), "uniform").pvalue > 1e-3


def test_noise_of_few_cells_is_smooth() -> None:
    """Bilinear between 3 x 3 values: it has no more than those to say."""
    found = Random(3).explain(asked((30, 30), *range(20))).heatmaps
    assert torch.linalg.matrix_rank(found.double(), atol=1e-5).max() <= 3
    pixels = Random().explain(asked((30, 30), *range(20))).heatmaps
    assert (found[:, 1:] - found[:, :-1]).abs().max() < 0.11 < (pixels[:, 1:] - pixels[:, :-1]).abs().mean()
    one = Random(1).explain(asked((6, 8), 4)).heatmaps
    assert one.max() == pytest.approx(float(one.min()), abs=1e-6)


def test_cells_are_none_or_more() -> None:
    with pytest.raises(RequestError, match="cells of noise"):
        Random(-1)


@pytest.mark.parametrize("method", [Random(), Random(4)])
def test_another_seed_or_class_is_another_noise_and_the_same_call_the_same(method: Random) -> None:
    photos = uniform(0, 2, 1, 6, 8)
    found = explained(method, photos, ["class:0", "class:1"])
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found, explained(method, photos, ["class:0", "class:1"]))
    assert not torch.equal(found[0], explained(method, photos, ["class:0", "class:1"], seed=1)[0])


def test_noise_is_drawn_for_each_photo_anew() -> None:
    """Else a hundred photos of one class are measured on one map, and an interval over them says nothing."""
    found = explained(Random(), uniform(0, 3, 1, 6, 8), ["class:0"] * 3)
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])


# --- chance -------------------------------------------------------------------------------------------------------


def test_they_are_methods_of_evaluations() -> None:
    assert [one.name for one in BASELINES] == ["centre", "random"]
    assert [one.describe() for one in BASELINES] == [{"name": "centre"}, {"name": "random", "cells": 0}]
    assert not any(one.asks_probabilities for one in BASELINES)


@pytest.mark.parametrize(("measure", "worth"), [(Deletion(), -1), (Insertion(perturbation="constant"), 1)])
def test_noise_deletes_and_inserts_as_well_as_chance(measure: Deletion | Insertion, worth: int) -> None:
    """On a linear network a random order's expected area is midway between both ends; as many are above as below, and
    what each pixel takes away is better than any."""
    weights, photo = signed(0, 1, 10, 10), uniform(1, 1, 10, 10)
    network = summing(weights)
    heatmaps = Random().explain(asked((10, 10), *range(200))).heatmaps
    raws = [measure.measure(case_of(network, photo, one)) for one in heatmaps]
    ends = raws[0]["curve"]
    chance = (ends[0] + ends[-1]) / 2
    areas = torch.tensor([raw["area"] for raw in raws])
    assert binomtest(int((areas > chance).sum()), 200).pvalue > 1e-3
    assert abs(float(areas.mean()) - chance) < 4 * float(areas.std()) / 200**0.5
    best = measure.measure(case_of(network, photo, (weights * (photo - 0.5))[0]))["area"]
    assert (worth * (best - areas) > 0).all()
