"""The ledger: what the papers and their code printed, and what we measured, side by side.

    python experiments/ledger.py            # writes docs/ledger.md
    python experiments/ledger.py --check    # exit 1 if the page is stale, or a row is malformed

Published numbers are rows of `ledger.toml`, whose head says how one is written. Ours are never typed: a row says where
in `results/*.json` they are. Where that file does not exist yet, the page says "not measured yet"; where it exists but
lacks what a row points to, that is an error.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

HERE = Path(__file__).resolve().parent
ROWS, RESULTS, PAGE = HERE / "ledger.toml", HERE / "results", HERE.parent / "docs" / "ledger.md"

SURE = {
    "PAPER": "printed in the text of the paper that stands beside SPEC",
    "CODE": "printed by public code, or in its repository (PE: perturb_explanations, TR: TorchRay, PPGN: ppgn)",
    "CALC": "not printed; calculated for SPEC",
    "MEM": "remembered by whoever wrote SPEC, not compared with a text",
    "MEM?": "remembered, and doubtful: nothing may be accepted or refused by it",
}
_SURE = re.compile(r"PAPER [0-4]|CODE (BD|PPGN|PE|TR|JG|LUC|DD)|CALC|MEM\??")
_IN_CODE = "code"
BLANK = "-"


class LedgerError(Exception):
    """Something is wrong with the ledger's rows, or with what they point to; a sentence for each fault."""

    def __init__(self, faults: list[str]):
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class Ours:
    """Where our number is.

    title: the column's head. file: `results/FILE.json`, or "code" for settings of the package. Either `measure` and
    `quantity`, of a row in the file's "summary"; or `path`, from the file's top, of keys and of tables whose entries
    pick one of a list ("a/b" is two keys). {row} and {column} stand for the row's `method` and for the column's key.
    note: ours is not the mean, but what this regular expression finds in the notes of the summary's row. unit: "share"
    is shown in per cent. without: methods that this file does not have, and need not. What a path leads to is a number,
    a word, or a mean, share or median with its interval; a file that lists runs as "not_run" may lack it.
    """

    title: str
    file: str
    data: str = ""
    network: str = ""
    size: str = ""
    command: str = ""
    measure: str = ""
    quantity: str = "{column}"
    path: tuple[Any, ...] = ()
    note: str = ""
    unit: str = "share"
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """Published numbers, one for each column, "" where none was.

    method: what ours is called; or none: why there is none of ours. sure, source: where they are not the table's. file,
    unit: of ours, where they are not those of the table's `ours`.
    """

    of: str
    numbers: tuple[str | int | float, ...]
    method: str = ""
    none: str = ""
    sure: str = ""
    source: str = ""
    file: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """A published table; the head of `ledger.toml` says what its fields are."""

    id: str
    paper: str
    title: str
    spec: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    sure: str = ""
    source: str = ""
    published: str = ""
    checked: str = ""
    unit: str = ""
    keys: tuple[str, ...] = ()
    share_of: int = 0
    ours: tuple[Ours, ...] = ()
    difference: str = ""
    needs: str = ""
    command: str = ""
    plan: str = ""
    notes: str = ""

    def key(self, column: int) -> str:
        """What a column is called in our results."""
        return self.keys[column] if self.keys else self.columns[column]

    def entries(self) -> Iterator[tuple[Row, int]]:
        """Every published number: its row and column."""
        return ((row, i) for i in range(len(self.columns)) for row in self.rows if row.numbers[i] != "")


@dataclass(frozen=True)
class Found:
    """A number of ours: its 95 % interval and the cases that it is made of, where the results say them."""

    value: float | str | None
    low: float | None = None
    high: float | None = None
    count: int | None = None
    unit: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return "no case counts"
        if isinstance(self.value, str):
            return self.value
        if self.low is None or self.high is None:
            return self._shown(self.value) + self._sign
        return f"{self._shown(self.value)}{self._sign} ({self._shown(self.low)} to {self._shown(self.high)})"

    @property
    def _sign(self) -> str:
        return " %" if self.unit.startswith(("share", "%")) else "°" if self.unit == "°" else ""

    def _shown(self, value: float) -> str:
        if self._sign:
            return f"{value * (100 if self.unit.startswith('share') else 1):.1f}"
        return f"{value:.10g}" if self.low is None else f"{value:.3g}"


