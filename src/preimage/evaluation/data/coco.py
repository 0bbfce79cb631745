"""`coco:IMAGES_FOLDER,INSTANCES.json`: COCO's boxes, masks and keypoints."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from preimage.errors import RequestError
from preimage.evaluation.data.checking import Contents, Draft, FaultyError, inside, labels_of, number
from preimage.evaluation.data.example import Annotation, Box, Fault, Region
from preimage.evaluation.data.regions import Polygons, RunLengths, coco_masks
from preimage.images import MAX_PIXELS

MAX_BYTES = 2_000_000_000
"""Larger files are refused; the largest of COCO's has half a gigabyte."""

VISIBLE = 2
"""How COCO marks a keypoint that can be seen (1: it is hidden, 0: it is not known where it is)."""

_RIGHT = "coco:IMAGES_FOLDER,INSTANCES.json takes COCO's instances or keypoints"
_Part = TypeVar("_Part")
_Id = int | str


@dataclass(frozen=True)
class _Category:
    name: str
    keypoints: tuple[str, ...]


def read_coco(where: str) -> Contents:
    """The photos of an instances or keypoints file, in the file's order, and what COCO says is on them.

    A box is x, y, width, height in pixels from the top left corner. A mask is polygons, which are read with
    pycocotools, or run lengths, compressed or not. Of the keypoints those that are visible become points; they name a
    pixel, of which a point is the centre. A photo's labels are its categories without those of crowds only; photos
    without any are left out and counted.

    Raises `RequestError` if it is no such file, or polygons occur and pycocotools is not installed.
    """
    folder_name, comma, file_name = where.rpartition(",")
    if not comma:
        raise RequestError(f"'{where}' names one place, where a folder and a file are needed; {_RIGHT}")
    folder, path = Path(folder_name).expanduser(), Path(file_name).expanduser()
    document = _document(path)
    if not folder.is_dir():
        raise RequestError(f"'{folder}' is not a folder; {_RIGHT}")
    return _Reading(folder, path, document).contents()


