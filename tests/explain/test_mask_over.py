"""A mask laid over photos: against scipy's filters and an explicit sum; its gradient against the transposed map."""

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
from preimage.parametrizations import MaskOver
from preimage.parametrizations.mask import Shows, grid

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
sigmas = st.sampled_from([0.0, 0.4, 1.0, 2.5, 6.0])


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def over(
    cells: tuple[int, int],
    seen: tuple[int, int],
    sigma: float = 0.0,
    shows: Shows = "kept",
    gradient_through_blur: bool = True,
    count: int = 1,
) -> MaskOver:
    """A mask over random photos, perturbed to other random ones."""
    return MaskOver(
        1,
        *cells,
        photos=uniform(1, count, 3, *seen),
        perturbed=uniform(2, count, 3, *seen),
        seen=seen,
        sigma=sigma,
        shows=shows,
        gradient_through_blur=gradient_through_blur,
    )


def plainly(images: Tensor) -> Tensor:
    return images


def blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """Scipy's "reflect" is the mirror at the pixels' edges; the filter reaches three sigma, rounded up."""
    return gaussian_filter(values, sigma, mode="reflect", radius=math.ceil(3 * sigma)) if sigma else values


@few
@given(seeds, st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), sigmas)
def test_cells_are_repeated_and_then_blurred(
    seed: int, height: int, width: int, down: int, right: int, sigma: float
) -> None:
    """Also where the filter is wider than the picture."""
    masks = uniform(seed, 2, 1, height, width)
    found = over((height, width), (height * down, width * right), sigma).over(masks)
    for one, m in zip(found[:, 0], masks[:, 0].double().numpy(), strict=True):
        expected = blurred(m.repeat(down, 0).repeat(right, 1), sigma)
        np.testing.assert_allclose(one.numpy(), expected, atol=2e-6)


@few
@given(seeds, st.integers(1, 9), st.integers(1, 9), st.integers(0, 8), st.integers(0, 8), sigmas)
def test_cells_that_do_not_divide_the_picture_take_the_nearest(
    seed: int, height: int, width: int, down: int, right: int, sigma: float
) -> None:
    seen = (height + down, width + right)
    masks = uniform(seed, 1, 1, height, width)
    repeated = torch.nn.functional.interpolate(masks, seen, mode="nearest")[0, 0].double().numpy()
    found = over((height, width), seen, sigma).over(masks)[0, 0]
    np.testing.assert_allclose(found.numpy(), blurred(repeated, sigma), atol=2e-6)


