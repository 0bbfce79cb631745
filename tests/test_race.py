"""The race of step sizes on networks whose best one nobody knows beforehand."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from peaks import SIDE, Convolutional, ascent, peak
from preimage import Network
from preimage.objectives import EachItsOwn, Objective, channel, in_sequence, label
from preimage.optimization import (
    Adam,
    Ascent,
    Momentum,
    NormalisedAscent,
    Optimizer,
    Scaled,
    Search,
    Stage,
    climb,
    plain_scores,
    search_step_size,
)
from preimage.optimization.step_size import OCTAVES
from preimage.parametrizations import Pixels
from preimage.priors import BlurAndDeblur, FallingBlur
from preimage.transforms import Jitter


def asked_of(seed: int) -> tuple[Network, Objective, Pixels, Tensor]:
    network, kind = Network(Convolutional(seed), 16), Pixels(3, 16, 16)
    start = kind.start(torch.Generator().manual_seed(seed))
    return network, (5 * channel("4", seed % 4)).bind(network), kind, start


def race_for(asked: Objective, network: Network, kind: Pixels, start: Tensor, drop: bool = True) -> Search:
    stages = [Stage(120, NormalisedAscent(0.005))]
    return search_step_size(network, asked, kind, start, stages, (16, 16), 0, drop_hopeless=drop)


@cache
def raced(seed: int, drop: bool = True) -> Search:
    network, asked, kind, start = asked_of(seed)
    return race_for(asked, network, kind, start, drop)


@pytest.mark.parametrize("optimizer", [NormalisedAscent(0.01), Adam(0.01), Momentum(0.01, 0.5)], ids=str)
def test_a_trial_in_the_race_is_the_same_as_the_run_alone(optimizer: Optimizer) -> None:
    """Under the same views and noise, whatever has been stopped beside it."""
    network, asked, kind, start = asked_of(1)
    stage = Stage(80, optimizer, transforms=(Jitter(2),), hold=3, noise=0.001)
    octaves = (-4, -2, 0, 2, 4)
    found = search_step_size(network, asked, kind, start, [stage], (16, 16), 5, octaves=octaves)
    assert len({trial.steps for trial in found.trials}) > 1, "some have to be stopped, or this shows little"
    for trial in found.trials:
        alone = climb(
            network,
            EachItsOwn((asked,)),
            kind,
            start[None],
            [replace(stage, optimizer=Scaled(optimizer, (trial.factor,)))],
            torch.Generator().manual_seed(5),
            noise=[torch.Generator().manual_seed(5)],
            snapshot_every=5,
        )
        pictures = torch.cat([image for _, image in alone.snapshots[: len(trial.trace)]])
        scores = plain_scores(network, EachItsOwn((asked,) * len(pictures)), pictures, (16, 16))
        assert trial.trace == pytest.approx(scores.tolist(), rel=1e-3, abs=1e-3)
        assert len(trial.trace) == trial.steps // 5


# (the eighth's answer grows with the image however large it is, as a first layer's does)
@pytest.mark.parametrize("seed", [0, 2, 4, 7, 9, 10])
def test_dropping_the_hopeless_costs_less_and_does_not_lose_the_winner(seed: int) -> None:
    hasty, patient = raced(seed), raced(seed, drop=False)
    reached = {trial.factor: trial.activation for trial in patient.trials}
    high, low = max(reached.values()), min(reached.values())
    assert reached[patient.factor] == high
    assert reached[hasty.factor] >= high - 0.03 * (high - low)
    assert hasty.cost <= patient.cost
    assert hasty.cost < len(OCTAVES)
    assert hasty.cost == pytest.approx(sum(trial.steps for trial in hasty.trials) / 120)


def test_the_winner_is_not_one_that_was_given_up() -> None:
    """Here 4 falls: it is dropped at 0.41 after 65 steps and would end at -0.21; 2 ends at 0.34."""
    found = raced(27)
    assert {trial.factor: trial.ended for trial in found.trials}[found.factor] != "hopeless"
    assert found.factor == 2.0


@pytest.mark.parametrize("seed", [4, 9, 10, 24, 27, 32])
def test_the_winner_is_the_best_of_those_that_were_not_given_up(seed: int) -> None:
    found = raced(seed)
    finished = {trial.factor: trial.activation for trial in found.trials if trial.ended in ("converged", "last step")}
    assert finished[found.factor] == max(finished.values())
    assert len(finished) < len(found.trials)


@pytest.mark.parametrize("octaves", [range(-6, 7), range(0, 13)])
def test_one_that_was_given_up_at_the_end_does_not_keep_the_range_open(octaves: range) -> None:
    """The same 13 step sizes, named otherwise. The largest is given up twice, falling, at first higher than the best
    one ends."""
    network, asked, kind, start = asked_of(24)
    stages = [Stage(120, NormalisedAscent(0.005 * 2.0 ** -(octaves[0] + 6)))]
    found = search_step_size(network, asked, kind, start, stages, (16, 16), 0, octaves=octaves)
    best = {trial.factor: trial for trial in found.trials}[found.factor]
    assert (found.trials[-1].ended, len(found.trials)) == ("hopeless", 13)
    assert max(found.trials[-1].trace) > best.activation > found.trials[-1].activation
    assert found.factor == 4.0 * 2.0 ** (octaves[0] + 6)


@pytest.mark.parametrize("seed", [1, 3, 7])
def test_the_race_does_not_depend_on_the_unit_of_a_small_score(seed: int) -> None:
    """Below a spread of one the tolerance is a share of the spread; powers of two leave no rounding."""
    network, asked, kind, start = asked_of(seed)
    one, other = (race_for((2.0**-power * asked).bind(network), network, kind, start) for power in (6, 16))
    assert max(trial.activation for trial in one.trials) - min(trial.activation for trial in one.trials) < 1
    assert one.factor == other.factor
    for a, b in zip(one.trials, other.trials, strict=True):
        assert (a.steps, a.ended, a.activation) == (b.steps, b.ended, 2.0**10 * b.activation)
    assert len({trial.ended for trial in one.trials}) > 1


class Breaks(nn.Module):
    """-(1.5 - mean)^2, with a gradient that is not a number where the mean is 1.2 or more."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))[:, None]
        return -(1.5 - mean).square() * torch.ones_like(mean).where(mean < 1.2, math.nan).detach()


