"""`preimage invert` and `preimage recipes --for`: what they print and write, and one sentence for wrong requests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import preimage as pi
from command import Run

_JUDGES = """
import torch
from torch import nn

def judge():
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 9))
    module.input_size = (20, 20)
    return module

def one_answer():
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))
    module.input_size = (32, 32)
    return module

class Impatient(nn.Module):
    "Ctrl-C in the third step; of two photos and what they are compared with, all but the steps take four images."

    input_size = (16, 16)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.steps = 0

    def forward(self, images):
        self.steps += len(images) == 2
        if self.steps == 3:
            raise KeyboardInterrupt
        return self.conv(images).mean((2, 3))

impatient = Impatient
"""


@pytest.fixture
def judges(tmp_path: Path) -> str:
    path = tmp_path / "judges.py"
    path.write_text(_JUDGES, encoding="utf-8")
    return str(path)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Two files of different sizes and modes."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    paths = [tmp_path / "a cat.png", tmp_path / "b.jpg"]
    Image.fromarray(noise).save(paths[0])
    Image.fromarray(noise[:, :, 0]).resize((50, 60)).save(paths[1])
    return paths


def invert(tiny: str, *words: str | Path) -> list[str | Path]:
    return ["invert", f"{tiny}:net", *words, "-o", "out", "--steps", "3"]


def test_it_writes_pictures_photos_and_every_setting(
    preimage: Run, tiny: str, judges: str, photos: list[Path], tmp_path: Path
) -> None:
    words = invert(tiny, *photos, "--at", "0", "--at", "3", "--check", f"{judges}:judge", "--check", f"{tiny}:net")
    done = preimage(*words, "--json", "--seed", "3")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout, parse_constant=pytest.fail)
    assert document == json.loads((tmp_path / "out/result.json").read_text())
    assert (document["verb"], document["model"], document["seed"]) == ("invert", f"{tiny}:net", 3)
    assert document["photos"] == [str(path) for path in photos]
    assert (document["at"], document["distance"], document["after_relu"]) == (["0", "3"], "l2", True)
    assert document["start"] == "noise"
    assert document["interrupted"] is False
    asked = [(one["tap"], one["photo"]) for one in document["images"]]
    assert asked == [("0", "photo-0.png"), ("3", "photo-0.png"), ("0", "photo-1.png"), ("3", "photo-1.png")]
    assert [one["objective"] for one in document["images"][1:3]] == ["after:3 as for a cat", "after:0 as for b"]
    for one in document["images"]:
        assert one["score"] == -one["feature_error"] < 0 < one["pixel_error"] < 1
        for name in (one["file"], one["photo"]):
            with Image.open(tmp_path / "out" / name) as picture:
                assert picture.size == (32, 32)
    assert [check["judge"] for check in document["checks"]] == ["judge", "net"]
    for check in document["checks"]:
        assert {len(check[key]) for key in ("photo_class", "picture_class", "first", "among_five")} == {4}
    assert json.loads(preimage(*words, "--json", "--seed", "3").stdout) == document


def test_it_is_what_the_function_makes(preimage: Run, tiny: str, photos: list[Path]) -> None:
    done = preimage(*invert(tiny, photos[0], "--at", "3", "--json"))
    made = pi.invert(pi.load(f"{tiny}:net"), photos[0], "3", steps=3)
    said = json.loads(done.stdout)["images"][0]
    assert said["feature_error"] == pytest.approx(float(made.feature_errors[0]), rel=1e-5)
    assert said["pixel_error"] == pytest.approx(float(made.pixel_errors[0]), rel=1e-5)


def test_it_prints_a_line_for_each_picture_and_each_judge(
    preimage: Run, tiny: str, judges: str, photos: list[Path], tmp_path: Path
) -> None:
    done = preimage(*invert(tiny, *photos, "--at", "3", "--check", f"{judges}:judge"))
    assert (done.returncode, done.stderr) == (0, "")
    first, second, check = done.stdout.splitlines()
    for line, name in ((first, "a cat"), (second, "b")):
        assert line.startswith(f"after:3 as for {name} ")
        assert "feature error 0." in line or "feature error 1." in line
        assert "pixel error 0." in line
        assert (tmp_path / line.split("  ")[-1]).is_file()
    assert check.startswith("judge gives its first answer to the photo again for ")
    assert " of 2 pictures" in check


def test_options_are_those_of_the_function(preimage: Run, tiny: str, photos: list[Path]) -> None:
    done = preimage(
        *invert(tiny, photos[0], "--at", "2", "--json", "--start", "grey", "--before-relu"),
        *("--distance", "l1", "--recipe", "elastic", "--size", "24"),
    )
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert (document["start"], document["after_relu"], document["distance"]) == ("grey", False, "l1")
    assert (document["recipe"]["name"], document["size"]) == ("elastic", [24, 24])
    assert document["images"][0]["objective"] == "2 as for a cat"
    assert -document["images"][0]["score"] != document["images"][0]["feature_error"]


def test_a_recipe_that_moves_a_window_is_taken_without_it(preimage: Run, tiny: str, photos: list[Path]) -> None:
    document = json.loads(preimage(*invert(tiny, photos[0], "--at", "3", "--json", "--recipe", "jitter")).stdout)
    assert document["recipe"]["canvas"] == 1
    assert document["size"] == [32, 32]


def test_it_starts_from_an_image(preimage: Run, tiny: str, photos: list[Path]) -> None:
    done = preimage(*invert(tiny, photos[0], "--at", "0", "--json", "--start", photos[0], "--recipe", "fluid"))
    document = json.loads(done.stdout)
    assert document["start"] == str(photos[0])
    away = json.loads(preimage(*invert(tiny, photos[0], "--at", "0", "--json", "--recipe", "fluid")).stdout)
    assert document["images"][0]["pixel_error"] < away["images"][0]["pixel_error"] / 2


def test_ctrl_c_writes_what_was_reached(preimage: Run, judges: str, photos: list[Path], tmp_path: Path) -> None:
    done = preimage(
        "invert", f"{judges}:impatient", *photos, "--at", "conv", "-o", "out", "--json", "--recipe", "fluid"
    )
    assert done.returncode == 1
    assert done.stderr == "preimage: interrupted; what was finished is written\n"
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "out/result.json").read_text())
    assert document["interrupted"] is True
    assert len(document["trace"]) == 2
    assert all((tmp_path / "out" / one["file"]).is_file() for one in document["images"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{photo}", "--at", "9"], ["no tap '9'"]),
        (["{photo}", "--at", "3", "--recipe", "elastik"], ["no recipe 'elastik'", "did you mean elastic?"]),
        (["gone.png", "--at", "3"], ["there is no image file 'gone.png'"]),
        (["{photo}", "gone.png", "--at", "3"], ["there is no image file 'gone.png'"]),
        (["{tiny}", "--at", "3"], ["is no image that can be read"]),
        (["{photo}", "--at", "3", "--distance", "l3"], ["l2, l2-root, l1", "'l3'"]),
        (["{photo}", "--at", "3", "--start", "noisy"], ["there is no image file 'noisy'"]),
        (["{photo}", "--at", "3", "--check", "resnet"], ["unknown network 'resnet'"]),
        (["{photo}", "--at", "3", "--size", "0"], ["--size"]),
        (["{photo}", "--at", "3", "--size", "4", "--recipe", "fluid"], ["wider than the picture, 4 x 4"]),
        (["{photo}", "--at", "3", "--steps", "0"], ["--steps"]),
        (["{photo}"], ["Missing option", "--at"]),
        (["--at", "3"], ["Missing argument", "PHOTO"]),
    ],
)
def test_a_wrong_request_gets_one_sentence(
    preimage: Run, tiny: str, photos: list[Path], tmp_path: Path, words: list[str], says: list[str]
) -> None:
    done = preimage("invert", f"{tiny}:net", *(word.format(photo=photos[0], tiny=tiny) for word in words), "-o", "out")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    for part in says:
        assert part in done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_judge_that_cannot_judge_costs_no_pictures(
    preimage: Run, tiny: str, judges: str, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either nothing was made yet, or what was made is written."""
    made: list[object] = []
    real = pi.invert
    monkeypatch.setattr(pi, "invert", lambda *a, **k: made.append(real(*a, **k)) or made[-1])
    done = preimage(*invert(tiny, photos[0], "--at", "3", "--check", f"{judges}:one_answer"))
    assert done.returncode == 2
    assert "does not classify" in done.stderr
    assert not made or (tmp_path / "out/result.json").is_file()


