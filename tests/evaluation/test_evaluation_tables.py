"""Many numbers in one, with an interval and a verdict; and the files in which they all stand."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from preimage import RequestError
from preimage.evaluation import Evaluation, Quantity, Summary
from preimage.evaluation.summary import LEVEL, RESAMPLES, interval, summarised

few = settings(max_examples=20, deadline=None)
numbers = st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=2, max_size=30)


def of(values: Sequence[float | None], labels: Sequence[str] | None = None, **rest: Any) -> tuple[float | None, ...]:
    return interval(Quantity("q", list(values), **rest), labels or ["cat"] * len(values))


def verdicts(
    ours: Sequence[float | None],
    theirs: Sequence[float | None],
    labels: Sequence[str] | None = None,
    **rest: Any,
) -> dict[str, str]:
    """Of a method against `centre`, and of that (which is no baseline of itself) nothing."""
    found = {"ours": [Quantity("q", list(ours), **rest)], "centre": [Quantity("q", list(theirs), **rest)]}
    first, second = summarised("m", found, labels or ["cat"] * len(ours))
    assert (first.method, second.method, second.against) == ("ours", "centre", {})
    return dict(first.against)


def test_the_interval_of_a_share_is_that_of_the_binomial_distribution() -> None:
    """What is drawn again from k ones among n is binomial, so that its quantiles are known; up to those of 2000 draws,
    whose rank at each end is off by less than four standard errors."""
    count, ones = 60, 18
    mean, low, high = of([1.0] * ones + [0.0] * (count - ones))
    tail = (1 - LEVEL) / 2
    slack = 4 * np.sqrt(tail * (1 - tail) / RESAMPLES)
    drawn = stats.binom(count, ones / count)
    assert mean == ones / count
    assert low is not None and high is not None
    assert drawn.ppf(tail - slack) / count <= low <= drawn.ppf(tail + slack) / count
    assert drawn.ppf(1 - tail - slack) / count <= high <= drawn.ppf(1 - tail + slack) / count


def test_the_interval_is_scipys() -> None:
    """Of its own draws; both ends lie within the other's Monte Carlo error of four standard errors of a rank."""
    values = np.random.default_rng(1).gamma(1.5, size=80)
    mean, low, high = of(values.tolist())
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(5))
    ranks = np.sort(theirs.bootstrap_distribution)
    tail = (1 - LEVEL) / 2
    slack = 4 * np.sqrt(tail * (1 - tail) * (1 / RESAMPLES + 1 / len(ranks)))
    for end, at in ((low, tail), (high, 1 - tail)):
        assert np.quantile(ranks, at - slack) <= end <= np.quantile(ranks, at + slack)
    assert mean == pytest.approx(values.mean(), rel=1e-14)


def test_it_holds_the_truth_as_often_as_theory_says() -> None:
    """Of n normal values the percentile interval is z sqrt((n - 1) / n) standard errors wide where Student's t should
    be; 400 intervals hold the truth in that share of cases, up to four standard errors of that share."""
    count, runs = 40, 400
    random = np.random.default_rng(2)
    held = 0
    for _ in range(runs):
        _, low, high = of(random.normal(3.0, 2.0, count).tolist())
        assert low is not None and high is not None
        held += low <= 3.0 <= high
    z = stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt((count - 1) / count)
    expected = 1 - 2 * stats.t(count - 1).sf(z)
    assert 0.93 < expected < LEVEL
    assert held / runs == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / runs))


@few
@given(numbers, st.floats(0.01, 100), st.floats(-100, 100))
def test_it_moves_and_stretches_with_the_values(values: list[float], scale: float, shift: float) -> None:
    before = np.array(of(values), dtype=float)
    after = np.array(of([scale * value + shift for value in values]), dtype=float)
    rounding = 1e-12 * (abs(scale) * max(map(abs, values)) + abs(shift))
    np.testing.assert_allclose(after, scale * before + shift, rtol=0, atol=rounding)


