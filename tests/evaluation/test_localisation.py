"""Localisation: overlaps in the file's pixels by hand, alpha from held-out cases alone, and what nothing can change."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from annotated import DOG, boxed, case, filled
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage import RequestError
from preimage.evaluation.boxes import Kind, iou, threshold, tightest_box
from preimage.evaluation.data.example import Annotation
from preimage.evaluation.localisation import Localisation, in_file
from preimage.evaluation.measure import Quantity, Raw
from preimage.evaluation.view import Fit, View

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
KINDS: tuple[Kind, ...] = ("value", "energy", "mean")
BOX = (4, 2, 12, 10)
SIZE = (12, 16)
PLAIN = Localisation()


def overlaps(
    heatmap: Tensor, *boxes: tuple[float, ...], file: tuple[int, int] | None = None, fit: Fit = "squash"
) -> Raw:
    return PLAIN.measure(case(heatmap, boxed(*boxes), file, fit))  # type: ignore[arg-type]


def test_the_published_alphas() -> None:
    """SPEC M.5-10: value and energy 0:.05:.95, mean 0:.5:10; IoU at least .5."""
    np.testing.assert_allclose(PLAIN.value, np.arange(20) * 0.05, atol=1e-15)
    assert PLAIN.energy == PLAIN.value
    assert PLAIN.mean == tuple(np.arange(21) / 2)
    assert PLAIN.least_iou == 0.5
    json.dumps(PLAIN.describe())


# One case


def test_a_perfect_map_finds_the_object_at_every_alpha_that_leaves_it() -> None:
    found = overlaps(filled(*SIZE, BOX), BOX)
    assert found["value"] == [1] * 20
    # Of 64 pixels: at alpha 0 nothing is left, so that the box is the whole photo's.
    whole = 64 / (12 * 16)
    assert found["energy"] == [whole] + [1] * 19
    assert found["mean"] == [1] * 7 + [whole] * 14  # the mean is 1/3
    assert found["whole"] == whole
    json.dumps(found)


@pytest.mark.parametrize("heatmap", [1 - filled(*SIZE, BOX), torch.zeros(SIZE), torch.ones(SIZE), -filled(*SIZE, BOX)])
def test_inverted_and_empty_maps_find_the_whole_photo(heatmap: Tensor) -> None:
    found = overlaps(heatmap, BOX)
    for kind in KINDS:
        assert set(found[kind]) == {64 / (12 * 16)}


def test_the_best_box_of_the_class_counts_and_no_other() -> None:
    heatmap = filled(*SIZE, (0, 0, 4, 4))
    far, near = (8, 6, 16, 12), (0, 0, 4, 8)
    assert overlaps(heatmap, far)["value"] == [0] * 20
    assert overlaps(heatmap, far, near)["value"] == [0.5] * 20
    dogs = boxed((0, 0, 4, 4), name=DOG)
    crowds = boxed((0, 0, 4, 4), crowd=True)
    assert PLAIN.measure(case(heatmap, [*boxed(near), *dogs, *crowds]))["value"] == [0.5] * 20


def test_objects_at_the_border_are_found() -> None:
    for box in ((0, 0, 3, 3), (13, 9, 16, 12), (0, 5, 16, 6), (0, 0, 16, 12)):
        assert overlaps(filled(*SIZE, box), box)["value"] == [1] * 20


@few
@given(seeds, st.integers(1, 4), st.integers(1, 4), st.sampled_from(["squash", "crop"]))
def test_the_scale_of_file_and_boxes_changes_nothing(seed: int, down: int, across: int, fit: Fit) -> None:
    heatmap = torch.rand(SIZE, generator=torch.Generator().manual_seed(seed))
    across = across if fit == "squash" else down
    scaled = tuple(side * (across, down, across, down)[i] for i, side in enumerate(BOX))
    assert overlaps(heatmap, scaled, file=(12 * down, 16 * across), fit=fit) == overlaps(heatmap, BOX)


@pytest.mark.parametrize(
    ("file", "fit", "shown", "expected"),
    [
        ((24, 32), "squash", (2, 3, 4, 5), (4, 6, 8, 10)),
        ((12, 32), "squash", (2, 3, 4, 5), (4, 3, 8, 5)),  # one axis alone
        ((12, 32), "crop", (0, 0, 16, 12), (8, 0, 24, 12)),  # what is shown is the middle
        ((12, 32), "crop", (2, 3, 4, 5), (10, 3, 12, 5)),
        ((24, 16), "crop", (2, 3, 4, 5), (2, 9, 4, 11)),
        ((6, 8), "squash", (2, 2, 8, 6), (1, 1, 4, 3)),  # a smaller file
        # The pixels of the file have their centres at 1, 3, 5 ... of those shown: 3 lies in 2 to 4, 1 and 5 do not.
        ((6, 8), "squash", (2, 3, 4, 4), (1, 1, 2, 2)),
        ((6, 8), "squash", (2, 2, 3, 3), (1, 1, 2, 2)),  # no centre in it: the pixel in which its middle lies
        ((6, 8), "squash", (15, 11, 16, 12), (7, 5, 8, 6)),
    ],
)
def test_boxes_in_the_file_by_hand(
    file: tuple[int, int], fit: Fit, shown: tuple[int, int, int, int], expected: tuple[int, ...]
) -> None:
    assert in_file(shown, View(file, SIZE, fit)) == expected


@few
@given(seeds, st.integers(16, 60), st.integers(16, 60))
def test_the_box_in_the_file_is_that_of_the_map_resampled_to_the_nearest_pixel(
    seed: int, height: int, width: int
) -> None:
    heatmap = torch.rand(SIZE, generator=torch.Generator().manual_seed(seed))
    view = View((height, width), SIZE)
    # In whole numbers: torch's `nearest-exact` rounds in float32 and is off by one where a centre lies on an edge.
    rows, columns = ((2 * torch.arange(n) + 1) * of // (2 * n) for n, of in ((height, SIZE[0]), (width, SIZE[1])))
    for alpha in (0.5, 0.9, 0.98):
        remaining = threshold(heatmap, "value", alpha)
        resampled = remaining[rows[:, None], columns]
        assert in_file(tightest_box(remaining), view) == tightest_box(resampled)


def test_cases_without_boxes_are_refused() -> None:
    nameless = [Annotation("cat", points=(("eye", 1.0, 1.0),))]
    for known in ([], nameless, boxed(BOX, name=DOG), boxed(BOX, crowd=True)):
        with pytest.raises(RequestError, match=r"photo\.png: no box of 'cat' is known"):
            PLAIN.measure(case(torch.ones(SIZE), known))


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": ()},
        {"energy": (0.5, 0.2)},
        {"mean": (1.0, 1.0)},
        {"value": (-0.1,)},
        {"mean": (math.inf,)},
        {"held_out": 0.0},
        {"held_out": 1.0},
        {"least_iou": 0.0},
        {"least_iou": 1.1},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        Localisation(**wrong)  # type: ignore[arg-type]


# All cases

TWO = Localisation(value=(0.1, 0.2, 0.3), energy=(0.5,), mean=(1.0,))


def raw(*values: float) -> Raw:
    return {"value": list(values), "energy": [0.6], "mean": [0.4], "whole": 0.2}


def errors(raws: list[Raw | None], seed: int = 0, measure: Localisation = TWO) -> dict[str, Quantity]:
    return {one.name: one for one in measure.quantities(raws, ["cat"] * len(raws), seed)}


@few
@given(seeds, st.integers(2, 60), st.floats(0.01, 0.99))
def test_the_split_is_the_seed_s_and_leaves_neither_side_empty(seed: int, count: int, share: float) -> None:
    measure = Localisation(held_out=share)
    held = measure.split(count, seed)
    assert len(held) == count
    assert sum(held) == min(max(round(share * count), 1), count - 1)
    assert measure.split(count, seed) == held


def test_alpha_is_chosen_on_held_out_cases_and_the_error_is_that_of_the_others() -> None:
    """There the first alpha is perfect and here the third: a measure that chose by the answer would find no error."""
    held = TWO.split(10, 7)
    raws: list[Raw | None] = [raw(0.9, 0.1, 0.1) if is_held else raw(0.49, 0.1, 1.0) for is_held in held]
    found = errors(raws, 7)
    assert found["value"].values == [None if is_held else 1.0 for is_held in held]
    assert found["value"].better == "lower"
    assert "alpha = 0.1, chosen on 5 held-out cases, where the error is 0.0%" in found["value"].notes
    assert "this alpha is at the end of those that were tried" in found["value"].notes
    assert "the box of the whole photo has an error of 100.0%" in found["value"].notes
    assert found["energy"].values == [None if is_held else 0.0 for is_held in held]
    assert found["mean"].values == [None if is_held else 1.0 for is_held in held]
    assert set(found) == {"value", "energy", "mean"}


def test_an_iou_of_a_half_is_right() -> None:
    raws: list[Raw | None] = [raw(0.0, 0.5, 0.0) for _ in range(4)]
    assert {value for value in errors(raws)["value"].values if value is not None} == {0.0}


@pytest.mark.parametrize(
    ("overlaps_there", "alpha"),
    [
        ([(0.6, 0.7, 0.1), (0.6, 0.7, 0.1)], "0.2"),  # both are right: the larger IoU
        ([(0.1, 0.2, 0.4), (0.1, 0.2, 0.4)], "0.3"),  # none is right: the larger IoU
        ([(0.6, 0.6, 0.6), (0.6, 0.6, 0.6)], "0.1"),  # all alike: the smallest alpha
        ([(0.5, 0.1, 0.5), (0.1, 0.9, 0.1)], "0.2"),  # one error each
        ([(0.5, 0.9, 0.5), (0.5, 0.4, 0.5)], "0.1"),  # fewer errors go before a larger IoU
    ],
)
def test_ties_between_alphas(overlaps_there: list[tuple[float, ...]], alpha: str) -> None:
    held = TWO.split(4, 0)
    there = iter(overlaps_there)
    raws: list[Raw | None] = [raw(*next(there)) if is_held else raw(0, 0, 0) for is_held in held]
    assert errors(raws)["value"].notes[0].startswith(f"alpha = {alpha}, ")


def test_failed_cases_do_not_count_and_do_not_move_the_split() -> None:
    held = TWO.split(12, 3)
    whole: list[Raw | None] = [raw(0.9, 0.0, 0.0)] * 12
    lost = [i for i in range(12) if held[i]][:2] + [i for i in range(12) if not held[i]][:1]
    raws = [None if i in lost else one for i, one in enumerate(whole)]
    before, after = errors(whole, 3)["value"], errors(raws, 3)["value"]
    assert after.values == [None if i in lost else value for i, value in enumerate(before.values)]
    assert "chosen on 4 held-out cases" in after.notes[0]


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_where_nothing_is_held_out_there_is_no_error(count: int) -> None:
    held = TWO.split(count, 0)
    raws: list[Raw | None] = [None if is_held else raw(1, 1, 1) for is_held in held]
    for one in errors(raws).values():
        assert one.values == [None] * count
        assert "no alpha can be chosen" in one.notes[0]


def test_from_heat_maps_to_errors() -> None:
    """Noisy maps around known boxes: the error here is the share of boxes at the chosen alpha below a half."""
    generator = torch.Generator().manual_seed(0)
    cases = []
    for i in range(12):
        box = (i % 5, i % 3, i % 5 + 9, i % 3 + 8)
        noise = 0.9 * torch.rand(SIZE, generator=generator)
        cases.append((noise + filled(*SIZE, box, value=0.1 * i), box))
    raws: list[Raw | None] = [overlaps(heatmap, box) for heatmap, box in cases]
    held = PLAIN.split(12, 1)
    quantity = errors(raws, 1, PLAIN)["value"]
    alpha = float(quantity.notes[0].split()[2].rstrip(","))
    for (heatmap, box), is_held, value in zip(cases, held, quantity.values, strict=True):
        found = iou(tightest_box(threshold(heatmap, "value", alpha)), box)
        assert value == (None if is_held else float(found < 0.5))


def test_all_cases_of_a_photo_are_held_out_or_none() -> None:
    """Else alpha would be chosen on photos that it is measured on."""
    measure = Localisation()
    alphas = {kind: [1.0] * len(getattr(measure, kind)) for kind in ("value", "energy", "mean")}
    raws = [{**alphas, "whole": 0.0, "file": f"{i // 3}.jpg"} for i in range(30)]
    for seed in range(5):
        for one in measure.quantities(raws, ["cat"] * 30, seed):
            held = [value is None for value in one.values]
            assert [len(set(held[i : i + 3])) for i in range(0, 30, 3)] == [1] * 10 and sum(held) == 15
