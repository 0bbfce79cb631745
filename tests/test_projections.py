"""What keeps a solution within bounds, what an area costs, mirrored views, and steps of the gradient's sign."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from climbs import SIDE, C, asked, climbed, linear, normal
from preimage import RequestError
from preimage.optimization import Ascent, SignAscent, Stage
from preimage.parametrizations import Pixels
from preimage.priors import Area, Clip
from preimage.transforms import Flip, InTurn

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
numbers = st.floats(-3, 3)


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# --- Clip ---------------------------------------------------------------------------------------------------------


@few
@given(seeds, numbers, numbers)
def test_every_number_is_brought_to_the_nearer_bound(seed: int, one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    values = normal(seed, 3)
    found = Clip(low, high)(values)
    np.testing.assert_array_equal(found.numpy(), np.clip(values.numpy(), np.float32(low), np.float32(high)))
    assert torch.equal(Clip(low, high)(found), found)


def test_masks_are_clipped_to_zero_and_one_unless_one_says() -> None:
    values = torch.tensor([-1.0, 0.0, 0.3, 1.0, 2.0])
    assert Clip()(values).tolist() == pytest.approx([0, 0, 0.3, 1, 1])
    assert torch.equal(values, torch.tensor([-1.0, 0.0, 0.3, 1.0, 2.0]))


@few
@given(seeds, st.floats(0, 1))
def test_a_ball_around_each_photo(seed: int, radius: float) -> None:
    """Bounds of the parameters' own shape: each image has its own."""
    centre, values = normal(seed, 4), normal(seed + 1, 4)
    found = Clip(centre - radius, centre + radius)(values)
    expected = np.clip(values.numpy(), (centre - radius).numpy(), (centre + radius).numpy())
    np.testing.assert_array_equal(found.numpy(), expected)
    assert ((found - centre).abs() <= radius + 1e-6).all()


@pytest.mark.parametrize(
    ("low", "high"),
    [(1.0, 0.0), (0.5, 0.25), (torch.tensor([0.0, 0.5]), torch.tensor([1.0, 0.4])), (torch.tensor([0.0, 2.0]), 1.0)],
)
def test_a_lower_bound_above_the_upper_one_is_refused(low: float | Tensor, high: float | Tensor) -> None:
    with pytest.raises(RequestError, match="the lower of two bounds must not lie above the upper one"):
        Clip(low, high)


def test_a_single_point_is_allowed() -> None:
    assert Clip(0.3, 0.3)(normal(0, 1)).unique().tolist() == pytest.approx([0.3])


def test_the_loop_clips_after_every_step() -> None:
    """Of a linear score, plain ascent would leave the bounds, and come to rest in a corner."""
    network, rows = linear()
    gradient = rows[1:2]
    stage = Stage(50, Ascent(0.2), smooth_solution=Clip(-0.5, 0.25))
    seen: list[Tensor] = []

    def look(climb: Any) -> Tensor:
        seen.append(climb.parameters.clone())
        return torch.ones(1, dtype=torch.bool)

    reached = climbed(network, asked(network, 1), torch.zeros(1, C, SIDE, SIDE), [stage], referee=look)
    assert len(seen) == 50 and all(v.min() >= -0.5 and v.max() <= 0.25 for v in seen)
    torch.testing.assert_close(seen[0], (0.2 * gradient).clamp(-0.5, 0.25))
    strong = gradient.abs() * 0.2 * 50 > 0.5
    corner = torch.where(gradient > 0, 0.25, -0.5)
    assert torch.equal(reached.parameters[strong], corner[strong]) and strong.float().mean() > 0.8


def test_it_is_written_down_with_its_numbers() -> None:
    assert repr(Clip(0.0, 1.0)) == "Clip(0.0, 1.0)"
    assert repr(Clip(torch.zeros(2), torch.ones(2))) == "Clip(..., ...)"
    said = Stage(1, Ascent(0.1), smooth_solution=Clip(-1.0, 0.5)).describe()
    assert json.loads(json.dumps(said))["smooth_solution"] == "Clip(-1.0, 0.5)"


