"""Scenes: that what is said of them is so, to the pixel; and the two networks that look at them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from scipy import stats
from torch import nn

import objects
import preimage as pi
import scenes
import train_scenes
from preimage.evaluation.data import open_data
from preimage.explain.layers import excitation_layer, grad_cam_layer
from preimage.explain.method import PUBLISHED_SIDE
from preimage.explain.soft_occlusion import VariableOcclusion
from preimage.objectives import EachItsOwn, label
from scenes import CLASSES, PART_CLASSES, SHARED, SIDE, Kind, Scene, SmallGoogLeNet, Source, scene

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
KINDS: tuple[Kind, ...] = ("scenes", "parts", "parts-swapped")


def made_up(seed: int = 0) -> Source:
    """Ellipses for garments, noise for photographs: nothing is fetched."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:28, :28] - 13.5

    def ellipse() -> NDArray[np.uint8]:
        high, wide = generator.uniform(4, 14, 2)
        inside = (rows / high) ** 2 + (columns / wide) ** 2 < 1
        return np.where(inside, generator.integers(30, 256, (28, 28)), 0).astype(np.uint8)

    photographs = [
        Image.fromarray(generator.integers(0, 256, (*size, 3), np.uint8)) for size in ((120, 160), (200, 90))
    ]
    return Source({name: np.stack([ellipse() for _ in range(5)]) for name in objects.FASHION}, photographs)


SOME = made_up()


@few
@given(seeds, st.integers(0, 99), st.sampled_from(KINDS))
def test_boxes_are_the_tightest_and_nothing_but_the_objects_is_on_the_canvas(seed: int, index: int, kind: Kind) -> None:
    made = scene(SOME, seed, index, kind)
    assert made.picture.shape == (SIDE, SIDE, 3)
    anything = np.zeros((SIDE, SIDE), bool)
    for thing in made.things:
        left, top, width, height = thing.box
        outside = thing.mask.copy()
        outside[top : top + height, left : left + width] = False
        assert not outside.any()
        inside = thing.mask[top : top + height, left : left + width]
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
        assert not (anything & thing.mask).any()
        anything |= thing.mask
    assert (made.picture[~anything] == made.canvas[~anything]).all()
    # Noise on noise: hardly any pixel of an object is as the canvas was.
    assert (made.picture[anything] != made.canvas[anything]).any(-1).mean() > 0.9


@few
@given(seeds, st.integers(1, 3))
def test_garments_on_a_scene_are_of_different_classes_and_hardly_hide_each_other(seed: int, count: int) -> None:
    things = scene(SOME, seed, 0, "scenes", count).things
    assert 1 <= len(things) <= count
    assert len({thing.label for thing in things}) == len(things)
    assert all(thing.label in CLASSES and thing.garments[0][0] == thing.label for thing in things)
    assert all(max(thing.box[2:]) <= scenes.LONGEST[count][1] for thing in things)


def test_a_scene_is_the_same_whenever_it_is_asked_for_and_no_two_are_alike() -> None:
    pictures = [scene(SOME, seed, index).picture.tobytes() for seed in range(3) for index in range(5)]
    again = [scene(SOME, seed, index).picture.tobytes() for seed in range(3) for index in reversed(range(5))]
    assert set(pictures) == set(again)
    assert len(set(pictures)) == 15


@few
@given(seeds)
def test_one_half_of_an_object_tells_its_class_and_the_other_is_shared(seed: int) -> None:
    for kind, telling, other in (("parts", 0, 1), ("parts-swapped", 1, 0)):
        (thing,) = scene(SOME, seed, 0, kind).things
        assert thing.label in PART_CLASSES
        assert thing.garments[telling][0] == thing.label
        assert thing.garments[other][0] in SHARED
        assert (thing.parts["eyes"] | thing.parts["feet"] == thing.mask).all()
        rows = {name: np.flatnonzero(mask.any(1)) for name, mask in thing.parts.items()}
        assert rows["eyes"].max() < rows["feet"].min()
        for name, (x, y) in thing.points.items():
            assert thing.parts[name][int(y), int(x)] and (x % 1, y % 1) == (0.5, 0.5)


