"""From a file's pixels to the shown ones and back: by brute force, and by where bright pixels go."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from explained import uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage.evaluation.boxes import tightest_box
from preimage.evaluation.data.example import Box
from preimage.evaluation.view import Fit, View
from preimage.images import centre_crop

many = settings(max_examples=150, deadline=None)
seeds = st.integers(0, 2**31)
sides = st.integers(1, 40)
sizes = st.tuples(sides, sides)
fits = st.sampled_from(["squash", "crop"])
FITS: tuple[Fit, ...] = ("squash", "crop")


def resampled(view: View) -> tuple[tuple[Fraction, int], tuple[Fraction, int]]:
    """What is done to the rows and to the columns: (shown pixels for each of the file, how many are cut off before
    the first), as `centre_crop` says it."""
    if view.fit == "squash":
        return (Fraction(view.shown[0], view.file[0]), 0), (Fraction(view.shown[1], view.file[1]), 0)
    scale = max(shown / file for shown, file in zip(view.shown, view.file, strict=True))
    down, across = (
        (Fraction(whole, file), (whole - shown) // 2)
        for file, shown in zip(view.file, view.shown, strict=True)
        for whole in [max(round(file * scale), shown)]
    )
    return down, across


# --- points -------------------------------------------------------------------------------------------------------


@many
@given(sizes, sizes, fits, st.floats(0, 1), st.floats(0, 1))
def test_points_are_where_resampling_puts_them_up_to_half_a_pixel(
    file: tuple[int, int], shown: tuple[int, int], fit: Fit, x: float, y: float
) -> None:
    view = View(file, shown, fit)
    (down, top), (across, left) = resampled(view)
    found = view.point(x * file[1], y * file[0])
    exact = (float(x * file[1] * across) - left, float(y * file[0] * down) - top)
    for one, other in zip(found, exact, strict=True):
        assert abs(one - other) <= (1e-9 if fit == "squash" else 0.5 + 1e-9)


@pytest.mark.parametrize(("file", "shown"), [((5, 14), (7, 7)), ((14, 5), (7, 7)), ((3, 8), (4, 6))])
def test_in_a_crop_points_are_where_resampling_puts_them(file: tuple[int, int], shown: tuple[int, int]) -> None:
    view = View(file, shown, "crop")
    (down, top), (across, left) = resampled(view)
    for x, y in ((0.0, 0.0), (file[1] / 3, file[0] / 3), (float(file[1]), float(file[0]))):
        assert view.point(x, y) == pytest.approx((float(x * across) - left, float(y * down) - top), abs=1e-9)


def ramps(height: int, width: int) -> Tensor:
    """[2, height, width]: each pixel's centre in the file, x and y, as shares of its sides."""
    down, across = ((torch.arange(side) + 0.5) / side for side in (height, width))
    return torch.stack([across.expand(height, -1), down[:, None].expand(-1, width)])


def compared(view: View) -> float:
    """How far shown pixels' own account of where they come from is from `file_box`'s, in shown pixels.

    Linear interpolation keeps ramps, but not beyond the outermost pixels' centres.
    """
    height, width = view.file
    picture = view.image(ramps(height, width)).double()
    away = 0.0
    for row in range(view.shown[0]):
        for column in range(view.shown[1]):
            left, top, right, bottom = view.file_box((column, row, column + 1, row + 1))
            x, y = (left + right) / 2, (top + bottom) / 2
            for value, said, side, size in (
                (picture[0, row, column], x, width, right - left),
                (picture[1, row, column], y, height, bottom - top),
            ):
                if 1 < said < side - 1:
                    away = max(away, abs(float(value) * side - said) / size)
    return away


@pytest.mark.parametrize(
    ("file", "shown"), [((6, 8), (6, 8)), ((6, 8), (12, 16)), ((6, 8), (18, 16)), ((5, 7), (13, 19)), ((4, 9), (9, 9))]
)
def test_a_squashed_photo_s_pixels_come_from_where_they_say(file: tuple[int, int], shown: tuple[int, int]) -> None:
    assert compared(View(file, shown)) < 1e-4


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("times", [2, 3, 5])
def test_also_in_a_photo_made_smaller(times: int, fit: Fit) -> None:
    """By a whole number, antialiasing keeps ramps too, wherever it does not reach beyond the border."""
    view = View((6 * times, 8 * times), (6, 8), fit)
    picture = view.image(ramps(*view.file))
    for row in range(1, 5):
        for column in range(1, 7):
            left, top, right, bottom = view.file_box((column, row, column + 1, row + 1))
            assert float(picture[0, row, column]) * view.file[1] == pytest.approx((left + right) / 2, abs=1e-4)
            assert float(picture[1, row, column]) * view.file[0] == pytest.approx((top + bottom) / 2, abs=1e-4)


@pytest.mark.parametrize(
    ("file", "shown"),
    [((6, 8), (6, 8)), ((6, 8), (6, 6)), ((6, 12), (12, 12)), ((10, 4), (8, 8)), ((5, 9), (15, 15)), ((7, 7), (9, 9))],
)
def test_a_cropped_photo_s_pixels_come_from_where_they_say(file: tuple[int, int], shown: tuple[int, int]) -> None:
    assert compared(View(file, shown, "crop")) < 1e-4


