"""What an evaluation is to do, settled and checked before anything is computed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from preimage.errors import RequestError, WriteError
from preimage.evaluation.asked import Asked
from preimage.evaluation.baselines import BASELINES
from preimage.evaluation.data import Annotation, Data
from preimage.evaluation.measure import Measure, Needs
from preimage.evaluation.measures import find_measure
from preimage.evaluation.view import Fit
from preimage.explain.method import Method
from preimage.explain.methods import find_method
from preimage.explain.targets import TOP
from preimage.images import writable_folder, written_whole
from preimage.network import Network
from preimage.objectives import label

PHOTOS = "photos"
"""The pictures of all measures that do not arrange their own."""

Methods = str | Method | Sequence[str | Method] | Mapping[str, str | Method]


def named_methods(asked: Methods) -> dict[str, Method]:
    """Methods by the name under which they are listed, the baselines behind them.

    Raises `RequestError` for none, for one that does not exist, and for two of one name.
    """
    known = {one.name: one for one in BASELINES}

    def find(one: str | Method) -> Method:
        return known[one] if isinstance(one, str) and one in known else find_method(one)

    if isinstance(asked, Mapping):
        out = {name: find(one) for name, one in asked.items()}
    else:
        given: list[Any] = [asked] if isinstance(asked, (str, Method)) else list(asked)
        given = [one for i, one in enumerate(given) if one not in given[:i]]
        names = [one if isinstance(one, str) else getattr(one, "name", "") for one in given]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise RequestError(f"there are two methods called {', '.join(twice)}; name them: methods={{name: method}}")
        out = {name: find(one) for name, one in zip(names, given, strict=True)}
    if not out:
        raise RequestError("an evaluation takes at least one method")
    for name, one in known.items():
        if out.setdefault(name, one) != one:
            raise RequestError(f"'{name}' is what heat maps that know nothing are called; call the method otherwise")
    return out


def named_measures(asked: str | Measure | Iterable[str | Measure]) -> dict[str, Measure]:
    """Measures by name. Raises `RequestError` for none, or for one that does not exist."""
    given = [asked] if isinstance(asked, (str, Measure)) else list(asked)
    if not given:
        raise RequestError("an evaluation takes at least one measure")
    found = list(dict.fromkeys(map(find_measure, given)))
    names = [one.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestError(
            f"there are two measures called {', '.join(twice)}; take them in turn, each in its own folder"
        )
    return dict(zip(names, found, strict=True))


def check_target(target: str, measures: Mapping[str, Measure]) -> None:
    """Raises `RequestError` for another than label, first and top:K, or for one that a measure cannot do with."""
    is_top = target.startswith(TOP) and target[len(TOP) :].isdecimal() and int(target[len(TOP) :]) > 0
    if target not in ("label", "first") and not is_top:
        raise RequestError(f"a target is label, first or top:K (top:5), not '{target}'")
    with_annotations = [one.name for one in measures.values() if one.needs != "photos"]
    if target == "first" and with_annotations:
        raise RequestError(
            f"{', '.join(with_annotations)} asks where the objects of a class are: for that the target is label "
            "(or top:K), not the network's first answer"
        )


def check_top(network: Network, target: str) -> None:
    """Raises `RequestError` for top:K with more classes than the network has."""
    classes = network.tap(network.logits).channels
    if target.startswith(TOP) and int(target[len(TOP) :]) > classes:
        raise RequestError(f"a target top:K sums up 1 to {classes} classes of {network.name}, not {target}")


def check_data(data: Data, measures: Mapping[str, Measure], *, skip_faulty: bool, out: str | Path | None) -> None:
    """Raises `RequestError` for a data set with faults, all of them counted, and for one that lacks what is needed."""
    if not data.faults and out is not None and Path(out).is_dir():
        (Path(out) / "faults.csv").unlink(missing_ok=True)  # of an earlier call
    if data.faults and out is not None:
        _write_faults(data, writable_folder(out) / "faults.csv")
    if data.faults and not skip_faulty:
        count = len(data.faults)
        listed = f"; all are listed in '{Path(out) / 'faults.csv'}'" if out is not None else ""
        shown = "; ".join([*(str(one) for one in data.faults[:3]), *(["..."] if count > 3 else [])])
        raise RequestError(
            f"'{data.source}' has {count} fault{'s' * (count > 1)}: {shown}{listed}. "
            "skip_faulty=True (--skip-faulty) leaves these photos out"
        )
    if not data.examples:
        raise RequestError(f"'{data.source}' holds no photo that can be used")
    for measure in measures.values():
        every = (one for example in data.examples for one in example.annotations)
        if measure.needs != "photos" and not any(_has(one, measure.needs) for one in every):
            needs = "boxes or regions" if measure.needs == "regions" else measure.needs
            hint = "; these are in coco:, voc:, imagenet: and csv:" if data.source.startswith("folder:") else ""
            raise RequestError(f"{measure.name} needs {needs}, and '{data.source}' has none{hint}")


def _write_faults(data: Data, to: Path) -> None:
    rows = [("path", "fault"), *((str(one.path), one.says) for one in data.faults)]
    try:
        with (
            written_whole(to) as file,
            file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
        ):
            csv.writer(stream).writerows(rows)
    except OSError as error:
        raise WriteError(f"cannot write '{to}': {error.strerror or error}") from error


def _has(one: Annotation, what: Needs) -> bool:
    found = {"photos": True, "boxes": one.box, "regions": one.region or one.box, "points": one.points}[what]
    return bool(found)


@dataclass(frozen=True)
class Answers:
    """Finds out what a network answers first, for pictures that are not asked about a class."""

    network: Network
    size: tuple[int, int]
    fit: Fit

    def filled(self, asked: Sequence[Asked]) -> list[Asked]:
        """With the first answer where there was no class; what cannot be read stays as it is, to be counted later."""
        with self.network.held():
            return [one if one.index >= 0 else self._first(one) for one in asked]

    @torch.no_grad()
    def _first(self, one: Asked) -> Asked:
        try:
            picture = one.picture(self.size, self.fit, self.network.channels)
        except RequestError:
            return one
        index = int(self.network.class_scores(picture[None])[0].argmax())
        names = self.network.labels
        return replace(one, index=index, label=names[index] if names and index < len(names) else str(index))


def arranged(asked: Sequence[Asked], measures: Mapping[str, Measure], seed: int) -> dict[str, list[Asked]]:
    """The pictures of all measures, by kind: the photos themselves, and what measures make of them, by their name."""
    out = {kind_of(one): one.arrange(asked, seed) for one in measures.values()}
    if not any(out.values()):
        raise RequestError("there is no photo of a class that the network knows")
    return out


def kind_of(measure: Measure) -> str:
    """The kind of pictures that a measure is for."""
    return PHOTOS if type(measure).arrange is Measure.arrange else measure.name


def explained_as(one: Asked, target: str) -> Any:
    """What is explained of a picture."""
    return label(one.index) if target in ("label", "first") else target
