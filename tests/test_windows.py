"""Windows on a canvas: which pixels they show, how often, and where the gradient goes back to."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage import RequestError
from preimage.transforms import Window, WindowsAround

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
EDGES = 224 / 300


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def coordinates(height: int, width: int) -> Tensor:
    """An image [1, 2, H, W] whose pixels say their own row and column."""
    rows, columns = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    return torch.stack([rows, columns])[None]


def corners(window: Window, height: int, width: int, draws: int, seed: int = 0) -> Tensor:
    """Row and column of each window's first pixel, [draws, 2]."""
    canvas, random = coordinates(height, width), generator(seed)
    return torch.stack([window.draw(random)(canvas)[0, :, 0, 0] for _ in range(draws)])


def pulled(window: Window | WindowsAround, seed: int, canvas: Tensor, weights: Tensor | None = None) -> Tensor:
    """The gradient at the canvas of the weighted sum of what a window shows (weights 1 by default)."""
    canvas = canvas.detach().requires_grad_(True)
    seen = window.draw(generator(seed))(canvas)
    (gradient,) = torch.autograd.grad((seen if weights is None else seen * weights).sum(), canvas)
    return gradient


# --- whole pixels -------------------------------------------------------------------------------------------------


@few
@given(seeds, st.sampled_from(["uniform", "edges", "middle"]), st.integers(0, 6), st.integers(0, 6))
def test_a_window_of_whole_pixels_is_a_part_of_the_canvas(seed: int, placing: Any, down: int, right: int) -> None:
    height, width = 4 + down, 5 + right
    canvas = coordinates(height, width)
    seen = Window(4, 5, placing=placing).draw(generator(seed))(canvas)
    top, left = (int(n) for n in seen[0, :, 0, 0])
    assert torch.equal(seen, canvas[:, :, top : top + 4, left : left + 5])
    inside = torch.zeros(1, 2, height, width, dtype=torch.float64)
    inside[:, :, top : top + 4, left : left + 5] = 1
    assert torch.equal(pulled(Window(4, 5, placing=placing), seed, canvas), inside)


def test_fitted_fills_in_what_is_open_and_nothing_else() -> None:
    open_, around = Window(scale=(0.5, 2.0), frame=1, placing="edges"), WindowsAround(((0.5, 0.5),), jitter=2)
    assert open_.fitted(7, 8) == Window(7, 8, scale=(0.5, 2.0), frame=1, placing="edges")
    assert open_.fitted(7, 8).fitted(3, 3) == open_.fitted(7, 8)
    assert Window(height=5).fitted(7, 8) == Window(5, 8)
    assert around.fitted(7, 8) == WindowsAround(((0.5, 0.5),), 2, 7, 8)
    assert around.fitted(7, 8).fitted(3, 3) == around.fitted(7, 8)


def test_a_window_without_size_shows_all() -> None:
    canvas = normal(0, 2, 3, 6, 7)
    assert torch.equal(Window().draw(generator(0))(canvas), canvas)


# --- where windows lie --------------------------------------------------------------------------------------------


def test_edges_has_the_published_code_s_probabilities() -> None:
    """Each axis by itself: one of the two ends with probability 224/300, else anywhere."""
    draws, free = 2000, 1000
    places = corners(Window(1, 1, placing="edges"), free + 1, free + 1, draws)
    first, last = (places == 0).double(), (places == free).double()

    def within(found: Tensor, chance: float) -> None:
        # What lies anywhere is at an end, too, once in `free` draws at most.
        slack = 5 * math.sqrt(chance * (1 - chance) / draws) + 2 * (1 - EDGES) / free
        assert abs(found.mean().item() - chance) < slack

    for axis in (0, 1):
        within(first[:, axis], EDGES / 2)
        within(last[:, axis], EDGES / 2)
    at_end = first + last
    within(at_end[:, 0] * at_end[:, 1], EDGES**2)
    within(first[:, 0] * last[:, 1], EDGES**2 / 4)
    between = places[at_end == 0] / free
    assert abs(between.mean().item() - 1 / 2) < 5 / math.sqrt(12 * len(between))
    assert abs(between.var().item() * 12 - 1) < 5 * math.sqrt(0.8 / len(between))


