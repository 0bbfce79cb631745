"""The deletion game: networks whose smallest box is known, and the published rule by brute force."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from annotated import filled
from explained import case_of, notes, signed, summing, uniform, values
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from preimage import Network, RequestError
from preimage.evaluation.deletion_game import ALPHAS, DeletionGame
from preimage.evaluation.measure import Raw
from preimage.objectives import label

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31)
HEIGHT, WIDTH = 24, 30
PIXELS = HEIGHT * WIDTH
SHARES = (0.8, 0.9, 0.95, 0.99)
NAMES = ("80%", "90%", "95%", "99%")
CHECKERED = (torch.arange(HEIGHT)[:, None] + torch.arange(WIDTH)).remainder(2).float()[None]


def blurred(photo: Tensor) -> Tensor:
    """sigma is 10 pixels for photos of 224 (paper 4), as far as three of them."""
    sigma = 10 / 224 * min(photo.shape[1:])
    reach = math.ceil(3 * sigma)
    return torch.from_numpy(gaussian_filter(photo.double().numpy(), (0, sigma, sigma), radius=(0, reach, reach)))


def looking_at(where: Tensor, scale: float = 1.0) -> Network:
    """Of the checkered photo, each pixel of `where` that is blurred takes away as much as any other."""
    gone = CHECKERED.double() - blurred(CHECKERED)
    return summing((scale * where / gone / where.sum()).float())


def game(heatmap: Tensor, where: Tensor, measure: DeletionGame | None = None, chunk: int = 16) -> dict[str, Any]:
    """Shares of the photo, by name; the normalised answer that is left is the part of `where` that is not blurred."""
    found = (measure or DeletionGame()).measure(case_of(looking_at(where), CHECKERED, heatmap, chunk=chunk))
    json.dumps(found)
    return dict(found)


def pixels(found: Raw) -> list[float | None]:
    return [None if area is None else round(area * PIXELS, 6) for area in found["areas"]]


# --- boxes that are known -----------------------------------------------------------------------------------------

BOXES = {
    "inside": (8, 6, 20, 18),
    "in the corner": (0, 0, 12, 12),
    "in the other corner": (18, 12, 30, 24),
    "at the right": (18, 5, 30, 17),
    "at the bottom": (3, 12, 15, 24),
}
BORDERS = pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)


@BORDERS
def test_a_perfect_map_needs_the_object_and_no_more(box: tuple[int, int, int, int]) -> None:
    """And a saturated one, whose values all are cut to one level, as much."""
    square = filled(HEIGHT, WIDTH, box)
    for heatmap in (square, 1000 * square, square - 7, (square * (1 + uniform(0, HEIGHT, WIDTH))).clamp(max=0.4)):
        assert pixels(game(heatmap, square)) == [144] * 4


@BORDERS
def test_as_many_columns_as_have_to_go(box: tuple[int, int, int, int]) -> None:
    """Column by column less important: of 12, ten are enough for 80 %, eleven for 90 %, and 95 % takes all."""
    square = filled(HEIGHT, WIDTH, box)
    falling = torch.zeros(WIDTH)
    falling[box[0] : box[2]] = torch.arange(12, 0, -1) / 12
    assert pixels(game(square * falling, square)) == [120, 132, 144, 144]
    # Row by row, from below.
    rising = torch.zeros(HEIGHT)
    rising[box[1] : box[3]] = torch.arange(1, 13) / 12
    assert pixels(game(square * rising[:, None], square)) == [120, 132, 144, 144]


def test_frames_around_a_point() -> None:
    """Squares of side 2, 4, ... 22 around a point, in a photo that is answered for as a whole: 22 x 22 of 720 is two
    thirds of it, which is not enough; an object of 20 x 20 is covered by four fifths at a side of 18."""
    away = torch.maximum((torch.arange(HEIGHT) - 11.5).abs()[:, None], (torch.arange(WIDTH) - 14.5).abs())
    near = (11 - away).clamp_min(0)
    assert pixels(game(near, filled(HEIGHT, WIDTH, (5, 2, 25, 22)))) == [18**2, 20**2, 20**2, 20**2]
    assert pixels(game(near, torch.ones(HEIGHT, WIDTH))) == [None] * 4
    # With a background above zero, at alpha 0 everything remains.
    assert pixels(game(near + 1, torch.ones(HEIGHT, WIDTH))) == [PIXELS] * 4


def test_the_box_is_around_all_that_remains_not_around_its_largest_part() -> None:
    where = filled(HEIGHT, WIDTH, (2, 2, 4, 4), (18, 10, 24, 13))
    # 4 and 18 of 22 pixels: the larger one alone is a little more than four fifths.
    both = filled(HEIGHT, WIDTH, (2, 2, 4, 4), value=0.5) + filled(HEIGHT, WIDTH, (18, 10, 24, 13))
    assert pixels(game(both, where)) == [18, 22 * 11, 22 * 11, 22 * 11]


def test_an_inverted_map_needs_the_whole_photo() -> None:
    """What is around the object has the whole photo as its box."""
    square = filled(HEIGHT, WIDTH, BOXES["inside"])
    assert pixels(game(1 - square, square)) == [PIXELS] * 4
    assert pixels(game(-square, square)) == [PIXELS] * 4


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_an_empty_map_needs_the_whole_photo(value: float) -> None:
    assert pixels(game(torch.full((HEIGHT, WIDTH), value), filled(HEIGHT, WIDTH, BOXES["inside"]))) == [PIXELS] * 4


def test_where_no_box_is_enough_the_whole_photo_counts_and_that_is_said() -> None:
    """The object is the left half, and the map has nothing but the right one."""
    left = filled(HEIGHT, WIDTH, (0, 0, WIDTH // 2, HEIGHT))
    wrong = game(1 - left, left)
    assert wrong == {"falls": True, "areas": [None] * 4}
    # Three quarters of it, which is not enough for any.
    assert pixels(game(filled(HEIGHT, WIDTH, (0, 0, WIDTH // 2, 18)), left)) == [None] * 4
    right = game(left, left)
    assert values(DeletionGame(), right, wrong) == {name: [0.5, 1.0] for name in NAMES}
    for said in notes(DeletionGame(), right, wrong).values():
        assert said == ("no box was enough for 1 photos; without them 0.500",)
    for said in notes(DeletionGame(), wrong, wrong).values():
        assert said == ("no box was enough for 2 photos; without them nothing",)
    assert set(notes(DeletionGame(), right, right).values()) == {()}


def test_some_shares_may_be_reached_and_others_not() -> None:
    """20 of 22 rows of the object: 90 % goes, and no box takes more."""
    square = filled(HEIGHT, WIDTH, (5, 1, 23, 23))
    found = game(filled(HEIGHT, WIDTH, (5, 1, 23, 21)), square)
    assert pixels(found) == [360, 360, None, None]
    assert [one[0] for one in values(DeletionGame(), found).values()] == [0.5, 0.5, 1.0, 1.0]
    said = notes(DeletionGame(), found)
    assert [len(said[name]) for name in NAMES] == [0, 0, 1, 1]


# --- photos that cannot be played with ----------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [-1.0, 0.0])
def test_a_photo_whose_answer_does_not_fall_is_left_out_for_every_method(scale: float) -> None:
    square = filled(HEIGHT, WIDTH, BOXES["inside"])
    for heatmap in (square, -square, uniform(0, HEIGHT, WIDTH), torch.zeros(HEIGHT, WIDTH)):
        found = DeletionGame().measure(case_of(looking_at(square, scale), CHECKERED, heatmap))
        assert found == {"falls": False, "areas": [None] * 4}
    played = game(square, square)
    for name, one in values(DeletionGame(), played, found, None).items():
        assert one == [pytest.approx(144 / PIXELS), None, None], name
    for said in notes(DeletionGame(), played, found, None).values():
        assert said == ("1 photos left out whose answer does not fall when everything is blurred",)


def test_a_photo_without_detail_is_left_out() -> None:
    photo = torch.full((1, HEIGHT, WIDTH), 0.5)
    network = summing(torch.zeros(1, 1, HEIGHT, WIDTH))
    assert DeletionGame().measure(case_of(network, photo, uniform(0, HEIGHT, WIDTH)))["falls"] is False


def test_the_answer_is_normalised_between_the_photo_s_and_the_blurred_one_s() -> None:
    """Neither a constant nor a factor makes a difference."""
    square = filled(HEIGHT, WIDTH, BOXES["inside"])
    heatmap = square * torch.linspace(1, 0.1, WIDTH)
    plain = game(heatmap, square)
    for scale in (0.01, 50.0):
        assert DeletionGame().measure(case_of(looking_at(square, scale), CHECKERED, heatmap)) == plain
    gone = CHECKERED.double() - blurred(CHECKERED)

    class Shifted(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (images * (square / gone / 100).float()).sum((1, 2, 3))[:, None] - 3

    shifted = Network(Shifted(), (HEIGHT, WIDTH), channels=1)
    assert DeletionGame().measure(case_of(shifted, CHECKERED, heatmap)) == plain


# --- the published rule -------------------------------------------------------------------------------------------


class Bumpy(nn.Module):
    """Probabilities that go up and down as a photo is blurred."""

    def __init__(self, seed: int, height: int, width: int) -> None:
        super().__init__()
        self.first = nn.Parameter(signed(seed, 3 * height * width, 6) * 3)
        self.second = nn.Parameter(signed(seed + 1, 6, 3) * 2)

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) @ self.first).sin() @ self.second


def by_brute_force(net: nn.Module, photo: Tensor, heatmap: Tensor) -> list[float | None] | None:
    """As published (SPEC M18): of all 100 alphas the last at which no more is left than the share; None: it does not
    fall. Of each threshold h - min < alpha (max - min) goes, and of what is 0 nothing remains."""

    def probability(image: np.ndarray) -> float:
        with torch.no_grad():
            return float(net(torch.from_numpy(image).float()[None]).softmax(1)[0, 1])

    before, behind = photo.double().numpy(), blurred(photo).numpy()
    sharp, none = probability(before), probability(behind)
    if sharp <= none:
        return None
    h = heatmap.double().numpy()
    h = h - min(h.min(), 0)
    out: list[float | None] = [None] * 4
    for i in range(100):
        kept = np.where(h - h.min() < i / 100 * (h.max() - h.min()), 0, h)
        rows, columns = np.nonzero(kept)
        box = (slice(None),) + tuple(slice(some.min(), some.max() + 1) for some in (rows, columns))
        image = before.copy()
        image[box] = behind[box]
        left = (probability(image) - none) / (sharp - none)
        for k, most in enumerate((0.2, 0.1, 0.05, 0.01)):
            if left <= most:
                out[k] = image[box][0].size / h.size
    return out


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(6, 14), st.integers(6, 14), st.sampled_from(["plain", "peaked", "signed", "tied", "dots"]))
def test_the_last_alpha_of_all_hundred(seed: int, height: int, width: int, kind: str) -> None:
    """Also where a smaller box suppresses more than one around it."""
    net, photo, heatmap = Bumpy(seed, height, width), uniform(seed + 2, 3, height, width), uniform(seed, height, width)
    if kind == "peaked":
        heatmap = heatmap**20
    elif kind == "signed":
        heatmap = heatmap * 2 - 1
    elif kind == "tied":
        heatmap = (heatmap * 4).floor() / 4
    elif kind == "dots":
        heatmap = torch.where(heatmap > 0.9, heatmap, 0.0)
        heatmap[height // 2, width // 2] = 0.5
    network = Network(net, (height, width), channels=3)
    found = DeletionGame().measure(case_of(network, photo, heatmap, asked=label(1, "prob"), chunk=3))
    expected = by_brute_force(net, photo, heatmap)
    assert found["falls"] is (expected is not None)
    assert found["areas"] == [one if one is None else pytest.approx(one) for one in expected or [None] * 4]


def test_of_two_boxes_that_are_enough_the_smaller_one_counts_also_if_one_between_is_not() -> None:
    """A frame that speaks against the class: the photo without it is answered more strongly than with it."""
    inner, middle = (12, 9, 18, 15), (10, 7, 20, 17)
    ring = filled(HEIGHT, WIDTH, middle) - filled(HEIGHT, WIDTH, inner)
    gone = CHECKERED.double() - blurred(CHECKERED)
    # The core's blurring takes 1 away, the ring's gives 0.5 back, and the rest's takes 0.5 again.
    rest = 1 - filled(HEIGHT, WIDTH, middle)
    takes = filled(HEIGHT, WIDTH, inner) / 36 - 0.5 * ring / 64 + 0.5 * rest / rest.sum()
    network = summing((takes / gone).float())
    heatmap = filled(HEIGHT, WIDTH, inner, value=2.0) + 2 * ring / 3 + 0.1
    assert pixels(DeletionGame().measure(case_of(network, CHECKERED, heatmap))) == [36] * 4
    # Without the core, only the whole photo is.
    turned = filled(HEIGHT, WIDTH, middle) + 0.1
    assert pixels(DeletionGame().measure(case_of(network, CHECKERED, turned))) == [PIXELS] * 4


@few
@given(seeds)
def test_larger_shares_take_larger_boxes_and_chunks_make_no_difference(seed: int) -> None:
    where, heatmap = uniform(seed, HEIGHT, WIDTH), uniform(seed + 1, HEIGHT, WIDTH) ** 30 + 1e-3
    one, many = (game(heatmap, where, chunk=chunk) for chunk in (1, 64))
    assert one == many
    assert one["areas"] == sorted(one["areas"])


@few
@given(seeds, st.floats(0.1, 100), st.floats(-5, 5))
def test_of_a_map_with_a_negative_value_only_its_shape_counts(seed: int, scale: float, shift: float) -> None:
    """SPEC M.5-10: thresholds go from the smallest value to the largest."""
    where, heatmap = filled(HEIGHT, WIDTH, BOXES["inside"]), signed(seed, HEIGHT, WIDTH).double() ** 9
    moved = heatmap * scale
    moved = moved - moved.min().clamp(min=0) - abs(shift)
    assert game(moved, where) == game(heatmap - heatmap.min(), where)


# --- settings -----------------------------------------------------------------------------------------------------


def test_alphas_and_shares_are_the_published_ones() -> None:
    assert list(ALPHAS) == pytest.approx(np.arange(0, 1, 0.01))
    assert DeletionGame().suppressed == SHARES
    assert DeletionGame().describe() == {"name": "deletion-game", "suppressed": SHARES}
    found = game(filled(HEIGHT, WIDTH, BOXES["inside"]), filled(HEIGHT, WIDTH, BOXES["inside"]))
    quantities = DeletionGame().quantities([found], ["a"], 0)
    assert [one.name for one in quantities] == list(NAMES)
    assert all(one.better == "lower" and not one.by_class for one in quantities)


def test_other_shares_in_any_order() -> None:
    square = filled(HEIGHT, WIDTH, BOXES["inside"])
    falling = torch.zeros(WIDTH)
    falling[8:20] = torch.arange(12, 0, -1) / 12
    measure = DeletionGame((0.9, 0.45, 0.96, 0.1))
    found = game(square * falling, square, measure)
    assert pixels(found) == [132, 72, 144, 24]
    assert list(values(measure, found)) == ["90%", "45%", "96%", "10%"]


def test_each_share_has_a_name_of_its_own() -> None:
    measure = DeletionGame((0.99, 0.995, 0.999))
    square = filled(HEIGHT, WIDTH, BOXES["inside"])
    assert list(values(measure, game(square, square, measure))) == ["99%", "99.5%", "99.9%"]


@pytest.mark.parametrize("wrong", [(80.0, 90.0), (0.0,), (-0.1,), (math.nan,), ()])
def test_shares_are_above_zero_and_at_most_one(wrong: tuple[float, ...]) -> None:
    with pytest.raises(RequestError, match="share"):
        DeletionGame(wrong)


def test_maps_that_are_not_finite_are_not_played_with() -> None:
    square = filled(HEIGHT, WIDTH, BOXES["inside"])
    with pytest.raises(RequestError, match="not finite"):
        game(square * math.nan, square)
