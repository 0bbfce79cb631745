"""Jobs on a real Ray cluster of several nodes on this machine, one of which is killed in the middle."""

from __future__ import annotations

import http.server
import os
import re
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from preimage import RequestError
from preimage.atlas import verify
from preimage.jobs import finished
from ray_cluster import cluster, losing_a_node, ray

sys.path.insert(0, str(Path(__file__).parent))
from small_atlas import parts, small

__all__ = ["cluster"]

pytestmark = pytest.mark.cluster
# What is defined here is sent as it is: the workers do not find the tests.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Slow:
    """Takes a moment, and tells where it was done."""

    def __call__(self, unit: int) -> tuple[int, str]:
        time.sleep(0.5)
        if unit == -1:
            raise ZeroDivisionError("minus one")
        return unit * unit, ray.get_runtime_context().get_node_id()


class Where:
    """Tells in which folder, and with how many threads, it is at work."""

    def __call__(self, unit: int) -> tuple[str, int]:
        return os.getcwd(), torch.get_num_threads()


def test_a_unit_whose_node_is_killed_is_done_elsewhere(cluster: Any) -> None:
    doomed = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    found, killed = [], False
    for unit, (square, node) in finished(Slow(), range(24), ray=cluster.address):
        found.append((unit, square, node))
        if not killed and node == doomed.node_id:
            cluster.remove_node(doomed, allow_graceful=False)
            killed = True
    assert killed, "it did nothing, so that its end says nothing"
    assert Counter(unit for unit, _, _ in found) == Counter(range(24))
    assert all(square == unit * unit for unit, square, _ in found)
    assert not ray.is_initialized(), "the connection is closed"


def test_a_unit_has_as_many_threads_as_cpus_and_is_done_in_the_callers_folder(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the machine was set up for, so that results are the same and relative paths are the caller's."""
    monkeypatch.chdir(tmp_path)
    assert list(finished(Where(), [1, 2], ray=cluster.address)) == [(unit, (str(tmp_path), 1)) for unit in (1, 2)]


def test_workers_and_a_cluster_together_are_refused(cluster: Any) -> None:
    with pytest.raises(RequestError, match="either workers= processes here, or ray= a cluster"):
        list(finished(Slow(), [1], 2, ray=cluster.address))


def test_an_error_of_the_work_is_the_callers(cluster: Any) -> None:
    with pytest.raises(ZeroDivisionError, match="minus one"):
        list(finished(Slow(), [1, -1, 2], ray=cluster.address))


def test_a_unit_that_no_machine_has_room_for_is_refused(cluster: Any) -> None:
    for cpus, gpus, needs in ((64, 0, "64 CPUs"), (1, 1, "1 CPUs and 1 GPUs")):
        with pytest.raises(RequestError, match=rf"no machine of the Ray cluster at .* has {needs}"):
            list(finished(Slow(), [1], ray=cluster.address, cpus=cpus, gpus=gpus))


def test_another_version_on_the_workers_is_said(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver believes it has another preimage than it has."""
    from preimage.jobs import ray_workers

    monkeypatch.setattr(ray_workers, "version", lambda name: {"preimage": "0.0.1"}.get(name, "2.0"))
    with pytest.raises(RequestError, match=r"the machine .* has .* of preimage, but this process has 0\.0\.1"):
        list(finished(Slow(), [1], ray=cluster.address))


def test_an_atlas_of_which_a_node_is_killed_is_the_same(cluster: Any, tiny: str, tmp_path: Path) -> None:
    """Byte by byte that of one process, threads being the same."""
    small(f"{tiny}:net", tmp_path / "alone", batch_size=1)
    folder = tmp_path / "ray/parts"
    with losing_a_node(cluster, lambda _: len(list(folder.glob("units-*"))) >= 3):
        made = small(f"{tiny}:net", tmp_path / "ray", batch_size=1, ray=cluster.address)
    assert (made.state, made.made) == ("finished", 12)
    assert verify(tmp_path / "ray").whole
    assert parts(tmp_path / "ray") == parts(tmp_path / "alone")


@pytest.mark.parametrize("kind", ["", "ray://"])
def test_an_address_that_does_not_answer_is_said_within_seconds(kind: str) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    begun = time.monotonic()
    try:
        with pytest.raises(RequestError, match="is no Ray cluster"):
            list(finished(Slow(), [1], ray=f"{kind}127.0.0.1:{server.server_port}"))
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(RequestError, match=re.escape("does not answer (Connection refused)")):
        list(finished(Slow(), [1], ray=f"{kind}127.0.0.1:{server.server_port}"))
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("address", ["", "somewhere", "a:b", "host:0", "host:70000", "http://host:80"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(RequestError, match="a Ray address is HOST:PORT"):
        list(finished(Slow(), [1], ray=address))
