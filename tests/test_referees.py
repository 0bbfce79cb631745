"""What stops some images of a batch while the others go on."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from climbs import CLASSES, SIDE, C, Linear, Smooth, asked, climbed, curved, linear, normal
from preimage import Network, NonFiniteScoreError
from preimage.objectives import EachItsOwn, label
from preimage.optimization import LBFGS, Adam, Ascent, Climb, Momentum, NormalisedAscent, Optimizer, Stage
from preimage.parametrizations import Pixels, SigmoidPixels

few = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 2**31)
MEMORY: list[Optimizer] = [Adam(0.1), Momentum(0.1, 0.8), Ascent(0.1, per_first_gradient=True)]


def stopping(at: dict[int, int], count: int) -> Callable[[Climb], Tensor]:
    """A referee that stops image i after `at[i]` steps."""

    def referee(reached: Climb) -> Tensor:
        done = len(reached.trace)
        return torch.tensor([done < at.get(i, math.inf) for i in range(count)])

    return referee


def close(one: Tensor, other: Tensor) -> None:
    """Equal up to the rounding that another batch gives."""
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", [*MEMORY, NormalisedAscent(0.1), LBFGS()], ids=str)
@few
@given(st.dictionaries(st.integers(0, 3), st.integers(1, 7), min_size=1, max_size=3), seeds)
def test_stopped_images_stay_and_the_others_go_on_as_if_nothing_had_happened(
    optimizer: Optimizer, at: dict[int, int], seed: int
) -> None:
    network, kind = curved(), SigmoidPixels(C, SIDE, SIDE)
    start, objective = normal(seed, 4), asked(network, 0, 1, 2, 0)

    def stages(steps: int) -> list[Stage]:
        first = Stage(min(steps, 3), optimizer, noise=0.01)
        return [first, Stage(max(steps - 3, 0), None, noise=0.01, smooth_solution=Smooth(0.25))]

    whole = climbed(network, objective, start, stages(6), kind=kind)
    judged = climbed(network, objective, start, stages(6), kind=kind, referee=stopping(at, 4))
    assert len(judged.trace) == 6
    for image in range(4):
        steps = min(at.get(image, 6), 6)
        free = climbed(network, objective, start, stages(steps), kind=kind)
        close(judged.parameters[image], free.parameters[image])
        close(torch.stack(judged.trace)[:steps, image], torch.stack(whole.trace)[:steps, image])
        assert torch.stack(judged.trace)[steps:, image].isnan().all()


@pytest.mark.parametrize("optimizer", MEMORY, ids=str)
def test_images_stopped_in_an_earlier_stage_stay_stopped_in_later_ones(optimizer: Optimizer) -> None:
    """Also where a later stage begins with an optimizer of its own; bytes of stopped images do not change."""
    network = curved()
    start, objective = normal(1, 3), asked(network, 0, 1, 2)
    stages = [Stage(3, optimizer), Stage(2, Adam(0.2)), Stage(2, None)]
    kept: list[Tensor] = []
    referee = stopping({1: 2}, 3)

    def watched(reached: Climb) -> Tensor:
        kept.append(reached.parameters[1].clone())
        return referee(reached)

    judged = climbed(network, objective, start, stages, referee=watched)
    free = climbed(network, objective, start, stages)
    close(judged.parameters[[0, 2]], free.parameters[[0, 2]])
    assert len(kept) == 7
    assert all(torch.equal(kept[1], later) for later in kept[1:])
    assert not torch.equal(kept[0], kept[1])
    assert torch.equal(judged.parameters[1], kept[1])


def test_one_that_was_stopped_stays_stopped_whatever_the_referee_says_later() -> None:
    network, rows = linear()
    start = normal(0, 2)

    def fickle(reached: Climb) -> Tensor:
        return torch.tensor([len(reached.trace) != 2, True])

    reached = climbed(network, asked(network, 0, 1), start, [Stage(5, Ascent(1.0))], referee=fickle)
    torch.testing.assert_close(reached.parameters, start + torch.stack([2 * rows[0], 5 * rows[1]]))
    assert torch.stack(reached.trace).isnan().tolist() == [[False, False]] * 2 + [[True, False]] * 3


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_the_climb_ends_when_all_are_stopped(steps: int) -> None:
    network, rows = linear()
    start, done = normal(0, 2), []
    stages = [Stage(3, Ascent(1.0)), Stage(7, None)]
    referee = stopping({0: 1, 1: steps}, 2)
    reached = climbed(network, asked(network, 0, 1), start, stages, referee=referee, on_step=lambda: done.append(1))
    assert len(reached.trace) == len(done) == steps
    assert not reached.interrupted
    torch.testing.assert_close(reached.parameters, start + torch.stack([rows[0], steps * rows[1]]))


def test_with_a_referee_scores_that_are_not_finite_are_its_affair() -> None:
    class Breaks(Linear):
        def forward(self, images: Tensor) -> Tensor:
            scores = super().forward(images)
            return torch.where(scores > 40, math.nan, scores)

    module = Breaks()
    network, rows = Network(module, SIDE, channels=C), module.weight.detach().view(CLASSES, C, SIDE, SIDE)
    objective = EachItsOwn((label(0).bind(network), -label(1).bind(network)))  # the second falls, and never breaks
    start, stages = torch.zeros(2, C, SIDE, SIDE), [Stage(20, Ascent(0.1))]

    def finite(reached: Climb) -> Tensor:
        return reached.trace[-1].isfinite()

    with pytest.raises(NonFiniteScoreError, match="class:0 became nan"):
        climbed(network, objective, start, stages)
    reached = climbed(network, objective, start, stages, referee=finite)
    trace = torch.stack(reached.trace)
    first, slope = (rows[0] / 2).sum(), 0.1 * rows[0].square().sum()
    lasts = math.floor((40 - first) / slope) + 1  # so many scores of class 0 are not above 40
    assert 1 < lasts < 19
    assert trace.isfinite().sum(0).tolist() == [lasts, 20]
    torch.testing.assert_close(trace[:lasts, 0], first + slope * torch.arange(lasts))
    torch.testing.assert_close(reached.parameters[1], -2 * rows[1])


def test_octaves_and_a_referee_together() -> None:
    """A stopped image is resampled like the others and does not move otherwise."""
    network = curved()
    start, objective = normal(0, 2, 8), asked(network, 0, 1)
    kind = Pixels(C, 8, 8)
    stages = [Stage(3, Ascent(4.0), scale=0.5), Stage(3, Ascent(4.0))]
    judged = climbed(network, objective, start, stages, kind=kind, referee=stopping({0: 2}, 2))
    free = climbed(network, objective, start, stages, kind=kind)
    still = [Stage(2, Ascent(4.0), scale=0.5), Stage(1, Ascent(0.0))]
    close(judged.parameters[1], free.parameters[1])
    close(judged.parameters[0], climbed(network, objective, start, still, kind=kind).parameters[0])
