"""The pointing game: distances by hand and by brute force, what is difficult, means over classes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from annotated import CAT, DOG, Pixels, boxed, case, filled, region
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage import RequestError
from preimage.evaluation.data.example import Annotation
from preimage.evaluation.measure import Raw
from preimage.evaluation.pointing import Pointing

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
SIDE = 224
PLAIN, FIRST = Pointing(), Pointing(maxima="first")


def dot(row: int, column: int, height: int = SIDE, width: int = SIDE) -> Tensor:
    return filled(height, width, (column, row, column + 1, row + 1))


def cat(*boxes: tuple[int, int, int, int], height: int = SIDE, width: int = SIDE) -> Annotation:
    return Annotation(CAT, region=region(height, width, *boxes))


OBJECT = (100, 80, 120, 90)  # its first pixel is (row 80, column 100), its last (89, 119)


# Hits


@pytest.mark.parametrize(
    ("row", "column", "distance"),
    [
        (85, 110, 0),
        (80, 100, 0),
        (80, 85, 15),  # exactly the tolerance
        (80, 84, 16),
        (104, 119, 15),
        (105, 119, 16),
        (79, 85, math.sqrt(226)),  # 15.03
        (71, 88, 15),  # 9 up and 12 to the left of the corner: 15
        (70, 89, math.sqrt(221)),
        (70, 88, math.sqrt(244)),
    ],
)
@pytest.mark.parametrize("kind", ["region", "box"])
def test_fifteen_pixels_away_is_a_hit_and_no_more(row: int, column: int, distance: float, kind: str) -> None:
    target = cat(OBJECT) if kind == "region" else boxed(OBJECT)[0]
    found = PLAIN.measure(case(dot(row, column), [target]))
    assert found["distance"] == pytest.approx(distance, rel=1e-12)
    assert found["hit"] == (distance <= 15)
    assert found["point"] == [row, column]
    assert found["by"] == ("regions" if kind == "region" else "boxes")
    json.dumps(found)


def test_just_beyond_the_tolerance_is_no_hit() -> None:
    """A point between pixels: the mean of two maxima, which lies half a pixel below row 104."""
    both = dot(104, 110) + dot(105, 110)
    found = PLAIN.measure(case(both, [cat(OBJECT)]))
    assert found["distance"] == 15.5
    assert not found["hit"]
    assert Pointing(tolerance=15.5).measure(case(both, [cat(OBJECT)]))["hit"]


@pytest.mark.parametrize(("side", "hit"), [(224, 15), (112, 7), (448, 30), (64, 4)])  # 15 / 224 * 64 = 4.29
def test_the_tolerance_is_scaled_with_the_photo(side: int, hit: int) -> None:
    box = (side // 2, 0, side, side)
    for away, is_hit in ((hit, True), (hit + 1, False)):
        heatmap = dot(3, side // 2 - away, side, side)
        assert PLAIN.measure(case(heatmap, [cat(box, height=side, width=side)]))["hit"] == is_hit


@few
@given(seeds, st.integers(3, 30), st.integers(3, 30), st.floats(0.5, 8))
def test_hits_by_brute_force(seed: int, height: int, width: int, tolerance: float) -> None:
    """Every pixel of the region against the point, as TorchRay's game does (but there, less than the tolerance)."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(height, width, generator=generator) > 0.95
    pixels[int(torch.randint(height, (1,), generator=generator)), 0] = True
    heatmap = torch.rand(height, width, generator=generator)
    row, column = np.unravel_index(int(heatmap.argmax()), (height, width))
    published = tolerance * SIDE / min(height, width)
    found = Pointing(tolerance=published).measure(case(heatmap, [Annotation(CAT, region=Pixels(pixels.numpy()))]))
    away = min(math.dist((row, column), place) for place in pixels.nonzero().tolist())
    assert found["distance"] == pytest.approx(away, rel=1e-12, abs=1e-12)
    if abs(away - tolerance) > 1e-9:
        assert found["hit"] == (away < tolerance)


@few
@given(seeds, st.sampled_from([torch.exp, torch.atan, lambda x: x**3, lambda x: 5 * x - 100]))
def test_only_the_order_of_values_counts(seed: int, rising) -> None:  # type: ignore[no-untyped-def]
    heatmap = torch.randperm(20 * 30, generator=torch.Generator().manual_seed(seed)).view(20, 30).double() / 600
    target = [cat((4, 4, 9, 9), height=20, width=30)]
    for measure in (PLAIN, FIRST):
        assert measure.measure(case(rising(heatmap), target)) == measure.measure(case(heatmap, target))


