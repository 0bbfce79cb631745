"""Checkpoints: whole or not at all, and never code."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from preimage.errors import RequestError, WriteError
from preimage.images import written_whole


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Put `state` in the place of whatever checkpoint was there.

    state: tensors, numbers, texts, and lists and dicts of them. Raises `WriteError` if it cannot be written (a full
    disk); then the one before stays.
    """
    # By way of memory, because torch.save to a file does not always say that the disk was full.
    whole = io.BytesIO()
    torch.save(state, whole)
    try:
        with written_whole(path) as file:
            file.write_bytes(whole.getbuffer())
    except OSError as error:
        before = "; the one before is whole, and --resume goes on from it" if path.exists() else ""
        raise WriteError(f"cannot write the checkpoint '{path}': {error.strerror or error}{before}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `write_checkpoint` wrote. No code in the file is run. Raises `RequestError` if it is damaged."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise RequestError(
            f"the checkpoint '{path}' is damaged ({type(error).__name__}); delete it to train from the beginning"
        ) from error
    if not isinstance(state, dict):
        raise RequestError(f"'{path}' is no checkpoint of preimage")
    return state
