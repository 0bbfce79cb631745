"""An evaluation on a real Ray cluster finds what one process does, whatever happens to the cluster."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import nn

import preimage as pi
from command import Run
from preimage import RequestError
from preimage.evaluation.data import Data, Example
from preimage.explain import Found, Method, Question
from ray_cluster import cluster, losing_a_node, ray
from small_photos import folder

__all__ = ["cluster"]

pytestmark = pytest.mark.cluster
# What is defined here is sent as it is: the workers do not find the tests.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class Slow(Method):
    """Explains a photo by itself, takes a moment over it, and leaves a note of where it began."""

    name: ClassVar[str] = "slow"
    source: ClassVar[str] = "a test"

    notes: str

    def explain(self, asked: Question) -> Found:
        if ray.is_initialized():
            note = f"{ray.get_runtime_context().get_node_id()}-{time.monotonic_ns()}"
            os.close(os.open(os.path.join(self.notes, note), os.O_CREAT | os.O_EXCL))
            time.sleep(0.5)
        return Found(asked.photos.mean(1))

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


@pytest.fixture
def here(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network and photos in it, in which this process is at work, and in which no node was begun."""
    shutil.copy(tiny, tmp_path / "tiny.py")
    folder(tmp_path / "photos", cat=5, dog=4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small(**asked: Any) -> pi.Evaluation:
    usual: dict[str, Any] = {"network": "tiny.py:net", "data": "folder:photos", "measures": "deletion"}
    return pi.evaluate(**{**usual, "methods": "gradient", "batch_size": 1, "progress": False, **asked})


def test_rows_are_those_of_one_process_though_a_node_is_killed(cluster: Any, here: Path) -> None:
    (here / "notes").mkdir()
    methods = {"slow": Slow(str(here / "notes")), "gradient": "gradient", "occlusion": "occlusion"}
    asked: dict[str, Any] = {"methods": methods, "measures": ["deletion", "grid-pointing"], "limit": 6}
    alone = small(**asked, out="alone")

    def at_work(node: str) -> bool:
        has_begun = any(one.name.startswith(node) for one in (here / "notes").iterdir())
        return has_begun and len(list((here / "out/parts").glob("*.json"))) >= 3

    with losing_a_node(cluster, at_work):
        made = small(**asked, out="out", ray=cluster.address)
    assert not made.interrupted and not made.failures
    assert (made.rows, made.summary) == (alone.rows, alone.summary)
    for name in ("results.csv", "result.json", "job.json"):
        assert (here / "out" / name).read_bytes() == (here / "alone" / name).read_bytes()
    parts = [{one.name: one.read_bytes() for one in (here / which / "parts").iterdir()} for which in ("out", "alone")]
    assert parts[0] == parts[1]


def test_what_is_finished_here_is_not_done_there(cluster: Any, here: Path) -> None:
    """And what the cluster finished, not here: it is the same job."""
    small(out="out", ray=cluster.address)
    before = {one.name: one.stat().st_mtime_ns for one in (here / "out/parts").iterdir()}
    made = small(methods=["gradient", "grad-cam"], out="out")
    after = {one.name: one.stat().st_mtime_ns for one in (here / "out/parts").iterdir()}
    assert {name: after[name] for name in before} == before and len(after) > len(before)
    again = small(methods=["gradient", "grad-cam"], out="out", ray=cluster.address)
    assert {one.name: one.stat().st_mtime_ns for one in (here / "out/parts").iterdir()} == after
    assert again.rows == made.rows


def test_the_command_writes_the_same_table(cluster: Any, here: Path, preimage: Run) -> None:
    words = ("evaluate", "tiny.py:net", "--data", "folder:photos", "--measure", "insertion", "--method", "grad-cam")
    for out, more in (("alone", ()), ("ray", ("--ray", cluster.address))):
        done = preimage(*words, *more, "--limit", "3", "-o", out)
        assert (done.returncode, done.stderr) == (0, "")
    assert (here / "ray/results.csv").read_bytes() == (here / "alone/results.csv").read_bytes()


def test_photos_that_a_machine_does_not_see_end_it(cluster: Any, here: Path) -> None:
    """Here the photo alone is recorded: a machine without the folder would record all of them."""
    there = [Example(one, (one.parent.name,), (), (40, 36)) for one in sorted((here / "photos").rglob("*.png"))]
    gone = Example(here / "gone.png", ("cat",), (), (40, 36))
    data = Data("folder:photos", (*there, gone), (), {})
    alone = small(data=data)
    assert len(alone.failures) == 1 and "gone.png" in next(iter(alone.failures))
    with pytest.raises(RequestError, match=r"gone\.png' is not there any more, or not on the machine of the cluster"):
        small(data=data, out="out", ray=cluster.address)
    assert list((here / "out/parts").glob("*.json")), "what was finished before is kept"


def test_a_network_that_cannot_be_sent_is_to_be_named(cluster: Any, here: Path) -> None:
    class Local(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)
            self.lock = threading.Lock()

        def forward(self, x: Any) -> Any:
            return self.linear(x.mean((2, 3)))

    network = pi.Network(Local(), (32, 32), labels=["cat", "dog"])
    says = (
        r"this cannot be sent to another machine \(cannot pickle '_thread.lock' object\); name the network as a string"
    )
    with pytest.raises(RequestError, match=says):
        small(network=network, measures="insertion", ray=cluster.address)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"workers": 2, "ray": "localhost:1"}, "either workers= processes here, or ray= a cluster"),
        ({"ray": "localhost:1"}, r"'localhost:1' does not answer \(Connection refused\)"),
        ({"ray": "somewhere"}, "a Ray address is HOST:PORT"),
    ],
)
def test_what_cannot_be_done_is_said_before_photos_are_looked_at(here: Path, asked: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        small(data="folder:gone", out="out", **asked)
    assert "\n" not in str(caught.value)
    assert not (here / "out").exists()
