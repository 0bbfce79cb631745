"""The one loop that trains priors of all kinds: steps, curves, previews, checkpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from preimage.errors import RequestError, WriteError
from preimage.images import writable_folder, written_whole
from preimage.jobs import JobFolder
from preimage.training.checkpoints import read_checkpoint, write_checkpoint
from preimage.training.curves import Curves
from preimage.training.divergence import Watch, check_weights
from preimage.training.previews import write_preview
from preimage.training.processes import Processes
from preimage.training.randomness import batch_at

BETA = 0.999
CHECKPOINT, CURVES, PREVIEWS, RECORD = "checkpoint.pt", "losses.csv", "previews", "training.json"


@dataclass(frozen=True)
class Schedule:
    """How long and how fast (paper 3, S9.1; SPEC P26: Adam, betas 0.9 and 0.999).

    steps: batches that are shown. batch: photos in each. rate: of learning, at first. halvings: how often it is halved,
    after equal numbers of steps. decay: L2 regularisation, added to the gradient as Caffe does. seed: of all
    randomness. momentum: Adam's first beta.

    Raises `RequestError` for values out of range.
    """

    steps: int = 10_000
    batch: int = 64
    rate: float = 2e-4
    halvings: int = 3
    decay: float = 4e-4
    seed: int = 0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.halvings < 0:
            raise RequestError("steps and batch are 1 or more, halvings 0 or more")
        if not (0 < self.rate < float("inf") and 0 <= self.decay < float("inf")):
            raise RequestError("rate is above zero, and decay not below")
        if not 0 <= self.momentum < 1:
            raise RequestError(f"momentum is 0 or more and below 1, not {self.momentum:g}")

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.rate * 0.5 ** (step * (self.halvings + 1) // self.steps)


@dataclass
class Step:
    """What one step found: losses by name, averaged over the batch, and which parts are to be updated by the gradients
    that they have now."""

    losses: dict[str, float]
    learns: Sequence[str]


class Task(Protocol):
    """What is trained, and how one step's gradients come about."""

    found: dict[str, float]
    """Numbers that were measured on the way, such as weights of losses; they are kept in checkpoints."""

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """What learns, each with an optimiser of its own."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of all losses."""

    def step(self, number: int, indices: Tensor) -> Step:
        """Gradients and losses of these photos. indices: of the whole batch, also if several processes share it."""

    def preview(self) -> list[Tensor]:
        """Rows of images [n, C, size, size] to look at; none if there is nothing to see."""


@dataclass
class Progress:
    """How far training came.

    step: batches that were shown. losses: of the last step. interrupted: by Ctrl-C; then everything is as the last
    checkpoint has it. seconds: since it began or went on.
    """

    step: int
    losses: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False
    seconds: float = 0.0


def train(
    task: Task,
    count: int,
    folder: str | Path,
    schedule: Schedule,
    settings: Mapping[str, Any],
    *,
    resume: bool = False,
    minutes: float | None = None,
    checkpoint_every: int = 200,
    preview_every: int = 500,
    processes: Processes | None = None,
) -> Progress:
    """Train `task` on `count` photos until the schedule is through.

    folder: gets `losses.csv` with the exact losses of every step, `previews/` and `checkpoint.pt`. settings: all else
    that determines the result, plain JSON types. resume: go on from the checkpoint if there is one; where and when
    training was stopped then changes nothing in the result, bit for bit on the CPU. minutes: stop after that time, with
    a checkpoint.

    Raises `RequestError` where the folder cannot be used, `DivergedError` when training diverges and `WriteError` when
    the disk is full; the last checkpoint is kept in every case.
    """
    processes = processes or Processes()
    if checkpoint_every < 1 or preview_every < 1:
        raise RequestError("checkpoints and previews come every 1, 2, 3 ... steps")
    processes.check(schedule.batch)
    everything = {**settings, **asdict(schedule)}
    if not processes.is_first:
        return _trained(task, count, Path(folder), schedule, resume, minutes, checkpoint_every, None, processes)
    path = writable_folder(folder)
    if (path / CHECKPOINT).exists() and not resume:
        raise RequestError(f"'{path}' holds a training already; --resume goes on with it, or write to another folder")
    with JobFolder(path).opened(everything):
        writable_folder(path / PREVIEWS)
        return _trained(task, count, path, schedule, resume, minutes, checkpoint_every, preview_every, processes)


