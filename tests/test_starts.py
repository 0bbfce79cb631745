"""Images to start from, images as users give them, and pictures as they are handed over."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from preimage import RequestError
from preimage.images import as_image, read_image
from preimage.parametrizations import Pixels
from preimage.starts import centre_biased, mean_image

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, size=(6, 7, 3), dtype=np.uint8)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- the mean of a folder -----------------------------------------------------------------------------------------


def test_the_mean_image_is_the_mean_of_all_files_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    arrays = RANDOM.integers(0, 256, size=(3, 6, 7, 3), dtype=np.uint8)
    for array, name in zip(arrays, ("a.png", "b.png", "more/c.png"), strict=True):
        Image.fromarray(array).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    expected = torch.from_numpy(arrays.mean(0) / 255).permute(2, 0, 1).float()
    torch.testing.assert_close(mean_image(tmp_path, (6, 7)), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(mean_image(str(tmp_path), (6, 7)), expected, rtol=0, atol=1e-6)


def test_images_of_any_size_and_colour_take_part_with_their_centre(tmp_path: Path) -> None:
    """A wide white picture with black ends, and a tall grey one: only their middle squares count."""
    wide = np.zeros((8, 24), dtype=np.uint8)
    wide[:, 8:16] = 255
    tall = np.full((40, 10), 51, dtype=np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(tall).save(tmp_path / "tall.png")
    found = mean_image(tmp_path, (8, 8), channels=1)
    torch.testing.assert_close(found, torch.full((1, 8, 8), (1 + 51 / 255) / 2), rtol=0, atol=1e-6)
    assert mean_image(tmp_path, (5, 3)).shape == (3, 5, 3)


def test_the_mean_of_one_image_is_the_image(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    torch.testing.assert_close(mean_image(tmp_path, (6, 7)), read_image(tmp_path / "a.png"), rtol=0, atol=1e-6)


def test_a_mean_needs_images_that_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds no image files"):
        mean_image(tmp_path, (4, 4))
    with pytest.raises(RequestError, match="is not a folder"):
        mean_image(tmp_path / "nowhere", (4, 4))
    (tmp_path / "broken.png").write_text("I am text")
    with pytest.raises(RequestError, match=r"broken\.png"):
        mean_image(tmp_path, (4, 4))


# --- noise that fades from the centre -----------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "reach"), [((24, 24), 0.25), ((20, 40), 0.15), ((31, 12), 1.0)])
def test_noise_is_normal_and_fades_as_a_gaussian_of_each_side(size: tuple[int, int], reach: float) -> None:
    channels, spread = 300, 0.05
    found = centre_biased(size, channels, spread=spread, reach=reach) - 0.5
    down, right = (((torch.arange(n) + 0.5) / n - 0.5) / reach for n in size)
    fades = torch.exp(-(down[:, None].square() + right.square()) / 2)
    unit = (found / (spread * fades)).double()
    # What has faded to less than the rounding of numbers around 0.5 says nothing.
    unit = unit[:, fades > 1e-3]
    count = unit.numel()
    assert abs(unit.mean().item()) < 5 / math.sqrt(count)
    assert abs(unit.var().item() - 1) < 5 * math.sqrt(2 / count)
    # At every pixel by itself, too: variances over the channels, chi-squared.
    assert (unit.var(0) - 1).abs().max().item() < 6.5 * math.sqrt(2 / channels)


def test_far_from_the_centre_it_is_grey() -> None:
    found = centre_biased((40, 40), reach=0.05)
    assert (found[:, 0] == 0.5).all() and (found[:, :, -1] == 0.5).all()
    assert (found[:, 19:21, 19:21] != 0.5).all()


def test_a_seed_gives_one_image_and_another_another() -> None:
    assert torch.equal(centre_biased((9, 8), seed=3), centre_biased((9, 8), seed=3))
    assert not torch.equal(centre_biased((9, 8), seed=3), centre_biased((9, 8), seed=4))
    assert centre_biased((9, 8), 1).shape == (1, 9, 8)


def test_the_default_spread_is_eight_levels_of_256_and_large_ones_stay_within_the_range() -> None:
    plain, strong = centre_biased((16, 16)), centre_biased((16, 16), spread=16 / 255)
    torch.testing.assert_close(strong - 0.5, 2 * (plain - 0.5), rtol=0, atol=1e-6)
    wild = centre_biased((16, 16), spread=50.0)
    assert wild.min() == 0 and wild.max() == 1


@pytest.mark.parametrize("wrong", [{"spread": 0.0}, {"spread": -1.0}, {"reach": 0.0}, {"reach": math.nan}])
def test_spread_and_reach_lie_above_zero(wrong: dict[str, float]) -> None:
    with pytest.raises(RequestError, match="spread and reach lie above zero"):
        centre_biased((4, 4), **wrong)  # type: ignore[arg-type]


# --- any way in which an image is given ---------------------------------------------------------------------------


def test_all_ways_to_give_an_image_are_the_same_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture = Image.fromarray(RGB)
    picture.save(path)
    expected = torch.from_numpy(RGB).permute(2, 0, 1).float() / 255
    ways: list[Any] = [path, str(path), picture, RGB, RGB[::-1][::-1], RGB.astype(np.float32) / 255, RGB / 255]
    ways += [expected, expected.double(), expected.clone().requires_grad_(True)]
    for way in ways:
        found = as_image(way)
        assert found.dtype == torch.float32 and not found.requires_grad
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_have_the_channels_that_are_asked(tmp_path: Path, channels: int) -> None:
    for mode in ("L", "RGB", "RGBA", "P", "1", "LA", "CMYK"):
        picture = Image.fromarray(RGB).convert(mode)
        if mode == "CMYK":
            picture.save(tmp_path / "a.tif")
            assert torch.equal(as_image(picture, channels), read_image(tmp_path / "a.tif", channels))
        else:
            picture.save(tmp_path / "a.png")
            assert torch.equal(as_image(picture, channels), read_image(tmp_path / "a.png", channels))


def test_a_picture_of_sixteen_bits_is_the_same_from_its_file_and_from_pillow(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 30000, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode.startswith("I;16")
        found = as_image(picture, 1)
    assert torch.equal(found, read_image(tmp_path / "a.png", 1))
    expected = torch.from_numpy(values / 65535).float()[None]
    torch.testing.assert_close(found, expected, rtol=0, atol=1 / 255)  # one level of eight bits


def test_a_grey_array_needs_no_axis_of_channels() -> None:
    grey = RGB[:, :, 0]
    expected = torch.from_numpy(grey)[None].float() / 255
    assert torch.equal(as_image(grey, 1), expected)
    assert torch.equal(as_image(grey[:, :, None], 1), expected)
    assert torch.equal(as_image(grey > 127, 1), (expected > 127 / 255).float())


@few
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
def test_any_number_of_channels_may_come_as_a_tensor_or_an_array(channels: int, height: int, width: int) -> None:
    image = torch.rand(channels, height, width, generator=torch.Generator().manual_seed(0))
    assert torch.equal(as_image(image, channels), image)
    assert torch.equal(as_image(image.permute(1, 2, 0).numpy(), channels), image)


@pytest.mark.parametrize(
    ("shape", "channels"), [((1, 4, 5), 3), ((3, 4, 5), 1), ((4, 5), 3), ((1, 3, 4, 5), 3), ((3, 0, 5), 3), ((), 3)]
)
def test_an_image_has_its_shape(shape: tuple[int, ...], channels: int) -> None:
    with pytest.raises(RequestError, match=rf"shape \[{channels}, H, W\] here, not \[{', '.join(map(str, shape))}\]"):
        as_image(torch.zeros(shape), channels)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "P"])
@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_a_picture_without_pixels_is_no_image(mode: str, size: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match=f"an image has pixels; this one is {size[0]} x {size[1]}"):
        as_image(Image.new(mode, size))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_a_picture_of_32_bits_has_no_known_range(mode: str) -> None:
    with pytest.raises(RequestError, match="32-bit values, whose range is not known"):
        as_image(Image.new(mode, (3, 4)), 1)


def test_an_array_has_its_channels_last() -> None:
    with pytest.raises(RequestError, match=r"shape \[3, H, W\] here, not \[5, 3, 4\]"):
        as_image(np.zeros((3, 4, 5)))


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("make", [torch.from_numpy, lambda array: array.transpose(1, 2, 0)])
def test_values_lie_between_zero_and_one(value: float, make: Any) -> None:
    array = np.full((3, 4, 5), 0.5)
    array[1, 2, 3] = value
    with pytest.raises(RequestError, match=r"values lie in \[0, 1\], not between"):
        as_image(make(array))


@pytest.mark.parametrize("wrong", [None, 3, [[0.5]], b"bytes"])
def test_what_is_no_image_at_all(wrong: Any) -> None:
    with pytest.raises(RequestError, match=f"a file, a PIL image, an array or a tensor, not {type(wrong).__name__}"):
        as_image(wrong)


# --- pictures as they are handed over -----------------------------------------------------------------------------


@few
@given(seeds, st.floats(0.01, 3))
def test_a_picture_is_cut_off_at_black_and_white(seed: int, spread: float) -> None:
    v = spread * normal(seed, 2, 3, 6, 7)
    assert torch.equal(Pixels(3, 6, 7).picture(v), (v + 0.5).clamp(0, 1))


@few
@given(seeds, st.floats(3, 50), st.floats(0.1, 1))
def test_a_picture_with_too_much_contrast_is_scaled_by_its_quantile(seed: int, spread: float, shown: float) -> None:
    """Divided by the |v| that a share `shown` of all values does not exceed; of each picture by itself."""
    v = spread * normal(seed, 2, 3, 10, 12)
    found = Pixels(3, 10, 12, shown=shown).picture(v)
    for picture, values in zip(found, v, strict=True):
        sizes = np.sort(values.abs().flatten().numpy())
        common = sizes[max(1, round(shown * len(sizes))) - 1]
        expected = (0.5 + values / max(1.0, float(common))).clamp(0, 1)
        torch.testing.assert_close(picture, expected, rtol=0, atol=1e-6)


@few
@given(seeds, st.floats(0.01, 0.25), st.floats(0.1, 1))
def test_a_picture_with_little_contrast_is_not_stretched(seed: int, largest: float, shown: float) -> None:
    v = normal(seed, 1, 3, 6, 7)
    v = largest * v / v.abs().max()
    torch.testing.assert_close(Pixels(3, 6, 7, shown=shown).picture(v), v + 0.5)


def test_a_picture_of_nothing_is_grey_also_where_it_would_be_scaled() -> None:
    assert torch.equal(Pixels(3, 4, 5, shown=0.99).picture(torch.zeros(1, 3, 4, 5)), torch.full((1, 3, 4, 5), 0.5))


def test_a_few_bright_pixels_do_not_darken_a_picture() -> None:
    """One pixel in a hundred is beyond the 99th percentile."""
    v = torch.full((1, 1, 10, 10), 0.25)
    v[0, 0, 0, 0] = 1000.0
    found = Pixels(1, 10, 10, shown=0.99).picture(v)
    assert (found.flatten()[1:] == 0.75).all() and found[0, 0, 0, 0] == 1
    scaled = Pixels(1, 10, 10, shown=1.0).picture(v)
    torch.testing.assert_close(scaled.flatten()[1:], torch.full((99,), 0.5 + 0.25 / 1000))