@few
@given(numbers)
def test_what_does_not_count_changes_nothing(values: list[float]) -> None:
    holed: list[float | None] = [part for value in values for part in (value, None, float("nan"), float("inf"))]
    assert of(holed) == of(values)
    (one,) = summarised("m", {"ours": [Quantity("q", holed)]}, ["cat"] * len(holed))
    assert (one.count, one.of) == (len(values), 4 * len(values))


@pytest.mark.parametrize("values", [[], [None], [None, float("nan")]])
def test_of_nothing_there_is_no_mean(values: list[float | None]) -> None:
    assert of(values) == (None, None, None)
    (one,) = summarised("m", {"ours": [Quantity("q", values)]}, ["cat"] * len(values))
    assert (one.mean, one.low, one.high, one.count, one.of, one.against) == (None, None, None, 0, len(values), {})


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("value", [0.0, 0.25, -3.0])
def test_where_all_are_alike_the_interval_is_the_mean(value: float, count: int) -> None:
    assert of([value] * count) == (value, value, value)
    assert of([value] * count, by_class=True) == (value, value, value)
    assert of([value] * count, divisor=[1.0] * count) == (value, value, value)


def test_a_single_case_is_its_own_interval() -> None:
    assert of([None, 0.3, None]) == (0.3, 0.3, 0.3)


def test_the_mean_over_classes_does_not_ask_how_many_photos_each_has() -> None:
    labels = ["cat"] * 30 + ["dog"] * 12
    values = [0.0] * 30 + [1.0] * 12
    assert of(values, labels, by_class=True) == (0.5, 0.5, 0.5)
    assert of(values, labels)[0] == 12 / 42
    random = np.random.default_rng(3).random(42)
    expected = (random[:30].mean() + random[30:].mean()) / 2
    assert of(random.tolist(), labels, by_class=True)[0] == pytest.approx(expected, rel=1e-14)


def test_a_divisor_makes_ratios_of_each_class() -> None:
    labels = ["cat"] * 30 + ["dog"] * 12
    below = np.random.default_rng(4).uniform(0.5, 2, 42)
    assert of((2 * below).tolist(), labels, divisor=below.tolist()) == pytest.approx((2, 2, 2), rel=1e-14)
    above = np.random.default_rng(5).uniform(0, 1, 42)
    expected = (above[:30].sum() / below[:30].sum() + above[30:].sum() / below[30:].sum()) / 2
    mean, low, high = of(above.tolist(), labels, divisor=below.tolist())
    assert mean == pytest.approx(expected, rel=1e-14)
    assert low is not None and high is not None and low < expected < high
    # Cases without a divisor, and classes whose divisor is nothing, do not count.
    nothing = of([*above, 5.0, 7.0], [*labels, "cat", "crane"], divisor=[*below, None, 0.0])
    assert nothing[0] == pytest.approx(expected, rel=1e-14)


def test_the_same_numbers_give_the_same_interval() -> None:
    values = np.random.default_rng(6).random(50).tolist()
    assert of(values) == of(values)


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize(("better", "shifted"), [("higher", "better"), ("lower", "worse")])
def test_a_method_is_told_from_a_baseline_by_the_difference_of_each_case(
    better: str, shifted: str, by_class: bool
) -> None:
    """Cases that differ far more from each other than methods do."""
    random = np.random.default_rng(7)
    theirs = random.normal(0, 10, 40)
    ours = theirs + random.normal(0.5, 0.1, 40)
    rest: dict[str, Any] = {"better": better, "by_class": by_class, "labels": ["cat", "dog"] * 20}
    opposite = {"better": "worse", "worse": "better"}[shifted]
    assert verdicts(ours.tolist(), theirs.tolist(), **rest) == {"centre": shifted}
    assert verdicts((-ours).tolist(), (-theirs).tolist(), **rest) == {"centre": opposite}
    assert verdicts(theirs.tolist(), theirs.tolist(), **rest) == {"centre": "unclear"}


def test_chance_is_taken_for_a_difference_as_seldom_as_said() -> None:
    runs, random = 200, np.random.default_rng(8)
    unclear = sum(
        verdicts(random.random(40).tolist(), random.random(40).tolist())["centre"] == "unclear" for _ in range(runs)
    )
    z = stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(39 / 40)
    expected = 1 - 2 * stats.t(39).sf(z)
    assert unclear / runs == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / runs))


