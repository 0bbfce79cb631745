"""Critical spaces: planted co-kernels are found and random ones are not, against brute force and explicit Jacobians."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage import RequestError
from preimage.recover.co_kernel import CoKernels, co_kernel
from preimage.recover.critical_space import (
    CriticalSpace,
    choose_space,
    critical_spaces,
    dead_features,
    median_angles,
)
from preimage.recover.principal_vectors import same_space
from preimage.recover.solving import shrinking
from preimage.recover.threshold_search import search

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(seed: int, size: int) -> Tensor:
    return torch.linalg.qr(normal(seed, size, size))[0]


def projector(vectors: Tensor) -> Tensor:
    return vectors @ vectors.mT


def degrees_apart(a: Tensor, b: Tensor) -> float:
    """The largest principal angle between two subspaces of the same dimension."""
    assert a.shape == b.shape
    return float(np.degrees(scipy.linalg.subspace_angles(a.numpy(), b.numpy())[0]))


def planted(seed: int, count: int, vectors: Tensor, sizes: Sequence[float], tilt: float) -> Tensor:
    """Gram matrices with known singular vectors.

    Each sample has `vectors`, [features, m], each tilted by about `tilt` radians its own way, with singular values
    near `sizes`; two random ones of its own with 1e-5 to 1e-4; and random ones with 0.1 to 1, the largest 1.
    """
    features, m = vectors.shape
    noise = tilt * normal(seed, count, features, m) / math.sqrt(features)
    frames = torch.linalg.qr(torch.cat([vectors + noise, normal(seed + 1, count, features, features - m)], 2))[0]
    values = 10 ** -uniform(seed + 2, count, features)
    values[:, m : m + 2] *= 1e-4
    values[:, :m] = torch.tensor(sizes, dtype=torch.float64) * (0.5 + 0.5 * uniform(seed + 3, count, m))
    values[:, -1] = 1
    return (frames * values[:, None].square()) @ frames.mT


def layered(seed: int, count: int, features: int, null: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Jacobians W D_i R of a layer of ReLUs, and their Grams: their co-kernels are alike but never the same."""
    hidden = 4 * features
    weights = rotation(seed, features) * torch.logspace(0, -2, features, dtype=torch.float64)
    weights = weights @ normal(seed + 1, features, hidden)
    if null is not None:
        weights = weights - projector(null) @ weights
    open_ = (uniform(seed + 2, count, 1, hidden) < 0.5).double()
    jacobians = (weights * open_) @ normal(seed + 3, hidden, 5 * features)
    jacobians = jacobians + 0.003 * normal(seed + 4, *jacobians.shape)
    return jacobians, jacobians @ jacobians.mT


def by_the_book(jacobians: Tensor) -> Callable[[float], Tensor]:
    """Algorithm 1 word by word, from Jacobians, vector by vector: rho -> the co-kernel."""
    decomposed = [np.linalg.svd(one, full_matrices=False)[:2] for one in jacobians.numpy()]
    return lambda rho: torch.from_numpy(_merged([u[:, sigma < rho * sigma[0]] for u, sigma in decomposed]))


def _merged(spaces: list[np.ndarray]) -> np.ndarray:
    queue = [(u, 1) for u in spaces]
    while len(queue) > 1:
        (u, w_u), (v, w_v) = queue.pop(0), queue.pop(0)
        left, cosines, right = np.linalg.svd(u.T @ v, full_matrices=False)
        between, t = [], w_v / (w_u + w_v)
        for p, q, cosine in zip((u @ left).T, (v @ right.T).T, cosines, strict=True):
            angle = np.arccos(min(cosine, 1))
            if angle < np.pi / 4:
                mixed = (
                    (np.sin((1 - t) * angle) * p + np.sin(t * angle) * q) / np.sin(angle)
                    if angle > 1e-6
                    else (p + q) / 2
                )
                between.append(mixed)
        queue.append((np.stack(between, 1) if between else u[:, :0], w_u + w_v))
    return queue[0][0]


def ones(features: int) -> Tensor:
    return torch.full((features, 1), features**-0.5, dtype=torch.float64)


def canonical(features: int, i: int) -> Tensor:
    return torch.eye(features, dtype=torch.float64)[:, i : i + 1]


