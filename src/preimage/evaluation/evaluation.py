"""What `evaluate` returns: every number, and what they come to."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from preimage.errors import RequestError, WriteError
from preimage.evaluation.summary import FEWEST, Summary
from preimage.extras import from_extra
from preimage.images import written_whole

TableFormat = Literal["csv", "parquet"]

_CHUNK = 100_000
"""Rows that are brought into Parquet at once."""
_MARKS = {"unclear": "~", "worse": "-"}
_LEGEND = (
    "(95 % bootstrap intervals) ~c, ~r: cannot be told from the heat maps centre, random; -c, -r: worse than these"
)


@dataclass
class Evaluation:
    """Measures of explanations.

    rows: one for each photo, class, method, measure and quantity: plain JSON types, with all settings; `value` is None
        where the case does not count or failed, and `failed` says why it did.
    summary: each quantity of each method.
    settings: all that determines the results. interrupted: whether Ctrl-C ended it early.
    """

    rows: Sequence[dict[str, Any]]
    summary: list[Summary]
    settings: dict[str, Any]
    interrupted: bool = False
    cases: int = 0

    @property
    def failures(self) -> dict[str, int]:
        """Why pictures could not be measured, and how many for each reason."""
        seen = {(row["photo"], row["label"], row["method"], row["failed"]) for row in self.rows if row["failed"]}
        return dict(Counter(failed for *_, failed in sorted(seen)).most_common())

    def of(self, measure: str, quantity: str, method: str) -> Summary:
        """One of the summaries. Raises `RequestError` if there is none."""
        for one in self.summary:
            if (one.measure, one.quantity, one.method) == (measure, quantity, method):
                return one
        known = "; ".join(dict.fromkeys(f"{one.measure}, {one.quantity}" for one in self.summary))
        raise RequestError(f"nothing was measured of '{method}' by '{measure}', '{quantity}'; there are {known}")

    def as_dict(self) -> dict[str, Any]:
        """What `result.json` holds: plain JSON types, without the rows."""
        return {
            **self.settings,
            "interrupted": self.interrupted,
            "cases": self.cases,
            "summary": [one.as_dict() for one in self.summary],
            "failures": self.failures,
        }

    def __str__(self) -> str:
        columns = shutil.get_terminal_size((120, 24)).columns
        by_measure = ([one for one in self.summary if one.measure == name] for name in _names(self.summary))
        blocks = [_block(some, columns) for some in by_measure]
        is_compared = any(one.against and one.count >= FEWEST for one in self.summary)
        failed = [f"{count} x {why}" for why, count in self.failures.items()]
        return "\n\n".join(
            [
                *blocks,
                *([_LEGEND] if is_compared else []),
                *(["left out: " + "\n          ".join(failed)] if failed else []),
            ]
        )

    def save(self, folder: str | Path, table: TableFormat = "csv") -> Path:
        """Write the rows as `results.csv` or `results.parquet`, and `result.json`, each whole or not at all.

        The Parquet file has the settings in its metadata too, as "preimage". Raises `RequestError` where that format
        needs a package that is missing, or the folder cannot be written to.
        """
        check_format(table)
        path = Path(folder)
        try:
            with written_whole(path / f"results.{table}") as file:
                (_write_csv if table == "csv" else _write_parquet)(self.rows, self.settings, file)
            with written_whole(path / "result.json") as file:
                file.write_text(json.dumps(self.as_dict(), indent=1), encoding="utf-8")
        except OSError as error:
            raise WriteError(f"cannot write to the folder '{path}': {error.strerror or error}") from error
        return path


def check_format(table: str) -> None:
    """Raises `RequestError` for another format than csv and parquet, or where the package for it is missing."""
    if table not in get_args(TableFormat):
        raise RequestError(f"a table is {' or '.join(get_args(TableFormat))}, not '{table}'")
    if table == "parquet":
        from_extra("pyarrow.parquet", "parquet")


def _names(summary: Sequence[Summary]) -> list[str]:
    return list(dict.fromkeys(one.measure for one in summary))


def _block(some: Sequence[Summary], columns: int) -> str:
    """One measure as tables that are no wider than so many columns: methods down, quantities across."""
    quantities = list(dict.fromkeys((one.quantity, one.better) for one in some))
    methods = list(dict.fromkeys(one.method for one in some))
    cells = {(one.method, one.quantity): _cell(one) for one in some}
    senses = {better for _, better in quantities}
    sense = {better: f" ({better} is better)" if better else "" for better in senses}
    is_once = len(senses) == 1
    corner = some[0].measure + (sense[quantities[0][1]] if is_once else "")
    first = [corner, *methods]
    rest = [
        [name + ("" if is_once else sense[better]), *(cells.get((method, name), "-") for method in methods)]
        for name, better in quantities
    ]
    lines: list[str] = []
    while rest:
        taken = [first]
        while rest and (len(taken) == 1 or sum(map(_width, [*taken, rest[0]])) <= columns):
            taken.append(rest.pop(0))
        widths = [_width(column) - 2 for column in taken]
        lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in zip(*taken, strict=True)]
    return "\n".join([*lines, *_said(some)])


def _width(column: Sequence[str]) -> int:
    return max(map(len, column)) + 2


def _said(some: Sequence[Summary]) -> list[str]:
    """The notes of a measure, each once, with what it is about where that is not all of it."""
    every = [(one.method, one.quantity) for one in some]
    where: dict[str, list[tuple[str, str]]] = {}
    for one in some:
        for note in one.notes:
            where.setdefault(note, []).append((one.method, one.quantity))
    return [f"  {_about(about, every)}{note}" for note, about in where.items()]


def _about(about: Sequence[tuple[str, str]], every: Sequence[tuple[str, str]]) -> str:
    """Of which methods and quantities a note is."""
    if len(about) == len(every):
        return ""
    methods, quantities = (list(dict.fromkeys(one[i] for one in about)) for i in (0, 1))
    if len(methods) * len(quantities) != len(about):  # not all of these quantities of all of these methods
        return "; ".join(f"{method} ({', '.join(q for m, q in about if m == method)})" for method in methods) + ": "
    named = [
        ", ".join(some) for some, i in ((quantities, 1), (methods, 0)) if len(some) < len({one[i] for one in every})
    ]
    return "".join(f"{one}: " for one in named)


def _cell(one: Summary) -> str:
    if one.mean is None:
        return "-"
    counted = "" if one.count == one.of else f" of {one.count}"
    marks = [f" {_MARKS[verdict]}{name[0]}" for name, verdict in one.against.items() if verdict in _MARKS]
    if one.count < FEWEST:  # too few to tell anything
        return f"{one.mean:.3f}{counted}"
    return f"{one.mean:.3f} ({one.low:.3f} to {one.high:.3f}){counted}{''.join(marks)}"


def _write_csv(rows: Sequence[dict[str, Any]], settings: dict[str, Any], file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else ["photo"])
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(rows: Sequence[dict[str, Any]], settings: dict[str, Any], file: Path) -> None:
    pyarrow, parquet = from_extra("pyarrow", "parquet"), from_extra("pyarrow.parquet", "parquet")
    # Types are not guessed: a column may hold nothing at all.
    types = {**dict.fromkeys(("class", "cell", "seed"), pyarrow.int64())}
    types |= dict.fromkeys(("value", "divisor", "probability"), pyarrow.float64())
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in (rows[0] if rows else ())])
    schema = schema.with_metadata({"preimage": json.dumps(settings)})
    with parquet.ParquetWriter(file, schema) as writer:
        for first in range(0, len(rows), _CHUNK):
            writer.write_table(pyarrow.Table.from_pylist(list(rows[first : first + _CHUNK]), schema=schema))
