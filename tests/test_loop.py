"""The update rule, step for step, on linear networks whose gradient is known; stages, trace, snapshots, failures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from climbs import CLASSES, SIDE, C, Linear, asked, linear, normal
from preimage import Network, NonFiniteScoreError, Place, RequestError
from preimage.objectives import Channel, EachItsOwn, Objective, channel, label
from preimage.optimization import LBFGS, Adam, Ascent, Climb, Momentum, NormalisedAscent, Stage, climb
from preimage.parametrizations import Fourier, Parametrization, Pixels, SigmoidPixels
from preimage.priors import L2, TotalVariation
from preimage.transforms import Affine, Jitter, Transform, View

few = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 2**31)


def climbed(
    network: Network,
    objective: EachItsOwn,
    start: Tensor,
    stages: Sequence[Stage],
    *,
    kind: Parametrization | None = None,
    seed: int = 0,
    snapshot_every: int | None = None,
    on_step: Callable[[], object] | None = None,
) -> Climb:
    return climb(
        network,
        objective,
        kind or Pixels(C, SIDE, SIDE),
        start,
        stages,
        torch.Generator().manual_seed(seed),
        snapshot_every=snapshot_every,
        on_step=on_step,
    )


class Smooth:
    """A kernel: the mean with the neighbour to the left, `share` of it."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, values: Tensor) -> Tensor:
        return (1 - self.share) * values + self.share * values.roll(1, -1)


class Towards:
    """A denoiser that finds one value, and half of what is there, plausible."""

    def __call__(self, values: Tensor) -> Tensor:
        return 0.5 * values + 0.125


class Dimmed(Transform):
    """A transform without anything random: half as bright."""

    def draw(self, generator: torch.Generator) -> View:
        return lambda images: images / 2


# --- the rule -----------------------------------------------------------------------------------------------------


@few
@given(
    seeds,
    st.floats(-2, 2),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 0.5),
    st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_the_update_rule(
    seed: int, step_size: float, elastic: float, fluid: float, pull: float, noise: float, on: list[bool]
) -> None:
    """v <- K_e * [v + A(K_f * g) + eps_1 (r(v) - v)] + N(0, eps_3^2), with g known, each part on or off."""
    network, rows = linear(seed)
    start = normal(seed + 1, 1)
    stage = Stage(
        4,
        Ascent(step_size),
        smooth_solution=Smooth(elastic) if on[0] else None,
        smooth_update=Smooth(fluid) if on[1] else None,
        denoiser=Towards() if on[2] else None,
        pull=pull,
        noise=noise if on[3] else 0.0,
        regularizers=(L2(0.25, centre=0.5),) if on[4] else (),
    )
    reached = climbed(network, asked(network, 1), start, [stage], seed=seed)
    v, random, trace = start, torch.Generator().manual_seed(seed), []
    for _ in range(4):
        trace.append((rows[1] * (v + 0.5)).sum())
        gradient = rows[1:2] - (0.25 * v if on[4] else 0)
        new = v + step_size * (Smooth(fluid)(gradient) if on[1] else gradient)
        if on[2]:
            new = new + pull * (Towards()(v) - v)
        if on[0]:
            new = Smooth(elastic)(new)
        if on[3] and noise:
            new = new + noise * torch.randn(v.shape, generator=random)
        v = new
    torch.testing.assert_close(reached.parameters, v, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.stack(reached.trace)[:, 0], torch.stack(trace), rtol=1e-4, atol=1e-4)


def test_plain_ascent_is_exact() -> None:
    network, rows = linear()
    start = normal(1, 2)
    reached = climbed(network, asked(network, 2, 0), start, [Stage(3, Ascent(0.5))])
    v = start
    for _ in range(3):
        v = v + 0.5 * rows[[2, 0]]
    assert torch.equal(reached.parameters, v)
    assert not reached.interrupted
    assert not reached.parameters.requires_grad


