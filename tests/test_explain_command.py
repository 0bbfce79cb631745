"""`preimage explain` and `preimage methods`: what they print and write, and one sentence for wrong requests."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

import preimage as pi
from command import Run
from preimage.errors import RequestError
from preimage.explain import Found, Mask, Method, Question

# Not the function of the same name that the package shows.
registry = importlib.import_module("preimage.explain.methods")

_NETWORKS = """
import torch
from torch import nn

def faint():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    module[4].bias.data = torch.tensor([0.0, 1.0, -20.0])
    module.input_size = (32, 32)
    module.labels = ["cat", "dog", "unicorn"]
    return module

class Impatient(nn.Module):
    "Ctrl-C in the fifth step of a mask, once."

    input_size = (32, 32)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.steps = 0

    def forward(self, images):
        self.steps += torch.is_grad_enabled()
        if self.steps == 5:
            self.steps += 1
            raise KeyboardInterrupt
        return self.conv(images).mean((2, 3))

impatient = Impatient
"""


@pytest.fixture
def networks(tmp_path: Path) -> str:
    path = tmp_path / "networks.py"
    path.write_text(_NETWORKS, encoding="utf-8")
    return str(path)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Two files of different sizes and modes."""
    noise = np.random.default_rng(0).integers(0, 256, (36, 48, 3), dtype=np.uint8)
    paths = [tmp_path / "a cat.png", tmp_path / "b.jpg"]
    Image.fromarray(noise).save(paths[0])
    Image.fromarray(noise[:, :, 0]).resize((50, 60)).save(paths[1])
    return paths


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of few steps."""
    few = tuple(type(one)(iterations=4) if isinstance(one, Mask) else one for one in registry._ALL)
    monkeypatch.setattr(registry, "_ALL", few)


@pytest.mark.usefixtures("short")
def test_it_writes_pictures_heat_maps_masks_and_every_setting(
    preimage: Run, tiny: str, photos: list[Path], tmp_path: Path
) -> None:
    words = ("explain", f"{tiny}:net", *photos, "--class", "dog", "--class", "3:5", "-o", "out", "--json")
    options = ("--method", "mask", "--method", "mask-preserve", "--seed", "3", "--batch-size", "2")
    done = preimage(*words, *options)
    assert done.returncode == 0
    document = json.loads(done.stdout, parse_constant=pytest.fail)
    assert len(done.stderr.splitlines()) == sum(len(one["notes"]) for one in document["explanations"])
    assert document == json.loads((tmp_path / "out/result.json").read_text())
    assert (document["verb"], document["model"], document["seed"]) == ("explain", f"{tiny}:net", 3)
    assert (document["size"], document["batch_size"], document["interrupted"]) == ([32, 32], 2, False)
    assert document["photos"] == [str(path) for path in photos]
    assert [one["name"] for one in document["methods"]] == ["mask", "mask-preserve"]
    assert [(one["photo"], one["objective"], one["method"]) for one in document["explanations"]] == [
        (photo, objective, method)
        for photo in ("a cat", "b")
        for objective in ("prob:1 (dog)", "3:5")
        for method in ("mask", "mask-preserve")
    ]
    for one in document["explanations"]:
        assert {"photo", "masked", "perturbed"} <= set(one["scores"])
        for key in ("file", "photo_file", "mask_file"):
            with Image.open(tmp_path / "out" / one[key]) as picture:
                assert picture.size == (32, 32)
        assert np.load(tmp_path / "out" / one["heatmap_file"]).shape == (32, 32)
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.width > 3 * 192
        assert sheet.height > 4 * 192
    assert json.loads(preimage(*words, *options).stdout) == document


@pytest.mark.usefixtures("short")
def test_it_is_what_the_function_finds(preimage: Run, tiny: str, photos: list[Path], tmp_path: Path) -> None:
    """Without --class, each photo's strongest class; without --method, the mask."""
    done = preimage("explain", f"{tiny}:net", *photos, "-o", "out", "--json")
    document = json.loads(done.stdout)
    made = pi.explain(pi.load(f"{tiny}:net"), list(photos))
    assert [(one.objective, one.method) for one in made] == [
        (one["objective"], one["method"]) for one in document["explanations"]
    ]
    for one, said in zip(made, document["explanations"], strict=True):
        np.testing.assert_array_equal(np.load(tmp_path / "out" / said["heatmap_file"]), one.heatmap.numpy())


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("asked", "objective"),
    [
        ("dog", "prob:1 (dog)"),
        ("1", "prob:1 (dog)"),
        ("class:dog", "prob:1 (dog)"),
        ("logprob:1", "logprob:1 (dog)"),
        ("3:5", "3:5"),
        ("after:3:5@1,2", "after:3:5@1,2"),
    ],
)
def test_a_class_is_a_name_a_number_or_any_objective(
    preimage: Run, tiny: str, photos: list[Path], asked: str, objective: str
) -> None:
    done = preimage("explain", f"{tiny}:net", photos[0], "--class", asked, "-o", "out", "--json")
    (said,) = json.loads(done.stdout)["explanations"]
    assert said["objective"] == objective