def test_uniform_windows_lie_anywhere() -> None:
    draws, free = 1000, 1000
    places = corners(Window(1, 1), free + 1, free + 1, draws) / free
    assert (places.mean(0) - 1 / 2).abs().max() < 5 / math.sqrt(12 * draws)
    assert (places.var(0) * 12 - 1).abs().max() < 5 * math.sqrt(0.8 / draws)
    assert abs(torch.corrcoef(places.T)[0, 1].item()) < 5 / math.sqrt(draws)


@pytest.mark.parametrize("side", [1, 3])
@pytest.mark.parametrize("places", [2, 4, 7])
def test_uniform_windows_are_at_every_place_equally_often(places: int, side: int) -> None:
    draws, whole = 2000, side + places - 1
    counts = torch.bincount(corners(Window(side, side), whole, whole, draws).long().flatten(), minlength=places)
    assert len(counts) == places
    deviation = math.sqrt(2 * draws * 1 / places * (1 - 1 / places))
    assert (counts - 2 * draws / places).abs().max() < 5 * deviation


def test_middle_windows_are_normal_around_the_middle_and_stop_at_the_ends() -> None:
    draws, free = 2000, 1000
    places = corners(Window(1, 1, placing="middle"), free + 1, free + 1, draws).flatten() / free
    count = 2 * draws

    def below(deviations: float) -> float:
        return 0.5 * math.erfc(-deviations / math.sqrt(2))

    for place in (0.0, 0.1, 0.35, 0.5, 0.65, 0.9):
        chance = below((place - 0.5) / 0.3)
        found = (places <= place + 0.5 / free).double().mean().item()
        assert abs(found - chance) < 5 * math.sqrt(chance * (1 - chance) / count) + 1.4 / free
    assert abs((places == 1).double().mean().item() - below(-0.5 / 0.3)) < 5 * math.sqrt(0.05 / count) + 1.4 / free


# --- resampling ---------------------------------------------------------------------------------------------------


@few
@given(seeds, st.floats(0.5, 1.2), st.floats(1, 2), st.sampled_from(["uniform", "edges", "middle"]))
def test_a_resampled_window_spans_its_share_of_the_window_s_sides(
    seed: int, low: float, ratio: float, placing: Any
) -> None:
    """Rows and columns are seen evenly spaced, by the same share of a pixel in both directions, within the canvas."""
    height, width, sides = 40, 50, (12, 10)
    high = min(low * ratio, 3.0)
    window = Window(*sides, scale=(low, high * (1 + 1e-9)), placing=placing)
    seen = window.draw(generator(seed))(coordinates(height, width))[0]
    rows, columns = seen[0, :, 0], seen[1, 0]
    straight = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    torch.testing.assert_close(seen, straight, rtol=0, atol=1e-9)
    # (the first and last points may lie beyond the middle of the canvas's first and last pixel)
    shares = torch.cat([rows[1:-1].diff(), columns[1:-1].diff()])
    share = shares.median().item()
    torch.testing.assert_close(shares, torch.full_like(shares, share), rtol=0, atol=1e-9)
    assert low - 1e-9 <= share <= high + 1e-6
    for line, side, whole in ((rows, sides[0], height), (columns, sides[1], width)):
        middle = line[1:-1].mean().item() + 0.5  # counted from the canvas's very border
        assert middle - share * side / 2 >= -1e-6
        assert middle + share * side / 2 <= whole + 1e-6


