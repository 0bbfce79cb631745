"""Noise levels measured on data whose means are known, and the noise that training adds."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from preimage import Network, Place, RequestError
from preimage.training import PAPER, PhotoTensor, Schedule, train_prior
from preimage.training.encoding import Encoding
from preimage.training.noise_levels import measured_means

SIDE = 2


class Scaled(nn.Module):
    """Numbers times something."""

    def __init__(self, by: float):
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return self.by * x


def network() -> Network:
    """Features are three times the pixels, codes minus ten times them."""
    return Network(nn.Sequential(Scaled(3.0), Scaled(-10 / 3), nn.Flatten()), SIDE, channels=1)


def photos(count: int = 300) -> Tensor:
    return torch.rand(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def test_means_of_known_data() -> None:
    shown = photos()
    encoding = Encoding(network(), Place("2", True), Place("0", True), SIDE)
    means = measured_means(PhotoTensor(shown), encoding)
    mean, square = float(shown.double().mean()), float(shown.double().square().mean())
    assert means.x == pytest.approx(mean, rel=1e-6)
    assert means.h1 == pytest.approx(3 * mean, rel=1e-6)
    assert means.h == pytest.approx(10 * mean, rel=1e-6)
    assert means.h_root_mean_square == pytest.approx(10 * square**0.5, rel=1e-6)
    levels = means.noise(PAPER)
    assert levels == pytest.approx({"x": 0.01 * mean, "h1": 0.3 * mean, "h": mean}, rel=1e-6)
    assert means.noise({"h": 0.5}) == pytest.approx({"x": 0, "h1": 0, "h": 5 * mean}, rel=1e-6)


def test_the_noise_that_training_adds_has_these_levels(tmp_path: Path) -> None:
    """What G gets, and what E gets, beside what they would get without noise; five standard errors."""
    seen: dict[str, list[Tensor]] = {"code": [], "photo": []}

    class Recorded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(1, SIDE, SIDE))

        def forward(self, codes: Tensor) -> Tensor:
            seen["code"].append(codes.detach().clone())
            return self.bias.expand(len(codes), -1, -1, -1)

    opened = network()
    opened.module[0].register_forward_pre_hook(lambda _, given: seen["photo"].append(given[0].detach().clone()))
    shown = photos(64)
    grey = torch.full_like(shown, 0.5)
    batch = 2048
    options = {"code": "2", "match": "0", "losses": ["image"], "generator": Recorded()}
    found = train_prior(
        opened, grey[:1], tmp_path, noise=PAPER, schedule=Schedule(steps=1, batch=batch), preview_every=2, **options
    )
    assert found.prior.noise == pytest.approx({"x": 0.005, "h1": 0.15, "h": 0.5})
    (codes,) = [one for one in seen["code"] if len(one) == batch]
    disturbed = [one for one in seen["photo"] if len(one) == batch]
    numbers = codes.numel()
    pixels = disturbed[0] - 0.5
    assert float(pixels.std()) == pytest.approx(0.005, rel=5 / (2 * numbers) ** 0.5)
    # The code is -10/3 times features that are disturbed by three times the pixels' noise and by their own.
    total = ((10 * 0.005) ** 2 + (10 / 3 * 0.15) ** 2 + 0.5**2) ** 0.5
    assert float((codes + 5).std()) == pytest.approx(total, rel=5 / (2 * numbers) ** 0.5)
    assert abs(float((codes + 5).mean())) < 5 * total / numbers**0.5


class Kept(nn.Module):
    """Makes the image that the code is, plus nothing at first; it has a weight, so that it can be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, SIDE, SIDE))

    def forward(self, codes: Tensor) -> Tensor:
        return codes.view(-1, 1, SIDE, SIDE) + self.bias


def test_what_each_loss_is_without_its_own_noise(tmp_path: Path) -> None:
    """Where E and G change nothing, each loss is the noise that was added behind its target: on x, h1 and h for the
    image, on h1 and h for the features, on h for the code (paper 3, figure S9c). Five standard errors."""
    opened = Network(nn.Sequential(nn.Identity(), nn.Flatten()), SIDE, channels=1)
    batch, steps = 4096, 2
    shares = {"x": 0.3, "h1": 0.2, "h": 0.1}
    found = train_prior(
        opened,
        photos(64),
        tmp_path,
        code="1",
        match="0",
        losses=["image", "match", "code"],
        noise=shares,
        generator=Kept(),
        schedule=Schedule(steps=steps, batch=batch, rate=1e-12),
        preview_every=9,
    )
    squares = {key: level**2 for key, level in found.prior.noise.items()}
    expected = {
        "image": squares["x"] + squares["h1"] + squares["h"],
        "match": squares["h1"] + squares["h"],
        "code": squares["h"],
    }
    with (tmp_path / "losses.csv").open() as file:
        first, second = csv.DictReader(file)
    for name, variance in expected.items():
        for row in (first, second):
            assert float(row[name]) == pytest.approx(SIDE**2 * variance, rel=5 * (2 / (batch * SIDE**2)) ** 0.5)
        assert first[name] != second[name]  # other noise in every step


@pytest.mark.parametrize(
    ("shares", "match", "says"),
    [
        ({"y": 0.1}, True, "noise is added to x, h1, h, not to 'y'"),
        ({"h": -0.1}, True, "a share of its mean, from 0 on, not -0.1"),
        ({"h1": 0.1}, False, "noise on h1 needs features to match"),
    ],
)
def test_wrong_noise_gets_one_sentence(shares: dict[str, float], match: bool, says: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=says):
        train_prior(
            network(), photos(4), tmp_path, code="2", match="0" if match else None, losses=["image"], noise=shares
        )


def test_a_code_that_is_always_zero(tmp_path: Path) -> None:
    dead = Network(nn.Sequential(Scaled(-1.0), nn.Flatten(), nn.ReLU()), SIDE, channels=1)
    with pytest.raises(RequestError, match="the code at after:2 is zero on all photos"):
        train_prior(dead, photos(4), tmp_path, code="2")
