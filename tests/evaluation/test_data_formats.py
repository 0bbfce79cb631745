"""The same three photos in every format: the same objects come out of all of them."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preimage import RequestError
from preimage.evaluation.data import Annotation, Data, Example, open_data

HERE = Path(__file__).parent / "data"
PHOTOS = HERE / "photos"
SAW, TWO, ONE = "n03000684_11697", "ILSVRC2012_val_00000293", "ILSVRC2012_val_00002138"
WNIDS = {"n01440764": "tench", "n03000684": "chain saw"}
SOURCES = {
    "folder": f"folder:{PHOTOS}",
    "coco": f"coco:{PHOTOS},{HERE / 'instances.json'}",
    "keypoints": f"coco:{PHOTOS},{HERE / 'keypoints.json'}",
    "voc": f"voc:{HERE / 'voc'}",
    "imagenet": f"imagenet:{PHOTOS},{HERE / 'imagenet'}",
    "csv": f"csv:{PHOTOS / 'boxes.csv'}",
    "points": f"csv:{PHOTOS / 'points.csv'}",
}
# As they were drawn: half-open, in pixels.
BOXES = {
    SAW: [("chain saw", (3, 71, 38, 87))],
    TWO: [("tench", (44, 46, 105, 79)), ("tench", (58, 31, 100, 58))],
    ONE: [("tench", (13, 40, 104, 70))],
}
POINTS = {
    SAW: [("tip", 3.5, 78.5), ("motor", 33.5, 80.5)],
    TWO: [("snout", 45.5, 48.5), ("tail", 104.5, 71.5), ("snout", 59.5, 35.5), ("tail", 98.5, 56.5)],
    ONE: [("snout", 14.5, 50.5), ("tail", 101.5, 55.5)],
}
SIZES = {SAW: (120, 79), TWO: (90, 120), ONE: (90, 120)}
every_kind = pytest.mark.parametrize("kind", SOURCES)
with_boxes = pytest.mark.parametrize("kind", ["coco", "keypoints", "voc", "imagenet", "csv"])


def by_name(data: Data) -> dict[str, Example]:
    return {one.path.stem: one for one in data.examples}


def plain(label: str) -> str:
    return WNIDS.get(label, label)


@every_kind
def test_every_photo_has_its_class_and_size(kind: str) -> None:
    data = open_data(SOURCES[kind])
    assert data.faults == () and data.skipped == {}
    assert data.source == SOURCES[kind]
    found = by_name(data)
    assert {name: one.size for name, one in found.items()} == SIZES
    assert {name: tuple(map(plain, one.labels)) for name, one in found.items()} == {
        SAW: ("chain saw",),
        TWO: ("tench",),
        ONE: ("tench",),
    }
    assert sorted(map(plain, data.labels)) == ["chain saw", "tench"]
    for one in data.examples:
        with Image.open(one.path) as file:
            assert file.size == one.size[::-1]


@with_boxes
def test_boxes_are_where_they_were_drawn(kind: str) -> None:
    for name, example in by_name(open_data(SOURCES[kind])).items():
        assert [(plain(one.label), one.box) for one in example.annotations] == BOXES[name]


@pytest.mark.parametrize("kind", ["keypoints", "points"])
def test_points_are_the_centres_of_the_pixels_that_were_drawn(kind: str) -> None:
    """Of COCO's keypoints those that are hidden or unknown are no points."""
    for name, example in by_name(open_data(SOURCES[kind])).items():
        assert [point for one in example.annotations for point in one.points] == POINTS[name]


def test_voc_and_coco_give_the_same_masks() -> None:
    """Polygons, run lengths and compressed run lengths on the one side, painted numbers on the other."""
    voc, coco, outlines = (by_name(open_data(SOURCES[kind])) for kind in ("voc", "coco", "keypoints"))
    kinds = set()
    for name, example in coco.items():
        assert len(example.annotations) == len(voc[name].annotations) == len(BOXES[name])
        for one, painted, drawn in zip(
            example.annotations, voc[name].annotations, outlines[name].annotations, strict=True
        ):
            assert one.region and painted.region and drawn.region and one.box
            kinds.add(type(one.region).__name__)
            inside = one.region.read(*example.size)
            assert inside.dtype == np.bool_ and inside.shape == example.size
            assert np.array_equal(inside, painted.region.read(*example.size))
            assert np.array_equal(inside, drawn.region.read(*example.size))
            rows, columns = inside.nonzero()
            left, top, right, bottom = one.box
            # (A tip that is narrower than half a pixel is no pixel.)
            assert abs(columns.min() - left) <= 1 and abs(columns.max() + 1 - right) <= 1
            assert (rows.min(), rows.max() + 1) == (top, bottom)
    assert kinds == {"Polygons", "RunLengths"}