def test_noise_is_white_after_smoothing_and_as_large_as_asked() -> None:
    """It comes after K_e, so that neighbours do not share it; another draw for every step and image."""
    network, _ = linear()
    count, size = 400, C * SIDE * SIDE
    zero = torch.zeros(count, C, SIDE, SIDE)
    objective = asked(network, *[0] * count)

    def after(steps: int, noise: float) -> Tensor:
        stage = Stage(steps, Ascent(0.0), smooth_solution=Smooth(0.0), noise=noise)
        return climbed(network, objective, zero, [stage]).parameters.flatten(1)

    one, two = after(1, 0.5), after(2, 0.5)
    first, second = one / 0.5, (two - one) / 0.5
    torch.testing.assert_close(after(1, 3.0) / 3.0, first)
    for drawn in (first, second):
        n = drawn.numel()
        assert abs(float(drawn.mean())) < 6 / math.sqrt(n)
        assert abs(float(drawn.var()) - 1) < 6 * math.sqrt(2 / n)
        assert abs(float((drawn[:, 1:] * drawn[:, :-1]).mean())) < 6 / math.sqrt(n - count)
        assert abs(float((drawn[1:] * drawn[:-1]).mean())) < 6 / math.sqrt(n - size)
    assert abs(float((first * second).mean())) < 6 / math.sqrt(first.numel())


@few
@given(seeds, st.sampled_from([Ascent(0.3), NormalisedAscent(0.3), Momentum(0.3, 0.5), Adam(0.3)]))
def test_the_optimizer_sees_the_smoothed_gradient_of_score_minus_energy(seed: int, optimizer: Ascent) -> None:
    network, rows = linear(seed)
    start = normal(seed + 1, 1)
    tv = TotalVariation(0.7, beta=2)
    stage = Stage(3, optimizer, regularizers=(tv, L2(0.1)), smooth_update=Smooth(0.5))
    reached = climbed(network, asked(network, 0), start, [stage])
    v, ascender = start, optimizer.start()
    for _ in range(3):
        image = (v + 0.5).requires_grad_(True)
        energy = 0.7 * tv.energy(image) + 0.1 * (image - 0.5).square().sum() / 2
        (slope,) = torch.autograd.grad(energy.sum(), image)
        v = v + ascender.step(v, energy, Smooth(0.5)(rows[:1] - slope), lambda p: (p, p))
    torch.testing.assert_close(reached.parameters, v, rtol=1e-5, atol=1e-5)


def test_the_gradient_goes_through_the_parametrization_and_the_transform() -> None:
    """d/dv of w . (sigmoid(v) / 2) is w sigmoid'(v) / 2."""
    network, rows = linear()
    start = normal(1, 1)
    reached = climbed(
        network,
        asked(network, 0),
        start,
        [Stage(1, Ascent(1.0), transforms=(Dimmed(),))],
        kind=SigmoidPixels(C, SIDE, SIDE),
    )
    s = torch.sigmoid(start)
    torch.testing.assert_close(reached.parameters, start + rows[:1] * s * (1 - s) / 2)
    torch.testing.assert_close(reached.trace[0], (rows[:1] * s / 2).sum((1, 2, 3)))


def test_regularizers_see_the_image_without_the_transform() -> None:
    network, rows = linear()
    start = normal(1, 1)
    stage = Stage(1, Ascent(1.0), transforms=(Dimmed(),), regularizers=(L2(0.5),))
    reached = climbed(network, asked(network, 0), start, [stage])
    torch.testing.assert_close(reached.parameters, start + rows[:1] / 2 - 0.5 * start)


@few
@given(st.floats(0, 1), st.integers(1, 9))
def test_step_sizes_fall_linearly_to_the_last(last: float, steps: int) -> None:
    """The first step is whole; they fall evenly, and by the end of the stage they have come down to the share."""
    network, rows = linear()
    stage = Stage(steps, Ascent(2000.0), last_step_size=last)  # dP/dv is 1/2000
    start = torch.zeros(1, C, SIDE, SIDE)
    done = climbed(network, asked(network, 0), start, [stage], snapshot_every=1, kind=Wide(C, SIDE, SIDE))
    points = torch.stack([start, *(Wide(C, SIDE, SIDE).parameters(image) for _, image in done.snapshots)])
    lengths = (points.diff(dim=0) * rows[:1]).sum((1, 2, 3, 4)) / rows[0].square().sum()
    assert lengths[0].item() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(lengths.diff(n=2), torch.zeros(max(steps - 2, 0)), rtol=0, atol=1e-3)
    assert last - 1e-3 <= lengths[-1].item() <= last + (1 - last) / steps + 1e-3