def planar(*degrees: float) -> Tensor:
    """Grams in a plane whose small singular vectors, 0.1 of the large ones, are lines at these angles."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    small = torch.stack([angles.cos(), angles.sin()], 1)
    return torch.eye(2, dtype=torch.float64) - 0.99 * small[:, :, None] * small[:, None, :]


@pytest.mark.parametrize("features", [10, 40])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_planted_is_found_and_what_is_each_sample_s_own_is_not(features: int, seed: int) -> None:
    """Though each sample's own two are ten times nearer to zero."""
    vector = rotation(seed, features)[:, :1]
    grams = planted(seed, 32, vector, [1e-3], tilt=0.05)
    spaces = critical_spaces(grams, below=0.2)
    assert [one.dimension for one in spaces] == [features, features - 1]
    ratios = CoKernels(grams).ratios
    low, high = spaces[1].thresholds
    assert low == pytest.approx(ratios[:, 2].max().item())  # as soon as the last sample has it
    assert high == 0.2
    # 32 independent tilts of about 0.05 average out
    assert degrees_apart(spaces[1].complement, vector) < math.degrees(0.05 / math.sqrt(32)) * 2


@pytest.mark.parametrize("features", [10, 40])
@pytest.mark.parametrize("seed", range(3))
def test_random_jacobians_have_nothing_in_common(features: int, seed: int) -> None:
    grams = planted(seed, 32, torch.zeros(features, 0, dtype=torch.float64), [], tilt=0)
    spaces = critical_spaces(grams, below=0.2)
    assert [one.dimension for one in spaces] == [features]
    assert spaces[0].thresholds == (0, 0.2)


@pytest.mark.parametrize("seed", range(3))
def test_an_untrained_class_and_shift_invariance(seed: int) -> None:
    """The paper's DN4cl: (1, ..., 1) leaves nine dimensions, e_4 eight (section 3.5)."""
    one_vector, e_4 = ones(10), canonical(10, 4)
    e_4 = torch.linalg.qr(torch.cat([one_vector, e_4], 1))[0][:, 1:]
    grams = planted(seed, 32, torch.cat([one_vector, e_4], 1), [1e-3, 3e-2], tilt=0.01)
    whole, nine, eight = critical_spaces(grams, below=0.2)
    assert (whole.dimension, nine.dimension, eight.dimension) == (10, 9, 8)
    assert degrees_apart(nine.complement, one_vector) < 0.5
    assert degrees_apart(eight.complement, torch.cat([one_vector, canonical(10, 4)], 1)) < 0.5
    assert whole.thresholds[0] == 0
    assert whole.thresholds[1] == nine.thresholds[0] <= 1e-3
    assert nine.thresholds[1] == eight.thresholds[0] <= 3e-2
    assert eight.thresholds[1] == 0.2
    for space in (whole, nine, eight):
        both = torch.cat([space.basis, space.complement], 1)
        torch.testing.assert_close(both.mT @ both, torch.eye(10, dtype=torch.float64), atol=1e-12, rtol=0)


@few
@given(seeds, st.integers(2, 9), st.floats(0.002, 0.9))
def test_algorithm_1_by_the_book(seed: int, count: int, rho: float) -> None:
    jacobians, grams = layered(seed, count, 7, null=ones(7))
    found, expected = co_kernel(grams, rho), by_the_book(jacobians)(rho)
    assert found.shape == expected.shape
    torch.testing.assert_close(projector(found), projector(expected), atol=1e-6, rtol=0)


@few
@given(st.lists(st.floats(-22, 22), min_size=2, max_size=33), st.floats(-90, 90))
def test_lines_in_a_plane_merge_at_the_mean_of_their_angles(angles: list[float], turn: float) -> None:
    """Each sample counts the same, also where their number is odd."""
    found = co_kernel(planar(*(angle + turn for angle in angles)), 0.5)
    mean = math.radians(sum(angles) / len(angles) + turn)
    expected = torch.tensor([[math.cos(mean)], [math.sin(mean)]], dtype=torch.float64)
    torch.testing.assert_close(projector(found), projector(expected), atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("angles", "dimension"),
    [
        ((0, 40, 80, 40), 1),  # 20 and 60, which are 40 apart
        ((0, 80, 40, 40), 0),  # the first two are apart
        ((0, 25, 50), 1),  # 12.5, then 50 with it
        ((0, 50, 25), 0),
        ((0, 0, 44, 44, 50), 0),  # the fifth waits in front of what was merged, and meets the first pair
        ((44, 44, 4, 4, 50), 1),
    ],
)
def test_samples_merge_first_in_first_out(angles: tuple[float, ...], dimension: int) -> None:
    assert co_kernel(planar(*angles), 0.5).shape == (2, dimension)


