"""Sentences of paper 3 as questions of what was measured, whose answer is yes, no, or that nothing decides.

The docstring of a question is its criterion, in the words in which results say it. Criteria were set before anything
was measured, from SPEC P.6 where that says how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import getdoc
from typing import Any

from preimage.errors import RequestError

Found = dict[str, Any]
Answer = tuple[bool | None, Found]
"""Whether it holds (None: nothing to judge by), and the numbers that it was judged by."""

ALIKE = 0.05
"""Shares, probabilities and correlations that differ by no more are not told apart."""


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper (or a goal of this project), and the question of what was measured that decides on it."""

    sentence: str
    question: Callable[[Any], Answer]

    @property
    def criterion(self) -> str:
        return " ".join((getdoc(self.question) or "").split())

    def answered(self, measured: Any) -> Found:
        """The claim in plain JSON types."""
        try:
            holds, numbers = self.question(measured)
        except NotMeasuredError as missing:
            holds, numbers = None, {"not measured": str(missing)}
        holds = None if holds is None else bool(holds)  # (SciPy's are no plain ones)
        return {"sentence": self.sentence, "criterion": self.criterion, "holds": holds, "numbers": numbers}


class NotMeasuredError(RequestError):
    """A claim asks for something that was not measured."""


def answers(claims: Sequence[Claim], measured: Any) -> list[Found]:
    """All claims answered, and printed."""
    found = [claim.answered(measured) for claim in claims]
    for one in found:
        verdict = {True: "holds", False: "does not hold", None: "undecided"}[one["holds"]]
        print(f"{verdict}: {one['sentence']}\n    {one['numbers']}", flush=True)
    return found


def of(measured: dict[str, Found], name: str, quantity: str) -> float:
    """A number that was measured of something; raises `NotMeasuredError`."""
    value = measured.get(name, {}).get(quantity)
    if value is None:
        raise NotMeasuredError(f"{quantity} of {name}")
    return float(value)


def part(measured: dict[str, dict[str, Found]], name: str) -> dict[str, Found]:
    """One of several groups of measurements; raises `NotMeasuredError`."""
    if name not in measured:
        raise NotMeasuredError(name)
    return measured[name]


def never_increases(values: Sequence[float], by: float = ALIKE) -> bool:
    """Whether no value is more than `by` above the least of those before it."""
    return all(later <= min(values[:i]) + by for i, later in enumerate(values) if i)