class Wide(Pixels):
    """Pixels that a snapshot does not clip: P(v) = (1 + v / 1000) / 2."""

    def image(self, parameters: Tensor) -> Tensor:
        return 0.5 + parameters / 2000

    def parameters(self, images: Tensor) -> Tensor:
        return (images - 0.5) * 2000


def test_the_step_size_also_falls_for_optimizers_with_memory() -> None:
    network, _ = linear()
    start = normal(1, 1)
    full = climbed(network, asked(network, 0), start, [Stage(1, Adam(0.1))]).parameters - start
    stage = Stage(2, Adam(0.1), last_step_size=0.0)
    halved = climbed(network, asked(network, 0), start, [stage]).parameters
    # Of a constant gradient every step of Adam is equally long; the second is at most half of it.
    share = ((halved - start) / full).mean().item()
    assert 1 - 1e-3 <= share <= 1.5 + 1e-3


# --- stages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [Adam(0.1), Momentum(0.1), LBFGS()], ids=str)
def test_a_stage_without_optimizer_goes_on_with_the_memory_of_the_one_before(optimizer: Adam) -> None:
    network, _ = linear()
    objective, start = asked(network, 0, 1), normal(1, 2)
    kind, tv = SigmoidPixels(C, SIDE, SIDE), (TotalVariation(0.5),)

    def run(*stages: Stage) -> Tensor:
        return climbed(network, objective, start, stages, kind=kind).parameters

    whole = run(Stage(7, optimizer, regularizers=tv))
    parts = run(Stage(3, optimizer, regularizers=tv), Stage(4, None, regularizers=tv))
    anew = run(Stage(3, optimizer, regularizers=tv), Stage(4, optimizer, regularizers=tv))
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
    assert (anew - whole).abs().max() > 1e-3


def test_the_first_stage_needs_an_optimizer() -> None:
    network, _ = linear()
    with pytest.raises(RequestError, match="first stage needs an optimizer"):
        climbed(network, asked(network, 0), normal(0, 1), [Stage(1, None)])


def test_each_stage_has_its_own_transforms_and_regularizers() -> None:
    network, rows = linear()
    start = normal(1, 1)
    stages = [
        Stage(1, Ascent(1.0), transforms=(Dimmed(), Dimmed())),
        Stage(1, Ascent(2.0), regularizers=(L2(0.5),)),
        Stage(1, None),
    ]
    v = start + rows[:1] / 4
    v = v + 2 * (rows[:1] - 0.5 * v)
    v = v + 2 * rows[:1]
    torch.testing.assert_close(climbed(network, asked(network, 0), start, stages).parameters, v)


@pytest.mark.parametrize("optimizer", [Adam(0.1), LBFGS()], ids=str)
def test_no_steps_change_nothing(optimizer: Adam) -> None:
    network, _ = linear()
    start = normal(1, 2)
    reached = climbed(network, asked(network, 0, 1), start, [Stage(0, optimizer)])
    assert torch.equal(reached.parameters, start)
    assert reached.trace == []
    assert not reached.interrupted


