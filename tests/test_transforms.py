"""What transforms do to images: closed forms of every one, what is drawn and what stays the same from draw to draw."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from preimage import RequestError
from preimage.transforms import Affine, ColourJitter, InTurn, Jitter, Pad, Transform, Window, rescale, rotate

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31)
ALL: list[Transform] = [
    Jitter(2),
    Jitter(2, border="replicate"),
    Jitter(3, border="circular"),
    Pad(2),
    Pad(1, value=0.0),
    Pad(3, border="reflect"),
    Window(5, 6),
    Window(9, 8),
    Affine(zoom=(0.5, 3), shift=0.3, rotation=180),
    Affine(zoom=(0.5, 3), shift=0.3, rotation=45, interpolation="nearest", border="replicate"),
    Affine(zoom=(0.9, 1.1), rotation=5, mirror=True),
    rescale(0.7, 1.4),
    rescale(0.7, 1.4, "nearest"),
    rotate(30),
    ColourJitter(0.3, 0.1),
    InTurn([]),
    InTurn([Pad(2), Jitter(2), rotate(10), Window(7, 7), ColourJitter(0.1, 0.1)]),
]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("transform", ALL, ids=str)
def test_what_holds_for_every_transform(transform: Transform) -> None:
    images = normal(0, 3, 3, 9, 10)
    random = generator(1)
    shapes, results = set(), []
    for _ in range(8):
        state = random.get_state()
        view = transform.draw(random)
        result = view(images)
        shapes.add(tuple(result.shape))
        results.append(result)
        assert torch.equal(view(images), result)  # everything was drawn before
        again = torch.Generator()
        again.set_state(state)
        assert torch.equal(transform.draw(again)(images), result)
        alone = torch.cat([view(images[i : i + 1]) for i in range(3)])
        assert torch.equal(alone, result)  # the same for all images of a batch
    assert len(shapes) == 1
    is_fixed = isinstance(transform, (Pad, InTurn)) and "Jitter" not in str(transform)
    assert all(torch.equal(results[0], other) for other in results) == is_fixed


@pytest.mark.parametrize("transform", ALL, ids=str)
def test_gradients_flow_back_to_the_image(transform: Transform) -> None:
    view = transform.draw(generator(2))
    images = normal(3, 1, 2, 9, 9).requires_grad_(True)
    assert torch.autograd.gradcheck(view, (images,), fast_mode=True)
    (gradient,) = torch.autograd.grad(view(images).square().sum(), images)
    assert gradient.count_nonzero() > 0


@pytest.mark.parametrize("transform", ALL, ids=str)
def test_a_transform_prints_its_settings(transform: Transform) -> None:
    if not isinstance(transform, InTurn):
        assert eval(repr(transform)) == transform


# --- shifting -----------------------------------------------------------------------------------------------------


def shift_of(images: Tensor, moved: Tensor, most: int) -> tuple[int, int]:
    """The (down, right) by which circular `moved` is `images`; unique for random images."""
    shifts = itertools.product(range(-most, most + 1), repeat=2)
    found = [shift for shift in shifts if torch.equal(torch.roll(images, shift, dims=(2, 3)), moved)]
    assert len(found) == 1
    return found[0]


@few
@given(seeds, st.integers(0, 4))
def test_jitter_is_an_exact_shift_continued_as_the_border_says(seed: int, most: int) -> None:
    images = normal(seed, 2, 1, 9, 11)
    moved = Jitter(most, border="circular").draw(generator(seed))(images)
    down, right = shift_of(images, moved, most)
    modes: list[tuple[Any, str]] = [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")]
    for border, mode in modes:
        padded = np.pad(images.numpy(), ((0, 0), (0, 0), (most, most), (most, most)), mode=mode)  # type: ignore[call-overload]
        expected = padded[:, :, most - down : most - down + 9, most - right : most - right + 11]
        found = Jitter(most, border=border).draw(generator(seed))(images)
        assert np.array_equal(found.numpy(), expected)
        interior = (slice(None), slice(None), slice(most, 9 - most), slice(most, 11 - most))
        assert torch.equal(found[interior], torch.roll(images, (down, right), dims=(2, 3))[interior])


def test_jitter_draws_every_shift_and_no_other() -> None:
    images, random = normal(0, 1, 1, 5, 5), generator(0)
    transform = Jitter(1, border="circular")
    drawn = {shift_of(images, transform.draw(random)(images), 1) for _ in range(250)}
    assert len(drawn) == 9


@few
@given(seeds, st.integers(0, 3), st.floats(-1, 1))
def test_pad_frames_the_image(seed: int, pixels: int, value: float) -> None:
    images = normal(seed, 2, 3, 4, 5)
    frame = ((0, 0), (0, 0), (pixels, pixels), (pixels, pixels))
    constant = Pad(pixels, value=value).draw(generator(0))(images)
    assert np.array_equal(constant.numpy(), np.pad(images.numpy(), frame, constant_values=value))
    for border, mode in (("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")):
        found = Pad(pixels, border=border).draw(generator(0))(images)  # type: ignore[arg-type]
        assert np.array_equal(found.numpy(), np.pad(images.numpy(), frame, mode=mode))  # type: ignore[call-overload]


def test_pad_is_grey_by_default() -> None:
    assert torch.equal(Pad(1).draw(generator(0))(torch.zeros(1, 1, 1, 1))[0, 0, 0], torch.full((3,), 0.5))


def test_crop_takes_every_window_and_nothing_else() -> None:
    images, random = normal(0, 2, 3, 4, 5), generator(0)
    transform = Window(2, 4)
    windows = {(top, left): images[:, :, top : top + 2, left : left + 4] for top in range(3) for left in range(2)}
    drawn = set()
    for _ in range(200):
        found = transform.draw(random)(images)
        drawn |= {where for where, window in windows.items() if torch.equal(window, found)}
        assert any(torch.equal(window, found) for window in windows.values())
    assert drawn == set(windows)
    assert torch.equal(Window(4, 5).draw(random)(images), images)


@pytest.mark.parametrize(
    ("transform", "size", "said"),
    [
        (Jitter(4), (4, 9), "more than 4 pixels"),
        (Jitter(4, border="circular"), (9, 3), "more than 4 pixels"),
        (Pad(5, border="reflect"), (5, 9), "more than 5 pixels"),
        (Window(5, 5), (4, 9), "window of 5 x 5 pixels does not fit on a canvas of 4 x 9"),
        (Window(5, 5), (9, 4), "window of 5 x 5 pixels does not fit on a canvas of 9 x 4"),
        (InTurn([Pad(1), Window(9, 9)]), (6, 6), "window of 9 x 9 pixels does not fit on a canvas of 8 x 8"),
    ],
)
def test_images_that_are_too_small_are_told_what_is_needed(
    transform: Transform, size: tuple[int, int], said: str
) -> None:
    for seed in range(5):
        with pytest.raises(RequestError, match=said):
            transform.draw(generator(seed))(torch.zeros(1, 3, *size))


# --- affine: two channels that hold x and y show where the view looks ---------------------------------------------


def where(transform: Transform, seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The linear part [[dx/dx', dx/dy'], [dy/dx', dy/dy']] and the offset (x, y) of the centre, in pixels."""
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    seen = transform.draw(generator(seed))(torch.stack([x, y])[None])[0].numpy()
    top, left = height // 2 - 1, width // 2 - 1
    at = seen[:, top, left], seen[:, top, left + 1], seen[:, top + 1, left], seen[:, top + 1, left + 1]
    linear = np.stack([at[1] - at[0], at[2] - at[0]], axis=1)
    assert np.allclose(at[3] - at[0], linear.sum(1), atol=1e-9)
    return linear, np.mean(at, axis=0) - np.array([(width - 1) / 2, (height - 1) / 2])