def test_shares_are_drawn_evenly() -> None:
    draws, (low, high) = 600, (0.8, 1.2)
    canvas, random = coordinates(20, 20), generator(0)
    shares = torch.stack([Window(8, 8, scale=(low, high)).draw(random)(canvas)[0, 1, 4, 3:5] for _ in range(draws)])
    unit = (shares[:, 1] - shares[:, 0] - low) / (high - low)
    assert unit.min() >= -1e-9 and unit.max() <= 1 + 1e-9
    assert abs(unit.mean().item() - 1 / 2) < 5 / math.sqrt(12 * draws)
    assert abs(unit.var().item() * 12 - 1) < 5 * math.sqrt(0.8 / draws)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("scale", [1.5, 2.0, 40.0])
def test_a_window_is_at_most_the_canvas(interpolation: Any, scale: float) -> None:
    """On a canvas of the window's own size, a larger one is the canvas itself."""
    canvas = normal(0, 2, 3, 6, 7)
    seen = Window(6, 7, scale=(scale, scale), interpolation=interpolation).draw(generator(0))(canvas)
    torch.testing.assert_close(seen, canvas, rtol=1e-12, atol=1e-12)


@few
@given(seeds)
def test_twice_the_window_is_the_mean_of_two_by_two_pixels(seed: int) -> None:
    canvas = normal(seed, 1, 2, 8, 12)
    seen = Window(4, 6, scale=(2.0, 2.0)).draw(generator(seed))(canvas)
    torch.testing.assert_close(seen, F.avg_pool2d(canvas, 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_half_the_window_at_an_edge_shows_every_pixel_twice(seed: int) -> None:
    """With the nearest pixel; the four corners are what `edges` shows in three of four draws and more."""
    canvas = normal(0, 1, 2, 8, 12)
    quarters = [canvas[:, :, y : y + 4, x : x + 6] for y in (0, 4) for x in (0, 6)]
    whole = [one.repeat_interleave(2, 2).repeat_interleave(2, 3) for one in quarters]
    window = Window(8, 12, scale=(0.5, 0.5), interpolation="nearest", placing="edges")
    places = corners(Window(1, 1, placing="edges"), 2001, 2001, 1, seed)[0]
    seen = window.draw(generator(seed))(canvas)
    at_corner = all(place in (0, 2000) for place in places.tolist())
    assert any(torch.equal(seen, one) for one in whole) == at_corner


@few
@given(seeds, st.floats(0.3, 2.5))
def test_the_nearest_pixel_s_gradient_counts_how_often_it_is_shown(seed: int, scale: float) -> None:
    """Paper 0, section 3: gradients are shared between places and scales, not between neighbours."""
    window = Window(7, 9, scale=(scale, scale + 1e-9), interpolation="nearest")
    canvas = coordinates(15, 20)
    rows, columns = window.draw(generator(seed))(canvas)[0].long()
    counts = torch.bincount((20 * rows + columns).flatten(), minlength=300).view(15, 20).double()
    found = pulled(window, seed, canvas[:, :1])[0, 0]
    assert torch.equal(found, counts)
    assert found.sum() == 7 * 9
    if scale < 0.8:  # then fewer pixels are seen than there are in the window
        assert found.max() > 1
    weights = normal(seed, 7, 9)
    weighted = torch.zeros(300, dtype=torch.float64).index_add(0, (20 * rows + columns).flatten(), weights.flatten())
    torch.testing.assert_close(pulled(window, seed, canvas[:, :1], weights)[0, 0].flatten(), weighted)


@few
@given(seeds, st.floats(0.3, 2.5))
def test_bilinear_gradients_share_one_unit_among_neighbours(seed: int, scale: float) -> None:
    gradient = pulled(Window(7, 9, scale=(scale, scale + 1e-9)), seed, coordinates(15, 20)[:, :1])
    assert gradient.min() >= 0
    assert gradient.sum().item() == pytest.approx(7 * 9, rel=1e-12)


@few
@given(seeds, st.floats(0.3, 2.5), st.sampled_from(["bilinear", "nearest"]))
def test_resampling_is_linear_and_its_gradient_is_its_adjoint(seed: int, scale: float, interpolation: Any) -> None:
    """<W x, y> = <x, W^T y>, where W^T y is the gradient taken at another canvas."""
    window = Window(6, 8, scale=(scale, scale + 1e-9), interpolation=interpolation)
    x, elsewhere, y = normal(seed, 2, 3, 15, 20), normal(seed + 1, 2, 3, 15, 20), normal(seed + 2, 2, 3, 6, 8)
    seen = window.draw(generator(seed))(x)
    back = pulled(window, seed, elsewhere, y)
    torch.testing.assert_close((seen * y).sum(), (x * back).sum(), rtol=1e-10, atol=1e-10)


# --- frames -------------------------------------------------------------------------------------------------------


@few
@given(seeds, st.integers(1, 6), st.integers(7, 50), st.integers(7, 50), st.sampled_from([(1.0, 1.0), (0.7, 1.3)]))
def test_a_frame_changes_the_gradient_and_not_what_is_seen(
    seed: int, frame: int, height: int, width: int, scale: tuple[float, float]
) -> None:
    """A framed window is a plain one on the canvas continued by the frame, of which the inside learns."""
    canvas = normal(seed, 1, 2, height + 4, width + 7)
    framed, plain = (Window(height, width, scale=scale, frame=pixels) for pixels in (frame, 0))
    kept = min(frame, height // 8, width // 8)
    continued = F.pad(canvas, (kept,) * 4, mode="replicate")
    assert torch.equal(framed.draw(generator(seed))(canvas), plain.draw(generator(seed))(continued))
    inside = torch.zeros(height, width, dtype=torch.float64)
    inside[kept : height - kept, kept : width - kept] = 1
    canvas.requires_grad_(True)
    seen = plain.draw(generator(seed))(F.pad(canvas, (kept,) * 4, mode="replicate"))
    (expected,) = torch.autograd.grad((seen * inside).sum(), canvas)
    torch.testing.assert_close(pulled(framed, seed, canvas), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("sides", "kept"),
    [((7, 90), 0), ((8, 90), 1), ((90, 15), 1), ((16, 16), 2), ((39, 40), 4), ((40, 41), 5), ((48, 60), 5)],
)
@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.999, 1.001)])
def test_a_frame_is_at_most_an_eighth_of_the_smaller_side(
    sides: tuple[int, int], kept: int, scale: tuple[float, float]
) -> None:
    """So that three quarters of every side learn, however small the window is."""
    canvas = torch.zeros(1, 1, 100, 100, requires_grad=True)
    seen = Window(*sides, scale=scale, frame=5).draw(generator(0))(canvas)
    (gradient,) = torch.autograd.grad(seen.sum(), canvas)
    inside = (sides[0] - 2 * kept) * (sides[1] - 2 * kept)
    assert gradient.sum().item() == pytest.approx(inside, rel=1e-5)
    assert inside >= 9 / 16 * sides[0] * sides[1]


