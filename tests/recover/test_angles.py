"""How near objectives are to each other: closed forms, and what projections leave."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage.recover.angles import angle, contributions, fraction_inside, projected_angle, projected_target
from preimage.recover.solving import solve

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
powers = st.sampled_from([0.0, 1.0, 2.0, 4.0])

FEATURES, IMAGES, DIMENSION = 7, 4, 3


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def basis(seed: int, count: int = DIMENSION, features: int = FEATURES) -> Tensor:
    return torch.linalg.qr(drawn(seed, features, count))[0]


def z(response: Tensor, k: float) -> Tensor:
    """Z_k(y) of each response, as the paper writes it."""
    y = unit(response)
    return torch.eye(y.shape[-1]).double() - k / (k + 1) * torch.einsum("ni,nj->nij", y, y)


def inside(response: Tensor, k: float, space: Tensor) -> Tensor:
    """The orthogonal projection on Z_k^-1 C by normal equations, [N, features, features]."""
    spanning = torch.linalg.inv(z(response, k)) @ space
    return spanning @ torch.linalg.inv(spanning.mT @ spanning) @ spanning.mT


def times(matrices: Tensor, vectors: Tensor) -> Tensor:
    return torch.einsum("nij,nj->ni", matrices, vectors)


@few
@given(seeds, st.floats(0, 90), st.sampled_from([1, -1]), st.floats(-100, 100))
def test_the_angle_is_the_one_by_which_a_line_was_turned(seed: int, degrees: float, sign: int, power: float) -> None:
    first, second = basis(seed, 2).T
    turn = math.radians(degrees)
    turned = sign * 10.0**power * (math.cos(turn) * first + math.sin(turn) * second)
    assert float(angle(first, turned)) == pytest.approx(degrees, abs=1e-13)
    assert float(angle(turned, first)) == pytest.approx(degrees, abs=1e-13)


def test_parallel_antiparallel_and_perpendicular_lines() -> None:
    first = torch.tensor([[3.0, 0, 4], [3, 0, 4], [3, 0, 4], [1, 1, 0]]).double()
    second = torch.tensor([[6.0, 0, 8], [-6, 0, -8], [4, 0, -3], [0, 1, 1]]).double()
    assert angle(first, second).tolist() == pytest.approx([0, 0, 90, 60], abs=1e-13)
    assert angle(first[:3], first[:3]).tolist() == [0, 0, 0]
    assert angle(first[:3], -first[:3]).tolist() == pytest.approx([0, 0, 0], abs=1e-13)


@pytest.mark.parametrize("turn", [1e-3, 1e-6, 1e-9, 1e-12])
def test_tiny_angles_are_exact(turn: float) -> None:
    """Where acos of the cosine, 1 - turn^2 / 2, would know nothing of it."""
    first, turned = torch.tensor([[1, 0], [math.cos(turn), math.sin(turn)]], dtype=torch.float64)
    assert float(angle(first, turned)) == pytest.approx(math.degrees(turn), rel=1e-12)


def test_angles_of_batches_are_those_of_their_rows() -> None:
    first, second = drawn(0, 2, 5, FEATURES), drawn(1, 2, 5, FEATURES)
    found = angle(first, second)
    assert found.shape == (2, 5)
    cosines = (unit(first) * unit(second)).sum(-1).abs()
    assert found.numpy() == pytest.approx(np.degrees(np.arccos(cosines.numpy())), abs=1e-10)


@few
@given(seeds, powers)
def test_the_projected_target_is_what_the_critical_space_sees_of_the_target(seed: int, k: float) -> None:
    """Z_k x~ is C C^T Z_k x but for its length, and nothing is lost by projecting twice."""
    target, response, space = drawn(seed, IMAGES, FEATURES), drawn(seed + 1, IMAGES, FEATURES), basis(seed + 2)
    found = projected_target(target, response, k, space)
    assert torch.allclose(found.norm(dim=1), torch.ones(IMAGES).double(), rtol=0, atol=1e-14)
    seen = times(z(response, k), target) @ space @ space.T
    assert torch.allclose(unit(times(z(response, k), found)), unit(seen), rtol=0, atol=1e-12)
    again = projected_target(found, response, k, space)
    assert torch.allclose(again, found, rtol=0, atol=1e-12)


@few
@given(seeds, powers)
def test_without_a_critical_space_the_projected_target_is_the_target(seed: int, k: float) -> None:
    target, response = drawn(seed, IMAGES, FEATURES), drawn(seed + 1, IMAGES, FEATURES)
    for space in (None, basis(seed, FEATURES)):
        assert torch.allclose(projected_target(target, response, k, space), unit(target), rtol=0, atol=1e-13)
        assert torch.allclose(fraction_inside(target, response, k, space), torch.ones(IMAGES).double(), atol=1e-13)
        plain = angle(target, response)
        assert torch.allclose(projected_angle(target, response, response, k, space), plain, rtol=0, atol=1e-11)


@few
@given(seeds, powers)
def test_the_solver_finds_the_projected_target_in_a_perfect_world(seed: int, k: float) -> None:
    """Where the network never answers outside of C and the image is the exact maximum (section 2.2)."""
    target, response, space = drawn(seed, 1, FEATURES), drawn(seed + 1, 1, FEATURES), basis(seed + 2)
    unmoved = times(z(response, k), target)[0] @ space
    moved = space - torch.outer(space @ unmoved, unmoved) / unmoved.square().sum()
    jacobian = moved @ drawn(seed + 3, DIMENSION, 20)
    found = solve(response, (jacobian @ jacobian.T)[None], k, space).best
    expected = projected_target(target, response, k, space)
    assert float(angle(found, expected)) < 1e-5


@few
@given(seeds, powers, st.floats(-3, 3))
def test_what_lies_outside_of_the_critical_space_does_not_count(seed: int, k: float, power: float) -> None:
    target, response, space = drawn(seed, IMAGES, FEATURES), drawn(seed + 1, IMAGES, FEATURES), basis(seed + 2)
    project = inside(response, k, space)
    outside = drawn(seed + 3, IMAGES, FEATURES)
    outside = outside - times(project, outside)
    other = target + 10.0**power * outside
    assert float(projected_angle(target, other, response, k, space).max()) < 1e-8
    assert float(angle(target, other).min()) > 1e-3
    # And of any two it is the angle of what is inside.
    different = drawn(seed + 4, IMAGES, FEATURES)
    expected = angle(times(project, target), times(project, different))
    assert torch.allclose(projected_angle(target, different, response, k, space), expected, rtol=0, atol=1e-9)


@few
@given(seeds, powers, st.floats(0, 90))
def test_the_fraction_inside_is_that_of_the_two_parts(seed: int, k: float, degrees: float) -> None:
    """Of v = cos and w = sin: cos / (cos + sin); 1 inside, 0 outside."""
    response, space = drawn(seed, IMAGES, FEATURES), basis(seed + 1)
    project = inside(response, k, space)
    anything = drawn(seed + 2, IMAGES, FEATURES)
    v, w = unit(times(project, anything)), unit(anything - times(project, anything))
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    found = fraction_inside(5 * (cosine * v + sine * w), response, k, space)
    assert found.tolist() == pytest.approx([cosine / (cosine + sine)] * IMAGES, abs=1e-11)
    assert fraction_inside(v, response, k, space).tolist() == pytest.approx([1] * IMAGES, abs=1e-11)
    assert fraction_inside(w, response, k, space).tolist() == pytest.approx([0] * IMAGES, abs=1e-11)


@few
@given(seeds, powers)
def test_contributions_are_the_squared_cosines_and_sum_to_one(seed: int, k: float) -> None:
    target, response = unit(drawn(seed, IMAGES, FEATURES)), drawn(seed + 1, IMAGES, FEATURES)
    jacobian = drawn(seed + 2, IMAGES, FEATURES, 20)
    found = contributions(target, solve(response, jacobian @ jacobian.mT, k))
    assert found.shape == (IMAGES, FEATURES)
    assert found.sum(1).tolist() == pytest.approx([1] * IMAGES, abs=1e-12)
    for squares, x, y, dy in zip(found, target, response, jacobian, strict=True):
        left = torch.linalg.svd(z(y[None], k)[0] @ dy)[0]  # singular values descend
        assert squares.numpy() == pytest.approx((left.T @ x).square().flip(0).numpy(), abs=1e-9)


@few
@given(seeds, powers)
def test_a_contribution_of_none_half_or_all_tells_the_angle(seed: int, k: float) -> None:
    """90 (1 - c^2) is the angle in degrees there, and off by up to 9.5 elsewhere (section 3.5)."""
    response, jacobian = drawn(seed, 1, FEATURES), drawn(seed + 1, 1, FEATURES, 20)
    solution = solve(response, jacobian @ jacobian.mT, k)
    first, second = solution.objectives[0, :2]
    for degrees in (0, 10, 25, 45, 60, 80, 90):
        turn = math.radians(degrees)
        target = (math.cos(turn) * first + math.sin(turn) * second)[None]
        squares = contributions(target, solution)[0]
        assert squares[:2].tolist() == pytest.approx([math.cos(turn) ** 2, math.sin(turn) ** 2], abs=1e-12)
        assert float(angle(target, solution.best)) == pytest.approx(degrees, abs=1e-10)
        told = 90 * (1 - float(squares[0]))
        assert told == pytest.approx(degrees, abs=1e-10 if degrees in (0, 45, 90) else 9.5)
