"""One process at a time in a job's folder, wherever that is."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from filelock import FileLock, Timeout

from preimage.errors import RequestError
from preimage.jobs.storage import LocalFolder, Storage

_LOCK = ".lock"
BEAT = 5.0
"""Seconds after which the holder of a remote folder says again that it is alive."""
_PATIENCE = 3
"""So many beats without a sign, and the holder counts as dead."""


@contextmanager
def held(storage: Storage) -> Iterator[None]:
    """Hold a folder for this process, and no longer than it lives.

    A local folder is locked by the system. Elsewhere a file names the holder and changes every few seconds; who finds
    one waits three times as long before it takes over, by its own clock. Two that start in the same moment both write
    it, and the one whose name is there afterwards goes on.

    Raises `RequestError` if another process has it.
    """
    with _locked(storage) if isinstance(storage, LocalFolder) else _claimed(storage):
        yield


@contextmanager
def _locked(folder: LocalFolder) -> Iterator[None]:
    try:
        # Ends with the process, however that ends.
        lock = FileLock(folder.folder / _LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise _busy(folder) from error
    except OSError as error:
        raise RequestError(f"'{folder.where}' cannot hold a job: {error.strerror or error}") from error
    try:
        try:
            (folder.folder / "parts").mkdir(exist_ok=True)
        except OSError as error:
            raise RequestError(f"'{folder.where}' cannot hold a job: {error.strerror or error}") from error
        yield
    finally:
        lock.release()


@contextmanager
def _claimed(storage: Storage) -> Iterator[None]:
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "token": os.urandom(8).hex()}
    before = _holder(storage)
    if before is not None and not _died_here(before):
        until = time.monotonic() + _PATIENCE * BEAT
        while time.monotonic() < until:
            time.sleep(BEAT / 4)
            now = _holder(storage)
            if now is None:
                break
            if now != before:
                raise _busy(storage)
    storage.write(_LOCK, json.dumps({**owner, "beat": 0}).encode())
    time.sleep(BEAT / 10)
    if (_holder(storage) or {}).get("token") != owner["token"]:
        raise _busy(storage)
    ended = threading.Event()

    def beats() -> None:
        number = 0
        while not ended.wait(BEAT):
            number += 1
            with suppress(Exception):  # a place that does not answer for a moment is the job's affair
                storage.write(_LOCK, json.dumps({**owner, "beat": number}).encode())

    thread = threading.Thread(target=beats, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(Exception):
            storage.remove(_LOCK)


def _holder(storage: Storage) -> dict[str, Any] | None:
    try:
        found = json.loads(storage.read(_LOCK))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _died_here(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _busy(storage: Storage) -> RequestError:
    return RequestError(f"another process is at work in '{storage.where}'; wait for it, or stop it")
