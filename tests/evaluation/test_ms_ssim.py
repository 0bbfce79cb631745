"""Likeness at several scales: against scikit-image scale by scale, and what holds of any images."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from explained import uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import block_reduce
from skimage.metrics import structural_similarity
from torch import Tensor

from preimage import RequestError
from preimage.evaluation.ms_ssim import WEIGHTS, ms_ssim, scales_that_fit, ssim

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31)
sides = st.integers(11, 50)


def near(seed: int, *shape: int, by: float = 0.3) -> tuple[Tensor, Tensor]:
    """Random images, and the same with noise: alike, but not equal."""
    images = uniform(seed, *shape).double()
    return images, (images + by * (uniform(seed + 1, *shape).double() - 0.5)).clamp(0, 1)


def of_skimage(one: Tensor, other: Tensor, *, without_luminance: bool = False) -> float:
    """SSIM of [C, H, W]. A huge K1 makes the luminance's term 1, and leaves contrast and structure."""
    return float(
        structural_similarity(
            one.numpy(),
            other.numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            K1=1e6 if without_luminance else 0.01,
        )
    )


def halved(image: Tensor) -> Tensor:
    return torch.from_numpy(block_reduce(image.numpy(), (1, 2, 2), np.mean))


@few
@given(seeds, sides, sides, st.sampled_from([1, 3]))
def test_one_scale_is_skimage_s(seed: int, height: int, width: int, channels: int) -> None:
    one, other = near(seed, 3, channels, height, width)
    expected = [of_skimage(a, b) for a, b in zip(one, other, strict=True)]
    assert ssim(one, other).tolist() == pytest.approx(expected, abs=1e-9)
    assert ms_ssim(one, other, 1).tolist() == pytest.approx(np.clip(expected, 0, None), abs=1e-9)


@pytest.mark.parametrize(("side", "scales"), [(32, 2), (64, 3), (128, 4), (192, 5)])
def test_all_scales_are_skimage_s(side: int, scales: int) -> None:
    """Halved by scikit-image too. With five scales the published weights are taken as they are."""
    pairs = near(3, 2, 3, side, side)
    assert scales_that_fit(side, side) == scales
    expected = []
    for one, other in zip(*pairs, strict=True):
        product, whole = 1.0, sum(WEIGHTS[:scales])
        for scale, weight in enumerate(WEIGHTS[:scales]):
            last = scale == scales - 1
            product *= of_skimage(one, other, without_luminance=not last) ** (weight / whole)
            one, other = halved(one), halved(other)
        expected.append(product)
    assert ms_ssim(*pairs).tolist() == pytest.approx(expected, abs=1e-9)
    assert sum(WEIGHTS) == pytest.approx(1, abs=1e-4)


def test_an_odd_last_row_stands_for_itself() -> None:
    """As if it were there twice, which the authors' mirrored border makes of it: one more row and column at the
    next scale, and nothing else."""
    one, other = near(1, 1, 1, 33, 33)
    even = [torch.nn.functional.pad(images, (0, 1, 0, 1), mode="replicate") for images in (one, other)]
    weights = [weight / sum(WEIGHTS[:2]) for weight in WEIGHTS[:2]]
    fine = of_skimage(one[0], other[0], without_luminance=True)
    coarse = of_skimage(*(halved(images[0]) for images in even))
    assert float(ms_ssim(one, other)) == pytest.approx(fine ** weights[0] * coarse ** weights[1], abs=1e-9)


@pytest.mark.parametrize(
    ("height", "width", "scales"),
    [(11, 11, 1), (20, 20, 1), (21, 21, 2), (32, 32, 2), (32, 500, 2), (160, 160, 4), (161, 161, 5), (9999, 9999, 5)],
)
def test_as_many_scales_as_a_window_fits(height: int, width: int, scales: int) -> None:
    assert scales_that_fit(height, width) == scales_that_fit(width, height) == scales