def test_a_cropped_photo_s_pixels_come_from_where_they_say_also_if_its_size_is_rounded() -> None:
    """14 columns times 1.4 are 19.6, and 20 are made."""
    assert compared(View((5, 14), (7, 7), "crop")) < 1e-4


@many
@given(sizes, sizes, fits, st.data())
def test_a_bright_pixel_is_shown_where_its_point_is(
    file: tuple[int, int], shown: tuple[int, int], fit: Fit, data: st.DataObject
) -> None:
    """The brightest shown pixel lies no further from it than half of what one pixel of either picture spans."""
    row, column = data.draw(st.integers(0, file[0] - 1)), data.draw(st.integers(0, file[1] - 1))
    picture = torch.zeros(1, *file)
    picture[0, row, column] = 1
    view = View(file, shown, fit)
    made = view.image(picture)[0]
    x, y = view.point(column + 0.5, row + 0.5)
    if not (0 <= x < shown[1] and 0 <= y < shown[0]) or float(made.max()) == 0:
        return
    (down, _), (across, _) = resampled(view)
    at = (made > float(made.max()) * (1 - 1e-5)).nonzero()
    slack = 1e-6 if fit == "squash" else 0.5
    assert float((at[:, 1] + 0.5 - x).abs().min()) <= 0.5 * max(1, float(across)) + slack
    assert float((at[:, 0] + 0.5 - y).abs().min()) <= 0.5 * max(1, float(down)) + slack


# --- pictures -----------------------------------------------------------------------------------------------------


@many
@given(seeds, sizes, sizes)
def test_a_crop_is_explain_s_pixel_for_pixel(seed: int, file: tuple[int, int], shown: tuple[int, int]) -> None:
    picture = uniform(seed, 3, *file)
    found = View(file, shown, "crop").image(picture)
    assert torch.equal(found, centre_crop(picture, shown))
    assert found.shape == (3, *shown) and found.min() >= 0 and found.max() <= 1


@many
@given(seeds, sizes, sizes)
def test_a_squash_is_the_whole_photo(seed: int, file: tuple[int, int], shown: tuple[int, int]) -> None:
    picture = uniform(seed, 3, *file)
    view = View(file, shown)
    found = view.image(picture)
    expected = F.interpolate(picture[None], size=shown, mode="bilinear", antialias=True, align_corners=False)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert found.shape == (3, *shown) and found.min() >= 0 and found.max() <= 1
    assert view.box((0, 0, file[1], file[0])) == pytest.approx((0, 0, shown[1], shown[0]))


@given(seeds, sizes, fits)
def test_a_photo_of_the_right_size_is_shown_as_it_is(seed: int, size: tuple[int, int], fit: Fit) -> None:
    picture, view = uniform(seed, 3, *size), View(size, size, fit)
    torch.testing.assert_close(view.image(picture), picture, rtol=0, atol=1e-6)
    assert view.point(1.25, 0.5) == (1.25, 0.5)
    pixels = uniform(seed, *size).numpy() > 0.5
    assert np.array_equal(view.region(pixels).numpy(), pixels)


@given(seeds, sizes, st.integers(1, 4))
def test_of_the_same_shape_both_fits_are_one(seed: int, shown: tuple[int, int], times: int) -> None:
    file = (shown[0] * times, shown[1] * times)
    squash, crop = View(file, shown), View(file, shown, "crop")
    picture = uniform(seed, 1, *file)
    torch.testing.assert_close(squash.image(picture), crop.image(picture), rtol=0, atol=1e-6)
    assert squash.point(0.7, 0.3) == pytest.approx(crop.point(0.7, 0.3))
    pixels = picture[0].numpy() > 0.5
    assert torch.equal(squash.region(pixels), crop.region(pixels))


# --- boxes --------------------------------------------------------------------------------------------------------


def inner_box(data: st.DataObject, height: int, width: int) -> Box:
    """With an area, somewhere inside."""
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    return (left, top, right, bottom)


@many
@given(sizes, sizes, fits, st.data())
def test_a_file_box_is_what_is_shown_as_the_box(
    file: tuple[int, int], shown: tuple[int, int], fit: Fit, data: st.DataObject
) -> None:
    view, box = View(file, shown, fit), inner_box(data, *shown)
    back = view.file_box(box)
    assert view.box(back) == pytest.approx(box, abs=1e-9)
    # What is shown comes from the file (half a pixel of rounding apart).
    slack = [0.5 / float(scale) + 1e-9 for scale, _ in resampled(view)[::-1]] * 2
    limits = (0, 0, file[1], file[0])
    assert all(one >= low - s for one, low, s in zip(back[:2], limits[:2], slack[:2], strict=True))
    assert all(one <= high + s for one, high, s in zip(back[2:], limits[2:], slack[2:], strict=True))


