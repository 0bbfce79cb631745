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
    chains: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="What 'preimage sample -o FOLDER' wrote, to show as strips and as a film."),
    ] = None,
    training: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="What the prior was trained on: the nearest stand beside the samples."),
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The like that it was not trained on, to judge by.")
    ] = None,
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
        chains=chains or [],
        training=training,
        held_out=held_out,
    )
    if as_json:
        print_json(made.as_dict())
    else:
        walked = sum(one.count for one in made.chains)
        chained = f", {walked} chain{'s' if walked > 1 else ''}" if walked else ""
        print(f"{made.pictures} pictures{chained}: {made.page}")
    leave_if(made.interrupted)
