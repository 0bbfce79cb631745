"""Optimizers that look at the gradient only: step for step against torch.optim and closed forms."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage.optimization import Adam, Ascent, Momentum, NormalisedAscent, Optimizer

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31)
SHAPE = (3, 2, 4, 5)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def never(parameters: Tensor) -> NoReturn:
    raise AssertionError("a first-order optimizer does not look ahead")


def climbed(optimizer: Optimizer, start: Tensor, gradients: list[Tensor]) -> list[Tensor]:
    """All points reached, with the gradients given beforehand."""
    ascender, v, points = optimizer.start(), start, []
    for gradient in gradients:
        v = v + ascender.step(v, torch.zeros(len(v)), gradient.clone(), never)
        points.append(v)
    return points


def with_torch(make: Any, start: Tensor, gradients: list[Tensor], **settings: Any) -> list[Tensor]:
    v = start.clone().requires_grad_(True)
    optimizer, points = make([v], maximize=True, **settings), []
    for gradient in gradients:
        v.grad = gradient.clone()
        optimizer.step()
        points.append(v.detach().clone())
    return points


def some_gradients(seed: int, count: int = 12) -> list[Tensor]:
    """Of very different sizes, some of them zero."""
    sizes = [10.0 ** ((7 * i + seed) % 9 - 6) for i in range(count)]
    found = [size * normal(seed + i, *SHAPE) for i, size in enumerate(sizes)]
    found[count // 2] = torch.zeros(SHAPE, dtype=torch.float64)
    return found


@few
@given(seeds, st.floats(1e-3, 1), st.floats(0, 0.95), st.floats(0.5, 0.9999), st.sampled_from([1e-8, 1e-3]))
def test_adam_is_torch_s_adam(seed: int, step_size: float, first: float, second: float, epsilon: float) -> None:
    start, gradients = normal(seed, *SHAPE), some_gradients(seed)
    ours = climbed(Adam(step_size, (first, second), epsilon), start, gradients)
    theirs = with_torch(torch.optim.Adam, start, gradients, lr=step_size, betas=(first, second), eps=epsilon)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)


def test_adam_s_defaults_are_lucid_s_step_and_the_paper_s_rest() -> None:
    start, gradients = normal(0, *SHAPE), some_gradients(0)
    theirs = with_torch(torch.optim.Adam, start, gradients, lr=0.05)
    for own, other in zip(climbed(Adam(), start, gradients), theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)


@few
@given(seeds)
def test_adam_s_first_step_is_the_step_size_times_the_sign(seed: int) -> None:
    gradient = normal(seed, *SHAPE)
    (reached,) = climbed(Adam(0.3, epsilon=0.0), torch.zeros(SHAPE, dtype=torch.float64), [gradient])
    torch.testing.assert_close(reached, 0.3 * gradient.sign(), rtol=1e-9, atol=0)


@few
@given(seeds, st.floats(1e-3, 10), st.floats(0, 0.99))
def test_momentum_is_torch_s_momentum(seed: int, step_size: float, momentum: float) -> None:
    start, gradients = normal(seed, *SHAPE), some_gradients(seed)
    ours = climbed(Momentum(step_size, momentum), start, gradients)
    theirs = with_torch(torch.optim.SGD, start, gradients, lr=step_size, momentum=momentum)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)


@few
@given(seeds, st.floats(1e-3, 10))
def test_ascent_is_torch_s_gradient_ascent(seed: int, step_size: float) -> None:
    start, gradients = normal(seed, *SHAPE), some_gradients(seed)
    ours = climbed(Ascent(step_size), start, gradients)
    theirs = with_torch(torch.optim.SGD, start, gradients, lr=step_size)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


@few
@given(seeds, st.floats(1e-3, 20), st.lists(st.floats(-30, 30), min_size=3, max_size=3))
def test_normalised_ascent_divides_by_each_image_s_mean_size(seed: int, step_size: float, powers: list[float]) -> None:
    sizes = torch.tensor([10.0**power for power in powers], dtype=torch.float64).view(3, 1, 1, 1)
    gradient = normal(seed, *SHAPE) * sizes
    step = NormalisedAscent(step_size).start().step(gradient, torch.zeros(3), gradient, never)
    for one, slope in zip(step, gradient, strict=True):
        torch.testing.assert_close(one, step_size * slope / slope.abs().mean(), rtol=1e-12, atol=0)
        assert one.abs().mean().item() == pytest.approx(step_size, rel=1e-12)


@pytest.mark.parametrize("optimizer", [Ascent(2.0), NormalisedAscent(2.0), Momentum(2.0), Adam(2.0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_nothing_pulls_nothing_moves(optimizer: Optimizer, dtype: torch.dtype) -> None:
    gradient = torch.zeros(2, 3, 4, dtype=dtype)
    step = optimizer.start().step(gradient, torch.zeros(2), gradient, never)
    assert torch.equal(step, gradient)
    assert step.dtype == dtype


@pytest.mark.parametrize("optimizer", [Ascent(0.1), NormalisedAscent(0.1), Momentum(0.1), Adam(0.1)], ids=str)
def test_each_image_is_treated_on_its_own(optimizer: Optimizer) -> None:
    start, gradients = normal(1, *SHAPE), some_gradients(1)
    together = climbed(optimizer, start, gradients)
    for i in range(SHAPE[0]):
        alone = climbed(optimizer, start[i : i + 1], [gradient[i : i + 1] for gradient in gradients])
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one[i : i + 1], other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("optimizer", [Ascent(0.1), NormalisedAscent(0.1), Momentum(0.1), Adam(0.1)], ids=str)
def test_a_new_start_has_an_empty_memory(optimizer: Optimizer) -> None:
    start, gradients = normal(2, *SHAPE), some_gradients(2)
    first, second = (climbed(optimizer, start, gradients) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not optimizer.looks_ahead


@pytest.mark.parametrize("optimizer", [Ascent(0.1), NormalisedAscent(0.1), Momentum(0.1), Adam(0.1)], ids=str)
def test_neither_the_point_nor_the_gradient_is_written_to(optimizer: Optimizer) -> None:
    ascender, v = optimizer.start(), normal(3, *SHAPE)
    kept: list[tuple[Tensor, Tensor]] = []
    for i in range(3):
        gradient, before = normal(4 + i, *SHAPE), v.clone()
        step = ascender.step(v, torch.zeros(3), gradient, never)
        assert torch.equal(v, before)
        assert torch.equal(gradient, normal(4 + i, *SHAPE))
        kept.append((step, step.clone()))
    assert all(torch.equal(step, copy) for step, copy in kept)  # later steps leave earlier ones alone


# --- momentum in units of the first gradient ----------------------------------------------------------------------


def first_unit(gradients: list[Tensor]) -> Tensor:
    """Mean size of each image's first gradient, [N, 1, 1, 1]."""
    return gradients[0].abs().mean((1, 2, 3), keepdim=True)


