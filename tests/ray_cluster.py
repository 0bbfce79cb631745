"""A real Ray cluster of several nodes on this machine, some of which are killed.

Who imports this is skipped where ray is not installed, unless that is where CI runs.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

try:
    import ray
    from ray.cluster_utils import Cluster
except ModuleNotFoundError:
    if os.environ.get("CI"):
        raise
    pytest.skip("ray is not installed (pip install 'preimage[ray]')", allow_module_level=True)

__all__ = ["cluster", "losing_a_node", "ray"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that does nothing, and a node that works; others come and go."""
    with pytest.MonkeyPatch.context() as environment:
        # Where others use the cores too, a node needs longer to begin than Ray expects.
        if "RAY_raylet_start_wait_time_s" not in os.environ:
            environment.setenv("RAY_raylet_start_wait_time_s", "180")
        # As machines are that somebody has set up for other work; results must not show it.
        environment.setenv("OMP_NUM_THREADS", "2")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        made.add_node(num_cpus=1)
        yield made
        ray.shutdown()
        made.shutdown()


@contextmanager
def losing_a_node(cluster: Any, when: Callable[[str], bool]) -> Iterator[None]:
    """One node more for the block, killed in the middle of it. when: given its id, whether the time has come."""
    doomed = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ended = threading.Event()
    killed: list[float] = []

    def kill() -> None:
        while not ended.wait(0.02):
            if when(doomed.node_id):
                killed.append(time.monotonic())
                cluster.remove_node(doomed, allow_graceful=False)
                return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        ended.set()
        killer.join()
        if not killed:
            cluster.remove_node(doomed)
    assert killed, "the block was over before the time had come, so that it says nothing"