@few
@given(seeds, st.floats(0.6, 3), st.floats(1, 2), st.floats(0, 0.2), st.floats(0, 180))
def test_affine_is_a_turn_and_a_magnification_in_pixels_and_a_shift(
    seed: int, low: float, ratio: float, shift: float, rotation: float
) -> None:
    height, width = 20, 32
    transform = Affine(zoom=(low, low * ratio), shift=shift, rotation=rotation)
    linear, offset = where(transform, seed, height, width)
    zoom = 1 / math.sqrt(np.linalg.det(linear))
    assert np.allclose(linear.T @ linear, np.eye(2) / zoom**2, atol=1e-9)
    assert low * (1 - 1e-9) <= zoom <= low * ratio * (1 + 1e-9)
    angle = math.degrees(math.atan2(linear[1, 0], linear[0, 0]))
    assert abs(angle) <= rotation + 1e-6
    assert abs(offset[0]) <= shift * width + 1e-9
    assert abs(offset[1]) <= shift * height + 1e-9


def test_affine_draws_evenly_within_its_bounds() -> None:
    """Zoom evenly on a logarithmic scale, shift and angle evenly: means and deviations of uniform numbers."""
    transform = Affine(zoom=(0.5, 4), shift=0.2, rotation=60)
    draws = []
    for seed in range(400):
        linear, (right, down) = where(transform, seed, 20, 40)
        zoom = -math.log(np.linalg.det(linear)) / 2
        angle = math.degrees(math.atan2(linear[1, 0], linear[0, 0]))
        draws.append((zoom, angle, right, down))
    centres = np.array([math.log(2) / 2, 0, 0, 0])
    widths = np.array([math.log(8), 120, 0.4 * 40, 0.4 * 20])
    unit = (np.array(draws) - centres) / widths  # uniform on [-1/2, 1/2]
    assert (np.abs(unit) <= 0.5 + 1e-9).all()
    assert (np.abs(unit.mean(0)) < 5 / math.sqrt(12 * 400)).all()
    assert (np.abs(unit.var(0) * 12 - 1) < 5 * math.sqrt(0.8 / 400)).all()
    assert (np.abs(np.corrcoef(unit.T) - np.eye(4)) < 5 / math.sqrt(400)).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("border", ["reflect", "replicate", "black"])
