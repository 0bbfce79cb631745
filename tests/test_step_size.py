"""The search for the step size that leads highest, on scores whose best one is known; optimizers given by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from peaks import GOAL, SIDE, STEEP, Convolutional, ascent, known, peak, peak_search, recipe
from preimage import Network, RequestError, maximize
from preimage.optimization import (
    LBFGS,
    Adam,
    Ascent,
    NormalisedAscent,
    Optimizer,
    Stage,
    search_step_size,
)
from preimage.optimization.step_size import OCTAVES, least_squares_slope
from preimage.parametrizations import Pixels

few = settings(max_examples=12, deadline=None)


def looks(steps: int) -> list[int]:
    return sorted({*range(5, steps + 1, 5), steps})


# --- the slope ----------------------------------------------------------------------------------------------------


@few
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40))
def test_the_slope_is_that_of_numpy(values: list[float]) -> None:
    expected = np.polyfit(np.arange(len(values)), values, 1)[0]
    assert least_squares_slope(values) == pytest.approx(expected, rel=1e-6, abs=1e-8)


@few
@given(st.floats(-10, 10), st.floats(-10, 10), st.integers(2, 30))
def test_the_slope_of_a_line_is_its_own(slope: float, first: float, count: int) -> None:
    values = [first + slope * i for i in range(count)]
    assert least_squares_slope(values) == pytest.approx(slope, rel=1e-9, abs=1e-9)


# --- the best one, where it is known ------------------------------------------------------------------------------


@pytest.mark.parametrize("best", [-2, -1, 0, 1, 3, 5])
@pytest.mark.parametrize("steps", [3, 10, 17, 30])
def test_the_best_step_size_is_found_within_the_range(best: int, steps: int) -> None:
    found = peak_search([Stage(steps, ascent(best))])
    assert found.factor == 2.0**best
    assert set(OCTAVES) <= {math.log2(trial.factor) for trial in found.trials}


@pytest.mark.parametrize(("best", "steps"), [(-2, 3), (-2, 12), (0, 5), (0, 20), (3, 12), (3, 27), (5, 31)])
def test_every_trial_is_the_run_that_it_stands_for(best: int, steps: int) -> None:
    """Every fifth step and at the last one the picture is asked; the activation is the mean of the last three."""
    for trial in peak_search([Stage(steps, ascent(best))]).trials:
        expected = [known(best, trial.factor, n) for n in looks(steps)]
        assert trial.trace == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert trial.activation == pytest.approx(sum(expected[-3:]) / len(expected[-3:]), rel=1e-3, abs=1e-5)
        assert (trial.steps, trial.ended) == (steps, "last step")


@pytest.mark.parametrize("best", [-9, -7, 6, 7, 9, 12, 13])
def test_where_the_best_lies_at_an_end_the_range_is_extended(best: int) -> None:
    # (below -7 all of the first 13 would leave the range of greys, so less is tried of them)
    found = peak_search([Stage(10, ascent(best))], octaves=range(-8, 7) if best < -7 else OCTAVES)
    assert found.factor == 2.0**best
    octaves = [math.log2(trial.factor) for trial in found.trials]
    assert octaves == list(range(int(octaves[0]), int(octaves[-1]) + 1))
    assert octaves[0] <= best <= octaves[-1]
    assert len(octaves) > len(OCTAVES)


@pytest.mark.parametrize("octaves", [(-1, 0, 1), (-0.5, 0.0, 0.5), (2.0, -3.0, 0.0)])
def test_other_octaves_may_be_tried_in_any_order(octaves: tuple[float, ...]) -> None:
    found = peak_search([Stage(5, ascent(0))], octaves=octaves)
    factors = [trial.factor for trial in found.trials]
    assert factors == sorted(factors)
    assert {2.0**octave for octave in octaves} <= set(factors)
    assert found.factor == 1.0


def test_all_stages_are_scaled_alike_and_their_steps_counted_together() -> None:
    parts = [Stage(4, ascent(2)), Stage(0, None), Stage(3, None), Stage(8, ascent(2))]
    one, whole = peak_search(parts), peak_search([Stage(15, ascent(2))])
    assert one.factor == whole.factor == 4.0
    for a, b in zip(one.trials, whole.trials, strict=True):
        assert a.trace == pytest.approx(b.trace, rel=1e-5, abs=1e-7)
        assert a.steps == b.steps == 15


# --- how trials end -----------------------------------------------------------------------------------------------


def converged_after(traces: list[list[float]], tolerance: float) -> list[int | None]:
    """After how many steps the slope over ten looks, by numpy, is at most the tolerance, or that share of the spread.

    traces: of every candidate, after every five steps. The spread is that of the present values, of one that has
    converged the value that it had then.
    """
    ended: list[int | None] = [None] * len(traces)
    for look in range(1, len(traces[0]) + 1):
        present = [trace[(end or 5 * look) // 5 - 1] for trace, end in zip(traces, ended, strict=True)]
        level = tolerance * min(1.0, max(present) - min(present))
        for i, trace in enumerate(traces):
            if ended[i] is None and look >= 10:
                slope = np.polyfit(np.arange(10) * 5, trace[look - 10 : look], 1)[0]
                ended[i] = 5 * look if abs(slope) <= level else None
    return ended


@pytest.mark.parametrize("tolerance", [1e-3, 1e-2])
@pytest.mark.parametrize("times", [1, 2, 16])
def test_a_trial_has_converged_when_ten_looks_lie_on_a_level_line(times: int, tolerance: float) -> None:
    """The closed form's scores span less than 1/8; 16 times as much is a spread of more than one."""
    network, asked = peak()
    stages, start = [Stage(200, Ascent(ascent(-1).step_size / times))], torch.zeros(1, SIDE, SIDE)
    found = search_step_size(
        network,
        (times * asked).bind(network),
        Pixels(1, SIDE, SIDE),
        start,
        stages,
        (SIDE, SIDE),
        0,
        octaves=range(-9, 1),
        tolerance=tolerance,
        drop_hopeless=False,
    )
    traces = [[times * known(-1, trial.factor, n) for n in looks(200)] for trial in found.trials]
    spread = max(max(trace) for trace in traces) - min(min(trace) for trace in traces)
    assert (spread > 1) == (times == 16)
    expected = converged_after(traces, tolerance)
    assert len(set(expected)) > 1
    for trial, end in zip(found.trials, expected, strict=True):
        assert (trial.steps, trial.ended) == ((200, "last step") if end is None else (end, "converged"))
    assert found.cost == pytest.approx(sum(trial.steps for trial in found.trials) / 200)