def test_the_shared_half_does_not_depend_on_the_class() -> None:
    (drawn,) = zip(*(scene(SOME, 5, i, "parts").things for i in range(600)), strict=True)
    table = np.zeros((len(PART_CLASSES), len(SHARED) * 5))
    for thing in drawn:
        kind, index = thing.garments[1]
        table[PART_CLASSES.index(thing.label), SHARED.index(kind) * 5 + index] += 1
    assert stats.chi2_contingency(table).pvalue > 0.01


def test_no_object_no_annotation() -> None:
    assert scene(SOME, 0, 0, "scenes", 0).things == ()
    assert (scene(SOME, 0, 0, "scenes", 0).picture == scene(SOME, 0, 0, "scenes", 0).canvas).all()
    shared = scene(SOME, 0, 0, "parts", 0)
    assert shared.things == () and (shared.picture != shared.canvas).any()


def test_a_silhouette_keeps_dark_prints_and_leaves_out_what_a_handle_encloses() -> None:
    garment = np.zeros((28, 28), np.uint8)
    garment[4:24, 4:24] = 200
    garment[6:9, 6:9] = objects.DARK  # 9 dark pixels: a print
    garment[12:18, 12:18] = 0  # 36: a handle
    garment[4:7, 20] = 0  # open to the outside
    wanted = np.zeros((28, 28), bool)
    wanted[4:24, 4:24] = True
    wanted[12:18, 12:18] = wanted[4:7, 20] = False
    assert (objects.silhouette(garment) == wanted).all()


def test_what_is_wanted_of_a_network_is_a_distribution() -> None:
    for count in range(4):
        made = scene(SOME, 1, count, "scenes", count)
        shares = train_scenes.wanted(made, list(CLASSES))
        there = {thing.label for thing in made.things} or set(CLASSES)
        assert shares.tolist() == [pytest.approx((name in there) / len(there)) for name in CLASSES]


def test_folding_batch_norm_changes_no_answer() -> None:
    torch.manual_seed(0)
    trained = SmallGoogLeNet(CLASSES, norms=True).eval()
    for module in trained.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.weight, 0.5, 2),
                (module.bias, -1, 1),
                (module.running_mean, -1, 1),
                (module.running_var, 0.5, 2),
            ):
                nn.init.uniform_(values, low, high)  # type: ignore[arg-type]
    plain = SmallGoogLeNet(CLASSES).eval()
    plain.load_state_dict(train_scenes.weights(trained))
    images = torch.rand(4, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), trained(images), rtol=1e-4, atol=1e-4)


def test_objects_are_fitted_by_what_they_are_distributed_as() -> None:
    generator = np.random.default_rng(0)
    areas = np.exp(generator.normal(6.0, 0.5, 2000))
    scale = np.log((PUBLISHED_SIDE / SIDE) ** 2)
    things = []
    for area in areas:
        mask = np.zeros(SIDE * SIDE, bool)
        mask[: round(area)] = True
        things.append(scenes.Thing("bag", mask.reshape(SIDE, SIDE), ()))
    fit = train_scenes.fitted(things)["area"]["log-normal"]
    assert fit["mean"] == pytest.approx(6.0 + scale, abs=4 * 0.5 / 2000**0.5)
    assert fit["deviation"] == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)
    assert fit["distance"] < 1.63 / 2000**0.5  # Kolmogorov's 99 % bound


# From here on with the real garments, photographs and networks.


@pytest.fixture(scope="module")
def unseen() -> Source:
    return scenes.source("test")


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with NumPy 2
def test_coco_reads_what_was_written(tmp_path: Path, unseen: Source) -> None:
    for kind in KINDS:
        written = scenes.write_coco(tmp_path / kind, 12, seed=7, kind=kind)
        coco = COCO(str(written))
        assert sorted(coco.imgs) == list(range(1, 13))
        for i in range(12):
            known = scene(unseen, 7, i, kind)
            (image,) = coco.loadImgs(i + 1)
            with Image.open(tmp_path / kind / "photos" / image["file_name"]) as photo:
                assert (np.asarray(photo) == known.picture).all()
                assert photo.size == (image["width"], image["height"])
            found = coco.loadAnns(coco.getAnnIds(i + 1))
            assert len(found) == len(known.things)
            for one, thing in zip(found, known.things, strict=True):
                assert coco.cats[one["category_id"]]["name"] == thing.label
                assert (coco.annToMask(one).astype(bool) == thing.mask).all()
                assert one["bbox"] == list(thing.box) and one["area"] == thing.mask.sum() and one["iscrowd"] == 0
                if kind != "scenes":
                    names = coco.cats[one["category_id"]]["keypoints"]
                    x, y, visible = np.reshape(one["keypoints"], (2, 3)).T
                    assert dict(zip(names, zip(x + 0.5, y + 0.5, strict=True), strict=True)) == thing.points
                    assert (visible == 2).all()


