"""One step size for a whole tap, of which several units have to agree that it is better than the recipe's."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preimage import RequestError
from preimage.atlas import tuning
from preimage.atlas.tuning import agreed
from preimage.optimization import Search, Trial

OCTAVES = (-2, -1, 0, 1, 2)


def search(activations: list[float], name: str = "0:0") -> Search:
    trials = tuple(Trial(2.0**o, a, 20, "last step") for o, a in zip(OCTAVES, activations, strict=True))
    return Search(name, trials, 1.0, 5.0)


def test_where_all_agree_the_highest_wins() -> None:
    searches = [search([1, 2, 3, 4, 2]), search([10, 20, 30, 40, 20]), search([5, 6, 7, 8, 6])]
    factor, says = agreed(searches)
    assert factor == 2 and "the best for 0:0, 0:0, 0:0 of 5 from 0.25 to 4" in says and "15.0 pictures" in says


def test_one_unit_alone_does_not_outweigh_the_others() -> None:
    """Its activations are a thousand times theirs."""
    factor, _ = agreed([search([4000, 0, 0, 0, 0]), search([0, 0, 4, 1, 0]), search([0, 0, 4, 1, 0])])
    assert factor == 1


def test_where_units_disagree_the_recipes_own_is_taken() -> None:
    """Each prefers another one, and the highest mean is that of 4, by less than they differ."""
    factor, says = agreed([search([0, 0, 5, 0, 10]), search([0, 0, 10, 0, 8]), search([0, 0, 9, 0, 10])])
    assert factor == 1 and says.endswith("pictures") and "; 4 did as well" in says


@given(st.lists(st.permutations([1.0, 2.0, 3.0, 5.0, 8.0]), min_size=1, max_size=4), st.floats(0.1, 100))
def test_neither_the_scale_of_activations_nor_the_order_of_units_matters(values: list[list[float]], by: float) -> None:
    plain = agreed([search(one) for one in values])[0]
    assert agreed([search([by * a - by for a in one]) for one in reversed(values)])[0] == plain


@given(st.permutations([1.0, 2.0, 3.0, 5.0, 8.0]))
def test_of_one_unit_the_highest_wins(values: list[float]) -> None:
    assert agreed([search(values)])[0] == 2.0 ** OCTAVES[values.index(8.0)]


def test_what_is_not_finite_for_one_is_nothing_for_all() -> None:
    assert agreed([search([1, 2, 3, 4, 5]), search([1, 2, 3, math.nan, math.nan])])[0] == 1
    with pytest.raises(RequestError, match="no step size gives a finite score for all"):
        agreed([search([math.nan] * 4 + [1.0]), search([1.0] + [math.nan] * 4)])


def test_beyond_what_is_not_finite_for_one_unit_nothing_more_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest of the first five is the best, and each larger one breaks one of two units."""
    asked: list[list[float]] = []

    def raced(*given: Any) -> list[Search]:
        octaves = list(given[-1])
        asked.append(octaves)
        assert len(asked) < 5, "it would never end"
        broken = (
            lambda i: math.nan if octaves[0] > 2 and i % 2 else 1.0,
            lambda i: math.nan if octaves[0] > 2 else 1.0,
        )
        return [
            Search("0:0", tuple(Trial(2.0**o, o * one(i), 20, "last step") for i, o in enumerate(octaves)), 1.0, 1.0)
            for one in broken
        ]

    monkeypatch.setattr(tuning, "_raced", raced)
    nothing: Any = None
    found = tuning.tuned(nothing, nothing, [], nothing, None, 0)
    assert found.factor == 4 and asked == [list(OCTAVES), [3, 4, 5]]
