"""The ledger: nothing of SPEC is missing, nothing of ours is typed by hand, and what is wrong is said."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import ledger

TABLES = {table.id: table for table in ledger.read()}

# Copied out of SPEC (S.2, I.3, I18, P.4, M.4), not out of the ledger: table, row (a part of its name), column, value.
SPEC: list[tuple[str, str, int, str | float]] = [
    ("reconstruction-plain", "total variation", 0, 44.0),
    ("reconstruction-plain", "fluid (", 1, 67.3),
    ("reconstruction-plain", "fluid-elastic", 0, 13.8),
    ("reconstruction-plain", "fluid-elastic", 1, 30.6),
    ("reconstruction-deep", "total variation", 1, 14.4),
    ("reconstruction-deep", "fluid (", 0, 4.5),
    ("reconstruction-deep", "fluid-elastic", 1, 21.6),
    ("ifv-simple", "angle between target and predicted", 0, "≈ 10°"),
    ("ifv-simple", "angle between target and feature", 0, "≈ 45°"),
    ("ifv-critical", "dimensions of the second", 0, 8),
    ("ifv-cosine", "SSIM", 0, "≥ 0.89"),
    ("ifv-cosine", "almost all angles", 0, 288),
    ("ifv-cosine", "degradation begins", 0, 96),
    ("ifv-cosine", "E22", 0, "5°"),
    ("ifv-timings", "inception4c", 0, 17.3),
    ("ifv-timings", "SRNet", 3, 3.1),
    ("ppgn-s3", "real", 1, "210.4 ± 4.6"),
    ("ppgn-s3", "AC-GAN", 3, "847 / 1000"),
    ("ppgn-s3", "PPGN, 256", 0, 59.6),
    ("ppgn-s3", "PPGN, 256", 2, "0.23 ± 0.11"),
    ("ppgn-s3", "PPGN, resized", 1, "47.7 ± 1.0"),
    ("ppgn-settings", "bears", 0, "up to 20 %"),
    ("localisation", "Mask (top 5", 0, 44.0),
    ("localisation", "Mask (default", 1, 46.1),
    ("localisation", "Excitation backprop", 1, 38.7),
    ("localisation", "Grad-CAM", 2, 53.3),
    ("localisation", "LRP", 2, 57.8),
    ("localisation-alpha", "Guided backprop", 2, 4.5),
    ("localisation-alpha", "Feedback", 1, 0.95),
    ("localisation-held-out", "Mask (default", 2, 41.9),
    ("localisation-held-out", "Gradient", 0, 42.34),
    ("localisation-held-out", "Occlusion", 2, 44.80),
    ("deletion-game", "Mask", 0, 11282),
    ("deletion-game", "Mask", 3, 18827),
    ("deletion-game", "Contrastive", 2, 16513),
    ("deletion-game", "Gradient", 1, 17325),
    ("deletion-game", "Grad-CAM", 0, 21120),
    ("pointing-default", "Mask", 0, 36.40),
    ("pointing-default", "Mask", 1, 28.21),
    ("pointing-main", "Centre", 1, 17.86),
    ("pointing-main", "Contrastive", 0, 50.95),
    ("pointing-torchray", "Centre", 1, 19.5),
    ("pointing-torchray", "Grad-CAM", 0, 54.2),
    ("pointing-torchray", "Contrastive", 3, 53.6),
    ("parts", "small mammals", 0, "4.03 ± 0.25"),
    ("parts", "birds", 0, "3.03 ± 0.04"),
    ("parts-all", "mean over", 0, "2.97 ± 0.13"),
    ("parts-all", "largest", 0, 6.45),
    ("variable-occlusion", "mean of the logarithm", 0, 7.5060),
    ("variable-occlusion", "standard deviation of the height", 0, 47.5054),
    ("variable-occlusion", "median", 0, 24.1),
    ("sunglasses", "sunglasses", 0, 8),
    ("adversarial", "among five", 0, 64.4),
    ("adversarial", "restored", 0, "≈ 40.6"),
]


@pytest.mark.parametrize(("table", "row", "column", "value"), SPEC)
def test_numbers_of_spec_are_there(table: str, row: str, column: int, value: str | float) -> None:
    rows = [one for one in TABLES[table].rows if row in one.of]
    written = rows[0].numbers[column]
    assert written == value or float(written) == value


def test_how_sure_spec_is_was_not_changed() -> None:
    """Whatever SPEC tags MEM? is MEM? here, and what it has from the printed text or from stored outputs is not."""
    sure = {(table.id, row.of): row.sure or table.sure for table in TABLES.values() for row in table.rows}
    doubtful = {table for (table, _), tag in sure.items() if tag == "MEM?"}
    assert doubtful == {"pointing-main", "adversarial"}
    assert {row for (_, row), tag in sure.items() if tag == "MEM"} == {
        "C-MWP (contrastive excitation backprop)",
        "CAM",
        "Feedback",
        "LRP",
    }
    assert sure["pointing-default", "Mask (default parameters)"] == "PAPER 4"
    assert sure["deletion-game", "Mask"] == "CODE PE"
    assert sure["variable-occlusion", "radius, median"] == "CALC"


def test_every_row_says_how_sure_whence_and_what_becomes_of_it() -> None:
    for table in TABLES.values():
        assert table.ours or table.needs
        assert not table.ours or table.difference
        for row in table.rows:
            assert re.fullmatch(r"PAPER [0-4]|CODE [A-Z]+|CALC|MEM|MEM\?", row.sure or table.sure)
            assert row.source or table.source


def test_the_page_is_what_is_written_from_the_rows() -> None:
    assert ledger.PAGE.read_text(encoding="utf-8") == ledger.page(ledger.read())
    assert ledger.main(["--check"]) == 0


def test_every_published_number_is_on_the_page() -> None:
    page = ledger.page(ledger.read())
    for table in TABLES.values():
        part = page.split(f"### {table.title}\n")[1].split("\n### ")[0]
        for row, column in table.entries():
            assert str(row.numbers[column]) in part


def test_ours_are_the_numbers_of_the_results() -> None:
    """Against the file itself, read in another way."""
    rows = json.loads((ledger.RESULTS / "reconstruction.json").read_text())
    (row,) = [r for r in rows if (r["network"], r["tap"], r["method"]) == ("squeezenet", "features.7", "fluid")]
    table = TABLES["reconstruction-plain"]
    found = ledger.look_up(table.ours[0], "fluid", "top5")
    top5 = row["resnet50"]["top5"]
    assert found == ledger.Found(top5["share"], *top5["interval"], top5["of"], "share")
    assert str(found) == "{:.1f} % ({:.1f} to {:.1f})".format(*(100 * v for v in (top5["share"], *top5["interval"])))


def results(folder: Path, **entry: Any) -> Path:
    one = {"method": "mask", "measure": "deletion-game", "quantity": "80%", "mean": 0.21, "low": 0.19, "high": 0.23}
    other = one | {"quantity": "90%", "mean": 0.5}
    (folder / "made.json").write_text(json.dumps({"command": "python made.py", "summary": [one | entry, other]}))
    return folder


def ours(**changed: Any) -> ledger.Ours:
    return ledger.Ours(**({"title": "made", "file": "made", "measure": "deletion-game"} | changed))


def test_a_summary_is_looked_up_by_measure_quantity_and_method(tmp_path: Path) -> None:
    folder = results(tmp_path, count=100)
    assert ledger.look_up(ours(), "mask", "80 %", folder) == ledger.Found(0.21, 0.19, 0.23, 100, "share")
    assert str(ledger.look_up(ours(), "mask", "80 %", folder)) == "21.0 % (19.0 to 23.0)"


def test_the_files_own_unit_counts(tmp_path: Path) -> None:
    assert str(ledger.look_up(ours(), "mask", "80 %", results(tmp_path, unit="ratio"))) == "0.21 (0.19 to 0.23)"


def test_a_number_of_the_notes_is_looked_up_by_what_stands_around_it(tmp_path: Path) -> None:
    folder = results(tmp_path, notes=["alpha = 0.35, chosen on 40 held-out cases, where the error is 41.5%"])
    assert str(ledger.look_up(ours(note="alpha = ([0-9.]+)", unit=""), "mask", "80 %", folder)) == "0.35"
    assert str(ledger.look_up(ours(note="error is ([0-9.]+)%", unit="%"), "mask", "80 %", folder)) == "41.5 %"


def test_where_no_case_counts_there_is_no_number(tmp_path: Path) -> None:
    found = ledger.look_up(ours(), "mask", "80 %", results(tmp_path, mean=None, low=None, high=None))
    assert str(found) == "no case counts"


def test_notes_that_localisation_writes_are_understood() -> None:
    """Of the measure itself, so that neither is changed without the other."""
    from preimage.evaluation.localisation import Localisation

    measure = Localisation()
    raw = {kind: [0.9] * len(getattr(measure, kind)) for kind in ("value", "energy", "mean")} | {"whole": 0.1}
    made = measure.quantities([raw] * 8, ["cat"] * 8, 0)
    assert [one.name for one in made] == list(TABLES["localisation"].columns)
    for table in ("localisation-alpha", "localisation-held-out"):
        note = TABLES[table].ours[0].note
        assert all(re.search(note, "; ".join(one.notes)) for one in made)


def test_results_that_are_not_there_yet_are_no_error(tmp_path: Path) -> None:
    assert ledger.look_up(ours(), "mask", "80 %", tmp_path) is None


@pytest.mark.parametrize("quantity", ["95 %", "8"])
def test_an_entry_that_the_results_lack_is(tmp_path: Path, quantity: str) -> None:
    with pytest.raises(ledger.LedgerError, match=r"made\.json has 0 numbers .* quantities 80%, 90%"):
        ledger.look_up(ours(), "mask", quantity, results(tmp_path))


def test_a_path_that_ends_early_is(tmp_path: Path) -> None:
    with pytest.raises(ledger.LedgerError, match="ends at nowhere"):
        ledger.look_up(ours(measure="", path=("summary", {"quantity": "80%"}, "nowhere")), "", "", results(tmp_path))


RIGHT = """
[results.made]
title = "made"
file = "made"

