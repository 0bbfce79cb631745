"""Denoising autoencoders learn what is known of the best one, and go on where they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_worlds import encoder, pictures, same
from torch import Tensor, nn

from preimage import Network, Place, RequestError
from preimage.sample import Prior
from preimage.sample.architectures import CodeDenoiser
from preimage.training import CODES, IMAGES, Schedule, train_code_denoiser, train_image_denoiser
from preimage.training.checkpoints import read_checkpoint
from preimage.training.denoiser_training import PIXEL_NOISE

SHORT: dict[str, Any] = {"schedule": Schedule(steps=4, batch=8, decay=0), "preview_every": 2, "checkpoint_every": 2}


class Shrinking(nn.Module):
    """r(v) = mean + factor (v - mean), two numbers for all of an image: the best r for data of one variance."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.factor = nn.Parameter(torch.tensor(0.2)), nn.Parameter(torch.tensor(0.9))

    def forward(self, values: Tensor) -> Tensor:
        return self.mean + self.factor * (values - self.mean)


def test_it_comes_to_the_best_denoiser_of_gaussian_data(tmp_path: Path) -> None:
    """Alain and Bengio: of data N(mean, s^2) under noise sigma, s^2 / (s^2 + sigma^2) towards the mean (SPEC P.5-5)."""
    spread, noise = 0.1, 0.05
    photos = (0.5 + spread * torch.randn(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    schedule = Schedule(steps=300, batch=64, rate=0.02, halvings=6, decay=0)
    options: dict[str, Any] = {"channels": 1, "schedule": schedule, "preview_every": 1000}
    found = train_image_denoiser(photos, tmp_path, noise=noise, denoiser=Shrinking(), **options)
    assert isinstance(found.denoiser, Shrinking)
    mean, variance = float(photos.mean()), float(photos.var())
    assert float(found.denoiser.mean.detach()) == pytest.approx(mean, abs=0.005)
    assert float(found.denoiser.factor.detach()) == pytest.approx(variance / (variance + noise**2), abs=0.01)
    assert found.file is None and found.prior.image_denoiser is found.denoiser  # a module of one's own has no file


def test_codes_get_noise_of_a_share_of_their_mean(tmp_path: Path) -> None:
    network = encoder()
    found = train_code_denoiser(network, pictures(), tmp_path, code="4", noise=0.2, width=20, **SHORT)
    with torch.no_grad():
        codes = network.module(pictures().float() / 255)
    assert found.noise == pytest.approx(0.2 * float(codes.mean()), rel=1e-5)
    assert isinstance(found.denoiser, CodeDenoiser)
    assert float(found.denoiser.code_scale) == pytest.approx(float(codes.square().mean().sqrt()), rel=1e-5)
    assert found.prior.code == Place("4", True) and found.file == tmp_path / "prior.safetensors"
    assert found.file.exists() and not list((tmp_path / "previews").iterdir())


@pytest.mark.parametrize("kind", ["codes", "images"])
def test_stopped_it_ends_the_same(kind: str, tmp_path: Path) -> None:
    def run(folder: Path, **options: Any) -> int:
        if kind == "codes":
            return train_code_denoiser(encoder(), pictures(), folder, code="4", **SHORT, **options).progress.step
        return train_image_denoiser(pictures(), folder, channels=1, width=4, **SHORT, **options).progress.step

    assert run(tmp_path / "whole") == 4
    assert run(tmp_path / "parts", minutes=0) == 1
    while run(tmp_path / "parts", minutes=0, resume=True) < 4:
        pass
    assert same(*(read_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts")))


def test_the_paper_s_settings() -> None:
    assert (CODES.steps, CODES.decay, CODES.batch, CODES.rate) == (100_000, 1e-3, 64, 2e-4)
    assert (IMAGES.steps, IMAGES.decay, IMAGES.batch, IMAGES.rate) == (25_000, 4e-4, 64, 2e-4)
    assert pytest.approx(0.1) == PIXEL_NOISE


def test_what_does_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="the noise on images is above zero"):
        train_image_denoiser(pictures(), tmp_path, channels=1, noise=0.0)
    with pytest.raises(RequestError, match="the prior's images are 3 x 32 x 32, but the photos 1 x 4 x 4"):
        train_image_denoiser(pictures(), tmp_path, channels=1, prior=Prior())
    prior = Prior(None, encoder(), Place("3", True))
    with pytest.raises(RequestError, match="the prior's codes are those at after:3, not at after:4"):
        train_code_denoiser(encoder(), pictures(), tmp_path, code="4", prior=prior)
    places = Network(nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU()), 4, channels=1)
    with pytest.raises(RequestError, match=r"takes vectors, but after:1 has shape \[2, 4, 4\]"):
        train_code_denoiser(places, pictures(), tmp_path, code="1")
