"""How soon chains forget: processes whose autocorrelation is known, and images that change as asked."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from explained import uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage import RequestError
from preimage.evaluation.mixing import autocorrelation, between_chains, changes, mixing
from preimage.evaluation.ms_ssim import ssim

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)


def autoregressive(rho: float, kept: int, chains: int, dimensions: int, seed: int = 0) -> Tensor:
    """c_t = rho c_(t-1) + sqrt(1 - rho^2) noise, from its own distribution on: autocorrelation rho^k."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(kept, chains, dimensions, generator=random, dtype=torch.float64)
    codes = [noise[0]]
    for one in noise[1:]:
        codes.append(rho * codes[-1] + (1 - rho**2) ** 0.5 * one)
    return torch.stack(codes)


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.9])
@pytest.mark.parametrize("own", [False, True])
def test_of_an_autoregressive_process_it_is_known(rho: float, own: bool) -> None:
    """Each estimate scatters by sqrt((1 + rho^2) / (1 - rho^2) / samples) at most (Bartlett 1946); the mean of 12
    dimensions by less. Five standard errors."""
    kept, chains, dimensions = 1500, 8, 12
    found, moves = autocorrelation(autoregressive(rho, kept, chains, dimensions), 20, each_its_own_mean=own)
    assert moves.all() and found.shape == (20, dimensions)
    scatter = ((1 + rho**2) / (1 - rho**2) / (kept * chains * dimensions)) ** 0.5
    bias = (1 + rho) / (1 - rho) / (kept * (1 if own else chains))
    expected = rho ** torch.arange(1, 21, dtype=torch.float64)
    assert ((found.mean(1) - expected).abs() < 5 * scatter + bias).all()


@few
@given(seeds, st.integers(2, 30), st.integers(1, 4), st.booleans())
def test_it_is_numpy_s_sum_over_chains_and_times(seed: int, kept: int, chains: int, own: bool) -> None:
    codes = uniform(seed, kept, chains, 2, 3).double()
    lags = min(5, kept - 1)
    found, _ = autocorrelation(codes, lags, each_its_own_mean=own)
    flat = codes.numpy().reshape(kept, chains, 6)
    for dimension in range(6):
        values = flat[:, :, dimension]
        c = values - (values.mean(0) if own else values.mean())
        for lag in range(1, lags + 1):
            pairs = [(c[t, n], c[t + lag, n]) for t in range(kept - lag) for n in range(chains)]
            a, b = np.array(pairs).T
            assert found[lag - 1, dimension].item() == pytest.approx((a @ b) / np.sqrt((a @ a) * (b @ b)), abs=1e-9)
    assert (found.abs() <= 1 + 1e-12).all()


@few
@given(seeds, st.floats(0.1, 100), st.floats(-3, 3))
def test_scale_and_place_do_not_count(seed: int, scale: float, place: float) -> None:
    codes = autoregressive(0.7, 40, 3, 4, seed)
    moved, expected = (autocorrelation(one, 10)[0] for one in (scale * codes + place, codes))
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-9)


def test_chains_that_stay_where_they_began_remember_everything() -> None:
    """Except about their own mean, where a chain that jitters on the spot seems to mix."""
    spots = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    codes = spots + 1e-3 * torch.randn(200, 5, 8, generator=torch.Generator().manual_seed(1))
    assert mixing(codes).autocorrelation == pytest.approx([1] * 20, abs=1e-4)
    assert mixing(codes, each_its_own_mean=True).autocorrelation == pytest.approx([0] * 20, abs=0.1)
    resting = mixing(spots.expand(200, 5, 8))
    assert resting.autocorrelation == pytest.approx([1] * 20) and resting.still == 0


def test_a_chain_that_goes_back_and_forth() -> None:
    codes = torch.tensor([1.0, -1.0]).repeat(20)[:, None, None]
    assert mixing(codes, lags=4).autocorrelation == pytest.approx([-1, 1, -1, 1])


