"""What is left of an answer under three perturbations: closed forms on networks that add up pixels."""

from __future__ import annotations

import json

import pytest
import torch
from explained import case_of, notes, signed, summing, uniform, values
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage import Network, RequestError
from preimage.evaluation.representativeness import KINDS, THRESHOLDS, Representativeness, mean_curve

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
NAMES = [f"left under {kind}" for kind in KINDS]


def square() -> tuple[Network, Tensor, Tensor]:
    """A network that looks at a square only, a photo that is white there, and the heat map that says so."""
    inside = torch.zeros(16, 20)
    inside[4:9, 6:13] = 1
    photo = (0.2 * uniform(0, 3, 16, 20)) * (1 - inside) + inside
    return summing(inside.expand(3, 16, 20).clone()), photo, inside


def test_published_thresholds() -> None:
    """SPEC M17: 0:.05:.95."""
    assert [round(one, 2) for one in THRESHOLDS] == [round(0.05 * i, 2) for i in range(20)]


@pytest.mark.parametrize("scale", [1.0, 30.0, -5.0])
def test_a_perfect_map_takes_all_away_at_once(scale: float) -> None:
    """Also on another scale; turned round, it leaves everything."""
    network, photo, inside = square()
    raw = Representativeness().measure(case_of(network, photo, inside * scale + 7))
    for curve in raw["curves"].values():
        assert curve == pytest.approx([0.0 if scale > 0 else 1.0] * 20, abs=1e-6)
    share = 35 / 320 if scale > 0 else 285 / 320
    assert raw["deleted"] == pytest.approx([share] * 20)
    assert json.loads(json.dumps(raw)) == raw


@few
@given(seeds, st.integers(4, 12), st.integers(4, 12))
def test_curves_are_those_of_the_pixels_that_go(seed: int, height: int, width: int) -> None:
    """On a linear network each pixel takes its own part of the answer with it."""
    weights, photo = signed(seed, 3, height, width), uniform(seed + 1, 3, height, width)
    heatmap = signed(seed + 2, height, width)
    case = case_of(summing(weights), photo, heatmap, seed=seed)
    raw = Representativeness().measure(case)
    scaled = (heatmap.double() - heatmap.min()) / (heatmap.double().max() - heatmap.min())
    for kind in KINDS:
        effect = (weights.double() * (photo.double() - case.without(kind).double())).sum(0)
        if abs(float(effect.sum())) < 1e-3:
            continue
        if effect.sum() < 0:
            assert raw["curves"][kind] is None
            continue
        expected = [float(1 - effect[1 - scaled <= a].sum() / effect.sum()) for a in THRESHOLDS]
        assert raw["curves"][kind] == pytest.approx([min(max(one, 0), 1) for one in expected], abs=2e-3)
    assert raw["deleted"] == pytest.approx([float((1 - scaled <= a).double().mean()) for a in THRESHOLDS])
    assert raw["deleted"] == sorted(raw["deleted"])


def test_a_mask_goes_where_it_is_at_its_threshold_or_below() -> None:
    """Of a mask m the heat map is 1 - m."""
    mask = torch.tensor([0.0, 0.25, 0.5, 1.0]).repeat(4, 1)
    network, photo = summing(torch.ones(1, 4, 4)), torch.ones(1, 4, 4)
    raw = Representativeness((0.0, 0.2, 0.25, 0.5, 0.9)).measure(case_of(network, photo, 1 - mask))
    assert raw["curves"]["constant"] == pytest.approx([3 / 4, 3 / 4, 2 / 4, 1 / 4, 1 / 4])
    assert raw["deleted"] == [1 / 4, 1 / 4, 2 / 4, 3 / 4, 3 / 4]


def test_a_saturated_map_takes_nearly_everything_and_says_so() -> None:
    network, photo, _ = square()
    heatmap = torch.ones(16, 20)
    heatmap[0, 0] = 0
    found = values(Representativeness(), Representativeness().measure(case_of(network, photo, heatmap)))
    assert [found[name][0] for name in NAMES] == pytest.approx([0, 0, 0], abs=1e-6)
    assert found["deleted"] == [pytest.approx(319 / 320)]


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_constant_maps_do_not_count(value: float) -> None:
    network, photo, inside = square()
    measure = Representativeness()
    raws = [measure.measure(case_of(network, photo, h)) for h in (torch.full((16, 20), value), inside)]
    found = values(measure, *raws)
    assert [found[name][0] for name in (*NAMES, "deleted")] == [None] * 4
    assert [found[name][1] for name in NAMES] == pytest.approx([0, 0, 0], abs=1e-6)
    assert all(
        said == ("1 constant heat maps left out, which mark nothing",) for said in notes(measure, *raws).values()
    )


def test_answers_that_do_not_fall_do_not_count() -> None:
    """A dark photo is brightened by grey and noise; by blur, a photo of one colour is not changed at all."""
    network = summing(torch.ones(1, 8, 8))
    heatmap, measure = uniform(0, 8, 8), Representativeness()
    raw = measure.measure(case_of(network, torch.zeros(1, 8, 8), heatmap))
    assert raw["curves"] == {"blur": None, "constant": None, "noise": None}
    found = notes(measure, raw, None)
    assert found["left under blur"] == ("1 photos left out whose answer does not fall under blur",)
    assert found["left under noise"] == ("1 photos left out whose answer does not fall under noise",)
    assert found["deleted"] == ()
    assert values(measure, raw, None)["left under blur"] == [None, None]


def test_what_is_lower_is_better_and_one_number_for_each_case() -> None:
    network, photo, inside = square()
    measure = Representativeness((0.0, 0.5))
    raws = [measure.measure(case_of(network, photo, h)) for h in (inside, 1 - inside)]
    quantities = measure.quantities([raws[0], None, raws[1]], [""] * 3, 0)
    assert [(one.name, one.better) for one in quantities] == [*((name, "lower") for name in NAMES), ("deleted", None)]
    for one in quantities[:3]:
        assert one.values[1] is None
        assert [one.values[0], one.values[2]] == pytest.approx([0, 1], abs=1e-6)
    for kind in KINDS:
        assert mean_curve([raws[0], None, raws[1]], kind) == pytest.approx([0.5, 0.5], abs=1e-6)
    assert mean_curve([None], "blur") == []


def test_the_noise_is_the_case_s() -> None:
    network, photo = summing(torch.ones(1, 8, 8)), torch.ones(1, 8, 8)
    one, same, other = (
        Representativeness().measure(case_of(network, photo, uniform(1, 8, 8), seed=s, chunk=c))
        for s, c in ((0, 16), (0, 3), (1, 16))
    )
    for kind in KINDS:
        assert one["curves"][kind] == pytest.approx(same["curves"][kind], abs=1e-6)
    assert one["curves"]["noise"] != other["curves"]["noise"]
    assert one["curves"]["constant"] == other["curves"]["constant"]


def test_what_cannot_be_measured_is_said() -> None:
    network, photo, inside = square()
    for broken in (float("nan"), float("inf")):
        heatmap = inside.clone()
        heatmap[0, 0] = broken
        with pytest.raises(RequestError, match="not finite"):
            Representativeness().measure(case_of(network, photo, heatmap))
    for thresholds in ((), (1.0,), (-0.1,)):
        with pytest.raises(RequestError, match="thresholds of a mask lie in"):
            Representativeness(thresholds)
