"""`preimage recover`: what it prints and writes, and one sentence for wrong requests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import preimage as pi
from command import Run
from preimage.objectives import direction
from preimage.recover import angle

_NETWORK = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 12, 5, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 6, 3), nn.ReLU())
    module.input_size = (24, 24)
    return module

def half():
    return net().half()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recover") / "nets.py"
    path.write_text(_NETWORK, encoding="utf-8")
    return f"{path}:net"


@pytest.fixture(scope="module")
def picture(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The answer to channel 4 of the last convolution."""
    made = pi.maximize(pi.load(model), direction("3", torch.eye(6)[4]), recipe="plain", steps=550)
    folder = made.save(tmp_path_factory.mktemp("made"))
    return folder / made.file_names()[0]


def test_it_says_which_channel_a_picture_file_is_the_answer_to(
    preimage: Run, model: str, picture: Path, tmp_path: Path
) -> None:
    done = preimage("recover", model, str(picture), "--at", "3", "-o", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert f"{picture.stem}: 3:4 (+" in done.stdout
    said = json.loads((tmp_path / "out" / "result.json").read_text())
    found = torch.tensor(said["recoveries"][0]["objective"], dtype=torch.float64)
    assert float(angle(found, torch.eye(6, dtype=torch.float64)[4])) < 10
    assert said["model"] == model
    assert said["recoveries"][0]["singular_values"] == sorted(said["recoveries"][0]["singular_values"])
    with Image.open(tmp_path / "out" / said["recoveries"][0]["file"]) as image:
        assert image.size == (24, 24)


def test_a_folder_that_maximize_wrote_says_how_its_pictures_were_made(
    preimage: Run, model: str, picture: Path, tmp_path: Path
) -> None:
    made = picture.parent
    done = preimage("recover", model, str(made), "-o", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"as '{made / 'result.json'}' says: at 3, cosine power 2, aggregate max-mean, smoothing 0.01"
    assert lines[1].startswith(f"{picture.stem}: 3:4 (+")
    said = json.loads((tmp_path / "out" / "result.json").read_text())
    assert said["at"] == "3" and said["as_made"]["cosine_power"] == 2.0
    assert said["images"] == [f"{made / 'pictures.safetensors'}:{picture.name}"]
    exact = pi.recover(pi.load(model), load_file(made / "pictures.safetensors")[picture.name], "3")
    assert isinstance(exact, pi.Recovery)
    found = torch.tensor(said["recoveries"][0]["objective"], dtype=torch.float64)
    assert float(angle(found, exact.objective)) < 1e-3  # (six digits are written)


def test_what_is_typed_wins_over_what_the_folder_says(preimage: Run, model: str, picture: Path, tmp_path: Path) -> None:
    options = ["--cosine-power", "1", "--aggregate", "mean", "--features", "0-4", "--smoothing", "0"]
    done = preimage("recover", model, str(picture.parent), "-o", str(tmp_path), *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"as '{picture.parent / 'result.json'}' says: at 3\n")
    said = json.loads((tmp_path / "result.json").read_text())
    asked = {name: said[name] for name in ("at", "cosine_power", "aggregate", "features", "smoothing")}
    assert asked == {
        "at": "3",
        "cosine_power": 1.0,
        "aggregate": "mean",
        "features": [0, 1, 2, 3, 4],
        "smoothing": None,
    }
    everything = [*options, "--at", "3"]
    assert preimage("recover", model, str(picture.parent), "-o", str(tmp_path), *everything).stdout.startswith("0-")


def test_of_a_folder_known_objectives_are_asked_as_its_pictures_were(
    preimage: Run, model: str, picture: Path, tmp_path: Path
) -> None:
    done = preimage("recover", model, str(picture.parent), "-o", str(tmp_path), "--known", "2", "--json")
    assert json.loads(done.stdout)["critical_spaces"]["known_objectives"] == 2


def test_a_png_that_has_lost_its_objective_points_at_the_folder(
    preimage: Run, model: str, picture: Path, tmp_path: Path
) -> None:
    kept = pi.maximize(pi.load(model), "0:2", recipe="plain", steps=400).save(tmp_path / "kept") / "0-0-2.png"
    clear = preimage("recover", model, str(kept), "--at", "0", "-o", str(tmp_path / "out"))
    assert "one objective stands out" in clear.stdout and "8 bits" not in clear.stdout
    made = tmp_path / "made"
    shutil.copytree(picture.parent, made)
    assert "8 bits" not in preimage("recover", model, str(made), "-o", str(tmp_path / "out")).stdout
    words = ("recover", model, str(made / picture.name), "--at", "3", "-o", str(tmp_path / "out"))
    rounded = preimage(*words)
    assert "no objective stands out" in rounded.stdout
    assert f"It was read with 8 bits; '{made}' has it in full." in rounded.stdout
    (made / "pictures.safetensors").unlink()
    alone = preimage(*words)
    assert "no objective stands out" in alone.stdout and "8 bits" not in alone.stdout


def test_the_folder_of_the_pictures_is_not_written_to(preimage: Run, model: str, picture: Path) -> None:
    before = (picture.parent / "result.json").read_bytes()
    done = preimage("recover", model, str(picture.parent), "-o", str(picture.parent))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "holds pictures that maximize made, whose result.json would be replaced" in done.stderr
    assert (picture.parent / "result.json").read_bytes() == before


def test_json_is_what_is_written(preimage: Run, model: str, picture: Path, tmp_path: Path) -> None:
    done = preimage("recover", model, str(picture), "--at", "3", "-o", str(tmp_path), "--features", "0-3", "--json")
    said = json.loads(done.stdout)
    assert said == json.loads((tmp_path / "result.json").read_text())
    assert said["recoveries"][0]["features"] == [0, 1, 2, 3]


def test_known_objectives_come_first(preimage: Run, model: str, picture: Path, tmp_path: Path) -> None:
    done = preimage("recover", model, str(picture), "--at", "3", "-o", str(tmp_path), "--known", "3", "--json")
    said = json.loads(done.stdout)["critical_spaces"]
    assert said["known_objectives"] == 3
    assert said["spaces"][0]["dimension"] == 6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "nothing says at which tap 0-direction-3-6-channels-strongest-4-cos-2 was made; name it (at=, on the"),
        (["--at", "33"], "has no tap '33'"),
        (["--at", "3", "--features", "4"], "features are given as FIRST-LAST, like 0-63, not '4'"),
        (["--at", "3", "--features", "0-9"], "'3' has features 0 to 5"),
        (["--at", "3", "--aggregate", "sum"], "aggregate must be one of max-mean, mean, centre, not 'sum'"),
        (["--at", "3", "--cosine-power", "-1"], "cosine_power must not be negative"),
        (["--at", "3", "--features", "0-1", "--known", "3"], "leave --features or --known out"),
    ],
)
def test_a_wrong_request_gets_one_sentence(
    preimage: Run, model: str, picture: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    done = preimage("recover", model, str(picture), "-o", str(tmp_path / "out"), *options)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out" / "result.json").exists()


def test_half_precision_is_refused(preimage: Run, model: str, picture: Path, tmp_path: Path) -> None:
    done = preimage("recover", model.replace(":net", ":half"), str(picture), "--at", "3", "-o", str(tmp_path))
    assert done.returncode == 2
    assert "computes in float16" in done.stderr


def test_a_photograph_is_the_answer_to_nothing(preimage: Run, model: str, tmp_path: Path) -> None:
    Image.fromarray((torch.rand(24, 24, 3) * 255).byte().numpy()).save(tmp_path / "noise.png")
    done = preimage("recover", model, str(tmp_path / "noise.png"), "--at", "3", "-o", str(tmp_path / "out"))
    assert done.returncode == 0
    assert "no objective stands out" in done.stdout