def test_where_it_points_is_the_mean_of_all_maxima() -> None:
    saturated = filled(20, 30, (3, 2, 8, 7)).clamp(max=0.9)
    (row, column), count = PLAIN.point(case(saturated, [cat(OBJECT)]))
    assert (row, column, count) == (4, 5, 25)
    assert FIRST.point(case(saturated, [cat(OBJECT)])) == ((2, 3), 25)
    # Two of them: between, though nothing is there.
    assert PLAIN.point(case(dot(0, 0, 20, 30) + dot(10, 21, 20, 30), []))[0] == (5, 10.5)


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0])
def test_a_map_that_says_nothing_points_at_the_centre(value: float) -> None:
    empty = torch.full((20, 31), value)
    assert PLAIN.point(case(empty, [])) == ((9.5, 15), 620)
    assert FIRST.point(case(empty, [])) == ((0, 0), 620)


def test_a_perfect_map_hits_and_an_inverted_one_points_elsewhere() -> None:
    box = (2, 2, 12, 12)
    target = [cat(box)]
    perfect = filled(SIDE, SIDE, box)
    assert PLAIN.measure(case(perfect, target))["distance"] <= 0.5 * math.sqrt(2)
    assert FIRST.measure(case(perfect, target))["distance"] == 0
    assert PLAIN.measure(case(-perfect, target))["hit"] == 0
    # Row by row, the first pixel of the surroundings is the corner, which is near by chance.
    assert FIRST.measure(case(-perfect, target))["point"] == [0, 0]


def test_a_method_s_own_point_goes_before_its_map() -> None:
    found = PLAIN.measure(case(dot(200, 200), [cat(OBJECT)], point=(81, 101)))
    assert (found["point"], found["maxima"], found["hit"]) == ([81, 101], 0, 1)


def test_all_objects_of_the_class_count_and_crowds_too_but_no_others() -> None:
    here, there = cat((0, 0, 5, 5)), cat((200, 200, 210, 210))
    dog = Annotation(DOG, region=region(SIDE, SIDE, (100, 100, 110, 110)))
    crowd = Annotation(CAT, region=region(SIDE, SIDE, (100, 100, 110, 110)), crowd=True)
    heatmap = dot(105, 105)
    assert not PLAIN.measure(case(heatmap, [here, there, dog]))["hit"]
    assert PLAIN.measure(case(heatmap, [here, there, crowd]))["hit"]
    assert PLAIN.measure(case(dot(205, 205), [here, there]))["hit"]


def test_a_region_goes_before_the_box_around_it() -> None:
    ring = Annotation(CAT, box=(0, 0, SIDE, SIDE), region=region(SIDE, SIDE, (0, 0, 2, SIDE), (222, 0, 224, SIDE)))
    found = PLAIN.measure(case(dot(112, 112), [ring]))
    assert (found["hit"], found["by"], found["distance"]) == (0, "regions", 110)
    mixed = PLAIN.measure(case(dot(112, 112), [ring, *boxed((110, 110, 120, 120))]))
    assert (mixed["hit"], mixed["by"]) == (1, "regions and boxes")


# From the file to what is shown


@pytest.mark.parametrize("kind", ["region", "box"])
def test_in_a_squashed_photo(kind: str) -> None:
    """A file of 448 x 224: what is at row 160 of it is shown at row 80."""
    box = (100, 160, 120, 180)
    target = cat(box, height=448) if kind == "region" else boxed(box)[0]
    for row, column, away in ((80, 100, 0), (65, 100, 15), (64, 100, 16), (89, 134, 15)):
        found = PLAIN.measure(case(dot(row, column), [target], file=(448, 224)))
        assert (found["distance"], found["hit"]) == (away, away <= 15)


@pytest.mark.parametrize("kind", ["region", "box"])
def test_in_a_cropped_photo(kind: str) -> None:
    """Of a file of 424 x 224 the middle rows, 100 to 324, are shown."""
    box = (100, 160, 120, 180)
    target = cat(box, height=424) if kind == "region" else boxed(box)[0]
    for row, away in ((60, 0), (45, 15), (44, 16)):
        found = PLAIN.measure(case(dot(row, 100), [target], file=(424, 224), fit="crop"))
        assert (found["distance"], found["hit"]) == (away, away <= 15)
    cut_off = cat((0, 0, 224, 90), height=424) if kind == "region" else boxed((0, 0, 224, 90))[0]
    with pytest.raises(RequestError, match="nothing of 'cat' is in the part that is shown"):
        PLAIN.measure(case(dot(0, 100), [cut_off], file=(424, 224), fit="crop"))


@pytest.mark.parametrize("kind", ["region", "box"])
def test_nothing_is_too_small_to_be_shown(kind: str) -> None:
    """One pixel of a file that is shown at a tenth of its size, of which the nearest pixels would be others."""
    box = (1231, 457, 1232, 458)
    target = cat(box, height=2240, width=2240) if kind == "region" else boxed(box)[0]
    found = PLAIN.measure(case(dot(45, 123), [target], file=(2240, 2240)))
    assert found["distance"] == 0