def test_only_cases_that_both_have_are_compared() -> None:
    """The method failed where the baseline did badly, which is no merit."""
    theirs: list[float | None] = [0.0] * 10 + [1.0] * 10
    ours: list[float | None] = [None] * 10 + [1.0] * 10
    assert verdicts(ours, theirs) == {"centre": "unclear"}
    assert verdicts([1.0] * 10 + [None] * 10, [None] * 10 + [0.0] * 10) == {"centre": "unclear"}


def test_one_case_tells_nothing_from_chance() -> None:
    assert verdicts([1.0], [0.0]) == {"centre": "unclear"}


def test_a_number_without_a_better_side_is_compared_with_nothing() -> None:
    assert verdicts([1.0] * 9, [0.0] * 9, better=None) == {}


def test_each_baseline_is_compared_with_the_other() -> None:
    found = {name: [Quantity("q", [value] * 9)] for name, value in {"ours": 2.0, "centre": 1.0, "random": 0.0}.items()}
    against = {one.method: one.against for one in summarised("m", found, ["cat"] * 9)}
    assert against["ours"] == {"centre": "better", "random": "better"}
    assert against["centre"] == {"random": "better"}
    assert against["random"] == {"centre": "worse"}


def test_methods_and_quantities_come_in_their_order_with_their_notes() -> None:
    found = {name: [Quantity("b", [1.0], notes=(f"of {name}",)), Quantity("a", [2.0])] for name in ("z", "y")}
    made = summarised("m", found, ["cat"])
    assert [(one.method, one.quantity, one.notes) for one in made] == [
        ("z", "b", ("of z",)), ("z", "a", ()), ("y", "b", ("of y",)), ("y", "a", ()),
    ]  # fmt: skip
    assert json.loads(json.dumps([one.as_dict() for one in made], allow_nan=False))[0]["notes"] == ["of z"]


ROWS: list[dict[str, Any]] = [
    {"photo": 'a, "b".png', "label": "ümlaut\nline", "class": 3, "cell": 0, "method": "mask", "value": 0.1 + 0.2,
     "divisor": None, "probability": 1e-12, "failed": None, "seed": 0},
    {"photo": "c.png", "label": "dog", "class": 1, "cell": 2, "method": "centre", "value": None,
     "divisor": None, "probability": None, "failed": "'c.png' cannot be read", "seed": 0},
]  # fmt: skip


