"""`preimage atlas`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from preimage.atlas.building import EXAMPLES
from preimage.atlas.building import atlas as make_atlas
from preimage.atlas.plan import MEMORY
from preimage.atlas.status import status as status_of
from preimage.atlas.verifying import verify as verified
from preimage.cli.commands.options import Device, Json, Ray, RecipeName, Seed, Steps, Workers
from preimage.cli.commands.printing import leave_if, print_json
from preimage.errors import RequestError

_MEGABYTE = 2**20


def atlas(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="'bundled', 'cifar10', 'FILE.py:FACTORY', 'torchvision:NAME' or 'timm:NAME'."
        ),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="TAP", help="'TAP', or 'TAP:FIRST-LAST' for some channels; may be given several times."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--all", help="The whole network: every tap that has units of its own.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder to write to, or a URL that fsspec knows (s3://...)."),
    ] = None,
    recipe: RecipeName = None,
    steps: Steps = None,
    size: Annotated[
        int | None, typer.Option(min=1, metavar="PX", help="Side of all pictures. Default: what the units see.")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Photos, of which each unit's strongest are shown.")
    ] = None,
    examples: Annotated[int, typer.Option(min=1, metavar="N", help="So many photos of each unit.")] = EXAMPLES,
    audit: Annotated[bool, typer.Option("--audit", help="Tell what each picture is the answer to (paper 1).")] = False,
    tune: Annotated[
        bool, typer.Option("--tune/--no-tune", help="Find each tap's step size first, or take the recipe's.")
    ] = True,
    memory: Annotated[int, typer.Option(min=1, metavar="MB", help="Memory that a batch may take.")] = MEMORY
    // _MEGABYTE,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Units in a batch, at most. Default: 16, more of small pictures."),
    ] = None,
    units: Annotated[int | None, typer.Option(min=1, metavar="N", help="So many units of each tap.")] = None,
    workers: Workers = 1,
    ray: Ray = None,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads of a process. Default: all cores, shared.")
    ] = None,
    status: Annotated[
        str | None, typer.Option("--status", metavar="DIR", help="Only tell how far the atlas in DIR is.")
    ] = None,
    verify: Annotated[
        str | None, typer.Option("--verify", metavar="DIR", help="Only read all of the atlas in DIR: is it whole?")
    ] = None,
    seed: Seed = 0,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Make a picture of every unit of whole layers. Stopped or killed, the same command goes on where it was."""
    if status is not None or verify is not None:
        _only(model, at, out, status, verify)
        _look(status, verify, as_json)
        return
    if model is None or out is None:
        raise RequestError("an atlas takes a MODEL and --out DIR (or --status DIR, or --verify DIR, alone)")
    if bool(at) == whole:
        raise RequestError("name taps with --at TAP, as often as there are, or ask for the whole network with --all")
    made = make_atlas(
        model,
        at or None,
        out,
        recipe=recipe,
        steps=steps,
        size=size,
        seed=seed,
        photos=photos,
        examples=examples,
        audit=audit,
        tune=tune,
        memory=memory * _MEGABYTE,
        batch_size=batch_size,
        units=units,
        workers=workers,
        ray=ray,
        threads=threads,
        device=device,
        say=lambda sentence: print(f"preimage: {sentence}", file=sys.stderr),
    )
    if as_json:
        print_json(made.as_dict())
    else:
        print(made)
        if made.site is not None:
            print(f"\nto wander through it: {made.site}")
    leave_if(made.interrupted)
    if made.made and len(made.failures) == made.made:
        print("preimage: there is no picture of any unit", file=sys.stderr)
        raise typer.Exit(1)


def _only(model: str | None, at: list[str] | None, out: str | None, status: str | None, verify: str | None) -> None:
    if model is not None or at or out is not None or (status is not None and verify is not None):
        raise RequestError("--status DIR and --verify DIR are asked alone, without MODEL, --at and --out")


def _look(status: str | None, verify: str | None, as_json: bool) -> None:
    if status is not None:
        found = status_of(status)
        print_json(found.as_dict()) if as_json else print(found)
        return
    assert verify is not None
    seen = verified(verify)
    print_json(seen.as_dict()) if as_json else print(seen)
    if not seen.whole:
        raise typer.Exit(1)
