"""Where a job keeps what it has finished, so that it goes on where it was after whatever happened to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from preimage.errors import RequestError
from preimage.jobs.holding import held
from preimage.jobs.storage import LocalFolder, Storage, open_storage

SETTINGS, PARTS = "job.json", "parts"


class JobFolder:
    """A folder with a job's settings and the results of its finished units, each a file of its own.

    folder: a path, or a URL that fsspec knows (`s3://bucket/job`).

    A unit's file appears whole or not at all, so that killing the process at any moment loses at most the units that
    were being worked on; which units there are follows from the settings, not from what is left to do.
    """

    def __init__(self, folder: str | Path):
        self.storage: Storage = open_storage(folder)

    @property
    def where(self) -> str:
        """The folder as messages name it."""
        return self.storage.where

    @contextmanager
    def opened(self, settings: Mapping[str, Any], *, may_change: Sequence[str] = ()) -> Iterator[None]:
        """Hold the folder for this job alone.

        settings: all that determines the results, plain JSON types. may_change: those that another run in the same
        folder may have otherwise, because a unit's result does not depend on them.

        Raises `RequestError` if it cannot be written to, if another process works in it, or if it holds another job,
        saying in what that differs.
        """
        self.storage.prepare()
        with held(self.storage):
            self._check(settings, may_change)
            self._write(SETTINGS, settings)
            self._tidy()
            yield

    def settings(self) -> dict[str, Any] | None:
        """The settings that are there; None where no job is. Raises `RequestError` where they are damaged."""
        if not self.storage.has(SETTINGS):
            return None
        before = self._read(SETTINGS)
        if not isinstance(before, dict):
            raise RequestError(
                f"'{self.storage.path(SETTINGS)}' is damaged; delete the folder, or write to another one"
            )
        return before

    def _check(self, settings: Mapping[str, Any], may_change: Sequence[str]) -> None:
        before = self.settings()
        if before is None:
            return
        now = json.loads(json.dumps(settings))
        for key in sorted({*before, *now} - {*may_change}):
            found = _difference(before.get(key), now.get(key), key)
            if found:
                where, old, new = found
                raise RequestError(
                    f"'{self.where}' holds another job: its {where} is {_short(old)}, not {_short(new)}; ask for the "
                    "same again to go on with it, or write to another folder"
                )

    def _tidy(self) -> None:
        """Remove what a process that was killed had begun to write."""
        for name in self.storage.names(PARTS) if isinstance(self.storage, LocalFolder) else ():
            if name.startswith("."):
                self.storage.remove(f"{PARTS}/{name}")

    def has(self, unit: str) -> bool:
        """Whether this unit is finished."""
        return self.storage.has(_part(unit))

    def read(self, unit: str) -> Any:
        """What a finished unit found."""
        return self._read(_part(unit))

    def write(self, unit: str, found: Any) -> None:
        """Finish a unit. found: plain JSON types."""
        self._write(_part(unit), found)

    def part(self, unit: str) -> str:
        """The file of a unit, as messages name it."""
        return self.storage.path(_part(unit))

    def files(self) -> set[str]:
        """The files of all finished units, by one look at the folder."""
        return {name for name in self.storage.names(PARTS) if not name.startswith(".")}

    def write_file(self, name: str, content: bytes) -> None:
        """Finish a unit whose file has a form of its own."""
        self.storage.write(f"{PARTS}/{name}", content, lasting=True)

    def _read(self, name: str) -> Any:
        try:
            return json.loads(self.storage.read(name).decode())
        except (OSError, ValueError) as error:
            raise RequestError(
                f"'{self.storage.path(name)}' is damaged ({error}); delete it, and the same command makes it again"
            ) from error

    def _write(self, name: str, document: Any) -> None:
        self.storage.write(name, json.dumps(document, allow_nan=False).encode())


def _part(unit: str) -> str:
    return f"{PARTS}/{unit}.json"


def _difference(before: Any, now: Any, where: str) -> tuple[str, Any, Any] | None:
    """The first place in which two documents differ, and what each has there."""
    if before == now:
        return None
    if isinstance(before, dict) and isinstance(now, dict):
        inner = [(f"{where}.{key}", before.get(key), now.get(key)) for key in dict.fromkeys([*before, *now])]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now) and _nests(before):
        inner = [(f"{where}[{i}]", one, other) for i, (one, other) in enumerate(zip(before, now, strict=True))]
    else:
        return where, before, now
    return next((found for place, one, other in inner if (found := _difference(one, other, place))), None)


def _nests(listed: list[Any]) -> bool:
    return any(isinstance(one, (dict, list)) for one in listed)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
