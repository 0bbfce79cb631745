"""atlas: every unit of whole layers, in a folder that survives whatever happens to the process."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from preimage.atlas.examples import Photos, merged
from preimage.atlas.making import Look, Make, Show, Task, Tune, Work, embedding_tap
from preimage.atlas.plan import MEMORY, TapPlan, bytes_on_disk, planned
from preimage.atlas.reading import VERB, read_document, read_part
from preimage.atlas.status import Atlas, Progress, photo_files, status_in
from preimage.errors import RequestError
from preimage.jobs import JobFolder, check_workers, finished, gpus_on
from preimage.network import Network
from preimage.network.lazy import LazyNetwork
from preimage.network.weight_digest import weights_of
from preimage.recipes import UNIT, Recipe, find_recipe

EXAMPLES = 9
"""Photos that are shown of each unit."""


def atlas(
    network: Network | str,
    at: str | Sequence[str] | None,
    out: str | Path,
    *,
    recipe: str | Recipe | None = None,
    steps: int | None = None,
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    photos: str | Path | None = None,
    examples: int = EXAMPLES,
    audit: bool = False,
    tune: bool = True,
    memory: int = MEMORY,
    batch_size: int | None = None,
    units: int | None = None,
    workers: int = 1,
    ray: str | None = None,
    threads: int | None = None,
    device: str | None = None,
    site: bool = True,
    say: Callable[[str], object] | None = None,
    progress: bool | None = None,
) -> Atlas:
    """Make a picture of every unit of whole layers, and a site to wander through them.

    network: opened, or a string for `preimage.load`, which is what several workers need.
    at: taps, any of them with some channels only (`layer3.2:0-31`); None: the whole network, where taps that hold the
        same units (a convolution and its normalisation) are taken once.
    out: the folder, a path or a URL that fsspec knows (`s3://bucket/atlas`). Killed or interrupted, the same call goes
        on where it was, and writes the same bytes as if nothing had happened.
    recipe, steps, seed: as in `maximize`; the default of units at one place is `unit`. Units whose receptive field is
        smaller than the network's input are made on a canvas of that field, as the unit at the centre of the map;
        others at the input's size, by the mean of their channel; those of the last layer by the logit of their class.
    size: another one, for all, and by the mean.
    tune: find the step size that leads highest, once per tap, by three of its units (paper 0, SPEC A8); see
        `preimage.atlas.tuning`.
    photos: a folder; of each unit the `examples` photos that it answers most strongly are shown.
    audit: tell of each picture what it is the answer to (paper 1); exact for recipes that smooth kinks (`plain`).
    memory: bytes that a batch may take; batch_size: units in it, at most (default: 16, and more of small
        pictures); units: so many of each tap, the first ones.
    workers: processes. ray: the address of a Ray cluster that does the work instead (extra `preimage[ray]`).
    threads: that a batch computes with; the last bits of a picture depend on it, so that an atlas is gone on with as
        many as it was begun with, whatever `workers` is. Default: all cores shared by the workers; on Ray one.
    site: write the pages when all is made. say: is told what there is to do, and how much space it will take.

    Returns how far it is. Ctrl-C ends it and keeps what is finished. A unit that cannot be made (a score that is not
    finite) is listed, and the rest goes on; so are photos that cannot be read.

    Raises `RequestError` for what cannot be done as asked, the folder of another job, and too little space;
    `WriteError` where the disk is full all the same.
    """
    if examples < 1:
        raise RequestError(f"examples is at least 1, not {examples}")
    if not 0 <= seed < 2**62:
        raise RequestError(f"a seed is a whole number from 0 to 2^62 - 1, not {seed}")
    if not isinstance(network, (str, Network)):
        raise RequestError(
            f"an atlas takes a preimage.Network or a string, not {type(network).__name__}; wrap a module: "
            "pi.Network(module, input_size=..., mean=..., std=...)"
        )
    if workers < 1 or (threads is not None and threads < 1):
        raise RequestError(f"workers and threads are at least 1, not {workers} and {threads}")
    check_workers(workers, ray)
    method = find_recipe(recipe)
    at_centre = UNIT if recipe is None else method
    method.stretched(steps)
    shown = None if photos is None else Photos.found(photos)
    lazy = LazyNetwork(network, device)
    opened = lazy.opened()
    taps = planned(opened, at, method, size=size, memory=memory, batch_size=batch_size, units=units)
    folder = JobFolder(out)
    settings = _settings(opened, network, taps, method, at_centre, steps, seed, audit, tune, shown, examples)
    settings["threads"] = _threads(folder, threads, workers, ray)
    work = Work(
        lazy,
        taps,
        method,
        at_centre,
        steps,
        seed,
        audit,
        tune,
        settings["embedding"],
        shown,
        examples,
        settings["threads"],
    )
    job = _Job(folder, work, workers, ray, progress)
    job.check_space(opened, say)
    with folder.opened(settings, may_change=("model", "photos_folder")):
        state = job.run()
        if state == "finished" and site:
            from preimage.atlas.site import write_site  # (which reads what is written here)

            write_site(out)
        return status_in(folder.storage, settings)


def _settings(
    opened: Network,
    network: Network | str,
    taps: Sequence[TapPlan],
    recipe: Recipe,
    at_centre: Recipe,
    steps: int | None,
    seed: int,
    audit: bool,
    tune: bool,
    photos: Photos | None,
    examples: int,
) -> dict[str, Any]:
    """All that determines the bytes, and (`model`, `photos_folder`, `labels`) what pages say."""
    try:
        logits = opened.logits
    except RequestError:
        logits = None
    seen = None
    if photos is not None:
        seen = {"count": len(photos.names), "digest": photos.digest, "each": examples}
    return {
        "verb": VERB,
        "network": repr(opened),
        "model": network if isinstance(network, str) else opened.name,
        "weights": weights_of(opened),
        "input_size": list(opened.input_size),
        "image_channels": opened.channels,
        "labels": None if opened.labels is None else list(opened.labels),
        "logits": logits,
        "embedding": embedding_tap(opened),
        "recipe": recipe.stretched(steps).describe(),
        "recipe_at_centre": at_centre.stretched(steps).describe(),
        "steps": recipe.stretched(steps).steps,
        "seed": seed,
        "audit": audit,
        "tune": tune,
        "photos": seen,
        "photos_folder": None if photos is None else photos.folder,
        "taps": [tap.as_dict() for tap in taps],
        "device": str(opened.device),
        "preimage": version("preimage"),
        "torch": torch.__version__,
    }


def _threads(folder: JobFolder, asked: int | None, workers: int, ray: str | None) -> int:
    before = folder.settings()
    known = before.get("threads") if before is not None else None
    if asked is not None:
        return asked
    if isinstance(known, int):
        return known
    if ray is not None:
        return 1
    return torch.get_num_threads() if workers == 1 else max(1, (os.cpu_count() or 1) // workers)


class _Job:
    """The work of one call: what is not there yet, in three rounds."""

    def __init__(self, folder: JobFolder, work: Work, workers: int, ray: str | None, progress: bool | None):
        self._folder, self._work, self._workers, self._ray = folder, work, workers, ray
        self._hidden = None if progress is None else not progress

    def check_space(self, network: Network, say: Callable[[str], object] | None) -> None:
        """Tell how much there is to do; raises `RequestError` where it will not fit on the disk."""
        work = self._work
        total = sum(tap.count for tap in work.taps)
        here = self._folder.files()
        done = sum(len(batch.channels) for tap in work.taps for batch in tap.batches if batch.file in here)
        features = network.tap(work.embedding).channels
        count = work.examples if work.photos is not None else 0
        needed = bytes_on_disk(network, work.taps, work.recipe, count, features) * (total - done) // total
        free = self._folder.storage.free()
        if say is not None:
            batches = sum(len(tap.batches) for tap in work.taps)
            rest = f", {done} of them made" if done else ""
            space = "" if free is None else f" of {_size(free)} that are free"
            say(f"{total} units in {batches} batches{rest}; about {_size(needed)}{space}")
        if free is not None and needed > free:
            raise RequestError(
                f"the atlas would take about {_size(needed)} in '{self._folder.where}', where {_size(free)} are free; "
                "make space, ask for fewer units or examples, or write elsewhere"
            )

    def run(self) -> str:
        """Do what is not done; returns how it ended. What Ctrl-C leaves is whole."""
        progress = Progress(self._folder.storage)
        state = "stopped"
        try:
            with ExitStack() as stack:
                if self._ray is not None:
                    from preimage.jobs.ray_workers import connected  # (of an extra)

                    stack.enter_context(connected(self._ray))
                self._rounds(progress)
            state = "finished"
        except KeyboardInterrupt:
            state = "interrupted"
        finally:
            progress.ended(state)
        return state

    def _rounds(self, progress: Progress) -> None:
        work, here = self._work, self._folder.files()
        total = sum(tap.count for tap in work.taps)
        done = sum(len(batch.channels) for tap in work.taps for batch in tap.batches if batch.file in here)
        with tqdm(total=total, initial=done, disable=self._hidden, unit="unit", leave=False, file=sys.stderr) as bar:

            def do(tasks: Iterable[Task], what: str) -> None:
                left = [task for task in tasks if task.file not in here]
                if not left:
                    return
                bar.set_description(what)
                gpus = gpus_on(work.network.opened().device)
                found = finished(work, left, self._workers, ray=self._ray, cpus=work.threads, gpus=gpus)
                for task, content in found:
                    self._folder.write_file(task.file, content)
                    progress.made(task.units)
                    bar.update(task.units)

            do(self._first(), "step sizes")
            do(self._batches(here), "units")
            if work.photos is not None:
                do(self._photos(here), "photos")

    def _first(self) -> list[Task]:
        tasks: list[Task] = [Tune(place, tap.tune_file) for place, tap in enumerate(self._work.taps)]
        if self._work.photos is not None:
            tasks += [Look(chunk, name) for chunk, name in enumerate(photo_files(len(self._work.photos.names)))]
        return tasks

    def _batches(self, here: set[str]) -> list[Task]:
        tasks: list[Task] = []
        for place, tap in enumerate(self._work.taps):
            left = [batch for batch in tap.batches if batch.file not in here]
            if left:
                tuned = read_document(self._folder.storage, tap.tune_file)
                tasks += [Make(place, batch, tuned["factor"], tuned["incoming"]) for batch in left]
        return tasks

    def _photos(self, here: set[str]) -> Iterable[Task]:
        """Whatever a chunk of photos says of a tap, brought together."""
        work = self._work
        assert work.photos is not None
        tasks: list[Task] = []
        waiting = [
            place for place, tap in enumerate(work.taps) if any(b.examples_file not in here for b in tap.batches)
        ]
        if not waiting:
            return tasks
        chunks = (read_part(self._folder.storage, name)[0] for name in photo_files(len(work.photos.names)))
        chosen = merged(chunks, {place: work.taps[place].count for place in waiting}, work.examples)
        for place in waiting:
            tap = work.taps[place]
            for batch in tap.batches:
                first = batch.channels.start - tap.channels[0]
                rows = chosen[place].rows(range(first, first + len(batch.channels)))
                tasks.append(Show(place, batch, rows))
        return tasks


def _size(count: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.3g} {unit}"
        count = math.ceil(count / 1000)
    return ""
