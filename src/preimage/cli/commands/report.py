"""`preimage report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import preimage
from preimage.cli.commands.options import Colours, Device, Json, Model, Out, RecipeName, Seed, Steps
from preimage.cli.commands.printing import leave_if, print_json
from preimage.images import writable_folder
from preimage.report import write_report


def report(
    model: Model,
    out: Out,
    photos: Annotated[
        list[Path] | None, typer.Argument(metavar="[PHOTO]...", help="Photographs to show the network's answers to.")
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option(metavar="TAP", help="Layers to show. Default: six over all depths.")
    ] = None,
    units: Annotated[int, typer.Option(min=0, help="Units to show per layer.")] = 6,
    classes: Annotated[int, typer.Option(min=0, help="Classes to show, drawn at random by the seed.")] = 12,
    depths: Annotated[int, typer.Option(min=0, help="Layers whose knowledge of each photo to show.")] = 6,
    reasons: Annotated[
        int, typer.Option(min=0, max=5, help="Of each photo's strongest classes, for how many to show why.")
    ] = 5,
    recipe: RecipeName = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = None,
    colours: Colours = None,
    as_json: Json = False,
) -> None:
    """Write a folder with a page that shows what the network wants to see, unit by unit and class by class."""
    writable_folder(out)
    network = preimage.load(model, device=device)
    made = write_report(
        network,
        out,
        photos=photos or [],
        at=at,
        units=units,
        classes=classes,
        depths=depths,
        reasons=reasons,
        recipe=recipe,
        steps=steps,
        seed=seed,
        colours=colours,
        model=model,
    )
    if as_json:
        print_json(made.as_dict())
    else:
        print(f"{made.pictures} pictures: {made.page}")
    leave_if(made.interrupted)
