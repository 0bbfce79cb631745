"""What is wrong with a data set: all of it found in one pass, before hours are spent on it.

A box or a point may reach `MARGIN` pixels beyond the image and is then cut off at its border: data sets round, and
tools differ in whether the first pixel is 0 or 1 and whether the last one counts. Whatever reaches further is a fault.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Protocol, runtime_checkable

from PIL import ExifTags, Image, UnidentifiedImageError
from tqdm import tqdm

from preimage.evaluation.data.example import Annotation, Box, Data, Example, Fault
from preimage.images import MAX_PIXELS

MARGIN = 1.0
"""How many pixels a box or a point may lie outside of the image."""

_LARGEST = 1e7
"""No coordinate of a photo is larger; pycocotools would set aside memory for it."""

_TURNED_BY_90 = (5, 6, 7, 8)


class FaultyError(ValueError):
    """Something in a data set that cannot be meant so, in a sentence without a subject."""


@runtime_checkable
class Checkable(Protocol):
    """A region that knows what can be wrong with it."""

    def why_wrong(self, height: int, width: int) -> str | None:
        """What makes it no region of an image of this size; None: nothing."""


@dataclass
class Draft:
    """A photo as the data set's files describe it, before anybody has looked at the photo.

    labels: the classes that are asked of it. annotations: its objects, each with what the file calls it (`row 3`).
    written_in: the file in which the annotations stand. size: (height, width) according to it.
    as_shown: positions are meant in the photo as a viewer shows it, held as its EXIF orientation says.
    faults: what was found while reading.
    """

    path: Path
    labels: tuple[str, ...]
    written_in: Path
    annotations: list[tuple[str, Annotation]] = field(default_factory=list)
    size: tuple[int, int] | None = None
    as_shown: bool = False
    faults: list[Fault] = field(default_factory=list)


@dataclass
class Contents:
    """All photos of a data set; the faults that belong to none of them; how many were left out on purpose, and why."""

    drafts: list[Draft]
    faults: list[Fault] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)


def examined(source: str, contents: Contents) -> Data:
    """The data set with every photo looked at; only the photos' headers are read, no pixels.

    A bar on standard error shows how far it is, if that is a terminal.
    """
    examples, faults = [], list(contents.faults)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `MAX_PIXELS` is checked instead
        for draft in tqdm(contents.drafts, "checking", disable=None, unit="photo", leave=False):
            found = _examined(draft)
            if isinstance(found, Example):
                examples.append(found)
            else:
                faults += found
    return Data(source, tuple(examples), tuple(faults), contents.skipped)


def inside(folder: Path, name: str) -> Path:
    """A file that a data set names, below `folder`.

    Raises `FaultyError` for an absolute path or one that climbs out: who made the data set has no say over other files.
    """
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.is_absolute() or path.drive or ".." in path.parts:
            raise FaultyError(f"names the photo '{name}', which lies outside of {folder}")
    if not PurePosixPath(name).parts:
        raise FaultyError("names no photo")
    return folder / name


def number(value: Any) -> float:
    """A coordinate out of a file, as a number or as text.

    Raises `FaultyError` if it is none, not finite or far larger than any photo.
    """
    try:
        found = math.nan if isinstance(value, bool) or value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not abs(found) < _LARGEST:
        raise FaultyError(f"has {_short(value)} where a number of pixels should be")
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


@dataclass(frozen=True)
class _Header:
    """What a photo's file says of itself: (height, width) as stored and as shown, and its EXIF orientation."""

    stored: tuple[int, int]
    shown: tuple[int, int]
    orientation: int


def _header(path: Path) -> _Header:
    """Raises `FaultyError` if it is missing, no image, or nothing that `preimage.images.read_image` would take."""
    try:
        with Image.open(path) as file:
            width, height = file.size
            orientation = _orientation(file)
            mode = file.mode
    except FileNotFoundError as error:
        raise FaultyError("is missing") from error
    except UnidentifiedImageError as error:
        raise FaultyError("is no image that can be read") from error
    except Image.DecompressionBombError as error:
        raise FaultyError(f"has more than {MAX_PIXELS:,} pixels") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise FaultyError(f"cannot be read: {error}") from error
    if width * height > MAX_PIXELS:
        raise FaultyError(f"is {width} x {height}; more than {MAX_PIXELS:,} pixels are refused")
    if mode in ("I", "F"):
        raise FaultyError("has 32-bit values, whose range is not known; save it with 8 or 16 bits")
    stored = (height, width)
    return _Header(stored, stored[::-1] if orientation in _TURNED_BY_90 else stored, orientation)


