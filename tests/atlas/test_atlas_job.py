"""An atlas: each unit once, the same bytes whatever happens, and what is said of a unit is so."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import preimage as pi
from full_disk import largest_file
from preimage import RequestError
from preimage.atlas import Batch, about, atlas, status, tunings, units_of, verify
from preimage.atlas.examples import Photos, crop_size, merged
from preimage.atlas.incoming import contributions, preceding, strongest
from preimage.atlas.making import embedded, embedding_tap
from preimage.atlas.parts import packed, unpacked
from preimage.atlas.plan import taps_of
from preimage.errors import WriteError
from preimage.images import as_image, centre_crop
from preimage.jobs import JobFolder
from preimage.optimization import Adam, scaled
from preimage.recipes import find_recipe
from small_photos import damage, photo

sys.path.insert(0, str(Path(__file__).parent))
from small_atlas import parts, places, small


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "atlas"


@pytest.fixture(scope="module")
def net(tiny: str) -> pi.Network:
    return pi.load(f"{tiny}:net")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(7):
        photo(folder / f"{i}.png", i, (40 + 7 * i, 90 - 8 * i))
    return folder


@pytest.fixture(scope="module")
def whole(tiny: str, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas that nothing happened to, which tests leave as it is."""
    folder = tmp_path_factory.mktemp("whole") / "atlas"
    made = small(f"{tiny}:net", folder, photos=photos, examples=3)
    assert (made.state, made.made, made.units, made.failures, made.broken) == ("finished", 12, 12, [], [])
    return folder


def units(folder: Path) -> list[tuple[Batch, int]]:
    return [(batch, i) for batch in units_of(folder) for i in range(len(batch.units))]


# What is made


def test_each_unit_is_there_once_as_maximize_makes_it(net: pi.Network, whole: Path) -> None:
    found = units(whole)
    objectives = [batch.units[i]["objective"] for batch, i in found]
    assert objectives == [f"0:{c}" for c in range(8)] + [f"7:{c}" for c in range(4)]
    for batch in units_of(whole):
        alone = pi.maximize(net, [one["objective"] for one in batch.units], steps=3, size=16, progress=False)
        assert np.array_equal(batch.images, (alone.images * 255).round().byte().numpy())
        assert [one["score"] for one in batch.units] == pytest.approx(alone.scores.tolist(), rel=1e-5)
        assert [one["trace"] for one in batch.units] == [pytest.approx(row, rel=1e-5) for row in alone.trace.T.tolist()]
        assert batch.settings["size"] == [16, 16] and batch.settings["steps"] == 3


def test_a_trace_has_sixty_scores_from_the_first_to_the_last(net: pi.Network, out: Path) -> None:
    small(net, out, at="7:0", steps=150)
    ((batch, _),) = units(out)
    trace = pi.maximize(net, "7:0", steps=150, size=16, progress=False).trace[:, 0].tolist()
    kept = batch.units[0]["trace"]
    assert len(kept) == 60
    assert (kept[0], kept[-1]) == (pytest.approx(trace[0], rel=1e-5), pytest.approx(trace[-1], rel=1e-5))


def test_low_units_are_as_large_as_what_they_see(net: pi.Network, out: Path) -> None:
    small(net, out, at=["0:0-1", "output:0"], size=None)
    low, high = units_of(out)
    sides = taps_of(about(out))[0].seen
    assert low.images.shape[2:] == sides and max(sides) < 32
    assert high.images.shape[2:] == (32, 32)
    assert [one["objective"] for one in low.units] == ["0:0@centre", "0:1@centre"]
    assert [one["objective"] for one in high.units] == ["class:0"]
    again = pi.maximize(net, "0:0@centre", recipe="unit", size="receptive-field", steps=3, progress=False)
    assert np.array_equal(low.images[0], (again.images[0] * 255).round().byte().numpy())
    assert (low.settings["recipe"], high.settings["recipe"]) == ("unit", "default")
    small(net, out.parent / "asked", at="0:0", size=None, recipe="fourier")
    (asked,) = units_of(out.parent / "asked")
    assert asked.settings["recipe"] == "fourier", "what was asked is what is taken"


