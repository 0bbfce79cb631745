"""Parameters -> image: closed forms, ranges, inverses, gradients, and the spectrum that random parameters give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage.parametrizations import PHOTOGRAPHS, Fourier, Parametrization, Pixels, SigmoidPixels

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31)
channel_counts = st.sampled_from([1, 3, 5])
sides = st.integers(1, 9)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def colour_matrix(channels: int) -> Tensor:
    """Well conditioned, and far from symmetric."""
    return (torch.eye(channels) + 0.5 * torch.ones(channels, channels).triu(1) / channels).double()


def coloured_kinds(channels: int, height: int, width: int) -> list[Parametrization]:
    colours = colour_matrix(channels)
    return [
        Pixels(channels, height, width),
        SigmoidPixels(channels, height, width),
        SigmoidPixels(channels, height, width, colours=colours),
        Fourier(channels, height, width, decay=0),
        Fourier(channels, height, width, decay=1),
        Fourier(channels, height, width, decay=0, colours=colours),
        Fourier(channels, height, width, decay=1, colours=colours),
        Fourier(channels, height, width, decay=1.5, contrast=1.0),
    ]


@settings(max_examples=12, deadline=None)
@given(seeds, channel_counts, st.sampled_from([(4, 4), (3, 5), (5, 4), (4, 3), (1, 4), (2, 1)]))
def test_gradients_agree_with_finite_differences(seed: int, channels: int, size: tuple[int, int]) -> None:
    for kind in coloured_kinds(channels, *size):
        v = normal(seed, 1, *kind.shape).requires_grad_(True)
        assert torch.autograd.gradcheck(kind.image, (v,), fast_mode=True)


@few
@given(seeds, channel_counts, sides, sides, st.integers(1, 3))
def test_images_have_the_asked_shape_and_sigmoids_stay_within_the_range(
    seed: int, channels: int, height: int, width: int, count: int
) -> None:
    for kind in coloured_kinds(channels, height, width):
        image = kind.image(1000 * normal(seed, count, *kind.shape).float())
        assert image.shape == (count, channels, height, width)
        assert image.dtype == torch.float32
        assert image.isfinite().all()
        if not isinstance(kind, Pixels):
            assert image.min() >= 0
            assert image.max() <= 1


@few
@given(seeds, channel_counts, sides, sides)
def test_parameters_of_an_image_give_that_image(seed: int, channels: int, height: int, width: int) -> None:
    image = 0.1 + 0.8 * torch.sigmoid(normal(seed, 2, channels, height, width))
    for kind in coloured_kinds(channels, height, width):
        found = kind.parameters(image)
        assert found.shape == (2, *kind.shape)
        torch.testing.assert_close(kind.image(found), image, rtol=1e-8, atol=1e-9)


@few
@given(seeds, channel_counts, sides, sides)
def test_the_image_of_parameters_gives_those_parameters(seed: int, channels: int, height: int, width: int) -> None:
    """Exactly for pixels; Fourier coefficients that no real image has are lost, so there the image comes back."""
    for kind in coloured_kinds(channels, height, width):
        v = 0.02 * normal(seed, 2, *kind.shape)  # the sigmoid must not saturate
        image = kind.image(v)
        again = kind.parameters(image)
        if isinstance(kind, Fourier):
            torch.testing.assert_close(kind.image(again), image, rtol=1e-8, atol=1e-9)
        else:
            torch.testing.assert_close(again, v, rtol=1e-8, atol=1e-9)


@few
@given(channel_counts, st.booleans())
def test_black_and_white_come_back_as_nearly_so(channels: int, with_colours: bool) -> None:
    image = (torch.rand(1, channels, 6, 7, generator=torch.Generator().manual_seed(channels)) > 0.5).float()
    colours = colour_matrix(channels) if with_colours else None
    for kind in (SigmoidPixels(channels, 6, 7, colours=colours), Fourier(channels, 6, 7, colours=colours)):
        found = kind.parameters(image)
        assert found.isfinite().all()
        assert (kind.image(found) - image).abs().max() < 1 / 255


def test_colours_of_rank_one_still_give_back_what_they_can_show() -> None:
    """Grey photographs stored as RGB give such a matrix (`measured_colours`); a grey image lies within its reach."""
    colours = torch.tensor([[1.0, 0.0, 0.0]] * 3) / math.sqrt(3)
    grey = torch.linspace(0.2, 0.8, 16, dtype=torch.float64).reshape(1, 1, 4, 4).expand(1, 3, 4, 4)
    kinds: list[Parametrization] = [SigmoidPixels(3, 4, 4, colours=colours), Fourier(3, 4, 4, colours=colours)]
    for kind in kinds:
        torch.testing.assert_close(kind.image(kind.parameters(grey)), grey, rtol=1e-5, atol=1e-6)


@few
@given(seeds, channel_counts, st.floats(-1, 1))
def test_pixels_are_grey_plus_the_parameters(seed: int, channels: int, grey: float) -> None:
    v = normal(seed, 2, channels, 3, 4)
    assert torch.equal(Pixels(channels, 3, 4, grey=grey).image(v), v + grey)


@few
@given(seeds, channel_counts)
def test_sigmoid_pixels_closed_form(seed: int, channels: int) -> None:
    v, colours = normal(seed, 2, channels, 3, 4), colour_matrix(channels)
    mixed = np.einsum("oc,nchw->nohw", colours.numpy(), v.numpy())
    expected = torch.from_numpy(1 / (1 + np.exp(-mixed)))
    torch.testing.assert_close(SigmoidPixels(channels, 3, 4, colours=colours).image(v), expected)
    torch.testing.assert_close(SigmoidPixels(channels, 3, 4).image(v), 1 / (1 + (-v).exp()))


# --- Fourier ------------------------------------------------------------------------------------------------------


@few
@given(seeds, st.integers(2, 9), st.integers(2, 9), st.floats(0, 2), st.floats(0.1, 2))
def test_fourier_agrees_with_numpy_on_the_coefficients_of_real_images(
    seed: int, height: int, width: int, decay: float, contrast: float
) -> None:
    """sigmoid(contrast * irfft2(c / max(f, 1 / longer side)^decay)), written out with numpy's own transform."""
    coefficients = np.fft.rfft2(normal(seed, 2, 3, height, width).numpy(), norm="ortho")
    fy, fx = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    scale = contrast / np.maximum(np.hypot(fy, fx), 1 / max(height, width)) ** decay
    flat = np.fft.irfft2(coefficients * scale, s=(height, width), norm="ortho")
    v = torch.view_as_real(torch.from_numpy(coefficients)).contiguous()
    image = Fourier(3, height, width, decay=decay, contrast=contrast).image(v)
    # The frequencies are float32.
    torch.testing.assert_close(image, torch.from_numpy(1 / (1 + np.exp(-flat))), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("height", "width", "ky", "kx"), [(8, 8, 2, 3), (7, 9, 0, 1), (6, 5, -1, 2), (5, 8, 2, 1)])
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_one_coefficient_is_one_wave(height: int, width: int, ky: int, kx: int, decay: float) -> None:
    kind = Fourier(1, height, width, decay=decay)
    v = torch.zeros(1, *kind.shape, dtype=torch.float64)
    v[0, 0, ky, kx, 0] = 0.7
    frequency = math.hypot(ky / height, kx / width)
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    wave = torch.cos(2 * math.pi * (ky * y / height + kx * x / width))
    amplitude = 2 * 0.7 / 4 / frequency**decay / math.sqrt(height * width)
    found = torch.logit(kind.image(v))[0, 0] / amplitude
    torch.testing.assert_close(found, wave, rtol=0, atol=1e-6)  # the frequencies are float32


