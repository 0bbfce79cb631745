"""What is put in the place of a part of a photo: against scipy's blur, and by its mean and spread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from squares import SIDE, noise, sharpness
from torch import Tensor

from preimage import Network, RequestError, explain
from preimage.explain import Mask, Question
from preimage.explain.perturbation import perturbed
from preimage.images import centre_crop

MEAN, STD = (0.4, 0.5, 0.6), (0.1, 0.05, 0.02)


def question(count: int = 2, seeds: tuple[int, ...] | None = None, **network: Any) -> Question:
    """Some photos of 48 x 64 pixels."""
    settings: dict[str, Any] = {"mean": MEAN, "std": STD} | network
    net = Network(torch.nn.Conv2d(3, 1, 1), (48, 64), **settings)
    pictures = tuple(noise(i, 48, 64) for i in range(count))
    return Question(net, pictures, (), (48, 64), seeds or tuple(range(count)))


@pytest.mark.parametrize("sigma", [0.5, 2.0, 5.0])
def test_blur_is_a_gaussian_mirrored_at_the_border(sigma: float) -> None:
    asked = question()
    found = perturbed(asked.photos, "blur", asked, sigma)
    radius = int(np.ceil(3 * sigma))
    expected = gaussian_filter(asked.photos.double().numpy(), (0, 0, sigma, sigma), mode="reflect", radius=radius)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("mean", "colour"), [(MEAN, MEAN), (None, (0.5, 0.5, 0.5)), ((1.5, -1, 0.2), (1, 0, 0.2))])
def test_constant_is_the_mean_colour_or_grey(mean: tuple[float, ...] | None, colour: tuple[float, ...]) -> None:
    """Within [0, 1], where networks say that their mean lies outside."""
    asked = question(mean=mean, std=None)
    found = perturbed(asked.photos, "constant", asked, 1.0)
    assert found.shape == asked.photos.shape
    torch.testing.assert_close(found, torch.tensor(colour).view(1, 3, 1, 1).expand(2, 3, 48, 64))


def test_noise_has_the_mean_and_the_spread_of_the_network() -> None:
    asked = question(1)
    found = perturbed(asked.photos, "noise", asked, 1.0)
    # 3072 pixels: five standard errors; the nearest bound of [0, 1] is four deviations away.
    for values, mean, std in zip(found[0], MEAN, STD, strict=True):
        assert abs(values.mean().item() - mean) < 5 * std / 3072**0.5
        assert abs(values.std().item() - std) < 5 * std / (2 * 3072) ** 0.5
    flat = found[0].flatten(1).double().numpy()
    assert np.abs(np.corrcoef(flat) - np.eye(3)).max() < 5 / 3072**0.5
    assert abs(np.corrcoef(found[0, 0, :, 1:].flatten(), found[0, 0, :, :-1].flatten())[0, 1]) < 5 / 3000**0.5


def test_noise_where_a_network_says_nothing_of_its_training_images() -> None:
    asked = question(1, mean=None, std=None)
    found = perturbed(asked.photos, "noise", asked, 1.0)
    assert found.min() >= 0 and found.max() <= 1
    inner = found[(found > 0) & (found < 1)]
    assert inner.mean().item() == pytest.approx(0.5, abs=0.02)
    assert len(inner) / found.numel() == pytest.approx(0.974, abs=0.01)  # |z| < 0.5 / 0.225


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_noise_depends_on_the_photo_s_seed_alone(first: int, second: int) -> None:
    both = question(2, seeds=(first, second))
    found = perturbed(both.photos, "noise", both, 1.0)
    assert torch.equal(found, perturbed(both.photos, "noise", both, 1.0))
    alone = question(1, seeds=(second,))
    assert torch.equal(found[1:], perturbed(alone.photos, "noise", alone, 1.0))
    assert (first == second) == torch.equal(found[0], found[1])


def test_a_picture_is_cropped_to_the_photos_however_it_is_given(tmp_path: Path) -> None:
    asked = question()
    pixels = np.random.default_rng(0).integers(0, 256, (100, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "other.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    expected = centre_crop(tensor, (48, 64)).expand(2, -1, -1, -1)
    given: list[Any] = [tensor, pixels, Image.fromarray(pixels), str(tmp_path / "other.png"), tmp_path / "other.png"]
    for one in given:
        torch.testing.assert_close(perturbed(asked.photos, one, asked, 1.0), expected)


def test_a_function_makes_other_pictures() -> None:
    asked = question()
    found = perturbed(asked.photos, lambda photos: 1 - photos, asked, 1.0)
    torch.testing.assert_close(found, 1 - asked.photos)


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda photos: photos[:1], r"\[1, 3, 48, 64\]"),
        (lambda photos: photos.mean(1, keepdim=True), r"\[2, 1, 48, 64\]"),
        (lambda photos: photos[:, :, 1:], r"\[2, 3, 47, 64\]"),
        (lambda photos: photos.numpy(), "ndarray"),
        (lambda photos: None, "NoneType"),
    ],
)
def test_a_function_that_makes_something_else_is_refused(function: Any, got: str) -> None:
    asked = question()
    with pytest.raises(RequestError, match=rf"pictures \[2, 3, 48, 64\] out of such photos, not {got}"):
        perturbed(asked.photos, function, asked, 1.0)


def test_unknown_kinds_and_files_that_are_not_there_are_refused() -> None:
    asked = question()
    with pytest.raises(RequestError, match="blur, constant, noise or an image file, not 'blurr'"):
        perturbed(asked.photos, "blurr", asked, 1.0)
    with pytest.raises(RequestError, match=r"nowhere\.png"):
        perturbed(asked.photos, "nowhere.png", asked, 1.0)
    with pytest.raises(RequestError, match=r"values lie in \[0, 1\]"):
        perturbed(asked.photos, torch.full((3, 48, 64), 2.0), asked, 1.0)


@pytest.mark.parametrize("kind", ["blur", "constant", "noise", noise(9, 200), lambda photos: photos.flip(3)])
def test_every_perturbation_does_in_explain(kind: Any) -> None:
    """What it reports of the wholly perturbed photo is what the network says of that."""
    network = sharpness()
    made = explain(network, noise(1), "class:0", method=Mask(perturbation=kind, iterations=2, start="half"))
    asked = Question(network, (noise(1),), (), (SIDE, SIDE), (0,))
    if kind != "noise":  # of which the seed follows from the question
        other = perturbed(asked.photos, kind, asked, 10 * SIDE / 224)
        assert made.scores["perturbed"] == pytest.approx(network.module(other).softmax(1)[0, 0].item(), abs=1e-5)
    again = explain(network, noise(1), "class:0", method=Mask(perturbation=kind, iterations=2, start="half"))
    assert torch.equal(made.heatmap, again.heatmap)


def test_a_function_may_write_into_what_it_is_given() -> None:
    def darkened(photos: Tensor) -> Tensor:
        return photos.mul_(0.5)

    made = explain(sharpness(), noise(1), "class:0", method=Mask(perturbation=darkened, iterations=1, start="half"))
    twin = Mask(perturbation=lambda photos: photos * 0.5, iterations=1, start="half")
    assert made.scores == pytest.approx(explain(sharpness(), noise(1), "class:0", method=twin).scores)


@pytest.mark.parametrize("value", [2.0, -1.0, float("nan")])
def test_a_function_that_leaves_the_range_is_refused(value: float) -> None:
    asked = question()
    with pytest.raises(RequestError):
        perturbed(asked.photos, lambda photos: torch.full_like(photos, value), asked, 1.0)
