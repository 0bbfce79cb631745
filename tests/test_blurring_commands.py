"""The recipes of paper 0, asked for on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command import Run
from preimage.recipes import find_recipe


def made(preimage: Run, tiny: str, *words: str) -> dict[str, Any]:
    done = preimage("maximize", f"{tiny}:net", *words, "-o", "out", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_size_and_window_as_options(preimage: Run, tiny: str, tmp_path: Path) -> None:
    said = made(preimage, tiny, "class:cat", "--recipe", "jitter", "--steps", "4", "--size", "50", "--window", "24")
    assert (said["size"], said["window"]) == ([50, 50], [24, 24])
    with Image.open(tmp_path / "out" / said["images"][0]["file"]) as picture:
        assert picture.size == (50, 50)


def test_receptive_field_as_an_option(preimage: Run, tiny: str, tmp_path: Path) -> None:
    words = ("3:1", "0:2", "--recipe", "unconstrained", "--steps", "4", "--size", "receptive-field")
    said = made(preimage, tiny, *words)
    assert said["size"] == [12, 12]
    for image in said["images"]:
        with Image.open(tmp_path / "out" / image["file"]) as picture:
            assert picture.size == (12, 12)


def test_auto_as_an_option_says_what_was_found(preimage: Run, tiny: str) -> None:
    # (from seed 0 the pictures of 3:1 are alike, and as good, at all large step sizes: there it is refused)
    words = ("3:1", "class:dog", "--recipe", "jitter", "--steps", "60", "--optimizer", "auto", "--seed", "2")
    said = made(preimage, tiny, *words)
    assert [one["objective"] for one in said["step_sizes"]] == ["3:1", "class:1 (dog)"]
    done = preimage("maximize", f"{tiny}:net", *words, "-o", "out")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr, len(lines)) == (0, "", 4)
    for line, one in zip(lines, said["step_sizes"], strict=False):
        assert line == one["says"]
        assert f"{one['factor']:g} times the recipe's step size" in line


def test_weight_decay_and_start_as_options(preimage: Run, tiny: str, tmp_path: Path) -> None:
    Image.new("RGB", (60, 60), (230, 20, 20)).save(tmp_path / "red.png")
    words = ("3:1", "--recipe", "jitter", "--steps", "4")
    said = made(preimage, tiny, *words, "--weight-decay", "0.05", "--start", "red.png")
    assert said["recipe"]["stages"][0]["pull"] == 0.05
    assert said["recipe"]["stages"][0]["denoiser"] == "Grey()"
    with Image.open(tmp_path / "out" / said["images"][0]["file"]) as picture:
        red, green, blue = np.asarray(picture.convert("RGB")).reshape(-1, 3).mean(0) / 255 - 0.5
    shrunk = 0.95**4
    assert red == pytest.approx(shrunk * (230 / 255 - 0.5), abs=0.03)
    assert green == pytest.approx(shrunk * (20 / 255 - 0.5), abs=0.03)
    assert blue == pytest.approx(shrunk * (20 / 255 - 0.5), abs=0.03)


def test_the_recipes_are_listed_as_json(preimage: Run) -> None:
    said = {recipe["name"]: recipe for recipe in json.loads(preimage("recipes", "--json").stdout)}
    for name in ("unconstrained", "jitter", "jitter-resize", "jitter-resize-nearest", "blur-deblur", "blur"):
        assert "paper 0" in said[name]["source"]
        assert said[name]["stages"][0]["steps"] == find_recipe(name).stages[0].steps


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--recipe", "jitter", "--size", "20"], ["window of 32 x 32", "canvas of 20 x 20"]),
        (["--recipe", "jitter", "--size", "huge"], ["a size is one side", "not huge"]),
        (["--recipe", "jitter", "--size", "0"], ["a size is one side", "not 0"]),
        (["--recipe", "jitter", "--size=-8"], ["a size is one side", "not -8"]),
        (["--recipe", "jitter", "--window", "0"], ["--window"]),
        (["--recipe", "jitter", "--window", "wide"], ["--window"]),
        (["--recipe", "plain", "--size", "32", "--window", "16"], ["shows the network the whole picture"]),
        (["--recipe", "blur-deblur", "--steps", "3"], ["deblurring", "in 3 steps it never happens"]),
        (["--recipe", "plain", "--optimizer", "auto"], ["LBFGS", "by itself"]),
        (["--recipe", "jitter", "--optimizer", "adam"], ["'auto' or an Optimizer, not 'adam'"]),
        (["--recipe", "jitter", "--weight-decay", "3"], ["from 0 to 1, not 3"]),
        (["--recipe", "jitter", "--weight-decay", "some"], ["--weight-decay"]),
        (["--recipe", "jitter", "--start", "gone.png"], ["no image file 'gone.png'"]),
        (["--recipe", "jitter", "--start", "{tiny}"], ["no image that can be read"]),
    ],
)
def test_a_wrong_option_gets_one_sentence_and_nothing_is_written(
    preimage: Run, tiny: str, tmp_path: Path, words: list[str], says: list[str]
) -> None:
    done = preimage("maximize", f"{tiny}:net", "3:1", "-o", "out", *(word.format(tiny=tiny) for word in words))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    for part in says:
        assert part in done.stderr
    assert not list((tmp_path / "out").glob("**/*"))
