"""What the demons schemes of paper 2 do (SPEC S4 to S9), wherever it is known in closed form.

The loop runs v <- K_e (v + tau K_f g) on linear networks. Kernels whose borders mirror at the pixels' edges are
diagonal in the cosines cos(pi k (i + 1/2) / H), the modes of the DCT-II: such a mode is multiplied by the kernel's
Fourier transform there, its gain. These modes are orthogonal, so that kernels are symmetric matrices.

Starts and gradients are float64, and so are networks; but activations are float32, so where they enter a gradient
(`Features`) results are good to some 2^-24 of the activations, and to rounding in float64 elsewhere (`label`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft, ndimage, special
from torch import nn

from climbs import climbed
from preimage import Network, Place
from preimage.objectives import EachItsOwn, Features, Objective, features, label
from preimage.optimization import Ascent, Stage
from preimage.parametrizations import Pixels
from preimage.priors import Gaussian, Sobolev, TotalVariation

Array = np.ndarray[Any, np.dtype[np.float64]]
Filter = Gaussian | Sobolev

few = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 2**31)
kernels = st.builds(
    lambda kind, size, margin: kind(size, margin=margin),
    st.sampled_from([Gaussian, Sobolev]),
    st.sampled_from(range(5, 17, 2)),
    st.sampled_from([0, 1]),
)
SINGLE = 1e-6
"""Sixteen roundings of numbers of size 1 to float32: steps of a contraction make a few of one, all together."""


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


# --- the loop -----------------------------------------------------------------------------------------------------


def linear(weight: Array, height: int, width: int) -> Network:
    """A network of one channel whose tap "1" gives weight @ pixels, weight being [outputs, height * width]."""
    layer = nn.Linear(*weight.shape[::-1], bias=False).double()
    layer.weight.data.copy_(torch.from_numpy(weight))
    return Network(nn.Sequential(nn.Flatten(), layer), (height, width), channels=1)


def run(network: Network, objective: Objective, start: Array, stage: Stage) -> Array:
    """The loop on one image [H, W], whose parameters are its pixels."""
    kind = Pixels(1, *start.shape, grey=0.0)
    reached = climbed(network, EachItsOwn((objective,)), torch.from_numpy(start)[None, None], [stage], kind=kind)
    assert reached.parameters.dtype == torch.float64
    return reached.parameters[0, 0].numpy()


def pushed(gradient: Array, start: Array, stage: Stage) -> Array:
    """The loop where the gradient is the same everywhere: the score is <gradient, image>."""
    network = linear(gradient.reshape(1, -1), *gradient.shape)
    return run(network, label(0).bind(network), start, stage)


def smoothed_only(start: Array, steps: int, kernel: Filter) -> Array:
    """The elastic scheme without any data: its gradient is zero."""
    return pushed(np.zeros_like(start), start, Stage(steps, Ascent(1.0), smooth_solution=kernel))


def fitted(weight: Array, target: Array, start: Array, steps: int, tau: float, **smooth: Filter | None) -> Array:
    """The loop downhill on D = |weight @ u - target|^2 / 2, `Features` being -2 D / |target|^2."""
    asked = Features(Place("1"), torch.from_numpy(target).float())
    step_size = tau * float(asked.target.double().square().sum()) / 2
    return run(linear(weight, *start.shape), asked, start, Stage(steps, Ascent(step_size), **smooth))  # type: ignore[arg-type]


def recalled(photo: Array, start: Array, steps: int, tau: float, **smooth: Filter | None) -> Array:
    """The loop downhill on D = |u - photo|^2 / 2, asked as a person would: the features of an identity."""
    network = Network(nn.Sequential(nn.Identity()), photo.shape, channels=1)
    asked = features(network, "0", torch.from_numpy(photo)[None])
    step_size = tau * float(asked.target.double().square().sum()) / 2
    return run(network, asked, start, Stage(steps, Ascent(step_size), **smooth))  # type: ignore[arg-type]


def photo(seed: int, height: int, width: int) -> Array:
    """Noise in [0, 1] that float32 holds exactly."""
    return np.random.default_rng(seed).random((height, width), dtype=np.float32).astype(np.float64)


# --- kernels in numpy ---------------------------------------------------------------------------------------------


def weights(kernel: Filter) -> Array:
    if isinstance(kernel, Gaussian):
        return np.outer(kernel.profile, kernel.profile)
    return kernel.kernel.double().numpy()


def smoothed(image: Array, kernel: Filter | None) -> Array:
    return image if kernel is None else ndimage.correlate(image, weights(kernel), mode="reflect")


def matrix(kernel: Filter | None, height: int, width: int) -> Array:
    """The kernel as a matrix that acts on flattened images."""
    if kernel is None:
        return np.eye(height * width)
    # Row shift a is the matrix down[a], which mirrors at the border, and column shift b the matrix right[b].
    down, right = (
        np.stack([np.eye(length)[mirrored[shift : shift + length]] for shift in range(len(weights(kernel)))])
        for length in (height, width)
        for mirrored in [np.pad(np.arange(length), len(weights(kernel)) // 2, mode="symmetric")]
    )
    along_rows = np.tensordot(weights(kernel), right, 1)
    return np.tensordot(down, along_rows, ((0,), (0,))).transpose(0, 2, 1, 3).reshape(height * width, -1)


@pytest.mark.parametrize("kernel", [None, Gaussian(7), Sobolev(9)], ids=str)
def test_the_matrix_of_these_tests_is_the_filter_of_scipy(kernel: Filter | None) -> None:
    image = normal(0, 9, 12)
    expected = smoothed(image, kernel)
    np.testing.assert_allclose(matrix(kernel, 9, 12) @ image.ravel(), expected.ravel(), rtol=0, atol=1e-14)


def transform(kernel: Filter | None, rows: Array, columns: Array) -> Array:
    """The kernel's Fourier transform at these frequencies [rows, columns]."""
    if kernel is None:
        return np.ones((len(rows), len(columns)))
    values = weights(kernel)
    at = np.arange(len(values)) - len(values) // 2
    return np.cos(np.outer(rows, at)) @ values @ np.cos(np.outer(at, columns))


