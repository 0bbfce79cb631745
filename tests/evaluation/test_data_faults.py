"""Everything that is wrong with a data set is said at once, and spoils only the photos that it is about."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from preimage import RequestError
from preimage.evaluation.data import Data, open_data
from preimage.images import read_image

WIDTH, HEIGHT = 20, 10


def photo(path: Path, orientation: int = 1, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.new("RGB", size, (200, 30, 30)).save(path, exif=exif)
    return path


def said(data: Data) -> list[str]:
    return [f"{one.path.name}: {one.says}" for one in data.faults]


def each_is_said(data: Data, expected: list[str]) -> None:
    """One fault of each kind, in this order."""
    found = said(data)
    for one, start in zip(found, expected, strict=False):
        assert start in one
    assert len(found) == len(expected), found


def names(data: Data) -> list[str]:
    return [one.path.name for one in data.examples]


# CSV


def csv_of(folder: Path, *rows: str, header: str = "path,label,x0,y0,x1,y1") -> Data:
    (folder / "t.csv").write_text("\n".join([header, *rows]) + "\n")
    return open_data(f"csv:{folder / 't.csv'}")


def test_all_faults_of_a_csv(tmp_path: Path) -> None:
    for name in "abcdefghi":
        photo(tmp_path / f"{name}.jpg")
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "sub.jpg").mkdir()
    data = csv_of(
        tmp_path,
        "a.jpg,dog,1,2,3,4",
        "missing.jpg,dog,1,2,3,4",
        "text.jpg,dog,1,2,3,4",
        "sub.jpg,dog,1,2,3,4",
        "b.jpg,dog,3,2,1,4",
        "b.jpg,dog,1,4,3,2",
        "c.jpg,dog,1,2,1,4",
        "d.jpg,dog,1,2,30,4",
        "e.jpg,dog,nan,2,3,4",
        "f.jpg,dog,1,,3,4",
        "g.jpg,,1,2,3,4",
        "../b.jpg,dog,1,2,3,4",
        f"{tmp_path}/b.jpg,dog,1,2,3,4",
        "h.jpg,dog,1,2,3,4,5",
        "h.jpg,dog,one,2,3,4",
        "i.jpg,dog,0,0,1e300,1",
    )
    assert names(data) == ["a.jpg"]
    each_is_said(
        data,
        [
            "t.csv: row 13 names the photo '../b.jpg', which lies outside",
            "t.csv: row 14 names the photo '",
            "t.csv: row 15 has more cells",
            "missing.jpg: is missing",
            "text.jpg: is no image that can be read",
            "sub.jpg: cannot be read",
            "t.csv: row 6 (dog, b.jpg) has a box (3, 2, 1, 4) whose corners are swapped",
            "t.csv: row 7 (dog, b.jpg) has a box (1, 4, 3, 2) whose corners are swapped",
            "t.csv: row 8 (dog, c.jpg) has a box (1, 2, 1, 4) that is empty",
            "t.csv: row 9 (dog, d.jpg) has a box (1, 2, 30, 4) that reaches outside of the image of 20 x 10",
            "t.csv: row 10 (e.jpg) has 'nan' where a number",
            "t.csv: row 11 (f.jpg) has '' where a number",
            "t.csv: row 12 (g.jpg) has no label",
            "t.csv: row 16 (h.jpg) has 'one' where a number",
            "t.csv: row 17 (i.jpg) has '1e300' where a number",
        ],
    )


def test_points_outside(tmp_path: Path) -> None:
    for name in "abc":
        photo(tmp_path / f"{name}.jpg")
    header = "path,label,x,y,name"
    data = csv_of(tmp_path, "a.jpg,dog,19.5,9.5,eye", "b.jpg,dog,25,3,eye", "c.jpg,dog,,,eye", header=header)
    assert names(data) == ["a.jpg"]
    each_is_said(
        data,
        [
            "row 3 (dog, b.jpg) has the point 'eye' at (25, 3), outside of the image of 20 x 10",
            "row 4 (c.jpg) names the point 'eye' without saying where it is",
        ],
    )


def test_up_to_a_pixel_outside_is_rounding(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    (example,) = csv_of(tmp_path, "a.jpg,dog,-1,-0.5,21,10.25").examples
    assert example.annotations[0].box == (0, 0, 20, 10)
    (example,) = csv_of(tmp_path, "a.jpg,dog,20.5,-1", header="path,label,x,y").examples
    assert example.annotations[0].points == (("", 19.5, 0.5),)
    for row in ("-1.01,0,5,5", "0,-1.01,5,5", "0,0,21.01,5", "0,0,5,11.01"):
        (fault,) = csv_of(tmp_path, f"a.jpg,dog,{row}").faults
        assert "reaches outside of the image of 20 x 10" in fault.says
    (fault,) = csv_of(tmp_path, "a.jpg,dog,20,2,21,4").faults
    assert "lies outside of the image" in fault.says


# COCO


def coco_of(folder: Path, **changed: Any) -> Data:
    entry = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [1, 2, 3, 4]}
    document: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 1, "name": "dog", "keypoints": ["eye", "foot"]}],
        "annotations": [entry],
    }
    (folder / "instances.json").write_text(json.dumps(document | changed))
    return open_data(f"coco:{folder},{folder / 'instances.json'}")


def test_all_faults_of_coco(tmp_path: Path) -> None:
    files = ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg", "g.jpg", "h.jpg", "gone.jpg", "../../etc/passwd"]
    for name in files[:8]:
        photo(tmp_path / name)
    images: list[Any] = [{"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH} for i, name in enumerate(files)]
    images[7]["height"] = 11
    images += [{"id": 0, "file_name": "z.jpg"}, {"id": 50, "file_name": "b.jpg"}, "x", {"id": 51}]
    good = {"iscrowd": 0, "category_id": 1, "bbox": [1, 2, 3, 4]}
    annotations: list[Any] = [
        good | {"id": 1, "image_id": 2},
        good | {"id": 2, "image_id": 3, "category_id": 9},
        good | {"id": 3, "image_id": 77},
        good | {"id": 1, "image_id": 4},
        good | {"id": 4, "image_id": 4, "bbox": [1, 2, -3, 4]},
        good | {"id": 5, "image_id": 4, "bbox": [1, 2, 3]},
        good | {"id": 6, "image_id": 4, "segmentation": [[1, 1, 1, 1, 1, 1]]},
        good | {"id": 7, "image_id": 4, "segmentation": [[1, 1, 5, 1]]},
        good | {"id": 8, "image_id": 4, "segmentation": [[1, 1, 1e6, 1, 5, 5]]},
        good | {"id": 9, "image_id": 4, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}},
        good | {"id": 10, "image_id": 4, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [3, 4]}},
        good | {"id": 11, "image_id": 4, "segmentation": {"size": [4, 4], "counts": [8, 8]}},
        good | {"id": 12, "image_id": 5, "keypoints": [1, 2, 2]},
        good | {"id": 13, "image_id": 5, "keypoints": [1, 2, 2, 30, 2, 2]},
        good | {"id": 14, "image_id": 6, "iscrowd": 7, "bbox": None},
        good | {"id": 15, "image_id": 7},
        good | {"id": 16, "image_id": 8},
        good | {"id": 17, "image_id": 0},
        good | {"id": 18, "image_id": 1},
        good | {"id": 19, "image_id": 9},
        "x",
        {"id": 20},
    ]
    categories = [{"id": 1, "name": "dog", "keypoints": ["eye", "foot"]}, {"id": 1, "name": "cat"}, {"id": 2}]
    categories += [{"id": 3, "name": "dog"}]
    data = coco_of(tmp_path, images=images, annotations=annotations, categories=categories)
    assert names(data) == ["c.jpg"]
    each_is_said(
        data,
        [
            "category number 1 has the id 1, which another has, too",
            "category number 2 has no name",
            "2 categories are called 'dog'",
            "image 9 names the photo '../../etc/passwd', which lies outside",
            "image 0 is there more than once",
            "image 50 has the file b.jpg, as image 1 has",
            "image number 12 is no JSON object",
            "image 51 has no file_name",
            "annotation 3 is of an unknown image, 77",
            "annotation 1 is there more than once",
            "annotation number 20 is no JSON object",
            "annotation 20 has no image_id",
            "annotation 2 (d.jpg) is of an unknown category, 9",
            "annotation 5 (dog, e.jpg) has a bbox of 3 numbers",
            "annotation 4 (dog, e.jpg) has a box (1, 2, -2, 6) whose corners are swapped",
            "annotation 6 (dog, e.jpg) has polygons that cover no pixel",
            "annotation 7 (dog, e.jpg) has a polygon of 4 numbers",
            "annotation 8 (dog, e.jpg) has a polygon that reaches outside",
            "annotation 9 (dog, e.jpg) has a mask that covers no pixel",
            "annotation 10 (dog, e.jpg) has run lengths that do not fill its mask of 20 x 10",
            "annotation 11 (dog, e.jpg) has a mask of 4 x 4, but the image is 20 x 10",
            "annotation 12 (dog, f.jpg) has 3 numbers of keypoints; its category has 2 of three",
            "annotation 13 (dog, f.jpg) has the point 'foot' at (30.5, 2.5), outside",
            "annotation 14 (dog, g.jpg) has an iscrowd that is neither 0 nor 1, but 7",
            "h.jpg: is 20 x 10, but instances.json says 20 x 11",
            "gone.jpg: is missing",
        ],
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"bbox": "x"},
        {"bbox": [1, 2, True, 4]},
        {"bbox": [1, 2, None, 4]},
        {"bbox": [1, 2, 10**400, 4]},
        {"bbox": [1, 2, float("inf"), 4]},
        {"bbox": [1, 2, [3], 4]},
        {"segmentation": 3},
        {"segmentation": [3]},
        {"segmentation": [["x"] * 6]},
        {"segmentation": {}},
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": None}},
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [-5, 205]}},
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [1.5, 198.5]}},
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [2**70]}},
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "Pé"}},
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "PPPPPPPP"}},
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": ""}},
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": []}},
        {"segmentation": {"size": [HEIGHT, 10**9], "counts": []}},
        {"keypoints": "x"},
        {"keypoints": [1, 2, 2, 1, 2, None]},
        {"category_id": [1]},
        {"category_id": None},
        {"iscrowd": None},
        {"iscrowd": [1]},
        {"id": None},
        {"id": [1]},
        {"image_id": True},
    ],
)
def test_an_annotation_of_anything_is_a_fault(tmp_path: Path, wrong: dict[str, Any]) -> None:
    photo(tmp_path / "a.jpg")
    entry = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [1, 2, 3, 4]}
    good = entry | {"id": 0, "image_id": 1}
    data = coco_of(tmp_path, annotations=[good, entry | wrong])
    assert len(data.faults) == 1
    assert data.faults[0].path.name == "instances.json"


@pytest.mark.parametrize(
    "wrong",
    [
        {"height": "x"},
        {"height": None, "width": 20},
        {"width": float("nan")},
        {"file_name": 3},
        {"file_name": ""},
        {"file_name": "/etc/passwd"},
        {"file_name": "a/../a.jpg"},
        {"file_name": "..\\a.jpg"},
        {"file_name": "C:\\a.jpg"},
        {"file_name": "a\0.jpg"},
        {"file_name": "a" * 5000},
        {"id": None},
    ],
)
def test_an_image_of_anything_is_a_fault(tmp_path: Path, wrong: dict[str, Any]) -> None:
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "b.jpg")
    images = [{"id": 1, "file_name": "a.jpg"} | wrong, {"id": 2, "file_name": "b.jpg"}]
    entry = {"category_id": 1, "bbox": [1, 2, 3, 4]}
    data = coco_of(tmp_path, images=images, annotations=[entry | {"id": i, "image_id": i} for i in (1, 2)])
    assert names(data) == ["b.jpg"]
    # (Without its id, its annotation is of an unknown image.)
    assert len(data.faults) == (2 if "id" in wrong else 1)


# VOC and ImageNet


def voc_xml(*objects: str, size: tuple[int, int] | None = (WIDTH, HEIGHT)) -> str:
    stated = "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation>{stated}{''.join(objects)}</annotation>"


def written(name: str, *corners: object) -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(f"<{key}>{one}</{key}>" for key, one in zip(keys, corners, strict=False))
    return f"<object><name>{name}</name><bndbox>{inner}</bndbox></object>"


def paint(path: Path, pixels: dict[tuple[int, int], int], mode: str = "P", size: tuple[int, int] = (20, 10)) -> None:
    path.parent.mkdir(exist_ok=True)
    image = Image.new(mode, size)
    if mode == "P":
        image.putpalette([i // 3 for i in range(768)])
    for place, value in pixels.items():
        image.putpixel(place, value)
    image.save(path)


def test_all_faults_of_voc(tmp_path: Path) -> None:
    root = tmp_path
    (root / "Annotations").mkdir()
    xml = {
        "a": voc_xml(written("dog", 1, 1, 20, 10)),
        "b": voc_xml(written("dog", 5, 1, 3, 10), written("cat", 1, 1, 22, 10), written("", 1, 1, 2, 2)),
        "c": voc_xml(written("dog", 1, 1, "x", 10), written("dog", 1, 1, 3)),
        "d": voc_xml(written("dog", 1, 1, 3, 3), size=(10, 20)),
        "e": "<annotation><object>",
        "f": '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xx">]><annotation>&x;</annotation>',
        "g": voc_xml(written("dog", 1, 1, 3, 3)),
        "h": "<svg></svg>",
        "i": voc_xml(written("dog", 1, 1, 3, 3)),
        "j": voc_xml(written("dog", 1, 1, 3, 3), size=("x", 3)),  # type: ignore[arg-type]
        "k": voc_xml(written("dog", 1, 1, 3, 3), written("cat", 1, 1, 3, 3)),
        "l": voc_xml(written("dog", 1, 1, 3, 3), written("thing", 1, 1, 3, 3)),
        "m": voc_xml(written("dog", 1, 1, 3, 3)),
        "n": voc_xml(written("dog", 1, 1, 3, 3)),
        "o": voc_xml(written("dog", 1, 1, 3, 3)),
    }
    for name, text in xml.items():
        (root / "Annotations" / f"{name}.xml").write_text(text)
        if name != "g":
            photo(root / "JPEGImages" / f"{name}.jpg")
    photo(root / "JPEGImages" / "i.png")
    paint(root / "SegmentationObject" / "a.png", {(0, 0): 1, (1, 0): 255})
    paint(root / "SegmentationClass" / "a.png", {(0, 0): 12, (1, 0): 255})
    paint(root / "SegmentationObject" / "k.png", {(0, 0): 1})
    paint(root / "SegmentationObject" / "l.png", {(0, 0): 1, (1, 0): 2, (2, 0): 2})
    paint(root / "SegmentationClass" / "l.png", {(0, 0): 8, (1, 0): 3, (2, 0): 4})
    paint(root / "SegmentationObject" / "m.png", {(0, 0): 1}, size=(10, 10))
    paint(root / "SegmentationObject" / "n.png", {}, mode="RGB")
    (root / "SegmentationObject" / "o.png").write_text("no picture")
    data = open_data(f"voc:{root}")
    assert names(data) == ["a.jpg"]
    each_is_said(
        data,
        [
            "e.xml: is not well-formed XML",
            "f.xml: declares a document type (DOCTYPE), which is refused",
            "g.jpg: is missing, but there is Annotations/g.xml",
            "h.xml: is XML about <svg>",
            "i.xml: may be about i.jpg or i.png",
            "j.xml: has 'x' where a number",
            "b.xml: object 3 () has no <name>",
            "b.xml: object 1 (dog) has a box (5, 1, 3, 10) whose corners are swapped",
            "b.xml: object 2 (cat) has a box (0, 0, 22, 10) that reaches outside",
            "c.xml: object 1 (dog) has 'x' where a number",
            "c.xml: object 2 (dog) has '' where a number",
            "d.jpg: is 20 x 10, but d.xml says 10 x 20",
            "k.xml: object 2 (cat) has a mask that covers no pixel: k.png never says 2",
            "l.xml: object 1 (dog) is class 12, but within its mask SegmentationClass/l.png says 8",
            "l.xml: object 2 (thing) is a single class, but within its mask SegmentationClass/l.png says 3, 4",
            "m.xml: object 1 (dog) has a mask that cannot be used",
            "n.xml: object 1 (dog) has a mask that cannot be used",
            "o.xml: object 1 (dog) has a mask that cannot be used",
        ],
    )


def test_all_faults_of_imagenet(tmp_path: Path) -> None:
    xml = {
        "val/ILSVRC2012_val_00000001": voc_xml(written("n01440764", 0, 0, 19, 9)),
        "val/ILSVRC2012_val_00000002": voc_xml(written("tench", 0, 0, 19, 9)),
        "val/ILSVRC2012_val_00000003": voc_xml(written("n01440764", 0, 0, 19, 9), size=(500, 375)),
        "val/ILSVRC2012_val_00000004": voc_xml(written("n01440764", 0, 0, 19, 9)),
        "val/ILSVRC2012_val_00000005": "<!DOCTYPE x>" + voc_xml(written("n01440764", 0, 0, 19, 9)),
        "val/ILSVRC2012_val_00000006": voc_xml(written("n01440764", 5, 5, 4, 9)),
        "val/ILSVRC2012_val_00000007": voc_xml(written("n01440764", 5, 5, 5, 5)),
        "x/ILSVRC2012_val_00000008": voc_xml(written("n01440764", 5, 5, 5, 5)),
        "y/ILSVRC2012_val_00000008": voc_xml(written("n01440764", 5, 5, 5, 5)),
    }
    for name, text in xml.items():
        path = tmp_path / "xml" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if "4" not in name:
            photo(tmp_path / "photos" / f"{path.stem}.JPEG")
    data = open_data(f"imagenet:{tmp_path / 'photos'},{tmp_path / 'xml'}")
    assert names(data) == ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000007.JPEG"]
    assert data.examples[1].annotations[0].box == (5, 5, 6, 6)
    each_is_said(
        data,
        [
            "00000004.xml: is about the photo 'ILSVRC2012_val_00000004', which is missing",
            "00000005.xml: declares a document type",
            "00000008.xml: is not the only XML file of this name",
            "00000002.xml: object 1 (tench) is not called by a wnid",
            "00000003.JPEG: is 20 x 10, but ILSVRC2012_val_00000003.xml says 500 x 375",
            "00000006.xml: object 1 (n01440764) has a box (5, 5, 4, 9) whose corners are swapped",
        ],
    )


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><annotation>&b;</annotation>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><object><name>&x;</name></object></annotation>',
        "<a>" * 200_000,
        "<annotation>" + "<object>" * 200_000,
        "<annotation>" + "<object>" * 200_000 + "</object>" * 200_000 + "</annotation>",
        "",
        "\0",
        "<annotation>&nbsp;</annotation>",
        " " * 4_000_001,
    ],
)
def test_hostile_xml_is_refused(tmp_path: Path, text: str) -> None:
    for folder in ("Annotations", "JPEGImages"):
        (tmp_path / folder).mkdir()
    photo(tmp_path / "JPEGImages" / "good.jpg")
    photo(tmp_path / "JPEGImages" / "bad.jpg")
    (tmp_path / "Annotations" / "good.xml").write_text(voc_xml(written("dog", 1, 1, 3, 3)))
    (tmp_path / "Annotations" / "bad.xml").write_text(text)
    data = open_data(f"voc:{tmp_path}")
    assert names(data) == ["good.jpg"]
    assert [one.path.name for one in data.faults] == ["bad.xml"]


def test_a_document_type_cannot_hide_in_another_encoding(tmp_path: Path) -> None:
    for folder in ("Annotations", "JPEGImages"):
        (tmp_path / folder).mkdir()
    photo(tmp_path / "JPEGImages" / "a.jpg")
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY x "dog">]>' + voc_xml(
        written("&x;", 1, 1, 3, 3)
    )
    (tmp_path / "Annotations" / "a.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(RequestError, match="is no XML in UTF-8"):
        open_data(f"voc:{tmp_path}")


# Photos


def test_a_class_without_photos_is_a_fault(tmp_path: Path) -> None:
    photo(tmp_path / "dog" / "a.jpg")
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog" / "b.jpg").write_text("no picture")
    data = open_data(f"folder:{tmp_path}")
    assert names(data) == ["a.jpg"]
    assert said(data) == ["cat: holds no image files", "b.jpg: is no image that can be read"]


def test_photos_that_could_not_be_read_later_are_faults(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    Image.new("I", (4, 4)).save(tmp_path / "b.tif")
    Image.new("1", (8001, 8000)).save(tmp_path / "c.png")
    data = open_data(f"folder:{tmp_path}")
    assert names(data) == ["a.png"]
    each_is_said(data, ["b.tif: has 32-bit values", "c.png: is 8001 x 8000; more than 64,000,000 pixels are refused"])
    for one in data.faults:
        with pytest.raises(RequestError):
            read_image(one.path)


def test_only_headers_are_read(tmp_path: Path) -> None:
    """A photo that is damaged behind its header is found by who reads it."""
    whole = photo(tmp_path / "a.jpg", size=(300, 200)).read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) - 200])
    (example,) = open_data(f"folder:{tmp_path}").examples
    assert example.size == (200, 300)
    with pytest.raises(RequestError):
        read_image(example.path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_of_the_photo_as_it_is_read(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = photo(tmp_path / f"a.{suffix}", orientation)
    (example,) = open_data(f"folder:{tmp_path}").examples
    assert example.size == tuple(read_image(path).shape[1:])


Stated = Callable[[Path, tuple[int, int]], Data]


def as_coco(folder: Path, size: tuple[int, int]) -> Data:
    return coco_of(folder, images=[{"id": 1, "file_name": "a.jpg", "width": size[0], "height": size[1]}])


def test_turned_photos_are_faults_where_it_is_not_known_what_the_boxes_mean(tmp_path: Path) -> None:
    for orientation in range(2, 9):
        photo(tmp_path / "a.jpg", orientation)
        by_90 = orientation >= 5
        # As stored: the boxes are of a photo that nobody is shown.
        (fault,) = as_coco(tmp_path, (WIDTH, HEIGHT)).faults
        assert f"EXIF orientation {orientation}" in fault.says and fault.path.name == "a.jpg"
        as_shown = as_coco(tmp_path, (HEIGHT, WIDTH))
        assert len(as_shown.examples) == by_90
        if by_90:
            assert as_shown.examples[0].size == (WIDTH, HEIGHT)
        # A CSV's boxes are of the photo as a viewer shows it.
        (example,) = csv_of(tmp_path, "a.jpg,dog,0,0,10,10").examples
        assert example.size == ((WIDTH, HEIGHT) if by_90 else (HEIGHT, WIDTH))
