"""The file of a prior that was trained."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from preimage.errors import RequestError, WriteError
from preimage.sample.architectures import name_of
from preimage.sample.prior import Prior

PRIOR = "prior.safetensors"


def kept(prior: Prior, folder: str | Path) -> Path | None:
    """Write `prior.safetensors`; None where the prior has modules that a file cannot hold without code.

    Raises `WriteError` when the disk is full.
    """
    parts = (prior.generator, prior.denoiser, prior.image_denoiser)
    if not all(part is None or (isinstance(part, nn.Module) and _is_ours(part)) for part in parts):
        return None
    path = Path(folder) / PRIOR
    try:
        return prior.save(path)
    except OSError as error:
        raise WriteError(f"cannot write '{path}': {error.strerror or error}") from error


def _is_ours(module: nn.Module) -> bool:
    try:
        name_of(module)
    except RequestError:
        return False
    return True
