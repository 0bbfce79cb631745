"""Mask values around points: by hand, against resizing the whole map, and brought together over classes."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F
from annotated import CAT, DOG, case, filled
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage import RequestError
from preimage.evaluation.data.example import Annotation
from preimage.evaluation.measure import Quantity, Raw
from preimage.evaluation.parts import Parts
from preimage.evaluation.view import Fit

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
SIZE = (20, 30)
PLAIN = Parts()
EYE, FOOT = (8.5, 6.5), (21.5, 14.5)  # the centres of pixels (row 6, column 8) and (14, 21)
AROUND_EYE, AROUND_FOOT = (6, 4, 11, 9), (19, 12, 24, 17)  # their windows of 5 x 5


def animal(*points: tuple[str, tuple[float, float]], name: str = CAT) -> Annotation:
    return Annotation(name, points=tuple((said, x, y) for said, (x, y) in points))


BOTH = [animal(("eye", EYE), ("foot", FOOT))]


def found(
    heatmap: Tensor,
    annotations: list[Annotation] | None = None,
    measure: Parts = PLAIN,
    file: tuple[int, int] | None = None,
    fit: Fit = "squash",
) -> Raw:
    return measure.measure(case(heatmap, BOTH if annotations is None else annotations, file, fit))


# One photo


@pytest.mark.parametrize(
    ("heatmap", "eyes", "feet"),
    [
        (filled(*SIZE, AROUND_EYE), 0, 1),  # the mask deletes the eye
        (1 - filled(*SIZE, AROUND_EYE), 1, 0),  # inverted
        (filled(*SIZE, AROUND_EYE) + filled(*SIZE, AROUND_FOOT, value=0.25), 0, 0.75),
        (filled(*SIZE, (8, 6, 9, 7)), 0.96, 1),  # 1 of its 25 pixels
        (filled(*SIZE, (0, 0, 9, 30)), 0.4, 1),  # 15 of its 25
        (filled(*SIZE, AROUND_EYE) - 5, 0, 1),  # a negative map is scaled
        (filled(*SIZE, AROUND_EYE, value=1e-6), 0, 1),
        (torch.zeros(SIZE), 1, 1),  # nothing: everything is kept
        (torch.full(SIZE, 0.7), 1, 1),
    ],
)
def test_mask_values_by_hand(heatmap: Tensor, eyes: float, feet: float) -> None:
    raw = found(heatmap)
    assert raw["eyes"] == pytest.approx(eyes, abs=1e-7)
    assert raw["feet"] == pytest.approx(feet, abs=1e-7)
    assert (raw["eye_points"], raw["foot_points"], raw["hidden"]) == (1, 1, 0)
    json.dumps(raw)


def test_masks_as_they_are() -> None:
    mask = Parts(scaled=False)
    heatmap = filled(*SIZE, AROUND_EYE, value=0.5) + filled(*SIZE, AROUND_FOOT, value=0.25)
    assert (found(heatmap, measure=mask)["eyes"], found(heatmap, measure=mask)["feet"]) == (0.5, 0.75)
    assert (found(heatmap)["eyes"], found(heatmap)["feet"]) == (0, 0.5)
    assert found(torch.full(SIZE, 0.5), measure=mask)["eyes"] == 0.5
    for outside in (heatmap - 0.1, 3 * heatmap):
        with pytest.raises(RequestError, match=r"not to be scaled has values in \[0, 1\]"):
            found(outside, measure=mask)


def test_the_window_is_a_setting() -> None:
    heatmap = filled(*SIZE, (8, 6, 9, 7))
    for window in (1, 3, 5, 7):
        assert found(heatmap, measure=Parts(window=window))["eyes"] == pytest.approx(1 - 1 / window**2, rel=1e-12)


@pytest.mark.parametrize(
    ("point", "seen"),
    [
        ((0.5, 0.5), 4 / 9),  # 3 x 3 of the window lie on the photo, of which 2 x 2 are deleted
        ((29.5, 19.5), 0),
        ((30.0, 20.0), 0),  # the far side of the last pixel
        ((0.0, 0.0), 4 / 9),
        ((0.99, 0.99), 4 / 9),
        ((1.0, 0.5), 4 / 12),  # the next column: 4 x 3 pixels
    ],
)
def test_at_the_border_only_pixels_of_the_photo_count(point: tuple[float, float], seen: float) -> None:
    raw = found(filled(*SIZE, (0, 0, 2, 2)), [animal(("eye", point), ("foot", FOOT))])
    assert raw["eyes"] == pytest.approx(1 - seen, rel=1e-12)


@few
@given(seeds, st.integers(20, 70), st.integers(30, 90))
def test_squashed_photos_are_as_if_the_map_had_been_resized_to_the_file(seed: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    heatmap = torch.rand(SIZE, generator=generator, dtype=torch.float64)
    x, y = (torch.rand(2, generator=generator) * torch.tensor([width, height])).tolist()
    low, high = heatmap.min(), heatmap.max()
    mask = 1 - (heatmap - low) / (high - low)
    resized = F.interpolate(mask[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
    row, column = math.floor(y), math.floor(x)
    window = resized[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
    raw = found(heatmap, [animal(("eye", (x, y)), ("foot", (0.0, 0.0)))], file=(height, width))
    assert raw["eyes"] == pytest.approx(float(window.mean()), rel=1e-9)


def test_cropped_photos_show_only_some_points() -> None:
    """Of a file of 20 x 50 the columns 10 to 40 are shown."""
    annotations = [animal(("eye", (18.5, 6.5)), ("foot", (31.5, 14.5)), ("foot", (5.0, 5.0)), ("eye", (40.0, 3.0)))]
    raw = found(filled(*SIZE, AROUND_EYE), annotations, file=(20, 50), fit="crop")
    assert (raw["eyes"], raw["feet"]) == (0, 1)
    assert (raw["eye_points"], raw["foot_points"], raw["hidden"]) == (1, 1, 2)
    # At the edge of what is shown, the rest of the window does not count.
    edge = [animal(("eye", (10.5, 6.5)), ("foot", (31.5, 14.5)))]
    one_of_three = found(filled(*SIZE, (0, 0, 1, 20)), edge, file=(20, 50), fit="crop")["eyes"]
    assert one_of_three == pytest.approx(2 / 3, rel=1e-12)
    hidden = [animal(("eye", (1.0, 1.0)), ("foot", (31.5, 14.5)))]
    raw = found(filled(*SIZE, AROUND_EYE), hidden, file=(20, 50), fit="crop")
    assert (raw["eyes"], raw["feet"], raw["hidden"]) == (None, 1, 1)


def test_points_belong_to_a_group_by_their_names() -> None:
    annotations = [
        animal(("Left_Eye", EYE), ("right eye", FOOT), ("front paw", FOOT), ("hoof3", EYE), ("tail", (1.0, 1.0))),
        animal(("eyes", (1.0, 1.0)), ("feet", (1.0, 1.0))),
        animal(("eye", (2.0, 2.0)), name=DOG),
    ]
    raw = found(filled(*SIZE, AROUND_EYE), annotations)
    assert (raw["eye_points"], raw["foot_points"]) == (3, 3)
    assert raw["eyes"] == pytest.approx(2 / 3)
    other = Parts(eyes=("discriminative",), feet=("shared",))
    named = [animal(("discriminative", EYE), ("shared part", FOOT))]
    assert found(filled(*SIZE, AROUND_EYE), named, other)["eyes"] == 0


def test_photos_without_such_points_are_refused() -> None:
    with pytest.raises(RequestError, match=r"no point of 'cat' is named like eye, foot, .*; there are nose, tail"):
        found(torch.ones(SIZE), [animal(("tail", EYE), ("nose", FOOT)), animal(("eye", EYE), name=DOG)])
    with pytest.raises(RequestError, match="there are none"):
        found(torch.ones(SIZE), [])


# All photos


def raw(eyes: float | None, feet: float | None, eye_points: int = 1, foot_points: int = 1, hidden: int = 0) -> Raw:
    return {"eyes": eyes, "feet": feet, "eye_points": eye_points, "foot_points": foot_points, "hidden": hidden}


def mean_over_classes(quantity: Quantity, labels: list[str]) -> float:
    """As `Quantity` says: each class's mean, divided by the divisor's, and the mean over the classes."""
    classes = []
    divisors = quantity.divisor or [1.0] * len(labels)
    for name in sorted(set(labels)):
        some = [
            (value, below)
            for value, below, label in zip(quantity.values, divisors, labels, strict=True)
            if label == name and value is not None and below is not None
        ]
        if some:
            classes.append(sum(value for value, _ in some) / sum(below for _, below in some))
    return sum(classes) / len(classes)


def means(raws: list[Raw | None], labels: list[str], measure: Parts) -> dict[str, float]:
    return {one.name: mean_over_classes(one, labels) for one in measure.quantities(raws, labels, 0)}


def test_class_means_are_over_points() -> None:
    """Cat: eyes (.1, .1, .4), feet (.8 four times, .4). Dog: eyes (.5), feet (.5)."""
    raws: list[Raw | None] = [raw(0.1, 0.8, 2, 4), raw(0.4, 0.4, 1, 1), raw(0.5, 0.5)]
    labels = [CAT, CAT, DOG]
    by_points = means(raws, labels, Parts(least=1))
    assert by_points["eyes"] == pytest.approx((0.2 + 0.5) / 2)
    assert by_points["feet"] == pytest.approx((0.72 + 0.5) / 2)
    assert by_points["ratio"] == pytest.approx((0.72 / 0.2 + 1) / 2)
    by_photos = means(raws, labels, Parts(least=1, over="photos"))
    assert by_photos["eyes"] == pytest.approx((0.25 + 0.5) / 2)
    assert by_photos["feet"] == pytest.approx((0.6 + 0.5) / 2)
    assert by_photos["ratio"] == pytest.approx((0.6 / 0.25 + 1) / 2)


@few
@given(seeds, st.integers(1, 30), st.integers(1, 4))
def test_ratios_are_those_of_all_points_of_a_class(seed: int, count: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(1, 5, (count, 2), generator=generator).tolist()
    labels = [str(int(torch.randint(classes, (1,), generator=generator))) for _ in range(count)]
    values = [[torch.rand(many, generator=generator, dtype=torch.float64) + 0.1 for many in pair] for pair in numbers]
    raws: list[Raw | None] = [raw(float(e.mean()), float(f.mean()), len(e), len(f)) for e, f in values]
    ratios = []
    for name in set(labels):
        eyes, feet = (
            torch.cat([pair[k] for pair, label in zip(values, labels, strict=True) if label == name]) for k in (0, 1)
        )
        ratios.append(float(feet.mean() / eyes.mean()))
    assert means(raws, labels, Parts(least=1))["ratio"] == pytest.approx(sum(ratios) / len(ratios), rel=1e-9)


def test_the_published_ratio_is_a_mean_of_ratios() -> None:
    """SPEC M.4: bison .3329 and .3559, langur .0879 and .5672; the least and the largest, 1.07 and 6.45."""
    raws: list[Raw | None] = [raw(0.3329, 0.3559)] * 10 + [raw(0.0879, 0.5672)] * 10
    labels = ["bison"] * 10 + ["langur"] * 10
    assert means(raws, labels, PLAIN)["ratio"] == pytest.approx((1.0691 + 6.4528) / 2, abs=1e-4)


def test_only_classes_with_enough_photos_that_show_both_count() -> None:
    raws: list[Raw | None] = [raw(0.2, 0.6)] * 10 + [raw(0.3, 0.6)] * 9 + [raw(0.3, None), raw(None, 0.5), None]
    labels = [CAT] * 10 + [DOG] * 12
    for one in PLAIN.quantities(raws, labels, 0):
        assert [value is not None for value in one.values] == [True] * 10 + [False] * 12
        assert one.by_class
        assert one.better is None
        assert one.notes == (
            "1 classes with 10 or more photos that show eyes and feet",
            "1 classes have fewer and are left out",
        )
    some = Parts(least=9).quantities(raws, labels, 0)[0]
    assert [value is not None for value in some.values] == [True] * 19 + [False] * 3
    none = Parts(least=11).quantities(raws, labels, 0)
    assert {one.name: one.values for one in none} == dict.fromkeys(("eyes", "feet", "ratio"), [None] * 22)


def test_hidden_points_are_told() -> None:
    raws: list[Raw | None] = [raw(0.2, 0.6, hidden=2)] * 10
    assert "20 points are cut off and do not count" in PLAIN.quantities(raws, [CAT] * 10, 0)[0].notes


@pytest.mark.parametrize(
    "wrong",
    [
        {"eyes": ()},
        {"feet": ("",)},
        {"eyes": "eye"},
        {"window": 4},
        {"window": 0},
        {"window": 5.0},
        {"least": 0},
        {"over": "classes"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        Parts(**wrong)  # type: ignore[arg-type]
    json.dumps(PLAIN.describe())
