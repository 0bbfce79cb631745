"""What becomes of an atlas on the disk: resumed, killed, damaged, of other settings, elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import preimage as pi
from full_disk import largest_file
from preimage import RequestError
from preimage.atlas import about, atlas, status, units_of, verify
from preimage.atlas.examples import Photos
from preimage.atlas.parts import packed, unpacked
from preimage.errors import WriteError
from preimage.jobs import JobFolder
from small_photos import photo

sys.path.insert(0, str(Path(__file__).parent))
from small_atlas import parts, places, small

# The folder


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"steps": 4}, "steps is 2, not 3"),
        ({"seed": 1}, "seed is 0, not 1"),
        ({"recipe": "fourier"}, 'recipe.name is "default", not "fourier"'),
        ({"at": ["0"]}, "taps is"),
        ({"at": ["7", "0"]}, "taps[0].tap is"),
        ({"at": ["0:0-6", "7"]}, "taps[0].channels is [0, 7], not [0, 6]"),
        ({"batch_size": 3}, "taps[0].batch is 2, not 3"),
        ({"size": 20}, "taps[0].seen is [16, 16], not [20, 20]"),
        ({"photos": None}, "photos is"),
        ({"examples": 4}, "photos.each is 3, not 4"),
        ({"audit": True}, "audit is false, not true"),
        ({"tune": True}, "tune is false, not true"),
        ({"threads": 2}, "threads is 1, not 2"),
    ],
)
def test_other_settings_are_refused_and_nothing_is_touched(
    tiny: str, whole: Path, photos: Path, asked: dict[str, Any], says: str
) -> None:
    before = parts(whole), places(whole), (whole / "job.json").read_bytes()
    with pytest.raises(RequestError, match=re.escape(says)):
        small(f"{tiny}:net", whole, **{"photos": photos, "examples": 3, **asked})
    assert (parts(whole), places(whole), (whole / "job.json").read_bytes()) == before


def test_other_weights_and_other_photos_are_refused(
    tiny: str, net: pi.Network, whole: Path, photos: Path, tmp_path: Path
) -> None:
    module = pi.load(f"{tiny}:net").module
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] += 1e-6
    other = pi.Network(module, input_size=32, labels=net.labels, name=net.name)
    assert repr(other) == repr(net)
    with pytest.raises(RequestError, match="holds another job: its weights is"):
        small(other, whole, photos=photos, examples=3)
    shutil.copytree(photos, tmp_path / "copy")
    again = small(net, whole, photos=tmp_path / "copy", examples=3)  # the same photos, elsewhere
    assert again.state == "finished"
    photo(tmp_path / "copy/8.png", 8)
    with pytest.raises(RequestError, match=r"holds another job: its photos\.count is 7, not 8"):
        small(net, whole, photos=tmp_path / "copy", examples=3)


def test_the_folder_of_another_job_is_refused(net: pi.Network, out: Path) -> None:
    with JobFolder(out).opened({"verb": "evaluate", "photos": 3}):
        pass
    with pytest.raises(RequestError, match=f"'{out}' holds another job"):
        small(net, out)
    for ask in (status, verify, about, lambda folder: list(units_of(folder))):
        with pytest.raises(RequestError, match="another job, not an atlas"):
            ask(out)
        with pytest.raises(RequestError, match="there is no atlas in"):
            ask(out.parent / "nowhere")


def test_nothing_is_done_twice(tiny: str, whole: Path, photos: Path) -> None:
    before = places(whole)
    again = small(f"{tiny}:net", whole, photos=photos, examples=3)
    assert (again.state, again.made) == ("finished", 12)
    assert places(whole) == before


def test_what_is_missing_is_made_again_to_the_same_bytes(tiny: str, whole: Path, photos: Path, tmp_path: Path) -> None:
    """Whichever files are lost, the others stay as they are."""
    expected = parts(whole)
    names = sorted(expected)
    for lost in (names[::2], names[1::3], [name for name in names if name.startswith("tune")], names):
        out = tmp_path / f"{len(lost)}-{lost[0]}"
        shutil.copytree(whole, out)
        for name in lost:
            (out / "parts" / name).unlink()
        kept = places(out)
        assert [*verify(out).missing] and not verify(out).whole
        small(f"{tiny}:net", out, photos=photos, examples=3)
        assert parts(out) == expected
        assert {name: where for name, where in places(out).items() if name in kept} == kept
        assert verify(out).whole


def test_two_workers_write_the_same_bytes(tiny: str, whole: Path, photos: Path, out: Path) -> None:
    made = small(f"{tiny}:net", out, photos=photos, examples=3, workers=2)
    assert made.state == "finished"
    assert parts(out) == parts(whole)


def test_an_atlas_is_gone_on_with_as_many_threads_as_it_was_begun_with(net: pi.Network, out: Path) -> None:
    small(net, out, threads=None)
    assert about(out)["threads"] == torch.get_num_threads()
    (out / "parts/units-7-0001.safetensors").unlink()
    torch.set_num_threads(2)
    try:
        small(net, out, threads=None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert about(out)["threads"] == 1


def test_anywhere_that_fsspec_reaches(net: pi.Network, whole: Path, photos: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    url = "memory://atlas-test/a"
    made = small(net, url, photos=photos, examples=3)
    assert made.state == "finished"
    files = fsspec.filesystem("memory")
    found = {path.rpartition("/")[2]: files.cat_file(path) for path in files.ls("/atlas-test/a/parts", detail=False)}
    assert found == parts(whole)
    assert [batch.tap for batch in units_of(url)] == ["0"] * 4 + ["7"] * 2
    assert verify(url).whole and status(url).made == 12
    files.rm("/atlas-test/a/parts/units-0-0001.safetensors")
    assert verify(url).missing == ["units-0-0001.safetensors"]
    small(net, url, photos=photos, examples=3)
    assert files.cat_file("/atlas-test/a/parts/units-0-0001.safetensors") == parts(whole)["units-0-0001.safetensors"]


# Parts


arrays = st.dictionaries(
    st.text("abc", min_size=1),
    st.lists(st.integers(0, 255), max_size=20).map(lambda some: np.array(some, np.uint8)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(arrays, st.integers(0, 10**6), st.integers(1, 255), st.floats(allow_nan=False, allow_infinity=False))
def test_a_part_is_read_as_it_was_written_and_any_other_byte_is_noticed(
    given_arrays: dict[str, Any], where: int, change: int, value: float
) -> None:
    document = {"units": [{"score": value, "failure": None, "said": "ü"}]}
    content = packed(given_arrays, document)
    assert packed(dict(reversed(given_arrays.items())), document) == content
    found, said = unpacked(content, "a")
    assert said == document and found.keys() == given_arrays.keys()
    assert all(np.array_equal(found[name], array) for name, array in given_arrays.items())
    where %= len(content)
    changed = content[:where] + bytes([content[where] ^ change]) + content[where + 1 :]
    # (what is no error then is the same in another spelling, 1e5 and 1E5, say)
    with suppress(RequestError):
        again, told = unpacked(changed, "a")
        assert told == document and all(np.array_equal(again[name], array) for name, array in given_arrays.items())
    with pytest.raises(RequestError, match="'a' is damaged"):
        unpacked(content[:where], "a")


def test_a_part_that_is_damaged_is_named_and_made_again_when_it_is_deleted(
    net: pi.Network, whole: Path, out: Path, photos: Path
) -> None:
    shutil.copytree(whole, out)
    path = out / "parts/units-0-0002.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    (out / "parts/left-over").write_text("")
    found = verify(out)
    assert [name for name, _ in found.damaged] == [path.name] and not found.whole
    assert "delete it, and the same command makes it again" in found.damaged[0][1]
    assert found.strange == ["left-over"] and found.missing == []
    with pytest.raises(RequestError, match=re.escape(f"'{path}' is damaged")):
        list(units_of(out))
    path.unlink()
    small(net, out, photos=photos, examples=3)
    (out / "parts/left-over").unlink()
    assert verify(out).whole and parts(out) == parts(whole)


def test_a_batch_under_the_name_of_another_is_no_batch_of_the_plan(whole: Path, out: Path) -> None:
    shutil.copytree(whole, out)
    shutil.copy(out / "parts/units-0-0001.safetensors", out / "parts/units-0-0002.safetensors")
    assert [name for name, _ in verify(out).damaged] == ["units-0-0002.safetensors"]


# Whatever happens to the process


def test_a_full_disk_leaves_what_is_finished_and_the_same_call_goes_on(
    tiny: str, whole: Path, photos: Path, out: Path
) -> None:
    expected = parts(whole)
    examples = [len(content) for name, content in expected.items() if name.startswith("examples")]
    others = [len(content) for name, content in expected.items() if not name.startswith("examples")]
    assert max(others) < max(examples), "else nothing is finished before"
    with (
        largest_file(max(others) + 100),
        pytest.raises(WriteError, match=f"cannot write to the folder '{out}'.*goes on"),
    ):
        small(f"{tiny}:net", out, photos=photos, examples=3)
    kept = places(out)
    assert 0 < len(kept) < len(expected)
    assert {name: content for name, content in expected.items() if name in kept} == parts(out)
    assert status(out).state == "stopped"
    small(f"{tiny}:net", out, photos=photos, examples=3)
    assert parts(out) == expected
    assert {name: where for name, where in places(out).items() if name in kept} == kept


def test_too_little_space_is_said_before_anything_is_made(
    net: pi.Network, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 20_000})())
    with pytest.raises(RequestError, match=r"would take about .* where 20 kB are free"):
        small(net, out, say=said.append)
    assert not (out / "parts").exists()
    assert said and said[0].startswith("12 units in 6 batches; about ")
    monkeypatch.undo()
    small(net, out, say=said.append)
    taken = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    estimate = re.search(r"about ([\d.]+) kB", said[-1])
    assert estimate and 0.3 * taken < 1000 * float(estimate[1]) < 5 * taken


_KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import preimage as pi
sys.path[:0] = sys.argv[5:]
from small_atlas import parts, places, small

network, out, photos, pace = pi.load(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])
network.taps()

def work():
    made = small(network, out, photos=photos, examples=3)
    os._exit({"finished": 0, "interrupted": 3}[made.state])

def child():
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(9)
    return pid

drawn, before, said = random.Random(0), {}, {"changed": [], "grown": [], "ended": []}
for turn in range(25):
    known, pid, until = len(places(out)), child(), time.monotonic() + 20
    # Some before they have begun; most when they have just written something, or a little later.
    while turn % 5 and len(places(out)) == known and time.monotonic() < until and not os.waitid(
        os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT
    ):
        time.sleep(0.002)
    time.sleep(drawn.uniform(0.0, 1.5 * pace))
    os.kill(pid, signal.SIGINT if turn % 4 == 3 else signal.SIGKILL)
    said["ended"].append(os.waitpid(pid, 0)[1])
    now = places(out)
    said["changed"] += [name for name, known in before.items() if now.get(name) != known]
    said["grown"].append(len(now))
    before = now
    if said["ended"][-1] == 0:
        break
said["status"] = os.waitpid(child(), 0)[1]
now = places(out)
said["changed"] += [name for name, known in before.items() if now.get(name) != known]
print(json.dumps(said))
"""


