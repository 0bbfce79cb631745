"""Pictures made of photos, which photos are drawn, and what is asked of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from preimage import RequestError
from preimage.evaluation.asked import Asked, drawn, questions
from preimage.evaluation.data.example import Data, Example
from preimage.evaluation.view import Fit, View
from preimage.images import read_image

SIZES = ((10, 14), (20, 8), (9, 9), (31, 17), (6, 6), (12, 5), (8, 30), (7, 7), (16, 16))
seeds = st.integers(0, 2**31)
some = settings(max_examples=50, deadline=None)


@pytest.fixture
def photos(tmp_path: Path) -> list[Example]:
    """Nine, each of another size."""
    random = np.random.default_rng(0)
    out = []
    for i, size in enumerate(SIZES):
        path = tmp_path / f"{i}.png"
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        out.append(Example(path, (f"class {i}",), size=size))
    return out


def asked(examples: Sequence[Example], of: int = 0) -> Asked:
    return Asked(tuple(examples), examples[of].labels[0], of, of)


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_of_one_photo_the_picture_is_the_photo(photos: list[Example], fit: Fit) -> None:
    for one in photos:
        picture = asked([one]).picture((12, 16), fit, 3)
        assert torch.equal(picture, View(one.size, (12, 16), fit).image(read_image(one.path)))
        assert picture.shape == (3, 12, 16) and picture.dtype == torch.float32
        assert asked([one]).view((12, 16), fit) == View(one.size, (12, 16), fit)


def bounds(side: int, length: int) -> list[int]:
    return [length * i // side for i in range(side + 1)]


@pytest.mark.parametrize("fit", ["squash", "crop"])
@pytest.mark.parametrize(
    ("side", "size"), [(2, (12, 16)), (2, (13, 15)), (3, (12, 18)), (3, (16, 17)), (3, (64, 64)), (2, (2, 3))]
)
def test_a_mosaic_s_cells_are_the_photos(photos: list[Example], side: int, size: tuple[int, int], fit: Fit) -> None:
    chosen = photos[: side**2]
    picture = asked(chosen, 1).picture(size, fit, 3)
    assert picture.shape == (3, *size) and asked(chosen).side == side
    rows, columns = bounds(side, size[0]), bounds(side, size[1])
    for k, one in enumerate(chosen):
        i, j = divmod(k, side)
        cell = picture[:, rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
        shape = (rows[i + 1] - rows[i], columns[j + 1] - columns[j])
        assert torch.equal(cell, View(one.size, shape, fit).image(read_image(one.path)))


def test_grey_networks_get_grey_photos(photos: list[Example]) -> None:
    assert asked(photos[:4]).picture((8, 8), "squash", 1).shape == (1, 8, 8)


def test_the_photo_that_is_asked_about(photos: list[Example]) -> None:
    one = asked(photos[:4], 2)
    assert one.example is photos[2] and one.view((12, 16), "crop") == View(photos[2].size, (6, 8), "crop")


@pytest.mark.parametrize("of", [1, 2, 3])
def test_a_photo_is_viewed_as_large_as_its_cell(photos: list[Example], of: int) -> None:
    """13 rows are cells of 6 and 7, 11 columns cells of 5 and 6."""
    i, j = divmod(of, 2)
    assert asked(photos[:4], of).view((13, 11), "squash").shown == ((6, 7)[i], (5, 6)[j])


def test_a_file_that_has_changed_is_refused(photos: list[Example]) -> None:
    """Its boxes may be elsewhere now."""
    Image.new("RGB", (5, 6)).save(photos[1].path)
    with pytest.raises(RequestError, match="has 5 x 6 pixels now, not 8 x 20 as when the data set was opened"):
        asked(photos[:4]).picture((12, 12), "squash", 3)


def test_a_size_that_nobody_has_looked_at_is_not_compared(photos: list[Example]) -> None:
    unknown = Example(photos[0].path, ("a",))
    assert torch.equal(asked([unknown]).picture((12, 12), "crop", 3), asked(photos[:1]).picture((12, 12), "crop", 3))


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\nbroken"])
def test_a_file_that_cannot_be_read_is_refused(photos: list[Example], content: bytes | None) -> None:
    photos[3].path.unlink()
    if content is not None:
        photos[3].path.write_bytes(content)
    with pytest.raises(RequestError, match=r"3\.png"):
        asked(photos[:4]).picture((12, 12), "squash", 3)


# --- which photos -------------------------------------------------------------------------------------------------


def data(*labels: tuple[str, ...]) -> Data:
    return Data("folder:x", tuple(Example(Path(f"{i}.png"), some) for i, some in enumerate(labels)))


counts = st.lists(st.integers(1, 8), min_size=1, max_size=6)


def of_counts(numbers: Sequence[int]) -> Data:
    """So many photos of class a, b, c ..."""
    return data(*[(chr(97 + k),) for k, number in enumerate(numbers) for _ in range(number)])


@some
@given(counts, seeds, st.data())
def test_they_are_drawn_evenly_over_the_classes_without_repetition(
    numbers: list[int], seed: int, draw: st.DataObject
) -> None:
    every = of_counts(numbers)
    limit = draw.draw(st.integers(1, sum(numbers)))
    found = drawn(every, limit, seed)
    assert len(found) == limit and len({one.path for one in found}) == limit
    per_class = Counter(one.labels[0] for one in found)
    most = max(per_class.values())
    for k, number in enumerate(numbers):
        # None is behind by more than one, unless all of it has been drawn.
        assert per_class[chr(97 + k)] >= min(number, most - 1)


@some
@given(counts, seeds, st.data())
def test_a_larger_limit_draws_the_same_ones_first(numbers: list[int], seed: int, draw: st.DataObject) -> None:
    every = of_counts(numbers)
    less = draw.draw(st.integers(1, sum(numbers)))
    more = draw.draw(st.integers(less, sum(numbers)))
    if more < sum(numbers):
        assert drawn(every, more, seed)[:less] == drawn(every, less, seed)
    assert {one.path for one in drawn(every, less, seed)} <= {one.path for one in drawn(every, more, seed)}


def test_a_limit_that_all_are_within_begins_with_the_same_ones_too() -> None:
    every = of_counts([5, 5])
    assert drawn(every, 10, 0)[:4] == drawn(every, 4, 0)
    assert drawn(every, 11, 0)[:4] == drawn(every, 4, 0)


def test_without_a_limit_and_within_it_all_are_there() -> None:
    every = of_counts([3, 1, 2])
    assert drawn(every, None, 5) == list(every.examples)
    for limit in (6, 7, 1000):
        assert {one.path for one in drawn(every, limit, 5)} == {one.path for one in every.examples}
        assert len(drawn(every, limit, 5)) == 6


def test_the_seed_decides_which() -> None:
    every = of_counts([30, 30])
    assert drawn(every, 10, 0) == drawn(every, 10, 0)
    assert len({tuple(one.path for one in drawn(every, 10, seed)) for seed in range(10)}) == 10


def test_of_more_classes_than_photos_any_may_be_drawn() -> None:
    """The first hundred of ImageNet's are fish, birds, reptiles and spiders."""
    every = of_counts([2] * 20)
    seen = {one.labels[0] for seed in range(50) for one in drawn(every, 3, seed)}
    assert len(seen) == 20


