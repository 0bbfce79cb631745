"""Units of work done in this process, or in several beside it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from preimage.errors import RequestError

Unit = TypeVar("Unit")
Work = Callable[[Any], Any]
"""Of one unit, what was found; it is sent to each worker once, where it may keep what it has opened."""

_work: Work | None = None


def finished(
    work: Work, units: Sequence[Unit], workers: int = 1, *, ray: str | None = None, cpus: float = 1, gpus: float = 0
) -> Iterator[tuple[Unit, Any]]:
    """Each unit with what `work` found, as they are finished.

    workers: processes; 1 is this one. More of them share the cores, and are gone when this process is, however it ends.
    ray: the address of a Ray cluster that does them instead, as many at once as it has room for; cpus, gpus: what one
        of them takes there; see `preimage.jobs.ray_workers`.

    Raises `RequestError` as `check_workers` does, where `work` cannot be sent to another process, or a worker dies.
    """
    check_workers(workers, ray)
    if ray is not None:
        from preimage.jobs.ray_workers import finished_on_ray  # (of an extra)

        yield from finished_on_ray(work, units, ray, cpus=cpus, gpus=gpus)
        return
    if workers == 1:
        for unit in units:
            yield unit, work(unit)
        return
    try:
        pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise RequestError(
            f"this cannot be sent to another process ({error}); name the network as a string, or use one worker"
        ) from error
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = ProcessPoolExecutor(
        min(workers, max(1, len(units))),
        # A forked process would inherit PyTorch's threads in whatever state they are.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(work, threads, os.getpid()),
    )
    try:
        # A few ahead and not all at once, so that a million units do not wait in a queue.
        left, running = iter(units), dict[Future[Any], Unit]()
        while True:
            for unit in left:
                running[pool.submit(_do, unit)] = unit
                if len(running) >= 2 * workers:
                    break
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise RequestError(
            "a worker process died (was memory short? does a script that uses workers begin behind if __name__ == "
            "'__main__'?); what is finished is kept, and the same call goes on from there, perhaps with fewer workers"
        ) from error
    finally:
        # Units that are being worked on are lost anyhow; nobody wants to wait for them after Ctrl-C.
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


def check_workers(workers: int, ray: str | None) -> None:
    """Raises `RequestError` for no worker, for workers and a cluster together, and for a cluster that does not answer.

    What takes long before its first unit asks this first.
    """
    if workers < 1:
        raise RequestError(f"at least one worker is needed, not {workers}")
    if ray is not None:
        if workers > 1:
            raise RequestError(
                "either workers= processes here, or ray= a cluster, which has as many as it has room for"
            )
        from preimage.jobs.ray_workers import check_address  # (of an extra)

        check_address(ray)


def gpus_on(device: torch.device) -> float:
    """How many GPUs of a cluster a unit takes that computes on this device."""
    return 1 if device.type == "cuda" else 0


def _begin(work: Work, threads: int, parent: int) -> None:
    global _work
    _work = work
    torch.set_num_threads(threads)
    # By default tqdm makes a lock between processes in each, which nobody cleans up after.
    tqdm.set_lock(threading.RLock())

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _do(unit: Any) -> Any:
    assert _work is not None
    return _work(unit)
