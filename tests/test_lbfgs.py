"""L-BFGS over a batch: known maxima, one line search for each image, kinks, and that it never goes down."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage.optimization import LBFGS, Evaluate

few = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 2**31)
Function = Callable[[Tensor], Tensor]  # [N, ...] -> [N]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def evaluated(function: Function) -> Evaluate:
    def evaluate(parameters: Tensor) -> tuple[Tensor, Tensor]:
        v = parameters.detach().requires_grad_(True)
        value = function(v)
        (gradient,) = torch.autograd.grad(value.sum(), v)
        return value.detach(), gradient

    return evaluate


def climbed(function: Function, start: Tensor, steps: int, optimizer: LBFGS | None = None) -> list[Tensor]:
    """Every point reached, the start first."""
    ascender, evaluate, points = (optimizer or LBFGS()).start(), evaluated(function), [start]
    for _ in range(steps):
        value, gradient = evaluate(points[-1])
        points.append(points[-1] + ascender.step(points[-1], value, gradient, evaluate))
    return points


def quadratics(seed: int, shape: tuple[int, ...], scales: list[float]) -> tuple[Function, Tensor]:
    """-(v - c)^T H (v - c) / 2 for each image, with its own c and its own H: condition 100, and `scales` apart."""
    count, size = len(scales), int(torch.tensor(shape).prod())
    axes, _ = torch.linalg.qr(normal(seed, count, size, size))
    curvature = torch.logspace(0, 2, size, dtype=torch.float64) * torch.tensor(scales, dtype=torch.float64)[:, None]
    hessian = axes @ torch.diag_embed(curvature) @ axes.transpose(1, 2)
    centre = normal(seed + 1, count, *shape)

    def function(v: Tensor) -> Tensor:
        away = (v - centre).flatten(1)
        return -torch.einsum("nd,nde,ne->n", away, hessian, away) / 2

    return function, centre


def rosenbrock(v: Tensor) -> Tensor:
    x, y = v.flatten(1).unbind(1)
    return -((1 - x) ** 2 + 100 * (y - x**2) ** 2)


def wavy(v: Tensor) -> Tensor:
    """Many hills, plateaus and a kink."""
    flat = v.flatten(1)
    return (torch.sin(3 * flat) + torch.tanh(flat.roll(1, 1) * flat) - 0.05 * flat**2 - flat.abs() / 3).sum(1)


@few
@given(seeds, st.permutations([1e-4, 1.0, 1e3, 1e6]))
def test_every_quadratic_of_a_batch_reaches_its_own_maximum(seed: int, scales: list[float]) -> None:
    function, centre = quadratics(seed, (2, 3), scales)
    reached = climbed(function, centre + normal(seed + 2, *centre.shape), 40)[-1]
    torch.testing.assert_close(reached, centre, rtol=0, atol=1e-9)


@few
@given(seeds)
def test_each_image_goes_the_way_that_it_goes_alone(seed: int) -> None:
    scales = [1e-3, 1.0, 1e5]
    function, centre = quadratics(seed, (5,), scales)
    start = centre + normal(seed + 2, *centre.shape)
    together = climbed(function, start, 12)
    for i in range(len(scales)):

        def own(v: Tensor, i: int = i) -> Tensor:
            return function(torch.cat([centre[:i], v, centre[i + 1 :]]))[i : i + 1]

        alone = climbed(own, start[i : i + 1], 12)
        for step, (one, other) in enumerate(zip(together, alone, strict=True)):
            torch.testing.assert_close(one[i : i + 1], other, rtol=1e-9, atol=1e-9, msg=f"image {i}, step {step}")


def by_hand(points: list[Tensor], slopes: list[Tensor], history: int) -> Tensor:
    """The direction of BFGS, from whole matrices (Nocedal & Wright, 6.17): H <- L H L^T + s s^T / s^T y with
    L = I - s y^T / s^T y, begun at (s^T y / y^T y) I of the last pair. Pairs of negative curvature are left out, and
    so is all before a search that failed."""
    size = points[0].numel()
    pairs: list[tuple[Tensor, Tensor] | None] = []
    for (v, g), (new, new_g) in itertools.pairwise(zip(points, slopes, strict=True)):
        s, y = (new - v).flatten(), (g - new_g).flatten()
        if not s.any():
            pairs = [None] * len(pairs)
        pairs.append((s, y) if s @ y > 0 else None)
    good = [pair for pair in pairs[-history:] if pair]
    # The first matrix is that of the last good pair, also where that is older than the memory.
    scaled_by = next((pair for pair in reversed(pairs) if pair), None)
    one = torch.eye(size, dtype=torch.float64)
    inverse = one if scaled_by is None else one * (scaled_by[0] @ scaled_by[1] / scaled_by[1].square().sum())
    for s, y in good:
        left = one - torch.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + torch.outer(s, s) / (s @ y)
    return inverse @ slopes[-1].flatten()


@few
@given(seeds, st.sampled_from([2, 5, 100]), st.sampled_from([1, 2, 25]))
def test_every_direction_is_that_of_bfgs(seed: int, history: int, evaluations: int) -> None:
    """Short searches leave the Wolfe conditions unmet, so that negative curvature and failures come up too."""
    count = 10
    points = climbed(wavy, 2 * normal(seed, count, 4), 10, LBFGS(history=history, evaluations=evaluations))
    slopes = [evaluated(wavy)(v)[1] for v in points]
    for k, (before, after) in enumerate(itertools.pairwise(points)):
        for i in range(count):
            direction = by_hand([v[i] for v in points[: k + 1]], [g[i] for g in slopes[: k + 1]], history)
            step = after[i] - before[i]
            if step.any() and step.norm() > 1e-6:  # smaller ones are rounded too much to have a direction
                cosine = step @ direction / step.norm() / direction.norm()
                assert cosine > 1 - 1e-8, f"image {i}, step {k}"


def test_after_a_search_that_fails_it_starts_again_from_the_gradient() -> None:
    """On a gentle slope it learns to take huge steps; six looks do not find back from one to the ridge ahead."""

    def ridge(v: Tensor) -> Tensor:
        x = v[:, 0]
        return torch.where(x < 1, x - 1e-6 * x**2, 1 - 1e-6 - 1e6 * (x - 1))

    points = climbed(ridge, torch.tensor([[-100.0]], dtype=torch.float64), 20, LBFGS(evaluations=6))
    reached = torch.stack(points)[:, 0, 0]
    assert ((reached.diff() == 0) & (reached[1:] < 0)).any()  # a search did fail on the way
    assert reached[-1].item() == pytest.approx(1, abs=1e-2)


def test_rosenbrock() -> None:
    start = torch.tensor([[-1.2, 1.0], [3.0, -4.0], [0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    reached = climbed(rosenbrock, start, 80)[-1]
    torch.testing.assert_close(reached, torch.ones_like(start), rtol=0, atol=1e-9)
    assert torch.equal(reached[3], start[3])  # what starts on the top stays there


@few
@given(seeds, st.sampled_from([torch.float32, torch.float64]), st.sampled_from([1, 2, 100]))
def test_it_never_goes_down(seed: int, dtype: torch.dtype, history: int) -> None:
    start = 3 * normal(seed, 4, 2, 3).to(dtype)
    values = torch.stack([wavy(v) for v in climbed(wavy, start, 25, LBFGS(history=history))])
    assert (values.diff(dim=0) >= 0).all()
    assert (values[-1] > values[0]).all()


@few
@given(seeds)
def test_a_kink_at_the_maximum_is_reached(seed: int) -> None:
    """-sum w |x - c|: the gradient never fades, and jumps at the maximum."""
    centre, weight = normal(seed, 3, 2), normal(seed + 1, 3, 2).abs() + 0.5

    def kinked(v: Tensor) -> Tensor:
        return -(weight * (v - centre).abs()).sum(1)

    points = climbed(kinked, centre + normal(seed + 2, 3, 2), 60)
    values = torch.stack([kinked(v) for v in points])
    assert torch.isfinite(values).all()
    assert (values.diff(dim=0) >= 0).all()
    assert (values[-1] > 1e-6 * values[0]).all()


def test_one_dimensional_absolute_value_is_reached_to_the_last_digits() -> None:
    start = torch.tensor([[1.0], [-1e4], [1e-3], [123.456]], dtype=torch.float64)
    reached = climbed(lambda v: -v.abs().sum(1), start, 40)[-1]
    assert (reached.abs() < 1e-9 * start.abs()).all()


def test_where_the_gradient_is_zero_nothing_moves() -> None:
    start = torch.zeros(2, 3, dtype=torch.float64)
    assert torch.equal(climbed(lambda v: (v**2).sum(1), start, 3)[-1], start)


@few
@given(seeds, st.integers(1, 6))
def test_a_line_search_looks_no_more_often_than_it_may(seed: int, most: int) -> None:
    looks, ascender = 0, LBFGS(evaluations=most).start()
    plain = evaluated(wavy)

    def counting(v: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal looks
        looks += 1
        return plain(v)

    v = 3 * normal(seed, 3, 4)
    for _ in range(8):
        looks = 0
        value, gradient = plain(v)
        v = v + ascender.step(v, value, gradient, counting)
        assert looks <= most


@few
@given(seeds)
def test_every_step_meets_the_wolfe_conditions(seed: int) -> None:
    """On functions that are bounded above and smooth, and with looks enough."""
    settings_ = LBFGS(evaluations=60)
    function, centre = quadratics(seed, (4,), [1e-2, 1.0, 1e4])
    points = climbed(function, centre + normal(seed + 2, *centre.shape), 6, settings_)
    evaluate = evaluated(function)
    for before, after in itertools.pairwise(points):
        (value, slope), (reached, new_slope) = evaluate(before), evaluate(after)
        step = after - before
        ascent, left = (step * slope).sum(1), (step * new_slope).sum(1)
        slack = 1e-9 * (1 + value.abs())
        assert (reached >= value + settings_.sufficient * ascent - slack).all()
        assert (left <= settings_.curvature * ascent + slack).all()
        assert (ascent > 0).all()


@pytest.mark.parametrize("history", [1, 3, 100])
def test_a_short_memory_still_arrives(history: int) -> None:
    function, centre = quadratics(0, (6,), [1.0, 1e3])
    start = centre + normal(2, *centre.shape)
    assert (function(climbed(function, start, 150, LBFGS(history=history))[-1]) > -1e-8).all()


def test_a_new_start_has_an_empty_memory() -> None:
    function, centre = quadratics(0, (6,), [1.0, 1e3])
    start, optimizer = centre + normal(2, *centre.shape), LBFGS()
    assert torch.equal(climbed(function, start, 5, optimizer)[-1], climbed(function, start, 5, optimizer)[-1])
    assert optimizer.looks_ahead
