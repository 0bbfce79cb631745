"""All methods of `explain`, by name."""

from __future__ import annotations

from preimage.errors import RequestError, nearest
from preimage.explain.mask import HybridMask, Mask, PreservingMask
from preimage.explain.method import Method

_ALL: tuple[Method, ...] = (
    Mask(),
    PreservingMask(),
    HybridMask(),
)


class Methods(dict[str, Method]):
    """Methods by name; prints as a table."""

    def __str__(self) -> str:
        width, source = (max(map(len, column)) for column in (self, [one.source for one in self.values()]))
        return "\n".join(f"{name.ljust(width)}  {one.source.ljust(source)}  {one.says}" for name, one in self.items())


def methods() -> Methods:
    """Every method of `explain` with its published settings, by name."""
    return Methods({one.name: one for one in _ALL})


def find_method(asked: str | Method) -> Method:
    """The method of this name; raises `RequestError` that names the nearest."""
    if isinstance(asked, Method):
        return asked
    if not isinstance(asked, str):
        raise RequestError(f"a method is a name or a Method, not {type(asked).__name__}")
    known = methods()
    if asked not in known:
        close = nearest(asked, known)
        hint = f"; the nearest are {', '.join(close)}" if close else ""
        raise RequestError(f"there is no method '{asked}'{hint} (preimage methods lists all)")
    return known[asked]