def test_a_tap_has_one_step_size_by_three_of_its_units(net: pi.Network, out: Path) -> None:
    recipe = find_recipe(None).with_optimizer(Adam(0.002)).stretched(20)
    small(net, out, at=["7"], tune=True, steps=20, recipe=recipe)
    tuned = tunings(out)["7"]
    assert tuned["units"] == ["7:0", "7:1", "7:2"] == [unit for unit, _ in tuned["tried"]]
    assert tuned["cost"] > 3 and tuned["says"].startswith(f"{tuned['factor']:g} times the recipe's step size")
    assert tuned["factor"] > 4, "else this test says little: more are tried where the largest is the best"
    assert {batch.settings["factor"] for batch in units_of(out)} == {tuned["factor"]}
    stages = tuple(scaled(stage, (tuned["factor"],) * 2) for stage in recipe.stages)
    made = pi.maximize(net, ["7:0", "7:1"], recipe=replace(recipe, stages=stages), size=16, progress=False)
    first = next(units_of(out))
    assert [one["score"] for one in first.units] == pytest.approx(made.scores.tolist(), rel=1e-4)
    # What was tried is what `optimizer="auto"` tries.
    search = pi.maximize(net, "7:1", recipe=recipe, optimizer="auto", size=16, batch_size=2, progress=False)
    alone, here = search.settings["step_sizes"][0]["tried"], tuned["tried"][1][1]
    whole = [{factor: a for factor, a, _, ended in tried if ended == "last step"} for tried in (alone, here)]
    both = whole[0].keys() & whole[1].keys()
    assert both and all(whole[0][factor] == pytest.approx(whole[1][factor], rel=1e-4) for factor in both)


def test_a_tap_that_no_picture_moves_has_the_recipes_step_size(net: pi.Network, out: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 1))
    with torch.no_grad():
        module[0].bias.fill_(-100)
    made = small(pi.Network(module, input_size=16), out, at="2", tune=True)
    ((tap, says),) = made.notes
    assert tap == "2" and "no influence" in says
    assert tunings(out)["2"]["factor"] == 1 and made.made == 2 and not made.failures


def test_pictures_that_look_alike_to_the_network_are_near(net: pi.Network, whole: Path) -> None:
    tap = embedding_tap(net)
    assert tap == "4", "the last with positions; the mean over them is no more"
    noise = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = torch.from_numpy(embedded(net, noise, tap)).float()
    values = net.run(noise, [pi.Place(tap, True)])[pi.Place(tap, True)].detach().mean((2, 3))
    assert torch.allclose(found, values / values.norm(dim=1, keepdim=True), atol=1e-3)
    for batch in units_of(whole):
        assert np.linalg.norm(batch.embedding.astype(float), axis=1) == pytest.approx(1, abs=2e-3)


# Incoming channels


def test_behind_a_linear_layer_the_shares_are_its_terms(net: pi.Network) -> None:
    """The logit is its bias and what each channel gives; gradient times activation is just that."""
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    members = [pi.objectives.channel("7", c).bind(net) for c in (2, 0, 3)]
    assert preceding(net, "7", members, images[0]) == "6", "the flattened means"
    given_by = contributions(net, members, images, "6")
    means = net.run(images, [pi.Place("6", True)])[pi.Place("6", True)].detach()
    weight, bias = (getattr(net.module[7], name).detach() for name in ("weight", "bias"))
    assert torch.allclose(given_by, weight[[2, 0, 3]] * means, atol=1e-6)
    logits = net.run(images, ["7"])[pi.Place("7")].detach()
    scores = torch.stack([logits[i, c] for i, c in enumerate((2, 0, 3))])
    assert torch.allclose(given_by.sum(1) + bias[[2, 0, 3]], scores, atol=1e-5)
    for row, kept in zip(given_by, strongest(given_by, 4), strict=True):
        order = row.abs().argsort(descending=True).tolist()[:4]
        assert [index for index, _ in kept] == order
        assert [share for _, share in kept] == pytest.approx([float(row[i] / row.abs().sum()) for i in order])


