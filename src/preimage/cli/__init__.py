"""The command line: thin. It parses, calls a verb, shows progress and writes files."""

from __future__ import annotations

import sys
from typing import NoReturn

from preimage.errors import RequestError, WriteError


def main() -> None:
    """Run `preimage`; exit code 0: done, 2: the request was wrong (one line says what), 1: anything else."""
    try:
        from preimage.cli.commands import app
    except KeyboardInterrupt:
        sys.exit("preimage: interrupted")
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        sys.exit("preimage: the command line needs the package typer: pip install 'preimage[cli]'")
    try:
        code = app(standalone_mode=False)
    except WriteError as error:  # nothing is wrong with the request
        _fail(str(error), 1)
    except RequestError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit("preimage: interrupted")
    except Exception as error:
        # Typer's own errors (a missing option, a number that is none); their class lives in a private module.
        if not hasattr(error, "format_message"):
            raise
        if not error.format_message():  # nothing at all was asked; the help is printed already
            sys.exit(2)
        _fail(f"{error.format_message()} (preimage --help, or preimage COMMAND --help, says what can be asked)")
    if isinstance(code, int) and code:
        sys.exit(1)


def _fail(sentence: str, code: int = 2) -> NoReturn:
    print("preimage: " + " ".join(sentence.split()), file=sys.stderr)
    sys.exit(code)


__all__ = ["main"]
