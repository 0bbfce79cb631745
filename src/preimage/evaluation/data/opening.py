"""Opening a data set by a string, `KIND:PATH`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from preimage.errors import RequestError, nearest
from preimage.evaluation.data.checking import Contents, examined
from preimage.evaluation.data.coco import read_coco
from preimage.evaluation.data.csv_file import read_csv
from preimage.evaluation.data.example import Data
from preimage.evaluation.data.folder import read_folder
from preimage.evaluation.data.imagenet import read_imagenet
from preimage.evaluation.data.voc import read_voc

KINDS: dict[str, Callable[[str], Contents]] = {
    "folder": read_folder,
    "coco": read_coco,
    "voc": read_voc,
    "imagenet": read_imagenet,
    "csv": read_csv,
}
"""What can stand before the colon, and what reads the rest."""


def open_data(source: str, *, classes: Collection[str] | None = None) -> Data:
    """A data set, with everything that is wrong with it found at once.

    source: `folder:DIR` (photos, or a folder of photos for each class), `coco:IMAGES_FOLDER,INSTANCES.json`,
        `voc:ROOT`, `imagenet:IMAGES_FOLDER,ANNOTATIONS_FOLDER[,BLACKLIST.txt]` or `csv:FILE`; see the functions that
        read them for what each takes.
    classes: only the photos with one of these labels, of which only these are asked; their other objects stay known.

    Of the photos no more than the header is read; a photo that is damaged behind it is found when it is used. Photos
    with a fault are not among the examples.

    Raises `RequestError` if the source as a whole is not of its kind, or no photo without fault has one of `classes`.
    """
    kind, colon, where = source.partition(":")
    if not colon or kind not in KINDS or not where:
        close = nearest(kind, KINDS)
        hint = f" (the nearest is {close[0]})" if colon and close and kind not in KINDS else ""
        raise RequestError(
            f"'{source}' is no data set{hint}; give folder:DIR, coco:IMAGES_FOLDER,INSTANCES.json, voc:ROOT, "
            "imagenet:IMAGES_FOLDER,ANNOTATIONS_FOLDER or csv:FILE"
        )
    data = examined(source, KINDS[kind](where))
    return data if classes is None else _only(data, [classes] if isinstance(classes, str) else classes)


def _only(data: Data, classes: Collection[str]) -> Data:
    unknown = [one for one in classes if one not in data.labels]
    if unknown:
        close = nearest(unknown[0], data.labels) or data.labels[:4]
        hint = f"; it has {', '.join(close)}" if close else ""
        raise RequestError(f"no photo of {data.source} that is without fault has the label '{unknown[0]}'{hint}")
    kept = [
        replace(example, labels=labels)
        for example in data.examples
        if (labels := tuple(one for one in example.labels if one in classes))
    ]
    return replace(data, examples=tuple(kept))