@pytest.mark.parametrize("octaves", [(-2, 0), (-8, -2, 0)], ids=str)
@pytest.mark.parametrize(
    "drop",
    [
        False,
        True,
    ],
)
def test_where_the_leader_breaks_the_best_of_the_others_wins(octaves: tuple[float, ...], drop: bool) -> None:
    """The distance d to 1.5 shrinks from 1 by 0.0225 of itself a step, times the factor.

    1 shows a white picture after 31 of 60 steps and breaks after 53, at d = 0.3; 1/4 ends at d = 0.71, after 50 steps
    without any chance to be as high as white; of all others d stays above 0.9.
    """
    network, kind = Network(Breaks(), SIDE, channels=1), Pixels(1, SIDE, SIDE)
    found = search_step_size(
        network,
        label(0).bind(network),
        kind,
        torch.zeros(1, SIDE, SIDE),
        [Stage(60, Ascent(0.0225 / 2 * SIDE**2))],
        (SIDE, SIDE),
        0,
        octaves=octaves,
        drop_hopeless=drop,
    )
    ended = {trial.factor: (trial.ended, trial.steps) for trial in found.trials}
    assert ended[1.0] == ("not finite", 55)
    assert found.factor == 0.25


@pytest.mark.parametrize("batch_size", [1, 4, 13])
def test_the_race_in_parts_finds_the_same(batch_size: int) -> None:
    network, asked = peak()
    kind = Pixels(1, 4, 4, spread=0)
    start = kind.start(torch.Generator())
    whole, parts = (
        search_step_size(network, asked, kind, start, [Stage(30, ascent(-1))], (4, 4), 0, batch_size=size)
        for size in (None, batch_size)
    )
    assert parts.factor == whole.factor == 0.5
    assert [t.activation for t in parts.trials] == pytest.approx(
        [t.activation for t in whole.trials], abs=1e-6, nan_ok=True
    )


def test_nobody_is_judged_before_the_run_has_come_to_its_last_form() -> None:
    """By their stages, their schedules and their sequences, runs change until then."""
    network, asked, kind, start = asked_of(1)
    normalised = NormalisedAscent(0.01)
    plain = Stage(100, normalised)
    changing = {
        150: (Stage(100, normalised, scale=0.5), plain),
        100: (replace(plain, smooth_solution=FallingBlur(2.0, 0.5)),),
        # Sigma comes to its floor, half of where it began, after half of the fall to a quarter.
        99: (replace(plain, smooth_solution=BlurAndDeblur(first=1.0, last=0.5, fall=0.25)),),
    }
    for least, stages in changing.items():
        found = search_step_size(network, asked, kind, start, stages, (16, 16), 0)
        assert min(trial.steps for trial in found.trials) >= least
    both = in_sequence([channel("0", 1), asked.terms[0][1]], [1, 1]).bind(network)  # type: ignore[attr-defined]
    found = search_step_size(network, both, kind, start, [Stage(200, normalised)], (16, 16), 0)
    assert min(trial.steps for trial in found.trials) >= 150
    assert min(t.steps for t in search_step_size(network, asked, kind, start, [plain], (16, 16), 0).trials) < 99
