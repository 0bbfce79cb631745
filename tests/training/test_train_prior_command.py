"""`preimage train-prior`: files, going on, and one sentence for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from command import Run
from preimage import load
from preimage.sample import load_prior

_NETWORK = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 6), nn.ReLU())
    module.input_size = (8, 8)
    return module
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "nets.py"
    path.write_text(_NETWORK, encoding="utf-8")
    return f"{path}:net"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(6):
        pixels = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))
        Image.fromarray(pixels.numpy()).save(folder / f"{i}.png")
    return folder


OPTIONS = ("--code", "4", "--match", "1", "--batch-size", "4", "--width", "2", "--steps", "4", "--preview-every", "2")


def test_it_writes_a_prior_that_opens(preimage: Run, model: str, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = preimage("train-prior", model, photos, "-o", out, *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert "step 4 of 4: image " in done.stdout and str(out / "prior.safetensors") in done.stdout
    assert {"checkpoint.pt", "losses.csv", "previews", "prior.safetensors", "training.json"} <= {
        path.name for path in out.iterdir()
    }
    prior = load_prior(out / "prior.safetensors", encoder=load(model))
    assert prior.generator is not None and prior.code_shape == (6,)
    assert prior.generator(torch.rand(2, 6)).shape == (2, 3, 8, 8)
    assert prior.encode(torch.rand(2, 3, 8, 8)).shape == (2, 6)


def test_stopped_and_gone_on_with(preimage: Run, model: str, photos: Path, tmp_path: Path) -> None:
    words = ("train-prior", model, photos, *OPTIONS, "--json", "--losses", "image=1,code=0.5", "--noise", "h=0.1")
    whole = preimage(*words, "-o", tmp_path / "whole")
    first = preimage(*words, "-o", tmp_path / "parts", "--minutes", "0")
    assert json.loads(first.stdout)["step"] == 1
    assert "stopped at step 1; --resume goes on from there" in first.stderr
    again = preimage(*words, "-o", tmp_path / "parts")
    assert again.returncode == 2 and "holds a training already; --resume goes on with it" in again.stderr
    last = json.loads(preimage(*words, "-o", tmp_path / "parts", "--resume").stdout)
    said = json.loads(whole.stdout)
    assert last.pop("file") != said.pop("file")
    assert last == said and said["losses"].keys() == {"image", "code"}
    assert said["settings"]["noise"]["h"] > 0 == said["settings"]["noise"]["x"]


def test_denoisers_are_added_to_a_prior(preimage: Run, model: str, photos: Path, tmp_path: Path) -> None:
    assert preimage("train-prior", model, photos, "-o", tmp_path / "g", *OPTIONS).returncode == 0
    common = ("--batch-size", "4", "--steps", "2")
    made = preimage(
        "train-prior",
        model,
        photos,
        "-o",
        tmp_path / "h",
        "--kind",
        "code-denoiser",
        "--code",
        "4",
        *common,
        "--prior",
        tmp_path / "g" / "prior.safetensors",
    )
    assert made.returncode == 0, made.stderr
    made = preimage(
        "train-prior",
        model,
        photos,
        "-o",
        tmp_path / "x",
        "--kind",
        "image-denoiser",
        *common,
        "--prior",
        tmp_path / "h" / "prior.safetensors",
    )
    assert made.returncode == 0, made.stderr
    prior = load_prior(tmp_path / "x" / "prior.safetensors", encoder=load(model))
    assert prior.generator is not None and prior.denoiser is not None and prior.image_denoiser is not None
    assert prior.denoiser(torch.rand(2, 6)).shape == (2, 6)
    assert prior.image_denoiser(torch.rand(2, 3, 8, 8)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "say with --code TAP which"),
        (["--code", "9"], "has no tap '9'"),
        (["--code", "4", "--losses", "image,style"], "there is no loss 'style'"),
        (["--code", "4", "--losses", "image=much"], "--losses is given as NAME=NUMBER,NAME=NUMBER, not 'image=much'"),
        (["--code", "4", "--noise", "much"], "--noise is given as NAME=NUMBER"),
        (["--code", "4", "--losses", "match"], "--match TAP"),
        (["--code", "4", "--kind", "sampler"], "--kind is one of generator, code-denoiser, image-denoiser"),
        (["--code", "4", "--kind", "code-denoiser", "--match", "1"], "are for generators"),
        (["--code", "4", "--prior", "g.safetensors"], "--prior is for denoisers"),
        (["--code", "4", "--kind", "code-denoiser", "--prior", "g.safetensors"], "there is no prior 'g.safetensors'"),
    ],
)
def test_a_wrong_request_gets_one_sentence(
    preimage: Run, model: str, photos: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    done = preimage("train-prior", model, photos, "-o", tmp_path / "out", *options)
    assert done.returncode == 2
    assert says in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


def test_mixed_sizes(preimage: Run, model: str, photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (9, 8)).save(photos / "z.png")
    done = preimage("train-prior", model, photos, "-o", tmp_path / "out", *OPTIONS)
    assert done.returncode == 2
    assert "0.png" in done.stderr and "z.png" in done.stderr and "--size N" in done.stderr
    assert preimage("train-prior", model, photos, "-o", tmp_path / "out", *OPTIONS, "--size", "8").returncode == 0