def test_affine_without_any_change_is_the_identity(interpolation: Any, border: Any) -> None:
    images = normal(0, 2, 3, 7, 10)
    view = Affine(interpolation=interpolation, border=border).draw(generator(0))
    torch.testing.assert_close(view(images), images, rtol=1e-12, atol=1e-12)


def test_zoom_of_two_shows_the_central_half() -> None:
    images = normal(1, 2, 3, 8, 12)
    half = images[:, :, 2:6, 3:9]
    nearest = rescale(2, 2, "nearest").draw(generator(0))(images)
    assert torch.equal(nearest, half.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    smooth = rescale(2, 2).draw(generator(0))(images)
    # Twice as many points between the same ones; the interpolation at the very border sees the pixels beyond the half.
    wider = F.interpolate(images[:, :, 1:7, 2:10], scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(smooth, wider[:, :, 2:-2, 2:-2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("border", "mode"), [("reflect", "symmetric"), ("replicate", "edge"), ("black", "constant")])
def test_zoom_of_one_half_shows_all_and_continues_as_the_border_says(border: Any, mode: Any) -> None:
    images = normal(2, 1, 2, 8, 12)
    view = Affine(zoom=(0.5, 0.5), border=border).draw(generator(0))
    padded = torch.from_numpy(np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (6, 6)), mode=mode))
    torch.testing.assert_close(view(images), F.avg_pool2d(padded, 2), rtol=1e-12, atol=1e-12)


def turned(degrees: float, seed: int, images: Tensor) -> tuple[Tensor, float]:
    """A view turned by exactly `degrees` either way, and which way: at one state of the generator the drawn angle is
    proportional to the bound."""
    linear, _ = where(rotate(10), seed, 20, 20)
    angle = math.degrees(math.atan2(linear[1, 0], linear[0, 0]))
    view = rotate(abs(10 * degrees / angle)).draw(generator(seed))
    return view(images), math.copysign(1, angle)


@pytest.mark.parametrize("seed", range(6))
def test_turning_by_quarters_and_halves_moves_pixels_exactly(seed: int) -> None:
    images = normal(3, 2, 3, 8, 8)
    half, _ = turned(180, seed, images)
    torch.testing.assert_close(half, images.flip(2, 3), rtol=0, atol=1e-8)
    quarter, sign = turned(90, seed, images)
    # The view looks along a turned frame: where x' points to +y, the picture turns the other way.
    torch.testing.assert_close(quarter, torch.rot90(images, int(sign), dims=(2, 3)), rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_oblong_images_turn_without_being_sheared(seed: int) -> None:
    images = normal(4, 1, 3, 6, 14)
    quarter, sign = turned(90, seed, images)
    expected = torch.rot90(images[:, :, :, 4:10], int(sign), dims=(2, 3))
    torch.testing.assert_close(quarter[:, :, :, 4:10], expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(turned(180, seed, images)[0], images.flip(2, 3), rtol=0, atol=1e-8)


def test_mirrored_views_are_mirrored_half_of_the_time_and_otherwise_the_same() -> None:
    images, random, draws = normal(0, 1, 3, 7, 8), generator(0), 400
    transform, mirrored = Affine(mirror=True), 0
    for _ in range(draws):
        seen = transform.draw(random)(images)
        is_mirrored = bool((seen - images).abs().max() > 0.1)
        torch.testing.assert_close(seen, images.flip(3) if is_mirrored else images, rtol=1e-12, atol=1e-12)
        mirrored += is_mirrored
    assert abs(mirrored / draws - 0.5) < 5 * 0.5 / math.sqrt(draws)


def test_mirrored_views_turn_and_magnify_like_others() -> None:
    height, width = 20, 32
    for seed in range(20):
        linear, offset = where(Affine(zoom=(1.0, 2.0), shift=0.2, rotation=30, mirror=True), seed, height, width)
        linear[0] *= np.sign(np.linalg.det(linear))  # undo the exchange of left and right in the picture
        zoom = 1 / math.sqrt(np.linalg.det(linear))
        assert np.allclose(linear.T @ linear, np.eye(2) / zoom**2, atol=1e-9)
        assert 1 - 1e-9 <= zoom <= 2 + 1e-9
        assert abs(math.degrees(math.atan2(linear[1, 0], linear[0, 0]))) <= 30 + 1e-6
        assert abs(offset[0]) <= 0.2 * width + 1e-9
        assert abs(offset[1]) <= 0.2 * height + 1e-9


@few
@given(seeds)
def test_nearest_interpolation_only_contains_values_of_the_image(seed: int) -> None:
    images = normal(seed, 1, 1, 7, 8)
    values = set(images.flatten().tolist())
    view = Affine(zoom=(0.4, 3), shift=0.3, rotation=180, interpolation="nearest").draw(generator(seed))
    assert set(view(images).flatten().tolist()) <= values


@few
@given(seeds)
def test_bilinear_interpolation_stays_between_the_values_of_the_image(seed: int) -> None:
    images = normal(seed, 1, 1, 7, 8)
    seen = Affine(zoom=(0.4, 3), shift=0.3, rotation=180).draw(generator(seed))(images)
    assert images.min() - 1e-12 <= seen.min() <= seen.max() <= images.max() + 1e-12


@pytest.mark.parametrize("zoom", [(0, 1), (-1, 1), (2, 1), (float("nan"), 1)])
def test_zoom_goes_from_low_to_high_above_zero(zoom: tuple[float, float]) -> None:
    with pytest.raises(RequestError, match="zoom"):
        Affine(zoom=zoom)


# --- colour -------------------------------------------------------------------------------------------------------


@few
@given(seeds, st.floats(0, 0.9), st.floats(0, 0.5), st.sampled_from([1, 3, 5, 20]))
def test_colour_jitter_stretches_around_grey_and_shifts(
    seed: int, contrast: float, brightness: float, channels: int
) -> None:
    images = normal(seed, 2, channels, 3, 4)
    seen = ColourJitter(contrast, brightness).draw(generator(seed))(images)
    flat, changed = images.movedim(1, 0).flatten(1), seen.movedim(1, 0).flatten(1)
    far = flat.max(1), flat.min(1)
    stretch = (changed.gather(1, far[0][1][:, None]) - changed.gather(1, far[1][1][:, None])) / (
        far[0][0] - far[1][0]
    ).unsqueeze(1)
    shift = (changed - 0.5 - (flat - 0.5) * stretch).mean(1, keepdim=True)
    assert ((stretch - 1).abs() <= contrast + 1e-9).all()
    assert (shift.abs() <= brightness + 1e-9).all()
    torch.testing.assert_close(changed, (flat - 0.5) * stretch + 0.5 + shift, rtol=1e-9, atol=1e-9)


def test_colour_jitter_of_nothing_is_the_identity_and_channels_change_each_their_own_way() -> None:
    images = normal(0, 1, 3, 4, 4)
    torch.testing.assert_close(ColourJitter(0, 0).draw(generator(0))(images), images, rtol=1e-12, atol=1e-12)
    grey = torch.full((1, 3, 1, 1), 0.5)
    assert len(set(ColourJitter(0, 0.2).draw(generator(0))(grey).flatten().tolist())) == 3


# --- one after the other ------------------------------------------------------------------------------------------


def test_in_turn_is_one_after_the_other_from_one_generator() -> None:
    images = normal(5, 2, 3, 9, 9)
    parts: list[Transform] = [Jitter(3), ColourJitter(0.2, 0.2), Window(6, 5)]
    expected, random = images, generator(7)
    views = [part.draw(random) for part in parts]
    for view in views:
        expected = view(expected)
    assert torch.equal(InTurn(parts).draw(generator(7))(images), expected)
    assert torch.equal(InTurn([]).draw(generator(0))(images), images)
