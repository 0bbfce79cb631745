"""Blur and deblur against scipy and scikit-image, what they keep, and when schedules apply them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.restoration import richardson_lucy
from torch import Tensor

from preimage import RequestError
from preimage.priors import BlurAndDeblur, Deblur, Every, FallingBlur, Gaussian, Grey, Kernel, Schedule

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
sigmas = st.floats(0.3, 3)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positive(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 + torch.rand(shape, generator=generator, dtype=torch.float64)


# --- blur ---------------------------------------------------------------------------------------------------------


@few
@given(seeds, sigmas, st.sampled_from([None, 1, 3, 7, 11, 19]))
def test_a_blur_is_scipy_s_with_borders_mirrored_at_the_pixels_edges(seed: int, sigma: float, size: int | None) -> None:
    values = normal(seed, 2, 3, 19, 22)
    reach = math.ceil(3 * sigma) if size is None else size // 2
    expected = ndimage.gaussian_filter(values.numpy(), sigma, mode="reflect", radius=reach, axes=(2, 3))
    np.testing.assert_allclose(Gaussian(size, sigma=sigma)(values).numpy(), expected, rtol=1e-12, atol=1e-12)


@few
@given(sigmas, st.sampled_from([None, 3, 7, 11]))
def test_the_kernel_is_what_a_single_pixel_becomes(sigma: float, size: int | None) -> None:
    blur = Gaussian(size, sigma=sigma)
    side = len(blur.profile)
    pixel = torch.zeros(1, 1, 2 * side + 1, 2 * side + 1)
    pixel[0, 0, side, side] = 1
    reach = side // 2
    spread = blur(pixel)[0, 0, side - reach : side + reach + 1, side - reach : side + reach + 1]
    torch.testing.assert_close(spread, blur.kernel, rtol=1e-5, atol=1e-8)
    assert blur.kernel.sum().item() == pytest.approx(1, abs=1e-6)
    assert torch.equal(blur.kernel, blur.kernel.T) and torch.equal(blur.kernel, blur.kernel.flip(0, 1))
    assert side == (2 * math.ceil(3 * sigma) + 1 if size is None else size)


@few
@given(seeds, sigmas)
def test_a_blur_is_its_own_transpose(seed: int, sigma: float) -> None:
    """<K x, y> = <x, K y>, border included."""
    x, y = normal(seed, 2, 1, 2, 19, 22)
    blur = Gaussian(sigma=sigma)
    torch.testing.assert_close((blur(x) * y).sum(), (x * blur(y)).sum(), rtol=1e-10, atol=1e-10)


@few
@given(seeds, sigmas, st.floats(-3, 3))
def test_a_blur_keeps_flat_images_and_means_and_stays_between_the_values(seed: int, sigma: float, level: float) -> None:
    blur, values = Gaussian(sigma=sigma), normal(seed, 1, 2, 19, 20)
    flat = torch.full((1, 2, 19, 20), level, dtype=torch.float64)
    torch.testing.assert_close(blur(flat), flat, rtol=1e-12, atol=1e-12)
    blurred = blur(values)
    torch.testing.assert_close(blurred.mean((2, 3)), values.mean((2, 3)), rtol=1e-12, atol=1e-13)
    assert values.min() - 1e-12 <= blurred.min() <= blurred.max() <= values.max() + 1e-12
    assert blurred.var() < values.var()


def test_blurring_twice_is_blurring_with_the_sum_of_the_variances() -> None:
    """Up to the border, where both mirror alike."""
    values = normal(0, 1, 1, 60, 51)
    twice = Gaussian(31, sigma=1.5)(Gaussian(31, sigma=2.0)(values))
    once = Gaussian(51, sigma=2.5)(values)
    torch.testing.assert_close(twice, once, rtol=0, atol=1e-5)


def test_images_and_channels_are_blurred_each_by_itself() -> None:
    values, blur = normal(0, 2, 3, 9, 9), Gaussian(sigma=1.0)
    alone = torch.stack([torch.cat([blur(values[i : i + 1, c : c + 1])[0] for c in range(3)]) for i in range(2)])
    torch.testing.assert_close(blur(values), alone, rtol=1e-12, atol=1e-12)


def test_a_blur_of_one_pixel_changes_nothing() -> None:
    values = normal(0, 1, 2, 4, 5)
    assert torch.equal(Gaussian(1, sigma=2.0)(values), values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smoothing_keeps_the_type(dtype: torch.dtype) -> None:
    values = positive(0, 1, 2, 9, 9).to(dtype)
    for kernel in (Gaussian(sigma=1.0), Deblur(Gaussian(sigma=1.0)), Grey()):
        assert kernel(values).dtype == dtype


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_a_blur_needs_a_sigma(sigma: float) -> None:
    with pytest.raises(RequestError, match="sigma above zero pixels"):
        Gaussian(sigma=sigma)


@pytest.mark.parametrize("sigma", [0.01, 1e-20, 1e-170, 1e-300, 5e-324])
@pytest.mark.parametrize("size", [None, 1, 7])
def test_a_blur_much_narrower_than_a_pixel_changes_nothing(sigma: float, size: int | None) -> None:
    values = normal(0, 1, 2, 8, 9)
    assert torch.equal(Gaussian(size, sigma=sigma)(values), values)


@pytest.mark.parametrize("size", [0, 2, 8, -1, -3])
def test_a_kernel_has_an_odd_size(size: int) -> None:
    with pytest.raises(RequestError, match=f"odd number of pixels a side, 1 at least, not {size}"):
        Gaussian(size, sigma=1.0)


def test_a_blur_takes_pixels_of_images_that_are_as_wide_as_it() -> None:
    with pytest.raises(RequestError, match=r"smooths pixels \[N, C, H, W\], not parameters \[2, 3, 4\]"):
        Gaussian(sigma=1.0)(torch.zeros(2, 3, 4))
    assert Gaussian(7, sigma=1.0)(torch.zeros(1, 1, 7, 9)).shape == (1, 1, 7, 9)
    for height, width in ((6, 9), (9, 6)):
        with pytest.raises(RequestError, match=rf"kernel of 7 pixels a side is wider than .* {height} x {width};"):
            Gaussian(7, sigma=1.0)(torch.zeros(1, 1, height, width))


# --- deblur -------------------------------------------------------------------------------------------------------


def richardson_and_lucy(data: np.ndarray, sigma: float, reach: int, iterations: int) -> np.ndarray:
    """u <- u K^T (d / K u), from u = d, written with scipy."""

    def blur(image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(image, sigma, mode="reflect", radius=reach)

    out = data
    for _ in range(iterations):
        out = out * blur(data / blur(out))
    return out


@few
@given(seeds, st.floats(0.4, 1.5), st.integers(1, 12))
def test_deblurring_is_richardson_s_and_lucy_s_iteration(seed: int, sigma: float, iterations: int) -> None:
    data = positive(seed, 2, 1, 12, 14)
    found = Deblur(Gaussian(5, sigma=sigma), iterations, base="zero")(data)
    for one, image in zip(found[:, 0].numpy(), data[:, 0].numpy(), strict=True):
        np.testing.assert_allclose(one, richardson_and_lucy(image, sigma, 2, iterations), rtol=1e-9)


def test_deblurring_ends_where_scikit_image_s_does_and_finds_the_image_again() -> None:
    """Both begin elsewhere and treat borders otherwise; a kernel this narrow lets both arrive, and far inside."""
    image, blur = positive(0, 1, 1, 30, 32), Gaussian(3, sigma=0.4)
    data = blur(image)
    ours = Deblur(blur, 200, base="zero")(data)[0, 0].numpy()
    psf = torch.outer(blur.profile, blur.profile).numpy()
    theirs = richardson_lucy(data[0, 0].numpy(), psf, num_iter=200, clip=False)
    inside = (slice(10, -10), slice(10, -10))
    np.testing.assert_allclose(ours[inside], theirs[inside], rtol=1e-7)
    np.testing.assert_allclose(ours, image[0, 0].numpy(), rtol=1e-7)


@few
@given(seeds, st.floats(0.5, 1.5), st.sampled_from(["minimum", "zero"]))
def test_deblurring_a_blurred_image_brings_it_closer_to_what_it_was(seed: int, sigma: float, base: str) -> None:
    image, blur = positive(seed, 1, 3, 16, 16), Gaussian(7, sigma=sigma)
    blurred = blur(image)
    deblurred = Deblur(blur, base=base)(blurred)
    assert (deblurred - image).square().mean() < (blurred - image).square().mean()
    assert (blur(deblurred) - blurred).square().mean() < (blur(blurred) - blurred).square().mean()


@few
@given(seeds, sigmas, st.integers(1, 15), st.sampled_from(["minimum", "zero"]))
def test_deblurring_keeps_the_mean(seed: int, sigma: float, iterations: int, base: str) -> None:
    """Richardson and Lucy keep the sum of the data, because K^T is what they take for it and keeps flat images."""
    data = positive(seed, 2, 2, 19, 20)
    found = Deblur(Gaussian(sigma=sigma), iterations, base)(data)
    torch.testing.assert_close(found.sum((2, 3)), data.sum((2, 3)), rtol=1e-10, atol=1e-10)


@few
@given(seeds, sigmas)
def test_deblurring_makes_the_data_likelier_in_every_iteration(seed: int, sigma: float) -> None:
    """Richardson and Lucy maximise sum d log(K u) - K u step by step, if K^T is the transpose at borders too."""
    data, blur = positive(seed, 1, 1, 19, 20), Gaussian(sigma=sigma)
    reached = [blur(Deblur(blur, n, base="zero")(data)) for n in range(1, 13)]
    likelihoods = torch.stack([(data * mean.log() - mean).sum() for mean in reached])
    assert (likelihoods.diff() > -1e-10).all()
    assert likelihoods[-1] > likelihoods[0]


@few
@given(seeds, sigmas, st.integers(1, 15), st.floats(-5, 5))
def test_deblurring_above_the_minimum_never_falls_below_it(
    seed: int, sigma: float, iterations: int, level: float
) -> None:
    data = normal(seed, 2, 2, 19, 20) + level
    found = Deblur(Gaussian(sigma=sigma), iterations)(data)
    assert (found.amin((1, 2, 3)) >= data.amin((1, 2, 3))).all()
    # Each image has its own minimum, and a level that is added to it comes out again.
    torch.testing.assert_close(found[1:], Deblur(Gaussian(sigma=sigma), iterations)(data[1:] - level) + level)


@few
@given(seeds, sigmas)
def test_deblurring_above_zero_forgets_what_is_darker(seed: int, sigma: float) -> None:
    data, deblur = normal(seed, 1, 2, 19, 20), Deblur(Gaussian(sigma=sigma), base="zero")
    found = deblur(data)
    assert found.min() >= 0
    assert (found[data <= 0] == 0).all()  # u stays zero where it starts as zero
    assert torch.equal(found, deblur(data.clamp_min(0)))


@pytest.mark.parametrize("base", ["minimum", "zero"])
@pytest.mark.parametrize("level", [0.0, 0.25, 7.0])
def test_nothing_to_deblur_in_a_flat_image(level: float, base: str) -> None:
    flat = torch.full((2, 3, 9, 9), level)
    torch.testing.assert_close(Deblur(Gaussian(sigma=1.0), base=base)(flat), flat, rtol=1e-5, atol=0)


def test_one_bright_pixel_on_black_cannot_be_sharper() -> None:
    """K^T (d / K d) is 1 where the only light is, and black stays black, also where K d underflows."""
    data = torch.zeros(1, 1, 41, 41)
    data[0, 0, 20, 20] = 1
    for sigma in (0.3, 1.0, 3.0):
        found = Deblur(Gaussian(sigma=sigma), iterations=50)(data)
        torch.testing.assert_close(found, data, rtol=1e-5, atol=0)


def test_deblurring_refuses_what_undoes_nothing() -> None:
    with pytest.raises(RequestError, match="at least one iteration, not 0"):
        Deblur(Gaussian(sigma=1.0), 0)
    with pytest.raises(RequestError, match="has no width: deblurring with it undoes nothing"):
        Deblur(Gaussian(1, sigma=1.0))
    with pytest.raises(RequestError, match="base of deblurring is minimum or zero, not 'mean'"):
        Deblur(Gaussian(sigma=1.0), base="mean")


def test_grey_is_zero_so_that_pulling_to_it_is_weight_decay() -> None:
    values, pull = normal(0, 2, 3, 4, 5), 0.01
    torch.testing.assert_close(values + pull * (Grey()(values) - values), (1 - pull) * values)


# --- schedules ----------------------------------------------------------------------------------------------------


@few
@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 30))
def test_every_so_many_steps(period: int, first: int, steps: int) -> None:
    kernel = Grey()
    schedule = Every(kernel, period, first)
    fired = [step + 1 for step in range(steps) if schedule.at(step, steps) is kernel]
    assert fired == list(range(first, steps + 1, period))
    assert all(schedule.at(step - 1, steps) is None for step in range(1, steps + 1) if step not in fired)
    if fired:
        schedule.check(steps)
    else:
        with pytest.raises(RequestError, match=rf"after step {first} for the first time, so in {steps} steps it never"):
            schedule.check(steps)


@pytest.mark.parametrize(("period", "first"), [(0, 1), (-1, 1), (1, 0), (3, -2)])
def test_every_begins_and_repeats(period: int, first: int) -> None:
    with pytest.raises(RequestError, match=f"not every {period} from step {first}"):
        Every(Grey(), period, first)


@few
@given(st.floats(0.3, 3), st.floats(0.3, 3), st.integers(2, 40))
def test_a_falling_blur_goes_evenly_from_the_first_sigma_to_the_last(first: float, last: float, steps: int) -> None:
    found = [FallingBlur(first, last).at(step, steps).sigma for step in range(steps)]  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, np.linspace(first, last, steps), rtol=1e-12)


def test_a_falling_blur_of_one_step_is_the_first() -> None:
    assert FallingBlur(2.0, 0.5).at(0, 1) == Gaussian(sigma=2.0)
    for first, last in ((0.0, 1.0), (1.0, -1.0)):
        with pytest.raises(RequestError, match="sigma above zero"):
            FallingBlur(first, last)


def test_blur_and_deblur_is_the_published_code_s_schedule() -> None:
    """1500 steps in rounds of 10: sigma_t = max(0.5, 0.99 sigma_{t-1}) from 1.2; blur after 1, deblur (0.8) after 6."""
    schedule, sigma = BlurAndDeblur(), 1.2
    for number in range(150):
        assert sigma == pytest.approx(max(0.5, 1.2 * 0.99**number), rel=1e-9)
        within = [schedule.at(10 * number + step, 1500) for step in range(10)]
        blur, deblur = within[0], within[5]
        assert isinstance(blur, Gaussian) and blur.size == 7
        assert blur.sigma == pytest.approx(sigma, rel=1e-9)
        assert isinstance(deblur, Deblur) and deblur.iterations == 10 and deblur.base == "minimum"
        assert deblur.kernel == Gaussian(7, sigma=0.8 * blur.sigma)
        assert [one for i, one in enumerate(within) if i not in (0, 5)] == [None] * 8
        sigma = max(0.5, 0.99 * sigma)
    assert sigma == 0.5


@few
@given(st.integers(1, 60), st.floats(1.5, 3), st.floats(0.01, 1), st.floats(0.4, 1.2))
def test_the_fall_is_the_same_however_many_steps_there_are(rounds: int, first: float, fall: float, last: float) -> None:
    schedule = BlurAndDeblur(first=first, last=last, fall=fall, period=4, deblur_after=3)
    blurs = [schedule.at(4 * i, 4 * rounds) for i in range(rounds)]
    expected = [max(last, first * fall ** (i / rounds)) for i in range(rounds)]
    np.testing.assert_allclose([blur.sigma for blur in blurs], expected, rtol=1e-12)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"period": 5}, "a round of 5 steps has steps 1 to 5, not 6"),
        ({"blur_after": 0}, "steps 1 to 10, not 0"),
        ({"deblur_after": 11}, "steps 1 to 10, not 11"),
        ({"last": 0.0}, "sigma above zero"),
        ({"first": -1.2}, "sigma above zero"),
        ({"ratio": 0.0}, "sigma above zero"),
        ({"size": 6}, "odd number of pixels"),
        ({"size": 1}, "undoes nothing"),
        ({"iterations": 0}, "at least one iteration"),
        ({"base": "mean"}, "minimum or zero"),
    ],
)
def test_blur_and_deblur_refuses_impossible_rounds(wrong: dict[str, int], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        BlurAndDeblur(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("schedule", "least", "what"),
    [
        (BlurAndDeblur(), 6, "deblurring"),
        (BlurAndDeblur(blur_after=7, deblur_after=2), 7, "blurring"),
        (Every(Grey(), 4, 3), 3, r"Grey\(\)"),
        (FallingBlur(2, 1), 1, ""),
    ],
)
def test_a_schedule_says_how_many_steps_it_needs(schedule: Schedule, least: int, what: str) -> None:
    schedule.check(least)
    fired: list[Kernel | None] = [schedule.at(step, least) for step in range(least)]
    assert fired[-1] is not None
    if least > 1:
        with pytest.raises(RequestError, match=f"{what} comes after step {least} .* ask for at least {least} steps"):
            schedule.check(least - 1)
