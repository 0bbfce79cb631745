"""An evaluation that is killed, interrupted or runs out of space goes on where it was, and finds what it would have."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import preimage as pi
from preimage import Evaluation, RequestError
from preimage.explain import Found, Method, Question, SmoothGrad
from preimage.jobs import JobFolder
from small_photos import damage, folder, photo

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
Finished = tuple[Evaluation, Callable[..., Evaluation], Path]


@dataclass
class Log:
    """What was explained, photo by photo, and when Ctrl-C comes."""

    sums: list[float] = field(default_factory=list)
    interrupt_after: int | None = None


@dataclass(frozen=True)
class Logged(Method):
    """Explains a photo by itself, and takes notes."""

    name: ClassVar[str] = "logged"
    source: ClassVar[str] = "a test"

    log: Log = field(default_factory=Log, compare=False)

    def explain(self, asked: Question) -> Found:
        if self.log.interrupt_after is not None and len(self.log.sums) >= self.log.interrupt_after:
            raise KeyboardInterrupt
        self.log.sums += [float(one.sum()) for one in asked.photos]
        return Found(asked.photos.mean(1))

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


@pytest.fixture
def photos(tmp_path: Path) -> str:
    return folder(tmp_path / "photos", cat=5, dog=4)


def small(**asked: Any) -> Evaluation:
    usual: dict[str, Any] = {"measures": ["deletion"], "methods": "gradient", "batch_size": 2, "progress": False}
    return pi.evaluate(**{**usual, **asked})


@pytest.fixture
def evaluate(tiny: str, photos: str, tmp_path: Path) -> Callable[..., Evaluation]:
    return partial(small, network=f"{tiny}:net", data=photos, out=tmp_path / "out")


@pytest.fixture(scope="module")
def finished(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """An evaluation, how it is asked for again, and its folder, all of which tests leave as they are."""
    root = tmp_path_factory.mktemp("finished")
    asked = partial(small, network=f"{tiny}:net", data=folder(root / "photos", cat=5, dog=4), out=root / "out")
    return asked(), asked, root / "out"


@pytest.fixture
def again(finished: Finished, tmp_path: Path) -> Callable[..., Evaluation]:
    """The same in a copy of its folder, `tmp_path / "out"`."""
    shutil.copytree(finished[2], tmp_path / "out")
    return partial(finished[1], out=tmp_path / "out")


def files(out: Path) -> dict[str, bytes]:
    return {str(one.relative_to(out)): one.read_bytes() for one in out.rglob("*") if one.is_file()}


def parts(out: Path) -> dict[str, tuple[int, int]]:
    return {one.name: (one.stat().st_ino, one.stat().st_mtime_ns) for one in (out / "parts").glob("[!.]*.json")}


def test_ctrl_c_keeps_what_is_finished_and_nothing_is_done_twice(
    evaluate: Callable[..., Evaluation], tmp_path: Path
) -> None:
    log = Log(interrupt_after=4)
    whole = evaluate(methods=Logged(), out=tmp_path / "whole")
    first = evaluate(methods=Logged(log))
    assert first.interrupted
    assert len(log.sums) == 4
    assert len(first.rows) < len(whole.rows)
    known = [row for row in whole.rows if row in first.rows]
    assert known == first.rows
    assert sum(row["method"] == "logged" for row in first.rows) == 2 * 4
    said = json.loads((tmp_path / "out/result.json").read_text())
    assert said["interrupted"] is True and said["summary"][0]["count"] == 4
    assert (tmp_path / "out/results.csv").read_text().count("\n") == 1 + len(first.rows)
    before = parts(tmp_path / "out")

    log.interrupt_after = None
    second = evaluate(methods=Logged(log))
    assert not second.interrupted
    assert len(log.sums) == len(set(log.sums)) == 9, "each photo once, in two runs"
    assert {name: known for name, known in parts(tmp_path / "out").items() if name in before} == before
    assert (second.rows, second.summary) == (whole.rows, whole.summary)
    for name in ("results.csv", "result.json", "job.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    third = evaluate(methods=Logged(log))
    assert len(log.sums) == 9
    assert third.as_dict() == whole.as_dict()


def test_ctrl_c_before_anything_is_finished_leaves_an_empty_table(
    evaluate: Callable[..., Evaluation], tmp_path: Path
) -> None:
    made = evaluate(methods=Logged(Log(interrupt_after=0)))
    assert (made.interrupted, made.rows, made.summary) == (True, [], [])
    assert "\n" not in str(made).strip()
    assert (tmp_path / "out/results.csv").is_file()


def test_methods_may_be_added_and_only_they_are_computed(evaluate: Callable[..., Evaluation], tmp_path: Path) -> None:
    log = Log()
    evaluate(methods=Logged(log))
    before = parts(tmp_path / "out")
    made = evaluate(methods=[Logged(log), "gradient"])
    assert len(log.sums) == 9
    now = parts(tmp_path / "out")
    assert {name: now[name] for name in before} == before
    assert len(now) == len(before) // 3 * 4
    assert [one.method for one in made.summary if one.quantity == "area"] == ["logged", "gradient", "centre", "random"]
    alone = evaluate(methods=[Logged(), "gradient"], out=tmp_path / "alone")
    assert (made.rows, made.summary) == (alone.rows, alone.summary)


def test_a_method_with_other_settings_is_another(evaluate: Callable[..., Evaluation]) -> None:
    two, three = (evaluate(methods=SmoothGrad(samples=samples)) for samples in (2, 3))
    values = [[row["value"] for row in made.rows if row["method"] == "smoothgrad"] for made in (two, three)]
    assert values[0] != values[1]
    assert evaluate(methods=SmoothGrad(samples=2)).rows == two.rows


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"limit": 4}, "its limit is null, not 4"),
        ({"seed": 1}, "its seed is 0, not 1"),
        ({"size": 48}, r"its size is \[32, 32\], not \[48, 48\]"),
        ({"fit": "crop"}, 'its fit is "squash", not "crop"'),
        ({"target": "first"}, "its "),
        ({"target": "top:2"}, 'its target is "label", not "top:2"'),
        ({"measures": ["deletion", "insertion"]}, "its measures is .*insertion"),
        ({"batch_size": 3}, "its batch_size is 2, not 3"),
        ({"classes": {"cat": 2}}, r"its pictures\.photos is"),
    ],
)
def test_other_settings_are_refused(finished: Finished, change: Any, says: str) -> None:
    made, evaluate, out = finished
    before = files(out)
    with pytest.raises(RequestError, match=f"holds another job: {says}") as caught:
        evaluate(**change)
    assert "\n" not in str(caught.value)
    assert files(out) == before
    assert evaluate().rows == made.rows


def test_other_weights_and_other_photos_are_refused(
    evaluate: Callable[..., Evaluation], tiny: str, tmp_path: Path
) -> None:
    network = pi.load(f"{tiny}:net")
    evaluate(network=network)
    with torch.no_grad():
        network.module[0].weight[0, 0, 0, 0] += 1  # type: ignore[index, union-attr]
    with pytest.raises(RequestError, match="its weights is"):
        evaluate(network=network)
    photo(tmp_path / "photos/cat/new.png", 999)
    with pytest.raises(RequestError, match=r"its data\.photos is"):
        evaluate(network=pi.load(f"{tiny}:net"))


def test_regions_do_not_make_it_another_job(evaluate: Callable[..., Evaluation], tmp_path: Path) -> None:
    """Data sets opened anew are the same, in another process too: nothing of memory is in their fingerprint."""
    bundled = Path(__file__).parent / "data"
    classes = {"tench": "cat", "chain saw": "dog"}
    again, said = [], []
    for data in (f"coco:{bundled / 'photos'},{bundled / 'instances.json'}", f"voc:{bundled / 'voc'}"):
        names = {label for one in pi.evaluation.data.open_data(data, classes=None).examples for label in one.labels}  # type: ignore[attr-defined]
        asked: dict[str, Any] = {"data": data, "measures": ["pointing"], "out": str(tmp_path / data.partition(":")[0])}
        asked["classes"] = {**dict.fromkeys(names, 2), **classes}
        made = evaluate(**asked)
        said.append(json.loads((Path(asked["out"]) / "job.json").read_text())["pictures"])
        assert evaluate(**asked).rows == made.rows
        again.append({**asked, "network": made.settings["network"], "methods": "gradient", "batch_size": 2})
    program = (
        "import sys, json, preimage as pi\n"
        "for asked in json.loads(sys.argv[1]):\n    pi.evaluate(**asked, progress=False)\n"
    )
    words = [sys.executable, "-c", program, json.dumps(again)]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [json.loads((Path(one["out"]) / "job.json").read_text())["pictures"] for one in again] == said


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'[{"index": 0, "fai',
        b"\x00" * 400,
        pytest.param(b"null"),
        pytest.param(b"{}"),
        pytest.param(b"[1]"),
        pytest.param(b'[{"index": 0}]'),
    ],
)
def test_a_damaged_part_is_told_of_in_a_sentence_and_made_again(
    finished: Finished, again: Callable[..., Evaluation], tmp_path: Path, content: bytes
) -> None:
    path = sorted((tmp_path / "out/parts").glob("*.json"))[1]
    path.write_bytes(content)
    with pytest.raises(RequestError, match=f"'{path}' is damaged") as caught:
        again()
    assert "\n" not in str(caught.value)
    path.unlink()
    assert again().rows == finished[0].rows


def test_what_a_kill_leaves_half_written_is_no_part(
    finished: Finished, again: Callable[..., Evaluation], tmp_path: Path
) -> None:
    path = sorted((tmp_path / "out/parts").glob("*.json"))[0]
    (path.parent / f".{path.stem}-abcdefgh.json").write_bytes(path.read_bytes()[:40])
    path.unlink()
    assert again().rows == finished[0].rows


def test_a_second_one_in_the_folder_is_refused(again: Callable[..., Evaluation], tmp_path: Path) -> None:
    settings = json.loads((tmp_path / "out/job.json").read_text())
    with (
        JobFolder(tmp_path / "out").opened(settings),
        pytest.raises(RequestError, match="another process is at work in") as caught,
    ):
        again()
    assert "\n" not in str(caught.value)
    again()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, as small as they get; needs to be root."""
    path = tmp_path / "disk"
    path.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_is_told_of_and_loses_nothing(
    evaluate: Callable[..., Evaluation], small_disk: Path, tmp_path: Path
) -> None:
    whole = evaluate(batch_size=1)
    with pytest.raises(RequestError, match=r"cannot write to the folder.*No space left") as caught:
        evaluate(out=small_disk / "out", batch_size=1)
    assert "\n" not in str(caught.value)
    before = parts(small_disk / "out")
    assert 0 < len(before) < len(parts(tmp_path / "out")), "the disk is too large for this test"
    assert not [path for path in (small_disk / "out").rglob(".?*") if path.name != ".lock"], "half written"
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    assert evaluate(out=small_disk / "out", batch_size=1).rows == whole.rows
    now = parts(small_disk / "out")
    assert {name: now[name] for name in before} == before