def test_an_enlarged_region_has_no_holes() -> None:
    """A file of 8 x 8: each of its pixels is shown as 28 x 28."""
    target = cat((2, 3, 4, 5), height=8, width=8)
    for row, column, away in ((84, 56, 0), (139, 111, 0), (100, 80, 0), (83, 56, 1), (140, 111, 1), (100, 127, 16)):
        assert PLAIN.measure(case(dot(row, column), [target], file=(8, 8)))["distance"] == away


# What is difficult


@pytest.mark.parametrize(
    ("others", "area_of", "area", "difficult"),
    [
        ([], "all", 0.2, False),  # small, but there is nothing else
        ([cat((0, 0, 1, 10), height=10, width=10)], "all", 0.3, False),
        (boxed((0, 0, 1, 4), name=DOG), "all", 0.24, True),
        (boxed((0, 0, 1, 5), name=DOG), "all", 0.25, False),  # less than a quarter
        (boxed((0, 0, 1, 5), name=DOG), "class", 0.2, True),
        (boxed((0, 0, 10, 10), name=DOG), "class", 0.2, True),
        (boxed((0, 0, 1, 2), (0, 0, 1, 2), name=DOG), "all", 0.24, True),  # overlaps count twice
        (boxed((0, 0, 1, 5), name=DOG, crowd=True), "all", 0.25, False),  # crowds are objects
        (boxed((0, 0, 1, 4), name=DOG, crowd=True), "all", 0.24, True),
        # A region's area is its own, not its box's; and of points alone none is known.
        ([Annotation(DOG, box=(0, 0, 10, 10), region=region(10, 10, (0, 0, 2, 2)))], "all", 0.24, True),
        ([Annotation(DOG, points=(("eye", 1.0, 1.0),))], "all", 0.2, True),
    ],
)
def test_difficult_are_small_objects_beside_others(
    others: list[Annotation], area_of: str, area: float, difficult: bool
) -> None:
    target = cat((0, 0, 2, 10), height=10, width=10)
    measure = Pointing(area_of=area_of)  # type: ignore[arg-type]
    found = measure.measure(case(dot(0, 0, 10, 10), [target, *others]))
    assert found["area"] == pytest.approx(area, rel=1e-12)
    assert found["difficult"] is difficult


def test_areas_are_shares_of_the_file() -> None:
    target, dog = cat((0, 0, 30, 20), height=40, width=60), boxed((0, 0, 1, 1), name=DOG)
    found = PLAIN.measure(case(torch.ones(12, 12), [target, *dog], file=(40, 60)))
    assert found["area"] == 601 / 2400
    assert not found["difficult"]


# All cases


def raw(hit: int, difficult: bool = False, by: str = "regions", maxima: int = 1) -> Raw:
    return {"hit": hit, "difficult": difficult, "by": by, "maxima": maxima}


def test_all_and_difficult_cases() -> None:
    raws = [raw(1), raw(0, True), None, raw(1, True, "boxes", 3)]
    every, hard = PLAIN.quantities(raws, [CAT, DOG, CAT, DOG], 0)
    assert (every.name, every.values, every.by_class, every.better) == ("all", [1, 0, None, 1], True, "higher")
    assert (hard.name, hard.values, hard.by_class) == ("difficult", [None, 0, None, 1], True)
    assert every.notes == (
        "1 of 4 cases go by boxes, for want of regions: easier to hit",
        "1 of 4 heat maps have several maxima; the mean of them is the point",
    )
    easy, none = FIRST.quantities([raw(1)], [CAT], 0)
    assert (easy.notes, none.values, none.notes) == ((), [None], ("no case is difficult",))


def test_bad_input_is_refused() -> None:
    for known in ([], boxed(OBJECT, name=DOG), [Annotation(CAT, points=(("eye", 1.0, 1.0),))]):
        with pytest.raises(RequestError, match=r"photo\.png: no region and no box of 'cat' is known"):
            PLAIN.measure(case(dot(0, 0), known))
    with pytest.raises(RequestError, match="not finite"):
        PLAIN.measure(case(torch.full((SIDE, SIDE), math.nan), [cat(OBJECT)]))
    with pytest.raises(RequestError, match="nothing of 'cat'"):
        PLAIN.measure(case(dot(0, 0), [cat()]))  # an empty region


@pytest.mark.parametrize(
    "wrong",
    [
        {"tolerance": -1.0},
        {"tolerance": math.nan},
        {"maxima": "last"},
        {"area_of": "box"},
        {"small": 0.0},
        {"small": 2.0},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        Pointing(**wrong)  # type: ignore[arg-type]
    json.dumps(PLAIN.describe())