def test_a_ratio_itself_is_not_below_the_threshold() -> None:
    samples = CoKernels(planar(0, 10, 20))
    largest = samples.ratios[:, 0].max().item()
    assert largest == pytest.approx(0.1)
    assert samples.at(largest).shape[1] == 0
    assert samples.at(math.nextafter(largest, 1)).shape[1] == 1


def test_no_threshold_gives_a_space_that_the_exact_search_lacks() -> None:
    """Nor one that its 45 degrees do not cover."""
    jacobians, grams = layered(0, 5, 6)
    every, kept = critical_spaces(grams, turn=0), critical_spaces(grams)
    assert 2 < len(kept) < len(every)
    book, seen = by_the_book(jacobians), set()
    for rho in torch.logspace(-3, -1e-4, 2500, dtype=torch.float64).tolist():
        found = book(rho)
        listed = [[one for one in some if one.thresholds[0] < rho <= one.thresholds[1]] for some in (every, kept)]
        if not found.shape[1]:  # the whole space, which is listed once
            assert not any(one for some in listed for one in some if one.dimension < 6)
            continue
        (very,), (like,) = listed
        torch.testing.assert_close(projector(very.complement), projector(found), atol=1e-6, rtol=0)
        assert degrees_apart(like.complement, found) <= 45
        seen.add(very.thresholds)
    assert len(seen) > 0.8 * len(every)


def test_spaces_come_by_rising_threshold_the_whole_one_first() -> None:
    grams = layered(1, 32, 10, null=ones(10))[1]
    spaces = critical_spaces(grams)
    assert [one.dimension == 10 for one in spaces] == [True] + [False] * (len(spaces) - 1)
    # A vector that Dy shortens to r lies within r / rho of the singular vectors below rho.
    share = CriticalSpace.without(ones(10)).residual(grams).max().item()
    assert degrees_apart(spaces[1].complement, ones(10)) < math.degrees(share / spaces[1].thresholds[1])
    bounds = [bound for one in spaces for bound in one.thresholds]
    assert bounds == sorted(bounds)
    for one, after in pairwise(spaces):  # neighbours differ
        if one.thresholds[1] == after.thresholds[0] and one.dimension == after.dimension:
            assert degrees_apart(one.complement, after.complement) > 45


def test_a_co_kernel_of_zeros_leaves_the_whole_space_to_rho_0() -> None:
    jacobians = normal(0, 4, 5, 30)
    jacobians[:, [1, 3]] = 0
    whole, three = critical_spaces(jacobians @ jacobians.mT, below=1e-3)
    assert (whole.dimension, whole.thresholds) == (5, (0, 0))
    assert (three.dimension, three.thresholds) == (3, (1e-8, 1e-3))
    assert degrees_apart(three.complement, torch.cat([canonical(5, 1), canonical(5, 3)], 1)) < 1e-9


@few
@given(seeds, st.lists(st.floats(-3, -0.01), min_size=2, max_size=12))
def test_thresholds_may_come_in_any_order(seed: int, exponents: list[float]) -> None:
    """What is remembered of one threshold does not leak into the next."""
    grams = layered(seed, 6, 5)[1]
    samples = CoKernels(grams)
    for rho in (10**one for one in exponents):
        assert torch.equal(samples.at(rho), CoKernels(grams).at(rho))


@few
@given(seeds)
def test_rotated_features_have_rotated_spaces(seed: int) -> None:
    grams, turn = layered(seed, 8, 6, null=ones(6))[1], rotation(seed + 9, 6)
    spaces, rotated = critical_spaces(grams), critical_spaces(turn @ grams @ turn.mT)
    assert [one.dimension for one in spaces] == [one.dimension for one in rotated]
    for one, other in zip(spaces, rotated, strict=True):
        assert other.thresholds == pytest.approx(one.thresholds, rel=1e-6)
        torch.testing.assert_close(projector(other.basis), turn @ projector(one.basis) @ turn.mT, atol=1e-6, rtol=0)


