"""`preimage invert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

import preimage
from preimage.cli.commands.options import Colours, Device, Json, Model, Out, RecipeName, Seed, Steps
from preimage.cli.commands.printing import leave_if, print_json
from preimage.images import writable_folder


def invert(
    model: Model,
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photographs, made together in batches.")],
    at: Annotated[list[str], typer.Option(metavar="TAP", help="The layer to invert; may be given several times.")],
    out: Out,
    recipe: RecipeName = None,
    distance: Annotated[str, typer.Option(help="'l2' (squared), 'l2-root' or 'l1'.")] = "l2",
    before_relu: Annotated[
        bool, typer.Option("--before-relu", help="Compare what stands before the layer's final ReLU.")
    ] = False,
    check: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Another network: does it still see in the picture what the photo shows?"),
    ] = None,
    steps: Steps = None,
    size: Annotated[int | None, typer.Option(min=1, metavar="PX", help="Side of photo and picture.")] = None,
    start: Annotated[str, typer.Option(metavar="IMAGE", help="'noise', 'grey' or an image file.")] = "noise",
    seed: Seed = 0,
    device: Device = None,
    colours: Colours = None,
    as_json: Json = False,
) -> None:
    """Find pictures that a layer cannot tell from the photos: what it still knows of them."""
    writable_folder(out)
    network = preimage.load(model, device=device)
    judges = [preimage.load(one, device=device) for one in check or []]
    grey = torch.full((1, network.channels, *network.input_size), 0.5)
    for judge in judges:
        preimage.agreement(judge, grey, grey)  # better now than after minutes of work
    result = preimage.invert(
        network,
        list(photos),
        at,
        recipe=recipe,
        distance=distance,  # type: ignore[arg-type]
        after_relu=not before_relu,
        steps=steps,
        size=size,
        start=start,
        seed=seed,
        colours=colours,
    )
    result.settings["model"] = model
    folder = result.save(out)
    seen = [preimage.agreement(judge, result.images, result.photos) for judge in judges]
    if seen:
        result.settings["checks"] = [one.as_dict() for one in seen]
        result.save(out)
    if as_json:
        print_json(result.as_dict())
    else:
        width = max(map(len, result.objectives))
        for i, (said, name) in enumerate(zip(result.objectives, result.file_names(), strict=True)):
            errors = f"feature error {float(result.feature_errors[i]):.4f}, pixel error {result.pixel_errors[i]:.3f}"
            print(f"{said.ljust(width)}  {errors}  {folder / name}")
        for one in seen:
            print(one)
    leave_if(result.interrupted)