def test_with_a_tolerance_of_zero_only_what_stands_still_has_converged() -> None:
    found = peak_search([Stage(60, ascent(-1))], octaves=range(-6, 1), tolerance=0.0, drop_hopeless=False)
    still = [len(set(trial.trace[:10])) == 1 or len(set(trial.trace[-10:])) == 1 for trial in found.trials]
    assert [trial.ended for trial in found.trials] == ["converged" if one else "last step" for one in still]
    assert 0 < sum(still) < len(still)
    moving = [trial for trial, one in zip(found.trials, still, strict=True) if not one]
    assert {trial.steps for trial in moving} == {60}


@pytest.mark.parametrize("drop", [True, False])
def test_step_sizes_that_lead_to_infinity_are_dropped_and_the_rest_goes_on(drop: bool) -> None:
    """|1 - s c|^15 is more than float32 holds from 2^9 on."""
    found = peak_search([Stage(15, ascent(-3))], drop_hopeless=drop)
    lost = [trial for trial in found.trials if trial.ended == "not finite"]
    assert [trial.factor for trial in lost] == [64.0]
    assert math.isnan(lost[0].activation)
    assert found.factor == 0.125
    for trial in found.trials:
        if trial.factor < 64:
            expected = [known(-3, trial.factor, n) for n in (5, 10, 15)]
            assert trial.activation == pytest.approx(sum(expected) / 3, rel=1e-3, abs=1e-5)