def test_with_a_frame_of_five_every_pixel_of_the_canvas_is_reached_and_no_window_s_border_learns() -> None:
    """As in paper 0's code: the window's first and last five rows and columns have no gradient."""
    random, reached = generator(0), torch.zeros(46, 46)
    for i in range(600):
        canvas = torch.zeros(1, 1, 46, 46, requires_grad=True)
        window = Window(42, 40, frame=5, placing="edges" if i % 2 else "uniform")
        (gradient,) = torch.autograd.grad(window.draw(random)(canvas).sum(), canvas)
        where = gradient[0, 0].nonzero()
        assert gradient.sum() == (42 - 10) * (40 - 10)
        assert (where.amax(0) - where.amin(0) + 1 <= torch.tensor([32, 30])).all()
        reached += gradient[0, 0]
    assert (reached > 0).all()


# --- windows around places ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("centre", "corner"),
    [((0.5, 0.5), (5, 7)), ((0.0, 0.0), (0, 0)), ((1.0, 1.0), (10, 14)), ((0.3, 0.75), (2, 12)), ((0, 1), (0, 14))],
)
def test_a_window_around_a_centre_lies_around_it_within_the_canvas(
    centre: tuple[float, float], corner: tuple[int, int]
) -> None:
    canvas = coordinates(14, 20)
    seen = WindowsAround((centre,), height=4, width=6).draw(generator(0))(canvas)
    assert tuple(seen[0, :, 0, 0].int().tolist()) == corner
    top, left = corner
    assert torch.equal(seen, canvas[:, :, top : top + 4, left : left + 6])


