"""What an atlas's folder holds, batch by batch; everything that shows an atlas reads it through here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from preimage.atlas.parts import Array, damaged, unpacked, unsealed
from preimage.atlas.plan import BatchPlan, TapPlan, taps_of
from preimage.errors import RequestError
from preimage.jobs.folder import PARTS, SETTINGS
from preimage.jobs.storage import Storage, open_storage

VERB = "atlas"


class Incoming(TypedDict):
    """A channel that a unit is made from, with its share of what comes in; see `preimage.atlas.incoming`."""

    tap: str
    channel: int
    share: float


class Unit(TypedDict):
    """What is known of one unit besides its picture.

    objective: as one types it for `maximize`. score: of the finished picture, as it is. trace: at most 60 scores while
    optimising, evenly spaced, the last one included. failure: why there is no picture, in a sentence; score is then
    None, trace and incoming are empty, the picture is grey and the embedding zero.
    audit: what the picture is the answer to: {"verdict", "says", "cosine", "angle", "residual", "rank", "strongest":
    [{"channel", "weight"}...], "notes": [...]} as `preimage.recover.Audit` has them, or {"refused": why it cannot be
    told}; None where none was asked.
    """

    channel: int
    objective: str
    score: float | None
    trace: list[float | None]
    failure: str | None
    incoming: list[Incoming]
    audit: dict[str, Any] | None


class Example(TypedDict):
    """One of a unit's strongest photos.

    photo: the file, below the folder of photos. photo_size: its height and width in pixels. box: of what the unit sees
    of it (top, left, height, width), as shares of the photo, cut off at its border. activation: the highest of the
    channel in this photo, asked as the objective is: before a final ReLU.
    """

    photo: str
    photo_size: tuple[int, int]
    box: tuple[float, float, float, float]
    activation: float


@dataclass(frozen=True)
class Batch:
    """Units that were optimised together.

    tap: where. number: of the batch within its tap, from 0. images: uint8 [n, C, H, W]. embedding: float16 [n, d], what
    the network makes of each finished picture at its last tap with positions, averaged over them. units: one each.
    settings: of the run, the same for all units (recipe, size, step size, seed).
    examples: of each unit, the strongest first; empty lists where no photos were given, or are not looked at yet.
    crops: uint8 [n, k, C, h, w], what each unit's receptive field sees of each example (grey where fewer than k, and
    beyond the photo's border); None where there are none.
    """

    tap: str
    number: int
    images: Array
    embedding: Array
    units: list[Unit]
    settings: dict[str, Any]
    examples: list[list[Example]] = field(default_factory=list)
    crops: Array | None = None


def about(folder: str | Path) -> dict[str, Any]:
    """The settings of the atlas in a folder or at an fsspec URL: what `job.json` holds, see `preimage.atlas.plan`.

    Raises `RequestError` where there is no atlas.
    """
    return settings_in(open_storage(folder))


def settings_in(storage: Storage) -> dict[str, Any]:
    """`about` of an open storage."""
    try:
        found = json.loads(storage.read(SETTINGS))
    except FileNotFoundError as error:
        raise RequestError(f"there is no atlas in '{storage.where}'") from error
    except (OSError, ValueError) as error:
        raise RequestError(f"'{storage.path(SETTINGS)}' cannot be read: {error}") from error
    if not isinstance(found, dict) or found.get("verb") != VERB:
        raise RequestError(f"what is in '{storage.where}' is another job, not an atlas")
    return found


def units_of(folder: str | Path) -> Iterator[Batch]:
    """Every batch that is finished, tap by tap in the order of the plan, one in memory at a time.

    folder: local, or an fsspec URL. Raises `RequestError` where there is no atlas, or a part of it is damaged.
    """
    storage = open_storage(folder)
    taps = taps_of(settings_in(storage))
    names = storage.names(PARTS)
    for tap in taps:
        for batch in tap.batches:
            if batch.file in names:
                yield read_batch(storage, tap, batch, batch.examples_file in names)


def read_batch(storage: Storage, tap: TapPlan, batch: BatchPlan, has_examples: bool) -> Batch:
    """One batch that is finished; raises `RequestError` where it is damaged, or not what the plan says."""
    arrays, said = read_part(storage, batch.file)
    path = storage.path(f"{PARTS}/{batch.file}")
    n, channels = len(batch.channels), list(batch.channels)
    try:
        is_planned = said["tap"] == tap.tap and [one["channel"] for one in said["units"]] == channels
        is_planned &= arrays["channels"].tolist() == channels
        is_planned &= arrays["images"].ndim == 4 and len(arrays["images"]) == n == len(arrays["embedding"])
    except (KeyError, TypeError) as error:
        raise damaged(path, f"it lacks {error}") from error
    if not is_planned:
        raise damaged(path, "it holds other units than were planned")
    examples: list[list[Example]] = [[] for _ in channels]
    crops = None
    if has_examples:
        shown, told = read_part(storage, batch.examples_file)
        crops, examples = shown["crops"], told["examples"]
        if len(crops) != n or len(examples) != n:
            raise damaged(storage.path(f"{PARTS}/{batch.examples_file}"), "it holds other units than were planned")
    return Batch(
        tap.tap, batch.number, arrays["images"], arrays["embedding"], said["units"], said["settings"], examples, crops
    )


def read_part(storage: Storage, name: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """A finished safetensors part; raises `RequestError` where it cannot be read."""
    return unpacked(_content(storage, name), storage.path(f"{PARTS}/{name}"))


def read_document(storage: Storage, name: str) -> dict[str, Any]:
    """A finished JSON part; raises `RequestError` where it cannot be read."""
    return unsealed(_content(storage, name), storage.path(f"{PARTS}/{name}"))


def _content(storage: Storage, name: str) -> bytes:
    try:
        return storage.read(f"{PARTS}/{name}")
    except OSError as error:
        raise damaged(storage.path(f"{PARTS}/{name}"), str(error.strerror or error)) from error


def tunings(folder: str | Path) -> dict[str, dict[str, Any]]:
    """By tap, how its step size was found: {"factor", "says", "tried": [[unit, [[factor, score, steps, how it
    ended]...]]...], "incoming": the tap that its units are made from, or None}. Taps that are not begun are left out.
    """
    storage = open_storage(folder)
    names = storage.names(PARTS)
    return {
        tap.tap: read_document(storage, tap.tune_file)
        for tap in taps_of(settings_in(storage))
        if tap.tune_file in names
    }
