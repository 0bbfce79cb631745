"""Thresholds and boxes: by hand, and against the plain reading of SPEC M.5-10; IoU against torchvision."""

from __future__ import annotations

import importlib
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from annotated import filled
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage import RequestError
from preimage.evaluation.boxes import Kind, boxes_at, iou, ious, threshold, tightest_box

few = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**31)
sides = st.integers(1, 12)
KINDS: tuple[Kind, ...] = ("value", "energy", "mean")
kinds = st.sampled_from(KINDS)
HUNDREDTHS = tuple(i / 100 for i in range(100))
WHOLE = (0, 0, 8, 6)
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")  # what it defines is lost when it is


def box_iou() -> Any:
    """torchvision's; see tests/real/test_model_libraries.py for the two operators."""
    if "torchvision" not in sys.modules and torch.version.cuda is None:
        _LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("torchvision.ops").box_iou


def uniform(seed: int, height: int, width: int) -> Tensor:
    return torch.rand(height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normal(seed: int, height: int, width: int) -> Tensor:
    return torch.randn(height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def alphas_of(kind: Kind) -> tuple[float, ...]:
    return tuple(i / 2 for i in range(21)) if kind == "mean" else tuple(i / 20 for i in range(20))


def box_at(heatmap: Tensor, kind: Kind, alpha: float) -> tuple[int, ...]:
    return tuple(boxes_at(heatmap, kind, [alpha])[0].tolist())


# Thresholds


@pytest.mark.parametrize(
    ("kind", "alpha", "left"),
    [
        ("value", 0.0, [1, 2, 3, 4]),  # what is 0 is removed at any alpha
        ("value", 0.25, [1, 2, 3, 4]),  # 1 - 0 < 1 is false
        ("value", 0.26, [2, 3, 4]),
        ("value", 0.75, [3, 4]),
        ("value", 1.0, [4]),
        ("energy", 0.0, []),
        ("energy", 0.4, []),  # the largest alone brings the sum to 4 of 10
        ("energy", 0.41, [4]),
        ("energy", 0.7, [4]),
        ("energy", 0.71, [3, 4]),
        ("energy", 0.95, [2, 3, 4]),
        ("mean", 0.0, [1, 2, 3, 4]),
        ("mean", 0.5, [1, 2, 3, 4]),  # the mean is 2, and 1 < 1 is false
        ("mean", 1.0, [2, 3, 4]),
        ("mean", 2.0, [4]),
        ("mean", 2.5, []),
    ],
)
def test_what_remains_of_0_1_2_3_4(kind: Kind, alpha: float, left: list[int]) -> None:
    heatmap = torch.tensor([[3.0, 0.0, 1.0, 4.0, 2.0]])
    assert sorted(heatmap[threshold(heatmap, kind, alpha)].tolist()) == left


@few
@given(seeds, sides, sides)
def test_value_and_mean_thresholds_are_as_they_are_written(seed: int, height: int, width: int) -> None:
    heatmap = uniform(seed, height, width) * (uniform(seed + 1, height, width) > 0.3)
    for alpha in alphas_of("value"):
        below = heatmap - heatmap.min() < alpha * (heatmap.max() - heatmap.min())
        assert threshold(heatmap, "value", alpha).equal(heatmap.masked_fill(below, 0) != 0)
    for alpha in alphas_of("mean"):
        below = heatmap < alpha * heatmap.mean()
        assert threshold(heatmap, "mean", alpha).equal(heatmap.masked_fill(below, 0) != 0)


@few
@given(seeds, sides, sides)
def test_the_energy_threshold_is_that_of_adding_up_one_by_one(seed: int, height: int, width: int) -> None:
    """From the largest on, those before the first with which the sum reaches alpha of the whole (no two are equal)."""
    order = torch.randperm(height * width, generator=torch.Generator().manual_seed(seed))
    heatmap = order.view(height, width).double()  # whole numbers add up exactly
    for twentieths in range(20):
        kept, total = np.zeros((height, width), dtype=bool), 0
        for place in np.argsort(-heatmap.numpy().ravel()):
            total += int(heatmap.view(-1)[place])
            if 20 * total >= twentieths * int(heatmap.sum()):
                break
            kept.flat[place] = True
        # (Where a sum comes to alpha exactly, the rounding of alpha decides; the next test has such alphas.)
        if 20 * total != twentieths * int(heatmap.sum()):
            assert (threshold(heatmap, "energy", twentieths / 20).numpy() == kept).all()


def test_the_pixel_that_brings_the_sum_to_alpha_is_removed() -> None:
    heatmap = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    for alpha, left in ((0.5, 1), (0.75, 2), (0.9375, 3)):  # of 10: 5, 7.5, 9.375
        assert threshold(heatmap, "energy", alpha).sum() == left
    halves = torch.tensor([[8.0, 4.0, 2.0, 2.0]])  # the sums 8, 12, 14, 16 are 1/2, 3/4, 7/8, 1 of the whole, exactly
    for alpha, left in ((0.5, 0), (0.75, 1), (0.875, 2)):
        assert threshold(halves, "energy", alpha).sum() == left


@pytest.mark.parametrize("turned", [0, 1, 2, 3])
def test_equal_pixels_share_the_fate_of_their_first(turned: int) -> None:
    """So that what remains does not depend on which of them comes first in memory."""
    heatmap = torch.rot90(torch.tensor([[2.0, 2.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]]), turned)
    # Of 12: the first 2 comes to 1/6, the first 1 to 9/12.
    for alpha, values in ((0.15, set()), (0.2, {2.0}), (0.7, {2.0}), (0.76, {1.0, 2.0})):
        left = threshold(heatmap, "energy", alpha)
        assert set(heatmap[left].tolist()) == values
        assert left.sum() == sum(int((heatmap == value).sum()) for value in values)


@few
@given(seeds, sides, sides, kinds, st.floats(0, 2), st.integers(0, 9))
def test_a_map_with_negative_values_counts_from_its_smallest(
    seed: int, height: int, width: int, kind: Kind, alpha: float, depth: int
) -> None:
    heatmap = torch.randint(0, 9, (height, width), generator=torch.Generator().manual_seed(seed)).double()
    heatmap -= heatmap.min()
    assert threshold(heatmap - depth, kind, alpha).equal(threshold(heatmap, kind, alpha))


@few
@given(seeds, sides, sides, kinds, st.sampled_from([1e-30, 0.125, 64.0, 1e30]))
def test_the_scale_of_a_heat_map_changes_nothing(seed: int, height: int, width: int, kind: Kind, scale: float) -> None:
    heatmap = normal(seed, height, width)
    for alpha in (0.123, 0.456, 0.789, 1.23):  # that no pixel hits exactly
        assert threshold(heatmap * scale, kind, alpha).equal(threshold(heatmap, kind, alpha))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "heatmap",
    [torch.zeros(2, 3, 4)[0, 0], torch.zeros(0, 4), torch.tensor([[0.0, float("nan")]]), -torch.inf * torch.ones(1, 1)],
)
def test_what_is_no_heat_map_is_refused(kind: Kind, heatmap: Tensor) -> None:
    with pytest.raises(RequestError, match="heat map"):
        threshold(heatmap, kind, 0.5)


def test_wrong_thresholds_are_refused() -> None:
    with pytest.raises(RequestError, match="value, energy, mean, not 'median'"):
        threshold(torch.ones(2, 2), "median", 0.5)  # type: ignore[arg-type]
    for alpha in (-0.1, float("nan"), float("inf")):
        with pytest.raises(RequestError, match="alphas are numbers from 0 on"):
            threshold(torch.ones(2, 2), "value", alpha)


# Boxes


@pytest.mark.parametrize(
    ("pixels", "box"),
    [
        ([(2, 3)], (3, 2, 4, 3)),  # one pixel
        ([(0, 0)], (0, 0, 1, 1)),
        ([(5, 7)], (7, 5, 8, 6)),  # in the last corner
        ([(0, 3), (5, 3)], (3, 0, 4, 6)),  # from border to border
        ([(1, 1), (4, 6)], (1, 1, 7, 5)),  # around all parts, not around the largest
        ([], WHOLE),  # nothing left
    ],
)
def test_the_tightest_box_by_hand(pixels: list[tuple[int, int]], box: tuple[int, ...]) -> None:
    remaining = torch.zeros(6, 8, dtype=torch.bool)
    for row, column in pixels:
        remaining[row, column] = True
    assert tightest_box(remaining) == box


@few
@given(seeds, sides, sides, kinds, st.booleans(), st.booleans())
def test_boxes_at_many_alphas_are_the_boxes_one_by_one(
    seed: int, height: int, width: int, kind: Kind, has_ties: bool, is_signed: bool
) -> None:
    heatmap = normal(seed, height, width)
    heatmap = heatmap if is_signed else heatmap.relu()
    heatmap = (2 * heatmap).round() if has_ties else heatmap
    alphas = (*HUNDREDTHS, 1.0, 2.5, 7.0)
    found = boxes_at(heatmap, kind, alphas)
    assert found.dtype == torch.int64
    assert [tuple(box) for box in found.tolist()] == [tightest_box(threshold(heatmap, kind, one)) for one in alphas]


@few
@given(seeds, sides, sides, kinds, st.booleans())
def test_what_remains_is_nested_and_so_are_the_boxes(
    seed: int, height: int, width: int, kind: Kind, has_ties: bool
) -> None:
    """Of value and mean, less remains for a larger alpha; of energy, more."""
    heatmap = normal(seed, height, width)
    heatmap = heatmap.round() if has_ties else heatmap
    order = sorted(alphas_of(kind), reverse=kind == "energy")
    remaining = [threshold(heatmap, kind, alpha) for alpha in order]
    for larger, smaller in pairwise(remaining):
        assert not (smaller & ~larger).any()
    boxes = [tightest_box(one) for one in remaining if one.any()]
    for (l0, t0, r0, b0), (l1, t1, r1, b1) in pairwise(boxes):
        assert l0 <= l1 and t0 <= t1 and r1 <= r0 and b1 <= b0


BOX = (2, 1, 6, 5)


@pytest.mark.parametrize(
    ("heatmap", "kind", "alphas", "box"),
    [
        # A perfect map finds the box at every alpha above 0, and by value and mean at 0 too, until nothing is left.
        (filled(6, 8, BOX), "value", (0.0, 0.01, 0.5, 0.99), BOX),
        (filled(6, 8, BOX), "energy", (0.1, 0.5, 0.95), BOX),
        (filled(6, 8, BOX), "mean", (0.0, 0.5, 3.0), BOX),  # the mean is 16 / 48
        (filled(6, 8, BOX), "mean", (3.1, 10.0), WHOLE),
        (filled(6, 8, BOX), "energy", (0.0,), WHOLE),
        # An inverted one leaves its surroundings, which reach from border to border.
        (1 - filled(6, 8, BOX), "value", (0.0, 0.5, 0.99), WHOLE),
        (-filled(6, 8, BOX), "value", (0.0, 0.5, 0.99), WHOLE),
        (-filled(6, 8, BOX), "energy", (0.5,), WHOLE),
        # Nothing, and the same everywhere: the whole image.
        *((torch.full((6, 8), value), kind, (0.0, 0.5, 0.95), WHOLE) for value in (0.0, 3.0, -3.0) for kind in KINDS),
        # One pixel: of energy it is more than any share below 1, so that nothing is left.
        (filled(6, 8, (3, 4, 4, 5)), "value", (0.0, 0.99), (3, 4, 4, 5)),
        (filled(6, 8, (3, 4, 4, 5)), "mean", (0.5, 10.0), (3, 4, 4, 5)),
        (filled(6, 8, (3, 4, 4, 5)), "energy", (0.0, 0.5, 0.95), WHOLE),
        # At the border.
        (filled(6, 8, (0, 0, 2, 6)), "value", (0.5,), (0, 0, 2, 6)),
        (filled(6, 8, (5, 3, 8, 6)), "mean", (1.0,), (5, 3, 8, 6)),
        # A negative map is as good as its shifted twin.
        (filled(6, 8, BOX) - 7, "value", (0.0, 0.5, 0.99), BOX),
        (filled(6, 8, BOX) - 7, "energy", (0.5, 0.95), BOX),
        (filled(6, 8, BOX) - 7, "mean", (0.5, 3.0), BOX),
        # Saturated: all of what is equally important stays together.
        (filled(6, 8, WHOLE, value=0.5) + filled(6, 8, BOX, value=0.5), "energy", (0.05, 0.5), BOX),
    ],
)
def test_boxes_of_maps_with_known_answers(
    heatmap: Tensor, kind: Kind, alphas: tuple[float, ...], box: tuple[int, ...]
) -> None:
    for alpha in alphas:
        assert box_at(heatmap, kind, alpha) == box


# IoU


def inclusive_iou(box: tuple[int, ...], other: tuple[int, ...], one: int = 1) -> float:
    """Of boxes that name their last pixels, as ILSVRC's and VOC's development kits count."""
    across = min(box[2], other[2]) - max(box[0], other[0]) + one
    down = min(box[3], other[3]) - max(box[1], other[1]) + one
    areas = [(some[2] - some[0] + one) * (some[3] - some[1] + one) for some in (box, other)]
    common = max(across, 0) * max(down, 0)
    return common / (areas[0] + areas[1] - common)


corners = st.tuples(*[st.integers(1, 30)] * 4).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)


