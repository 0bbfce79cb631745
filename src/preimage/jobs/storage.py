"""Where a job's files are: a folder of this machine, or any place that fsspec reaches (`s3://bucket/atlas`)."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from preimage.errors import RequestError, WriteError
from preimage.extras import from_extra
from preimage.images import writable_folder

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")
_APPEARING_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "obs", "memory"})
"""Object stores, in which a file appears when all of it is there."""


class Storage(ABC):
    """Files by name (`parts/a.json`), each of which appears whole or not at all."""

    where: str

    @abstractmethod
    def prepare(self) -> None:
        """Make the folder; raises `RequestError` if nothing can be written there."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    @abstractmethod
    def read(self, name: str, first: int = 0, last: int | None = None) -> bytes:
        """A file's content, or some of its bytes (`last` is just outside); raises `OSError`."""

    @abstractmethod
    def write(self, name: str, content: bytes, *, lasting: bool = False) -> None:
        """Write a file whole, in place of the one before; raises `WriteError`, and leaves what was there.

        lasting: also if the machine loses power in the next moment, for which it waits for the disk.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def names(self, folder: str) -> set[str]:
        """The names of all files right in a folder, without it; none where there is no such folder."""

    @abstractmethod
    def free(self) -> int | None:
        """How many bytes there are left; None where nobody knows."""

    def path(self, name: str) -> str:
        """A file as messages name it."""
        return f"{self.where}/{name}"

    def cannot_write(self, error: BaseException) -> WriteError:
        """What is said where a file cannot be written."""
        why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        return WriteError(
            f"cannot write to the folder '{self.where}': {why}; what is finished is kept, and the same command goes on "
            "from there"
        )


class LocalFolder(Storage):
    """A folder of this machine, or of one that is mounted here."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.where = str(folder)

    def prepare(self) -> None:
        writable_folder(self.folder)

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def read(self, name: str, first: int = 0, last: int | None = None) -> bytes:
        with (self.folder / name).open("rb") as file:
            file.seek(first)
            return file.read(-1 if last is None else last - first)

    def write(self, name: str, content: bytes, *, lasting: bool = False) -> None:
        path = self.folder / name
        try:
            path.parent.mkdir(exist_ok=True)
            handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    if lasting:
                        file.flush()
                        os.fsync(file.fileno())
                os.chmod(beside, 0o644)
                os.replace(beside, path)
            finally:
                Path(beside).unlink(missing_ok=True)
        except OSError as error:
            raise self.cannot_write(error) from error

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def names(self, folder: str) -> set[str]:
        try:
            with os.scandir(self.folder / folder) as entries:
                return {one.name for one in entries if one.is_file()}
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def free(self) -> int | None:
        there = self.folder.absolute()
        while not there.exists():
            there = there.parent
        return shutil.disk_usage(there).free


class RemoteFolder(Storage):
    """A folder that fsspec reaches; raises `RequestError` where fsspec, or what it needs for this kind, is missing."""

    def __init__(self, url: str):
        fsspec = from_extra("fsspec", "remote")
        self.where = url.rstrip("/")
        try:
            # A listing that is remembered would not tell what others have written since.
            self._files, self._root = fsspec.core.url_to_fs(self.where, use_listings_cache=False)
        except ImportError as error:
            raise RequestError(f"'{url}' needs a package that is not installed: {error}") from error
        except Exception as error:
            raise RequestError(f"'{url}' cannot be opened: {_said(error)}") from error

    def _at(self, name: str) -> str:
        return f"{str(self._root).rstrip('/')}/{name}"

    def prepare(self) -> None:
        try:
            self._files.makedirs(self._root, exist_ok=True)
            self._put(".writable", b"")
            self.remove(".writable")
        except Exception as error:
            raise RequestError(f"cannot write to the folder '{self.where}': {_said(error)}") from error

    def has(self, name: str) -> bool:
        return bool(self._files.exists(self._at(name)))

    def read(self, name: str, first: int = 0, last: int | None = None) -> bytes:
        try:
            return bytes(self._files.cat_file(self._at(name), start=first or None, end=last))
        except OSError:
            raise
        except Exception as error:  # each kind of place has errors of its own
            raise OSError(_said(error)) from error

    def write(self, name: str, content: bytes, *, lasting: bool = False) -> None:
        try:
            self._put(name, content)
        except Exception as error:
            raise self.cannot_write(error) from error

    def _put(self, name: str, content: bytes) -> None:
        kinds = self._files.protocol
        kinds = {kinds} if isinstance(kinds, str) else {*kinds}
        path = self._at(name)
        if kinds & _APPEARING_WHOLE:
            self._files.pipe_file(path, content)
            return
        folder, _, last = path.rpartition("/")
        self._files.makedirs(folder, exist_ok=True)
        beside = f"{folder}/.{last}-{os.urandom(6).hex()}"
        try:
            self._files.pipe_file(beside, content)
            self._files.mv(beside, path)
        except BaseException:
            if self._files.exists(beside):
                self._files.rm_file(beside)
            raise

    def remove(self, name: str) -> None:
        if self.has(name):
            self._files.rm_file(self._at(name))

    def names(self, folder: str) -> set[str]:
        try:
            found: list[dict[str, Any]] = self._files.ls(self._at(folder), detail=True, refresh=True)
        except TypeError:  # some kinds do not know the word
            found = self._files.ls(self._at(folder), detail=True)
        except FileNotFoundError:
            return set()
        return {str(one["name"]).rpartition("/")[2] for one in found if one["type"] == "file"}

    def free(self) -> int | None:
        return None


def open_storage(where: str | Path) -> Storage:
    """The storage at a path or URL; `file://` and paths are folders of this machine, for which fsspec is not needed.

    Raises `RequestError` where a URL cannot be opened.
    """
    if isinstance(where, Path) or not _URL.match(where):
        return LocalFolder(where)
    if where.startswith("file://"):
        return LocalFolder(where.removeprefix("file://"))
    return RemoteFolder(where)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
