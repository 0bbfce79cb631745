"""evaluate: how good are these explanations, on these photos?"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
from tqdm import tqdm

from preimage.canvas import pair
from preimage.errors import RequestError
from preimage.evaluation.asked import Asked, drawn, questions
from preimage.evaluation.classes import match_classes
from preimage.evaluation.data import Data, open_data
from preimage.evaluation.evaluation import Evaluation, TableFormat, check_format
from preimage.evaluation.measure import Measure, Raw
from preimage.evaluation.planning import (
    Answers,
    Methods,
    arranged,
    check_data,
    check_target,
    check_top,
    kind_of,
    named_measures,
    named_methods,
)
from preimage.evaluation.rows import Block, Case, Rows, constant_columns
from preimage.evaluation.summary import Summary, summarised
from preimage.evaluation.view import Fit
from preimage.evaluation.work import Unit, Work
from preimage.explain.method import Method
from preimage.jobs import JobFolder, check_workers, fingerprint, finished, gpus_on
from preimage.network import Network
from preimage.network.lazy import LazyNetwork
from preimage.network.weight_digest import weights_of
from preimage.result import file_stem

BATCH = 8
"""Pictures that are explained together, and are lost together when the process is killed."""


def evaluate(
    network: Network | str,
    data: Data | str,
    measures: str | Measure | Sequence[str | Measure],
    methods: Methods = "mask",
    *,
    out: str | Path | None = None,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "squash",
    target: str = "label",
    classes: Mapping[str, str | int] | None = None,
    limit: int | None = None,
    skip_faulty: bool = False,
    seed: int = 0,
    workers: int = 1,
    ray: str | None = None,
    batch_size: int = BATCH,
    device: str | None = None,
    table: TableFormat = "csv",
    retry_failed: bool = False,
    progress: bool | None = None,
) -> Evaluation:
    """Measure explanations of a network's answers to the photos of a data set (paper 4, section 5; SPEC M17 to M21).

    network: opened, or a string for `preimage.load`, which is what several workers need.
    data: a data set, or a string `KIND:PATH`, see `preimage.evaluation.data.open_data`.
    measures: names from `preimage.measures()`, or measures with settings of their own.
    methods: names from `preimage.methods()`, or methods with settings of their own; a mapping gives the names by which
        they are listed. The baselines `centre` and `random` are added.
    out: the job's folder. Killed or interrupted, the same call goes on where it was; methods may be added to those that
        are finished. None: nothing is kept.
    size: (height, width) or one side at which the network is shown the photos; default: its input size. Smaller photos
        are enlarged. fit: how they are brought to it, see `preimage.evaluation.view.Fit`.
    target: what is explained: "label", each class that the data set says is on the photo; "first", the network's first
        answer; "top:5", the sum over its five strongest, measured on each class of the data set (SPEC M3). Photos of no
        class are asked for the first answer.
    classes: which of the network's classes those of the data set are; default: by name, number or WordNet id.
    limit: so many photos, drawn by `seed` evenly over the classes. skip_faulty: leave photos out that have a fault,
        instead of refusing the data set.
    retry_failed: do units again in which something failed: photos that were repaired since, say.
    workers: processes. ray: the address of a Ray cluster that does the work instead (extra `preimage[ray]`), a batch on
        one CPU with one thread (and a GPU, where the network is on one); its machines see the photos by the same paths.
    table: the format of `results.csv` or `results.parquet` in `out`.

    Raises `RequestError` for what cannot be done as asked, before anything is explained: faults of the data set (all
    together, listed in `out`), measures that need more than it holds, the folder of another job, a cluster that does
    not answer.
    """
    check_workers(workers, ray)
    if isinstance(out, str) and "://" in out:
        raise RequestError(f"evaluate writes to a folder of this machine, or one that is mounted here, not to '{out}'")
    if batch_size < 1 or (limit is not None and limit < 1):
        raise RequestError(f"batch_size and limit are at least 1, not {batch_size} and {limit}")
    if not 0 <= seed < 2**62:
        raise RequestError(f"a seed is a whole number from 0 to 2^62 - 1, not {seed}")
    check_format(table)
    if not isinstance(network, (str, Network)):
        raise RequestError(
            f"evaluate takes a preimage.Network or a string, not {type(network).__name__}; wrap a module: "
            "pi.Network(module, input_size=..., mean=..., std=...)"
        )
    if not isinstance(data, (str, Data)):
        raise RequestError(f"data is KIND:PATH (folder:photos) or a Data, not {type(data).__name__}")
    by_name, chosen = named_methods(methods), named_measures(measures)
    check_target(target, chosen)
    if fit not in ("squash", "crop"):
        raise RequestError(f"photos are brought to the network's size by squash or crop, not '{fit}'")
    lazy = LazyNetwork(network, device)
    opened = lazy.opened()
    check_top(opened, target)
    found = open_data(data) if isinstance(data, str) else data
    check_data(found, chosen, skip_faulty=skip_faulty, out=out)
    sides = opened.input_size if size is None else pair("size", size)
    opened.check_size(sides)
    asked = _asked(opened, found, sides, fit, target, classes, limit, seed)
    pictures = arranged(asked, chosen, seed)
    settings: dict[str, Any] = {
        "verb": "evaluate",
        "network": network if isinstance(network, str) else repr(network),
        "weights": weights_of(opened),
        "data": found.describe(),
        "pictures": {kind: [len(some), fingerprint(repr(some))] for kind, some in pictures.items()},
        "measures": [one.describe() for one in chosen.values()],
        "methods": {name: one.describe() for name, one in by_name.items()},
        "size": list(sides),
        "fit": fit,
        "target": target,
        "limit": limit,
        "seed": seed,
        "batch_size": batch_size,
        "device": str(opened.device),
        "preimage": version("preimage"),
        "torch": torch.__version__,
    }
    by_kind: dict[str, dict[str, Measure]] = {kind: {} for kind in pictures}
    for name, measure in chosen.items():
        by_kind[kind_of(measure)][name] = measure
    work = Work(lazy, pictures, by_name, by_kind, sides, fit, target, seed, on_cluster=ray is not None)
    units = _units(work, batch_size)
    with ExitStack() as stack:
        folder = JobFolder(out if out is not None else stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(folder.opened(settings, may_change=("methods",)))
        interrupted = _run(folder, work, units, workers, ray, progress, retry_failed)
        made = _together(folder, work, units, settings, interrupted)
        if out is not None:
            for other in get_args(TableFormat):
                if other != table:  # of an earlier call, perhaps with other methods
                    (Path(out) / f"results.{other}").unlink(missing_ok=True)
            made.save(out, table)
    return made


def _asked(
    network: Network,
    data: Data,
    size: tuple[int, int],
    fit: Fit,
    target: str,
    classes: Mapping[str, str | int] | None,
    limit: int | None,
    seed: int,
) -> list[Asked]:
    examples = drawn(data, limit, seed)
    without = [one for one in examples if not one.labels]
    if target == "first":
        asked = questions(examples, None)
    else:
        asked = questions(examples, match_classes(network, data.labels, classes)) + questions(without, None)
    return Answers(network, size, fit).filled(asked)


def _units(work: Work, batch_size: int) -> dict[str, Unit]:
    """By the name of their file. All methods of a batch come one after the other, so that early results compare."""
    keys = {name: _key(name, one) for name, one in work.methods.items()}
    return {
        f"{kind}-{keys[name]}-{first:07}": Unit(kind, name, first, min(first + batch_size, len(some)))
        for kind, some in work.pictures.items()
        for first in range(0, len(some), batch_size)
        for name in work.methods
    }


def _key(name: str, method: Method) -> str:
    """What the files of a method's units are called, different for every name and setting."""
    is_plain = re.fullmatch(r"[a-z0-9-]{1,40}", name)
    return f"{name if is_plain else file_stem(name)[:40]}-" + (
        fingerprint(method.describe())[:8] if is_plain else fingerprint([name, method.describe()])
    )


