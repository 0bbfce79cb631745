"""Killed, out of disk space, or with a damaged checkpoint: what was kept is whole, and it ends the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_worlds import same, trained

from full_disk import largest_file
from preimage.errors import RequestError, WriteError
from preimage.training.checkpoints import read_checkpoint, write_checkpoint

HERE = Path(__file__).parent

_KILLED = """
import sys, time
import torch
torch.set_num_threads(1)
from preimage.training.prior_training import GeneratorTask
from small_worlds import trained
step = GeneratorTask.step
def slow(self, number, indices):
    time.sleep(0.15)
    return step(self, number, indices)
GeneratorTask.step = slow
trained(sys.argv[1])
"""


def python(code: str, folder: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder.parent
    )


def assert_same(folder: Path, other: Path) -> None:
    assert same(read_checkpoint(folder / "checkpoint.pt"), read_checkpoint(other / "checkpoint.pt"))
    assert (folder / "losses.csv").read_bytes() == (other / "losses.csv").read_bytes()


def test_killed_it_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    process = python(_KILLED, folder)
    checkpoint = folder / "checkpoint.pt"
    until = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    assert read_checkpoint(checkpoint)["step"] < 7
    trained(folder, resume=True)
    trained(tmp_path / "whole")
    assert_same(folder, tmp_path / "whole")


def test_a_disk_that_is_full_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """The kernel refuses to let any file grow beyond 8000 bytes; a checkpoint is larger."""
    folder = tmp_path / "full"
    trained(folder, minutes=0)
    with (
        pytest.raises(WriteError, match=r"cannot write the checkpoint") as caught,
        largest_file(8000),
    ):
        trained(folder, resume=True, preview_every=100)
    assert "the one before is whole, and --resume goes on from it" in str(caught.value)
    assert (folder / "checkpoint.pt").stat().st_size > 8000
    assert read_checkpoint(folder / "checkpoint.pt")["step"] == 1
    assert not [path for path in folder.iterdir() if path.name.startswith(".checkpoint")]
    trained(folder, resume=True, preview_every=100)
    trained(tmp_path / "whole", preview_every=100)
    assert_same(folder, tmp_path / "whole")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_checkpoint_is_said_in_one_sentence(damage: str, tmp_path: Path) -> None:
    trained(tmp_path, minutes=0)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[40:200] = bytes(160)
    path.write_bytes(
        {"cut": whole[: len(whole) // 2], "flipped": bytes(changed), "empty": b"", "text": b"not a checkpoint"}[damage]
    )
    with pytest.raises(RequestError, match=r"checkpoint.pt' is damaged \(.*\); delete it to train from the") as caught:
        trained(tmp_path, resume=True)
    assert "\n" not in str(caught.value)


def test_no_code_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'run'}",)

    torch.save({"step": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(RequestError, match="is damaged"):
        read_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("state", [[1, 2], {"step": 1}])
def test_a_checkpoint_of_something_else(state: object, tmp_path: Path) -> None:
    trained(tmp_path, minutes=0)
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(RequestError, match=r"is no checkpoint of preimage|does not belong to this training"):
        trained(tmp_path, resume=True)


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"cannot write the checkpoint .*: No such file or directory$"):
        write_checkpoint(tmp_path / "gone" / "checkpoint.pt", {"step": 1})