@few
@given(seeds, st.integers(1, 9), st.integers(1, 9))
def test_without_decay_the_transform_is_unitary_up_to_the_contrast(seed: int, height: int, width: int) -> None:
    """It keeps angles and lengths of (whole) spectra: sum |flat|^2 = contrast^2 sum |c|^2, as Parseval says."""
    real = normal(seed, 2, height, width).numpy()
    whole = np.fft.fft2(real, norm="ortho")
    half = torch.view_as_real(torch.from_numpy(np.fft.rfft2(real, norm="ortho"))).contiguous()
    kind = Fourier(1, height, width, decay=0, contrast=0.25)
    flat = torch.logit(kind.image(half[:, None])).numpy()[:, 0]
    assert np.isclose((flat**2).sum(), 0.25**2 * (np.abs(whole) ** 2).sum(), rtol=1e-8)
    assert np.isclose((flat[0] * flat[1]).sum(), 0.25**2 * np.vdot(whole[0], whole[1]).real, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("decay", [0.0, 1.0])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (15, 12)])
def test_random_parameters_have_the_power_spectrum_of_their_decay(decay: float, height: int, width: int) -> None:
    """E|C(f)|^2 = 2 spread^2 contrast^2 / f^(2 decay) before the sigmoid: 1/f^2 as photographs have, or flat.

    (Of the columns fx = 0 and fx = 1/2 only the half that real images can have counts.)
    """
    draws = 4000
    kind = Fourier(1, height, width, decay=decay)
    generator = torch.Generator().manual_seed(3)
    v = torch.stack([kind.start(generator) for _ in range(draws)]).double()
    spectrum = torch.fft.rfft2(torch.logit(kind.image(v)), norm="ortho").abs().square().mean(0)[0].numpy()
    fy, fx = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    f = np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    expected = 2 * kind.spread**2 / 16 / f ** (2 * decay)
    inner = (fx > 0) & (fx < 0.5)
    # |C|^2 is exponentially distributed: the mean of `draws` has a relative deviation of 1 / sqrt(draws).
    assert np.abs(spectrum / expected - 1)[inner].max() < 6 / math.sqrt(draws)
    edge = spectrum[1:, 0] / (expected / 2)[1:, 0]
    assert abs(edge.mean() - 1) < 6 * math.sqrt(2 / draws)