def test_a_disk_that_is_full_from_the_start_is_told_of(
    evaluate: Callable[..., Evaluation], small_disk: Path, tmp_path: Path
) -> None:
    (small_disk / "filler").write_bytes(b"x" * 60_000)
    for i in range(300):
        (tmp_path / f"photos/cat/no picture {i}.png").write_text("")
    with pytest.raises(RequestError, match=r"No space left|300 faults") as caught:
        evaluate(out=small_disk / "out")
    assert "\n" not in str(caught.value)


def test_a_broken_photo_is_recorded_once_and_for_all(evaluate: Callable[..., Evaluation], tmp_path: Path) -> None:
    damage(tmp_path / "photos/dog/2.png")
    first, second = evaluate(), evaluate()
    assert first.rows == second.rows and first.failures == second.failures and first.failures


# The processes below are real ones, and so are their deaths.

_CHAIN = """
import json, os, random, signal, sys, time
from pathlib import Path
import preimage as pi

network, data, root = sys.argv[1], sys.argv[2], Path(sys.argv[3])

def child(out):
    pid = os.fork()
    if pid == 0:
        try:
            pi.evaluate(network, data, ["deletion", "grid-pointing"], ["gradient", "grad-cam"], out=out, batch_size=2,
                        progress=False)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(9)
    return pid

def parts(out):
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (out / "parts").glob("[!.]*.json")}

def over(pid):
    return os.waitpid(pid, os.WNOHANG)[0] != 0

said = {"whole": os.waitpid(child(root / "whole"), 0)[1], "killed_at": [], "changed": [], "ended": []}
total, before, drawn = len(parts(root / "whole")), {}, random.Random(1)
for goal in [-1, 0, 1, 2, 7, total // 2, total - 3, total - 1, total]:
    pid = child(root / "out")
    done = False
    while not done and not (goal == -1 and (root / "out").exists()) and not (
        goal >= 0 and (root / "out/job.json").exists() and len(parts(root / "out")) >= goal
    ):
        done = over(pid)
        time.sleep(0.001)
    if not done:
        time.sleep(drawn.uniform(0, 0.004))
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        said["ended"].append(status)
    now = parts(root / "out") if (root / "out/parts").exists() else {}
    said["changed"] += [name for name in before if now.get(name) != before[name]]
    said["killed_at"].append(len(now))
    before = now
said["last"] = os.waitpid(child(root / "out"), 0)[1]
now = parts(root / "out")
said["changed"] += [name for name in before if now.get(name) != before[name]]
said["total"], said["same_parts"] = total, sorted(now) == sorted(parts(root / "whole"))
print(json.dumps(said))
"""