def test_whole_numbers_are_written_down_too() -> None:
    assert repr(Clip(0, 1)) == "Clip(0, 1)"


def test_one_bound_may_be_a_number_and_the_other_a_tensor() -> None:
    values = torch.tensor([-1.0, 0.5, 2.0])
    assert torch.equal(Clip(0.0, torch.ones(3))(values), torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(Clip(torch.zeros(3), 1.0)(values), torch.tensor([0.0, 0.5, 1.0]))


@pytest.mark.parametrize("bounds", [(math.nan, 1.0), (0.0, math.nan), (torch.tensor(math.nan), torch.tensor(1.0))])
def test_bounds_are_numbers(bounds: tuple[Any, Any]) -> None:
    with pytest.raises(RequestError):
        Clip(*bounds)


# --- Area ---------------------------------------------------------------------------------------------------------


@few
@given(seeds, st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))
def test_the_energy_is_the_mean_square_of_the_sorted_mask_from_a_step(
    seed: int, height: int, width: int, share: float
) -> None:
    """The smallest values are to be 0, and as many of the largest as the share says 1 (rounded to whole pixels)."""
    masks = 2 * uniform(seed, 3, 1, height, width) - 0.5
    found = Area(1.0, share).energy(masks)
    assert found.shape == (3,)
    count = height * width
    for one, energy in zip(masks.double().numpy(), found.tolist(), strict=True):
        near = []
        for kept in {math.floor(share * count), math.ceil(share * count)}:
            wanted = np.r_[np.zeros(count - kept), np.ones(kept)]
            near.append(((np.sort(one.ravel()) - wanted) ** 2).mean())
        assert min(abs(energy - other) for other in near) < 1e-5


@few
@given(seeds, st.integers(0, 40))
def test_only_masks_of_zeros_and_ones_and_of_this_area_cost_nothing(seed: int, kept: int) -> None:
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros(40)
    mask[order[:kept]] = 1
    mask = mask.view(1, 1, 5, 8)
    # (Parts of a pixel count as a whole one; 5e-3 of one is out of the way of rounding.)
    area = Area(1.0, max(0.0, kept - 5e-3) / 40)
    assert area.energy(mask).item() == 0
    if kept < 39:  # each pixel more or less costs one of 40
        assert Area(1.0, (kept + 1.995) / 40).energy(mask).item() == pytest.approx(2 / 40)
    assert area.energy(mask * 0.9 + 0.05).item() == pytest.approx(0.05**2, rel=1e-4)


@few
@given(seeds, st.floats(0.05, 0.95))
def test_where_the_mask_lies_does_not_matter(seed: int, share: float) -> None:
    mask = uniform(seed, 1, 1, 6, 7)
    order = torch.randperm(42, generator=torch.Generator().manual_seed(seed))
    moved = mask.flatten()[order].view(1, 1, 6, 7)
    assert Area(1.0, share).energy(mask).item() == pytest.approx(Area(1.0, share).energy(moved).item(), rel=1e-5)


def test_the_gradient_pulls_the_largest_up_and_the_others_down() -> None:
    mask = uniform(0, 1, 1, 6, 7).double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(Area(1.0, 0.2501).energy(mask).sum(), mask)
    largest = mask.detach().flatten().argsort(descending=True)[:11]  # a quarter of 42, rounded up
    wanted = torch.zeros(42, dtype=torch.float64)
    wanted[largest] = 1
    torch.testing.assert_close(gradient.flatten(), 2 * (mask.detach().flatten() - wanted) / 42)
    assert torch.autograd.gradcheck(lambda m: Area(1.0, 0.2501).energy(m), mask)


# --- Flip ---------------------------------------------------------------------------------------------------------