# --- rows -------------------------------------------------------------------------------------------------------------


def read(path: Path = ROWS) -> list[Table]:
    """The ledger's tables, checked. Raises `LedgerError` with a sentence for each fault."""
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise LedgerError([f"{path.name} is not TOML: {error}"]) from error
    faults: list[str] = []
    places: dict[str, dict[str, Any]] = written.get("results", {})
    tables = [_table(one, places, faults) for one in written.get("table", [])]
    seen: set[str] = set()
    for table in tables:
        if table.id in seen:
            faults.append(f"two tables are called '{table.id}'")
        seen.add(table.id)
    if faults:
        raise LedgerError(faults)
    return tables


def _table(written: dict[str, Any], places: Mapping[str, dict[str, Any]], faults: list[str]) -> Table:
    name = str(written.get("id", "?"))
    said = f"table '{name}'"
    rows = tuple(_made(Row, one, f"{said}, row '{one.get('of', '?')}'", faults) for one in written.get("rows", []))
    ours = []
    for one in written.get("ours", []):
        place = one.get("from", "")
        if place not in places:
            faults.append(f"{said}: ours comes from '{place}', which is none of {', '.join(places) or 'no results'}")
            continue
        ours.append(_made(Ours, places[place] | {k: v for k, v in one.items() if k != "from"}, f"{said}, ours", faults))
    table = _made(Table, written | {"rows": rows, "ours": tuple(ours)}, said, faults)
    _check(table, said, faults)
    return table


def _made(kind: type, written: Mapping[str, Any], said: str, faults: list[str]) -> Any:
    """An object of this kind from what is written; what is missing is said, and stands as nothing."""
    known = {one.name: one for one in fields(kind)}
    for key in written.keys() - known.keys():
        faults.append(f"{said}: there is no '{key}'")
    needed = [key for key, one in known.items() if one.default is MISSING]
    for key in needed:
        if written.get(key, "") in ("", (), []):
            faults.append(f"{said}: '{key}' is missing")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in written.items() if key in known}
    return kind(**({key: () if key in ("numbers", "columns", "rows") else "" for key in needed} | values))


def _check(table: Table, said: str, faults: list[str]) -> None:
    if table.keys and len(table.keys) != len(table.columns):
        faults.append(f"{said}: {len(table.keys)} keys for {len(table.columns)} columns")
    if not (table.ours or table.needs):
        faults.append(f"{said}: neither 'ours' nor 'needs', so nobody knows what becomes of it")
    if table.needs and not (table.command or table.plan):
        faults.append(f"{said}: needs {table.needs}, but neither 'command' nor 'plan' says what to run there")
    if table.ours and not table.difference:
        faults.append(f"{said}: ours stands beside it, but 'difference' does not say how the protocols differ")
    for ours in table.ours:
        if bool(ours.measure) == bool(ours.path):
            faults.append(f"{said}, ours '{ours.title}': either 'measure' or 'path'")
    names = [row.of for row in table.rows]
    faults += [f"{said}: two rows are called '{name}'" for name in dict.fromkeys(names) if names.count(name) > 1]
    for row in table.rows:
        where, sure = f"{said}, row '{row.of}'", row.sure or table.sure
        if len(row.numbers) != len(table.columns):
            faults.append(f"{where}: {len(row.numbers)} numbers for {len(table.columns)} columns")
        if not _SURE.fullmatch(sure):
            faults.append(f"{where}: 'sure' is '{sure}', which is no tag of SPEC")
        if not (row.source or table.source):
            faults.append(f"{where}: 'source' is missing")
        if table.ours and bool(row.method) == bool(row.none):
            faults.append(f"{where}: either 'method', as ours is called, or 'none', why there is none")


# --- ours -------------------------------------------------------------------------------------------------------------


