"""`imagenet:IMAGES,ANNOTATIONS,BLACKLIST`: the boxes of ILSVRC's classification and localisation."""

from __future__ import annotations

import re
from pathlib import Path

from preimage.errors import RequestError
from preimage.evaluation.data.checking import Contents, Draft, FaultyError, labels_of
from preimage.evaluation.data.example import Annotation, Box, Fault
from preimage.evaluation.data.folder import photos_below
from preimage.evaluation.data.xml_file import PhotoXml, Written, read_all, xml_files

_WNID = re.compile(r"n\d{8}")
_TRAINING = re.compile(r"(n\d{8})_\d+")
_VALIDATION = re.compile(r"ILSVRC20\d\d_val_(\d+)")
_RIGHT = (
    "imagenet:IMAGES_FOLDER,ANNOTATIONS_FOLDER[,BLACKLIST.txt] takes ILSVRC's photos and their XML files, or "
    "imagenet:ROOT one folder that holds both"
)


def read_imagenet(where: str) -> Contents:
    """The photos that have an XML file, in the order of those files; the classes are called by their wnid.

    Both folders may be nested (by wnid) or flat: `NAME.xml` is about the photo `NAME`, whatever it says itself. ROOT is
    `ILSVRC/` as Kaggle has it, of which the validation photos are taken, or any folder that holds photos and XML files.
    The challenge counts a box's pixels from 0, its last ones being part of it: it covers xmin, ymin to xmax + 1,
    ymax + 1 in ours. Many XML files of training photos call their dogs by other names than the wnid; those are of
    the class that the file's own name says.
    BLACKLIST: a text file with the numbers of validation photos that are left out (SPEC M.5-10), 36 or
    ILSVRC2012_val_00000036, one in a line.

    Raises `RequestError` if these are not such folders, or not such a list.
    """
    images, annotations, blacklist = _places(where)
    files = xml_files(annotations)
    if not files:
        raise RequestError(f"'{annotations}' holds no XML files; {_RIGHT}")
    photos: dict[str, list[Path]] = {}
    for photo in photos_below(images):
        photos.setdefault(photo.stem, []).append(photo)
    if not photos:
        raise RequestError(f"'{images}' holds no image files; {_RIGHT}")
    drafts: list[Draft] = []
    faults: list[Fault] = []
    empty = banned = 0
    names: set[str] = set()
    for path, said in read_all(files, _RIGHT):
        name = path.stem
        number = _VALIDATION.fullmatch(name)
        found = photos.get(name, [])
        if name in names:
            faults.append(Fault(path, "is not the only XML file of this name"))
            drafts = [one for one in drafts if one.path.stem != name]
        elif number and int(number[1]) in blacklist:
            banned += 1
        elif isinstance(said, FaultyError):
            faults.append(Fault(path, str(said)))
        elif not said.objects:
            empty += 1
        elif len(found) > 1:
            faults.append(Fault(path, f"may be about {' or '.join(map(str, found))}; only one can be meant"))
        elif not found:
            faults.append(Fault(path, f"is about the photo '{name}', which is missing from {images}"))
        else:
            drafts.append(_draft(name, found[0], path, said))
        names.add(name)
    counted = {
        "blacklisted": banned,
        "without_objects": empty,
        "without_annotations": len(photos.keys() - names),
    }
    return Contents(drafts, faults, {key: n for key, n in counted.items() if n or (key == "blacklisted" and blacklist)})


def _places(where: str) -> tuple[Path, Path, frozenset[int]]:
    parts = [Path(one).expanduser() for one in where.split(",")]
    if len(parts) > 3:
        raise RequestError(f"'{where}' names {len(parts)} places; {_RIGHT}")
    for path in parts[:2]:
        if not path.is_dir():
            raise RequestError(f"'{path}' is not a folder; {_RIGHT}")
    if len(parts) == 1:
        root = parts[0]
        kaggle = root / "Data" / "CLS-LOC" / "val", root / "Annotations" / "CLS-LOC" / "val"
        images, annotations = kaggle if all(one.is_dir() for one in kaggle) else (root, root)
        return images, annotations, frozenset()
    return parts[0], parts[1], _blacklist(parts[2]) if len(parts) == 3 else frozenset()


def _blacklist(path: Path) -> frozenset[int]:
    try:
        lines = path.read_text("utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"the blacklist '{path}' cannot be read: {error}") from error
    numbers = set()
    for line in lines:
        name = _VALIDATION.fullmatch(line.removesuffix(".JPEG"))
        if not name and not re.fullmatch(r"[0-9]{1,8}", line):
            raise RequestError(
                f"the blacklist '{path}' has {line[:40]!r} where the number of a validation photo should be (36, or "
                "ILSVRC2012_val_00000036)"
            )
        numbers.add(int(name[1] if name else line))
    if not numbers:
        raise RequestError(f"the blacklist '{path}' is empty")
    return frozenset(numbers)


def _draft(name: str, photo: Path, path: Path, said: PhotoXml) -> Draft:
    draft = Draft(photo, (), path, size=said.size)
    training = _TRAINING.fullmatch(name)
    for i, one in enumerate(said.objects, start=1):
        called = f"object {i} ({one.name})"
        wnid = one.name if _WNID.fullmatch(one.name) or not training else training[1]
        draft.faults += [Fault(path, f"{called} {wrong}") for wrong in one.wrong]
        if one.name and not _WNID.fullmatch(wnid):
            draft.faults.append(Fault(path, f"{called} is not called by a wnid, n and eight digits"))
        draft.annotations.append((called, Annotation(wnid, _half_open(one))))
    draft.labels = labels_of(annotation for _, annotation in draft.annotations)
    return draft


def _half_open(one: Written) -> Box | None:
    if one.corners is None:
        return None
    left, top, right, bottom = one.corners
    # (Swapped corners must not become a box.)
    if right < left or bottom < top:
        return one.corners
    return left, top, right + 1, bottom + 1
