"""Polygons and run lengths, against what can be counted by hand and against pycocotools."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pycocotools.mask as coco
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from preimage import RequestError
from preimage.evaluation.data.regions import Painted, Polygons, RunLengths

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own

few = settings(max_examples=60, deadline=None)
masks = arrays.arrays(np.bool_, st.tuples(st.integers(1, 30), st.integers(1, 30)))


def lengths(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """How many pixels in turn are outside and inside, column by column."""
    found, now = [0], False
    for pixel in mask.T.flatten():
        if pixel != now:
            found.append(0)
            now = pixel
        found[-1] += 1
    return tuple(found)


@few
@given(masks)
def test_run_lengths_give_the_mask_back(mask: NDArray[np.bool_]) -> None:
    shape = (mask.shape[0], mask.shape[1])
    region = RunLengths(shape, lengths(mask))
    assert np.array_equal(region.read(*shape), mask)
    assert region.read(*shape).dtype == np.bool_
    assert (region.why_wrong(*shape) is None) == mask.any()
    assert pickle.loads(pickle.dumps(region)) == region


@few
@given(masks)
def test_compressed_run_lengths_are_pycocotools(mask: NDArray[np.bool_]) -> None:
    shape = (mask.shape[0], mask.shape[1])
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    region = RunLengths(shape, encoded["counts"])
    assert np.array_equal(region.read(*shape), mask)
    assert region._numbers().tolist() == list(lengths(mask))
    assert (region.why_wrong(*shape) is None) == mask.any()


def test_compressed_run_lengths_of_a_large_mask() -> None:
    """Numbers of several bytes, rising and falling."""
    generator = np.random.default_rng(0)
    mask = np.zeros((1500, 2000), dtype=np.bool_)
    for _ in range(20):
        top, left, height, width = generator.integers(1, 700, 4)
        mask[top : top + height, left : left + width] ^= True
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert np.array_equal(RunLengths((1500, 2000), encoded["counts"]).read(1500, 2000), mask)


@few
@given(st.binary(max_size=40), st.integers(1, 9), st.integers(1, 9))
def test_any_bytes_are_either_a_whole_mask_or_refused(counts: bytes, height: int, width: int) -> None:
    """pycocotools gives memory of others' for some of these."""
    region = RunLengths((height, width), counts)
    if region.why_wrong(height, width) is None:
        again = coco.decode({"size": [height, width], "counts": counts}).astype(bool)
        assert np.array_equal(region.read(height, width), again)
    else:
        try:
            inside = region.read(height, width)
        except RequestError:
            return
        assert not inside.any()


@pytest.mark.parametrize("counts", [(), (3,), (5, 26), (2**62, 2**62, 6), b"", b"1", b"P", b"o" * 40, b"\xff"])
def test_run_lengths_that_do_not_fill_the_mask(counts: tuple[int, ...] | bytes) -> None:
    region = RunLengths((5, 6), counts)
    assert region.why_wrong(5, 6)
    with pytest.raises(RequestError, match="a mask has run lengths"):
        region.read(5, 6)


def test_run_lengths_of_another_size() -> None:
    region = RunLengths((5, 6), (10, 20))
    assert region.why_wrong(6, 5) == "has a mask of 6 x 5, but the image is 5 x 6"
    with pytest.raises(RequestError, match="a mask of 6 x 5"):
        region.read(6, 5)


def outline(left: float, top: float, right: float, bottom: float) -> tuple[float, ...]:
    return left, top, right, top, right, bottom, left, bottom


@few
@given(st.data())
def test_a_polygon_on_the_borders_of_pixels_holds_these_pixels(data: st.DataObject) -> None:
    left, top = data.draw(st.integers(0, 10)), data.draw(st.integers(0, 8))
    right, bottom = data.draw(st.integers(left + 1, 12)), data.draw(st.integers(top + 1, 9))
    region = Polygons((outline(left, top, right, bottom),))
    expected = np.zeros((9, 12), dtype=np.bool_)
    expected[top:bottom, left:right] = True
    assert np.array_equal(region.read(9, 12), expected)
    assert region.why_wrong(9, 12) is None


def test_areas_of_polygons() -> None:
    """Several outlines are one object; a triangle has half the area of its box, but for its border."""
    both = Polygons((outline(0, 0, 4, 3), outline(2, 1, 6, 5)))
    assert both.read(8, 8).sum() == 12 + 16 - 4
    triangle = Polygons(((0, 0, 200, 0, 0, 100),)).read(100, 200)
    assert abs(int(triangle.sum()) - 10_000) <= 200
    assert triangle[0, 0] and not triangle[99, 199]


@few
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), min_size=3, max_size=3, unique=True))
def test_pillow_draws_the_same_polygons_but_for_their_borders(corners: list[tuple[int, int]]) -> None:
    inside = Polygons((tuple(float(one) for corner in corners for one in corner),)).read(40, 60)
    image = Image.new("L", (60, 40))
    ImageDraw.Draw(image).polygon(corners, fill=1)
    drawn = np.asarray(image, dtype=np.bool_)
    # Pillow counts all pixels that the outline touches, of which there are as many as it is long.
    sides = zip(corners, [*corners[1:], corners[0]], strict=True)
    border = sum(max(abs(a[0] - b[0]), abs(a[1] - b[1])) + 2 for a, b in sides)
    assert (inside != drawn).sum() <= border


@pytest.mark.parametrize(
    ("outlines", "says"),
    [
        (((1.0, 1.0, 5.0, 5.0),), "a polygon of 4 numbers"),
        (((),), "a polygon of 0 numbers"),
        ((outline(1, 1, 3, 3) + (2.0,),), "a polygon of 9 numbers"),
        ((outline(1, 1, 3, 3), outline(1, 1, 30, 3)), "reaches outside of the image of 12 x 9"),
        ((outline(-1.5, 1, 3, 3),), "reaches outside"),
        ((outline(2, 2, 2, 2),), "cover no pixel"),
    ],
)
def test_polygons_that_are_none(outlines: tuple[tuple[float, ...], ...], says: str) -> None:
    assert says in (Polygons(outlines).why_wrong(9, 12) or "")


def test_a_polygon_may_overlap_the_border_by_a_pixel() -> None:
    region = Polygons((outline(-1, -1, 13, 10),))
    assert region.why_wrong(9, 12) is None
    assert region.read(9, 12).all()


def test_painted_objects(tmp_path: Path) -> None:
    numbers = np.array([[0, 1, 1], [2, 2, 255]], dtype=np.uint8)
    Image.fromarray(numbers).save(tmp_path / "a.png")
    for number in (1, 2, 255):
        region = Painted(tmp_path / "a.png", number)
        assert np.array_equal(region.read(2, 3), numbers == number)
        assert region.why_wrong(2, 3) is None
    assert "never says 3" in (Painted(tmp_path / "a.png", 3).why_wrong(2, 3) or "")
    with pytest.raises(RequestError, match="is 3 x 2, but the image is 2 x 3"):
        Painted(tmp_path / "a.png", 1).read(3, 2)
    with pytest.raises(RequestError, match="cannot be read"):
        Painted(tmp_path / "none.png", 1).read(2, 3)