@pytest.mark.usefixtures("short")
def test_several_classes_at_once_are_a_sum(preimage: Run, tiny: str, photos: list[Path]) -> None:
    done = preimage("explain", f"{tiny}:net", photos[0], "--class", "top:3", "-o", "out", "--json")
    (said,) = json.loads(done.stdout)["explanations"]
    assert said["objective"].count("prob:") == 3
    assert 0.5 < said["scores"]["photo"] < 1


@pytest.mark.usefixtures("short")
def test_it_prints_a_line_for_each_explanation(preimage: Run, tiny: str, photos: list[Path], tmp_path: Path) -> None:
    done = preimage("explain", f"{tiny}:net", *photos, "--class", "cat", "--method", "mask-both", "-o", "out")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line, name in zip(lines, ("a cat", "b"), strict=True):
        words = [word.strip() for word in line.split("  ") if word.strip()]
        assert words[:3] == [name, "prob:0 (cat)", "mask-both"]
        for said in ("photo 0.", "kept 0.", "deleted 0.", "perturbed 0.", "% of the photo"):
            assert said in words[3]
        assert (tmp_path / words[4]).is_file()


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_what_one_should_know_is_said_beside(
    preimage: Run, tiny: str, photos: list[Path], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """A mask whose smallness costs more than any answer is worth ends no better than none, and says so."""
    monkeypatch.setattr(registry, "_ALL", (Mask(iterations=2, l1=1e3, start="half"),))
    done = preimage("explain", f"{tiny}:net", photos[0], "--class", "cat", "-o", "out", *words)
    assert done.returncode == 0
    notes = done.stderr.splitlines()
    assert notes
    assert all(line.startswith("preimage: a cat, prob:0 (cat), mask: ") for line in notes)
    assert notes[-1].endswith("no mask was found that does better than none: do not read it")
    if words:
        (said,) = json.loads(done.stdout)["explanations"]
        assert [line.split("mask: ", 1)[1] for line in notes] == said["notes"]
    else:
        assert len(done.stdout.splitlines()) == 1


@pytest.mark.usefixtures("short")
def test_a_small_photo_is_enlarged_if_asked(preimage: Run, tiny: str, photos: list[Path], tmp_path: Path) -> None:
    words = ("explain", f"{tiny}:net", photos[0], "--size", "40", "-o", "out")
    done = preimage(*words)
    assert done.returncode == 2
    assert done.stderr == (
        "preimage: a cat has 48 x 36 pixels, fewer than the 40 x 40 that net is to see; enlarge=True (--enlarge) "
        "resamples it, size= (--size) shows the network less\n"
    )
    assert not list((tmp_path / "out").iterdir())
    document = json.loads(preimage(*words, "--enlarge", "--json").stdout)
    assert document["size"] == [40, 40]
    with Image.open(tmp_path / "out" / document["explanations"][0]["file"]) as picture:
        assert picture.size == (40, 40)


@pytest.mark.usefixtures("short")
def test_a_faint_class_is_explained_if_asked(preimage: Run, networks: str, photos: list[Path]) -> None:
    words = ("explain", f"{networks}:faint", photos[0], "--class", "unicorn", "-o", "out")
    done = preimage(*words)
    assert done.returncode == 2
    for said in ("class:2 (unicorn) a probability of", "e-", "a cat", "class:1 (dog)", "--faint"):
        assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert preimage(*words, "--faint").returncode == 0


def test_ctrl_c_writes_what_was_reached(preimage: Run, networks: str, photos: list[Path], tmp_path: Path) -> None:
    methods = ("--method", "mask", "--method", "mask-preserve")
    done = preimage("explain", f"{networks}:impatient", photos[0], "--class", "1", *methods, "-o", "out", "--json")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "preimage: interrupted; what was finished is written"
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "out/result.json").read_text())
    assert document["interrupted"] is True
    (one,) = document["explanations"]
    assert (one["method"], len(one["trace"])) == ("mask", 4)
    assert all((tmp_path / "out" / one[key]).is_file() for key in ("file", "heatmap_file", "mask_file", "photo_file"))
    assert (tmp_path / "out/sheet.png").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{photo}", "--method", "maks"], ["there is no method 'maks'", "the nearest are mask"]),
        (["{photo}", "--class", "dgo"], ["net has no class 'dgo'", "class:1 (dog)"]),
        (["{photo}", "--class", "crane"], ["class 'crane' is ambiguous"]),
        (["{photo}", "--class", "4"], ["classes 0 to 3, not 4"]),
        (["{photo}", "--class", ""], ["the number or name of a class"]),
        (["{photo}", "--class", "top:9"], ["top:K", "1 to 4", "'top:9'"]),
        (["{photo}", "--class", "9:1"], ["no tap '9'"]),
        (["{photo}", "--class", "3:99"], ["'3' has channels 0 to 11, not 99"]),
        (["gone.png"], ["there is no image file 'gone.png'"]),
        (["{photo}", "gone.png"], ["there is no image file 'gone.png'"]),
        (["{tiny}"], ["is no image that can be read"]),
        (["{photo}", "--size", "0"], ["--size"]),
        (["{photo}", "--batch-size", "0"], ["--batch-size"]),
        (["{photo}", "--seed", "-1"], ["a seed is a whole number"]),
        ([], ["Missing argument", "PHOTO"]),
    ],
)
def test_a_wrong_request_gets_one_sentence(
    preimage: Run, tiny: str, photos: list[Path], tmp_path: Path, words: list[str], says: list[str]
) -> None:
    done = preimage("explain", f"{tiny}:net", *(word.format(photo=photos[0], tiny=tiny) for word in words), "-o", "out")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    for part in says:
        assert part in done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_network_without_class_names_takes_numbers(preimage: Run, tiny: str, photos: list[Path]) -> None:
    done = preimage("explain", f"{tiny}:fixed", photos[0], "--class", "dog", "-o", "out")
    assert done.returncode == 2
    assert "comes without class names" in done.stderr


