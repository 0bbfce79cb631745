"""`preimage evaluate` and `preimage measures`: what they print and write, and one sentence for wrong requests."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest

import preimage as pi
from command import Run
from preimage.jobs import JobFolder
from small_photos import damage, folder

BASELINES = ["centre", "random"]


@pytest.fixture
def photos(tmp_path: Path) -> str:
    return folder(tmp_path / "photos", cat=3, dog=2)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_prints_one_document_and_writes_every_number(preimage: Run, tiny: str, photos: str, tmp_path: Path) -> None:
    words = ("evaluate", f"{tiny}:net", "--data", photos, "--measure", "deletion", "--measure", "grid-pointing")
    options = (
        "--method",
        "gradient",
        "--method",
        "grad-cam",
        "-o",
        "out",
        "--seed",
        "3",
        "--batch-size",
        "2",
        "--json",
    )
    done = preimage(*words, *options)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout, parse_constant=pytest.fail)
    assert document == json.loads((tmp_path / "out/result.json").read_text(), parse_constant=pytest.fail)
    assert (document["verb"], document["network"], document["seed"]) == ("evaluate", f"{tiny}:net", 3)
    assert (document["size"], document["batch_size"], document["limit"]) == ([32, 32], 2, None)
    assert (document["interrupted"], document["failures"], document["cases"]) == (False, {}, 10)
    assert list(document["methods"]) == ["gradient", "grad-cam", *BASELINES]
    assert [one["name"] for one in document["measures"]] == ["deletion", "grid-pointing"]
    assert {(one["measure"], one["method"]) for one in document["summary"]} == {
        (measure, method) for measure in ("deletion", "grid-pointing") for method in document["methods"]
    }
    for one in document["summary"]:
        assert one["low"] <= one["mean"] <= one["high"] and (one["count"], one["of"]) == (5, 5)
    rows = read_csv(tmp_path / "out/results.csv")
    assert len(rows) == 5 * 4 * 2 * 2
    assert all(float(row["value"]) >= 0 and row["failed"] == "" for row in rows)
    assert json.loads(preimage(*words, *options).stdout) == document


def test_it_is_what_the_function_finds(preimage: Run, tiny: str, photos: str, tmp_path: Path) -> None:
    words = ("--measure", "deletion", "--method", "gradient", "--limit", "4", "--size", "48", "--fit", "crop")
    done = preimage("evaluate", f"{tiny}:net", "--data", photos, *words, "-o", "out", "--json")
    made = pi.evaluate(f"{tiny}:net", photos, "deletion", "gradient", limit=4, size=48, fit="crop", progress=False)
    assert json.loads(done.stdout) == json.loads(json.dumps(made.as_dict()))
    assert [row["value"] for row in read_csv(tmp_path / "out/results.csv")] == [str(row["value"]) for row in made.rows]


def test_it_prints_a_table_of_each_measure(preimage: Run, tiny: str, photos: str, tmp_path: Path) -> None:
    words = ("--measure", "deletion", "--measure", "insertion", "--method", "gradient", "-o", "out")
    done = preimage("evaluate", f"{tiny}:net", "--data", photos, *words)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for measure in ("deletion", "insertion"):
        head = next(i for i, line in enumerate(lines) if line.split()[:1] == [measure])
        assert [line.split()[0] for line in lines[head + 1 : head + 4]] == ["gradient", *BASELINES]
    assert lines[-1] == "every number: out/results.csv"
    assert (tmp_path / "out/results.csv").is_file()


def test_parquet_holds_the_same_rows_and_the_settings(preimage: Run, tiny: str, photos: str, tmp_path: Path) -> None:
    words = ("evaluate", f"{tiny}:net", "--data", photos, "--measure", "deletion", "--method", "gradient", "-o", "out")
    assert preimage(*words).returncode == 0
    expected = read_csv(tmp_path / "out/results.csv")
    done = preimage(*words, "--table", "parquet")
    assert not (tmp_path / "out/results.csv").exists()  # it might be of other methods
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "every number: out/results.parquet"
    table = pyarrow.parquet.read_table(tmp_path / "out/results.parquet")
    rows = [{key: "" if value is None else str(value) for key, value in row.items()} for row in table.to_pylist()]
    assert rows == expected
    said = json.loads((tmp_path / "out/result.json").read_text())
    settings = json.loads(table.schema.metadata[b"preimage"])
    assert {key: said[key] for key in settings} == settings
    assert settings["methods"]["gradient"]["name"] == "gradient"


def test_a_file_says_which_classes_are_meant(preimage: Run, tiny: str, tmp_path: Path) -> None:
    data = folder(tmp_path / "photos", lion=2, wolf=1)
    (tmp_path / "classes.csv").write_text("label,class\nlion,cat\nwolf,1\n")
    words = ("evaluate", f"{tiny}:net", "--data", data, "--measure", "deletion", "--method", "centre", "-o", "out")
    assert preimage(*words, "--classes", "classes.csv").returncode == 0
    rows = read_csv(tmp_path / "out/results.csv")
    assert {row["label"]: row["class"] for row in rows} == {"lion": "0", "wolf": "1"}
    done = preimage(*words)
    assert done.returncode == 2
    assert "2 of 2 labels have no class" in done.stderr and "lion" in done.stderr and "wolf" in done.stderr


def test_what_is_left_out_is_counted(preimage: Run, tiny: str, photos: str, tmp_path: Path) -> None:
    broken = tmp_path / "photos/cat/1.png"
    damage(broken)
    words = ("--measure", "deletion", "--method", "gradient", "-o", "out")
    done = preimage("evaluate", f"{tiny}:net", "--data", photos, *words, "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    (why,) = document["failures"]
    assert str(broken) in why
    assert done.stderr.count("\n") == 1 and str(broken) in done.stderr
    rows = [row for row in read_csv(tmp_path / "out/results.csv") if row["photo"] == str(broken)]
    assert len(rows) == 3 * 2
    assert all(row["value"] == "" and str(broken) in row["failed"] for row in rows)
    assert {one["count"] for one in document["summary"]} == {4}


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_a_faulty_data_set_is_refused_with_all_its_faults_in_a_file(
    preimage: Run, tiny: str, photos: str, tmp_path: Path, json_too: list[str]
) -> None:
    for i in range(5):
        (tmp_path / f"photos/cat/no {i}.jpg").write_text("no picture")
    words = (
        "evaluate",
        f"{tiny}:net",
        "--data",
        photos,
        "--measure",
        "deletion",
        "--method",
        "centre",
        "-o",
        "out",
        *json_too,
    )
    done = preimage(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    for part in ("has 5 faults", "no 0.jpg", "out/faults.csv", "--skip-faulty"):
        assert part in done.stderr
    assert len(read_csv(tmp_path / "out/faults.csv")) == 5
    assert preimage(*words, "--skip-faulty").returncode == 0
    assert len({row["photo"] for row in read_csv(tmp_path / "out/results.csv")}) == 5


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], ["Missing option", "--measure"]),
        (["--measure", "deletoin"], ["there is no measure 'deletoin'", "deletion"]),
        (["--measure", "deletion", "--method", "gradeint"], ["there is no method 'gradeint'", "gradient"]),
        (["--measure", "deletion", "--data", "photos"], ["'photos' is no data set", "folder:DIR"]),
        (["--measure", "deletion", "--data", "fodler:photos"], ["is no data set", "the nearest is folder"]),
        (["--measure", "deletion", "--data", "folder:gone"], ["'gone' is not a folder"]),
        (["--measure", "deletion", "--data", "folder:empty"], ["'empty' holds no image files"]),
        (["--measure", "deletion", "--data", "voc:photos"], ["Annotations"]),
        (["--measure", "deletion", "--data", "csv:gone.csv"], ["there is no file 'gone.csv'"]),
        (["--measure", "deletion", "--data", "coco:photos"], ["coco:"]),
        (["--measure", "deletion", "--data", "coco:photos,gone.json"], ["gone.json"]),
        (["--measure", "localisation"], ["localisation needs boxes, and", "has none"]),
        (["--measure", "pointing"], ["pointing needs boxes or regions, and", "has none"]),
        (["--measure", "parts"], ["parts needs points, and", "has none"]),
        (["--measure", "pointing", "--target", "first"], ["pointing asks where", "label"]),
        (["--measure", "deletion", "--target", "labels"], ["a target is label, first or top:K (top:5), not 'labels'"]),
        (["--measure", "deletion", "--fit", "stretch"], ["--fit is squash or crop, not 'stretch'"]),
        (["--measure", "deletion", "--table", "xlsx"], ["--table is csv or parquet, not 'xlsx'"]),
        (["--measure", "deletion", "--size", "0"], ["--size"]),
        (["--measure", "deletion", "--limit", "0"], ["--limit"]),
        (["--measure", "deletion", "--workers", "0"], ["--workers"]),
        (["--measure", "deletion", "--batch-size", "0"], ["--batch-size"]),
        pytest.param(
            ["--measure", "deletion", "--seed", "-1"], ["a seed is a whole number"],
        ),
        (["--measure", "deletion", "--classes", "gone.csv"], ["there is no file 'gone.csv'", "label,class"]),
        (["--measure", "deletion", "--device", "cudda"], ["device 'cudda' cannot be used here"]),
        (["--measure", "deletion", "-o", "file/out"], ["cannot write to the folder 'file/out'"]),
        (["--measure", "deletion", "-o", "file"], ["cannot write to the folder 'file'"]),
    ],
)  # fmt: skip
def test_a_wrong_request_gets_one_sentence(
    preimage: Run, tiny: str, photos: str, tmp_path: Path, words: list[str], says: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    done = preimage("evaluate", f"{tiny}:net", "--data", photos, "--method", "centre", "-o", "out", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("preimage: ")
    for part in says:
        assert part in done.stderr
    assert (tmp_path / "file").read_bytes() == b""
    assert not (tmp_path / "out/results.csv").exists()


def test_a_folder_that_is_being_worked_in_is_refused(preimage: Run, tiny: str, photos: str, tmp_path: Path) -> None:
    words = ("evaluate", f"{tiny}:net", "--data", photos, "--measure", "deletion", "--method", "centre", "-o", "out")
    assert preimage(*words).returncode == 0
    with JobFolder(tmp_path / "out").opened(json.loads((tmp_path / "out/job.json").read_text())):
        done = preimage(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "preimage: another process is at work in 'out'; wait for it, or stop it\n"


def test_another_job_is_refused(preimage: Run, tiny: str, photos: str, tmp_path: Path) -> None:
    words = ("evaluate", f"{tiny}:net", "--data", photos, "--measure", "deletion", "--method", "centre", "-o", "out")
    assert preimage(*words).returncode == 0
    before = (tmp_path / "out/results.csv").read_bytes()
    done = preimage(*words, "--limit", "2")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "'out' holds another job: its limit is null, not 2" in done.stderr
    assert (tmp_path / "out/results.csv").read_bytes() == before
    assert preimage(*words, "--method", "gradient").returncode == 0


def test_measures_are_listed(preimage: Run) -> None:
    table = pi.measures()
    assert {"pointing", "localisation", "deletion-game", "deletion", "insertion", "grid-pointing", "parts"} <= set(
        table
    )
    documents = json.loads(preimage("measures", "--json").stdout)
    assert [one["name"] for one in documents] == list(table)
    for said, one in zip(documents, table.values(), strict=True):
        assert said.items() >= {"source": one.source, "needs": one.needs}.items()
    printed = preimage("measures")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert [line.split()[0] for line in printed.stdout.splitlines()] == list(table)
    for line, one in zip(printed.stdout.splitlines(), table.values(), strict=True):
        assert f"needs {one.needs}" in line and line.endswith(one.says)