@many
@given(sizes, sizes, fits, st.data())
def test_a_box_is_cut_at_the_border_of_what_is_shown(
    file: tuple[int, int], shown: tuple[int, int], fit: Fit, data: st.DataObject
) -> None:
    view, box = View(file, shown, fit), inner_box(data, *file)
    (left, top), (right, bottom) = view.point(*box[:2]), view.point(*box[2:])
    found = view.box(box)
    if right <= 0 or bottom <= 0 or left >= shown[1] or top >= shown[0]:
        assert found is None
        return
    assert found is not None
    assert found == (max(left, 0), max(top, 0), min(right, shown[1]), min(bottom, shown[0]))
    if (left, top, right, bottom) == found:
        assert view.file_box(found) == pytest.approx(box, abs=1e-6)


def test_boxes_by_hand() -> None:
    """A file of 200 x 100 (height, width)."""
    squash, crop = View((200, 100), (50, 50)), View((200, 100), (50, 50), "crop")
    assert squash.box((10, 20, 30, 60)) == (5, 5, 15, 15)
    assert squash.file_box((5, 5, 15, 15)) == (10, 20, 30, 60)
    # Rows 50 to 150 are shown.
    assert crop.box((10, 60, 30, 100)) == (5, 5, 15, 25)
    assert crop.box((10, 20, 30, 60)) == (5, 0, 15, 5)
    assert crop.box((0, 0, 100, 200)) == (0, 0, 50, 50)
    assert crop.box((0, 0, 100, 50)) is None and crop.box((0, 150, 100, 200)) is None
    assert crop.file_box((0, 0, 50, 50)) == (0, 50, 100, 150)
    assert crop.point(0, 0) == (0, -25) and crop.point(100, 200) == (50, 75)


# --- regions ------------------------------------------------------------------------------------------------------


def nearest(view: View, index: int, axis: int) -> set[int]:
    """The file's pixels in which the centre of a shown row or column lies; two where it is between them."""
    (scale, cut) = resampled(view)[axis]
    at = (index + Fraction(1, 2) + cut) / scale
    found = {math.floor(at)} | ({int(at) - 1} if at.denominator == 1 else set())
    return {min(max(one, 0), view.file[axis] - 1) for one in found}


def checked_region(view: View, pixels: np.ndarray) -> None:
    """Every shown pixel against all that it may come from, in exact fractions."""
    found = view.region(pixels)
    assert found.shape == view.shown and found.dtype == torch.bool
    for row in range(view.shown[0]):
        for column in range(view.shown[1]):
            may = {bool(pixels[i, j]) for i in nearest(view, row, 0) for j in nearest(view, column, 1)}
            assert bool(found[row, column]) in may, (row, column)


@settings(max_examples=60, deadline=None)
@given(seeds, st.tuples(st.integers(1, 20), st.integers(1, 20)), st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_a_region_in_a_squash_is_the_nearest_pixels(seed: int, file: tuple[int, int], shown: tuple[int, int]) -> None:
    checked_region(View(file, shown), uniform(seed, *file).numpy() > 0.5)


@pytest.mark.parametrize(
    ("file", "shown"), [((12, 8), (6, 6)), ((8, 12), (6, 6)), ((20, 10), (5, 5)), ((6, 10), (12, 12)), ((9, 9), (4, 4))]
)
def test_a_region_in_a_crop_is_the_nearest_pixels(file: tuple[int, int], shown: tuple[int, int]) -> None:
    checked_region(View(file, shown, "crop"), uniform(0, *file).numpy() > 0.5)


def test_a_region_in_a_crop_is_the_nearest_pixels_also_if_its_size_is_rounded() -> None:
    """Column by column: 14 times 1.4 are 19.6, and 20 are made."""
    for k in range(14):
        pixels = np.zeros((5, 14), dtype=bool)
        pixels[:, k] = True
        checked_region(View((5, 14), (7, 7), "crop"), pixels)


@many
@given(sizes, sizes, fits, st.data())
def test_regions_and_boxes_are_in_the_same_place(
    file: tuple[int, int], shown: tuple[int, int], fit: Fit, data: st.DataObject
) -> None:
    """A shown pixel is in the region of a box if its centre is in the shown box; on its edge, either."""
    view, (left, top, right, bottom) = View(file, shown, fit), inner_box(data, *file)
    pixels = np.zeros(file, dtype=bool)
    pixels[int(top) : int(bottom), int(left) : int(right)] = True
    found, box = view.region(pixels), view.box((left, top, right, bottom))
    if box is None:
        assert not found.any()
        return
    rows, columns = torch.arange(shown[0]) + 0.5, torch.arange(shown[1]) + 0.5

    def within(edge: float) -> Tensor:
        tall = (rows > box[1] - edge) & (rows < box[3] + edge)
        return tall[:, None] & (columns > box[0] - edge) & (columns < box[2] + edge)

    assert not (within(-1e-4) & ~found).any() and not (found & ~within(1e-4)).any()
    if found.any():
        for one, other in zip(tightest_box(found), box, strict=True):
            assert abs(one - other) <= 0.5 + 1e-4
    else:
        assert min(box[2] - box[0], box[3] - box[1]) <= 1 + 1e-4