def test_a_process_that_is_killed_at_any_moment_loses_nothing_and_does_nothing_twice(
    tiny: str, whole: Path, photos: Path, out: Path
) -> None:
    """SIGKILL, and Ctrl-C now and then, until one gets to the end: the bytes are those of a run left alone."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    # Seconds from file to file on this machine, so that a fast one is not done before it is killed.
    written = [ns for _, ns in places(whole).values()]
    pace = (max(written) - min(written)) / len(written) / 1e9
    words = [sys.executable, "-c", _KILLED, f"{tiny}:net", str(out), str(photos), str(pace), *paths]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["changed"] == []
    assert said["grown"] == sorted(said["grown"])
    assert signal.SIGKILL in said["ended"]
    assert len(set(said["grown"])) > 3, "killed too early or too late to say anything"
    assert said["status"] == 0
    assert parts(out) == parts(whole)
    assert verify(out).whole and status(out).state == "finished"


def test_an_atlas_that_was_killed_is_said_to_be(net: pi.Network, whole: Path, out: Path) -> None:
    shutil.copytree(whole, out)
    (out / "parts/units-7-0001.safetensors").unlink()
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    noted = json.loads((out / "progress.json").read_text())
    noted |= {"state": "working", "pid": int(gone.stdout), "made": 6, "seconds": 3.0}
    (out / "progress.json").write_text(json.dumps(noted))
    found = status(out)
    assert (found.state, found.made, found.units, found.rate, found.seconds_left) == ("killed", 10, 12, 2.0, 1.0)
    (out / "progress.json").write_text(json.dumps({**noted, "pid": os.getpid()}))
    assert status(out).state == "working"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"examples": 0}, "examples is at least 1"),
        ({"seed": -1}, "a seed is a whole number"),
        ({"workers": 0}, "workers and threads are at least 1"),
        ({"threads": 0}, "workers and threads are at least 1"),
        ({"steps": 0}, "at least one step"),
        ({"recipe": "nothing"}, "there is no recipe 'nothing'"),
        ({"ray": "localhost:1", "workers": 2}, "either workers"),
        ({"size": 0}, "whole pixels above zero"),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_folder_is_made(
    net: pi.Network, out: Path, asked: dict[str, Any], says: str
) -> None:
    with pytest.raises(RequestError, match=says):
        small(net, out, **asked)
    assert not out.exists()


def test_a_module_has_to_be_wrapped(out: Path) -> None:
    module: Any = nn.Conv2d(3, 2, 1)
    ask: Callable[..., Any] = atlas
    with pytest.raises(RequestError, match=r"wrap a module: pi\.Network"):
        ask(module, "output", out)


def test_the_same_photos_have_the_same_digest(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "copy")
    one, other = Photos.found(photos), Photos.found(tmp_path / "copy")
    assert (one.digest, one.names) == (other.digest, other.names) and one.folder != other.folder
    (tmp_path / "copy/3.png").write_bytes((tmp_path / "copy/3.png").read_bytes() + b"x")
    assert Photos.found(tmp_path / "copy").digest != one.digest
