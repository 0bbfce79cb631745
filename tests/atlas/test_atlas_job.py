"""An atlas: each unit once, and what is said of a unit is so."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import preimage as pi
from preimage import RequestError
from preimage.atlas import Batch, about, status, tunings, units_of, verify
from preimage.atlas.examples import crop_size, merged
from preimage.atlas.incoming import contributions, preceding, strongest
from preimage.atlas.making import embedded, embedding_tap
from preimage.atlas.plan import taps_of
from preimage.images import as_image, centre_crop
from preimage.optimization import Adam, scaled
from preimage.recipes import find_recipe
from small_photos import damage, photo

sys.path.insert(0, str(Path(__file__).parent))
from small_atlas import small


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