@pytest.mark.real
def test_evaluate_reads_what_was_written(tmp_path: Path, unseen: Source) -> None:
    for kind in KINDS:
        scenes.write_coco(tmp_path / kind, 12, seed=7, kind=kind)
        data = open_data(f"coco:{tmp_path / kind / 'photos'},{tmp_path / kind / 'instances.json'}")
        assert len(data.examples) == 12 and not data.faults
        for i, example in enumerate(data.examples):
            things = scene(unseen, 7, i, kind).things
            assert set(example.labels) == {thing.label for thing in things}
            for found, thing in zip(example.annotations, things, strict=True):
                left, top, width, height = thing.box
                assert found.label == thing.label and found.box == (left, top, left + width, top + height)
                assert found.region is not None and (found.region.read(SIDE, SIDE) == thing.mask).all()
                assert {name: (x, y) for name, x, y in found.points} == thing.points


@pytest.mark.real
def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    def digest(folder: str, seed: int) -> list[str]:
        scenes.write_coco(tmp_path / folder, 8, seed)
        files = sorted(path for path in (tmp_path / folder).rglob("*") if path.is_file())
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

    one = digest("one", 3)
    assert len(one) == 9
    assert one == digest("again", 3)
    assert not set(one) & set(digest("other", 4))


@pytest.mark.real
def test_what_a_network_was_trained_on_is_in_no_test_scene(tmp_path: Path) -> None:
    train, test = (scenes.source(split) for split in ("train", "test"))
    assert not set(train.photographs) & set(test.photographs)
    contents = [{hashlib.sha256(path.read_bytes()).digest() for path in of.photographs} for of in (train, test)]
    assert not contents[0] & contents[1]
    garments = [{one.tobytes() for some in of.garments.values() for one in some} for of in (train, test)]
    assert not garments[0] & garments[1]
    said = json.loads(scenes.write_coco(tmp_path, 20, 1).read_text())
    assert said["info"]["split"] == "test"
    for annotation in said["annotations"]:
        ((kind, index),) = annotation["garments"]
        assert index < len(test.garments[kind])


@pytest.mark.real
@pytest.mark.parametrize(("factory", "classes"), [("scene_network", CLASSES), ("part_network", PART_CLASSES)])
def test_the_networks_open_with_layers_as_googlenet_has_them(factory: str, classes: tuple[str, ...]) -> None:
    network = pi.load(f"{scenes.__file__}:{factory}")
    assert network.labels == classes and network.input_size == (SIDE, SIDE)
    assert [network.tap(name).shape[1:] for name in ("pool2", "pool3", "pool4", "inception5b", "pool5")] == [
        (24, 24),
        (12, 12),
        (6, 6),
        (6, 6),
        (1, 1),
    ]
    asked = EachItsOwn((label(classes[0]).bind(network),))
    assert excitation_layer(network, asked) == "pool2"
    assert grad_cam_layer(network, asked) == "inception5b"
    assert max(path.stat().st_size for path in scenes.WEIGHTS.glob("*.safetensors")) < 5e6


@pytest.mark.real
def test_occlusion_draws_discs_as_large_as_the_objects_of_scenes_are(unseen: Source) -> None:
    found = train_scenes.fitted(train_scenes.things(unseen, 1000, seed=11))
    ours, coco = scenes.occlusion_for_scenes(), VariableOcclusion()
    for fit, (mean, deviation) in ((found["area"]["log-normal"], ours.log_area), (found["y"]["normal"], ours.height)):
        assert fit["mean"] == pytest.approx(mean, abs=4 * deviation / 1000**0.5)
        assert fit["deviation"] == pytest.approx(deviation, abs=4 * deviation / 2000**0.5)
    assert found["area"]["log-normal"]["distance"] < found["area"]["COCO's"]["distance"] / 4
    assert coco.log_area != ours.log_area and coco.samples == ours.samples