def test_what_a_unit_is_made_from_are_the_channels_before_it_is_mixed(net: pi.Network, whole: Path) -> None:
    """Behind a normalisation and a ReLU stands the same unit: they are passed over. Nothing stands before the first."""
    noise = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    members = [pi.objectives.channel("4", c).bind(net) for c in range(4)]
    assert preceding(net, "4", members, noise) == "2"
    assert preceding(net, "0", [pi.objectives.channel("0", 1).bind(net)], noise) is None
    found = {batch.tap: [one["incoming"] for one in batch.units] for batch in units_of(whole)}
    assert all(one == [] for one in found["0"])
    for batch in units_of(whole):
        if batch.tap == "7":
            said = contributions(
                net,
                [pi.objectives.channel("7", one["channel"]).bind(net) for one in batch.units],
                pi.maximize(net, [one["objective"] for one in batch.units], steps=3, size=16, progress=False).images,
                "6",
            )
            for row, one in zip(strongest(said), batch.units, strict=True):
                assert [(each["tap"], each["channel"]) for each in one["incoming"]] == [
                    ("6", index) for index, _ in row
                ]
                assert [each["share"] for each in one["incoming"]] == pytest.approx([s for _, s in row], rel=1e-3)


# Strongest photos


def test_the_strongest_photos_are_those_with_the_highest_activations(
    net: pi.Network, whole: Path, photos: Path
) -> None:
    names = [f"{i}.png" for i in range(7)]
    images = torch.stack([centre_crop(as_image(photos / name), (32, 32)) for name in names])
    for batch, i in units(whole):
        unit = batch.units[i]
        values = net.run(images, [batch.tap])[pi.Place(batch.tap)].detach()[:, unit["channel"]].reshape(7, -1).amax(1)
        best = values.sort(descending=True).indices[:3].tolist()
        assert [one["photo"] for one in batch.examples[i]] == [names[k] for k in best]
        found = [one["activation"] for one in batch.examples[i]]
        assert found == pytest.approx([float(values[k]) for k in best], rel=1e-4)


def test_a_unit_sees_its_box_and_nothing_else(net: pi.Network, whole: Path, photos: Path) -> None:
    """In the photo as the network is shown it: other pixels do not matter, those of the box do."""
    checked = 0
    for batch, i in units(whole):
        if batch.tap != "0":  # it sees all that is shown: the middle of the photo
            for one in batch.examples[i]:
                assert one["photo_size"] == list(as_image(photos / one["photo"]).shape[1:])
                assert in_crop(one["box"], one["photo_size"]) == (0, 0, 32, 32)
            continue
        for one in batch.examples[i]:
            image = centre_crop(as_image(photos / one["photo"]), (32, 32))
            top, left, height, width = in_crop(one["box"], as_image(photos / one["photo"]).shape[1:])
            noise = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(3))
            outside, inside = noise.clone(), image.clone()
            rows, columns = slice(top, top + height), slice(left, left + width)
            outside[:, rows, columns] = image[:, rows, columns]
            inside[:, rows, columns] = noise[:, rows, columns]
            before, same, other = net.run(torch.stack([image, outside, inside]), ["0"])[pi.Place("0")].detach()[
                :, batch.units[i]["channel"]
            ]
            where = before.argmax()
            assert same.flatten()[where] == pytest.approx(float(before.flatten()[where]), abs=1e-5)
            assert abs(float(other.flatten()[where] - before.flatten()[where])) > 1e-3
            assert height <= 3 and width <= 3
            checked += 1
    assert checked == 8 * 3