@pytest.mark.parametrize("verb", ["maximize", "invert"])
def test_recipes_of_each_verb_are_listed(preimage: Run, verb: str) -> None:
    table = pi.recipes(verb)  # type: ignore[arg-type]
    documents = json.loads(preimage("recipes", "--for", verb, "--json").stdout)
    assert documents == [recipe.describe() for recipe in table.values()]
    printed = preimage("recipes", "--for", verb)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert [line.split()[0] for line in printed.stdout.splitlines()] == list(table)
    if verb == "maximize":
        assert preimage("recipes").stdout == printed.stdout


def test_recipes_of_a_verb_that_is_none(preimage: Run) -> None:
    done = preimage("recipes", "--for", "nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "preimage: there are recipes for maximize and invert, not for 'nonsense'\n"


def test_a_photo_comes_back_on_the_command_line(preimage: Run, tiny: str, tmp_path: Path) -> None:
    """Of a smooth photo, with the default recipe at its full length, the first layer gives the most part back."""
    rows, columns = torch.meshgrid(torch.linspace(0, 3, 32), torch.linspace(0, 3, 32), indexing="ij")
    smooth = torch.stack([rows.sin(), columns.cos(), (rows + columns).sin()], 2) / 2.5 + 0.5
    Image.fromarray((smooth * 255).byte().numpy()).save(tmp_path / "smooth.png")
    words = ("invert", f"{tiny}:net", "smooth.png", "--at", "0", "-o", "out", "--json")
    (said,) = json.loads(preimage(*words).stdout)["images"]
    assert said["feature_error"] < 0.05
