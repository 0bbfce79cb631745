"""Pascal VOC's XML of one photo, which ImageNet's localisation uses, too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tqdm import tqdm

from preimage.errors import RequestError
from preimage.evaluation.data.checking import FaultyError, number
from preimage.evaluation.data.example import Box

MAX_BYTES = 4_000_000
"""Larger files are refused; the largest of VOC and ImageNet have a few kilobytes."""


@dataclass(frozen=True)
class Written:
    """An object as the file has it: its name, its four numbers, and what is wrong with them."""

    name: str
    corners: Box | None
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class PhotoXml:
    """What the XML of a photo says: (height, width), and its objects in the file's order."""

    size: tuple[int, int] | None
    objects: tuple[Written, ...]


def xml_files(folder: Path) -> list[Path]:
    """All XML files below a folder, sorted, without hidden ones."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() == ".xml")
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def read_all(files: list[Path], right: str) -> list[tuple[Path, PhotoXml | FaultyError]]:
    """What each file says, or what is wrong with it; a bar shows how far it is, as in `examined`.

    Raises `RequestError` if not one of them is what `right` describes.
    """
    found: list[tuple[Path, PhotoXml | FaultyError]] = []
    for path in tqdm(files, "reading", disable=None, unit="file", leave=False):
        try:
            found.append((path, read_xml(path)))
        except FaultyError as error:
            found.append((path, error))
    if found and all(isinstance(said, FaultyError) for _, said in found):
        raise RequestError(f"'{found[0][0]}' {found[0][1]}; {right}")
    return found


def read_xml(path: Path) -> PhotoXml:
    """Raises `FaultyError` if the file is not well-formed, or not about a photo.

    Files from elsewhere are not trusted: a document type, in which entities can be declared that unfold into gigabytes
    or name other files, is refused.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise FaultyError(f"cannot be read: {error.strerror or error}") from error
    if data is None:
        raise FaultyError(f"has more than {MAX_BYTES:,} bytes")
    try:
        # Decoded here, so that nothing can hide from the next line in another encoding.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FaultyError("is no XML in UTF-8") from error
    if "<!DOCTYPE" in text:
        raise FaultyError("declares a document type (DOCTYPE), which is refused")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise FaultyError(f"is not well-formed XML: {error}") from error
    if root.tag != "annotation":
        raise FaultyError(f"is XML about <{root.tag[:40]}>, not about the <annotation> of a photo")
    return PhotoXml(_size(root), tuple(_object(one) for one in root.findall("object")))


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    size = root.find("size")
    if size is None:
        return None
    height, width = (number(_text(size, key)) for key in ("height", "width"))
    return int(height), int(width)


def _object(element: ElementTree.Element) -> Written:
    name, box = _text(element, "name"), element.find("bndbox")
    wrong = [] if name else ["has no <name>"]
    corners = None
    if box is not None:
        try:
            left, top, right, bottom = (number(_text(box, key)) for key in ("xmin", "ymin", "xmax", "ymax"))
            corners = (left, top, right, bottom)
        except FaultyError as error:
            wrong.append(str(error))
    return Written(name, corners, tuple(wrong))


def _text(element: ElementTree.Element, key: str) -> str:
    return (element.findtext(key) or "").strip()
