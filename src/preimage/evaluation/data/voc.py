"""`voc:ROOT`: Pascal VOC, boxes and the masks of single objects."""

from __future__ import annotations

from pathlib import Path

from preimage.errors import RequestError
from preimage.evaluation.data.checking import Contents, Draft, FaultyError, labels_of
from preimage.evaluation.data.example import Annotation, Box, Fault
from preimage.evaluation.data.folder import photos_below
from preimage.evaluation.data.regions import Painted
from preimage.evaluation.data.xml_file import PhotoXml, Written, read_all, xml_files

CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor"
).split()
"""VOC's own classes; 1 is the first in `SegmentationClass`."""

_RIGHT = "voc:ROOT takes the folder that holds Annotations/ with an XML file for each photo, and JPEGImages/"


def read_voc(where: str) -> Contents:
    """The photos that have an XML file, in the order of their names: `Annotations/NAME.xml` is about `JPEGImages/NAME`.

    VOC counts pixels from 1, and the last one belongs to a box: it covers xmin - 1, ymin - 1 to xmax, ymax in ours.
    Where `SegmentationObject/NAME.png` is there, its number 1 is the first object of the XML, and so on; it is compared
    with `SegmentationClass/NAME.png`. Which objects are `difficult` is not looked at.

    Raises `RequestError` if it is not such a folder.
    """
    root = Path(where).expanduser()
    annotations, images = root / "Annotations", root / "JPEGImages"
    if not annotations.is_dir() or not images.is_dir():
        raise RequestError(f"{_why_not(root)}; {_RIGHT}")
    files = xml_files(annotations)
    if not files:
        raise RequestError(f"'{annotations}' holds no XML files; {_RIGHT}")
    photos: dict[Path, list[Path]] = {}
    for path in photos_below(images):
        photos.setdefault(path.relative_to(images).with_suffix(""), []).append(path)
    drafts: list[Draft] = []
    faults: list[Fault] = []
    empty, names = 0, set()
    for path, said in read_all(files, _RIGHT):
        name = path.relative_to(annotations).with_suffix("")
        names.add(name)
        found = photos.get(name, [])
        if isinstance(said, FaultyError):
            faults.append(Fault(path, str(said)))
        elif not said.objects:
            empty += 1
        elif len(found) > 1:
            faults.append(Fault(path, f"may be about {' or '.join(one.name for one in found)}; only one can be meant"))
        elif not found:
            faults.append(Fault(images / f"{name}.jpg", f"is missing, but there is {path.relative_to(root)}"))
        else:
            drafts.append(_draft(root, name, found[0], path, said))
    counted = {"without_objects": empty, "without_annotations": len(photos.keys() - names)}
    return Contents(drafts, faults, {key: count for key, count in counted.items() if count})


def _why_not(root: Path) -> str:
    if root.is_file():
        return f"'{root}' is a file" + (
            "; COCO's is given as coco:IMAGES_FOLDER,INSTANCES.json" if root.suffix.lower() == ".json" else ""
        )
    if not root.is_dir():
        return f"there is no folder '{root}'"
    nearby = [one.parent for depth in ("*", "*/*") for one in sorted(root.glob(f"{depth}/Annotations"))]
    inner = next((one for one in nearby if (one / "JPEGImages").is_dir()), None)
    return f"'{root}' does not hold both" + (f", but '{inner}' does" if inner else "")


def _draft(root: Path, name: Path, photo: Path, path: Path, said: PhotoXml) -> Draft:
    objects, classes = (root / kind / f"{name}.png" for kind in ("SegmentationObject", "SegmentationClass"))
    is_painted = objects.is_file()
    draft = Draft(photo, (), path, size=said.size)
    for i, one in enumerate(said.objects, start=1):
        called = f"object {i} ({one.name})"
        draft.faults += [Fault(path, f"{called} {wrong}") for wrong in one.wrong]
        region = None
        if is_painted:
            number = CLASSES.index(one.name) + 1 if one.name in CLASSES else None
            region = Painted(objects, i, classes if classes.is_file() else None, number)
        draft.annotations.append((called, Annotation(one.name, _half_open(one), region)))
    draft.labels = labels_of(annotation for _, annotation in draft.annotations)
    return draft


def _half_open(one: Written) -> Box | None:
    if one.corners is None:
        return None
    left, top, right, bottom = one.corners
    # (Swapped corners must not become a box.)
    if right < left or bottom < top:
        return one.corners
    return left - 1, top - 1, right, bottom
