"""The page of claims: what experiments found, in the words in which they found it."""

from __future__ import annotations

import json
from pathlib import Path

import claims


def test_the_page_is_what_the_results_say() -> None:
    assert claims.main(["--check"]) == 0


def test_every_claim_of_every_result_has_a_row() -> None:
    text = claims.page()
    for path in claims.RESULTS.glob("*.json"):
        content = json.loads(path.read_text())
        if isinstance(content, dict) and "claims" in content:
            for one in claims.told(path):
                assert f"{one.source}: {one.sentence}".replace("|", "\\|") in text, path.name


def test_answers_are_counted_and_sorted_by_number(tmp_path: Path) -> None:
    for name, holds in (("inverse_E10", True), ("inverse_E9", False), ("sampling_x", None)):
        one = {"sentence": f"a|b of {name}", "criterion": "", "holds": holds, "numbers": {"n": 0.12345, "m": [1, 2.5]}}
        (tmp_path / f"{name}.json").write_text(json.dumps({"claims": [one], "command": f"run {name}"}))
    text = claims.page(tmp_path)
    assert "Of 3 answers 1 are yes, 1 no, and 1 are not decided" in text
    assert text.index("E9: a") < text.index("E10: a") < text.index("x: a")
    assert "| E9: a\\|b of inverse_E9 | **no** | n 0.123; m 1, 2.5 |" in text
    assert "    run inverse_E10\n" in text


def test_long_numbers_are_cut_between_two(tmp_path: Path) -> None:
    numbers = {f"number {i}": i for i in range(40)}
    one = {"sentence": "s", "criterion": "", "holds": True, "numbers": numbers}
    (tmp_path / "inverse_E1.json").write_text(json.dumps({"claims": [one]}))
    (row,) = [line for line in claims.page(tmp_path).splitlines() if line.startswith("| E1: s")]
    said = row.split("|")[3].strip()
    assert said.endswith(" ...") and len(said) <= claims.LONGEST + 4
    assert all(part.strip(" .") in {f"{name} {value}" for name, value in numbers.items()} for part in said.split(";"))
