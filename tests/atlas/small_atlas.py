"""Atlases that take a second, and what of their folders has to be the same each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from preimage.atlas import Atlas, atlas


def small(network: Any, out: str | Path, **asked: Any) -> Atlas:
    """Twelve units in seven batches, three steps each."""
    usual: dict[str, Any] = {"at": ["0", "7"], "steps": 3, "batch_size": 2, "tune": False, "site": False}
    usual |= {"progress": False, "threads": 1, "size": 16}
    return atlas(network, out=out, **{**usual, **asked})


def parts(out: Path) -> dict[str, bytes]:
    """All that is finished, by name."""
    return {path.name: path.read_bytes() for path in sorted((out / "parts").iterdir())}


def places(out: Path) -> dict[str, tuple[int, int]]:
    """What tells a file from one that was written again."""
    files = (out / "parts").glob("[!.]*") if (out / "parts").is_dir() else []
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}