def _run(
    folder: JobFolder,
    work: Work,
    units: Mapping[str, Unit],
    workers: int,
    ray: str | None,
    progress: bool | None,
    retry_failed: bool,
) -> bool:
    """Do what is not done yet; returns whether Ctrl-C ended it."""
    names = {unit: name for name, unit in units.items()}

    def is_done(name: str, unit: Unit) -> bool:
        return folder.has(name) and not (retry_failed and any(_failed(one) for one in _checked(folder, name, unit)))

    left = [unit for name, unit in units.items() if not is_done(name, unit)]
    total = sum(unit.last - unit.first for unit in units.values())
    before = total - sum(unit.last - unit.first for unit in left)
    with tqdm(
        total=total, initial=before, disable=None if progress is None else not progress, unit="map", leave=False
    ) as bar:
        try:
            gpus = gpus_on(work.network.opened().device)
            for unit, found in finished(work, left, workers, ray=ray, gpus=gpus):
                folder.write(names[unit], found)
                bar.update(unit.last - unit.first)
        except KeyboardInterrupt:
            return True
    return False


def _together(
    folder: JobFolder, work: Work, units: Mapping[str, Unit], settings: dict[str, Any], interrupted: bool
) -> Evaluation:
    """All that is finished, as rows and summaries; of what was found, only one method's is in memory at a time."""
    of_method: dict[tuple[str, str], list[tuple[str, Unit]]] = {}
    for name, unit in units.items():
        if folder.has(name):
            of_method.setdefault((unit.pictures, unit.method), []).append((name, unit))
    blocks: list[Block] = []
    summary: list[Summary] = []
    for kind, measures in work.measures.items():
        asked = work.pictures[kind]
        labels, photos = [one.label for one in asked], [str(one.example.path) for one in asked]
        by_measure: dict[str, list[Block]] = {name: [] for name in measures}
        for method in work.methods:
            cases = [one for name, unit in of_method.get((kind, method), ()) for one in _checked(folder, name, unit)]
            for name, measure in measures.items() if cases else ():
                raws: list[Raw | None] = [None] * len(asked)
                for one in cases:
                    found = one.get("found", {}).get(name)
                    raws[one["index"]] = found and {**found, "file": photos[one["index"]]}
                made = [
                    Case(one["index"], one.get("probability"), one["failed"] or one.get("unmeasured", {}).get(name))
                    for one in cases
                ]
                quantities = measure.quantities(raws, labels, int(settings["seed"]))
                constant = constant_columns(settings, method, name)
                by_measure[name].append(Block(asked, made, method, name, quantities, constant))
        for name, some in by_measure.items():
            blocks += some
            summary += summarised(name, {one.method: one.quantities for one in some}, labels, photos)
    return Evaluation(Rows(blocks), summary, settings, interrupted, sum(map(len, work.pictures.values())))


def _failed(case: Mapping[str, Any]) -> bool:
    return bool(case["failed"] or case.get("unmeasured"))


def _checked(folder: JobFolder, name: str, unit: Unit) -> list[dict[str, Any]]:
    found = folder.read(name)
    is_whole = isinstance(found, list) and all(isinstance(one, dict) and "failed" in one for one in found)
    if not is_whole or [one.get("index") for one in found] != list(range(unit.first, unit.last)):
        raise RequestError(
            f"'{folder.part(name)}' is damaged (not of these photos); delete it, and the same command makes it again"
        )
    return list(found)
