"""What `evaluate` returns: every number, and what they come to."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from preimage.errors import RequestError
from preimage.evaluation.summary import Summary
from preimage.images import written_whole

TableFormat = Literal["csv", "parquet"]


@dataclass
class Evaluation:
    """Measures of explanations.

    rows: one for each photo, class, method, measure and quantity: plain JSON types, with all settings; `value` is None
        where the case does not count or failed, and `failed` says why it did.
    summary: each quantity of each method.
    settings: all that determines the results. interrupted: whether Ctrl-C ended it early.
    """

    rows: list[dict[str, Any]]
    summary: list[Summary]
    settings: dict[str, Any]
    interrupted: bool = False
    cases: int = 0
    notes: list[str] = field(default_factory=list)

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
            "notes": self.notes,
        }

    def __str__(self) -> str:
        blocks = [_block([one for one in self.summary if one.measure == name]) for name in _names(self.summary)]
        failed = [f"{count} x {why}" for why, count in self.failures.items()]
        return "\n\n".join([*blocks, *(["failed: " + "\n        ".join(failed)] if failed else []), *self.notes])

    def save(self, folder: str | Path, table: TableFormat = "csv") -> Path:
        """Write the rows as `results.csv` or `results.parquet`, and `result.json`, each whole or not at all.

        The Parquet file has the settings in its metadata too, as "preimage". Raises `RequestError` where that format
        needs a package that is missing, or the folder cannot be written to.
        """
        path = Path(folder)
        try:
            with written_whole(path / f"results.{table}") as file:
                (_write_csv if table == "csv" else _write_parquet)(self.rows, self.settings, file)
            with written_whole(path / "result.json") as file:
                file.write_text(json.dumps(self.as_dict(), indent=1), encoding="utf-8")
        except OSError as error:
            raise RequestError(f"cannot write to the folder '{path}': {error.strerror or error}") from error
        return path


def _names(summary: Sequence[Summary]) -> list[str]:
    return list(dict.fromkeys(one.measure for one in summary))


def _block(some: Sequence[Summary]) -> str:
    """One measure as a table: methods down, quantities across."""
    quantities = list(dict.fromkeys((one.quantity, one.better) for one in some))
    methods = list(dict.fromkeys(one.method for one in some))
    cells = {(one.method, one.quantity): _cell(one) for one in some}
    head = [some[0].measure, *(f"{name} ({better} is better)" if better else name for name, better in quantities)]
    table = [head, *([m, *(cells.get((m, name), "-") for name, _ in quantities)] for m in methods)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table]
    for name, _ in quantities:
        lines += [f"  {name}: {sentence}" for sentence in said_of(some, name)]
    return "\n".join(lines)


def said_of(some: Sequence[Summary], quantity: str) -> list[str]:
    """What has to be known to read a quantity's column, in sentences."""
    chosen = [one for one in some if one.quantity == quantity]
    lines = []
    for baseline in dict.fromkeys(name for one in chosen for name in one.against):
        for verdict, says in (("unclear", "not told from"), ("worse", "worse than")):
            names = [one.method for one in chosen if one.against.get(baseline) == verdict]
            if names:
                lines.append(f"{says} {baseline}: {', '.join(names)}")
    for note in dict.fromkeys(note for one in chosen for note in one.notes):
        names = [one.method for one in chosen if note in one.notes]
        lines.append(note if len(names) == len(chosen) else f"{', '.join(names)}: {note}")
    return lines


def _cell(one: Summary) -> str:
    if one.mean is None:
        return "-"
    return f"{one.mean:.3f} ({one.low:.3f} to {one.high:.3f})" + ("" if one.count == one.of else f" of {one.count}")


def _write_csv(rows: Sequence[dict[str, Any]], settings: dict[str, Any], file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else ["photo"])
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(rows: Sequence[dict[str, Any]], settings: dict[str, Any], file: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise RequestError("Parquet needs the package pyarrow: pip install 'preimage[parquet]'") from error
    table = pyarrow.Table.from_pylist(list(rows))
    pyarrow.parquet.write_table(table.replace_schema_metadata({"preimage": json.dumps(settings)}), file)