def test_it_is_the_sum_of_equation_6() -> None:
    """M(y) = sum_u g(y / s - u) m(u): here g is the blurred indicator of a cell, summed pixel by pixel."""
    sigma, reach = 1.5, 5
    profile = np.exp(-((np.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    profile /= profile.sum()
    m = uniform(3, 1, 1, 3, 4)
    expected = np.zeros((9, 12))
    for y in range(9):
        for x in range(12):
            for i, down in enumerate(range(-reach, reach + 1)):
                for j, right in enumerate(range(-reach, reach + 1)):
                    row, column = (y + down) % 18, (x + right) % 24
                    row, column = min(row, 17 - row), min(column, 23 - column)
                    expected[y, x] += profile[i] * profile[j] * m[0, 0, row // 3, column // 3].item()
    found = over((3, 4), (9, 12), sigma).over(m)[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def dense(one: MaskOver) -> Tensor:
    """The linear map from cells to pixels, column by column: [pixels, cells]."""
    count = one.height * one.width
    return one.over(torch.eye(count).view(count, 1, one.height, one.width)).flatten(1).T


@few
@given(seeds, st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), sigmas)
def test_the_gradient_is_the_transposed_map(
    seed: int, height: int, width: int, down: int, right: int, sigma: float
) -> None:
    one = over((height, width), (height * down, width * right), sigma)
    masks = uniform(seed, 1, 1, height, width).requires_grad_(True)
    pull = uniform(seed + 1, 1, 1, *one.seen) - 0.5
    (gradient,) = torch.autograd.grad((one.over(masks) * pull).sum(), masks)
    torch.testing.assert_close(gradient.flatten(), dense(one).T @ pull.flatten(), rtol=1e-4, atol=1e-5)


@few
@given(seeds, st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), sigmas)
def test_without_a_gradient_through_the_blur_it_is_summed_over_each_cell(
    seed: int, height: int, width: int, down: int, right: int, sigma: float
) -> None:
    """As the published code does (SPEC M.5-2); the mask itself is the same."""
    seen = (height * down, width * right)
    one = over((height, width), seen, sigma, gradient_through_blur=False)
    masks = uniform(seed, 1, 1, height, width).requires_grad_(True)
    pull = uniform(seed + 1, 1, 1, *seen) - 0.5
    made = one.over(masks)
    torch.testing.assert_close(made, over((height, width), seen, sigma).over(masks), rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad((made * pull).sum(), masks)
    blocks = pull.view(height, down, width, right).sum((1, 3))
    torch.testing.assert_close(gradient[0, 0], blocks, rtol=1e-4, atol=1e-5)


@few
@given(seeds, sigmas)
def test_means_and_bounds_stay(seed: int, sigma: float) -> None:
    masks = uniform(seed, 2, 1, 4, 6)
    found = over((4, 6), (12, 18), sigma).over(masks)
    torch.testing.assert_close(found.mean((1, 2, 3)), masks.mean((1, 2, 3)), rtol=1e-5, atol=1e-5)
    assert found.min() >= masks.min() - 1e-6 and found.max() <= masks.max() + 1e-6
    assert over((4, 6), (12, 18), sigma).picture(masks).shape == (2, 1, 12, 18)


# --- what the network sees ----------------------------------------------------------------------------------------


@few
@given(seeds, sigmas)
def test_the_photo_shows_where_the_mask_is_one(seed: int, sigma: float) -> None:
    masks = uniform(seed, 2, 1, 3, 3)
    kept = over((3, 3), (9, 9), sigma, count=2)
    m = kept.over(masks)
    expected = m * kept.photos + (1 - m) * kept.perturbed
    torch.testing.assert_close(kept.as_seen(masks, plainly), expected)
    deleted = over((3, 3), (9, 9), sigma, "deleted", count=2)
    other = (1 - m) * kept.photos + m * kept.perturbed
    torch.testing.assert_close(deleted.as_seen(masks, plainly), other)
    both = over((3, 3), (9, 9), sigma, "both", count=2).as_seen(masks, plainly)
    torch.testing.assert_close(both[0::2], expected)
    torch.testing.assert_close(both[1::2], other)


@pytest.mark.parametrize("shows", ["kept", "deleted", "both"])
def test_masks_of_ones_and_zeros_are_exactly_the_photo_and_its_perturbation(shows: Shows) -> None:
    one = over((2, 2), (6, 6), 1.0, shows, count=2)
    for value, first, second in ((1.0, one.photos, one.perturbed), (0.0, one.perturbed, one.photos)):
        seen = one.as_seen(torch.full((2, 1, 2, 2), value), plainly)
        expected = {"kept": first, "deleted": second, "both": torch.stack([first, second], 1).flatten(0, 1)}[shows]
        torch.testing.assert_close(seen, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shows", ["kept", "deleted", "both"])
@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (2, 1), (3, 3)])
def test_a_view_moves_photo_and_perturbed_alike_and_not_the_mask(shows: Shows, dy: int, dx: int) -> None:
    """SPEC M.5-3."""
    photos, perturbed = uniform(1, 2, 3, 15, 15), uniform(2, 2, 3, 15, 15)
    masks = uniform(3, 2, 1, 4, 4)

    def moved(images: Tensor) -> Tensor:
        return images[:, :, dy : dy + 12, dx : dx + 12]

    options = {"seen": (12, 12), "sigma": 1.0, "shows": shows}
    larger = MaskOver(1, 4, 4, photos=photos, perturbed=perturbed, **options)  # type: ignore[arg-type]
    fixed = MaskOver(1, 4, 4, photos=moved(photos), perturbed=moved(perturbed), **options)  # type: ignore[arg-type]
    assert torch.equal(larger.as_seen(masks, moved), fixed.as_seen(masks, plainly))


def test_activations_are_masked_alike_in_all_channels() -> None:
    values = uniform(1, 1, 7, 5, 6) - 0.5
    one = MaskOver(1, 5, 6, photos=values, perturbed=torch.zeros_like(values), seen=(5, 6))
    masks = uniform(2, 1, 1, 5, 6)
    torch.testing.assert_close(one.as_seen(masks, plainly), masks * values)
    assert torch.equal(one.over(masks), masks)


# --- as a parametrization -----------------------------------------------------------------------------------------


def test_the_parameters_are_the_mask() -> None:
    one = over((3, 4), (9, 12), 1.0)
    masks = uniform(0, 2, 1, 3, 4)
    assert one.shape == (1, 3, 4)
    assert torch.equal(one.image(masks), masks)
    assert torch.equal(one.parameters(masks), masks)
    resized = one.resized(2, 2)
    assert isinstance(resized, MaskOver)
    assert resized.over(torch.ones(1, 1, 2, 2)).shape == (1, 1, 9, 12)
    said = json.loads(json.dumps(one.describe()))
    assert said["kind"] == "MaskOver" and said["cells"] == [3, 4] and said["sigma"] == 1.0


@pytest.mark.parametrize("cells", [(7, 6), (6, 7), (100, 100)])
def test_a_mask_larger_than_the_picture_is_refused(cells: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match=rf"{cells[0]} x {cells[1]} cells is larger .* 6 x 6"):
        over(cells, (6, 6))
    assert over((6, 6), (6, 6)).over(torch.ones(1, 1, 6, 6)).shape == (1, 1, 6, 6)


@pytest.mark.parametrize(
    ("size", "cells", "expected"),
    [
        ((224, 224), 28, (28, 28)),
        ((227, 227), 30, (30, 30)),  # AlexNet (SPEC M.5-7)
        ((64, 64), 16, (16, 16)),
        ((224, 448), 28, (28, 56)),
        ((448, 224), 28, (56, 28)),
        ((48, 64), 12, (12, 16)),
        ((100, 133), 10, (10, 13)),
        ((5, 5), 1, (1, 1)),
    ],
)
def test_cells_are_square(size: tuple[int, int], cells: int, expected: tuple[int, int]) -> None:
    assert grid(size, cells) == expected