@every_kind
def test_examples_can_be_sent_to_another_process(kind: str) -> None:
    data = open_data(SOURCES[kind])
    again = pickle.loads(pickle.dumps(data))
    assert again == data
    for one, other in zip(data.examples, again.examples, strict=True):
        for mine, its in zip(one.annotations, other.annotations, strict=True):
            if mine.region is not None:
                assert np.array_equal(mine.region.read(*one.size), its.region.read(*one.size))


@every_kind
def test_settings_are_plain_json(kind: str) -> None:
    said = open_data(SOURCES[kind]).describe()
    assert json.loads(json.dumps(said)) == said
    assert said["photos"] == 3 and said["faults"] == 0


def test_the_blacklist_is_left_out_and_counted() -> None:
    data = open_data(f"{SOURCES['imagenet']},{HERE / 'imagenet' / 'blacklist.txt'}")
    assert set(by_name(data)) == {SAW, ONE}
    assert data.skipped == {"blacklisted": 1}
    assert data.describe()["blacklisted"] == 1


def test_a_blacklist_names_numbers_or_files(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"36\n{ONE}\n000293\n")
    data = open_data(f"{SOURCES['imagenet']},{tmp_path / 'list.txt'}")
    assert set(by_name(data)) == {SAW} and data.skipped == {"blacklisted": 2}
    (tmp_path / "none.txt").write_text("36\n")
    assert open_data(f"{SOURCES['imagenet']},{tmp_path / 'none.txt'}").skipped == {"blacklisted": 0}
    for text in ("", "tench\n", "-3\n", "1.5\n"):
        (tmp_path / "wrong.txt").write_text(text)
        with pytest.raises(RequestError, match="the blacklist"):
            open_data(f"{SOURCES['imagenet']},{tmp_path / 'wrong.txt'}")


@every_kind
def test_only_photos_with_the_classes_that_are_asked(kind: str) -> None:
    label = "n01440764" if kind == "imagenet" else "tench"
    whole, some = open_data(SOURCES[kind]), open_data(SOURCES[kind], classes=[label])
    assert some.examples == tuple(one for one in whole.examples if label in one.labels)
    assert len(some.examples) == 2
    assert open_data(SOURCES[kind], classes=label) == some
    with pytest.raises(RequestError, match="has the label 'tenhc'; it has "):
        open_data(SOURCES[kind], classes=[label, "tenhc"])