def test_lbfgs_reaches_the_maximum_of_each_image() -> None:
    """w . x - |x - c|^2 / 2 * weight is largest at c + w / weight."""
    network, rows = linear()
    stage = Stage(12, LBFGS(), regularizers=(L2(4.0),))
    reached = climbed(network, asked(network, 0, 1, 2), normal(1, 3), [stage])
    torch.testing.assert_close(reached.parameters, rows / 4, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("transforms", [(), (Affine(zoom=(1.0, 2.0), shift=0.2),)], ids=str)
def test_lbfgs_is_given_the_value_and_gradient_where_it_stands(transforms: tuple[Transform, ...]) -> None:
    """What the loop remembers of a line search must be what looking again would give, under one view a step."""
    network, _ = linear()
    stages = [Stage(6, _Checking(), transforms=transforms, regularizers=(TotalVariation(0.3, epsilon=0.1),))]
    reached = climbed(network, asked(network, 0, 1), normal(1, 2), stages, kind=SigmoidPixels(C, SIDE, SIDE))
    assert len(reached.trace) == 6


class _Checking(LBFGS):
    def start(self):  # type: ignore[no-untyped-def]
        inner, step = LBFGS.start(self), LBFGS.start(self).step

        def checked(parameters, value, gradient, evaluate):  # type: ignore[no-untyped-def]
            far = evaluate(parameters + 1)[0]  # so that nothing is remembered of the place itself
            again = evaluate(parameters)
            assert not torch.equal(far, value)
            torch.testing.assert_close((value, gradient), again)
            return step(parameters, value, gradient, evaluate)

        inner.step = checked
        return inner


# --- trace and snapshots ------------------------------------------------------------------------------------------


def tripled(objective: Objective) -> Objective:
    return 3 * objective


@pytest.mark.parametrize("kind", [SigmoidPixels(C, SIDE, SIDE), Fourier(C, SIDE, SIDE)], ids=["sigmoid", "fourier"])
@pytest.mark.parametrize("optimizer", [Adam(0.05), LBFGS()], ids=str)
def test_the_trace_is_the_plain_objective_of_the_images_on_the_way(kind: Parametrization, optimizer: Adam) -> None:
    """Whatever a stage asks instead, and without regularizers; the first is that of the start."""
    network, rows = linear()
    start = torch.stack([kind.start(torch.Generator().manual_seed(i)) for i in range(2)])
    stages = [
        Stage(3, optimizer, regularizers=(L2(0.5),)),
        Stage(3, optimizer, asks=tripled, regularizers=(TotalVariation(1.0),)),
    ]
    reached = climbed(network, asked(network, 2, 1), start, stages, kind=kind, snapshot_every=1)
    assert [steps for steps, _ in reached.snapshots] == [1, 2, 3, 4, 5, 6]
    images = torch.stack([kind.image(start), *(images for _, images in reached.snapshots)])
    scores = (images * rows[[2, 1]]).sum((2, 3, 4))
    torch.testing.assert_close(torch.stack(reached.trace), scores[:-1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(images[-1], kind.image(reached.parameters))


def test_what_a_stage_asks_instead_is_what_is_climbed() -> None:
    network, rows = linear()
    start = normal(0, 1)
    reached = climbed(network, asked(network, 0), start, [Stage(1, Ascent(1.0), asks=tripled)])
    torch.testing.assert_close(reached.parameters, start + 3 * rows[:1])


def test_where_a_stage_looks_at_other_taps_the_trace_is_what_it_asks() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(C, 3, 1), nn.Conv2d(3, 2, 1))
    network = Network(module, SIDE)
    objective = EachItsOwn((channel("1", 0).bind(network),))

    def shallower(one: Objective) -> Objective:
        assert isinstance(one, Channel)
        return Channel(Place("0"), one.index)

    start = normal(0, 1)
    stages = [Stage(1, Ascent(0.0), asks=shallower), Stage(1, Ascent(0.0))]
    reached = climbed(network, objective, start, stages)
    first = module[0](start + 0.5)
    torch.testing.assert_close(reached.trace[0], first[:, 0].mean((1, 2)).detach())
    torch.testing.assert_close(reached.trace[1], module(start + 0.5)[:, 0].mean((1, 2)).detach())


def test_the_trace_is_of_the_transformed_images() -> None:
    network, rows = linear()
    start = normal(0, 2)
    reached = climbed(network, asked(network, 0, 1), start, [Stage(1, Ascent(1.0), transforms=(Dimmed(),))])
    torch.testing.assert_close(reached.trace[0], (rows[:2] * (start + 0.5) / 2).sum((1, 2, 3)))


@pytest.mark.parametrize(("every", "kept"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4]), (5, [5]), (6, []), (None, [])])
def test_snapshots_are_kept_every_so_often_within_the_range_and_do_not_change_anything(
    every: int | None, kept: list[int]
) -> None:
    network, _ = linear()
    start, objective = normal(0, 2), asked(network, 0, 1)
    stages = [Stage(2, Ascent(0.1), transforms=(Jitter(2),), noise=0.1), Stage(3, Ascent(0.1), noise=0.1)]
    reached = climbed(network, objective, start, stages, snapshot_every=every)
    assert [steps for steps, _ in reached.snapshots] == kept
    assert torch.equal(reached.parameters, climbed(network, objective, start, stages).parameters)
    for steps, images in reached.snapshots:
        shorter = [Stage(min(steps, 2), Ascent(0.1), transforms=(Jitter(2),), noise=0.1)]
        shorter += [Stage(steps - 2, Ascent(0.1), noise=0.1)] if steps > 2 else []
        at = climbed(network, objective, start, shorter).parameters
        assert torch.equal(images, (at + 0.5).clamp(0, 1))