def in_crop(box: tuple[float, ...], photo: torch.Size) -> tuple[int, int, int, int]:
    """A box in shares of a photo as pixels of what `centre_crop` makes of it at 32 x 32."""
    scale = 32 / min(photo)
    whole = [max(round(side * scale), 32) for side in photo]
    corner = [(side - 32) // 2 for side in whole]
    top, left = box[0] * whole[0] - corner[0], box[1] * whole[1] - corner[1]
    sides = round(top), round(left), round(box[2] * whole[0]), round(box[3] * whole[1])
    assert (top, left) == pytest.approx(sides[:2], abs=0.01)
    return sides


def test_a_crop_is_what_the_photo_has_there(tmp_path: Path, out: Path) -> None:
    """A photo of two colours, of which the left half answers: crops of a unit that sees 8 of 32 pixels are of it."""
    from PIL import Image

    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :16, 0], pixels[:, 16:, 2] = 255, 255
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos/halves.png")
    module = nn.Conv2d(3, 2, 8, stride=8)
    with torch.no_grad():
        module.weight.zero_()
        module.weight[0, 0], module.weight[1, 2] = 1, 1
    small(pi.Network(nn.Sequential(module), input_size=32), out, at="0", photos=tmp_path / "photos", size=8)
    ((red, _), (blue, _)) = units(out)
    assert red.crops is not None and blue.crops is not None
    for i, channel in ((0, 0), (1, 2)):
        assert red.examples[i][0]["box"] == [0, 0.5 * i, 0.25, 0.25], "the first of equal ones"
        crop = red.crops[i, 0]
        assert (crop[channel] == 255).all() and (np.delete(crop, channel, 0) == 0).all()
        assert (red.crops[i, 1:] == 128).all(), "there is one photo only"
    assert red.crops.shape[3:] == crop_size(taps_of(about(out))[0], (32, 32)) == (32, 32)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(-4, 4), min_size=1, max_size=6), min_size=1, max_size=5), st.integers(1, 4))
def test_the_strongest_of_all_chunks_are_the_strongest_of_the_whole(values: list[list[int]], count: int) -> None:
    """Of equal ones the first photo counts, however photos fall into chunks."""
    flat = [(-value, k) for k, value in enumerate(value for chunk in values for value in chunk)]
    expected = [k for _, k in sorted(flat)[:count]]
    chunks, number = [], 0
    for chunk in values:
        order = sorted(range(len(chunk)), key=lambda i, chunk=chunk: (-chunk[i], i))[:count]
        pad = count - len(order)
        chunks.append(
            {
                "activation-0": np.array([[chunk[i] for i in order] + [-np.inf] * pad], np.float32),
                "photo-0": np.array([[number + i for i in order] + [-1] * pad], np.int32),
                "position-0": np.zeros((1, count), np.int32),
            }
        )
        number += len(chunk)
    found = merged(iter(chunks), {0: 1}, count)[0].photos[0].tolist()
    assert found == expected + [-1] * (count - len(expected))


def test_photos_that_are_broken_are_listed_and_the_others_shown(net: pi.Network, out: Path, tmp_path: Path) -> None:
    for i in range(3):
        photo(tmp_path / f"photos/{i}.png", i)
    damage(tmp_path / "photos/1.png")
    (tmp_path / "photos/none.jpg").write_text("no picture")
    made = small(net, out, at="7", photos=tmp_path / "photos")
    assert [name for name, _ in made.broken] == ["1.png", "none.jpg"]
    assert all(str(tmp_path / "photos" / name) in why for name, why in made.broken)
    assert {one["photo"] for batch, i in units(out) for one in batch.examples[i]} == {"0.png", "2.png"}
    assert made.state == "finished" and verify(out).whole
    assert status(out).broken == made.broken


def test_a_folder_without_photos_is_refused_before_anything_is_made(net: pi.Network, out: Path, tmp_path: Path) -> None:
    for folder, says in ((tmp_path / "no", "is not a folder"), (tmp_path, "holds no image files")):
        with pytest.raises(RequestError, match=says):
            small(net, out, photos=folder)
    assert not out.exists()


# Failures


