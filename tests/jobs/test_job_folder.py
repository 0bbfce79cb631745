"""A job's folder: nothing finished is lost and nothing half done is kept, however the process ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from full_disk import largest_file
from preimage import RequestError
from preimage.jobs import JobFolder

SETTINGS = {"verb": "count", "photos": 3, "methods": {"mask": {"steps": 300}}, "size": (4, 5)}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "made" / "out"


def listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_finished_is_there_for_the_next_run(out: Path) -> None:
    found = [{"index": 0, "failed": None, "found": {"area": 0.1 + 0.2, "curve": [1e-300, -2.5]}, "said": "ü 'x'"}]
    job = JobFolder(out)
    with job.opened(SETTINGS):
        assert not job.has("a")
        job.write("a", found)
        assert job.has("a") and not job.has("b")
    again = JobFolder(str(out))
    with again.opened(SETTINGS):
        assert again.has("a")
        assert again.read("a") == found
        assert not again.has("b")
    assert json.loads((out / "job.json").read_text()) == json.loads(json.dumps(SETTINGS))


def test_a_part_is_written_whole_over_another_and_leaves_nothing_beside_it(out: Path) -> None:
    job = JobFolder(out)
    with job.opened(SETTINGS):
        job.write("a", list(range(1000)))
        before = listed(out)
        job.write("a", [1])
        assert job.read("a") == [1]
    assert listed(out) == before


def test_what_cannot_be_written_leaves_what_was_there(out: Path) -> None:
    job = JobFolder(out)
    with job.opened(SETTINGS):
        job.write("a", 1)
        before = listed(out)
        with pytest.raises(ValueError, match="JSON"):
            job.write("a", float("nan"))
        assert job.read("a") == 1
    assert listed(out) == before


@pytest.mark.parametrize(
    ("other", "key"),
    [
        ({**SETTINGS, "photos": 4}, "photos is 3, not 4"),
        ({**SETTINGS, "photos": 3.5}, "photos is 3, not 3.5"),
        ({**SETTINGS, "methods": {}}, 'methods.mask is {"steps": 300}, not null'),
        ({**SETTINGS, "more": "x"}, 'more is null, not "x"'),
        ({key: value for key, value in SETTINGS.items() if key != "verb"}, 'verb is "count", not null'),
    ],
)
def test_another_job_is_refused_and_what_differs_is_said(out: Path, other: dict[str, Any], key: str) -> None:
    job = JobFolder(out)
    with job.opened(SETTINGS):
        job.write("a", 1)
    before = (out / "job.json").read_bytes()
    with pytest.raises(RequestError, match=re.escape(key)) as caught, job.opened(other):
        raise AssertionError("opened")
    assert str(out) in str(caught.value)
    assert (out / "job.json").read_bytes() == before
    with job.opened(SETTINGS):  # and the folder is free again
        assert job.read("a") == 1


def test_what_differs_is_said_however_long_the_setting_is(out: Path) -> None:
    """A measure's alphas alone are longer than a line."""
    alphas = [i / 20 for i in range(100)]
    with JobFolder(out).opened({"measures": [{"alphas": alphas, "least_iou": 0.5}]}):
        pass
    with (
        pytest.raises(RequestError) as caught,
        JobFolder(out).opened({"measures": [{"alphas": alphas, "least_iou": 0.77}]}),
    ):
        pass
    assert "0.77" in str(caught.value) and len(str(caught.value)) < 1000


def test_what_does_not_matter_for_a_unit_may_change(out: Path) -> None:
    job = JobFolder(out)
    with job.opened(SETTINGS, may_change=["methods"]):
        job.write("a", 1)
    more = {**SETTINGS, "methods": {"mask": {"steps": 300}, "gradient": {}}}
    with job.opened(more, may_change=["methods"]):
        assert job.has("a")
    assert json.loads((out / "job.json").read_text())["methods"] == more["methods"]
    with (
        pytest.raises(RequestError, match="photos is 3, not 9"),
        job.opened({**more, "photos": 9}, may_change=["methods"]),
    ):
        pass


def test_one_at_a_time(out: Path) -> None:
    with (
        JobFolder(out).opened(SETTINGS),
        pytest.raises(RequestError, match=f"another process is at work in '{out}'"),
        JobFolder(out).opened(SETTINGS),
    ):
        pass
    with JobFolder(out).opened(SETTINGS):
        pass


def test_an_error_within_frees_the_folder(out: Path) -> None:
    for kind in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(kind), JobFolder(out).opened(SETTINGS):
            raise kind
    with JobFolder(out).opened(SETTINGS):
        pass


