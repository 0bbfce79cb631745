"""Deletion as a measure: closed forms on a network that looks at a known square, and what of it is reported."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from annotated import filled
from explained import case_of, notes, signed, summing, uniform, values
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from sklearn.metrics import auc
from torch import Tensor, nn

from preimage import Network, RequestError
from preimage.evaluation.deletion import Deletion
from preimage.evaluation.measure import Case
from preimage.objectives import Objective, label

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
SIZE = (10, 20)
BOX = (4, 2, 14, 6)
"""40 of 200 pixels: two tenths, four of twenty steps."""
SQUARE = filled(*SIZE, BOX)
GAIN = 6.0
TWENTIETHS = [i / 20 for i in range(21)]


def square(gain: float = GAIN) -> Network:
    """Class 0's logit is `gain` times the mean over the square, the other's is 0. Its mean colour is grey, 0.5."""
    weights = torch.zeros(2, 1, *SIZE)
    weights[0, 0] = gain * SQUARE / SQUARE.sum()
    return summing(weights)


def white(heatmap: Tensor, network: Network | None = None, asked: Objective | None = None) -> Case:
    return case_of(network or square(), torch.ones(1, *SIZE), heatmap, asked=asked or label(0, "prob"))


def sigmoids(left: Sequence[float]) -> list[float]:
    """What is answered where so much of the square is still white, and the rest grey."""
    return [1 / (1 + math.exp(-GAIN * (1 + one) / 2)) for one in left]


PERFECT = sigmoids([max(0.0, 1 - share / 0.2) for share in TWENTIETHS])
INVERTED = sigmoids([min(1.0, (1 - share) / 0.2) for share in TWENTIETHS])


@pytest.mark.parametrize(("heatmap", "curve"), [(SQUARE, PERFECT), (-SQUARE, INVERTED)], ids=["perfect", "inverted"])
def test_the_curve_has_a_closed_form(heatmap: Tensor, curve: list[float]) -> None:
    found = Deletion().measure(white(heatmap))
    np.testing.assert_allclose(found["curve"], curve, atol=1e-6)
    assert found["area"] == pytest.approx(auc(TWENTIETHS, curve), abs=1e-6)
    assert values(Deletion(), found)["relative"] == [pytest.approx(auc(TWENTIETHS, curve) / curve[0], abs=1e-6)]
    json.dumps(found)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_an_empty_map_goes_row_by_row(value: float) -> None:
    gone = [float(SQUARE.flatten()[: round(200 * share)].sum()) / 40 for share in TWENTIETHS]
    found = Deletion().measure(white(torch.full(SIZE, value)))
    np.testing.assert_allclose(found["curve"], sigmoids([1 - one for one in gone]), atol=1e-6)


def test_a_saturated_map_is_as_good_as_what_it_saturates_to() -> None:
    saturated = (SQUARE * (1 + uniform(0, *SIZE))).clamp(max=0.5)
    assert Deletion().measure(white(saturated)) == Deletion().measure(white(SQUARE))


@few
@given(seeds)
def test_no_map_has_a_smaller_area_than_the_perfect_one_and_none_a_larger_than_its_opposite(seed: int) -> None:
    weights, photo = torch.zeros(2, 1, 4, 5), uniform(seed, 1, 4, 5)
    weights[0] = 4 * signed(seed + 1, 1, 4, 5)
    network, takes = summing(weights), (weights[0] * (photo - 0.5))[0]
    measure = Deletion()

    def area(heatmap: Tensor) -> float:
        return float(measure.measure(case_of(network, photo, heatmap, asked=label(0, "prob")))["area"])

    for i in range(5):
        assert area(takes) - 1e-6 <= area(uniform(seed + 2 + i, 4, 5)) <= area(-takes) + 1e-6


@pytest.mark.parametrize("steps", [1, 2, 7, 40, 200, 300])
def test_as_many_steps_as_one_asks_for(steps: int) -> None:
    found = Deletion(steps).measure(white(SQUARE))
    assert len(found["curve"]) == steps + 1
    assert found["curve"][0] == pytest.approx(PERFECT[0], abs=1e-6)
    assert found["curve"][-1] == pytest.approx(PERFECT[-1], abs=1e-6)
    assert found["area"] == pytest.approx(auc(np.linspace(0, 1, steps + 1), found["curve"]), abs=1e-6)


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 10 * 14, 5))


@few
@given(seeds, st.sampled_from(["constant", "blur"]))
def test_the_network_s_own_colour_or_a_blurred_photo_takes_the_pixels_place(seed: int, kind: Any) -> None:
    """The published protocol, computed outside of the network that is measured, on one that is not linear."""
    net, mean, std = module(), (0.2, 0.5, 0.9), (0.3, 0.2, 0.4)
    network = Network(net, (12, 16), mean, std)
    photo, heatmap = uniform(seed, 3, 12, 16), uniform(seed + 1, 12, 16)
    sigma = 10 / 224 * 12
    reach = math.ceil(3 * sigma)
    blurred = gaussian_filter(photo.double().numpy(), (0, sigma, sigma), radius=(0, reach, reach))
    other = blurred if kind == "blur" else np.broadcast_to(np.array(mean)[:, None, None], photo.shape)
    ranks = np.argsort(-heatmap.numpy(), axis=None)
    image, curve = photo.double().numpy().copy(), []
    shift, spread = (np.array(numbers)[:, None, None] for numbers in (mean, std))
    for i in range(17):
        with torch.no_grad():
            given_to_it = torch.from_numpy((image - shift) / spread).float()[None]
            curve.append(float(net(given_to_it).softmax(1)[0, 2]))
        some = np.unravel_index(ranks[12 * i : 12 * (i + 1)], (12, 16))
        image[:, some[0], some[1]] = other[:, some[0], some[1]]
    found = Deletion(16, kind).measure(case_of(network, photo, heatmap, asked=label(2, "prob")))
    np.testing.assert_allclose(found["curve"], curve, atol=1e-5)
    assert found["area"] == pytest.approx(auc(np.linspace(0, 1, 17), curve), abs=1e-5)


def test_noise_is_the_same_for_all_methods_of_a_case_and_another_for_other_cases() -> None:
    def last(seed: int, heatmap: Tensor) -> float:
        case = case_of(square(), torch.ones(1, *SIZE), heatmap, asked=label(0), seed=seed)
        return float(Deletion(perturbation="noise").measure(case)["curve"][-1])

    assert last(3, SQUARE) == pytest.approx(last(3, -SQUARE), abs=1e-6)
    assert abs(last(3, SQUARE) - last(4, SQUARE)) > 1e-3


def test_the_size_of_chunks_makes_no_difference() -> None:
    photo, heatmap = uniform(0, 1, *SIZE), uniform(1, *SIZE)
    one, many = (
        Deletion().measure(case_of(square(), photo, heatmap, asked=label(0, "prob"), chunk=chunk)) for chunk in (1, 64)
    )
    np.testing.assert_allclose(one["curve"], many["curve"], atol=1e-6)


def test_what_is_reported() -> None:
    perfect, inverted = (Deletion().measure(white(one)) for one in (SQUARE, -SQUARE))
    area, relative = Deletion().quantities([perfect, None, inverted], ["a", "b", "a"], 0)
    assert (area.name, relative.name) == ("area", "relative")
    for quantity in (area, relative):
        assert quantity.better == "lower" and not quantity.by_class and not quantity.notes
    assert area.values == [perfect["area"], None, inverted["area"]]
    assert perfect["area"] < inverted["area"]
    expected = [None if one is None else pytest.approx(one / PERFECT[0], rel=1e-6) for one in area.values]
    assert relative.values == expected


def test_nothing_is_relative_to_an_answer_below_a_thousandth() -> None:
    """One such photo would weigh as much as a thousand others."""
    sure = Deletion().measure(white(SQUARE))
    faint, negative = (Deletion().measure(white(SQUARE, square(gain), label(0))) for gain in (0.0009, -6.0))
    assert values(Deletion(), faint, sure, negative) == {
        "area": [faint["area"], sure["area"], negative["area"]],
        "relative": [None, pytest.approx(sure["area"] / PERFECT[0], rel=1e-6), None],
    }
    said = notes(Deletion(), faint, sure, negative)
    assert said["area"] == () and said["relative"][0].startswith("2 photos left out")
    least = Deletion().measure(white(SQUARE, square(0.0011), label(0)))
    assert values(Deletion(), least)["relative"] == [pytest.approx(least["area"] / 0.0011, rel=1e-5)]


def test_settings_are_described() -> None:
    assert Deletion(7, "blur").describe() == {"name": "deletion", "steps": 7, "perturbation": "blur"}


@pytest.mark.parametrize("steps", [0, -1])
def test_a_curve_takes_a_step(steps: int) -> None:
    with pytest.raises(RequestError, match="at least 1 step"):
        Deletion(steps)


def test_an_unknown_perturbation_is_refused_before_anything_is_explained() -> None:
    with pytest.raises(RequestError, match="blur, constant"):
        Deletion(perturbation="grey")  # type: ignore[arg-type]


def test_maps_that_are_not_finite_are_refused() -> None:
    with pytest.raises(RequestError, match="not finite"):
        Deletion().measure(white(SQUARE * math.nan))
