"""`preimage atlas`: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from command import Run
from preimage.atlas import verify

SMALL = ("--steps", "3", "--batch-size", "2", "--no-tune", "--size", "16", "--threads", "1")


@pytest.fixture
def made(preimage: Run, tiny: str, tmp_path: Path) -> Path:
    done = preimage("atlas", f"{tiny}:net", "--at", "0:0-2", "--at", "7", "-o", "out", *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("out: 7 of 7 units, finished")
    assert done.stderr.startswith("preimage: 7 units in 4 batches; about ") and done.stderr.count("\n") == 1
    return tmp_path / "out"


def test_it_is_made_once_and_looked_at(preimage: Run, made: Path, tiny: str) -> None:
    assert (made / "site/index.html").is_file()
    again = preimage("atlas", f"{tiny}:net", "--at", "0:0-2", "--at", "7", "-o", "out", *SMALL, "--json")
    assert (again.returncode, json.loads(again.stdout)["made"]) == (0, 7)
    status = preimage("atlas", "--status", made, "--json")
    said = json.loads(status.stdout)
    assert (status.returncode, said["state"], said["made"], said["units"], said["failed"]) == (0, "finished", 7, 7, 0)
    assert said["taps"] == ["0", "7"] and said["seconds_left"] == 0
    assert preimage("atlas", "--status", made).stdout.startswith(f"{made}: 7 of 7 units, finished")
    verified = preimage("atlas", "--verify", made)
    assert (verified.returncode, verified.stdout) == (0, f"{made}: 6 files are read, all is whole\n")


def test_what_is_not_whole_is_said_and_the_exit_code_is_one(preimage: Run, made: Path) -> None:
    (made / "parts/tune-0.json").unlink()
    done = preimage("atlas", "--verify", made, "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["whole"], said["missing"]) == (1, False, ["tune-0.json"])


def test_units_that_fail_are_listed_and_all_of_them_is_an_error(preimage: Run, tiny: str) -> None:
    done = preimage("atlas", f"{tiny}:nan", "--at", "7:0-1", "-o", "out", *SMALL)
    assert done.returncode == 1
    assert done.stdout.count("no picture of 7:") == 2
    assert "there is no picture of any unit" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "takes a MODEL and --out DIR"),
        (("bundled",), "takes a MODEL and --out DIR"),
        (("bundled", "-o", "out"), "name taps with --at TAP"),
        (("bundled", "-o", "out", "--all", "--at", "head"), "name taps with --at TAP"),
        (("bundled", "-o", "out", "--at", "nowhere"), "no tap 'nowhere'"),
        (("bundled", "--status", "out"), "are asked alone"),
        (("--verify", "out", "--status", "out"), "are asked alone"),
        (("--status", "out"), "there is no atlas in 'out'"),
        (("--verify", "out"), "there is no atlas in 'out'"),
        (("cifar10", "--at", "output", "-o", "out", "--photos", "no"), "'no' is not a folder"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_two(preimage: Run, words: tuple[str, ...], says: str) -> None:
    done = preimage("atlas", *words)
    assert done.returncode == 2 and done.stdout == ""
    assert says in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_keeps_what_is_finished(tiny: str, tmp_path: Path, workers: int) -> None:
    """It reaches all processes of the command."""
    out = tmp_path / "out"
    words = [sys.executable, "-m", "preimage.cli", "atlas", f"{tiny}:net", "--at", "0", "-o", str(out), "--json"]
    words += ["--steps", "1500", "--batch-size", "1", "--no-tune", "--threads", "1", "--workers", str(workers)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # What a shell starts in the background, these tests perhaps, ignores Ctrl-C, and so would its children.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(words, text=True, env=environment, start_new_session=True, preexec_fn=heard, **pipes)
    until = time.monotonic() + 300
    while not list((out / "parts").glob("units-*")) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    document = json.loads(printed)
    assert document["state"] == "interrupted" and 0 < document["made"] < 8
    assert said.splitlines()[1:] == ["preimage: interrupted; what was finished is written"]
    assert not verify(out).damaged and len(list((out / "parts").glob("units-*"))) == document["made"]
    assert not list((out / "parts").glob(".*"))
