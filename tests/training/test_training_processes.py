"""Two processes that share each batch train as one does, up to rounding (where no layer looks at the whole batch)."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_worlds import PLAIN, trained

from preimage import RequestError
from preimage.training.processes import Processes, joined, local_device

_SHARED = """
import os, sys
import torch
import torch._dynamo  # which the first optimiser of a process imports otherwise
torch.set_num_threads(1)
from small_worlds import PLAIN, trained

second = os.fork()
rank = 0 if second else 1
os.environ["RANK"] = str(rank)
made = trained(sys.argv[1], generator=PLAIN)
with open(f"{sys.argv[2]}-{rank}", "w") as file:
    print(made.weights, file=file)
if second:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]))
"""
"""A process and its fork, so that everything is imported once."""


def numbers(folder: Path) -> torch.Tensor:
    with (folder / "losses.csv").open() as file:
        return torch.tensor([[float(value) for value in row] for row in list(csv.reader(file))[1:]])


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **shared, "PYTHONPATH": path}
    command = [sys.executable, "-c", _SHARED, str(tmp_path / "two"), str(tmp_path / "weights")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    weights = [(tmp_path / f"weights-{rank}").read_text() for rank in range(2)]
    assert weights[0] and weights[0] == weights[1]
    trained(tmp_path / "one", generator=PLAIN)
    torch.testing.assert_close(numbers(tmp_path / "two"), numbers(tmp_path / "one"), rtol=2e-3, atol=1e-6)
    # The first step, in which rounding has not been through the optimiser yet.
    torch.testing.assert_close(numbers(tmp_path / "two")[0], numbers(tmp_path / "one")[0], rtol=1e-5, atol=1e-7)


def test_alone() -> None:
    with joined(torch.device("cpu")) as processes:
        assert processes == Processes(0, 1) and processes.is_first
    batch = torch.arange(6)
    assert torch.equal(processes.part(batch), batch)
    assert [Processes(rank, 3).part(batch).tolist() for rank in range(3)] == [[0, 1], [2, 3], [4, 5]]


def test_batches_are_shared_equally() -> None:
    with pytest.raises(RequestError, match="3 processes cannot share batches of 64 equally"):
        Processes(0, 3).check(64)


def test_each_process_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert [local_device(one) for one in ("cuda", "cuda:0", "cpu", None)] == ["cuda:2", "cuda:0", "cpu", None]
