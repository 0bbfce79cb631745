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
FEWEST = 5
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


def summarised(
    measure: str, found: Mapping[str, Sequence[Quantity]], labels: Sequence[str], photos: Sequence[str] | None = None
) -> list[Summary]:
    """Of each method (in order) its quantities, brought together.

    found: for each method, the measure's quantities over the same cases. labels: the class of each case. photos: the
        photo of each, which are drawn again for the intervals with all their cases; None: every case has its own.
    Raises `RequestError` where SciPy is missing.
    """
    drawn = _Cases(labels, photos)
    baselines = {one.name: {q.name: q for q in found.get(one.name, ())} for one in BASELINES}
    out = []
    for method, quantities in found.items():
        for quantity in quantities:
            mean, low, high = _interval(quantity, drawn)
            against = {
                name: _compared(quantity, theirs[quantity.name], drawn)
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


def interval(
    quantity: Quantity, labels: Sequence[str], photos: Sequence[str] | None = None
) -> tuple[float | None, float | None, float | None]:
    """The mean of a quantity and its 95 % interval; None where no case counts."""
    return _interval(quantity, _Cases(labels, photos))


class _Cases:
    """The class and the photo of each case, numbered."""

    def __init__(self, labels: Sequence[str], photos: Sequence[str] | None):
        self.classes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)[1]
        own = np.arange(len(labels))
        self.photos = own if photos is None else np.unique(np.asarray(photos, dtype=str), return_inverse=True)[1]


def _interval(quantity: Quantity, cases: _Cases) -> tuple[float | None, float | None, float | None]:
    some = _counting(quantity)
    if not some.any():
        return None, None, None
    statistic = _Statistic(quantity, cases, some)
    low, high = _bootstrapped(statistic, statistic.photos)
    return statistic.whole(), low, high


def _compared(ours: Quantity, theirs: Quantity, cases: _Cases) -> Against:
    both = _counting(ours) & _counting(theirs)
    if both.sum() < FEWEST:
        return "unclear"
    mine, other = _Statistic(ours, cases, both), _Statistic(theirs, cases, both)
    low, high = _bootstrapped(lambda index: mine(index) - other(index), mine.photos)
    if ours.better == "lower":
        low, high = -high, -low
    return "better" if low > 0 else "worse" if high < 0 else "unclear"


class _Statistic:
    """A quantity's mean over photos that are drawn again, with all their cases: int [R, photos] -> float [R]."""

    def __init__(self, quantity: Quantity, cases: _Cases, which: NDArray[np.bool_]):
        values = _array(quantity.values)[which]
        divisor = np.ones_like(values) if quantity.divisor is None else _array(quantity.divisor)[which]
        photo = np.unique(cases.photos[which], return_inverse=True)[1]
        self.photos = int(photo.max()) + 1
        by_class = quantity.by_class or quantity.divisor is not None
        column = np.unique(cases.classes[which], return_inverse=True)[1] if by_class else np.zeros_like(photo)
        # What each photo adds to each class, above and below the line.
        shape = (self.photos, int(column.max()) + 1)
        self._above, self._below = np.zeros(shape), np.zeros(shape)
        np.add.at(self._above, (photo, column), values)
        np.add.at(self._below, (photo, column), divisor)

    def __call__(self, index: NDArray[np.int64]) -> _Numbers:
        rows = np.arange(len(index))[:, None] * self.photos
        times = np.bincount((rows + index).ravel(), minlength=len(index) * self.photos)
        drawn = times.reshape(len(index), self.photos).astype(np.float64)
        above, below = drawn @ self._above, drawn @ self._below
        # A class of which none was drawn, or whose divisor is nothing, does not count.
        ratio = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
        seen = np.isfinite(ratio)
        means: _Numbers = np.where(seen, ratio, 0).sum(1) / np.maximum(seen.sum(1), 1)
        return means

    def whole(self) -> float:
        """Over all cases, each once."""
        return float(self(np.arange(self.photos)[None])[0])


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