def test_methods_are_listed(preimage: Run) -> None:
    table = pi.methods()
    documents = json.loads(preimage("methods", "--json").stdout)
    assert [one["name"] for one in documents] == list(table)
    for said, one in zip(documents, table.values(), strict=True):
        assert said == {**one.describe(), "source": one.source, "says": one.says}
    printed = preimage("methods")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert [line.split()[0] for line in printed.stdout.splitlines()] == list(table)
    for line, one in zip(printed.stdout.splitlines(), table.values(), strict=True):
        assert one.source in line
        assert line.endswith(one.says)


class _Flat(Method):
    """Says that all is alike."""

    name: ClassVar[str] = "flat"
    source: ClassVar[str] = "a test"

    def explain(self, asked: Question) -> Found:
        return Found(asked.photos.mean(1), scores={"photo": asked.photos.mean((1, 2, 3))})

    def describe(self) -> dict[str, str]:
        return {"name": self.name}


class _Refuses(_Flat):
    """Has no rule for any network."""

    name: ClassVar[str] = "refuses"

    def explain(self, asked: Question) -> Found:
        raise RequestError("there is no rule for this network")


@pytest.mark.parametrize("words", [["all"], ["mask", "all", "flat"], ["flat", "mask"]])
def test_all_methods_at_once_each_once(
    preimage: Run, tiny: str, photos: list[Path], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(registry, "_ALL", (Mask(iterations=2), _Flat()))
    asked = [part for word in words for part in ("--method", word)]
    done = preimage("explain", f"{tiny}:net", photos[0], "--class", "0", *asked, "-o", "out", "--json")
    wanted = ["flat", "mask"] if words[0] == "flat" else ["mask", "flat"]
    document = json.loads(done.stdout)
    assert [one["method"] for one in document["explanations"]] == wanted
    assert ["mask_file" in one for one in document["explanations"]] == [name == "mask" for name in wanted]


def test_of_all_methods_one_that_refuses_the_network_does_not_cost_the_others(
    preimage: Run, tiny: str, photos: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who asks for all wants those that there are; with 15 of them that is minutes of work."""
    monkeypatch.setattr(registry, "_ALL", (_Flat(), _Refuses()))
    done = preimage("explain", f"{tiny}:net", photos[0], "--class", "0", "--method", "all", "-o", "out", "--json")
    assert done.returncode == 0
    assert [one["method"] for one in json.loads(done.stdout)["explanations"]] == ["flat"]
    assert "there is no rule for this network" in done.stderr
