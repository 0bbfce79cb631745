"""Units done here or in other processes: each once, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from preimage import RequestError
from preimage.jobs import finished, workers


def square(unit: int) -> tuple[int, int, int]:
    return unit * unit, os.getpid(), torch.get_num_threads()


class Marking:
    """Leaves a file for every unit."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, unit: int) -> int:
        descriptor = os.open(self.folder / str(unit), os.O_CREAT | os.O_EXCL)  # a second time is an error
        os.close(descriptor)
        time.sleep(0.01)
        return unit


def failing(unit: int) -> int:
    if unit == 3:
        raise ZeroDivisionError("the third")
    return unit


def dying(unit: int) -> int:
    if unit == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return unit


def children(pid: int) -> set[int]:
    """All processes below one."""
    found: set[int] = set()
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = {int(one) for one in listed.read_text().split()}
        except OSError:
            continue
        found |= direct.union(*(children(one) for one in direct))
    return found


def running(pids: set[int]) -> set[int]:
    alive = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        alive |= {pid} if state != "Z" else set()
    return alive


def gone(pids: set[int], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while running(pids) and time.monotonic() < until:
        time.sleep(0.05)
    return not running(pids)


@pytest.fixture
def left_alone() -> Iterator[None]:
    """No worker is left afterwards (Python's own tracker of shared memory stays)."""
    before = children(os.getpid())
    yield
    left = {pid for pid in children(os.getpid()) - before if b"resource_tracker" not in command(pid)}
    assert gone(left, 10)


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_one_worker_is_this_process_and_does_a_unit_when_it_is_asked_for() -> None:
    done: list[int] = []

    def work(unit: int) -> int:
        done.append(unit)
        return -unit

    made = finished(work, [3, 1, 2])
    assert done == []
    assert next(made) == (3, -3)
    assert done == [3]
    assert list(made) == [(1, -1), (2, -2)]
    assert list(finished(work, [])) == []


@pytest.mark.parametrize("count", [0, -1])
def test_less_than_one_worker_is_none(count: int) -> None:
    with pytest.raises(RequestError, match=f"at least one worker is needed, not {count}"):
        list(finished(square, [1], count))


def test_what_cannot_be_sent_is_refused_before_a_process_is_started() -> None:
    before = children(os.getpid())
    for work in (lambda unit: unit, Marking(open(os.devnull))):  # type: ignore[arg-type]  # noqa: SIM115
        with pytest.raises(RequestError, match=r"cannot be sent to another process.*use one worker"):
            list(finished(work, [1], 2))
    assert children(os.getpid()) == before


@pytest.mark.usefixtures("left_alone")
def test_several_workers_do_each_unit_once_and_share_the_cores() -> None:
    made = list(finished(square, range(30), 2))
    assert sorted(unit for unit, _ in made) == list(range(30))
    assert all(found[0] == unit * unit for unit, found in made)
    pids = {found[1] for _, found in made}
    assert os.getpid() not in pids and len(pids) <= 2
    assert {found[2] for _, found in made} == {max(1, (os.cpu_count() or 1) // 2)}
    assert workers._work is None, "of this process"


@pytest.mark.usefixtures("left_alone")
def test_who_stops_early_has_no_more_done_than_a_few_ahead(tmp_path: Path) -> None:
    made = finished(Marking(tmp_path), range(1000), 2)
    assert next(made)[0] in range(4)
    made.close()  # type: ignore[attr-defined]
    time.sleep(0.3)
    count = len(list(tmp_path.iterdir()))
    assert 1 <= count <= 12
    time.sleep(0.3)
    assert len(list(tmp_path.iterdir())) == count


@pytest.mark.usefixtures("left_alone")
def test_an_error_of_the_work_is_the_callers() -> None:
    with pytest.raises(ZeroDivisionError, match="the third"):
        list(finished(failing, range(100), 2))


@pytest.mark.usefixtures("left_alone")
def test_a_worker_that_dies_is_told_of_in_a_sentence() -> None:
    with pytest.raises(RequestError, match=r"a worker process died.*what is finished is kept"):
        list(finished(dying, range(100), 2))


_ORPHANING = """
import sys, time
from preimage.jobs import finished

def work(unit):
    time.sleep(0.05)
    return unit

if __name__ == "__main__":
    for unit, _ in finished(work, range(100_000), 2):
        print(unit, flush=True)
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "orphaning.py"
    script.write_text(_ORPHANING)
    environment: dict[str, Any] = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment, text=True) as parent:
        assert parent.stdout is not None
        for _ in range(6):
            assert parent.stdout.readline()
        below = children(parent.pid)
        assert len(below) >= 2
        parent.kill()
        parent.wait()
        assert gone(below, 5), "orphans"