def test_a_unit_without_a_finite_score_is_listed_and_the_rest_goes_on(net: pi.Network, out: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 7, 3), nn.ReLU())
    with torch.no_grad():
        module[0].bias[2], module[0].bias[5] = torch.nan, torch.inf
    broken = pi.Network(module, input_size=16)
    made = small(broken, out, at="0", batch_size=4)
    assert [objective for objective, _ in made.failures] == ["0:2", "0:5"]
    assert all("at step 0" in why for _, why in made.failures)
    assert (made.state, made.made) == ("finished", 7)
    for batch, i in units(out):
        unit = batch.units[i]
        if unit["channel"] in (2, 5):
            assert unit["score"] is None and unit["failure"] and unit["trace"] == [] and unit["incoming"] == []
            assert (batch.images[i] == 128).all() and (batch.embedding[i] == 0).all()
        else:
            alone = pi.maximize(broken, unit["objective"], steps=3, size=16, progress=False)
            assert unit["failure"] is None and unit["score"] == pytest.approx(float(alone.scores[0]), rel=1e-4)
            assert np.abs(batch.images[i] - (alone.images[0] * 255).numpy()).max() <= 1
    assert status(out).failures == made.failures and verify(out).whole


def test_a_network_without_any_finite_score_is_said_unit_by_unit(tiny: str, out: Path) -> None:
    made = small(f"{tiny}:nan", out, at="7")
    assert len(made.failures) == made.made == 4


def test_an_audit_of_each_unit_or_why_there_is_none(net: pi.Network, out: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 36, 3))
    smooth = pi.Network(module, input_size=8)
    made = small(smooth, out, at=["0", "3"], size=None, recipe="plain", audit=True, batch_size=3, steps=6)
    assert not made.failures
    told = [batch.units[i]["audit"] for batch, i in units(out)]
    assert all(one is not None and ("refused" in one) != ("says" in one) for one in told)
    assert any(
        "says" in one and one["says"].startswith("asked for ") and 0 <= one["cosine"] <= 1 for one in told if one
    )
    (first, *_) = units_of(out)
    made_alone = pi.maximize(
        smooth, [one["objective"] for one in first.units], recipe="plain", steps=6, size=first.settings["seen"][0],
        progress=False,
    )  # fmt: skip
    expected = [one.as_dict()["says"] for one in made_alone.audit()]
    assert [one["audit"]["says"] for one in first.units if one["audit"]] == expected


# The folder


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"steps": 4}, "steps is 2, not 3"),
        ({"seed": 1}, "seed is 0, not 1"),
        ({"recipe": "fourier"}, 'recipe.name is "default", not "fourier"'),
        ({"at": ["0"]}, "taps is"),
        ({"at": ["7", "0"]}, "taps[0].tap is"),
        ({"at": ["0:0-6", "7"]}, "taps[0].channels is [0, 7], not [0, 6]"),
        ({"batch_size": 3}, "taps[0].batch is 2, not 3"),
        ({"size": 20}, "taps[0].seen is [16, 16], not [20, 20]"),
        ({"photos": None}, "photos is"),
        ({"examples": 4}, "photos.each is 3, not 4"),
        ({"audit": True}, "audit is false, not true"),
        ({"tune": True}, "tune is false, not true"),
        ({"threads": 2}, "threads is 1, not 2"),
    ],
)
def test_other_settings_are_refused_and_nothing_is_touched(
    tiny: str, whole: Path, photos: Path, asked: dict[str, Any], says: str
) -> None:
    before = parts(whole), places(whole), (whole / "job.json").read_bytes()
    with pytest.raises(RequestError, match=re.escape(says)):
        small(f"{tiny}:net", whole, **{"photos": photos, "examples": 3, **asked})
    assert (parts(whole), places(whole), (whole / "job.json").read_bytes()) == before


def test_other_weights_and_other_photos_are_refused(
    tiny: str, net: pi.Network, whole: Path, photos: Path, tmp_path: Path
) -> None:
    module = pi.load(f"{tiny}:net").module
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] += 1e-6
    other = pi.Network(module, input_size=32, labels=net.labels, name=net.name)
    assert repr(other) == repr(net)
    with pytest.raises(RequestError, match="holds another job: its weights is"):
        small(other, whole, photos=photos, examples=3)
    shutil.copytree(photos, tmp_path / "copy")
    again = small(net, whole, photos=tmp_path / "copy", examples=3)  # the same photos, elsewhere
    assert again.state == "finished"
    photo(tmp_path / "copy/8.png", 8)
    with pytest.raises(RequestError, match=r"holds another job: its photos\.count is 7, not 8"):
        small(net, whole, photos=tmp_path / "copy", examples=3)