@pytest.mark.parametrize("resolution", [None, 1e-3, 1 / 16])
def test_bisection_finds_what_the_exact_search_finds(resolution: float | None) -> None:
    """Of 60 features, with more ratios than are tried one by one where nobody says so."""
    vectors = rotation(0, 60)[:, :3]
    grams = planted(0, 16, vectors, [1e-7, 1e-3, 2e-2], tilt=0.02)
    exact, found = (
        critical_spaces(grams, below=0.15, resolution=0),
        critical_spaces(grams, below=0.15, resolution=resolution),
    )
    assert [one.dimension for one in exact] == [one.dimension for one in found] == [60, 59, 58, 57]
    for i, (one, other) in enumerate(zip(exact, found, strict=True)):
        assert one.thresholds[0] <= other.thresholds[0] <= one.thresholds[0] * 10 ** (resolution or 0)
        assert degrees_apart(other.complement, vectors[:, :i]) < 1 if i else other.dimension == 60


def test_bisection_stops_at_its_resolution_and_not_before() -> None:
    samples = CoKernels(layered(0, 32, 12)[1])
    tried = {resolution: list(search(samples, 1.0, 45, resolution)) for resolution in (0.0, 1e-2, 1 / 16)}
    assert len(tried[0.0]) > len(tried[1e-2]) > len(tried[1 / 16])
    for resolution, found in tried.items():
        for (before, _, low), (after, high, _) in pairwise(found):
            assert low <= high <= low * 10**resolution or same_space(before, after, 45)


@few
@given(seeds, st.integers(1, 5))
def test_residual_is_the_share_of_the_spectral_norm(seed: int, missing: int) -> None:
    jacobians, grams = layered(seed, 4, 6)
    space = CriticalSpace.without(rotation(seed, 6)[:, :missing])
    expected = [
        np.linalg.norm(space.complement.numpy().T @ one, 2) / np.linalg.norm(one, 2) for one in jacobians.numpy()
    ]
    np.testing.assert_allclose(space.residual(grams), expected, rtol=1e-7)
    assert space.dimension == 6 - missing
    torch.testing.assert_close(projector(space.basis) + projector(space.complement), torch.eye(6, dtype=torch.float64))


def test_the_whole_space_leaves_nothing_out() -> None:
    whole = CriticalSpace.whole(6)
    assert whole.dimension == 6
    assert whole.complement.shape == (6, 0)
    torch.testing.assert_close(projector(whole.basis), torch.eye(6, dtype=torch.float64))
    assert whole.residual(layered(0, 3, 6)[1]).tolist() == [0, 0, 0]


def test_dead_features_are_those_that_no_sample_moves() -> None:
    jacobians = normal(0, 3, 6, 20)
    jacobians[:, 1] = 0
    jacobians[:, 4] *= 1e-9
    jacobians[:2, 2] = 0  # moves in the third
    jacobians[:, 3] *= 1e-6
    grams = jacobians @ jacobians.mT
    assert dead_features(grams) == [1, 4]
    assert dead_features(grams[:2]) == [1, 2, 4]
    assert dead_features(grams[2:]) == [1, 4]
    assert dead_features(grams, share=0) == [1]
    assert dead_features(grams, share=1e-5) == [1, 3, 4]
    assert dead_features(grams * 1e-20) == [1, 4]
    assert dead_features(normal(0, 1, 3, 9) @ normal(0, 1, 3, 9).mT) == []