def test_killed_again_and_again_it_finds_what_it_would_have(tiny: str, photos: str, tmp_path: Path) -> None:
    words = [sys.executable, "-c", _CHAIN, f"{tiny}:net", photos, str(tmp_path)]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["whole"], said["last"], said["changed"]) == (0, 0, []), done.stderr
    assert said["ended"].count(signal.SIGKILL) >= 6
    assert said["killed_at"] == sorted(said["killed_at"])
    assert len({count for count in said["killed_at"] if 0 < count < said["total"]}) >= 3
    assert said["same_parts"]
    for name in ("results.csv", "result.json", "job.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


_SLOW = """
import os, time
import torch
from torch import nn

class Slow(nn.Module):
    input_size = (32, 32)
    labels = ["cat", "dog"]

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, 2)
        self.out = nn.Linear(4, 2)

    def forward(self, images):
        time.sleep(float(os.environ.get("SLOW", "0")))
        return self.out(self.conv(images).relu().mean((2, 3)))
"""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("slow") / "slow.py"
    path.write_text(_SLOW)
    return f"{path}:Slow"


def started(slow: str, photos: str, out: Path, workers: int) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a shell starts it, once it has finished three units."""
    words = [sys.executable, "-m", "preimage.cli", "evaluate", slow, "--data", photos, "--measure", "deletion"]
    words += ["--method", "gradient", "-o", str(out), "--batch-size", "1", "--workers", str(workers), "--json"]
    environment = {**ENVIRONMENT, "SLOW": "0.05"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # What a shell starts in the background, these tests perhaps, ignores Ctrl-C, and so would its children.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(words, env=environment, text=True, start_new_session=True, preexec_fn=heard, **pipes)
    until = time.monotonic() + 120
    while len(parts(out)) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    return process


def of_group(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(entry.parent.name))
    return found


def all_gone(group: int) -> bool:
    until = time.monotonic() + 10
    while of_group(group) and time.monotonic() < until:
        time.sleep(0.05)
    return not of_group(group)


@pytest.fixture
def expected(slow: str, photos: str) -> Evaluation:
    """A run that nothing happened to."""
    return pi.evaluate(slow, photos, "deletion", "gradient", batch_size=1, progress=False)


def same(made: Evaluation, other: Evaluation) -> bool:
    """Up to float32's rounding of answers in [0, 1], which processes of different kinds may do differently."""
    for key in ("value", "probability"):
        values = [[row[key] for row in one.rows] for one in (made, other)]
        assert values[0] == pytest.approx(values[1], abs=1e-5)
    rest = [[{**row, "value": 0, "probability": 0} for row in one.rows] for one in (made, other)]
    return rest[0] == rest[1]


def test_killed_with_workers_it_leaves_none_and_goes_on(
    slow: str, photos: str, tmp_path: Path, expected: bytes
) -> None:
    out = tmp_path / "out"
    process = started(slow, photos, out, 2)
    assert len(of_group(process.pid)) >= 3
    process.kill()
    process.communicate()
    assert all_gone(process.pid)
    before = parts(out)
    made = pi.evaluate(slow, photos, "deletion", "gradient", out=out, batch_size=1, progress=False)
    now = parts(out)
    assert {name: now[name] for name in before} == before
    assert 3 <= len(before) < len(now) == made.cases * 3
    assert same(made, expected)


@pytest.mark.parametrize(
    "workers",
    [
        1,
        pytest.param(2),
    ],
)
def test_ctrl_c_in_a_terminal(slow: str, photos: str, tmp_path: Path, expected: Evaluation, workers: int) -> None:
    """It reaches all processes of the command. One line says what happened; the table holds what was finished."""
    out = tmp_path / "out"
    process = started(slow, photos, out, workers)
    os.killpg(process.pid, signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 1
    document = json.loads(printed)
    assert document["interrupted"] is True
    assert all_gone(process.pid)
    finished = parts(out)
    assert 3 <= len(finished) < 27
    assert (out / "results.csv").read_text().count("\n") == 1 + 2 * len(finished)
    made = pi.evaluate(slow, photos, "deletion", "gradient", out=out, batch_size=1, progress=False)
    now = parts(out)
    assert {name: now[name] for name in finished} == finished
    assert same(made, expected)
    assert said.splitlines() == ["preimage: interrupted; what was finished is written"]
