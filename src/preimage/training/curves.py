"""The losses of every step, in a CSV file that is there to be read while training goes on."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from preimage.errors import RequestError, WriteError
from preimage.images import written_whole


class Curves:
    """One row for every step, each number as exact as it was computed.

    columns: names; the first is the step. Going on from step n leaves out the rows from n on, which were written after
    the last checkpoint and are about to be computed again.
    """

    def __init__(self, path: Path, columns: Sequence[str], step: int = 0):
        self._path, self._columns = path, list(columns)
        kept = [] if step == 0 or not path.exists() else [row for row in _rows(path) if int(row[0]) < step]
        if step and len(kept) != step:
            raise RequestError(f"'{path}' does not have the {step} steps that the checkpoint has; it was changed")
        try:
            with written_whole(path) as whole, whole.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([self._columns, *kept])
            self._file = path.open("a", newline="", encoding="utf-8")
        except OSError as error:
            raise self._failed(error) from error
        self._writer = csv.writer(self._file)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append the row of a step."""
        self._writer.writerow([step, *(repr(values[name]) if name in values else "" for name in self._columns[1:])])

    def flush(self) -> None:
        """Put what was appended on the disk."""
        try:
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Put what was appended on the disk, if it takes it; what is missing there comes after the last checkpoint."""
        with suppress(OSError):
            self._file.close()

    def _failed(self, error: OSError) -> WriteError:
        return WriteError(f"cannot write '{self._path}': {error.strerror or error}")


def _rows(path: Path) -> list[list[str]]:
    """All rows below the header; a last one that a killed process left unfinished does not count."""
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [row for row in list(csv.reader(whole.splitlines()))[1:] if row and row[0].isdigit()]
