"""What a stage can do beyond one setting of the rule: held views, octaves, schedules, sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from climbs import SIDE, C, Curved, Smooth, asked, climbed, curved, linear, normal
from preimage import Network, Place, Recipe, RequestError, maximize
from preimage.objectives import Channel, EachItsOwn, Objective, in_sequence, label
from preimage.optimization import LBFGS, Adam, Ascent, Climb, NormalisedAscent, Optimizer, Stage
from preimage.parametrizations import Fourier, Parametrization, Pixels, SigmoidPixels
from preimage.priors import L2, Every, FallingBlur, Kernel, Regularizer, Schedule, Sobolev, TotalVariation
from preimage.recipes import under_scheme
from preimage.transforms import Transform, View

few = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 2**31)


@dataclass(eq=False)
class Recording(Transform):
    """Adds one random number to the images, and remembers which numbers were drawn and which were seen."""

    drawn: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)
    sizes: list[tuple[int, ...]] = field(default_factory=list)

    def draw(self, generator: torch.Generator) -> View:
        number = float(torch.rand((), generator=generator))
        self.drawn.append(number)

        def view(images: Tensor) -> Tensor:
            self.seen.append(number)
            self.sizes.append(tuple(images.shape[2:]))
            return images + number

        return view


@dataclass
class Planned(Schedule):
    """The kernels of some steps, by number; remembers what it was asked."""

    kernels: dict[int, Kernel]
    asked: list[tuple[int, int]] = field(default_factory=list)

    def at(self, step: int, steps: int) -> Kernel | None:
        self.asked.append((step, steps))
        return self.kernels.get(step)


# --- hold ---------------------------------------------------------------------------------------------------------


@few
@given(st.integers(1, 12), st.integers(1, 15))
def test_a_view_is_drawn_anew_after_every_so_many_steps_and_no_sooner(hold: int, steps: int) -> None:
    network, _ = linear()
    look = Recording()
    climbed(network, asked(network, 0), normal(0, 1), [Stage(steps, Ascent(0.1), transforms=(look,), hold=hold)])
    assert len(look.drawn) == math.ceil(steps / hold)
    assert look.seen == [look.drawn[step // hold] for step in range(steps)]
    assert len(set(look.drawn)) == len(look.drawn)


def test_every_stage_begins_with_a_view_of_its_own() -> None:
    network, _ = linear()
    look = Recording()
    stages = [
        Stage(5, Ascent(0.1), transforms=(look,), hold=3),
        Stage(4, None, transforms=(look,)),
        Stage(3, None, transforms=(look,), hold=99),
    ]
    climbed(network, asked(network, 0), normal(0, 1), stages)
    a, b, *each, last = look.drawn
    assert len(each) == 4
    assert look.seen == [a, a, a, b, b, *each, last, last, last]


def test_a_line_search_looks_at_the_view_that_is_held() -> None:
    network, _ = linear()
    look = Recording()
    kind = SigmoidPixels(C, SIDE, SIDE)
    climbed(network, asked(network, 0), normal(0, 1), [Stage(6, LBFGS(), transforms=(look,), hold=2)], kind=kind)
    assert len(look.drawn) == 3
    assert len(look.seen) >= 6
    order = [look.drawn.index(number) for number in look.seen]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2}


@pytest.mark.parametrize("hold", [0, -1])
def test_a_view_is_held_for_at_least_one_step(hold: int) -> None:
    with pytest.raises(RequestError, match=f"at least one step, not {hold}"):
        Stage(3, Ascent(0.1), hold=hold)


# --- scale --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Pixels, SigmoidPixels, Fourier])
@pytest.mark.parametrize("scales", [(0.5, 1.0), (0.25, 0.5, 0.75, 1.0), (1.0, 0.5), (1.5, 1.0)])
def test_each_stage_sees_the_picture_at_its_scale(kind: type[Parametrization], scales: tuple[float, ...]) -> None:
    network, look = curved(), Recording()
    whole = kind(C, 8, 12)
    start = torch.stack([whole.start(torch.Generator().manual_seed(i)) for i in range(2)])
    stages = [Stage(2, Ascent(0.1), transforms=(look,), scale=scale) for scale in scales]
    reached = climbed(network, asked(network, 0, 1), start, stages, kind=whole, snapshot_every=1)
    assert look.sizes == [(round(8 * scale), round(12 * scale)) for scale in scales for _ in range(2)]
    last = (round(8 * scales[-1]), round(12 * scales[-1]))
    assert reached.parameters.shape == (2, *whole.resized(*last).shape)
    assert reached.pictures().shape == reached.images().shape == (2, C, *last)
    assert [image.shape for _, image in reached.snapshots] == [(2, C, 8, 12)] * 2 * len(scales)


@pytest.mark.parametrize("value", [0.125, 0.8])
def test_resampling_keeps_a_flat_picture_and_its_mean(value: float) -> None:
    start = torch.full((1, C, SIDE, SIDE), value - 0.5)
    stages = [Stage(1, Ascent(0.0), scale=scale) for scale in (0.5, 1.5, 1 / 3, 1.0)]
    reached = climbed(curved(), asked(curved(), 0), start, stages)
    torch.testing.assert_close(reached.images(), torch.full((1, C, SIDE, SIDE), value))


def test_halving_is_pillow_s_resampling_and_the_climb_goes_on_from_there() -> None:
    """Antialiased and bilinear; then a step of known length at the small size."""
    network = curved()
    start = normal(3, 1, 8) / 8
    kind = Pixels(C, 8, 8)
    reached = climbed(network, asked(network, 0), start, [Stage(1, Ascent(0.0), scale=0.5)], kind=kind)
    for channel in range(C):
        floats = Image.fromarray((start[0, channel] + 0.5).numpy())
        small = torch.from_numpy(np.array(floats.resize((4, 4), Image.Resampling.BILINEAR)))
        torch.testing.assert_close(reached.images()[0, channel], small, rtol=1e-5, atol=1e-5)
    moved = climbed(network, asked(network, 1), start, [Stage(1, Ascent(4.0), scale=0.5)], kind=kind).images()
    before = reached.images()
    slope = Curved().weight.detach()[1].view(1, C, 1, 1) * (1 - before.tanh().square()) / 16
    torch.testing.assert_close(moved, before + 4 * slope)


def test_a_stage_of_another_size_needs_an_optimizer_of_its_own() -> None:
    network, steps = curved(), []
    stages = [Stage(2, Adam(0.1), scale=0.5), Stage(2, None)]
    with pytest.raises(RequestError, match="another size needs an optimizer of its own"):
        climbed(network, asked(network, 0), normal(0, 1), stages, on_step=lambda: steps.append(1))
    same_size = [Stage(2, Adam(0.1), scale=0.5), Stage(2, None, scale=0.51)]  # both are 3 x 3 pixels
    assert climbed(network, asked(network, 0), normal(0, 1), same_size).parameters.shape[2:] == (3, 3)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_a_scale_lies_above_zero(scale: float) -> None:
    with pytest.raises(RequestError, match="scale lies above zero"):
        Stage(1, Ascent(0.1), scale=scale)


# --- schedules ----------------------------------------------------------------------------------------------------


@few
@given(
    seeds,
    st.integers(1, 8),
    st.dictionaries(st.integers(0, 7), st.floats(0, 1), max_size=4),
    st.dictionaries(st.integers(0, 7), st.floats(0, 1), max_size=4),
)
def test_schedules_act_in_their_steps_and_in_no_other(
    seed: int, steps: int, elastic: dict[int, float], fluid: dict[int, float]
) -> None:
    """K_f on the gradient, K_e on what the step led to: v <- K_e(t) * [v + s K_f(t) * g], by hand."""
    network, rows = linear(seed)
    start = normal(seed + 1, 1)
    on_solution = Planned({step: Smooth(share) for step, share in elastic.items()})
    on_update = Planned({step: Smooth(share) for step, share in fluid.items()})
    stage = Stage(steps, Ascent(0.5), smooth_solution=on_solution, smooth_update=on_update)
    reached = climbed(network, asked(network, 2), start, [stage])
    v = start
    for step in range(steps):
        gradient = Smooth(fluid[step])(rows[2:]) if step in fluid else rows[2:]
        v = v + 0.5 * gradient
        v = Smooth(elastic[step])(v) if step in elastic else v
    torch.testing.assert_close(reached.parameters, v, rtol=1e-5, atol=1e-5)
    assert on_solution.asked == on_update.asked == [(step, steps) for step in range(steps)]


@few
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 7))
def test_every_so_many_steps(period: int, first: int, more: int) -> None:
    """After step `first` (from 1), and then after every `period` steps."""
    network, rows = linear()
    steps = first + more
    stage = Stage(steps, Ascent(1.0), smooth_solution=Every(Smooth(0.5), period, first))
    v = start = normal(1, 1)
    for number in range(1, steps + 1):
        v = v + rows[:1]
        if number in range(first, steps + 1, period):
            v = Smooth(0.5)(v)
    torch.testing.assert_close(climbed(network, asked(network, 0), start, [stage]).parameters, v)


def test_a_schedule_counts_the_steps_of_its_own_stage() -> None:
    network, _ = linear()
    one, other = Planned({}), Planned({})
    stages = [Stage(2, Ascent(0.1), smooth_solution=one), Stage(0, None), Stage(3, None, smooth_solution=other)]
    climbed(network, asked(network, 0), normal(0, 1), stages)
    assert one.asked == [(0, 2), (1, 2)]
    assert other.asked == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize("place", ["smooth_solution", "smooth_update"])
@pytest.mark.parametrize("steps", [1, 6])
def test_a_schedule_that_never_fires_is_refused_before_any_step(place: str, steps: int) -> None:
    network, _ = linear()
    look, done = Recording(), []
    late: dict[str, Any] = {place: Every(Smooth(0.5), 2, 7)}
    stages = [Stage(5, Ascent(0.1), transforms=(look,)), Stage(steps, None, **late)]
    with pytest.raises(RequestError, match=rf"after step 7 .* in {steps} steps it never happens.* at least 7 steps$"):
        climbed(network, asked(network, 0), normal(0, 1), stages, on_step=lambda: done.append(1))
    assert done == look.drawn == look.seen == []
    fires = [Stage(5, Ascent(0.1)), Stage(7, None, **late)]
    climbed(network, asked(network, 0), normal(0, 1), fires, on_step=lambda: done.append(1))
    assert len(done) == 12


def test_a_blur_that_narrows_goes_from_its_first_width_to_its_last() -> None:
    """Of a point, at a step size of zero: variances of Gaussians add up."""
    side, steps = 41, 4
    network = Network(Curved(), side, channels=C)
    start = torch.zeros(1, C, side, side)
    start[:, :, side // 2, side // 2] = 1.0
    stage = Stage(steps, Ascent(0.0), smooth_solution=FallingBlur(2.0, 0.8))
    blurred = climbed(network, asked(network, 0), start, [stage], kind=Pixels(C, side, side)).parameters[0, 0]
    at = torch.arange(side) - side // 2
    # The widths are 2.0, 1.6, 1.2 and 0.8; a Gaussian cut off at three of them keeps 97 % of its variance or more.
    whole = 2.0**2 + 1.6**2 + 1.2**2 + 0.8**2
    assert 0.97 * whole < float((blurred.sum(0) * at.square()).sum()) < whole
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-5)


# --- one thing first, another afterwards --------------------------------------------------------------------------


@few
@given(st.integers(7, 20), st.integers(1, 6), st.integers(1, 6))
def test_a_sequence_asks_each_for_its_share_of_the_steps(steps: int, first: int, second: int) -> None:
    """Known rows: the climb is n rows of the first and the rest of the second, n its share up to rounding."""
    network, rows = linear()
    both = in_sequence([label(0), label(1)], [first, second]).bind(network)
    start = torch.zeros(1, C, SIDE, SIDE)
    v = climbed(network, EachItsOwn((both,)), start, [Stage(steps, Ascent(1.0))]).parameters.flatten()
    counts = torch.linalg.lstsq(rows[:2].flatten(1).T, v[:, None]).solution[:, 0]
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-3)
    assert counts.sum().round() == steps
    assert abs(counts[0] - steps * first / (first + second)) < 1.001


@pytest.mark.parametrize(("shares", "counts"), [(None, [5, 5]), ([1, 4], [2, 8]), ([9, 1], [9, 1])])
def test_shares_of_whole_steps_are_exact(shares: list[float] | None, counts: list[int]) -> None:
    network, rows = linear()
    both = in_sequence([label(2), label(0)], shares).bind(network)
    start = normal(0, 1)
    stages = [Stage(4, Ascent(1.0)), Stage(6, None)]  # shares are of all stages together
    reached = climbed(network, EachItsOwn((both,)), start, stages)
    torch.testing.assert_close(reached.parameters, start + counts[0] * rows[2:] + counts[1] * rows[:1])
    trace = torch.stack(reached.trace)[:, 0]
    images = [start + 0.5 + min(n, counts[0]) * rows[2:] + max(n - counts[0], 0) * rows[:1] for n in range(10)]
    expected = [(image * rows[2 if n < counts[0] else 0]).sum() for n, image in enumerate(images)]
    torch.testing.assert_close(trace, torch.stack(expected), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("first", "second"), [(13, 10), (15, 7), (31, 8)])
def test_whole_shares_of_as_many_steps_are_exact_too(first: int, second: int) -> None:
    both = in_sequence([label(2), label(0)], [first, second])
    steps = first + second
    assert [both.at(n / steps) is both.members[0] for n in range(steps)] == [True] * first + [False] * second


def test_sequences_in_a_batch_change_each_in_its_own_time() -> None:
    network, rows = linear()
    members: list[Objective] = [
        in_sequence([label(0), label(1)], [1, 3]),
        label(2),
        in_sequence([label(1), label(2), label(0)], [1, 1, 2]),
        2 * in_sequence([label(0), label(2)]) - label(1),
    ]
    objective = EachItsOwn(tuple(member.bind(network) for member in members))
    start = normal(0, 4)
    a, b, c = rows
    moved = torch.stack([2 * a + 6 * b, 8 * c, 2 * b + 2 * c + 4 * a, 8 * (a + c) - 8 * b])
    reached = climbed(network, objective, start, [Stage(8, Ascent(1.0))])
    torch.testing.assert_close(reached.parameters, start + moved, rtol=1e-5, atol=1e-5)


def test_the_score_of_a_picture_is_that_of_the_last_in_the_sequence() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(C, 3, 1), nn.Conv2d(3, 2, 1))
    network = Network(module, SIDE, channels=C)

    def pixels(channels: int, height: int, width: int, colours: Tensor | None) -> Pixels:
        return Pixels(channels, height, width)

    recipe = Recipe("mine", "here", "", pixels, (Stage(6, Ascent(1.0)),))
    both = in_sequence([Channel(Place("0"), 1), Channel(Place("1"), 0)], [2, 1])
    result = maximize(network, both, recipe=recipe)
    with torch.no_grad():
        torch.testing.assert_close(result.scores, module(result.images)[:, 0].mean((1, 2)))
    # What was climbed: four steps along the first layer's row, two along the product of both layers'.
    first = module[0].weight.detach()[1].flatten()
    second = (module[1].weight.detach()[0].flatten() @ module[0].weight.detach().flatten(1)).flatten()
    start = maximize(network, both, recipe=Recipe("mine", "here", "", pixels, (Stage(3, Ascent(0.0)),))).images
    moved = (result.images - start).mean((0, 2, 3))
    torch.testing.assert_close(moved, (4 * first + 2 * second) / SIDE**2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("members", "shares"),
    [([], None), ([label(0)], [1, 2]), ([label(0), label(1)], [1]), ([label(0), label(1)], [1, 0])],
)
def test_a_sequence_needs_a_share_for_each(members: list[Objective], shares: list[float] | None) -> None:
    with pytest.raises(RequestError, match="one share above zero for each"):
        in_sequence(members, shares)


@pytest.mark.parametrize("steps", [2, 3])
def test_one_that_never_gets_its_turn_is_refused_before_any_step(steps: int) -> None:
    network, done = curved(), []
    late = in_sequence([label(0), label(1)], [9, 1]).bind(network)
    with pytest.raises(RequestError, match=rf"in {steps} steps class:1 would never be asked; ask for more steps"):
        climbed(
            network,
            EachItsOwn((late,)),
            normal(0, 1),
            [Stage(steps, Ascent(0.1))],
            on_step=lambda: done.append(1),
        )
    assert not done


@pytest.mark.parametrize("pressed", [1, 3])
def test_ctrl_c_in_an_octave_leaves_the_picture_at_its_final_size(pressed: int) -> None:
    """Pressed in the first stage or the second, of three."""
    steps: list[int] = []

    def press() -> None:
        steps.append(1)
        if len(steps) == pressed:
            raise KeyboardInterrupt

    stages = [Stage(2, Ascent(0.1), scale=scale) for scale in (0.25, 0.5, 1.0)]
    kind = Pixels(C, 8, 8)
    reached = climbed(curved(), asked(curved(), 0), normal(0, 1, 8), stages, kind=kind, on_step=press)
    assert reached.interrupted and len(reached.trace) == pressed
    assert reached.pictures().shape == (1, C, 8, 8)
    assert reached.parametrization == kind


# --- weights in units of the score's gradient ---------------------------------------------------------------------


@dataclass(frozen=True)
class Tilt(Regularizer):
    """Sum of the pixels: its gradient is 1 everywhere, so that a step shows its weight."""

    def energy(self, images: Tensor) -> Tensor:
        return images.flatten(1).sum(1)


@dataclass(frozen=True)
class Contrast(Transform):
    """Images with so many times their values."""

    times: float

    def draw(self, generator: torch.Generator) -> View:
        return lambda images: self.times * images


def held(steps: int, optimizer: Optimizer | None, weight: float, **more: Any) -> Stage:
    return Stage(steps, optimizer, regularizers=(Tilt(weight),), weights_per_gradient=True, **more)


@few
@given(seeds, st.floats(0.01, 10))
def test_a_weight_counts_mean_gradients_of_each_image(seed: int, weight: float) -> None:
    """Of a linear network the gradient of class k is row k: v + n (row - weight * mean |row|)."""
    network, rows = linear(seed)
    start = normal(seed, 4)
    classes = torch.tensor([0, 1, 2, 0])
    reached = climbed(network, asked(network, 0, 1, 2, 0), start, [held(3, Ascent(0.1), weight)])
    unit = rows.abs().mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(
        reached.parameters, start + 0.3 * (rows - weight * unit)[classes], rtol=1e-4, atol=1e-4 * (1 + weight)
    )


@few
@given(seeds, st.floats(0.1, 5), st.floats(0.5, 4))
def test_the_unit_is_of_pixels_whatever_the_parameters_and_of_the_view(seed: int, weight: float, times: float) -> None:
    """Sigmoid pixels, seen with more contrast: the gradient by pixels is `times` the row."""
    network, rows = linear(seed)
    start = normal(seed, 1)
    stage = held(1, Ascent(0.5), weight, transforms=(Contrast(times),))
    kind = SigmoidPixels(C, SIDE, SIDE)
    reached = climbed(network, asked(network, 1), start, [stage], kind=kind).parameters
    pixels = start.sigmoid()
    by_pixels = times * (rows[1:2] - weight * rows[1].abs().mean())
    torch.testing.assert_close(reached, start + 0.5 * by_pixels * pixels * (1 - pixels), rtol=1e-4, atol=1e-4)


def curved_slope(v: Tensor, index: int) -> Tensor:
    """Of class `index` of `Curved` by the pixels v + 1/2."""
    weight = Curved().weight.detach()[index].view(1, C, 1, 1)
    return weight * (1 - (v + 0.5).tanh().square()) / SIDE**2


@few
@given(seeds, st.integers(1, 4), st.integers(1, 4), st.booleans(), st.floats(0.1, 2))
def test_each_stage_measures_once_at_its_start(seed: int, first: int, second: int, fresh: bool, weight: float) -> None:
    """By hand; also where a stage goes on with the optimizer before, and around one that measures nothing."""
    network = curved()
    step = 20.0
    plain = Stage(2, None, regularizers=(Tilt(0.01),))
    stages = [
        held(first, Ascent(step), weight),
        plain,
        held(second, Ascent(step) if fresh else None, weight),
    ]
    v = start = normal(seed, 1)
    for stage in stages:
        unit = curved_slope(v, 1).abs().mean() * weight if stage.weights_per_gradient else 0.01
        for _ in range(stage.steps):
            v = v + step * (curved_slope(v, 1) - unit)
    reached = climbed(network, asked(network, 1), start, stages)
    torch.testing.assert_close(reached.parameters, v, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("optimizer", [NormalisedAscent(0.05), Ascent(0.05, per_first_gradient=True)], ids=str)
@given(seed=seeds, power=st.integers(-40, 40))
@few
def test_no_factor_on_the_objective_changes_the_path(optimizer: Optimizer, seed: int, power: int) -> None:
    """Under the total variation; powers of two round alike, so the path is the same to the last bit."""
    network, _ = linear(seed)
    start = normal(seed, 2)
    stage = under_scheme(Stage(6, optimizer), "tv", Sobolev(5))
    plain, scaled = (
        climbed(
            network,
            EachItsOwn(tuple((factor * label(k)).bind(network) for k in (0, 2))),
            start,
            [stage, replace(stage, optimizer=None)],
            snapshot_every=1,
        )
        for factor in (1.0, 2.0**power)
    )
    assert len(plain.snapshots) == 12
    assert torch.equal(plain.parameters, scaled.parameters)
    for (_, one), (_, other) in zip(plain.snapshots, scaled.snapshots, strict=True):
        assert torch.equal(one, other)


@few
@given(seeds, st.floats(-6, 6))
def test_any_factor_leaves_the_path_but_for_rounding(seed: int, power: float) -> None:
    network, _ = linear(seed)
    start = normal(seed, 1)
    for optimizer in (NormalisedAscent(0.05), Ascent(0.05, per_first_gradient=True)):
        stage = Stage(4, optimizer, regularizers=(TotalVariation(0.3, beta=2),), weights_per_gradient=True)
        plain, scaled = (
            climbed(network, EachItsOwn(((factor * label(1)).bind(network),)), start, [stage]).parameters
            for factor in (1.0, 10**power)
        )
        torch.testing.assert_close(plain, scaled, rtol=1e-3, atol=1e-4)


def test_without_units_a_factor_on_the_objective_changes_the_path() -> None:
    network, _ = linear()
    stage = Stage(4, NormalisedAscent(0.05), regularizers=(TotalVariation(0.3),))
    plain, scaled = (
        climbed(network, EachItsOwn(((factor * label(1)).bind(network),)), normal(0, 1), [stage]).parameters
        for factor in (1.0, 100.0)
    )
    assert (plain - scaled).abs().max() > 0.01


def test_units_go_with_their_images_when_others_are_stopped() -> None:
    network, rows = linear()
    start = normal(0, 3)
    done: list[int] = []

    def referee(reached: Climb) -> Tensor:
        done.append(1)
        return torch.tensor([len(done) < 2, True, len(done) < 4])

    stages = [held(3, Ascent(0.1), 2.0), held(3, None, 1.0)]
    reached = climbed(network, asked(network, 0, 1, 2), start, stages, referee=referee).parameters
    unit = rows.abs().mean((1, 2, 3), keepdim=True)
    strong, weak = rows - 2 * unit, rows - unit
    counts = torch.tensor([[2, 0], [3, 3], [3, 1]]).view(3, 2, 1, 1, 1)
    expected = start + 0.1 * (counts[:, 0] * strong + counts[:, 1] * weak)
    torch.testing.assert_close(reached, expected, rtol=1e-4, atol=1e-4)


def test_where_a_score_has_no_slope_nothing_weighs() -> None:
    network, _ = linear()
    flat = (0.0 * label(0)).bind(network)
    start = normal(0, 1)
    reached = climbed(network, EachItsOwn((flat,)), start, [held(3, Ascent(0.1), 5.0)])
    assert torch.equal(reached.parameters, start)


def test_line_searches_climb_what_is_weighed() -> None:
    """L-BFGS, which remembers its looks, ends where score and energy balance: g v - w v^2 / 2."""
    network, rows = linear()
    stage = Stage(60, LBFGS(), regularizers=(L2(0.5, centre=0.5),), weights_per_gradient=True)
    reached = climbed(network, asked(network, 2), normal(0, 1), [stage]).parameters
    torch.testing.assert_close(reached, rows[2:] / (0.5 * rows[2].abs().mean()), rtol=1e-3, atol=1e-3)