def test_the_folder_of_another_job_is_refused(net: pi.Network, out: Path) -> None:
    with JobFolder(out).opened({"verb": "evaluate", "photos": 3}):
        pass
    with pytest.raises(RequestError, match=f"'{out}' holds another job"):
        small(net, out)
    for ask in (status, verify, about, lambda folder: list(units_of(folder))):
        with pytest.raises(RequestError, match="another job, not an atlas"):
            ask(out)
        with pytest.raises(RequestError, match="there is no atlas in"):
            ask(out.parent / "nowhere")


def test_nothing_is_done_twice(tiny: str, whole: Path, photos: Path) -> None:
    before = places(whole)
    again = small(f"{tiny}:net", whole, photos=photos, examples=3)
    assert (again.state, again.made) == ("finished", 12)
    assert places(whole) == before


def test_what_is_missing_is_made_again_to_the_same_bytes(tiny: str, whole: Path, photos: Path, tmp_path: Path) -> None:
    """Whichever files are lost, the others stay as they are."""
    expected = parts(whole)
    names = sorted(expected)
    for lost in (names[::2], names[1::3], [name for name in names if name.startswith("tune")], names):
        out = tmp_path / f"{len(lost)}-{lost[0]}"
        shutil.copytree(whole, out)
        for name in lost:
            (out / "parts" / name).unlink()
        kept = places(out)
        assert [*verify(out).missing] and not verify(out).whole
        small(f"{tiny}:net", out, photos=photos, examples=3)
        assert parts(out) == expected
        assert {name: where for name, where in places(out).items() if name in kept} == kept
        assert verify(out).whole


def test_two_workers_write_the_same_bytes(tiny: str, whole: Path, photos: Path, out: Path) -> None:
    made = small(f"{tiny}:net", out, photos=photos, examples=3, workers=2)
    assert made.state == "finished"
    assert parts(out) == parts(whole)


