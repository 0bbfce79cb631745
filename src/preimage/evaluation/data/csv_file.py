"""`csv:FILE`: a table of photos with boxes or points."""

from __future__ import annotations

import csv
from pathlib import Path

from preimage.errors import RequestError
from preimage.evaluation.data.checking import Contents, Draft, FaultyError, inside, number
from preimage.evaluation.data.example import Annotation, Box, Fault

BOX = ("x0", "y0", "x1", "y1")
POINT = ("x", "y")
COLUMNS = ("path", "label", *BOX, *POINT, "name")
_RIGHT = "csv:FILE starts with path,label,x0,y0,x1,y1 for boxes, path,label,x,y,name for points, or path,label"


def read_csv(where: str) -> Contents:
    """The photos of a CSV file in the order in which they first occur; rows of the same photo and label are objects.

    Paths are relative to the folder of the CSV. Boxes are x0, y0 to x1, y1 in pixels from the top left corner of the
    photo as a viewer shows it, x1 and y1 just outside; the first pixel's centre is the point (0.5, 0.5). Where the
    cells of a box or a point are all empty, the row says only that the label is on the photo.

    Raises `RequestError` if it is no such table.
    """
    path = Path(where).expanduser()
    if not path.is_file():
        raise RequestError(f"there is no file '{path}'; {_RIGHT}")
    columns, rows = table(path, ("path", "label"), COLUMNS, _RIGHT)
    for group in (BOX, POINT):
        missing = [one for one in group if one not in columns]
        if missing and (len(missing) < len(group) or (group == POINT and "name" in columns)):
            raise RequestError(f"'{path}' has no column {', '.join(missing)}; {_RIGHT}")
    drafts: dict[Path, Draft] = {}
    faults: list[Fault] = []
    for line, row in rows:
        name = f"row {line}"
        try:
            if None in row:
                raise FaultyError("has more cells than the first line")
            photo, label = inside(path.parent, row["path"]), row["label"]
        except FaultyError as error:
            faults.append(Fault(path, f"{name} {error}"))
            continue
        draft = drafts.setdefault(photo, Draft(photo, (), path, as_shown=True))
        try:
            if not label:
                raise FaultyError("has no label")
            box, point = _box(row), _point(row)
        except FaultyError as error:
            draft.faults.append(Fault(path, f"{name} ({row['path']}) {error}"))
            continue
        draft.labels = tuple(dict.fromkeys([*draft.labels, label]))
        if box or point:
            draft.annotations.append(
                (f"{name} ({label}, {row['path']})", Annotation(label, box, points=() if point is None else (point,)))
            )
    if not drafts and not faults:
        raise RequestError(f"'{path}' has no rows below its first line")
    return Contents(list(drafts.values()), faults)


def table(
    path: Path, needed: tuple[str, ...], known: tuple[str, ...], right: str
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a CSV file, and its rows with the number of the line that each ends in.

    Cells have no space around them; missing ones are empty. What a row has beyond its columns stands under None.
    Raises `RequestError` if it is not UTF-8, or its columns are not all that are `needed` and only those `known`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            columns = [(one or "").strip() for one in reader.fieldnames or []]
            missing = [one for one in needed if one not in columns]
            others = [one for one in columns if one not in known]
            said = ",".join(columns)
            said = f"its first line is {said[:77] + '...' if len(said) > 80 else said!r}"
            if missing:
                raise RequestError(f"'{path}' has no column {' and no column '.join(missing)} ({said}); {right}")
            if others:
                raise RequestError(f"'{path}' has the unknown column {others[0]!r} ({said}); {right}")
            if len(set(columns)) < len(columns):
                raise RequestError(f"'{path}' has a column twice ({said}); {right}")
            reader.fieldnames = columns
            rows = []
            for row in reader:
                rows.append((reader.line_num, {key: (c.strip() if key is not None else "") for key, c in row.items()}))
    except UnicodeDecodeError as error:
        raise RequestError(f"'{path}' is not a text in UTF-8; {right}") from error
    except csv.Error as error:
        raise RequestError(f"'{path}' is no CSV: {error}; {right}") from error
    except OSError as error:
        raise RequestError(f"'{path}' cannot be read: {error.strerror or error}") from error
    return columns, rows


def _box(row: dict[str, str]) -> Box | None:
    cells = [row.get(one, "") for one in BOX]
    if not any(cells):
        return None
    left, top, right, bottom = map(number, cells)
    return left, top, right, bottom


def _point(row: dict[str, str]) -> tuple[str, float, float] | None:
    cells = [row.get(one, "") for one in POINT]
    if not any(cells):
        if row.get("name"):
            raise FaultyError(f"names the point {row['name']!r} without saying where it is")
        return None
    x, y = map(number, cells)
    return row.get("name", ""), x, y
