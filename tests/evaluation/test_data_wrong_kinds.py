"""A data set of the wrong kind is refused in one sentence, which says what it is and what would be right."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from preimage import RequestError
from preimage.evaluation.data import open_data

HERE = Path(__file__).parent / "data"
PHOTOS, INSTANCES = HERE / "photos", HERE / "instances.json"
TENCHES = PHOTOS / "tench"


def refused(source: str, match: str) -> None:
    with pytest.raises(RequestError, match=match) as caught:
        open_data(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["photos", "", "cocoo:a,b", ":x", "voc", "voc:", "COCO:a,b", str(PHOTOS)])
def test_unknown_kinds_name_the_known_ones(source: str) -> None:
    refused(
        source, "is no data set.*; give folder:DIR, coco:IMAGES_FOLDER,INSTANCES.json, voc:ROOT, imagenet:.*csv:FILE"
    )


def test_the_nearest_kind_is_named() -> None:
    refused("cocoo:a,b", "the nearest is coco")


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("folder:{none}", "is not a folder; folder:DIR"),
        ("folder:{here}/instances.json", "is not a folder"),
        ("folder:{empty}", "holds no image files"),
        ("folder:{here}/voc", "as Pascal VOC does; give it as voc:"),
        ("coco:{photos}", "names one place, where a folder and a file are needed; coco:IMAGES"),
        ("coco:{photos},{none}", "cannot be read: No such file"),
        ("coco:{photos},{photos}", "cannot be read: Is a directory"),
        ("coco:{none},{here}/instances.json", "is not a folder"),
        ("coco:{photos},{photos}/boxes.csv", "is no JSON that can be read"),
        ("coco:{photos},{xml}", "is no JSON that can be read"),
        ("coco:{photos},{jpg}", "is no JSON that can be read"),
        (
            "voc:{here}/instances.json",
            "is a file; COCO's is given as coco:IMAGES_FOLDER,INSTANCES.json; voc:ROOT takes",
        ),
        ("voc:{none}", "there is no folder"),
        ("voc:{photos}", "does not hold both; voc:ROOT takes the folder that holds Annotations/"),
        ("voc:{here}", "does not hold both, but '.*/data/voc' does"),
        ("imagenet:{none}", "is not a folder; imagenet:IMAGES"),
        ("imagenet:{photos}", "holds no XML files"),
        ("imagenet:{here}/voc/Annotations,{here}/imagenet", "holds no image files"),
        ("imagenet:{photos},{here}/imagenet,{none}", "the blacklist .* cannot be read"),
        ("imagenet:{photos},a,b,c", "names 4 places"),
        ("csv:{none}", "there is no file"),
        ("csv:{here}/instances.json", "has no column path"),
        ("csv:{xml}", "has no column path"),
        ("csv:{jpg}", "is not a text in UTF-8"),
        ("csv:{photos}", "there is no file"),
    ],
)
def test_wrong_kinds(tmp_path: Path, source: str, match: str) -> None:
    places = {
        "none": tmp_path / "none",
        "empty": tmp_path,
        "here": HERE,
        "photos": PHOTOS,
        "xml": HERE / "voc" / "Annotations" / "n03000684_11697.xml",
        "jpg": TENCHES / "ILSVRC2012_val_00000293.jpg",
    }
    refused(source.format(**places), match)


@pytest.mark.parametrize(
    ("document", "match"),
    [
        ([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], "is a list, as results of detectors"),
        ("tench", "is no JSON object"),
        (None, "is no JSON object"),
        ({}, "has no list of images and none of annotations and none of categories"),
        ({"images": [], "annotations": {}, "categories": []}, "has no list of annotations"),
        ({"images": [], "annotations": [{"image_id": 1, "caption": "A tench."}]}, "holds COCO's captions"),
        ({"images": [], "categories": [], "annotations": [{"segments_info": []}]}, "COCO's a panoptic segmentation"),
    ],
)
def test_json_of_another_kind(tmp_path: Path, document: Any, match: str) -> None:
    (tmp_path / "other.json").write_text(json.dumps(document))
    refused(
        f"coco:{PHOTOS},{tmp_path / 'other.json'}",
        f"{match}.*; coco:IMAGES_FOLDER,INSTANCES.json takes COCO's instances",
    )


@pytest.mark.parametrize("text", ["[" * 200_000, "9" * 10_000, '{"images": [', "", "\x00", "{'images': []}"])
def test_hostile_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    refused(f"coco:{PHOTOS},{tmp_path / 'other.json'}", "is no JSON that can be read")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "has no column path and no column label"),
        ("path,label\n", "has no rows"),
        ("path;label;x0;y0;x1;y1\na;b;1;2;3;4\n", "has no column path"),
        ("file,label\na,b\n", "has no column path"),
        ("path,label,xmin,ymin,xmax,ymax\na,b,1,2,3,4\n", "has the unknown column 'xmin'.*path,label,x0,y0,x1,y1"),
        ("path,label,x0,y0,x1\na,b,1,2,3\n", "has no column y1"),
        ("path,label,x\na,b,1\n", "has no column y"),
        ("path,label,name\na,b,c\n", "has no column x, y"),
        ("path,label,label\na,b,c\n", "has a column twice"),
        ('path,label\n"a,b\n', "is no CSV"),
    ],
)
def test_tables_of_another_kind(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    refused(f"csv:{tmp_path / 't.csv'}", match)


def test_photos_beside_folders_of_classes(tmp_path: Path) -> None:
    shutil.copytree(TENCHES, tmp_path / "tench")
    shutil.copy(TENCHES / "ILSVRC2012_val_00000293.jpg", tmp_path)
    refused(f"folder:{tmp_path}", "holds 1 photos beside 1 folders")


@pytest.mark.parametrize("text", ["<svg/>", "no XML", "<annotation>"])
def test_xml_that_is_all_of_another_kind(tmp_path: Path, text: str) -> None:
    shutil.copytree(HERE / "voc", tmp_path / "voc")
    for path in (tmp_path / "voc" / "Annotations").iterdir():
        path.write_text(text)
    refused(f"voc:{tmp_path / 'voc'}", "; voc:ROOT takes the folder that holds Annotations/ with an XML file")
    refused(f"imagenet:{PHOTOS},{tmp_path / 'voc' / 'Annotations'}", "; imagenet:IMAGES_FOLDER")


def test_without_pycocotools_only_polygons_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def none(name: str, package: str | None = None) -> Any:
        if name.startswith("pycocotools"):
            raise ModuleNotFoundError("No module named 'pycocotools'", name="pycocotools")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", none)
    refused(f"coco:{PHOTOS},{INSTANCES}", r"pip install 'preimage\[evaluation\]'")
    assert len(open_data(f"voc:{HERE / 'voc'}").examples) == 3


def test_a_home_folder_may_be_written_as_in_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(HERE))
    assert len(open_data("folder:~/photos").examples) == 3
    assert len(open_data("coco:~/photos,~/instances.json").examples) == 3
    assert len(open_data("csv:~/photos/boxes.csv").examples) == 3