def look_up(ours: Ours, row: str, column: str, results: Path = RESULTS) -> Found | None:
    """Our number for a row and column; None if its file does not exist yet, or says that some runs are missing.

    Raises `LedgerError` if the file exists and has no such number, or more than one.
    """
    if ours.file == _IN_CODE:
        content: Any = settings_in_code()
    elif not (results / f"{ours.file}.json").exists():
        return None
    else:
        content = _content(results / f"{ours.file}.json")
    if ours.path:
        return _at_path(content, _filled(ours.path, row, column), ours)
    return _in_summary(content, row, column, ours)


def _in_summary(content: Any, row: str, column: str, ours: Ours) -> Found:
    quantity = _filled((ours.quantity,), row, column)[0]
    summary = content.get("summary", []) if isinstance(content, dict) else []
    of_measure = [one for one in summary if one["measure"] == ours.measure]
    found = [one for one in of_measure if one["method"] == row and _same(one["quantity"], quantity)]
    if len(found) != 1:
        methods, names = (", ".join(sorted({one[of] for one in of_measure})) for of in ("method", "quantity"))
        raise LedgerError(
            [
                f"results/{ours.file}.json has {len(found)} numbers for {ours.measure}, {quantity}, of {row}; of "
                f"{ours.measure} it has methods {methods or 'none'} and quantities {names or 'none'}"
            ]
        )
    one = found[0]
    if not ours.note:
        return Found(one["mean"], one.get("low"), one.get("high"), one.get("count"), one.get("unit") or ours.unit)
    said = re.search(ours.note, "; ".join(one.get("notes", ())))
    if said is None:
        what = f"{ours.measure}, {quantity}, of {row}"
        raise LedgerError([f"results/{ours.file}.json has no note for {what} with '{ours.note}'"])
    return Found(float(said[1]), unit=ours.unit)


def _at_path(content: Any, path: tuple[Any, ...], ours: Ours) -> Found | None:
    value = content
    for step in itertools.chain.from_iterable(one.split("/") if isinstance(one, str) else [one] for one in path):
        try:
            if isinstance(step, dict):
                (value,) = (one for one in value if all(one[key] == wanted for key, wanted in step.items()))
            else:
                value = value[step]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            if isinstance(content, dict) and content.get("not_run"):
                return None
            raise LedgerError([f"results/{ours.file}.json has no {list(path)}: it ends at {step}"]) from error
    if isinstance(value, dict):
        number = next((value[name] for name in ("mean", "share", "median") if name in value), None)
        low, high = value.get("interval", (None, None))
        return Found(number, low, high, value.get("of"), ours.unit)
    return Found(value, unit=ours.unit)


def _same(one: str, other: str) -> bool:
    """Names of quantities: "80 %" is "80%"."""
    return one.replace(" ", "") == other.replace(" ", "")


def _filled(value: Any, row: str, column: str) -> Any:
    if isinstance(value, str):
        return value.replace("{row}", row).replace("{column}", column)
    if isinstance(value, dict):
        return {key: _filled(one, row, column) for key, one in value.items()}
    return tuple(_filled(one, row, column) for one in value) if isinstance(value, tuple | list) else value


