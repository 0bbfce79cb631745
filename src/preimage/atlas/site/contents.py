"""What the pages are told of an atlas, as plain JSON types: an index of all units, and the details of each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from preimage.atlas.plan import TapPlan
from preimage.atlas.reading import Batch, Unit
from preimage.report.making import KINDS
from preimage.result import number

FEEDS = 12
"""Of how many units that are made from it a unit's page tells."""


@dataclass
class Layer:
    """One layer while its batches come in.

    labels: what each of all its channels is called; None where they have no names. tuning: how its step size was found,
    as `preimage.atlas.reading.tunings` says. batches: each its number, how many units, and its sheets: of each the
    file, columns and rows, width and height of a picture. picture: height and width of the large ones. strongest: the
    highest score of all, and its picture.
    """

    plan: TapPlan
    labels: Sequence[str] | None
    tuning: Mapping[str, Any] | None
    batches: list[tuple[int, int, list[list[Any]]]] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    picture: tuple[int, int] | None = None
    strongest: tuple[float, Image.Image] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Its part of the index: a column of each thing, so that 10,000 units stay small."""
        channels = [one["channel"] for one in self.units]
        return {
            "name": self.plan.tap,
            "files": self.plan.key,
            "kind": self.plan.kind,
            "asked": self.plan.asked,
            "receptive_field": self.plan.receptive_field,
            "stride": self.plan.stride,
            "step_size": None if self.tuning is None else {name: self.tuning[name] for name in ("factor", "says")},
            "planned": self.plan.count,
            "picture": self.picture,
            "batches": self.batches,
            "channels": channels,
            "scores": [None if one["score"] is None else number(one["score"]) for one in self.units],
            "labels": None if self.labels is None else [self.labels[channel] for channel in channels],
            "failures": {i: one["failure"] for i, one in enumerate(self.units) if one["failure"] is not None},
        }


def details(batch: Batch) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the page of a unit shows besides the index: of the whole batch, and of each unit.

    Neighbours and what is made from a unit are not known before all batches are; they are empty lists here.
    """
    crop = None if batch.crops is None else list(batch.crops.shape[-2:])
    shared = {"settings": list(flattened(batch.settings)), "crop": crop}
    units = [
        {
            "objective": unit["objective"],
            "trace": [None if value is None else number(value) for value in unit["trace"]],
            "incoming": [[one["tap"], one["channel"], number(one["share"])] for one in unit["incoming"]],
            "neighbours": [],
            "feeds": [],
            "audit": None if unit["audit"] is None else _audit(unit["audit"], batch.tap),
            "examples": [
                {
                    "photo": one["photo"],
                    "size": list(one["photo_size"]),
                    "box": [number(side) for side in one["box"]],
                    "activation": number(one["activation"]),
                }
                for one in examples
            ],
        }
        for unit, examples in zip(batch.units, batch.examples, strict=True)
    ]
    return shared, units


def feeding(layers: Sequence[Layer]) -> dict[tuple[str, int], list[tuple[str, int, float]]]:
    """By unit, the units of the atlas that have it among the channels they are made from: (tap, channel, share), the
    largest share first."""
    found: dict[tuple[str, int], list[tuple[str, int, float]]] = {}
    for layer in layers:
        for unit in layer.units:
            for one in unit["incoming"]:
                made = (layer.plan.tap, unit["channel"], one["share"])
                found.setdefault((one["tap"], one["channel"]), []).append(made)
    return {source: sorted(made, key=lambda one: -abs(one[2]))[:FEEDS] for source, made in found.items()}


def flattened(document: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows of a name and a text: {"recipe": {"name": "tv"}} becomes ("recipe name", "tv")."""
    rows: list[tuple[str, str]] = []
    for name, value in document.items():
        said = f"{before}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            rows += flattened(value, f"{said} ")
        elif value is not None:
            rows.append((said, _written(value)))
    return rows


def _written(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_written(one) for one in value)
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {text}" for name, text in flattened(value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _audit(found: Mapping[str, Any], tap: str) -> dict[str, Any]:
    """What the page shows of an audit."""
    if "refused" in found:
        return {"refused": str(found["refused"]).rstrip(".")}
    says = [found["says"], *found["notes"]]
    return {
        "verdict": found["verdict"],
        "kind": KINDS[found["verdict"]],
        "cosine": float(found["cosine"] or 0.0),
        "strongest": [
            {"tap": found.get("tap", tap), "channel": one["channel"], "weight": number(one["weight"] or 0.0)}
            for one in found["strongest"][:6]
        ],
        "says": [one if one.endswith((".", "?")) else f"{one}." for one in says],
    }