@few
@given(seeds, channel_counts, st.integers(1, 7), st.integers(1, 7))
def test_centred_images_have_no_tint_and_nothing_else_changes(
    seed: int, channels: int, height: int, width: int
) -> None:
    """Before the sigmoid each channel's mean is zero, also behind a colour matrix, and nothing pulls at it."""
    free = Fourier(channels, height, width, colours=colour_matrix(channels))
    centred = Fourier(channels, height, width, colours=colour_matrix(channels), centred=True)
    v = (0.1 * normal(seed, 2, *free.shape)).requires_grad_(True)
    flat, other = torch.logit(centred.image(v)), torch.logit(free.image(v))
    assert flat.mean((2, 3)).abs().max() < 1e-9
    torch.testing.assert_close(flat, other - other.mean((2, 3), keepdim=True), rtol=1e-7, atol=1e-8)
    (slope,) = torch.autograd.grad(centred.image(v).sin().sum(), v)
    assert torch.equal(slope[:, :, 0, 0], torch.zeros_like(slope[:, :, 0, 0]))
    found = centred.parameters(centred.image(v.detach()))
    assert found.isfinite().all()
    torch.testing.assert_close(centred.image(found), centred.image(v.detach()), rtol=1e-5, atol=1e-6)
    tinted = torch.sigmoid(flat.detach() + 0.5)
    torch.testing.assert_close(
        centred.image(centred.parameters(tinted)), centred.image(v.detach()), rtol=1e-5, atol=1e-6
    )


@few
@given(seeds, channel_counts)
def test_colours_mix_the_channels_before_the_sigmoid(seed: int, channels: int) -> None:
    colours = colour_matrix(channels)
    plain, mixed = Fourier(channels, 5, 6), Fourier(channels, 5, 6, colours=colours)
    v = normal(seed, 2, *plain.shape)
    expected = torch.einsum("oc,nchw->nohw", colours, torch.logit(plain.image(v)))
    torch.testing.assert_close(torch.logit(mixed.image(v)), expected, rtol=1e-7, atol=1e-8)


def test_random_fourier_images_have_the_colours_of_the_matrix() -> None:
    """The covariance of the channels before the sigmoid is A A^T, up to a factor that all share."""
    kind = Fourier(3, 16, 16, colours=PHOTOGRAPHS)
    generator = torch.Generator().manual_seed(0)
    v = torch.stack([kind.start(generator) for _ in range(800)]).double()
    pixels = torch.logit(kind.image(v)).movedim(1, 0).flatten(1)
    found = pixels @ pixels.T
    expected = (PHOTOGRAPHS @ PHOTOGRAPHS.T).double()
    angle = (found * expected).sum() / found.norm() / expected.norm()
    assert angle > 0.9999


# --- where one starts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "spread"), [(Pixels, 1 / 255), (SigmoidPixels, 0.01), (Fourier, 0.01), (Pixels, 0.3), (Fourier, 0.0)]
)
def test_the_start_is_normal_with_the_spread_and_comes_from_the_generator(make: Any, spread: float) -> None:
    kind = make(3, 40, 40, spread=spread)
    one, same = (kind.start(torch.Generator().manual_seed(5)) for _ in range(2))
    other = kind.start(torch.Generator().manual_seed(6))
    assert one.shape == kind.shape
    assert torch.equal(one, same)
    assert torch.equal(one, other) == (spread == 0)
    count = one.numel()
    assert abs(float(one.double().std()) - spread) <= 6 * spread / math.sqrt(2 * count)
    assert abs(float(one.double().mean())) <= 6 * spread / math.sqrt(count)


def test_the_default_spreads_are_the_published_ones() -> None:
    assert Pixels(3, 4, 4).spread * 255 == pytest.approx(1)  # N(0, 1) on the 0..255 scale (SPEC A9)
    assert Fourier(3, 4, 4).spread == SigmoidPixels(3, 4, 4).spread == 0.01  # Lucid (SPEC I2)


@few
@given(channel_counts, sides, sides)
def test_half_a_spectrum_is_enough(channels: int, height: int, width: int) -> None:
    assert Fourier(channels, height, width).shape == (channels, height, width // 2 + 1, 2)
    assert Pixels(channels, height, width).shape == (channels, height, width)
    assert SigmoidPixels(channels, height, width).shape == (channels, height, width)
