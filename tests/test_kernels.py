"""Gaussian and Sobolev kernels: exact solutions, and widths that follow from a filter size (paper 2, SPEC S9, S10)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse import linalg

from preimage import RequestError
from preimage.priors import Gaussian, Kernel, Sobolev

few = settings(max_examples=12, deadline=None)
sizes = st.integers(1, 10).map(lambda n: 2 * n + 3)

# SPEC S.3-4: the largest parameters whose entries above 1e-4 lie within Chebyshev radius 1, 2, ... 6.
GAMMAS = (0.0106, 0.0608, 0.1761, 0.3754, 0.6692, 1.0723)
SIGMAS = (0.4764, 0.7528, 1.0484, 1.3601, 1.6867, 2.0277)


@pytest.mark.parametrize("size", range(5, 17, 2))
def test_widths_are_those_of_the_table(size: int) -> None:
    radius = (size - 1) // 2
    assert Sobolev(size).gamma == pytest.approx(GAMMAS[radius - 2], abs=5.1e-5)
    assert Gaussian(size).sigma == pytest.approx(SIGMAS[radius - 2], abs=5.1e-5)
    if radius <= 6:
        assert Sobolev(size, margin=0).gamma == pytest.approx(GAMMAS[radius - 1], abs=5.1e-5)
        assert Gaussian(size, margin=0).sigma == pytest.approx(SIGMAS[radius - 1], abs=5.1e-5)


def test_at_equal_support_the_sobolev_kernel_is_sharper() -> None:
    """SPEC S.3-4: 11 x 11, margin 0: .326 against .056 at the centre, before what is cropped, .0019, is made up for."""
    centres = [float(kind(11, margin=0).kernel[5, 5]) for kind in (Sobolev, Gaussian)]
    assert centres == pytest.approx([0.326 / 0.9981, 0.056], abs=5e-4)


@few
@given(st.floats(0.01, 5.0), sizes)
def test_the_sobolev_kernel_solves_its_equation(gamma: float, size: int) -> None:
    """(Id - gamma Laplacian) S = delta, by a sparse solver on a grid with borders far away."""
    side = 4 * size + 41
    line = sparse.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(side, side))
    one = sparse.eye_array(side)
    laplacian = sparse.kron(line, one) + sparse.kron(one, line)
    delta = np.zeros((side, side))
    delta[side // 2, side // 2] = 1
    solved = linalg.spsolve((sparse.eye_array(side**2) - gamma * laplacian).tocsc(), delta.ravel()).reshape(side, side)
    first = (side - size) // 2
    cropped = solved[first : first + size, first : first + size]
    kernel = Sobolev(size, gamma).kernel
    torch.testing.assert_close(kernel, torch.from_numpy(cropped / cropped.sum()).float(), rtol=1e-4, atol=1e-7)


@few
@given(sizes, st.sampled_from([Gaussian, Sobolev]), st.sampled_from([0, 1]))
def test_kernels_sum_to_one_and_have_all_symmetries_of_a_square(size: int, kind: type, margin: int) -> None:
    kernel = kind(size, margin=margin).kernel
    assert kernel.shape == (size, size)
    assert kernel.dtype == torch.float32
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    for turned in (kernel.T, kernel.flip(0), kernel.flip(1)):
        torch.testing.assert_close(kernel, turned)
    assert (kernel > 0).all()


@few
@given(sizes, st.sampled_from([Gaussian, Sobolev]), st.integers(1, 4), st.integers(0, 2**31))
def test_kernels_are_depth_wise_filters_with_reflecting_borders(
    size: int, kind: type, channels: int, seed: int
) -> None:
    images = torch.randn(2, channels, size + 3, size + 8, generator=torch.Generator().manual_seed(seed))
    kernel: Kernel = kind(size)
    weights = kernel.kernel.expand(channels, 1, size, size)  # type: ignore[attr-defined]
    expected = F.conv2d(F.pad(images, (size // 2,) * 4, mode="reflect"), weights, groups=channels)
    torch.testing.assert_close(kernel(images), expected, rtol=1e-4, atol=1e-5)


def test_a_parameter_alone_gives_the_size() -> None:
    assert Gaussian(sigma=1.2).size == 9
    assert Sobolev(gamma=GAMMAS[3] - 0.001).size == 11


@pytest.mark.parametrize("kind", [Gaussian, Sobolev])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "needs a size or a"),
        ({"size": 4}, "odd number of pixels a side, 1 at least, not 4"),
        ({"size": 0}, "not 0"),
        ({"size": -3}, "not -3"),
        ({"size": 3}, "3 pixels a side with a margin of 1 has no room; it takes 5 or more"),
    ],
)
def test_impossible_sizes_are_refused(kind: type, arguments: dict[str, int], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        kind(**arguments)


@pytest.mark.parametrize("gamma", [0.0, -1.0, float("nan"), float("inf")])
def test_a_sobolev_kernel_needs_a_gamma(gamma: float) -> None:
    with pytest.raises(RequestError, match="kernel needs a gamma above zero pixels"):
        Sobolev(9, gamma)


def test_a_kernel_wider_than_the_image_is_refused() -> None:
    with pytest.raises(RequestError, match=r"kernel of 9 pixels a side is too large for images \[1, 3, 4, 12\]"):
        Sobolev(9)(torch.zeros(1, 3, 4, 12))
