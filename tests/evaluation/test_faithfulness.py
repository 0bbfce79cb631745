"""Whether answers fall as heat maps say: closed forms on linear networks, where the exact contributions are known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from explained import case_of, notes, signed, summing, uniform, values
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage import RequestError
from preimage.evaluation.faithfulness import Faithfulness, correlation, patches_of, sums_and_answers
from preimage.evaluation.measure import Case

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
sides = st.integers(12, 40)
"""Photos of a few pixels hardly have any blur: its sigma is 10 of 224."""
kinds = st.sampled_from(["constant", "blur", "noise"])


def linear(seed: int, height: int, width: int, channels: int = 3) -> tuple[Tensor, Case]:
    """Weights [C, H, W], and a case without heat map."""
    weights, photo = signed(seed, channels, height, width), uniform(seed + 1, channels, height, width)
    return weights, case_of(summing(weights), photo, torch.zeros(height, width), seed=seed)


def given_map(case: Case, heatmap: Tensor, chunk: int = 16) -> Case:
    return case_of(case.network, case.photo, heatmap, seed=case.seed, chunk=chunk)


def contributions(weights: Tensor, case: Case, kind: Any) -> Tensor:
    return (weights.double() * (case.photo.double() - case.without(kind).double())).sum(0).float()


@few
@given(seeds, sides, sides, kinds, st.floats(0.05, 0.9))
def test_exact_contributions_are_faithful(seed: int, height: int, width: int, kind: Any, share: float) -> None:
    weights, case = linear(seed, height, width)
    exact = contributions(weights, case, kind)
    measure = Faithfulness(runs=30, share=share, perturbation=kind)
    assert measure.measure(given_map(case, exact))["correlation"] == pytest.approx(1, abs=1e-4)
    assert measure.measure(given_map(case, -exact))["correlation"] == pytest.approx(-1, abs=1e-4)


@few
@given(seeds, st.floats(0.1, 100), st.floats(-10, 10))
def test_only_differences_count(seed: int, scale: float, shift: float) -> None:
    """As many pixels go each time, if all patches are equally large."""
    _, case = linear(seed, 12, 12)
    heatmap = signed(seed + 2, 12, 12)
    one, other = (Faithfulness().measure(given_map(case, h))["correlation"] for h in (heatmap, scale * heatmap + shift))
    assert one == pytest.approx(other, abs=1e-3)


def test_chance_is_zero() -> None:
    """The correlation with a random map scatters around 0 by 1 / sqrt(pixels) or less: four standard errors of 60."""
    found = []
    for seed in range(60):
        _, case = linear(seed, 10, 10)
        found.append(Faithfulness(runs=60).measure(given_map(case, uniform(seed + 500, 10, 10)))["correlation"])
    # Each of them also scatters by 1 / sqrt(runs), because of the subsets that were drawn.
    assert abs(np.mean(found)) < 4 * np.sqrt((1 / 100 + 1 / 60) / 60)
    assert np.std(found) > 0.05


@few
@given(seeds)
def test_it_is_numpy_s_correlation_of_what_was_drawn(seed: int) -> None:
    """Every subset by itself, on a network that is not linear in the photo."""
    weights, case = linear(seed, 6, 7)
    case = given_map(case, signed(seed + 3, 6, 7))
    gone = uniform(seed, 20, 6, 7) < 0.3
    other = case.without("constant")
    sums, answers = sums_and_answers(case, gone, other)
    by_hand = []
    for one, total in zip(gone, sums, strict=True):
        photo = case.photo.clone()
        photo[:, one] = other[:, one]
        assert float(total) == pytest.approx(float(case.heatmap[one].sum()), abs=1e-4)
        by_hand.append(case.score - float((weights * photo).sum()))
    expected = np.corrcoef(sums.numpy(), by_hand)[0, 1]
    assert correlation(sums, answers) == pytest.approx(expected, abs=1e-4)


@few
@given(st.integers(1, 300), st.integers(1, 300), st.floats(0.5, 100))
def test_patches_share_the_photo_out(height: int, width: int, side: float) -> None:
    patches = patches_of((height, width), side)
    assert patches.shape == (height, width)
    counts = patches.unique(return_counts=True)
    assert counts[0].tolist() == list(range(len(counts[0])))
    for number in (0, len(counts[0]) - 1):
        rows, columns = (patches == number).nonzero(as_tuple=True)
        height_of, width_of = (int(one.max() - one.min()) + 1 for one in (rows, columns))
        assert height_of * width_of == len(rows)  # a rectangle
        for length, whole in ((height_of, height), (width_of, width)):
            assert side / 1.5 - 1 <= length <= 1.5 * side + 1 or length == whole


@pytest.mark.parametrize(("side", "cells"), [(224, 14), (32, 16), (64, 16), (96, 16), (240, 15), (299, 13), (300, 15)])
def test_patches_are_equal_where_that_can_be(side: int, cells: int) -> None:
    patches = patches_of((side, 224), 16.0 * side / 224)
    assert patches[:, 0].unique().numel() == cells
    assert patches.unique(return_counts=True)[1].unique().numel() == 1


def test_a_prime_number_of_pixels_has_patches_that_differ_by_one() -> None:
    rows = patches_of((227, 1), 16.0).unique(return_counts=True)[1]
    assert len(rows) == 14 and set(rows.tolist()) == {16, 17}


@pytest.mark.parametrize("value", [0.0, 0.3, -1000.0])
def test_constant_maps_do_not_count(value: float) -> None:
    _, case = linear(0, 12, 12)
    measure = Faithfulness()
    raws = [measure.measure(given_map(case, h)) for h in (torch.full((12, 12), value), uniform(3, 12, 12))]
    assert raws[0]["correlation"] is None and raws[1]["correlation"] is not None
    assert values(measure, *raws, None)["correlation"] == [None, raws[1]["correlation"], None]
    assert notes(measure, *raws)["correlation"] == ("1 constant heat maps left out, which have no correlation",)
    assert json.loads(json.dumps(raws)) == raws


def test_answers_that_stay_the_same_do_not_count() -> None:
    """A network that looks at nothing; and one for which rounding is all that changes."""
    photo, heatmap = uniform(0, 1, 8, 8), uniform(1, 8, 8)
    measure = Faithfulness()
    for weights, constant in ((torch.zeros(1, 8, 8), 0.0), (torch.full((1, 8, 8), 1e-8), 1e3)):
        network = summing(weights)
        case = case_of(network, photo, heatmap)
        object.__setattr__(case, "scores", lambda images, n=network, c=constant: n.module(images).detach()[:, 0] + c)
        raw = measure.measure(case)
        assert raw["correlation"] is None and raw["unmoved"]
        said = "1 photos left out whose answer stays the same, whatever goes"
        assert notes(measure, raw)["correlation"] == (said,)


def test_ties_and_saturated_maps_have_a_correlation() -> None:
    """A map that is 1 where the network looks, and 0 elsewhere, on a photo that is white there."""
    inside = torch.zeros(16, 16)
    inside[4:10, 4:10] = 1
    case = case_of(summing(inside[None].clone()), inside[None].clone(), inside)
    assert Faithfulness().measure(case)["correlation"] == pytest.approx(1, abs=1e-5)
    assert Faithfulness().measure(given_map(case, 1 - inside))["correlation"] == pytest.approx(-1, abs=1e-5)


def test_the_same_seed_draws_the_same() -> None:
    _, case = linear(0, 12, 12)
    heatmap = uniform(9, 12, 12)
    one, same = (Faithfulness().measure(given_map(case, heatmap, chunk)) for chunk in (16, 7))
    assert one["correlation"] == pytest.approx(same["correlation"], abs=1e-6)
    assert one == Faithfulness().measure(given_map(case, heatmap))
    other = Faithfulness().measure(case_of(case.network, case.photo, heatmap, seed=1))
    assert other["correlation"] != one["correlation"]


@pytest.mark.parametrize(("share", "taken"), [(0.001, 1), (0.25, 36), (0.999, 143)])
def test_a_part_goes_and_a_part_stays(share: float, taken: int) -> None:
    _, case = linear(0, 12, 12)
    raw = Faithfulness(share=share).measure(given_map(case, uniform(2, 12, 12)))
    assert (raw["patches"], raw["taken"]) == (144, taken)


def test_what_cannot_be_measured_is_said() -> None:
    _, case = linear(0, 12, 12)
    with pytest.raises(RequestError, match="not finite"):
        Faithfulness().measure(given_map(case, torch.full((12, 12), torch.nan)))
    with pytest.raises(RequestError, match="patches of 500 pixels leave only one on a photo"):
        Faithfulness(patch=500.0).measure(given_map(case, uniform(0, 12, 12)))
    for settings_, message in (
        ({"runs": 2}, "at least 3 runs, not 2"),
        ({"share": 0.0}, "between 0 and 1, not 0.0"),
        ({"share": 1.0}, "between 0 and 1, not 1.0"),
        ({"patch": 0.0}, "a side above zero"),
    ):
        with pytest.raises(RequestError, match=message):
            Faithfulness(**settings_)  # type: ignore[arg-type]
