"""Sampled target objectives: sparseness in closed form, the search against a dense solve and against root finding."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats
from torch import Tensor

from preimage import RequestError
from preimage.recover.targets import (
    by_powers,
    cayley_step,
    curvilinear_search,
    hoyer,
    sample_targets,
    with_sparseness,
)

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
FEATURES = [2, 10, 100, 512]
ALL_OVER = torch.tensor(
    [0, 1e-9, 1e-6, 1e-3, *np.linspace(0.01, 0.99, 50), 1 - 1e-3, 1 - 1e-6, 1 - 1e-9, 1], dtype=torch.float64
)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def on_sphere(seed: int, count: int, features: int) -> Tensor:
    vectors = drawn(seed, count, features)
    return vectors / vectors.norm(dim=1, keepdim=True)


def check_targets(found: Tensor, sparseness: Tensor, tolerance: float = 1e-4) -> None:
    """Sparseness by the paper's words, not by the code under test: the ratio of norms, mapped linearly."""
    root = math.sqrt(found.shape[1])
    ratio = np.abs(found.numpy()).sum(1) / np.linalg.norm(found.numpy(), axis=1)
    measured = np.interp(ratio, [1, root], [1, 0])
    assert np.abs(measured - sparseness.numpy()).max() < tolerance
    assert (found >= 0).all()
    assert torch.allclose(found.norm(dim=1), torch.ones(len(found)).double(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("features", [2, 3, 10, 512])
def test_sparseness_is_one_alone_zero_all_alike_and_known_for_some_alike(features: int) -> None:
    assert torch.equal(hoyer(torch.eye(features).double()), torch.ones(features).double())
    assert float(hoyer(torch.ones(features).double())) == pytest.approx(0, abs=1e-14)
    alike = torch.ones(features, features).double().tril()
    count = torch.arange(1, features + 1).double()
    root = math.sqrt(features)
    assert torch.allclose(hoyer(alike), (root - count.sqrt()) / (root - 1), rtol=0, atol=1e-13)


def test_sparseness_of_a_single_feature_is_one() -> None:
    assert hoyer(torch.tensor([[3.0], [-1e-3]])).tolist() == [1, 1]


@few
@given(seeds, st.integers(2, 30), st.floats(-150, 150))
def test_sparseness_asks_neither_length_nor_signs_nor_order(seed: int, features: int, power: float) -> None:
    """Nor whether squares of the entries are numbers: 10^150 to the second power is not."""
    vectors = drawn(seed, 2, 3, features)
    signs, order = drawn(seed + 1, 2, 3, features).sign(), torch.randperm(features)
    expected = hoyer(vectors)
    assert expected.shape == (2, 3)
    assert ((expected >= 0) & (expected <= 1)).all()
    changed = (10.0**power * signs * vectors)[..., order]
    assert torch.allclose(hoyer(changed), expected, rtol=0, atol=1e-13)
    assert torch.allclose(hoyer(1e155 * changed), expected, rtol=0, atol=1e-13)


@few
@given(seeds, st.integers(2, 40), st.floats(-4, 4))
def test_the_step_solves_the_papers_linear_system_and_stays_on_the_sphere(
    seed: int, features: int, power: float
) -> None:
    x, gradient, tau = on_sphere(seed, 5, features), drawn(seed + 1, 5, features), 10.0**power
    found = cayley_step(x, gradient, torch.full((5,), tau, dtype=torch.float64))
    for row, point, slope in zip(found, x, gradient, strict=True):
        skew = torch.outer(slope, point) - torch.outer(point, slope)
        eye = torch.eye(features).double()
        solved = torch.linalg.solve(eye + tau / 2 * skew, (eye - tau / 2 * skew) @ point)
        rounding = 1e-15 * float(torch.linalg.cond(eye + tau / 2 * skew))
        assert float((row - solved).norm()) < 10 * rounding
    assert torch.allclose(found.norm(dim=1), torch.ones(5).double(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("tolerance", [1e-4, 1e-9])
def test_every_sparseness_is_hit(features: int, tolerance: float) -> None:
    found = with_sparseness(on_sphere(features, len(ALL_OVER), features), ALL_OVER, tolerance=tolerance)
    check_targets(found, ALL_OVER, tolerance)
    assert not ((found > 0) & (found < 1e-12)).any()


@few
@given(st.integers(2, 60), st.lists(st.floats(0, 1), min_size=1, max_size=8), seeds, st.sampled_from([0, 3, 500]))
def test_any_sparseness_is_hit_from_anywhere_however_short_the_search(
    features: int, sparseness: list[float], seed: int, iterations: int
) -> None:
    asked, start = torch.tensor(sparseness, dtype=torch.float64), drawn(seed, len(sparseness), features)
    before = start.clone()
    found = with_sparseness(7 * start, asked, iterations=iterations)
    check_targets(found, asked)
    assert not ((found > 0) & (found < 9e-9)).any()  # powers near sparseness 1 leave 1e-100 and the like
    assert torch.equal(start, before)


@pytest.mark.parametrize("features", FEATURES)
def test_the_search_gets_there_without_powers(features: int) -> None:
    start = on_sphere(features, len(ALL_OVER), features)
    found = curvilinear_search(start, ALL_OVER, 1e-4, 500)
    assert float((hoyer(found) - ALL_OVER).abs().max()) < 1e-4
    assert torch.allclose(found.norm(dim=1), torch.ones(len(found)).double(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("features", FEATURES)
def test_the_search_follows_the_steepest_way(features: int) -> None:
    """The gradient lies in the plane of x and its signs: all entries shrink or grow alike, until they are zero. So
    the end is known: |x| plus a number, nothing below zero, the number found by scipy."""
    asked = torch.linspace(0.05, 0.95, 19).double()
    start = on_sphere(features + 1, len(asked), features)
    found = with_sparseness(start, asked, tolerance=1e-10)
    for row, first, one in zip(found, start.abs().numpy(), asked.tolist(), strict=True):

        def shifted(by: float, first: np.ndarray = first) -> np.ndarray:
            return np.maximum(first + by, 0)

        def off(by: float, one: float = one, shifted: Callable[[float], np.ndarray] = shifted) -> float:
            vector, root = shifted(by), math.sqrt(features)
            return float((root - vector.sum() / np.linalg.norm(vector)) / (root - 1) - one)

        end = shifted(optimize.brentq(off, -first.max() * (1 - 1e-9), 1e3, xtol=1e-15))
        assert np.abs(row.numpy() - end / np.linalg.norm(end)).max() < 1e-7


def test_rows_that_have_their_sparseness_stay_and_do_not_hear_of_the_others() -> None:
    start = on_sphere(0, 40, 30)
    asked = torch.rand(40, generator=torch.Generator().manual_seed(1)).double()
    asked[::2] = hoyer(start[::2])
    found = with_sparseness(start, asked)
    assert torch.allclose(found[::2], start[::2].abs(), rtol=0, atol=1e-15)
    alone = torch.cat([with_sparseness(start[i : i + 1], asked[i : i + 1]) for i in range(40)])
    assert torch.allclose(found, alone, rtol=0, atol=1e-12)


def test_the_search_leaves_rows_alone_once_they_are_near_enough() -> None:
    start, asked = on_sphere(2, 200, 30), torch.rand(200, generator=torch.Generator().manual_seed(3)).double()
    early, late = (curvilinear_search(start, asked, 1e-3, iterations) for iterations in (6, 100))
    done = (hoyer(early) - asked).abs() < 1e-3
    assert 50 < int(done.sum()) < 180
    assert torch.equal(early[done], late[done])
    assert ((hoyer(late) - asked).abs() < 1e-3).all()


@few
@given(seeds, st.integers(2, 40), st.floats(0.01, 0.99))
def test_powers_are_powers(seed: int, features: int, sparseness: float) -> None:
    vectors, asked = on_sphere(seed, 4, features), torch.full((4,), sparseness, dtype=torch.float64)
    found = by_powers(vectors, asked)
    check_targets(found, asked, 1e-10)
    # One exponent a row: that of the entry which tells it best, nearest to 1/e of the largest.
    logarithms = (vectors.abs() / vectors.abs().amax(1, keepdim=True)).log()
    powers = (found / found.amax(1, keepdim=True)).log()
    telling = torch.where(logarithms < 0, (powers + 1).abs(), torch.inf).argmin(1, keepdim=True)
    exponent = powers.gather(1, telling) / logarithms.gather(1, telling)
    expected = (exponent * logarithms).exp()
    assert torch.allclose(found, expected / expected.norm(dim=1, keepdim=True), rtol=0, atol=1e-9)


@pytest.mark.parametrize("features", [2, 10, 100])
def test_sparseness_of_targets_is_uniform_and_that_of_directions_is_not(features: int) -> None:
    found = sample_targets(1000, features, torch.Generator().manual_seed(5))
    assert found.shape == (1000, features) and found.dtype == torch.float64
    check_targets(found, hoyer(found))
    assert stats.kstest(hoyer(found).numpy(), "uniform").pvalue > 0.05
    directions = hoyer(on_sphere(5, 10_000, features))
    assert stats.kstest(directions.numpy(), "uniform").pvalue < 1e-100
    # Figure S1's distributions, in closed form: E|x_i| on the sphere is a ratio of gamma functions.
    root = math.sqrt(features)
    ratio = math.exp(special.gammaln(features / 2) - special.gammaln((features + 1) / 2))
    length = features * ratio / math.sqrt(math.pi)
    spread = float(directions.std()) / 100
    assert abs(float(directions.mean()) - (root - length) / (root - 1)) < 4 * spread


def test_half_of_all_directions_in_the_plane_lie_within_an_eighth_of_pi_of_a_diagonal() -> None:
    median = float(hoyer(on_sphere(6, 10_000, 2)).median())
    assert median == pytest.approx((1 - math.cos(math.pi / 8)) * math.sqrt(2) / (math.sqrt(2) - 1), abs=0.02)


def test_targets_start_anywhere_on_the_sphere_alike() -> None:
    """Told by the gaps between largest entries, whose ratio the search keeps: starts are normal, not from a cube."""

    def gaps(vectors: Tensor) -> np.ndarray:
        first, second, third = vectors.topk(3)[0].T
        return ((first - second) / (first - third)).numpy()

    found = gaps(sample_targets(3000, 10, torch.Generator().manual_seed(8)))
    random = np.random.default_rng(9)
    asked = torch.tensor(random.random(3000))
    normal, cube = (torch.tensor(start) for start in (random.normal(size=(3000, 10)), random.random((3000, 10))))
    assert stats.ks_2samp(found, gaps(with_sparseness(normal, asked))).pvalue > 0.05
    assert stats.ks_2samp(found, gaps(with_sparseness(cube, asked))).pvalue < 1e-10


@pytest.mark.parametrize("features", [2, 100])
def test_targets_favour_no_feature(features: int) -> None:
    """The largest entry is anywhere alike: chi-squared."""
    found = sample_targets(2000, features, torch.Generator().manual_seed(7))
    counts = torch.bincount(found.argmax(1), minlength=features)
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


def test_the_same_seed_gives_the_same_bytes() -> None:
    def bytes_of(seed: int) -> bytes:
        return sample_targets(20, 50, torch.Generator().manual_seed(seed)).numpy().tobytes()

    assert bytes_of(3) == bytes_of(3)
    assert bytes_of(3) != bytes_of(4)


def test_hundreds_of_targets_for_hundreds_of_features_take_seconds() -> None:
    """About 0.2 s of one core: within the few seconds promised, on any machine that is not broken."""
    before = time.process_time()
    check = sample_targets(300, 512, torch.Generator().manual_seed(0))
    assert time.process_time() - before < 5
    assert check.shape == (300, 512)


@pytest.mark.parametrize(
    ("start", "sparseness"),
    [
        ([1, 1, 1, 1], 0.5),  # nothing tells one entry from another
        ([3, 3, 1, 2], 0.9),  # of two largest, none wins
        ([1, 0, 0, 0], 0.5),  # zeros have no sign to grow in
        ([2, 1, 0, 0], 0.1),
    ],
)
def test_starts_that_lead_nowhere_are_named(start: list[float], sparseness: float) -> None:
    starts = torch.tensor([[4, 3, 2, 1], start]).double()
    asked = torch.full((2,), sparseness, dtype=torch.float64)
    with pytest.raises(RequestError, match="start 1 leads to no vector of sparseness"):
        with_sparseness(starts, asked)
    # As far as they lead, they do: two of four alike are (2 - sqrt 2) / 1 sparse.
    reachable = {0.5: hoyer(starts[1]), 0.9: torch.tensor(2 - math.sqrt(2)), 0.1: torch.tensor(0.7)}[sparseness]
    check_targets(with_sparseness(starts[1:], reachable[None].double()), reachable[None].double())


ONES = torch.ones(2, 3).double()
HALF = torch.full((2,), 0.5).double()


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (lambda: hoyer(torch.zeros(3)), "finite vectors"),
        (lambda: hoyer(torch.tensor([[1.0, 2.0], [0.0, 0.0]])), "not all zero"),
        (lambda: hoyer(torch.tensor([1.0, math.nan])), "finite vectors"),
        (lambda: hoyer(torch.tensor([1.0, math.inf])), "finite vectors"),
        (lambda: hoyer(torch.ones(3, 0)), "finite vectors"),
        (lambda: hoyer(torch.tensor(1.0)), "finite vectors"),
        (lambda: with_sparseness(ONES.float(), HALF), "float64, not in torch.float32"),
        (lambda: with_sparseness(ONES, HALF.float()), "float64, not in"),
        (lambda: with_sparseness(ONES[0], HALF), r"not \[3\] and \[2\]"),
        (lambda: with_sparseness(ONES, HALF[:1]), r"not \[2, 3\] and \[1\]"),
        (lambda: with_sparseness(ONES[:, :1], HALF), r"not \[2, 1\] and \[2\]"),
        (lambda: with_sparseness(ONES, 3 * HALF), "between 0"),
        (lambda: with_sparseness(ONES, -HALF), "between 0"),
        (lambda: with_sparseness(ONES, HALF * math.nan), "between 0"),
        (lambda: with_sparseness(0 * ONES, HALF), "not all zero"),
        (lambda: with_sparseness(math.nan * ONES, HALF), "finite"),
        (lambda: with_sparseness(ONES, HALF, tolerance=0), "1e-10 or more, not 0"),
        (lambda: with_sparseness(ONES, HALF, tolerance=math.nan), "1e-10 or more, not nan"),
        (lambda: sample_targets(0, 5, torch.Generator()), "not 0 of 5"),
        (lambda: sample_targets(3, 1, torch.Generator()), "not 3 of 1"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_sentence(request_: Callable[[], Tensor], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence) as said:
        request_()
    assert "\n" not in str(said.value)
