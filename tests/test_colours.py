"""Colours of images, measured: A A^T is the covariance of their pixels, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from preimage import RequestError
from preimage.parametrizations import PHOTOGRAPHS, measured_colours

few = settings(max_examples=30, deadline=None)


def pictures(seed: int, channels: int, count: int) -> list[Tensor]:
    """Images of different sizes whose channels are correlated."""
    random = np.random.default_rng(seed)
    mix = random.normal(size=(channels, channels))
    found = []
    for _ in range(count):
        height, width = random.integers(2, 9, size=2)
        values = np.einsum("oc,chw->ohw", mix, random.normal(size=(channels, height, width)))
        found.append(torch.from_numpy(1 / (1 + np.exp(-values))).float())
    return found


def covariance(images: list[Tensor]) -> np.ndarray:
    pixels = np.concatenate([image.double().numpy().reshape(image.shape[0], -1) for image in images], axis=1)
    return np.atleast_2d(np.cov(pixels, bias=True))


@few
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 4))
def test_the_matrix_times_its_transpose_is_the_covariance_up_to_a_factor(seed: int, channels: int, count: int) -> None:
    images = pictures(seed, channels, count)
    matrix = measured_colours(images, channels)
    assert matrix.shape == (channels, channels)
    assert matrix.dtype == torch.float32
    found = (matrix.double() @ matrix.double().T).numpy()
    expected = covariance(images)
    np.testing.assert_allclose(found / np.trace(found), expected / np.trace(expected), atol=1e-6)


@few
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_columns_are_perpendicular_the_strongest_first_and_of_length_one(seed: int, channels: int) -> None:
    matrix = measured_colours(pictures(seed, channels, 2), channels).double().numpy()
    lengths = np.linalg.norm(matrix, axis=0)
    assert np.isclose(lengths[0], 1, atol=1e-6)
    assert (np.diff(lengths) <= 1e-6).all()
    gram = matrix.T @ matrix
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-6)


@few
@given(st.integers(0, 2**31), st.floats(0.1, 1), st.floats(0, 0.5))
def test_contrast_and_brightness_do_not_matter(seed: int, contrast: float, brightness: float) -> None:
    """An image [3, H, W] is only its pixels: order, contrast and brightness leave the colours as they are."""
    images = pictures(seed, 3, 2)
    one = measured_colours(images)
    changed = [image.double() * contrast + brightness for image in reversed(images)]
    other = measured_colours(changed)
    torch.testing.assert_close(one @ one.T, other @ other.T, rtol=1e-4, atol=1e-5)


def test_a_generator_of_images_will_do() -> None:
    images = pictures(1, 3, 3)
    assert torch.equal(measured_colours(iter(images)), measured_colours(images))


def test_a_folder_of_files_is_read_with_everything_below_it(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    images = []
    for name in ("a.png", "deep/b.PNG", "deep/er/c.bmp"):
        array = random.integers(0, 256, size=(5, 7, 3), dtype=np.uint8)
        Image.fromarray(array).save(tmp_path / name)
        images.append(torch.from_numpy(array).permute(2, 0, 1).double() / 255)
    (tmp_path / "notes.txt").write_text("no image")
    for folder in (tmp_path, str(tmp_path)):
        matrix = measured_colours(folder).double()
        found = (matrix @ matrix.T).numpy()
        expected = covariance(images)
        np.testing.assert_allclose(found / np.trace(found), expected / np.trace(expected), atol=1e-6)


def test_a_folder_can_be_measured_in_grey(tmp_path: Path) -> None:
    Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5)).save(tmp_path / "a.png")
    assert abs(measured_colours(tmp_path, 1).item()) == pytest.approx(1)


@pytest.mark.parametrize("images", [[], iter(())])
def test_no_images(images: list[Tensor]) -> None:
    with pytest.raises(RequestError, match="no images"):
        measured_colours(images)


def test_another_number_of_channels_says_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"\[3, H, W\].*\[4, 2, 2\]"):
        measured_colours([torch.rand(3, 2, 2), torch.rand(4, 2, 2)])
    with pytest.raises(RequestError, match=r"\[2, 2\]"):
        measured_colours([torch.rand(2, 2)])
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(RequestError, match="5"):
        measured_colours(tmp_path, 5)


@pytest.mark.parametrize("colour", [[0.0, 0.0, 0.0], [0.2, 0.7, 0.3], [1.0, 1.0, 1.0]])
def test_one_colour_only(colour: list[float]) -> None:
    with pytest.raises(RequestError, match="one colour"):
        measured_colours([torch.tensor(colour).reshape(3, 1, 1).expand(3, 8, 8)] * 3)


def test_no_folder_and_nothing_in_it(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="not a folder"):
        measured_colours(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="no image files"):
        measured_colours(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(RequestError, match=r"broken\.png"):
        measured_colours(tmp_path)


def test_the_colours_of_photographs_are_ordered_and_scaled_like_measured_ones() -> None:
    lengths = PHOTOGRAPHS.norm(dim=0)
    assert lengths[0].item() == pytest.approx(1, abs=2e-4)  # four digits are kept
    assert lengths[0] > lengths[1] > lengths[2] > 0
    gram = PHOTOGRAPHS.T @ PHOTOGRAPHS
    assert (gram - gram.diag().diag()).abs().max() < 2e-4
    brightness = PHOTOGRAPHS[:, 0]
    assert (brightness / brightness.norm()).abs().min() > 0.55  # the strongest axis is close to grey