@pytest.mark.parametrize("content", [b"", b'[{"index": 0', b"\xff\xfe\x00", b"not json"])
def test_a_damaged_part_is_named(out: Path, content: bytes) -> None:
    job = JobFolder(out)
    with job.opened(SETTINGS):
        job.write("a", [1])
        (out / "parts/a.json").write_bytes(content)
        with pytest.raises(RequestError, match=re.escape(f"'{out}/parts/a.json' is damaged")) as caught:
            job.read("a")
        assert "delete it" in str(caught.value)
        (out / "parts/a.json").unlink()
        assert not job.has("a")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"verb": ',
        pytest.param(b"null"),
        pytest.param(b"[]"),
        pytest.param(b"7"),
    ],
)
def test_damaged_settings_are_named(out: Path, content: bytes) -> None:
    with JobFolder(out).opened(SETTINGS):
        pass
    (out / "job.json").write_bytes(content)
    with pytest.raises(RequestError, match=re.escape(str(out))), JobFolder(out).opened(SETTINGS):
        pass


@pytest.mark.parametrize(
    "blocked",
    [
        pytest.param(".lock"),
        pytest.param("parts"),
        "job.json",
    ],
)
def test_a_folder_with_other_things_under_our_names_is_refused(out: Path, blocked: str) -> None:
    out.mkdir(parents=True)
    if blocked == "parts":
        (out / blocked).write_text("")
    else:
        (out / blocked).mkdir()
    with pytest.raises(RequestError, match=re.escape(str(out))), JobFolder(out).opened(SETTINGS):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RequestError, match="cannot write to the folder"),
        JobFolder(tmp_path / "file/out").opened(SETTINGS),
    ):
        pass


def test_what_does_not_fit_is_said_and_what_is_finished_stays(out: Path) -> None:
    job = JobFolder(out)
    with job.opened(SETTINGS):
        job.write("small", 1)
        before = listed(out)
        with (
            pytest.raises(RequestError, match=rf"cannot write to the folder '{out}'.*goes on") as caught,
            largest_file(2000),
        ):
            job.write("large", list(range(1000)))
        assert "too large" in str(caught.value)
        assert listed(out) == before
        assert job.read("small") == 1
        job.write("large", list(range(1000)))
    assert JobFolder(out).has("large")


_KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
from preimage import RequestError
from preimage.jobs import JobFolder

out, units = Path(sys.argv[1]), [f"unit-{i:03}" for i in range(120)]

def child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid

def ended(pid, kill=True):
    if kill:
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]

def hold():
    with JobFolder(out).opened({"job": 1}):
        (out / "held").write_text("")
        time.sleep(60)

said = {"refused": "", "early": 0}
holder = child(hold)
while not (out / "held").exists():
    time.sleep(0.01)
try:
    with JobFolder(out).opened({"job": 1}):
        pass
except RequestError as error:
    said["refused"] = str(error)
ended(holder)
with JobFolder(out).opened({"job": 1}):
    said["free"] = True

def work():
    job = JobFolder(out)
    with job.opened({"job": 1}):
        for unit in units:
            if not job.has(unit):
                job.write(unit, {"unit": unit, "found": [ord(unit[-1])] * 3000})

def kept():
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (out / "parts").glob("unit-*.json")}

drawn, before, said["changed"], said["broken"], said["grown"] = random.Random(0), {}, [], [], []
for _ in range(25):
    pid = child(work)
    time.sleep(drawn.uniform(0, 0.02))
    ended(pid)
    now = kept()
    said["changed"] += [name for name, known in before.items() if now.get(name) != known]
    said["grown"].append(len(now))
    for name in now:
        try:
            said["broken"] += [] if json.loads((out / "parts" / name).read_text())["unit"] + ".json" == name else [name]
        except ValueError:
            said["broken"].append(name)
    before = now
said["status"] = ended(child(work), kill=False)
now = kept()
said["changed"] += [name for name, known in before.items() if now.get(name) != known]
said["all"] = sorted(now) == [f"{unit}.json" for unit in units]
print(json.dumps(said))
"""


def test_a_process_that_is_killed_loses_nothing_and_holds_nothing(tmp_path: Path) -> None:
    """Twenty-five times SIGKILL at any moment while units are written; and while the folder is held."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", _KILLED, str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "another process is at work" in said["refused"]
    assert said["free"]
    assert (said["changed"], said["broken"]) == ([], [])
    assert said["grown"] == sorted(said["grown"])
    assert len(set(said["grown"]) - {0, 120}) > 0, "killed too early or too late to say anything"
    assert said["status"] == 0 and said["all"]