def test_views_come_image_by_image() -> None:
    canvas = normal(0, 3, 2, 9, 9)
    seen = WindowsAround(((0.0, 0.0), (1.0, 1.0)), height=4, width=5).draw(generator(0))(canvas)
    assert seen.shape == (6, 2, 4, 5)
    for i in range(3):
        assert torch.equal(seen[2 * i], canvas[i, :, :4, :5])
        assert torch.equal(seen[2 * i + 1], canvas[i, :, 5:, 4:])


def test_windows_move_by_up_to_the_jitter_each_by_itself() -> None:
    canvas, random = coordinates(20, 20), generator(0)
    windows = WindowsAround(((0.5, 0.5), (0.5, 0.5)), jitter=1, height=4, width=4)
    draws = [windows.draw(random)(canvas)[:, :, 0, 0].int() - 8 for _ in range(300)]
    for i in (0, 1):
        assert {tuple(one[i].tolist()) for one in draws} == {(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    together = {(tuple(one[0].tolist()), tuple(one[1].tolist())) for one in draws}
    assert len(together) > 9  # the two do not move alike


def test_gradients_of_overlapping_windows_add_up() -> None:
    windows = WindowsAround(((0.0, 0.0), (0.0, 0.0), (1.0, 1.0)), height=3, width=3)
    expected = torch.zeros(5, 5, dtype=torch.float64)
    expected[:3, :3] += 2
    expected[2:, 2:] += 1
    assert torch.equal(pulled(windows, 0, normal(0, 1, 1, 5, 5))[0, 0], expected)


# --- refusing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [(0.0, 1.0), (-1.0, 1.0), (1.2, 0.8), (math.nan, 1.0), (1.0, math.nan)])
def test_scale_goes_from_low_to_high_above_zero(scale: tuple[float, float]) -> None:
    with pytest.raises(RequestError, match="scale goes from a lower to a higher share above zero"):
        Window(4, 4, scale=scale)


def test_a_frame_has_at_least_no_pixels() -> None:
    with pytest.raises(RequestError, match="at least 0 pixels, not -1"):
        Window(4, 4, frame=-1)


@pytest.mark.parametrize("centres", [(), ((0.5, 1.1),), ((0.5, 0.5), (-0.1, 0.5)), ((math.nan, 0.5),)])
def test_centres_are_shares_of_the_canvas(centres: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(RequestError, match="centres are shares"):
        WindowsAround(centres)


@pytest.mark.parametrize("jitter", [-1, -7])
def test_windows_move_by_no_less_than_nothing(jitter: int) -> None:
    with pytest.raises(RequestError, match=f"move by up to 0 pixels or more, not {jitter}"):
        WindowsAround(((0.5, 0.5),), jitter=jitter)


@pytest.mark.parametrize(
    "window",
    [Window(5, 5), Window(5, 5, scale=(0.2, 0.3)), Window(5, 5, frame=2), WindowsAround(((0.5, 0.5),), 0, 5, 5)],
)
@pytest.mark.parametrize("size", [(4, 9), (9, 4)])
def test_a_window_does_not_fit_on_a_smaller_canvas(window: Window | WindowsAround, size: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match=f"window of 5 x 5 pixels does not fit on a canvas of {size[0]} x {size[1]}"):
        window.draw(generator(0))(torch.zeros(1, 3, *size))