def test_dimensions_that_never_move_are_left_out_and_said() -> None:
    codes = autoregressive(0.5, 60, 2, 6)
    expected = mixing(codes[..., :4]).autocorrelation
    codes[..., 4] = 3.0
    codes[..., 5] = 1e-9 * codes[..., 5]  # noise on a code that a ReLU holds at zero, which would look well mixed
    found = mixing(codes)
    assert (found.still, found.dimensions, found.chains, found.kept) == (2, 6, 2, 60)
    assert found.autocorrelation == expected
    assert "2 of 6 dimensions never move" in str(found)
    values, moves = autocorrelation(codes)
    assert moves.tolist() == [True] * 4 + [False] * 2
    assert values[:, 4:].isnan().all() and values[:, :4].isfinite().all()


def test_chains_that_never_move_say_so() -> None:
    found = mixing(torch.ones(30, 2, 5))
    assert found.autocorrelation is None and found.still == 5
    assert str(found) == "none of 5 dimensions moves in 30 samples of 2 chains"


def test_images_change_as_far_as_they_lie_apart() -> None:
    images = uniform(0, 6, 2, 3, 16, 16)
    for lag, found in enumerate(changes(images, 4), 1):
        each = [1 - float(ssim(images[t, n][None], images[t + lag, n][None])) for t in range(6 - lag) for n in range(2)]
        assert float(found) == pytest.approx(np.mean(each), abs=1e-6)
    assert torch.equal(changes(images, [3]), changes(images, 4)[2:3])
    still = images[:1].expand(6, -1, -1, -1, -1)
    assert changes(still, 4).tolist() == [0.0] * 4
    apart = between_chains(images)
    assert apart is not None and apart == pytest.approx(1 - float(ssim(images[:, 0], images[:, 1]).mean()), abs=1e-6)
    assert between_chains(images[:, :1]) is None


def test_every_pair_of_chains_counts() -> None:
    images = uniform(0, 2, 3, 1, 16, 16)
    each = [
        1 - float(ssim(images[t, a][None], images[t, b][None])) for t in range(2) for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    assert between_chains(images) == pytest.approx(np.mean(each), abs=1e-6)


def test_few_pairs_are_spread_over_times_and_chains() -> None:
    """Images that change at one time only: the share of pairs across it is that of all pairs."""
    first, second = uniform(0, 2, 16, 16).split(1)
    images = torch.cat([first] * 50 + [second] * 50)[:, None, None].expand(-1, 4, -1, -1, -1)
    whole = changes(images, [50], 10**9)
    torch.testing.assert_close(changes(images, [50], 40), whole)
    assert float(whole) == pytest.approx(1 - float(ssim(first[None], second[None])), abs=1e-6)
    assert float(changes(images, [25], 60)) == pytest.approx(float(changes(images, [25], 10**9)), rel=0.05)


def test_mixing_brings_it_together() -> None:
    codes, images = autoregressive(0.5, 8, 2, 3), uniform(0, 8, 2, 3, 16, 16)
    found = mixing(codes, images, every=5, lags=3)
    assert found.steps == (5, 10, 15)
    assert found.change == tuple(changes(images, 3).tolist()) and found.apart == between_chains(images)
    said = found.as_dict()
    assert json.loads(json.dumps(said)) == said
    assert said["steps"] == [5, 10, 15] and said["still"] == 0
    assert "after 5 and 15 steps" in str(found)


def test_what_is_no_chain_is_said() -> None:
    codes = torch.rand(5, 2, 3)
    with pytest.raises(RequestError, match="of 5 samples a chain, lags are 1 to 4, not 5"):
        autocorrelation(codes, 5)
    with pytest.raises(RequestError, match="lags are 1 to 4, not 0"):
        autocorrelation(codes, 0)
    with pytest.raises(RequestError, match=r"\[kept, chains, ...\], not \[5, 2\]"):
        autocorrelation(codes[..., 0], 2)
    with pytest.raises(RequestError, match="not finite"):
        autocorrelation(codes * torch.nan, 2)
    with pytest.raises(RequestError, match="every is 1 or more, not 0"):
        mixing(codes, every=0, lags=2)
    with pytest.raises(RequestError, match="are not those of codes"):
        mixing(codes, torch.rand(4, 2, 3, 16, 16), lags=2)
    with pytest.raises(RequestError, match="lags are 1 to 4, not 5"):
        changes(torch.rand(5, 1, 1, 16, 16), [5])
