"""Energies of images: values computed by hand and with numpy, gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage.priors import L1, L2, Regularizer, TotalVariation

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31)
betas = st.sampled_from([1.0, 1.5, 2.0, 3.0])
ALL: list[Regularizer] = [
    TotalVariation(1.0),
    TotalVariation(1.0, beta=1.5),
    TotalVariation(1.0, beta=2),
    TotalVariation(1.0, beta=3, epsilon=0.1),
    L1(1.0),
    L1(1.0, centre=0.0),
    L2(1.0),
    L2(1.0, centre=-1.0),
]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("rows", "beta", "energy"),
    [
        ([[0, 1], [0, 1]], 1, 2),  # an edge of length two
        ([[0, 1], [0, 1]], 2, 2),
        ([[0, 3], [0, 3]], 2, 18),
        ([[0, 3], [0, 3]], 3, 54),
        ([[0, 1], [1, 0]], 1, math.sqrt(2) + 1 + 1),  # the first pixel differs both ways
        ([[1, 0], [0, 0]], 1, math.sqrt(2)),
        ([[0, 0], [0, 1]], 1, 2),
        ([[3, 0], [7, 0]], 1, 5 + 7),  # |(4, -3)|, then |(0, -7)|
        ([[3, 0], [7, 0]], 3, 125 + 343),
        ([[0, 1, 3, 6]], 1, 6),
        ([[0, 1, 3, 6]], 2, 1 + 4 + 9),
        ([[5]], 1, 0),
    ],
)
def test_total_variation_by_hand(rows: list[list[float]], beta: float, energy: float) -> None:
    image = torch.tensor(rows, dtype=torch.float64)[None, None]
    found = TotalVariation(1.0, beta=beta, epsilon=1e-9).energy(image)
    assert found.shape == (1,)
    assert found.item() == pytest.approx(energy, rel=1e-7, abs=1e-7)


@few
@given(seeds, betas, st.integers(1, 6), st.integers(1, 6), st.sampled_from([1e-6, 0.1, 1.0]))
def test_total_variation_is_that_of_numpy(seed: int, beta: float, height: int, width: int, epsilon: float) -> None:
    images = normal(seed, 2, 3, height, width)
    u = images.numpy()
    down, right = np.zeros_like(u), np.zeros_like(u)
    down[:, :, :-1] = np.diff(u, axis=2)
    right[:, :, :, :-1] = np.diff(u, axis=3)
    expected = ((down**2 + right**2 + epsilon**2) ** (beta / 2) - epsilon**beta).sum((1, 2, 3))
    found = TotalVariation(1.0, beta=beta, epsilon=epsilon).energy(images)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-12)


@few
@given(st.floats(-1, 2), betas, st.sampled_from([1, 3]))
def test_a_flat_image_has_no_total_variation_and_no_pull(value: float, beta: float, channels: int) -> None:
    image = torch.full((2, channels, 8, 8), value, requires_grad=True)
    regularizer = TotalVariation(1.0, beta=beta)
    energy = regularizer.energy(image)
    # epsilon^beta is subtracted from itself, once rounded to float32.
    assert (energy.abs() <= 64 * channels * regularizer.epsilon**beta * torch.finfo(torch.float32).eps).all()
    (gradient,) = torch.autograd.grad(energy.sum(), image)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@few
@given(seeds, betas, st.floats(0.1, 10) | st.floats(-10, -0.1), st.floats(-3, 3))
def test_total_variation_grows_with_contrast_to_the_beta_and_ignores_brightness(
    seed: int, beta: float, contrast: float, brightness: float
) -> None:
    images = normal(seed, 2, 2, 4, 5)
    tv = TotalVariation(1.0, beta=beta, epsilon=1e-12)
    found = tv.energy(contrast * images + brightness)
    torch.testing.assert_close(found, abs(contrast) ** beta * tv.energy(images), rtol=1e-9, atol=1e-9)


@few
@given(seeds)
def test_l1_and_l2_are_sums_around_their_centre(seed: int) -> None:
    images = normal(seed, 3, 2, 4, 5)
    u = images.numpy()
    for centre in (0.5, 0.0, -1.0):
        np.testing.assert_allclose(L1(1.0, centre).energy(images).numpy(), np.abs(u - centre).sum((1, 2, 3)))
        np.testing.assert_allclose(L2(1.0, centre).energy(images).numpy(), ((u - centre) ** 2).sum((1, 2, 3)) / 2)
    assert L1(1.0).centre == L2(1.0).centre == 0.5


@few
@given(seeds)
def test_the_gradient_of_l2_is_weight_decay(seed: int) -> None:
    images = normal(seed, 2, 3, 3, 3).requires_grad_(True)
    (gradient,) = torch.autograd.grad(L2(1.0, centre=0.2).energy(images).sum(), images)
    torch.testing.assert_close(gradient, images.detach() - 0.2, rtol=1e-12, atol=0)


@few
@given(seeds)
def test_the_gradient_of_l1_is_the_sign(seed: int) -> None:
    images = normal(seed, 2, 3, 3, 3).requires_grad_(True)
    (gradient,) = torch.autograd.grad(L1(1.0).energy(images).sum(), images)
    assert torch.equal(gradient, (images.detach() - 0.5).sign())


def test_the_gradient_of_total_variation_is_minus_the_divergence_of_the_direction() -> None:
    """Paper 2, S8: grad TV = -div(grad u / |grad u|), with the differences that belong to the forward ones."""
    u = normal(0, 1, 1, 6, 7).requires_grad_(True)
    (gradient,) = torch.autograd.grad(TotalVariation(1.0, epsilon=1e-9).energy(u).sum(), u)
    image = u.detach().numpy()[0, 0]
    down, right = np.zeros_like(image), np.zeros_like(image)
    down[:-1], right[:, :-1] = np.diff(image, axis=0), np.diff(image, axis=1)
    length = np.sqrt(down**2 + right**2)
    length[length == 0] = 1
    down, right = down / length, right / length
    divergence = np.diff(down, axis=0, prepend=0) + np.diff(right, axis=1, prepend=0)
    np.testing.assert_allclose(gradient.numpy()[0, 0], -divergence, atol=1e-9)


@pytest.mark.parametrize("regularizer", ALL, ids=str)
def test_gradients_agree_with_finite_differences(regularizer: Regularizer) -> None:
    images = normal(1, 2, 2, 4, 3).requires_grad_(True)
    assert torch.autograd.gradcheck(regularizer.energy, (images,))


@pytest.mark.parametrize("regularizer", ALL, ids=str)
def test_each_image_has_its_own_energy_and_the_weight_is_not_in_it(regularizer: Regularizer) -> None:
    images = normal(2, 4, 3, 5, 5)
    alone = torch.cat([regularizer.energy(images[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(regularizer.energy(images), alone, rtol=1e-12, atol=1e-12)
    heavy = type(regularizer)(**{**vars(regularizer), "weight": 100.0})
    assert torch.equal(heavy.energy(images), regularizer.energy(images))
