"""An atlas of a trained network: what its pictures, photos and pages say of real units."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
import torch

import preimage as pi
from preimage.atlas import Batch, tunings, units_of, verify

pytestmark = pytest.mark.real
PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")


@pytest.fixture(scope="module")
def made(bundled: pi.Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight units of two layers, with four photos."""
    out = tmp_path_factory.mktemp("atlas")
    (out / "photos").mkdir()
    for name in PHOTOS:
        (out / "photos" / name).write_bytes((files("skimage") / "data" / name).read_bytes())
    taps = ["stage1:0-3", "stage2:0-3"]
    done = pi.atlas(bundled, taps, out / "atlas", steps=100, photos=out / "photos", examples=2, progress=False)
    assert (done.state, done.made, done.failures, done.broken, done.notes) == ("finished", 8, [], [], [])
    return out / "atlas"


@pytest.fixture(scope="module")
def batches(made: Path) -> list[Batch]:
    return list(units_of(made))


def test_every_unit_answers_its_own_picture_more_strongly_than_any_other(
    bundled: pi.Network, batches: list[Batch]
) -> None:
    """Any other unit's picture, and any photo."""
    for batch in batches:
        images = torch.from_numpy(batch.images).float() / 255
        place = pi.Place(batch.tap)
        maps = bundled.run(images, [place])[place]
        answers = maps[:, : len(images), (maps.shape[2] - 1) // 2, (maps.shape[3] - 1) // 2]
        assert answers.argmax(0).tolist() == list(range(len(images)))
        for unit, examples in zip(batch.units, batch.examples, strict=True):
            assert unit["score"] is not None and unit["score"] > examples[0]["activation"] >= examples[1]["activation"]


def test_low_units_are_as_small_as_what_they_see(batches: list[Batch]) -> None:
    low, high = batches
    assert low.images.shape[2:] == (8, 8) and high.images.shape[2:] == (24, 24)


def test_a_unit_is_made_from_the_layer_before(made: Path, batches: list[Batch]) -> None:
    found = tunings(made)
    assert found["stage1"]["incoming"] == "stem" and found["stage2"]["incoming"] == "stage1"
    for batch in batches:
        assert all(unit["incoming"] for unit in batch.units)


def test_all_is_whole_and_the_site_shows_it(made: Path) -> None:
    assert verify(made).whole
    index = (made / "site/data/index.js").read_text()
    assert json.dumps("stage2") in index and (made / "site/index.html").is_file()
    assert len(list((made / "site/pictures").iterdir())) == 8