def frequencies(side: int) -> Array:
    return np.pi * np.arange(side) / side


def gains(kernel: Filter | None, height: int, width: int) -> Array:
    """What each mode of an image is multiplied by."""
    return transform(kernel, frequencies(height), frequencies(width))


def modes(image: Array) -> Array:
    return fft.dctn(image, type=2, norm="ortho")


def image_of(spectrum: Array) -> Array:
    return fft.idctn(spectrum, type=2, norm="ortho")


def laplacian_of(height: int, width: int) -> Array:
    """What the five-point Laplacian with reflecting borders multiplies each mode by."""
    rows, columns = (2 * np.cos(frequencies(side)) - 2 for side in (height, width))
    return rows[:, None] + columns[None]


def squared_differences(height: int, width: int) -> Array:
    """The matrix of |grad u|^2 with nothing beyond the border, which is minus the five-point Laplacian."""

    def line(side: int) -> Array:
        return np.diff(np.eye(side), axis=0).T @ np.diff(np.eye(side), axis=0)

    return np.kron(line(height), np.eye(width)) + np.kron(np.eye(height), line(width))


def cropped(kernel: Sobolev) -> float:
    """A bound on the sum of |entries| by which a Sobolev kernel differs from the solution on an unbounded grid.

    In one dimension (1 - gamma Laplacian) S = delta is solved by z^|n| / sqrt(1 + 4 gamma) with z + 1/z = 2 + 1/gamma;
    that is also what rows of the two-dimensional solution sum to. So 2 z^(r + 1) / (1 - z) / sqrt(1 + 4 gamma) lies
    beyond r pixels in one direction, and twice that is the `lost` share at most. Scaling the rest by 1 / (1 - lost)
    adds as much as was lost. Entries are rounded to float32 besides, which is 2^-24 of their sum.
    """
    assert kernel.size is not None
    half = 1 + 1 / (2 * kernel.gamma)
    z = half - math.sqrt(half**2 - 1)
    lost = 4 * z ** (kernel.size // 2 + 1) / (1 - z) / math.sqrt(1 + 4 * kernel.gamma)
    return 2 * lost + 2**-24


# --- one elastic step without data --------------------------------------------------------------------------------


def heat_error(sigma: float, size: int, highest: float) -> float:
    """How far a sampled, truncated Gaussian's gain is from exp(-sigma^2 w^2 / 2) at most, for w <= highest (one axis).

    With t the Gaussian's mass beyond the filter and a(w) what sampling folds back (Poisson's sum), the gain is
    (exp(..) + a(w) - t(w)) / (1 + a(0) - t(0)), where |t(w)| <= t(0) <= erfc(reach / (sigma sqrt 2)).
    """
    tail = special.erfc(size // 2 / (sigma * math.sqrt(2)))
    folded = [sum(math.exp(-((sigma * (w - 2 * math.pi * m)) ** 2) / 2) for m in (-2, -1, 1, 2)) for w in (0, highest)]
    return float((sum(folded) + 2 * tail) / (1 - tail))


@few
@given(seeds, st.floats(1.0, 1.4), st.integers(2, 5))
def test_elastic_gaussian_steps_are_heat_flow_for_half_their_variances(seed: int, sigma: float, steps: int) -> None:
    """The continuous heat equation between the outermost pixels' edges, insulated, solved by hand: cosines decay
    with exp(-t w^2), t = steps sigma^2 / 2. So steps add variances, not widths (SPEC S.3-2)."""
    height, width, count = 41, 39, 4
    random = np.random.default_rng(seed)
    # Up to half of the highest frequency there is; beyond that pixels are too coarse to follow the heat equation.
    # The first of them decays slowly enough to tell times apart.
    first, *others = [(k, m) for k in range(6, 20) for m in range(6, 20)]
    modes_at = [first, *random.permutation(others)[: count - 1]]
    signs = random.choice([-1.0, 1.0], count)

    def heated(time: float) -> Array:
        out = np.zeros((height, width))
        for (k, m), sign in zip(modes_at, signs, strict=True):
            a, b = np.pi * k / height, np.pi * m / width
            wave = np.outer(np.cos(a * (np.arange(height) + 0.5)), np.cos(b * (np.arange(width) + 0.5)))
            out += sign * wave * math.exp(-time * (a**2 + b**2))
        return out

    def far_enough(sigma: float) -> int:
        return 2 * math.ceil(5.5 * sigma) + 1

    kernel, wide = Gaussian(far_enough(sigma), sigma), Gaussian(far_enough(sigma * steps**0.5), sigma * steps**0.5)
    # Of products of numbers that are at most 1, errors add: two axes, and each step.
    each, whole = (count * 2 * heat_error(one.sigma, one.size or 0, np.pi / 2) for one in (kernel, wide))
    start, expected = heated(0), heated(steps * sigma**2 / 2)
    many = smoothed_only(start, steps, kernel)
    once = smoothed_only(start, 1, wide)
    assert np.abs(many - expected).max() < steps * each
    assert np.abs(once - expected).max() < whole + 1e-12
    # Neither another time nor the paper's width of steps * sigma (its equation 12) would pass.
    for other in (start, heated(steps * sigma**2 / 4), heated(steps * sigma**2), heated((steps * sigma) ** 2 / 2)):
        assert np.abs(other - expected).max() > 3 * steps * each


@few
@given(seeds, st.floats(0.05, 0.6), st.integers(1, 4))
def test_elastic_sobolev_steps_are_implicit_euler_steps_of_discrete_heat_flow(
    seed: int, gamma: float, steps: int
) -> None:
    """(Id - gamma Laplacian) u_n = u_(n-1), on images of noise, borders reflecting."""
    height, width = 22, 21
    kernel, start = Sobolev(21, gamma), normal(seed, height, width)
    laplacian = -squared_differences(height, width)
    expected = start.ravel()
    for _ in range(steps):
        expected = np.linalg.solve(np.eye(height * width) - gamma * laplacian, expected)
    found = smoothed_only(start, steps, kernel).ravel()
    # Averages are never larger than what they average, so neither are errors of the steps before.
    bound = steps * cropped(kernel) * np.abs(start).max()
    assert bound < 1e-3
    assert np.abs(found - expected).max() < bound + 1e-12


# --- total variation ----------------------------------------------------------------------------------------------


def gradient(u: Array) -> tuple[Array, Array]:
    """Forward differences; nothing beyond the border (Neumann)."""
    down, right = np.zeros_like(u), np.zeros_like(u)
    down[:-1], right[:, :-1] = u[1:] - u[:-1], u[:, 1:] - u[:, :-1]
    return down, right


def divergence(down: Array, right: Array) -> Array:
    """Backward differences; nothing flows through the border, whatever the field says there."""
    out = np.zeros_like(down)
    out[:-1] += down[:-1]
    out[1:] -= down[:-1]
    out[:, :-1] += right[:, :-1]
    out[:, 1:] -= right[:, :-1]
    return out


def energy_step(u: Array, steps: int, tau: float, energy: TotalVariation) -> Array:
    return pushed(np.zeros_like(u), u, Stage(steps, Ascent(tau), regularizers=(energy,)))


@few
@given(seeds, st.integers(1, 7), st.integers(1, 7), st.sampled_from([1e-3, 0.1, 1.0]), st.floats(0.01, 3.0))
def test_a_step_down_total_variation_follows_the_divergence_of_the_direction(
    seed: int, height: int, width: int, epsilon: float, weight: float
) -> None:
    """u <- u + tau weight div(grad u / sqrt(|grad u|^2 + epsilon^2)) (SPEC S8), with a divergence that is minus the
    adjoint of the gradient (SPEC S.3-7): <grad u, p> = -<u, div p> for all u and p."""
    u, other, down, right = normal(seed, 4, height, width)
    du, ru = gradient(u)
    assert (du * down + ru * right).sum() == pytest.approx(-(u * divergence(down, right)).sum(), rel=1e-9, abs=1e-9)

    length = np.sqrt(du**2 + ru**2 + epsilon**2)
    found = (energy_step(u, 1, 0.5, TotalVariation(weight, epsilon=epsilon)) - u) / (0.5 * weight)
    np.testing.assert_allclose(found, divergence(du / length, ru / length), rtol=1e-9, atol=1e-9)
    # The same without a formula for the divergence: how the energy changes towards any other image.
    towards = sum((a * b / length).sum() for a, b in zip((du, ru), gradient(other), strict=True))
    assert -(found * other).sum() == pytest.approx(towards, rel=1e-9, abs=1e-9)


@few
@given(seeds, st.integers(1, 12), st.floats(0.01, 0.12))
def test_descent_on_the_dirichlet_energy_is_explicit_heat_flow_and_keeps_the_mean(
    seed: int, steps: int, tau: float
) -> None:
    """Its gradient is -2 Laplacian u; borders lie half a pixel outside, so modes are those of the DCT-II."""
    u = normal(seed, 7, 9)
    rows, columns = (2 * np.cos(np.pi * np.arange(side) / side) - 2 for side in u.shape)
    factors = (1 + 2 * tau * (rows[:, None] + columns[None])) ** steps
    expected = fft.idctn(factors * fft.dctn(u, type=2), type=2)
    found = energy_step(u, steps, tau, TotalVariation(1.0, beta=2))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert found.mean() == pytest.approx(u.mean(), abs=1e-12)


@few
@given(seeds, st.floats(0.05, 0.6))
def test_sobolev_kernels_and_total_variation_have_the_same_border(seed: int, gamma: float) -> None:
    """A Sobolev kernel is undone by a step up the Dirichlet energy, whose gradient is -2 Laplacian: K^-1 = Id - gamma
    Laplacian, up to the cropping of the kernel, which that makes larger by 1 + 8 gamma at most."""
    kernel, u = Sobolev(21, gamma), normal(seed, 22, 21)
    smooth = smoothed_only(u, 1, kernel)
    found = 2 * smooth - energy_step(smooth, 1, gamma / 2, TotalVariation(1.0, beta=2))
    bound = (1 + 8 * gamma) * cropped(kernel) * np.abs(u).max()
    assert np.abs(found - u).max() < bound + 1e-12 < 0.01


# --- Phi = identity -----------------------------------------------------------------------------------------------


@few
@given(seeds, kernels, kernels, st.floats(0.05, 1.0), st.integers(1, 30), st.booleans(), st.booleans())
def test_every_mode_of_an_identity_network_goes_its_own_way(
    seed: int, elastic: Filter, fluid: Filter, tau: float, steps: int, smooths: bool, preconditions: bool
) -> None:
    """Plain, elastic, fluid or both, with gains e and f: what a mode lacks of its limit shrinks by e (1 - tau f)
    in every step, and the limit is tau e f / (1 - e + tau e f) of the photo's."""
    height, width = 15, 17
    of, start = photo(seed, height, width), normal(seed, height, width)
    e, f = (gains(kernel, height, width) for kernel in (elastic if smooths else None, fluid if preconditions else None))
    limit = tau * e * f / (1 - e + tau * e * f) * modes(of)
    expected = image_of(limit + (e * (1 - tau * f)) ** steps * (modes(start) - limit))
    smooth = {"smooth_solution": elastic if smooths else None, "smooth_update": fluid if preconditions else None}
    found = recalled(of, start, steps, tau, **smooth)
    # Each step rounds activations of at most `largest` to 2^-24 of it and takes tau of that; no mode makes it larger,
    # though the greatest pixel may be: twice as much is allowed.
    largest = max(np.abs(start).max(), np.abs(found).max(), 1.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=(1 + tau * steps) * largest * 2**-23)


@pytest.mark.parametrize("kernel", [Gaussian(5), Gaussian(9), Gaussian(11, margin=0), Sobolev(9), Sobolev(15)], ids=str)
@pytest.mark.parametrize("tau", [0.05, 0.3, 1.0])
def test_the_elastic_scheme_reaches_the_fixed_point_of_its_equation(kernel: Filter, tau: float) -> None:
    """u = K (u - tau (u - u_0)), solved as a system of linear equations and as a quotient of modes."""
    height, width = 15, 16
    of = photo(3, height, width)
    smooths = matrix(kernel, height, width)
    system = np.eye(height * width) - (1 - tau) * smooths
    solved = np.linalg.solve(system, tau * smooths @ of.ravel()).reshape(height, width)
    gain = gains(kernel, height, width)
    np.testing.assert_allclose(solved, image_of(tau * gain / (1 - (1 - tau) * gain) * modes(of)), atol=1e-11)
    # An average with factor 1 - tau: after so many steps, 1e-9 of the start is left.
    steps = 1 if tau == 1 else math.ceil(math.log(1e-9) / math.log(1 - tau))
    found = recalled(of, normal(4, height, width), steps, tau, smooth_solution=kernel)
    np.testing.assert_allclose(found, solved, rtol=0, atol=SINGLE)
    assert np.abs(solved - of).max() > 0.1


@pytest.mark.parametrize("tau", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_elastic_sobolev_is_tikhonov_s_solution_whatever_the_step_size(gamma: float, tau: float) -> None:
    """Multiply u = K (u - tau (u - u_0)) by K^-1 = Id - gamma Laplacian: u - u_0 = gamma / tau Laplacian u, which
    minimises |u - u_0|^2 / 2 + gamma / (2 tau) |grad u|^2. Exact up to the cropping of the kernel."""
    height, width = 22, 21
    kernel, of = Sobolev(21, gamma), photo(5, height, width)
    tikhonov = image_of(modes(of) / (1 - gamma / tau * laplacian_of(height, width)))
    steps = 1 if tau == 1 else math.ceil(math.log(1e-9) / math.log(1 - tau))
    found = recalled(of, of, steps, tau, smooth_solution=kernel)
    # u = sum over n of tau (1 - tau)^n K^(n + 1) u_0; K^(n + 1) is wrong by n + 1 times what K is: 1 / tau in all.
    np.testing.assert_allclose(found, tikhonov, rtol=0, atol=cropped(kernel) / tau + SINGLE)
    assert cropped(kernel) / tau < 1e-3 < 0.05 < np.abs(found - of).max()


@pytest.mark.parametrize("tau", [0.03, 0.1, 0.2])
def test_elastic_gaussian_is_tikhonov_s_solution_up_to_half_the_step_size(tau: float) -> None:
    """With x = sigma^2 |w|^2 / 2 the limit of a mode is tau / (e^x - 1 + tau) of the photo's, and Tikhonov's of
    |u - u_0|^2 / 2 + sigma^2 / (4 tau) |grad u|^2 is tau / (x + tau). They differ by tau (e^x - 1 - x) / ((e^x - 1 +
    tau)(x + tau)) < tau (1 / x - 1 / (e^x - 1)) < tau / 2."""
    height, width, sigma = 19, 20, 1.5
    kernel, of = Gaussian(19, sigma), photo(6, height, width)
    rows, columns = (frequencies(side) ** 2 for side in of.shape)
    x = sigma**2 / 2 * (rows[:, None] + columns[None])
    steps = math.ceil(math.log(1e-9) / math.log(1 - tau))
    found = modes(recalled(of, of, steps, tau, smooth_solution=kernel))
    # A gain that is off by `off` moves tau e / (1 - (1 - tau) e) by off / tau at most.
    off = 2 * heat_error(sigma, 19, np.pi)
    bound = (tau / 2 + off / tau) * np.abs(modes(of)) + math.sqrt(of.size) * SINGLE
    assert (np.abs(found - tau / (x + tau) * modes(of)) < bound).all()
    # Half or twice the weight would not do.
    for factor in (0.5, 2.0):
        assert (np.abs(found - tau / (factor * x + tau) * modes(of)) > bound).any()


# --- which kernels are positive definite --------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0, 1])
@pytest.mark.parametrize("size", [5, 7, 9, 11, 13, 15, 21, 31, 41])
def test_sobolev_kernels_are_positive_definite_in_every_size(size: int, margin: int) -> None:
    """On every image: their Fourier transform is positive, by far more than the 1e-7 that float32 entries make."""
    everywhere = np.linspace(0, np.pi, 201)
    assert transform(Sobolev(size, margin=margin), everywhere, everywhere).min() > 1e-3


@pytest.mark.parametrize(("margin", "largest"), [(0, 9), (1, 11)])
def test_gaussian_kernels_that_fit_their_size_are_positive_definite_only_if_small(margin: int, largest: int) -> None:
    """The 1e-4 rule cuts wider Gaussians off where they are still larger than their own Fourier transform."""
    everywhere = np.linspace(0, np.pi, 401)
    for size in range(5, 25, 2):
        lowest = transform(Gaussian(size, margin=margin), everywhere, everywhere).min()
        assert (lowest > 0) == (size <= largest), (size, lowest)
        assert abs(lowest) > 1e-8  # (no matter of rounding, which is 1e-16)


@pytest.mark.parametrize("kernel", [Gaussian(5, sigma=2.0), Gaussian(13), Gaussian(11, margin=0)], ids=str)
def test_fluid_descent_with_a_kernel_that_is_not_positive_definite_climbs_away(kernel: Gaussian) -> None:
    """A mode with a negative gain moves away from the photo, by 1 - tau gain > 1 in every step."""
    height, width, steps = 21, 20, 60
    gain = gains(kernel, height, width)
    worst = np.unravel_index(gain.argmin(), gain.shape)
    alone = np.zeros((height, width))
    alone[worst] = 1
    wave = image_of(alone) / np.abs(image_of(alone)).max()
    of = np.full((height, width), 0.5)
    # Added to a flat photo, which float32 holds exactly; what is lacking is rounded to 2^-24 of the sum.
    found = recalled(of, of + wave, steps, 1.0, smooth_update=kernel) - of
    growth = (1 - gain[worst]) ** steps
    assert growth > 1.001
    np.testing.assert_allclose(found, growth * wave, rtol=0, atol=steps * growth * 2**-24)


def own_matrix(kernel: Filter, height: int, width: int) -> Array:
    """The kernel as a matrix, by applying it."""
    pixels = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    return kernel(pixels).flatten(1).T.numpy()


@pytest.mark.parametrize("wider", [0, 3])
@pytest.mark.parametrize("size", range(5, 23, 2))
@pytest.mark.parametrize("kind", [Gaussian, Sobolev])
def test_kernels_are_symmetric_and_have_gains_as_eigenvalues(kind: type[Filter], size: int, wider: int) -> None:
    """In pictures as wide as the kernel too, whose every pixel it mirrors. So a smoothed gradient is the gradient in
    another metric, that of K^-1, wherever K is positive definite."""
    kernel, height, width = kind(size), size + wider, size + 1
    smooths = own_matrix(kernel, height, width)
    np.testing.assert_allclose(smooths, smooths.T, rtol=0, atol=1e-14)
    np.testing.assert_allclose(smooths, matrix(kernel, height, width), rtol=0, atol=1e-14)
    found, expected = np.linalg.eigvalsh(smooths), np.sort(gains(kernel, height, width).ravel())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


@few
@given(seeds, kernels)
def test_the_mean_stays_as_it_is(seed: int, kernel: Filter) -> None:
    """Up to what entries of the kernel sum to, which float32 rounds for a Sobolev kernel."""
    u = 1 + normal(seed, 15, 18)
    found = smoothed_only(u, 1, kernel).mean()
    assert found == pytest.approx(u.mean() * weights(kernel).sum(), rel=1e-13)
    assert found == pytest.approx(u.mean(), rel=2**-24 if isinstance(kernel, Sobolev) else 1e-13)


FAVOURABLE = [
    *(Sobolev(size, margin=margin) for size in (5, 9, 11, 15) for margin in (0, 1)),
    *(Gaussian(size) for size in (5, 7, 9, 11)),
    *(Gaussian(size, margin=0) for size in (5, 7, 9)),
]


@pytest.mark.parametrize("kernel", FAVOURABLE, ids=str)
def test_a_fluid_step_with_a_positive_definite_kernel_climbs_whatever_the_gradient(kernel: Filter) -> None:
    """<g, K g> > 0, by the least favourable gradient there is: the highest of all modes, where the gain is least."""
    height, width = 15, 16
    values, vectors = np.linalg.eigh(own_matrix(kernel, height, width))
    g, start = vectors[:, 0].reshape(height, width), normal(0, height, width)
    moved = pushed(g, start, Stage(1, Ascent(2.0), smooth_update=kernel)) - start
    assert (g * moved).sum() == pytest.approx(2 * values[0], abs=1e-12)
    assert values[0] == pytest.approx(gains(kernel, height, width).min(), abs=1e-13)
    assert values[0] > 1e-9  # (rounding is 1e-16)


@pytest.mark.parametrize("kernel", [Gaussian(13), Gaussian(15), Gaussian(11, margin=0)], ids=str)
def test_a_fluid_step_with_a_wide_gaussian_goes_downhill_for_some_gradients(kernel: Gaussian) -> None:
    height, width = 31, 32
    gain = gains(kernel, height, width)
    alone = np.zeros((height, width))
    alone[np.unravel_index(gain.argmin(), gain.shape)] = 1
    g = image_of(alone)
    moved = pushed(g, np.zeros((height, width)), Stage(1, Ascent(1.0), smooth_update=kernel))
    assert (g * moved).sum() == pytest.approx(gain.min(), abs=1e-12)
    assert gain.min() < -1e-6


# --- linear networks ----------------------------------------------------------------------------------------------


def full_rank(seed: int, outputs: int, pixels: int) -> Array:
    """A random matrix whose singular values lie between 1 and 2."""
    random = np.random.default_rng(seed)
    left, _, right = np.linalg.svd(random.normal(size=(outputs, pixels)), full_matrices=False)
    return left * random.uniform(1, 2, min(outputs, pixels)) @ right


def single(values: Array) -> Array:
    """The nearest float32 numbers, as which a target is kept."""
    return values.astype(np.float32).astype(np.float64)


def steps_for(system: Array) -> tuple[float, int]:
    """A step size with which (Id - tau system)^n vanishes, and an n after which 1e-9 of it is left."""
    tau = 1 / np.abs(np.linalg.eigvals(system)).max()
    power, steps = np.eye(len(system)) - tau * system, 1
    while np.linalg.norm(power, 2) > 1e-9:
        power, steps = power @ power, 2 * steps
        assert steps < 5000
    return float(tau), steps


PRECONDITIONERS = [None, Gaussian(5), Gaussian(7, sigma=0.6), Sobolev(5), Sobolev(9), Sobolev(11)]


@pytest.mark.parametrize("outputs", [132, 220])
@pytest.mark.parametrize("kernel", PRECONDITIONERS, ids=str)
def test_fluid_descent_ends_at_the_least_squares_solution_whatever_the_kernel(
    kernel: Filter | None, outputs: int
) -> None:
    """An invertible and an over-determined network: one minimiser of D, which no kernel moves."""
    height, width = 11, 12
    weight, target = full_rank(0, outputs, 132), single(normal(1, outputs))
    solution, *_ = np.linalg.lstsq(weight, target, rcond=None)
    assert (np.linalg.norm(weight @ solution - target) > 1) == (outputs > 132)
    tau, steps = steps_for(matrix(kernel, height, width) @ weight.T @ weight)
    found = fitted(weight, target, normal(2, height, width), steps, tau, smooth_update=kernel)
    # Every step rounds activations by 2^-24 |target| ~ 5e-7 at most and takes tau |K A^T| ~ 1/2 of that, which lives on
    # for as many steps as the condition number of K A^T A, 9 * 4 at most. That is 1e-5 if all errors agree.
    np.testing.assert_allclose(found.ravel(), solution, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel", PRECONDITIONERS, ids=str)
def test_fluid_descent_of_an_under_determined_network_ends_at_a_solution_that_the_kernel_chooses(
    kernel: Filter | None,
) -> None:
    """The start plus K A^T (A K A^T)^-1 (y - A start): all steps lie in the range of K A^T. From zero and without a
    kernel that is the solution of least norm."""
    height, width, outputs = 11, 12, 20
    weight, target = full_rank(3, outputs, 132), single(normal(4, outputs))
    start = normal(5, height, width)
    reach = matrix(kernel, height, width) @ weight.T
    tau, steps = steps_for(weight @ reach)
    least, *_ = np.linalg.lstsq(weight, target, rcond=None)
    for first in (start, np.zeros_like(start)):
        lacking = target - weight @ first.ravel()
        expected = first.ravel() + reach @ np.linalg.solve(weight @ reach, lacking)
        found = fitted(weight, target, first, steps, tau, smooth_update=kernel).ravel()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)  # (as above)
        np.testing.assert_allclose(weight @ found, target, rtol=0, atol=1e-5)
    apart = np.linalg.norm(found - least)
    assert apart < 1e-4 if kernel is None else apart > 0.01


@pytest.mark.parametrize("gamma", [0.2, 0.6])
def test_fluid_sobolev_descent_from_zero_finds_the_solution_of_least_sobolev_norm(gamma: float) -> None:
    """The least sum of u^2 + gamma |grad u|^2 among all that the network answers alike, border included, by
    elimination of the constraint."""
    height, width, outputs = 22, 21, 20
    weight, target = full_rank(6, outputs, height * width), single(normal(7, outputs))
    kernel = Sobolev(21, gamma)
    norm = np.eye(height * width) + gamma * squared_differences(height, width)
    one, *_ = np.linalg.lstsq(weight, target, rcond=None)
    free = np.linalg.svd(weight)[2][outputs:].T  # what the network does not see
    best = one - free @ np.linalg.solve(free.T @ norm @ free, free.T @ norm @ one)

    smooths = matrix(kernel, height, width)
    reach = smooths @ weight.T
    tau, steps = steps_for(weight @ reach)
    found = fitted(weight, target, np.zeros((height, width)), steps, tau, smooth_update=kernel).ravel()
    # What cropping does to K A^T (A K A^T)^-1 y, to first order; a symmetric filter's norm is sum |entries| at most.
    inverse = np.linalg.inv(weight @ reach)
    projector = np.linalg.norm(np.eye(height * width) - reach @ inverse @ weight, 2)
    bound = cropped(kernel) * projector * np.linalg.norm(weight.T @ inverse @ target)
    assert np.linalg.norm(found - best) < 1.01 * bound + 1e-5 < 0.01 * np.linalg.norm(one - best)


@few
@given(seeds, kernels)
def test_fluid_steps_leave_a_minimiser_alone_and_elastic_steps_smooth_it(seed: int, kernel: Filter) -> None:
    """Which is why fluid regularisation is implicit and elastic explicit (SPEC S13)."""
    height, width, outputs = 15, 16, 30
    weight, solution = full_rank(seed, outputs, height * width), normal(seed, height, width)
    target = weight @ solution.ravel()
    fluid, elastic = (
        fitted(weight, target, solution, 1, 0.5, **{name: kernel}) for name in ("smooth_update", "smooth_solution")
    )
    # The residual is what float32 makes of activations and target, 2^-24 of each; |A| <= 2 and |K| <= 1.
    bound = 0.5 * 2 * (2 * 2**-24 * np.linalg.norm(target))
    assert np.abs(fluid - solution).max() < bound
    np.testing.assert_allclose(elastic, smoothed(solution, kernel), rtol=0, atol=bound)
    assert np.abs(smoothed(solution, kernel) - solution).max() > 1e-3


# --- gradients that stay the same ---------------------------------------------------------------------------------


@few
@given(seeds, kernels, kernels, st.booleans(), st.booleans(), st.floats(-3, 3))
def test_one_step_of_the_fluid_elastic_scheme_is_the_composition(
    seed: int, elastic: Filter, fluid: Filter, smooths: bool, preconditions: bool, tau: float
) -> None:
    """v <- K_e (v + tau K_f g), for any v, g and kernels (SPEC S5, S6, S7)."""
    e, f = elastic if smooths else None, fluid if preconditions else None
    v, g = normal(seed, 2, 15, 18)
    found = pushed(g, v, Stage(1, Ascent(tau), smooth_solution=e, smooth_update=f))
    np.testing.assert_allclose(found, smoothed(v + tau * smoothed(g, f), e), rtol=1e-10, atol=1e-11)


@few
@given(seeds, kernels, kernels, st.integers(2, 12))
def test_fluid_steps_smooth_an_update_once_and_elastic_steps_again_and_again(
    seed: int, kernel: Filter, other: Filter, steps: int
) -> None:
    """After n steps with the same gradient: n tau K g, against tau (K + K^2 + ... + K^n) g, mode by mode. The older an
    update, the more often it was smoothed (paper 2, equations 10 and 11)."""
    height, width, tau = 16, 15, 0.7
    g, start = normal(seed, 2, height, width)
    e, f = gains(kernel, height, width), gains(other, height, width)
    powers = np.stack([e**n for n in range(1, steps + 1)])

    def after(**smooth: Filter) -> Array:
        return pushed(g, start, Stage(steps, Ascent(tau), **smooth))  # type: ignore[arg-type]

    fluid = after(smooth_update=kernel) - start
    elastic = after(smooth_solution=kernel) - image_of(powers[-1] * modes(start))
    both = after(smooth_solution=kernel, smooth_update=other) - image_of(powers[-1] * modes(start))
    exact = {"rtol": 1e-9, "atol": 1e-10}
    np.testing.assert_allclose(fluid, image_of(steps * tau * e * modes(g)), **exact)
    np.testing.assert_allclose(elastic, image_of(tau * powers.sum(0) * modes(g)), **exact)
    np.testing.assert_allclose(both, image_of(tau * powers.sum(0) * f * modes(g)), **exact)


@few
@given(seeds, st.sampled_from([5, 9, 11, 15]), st.integers(2, 12))
def test_elastic_updates_are_coarser_than_fluid_ones(seed: int, size: int, steps: int) -> None:
    """Of the same gradient, a larger share of the energy is in the modes with the larger gains: elastic modes are fluid
    ones times (1 + e + ... + e^(n - 1)) / n, which rises with the gain e. Those of Sobolev fall with frequency."""
    height, width = 16, 15
    g, kernel, zero = normal(seed, height, width), Sobolev(size), np.zeros((height, width))
    coarse = -laplacian_of(height, width) < np.median(-laplacian_of(height, width))
    e = gains(kernel, height, width)
    assert e[coarse].min() > e[~coarse].max()

    def share(moved: Array) -> float:
        energy = modes(moved) ** 2
        return float(energy[coarse].sum() / energy.sum())

    fluid = share(pushed(g, zero, Stage(steps, Ascent(1.0), smooth_update=kernel)))
    elastic = share(pushed(g, zero, Stage(steps, Ascent(1.0), smooth_solution=kernel)))
    assert share(g) < fluid < elastic


def test_elastic_sobolev_steps_with_one_gradient_end_at_the_solution_of_poisson_s_equation() -> None:
    """-gamma Laplacian u = tau g, for a gradient without a mean; fluid steps go on for ever."""
    height, width, gamma, tau = 22, 21, 0.5, 0.8
    kernel, g = Sobolev(21, gamma), normal(8, height, width)
    g -= g.mean()
    lacking = 1 - 1 / (1 - gamma * laplacian_of(height, width))  # 1 - e
    lacking[0, 0] = np.inf  # the mean, which the gradient lacks
    steps = math.ceil(math.log(1e9) / lacking.min())  # e^n < exp(-n (1 - e))
    found = modes(pushed(g, np.zeros((height, width)), Stage(steps, Ascent(tau), smooth_solution=kernel)))
    expected = tau * modes(g) * (1 / lacking - 1)
    expected[0, 0] = 0
    # Cropping moves e by `off`, and e / (1 - e) by off / ((1 - e)(1 - e - off)).
    off = cropped(kernel)
    assert off < 1e-3 * lacking.min()
    bound = tau * np.abs(modes(g)) * off / (lacking * (lacking - off)) + 2e-9 * np.abs(expected) + 1e-9
    assert (np.abs(found - expected) < bound).all()
    # The equation itself, at the pixels: e / (1 - e) = 1 / (-gamma Laplacian).
    np.testing.assert_allclose(image_of(-gamma * laplacian_of(height, width) * expected), tau * g, atol=1e-10)
