"""Gaussian and Sobolev kernels: exact solutions, and widths that follow from a filter size (paper 2, SPEC S9, S10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, sparse
from scipy.sparse import linalg
from torch import Tensor

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
def test_kernels_are_depth_wise_filters_that_mirror_at_the_pixels_edges(
    size: int, kind: type, channels: int, seed: int
) -> None:
    images = torch.randn(2, channels, size, size + 5, generator=torch.Generator().manual_seed(seed))
    kernel: Kernel = kind(size)
    torch.testing.assert_close(kernel(images), mirrored(images, kernel), rtol=1e-4, atol=1e-5)


def mirrored(images: Tensor, kernel: Kernel) -> Tensor:
    """Each channel by itself, by scipy."""
    weights = kernel.kernel.double().numpy()[None, None]  # type: ignore[attr-defined]
    out = ndimage.convolve(images.double().numpy(), weights, mode="reflect")
    return torch.from_numpy(out).to(images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("by", ["parts", "fft"])
@pytest.mark.parametrize("size", range(3, 23, 2))
def test_a_sobolev_kernel_gives_the_same_by_parts_and_by_fft(
    size: int, by: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preimage.priors.kernels._SMALL", 99 if by == "parts" else 0)
    kernel = Sobolev(size, margin=0)
    # Padded by size - 1, sides of 43 to 46 are transformed as 45, 45, 45 and 48.
    for height, width in ((44 - size, 46 - size), (size, 47 - size), (45 - size, size)):
        images = torch.rand(2, 3, height, width, dtype=dtype) * 4 - 1
        found = kernel(images)
        assert (found.dtype, found.shape) == (dtype, images.shape)
        spread = float(images.max() - images.min())
        allowed = 1e-5 if dtype == torch.float32 else 1e-8  # (parts of less than 1e-9 are left out)
        torch.testing.assert_close(found, mirrored(images, kernel), rtol=0, atol=allowed * spread)


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


@pytest.mark.parametrize("kernel", [Gaussian(11), Sobolev(11), Sobolev(5)], ids=str)
def test_a_kernel_wider_than_the_image_is_refused(kernel: Gaussian | Sobolev) -> None:
    size = kernel.size or 0
    for height, width in ((size - 1, size + 9), (size + 9, size - 1), (size - 1, size - 1)):
        says = rf"^a kernel of {size} pixels a side is wider than the picture, {height} x {width}; ask for a larger"
        with pytest.raises(RequestError, match=says) as caught:
            kernel(torch.zeros(1, 3, height, width))
        assert "\n" not in str(caught.value)
    image = torch.rand(1, 3, size, size)
    torch.testing.assert_close(kernel(image), mirrored(image, kernel), rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [lambda: Sobolev(91), lambda: Gaussian(91), lambda: Sobolev(gamma=1e5)])
def test_where_no_entry_counts_size_and_width_do_not_follow(make: Callable[[], Any]) -> None:
    with pytest.raises(RequestError, match=r"no entry above 0\.0001, so that .* give both"):
        make()
    assert Sobolev(91, 50.0).kernel.shape == (91, 91)


@pytest.mark.parametrize("size", [9.0, "9", True])
def test_a_size_is_a_whole_number(size: Any) -> None:
    with pytest.raises(RequestError, match="whole number of pixels"):
        Sobolev(size)
