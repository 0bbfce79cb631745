"""All cases of a method in one number, with a bootstrap interval, beside heat maps that know nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from preimage.evaluation.baselines import BASELINES
from preimage.evaluation.measure import Quantity
from preimage.extras import from_extra

RESAMPLES = 2000
LEVEL = 0.95
_FEWEST = 5
"""Of fewer cases an interval says nothing."""

Against = Literal["better", "worse", "unclear"]
_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """One quantity of one method.

    mean: over the cases, or over the classes where `by_class`. low, high: its 95 % bootstrap interval (percentiles, the
        cases being drawn again); equal to the mean where all cases are alike. None where nothing was counted.
    count: cases that count; of: all that were asked.
    against: for each baseline, whether the method is better or worse than it by more than chance, in the interval of
        the difference over the same cases; "unclear" where that includes zero.
    """

    method: str
    measure: str
    quantity: str
    better: str | None
    mean: float | None
    low: float | None
    high: float | None
    count: int
    of: int
    against: dict[str, Against]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "notes": list(self.notes)}


def summarised(measure: str, found: Mapping[str, Sequence[Quantity]], labels: Sequence[str]) -> list[Summary]:
    """Of each method (in order) its quantities, brought together.

    found: for each method, the measure's quantities over the same cases. labels: the class of each case.
    Raises `RequestError` where SciPy is missing.
    """
    baselines = {one.name: {q.name: q for q in found.get(one.name, ())} for one in BASELINES}
    out = []
    for method, quantities in found.items():
        for quantity in quantities:
            mean, low, high = interval(quantity, labels)
            against = {
                name: _compared(quantity, theirs[quantity.name], labels)
                for name, theirs in baselines.items()
                if name != method and quantity.name in theirs and quantity.better is not None and mean is not None
            }
            out.append(
                Summary(
                    method,
                    measure,
                    quantity.name,
                    quantity.better,
                    mean,
                    low,
                    high,
                    int(_counting(quantity).sum()),
                    len(quantity.values),
                    against,
                    quantity.notes,
                )
            )
    return out


def interval(quantity: Quantity, labels: Sequence[str]) -> tuple[float | None, float | None, float | None]:
    """The mean of a quantity and its 95 % interval; None where no case counts."""
    some = _counting(quantity)
    if not some.any():
        return None, None, None
    statistic = _Statistic(quantity, labels, some)
    low, high = _bootstrapped(statistic, int(some.sum()))
    return statistic.whole(), low, high


def _compared(ours: Quantity, theirs: Quantity, labels: Sequence[str]) -> Against:
    both = _counting(ours) & _counting(theirs)
    if both.sum() < _FEWEST:
        return "unclear"
    mine, other = _Statistic(ours, labels, both), _Statistic(theirs, labels, both)
    low, high = _bootstrapped(lambda index: mine(index) - other(index), int(both.sum()))
    if ours.better == "lower":
        low, high = -high, -low
    return "better" if low > 0 else "worse" if high < 0 else "unclear"


class _Statistic:
    """A quantity's mean over cases that are drawn again: int [R, n] -> float [R]."""

    def __init__(self, quantity: Quantity, labels: Sequence[str], which: NDArray[np.bool_]):
        self._values = _array(quantity.values)[which]
        self._divisor = None if quantity.divisor is None else _array(quantity.divisor)[which]
        self._by_class = quantity.by_class or quantity.divisor is not None
        self._classes = np.unique(np.asarray(labels, dtype=str)[which], return_inverse=True)[1]

    def __call__(self, index: NDArray[np.int64]) -> _Numbers:
        if not self._by_class:
            mean: _Numbers = self._values[index].mean(-1)
            return mean
        rows, count = index.shape[0], int(self._classes.max()) + 1
        cells = (np.arange(rows)[:, None] * count + self._classes[index]).ravel()

        def per_class(values: _Numbers) -> _Numbers:
            return np.bincount(cells, values[index].ravel(), rows * count).astype(np.float64).reshape(rows, count)

        below = per_class(np.ones_like(self._values) if self._divisor is None else self._divisor)
        # A class of which none was drawn, or whose divisor is nothing, does not count.
        ratio = np.divide(per_class(self._values), below, out=np.full((rows, count), np.nan), where=below > 0)
        seen = np.isfinite(ratio)
        means: _Numbers = np.where(seen, ratio, 0).sum(1) / np.maximum(seen.sum(1), 1)
        return means

    def whole(self) -> float:
        """Over all cases, each once."""
        return float(self(np.arange(len(self._values))[None])[0])


def _bootstrapped(statistic: Any, count: int) -> tuple[float, float]:
    if count == 1:  # which SciPy refuses
        one = float(statistic(np.zeros((1, 1), np.int64))[0])
        return one, one
    found = (
        from_extra("scipy.stats", "evaluation")
        .bootstrap(
            (np.arange(count),),
            lambda drawn, axis=-1: statistic(np.atleast_2d(drawn)),
            n_resamples=RESAMPLES,
            batch=max(1, 4_000_000 // count),
            confidence_level=LEVEL,
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(0),
        )
        .confidence_interval
    )
    return float(found.low), float(found.high)


def _counting(quantity: Quantity) -> NDArray[np.bool_]:
    some = np.isfinite(_array(quantity.values))
    return some if quantity.divisor is None else some & np.isfinite(_array(quantity.divisor))


def _array(values: Sequence[float | None]) -> _Numbers:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
