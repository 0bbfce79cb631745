"""Optimizers made of others, normalised steps, and what stays remembered of the images that go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage import RequestError
from preimage.optimization import (
    LBFGS,
    Adam,
    Ascender,
    Ascent,
    ClippedByContribution,
    Evaluate,
    Momentum,
    NormalisedAscent,
    Optimizer,
    Scaled,
)

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
N = 3
SHAPE = (N, 2, 4, 5)
FACTORS = (0.5, 3.0, 1.0)
FIRST_ORDER: list[Optimizer] = [
    Ascent(0.1),
    Ascent(0.1, per_first_gradient=True),
    NormalisedAscent(0.1),
    Momentum(0.1),
    Adam(0.1),
]
ALL: list[Optimizer] = [
    *FIRST_ORDER,
    LBFGS(),
    LBFGS(history=2),
    Scaled(Momentum(0.1), FACTORS),
    Scaled(Scaled(Adam(0.1), FACTORS), FACTORS),
    ClippedByContribution(Adam(0.1)),
    Scaled(ClippedByContribution(Ascent(0.1, per_first_gradient=True)), FACTORS),
    ClippedByContribution(Scaled(Momentum(0.1), FACTORS)),
]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def never(parameters: Tensor) -> NoReturn:
    raise AssertionError("a first-order optimizer does not look ahead")


def stepped(ascender: Ascender, v: Tensor, gradient: Tensor) -> Tensor:
    return ascender.step(v, torch.zeros(len(v)), gradient.clone(), never)


def smooth(images: list[int]) -> Evaluate:
    """J of some images, each with its own maximum and curvatures: -sum a log cosh(v - c)."""
    centres, curvatures = normal(7, *SHAPE)[images], (0.1 + 3 * normal(8, *SHAPE).tanh().square())[images]

    def evaluate(v: Tensor) -> tuple[Tensor, Tensor]:
        away = v - centres
        value = -(curvatures * away.cosh().log()).flatten(1).sum(1)
        return value, -curvatures * away.tanh()

    return evaluate


def climbed(ascender: Ascender, v: Tensor, evaluate: Evaluate, steps: int) -> Tensor:
    for _ in range(steps):
        value, gradient = evaluate(v)
        v = v + ascender.step(v, value, gradient, evaluate)
    return v


def alone(optimizer: Optimizer, image: int) -> Optimizer:
    """What the same settings mean for one image of the batch."""
    if isinstance(optimizer, Scaled):
        return Scaled(alone(optimizer.optimizer, image), (optimizer.factors[image],))
    if isinstance(optimizer, ClippedByContribution):
        return ClippedByContribution(alone(optimizer.optimizer, image))
    return optimizer


# --- keep ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ALL, ids=str)
@pytest.mark.parametrize("before", [0, 1, 5])
@pytest.mark.parametrize("images", [[0, 2], [1], [2], [0, 1, 2]], ids=str)
def test_images_that_go_on_climb_as_if_they_had_been_alone(
    optimizer: Optimizer, before: int, images: list[int]
) -> None:
    ascender, start = optimizer.start(), normal(1, *SHAPE)
    middle = climbed(ascender, start, smooth([0, 1, 2]), before)
    ascender.keep(torch.tensor([i in images for i in range(N)]))
    found = climbed(ascender, middle[images], smooth(images), 4)
    for i, one in zip(images, found, strict=True):
        expected = climbed(alone(optimizer, i).start(), start[i : i + 1], smooth([i]), before + 4)[0]
        torch.testing.assert_close(one, expected, rtol=1e-8, atol=1e-8)
        assert not torch.equal(one, start[i])


@pytest.mark.parametrize("optimizer", ALL, ids=str)
def test_images_may_stop_one_after_the_other(optimizer: Optimizer) -> None:
    ascender, start = optimizer.start(), normal(2, *SHAPE)
    v = climbed(ascender, start, smooth([0, 1, 2]), 2)
    ascender.keep(torch.tensor([True, False, True]))
    v = climbed(ascender, v[[0, 2]], smooth([0, 2]), 2)
    ascender.keep(torch.tensor([False, True]))
    found = climbed(ascender, v[1:], smooth([2]), 2)
    expected = climbed(alone(optimizer, 2).start(), start[2:], smooth([2]), 6)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


# --- scaled -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", FIRST_ORDER, ids=str)
def test_scaled_steps_are_so_many_times_as_long(optimizer: Optimizer) -> None:
    plain, stretched = optimizer.start(), Scaled(optimizer, FACTORS).start()
    v = normal(0, *SHAPE)
    for i in range(4):
        gradient = normal(i + 1, *SHAPE)
        expected = stepped(plain, v, gradient) * torch.tensor(FACTORS).view(N, 1, 1, 1)
        torch.testing.assert_close(stepped(stretched, v, gradient), expected, rtol=1e-6, atol=0)
        v = v + expected


@pytest.mark.parametrize("make", [Ascent, NormalisedAscent, Momentum, Adam])
def test_scaling_the_steps_is_scaling_the_step_size(make: Callable[[float], Optimizer]) -> None:
    one, other = Scaled(make(0.1), (4.0,) * N).start(), make(0.4).start()
    for i in range(4):
        v, gradient = normal(i, *SHAPE), normal(i + 9, *SHAPE)
        torch.testing.assert_close(stepped(one, v, gradient), stepped(other, v, gradient), rtol=1e-10, atol=0)


def test_what_finds_the_length_of_its_steps_is_neither_scaled_nor_clipped() -> None:
    with pytest.raises(RequestError, match=r"LBFGS\(.*finds the length of its steps by itself; it has no step size"):
        Scaled(LBFGS(), FACTORS)
    with pytest.raises(RequestError, match=r"LBFGS\(.*searches along the gradient"):
        ClippedByContribution(LBFGS())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_composed_steps_keep_the_type(dtype: torch.dtype) -> None:
    v, gradient = normal(0, *SHAPE).to(dtype), normal(1, *SHAPE).to(dtype)
    for optimizer in (Scaled(Adam(0.1), FACTORS), ClippedByContribution(Ascent(0.1, per_first_gradient=True))):
        assert stepped(optimizer.start(), v, gradient).dtype == dtype


# --- clipped by contribution --------------------------------------------------------------------------------------


@few
@given(seeds)
def test_pixels_that_say_less_than_the_mean_are_left_alone(seed: int) -> None:
    v, gradient = normal(seed, *SHAPE), normal(seed + 1, *SHAPE)
    step = stepped(ClippedByContribution(Ascent(2.0)).start(), v, gradient)
    for one, slope, values in zip(step.numpy(), gradient.numpy(), v.numpy(), strict=True):
        says = abs(slope * values)
        enough = says >= says.mean()
        assert 0 < enough.sum() < enough.size
        assert (one[~enough] == 0).all()
        assert (one[enough] == 2 * slope[enough]).all()


@pytest.mark.parametrize("power", [-3, 0, 5])
def test_where_all_pixels_say_the_same_none_is_left_alone(power: int) -> None:
    powers = 2.0 ** (torch.arange(8).view(1, 2, 2, 2) + power)
    step = stepped(ClippedByContribution(Ascent(1.0)).start(), powers, 1 / powers)
    assert torch.equal(step, 1 / powers)


def test_the_grey_image_that_one_starts_from_takes_a_whole_step() -> None:
    gradient = normal(0, *SHAPE)
    grey = torch.zeros_like(gradient)
    assert torch.equal(stepped(ClippedByContribution(Ascent(1.0)).start(), grey, gradient), gradient)


def test_the_mean_is_each_image_s_own() -> None:
    v, gradient = torch.ones(2, 1, 1, 2), torch.tensor([[1.0, 3.0], [100.0, 300.0]]).view(2, 1, 1, 2)
    step = stepped(ClippedByContribution(Ascent(1.0)).start(), v, gradient)
    assert step.flatten().tolist() == [0.0, 3.0, 0.0, 300.0]


# --- normalised by the gradient -----------------------------------------------------------------------------------


@few
@given(seeds, st.floats(1e-3, 20), st.integers(1, 4), st.integers(1, 5))
def test_a_step_is_as_long_as_asked_where_the_gradient_reaches(
    seed: int, step_size: float, height: int, width: int
) -> None:
    """What lies outside the window has no say, so that a larger canvas does not lengthen steps."""
    inside = normal(seed, N, 2, height, width)
    canvas = torch.zeros(N, 2, 12, 13, dtype=torch.float64)
    canvas[:, :, 3 : 3 + height, 5 : 5 + width] = inside
    step = stepped(NormalisedAscent(step_size).start(), canvas, canvas)
    small = stepped(NormalisedAscent(step_size).start(), inside, inside)
    torch.testing.assert_close(step[:, :, 3 : 3 + height, 5 : 5 + width], small, rtol=1e-12, atol=0)
    assert torch.equal(step != 0, canvas != 0)
    lengths = step.abs().flatten(1).sum(1) / (2 * height * width)
    torch.testing.assert_close(lengths, torch.full_like(lengths, step_size), rtol=1e-12, atol=0)


def test_images_of_a_batch_may_be_reached_in_different_places() -> None:
    gradient = torch.zeros(2, 1, 4, 4)
    gradient[0, 0, 0, 0], gradient[1, 0, 1:3] = 7.0, -0.01
    step = stepped(NormalisedAscent(0.5).start(), gradient, gradient)
    torch.testing.assert_close(step, 0.5 * gradient.sign())


@few
@given(seeds, st.floats(1e-3, 20), st.lists(st.floats(-9, 9), min_size=N, max_size=N))
def test_per_first_gradient_divides_by_the_mean_size_of_the_first_once_and_for_all(
    seed: int, step_size: float, powers: list[float]
) -> None:
    sizes = torch.tensor([10.0**power for power in powers], dtype=torch.float64).view(N, 1, 1, 1)
    ascender = Ascent(step_size, per_first_gradient=True).start()
    gradients = [(i + 1) ** 2 * sizes * normal(seed + i, *SHAPE) for i in range(4)]
    first = gradients[0].abs().mean((1, 2, 3), keepdim=True)
    for gradient in gradients:
        step = stepped(ascender, gradient, gradient)
        torch.testing.assert_close(step, step_size * gradient / first, rtol=1e-12, atol=0)


@few
@given(seeds, st.floats(-6, 6))
def test_per_first_gradient_does_not_depend_on_the_scale_of_the_score(seed: int, power: float) -> None:
    one, other = (Ascent(0.1, per_first_gradient=True).start() for _ in range(2))
    for i in range(3):
        gradient = normal(seed + i, *SHAPE)
        scaled = stepped(other, gradient, 10**power * gradient)
        torch.testing.assert_close(stepped(one, gradient, gradient), scaled, rtol=1e-10, atol=0)


def test_an_image_that_nothing_pulls_at_first_is_divided_by_its_first_gradient_later() -> None:
    """Each image by its own first one; the second image of three is pulled from the third step on."""
    ascender = Ascent(0.1, per_first_gradient=True).start()
    gradients = [normal(i, *SHAPE) for i in range(5)]
    for late in gradients[:2]:
        late[1] = 0
    first = torch.stack([gradients[n][i].abs().mean() for i, n in enumerate((0, 2, 0))]).view(N, 1, 1, 1)
    for gradient in gradients:
        step = stepped(ascender, gradient, gradient)
        torch.testing.assert_close(step, 0.1 * gradient / first, rtol=1e-12, atol=0)