@few
@given(seeds, st.floats(1e-3, 10), st.floats(0, 0.99))
def test_momentum_per_first_gradient_is_torch_s_on_gradients_in_its_units(
    seed: int, step_size: float, momentum: float
) -> None:
    start, gradients = normal(seed, *SHAPE), some_gradients(seed)
    ours = climbed(Momentum(step_size, momentum, per_first_gradient=True), start, gradients)
    scaled = [gradient / first_unit(gradients) for gradient in gradients]
    theirs = with_torch(torch.optim.SGD, start, scaled, lr=step_size, momentum=momentum)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)


@few
@given(seeds, st.lists(st.floats(-30, 30), min_size=3, max_size=3))
def test_no_factor_changes_momentum_per_first_gradient(seed: int, powers: list[float]) -> None:
    """One for each image; without the units it would."""
    start, gradients = normal(seed, *SHAPE), some_gradients(seed)
    factors = torch.tensor([10.0**power for power in powers], dtype=torch.float64).view(3, 1, 1, 1)
    for optimizer in (Momentum(0.1, per_first_gradient=True), Ascent(0.1, per_first_gradient=True)):
        plain, scaled = (climbed(optimizer, start, [k * g for g in gradients]) for k in (1.0, factors))
        for one, other in zip(plain, scaled, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@few
@given(seeds, st.floats(1e-3, 10), st.floats(0, 0.99))
def test_the_first_step_per_first_gradient_has_the_step_size_as_its_mean(
    seed: int, step_size: float, momentum: float
) -> None:
    """Over what the gradient reaches, where a part of the picture lies outside the network's window."""
    gradient = normal(seed, *SHAPE)
    gradient[1, :, 2:] = 0
    (step,) = climbed(Momentum(step_size, momentum, per_first_gradient=True), torch.zeros_like(gradient), [gradient])
    for one, slope in zip(step, gradient, strict=True):
        assert one[slope != 0].abs().mean().item() == pytest.approx(step_size, rel=1e-12)
    assert torch.equal(step[1, :, 2:], gradient[1, :, 2:])


def test_without_memory_momentum_per_first_gradient_is_ascent() -> None:
    start, gradients = normal(0, *SHAPE), some_gradients(0)
    one = climbed(Momentum(0.3, momentum=0.0, per_first_gradient=True), start, gradients)
    other = climbed(Ascent(0.3, per_first_gradient=True), start, gradients)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


@pytest.mark.parametrize("optimizer", [Momentum(0.3, per_first_gradient=True), Ascent(0.3, per_first_gradient=True)])
def test_an_image_s_first_gradient_is_its_first_that_is_not_zero(optimizer: Optimizer) -> None:
    gradients = [normal(i, *SHAPE) for i in range(4)]
    late = [gradient.clone() for gradient in gradients]
    for gradient in late[:2]:
        gradient[1] = 0
    start = normal(9, *SHAPE)
    points, alone = climbed(optimizer, start, late), climbed(optimizer, start[1:2], [g[1:2] for g in gradients[2:]])
    assert torch.equal(points[1][1], start[1])
    for own, other in zip(points[2:], alone, strict=True):
        torch.testing.assert_close(own[1:2], other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("optimizer", [Momentum(0.3, per_first_gradient=True), Ascent(0.3, per_first_gradient=True)])
def test_images_that_go_on_keep_their_units_and_their_memory(optimizer: Optimizer) -> None:
    sizes = torch.tensor([1e-3, 1.0, 1e3], dtype=torch.float64).view(3, 1, 1, 1)
    gradients = [normal(i, *SHAPE) * sizes for i in range(5)]
    ascender, kept = optimizer.start(), torch.tensor([True, False, True])
    zeros = torch.zeros(3)
    steps = [ascender.step(gradients[0], zeros, gradient, never)[kept] for gradient in gradients[:2]]
    ascender.keep(kept)
    steps += [ascender.step(gradients[0][kept], zeros[kept], gradient[kept], never) for gradient in gradients[2:]]
    start = torch.zeros(SHAPE, dtype=torch.float64)
    expected = climbed(optimizer, start, gradients)
    for reached, own in zip(expected, torch.stack(steps).cumsum(0), strict=True):
        torch.testing.assert_close(own, reached[kept], rtol=1e-10, atol=1e-12)
    optimizer.start().keep(kept)  # nothing to remember yet
