"""Masks with smooth outlines: against the sum that they are said to be, their discs, and what the network sees."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from preimage import RequestError
from preimage.parametrizations import SmoothMaskOver
from preimage.parametrizations.smooth_mask import blur_pyramid

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
sides = st.integers(1, 11)
steps = st.integers(1, 5)
sigmas = st.floats(0.4, 8)


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def over(size: tuple[int, int], step: int, sigma: float, *, levels: int = 3, count: int = 1) -> SmoothMaskOver:
    pyramid = uniform(1, count, levels, 3, *size)
    return SmoothMaskOver(1, *size, pyramid=pyramid, step=step, sigma=sigma)


def profile(distance: float, sigma: float) -> float:
    """k of the paper's published code."""
    return math.exp(-2 * max(0.0, distance / sigma - 0.5) ** 2)


def plainly(images: Tensor) -> Tensor:
    return images


def naively(cells: np.ndarray, step: int, sigma: float, height: int, width: int) -> np.ndarray:
    """smax_i k(u - i) v(i) at every pixel u of the picture with its margin, one by one; cells beyond the grid are 0.

    i goes over the cells around the one that u lies in, as far as one more than sigma reaches.
    """
    margin, reach = math.ceil(sigma / step) * step, 1 + math.ceil(sigma / step)
    middle = (step - 1) / 2
    out = np.zeros((height + 2 * margin, width + 2 * margin))
    for y, x in np.ndindex(*out.shape):
        row, column = (y - margin) // step, (x - margin) // step
        terms = []
        for i in range(row - reach, row + reach + 1):
            for j in range(column - reach, column + reach + 1):
                known = 0 <= i < cells.shape[0] and 0 <= j < cells.shape[1]
                apart = math.hypot(y - margin - (i * step + middle), x - margin - (j * step + middle))
                terms.append(profile(apart, sigma) * (cells[i, j] if known else 0.0))
        values = np.array(terms)
        weights = np.exp(20 * values)
        out[y, x] = (values * weights).sum() / weights.sum()
    return out


@few
@given(seeds, sides, sides, steps, sigmas)
def test_it_is_the_smooth_maximum_pixel_by_pixel(seed: int, height: int, width: int, step: int, sigma: float) -> None:
    sigma = min(sigma, 3.0 * step)
    one = over((height, width), step, sigma)
    assert one.shape == (1, math.ceil(height / step), math.ceil(width / step))
    cells = uniform(seed, 2, *one.shape)
    made = one.image(cells)
    for found, given_cells in zip(made[:, 0].double().numpy(), cells[:, 0].double().numpy(), strict=True):
        expected = naively(given_cells, step, sigma, height, width)
        # Beyond what is said there are the pixels that the last cells have too many.
        np.testing.assert_allclose(found[: expected.shape[0], : expected.shape[1]], expected, rtol=0, atol=5e-6)


@few
@given(seeds, sides, sides, steps, sigmas)
def test_values_lie_between_zero_and_the_largest_cell(
    seed: int, height: int, width: int, step: int, sigma: float
) -> None:
    one = over((height, width), step, sigma)
    cells = uniform(seed, 1, *one.shape)
    made = one.image(cells)
    assert made.min() >= 0 and made.max() <= cells.max() + 1e-6
    picture = one.picture(cells)
    assert picture.shape == (1, 1, height, width)
    margin = one.margin
    assert torch.equal(picture, made[:, :, margin : margin + height, margin : margin + width])
    assert torch.equal(one.image(torch.zeros_like(cells)), torch.zeros_like(made))


@few
@given(sides, sides, steps, sigmas)
def test_the_margin_is_sigma_in_whole_cells_on_every_side(height: int, width: int, step: int, sigma: float) -> None:
    one = over((height, width), step, sigma)
    assert one.margin % step == 0 and 0 <= one.margin - sigma < step
    made = one.image(torch.ones(1, *one.shape))
    cells = one.shape[1:]
    assert made.shape == (1, 1, *(count * step + 2 * one.margin for count in cells))


PLACES = [(0, 0), (0, 4), (0, 8), (4, 0), (4, 4), (8, 8), (8, 3), (5, 2)]


def drawn(row: int, column: int, step: int = 4, sigma: float = 9.0) -> tuple[SmoothMaskOver, Tensor]:
    one = over((9 * step, 9 * step), step, sigma)
    cells = torch.zeros(1, 1, 9, 9)
    cells[0, 0, row, column] = 1
    return one, one.image(cells)[0, 0]


