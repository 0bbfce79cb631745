"""Principal vectors and the merging of subspaces: scipy's angles, closed forms in a plane, orthonormal results."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage.recover.principal_vectors import merged, principal_vectors, same_space, slerp

few = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**31)
shares = st.floats(0, 1)
weights = st.integers(1, 31)


def subspace(seed: int, features: int, dimension: int) -> Tensor:
    normal = torch.randn(features, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(normal)[0]


def near(space: Tensor, seed: int, by: float) -> Tensor:
    """A subspace of the same dimension, turned by something in the order of `by` radians."""
    return torch.linalg.qr(space + by * subspace(seed, *space.shape))[0]


def line(degrees: float) -> Tensor:
    """A line in a plane, [2, 1]."""
    return torch.tensor([[math.cos(math.radians(degrees))], [math.sin(math.radians(degrees))]], dtype=torch.float64)


def is_orthonormal(vectors: Tensor) -> bool:
    return bool(torch.allclose(vectors.mT @ vectors, torch.eye(vectors.shape[1], dtype=torch.float64), atol=1e-12))


def projector(vectors: Tensor) -> Tensor:
    return vectors @ vectors.mT


@few
@given(seeds, st.integers(1, 12), st.data())
def test_principal_angles_are_scipy_s(seed: int, features: int, data: st.DataObject) -> None:
    a = subspace(seed, features, data.draw(st.integers(1, features)))
    b = subspace(seed + 1, features, data.draw(st.integers(1, features)))
    p, q, angles = principal_vectors(a, b)
    assert p.shape == q.shape == (features, min(a.shape[1], b.shape[1]))
    expected = scipy.linalg.subspace_angles(a.numpy(), b.numpy())[::-1]
    np.testing.assert_allclose(angles, expected, atol=1e-7)
    assert is_orthonormal(p) and is_orthonormal(q)
    torch.testing.assert_close(p.mT @ q, torch.diag(angles.cos()), atol=1e-12, rtol=0)
    torch.testing.assert_close(projector(a) @ p, p, atol=1e-12, rtol=0)
    torch.testing.assert_close(projector(b) @ q, q, atol=1e-12, rtol=0)


@pytest.mark.parametrize("angle", [1e-12, 1e-9, 1e-6, 1e-3, 1.0, math.pi / 2])
def test_angles_are_known_to_the_last_digits(angle: float) -> None:
    """Where the arc cosine of a singular value gives 0 or 1e-8."""
    a = torch.eye(3, dtype=torch.float64)[:, :1]
    b = torch.tensor([[math.cos(angle)], [0], [math.sin(angle)]], dtype=torch.float64)
    assert principal_vectors(a, b)[2].item() == pytest.approx(angle, rel=1e-10)


@few
@given(st.floats(-13, 0.19), shares, seeds)
def test_slerp_goes_its_share_of_the_arc(exponent: float, share: float, seed: int) -> None:
    """Also where it is linear, below 1e-4."""
    angle = 10**exponent  # up to 89 degrees
    frame = subspace(seed, 5, 2)
    p, q = frame[:, :1], math.cos(angle) * frame[:, :1] + math.sin(angle) * frame[:, 1:]
    found = slerp(p, q, torch.tensor([angle], dtype=torch.float64), share)
    expected = math.cos(share * angle) * frame[:, :1] + math.sin(share * angle) * frame[:, 1:]
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert found.norm().item() == pytest.approx(1, abs=1e-14)


@few
@given(seeds, st.integers(2, 12), shares, st.data())
def test_slerp_of_principal_vectors_is_orthonormal(seed: int, features: int, share: float, data: st.DataObject) -> None:
    dimension = data.draw(st.integers(1, features))
    a = subspace(seed, features, dimension)
    b = near(a, seed + 1, 10 ** data.draw(st.floats(-9, 0)))
    assert is_orthonormal(slerp(*principal_vectors(a, b), share))


@few
@given(seeds, st.integers(1, 12), weights, weights, st.data())
def test_merging_a_space_with_itself_gives_it_back(
    seed: int, features: int, first: int, second: int, data: st.DataObject
) -> None:
    """In whichever bases it comes."""
    a = subspace(seed, features, data.draw(st.integers(1, features)))
    b = a @ subspace(seed + 1, a.shape[1], a.shape[1])
    torch.testing.assert_close(projector(merged(a, first, b, second)), projector(a), atol=1e-12, rtol=0)


@few
@given(st.floats(-90, 90), st.floats(-44.9, 44.9), weights, weights)
def test_two_lines_merge_at_their_weighted_mean(start: float, apart: float, first: int, second: int) -> None:
    found = merged(line(start), first, line(start + apart), second)
    expected = line(start + apart * second / (first + second))
    torch.testing.assert_close(projector(found), projector(expected), atol=1e-12, rtol=0)


@few
@given(st.floats(-90, 90), st.floats(0, 45), st.sampled_from([-1, 1]))
def test_lines_at_45_degrees_or_more_have_nothing_in_common(start: float, more: float, side: int) -> None:
    assert merged(line(start), 1, line(start + side * (45 + more)), 1).shape == (2, 0)


def test_only_what_is_near_is_kept() -> None:
    """Planes that share a line exactly, are 30 degrees apart in a second direction and 60 in a third."""
    eye = torch.eye(6, dtype=torch.float64)
    turned = [eye[:, i : i + 2] @ line(angle) for i, angle in ((2, 30), (4, 60))]
    a, b = torch.stack([eye[:, 0], eye[:, 2], eye[:, 4]], 1), torch.cat([eye[:, :1], *turned], 1)
    expected = torch.cat([eye[:, :1], eye[:, 2:4] @ line(10)], 1)
    torch.testing.assert_close(projector(merged(a, 2, b, 1)), projector(expected), atol=1e-12, rtol=0)


def test_nothing_merges_to_nothing() -> None:
    some, none = subspace(0, 4, 2), torch.zeros(4, 0, dtype=torch.float64)
    for a, b in ((some, none), (none, some), (none, none)):
        assert merged(a, 1, b, 1).shape == (4, 0)


@few
@given(seeds, st.integers(2, 10), st.floats(1, 89), st.data())
def test_spaces_are_the_same_up_to_their_largest_angle(
    seed: int, features: int, degrees: float, data: st.DataObject
) -> None:
    dimension = data.draw(st.integers(1, features // 2))
    frame = subspace(seed, features, 2 * dimension)
    angles = [data.draw(st.floats(0, degrees)) for _ in range(dimension - 1)] + [degrees]
    a = frame[:, :dimension]
    b = torch.cat([frame[:, [i, dimension + i]] @ line(angle) for i, angle in enumerate(angles)], 1)
    b = b @ subspace(seed + 1, dimension, dimension)
    assert same_space(a, b, degrees + 1e-6)
    assert not same_space(a, b, degrees - 1e-6)
    assert not same_space(a, frame[:, : dimension + 1], 89)