def test_what_was_tried_is_said_in_json() -> None:
    found = peak_search([Stage(15, ascent(-3))])
    said = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert said == found.as_dict()
    assert (said["objective"], said["factor"]) == ("class:0", 0.125)
    assert said["cost"] == round(found.cost, 2)
    assert [row[0] for row in said["tried"]] == [trial.factor for trial in found.trials]
    assert [row[1] is None for row in said["tried"]] == [trial.ended == "not finite" for trial in found.trials]
    assert said["says"] == str(found)
    assert "0.125 times the recipe's step size" in str(found) and "\n" not in str(found)


# --- where there is none ------------------------------------------------------------------------------------------


class Deaf(nn.Module):
    """The same answer to every image."""

    def forward(self, images: Tensor) -> Tensor:
        return 0 * images.flatten(1)[:, :1] + 3


def test_a_constant_score_has_no_step_size() -> None:
    network = Network(Deaf(), SIDE, channels=1)
    for optimizer in (Ascent(0.1), Adam(0.1), NormalisedAscent(0.1)):
        with pytest.raises(
            RequestError, match="class:0 is 3 at every step size, as at the start: the image has no influence on it"
        ):
            maximize(network, "class:0", recipe=recipe(Stage(20, optimizer)), optimizer="auto")


@pytest.mark.parametrize("optimizer", [Ascent(0.01), NormalisedAscent(0.01)], ids=str)
def test_a_first_layer_has_no_best_step_size(optimizer: Optimizer) -> None:
    network = Network(Convolutional(), 8)
    with pytest.raises(
        RequestError, match=r"none larger was tried.* only grows with the image, as a first layer's"
    ) as caught:
        maximize(network, "0:2", recipe=recipe(Stage(60, optimizer)), optimizer="auto")
    assert "\n" not in str(caught.value)
    assert "0:2" in str(caught.value)


def test_a_best_step_size_beyond_all_that_are_tried_is_not_guessed() -> None:
    with pytest.raises(RequestError, match=r"16384 times .*none larger was tried"):
        peak_search([Stage(5, ascent(16))])


def test_steps_that_only_lead_away_have_no_best_size() -> None:
    """From next to the goal, steps of a given length lead away, the shorter the less."""
    network, asked = peak()
    start = torch.full((1, SIDE, SIDE), GOAL - 0.5 + 1e-6)
    stages = [Stage(5, NormalisedAscent(0.1))]
    with pytest.raises(
        RequestError, match="no step size that was tried brings the score of class:0 above that of the start"
    ):
        search_step_size(network, asked, Pixels(1, SIDE, SIDE), start, stages, (SIDE, SIDE), 0)


def test_step_sizes_that_are_all_far_too_large_are_followed_by_smaller_ones() -> None:
    """Every one of the thirteen ends with a white picture; that is a score alike, and not that of the grey start."""
    found = peak_search([Stage(4, ascent(-9))])
    white = -STEEP * (1 - GOAL) ** 2
    assert {trial.activation for trial in found.trials[-13:]} == {white}
    assert found.factor == 2.0**-9
    assert found.trials[0].factor < 2.0**-9


def test_a_network_that_is_never_finite() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :2] * math.nan

    with pytest.raises(RequestError, match="not finite at any of 13 step sizes"):
        maximize(Network(Broken(), SIDE), "class:1", recipe=recipe(Stage(5, Ascent(1.0))), optimizer="auto")


def test_recipes_that_find_step_lengths_by_themselves_are_refused_before_any_step() -> None:
    module, calls = Convolutional(), 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    module[0].register_forward_hook(count)
    with pytest.raises(RequestError, match=r"LBFGS.* finds the length of its steps by itself") as caught:
        maximize(Network(module, 8), "4:0", recipe="plain", optimizer="auto")
    assert "\n" not in str(caught.value)
    assert calls <= 4  # to see whether the network takes the size, and no climb of 800 steps
    with pytest.raises(RequestError, match="by itself"):
        peak_search([Stage(5, LBFGS())])