def optimal(seed: int, count: int, features: int, power: float, null: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Targets, responses and Grams of converged images: x^T Z_k Dy is zero but for a little, and `null` exactly."""
    targets = uniform(seed, count, features) ** 3
    targets = targets / targets.norm(dim=1, keepdim=True)
    responses = targets + normal(seed + 1, count, features) / math.sqrt(features)
    responses = responses - responses @ projector(null)  # the linear relation of which the co-kernel is the derivative
    stationary = shrinking(responses, power) @ targets[..., None]
    zero = torch.linalg.qr(torch.cat([null.expand(count, *null.shape), stationary], 2))[0]
    jacobians = layered(seed + 2, count, features)[0]
    jacobians = jacobians - zero @ (zero.mT @ jacobians)
    stationary = stationary - projector(null) @ stationary
    jacobians = jacobians + 0.02 * stationary * normal(seed + 8, count, 1, jacobians.shape[2])
    return targets, responses, jacobians @ jacobians.mT


@pytest.mark.parametrize("power", [0.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_space_is_chosen_that_recovers_known_objectives(seed: int, power: float) -> None:
    targets, responses, grams = optimal(seed, 64, 10, power, ones(10))
    spaces = critical_spaces(grams[:32])
    index, medians = choose_space(spaces, responses, grams, targets, power)
    assert medians.shape == (len(spaces),)
    assert spaces[index].dimension == 9
    assert degrees_apart(spaces[index].complement, ones(10)) < 1e-5
    assert medians[0] > 3 * medians[index]


@pytest.mark.parametrize("seed", range(3))
def test_one_dimension_is_not_chosen_for_its_angle_of_zero(seed: int) -> None:
    """The paper's bare medians would take it: whatever is projected onto a line is parallel."""
    targets, responses, grams = optimal(seed, 64, 10, 2, ones(10))
    nine, one = CriticalSpace.without(ones(10)), CriticalSpace.without(rotation(seed, 10)[:, :9])
    index, medians = choose_space([CriticalSpace.whole(10), one, nine], responses, grams, targets)
    assert one.dimension == medians.argmin() == 1
    assert medians[1] < 1e-9
    assert index == 2
    chance = median_angles([one, nine], responses, grams, targets)[1]
    assert chance[0] < 1e-9
    assert chance[1] > 30


def test_of_equal_spaces_the_larger_is_chosen() -> None:
    """Objectives that live in a plane, where leaving out the rest changes nothing."""
    targets = torch.eye(4, dtype=torch.float64)[[0, 1, 0, 1, 0]]
    grams = torch.eye(4, dtype=torch.float64) - targets[:, :, None] * targets[:, None, :]
    responses = targets + 0.5
    eye = torch.eye(4, dtype=torch.float64)
    spaces = [CriticalSpace.without(eye[:, missing:]) for missing in (2, 3, 4)]
    assert [one.dimension for one in spaces] == [2, 3, 4]
    assert choose_space(spaces, responses, grams, targets, 0)[0] == 2
    assert choose_space(spaces[:2], responses, grams, targets, 0)[0] == 1
    assert choose_space([spaces[2], *spaces], responses, grams, targets, 0)[0] == 0
    assert choose_space(spaces, responses, grams, targets, 0)[1].tolist() == pytest.approx([0, 0, 0], abs=1e-9)


@pytest.mark.parametrize(("off", "dimension"), [(0.9, 4), (1.1, 3)])
def test_a_degree_is_no_reason_to_leave_out_a_dimension(off: float, dimension: int) -> None:
    """What the whole space recovers is so many degrees off, and exact without e_3."""
    targets = torch.eye(4, dtype=torch.float64)[[0, 1, 0, 1, 0, 1]]
    small = math.cos(math.radians(off)) * targets + math.sin(math.radians(off)) * canonical(4, 3).mT
    grams = torch.eye(4, dtype=torch.float64) - small[:, :, None] * small[:, None, :]
    spaces = [CriticalSpace.without(canonical(4, 3)), CriticalSpace.whole(4)]
    index, medians = choose_space(spaces, targets + 0.5, grams, targets, 0)
    assert medians.tolist() == pytest.approx([0, off], abs=1e-6)
    assert spaces[index].dimension == dimension


def test_medians_by_hand() -> None:
    """Everything recovers e_0, and the targets are lines at known angles to it."""
    angles = torch.tensor([10.0, 20, 40, 80], dtype=torch.float64).deg2rad()
    targets = torch.stack([angles.cos(), angles.sin(), torch.zeros(4, dtype=torch.float64)], 1)
    grams = torch.diag(torch.tensor([0.01, 1, 0.04], dtype=torch.float64)).expand(4, 3, 3)
    responses = torch.ones(4, 3, dtype=torch.float64)
    spaces = [CriticalSpace.whole(3), CriticalSpace.without(canonical(3, 2)), CriticalSpace.without(canonical(3, 0))]
    own, chance = median_angles(spaces, responses, grams, targets, 0)
    # Without e_0 it is e_2 that is recovered, and nothing of the targets lies there.
    assert own.tolist() == pytest.approx([30, 30, 90])
    assert chance.tolist() == pytest.approx([30, 30, 90])
    outside = (
        CriticalSpace.without(rotation(0, 3)[:, :0]),
        CriticalSpace.without(torch.eye(3, dtype=torch.float64)[:, :2]),
    )
    assert median_angles(outside, responses, grams, targets, 0)[0].tolist() == pytest.approx([30, 90])  # not NaN


def test_medians_are_of_projected_angles() -> None:
    targets, responses, grams = optimal(0, 5, 6, 2, ones(6))
    space = CriticalSpace.without(ones(6))
    (own,), (chance,) = median_angles([space], responses, grams, targets)
    allowed = [
        np.linalg.qr((np.eye(6) + 2 * np.outer(y, y) / (y @ y)) @ space.basis.numpy())[0] for y in responses.numpy()
    ]
    found = []
    for u, y, gram in zip(allowed, responses.numpy(), grams.numpy(), strict=True):
        z = np.eye(6) - 2 / 3 * np.outer(y, y) / (y @ y)
        found.append(u @ scipy.linalg.eigh(u.T @ z @ gram @ z @ u)[1][:, 0])
    for median, asked in ((own, targets), (chance, targets[[1, 2, 3, 4, 0]])):
        angles = [
            math.degrees(scipy.linalg.subspace_angles((u @ u.T @ x)[:, None], f[:, None])[0])
            for u, x, f in zip(allowed, asked.numpy(), found, strict=True)
        ]
        assert median.item() == pytest.approx(np.median(angles), abs=1e-6)


GOOD = layered(0, 3, 4)[1]
SKEW = GOOD + torch.triu(torch.ones(4, 4, dtype=torch.float64), 1)


@pytest.mark.parametrize(
    ("grams", "says"),
    [
        (GOOD[:1], "takes at least 2"),
        (GOOD[:0], "takes at least 2"),
        (GOOD.float(), "float64"),
        (GOOD[0], r"\[n, features, features\]"),
        (GOOD[:, :3], r"\[n, features, features\]"),
        (GOOD[:, :0, :0], r"\[n, features, features\]"),
        (GOOD * math.nan, "not finite"),
        (SKEW, "symmetric"),
        (-GOOD, "zero"),
        (GOOD - 0.5 * GOOD.diagonal(dim1=1, dim2=2).mean() * torch.eye(4), "negative"),
        (torch.stack([GOOD[0], 0 * GOOD[0], GOOD[1]]), r"samples \[1\] are zero"),
    ],
)
def test_what_is_no_gram_matrix_of_several_jacobians_is_refused(grams: Tensor, says: str) -> None:
    for ask in (critical_spaces, lambda some: co_kernel(some, 0.1)):
        with pytest.raises(RequestError, match=says):
            ask(grams)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: co_kernel(GOOD, 1.0), "between 1e-8"),
        (lambda: co_kernel(GOOD, 1e-9), "between 1e-8"),
        (lambda: co_kernel(GOOD, math.nan), "between 1e-8"),
        (lambda: critical_spaces(GOOD, below=1.5), "between 1e-8"),
        (lambda: critical_spaces(GOOD, below=1e-8), "between 1e-8"),
        (lambda: critical_spaces(GOOD, turn=90), "0 to below 90"),
        (lambda: critical_spaces(GOOD, turn=-1), "0 to below 90"),
        (lambda: critical_spaces(GOOD, resolution=-1), "0 or more decades"),
        (lambda: dead_features(GOOD.float()), "float64"),
        (lambda: dead_features(GOOD[:, :2]), r"\[n, features, features\]"),
        (lambda: dead_features(GOOD[:0]), "at least 1"),
        (lambda: CriticalSpace.whole(5).residual(GOOD), "5 features"),
        (lambda: CriticalSpace.whole(4).residual(GOOD[0]), r"\[n, features, features\]"),
        (lambda: choose_space([], GOOD[0], GOOD, GOOD[0]), "no critical spaces"),
        (lambda: chosen(GOOD[:, 0, :2]), "two or more known objectives"),
        (lambda: chosen(GOOD[:, 0].float()), "two or more known objectives"),
        (lambda: chosen(GOOD[:1, 0], GOOD[:1]), "two or more known objectives"),
        (lambda: chosen(0 * GOOD[:, 0]), "not all zero"),
        (lambda: chosen(math.nan * GOOD[:, 0]), "finite"),
        (lambda: chosen(GOOD[:, 0], GOOD[:2]), "take matrices"),
        (lambda: chosen(GOOD[:, 0], math.nan * GOOD), "not finite"),
    ],
)
def test_other_bad_requests_say_what_would_be_right(ask: Callable[[], object], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        ask()


def chosen(targets: Tensor, grams: Tensor = GOOD) -> object:
    return choose_space([CriticalSpace.whole(4)], torch.ones(len(targets), 4, dtype=torch.float64), grams, targets)
