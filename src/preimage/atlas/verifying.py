"""Is an atlas whole? Every file that the plan asks for is read, and its digest looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preimage.atlas.plan import taps_of
from preimage.atlas.reading import read_batch, read_document, read_part, settings_in
from preimage.atlas.status import photo_files
from preimage.errors import RequestError
from preimage.jobs.folder import PARTS
from preimage.jobs.storage import open_storage


@dataclass
class Verification:
    """What was found in an atlas's folder.

    files: how many were looked at. missing: planned files that are not there (not made yet, perhaps). damaged: (file,
    why). strange: files among the parts that no plan asks for.
    """

    folder: str
    files: int = 0
    missing: list[str] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether everything is there and as it was written."""
        return not (self.missing or self.damaged)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "verb": "atlas",
            "folder": self.folder,
            "whole": self.whole,
            "files": self.files,
            "missing": self.missing,
            "damaged": [{"file": name, "why": why} for name, why in self.damaged],
            "strange": self.strange,
        }

    def __str__(self) -> str:
        lines = [f"{self.folder}: {self.files} files are read, {'all is whole' if self.whole else 'not all is whole'}"]
        lines += [why for _, why in self.damaged]
        if self.missing:
            some = ", ".join(self.missing[:5]) + (", ..." if len(self.missing) > 5 else "")
            lines.append(f"{len(self.missing)} are not there yet; the same command makes them: {some}")
        if self.strange:
            lines.append(f"of no use here: {', '.join(self.strange[:5])}")
        return "\n".join(lines)


def verify(folder: str | Path) -> Verification:
    """Read all that an atlas's plan asks for; raises `RequestError` where there is no atlas."""
    storage = open_storage(folder)
    settings = settings_in(storage)
    names = storage.names(PARTS)
    photos = settings.get("photos")
    out = Verification(storage.where)
    expected: set[str] = set()

    def look(name: str, read: Any) -> None:
        expected.add(name)
        if name not in names:
            out.missing.append(name)
            return
        out.files += 1
        try:
            read()
        except RequestError as error:
            out.damaged.append((name, str(error)))

    for tap in taps_of(settings):
        look(tap.tune_file, lambda tap=tap: read_document(storage, tap.tune_file))
        for batch in tap.batches:
            look(batch.file, lambda tap=tap, batch=batch: read_batch(storage, tap, batch, False))
            if photos:
                look(batch.examples_file, lambda batch=batch: read_part(storage, batch.examples_file))
    for name in photo_files(photos["count"]) if photos else []:
        look(name, lambda name=name: read_part(storage, name))
    out.strange = sorted(names - expected)
    return out