@pytest.mark.parametrize(("row", "column"), PLACES)
def test_one_cell_draws_the_same_disc_wherever_it_lies(row: int, column: int) -> None:
    """Also at the border: as far as the margin goes, its disc is there."""
    step = 4
    one, alone = drawn(row, column)
    middle = drawn(4, 4)[1]
    down, right = (row - 4) * step, (column - 4) * step
    height, width = alone.shape
    rows = slice(max(0, down), height + min(0, down)), slice(max(0, -down), height + min(0, -down))
    columns = slice(max(0, right), width + min(0, right)), slice(max(0, -right), width + min(0, -right))
    torch.testing.assert_close(alone[rows[0], columns[0]], middle[rows[1], columns[1]], rtol=0, atol=1e-6)
    # Its pixels down to exp(-1/2) lie within the margin, all of them.
    assert one.margin >= 9
    assert int((alone > 0.6).sum()) == int((middle > 0.6).sum()) > 100


@pytest.mark.parametrize(("row", "column"), PLACES)
def test_the_disc_has_the_kernel_s_profile(row: int, column: int) -> None:
    """Of one cell alone: x exp(20 x) / (exp(20 x) + 80) where x = k, with the 80 cells around it that are off."""
    step, sigma = 4, 9.0
    one, made = drawn(row, column)
    reach = 1 + math.ceil(sigma / step)
    others = (2 * reach + 1) ** 2 - 1
    for y, x in np.ndindex(*made.shape):
        down, right = y - one.margin - (row * step + 1.5), x - one.margin - (column * step + 1.5)
        k = profile(math.hypot(down, right), sigma)
        known = all(abs(a - b) <= reach for a, b in ((y // step - 3, row), (x // step - 3, column)))
        expected = k * math.exp(20 * k) / (math.exp(20 * k) + others) if known else 0.0
        # (the smooth maximum is up to twenty times as steep as float32's rounding of k)
        assert made[y, x].item() == pytest.approx(expected, abs=5e-6)
    # A plateau of half a sigma, and next to nothing where the window of cells ends.
    assert made.max() > 0.9999
    assert one.margin == 3 * step


def test_discs_that_overlap_do_not_add_up() -> None:
    one = over((24, 24), 3, 7.0)
    left, right = torch.zeros(1, *one.shape), torch.zeros(1, *one.shape)
    left[..., 3, 3] = 1
    right[..., 3, 5] = 1
    both = one.image(left + right)
    larger = torch.maximum(one.image(left), one.image(right))
    assert both.max() <= 1
    # Between the smooth maximum of two and the larger of them there is little, and no more than their sum.
    assert (both - larger).abs().max() < 0.1
    torch.testing.assert_close(both.max(), larger.max(), rtol=1e-4, atol=0)


@few
@given(seeds, st.integers(-2, 2), st.integers(-2, 2))
def test_cells_moved_move_the_mask(seed: int, down: int, right: int) -> None:
    """Of a pattern whose discs stay within the margin."""
    one = over((27, 30), 3, 5.0)
    cells = torch.zeros(1, *one.shape)
    cells[..., 3:-3, 3:-3] = uniform(seed, *one.shape)[:, 3:-3, 3:-3]
    moved = one.image(cells.roll((down, right), (2, 3)))
    torch.testing.assert_close(moved, one.image(cells).roll((3 * down, 3 * right), (2, 3)), rtol=0, atol=1e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    pyramid = uniform(1, 2, 3, 2, 3, 5).double()
    one = SmoothMaskOver(1, 3, 5, pyramid=pyramid, step=2, sigma=3.0)
    cells = uniform(2, 2, *one.shape).double().requires_grad_(True)
    assert torch.autograd.gradcheck(one.image, cells)
    # Between the levels, where what the network sees is smooth.
    assert torch.autograd.gradcheck(lambda v: one.as_seen(one.image(v), plainly), cells)
    assert torch.autograd.gradcheck(lambda v: one.picture(v), cells)


@few
@given(seeds, sides, sides, steps)
def test_parameters_of_a_mask_are_its_mean_in_each_cell(seed: int, height: int, width: int, step: int) -> None:
    one = over((height * step, width * step), step, 2.0)
    masks = one.image(uniform(seed, 1, *one.shape))
    assert one.parameters(masks).shape == (1, *one.shape)
    inner = masks[0, 0, one.margin : one.margin + height * step, one.margin : one.margin + width * step]
    means = inner.reshape(height, step, width, step).mean((1, 3))
    torch.testing.assert_close(one.parameters(masks)[0, 0], means, rtol=1e-5, atol=1e-6)


# --- what the network sees ----------------------------------------------------------------------------------------


def masks_of(one: SmoothMaskOver, values: Tensor) -> Tensor:
    """Masks with their margin, [N, 1, ...], whose part over the photo is `values` [N, 1, H, W]."""
    margin = one.margin
    masks = torch.full_like(one.image(torch.zeros(len(values), *one.shape)), 0.123)
    masks[:, :, margin : margin + one.height, margin : margin + one.width] = values
    return masks


@pytest.mark.parametrize("levels", [2, 3, 8])
def test_ones_show_the_photo_and_zeros_the_most_blurred(levels: int) -> None:
    one = over((6, 9), 2, 3.0, levels=levels, count=2)
    for value in range(levels):
        flat = masks_of(one, torch.full((2, 1, 6, 9), value / (levels - 1)))
        torch.testing.assert_close(one.as_seen(flat, plainly), one.pyramid[:, value], rtol=0, atol=2e-6)
    assert torch.equal(one.as_seen(masks_of(one, torch.ones(2, 1, 6, 9)), plainly), one.pyramid[:, -1])
    assert torch.equal(one.as_seen(masks_of(one, torch.zeros(2, 1, 6, 9)), plainly), one.pyramid[:, 0])


@few
@given(seeds, st.integers(2, 9))
def test_in_between_it_is_linear_pixel_by_pixel_and_photo_by_photo(seed: int, levels: int) -> None:
    one = over((5, 6), 2, 3.0, levels=levels, count=3)
    values = uniform(seed, 3, 1, 5, 6)
    seen = one.as_seen(masks_of(one, values), plainly).numpy()
    pyramid = one.pyramid.numpy()
    at = np.arange(levels) / (levels - 1)
    for n, c, y, x in np.ndindex(*seen.shape):
        expected = np.interp(float(values[n, 0, y, x]), at, pyramid[n, :, c, y, x])
        assert seen[n, c, y, x] == pytest.approx(expected, abs=1e-5)


def test_a_view_moves_what_is_seen_and_not_the_mask() -> None:
    one = over((4, 6), 2, 3.0)
    masks = masks_of(one, uniform(0, 1, 1, 4, 6))
    assert torch.equal(one.as_seen(masks, lambda shown: shown.flip(3)), one.as_seen(masks, plainly).flip(3))


# --- the pyramid --------------------------------------------------------------------------------------------------


@few
@given(seeds, st.lists(st.floats(0.3, 2.0), min_size=1, max_size=4))
def test_each_level_is_scipy_s_gaussian(seed: int, sigmas: list[float]) -> None:
    photos = uniform(seed, 2, 3, 14, 17)
    made = blur_pyramid(photos, [*sigmas, 0.0])
    assert made.shape == (2, len(sigmas) + 1, 3, 14, 17)
    assert torch.equal(made[:, -1], photos)
    for level, sigma in zip(made.unbind(1), sigmas, strict=False):
        radius = min(math.ceil(3 * sigma), 6)  # 13 pixels fit into 14
        expected = gaussian_filter(
            photos.double().numpy(), (0, 0, sigma, sigma), mode="reflect", radius=(0, 0, radius, radius)
        )
        np.testing.assert_allclose(level.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2), (5, 40)])
def test_of_a_gaussian_wider_than_the_photo_the_part_that_fits_is_taken(size: tuple[int, int]) -> None:
    photos = uniform(0, 1, 3, *size)
    made = blur_pyramid(photos, [20.0, 0.0])
    assert made.shape == (1, 2, 3, *size)
    assert made.min() >= photos.min() - 1e-6 and made.max() <= photos.max() + 1e-6
    torch.testing.assert_close(made[:, 0].mean((2, 3)), photos.mean((2, 3)), rtol=1e-5, atol=1e-5)


# --- written down, and refused ------------------------------------------------------------------------------------


def test_it_is_written_down_without_its_pictures() -> None:
    said = json.loads(json.dumps(over((10, 21), 7, 21.0).describe()))
    assert said == {"kind": "SmoothMaskOver", "cells": [2, 3], "step": 7, "sigma": 21.0}


@pytest.mark.parametrize(("step", "sigma"), [(0, 21.0), (-1, 21.0), (7, 0.0), (7, -1.0), (7, math.nan)])
def test_a_step_or_a_sigma_that_makes_no_sense_is_refused(step: int, sigma: float) -> None:
    with pytest.raises(RequestError, match="a step has 1 pixel or more and a sigma above zero, not"):
        over((10, 10), step, sigma)
