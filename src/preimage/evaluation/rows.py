"""The table of an evaluation: a row for each number, made when it is looked at."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, overload

from preimage.evaluation.asked import Asked
from preimage.evaluation.measure import Quantity

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What a picture's rows have in common: its place among those asked, the class's probability, why it failed."""

    index: int
    probability: float | None
    failed: str | None


@dataclass(frozen=True)
class Block:
    """All rows of one method and measure: for each case its quantities. constant: what all of them say."""

    asked: Sequence[Asked]
    cases: Sequence[Case]
    method: str
    measure: str
    quantities: Sequence[Quantity]
    constant: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.cases) * len(self.quantities)

    def row(self, position: int) -> Row:
        """One of its rows, as plain JSON types."""
        of, which = divmod(position, len(self.quantities))
        case, quantity = self.cases[of], self.quantities[which]
        one = self.asked[case.index]
        return {
            # (Names of files may hold bytes that are no text.)
            "photo": str(one.example.path).encode("utf-8", "backslashreplace").decode(),
            "label": one.label,
            "class": one.index,
            "cell": one.of,
            "method": self.method,
            "measure": self.measure,
            "quantity": quantity.name,
            "value": quantity.values[case.index],
            "divisor": None if quantity.divisor is None else quantity.divisor[case.index],
            "probability": case.probability,
            "failed": case.failed,
            **self.constant,
        }


class Rows(Sequence[Row]):
    """The rows of several blocks, one after the other. A table of 50,000 photos would not fit into memory at once."""

    def __init__(self, blocks: Sequence[Block]):
        self._blocks = [one for one in blocks if len(one)]
        self._ends = list(accumulate(map(len, self._blocks)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == theirs for one, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        block = bisect_right(self._ends, position)
        return self._blocks[block].row(position - (self._ends[block - 1] if block else 0))


def constant_columns(settings: Mapping[str, Any], method: str, measure: str) -> Row:
    """The settings of a method's and measure's rows, so that the table alone says how its numbers were made."""
    kept = {key: settings[key] for key in ("network", "weights", "fit", "target", "seed", "preimage", "torch")}
    return {
        **kept,
        "data": settings["data"]["source"],
        "size": "x".join(map(str, settings["size"])),
        "method_settings": json.dumps(settings["methods"][method]),
        "measure_settings": json.dumps(next(one for one in settings["measures"] if one["name"] == measure)),
    }
