"""`folder:DIR`: photos in a sub-folder for each class, or without classes in one folder."""

from __future__ import annotations

from pathlib import Path

from preimage.errors import RequestError
from preimage.evaluation.data.checking import Contents, Draft
from preimage.evaluation.data.example import Fault
from preimage.images import image_files


def read_folder(where: str) -> Contents:
    """The photos below `where`, class by class in the order of their names; a class is called as its folder is.

    Photos that lie in `where` itself have no class. Hidden files are passed over, and those that are
    no images by their names.

    Raises `RequestError` if it is no folder, holds no photos, holds some of both kinds, or is a Pascal VOC data set.
    """
    root = Path(where).expanduser()
    if not root.is_dir():
        raise RequestError(f"'{root}' is not a folder; folder:DIR takes one of photos, or of a folder for each class")
    if (root / "Annotations").is_dir() and (root / "JPEGImages").is_dir():
        raise RequestError(f"'{root}' holds Annotations/ and JPEGImages/, as Pascal VOC does; give it as voc:{root}")
    # What `evaluate` wrote beside the photos is none of them.
    classes = sorted(
        one
        for one in root.iterdir()
        if one.is_dir() and not one.name.startswith(".") and not (one / "job.json").exists()
    )
    loose = [path for path in photos_below(root) if path.parent == root]
    if not classes and not loose:
        raise RequestError(f"'{root}' holds no image files")
    drafts, faults = [Draft(path, (), path) for path in loose], []
    for one in classes:
        photos = photos_below(one)
        drafts += [Draft(path, (one.name,), path) for path in photos]
        if not photos:
            faults.append(Fault(one, "holds no image files"))
    if loose and len(drafts) > len(loose):
        raise RequestError(
            f"'{root}' holds {len(loose)} photos beside {len(classes)} folders; put them into such folders, too"
        )
    if not drafts:
        raise RequestError(f"'{root}' holds no image files")
    return Contents(drafts, [] if loose else faults)


def photos_below(root: Path) -> list[Path]:
    """All image files below a folder, sorted, without hidden ones (a Mac leaves `._photo.jpg` beside `photo.jpg`)."""
    try:
        found = image_files(root)
    except RequestError:
        return []
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]
