"""Units of work done on an existing Ray cluster (extra `preimage[ray]`)."""

from __future__ import annotations

import logging
import os
import pickle
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

import torch

from preimage.errors import RequestError
from preimage.extras import from_extra

Unit = TypeVar("Unit")
Work = Callable[[Any], Any]

RETRIES = 5
"""How often a unit is begun again whose worker, or whose worker's machine, died."""
SECONDS = 5.0
"""That a cluster has to answer in."""
_PROBE_SECONDS = 120.0
_PACKAGES = ("preimage", "torch")
_ADDRESS = re.compile(r"(ray://)?(\[(?P<six>[0-9A-Fa-f:]+)\]|(?P<host>[^:/\s]+)):(?P<port>\d{1,5})")

_SETTINGS_FRAME = 4
# How HTTP/2, which gRPC speaks, is begun: the preface, and settings that are all as usual (RFC 9113, section 3.4).
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS_FRAME, 0, 0, 0, 0, 0])

_kept: dict[str, Work] = {}
"""In a worker: what it was sent, by the run that it belongs to; it may keep what it has opened."""


@dataclass(frozen=True)
class _Run:
    """What a worker is told of the run that a unit belongs to. folder: in which the driver is at work."""

    token: str
    versions: Mapping[str, str]
    threads: int
    folder: str


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster for the time of the block; a connection that is there already is used, and stays.

    address: `HOST:PORT`, `ray://HOST:PORT` (a client), `auto` (the cluster of this machine) or `local` (a new one).

    Raises `RequestError` where ray is not installed, for an address that does not answer within seconds, for a cluster
    of another Ray or Python, and for nodes with another preimage or torch than this process has.
    """
    ray = from_extra("ray", "ray")
    if ray.is_initialized():
        yield ray
        return
    _check_answers(address)
    new = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **new)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise RequestError(_not_usable(address, error)) from error
    try:
        _check_nodes(ray, address)
        yield ray
    finally:
        ray.shutdown()


def finished_on_ray(
    work: Work, units: Sequence[Unit], address: str, *, cpus: float = 1, gpus: float = 0
) -> Iterator[tuple[Unit, Any]]:
    """Each unit with what `work` found, as they are finished, by tasks that take so many CPUs and GPUs each.

    A unit whose worker dies, or the whole machine, is begun again elsewhere, up to five times. Machines that join the
    cluster meanwhile are used. What `work` raises is raised here. PyTorch computes with as many threads as a unit takes
    CPUs, and paths that are relative mean there what they mean here, where there is such a folder.

    Raises `RequestError` as `connected` does, where no machine of the cluster has that many CPUs and GPUs, where `work`
    cannot be sent, and for a unit whose workers die again and again.
    """
    with connected(address) as ray:
        _check_room(ray, address, cpus, gpus)
        run = _Run(os.urandom(8).hex(), versions(), max(1, int(cpus)), os.getcwd())
        try:
            shared = ray.put(work)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            # (Ray says much more, over many lines, than what it came upon.)
            why = _short(error.__cause__ or error)
            raise RequestError(
                f"this cannot be sent to another machine ({why}); name the network as a string"
            ) from error
        do = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_do)
        left, running = iter(units), dict[Any, Unit]()
        try:
            while True:
                # As many again wait as are at work, so that nobody has to wait for them, and not all of a million.
                room = 2 * _slots(ray, cpus, gpus)
                while len(running) < room:
                    try:
                        unit = next(left)
                    except StopIteration:
                        break
                    # (in a list, so that it is fetched by the workers that do not have it yet)
                    running[do.remote(run, [shared], unit)] = unit
                if not running:
                    return
                done, _ = ray.wait(list(running), num_returns=1, timeout=10)
                for one in done:
                    unit = running.pop(one)
                    yield unit, _result(ray, one)
        finally:
            for one in running:
                with suppress(Exception):
                    ray.cancel(one, force=True)


def versions() -> dict[str, str]:
    """Of what has to be the same everywhere, for the same bytes."""
    return {name: version(name) for name in _PACKAGES}


def _do(run: _Run, shared: Sequence[Any], unit: Any) -> Any:
    """In a worker."""
    if run.token not in _kept:
        ray = from_extra("ray", "ray")
        differs = _difference(run.versions, versions())
        if differs:  # of a machine that joined after the others were asked
            raise RequestError(f"the machine {socket.gethostname()} {differs}")
        torch.set_num_threads(run.threads)
        with suppress(OSError):
            os.chdir(run.folder)
        _kept.clear()
        _kept[run.token] = ray.get(shared[0])
    return _kept[run.token](unit)


def _result(ray: Any, reference: Any) -> Any:
    failed = ray.exceptions
    try:
        return ray.get(reference)
    except failed.RayTaskError as error:
        raise error.cause if isinstance(getattr(error, "cause", None), BaseException) else error from None
    except (failed.WorkerCrashedError, failed.NodeDiedError, failed.OutOfMemoryError, failed.ObjectLostError) as error:
        raise RequestError(
            f"a worker died {RETRIES + 1} times over the same unit (is memory short?): {_short(error)}; what is "
            "finished is kept, and the same call goes on from there"
        ) from error


def check_address(address: str) -> None:
    """Raises `RequestError` where ray is not installed, and for an address that does not answer within seconds."""
    if not from_extra("ray", "ray").is_initialized():
        _check_answers(address)


def _check_answers(address: str) -> None:
    if address in ("auto", "local"):
        return
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise RequestError(f"a Ray address is HOST:PORT, ray://HOST:PORT, auto or local, not '{address}'")
    host, port = match["six"] or match["host"], int(match["port"])
    try:
        speaks = _speaks_http2(host, port)
    except OSError as error:
        raise RequestError(
            f"the Ray address '{address}' does not answer ({error.strerror or error}); is the cluster up, and the port "
            "the one that 'ray start --head' said?"
        ) from error
    if not speaks:
        raise RequestError(f"what answers at '{address}' is no Ray cluster; 'ray start --head' says its address")


def _speaks_http2(host: str, port: int) -> bool:
    """Whether a server begins to talk as Ray's do, within seconds; Ray itself would wait for others very long.

    Raises `OSError` where nobody answers at all.
    """
    with socket.create_connection((host, port), timeout=SECONDS) as line:
        if os.environ.get("RAY_USE_TLS") == "1":
            return True  # which it does behind a handshake
        line.sendall(_PREFACE)
        answer = b""
        while len(answer) < 4:
            some = line.recv(16)
            if not some:
                return False
            answer += some
    return answer[3] == _SETTINGS_FRAME


def _not_usable(address: str, error: Exception) -> str:
    text = _short(error)
    if "version mismatch" in text.lower():
        return f"the Ray cluster at '{address}' has another Ray or Python than this process: {text}"
    return f"the Ray cluster at '{address}' cannot be used: {text}"


def _check_nodes(ray: Any, address: str) -> None:
    """Every machine of the cluster has the same packages as this process."""
    here = versions()

    # A function within a function is sent as it is: the machine need not have preimage for that.
    def probe(names: Sequence[str]) -> dict[str, str]:
        from importlib.metadata import PackageNotFoundError, version

        found = {}
        for name in names:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "not installed"
        return found

    probe.__module__ = "__main__"
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    asked = {
        ray.remote(num_cpus=0, scheduling_strategy=strategy(node["NodeID"], soft=False))(probe).remote(_PACKAGES): node
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU")
    }
    nobody = RequestError(f"the Ray cluster at '{address}' has no machine that could work")
    if not asked:
        raise nobody
    died = (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError)
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=_PROBE_SECONDS)
    for one in done:
        node = asked[one]
        try:
            differs = _difference(here, ray.get(one))
        except died:  # of which the cluster did not know yet
            del asked[one]
            continue
        except ray.exceptions.RayError as error:
            raise RequestError(f"the machine {_name(node)} of the Ray cluster does no work: {_short(error)}") from error
        if differs:
            raise RequestError(f"the machine {_name(node)} of the Ray cluster {differs}")
    if not asked:
        raise nobody
    if late:
        names = ", ".join(_name(asked[one]) for one in late)
        raise RequestError(f"of the Ray cluster at '{address}', {names} did not answer in {_PROBE_SECONDS:.0f} s")


def _difference(here: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    for name, mine in here.items():
        other = there.get(name)
        if other != mine:
            state = "has no" if other in (None, "not installed") else f"has {other} of"
            return f"{state} {name}, but this process has {mine}; results would be mixed: install the same everywhere"
    return None


def _check_room(ray: Any, address: str, cpus: float, gpus: float) -> None:
    if not _slots(ray, cpus, gpus):
        needs = f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        raise RequestError(f"no machine of the Ray cluster at '{address}' has {needs}, which a unit takes")


def _slots(ray: Any, cpus: float, gpus: float) -> int:
    """How many units the cluster can do at once."""
    total = 0
    for node in ray.nodes():
        has = node["Resources"]
        if node["Alive"]:
            rooms = [has.get("CPU", 0) / cpus] + ([has.get("GPU", 0) / gpus] if gpus else [])
            total += int(min(rooms))
    return total


def _name(node: Mapping[str, Any]) -> str:
    return f"{node.get('NodeManagerHostname') or node['NodeManagerAddress']}:{node.get('NodeManagerPort', '')}"


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]