@cache
def _content(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def settings_in_code() -> dict[str, Any]:
    """What variable occlusion's discs are drawn from, laid out as results/scene_objects.json has it.

    Radii are in pixels, for photos of 224: sqrt(area / pi), the area being log-normal.
    """
    from preimage.explain import VariableOcclusion

    discs = VariableOcclusion()
    log_area = NormalDist(*discs.log_area)
    radii = {p: math.sqrt(math.exp(log_area.inv_cdf(p / 100)) / math.pi) for p in (5, 25, 50, 75, 95)}
    return {
        "area": {
            "log-normal": {"mean": discs.log_area[0], "deviation": discs.log_area[1]},
            "quantiles of radii": {f"{p} %": round(radius, 1) for p, radius in radii.items()},
        },
        "y": {"normal": {"mean": discs.height[0], "deviation": discs.height[1]}},
        "samples": discs.samples,
        "share": 100 * discs.share,
    }


# --- page -------------------------------------------------------------------------------------------------------------


def page(tables: list[Table], results: Path = RESULTS) -> str:
    """docs/ledger.md. Raises `LedgerError` with all that rows point to and is not there."""
    faults: list[str] = []
    parts, counts, paper = [], {"ours": 0, "later": 0, "data": 0}, ""
    for table in tables:
        cells = _cells(table, results, faults)
        for row, column in table.entries():
            beside = [cells[row.of, column, ours.title] for ours in table.ours]
            kind = "ours" if any(isinstance(one, Found) for one in beside) else "later" if None in beside else "data"
            counts[kind] += 1
        if table.paper != paper:
            parts.append(f"## {table.paper}")
            paper = table.paper
        parts += _section(table, cells, results)
    if faults:
        raise LedgerError(faults)
    return "\n\n".join([_head(counts), *parts]) + "\n"


Cells = dict[tuple[str, int, str], Found | str | None]


def _cells(table: Table, results: Path, faults: list[str]) -> Cells:
    """For each row, column and title of ours: ours, BLANK where there can be none, None where there is none yet."""
    cells: Cells = {}
    for row, column in table.entries():
        for ours in table.ours:
            place = (row.of, column, ours.title)
            if row.none or row.method in ours.without:
                cells[place] = BLANK
                continue
            try:
                of_row = replace(ours, file=row.file or ours.file, unit=row.unit or ours.unit)
                cells[place] = look_up(of_row, row.method, table.key(column), results)
            except LedgerError as error:
                cells[place] = BLANK
                faults += [f"table '{table.id}', row '{row.of}': {one}" for one in error.faults]
    return cells


def _head(counts: Mapping[str, int]) -> str:
    tags = "\n".join(f"| {tag} | {meaning} |" for tag, meaning in SURE.items())
    said = f"""Every number that the papers or their code printed, as far as SPEC knows it, and ours beside it. Of
        {sum(counts.values())} published values {counts["ours"]} have one of ours beside them, {counts["later"]} will
        have one when a run is finished ("not measured yet"), and {counts["data"]} wait for data or networks that cannot
        be had here, or are no measurements; sections say what they need, and what to run where it is."""
    return f"""# Ledger

<!-- Written by experiments/ledger.py from experiments/ledger.toml and experiments/results; edit those. -->

{_wrapped(said)}

*How to read it.* Ours come from other networks and other photographs than the published ones, mostly from smaller ones,
so that equal numbers would be chance. What may be compared is the order of methods within one column, and whether a
claim holds; each section says what else is different. Intervals are 95 % bootstrap intervals over photographs (or over
classes, where a mean is over classes). The script reads our numbers from the results; nobody types them.

*How sure* the published number is:

| tag | means |
|---|---|
{tags}"""


def _section(table: Table, cells: Cells, results: Path) -> list[str]:
    parts = [f"### {table.title}"]
    sures = {row.sure or table.sure for row in table.rows}
    sources = {row.source or table.source for row in table.rows}
    said = [f"*Published*: {table.published}." if table.published else "", f"SPEC {table.spec}."]
    said.append(f"Source: {sources.pop()}." if len(sources) == 1 else "")
    said.append(f"Sureness: {sures.copy().pop()}." if len(sures) == 1 else "")
    said.append(f"Checked: {table.checked}" if table.checked else "")
    parts.append(_wrapped(" ".join(filter(None, said))))
    parts.append(
        _grid(table, cells, len(sures) > 1, bool(sources) and len({r.source or table.source for r in table.rows}) > 1)
    )
    reasons: dict[str, list[str]] = {}
    for row in table.rows:
        if row.none:
            reasons.setdefault(row.none, []).append(row.of)
    parts += [_wrapped(f"{BLANK}: {reason} ({', '.join(names)}).") for reason, names in reasons.items()]
    if table.ours:
        parts.append("*Ours*:\n" + "\n".join(_how(table, ours, cells, results) for ours in table.ours))
        parts.append(_wrapped(f"*Different*: {table.difference}"))
    if table.needs:
        plan = table.plan or "To run where that is:"
        parts.append(_wrapped(f"*Needs {table.needs}.* {plan}"))
        if table.command:
            parts.append("\n".join(f"    {line}" for line in table.command.strip().splitlines()))
    return parts + ([_wrapped(table.notes)] if table.notes else [])


def _wrapped(text: str, indent: str = "") -> str:
    """Prose in lines of no more than 120 characters, code in one piece."""
    text = re.sub("`[^`]*`", lambda code: code[0].replace(" ", "\0"), " ".join(text.split()))
    filled = textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return filled.replace("\0", " ")


def _grid(table: Table, cells: Cells, say_sure: bool, say_source: bool) -> str:
    """A line for each row where at most one result stands beside it, otherwise for each published number."""
    extra = (["how sure"] if say_sure else []) + (["source"] if say_source else [])
    unit = f", {table.unit}" if table.unit else ""
    share = " (share of the photo)" if table.share_of else ""

    def about(row: Row) -> list[str]:
        return ([row.sure or table.sure] if say_sure else []) + ([row.source or table.source] if say_source else [])

    lines = []
    if len(table.ours) <= 1 or len(table.columns) == 1:
        keys = {table.key(i): i for i in reversed(range(len(table.columns)))}  # each once, its first column
        shown = [i for i in range(len(table.columns)) if keys[table.key(i)] == i]
        one = len(table.columns) == 1
        head = ["", *[f"published{unit}" if one else f"published{unit}: {c}" for c in table.columns], *extra]
        head += [ours.title if one else f"{ours.title}: {table.key(i)}" for ours in table.ours for i in shown]
        for row in table.rows:
            line = [row.of, *[_published(row, i, table) for i in range(len(table.columns))], *about(row)]
            line += [_ours(cells, row, keys, table, i, ours) for ours in table.ours for i in shown]
            lines.append(line)
    else:
        head = ["", "", f"published{unit}{share}", *extra, *[ours.title for ours in table.ours]]
        for row, i in table.entries():
            beside = [_text(cells[row.of, i, ours.title]) for ours in table.ours]
            lines.append([table.columns[i], row.of, _published(row, i, table), *about(row), *beside])
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def _ours(cells: Cells, row: Row, keys: Mapping[str, int], table: Table, column: int, ours: Ours) -> str:
    """Of all columns that have this one's key, the first that was published."""
    same = [i for i in range(len(table.columns)) if table.key(i) == table.key(column)]
    return next((_text(cells[row.of, i, ours.title]) for i in same if (row.of, i, ours.title) in cells), BLANK)


def _text(cell: Found | str | None) -> str:
    return "not measured yet" if cell is None else str(cell)


def _published(row: Row, column: int, table: Table) -> str:
    number = row.numbers[column]
    if number == "":
        return BLANK
    share = (
        f" ({number / table.share_of:.1%})".replace("%", " %") if table.share_of and not isinstance(number, str) else ""
    )
    return f"{number}{share}"


def _how(table: Table, ours: Ours, cells: Cells, results: Path) -> str:
    found = [one for (_, _, title), one in cells.items() if title == ours.title and isinstance(one, Found)]
    counts = sorted({one.count for one in found if one.count is not None})
    cases = f"{counts[0]} cases" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} cases" if counts else ""
    if ours.file == _IN_CODE:
        return _wrapped(f"- **{ours.title}**: {ours.data}", "  ")
    path = results / f"{ours.file}.json"
    content = _content(path) if path.exists() else {}
    command = (content.get("command") if isinstance(content, dict) else "") or ours.command
    what = "; ".join(filter(None, [ours.network, ours.data, ours.size, cases]))
    return _wrapped(f"- **{ours.title}**: {what}. `{command}` -> `experiments/results/{ours.file}.json`", "  ")


# --- command ----------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the page is stale or a row is wrong"
    )
    asked = parser.parse_args(arguments)
    try:
        text = page(read())
    except LedgerError as error:
        print(error, file=sys.stderr)
        return 1
    if not asked.check:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        print("docs/ledger.md is stale: run python experiments/ledger.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