# --- what can go wrong --------------------------------------------------------------------------------------------


class Breaks(Linear):
    """Linear, until the images are brighter than `limit` on average."""

    def __init__(self, limit: float, value: float) -> None:
        super().__init__()
        self.limit, self.value = limit, value

    def forward(self, images: Tensor) -> Tensor:
        broken = images.mean((1, 2, 3)) > self.limit
        return torch.where(broken[:, None], self.value, super().forward(images))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("steps", [1, 5, 40])
def test_a_score_that_is_not_finite_says_where_and_what_to_do(value: float, steps: int) -> None:
    module = Breaks(1.0, value)
    network = Network(module, SIDE, channels=C)
    weight = module.weight.detach().view(CLASSES, C, SIDE, SIDE)
    # Each step brightens class 1's image by the same amount, so that it leaves the limit behind before step `steps`.
    size = 0.5 / (steps - 0.5) / weight[1].mean().item()
    trace: list[int] = []
    with pytest.raises(NonFiniteScoreError) as caught:
        climbed(
            network,
            EachItsOwn((label(0, "prob").bind(network), label(1).bind(network))),
            torch.zeros(2, C, SIDE, SIDE),
            [Stage(30, Ascent(size)), Stage(30, None)],
            on_step=lambda: trace.append(1),
        )
    said = str(caught.value)
    assert f"at step {steps} " in said
    assert "class:1 " in said and "class:0" not in said
    assert "output" in said
    assert str(value) in said
    assert "smaller step size" in said
    assert isinstance(caught.value, RequestError)
    assert len(trace) == steps


def test_a_score_that_is_not_finite_from_the_start_points_at_the_network() -> None:
    network = Network(Breaks(0.0, math.nan), SIDE, channels=C)
    with pytest.raises(NonFiniteScoreError, match=r"at step 0 .*output.*check its weights, mean and std"):
        climbed(network, asked(network, 0), torch.zeros(1, C, SIDE, SIDE), [Stage(3, Ascent(1.0))])


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_ctrl_c_keeps_the_whole_steps_that_were_done(steps: int) -> None:
    network, _ = linear()
    start, objective, done = normal(0, 2), asked(network, 0, 1), 0

    def on_step() -> None:
        nonlocal done
        done += 1
        if done == steps:
            raise KeyboardInterrupt

    def stages(first: int, second: int) -> list[Stage]:
        return [Stage(first, Adam(0.1), noise=0.1), Stage(second, None, noise=0.1)]

    reached = climbed(network, objective, start, stages(4, 6), on_step=on_step)
    assert reached.interrupted
    assert len(reached.trace) == steps
    complete = climbed(network, objective, start, stages(min(steps, 4), max(steps - 4, 0)))
    assert torch.equal(reached.parameters, complete.parameters)
    assert not complete.interrupted


def test_on_step_is_called_once_a_step() -> None:
    network, _ = linear()
    calls: list[int] = []
    stages = [Stage(3, LBFGS()), Stage(2, Adam(0.1))]
    climbed(network, asked(network, 0), normal(0, 1), stages, on_step=lambda: calls.append(1))
    assert len(calls) == 5


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ZeroDivisionError, None])
def test_the_module_is_given_back_as_it_was(failure: type[BaseException] | None) -> None:
    network, _ = linear()
    module = network.module
    module.train()

    def on_step() -> None:
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
        if failure:
            raise failure

    objective, start = asked(network, 0), normal(0, 1)
    if failure is ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            climbed(network, objective, start, [Stage(2, Adam(0.1))], on_step=on_step)
    else:
        climbed(network, objective, start, [Stage(2, Adam(0.1))], on_step=on_step)
    assert module.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())


def test_the_start_is_not_written_to() -> None:
    network, _ = linear()
    start = normal(0, 2)
    climbed(network, asked(network, 0, 1), start, [Stage(2, Adam(0.1)), Stage(2, LBFGS())])
    assert torch.equal(start, normal(0, 2))


def test_it_climbs_where_gradients_are_switched_off_outside() -> None:
    network, rows = linear()
    start = normal(0, 1)
    with torch.no_grad():
        reached = climbed(network, asked(network, 0), start, [Stage(1, Ascent(1.0))])
    assert torch.equal(reached.parameters, start + rows[:1])