@few
@given(seeds, sides, sides)
def test_an_image_is_like_itself_and_likeness_goes_both_ways(seed: int, height: int, width: int) -> None:
    one, other = near(seed, 3, 3, height, width)
    for compare in (ms_ssim, ssim):
        assert compare(one, one).tolist() == pytest.approx([1] * 3, abs=1e-12)
        found = compare(one, other)
        torch.testing.assert_close(compare(other, one), found, rtol=0, atol=1e-12)
        turned = [images[[2, 0, 1]].transpose(2, 3) for images in (one, other)]
        torch.testing.assert_close(compare(*turned), found[[2, 0, 1]], rtol=0, atol=1e-12)
        assert ((found > 0.3) & (found < 0.999)).all()
    unlike = ms_ssim(one, uniform(seed + 2, 3, 3, height, width))
    assert ((unlike >= 0) & (unlike < found)).all()


def test_constant_images_differ_by_their_light_alone() -> None:
    """(2 a b + C) / (a^2 + b^2 + C), which counts at the coarsest scale only."""
    a, b, constant = 0.2, 0.7, 0.01**2
    one, other = (torch.full((1, 3, 32, 32), value, dtype=torch.float64) for value in (a, b))
    light = (2 * a * b + constant) / (a * a + b * b + constant)
    assert float(ssim(one, other)) == pytest.approx(light, abs=1e-12)
    assert float(ms_ssim(one, other)) == pytest.approx(light ** (WEIGHTS[1] / sum(WEIGHTS[:2])), abs=1e-12)


def test_more_noise_is_less_alike_and_a_negative_counts_as_nothing() -> None:
    photo = torch.nn.functional.interpolate(uniform(0, 1, 3, 8, 8).double(), (64, 64), mode="bilinear")
    noise = uniform(1, 1, 3, 64, 64).double() - 0.5
    values = [float(ms_ssim(photo, (photo + by * noise).clamp(0, 1))) for by in (0.0, 0.1, 0.3, 1.0)]
    assert values == sorted(values, reverse=True) and values[0] == pytest.approx(1, abs=1e-12) and values[-1] < 0.8
    assert float(ms_ssim(photo, 1 - photo)) == 0 > float(ssim(photo, 1 - photo))


def test_many_pairs_are_those_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = near(5, 7, 3, 24, 24)
    expected = torch.cat([ms_ssim(a[None], b[None]) for a, b in zip(one, other, strict=True)])
    monkeypatch.setattr(sys.modules["preimage.evaluation.ms_ssim"], "_VALUES_AT_ONCE", 2 * 3 * 24 * 24)
    torch.testing.assert_close(ms_ssim(one, other), expected, rtol=0, atol=1e-12)
    assert len(ssim(one, other)) == 7


def test_floats_of_single_precision_are_compared_in_double() -> None:
    """A bright picture with little in it, whose variances float32 would lose."""
    one, other = (0.9 + 1e-3 * uniform(seed, 4, 3, 48, 48) for seed in (0, 1))
    assert torch.equal(ms_ssim(one, other), ms_ssim(one.double(), other.double()))


def test_what_cannot_be_compared_is_said() -> None:
    image = torch.zeros(1, 3, 32, 32)
    with pytest.raises(RequestError, match=r"one shape, not \[1, 3, 32, 32\] and \[2, 3, 32, 32\]"):
        ms_ssim(image, image.repeat(2, 1, 1, 1))
    with pytest.raises(RequestError, match=r"two tensors .* not \[3, 32, 32\]"):
        ms_ssim(image[0], image[0])
    with pytest.raises(RequestError, match="not str and str"):
        ssim("a", "b")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="no image"):
        ms_ssim(image[:0], image[:0])
    with pytest.raises(RequestError, match="at least 11 x 11 pixels, not 10 x 32"):
        ms_ssim(image[:, :, :10], image[:, :, :10])
    with pytest.raises(RequestError, match="at least 11 x 11"):
        ssim(image[:, :, :10], image[:, :, :10])
    with pytest.raises(RequestError, match="take 1 to 2 scales, not 3"):
        ms_ssim(image, image, 3)
    with pytest.raises(RequestError, match="floats"):
        ms_ssim(image.byte(), image.byte())
    for wrong in (image - 1, image + 2, image * torch.nan):
        with pytest.raises(RequestError, match=r"values in \[0, 1\]"):
            ms_ssim(image, wrong)