def answers(module: nn.Module, pictures: list[NDArray[np.uint8]]) -> list[str]:
    """The strongest class of each picture [96, 96, 3]."""
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        strongest = torch.cat([module(some) for some in images.split(50)]).argmax(1)
    return [module.labels[i] for i in strongest]  # type: ignore[index]


def right(module: nn.Module, some: list[Scene], pictures: list[NDArray[np.uint8]] | None = None) -> float:
    """The share of scenes with one object whose class is answered first."""
    found = answers(module, pictures or [one.picture for one in some])
    return float(np.mean([name == one.things[0].label for name, one in zip(found, some, strict=True)]))


FRESH = 500


def surely_at_least(share: float) -> float:
    """What less than 1 of 1000 tests of `FRESH` scenes fall below, if each scene is right with this probability."""
    return float(stats.binom.ppf(0.001, FRESH, share)) / FRESH


@pytest.mark.real
def test_the_network_names_garments_that_it_has_never_seen(unseen: Source) -> None:
    module = scenes.scene_network()
    known = json.loads((scenes.WEIGHTS / "scenes.json").read_text())["test"]
    assert all(known[f"{count} asked for"]["recalled"] >= 0.9 for count in (1, 2, 3))
    some = [scene(unseen, 31, i, "scenes", 1) for i in range(FRESH)]
    assert right(module, some) >= surely_at_least(0.9)
    # Nothing but the objects can tell: the canvas is drawn whatever the class, one of eight.
    assert 1 - right(module, some, [one.canvas for one in some]) >= surely_at_least(7 / 8)


@pytest.mark.real
@pytest.mark.parametrize(("kind", "telling", "other"), [("parts", "eyes", "feet"), ("parts-swapped", "feet", "eyes")])
def test_only_the_telling_half_tells(unseen: Source, kind: Kind, telling: str, other: str) -> None:
    module = scenes.part_network()
    some = [scene(unseen, 32, i, kind) for i in range(FRESH)]

    def without(part: str) -> list[NDArray[np.uint8]]:
        return [np.where(one.things[0].parts[part][..., None], one.canvas, one.picture) for one in some]

    assert json.loads((scenes.WEIGHTS / "parts.json").read_text())["test"][kind]["recalled"] >= 0.9
    assert right(module, some) >= surely_at_least(0.9)
    # Never trained on halves alone, it knows them nearly as well.
    assert right(module, some, without(other)) >= surely_at_least(0.85)
    assert 1 - right(module, some, without(telling)) >= surely_at_least(5 / 6)


@pytest.mark.real
@pytest.mark.parametrize("method", ["gradient", "excitation-backprop", "contrastive-excitation-backprop"])
def test_what_is_above_matters_more_until_roles_are_swapped(unseen: Source, method: str) -> None:
    network = pi.Network(scenes.part_network(), name="part_network")
    for kind, above_matters in (("parts", True), ("parts-swapped", False)):
        some = [scene(unseen, 33, i, kind) for i in range(60)]
        asked = [[f"class:{one.things[0].label}"] for one in some]
        made = pi.explain(network, train_scenes.tensor(some), asked, method=method, progress=False)
        of_class: dict[str, list[list[float]]] = {}
        for one, heatmap in zip(some, made.heatmaps, strict=True):
            (thing,) = one.things
            # The mean of 5 x 5 pixels, of the map scaled to [0, 1] (SPEC M.5-17).
            scaled = (heatmap - heatmap.min()) / (heatmap.max() - heatmap.min())
            around = [scaled[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].mean() for x, y in thing.points.values()]
            of_class.setdefault(thing.label, []).append([float(value) for value in around])
        assert set(of_class) == set(PART_CLASSES)
        for eyes, feet in (np.mean(values, 0) for values in of_class.values()):
            assert (eyes > feet) == above_matters