[[table]]
id = "one"
paper = "Paper 9"
title = "One"
spec = "Z.1"
source = "table 1"
sure = "PAPER 4"
columns = ["80 %", "90 %"]
rows = [{ of = "Mask", method = "mask", numbers = [11282, ""] }, { of = "LRP", none = "not here", numbers = [1, 2] }]
share_of = 50176
ours = [{ from = "made", measure = "deletion-game" }]
difference = "all of it"
needs = "a paper 9"
command = "preimage --help"
"""


def read(folder: Path, text: str) -> list[ledger.Table]:
    path = folder / "ledger.toml"
    path.write_text(text, encoding="utf-8")
    return ledger.read(path)


def test_a_section_shows_published_and_ours_side_by_side(tmp_path: Path) -> None:
    page = ledger.page(read(tmp_path, RIGHT), results(tmp_path))
    assert "| Mask | 11282 (22.5 %) | - | 21.0 % (19.0 to 23.0) | - |" in page
    assert "-: not here (LRP)." in page
    assert "`python made.py` -> `experiments/results/made.json`" in page
    assert "*Different*: all of it" in page
    assert "*Needs a paper 9.* To run where that is:\n\n    preimage --help" in page


def test_before_it_is_measured_a_section_says_so(tmp_path: Path) -> None:
    assert "| Mask | 11282 (22.5 %) | - | not measured yet | - |" in ledger.page(read(tmp_path, RIGHT), tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ('[11282, ""]', "[11282]", "table 'one', row 'Mask': 1 numbers for 2 columns"),
        ("PAPER 4", "PAPER 7", "table 'one', row 'Mask': 'sure' is 'PAPER 7', which is no tag of SPEC"),
        ('sure = "PAPER 4"', "", "'sure' is '', which is no tag of SPEC"),
        ('source = "table 1"', "", "table 'one', row 'LRP': 'source' is missing"),
        ('method = "mask", ', "", "either 'method', as ours is called, or 'none'"),
        ('of = "LRP"', 'of = "Mask"', "two rows are called 'Mask'"),
        ("numbers = [1, 2]", "nombers = [1, 2]", "there is no 'nombers'"),
        ('from = "made"', 'from = "nothing"', "ours comes from 'nothing', which is none of made"),
        ('difference = "all of it"', "", "'difference' does not say how the protocols differ"),
        ('command = "preimage --help"', "", "neither 'command' nor 'plan' says what to run there"),
        (', measure = "deletion-game"', "", "either 'measure' or 'path'"),
        ('spec = "Z.1"', "", "table 'one': 'spec' is missing"),
        ("[[table]]", "[[table", "ledger.toml is not TOML"),
    ],
)
def test_a_malformed_row_is_refused_with_a_sentence(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    assert right in RIGHT
    with pytest.raises(ledger.LedgerError) as caught:
        read(tmp_path, RIGHT.replace(right, wrong))
    assert said in str(caught.value)


def test_all_faults_are_said_together(tmp_path: Path) -> None:
    with pytest.raises(ledger.LedgerError) as caught:
        read(tmp_path, RIGHT.replace("PAPER 4", "?").replace('spec = "Z.1"', ""))
    assert len(caught.value.faults) == 3  # two rows, one table


def test_a_table_that_nobody_measures_nor_plans_is_refused(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^(ours|needs|command|difference) = .*\n", "", RIGHT)
    with pytest.raises(ledger.LedgerError, match="neither 'ours' nor 'needs'"):
        read(tmp_path, text)


@pytest.mark.parametrize("wanted", [0, 1])
def test_the_command_says_whether_the_page_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wanted: int
) -> None:
    page = tmp_path / "ledger.md"
    monkeypatch.setattr(ledger, "PAGE", page)
    assert ledger.main([]) == 0
    if wanted:
        page.write_text(page.read_text(encoding="utf-8").replace("11282", "11283"), encoding="utf-8")
    assert ledger.main(["--check"]) == wanted
    assert ("stale" in capsys.readouterr().err) == bool(wanted)
