"""What a verb returns: its files, its JSON, and what it shows in a notebook."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from preimage import RequestError, Result
from preimage.images import read_image


def result(objectives: list[str], channels: int = 3, **changes: Any) -> Result:
    count = len(objectives)
    generator = torch.Generator().manual_seed(0)
    made: dict[str, Any] = {
        "images": torch.rand((count, channels, 5, 6), generator=generator),
        "scores": torch.arange(count) + 0.25,
        "trace": torch.rand((4, count), generator=generator),
        "objectives": objectives,
        "settings": {"verb": "maximize", "seed": 3},
    }
    return Result(**(made | changes))


def strict(text: str) -> Any:
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("channels", [1, 3])
def test_saved_pngs_are_the_images_and_the_json_names_them(tmp_path: Path, channels: int) -> None:
    made = result(["layer3.2:17", "class:281 (tabby, tabby cat)", "layer3.2:17"], channels)
    folder = made.save(tmp_path / "new" / "folder")
    said = strict((folder / "result.json").read_text())
    names = [one["file"] for one in said["images"]]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "result.json"])
    for image, name in zip(made.images, names, strict=True):
        assert (read_image(folder / name, channels) - image).abs().max() <= 0.5 / 255 + 1e-6
    assert [one["objective"] for one in said["images"]] == made.objectives
    assert [one["score"] for one in said["images"]] == made.scores.tolist()
    assert said["verb"] == "maximize" and said["seed"] == 3 and said["interrupted"] is False
    assert said["torch"] == torch.__version__
    np.testing.assert_allclose(said["trace"], made.trace.numpy(), rtol=1e-5)


def test_channels_that_no_picture_has_are_laid_side_by_side(tmp_path: Path) -> None:
    made = result(["a:1"], 5)
    made.save(tmp_path)
    picture = np.array(Image.open(tmp_path / made.file_names()[0])) / 255
    assert np.abs(picture - torch.cat(list(made.images[0]), dim=1).numpy()).max() <= 0.5 / 255 + 1e-6


def test_snapshots_are_saved_beside_their_images(tmp_path: Path) -> None:
    steps = [(n, torch.full((2, 3, 5, 6), n / 10)) for n in (2, 4)]
    made = result(["a:1", "b:2"], snapshots=steps)
    made.save(tmp_path)
    for name in made.file_names():
        for n in (2, 4):
            kept = read_image(tmp_path / f"{Path(name).stem}-step{n}.png")
            assert (kept - n / 10).abs().max() <= 0.5 / 255 + 1e-6
    assert len(list(tmp_path.iterdir())) == 2 + 4 + 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_was_not_reached_is_null(tmp_path: Path, value: float) -> None:
    trace = torch.tensor([[1.0, 2.0], [3.0, value]])
    made = result(["a:1", "a:2"], trace=trace, interrupted=True)
    said = strict((made.save(tmp_path) / "result.json").read_text())
    assert said["trace"] == [[1.0, 2.0], [3.0, None]]
    assert said["interrupted"] is True


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_null_too(tmp_path: Path, value: float) -> None:
    made = result(["a:1", "a:2"], scores=torch.tensor([1.0, value]))
    said = strict((made.save(tmp_path) / "result.json").read_text())
    assert [one["score"] for one in said["images"]] == [1.0, None]


def test_no_trace_at_all_is_saved(tmp_path: Path) -> None:
    said = strict((result(["a:1"], trace=torch.empty(0, 1)).save(tmp_path) / "result.json").read_text())
    assert said["trace"] == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=120), min_size=1, max_size=12))
def test_file_names_are_safe_and_all_different(objectives: list[str]) -> None:
    names = result(objectives).file_names()
    assert len({name.casefold() for name in names}) == len(objectives)
    assert names == sorted(names)
    for name in names:
        assert name.isascii() and name.endswith(".png") and len(name) < 128
        assert not set(name) & set('/\\:*?"<>| \n\0') and not name.startswith((".", "-"))


@pytest.mark.parametrize("objective", ["../../etc/passwd", "/tmp/x", "a\0b", "класс:1", "...", "", "x" * 3000])
def test_odd_objectives_are_saved_within_the_folder(tmp_path: Path, objective: str) -> None:
    folder = tmp_path / "out"
    result([objective]).save(folder)
    assert len(list(folder.iterdir())) == 2
    assert list(tmp_path.iterdir()) == [folder]
    assert strict((folder / "result.json").read_text(encoding="utf-8"))["images"][0]["objective"] == objective


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("I am no folder")
    for path in (tmp_path / "file", str(tmp_path / "file" / "below")):
        with pytest.raises(RequestError, match="cannot write to the folder"):
            result(["a:1"]).save(path)
    assert (tmp_path / "file").read_text() == "I am no folder"


def test_a_failure_while_saving_leaves_no_partial_file(tmp_path: Path) -> None:
    made = result(["a:1", "a:2"], settings={"not": {1, 2}})  # a set is no JSON
    with pytest.raises(TypeError):
        made.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == made.file_names()


def test_saving_again_replaces_the_files(tmp_path: Path) -> None:
    result(["a:1"]).save(tmp_path)
    second = result(["a:1"], images=torch.zeros(1, 3, 2, 2))
    second.save(tmp_path)
    assert read_image(tmp_path / second.file_names()[0]).shape == (3, 2, 2)
    assert len(list(tmp_path.iterdir())) == 2


def test_it_shows_itself() -> None:
    made = result(["layer3.2:17", "<script>&"])
    assert repr(made) == "Result(2 images of 5 x 6: layer3.2:17, <script>&)"
    page = made._repr_html_()
    assert page.count("<img ") == 2
    assert page.count("data:image/png;base64,") == 2
    assert "<script>" not in page and "&lt;script&gt;&amp;" in page
    assert repr(result([f"a:{i}" for i in range(9)])).endswith("a:0, a:1, a:2, a:3, ...)")