def _document(path: Path) -> dict[str, Any]:
    """The file's JSON object; raises `RequestError` unless it is one with images, annotations and categories."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RequestError(f"'{path}' has more than {MAX_BYTES:,} bytes")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise RequestError(f"'{path}' cannot be read: {error.strerror or error}; {_RIGHT}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"'{path}' is no JSON that can be read ({error}); {_RIGHT}") from error
    why = _why_other(document)
    if why:
        raise RequestError(f"'{path}' {why}; {_RIGHT}")
    found: dict[str, Any] = document
    return found


def _why_other(document: Any) -> str | None:
    """What the JSON is, if it is something else than instances."""
    if isinstance(document, list):
        return "is a list, as results of detectors are, not an object with images, annotations and categories"
    if not isinstance(document, dict):
        return "is no JSON object with images, annotations and categories"
    annotations = document.get("annotations")
    first = annotations[0] if isinstance(annotations, list) and annotations else None
    if isinstance(first, dict) and "category_id" not in first:
        for key, kind in (("caption", "captions"), ("segments_info", "a panoptic segmentation")):
            if key in first:
                return f"holds COCO's {kind}, not instances"
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(document.get(key), list)]
    return f"has no list of {' and none of '.join(missing)}" if missing else None


class _Reading:
    """One instances file, and what is wrong with it."""

    def __init__(self, folder: Path, path: Path, document: dict[str, Any]):
        self._folder, self._path, self._document = folder, path, document
        self._faults: list[Fault] = []
        self._wrong_photos: set[_Id] = set()
        self._is_crowd_only = 0

    def contents(self) -> Contents:
        categories = self._categories()
        drafts = self._photos()
        described: set[_Id] = set()
        known: set[_Id] = set()
        for i, entry in enumerate(self._document["annotations"]):
            name = f"annotation number {i}"
            try:
                own = _id(entry, "id")
                name = f"annotation {own}"
                if own in known:
                    raise FaultyError("is there more than once")
                known.add(own)
                photo = _id(entry, "image_id")
            except FaultyError as error:
                self._say(f"{name} {error}")
                continue
            described.add(photo)
            if photo in drafts:
                self._add(drafts[photo], name, entry, categories)
            elif photo not in self._wrong_photos:
                self._say(f"{name} is of an unknown image, {photo}")
        for draft in drafts.values():
            draft.labels = labels_of(one for _, one in draft.annotations)
        wanted = [draft for draft in drafts.values() if draft.labels or draft.faults]
        left_out = len(drafts) - len(wanted)
        return Contents(wanted, self._faults, {"without_objects": left_out} if left_out else {})

    def _say(self, what: str) -> None:
        self._faults.append(Fault(self._path, what))

    def _categories(self) -> dict[_Id, _Category]:
        found: dict[_Id, _Category] = {}
        for i, entry in enumerate(self._document["categories"]):
            try:
                own, name = _id(entry, "id"), entry.get("name")
                points = entry.get("keypoints") or []
                if not isinstance(name, str) or not name.strip():
                    raise FaultyError("has no name")
                if not isinstance(points, list) or not all(isinstance(one, str) for one in points):
                    raise FaultyError("has keypoints that are no list of names")
                if own in found:
                    raise FaultyError(f"has the id {own}, which another has, too")
                found[own] = _Category(name.strip(), tuple(points))
            except FaultyError as error:
                self._say(f"category number {i} {error}")
        for name, count in Counter(one.name for one in found.values()).items():
            if count > 1:
                self._say(f"{count} categories are called '{name}'")
        return found

    def _photos(self) -> dict[_Id, Draft]:
        """The photos by id. Of those whose ids or files are there twice none is kept."""
        found: dict[_Id, Draft] = {}
        ids_of_files: dict[Path, _Id] = {}
        for i, entry in enumerate(self._document["images"]):
            name = f"image number {i}"
            try:
                own = _id(entry, "id")
                name = f"image {own}"
                if own in found or own in self._wrong_photos:
                    self._wrong_photos.add(own)
                    raise FaultyError("is there more than once")
                self._wrong_photos.add(own)
                file_name = entry.get("file_name")
                if not isinstance(file_name, str):
                    raise FaultyError("has no file_name")
                photo = inside(self._folder, file_name)
                if photo in ids_of_files:
                    self._wrong_photos.add(ids_of_files[photo])
                    raise FaultyError(f"has the file {file_name}, as image {ids_of_files[photo]} has")
                size = _size(entry)
                ids_of_files[photo] = own
            except FaultyError as error:
                self._say(f"{name} {error}")
                continue
            found[own] = Draft(photo, (), self._path, size=size)
            self._wrong_photos.discard(own)
        return {own: draft for own, draft in found.items() if own not in self._wrong_photos}

    def _add(self, draft: Draft, name: str, entry: dict[str, Any], categories: dict[_Id, _Category]) -> None:
        """Put one annotation into the draft of its photo, or what is wrong with it."""
        called = f"{name} ({draft.path.name})"

        def say(what: str) -> None:
            draft.faults.append(Fault(self._path, f"{called} {what}"))

        def part(read: Callable[[Any], _Part], given: Any) -> _Part | None:
            try:
                return None if given is None else read(given)
            except FaultyError as error:
                say(str(error))
                return None

        category_id = entry.get("category_id")
        category = categories.get(category_id) if isinstance(category_id, (int, str)) else None
        if category is None:
            say(f"is of an unknown category, {category_id}")
            return
        called = f"{name} ({category.name}, {draft.path.name})"
        crowd = entry.get("iscrowd", 0)
        if crowd not in (0, 1):
            say(f"has an iscrowd that is neither 0 nor 1, but {crowd!r:.40}")
        points = part(lambda given: _points(given, category.keypoints), entry.get("keypoints"))
        annotation = Annotation(
            category.name,
            part(_box, entry.get("bbox")),
            part(_region, entry.get("segmentation")),
            points or (),
            crowd=bool(crowd),
        )
        draft.annotations.append((called, annotation))


def _id(entry: Any, key: str) -> _Id:
    if not isinstance(entry, dict):
        raise FaultyError("is no JSON object")
    found = entry.get(key)
    if isinstance(found, bool) or not isinstance(found, (int, str)):
        raise FaultyError(f"has no {key}")
    return found


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    """(height, width) as the file states it."""
    if entry.get("height") is None and entry.get("width") is None:
        return None
    return int(number(entry.get("height"))), int(number(entry.get("width")))


def _numbers(given: Any, what: str) -> list[float]:
    if not isinstance(given, list):
        raise FaultyError(f"has {what} that is no list of numbers")
    return [number(one) for one in given]


def _box(given: Any) -> Box | None:
    numbers = _numbers(given, "a bbox")
    if not numbers:
        return None
    if len(numbers) != 4:
        raise FaultyError(f"has a bbox of {len(numbers)} numbers; x, y, width and height are needed")
    x, y, width, height = numbers
    return x, y, x + width, y + height


def _region(given: Any) -> Region | None:
    if isinstance(given, list):
        if not given:
            return None
        coco_masks()
        return Polygons(tuple(tuple(_numbers(one, "a polygon")) for one in given))
    if not isinstance(given, dict):
        raise FaultyError("has a segmentation that is neither polygons nor run lengths")
    size, counts = given.get("size"), given.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        raise FaultyError("has run lengths without a size")
    height, width = (int(number(one)) for one in size)
    if isinstance(counts, str):
        if not counts.isascii():
            raise FaultyError("has run lengths in bytes that are not as COCO compresses them")
        return RunLengths((height, width), counts.encode())
    if not isinstance(counts, list) or not all(type(one) is int and 0 <= one <= MAX_PIXELS for one in counts):
        raise FaultyError("has run lengths that are no list of whole numbers of pixels")
    return RunLengths((height, width), tuple(counts))


def _points(given: Any, names: tuple[str, ...]) -> tuple[tuple[str, float, float], ...]:
    numbers = _numbers(given, "a list of keypoints")
    if len(numbers) != 3 * len(names):
        raise FaultyError(
            f"has {len(numbers)} numbers of keypoints; its category has {len(names)} of three numbers each"
        )
    triples = zip(names, numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    return tuple((name, x + 0.5, y + 0.5) for name, x, y, seen in triples if seen == VISIBLE)
