"""Photos and what is made of them, side by side while training goes on."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from preimage.errors import WriteError
from preimage.images import to_pil, written_whole

_GAP = 2


def write_preview(path: Path, rows: list[Tensor]) -> None:
    """A PNG with one row for each [n, C, size, size] in [0, 1]; the n-th of each below one another, at full size.

    Raises `WriteError` if it cannot be written.
    """
    columns = [torch.cat([_framed(row[i]) for row in rows], 1) for i in range(len(rows[0]))]
    try:
        with written_whole(path) as file:
            to_pil(torch.cat(columns, 2)).save(file, format="PNG")
    except OSError as error:
        raise WriteError(f"cannot write '{path}': {error.strerror or error}") from error


def _framed(image: Tensor) -> Tensor:
    return torch.nn.functional.pad(image.detach().float().cpu(), (0, _GAP, 0, _GAP), value=1.0)
