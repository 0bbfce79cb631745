"""The places of a network that can be asked, and the table that lists them."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, SupportsIndex


class Place(NamedTuple):
    """A tap, and whether its value is wanted behind a final ReLU (`after_relu`) or, as usual, before it."""

    tap: str
    after_relu: bool = False

    def __str__(self) -> str:
        return f"after:{self.tap}" if self.after_relu else self.tap


@dataclass(frozen=True)
class Tap:
    """One row of `Network.taps()`.

    name: the module's path in the network; `#2` is added for a second call of the same module, `[key]` for one of
        several outputs; the network's own output is called `output`.
    kind: the module's class.
    shape: of one image's activation at the network's input size, channels first: (channels, height, width),
        (channels, tokens) or (channels,).
    channels: how many channels can be asked.
    receptive_field: height and width in input pixels of what one central unit sees, at most the input's size; None
        where it cannot be measured (a part computed without gradients, say).
    stride: by how many input pixels (down, right) the receptive field moves from one unit to the next; None where
        there is only one position.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    channels: int
    receptive_field: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


class TapTable(list[Tap]):
    """The rows of `Network.taps()`; prints as a table, also in a notebook, and `table["layer3.2"]` finds a row."""

    _HEADER = ("name", "kind", "shape", "channels", "receptive field", "stride")

    def __getitem__(self, key: str | SupportsIndex | slice) -> Any:
        if isinstance(key, str):
            for tap in self:
                if tap.name == key:
                    return tap
            raise KeyError(key)
        return super().__getitem__(key)

    def rows(self) -> list[tuple[str, ...]]:
        """Every row as texts, without the header."""
        return [
            (t.name, t.kind, _times(t.shape), str(t.channels), _times(t.receptive_field), _times(t.stride))
            for t in self
        ]

    def __str__(self) -> str:
        rows = [self._HEADER, *self.rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self._HEADER))]
        return "\n".join("  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(cells: Iterable[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        return f"<table>{line(self._HEADER, 'th')}{''.join(line(row, 'td') for row in self.rows())}</table>"


def _times(numbers: tuple[int, ...] | None) -> str:
    return "-" if numbers is None else " x ".join(map(str, numbers))


def token_grid(tokens: int) -> tuple[int, int, int] | None:
    """How a transformer's tokens lie on the image: (tokens before the patches, rows, columns), for square grids.

    At most five tokens (class, distillation, registers) may stand before the patches; None where no square fits.
    """
    side = math.isqrt(tokens)
    prefix = tokens - side * side
    return (prefix, side, side) if prefix <= 5 else None
