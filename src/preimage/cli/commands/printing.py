"""How every command prints its document, and leaves when it was interrupted."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    json.dump(document, sys.stdout, indent=1)
    print()


def leave_if(interrupted: bool) -> None:
    """After Ctrl-C, once what was finished is written: say so, exit code 1."""
    if interrupted:
        print("preimage: interrupted; what was finished is written", file=sys.stderr)
        raise typer.Exit(1)
