"""The command line: what it prints and writes, and one clear sentence with exit code 2 for each wrong request."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from command import Run


def test_taps_lists_names_and_receptive_fields(preimage: Run, tiny: str) -> None:
    done = preimage("taps", f"{tiny}:net")
    assert done.returncode == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines()[2:]}
    assert rows["0"].split()[1:] == ["Conv2d", "8", "x", "16", "x", "16", "8", "3", "x", "3", "2", "x", "2"]
    assert rows["3"].split()[-6:] == ["7", "x", "7", "4", "x", "4"]
    assert rows["output"].split()[-4:] == ["32", "x", "32", "-"]


def test_taps_as_json_is_one_document(preimage: Run, tiny: str) -> None:
    rows = json.loads(preimage("taps", f"{tiny}:net", "--json").stdout)
    first = next(row for row in rows if row["name"] == "0")
    assert first == {
        "name": "0",
        "kind": "Conv2d",
        "shape": [8, 16, 16],
        "channels": 8,
        "receptive_field": [3, 3],
        "stride": [2, 2],
    }
    assert next(row for row in rows if row["name"] == "output")["stride"] is None


def test_maximize_writes_pictures_and_every_setting(preimage: Run, tiny: str, tmp_path: Path) -> None:
    asked = ("maximize", f"{tiny}:net", "3:0-1", "class:dog", "-o", "out", "--steps", "4", "--seed", "3", "--json")
    done = preimage(*asked)
    assert done.returncode == 0
    assert done.stderr == ""  # no bar where there is no terminal
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "out/result.json").read_text())
    assert [image["objective"] for image in document["images"]] == ["3:0", "3:1", "class:1 (dog)"]
    assert document["seed"] == 3
    assert document["recipe"]["stages"][0]["optimizer"].startswith("Adam")
    assert len(document["trace"]) == 4
    assert len(document["trace"][0]) == 3
    for image in document["images"]:
        with Image.open(tmp_path / "out" / image["file"]) as picture:
            assert picture.size == (32, 32)
    again = json.loads(preimage(*asked).stdout)
    assert again == document


def test_maximize_prints_a_line_for_each_picture(preimage: Run, tiny: str) -> None:
    done = preimage("maximize", f"{tiny}:net", "3:0", "-o", "out", "--steps", "2")
    assert done.stdout.split()[0] == "3:0"
    assert done.stdout.split()[-1] == "out/0-3-0.png"


def test_the_installed_command_is_the_same(tiny: str, tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("preimage"), "maximize", f"{tiny}:net", "class:horse", "-o", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("preimage: net has no class 'horse'")


def test_recipes_are_listed(preimage: Run) -> None:
    names = [recipe["name"] for recipe in json.loads(preimage("recipes", "--json").stdout)]
    assert {"default", "fourier", "plain"} <= set(names)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["taps", "resnet"], ["unknown network 'resnet'", "FILE.py:FACTORY", "torchvision:NAME"]),
        (["taps", "{tiny}:ne"], ["has no 'ne'", "net"]),
        (["taps", "{tiny}:not_a_module"], ["must give a torch.nn.Module", "int"]),
        (["maximize", "{tiny}:net", "4.x:1", "-o", "out"], ["no tap '4.x'"]),
        (["maximize", "{tiny}:net", "3:12", "-o", "out"], ["channels 0 to 11, not 12"]),
        (["maximize", "{tiny}:net", "class:bird", "-o", "out"], ["no class 'bird'", "class:2 (crane (bird))"]),
        (["maximize", "{tiny}:net", "class:crane", "-o", "out"], ["ambiguous", "class:2", "class:3"]),
        (["maximize", "{tiny}:net", "class:4", "-o", "out"], ["classes 0 to 3, not 4"]),
        (["maximize", "{tiny}:net", "3:one", "-o", "out"], ["cannot be read", "character 3", "'one'"]),
        (["maximize", "{tiny}:net", "3:1@9,0", "-o", "out"], ["rows 0 to 7", "9,0"]),
        (["maximize", "{tiny}:fixed", "class:1", "-o", "out", "--size", "8"], ["does not run on 3 x 8 x 8", "32 x 32"]),
        (["maximize", "{tiny}:nan", "class:0", "-o", "out"], ["became nan at step 0", "tap output", "check"]),
        (["maximize", "{tiny}:net", "3:1", "-o", "/proc/nothing"], ["cannot write to the folder '/proc/nothing'"]),
        (["maximize", "{tiny}:net", "3:1", "-o", "out", "--recipe", "blurr"], ["no recipe 'blurr'", "default"]),
        (["maximize", "{tiny}:net", "3:1", "-o", "out", "--steps", "0"], ["--steps", "greater than or equal to 1"]),
        (["maximize", "{tiny}:net", "3:1", "-o", "out", "--device", "toaster"], ["device 'toaster'"]),
        (["maximize", "{tiny}:net", "3:1", "-o", "out", "--colours", "nowhere"], ["'nowhere' is not a folder"]),
        (["maximize", "{tiny}:net", "3:1"], ["Missing option", "--out"]),
        (["report", "{tiny}:net", "{tiny}", "-o", "out"], ["no image that can be read"]),
        (["report", "{tiny}:net", "gone.png", "-o", "out"], ["there is no image file 'gone.png'"]),
        (["report", "{tiny}:net", "huge.png", "-o", "out"], ["huge.png' is far too large"]),
        (["sing"], ["No such command 'sing'"]),
    ],
)
def test_a_wrong_request_gets_one_sentence(
    preimage: Run, tiny: str, tmp_path: Path, words: list[str], says: list[str]
) -> None:
    if "huge.png" in words:
        Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")  # 50 kB on disk, 400 million pixels
    done = preimage(*(word.format(tiny=tiny) for word in words))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    for part in says:
        assert part in done.stderr
    written = [path.name for path in (tmp_path / "out").glob("**/*")] if (tmp_path / "out").exists() else []
    assert written == []


@pytest.mark.parametrize("command", ["maximize", "evaluate", "report"])
def test_a_url_is_no_folder_to_write_to(preimage: Run, tiny: str, command: str) -> None:
    """It would become a folder called `s3:` here."""
    done = preimage(command, f"{tiny}:net", "-o", "s3://bucket/out")
    assert done.returncode == 2 and done.stdout == ""
    assert "writes to a folder of this machine, or a mounted one, not to 's3://bucket/out'" in done.stderr
    assert "Value error" not in done.stderr