def test_an_atlas_is_gone_on_with_as_many_threads_as_it_was_begun_with(net: pi.Network, out: Path) -> None:
    small(net, out, threads=None)
    assert about(out)["threads"] == torch.get_num_threads()
    (out / "parts/units-7-0001.safetensors").unlink()
    torch.set_num_threads(2)
    try:
        small(net, out, threads=None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert about(out)["threads"] == 1


def test_anywhere_that_fsspec_reaches(net: pi.Network, whole: Path, photos: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    url = "memory://atlas-test/a"
    made = small(net, url, photos=photos, examples=3)
    assert made.state == "finished"
    files = fsspec.filesystem("memory")
    found = {path.rpartition("/")[2]: files.cat_file(path) for path in files.ls("/atlas-test/a/parts", detail=False)}
    assert found == parts(whole)
    assert [batch.tap for batch in units_of(url)] == ["0"] * 4 + ["7"] * 2
    assert verify(url).whole and status(url).made == 12
    files.rm("/atlas-test/a/parts/units-0-0001.safetensors")
    assert verify(url).missing == ["units-0-0001.safetensors"]
    small(net, url, photos=photos, examples=3)
    assert files.cat_file("/atlas-test/a/parts/units-0-0001.safetensors") == parts(whole)["units-0-0001.safetensors"]


# Parts


arrays = st.dictionaries(
    st.text("abc", min_size=1),
    st.lists(st.integers(0, 255), max_size=20).map(lambda some: np.array(some, np.uint8)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(arrays, st.integers(0, 10**6), st.integers(1, 255), st.floats(allow_nan=False, allow_infinity=False))
def test_a_part_is_read_as_it_was_written_and_any_other_byte_is_noticed(
    given_arrays: dict[str, Any], where: int, change: int, value: float
) -> None:
    document = {"units": [{"score": value, "failure": None, "said": "ü"}]}
    content = packed(given_arrays, document)
    assert packed(dict(reversed(given_arrays.items())), document) == content
    found, said = unpacked(content, "a")
    assert said == document and found.keys() == given_arrays.keys()
    assert all(np.array_equal(found[name], array) for name, array in given_arrays.items())
    where %= len(content)
    changed = content[:where] + bytes([content[where] ^ change]) + content[where + 1 :]
    # (what is no error then is the same in another spelling, 1e5 and 1E5, say)
    with suppress(RequestError):
        again, told = unpacked(changed, "a")
        assert told == document and all(np.array_equal(again[name], array) for name, array in given_arrays.items())
    with pytest.raises(RequestError, match="'a' is damaged"):
        unpacked(content[:where], "a")


def test_a_part_that_is_damaged_is_named_and_made_again_when_it_is_deleted(
    net: pi.Network, whole: Path, out: Path, photos: Path
) -> None:
    shutil.copytree(whole, out)
    path = out / "parts/units-0-0002.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    (out / "parts/left-over").write_text("")
    found = verify(out)
    assert [name for name, _ in found.damaged] == [path.name] and not found.whole
    assert "delete it, and the same command makes it again" in found.damaged[0][1]
    assert found.strange == ["left-over"] and found.missing == []
    with pytest.raises(RequestError, match=re.escape(f"'{path}' is damaged")):
        list(units_of(out))
    path.unlink()
    small(net, out, photos=photos, examples=3)
    (out / "parts/left-over").unlink()
    assert verify(out).whole and parts(out) == parts(whole)


def test_a_batch_under_the_name_of_another_is_no_batch_of_the_plan(whole: Path, out: Path) -> None:
    shutil.copytree(whole, out)
    shutil.copy(out / "parts/units-0-0001.safetensors", out / "parts/units-0-0002.safetensors")
    assert [name for name, _ in verify(out).damaged] == ["units-0-0002.safetensors"]


# Whatever happens to the process


def test_a_full_disk_leaves_what_is_finished_and_the_same_call_goes_on(
    tiny: str, whole: Path, photos: Path, out: Path
) -> None:
    expected = parts(whole)
    examples = [len(content) for name, content in expected.items() if name.startswith("examples")]
    others = [len(content) for name, content in expected.items() if not name.startswith("examples")]
    assert max(others) < max(examples), "else nothing is finished before"
    with (
        largest_file(max(others) + 100),
        pytest.raises(WriteError, match=f"cannot write to the folder '{out}'.*goes on"),
    ):
        small(f"{tiny}:net", out, photos=photos, examples=3)
    kept = places(out)
    assert 0 < len(kept) < len(expected)
    assert {name: content for name, content in expected.items() if name in kept} == parts(out)
    assert status(out).state == "stopped"
    small(f"{tiny}:net", out, photos=photos, examples=3)
    assert parts(out) == expected
    assert {name: where for name, where in places(out).items() if name in kept} == kept


def test_too_little_space_is_said_before_anything_is_made(
    net: pi.Network, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 20_000})())
    with pytest.raises(RequestError, match=r"would take about .* where 20 kB are free"):
        small(net, out, say=said.append)
    assert not (out / "parts").exists()
    assert said and said[0].startswith("12 units in 6 batches; about ")
    monkeypatch.undo()
    small(net, out, say=said.append)
    taken = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    estimate = re.search(r"about ([\d.]+) kB", said[-1])
    assert estimate and 0.3 * taken < 1000 * float(estimate[1]) < 5 * taken


_KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import preimage as pi
sys.path[:0] = sys.argv[5:]
from small_atlas import parts, places, small

network, out, photos, pace = pi.load(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])
network.taps()

def work():
    made = small(network, out, photos=photos, examples=3)
    os._exit({"finished": 0, "interrupted": 3}[made.state])

def child():
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(9)
    return pid

drawn, before, said = random.Random(0), {}, {"changed": [], "grown": [], "ended": []}
for turn in range(25):
    known, pid, until = len(places(out)), child(), time.monotonic() + 20
    # Some before they have begun; most when they have just written something, or a little later.
    while turn % 5 and len(places(out)) == known and time.monotonic() < until and not os.waitid(
        os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT
    ):
        time.sleep(0.002)
    time.sleep(drawn.uniform(0.0, 1.5 * pace))
    os.kill(pid, signal.SIGINT if turn % 4 == 3 else signal.SIGKILL)
    said["ended"].append(os.waitpid(pid, 0)[1])
    now = places(out)
    said["changed"] += [name for name, known in before.items() if now.get(name) != known]
    said["grown"].append(len(now))
    before = now
    if said["ended"][-1] == 0:
        break
said["status"] = os.waitpid(child(), 0)[1]
now = places(out)
said["changed"] += [name for name, known in before.items() if now.get(name) != known]
print(json.dumps(said))
"""


def test_a_process_that_is_killed_at_any_moment_loses_nothing_and_does_nothing_twice(
    tiny: str, whole: Path, photos: Path, out: Path
) -> None:
    """SIGKILL, and Ctrl-C now and then, until one gets to the end: the bytes are those of a run left alone."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    # Seconds from file to file on this machine, so that a fast one is not done before it is killed.
    written = [ns for _, ns in places(whole).values()]
    pace = (max(written) - min(written)) / len(written) / 1e9
    words = [sys.executable, "-c", _KILLED, f"{tiny}:net", str(out), str(photos), str(pace), *paths]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["changed"] == []
    assert said["grown"] == sorted(said["grown"])
    assert signal.SIGKILL in said["ended"]
    assert len(set(said["grown"])) > 3, "killed too early or too late to say anything"
    assert said["status"] == 0
    assert parts(out) == parts(whole)
    assert verify(out).whole and status(out).state == "finished"


def test_an_atlas_that_was_killed_is_said_to_be(net: pi.Network, whole: Path, out: Path) -> None:
    shutil.copytree(whole, out)
    (out / "parts/units-7-0001.safetensors").unlink()
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    noted = json.loads((out / "progress.json").read_text())
    noted |= {"state": "working", "pid": int(gone.stdout), "made": 6, "seconds": 3.0}
    (out / "progress.json").write_text(json.dumps(noted))
    found = status(out)
    assert (found.state, found.made, found.units, found.rate, found.seconds_left) == ("killed", 10, 12, 2.0, 1.0)
    (out / "progress.json").write_text(json.dumps({**noted, "pid": os.getpid()}))
    assert status(out).state == "working"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"examples": 0}, "examples is at least 1"),
        ({"seed": -1}, "a seed is a whole number"),
        ({"workers": 0}, "workers and threads are at least 1"),
        ({"threads": 0}, "workers and threads are at least 1"),
        ({"steps": 0}, "at least one step"),
        ({"recipe": "nothing"}, "there is no recipe 'nothing'"),
        ({"ray": "localhost:1", "workers": 2}, "either workers"),
        ({"size": 0}, "whole pixels above zero"),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_folder_is_made(
    net: pi.Network, out: Path, asked: dict[str, Any], says: str
) -> None:
    with pytest.raises(RequestError, match=says):
        small(net, out, **asked)
    assert not out.exists()


def test_a_module_has_to_be_wrapped(out: Path) -> None:
    module: Any = nn.Conv2d(3, 2, 1)
    ask: Callable[..., Any] = atlas
    with pytest.raises(RequestError, match=r"wrap a module: pi\.Network"):
        ask(module, "output", out)


def test_the_same_photos_have_the_same_digest(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "copy")
    one, other = Photos.found(photos), Photos.found(tmp_path / "copy")
    assert (one.digest, one.names) == (other.digest, other.names) and one.folder != other.folder
    (tmp_path / "copy/3.png").write_bytes((tmp_path / "copy/3.png").read_bytes() + b"x")
    assert Photos.found(tmp_path / "copy").digest != one.digest
