"""Curves of deletion and insertion: closed forms, every possible order, and the published protocol as an oracle."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from explained import signed, uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc
from torch import Tensor

from preimage import RequestError
from preimage.evaluation.curves import SHARES, answers_along, area_under

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
HEIGHT, WIDTH = 8, 10
PIXELS = HEIGHT * WIDTH
EACH = [i / PIXELS for i in range(PIXELS + 1)]
WHITE, BLACK = torch.ones(1, HEIGHT, WIDTH), torch.zeros(1, HEIGHT, WIDTH)
SQUARE = torch.zeros(HEIGHT, WIDTH)
SQUARE[2:6, 3:7] = 1
INSIDE = int(SQUARE.sum())


def mean_over_square(images: Tensor) -> Tensor:
    return (images[:, 0] * SQUARE).sum((1, 2)) / INSIDE


def weighing(weights: Tensor, bend: Callable[[Tensor], Tensor] = lambda x: x) -> Callable[[Tensor], Tensor]:
    """weights [C, H, W]: a rising function of the weighted sum of all pixels."""
    return lambda images: bend((images.double() * weights.double()).sum((1, 2, 3))).float()


def order(seed: int, *shape: int) -> Tensor:
    """A map without ties."""
    values = torch.randperm(math.prod(shape), generator=torch.Generator().manual_seed(seed))
    return values.view(shape).float()


# --- known answers ------------------------------------------------------------------------------------------------


def test_a_perfect_map_takes_the_answer_away_in_a_straight_line() -> None:
    found = answers_along(mean_over_square, WHITE, BLACK, SQUARE, EACH)
    np.testing.assert_allclose(found, [max(0, 1 - i / INSIDE) for i in range(PIXELS + 1)], atol=1e-6)
    assert area_under(found, EACH) == pytest.approx(INSIDE / PIXELS / 2, abs=1e-6)


def test_an_inverted_map_takes_it_away_at_the_very_end() -> None:
    found = answers_along(mean_over_square, WHITE, BLACK, -SQUARE, EACH)
    np.testing.assert_allclose(found, [min(1, (PIXELS - i) / INSIDE) for i in range(PIXELS + 1)], atol=1e-6)
    assert area_under(found, EACH) == pytest.approx(1 - INSIDE / PIXELS / 2, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_a_map_that_says_nothing_goes_row_by_row(value: float) -> None:
    found = answers_along(mean_over_square, WHITE, BLACK, torch.full((HEIGHT, WIDTH), value), EACH)
    left = [1 - float(SQUARE.flatten()[:i].sum()) / INSIDE for i in range(PIXELS + 1)]
    np.testing.assert_allclose(found, left, atol=1e-6)


def test_of_a_saturated_map_only_its_levels_count() -> None:
    """Cut off at 0.3, every pixel of the square has the same value: as good as the square itself."""
    pointed = SQUARE * uniform(0, HEIGHT, WIDTH).clamp(min=0.4)
    found = answers_along(mean_over_square, WHITE, BLACK, pointed.clamp(max=0.3), EACH)
    assert torch.equal(found, answers_along(mean_over_square, WHITE, BLACK, SQUARE, EACH))


def test_a_saturated_answer_makes_a_step() -> None:
    """sigmoid(200 (mean - 0.45)): the answer is there until nearly half of the square has gone (9 of 16 pixels)."""
    found = answers_along(
        lambda images: torch.sigmoid(200 * (mean_over_square(images) - 0.45)), WHITE, BLACK, SQUARE, EACH
    )
    expected = [1 / (1 + math.exp(-200 * (max(0, 1 - i / INSIDE) - 0.45))) for i in range(PIXELS + 1)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert area_under(found, EACH) == pytest.approx(8.5 / PIXELS, abs=1e-3)


def test_begin_and_end_are_given_back_as_they_are() -> None:
    seen: list[Tensor] = []

    def scores(images: Tensor) -> Tensor:
        seen.append(images)
        return images.mean((1, 2, 3))

    begin, end = uniform(0, 3, 5, 6), uniform(1, 3, 5, 6)
    answers_along(scores, begin, end, uniform(2, 5, 6), (0, 0.5, 1))
    (images,) = seen
    assert torch.equal(images[0], begin) and torch.equal(images[2], end)
    # Half of the pixels, all channels of each.
    changed = (images[1] != begin).all(0)
    assert int(changed.sum()) == 15 and torch.equal(changed, (images[1] == end).all(0))
    assert torch.equal(begin, uniform(0, 3, 5, 6)) and torch.equal(end, uniform(1, 3, 5, 6))


# --- the best map and the worst -----------------------------------------------------------------------------------


@settings(max_examples=6, deadline=None)  # (of 720 orders each)
@given(seeds)
def test_no_order_is_better_than_what_each_pixel_takes_away_and_none_worse_than_its_opposite(seed: int) -> None:
    """All 720 orders in which six pixels can go, on networks that are sigmoids of a sum."""
    weights = signed(seed, 1, 2, 3) * 3
    scores = weighing(weights, torch.sigmoid)
    begin, end = uniform(seed + 1, 1, 2, 3), uniform(seed + 2, 1, 2, 3)
    takes = (weights * (begin - end))[0]
    shares = [i / 6 for i in range(7)]

    def areas(heatmap: Tensor) -> tuple[float, float]:
        """Of deletion and of insertion."""
        return (
            area_under(answers_along(scores, begin, end, heatmap, shares), shares),
            area_under(answers_along(scores, end, begin, heatmap, shares), shares),
        )

    every = [areas(torch.tensor(one, dtype=torch.float).view(2, 3)) for one in itertools.permutations(range(6))]
    (best_deletion, best_insertion), (worst_deletion, worst_insertion) = areas(takes), areas(-takes)
    assert best_deletion == pytest.approx(min(one for one, _ in every), abs=1e-6)
    assert worst_deletion == pytest.approx(max(one for one, _ in every), abs=1e-6)
    assert best_insertion == pytest.approx(max(one for _, one in every), abs=1e-6)
    assert worst_insertion == pytest.approx(min(one for _, one in every), abs=1e-6)


@few
@given(seeds)
def test_on_linear_networks_a_map_and_its_opposite_are_as_good_as_chance_together(seed: int) -> None:
    """Each pixel goes as early in one as it goes late in the other: areas add up to the photo's and the end's."""
    weights, begin, end = signed(seed, 2, 4, 5), uniform(seed + 1, 2, 4, 5), uniform(seed + 2, 2, 4, 5)
    scores, heatmap, shares = weighing(weights), order(seed, 4, 5), [i / 20 for i in range(21)]
    there = area_under(answers_along(scores, begin, end, heatmap, shares), shares)
    back = area_under(answers_along(scores, begin, end, -heatmap, shares), shares)
    ends = answers_along(scores, begin, end, heatmap, (0, 1))
    assert there + back == pytest.approx(float(ends.sum()), abs=1e-5)


@few
@given(seeds, st.sampled_from([2, 5, 10, 20, 40]))
def test_insertion_is_deletion_by_the_opposite_map_read_backwards(seed: int, steps: int) -> None:
    """Where there are no ties. What is not yet put in is what was last taken away."""
    shares = [i / steps for i in range(steps + 1)]
    scores = weighing(signed(seed, 1, 5, 8), torch.sin)
    photo, other, heatmap = uniform(seed + 1, 1, 5, 8), uniform(seed + 2, 1, 5, 8), order(seed, 5, 8)
    inserted = answers_along(scores, other, photo, heatmap, shares)
    deleted = answers_along(scores, photo, other, -heatmap, shares)
    torch.testing.assert_close(inserted, deleted.flip(0), rtol=0, atol=0)


@few
@given(seeds, st.sampled_from([torch.exp, torch.atan, lambda x: x**3, lambda x: 5 * x - 100]))
def test_only_the_order_of_values_counts(seed: int, rising: Callable[[Tensor], Tensor]) -> None:
    scores, heatmap = weighing(signed(seed, 1, 5, 8), torch.sin), order(seed, 5, 8).double() / 40
    photo, other = uniform(seed + 1, 1, 5, 8), uniform(seed + 2, 1, 5, 8)
    assert torch.equal(
        answers_along(scores, photo, other, heatmap), answers_along(scores, photo, other, rising(heatmap))
    )


# --- oracles ------------------------------------------------------------------------------------------------------


@few
@given(seeds, st.integers(1, 60))
def test_areas_are_scikit_learns(seed: int, steps: int) -> None:
    """Also where the shares are not evenly spaced."""
    shares = sorted([0.0, *uniform(seed, steps - 1).double().tolist(), 1.0])
    answers = signed(seed + 1, steps + 1)
    assert area_under(answers, shares) == pytest.approx(auc(shares, answers.double().numpy()), abs=1e-12)


def published(
    scores: Callable[[Tensor], Tensor], start: Tensor, finish: Tensor, heatmap: Tensor, step: int
) -> tuple[list[float], float]:
    """Petsiuk et al.'s protocol, from its description: `step` pixels at a time in falling order, the last step taking
    what is left; the area is the sum of the curve without half of its ends, over the number of steps."""
    image, target = start.numpy().copy(), finish.numpy()
    falling = np.argsort(-heatmap.numpy().astype(np.float64), axis=None)
    curve = [float(scores(torch.from_numpy(image)[None])[0])]
    for first in range(0, len(falling), step):
        rows, columns = np.unravel_index(falling[first : first + step], heatmap.shape)
        image[:, rows, columns] = target[:, rows, columns]
        curve.append(float(scores(torch.from_numpy(image)[None])[0]))
    return curve, (sum(curve) - curve[0] / 2 - curve[-1] / 2) / (len(curve) - 1)


@few
@given(seeds, st.sampled_from([1, 2, 4, 5, 8, 10, 20, 40]), st.integers(1, 3))
def test_the_published_protocol_gives_the_same_numbers(seed: int, step: int, channels: int) -> None:
    scores = weighing(signed(seed, channels, 5, 8), torch.sin)
    photo, other, heatmap = uniform(seed + 1, channels, 5, 8), uniform(seed + 2, channels, 5, 8), order(seed, 5, 8)
    shares = [i * step / 40 for i in range(40 // step + 1)]
    for begin, end in ((photo, other), (other, photo)):
        curve, area = published(scores, begin, end, heatmap, step)
        found = answers_along(scores, begin, end, heatmap, shares)
        np.testing.assert_allclose(found, curve, atol=1e-6)
        assert area_under(found, shares) == pytest.approx(area, abs=1e-6)


# --- refused ------------------------------------------------------------------------------------------------------


def test_shares_are_every_twentieth() -> None:
    assert list(SHARES) == pytest.approx(np.arange(21) / 20)


@pytest.mark.parametrize("wrong", [-0.01, 1.01, math.nan])
def test_other_shares_are_refused(wrong: float) -> None:
    with pytest.raises(RequestError, match="between 0 and 1"):
        answers_along(mean_over_square, WHITE, BLACK, SQUARE, (0, wrong))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_maps_that_are_not_finite_are_refused(wrong: float) -> None:
    heatmap = SQUARE.clone()
    heatmap[0, 0] = wrong
    with pytest.raises(RequestError, match="not finite"):
        answers_along(mean_over_square, WHITE, BLACK, heatmap)
