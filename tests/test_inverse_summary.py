"""Paper 1's experiments: numbers of a run made by hand against NumPy, and every criterion both ways."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import inverse_figures
import inverse_summary as ask
import ledger
from inverse_feature_visualization import EXPERIMENTS, Experiment, summed_up
from inverse_runs import Run, targets
from inverse_summary import Claim, InSpace, Measured
from preimage.recover import CriticalSpace

LOGITS = Run("by hand", "classifier", 10, "mean", 2, "rgb", 32, 40, 0)
COUNT = 40


def planted(trivial: Sequence[Tensor] = (), run: Run = LOGITS, noise: float = 0.01) -> dict[str, Any]:
    """A run as `made` returns it, whose Jacobians let what is trivial move nothing, and each target next to nothing."""
    generator = torch.Generator().manual_seed(0)
    features, parameters = run.features, 60
    kept: dict[str, list[Tensor]] = {name: [] for name in ("targets", "responses", "grams", "jacobians")}
    for _ in range(COUNT):
        target, response = (
            torch.rand(features, generator=generator, dtype=torch.float64) ** 4 + 0.01 for _ in range(2)
        )
        target = target / target.norm()
        # What never changes is constant, and as good as zero where weights decay; then x and Z x are projected alike.
        for direction in trivial:
            response = response - direction * (direction @ response)
        seen = shrunk(response, run.k) @ target
        basis = torch.linalg.qr(torch.stack([*trivial, seen], 1))[0]
        jacobian = torch.randn(features, parameters, generator=generator, dtype=torch.float64)
        jacobian = jacobian - basis @ (basis.mT @ jacobian)
        small = torch.randn(1, parameters, generator=generator, dtype=torch.float64)
        jacobian = jacobian + noise * basis[:, -1:] * small
        values = (target, response, jacobian @ jacobian.mT, jacobian)
        for name, value in zip(kept, values, strict=True):
            kept[name].append(value)
    random = torch.rand(COUNT, features, generator=generator, dtype=torch.float64)
    ssim = {f"ssim {name}": torch.rand(COUNT, generator=generator) for name in ask.AGAIN}
    scores = torch.tensor([1.0, 8.0, 10.0]).expand(COUNT, 3)
    stacked = {name: torch.stack(values) for name, values in kept.items()}
    return {**stacked, "random": random, **ssim, "scores": scores, "seconds": {"realisation": 1.0}}


def shrunk(response: Tensor, k: float) -> Tensor:
    return torch.eye(len(response), dtype=torch.float64) - k / (k + 1) * torch.outer(response, response) / (
        response @ response
    )


def degrees(a: np.ndarray, b: np.ndarray) -> float:
    cosine = abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)
    return math.degrees(math.acos(min(1.0, cosine)))


@pytest.mark.parametrize("k", [0, 2])
def test_angles_and_contributions_are_those_of_the_singular_vectors(k: int) -> None:
    run = replace(LOGITS, k=k)
    samples = planted(run=run, noise=0.5)
    one = ask.measured(run, samples)
    squares = []
    for i in range(COUNT):
        target, response = (samples[name][i].numpy() for name in ("targets", "responses"))
        left, sizes, _ = np.linalg.svd(shrunk(samples["responses"][i], k).numpy() @ samples["jacobians"][i].numpy())
        assert float(one.angles["predicted"][i]) == pytest.approx(degrees(target, left[:, -1]), abs=1e-5)
        assert float(one.angles["response"][i]) == pytest.approx(degrees(target, response), abs=1e-6)
        assert float(one.angles["random"][i]) == pytest.approx(degrees(target, samples["random"][i].numpy()), abs=1e-6)
        assert float(one.ratio[i]) == pytest.approx(sizes[-1] / sizes[-2], rel=1e-6)
        squares.append((left.T @ target)[::-1] ** 2)
    assert one.alpha.numpy() == pytest.approx(np.mean(squares, 0), abs=1e-9)
    assert float(one.alpha.sum()) == pytest.approx(1)
    assert one.gain.numpy() == pytest.approx(np.full(COUNT, 0.2))


def test_the_summary_has_numpys_quantiles_and_shares() -> None:
    samples = planted(noise=0.5)
    one = ask.measured(LOGITS, samples)
    told = ask.as_dict(one)
    angles = one.angles["predicted"].numpy()
    assert told["angles"]["predicted"]["median"] == pytest.approx(np.median(angles), abs=1e-4)
    assert told["angles"]["predicted"]["quartiles"] == pytest.approx(np.quantile(angles, (0.25, 0.75)), abs=1e-4)
    assert told["share_below_20"] == pytest.approx(np.mean(angles < 20), abs=1e-4)
    assert told["ssim"]["random"]["median"] == pytest.approx(np.median(samples["ssim random"].numpy()), abs=1e-4)
    assert told["unstable"] == pytest.approx(np.mean(samples["ssim target"].numpy() < 0.7), abs=1e-4)
    assert told["targets"] == COUNT
    json.dumps(told, allow_nan=False)


def test_medians_have_intervals_that_hold_them_and_shrink_with_more_values() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0))
    few, many = ask.spread(values[:20]), ask.spread(values)
    for told in (few, many):
        assert told["interval"][0] <= told["median"] <= told["interval"][1]
    assert np.diff(many["interval"]) < np.diff(few["interval"])
    assert ask.spread(torch.tensor([1.0, math.nan, 3.0]))["median"] == 2
    assert ask.spread(torch.empty(0)) == {"median": None, "of": 0}


def test_a_planted_co_kernel_spoils_everything_until_it_is_left_out() -> None:
    one = ask.measured(LOGITS, planted([ask.ones(10)]), with_spaces=True)
    assert float(one.angles["predicted"].quantile(0.5)) > 40
    space = one.of_dimension(9)
    assert space is not None
    assert space.complement_has(ask.ones(10)) > 0.999
    assert float(space.angles.max()) < 2
    assert float(space.projected.max()) < 2
    assert float(space.angles.max()) == pytest.approx(float(space.projected.max()), abs=0.1)
    assert one.spaces[one.chosen] is space
    # The part of the target that is left: what a projection on Z^-1 C keeps.
    samples = planted([ask.ones(10)])
    stretched = np.linalg.inv(shrunk(samples["responses"][0], 2).numpy()) @ space.space.basis.numpy()
    basis = np.linalg.qr(stretched)[0]
    target = samples["targets"][0].numpy()
    inside = basis @ (basis.T @ target)
    v, w = np.linalg.norm(inside), np.linalg.norm(target - inside)
    assert float(space.inside[0]) == pytest.approx(v / (v + w), abs=1e-9)
    for question in (ask.ones_are_left_out, ask.good_without_ones, ask.fails_in_everything, ask.second_is_significant):
        assert question([one])[0] is True
    assert ask.unseen_class_is_left_out([one])[0] is False
    assert ask.good_without_unseen([one])[0] is False


def test_two_planted_directions_are_two_dimensions_less() -> None:
    unseen = torch.zeros(10, dtype=torch.float64)
    unseen[4] = 1
    one = ask.measured(LOGITS, planted([ask.ones(10), unseen]), with_spaces=True)
    assert ask.unseen_class_is_left_out([one])[0] is True
    assert ask.good_without_unseen([one])[0] is True
    assert ask.third_is_significant([one])[0] is True
    assert ask.good_without_ones([one])[0] is False
    told = ask.numbers([one])
    assert told["8: complement"] == "(1, ..., 1): 1.000, e_4: 1.000"


def test_without_a_planted_direction_nothing_is_left_out_for_good() -> None:
    one = ask.measured(LOGITS, planted(), with_spaces=True)
    assert one.spaces[one.chosen].space.dimension == 10
    assert ask.ones_are_left_out([one])[0] is False
    assert ask.fails_in_everything([one])[0] is False
    assert ask.good_without_ones([one])[0] is False


def test_dead_features_are_listed() -> None:
    samples = planted()
    samples["grams"] = samples["grams"].clone()
    samples["grams"][:, 3] = 0
    samples["grams"][:, :, 3] = 0
    assert ask.as_dict(ask.measured(LOGITS, samples))["dead_features"] == [3]


def test_convergence_says_that_angles_rise_with_the_ratio() -> None:
    one = by_hand(predicted=torch.linspace(1, 80, 30), ratio=torch.linspace(0.01, 0.99, 30) ** 2)
    told = ask.convergence(one)["ratio of the smallest to the second singular value"]
    assert told["rank_correlation_with_angle"] == 1
    medians = [third["median_angle"] for third in told["thirds"]]
    assert medians == sorted(medians) and [third["of"] for third in told["thirds"]] == [10, 10, 10]
    assert medians[0] == pytest.approx(float(torch.linspace(1, 80, 30)[:10].quantile(0.5)), abs=1e-3)
    assert ask.convergence(one)["gain"]["rank_correlation_with_angle"] is None  # it is the same for all


# --- criteria ---------------------------------------------------------------------------------------------------------


def by_hand(
    features: int = 80, alpha: Sequence[float] = (0.97, 0.01, 0.01), count: int = 16, **values: Any
) -> Measured:
    """A run of which only what is given counts; SSIM by the names of `AGAIN`, angles as predicted= and response=."""

    def column(value: Any) -> Tensor:
        given = torch.as_tensor(value, dtype=torch.float64)
        return given.expand(length) if given.ndim == 0 else given

    predicted = torch.as_tensor(values.get("predicted", 5.0), dtype=torch.float64)
    length = len(predicted) if predicted.ndim else count
    contributions = torch.zeros(length, max(features, len(alpha)), dtype=torch.float64)
    contributions[:, : len(alpha)] = torch.tensor(alpha, dtype=torch.float64)
    ssim = {"target": 0.95, "predicted": 0.95, "response": 0.6, "random": 0.5} | values.get("ssim", {})
    return Measured(
        run=Run("by hand", "layer", features, "max-mean", 2, "rgb", 32, length, 0),
        angles={
            "predicted": column(predicted),
            "response": column(values.get("response", torch.linspace(20, 70, length))),
            "random": column(85.0),
        },
        contributions=contributions,
        ssim={name: column(value) for name, value in ssim.items()},
        ratio=column(values.get("ratio", 0.1)),
        gain=column(0.01),
        sparseness=column(0.5),
        seconds={"realisation": 1.0, "Jacobian": 1.0, "solution": 0.1, "one re-optimisation": 1.0},
    )


def in_space(one: Measured, **values: Any) -> Measured:
    """The same with a single critical space, in which angles, ssim and inside are as given."""
    whole = CriticalSpace.whole(10)
    filled = {"angles": 5.0, "response": 50.0, "projected": 5.0, "inside": 1.0, "ssim": 0.95} | values
    columns = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in filled.items()}
    count = len(one.gain)
    space = InSpace(
        space=whole, predicted=torch.zeros(count, 10), **{name: v.expand(count) for name, v in columns.items()}
    )
    return replace(one, spaces=[space], chosen=0)


def grid(*medians: float, response: float = 45.0, sizes: Sequence[int] = (32, 160, 342)) -> list[Measured]:
    return [by_hand(n, predicted=[m] * 16, response=response) for n, m in zip(sizes, medians, strict=True)]


HALVES = torch.tensor([1.0] * 8 + [0.0] * 8)
LOW_THEN_HIGH, HIGH_THEN_LOW = 0.5 + 0.45 * (1 - HALVES), 0.5 + 0.45 * HALVES
FAR_THEN_NEAR = 5 + 75 * HALVES

BOTH_WAYS: list[tuple[ask.Question, list[Measured], list[Measured]]] = [
    (ask.near_the_target, [by_hand(predicted=10.0)], [by_hand(predicted=16.0)]),
    (ask.near_the_target, [by_hand(predicted=[10.0] * 15 + [80.0])], [by_hand(predicted=[10.0] * 12 + [80.0] * 4)]),
    (ask.responses_are_far, [by_hand()], [by_hand(response=torch.linspace(60, 80, 16))]),
    (ask.responses_are_far, [by_hand()], [by_hand(predicted=torch.linspace(1, 89, 16))]),
    (ask.first_contribution_is_all, [by_hand()], [by_hand(alpha=(0.92, 0.06, 0.02))]),
    (ask.first_contribution_is_all, [by_hand()], [by_hand(alpha=(0.8, 0.04, 0.04))]),
    (ask.remains_optimal, [by_hand()], [by_hand(ssim={"predicted": 0.8})]),
    (ask.remains_optimal, [by_hand()], [by_hand(ssim={"predicted": [0.95] * 14 + [0.6] * 2})]),
    (ask.response_changes_more, [by_hand()], [by_hand(ssim={"response": 0.96})]),
    (ask.response_is_like_random, [by_hand(ssim={"random": 0.56})], [by_hand()]),
    (ask.below_one, [by_hand()], [by_hand(ssim={"target": 1.0})]),
    (
        ask.outliers_show,
        [by_hand(predicted=FAR_THEN_NEAR, ssim={"predicted": LOW_THEN_HIGH})],
        [by_hand(predicted=FAR_THEN_NEAR, ssim={"predicted": HIGH_THEN_LOW})],
    ),
    (ask.fails_in_everything, [by_hand(predicted=50.0)], [by_hand(predicted=30.0)]),
    (ask.second_is_significant, [by_hand(alpha=(0.5, 0.4, 0.1))], [by_hand(alpha=(0.5, 0.1, 0.4))]),
    (ask.second_is_significant, [by_hand(alpha=(0.5, 0.4, 0.1))], [by_hand(alpha=(0.9, 0.05, 0.01))]),
    (ask.third_is_significant, [by_hand(alpha=(0.5, 0.1, 0.4))], [by_hand(alpha=(0.5, 0.4, 0.1))]),
    (
        ask.bad_angles_have_low_ssim,
        [in_space(by_hand(), angles=FAR_THEN_NEAR, ssim=LOW_THEN_HIGH)],
        [in_space(by_hand(), angles=FAR_THEN_NEAR, ssim=HIGH_THEN_LOW)],
    ),
    (
        ask.unstable_are_not_recovered,
        [in_space(by_hand(ssim={"target": LOW_THEN_HIGH}), angles=FAR_THEN_NEAR)],
        [in_space(by_hand(ssim={"target": HIGH_THEN_LOW}), angles=FAR_THEN_NEAR)],
    ),
    (
        ask.accurate_but_changed_lie_outside,
        [in_space(by_hand(), ssim=LOW_THEN_HIGH, inside=LOW_THEN_HIGH)],
        [in_space(by_hand(), ssim=LOW_THEN_HIGH, inside=HIGH_THEN_LOW)],
    ),
    (
        ask.worse_without_cosine,
        [in_space(by_hand(), angles=30.0), in_space(by_hand(), angles=10.0)],
        [in_space(by_hand(), angles=10.0), in_space(by_hand(), angles=10.0)],
    ),
    (ask.better_than_response, grid(10, 30, 80), grid(10, 50, 80)),
    (ask.better_than_response, grid(10, 30, 80), grid(50, 30, 80)),
    (ask.ssim_of_160, grid(10, 30, 80), [by_hand(160, ssim={"predicted": [0.95] * 15 + [0.88]})]),
    (ask.degrades_with_features, grid(10, 30, 80), grid(10, 18, 12)),
    (ask.degrades_with_features, grid(10, 12, 80), grid(10, 80, 12)),
    (ask.perpendicular_above_288, grid(10, 30, 80), grid(10, 80, 60)),
    (ask.perpendicular_above_256, grid(10, 30, 80), grid(10, 80, 60)),
    (ask.slight_increase, grid(10, 12, 18), grid(5, 12, 18)),
    (ask.slight_increase, grid(10, 12, 18), grid(18, 19, 25)),
    (ask.close_to_perfect, [by_hand()], [by_hand(alpha=(0.8, 0.1, 0.1))]),
    (ask.not_meaningful, [by_hand(alpha=(0.4, 0.3, 0.3))], [by_hand()]),
    (ask.reliable, [by_hand()], [by_hand(predicted=10.0, response=8.0)]),
    (ask.reliable, [by_hand()], [by_hand(predicted=25.0)]),
    (
        ask.slightly_more,
        [by_hand(predicted=15.0), by_hand(predicted=6.0)],
        [by_hand(predicted=18.0), by_hand(predicted=6.0)],
    ),
    (
        ask.not_influenced,
        [by_hand(predicted=9.0), by_hand(predicted=6.0)],
        [by_hand(predicted=6.0), by_hand(predicted=12.0)],
    ),
    (ask.within_5, [by_hand(predicted=[4.0] * 15 + [5.0])], [by_hand(predicted=[4.0] * 15 + [5.1])]),
    (ask.below_20, [by_hand(predicted=19.9)], [by_hand(predicted=[4.0] * 15 + [20.0])]),
]


@pytest.mark.parametrize(("question", "right", "wrong"), BOTH_WAYS)
def test_a_criterion_can_be_met_and_missed(
    question: ask.Question, right: list[Measured], wrong: list[Measured]
) -> None:
    assert question(right)[0] is True
    assert question(wrong)[0] is False


def test_one_space_or_several() -> None:
    whole, less = CriticalSpace.whole(10), CriticalSpace.without(ask.ones(10)[:, None])
    first = in_space(by_hand(10))
    spaces = [replace(first.spaces[0], space=space) for space in (whole, less, less)]
    assert ask.only_one_space([replace(first, spaces=spaces[:2])])[0] is True
    assert ask.only_one_space([replace(first, spaces=spaces)])[0] is False
    assert ask.only_one_space([replace(first, spaces=[])])[0] is None


@pytest.mark.parametrize(
    ("question", "runs"),
    [
        (ask.outliers_show, [by_hand()]),
        (ask.bad_angles_have_low_ssim, [in_space(by_hand())]),
        (ask.bad_angles_have_low_ssim, [by_hand()]),
        (ask.unstable_are_not_recovered, [by_hand()]),
        (ask.accurate_but_changed_lie_outside, [in_space(by_hand())]),
        (ask.better_than_response, [by_hand(32)]),
        (ask.ssim_of_160, [by_hand(32)]),
        (ask.perpendicular_above_288, [by_hand(32)]),
        (ask.degrades_with_features, [by_hand(32), by_hand(64)]),
        (ask.slight_increase, [by_hand(32), by_hand(64)]),
        (ask.ones_are_left_out, [by_hand(10)]),
        (ask.good_without_ones, [by_hand(10)]),
    ],
)
def test_what_cannot_be_judged_is_undecided(question: ask.Question, runs: list[Measured]) -> None:
    assert question(runs)[0] is None


def test_every_claim_of_the_experiments_is_tried_both_ways_above() -> None:
    tried = {question for question, _, _ in BOTH_WAYS} | {
        ask.only_one_space,
        ask.ones_are_left_out,
        ask.unseen_class_is_left_out,
        ask.good_without_ones,
        ask.good_without_unseen,
    }
    claims = [claim for experiment in EXPERIMENTS.values() for claim in experiment.claims]
    assert {claim.question for claim in claims} == tried
    assert all(claim.criterion for claim in claims)


def test_a_claim_waits_for_what_it_compares_with() -> None:
    claim = Claim("No influence.", ask.not_influenced, by_hand().run)
    assert claim.answered([by_hand()])["holds"] is None
    assert claim.answered([by_hand()], by_hand())["holds"] is True
    assert claim.answered([], by_hand())["holds"] is None


# --- experiments ------------------------------------------------------------------------------------------------------


def test_experiments_are_the_rows_of_section_s4() -> None:
    assert list(EXPERIMENTS) == [f"E{n}" for n in range(1, 26)]
    without_cosine = {"E4", "E5", "E6", "E7", "E8", "E9", "E10", "E24", "E25"}
    for name, experiment in EXPERIMENTS.items():
        assert {run.k for run in experiment.runs} == ({0} if name in without_cosine else {2})
    assert EXPERIMENTS["E1"].runs == EXPERIMENTS["E19"].runs == EXPERIMENTS["E12"].runs[-1:]
    assert EXPERIMENTS["E16"].runs == EXPERIMENTS["E11"].runs[-1:]
    # Runs with one key share a folder, and so have to have the same targets.
    runs = [run for experiment in EXPERIMENTS.values() for run in experiment.runs]
    assert len({run.key for run in runs}) == len(set(runs))


def test_logits_have_all_canonical_targets_among_theirs() -> None:
    wanted = targets(EXPERIMENTS["E2"].runs[0])
    canonical = wanted[(wanted == 1).any(1)]
    assert len(wanted) == 58 and sorted(canonical.argmax(1).tolist()) == list(range(10))


def stand_in(experiment: Experiment, predicted: Callable[[Run], float]) -> list[Measured]:
    found = []
    for run in experiment.runs:
        one = replace(by_hand(run.features, predicted=[predicted(run)] * 16), run=run)
        if experiment.has_spaces:
            one = replace(one, spaces=in_space(one).spaces)
            one.seconds["a critical space"] = 0.1
        found.append(one)
    return found


def test_the_ledger_finds_all_that_it_asks_of_finished_experiments(tmp_path: Path) -> None:
    for name, experiment in EXPERIMENTS.items():
        others = [claim.beside for claim in experiment.claims if claim.beside is not None]
        beside = {run.key: replace(by_hand(run.features), run=run) for run in others}
        told = summed_up(name, experiment, stand_in(experiment, lambda run: 6.0), beside)
        assert told["not_run"] == []
        (tmp_path / f"inverse_{name}.json").write_text(json.dumps(told, allow_nan=False))
    asked = 0
    for table in (one for one in ledger.read() if one.id.startswith("ifv-")):
        for row, column in table.entries():
            if not row.none:
                ours = replace(table.ours[0], file=row.file or table.ours[0].file, unit=row.unit)
                assert ledger.look_up(ours, row.method, table.key(column), tmp_path) is not None, row.of
                asked += 1
    assert asked > 60


def test_the_ledger_waits_for_runs_that_are_missing(tmp_path: Path) -> None:
    name, experiment = "E6", EXPERIMENTS["E6"]
    told = summed_up(name, experiment, stand_in(experiment, lambda run: 6.0)[:1], {})
    assert len(told["not_run"]) == len(experiment.runs) - 1
    (tmp_path / "inverse_E6.json").write_text(json.dumps(told))
    ours = ledger.Ours(title="ours", file="inverse_E6", path=("numbers", "{row}"), unit="°")
    assert ledger.look_up(ours, "160: least SSIM", "number", tmp_path) is None
    found = ledger.look_up(ours, "32: angle to predicted", "number", tmp_path)
    assert str(found) == "6.0° (6.0 to 6.0)"
    (tmp_path / "inverse_E6.json").write_text(json.dumps(told | {"not_run": []}))
    ledger._content.cache_clear()
    with pytest.raises(ledger.LedgerError, match="ends at 160: least SSIM"):
        ledger.look_up(ours, "160: least SSIM", "number", tmp_path)


@pytest.mark.parametrize("name", ["E1", "E2", "E6"])
def test_figures_are_written(name: str, tmp_path: Path) -> None:
    runs = stand_in(EXPERIMENTS[name], lambda run: 10.0 + run.features / 10)
    written = inverse_figures.drawn(name, runs, tmp_path)
    assert written.name == f"inverse-{name}.png" and 5_000 < written.stat().st_size < 300_000