def as_text(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    return [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_both_formats_hold_every_number_as_it_is(tmp_path: Path) -> None:
    made = Evaluation(ROWS, [], {"verb": "evaluate", "sizes": [1, 2], "name": "ü"})
    for format in ("csv", "parquet"):
        assert made.save(tmp_path, format) == tmp_path  # type: ignore[arg-type]
    assert read_csv(tmp_path / "results.csv") == as_text(ROWS)
    table = pyarrow.parquet.read_table(tmp_path / "results.parquet")
    assert table.to_pylist() == ROWS
    assert json.loads(table.schema.metadata[b"preimage"]) == made.settings
    assert {path.name for path in tmp_path.iterdir()} == {"results.csv", "results.parquet", "result.json"}
    said = json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)
    assert said == made.as_dict()
    assert {**said, **made.settings} == said


def test_columns_have_their_types_even_where_nothing_stands(tmp_path: Path) -> None:
    """Tables of two runs can be put together, though nothing failed in one of them."""
    for name, rows in (("one", ROWS[:1]), ("two", ROWS)):
        (tmp_path / name).mkdir()
        Evaluation(rows, [], {}).save(tmp_path / name, "parquet")
    one, two = (pyarrow.parquet.read_table(tmp_path / name / "results.parquet").schema for name in ("one", "two"))
    assert one.equals(two)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_table_of_nothing_can_be_written_and_read(tmp_path: Path, format: str) -> None:
    Evaluation([], [], {"verb": "evaluate"}, interrupted=True).save(tmp_path, format)  # type: ignore[arg-type]
    if format == "csv":
        assert read_csv(tmp_path / "results.csv") == []
    else:
        assert pyarrow.parquet.read_table(tmp_path / "results.parquet").num_rows == 0
    assert json.loads((tmp_path / "result.json").read_text())["interrupted"] is True


def test_a_photo_whose_name_is_no_text_has_its_row(tmp_path: Path) -> None:
    """Linux allows any bytes in names; Python stands half characters in for those that are no UTF-8."""
    name = b"photo-\xff.png".decode("utf-8", "surrogateescape")
    made = Evaluation([{**ROWS[0], "photo": name}], [], {})
    made.save(tmp_path)
    (row,) = csv.DictReader((tmp_path / "results.csv").read_text("utf-8", "surrogateescape").splitlines()[:2])
    assert row["photo"].startswith("photo-")


def test_a_folder_that_is_gone_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot write to the folder"):
        Evaluation(ROWS, [], {}).save(tmp_path / "gone")


def test_failures_are_counted_by_reason_once_for_each_photo_and_method() -> None:
    rows = [{**ROWS[1], "quantity": quantity, "method": method} for quantity in "ab" for method in ("mask", "centre")]
    assert Evaluation(rows, [], {}).failures == {"'c.png' cannot be read": 2}


def summary(method: str, mean: float | None, count: int = 9, **against: str) -> Summary:
    low, high = (None, None) if mean is None else (mean - 0.125, mean + 0.125)
    return Summary(method, "deletion", "area", "lower", mean, low, high, count, 9, against)  # type: ignore[arg-type]


def test_it_prints_every_method_its_mean_and_interval() -> None:
    some = [summary("mask", 0.25), summary("gradient", 0.5, 4), summary("broken", None, 0)]
    lines = str(Evaluation([], some, {})).splitlines()
    assert lines[0].split()[0] == "deletion" and "area" in lines[0] and "lower is better" in lines[0]
    assert [line.split()[0] for line in lines[1:4]] == ["mask", "gradient", "broken"]
    assert "0.250 (0.125 to 0.375)" in lines[1]
    assert lines[2].endswith("0.500 of 4")  # too few for an interval
    assert lines[3].split()[1:] == ["-"]


def test_one_summary_is_found_by_its_names() -> None:
    made = Evaluation([], [summary("mask", 0.25)], {})
    assert made.of("deletion", "area", "mask") is made.summary[0]
    with pytest.raises(RequestError, match="nothing was measured of 'centre' by 'deletion', 'area'"):
        made.of("deletion", "area", "centre")


def test_photos_are_drawn_with_all_their_cases() -> None:
    """Ten objects of one photo are no ten photos: the interval is that of the photos' means."""
    means = np.random.default_rng(0).normal(size=12).tolist()
    one_each = interval(Quantity("q", means), ["cat"] * 12)
    ten_each = interval(
        Quantity("q", [value for value in means for _ in range(10)]),
        ["cat"] * 120,
        [f"{i:02}.jpg" for i in range(12) for _ in range(10)],
    )
    assert ten_each == pytest.approx(one_each)


def test_a_note_is_said_of_those_that_it_is_about_and_no_others() -> None:
    def said(**notes: tuple[str, str]) -> str:
        """Methods with their notes to two quantities."""
        some = [
            Summary(method, "m", quantity, "lower", 0.5, 0.4, 0.6, 9, 9, {}, (note,) if note else ())
            for method, both in notes.items()
            for quantity, note in zip(("value", "energy"), both, strict=True)
        ]
        return str(Evaluation([], some, {}))

    assert "  everywhere" in said(a=("everywhere",) * 2, b=("everywhere",) * 2)
    assert "  value: once" in said(a=("once", ""), b=("once", ""))
    assert "  b: once" in said(a=("", ""), b=("once", "once"))
    assert "  value: b: once" in said(a=("", ""), b=("once", ""))
    assert "  a (value); b (energy): crossed" in said(a=("crossed", ""), b=("", "crossed"))


def test_a_table_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"quantity {i}" for i in range(8)]
    some = [Summary("mask", "m", name, "lower", 0.5, 0.4, 0.6, 9, 9, {}) for name in names]
    printed = str(Evaluation([], some, {}))
    assert max(map(len, printed.splitlines())) <= 80
    assert all(name in printed for name in names)