def test_a_class_that_is_never_alone_is_drawn_as_often_as_others() -> None:
    """Ten photos of a zebra, all of them beside an ant: nine or so of thirty, as of ants and bees."""
    every = data(*[("ant",)] * 200, *[("bee",)] * 200, *[("ant", "zebra")] * 10)
    per_class = Counter(label for one in drawn(every, 30, 0) for label in one.labels)
    assert min(per_class[name] for name in ("ant", "bee", "zebra")) >= 9


def test_photos_of_no_class_are_drawn_too() -> None:
    every = data((), (), ("a",), ("a",))
    assert Counter(one.labels for one in drawn(every, 2, 0)) == {(): 1, ("a",): 1}


# --- questions ----------------------------------------------------------------------------------------------------


def test_each_photo_is_asked_about_each_of_its_classes() -> None:
    first, second, third = data(("a", "b"), ("b",), ()).examples
    assert questions([first, second, third], {"a": 7, "b": 3}) == [
        Asked((first,), "a", 7),
        Asked((first,), "b", 3),
        Asked((second,), "b", 3),
    ]


def test_without_classes_the_first_answer_is_asked() -> None:
    first, second = data(("a", "b"), ()).examples
    assert questions([first, second], None) == [Asked((first,), "", -1), Asked((second,), "", -1)]


def test_a_picture_of_a_mosaic_is_made_of_all_photos(photos: list[Example]) -> None:
    """Whichever of them is asked about."""
    pictures: list[Tensor] = [asked(photos[:4], of).picture((12, 12), "squash", 3) for of in range(4)]
    assert all(torch.equal(one, pictures[0]) for one in pictures)
