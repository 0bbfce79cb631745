"""What the settings of an architecture may be, so that a file from anywhere cannot ask for the impossible."""

from __future__ import annotations

from collections.abc import Sequence

from preimage.errors import RequestError

LARGEST_SIDE = 1024
"""Of images, in pixels."""

_WIDEST = 65_536


def whole(name: str, value: object, least: int = 1, most: int = _WIDEST) -> int:
    """`value`, if it is a whole number in this range; raises `RequestError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise RequestError(f"{name} is a whole number from {least} to {most}, not {value!r}")
    return value


def checked_code_shape(value: object) -> tuple[int, ...]:
    """The shape of one code: (length,) or (channels, side, side); raises `RequestError` for any other."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) not in (1, 3):
        raise RequestError(f"a code has the shape [length] or [channels, side, side], not {value!r}")
    shape = tuple(whole("a side of the code", side) for side in value)
    if len(shape) == 3 and shape[1] != shape[2]:
        raise RequestError(f"a code that has places is square, not {shape[1]} x {shape[2]}")
    return shape