def _orientation(file: Image.Image) -> int:
    # Pillow gives the size of a TIFF as it is shown, and would decode a PNG to find EXIF data behind its pixels.
    if file.format == "TIFF" or (file.format == "PNG" and "exif" not in file.info):
        return 1
    try:
        found = file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata makes Pillow raise errors of any kind; `read_image` then ignores it, too
        return 1
    return found if found in range(1, 9) else 1


def _examined(draft: Draft) -> Example | list[Fault]:
    faults = list(draft.faults)
    try:
        header = _header(draft.path)
        _check_size(draft, header)
    except FaultyError as error:
        return [*faults, Fault(draft.path, str(error))]
    annotations = []
    for name, annotation in draft.annotations:
        placed, wrong = _placed(annotation, header.shown)
        annotations.append(placed)
        faults += [Fault(draft.written_in, f"{name} {says}") for says in wrong]
    return faults or Example(draft.path, draft.labels, tuple(annotations), header.shown)


def _check_size(draft: Draft, header: _Header) -> None:
    """Raise `FaultyError` if the annotations may be meant in another image than is shown."""
    if not draft.annotations:
        return
    (height, width), stated = header.shown, draft.size
    if header.orientation != 1 and not draft.as_shown and (stated != header.shown or header.shown == header.stored):
        raise FaultyError(
            f"is turned or mirrored by its EXIF orientation {header.orientation}, and {draft.written_in.name} does "
            "not tell whether its annotations are meant with it or without; save the photo without"
        )
    if stated is not None and stated != header.shown:
        raise FaultyError(f"is {width} x {height}, but {draft.written_in.name} says {stated[1]} x {stated[0]}")


def _placed(annotation: Annotation, size: tuple[int, int]) -> tuple[Annotation, list[str]]:
    """The annotation with box and points cut off at the image's border, and what is wrong with it."""
    wrong: list[str] = []
    box, points = annotation.box, []
    if box is not None:
        try:
            box = _cut(box, size)
        except FaultyError as error:
            wrong.append(str(error))
    for name, x, y in annotation.points:
        if not (-MARGIN <= x <= size[1] + MARGIN and -MARGIN <= y <= size[0] + MARGIN):
            called = f"the point {name!r}" if name else "a point"
            wrong.append(f"has {called} at ({x:g}, {y:g}), outside of the image of {size[1]} x {size[0]}")
        points.append((name, _pixel(x, size[1]), _pixel(y, size[0])))
    if isinstance(annotation.region, Checkable):
        says = annotation.region.why_wrong(*size)
        wrong += [says] if says else []
    return replace(annotation, box=box, points=tuple(points)), wrong


def _cut(box: Box, size: tuple[int, int]) -> Box:
    left, top, right, bottom = box
    said = f"({left:g}, {top:g}, {right:g}, {bottom:g})"
    if right < left or bottom < top:
        raise FaultyError(f"has a box {said} whose corners are swapped")
    if right == left or bottom == top:
        raise FaultyError(f"has a box {said} that is empty")
    if min(left, top) < -MARGIN or right > size[1] + MARGIN or bottom > size[0] + MARGIN:
        raise FaultyError(f"has a box {said} that reaches outside of the image of {size[1]} x {size[0]}")
    cut = (max(left, 0.0), max(top, 0.0), min(right, float(size[1])), min(bottom, float(size[0])))
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        raise FaultyError(f"has a box {said} that lies outside of the image of {size[1]} x {size[0]}")
    return cut


def _pixel(position: float, count: int) -> float:
    """A position within the image as it is; the centre of the nearest pixel for others."""
    return position if 0 <= position < count else min(max(position, 0.5), count - 0.5)


def labels_of(annotations: Iterable[Annotation]) -> tuple[str, ...]:
    """The classes of single objects, each once, in the order in which they occur."""
    return tuple(dict.fromkeys(one.label for one in annotations if not one.crowd))
