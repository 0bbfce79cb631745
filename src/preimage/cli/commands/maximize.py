"""`preimage maximize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import preimage
from preimage.cli.commands.options import Colours, Device, Json, Model, Out, RecipeName, Seed, Steps
from preimage.cli.commands.printing import leave_if, print_json
from preimage.images import writable_folder


def maximize(
    model: Model,
    objectives: Annotated[
        list[str],
        typer.Argument(
            metavar="OBJECTIVE...",
            help="TAP:CHANNEL, TAP:FIRST-LAST, TAP:*, TAP:CHANNEL@Y,X, class:NAME, class:NUMBER, prob:..., logprob:...",
        ),
    ],
    out: Out,
    recipe: RecipeName = None,
    steps: Steps = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="PX", help="Side of the pictures in pixels, or 'receptive-field': what the units see."),
    ] = None,
    window: Annotated[
        int | None, typer.Option(min=1, metavar="PX", help="What the network sees at once, in recipes that move it.")
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(metavar="auto", help="'auto': find the step size that leads highest.")
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Pull pixels towards grey in each step; 0.01 for VGG.")
    ] = None,
    start: Annotated[Path | None, typer.Option(metavar="IMAGE", help="Image to start from. Default: noise.")] = None,
    seed: Seed = 0,
    device: Device = None,
    colours: Colours = None,
    as_json: Json = False,
) -> None:
    """Make an image for each objective that the network answers as strongly as can be."""
    writable_folder(out)  # better now than after minutes of work
    network = preimage.load(model, device=device)
    result = preimage.maximize(
        network,
        objectives,
        recipe=recipe,
        steps=steps,
        size=int(size) if size is not None and size.isdecimal() else size,  # type: ignore[arg-type]
        window=window,
        optimizer=optimizer,  # type: ignore[arg-type]
        weight_decay=weight_decay,
        start=start,
        seed=seed,
        colours=colours,
    )
    result.settings["model"] = model
    folder = result.save(out)
    if as_json:
        print_json(result.as_dict())
    else:
        for search in result.settings.get("step_sizes", ()):
            print(search["says"])
        width = max(map(len, result.objectives))
        for said, score, name in zip(result.objectives, result.scores, result.file_names(), strict=True):
            print(f"{said.ljust(width)}  {float(score):10.4g}  {folder / name}")
    leave_if(result.interrupted)
