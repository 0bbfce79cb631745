"""Where a job keeps what it has finished, so that it goes on where it was after whatever happened to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from preimage.errors import RequestError, WriteError
from preimage.images import writable_folder, written_whole

_SETTINGS, _LOCK, _PARTS = "job.json", ".lock", "parts"


class JobFolder:
    """A folder with a job's settings and the results of its finished units, each a file of its own.

    A unit's file appears whole or not at all, so that killing the process at any moment loses at most the units that
    were being worked on; which units there are follows from the settings, not from what is left to do.
    """

    def __init__(self, folder: str | Path):
        self.path = Path(folder)

    @contextmanager
    def opened(self, settings: Mapping[str, Any], *, may_change: Sequence[str] = ()) -> Iterator[None]:
        """Hold the folder for this job alone.

        settings: all that determines the results, plain JSON types. may_change: those that another run in the same
        folder may have otherwise, because a unit's result does not depend on them.

        Raises `RequestError` if it cannot be written to, if another process works in it, or if it holds another job,
        saying in what that differs.
        """
        writable_folder(self.path)
        try:
            # Ends with the process, however that ends.
            lock = FileLock(self.path / _LOCK, timeout=0)
            lock.acquire()
            (self.path / _PARTS).mkdir(exist_ok=True)
        except Timeout as error:
            raise RequestError(f"another process is at work in '{self.path}'; wait for it, or stop it") from error
        except OSError as error:
            raise RequestError(f"'{self.path}' cannot hold a job: {error.strerror or error}") from error
        try:
            self._check(settings, may_change)
            self._write(self.path / _SETTINGS, settings)
            yield
        finally:
            lock.release()

    def _check(self, settings: Mapping[str, Any], may_change: Sequence[str]) -> None:
        path = self.path / _SETTINGS
        if not path.exists():
            return
        before = _read(path)
        if not isinstance(before, dict):
            raise RequestError(f"'{path}' is damaged; delete the folder, or write to another one")
        now = json.loads(json.dumps(settings))
        for key in sorted({*before, *now} - {*may_change}):
            found = _difference(before.get(key), now.get(key), key)
            if found:
                where, old, new = found
                raise RequestError(
                    f"'{self.path}' holds another job: its {where} is {_short(old)}, not {_short(new)}; ask for the "
                    "same again to go on with it, or write to another folder"
                )

    def has(self, unit: str) -> bool:
        """Whether this unit is finished."""
        return self.part(unit).exists()

    def read(self, unit: str) -> Any:
        """What a finished unit found."""
        return _read(self.part(unit))

    def write(self, unit: str, found: Any) -> None:
        """Finish a unit. found: plain JSON types."""
        self._write(self.part(unit), found)

    def part(self, unit: str) -> Path:
        """The file of a unit."""
        return self.path / _PARTS / f"{unit}.json"

    def _write(self, path: Path, document: Any) -> None:
        text = json.dumps(document, allow_nan=False)
        try:
            with written_whole(path) as file:
                file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise WriteError(
                f"cannot write to the folder '{self.path}': {error.strerror or error}; what is finished is kept, and "
                "the same command goes on from there"
            ) from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"'{path}' is damaged ({error}); delete it, and the same command makes it again") from error


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