@few
@given(seeds, st.floats(0, 1), st.integers(1, 7))
def test_a_flipped_view_is_mirrored_from_side_to_side_or_the_same(seed: int, probability: float, width: int) -> None:
    images = uniform(seed, 2, 3, 4, width)
    view = Flip(probability).draw(torch.Generator().manual_seed(seed))
    mirrored = images.numpy()[:, :, :, ::-1].copy()
    shown = view(images)
    assert torch.equal(shown, images) or np.array_equal(shown.numpy(), mirrored)
    assert torch.equal(view(images), shown)  # all is drawn beforehand
    assert torch.equal(Flip(probability).draw(torch.Generator().manual_seed(seed))(images), shown)


@pytest.mark.parametrize(("probability", "count"), [(0.0, 0), (1.0, 400), (0.5, 200), (0.2, 80)])
def test_it_is_mirrored_as_often_as_one_says(probability: float, count: int) -> None:
    generator, images = torch.Generator().manual_seed(0), torch.tensor([[[[0.0, 1.0]]]])
    mirrored = sum(bool(Flip(probability).draw(generator)(images)[0, 0, 0, 0]) for _ in range(400))
    assert abs(mirrored - count) <= 5 * math.sqrt(400 * probability * (1 - probability))
    assert Flip() == Flip(0.5)


def test_it_is_one_of_several_in_turn_and_gradients_flow_back() -> None:
    images = uniform(0, 1, 1, 2, 3).requires_grad_(True)
    view = InTurn([Flip(1.0), Flip(1.0), Flip(1.0)]).draw(torch.Generator())
    pull = uniform(1, 1, 1, 2, 3)
    (gradient,) = torch.autograd.grad((view(images) * pull).sum(), images)
    assert torch.equal(gradient, pull.flip(3))


@pytest.mark.parametrize("wrong", [-0.01, 1.01, math.nan, math.inf])
def test_a_probability_lies_between_zero_and_one(wrong: float) -> None:
    with pytest.raises(RequestError, match="a probability lies between 0 and 1, not"):
        Flip(wrong)


# --- SignAscent ---------------------------------------------------------------------------------------------------


def never(parameters: Tensor) -> NoReturn:
    raise AssertionError("a first-order optimizer does not look ahead")


@few
@given(seeds, st.floats(1e-4, 10), st.floats(1e-20, 1e20))
def test_every_number_changes_by_as_much_however_steep_it_is(seed: int, step_size: float, steepness: float) -> None:
    gradient = (steepness * normal(seed, 3).double()).index_fill(3, torch.tensor([2]), 0.0)
    step = SignAscent(step_size).start().step(gradient, torch.zeros(3), gradient, never)
    np.testing.assert_array_equal(step.numpy(), step_size * np.sign(gradient.numpy()))


@few
@given(seeds, st.integers(1, 9), st.sampled_from([0, 1, 2]))
def test_of_a_linear_score_so_many_steps_are_one_long_one(seed: int, steps: int, index: int) -> None:
    network, rows = linear(seed)
    start = normal(seed, 1)
    reached = climbed(
        network, asked(network, index), start, [Stage(steps, SignAscent(0.25))], kind=Pixels(C, SIDE, SIDE)
    )
    torch.testing.assert_close(reached.parameters, start + 0.25 * steps * rows[index].sign(), rtol=0, atol=1e-5)


def test_images_that_are_stopped_leave_the_others_alone() -> None:
    network, rows = linear()
    start = normal(0, 2)

    def first_only(climb: Any) -> Tensor:
        return torch.tensor([True, len(climb.trace) < 2])

    stage = Stage(5, SignAscent(0.125))
    reached = climbed(network, asked(network, 0, 1), start, [stage], referee=first_only)
    expected = start + 0.125 * torch.tensor([5, 2]).view(2, 1, 1, 1) * rows[:2].sign()
    torch.testing.assert_close(reached.parameters, expected, rtol=0, atol=1e-5)
