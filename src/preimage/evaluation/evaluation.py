"""What `evaluate` returns: every number, and what they come to."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from preimage.errors import RequestError, WriteError
from preimage.evaluation.summary import Summary
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
        raise RequestError(f"nothing was measured of '{method}' by '{measure}', '{quantity}'")

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
        blocks = [_block([one for one in self.summary if one.measure == name]) for name in _names(self.summary)]
        failed = [f"{count} x {why}" for why, count in self.failures.items()]
        return "\n\n".join([*blocks, _LEGEND, *(["left out: " + "\n          ".join(failed)] if failed else [])])

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


def _block(some: Sequence[Summary]) -> str:
    """One measure as a table: methods down, quantities across."""
    quantities = list(dict.fromkeys((one.quantity, one.better) for one in some))
    methods = list(dict.fromkeys(one.method for one in some))
    cells = {(one.method, one.quantity): _cell(one) for one in some}
    senses = {better for _, better in quantities}
    sense = {better: f" ({better} is better)" if better else "" for better in senses}
    if len(senses) == 1:  # said once
        head = [some[0].measure + sense[quantities[0][1]], *(name for name, _ in quantities)]
    else:
        head = [some[0].measure, *(name + sense[better] for name, better in quantities)]
    table = [head, *([m, *(cells.get((m, name), "-") for name, _ in quantities)] for m in methods)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([*lines, *_said(some)])


def _said(some: Sequence[Summary]) -> list[str]:
    """The notes of a measure, each once, with what it is about where that is not all of it."""
    where: dict[str, list[Summary]] = {}
    for one in some:
        for note in one.notes:
            where.setdefault(note, []).append(one)
    lines = []
    for note, about in where.items():
        methods, quantities = _all_but_all(about, some, "method"), _all_but_all(about, some, "quantity")
        lines.append("  " + ": ".join([*quantities, *methods, note]))
    return lines


def _all_but_all(about: Sequence[Summary], some: Sequence[Summary], key: str) -> list[str]:
    named = list(dict.fromkeys(str(getattr(one, key)) for one in about))
    return [] if len(named) == len({getattr(one, key) for one in some}) else [", ".join(named)]


def _cell(one: Summary) -> str:
    if one.mean is None:
        return "-"
    counted = "" if one.count == one.of else f" of {one.count}"
    marks = [f" {_MARKS[verdict]}{name[0]}" for name, verdict in one.against.items() if verdict in _MARKS]
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
