"""What can go wrong with a request, in one sentence each.

Everything that a user can mend by asking differently is a `RequestError`; the command line prints its sentence
and leaves with exit code 2. Anything else is a fault of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """The request cannot be fulfilled as it stands; the message says what would be right."""


class WriteError(RequestError, OSError):
    """What was found cannot be written: a full disk, say. What was written before is whole."""

    __str__ = ValueError.__str__


class UnknownTapError(RequestError, KeyError):
    """No such tap in this network."""

    __str__ = ValueError.__str__  # KeyError would print the message in quotes


class NonFiniteScoreError(RequestError, ArithmeticError):
    """A score became NaN or infinite while optimising."""


def nearest(word: str, known: Iterable[str], count: int = 4) -> list[str]:
    """The names in `known` that a person who typed `word` most likely meant, best first."""
    names = list(dict.fromkeys(known))
    folded = word.casefold()
    inside = sorted((name for name in names if folded and folded in name.casefold()), key=len)[:count]
    close = difflib.get_close_matches(folded, [name.casefold() for name in names], n=count, cutoff=0.5)
    near = [name for one in close for name in names if name.casefold() == one]
    return list(dict.fromkeys([*inside, *near]))[:count]
