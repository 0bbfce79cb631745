"""How far an atlas is, what failed, and how long it will take."""

from __future__ import annotations

import html
import json
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preimage.atlas.examples import CHUNK
from preimage.atlas.parts import head
from preimage.atlas.plan import taps_of
from preimage.atlas.reading import read_document, settings_in
from preimage.errors import RequestError, WriteError
from preimage.jobs.folder import PARTS
from preimage.jobs.storage import Storage, open_storage

_PROGRESS = "progress.json"
_EVERY = 5.0
"""Seconds between two notes of how far it is."""


@dataclass
class Atlas:
    """An atlas in its folder, finished or not.

    folder: where; a path or URL. settings: what determines it, as `job.json` has them. units: how many there are to be.
    made: how many are, with or without a picture. failures: (objective, why) of those without one.
    broken: (photo, why) of photos that could not be read. notes: step sizes that could not be found, by tap.
    state: "working", "finished", "interrupted", "stopped" (by an error) or "killed".
    rate: units a second of its last run; None where nothing was made in it. site: its first page, where it is written.
    """

    folder: str
    settings: dict[str, Any]
    units: int
    made: int
    failures: list[tuple[str, str]] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    state: str = "finished"
    rate: float | None = None
    site: Path | None = None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it before all was made."""
        return self.state == "interrupted"

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take at the rate of the last run; None where that is not known."""
        left = self.units - self.made
        return 0.0 if not left else None if not self.rate else left / self.rate

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        left = self.seconds_left
        return {
            "verb": "atlas",
            "folder": self.folder,
            "state": self.state,
            "units": self.units,
            "made": self.made,
            "failed": len(self.failures),
            "units_per_minute": None if self.rate is None else round(self.rate * 60, 2),
            "seconds_left": None if left is None else round(left),
            "taps": [one["tap"] for one in self.settings["taps"]],
            "failures": [{"objective": one, "why": why} for one, why in self.failures],
            "broken_photos": [{"photo": one, "why": why} for one, why in self.broken],
            "notes": [{"tap": one, "says": says} for one, says in self.notes],
            "site": None if self.site is None else str(self.site),
        }

    def __str__(self) -> str:
        lines = [f"{self.folder}: {self.made} of {self.units} units, {self.state}"]
        if self.rate:
            lines[0] += f", {self.rate * 60:.3g} a minute"
        if self.made < self.units and self.seconds_left is not None:
            lines[0] += f", about {_duration(self.seconds_left)} left"
        lines += [f"no picture of {objective}: {why}" for objective, why in self.failures]
        lines += [f"photo left out, {photo}: {why}" for photo, why in self.broken]
        lines += [f"{tap}: {says}" for tap, says in self.notes]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Atlas({self.folder}: {self.made} of {self.units} units, {self.state})"

    def _repr_html_(self) -> str:
        said = html.escape(str(self)).replace("\n", "<br>")
        return said if self.site is None else f'<a href="{html.escape(str(self.site))}">{said}</a>'


def status(folder: str | Path) -> Atlas:
    """How far the atlas in a folder, or at an fsspec URL, is. It may be at work meanwhile.

    Raises `RequestError` where there is no atlas, or a part of it is damaged.
    """
    storage = open_storage(folder)
    return status_in(storage, settings_in(storage))


def status_in(storage: Storage, settings: dict[str, Any]) -> Atlas:
    """`status` of an open storage."""
    names = storage.names(PARTS)
    made, units, complete = 0, 0, True
    photos = settings.get("photos")
    out = Atlas(storage.where, settings, 0, 0)
    for tap in taps_of(settings):
        units += tap.count
        if tap.tune_file in names:
            found = read_document(storage, tap.tune_file)
            if found["units"] and not found["tried"]:
                out.notes.append((tap.tap, found["says"]))
        for batch in tap.batches:
            complete &= batch.file in names and (not photos or batch.examples_file in names)
            if batch.file in names:
                made += len(batch.channels)
                units_said = head(storage, f"{PARTS}/{batch.file}")["units"]
                out.failures += [(one["objective"], one["failure"]) for one in units_said if one["failure"]]
    for name in photo_files(photos["count"]) if photos else []:
        if name in names:
            broken = head(storage, f"{PARTS}/{name}")["broken"]
            out.broken += [(one["photo"], one["why"]) for one in broken]
    out.units, out.made = units, made
    noted = _noted(storage)
    out.state = "finished" if complete and noted.get("state") != "working" else _state(noted)
    seconds = noted.get("seconds", 0)
    out.rate = noted["made"] / seconds if seconds and noted.get("made") else None
    site = Path(storage.where) / "site" / "index.html"
    out.site = site if site.is_file() else None
    return out


def photo_files(count: int) -> list[str]:
    """Where what was seen in so many photos is kept."""
    return [f"photos-{chunk:05}.safetensors" for chunk in range(-(-count // CHUNK))]


def _noted(storage: Storage) -> dict[str, Any]:
    try:
        found = json.loads(storage.read(_PROGRESS))
    except (OSError, ValueError):  # it says nothing that the parts do not say but how fast it went
        return {}
    return found if isinstance(found, dict) else {}


def _state(noted: dict[str, Any]) -> str:
    said = str(noted.get("state", "stopped"))
    if said != "working" or noted.get("host") != socket.gethostname():
        return said
    try:
        os.kill(int(noted["pid"]), 0)
    except ProcessLookupError:
        return "killed"
    except (PermissionError, ValueError, KeyError):
        return said
    return said


class Progress:
    """Notes now and then how far a run is; nothing that is finished depends on these notes."""

    def __init__(self, storage: Storage):
        self._storage, self._begun, self._made, self._last = storage, time.monotonic(), 0, -_EVERY
        self.note("working")

    def made(self, units: int) -> None:
        """So many more are finished."""
        self._made += units
        if time.monotonic() - self._last >= _EVERY:
            self.note("working")

    def note(self, state: str) -> None:
        """Write it down."""
        self._last = time.monotonic()
        seconds = round(self._last - self._begun, 3)
        said = {"state": state, "made": self._made, "seconds": seconds, "time": round(time.time())}
        said |= {"host": socket.gethostname(), "pid": os.getpid()}
        self._storage.write(_PROGRESS, json.dumps(said).encode())

    def ended(self, state: str) -> None:
        """The last note, which may not be possible any more where the disk is full."""
        try:
            self.note(state)
        except (RequestError, WriteError, OSError):
            return


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
