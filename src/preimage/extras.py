"""Packages that come with an extra, imported when something needs them."""

from __future__ import annotations

import importlib
from typing import Any

from preimage.errors import RequestError


def from_extra(module: str, extra: str) -> Any:
    """The module; raises `RequestError` that says what to install where it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not module.startswith(str(error.name)):
            raise
        raise RequestError(f"this needs the package {error.name}: pip install 'preimage[{extra}]'") from error