def _trained(
    task: Task,
    count: int,
    folder: Path,
    schedule: Schedule,
    resume: bool,
    minutes: float | None,
    checkpoint_every: int,
    preview_every: int | None,
    processes: Processes,
) -> Progress:
    """preview_every: None in the processes that write nothing."""
    optimizers = {
        name: torch.optim.Adam(part.parameters(), schedule.rate, (schedule.momentum, BETA), weight_decay=schedule.decay)
        for name, part in task.parts.items()
    }
    watch, began = Watch(), time.monotonic()
    progress = Progress(0)
    path = folder / CHECKPOINT
    if resume and path.exists():
        progress.step, watch.first = _restored(path, task, optimizers)
    # Nobody may write a checkpoint before all have read it.
    processes.wait()

    def keep() -> None:
        check_weights(progress.step, task.parts.values())
        if processes.is_first:
            write_checkpoint(path, _state(progress.step, watch.first, task, optimizers))

    for part in task.parts.values():
        part.train()
    curves = Curves(folder / CURVES, ["step", "rate", *task.columns], progress.step) if processes.is_first else None
    bar = tqdm(
        total=schedule.steps, initial=progress.step, disable=None if processes.is_first else True, desc="training"
    )
    try:
        while progress.step < schedule.steps:
            number = progress.step
            rate = schedule.rate_at(number)
            done = task.step(number, batch_at(number, count, schedule.batch, schedule.seed))
            watch.check(number, done.losses)
            processes.average_gradients(task.parts[name] for name in done.learns)
            for name in done.learns:
                for group in optimizers[name].param_groups:
                    group["lr"] = rate
                optimizers[name].step()
            progress.losses, progress.step = done.losses, number + 1
            if curves is not None:
                curves.write(number, {"rate": rate, **done.losses})
            bar.update()
            if progress.step % 10 == 0:
                bar.set_postfix({name: f"{value:.3g}" for name, value in done.losses.items()}, refresh=False)
            if preview_every is not None and progress.step % preview_every == 0 and (rows := task.preview()):
                write_preview(folder / PREVIEWS / f"{progress.step:07d}.png", rows)
            late = minutes is not None and _any(time.monotonic() - began > 60 * minutes, processes)
            if progress.step % checkpoint_every == 0 or progress.step == schedule.steps or late:
                if curves is not None:
                    curves.flush()  # first, so that there is no checkpoint without the rows that lead to it
                keep()
            if late:
                break
    except KeyboardInterrupt:
        # A step may be half done: what counts is the checkpoint.
        progress.interrupted, progress.step = True, 0
        if path.exists():
            progress.step, watch.first = _restored(path, task, optimizers)
    finally:
        bar.close()
        if curves is not None:
            curves.close()
        for part in task.parts.values():
            part.eval()
    progress.seconds = time.monotonic() - began
    return progress


def write_record(
    folder: str | Path,
    settings: Mapping[str, Any],
    schedule: Schedule,
    task: Task,
    progress: Progress,
    processes: Processes,
) -> None:
    """Write `training.json`: what was asked, what was found on the way (weights of losses), and how far it came."""
    if not processes.is_first:
        return
    document = {
        **settings,
        "schedule": asdict(schedule),
        "found": task.found,
        "progress": asdict(progress),
        "processes": processes.count,
        "torch": torch.__version__,
    }
    path = Path(folder) / RECORD
    try:
        with written_whole(path) as file:
            file.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise WriteError(f"cannot write '{path}': {error.strerror or error}") from error


def _state(
    step: int, first: dict[str, float], task: Task, optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Any]:
    return {
        "step": step,
        "first": first,
        "found": task.found,
        "parts": {name: part.state_dict() for name, part in task.parts.items()},
        "optimizers": {name: one.state_dict() for name, one in optimizers.items()},
    }


def _restored(path: Path, task: Task, optimizers: Mapping[str, torch.optim.Optimizer]) -> tuple[int, dict[str, float]]:
    """Put a checkpoint's state into the task and its optimisers; the step, and the first losses."""
    state = read_checkpoint(path)
    try:
        for name, part in task.parts.items():
            part.load_state_dict(state["parts"][name])
            optimizers[name].load_state_dict(state["optimizers"][name])
        task.found.clear()
        task.found.update(state["found"])
        return int(state["step"]), dict(state["first"])
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise RequestError(
            f"the checkpoint '{path}' does not belong to this training ({type(error).__name__}); delete it to train "
            "from the beginning"
        ) from error


def _any(this: bool, processes: Processes) -> bool:
    """Whether it holds in any process; they have to stop together."""
    return processes.average({"": float(this)})[""] > 0