def test_classes_restrict_what_is_asked_but_not_what_is_known(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,label,x0,y0,x1,y1\na.png,dog,0,0,5,5\na.png,cat,1,1,9,9\na.png,dog,2,2,4,4\n")
    whole = open_data(f"csv:{tmp_path / 't.csv'}").examples[0]
    assert whole.labels == ("dog", "cat")
    assert [one.box for one in whole.of("dog")] == [(0, 0, 5, 5), (2, 2, 4, 4)]
    (only,) = open_data(f"csv:{tmp_path / 't.csv'}", classes={"cat"}).examples
    assert only == replace(whole, labels=("cat",))


def test_photos_without_classes(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", ".hidden.png"):
        Image.new("RGB", (20, 10)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "._a.jpg").write_bytes(b"what a Mac leaves beside a.jpg")
    data = open_data(f"folder:{tmp_path}")
    assert data.examples == (Example(tmp_path / "a.jpg", size=(10, 20)), Example(tmp_path / "b.png", size=(10, 20)))
    assert data.labels == [] and data.faults == ()


def test_photos_of_a_class_may_lie_deeper(tmp_path: Path) -> None:
    (tmp_path / "dog" / "big").mkdir(parents=True)
    Image.new("L", (4, 5)).save(tmp_path / "dog" / "big" / "a.png")
    assert open_data(f"folder:{tmp_path}").examples == (
        Example(tmp_path / "dog" / "big" / "a.png", ("dog",), size=(5, 4)),
    )


def test_imagenet_as_kaggle_has_it_or_all_in_one_folder(tmp_path: Path) -> None:
    photo, xml = (PHOTOS / "tench" / f"{ONE}.jpg").read_bytes(), (HERE / "imagenet/val" / f"{ONE}.xml").read_bytes()
    for images, boxes in (("Data/CLS-LOC/val", "Annotations/CLS-LOC/val"), ("any/x", "any/y/z")):
        root = tmp_path / images.split("/", maxsplit=1)[0]
        (root / images).mkdir(parents=True)
        (root / boxes).mkdir(parents=True)
        (root / images / f"{ONE}.JPEG").write_bytes(photo)
        (root / boxes / f"{ONE}.xml").write_bytes(xml)
        (example,) = open_data(f"imagenet:{root}").examples
        assert example.annotations == (Annotation("n01440764", (13.0, 40.0, 104.0, 70.0)),)


def test_dogs_of_training_photos_are_called_by_their_file(tmp_path: Path) -> None:
    """Many XML files of ILSVRC's training photos say Scottish_deerhound where n02092002 should be."""
    Image.new("RGB", (20, 10)).save(tmp_path / "n02092002_7.jpg")
    (tmp_path / "n02092002_7.xml").write_text(
        "<annotation><filename>%s</filename><size><width>20</width><height>10</height></size><object><name>"
        "Scottish_deerhound</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>19</xmax><ymax>9</ymax></bndbox></object>"
        "</annotation>"
    )
    (example,) = open_data(f"imagenet:{tmp_path}").examples
    assert example.annotations == (Annotation("n02092002", (0, 0, 20, 10)),)


def test_parts_of_a_person_are_no_objects(tmp_path: Path) -> None:
    """VOC's layout: a head has a box of its own within the person."""
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "JPEGImages" / "a.jpg")
    box = "<bndbox><xmax>{}</xmax><xmin>1</xmin><ymax>10</ymax><ymin>1</ymin></bndbox>"
    (tmp_path / "Annotations" / "a.xml").write_text(
        f"<annotation><object><part><name>head</name>{box.format(5)}</part><name>person</name>{box.format(20)}"
        "</object></annotation>"
    )
    (example,) = open_data(f"voc:{tmp_path}").examples
    assert example.annotations == (Annotation("person", (0, 0, 20, 10)),)


def test_what_is_not_annotated_is_counted(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    for name in "abc":
        Image.new("RGB", (20, 10)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
    (tmp_path / "Annotations" / "a.xml").write_text("<annotation><object><name>dog</name></object></annotation>")
    (tmp_path / "Annotations" / "b.xml").write_text("<annotation></annotation>")
    data = open_data(f"voc:{tmp_path}")
    assert [one.path.name for one in data.examples] == ["a.jpg"]
    assert data.skipped == {"without_objects": 1, "without_annotations": 1} and data.faults == ()


def test_crowds_are_no_labels(tmp_path: Path) -> None:
    for name in "abc":
        Image.new("RGB", (20, 10)).save(tmp_path / f"{name}.jpg")
    entry = {"iscrowd": 0, "bbox": [1, 2, 3, 4]}
    document = {
        "images": [{"id": i, "file_name": f"{name}.jpg", "height": 10, "width": 20} for i, name in enumerate("abc")],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            entry | {"id": 1, "image_id": 0, "category_id": 1, "iscrowd": 1},
            entry | {"id": 2, "image_id": 0, "category_id": 2, "segmentation": []},
            entry | {"id": 3, "image_id": 1, "category_id": 1, "iscrowd": 1},
        ],
    }
    (tmp_path / "i.json").write_text(json.dumps(document))
    data = open_data(f"coco:{tmp_path},{tmp_path / 'i.json'}")
    (example,) = data.examples
    assert example.labels == ("cat",)
    assert [one.crowd for one in example.annotations] == [True, False]
    assert example.of("dog")[0].box == (1, 2, 4, 6)
    assert data.skipped == {"without_objects": 2}
