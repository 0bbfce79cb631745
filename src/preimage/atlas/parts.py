"""One finished part of an atlas as bytes: tensors and a document in a safetensors file, with a digest of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from preimage.errors import RequestError
from preimage.jobs.storage import Storage

Array = npt.NDArray[Any]

_KEY = "preimage"
_LONGEST = 100_000_000


def packed(arrays: Mapping[str, Array], document: Mapping[str, Any]) -> bytes:
    """The same bytes for the same content. document: plain JSON types."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    said = {"sha256": _digest(whole, document), **document}
    # (one key only: safetensors writes several in no fixed order)
    return save(whole, {_KEY: json.dumps(said, allow_nan=False)})


def unpacked(content: bytes, path: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """What was packed; `path` is how messages name it.

    Raises `RequestError` for a file that is damaged: cut off, or with another digest than was written.
    """
    try:
        arrays = load(content)
        size = int.from_bytes(content[:8], "little")
        document = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][_KEY])
        said = document.pop("sha256")
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, " ".join(str(error).split())) from error
    if said != _digest(arrays, document):
        raise damaged(path, "its content is not what was written")
    return arrays, document


def sealed(document: Mapping[str, Any]) -> bytes:
    """A document alone, as JSON with its digest."""
    return json.dumps({"sha256": _digest({}, document), **document}, allow_nan=False).encode()


def unsealed(content: bytes, path: str) -> dict[str, Any]:
    """What was sealed; raises `RequestError` for a file that is damaged."""
    try:
        document = json.loads(content)
        said = document.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, f"it is not what was written ({' '.join(str(error).split())})") from error
    if said != _digest({}, document):
        raise damaged(path, "its content is not what was written")
    return dict(document)


def damaged(path: str, why: str) -> RequestError:
    """What is said of a part that cannot be used."""
    return RequestError(f"'{path}' is damaged ({why}); delete it, and the same command makes it again")


def _digest(arrays: Mapping[str, Array], document: Mapping[str, Any]) -> str:
    found = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype} {list(arrays[name].shape)}".encode())
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()


def head(storage: Storage, name: str) -> dict[str, Any]:
    """The document of a packed file, without its arrays, and without looking whether these are whole.

    Raises `RequestError` where it cannot be read.
    """
    try:
        size = int.from_bytes(storage.read(name, 0, 8), "little")
        if size > _LONGEST:
            raise ValueError("its head is too long")
        text = storage.read(name, 8, 8 + size)
        return dict(json.loads(json.loads(text)["__metadata__"][_KEY]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(storage.path(name), " ".join(str(error).split())) from error