@few
@given(corners, corners)
def test_boxes_that_end_outside_have_the_plus_one_iou_of_those_that_name_their_last_pixel(
    box: tuple[int, ...], other: tuple[int, ...]
) -> None:
    ours = [(float(x0 - 1), float(y0 - 1), float(x1), float(y1)) for x0, y0, x1, y1 in (box, other)]
    assert iou(*ours) == inclusive_iou(box, other)
    assert iou(ours[0], ours[0]) == 1


def test_the_plus_one_decides() -> None:
    """4 x 2 of 4 x 4 pixels are a half, which is right by ILSVRC's criterion; counted without it they are a third."""
    found, truth = (1, 1, 4, 2), (1, 1, 4, 4)
    assert inclusive_iou(found, truth) == 0.5
    assert inclusive_iou(found, truth, one=0) == pytest.approx(1 / 3)
    assert iou((0, 0, 4, 2), (0, 0, 4, 4)) == 0.5


@few
@given(seeds, st.integers(1, 6), st.integers(1, 6))
def test_ious_are_torchvision_s(seed: int, count: int, others: int) -> None:
    made = torch.rand(count + others, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    boxes = made.sort(1).values.flatten(1)
    torch.testing.assert_close(
        ious(boxes[:count], boxes[count:]), box_iou()(boxes[:count], boxes[count:]), rtol=1e-12, atol=1e-15
    )


def test_boxes_that_only_touch_do_not_overlap() -> None:
    assert iou((0, 0, 2, 2), (2, 0, 4, 2)) == 0
    assert iou((0, 0, 2, 2), (3, 3, 4, 4)) == 0


@pytest.mark.parametrize("box", [(2, 0, 2, 4), (3, 0, 2, 4), (0, 5, 2, 4)])
def test_boxes_without_area_are_refused(box: tuple[float, float, float, float]) -> None:
    for pair in ((box, (0, 0, 1, 1)), ((0, 0, 1, 1), box)):
        with pytest.raises(RequestError, match="left < right and top < bottom"):
            iou(*pair)  # type: ignore[arg-type]
