"""`preimage evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import preimage
from preimage.cli.commands.options import Device, Json, Model, Out, Ray, Seed, Workers
from preimage.cli.commands.printing import leave_if, print_json
from preimage.evaluation.classes import read_mapping
from preimage.evaluation.evaluating import BATCH

_ALL = "all"


def evaluate(
    model: Model,
    data: Annotated[
        str,
        typer.Option(
            metavar="KIND:PATH",
            help="Photos and what is on them: folder:DIR, coco:PHOTOS,INSTANCES.json, voc:ROOT, "
            "imagenet:PHOTOS,ANNOTATIONS[,BLACKLIST], csv:FILE.",
        ),
    ],
    measure: Annotated[
        list[str], typer.Option(metavar="M", help="'preimage measures' lists them; may be given several times.")
    ],
    out: Out,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="M",
            help="'preimage methods' lists them; may be given several times; 'all' is all of them. Default: mask. "
            "The baselines centre and random are always added.",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, metavar="PX", help="Side at which the network is shown the photos.")
    ] = None,
    fit: Annotated[
        str, typer.Option(metavar="FIT", help="'squash': the whole photo is resampled; 'crop': its centre.")
    ] = "squash",
    target: Annotated[
        str,
        typer.Option(
            metavar="T", help="What is explained: 'label', the data set's classes; 'first', the first answer; 'top:5'."
        ),
    ] = "label",
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CSV file label,class: which of the network's classes those of the data are."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="So many photos, drawn evenly over the classes.")
    ] = None,
    skip_faulty: Annotated[
        bool, typer.Option("--skip-faulty", help="Leave photos out that have a fault, instead of stopping.")
    ] = False,
    workers: Workers = 1,
    ray: Ray = None,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Photos that are explained together.")] = BATCH,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Do again what failed: photos that were repaired since, say.")
    ] = False,
    table: Annotated[str, typer.Option(metavar="FORMAT", help="Of the table: 'csv' or 'parquet'.")] = "csv",
    seed: Seed = 0,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure how good explanations are. Stopped or killed, the same command goes on where it was."""
    result = preimage.evaluate(
        model,
        data,
        measure,
        _each_once(method or ["mask"]),
        out=out,
        size=size,
        fit=_one_of("fit", fit, ("squash", "crop")),  # type: ignore[arg-type]
        target=target,
        classes=None if classes is None else read_mapping(classes),
        limit=limit,
        skip_faulty=skip_faulty,
        seed=seed,
        workers=workers,
        ray=ray,
        batch_size=batch_size,
        retry_failed=retry_failed,
        device=device,
        table=_one_of("table", table, ("csv", "parquet")),  # type: ignore[arg-type]
    )
    if as_json:
        print_json(result.as_dict())
    else:
        print(result)
        print(f"\nevery number: {out / f'results.{table}'}")
    for why, count in result.failures.items():
        print(f"preimage: {count} left out: {why}", file=sys.stderr)
    leave_if(result.interrupted)
    if all(one.mean is None for one in result.summary):
        print("preimage: nothing could be measured", file=sys.stderr)
        raise typer.Exit(1)


def _each_once(asked: list[str]) -> list[str]:
    return list(dict.fromkeys(name for one in asked for name in (preimage.methods() if one == _ALL else [one])))


def _one_of(what: str, given: str, known: tuple[str, ...]) -> str:
    if given not in known:
        raise preimage.RequestError(f"--{what} is {' or '.join(known)}, not '{given}'")
    return given
