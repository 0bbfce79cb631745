"""Insertion as a measure: closed forms on a network that looks at a known square, and deletion read backwards."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from annotated import filled
from explained import case_of, signed, summing, uniform, values
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc
from torch import Tensor

from preimage import Network, RequestError
from preimage.evaluation.deletion import Deletion
from preimage.evaluation.insertion import Insertion
from preimage.evaluation.measure import Raw
from preimage.objectives import Objective, label

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
SIZE = (10, 20)
SQUARE = filled(*SIZE, (0, 0, 10, 4))
"""40 of 200 pixels, in the corner."""
GAIN = 6.0
TWENTIETHS = [i / 20 for i in range(21)]


def square(gain: float = GAIN) -> Network:
    """Class 0's logit is `gain` times the mean over the square, the other's is 0. Its mean colour is grey, 0.5."""
    weights = torch.zeros(2, 1, *SIZE)
    weights[0, 0] = gain * SQUARE / SQUARE.sum()
    return summing(weights)


def measured(
    heatmap: Tensor,
    measure: Insertion | Deletion = Insertion(perturbation="constant"),  # noqa: B008
    gain: float = GAIN,
    asked: Objective | None = None,
) -> dict[str, Any]:
    return dict(measure.measure(case_of(square(gain), torch.ones(1, *SIZE), heatmap, asked=asked or label(0, "prob"))))


def relative(found: Raw) -> float:
    (value,) = values(Insertion(), found)["relative"]
    assert value is not None
    return value


def answer(back: float) -> float:
    """Where so much of the square is white again, and the rest grey."""
    return 1 / (1 + math.exp(-GAIN * (1 + back) / 2))


PERFECT = [answer(min(1.0, share / 0.2)) for share in TWENTIETHS]
INVERTED = [answer(max(0.0, 1 - (1 - share) / 0.2)) for share in TWENTIETHS]


@pytest.mark.parametrize(("heatmap", "curve"), [(SQUARE, PERFECT), (-SQUARE, INVERTED)], ids=["perfect", "inverted"])
def test_the_curve_of_insertion_has_a_closed_form(heatmap: Tensor, curve: list[float]) -> None:
    found = measured(heatmap)
    np.testing.assert_allclose(found["curve"], curve, atol=1e-6)
    assert found["area"] == pytest.approx(auc(TWENTIETHS, curve), abs=1e-6)
    # The photo's own answer is the last.
    assert relative(found) == pytest.approx(auc(TWENTIETHS, curve) / curve[-1], abs=1e-6)
    json.dumps(found)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_an_empty_map_brings_it_back_row_by_row(value: float) -> None:
    back = [float(SQUARE.flatten()[: round(200 * share)].sum()) / 40 for share in TWENTIETHS]
    found = measured(torch.full(SIZE, value))
    np.testing.assert_allclose(found["curve"], [answer(one) for one in back], atol=1e-6)


@few
@given(seeds)
def test_no_map_has_a_larger_area_than_the_perfect_one_and_none_a_smaller_than_its_opposite(seed: int) -> None:
    weights, photo = torch.zeros(2, 1, 4, 5), uniform(seed, 1, 4, 5)
    weights[0] = 4 * signed(seed + 1, 1, 4, 5)
    network, brings = summing(weights), (weights[0] * (photo - 0.5))[0]

    def area(heatmap: Tensor) -> float:
        case = case_of(network, photo, heatmap, asked=label(0, "prob"))
        return float(Insertion(perturbation="constant").measure(case)["area"])

    for i in range(5):
        assert area(-brings) - 1e-6 <= area(uniform(seed + 2 + i, 4, 5)) <= area(brings) + 1e-6


@few
@given(seeds, st.sampled_from(["constant", "blur", "noise"]))
def test_it_is_deletion_by_the_opposite_map_read_backwards(seed: int, kind: Any) -> None:
    weights, photo = 4 * signed(seed, 2, 1, *SIZE), uniform(seed + 1, 1, *SIZE)
    heatmap = torch.randperm(200, generator=torch.Generator().manual_seed(seed)).view(SIZE).float()
    network, asked = summing(weights), label(0, "prob")
    inserted = Insertion(perturbation=kind).measure(case_of(network, photo, heatmap, asked=asked))
    deleted = Deletion(perturbation=kind).measure(case_of(network, photo, -heatmap, asked=asked))
    np.testing.assert_allclose(inserted["curve"], deleted["curve"][::-1], atol=1e-6)
    assert inserted["area"] == pytest.approx(deleted["area"], abs=1e-6)
    assert inserted["photo"] == deleted["photo"]


def test_pixels_are_put_into_a_blurred_photo_unless_one_says() -> None:
    photo = uniform(0, 1, *SIZE)
    case = case_of(square(), photo, SQUARE, asked=label(0))
    found = Insertion().measure(case)
    assert found["curve"][0] == pytest.approx(float(case.scores(case.without("blur")[None])[0]), rel=1e-6)
    assert found["curve"][-1] == pytest.approx(case.score, rel=1e-6)
    assert Insertion().describe() == {"name": "insertion", "steps": 20, "perturbation": "blur"}


def test_a_photo_without_detail_has_nothing_to_be_inserted() -> None:
    """A white photo stays white when it is blurred: the curve is flat, whatever the map."""
    for heatmap in (SQUARE, -SQUARE, uniform(0, *SIZE)):
        found = measured(heatmap, Insertion())
        np.testing.assert_allclose(found["curve"], [answer(1)] * 21, atol=1e-6)
        assert relative(found) == pytest.approx(1, abs=1e-6)


def test_what_is_reported_of_insertion() -> None:
    perfect, inverted = measured(SQUARE), measured(-SQUARE)
    none = measured(SQUARE, gain=-6.0, asked=label(0))
    area, share = Insertion().quantities([perfect, None, none, inverted], ["a", "b", "a", "c"], 0)
    assert (area.name, area.better, area.notes) == ("area", "higher", ())
    assert area.values == [perfect["area"], None, none["area"], inverted["area"]]
    assert (share.name, share.better) == ("relative", "higher")
    assert share.values == [relative(perfect), None, None, relative(inverted)]
    assert len(share.notes) == 1 and share.notes[0].startswith("1 photos left out")
    assert perfect["area"] > inverted["area"] and relative(perfect) > relative(inverted)


@pytest.mark.parametrize("steps", [0, -1])
def test_insertion_takes_a_step(steps: int) -> None:
    with pytest.raises(RequestError, match="at least 1 step"):
        Insertion(steps)


def test_nothing_unknown_is_inserted_into() -> None:
    with pytest.raises(RequestError, match="blur, constant"):
        Insertion(perturbation="grey")  # type: ignore[arg-type]
