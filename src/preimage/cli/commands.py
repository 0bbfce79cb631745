"""The commands: each parses, calls a verb and prints what was made."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import preimage
from preimage.images import writable_folder
from preimage.report import write_report

app = typer.Typer(
    help="Shows what a trained vision network has learned and why it decided as it did.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="'bundled', 'FILE.py:FACTORY', 'torchvision:NAME' or 'timm:NAME'."),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write to; made if needed.")]
Device = Annotated[str | None, typer.Option(help="Where to compute, e.g. 'cuda'. Default: the CPU.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Optimisation steps. Default: the recipe's.")]
Seed = Annotated[int, typer.Option(help="Of all randomness: same seed, same machine, same pictures.")]
RecipeName = Annotated[str | None, typer.Option("--recipe", help="A published setting; 'preimage recipes' lists them.")]
Colours = Annotated[
    Path | None,
    typer.Option(help="Folder of images whose colours to use, for networks not trained on photographs."),
]


@app.command()
def taps(model: Model, as_json: Json = False) -> None:
    """List every place of a network that can be asked."""
    network = preimage.load(model)
    table = network.taps()
    if as_json:
        _print_json([tap.as_dict() for tap in table])
    else:
        print(f"{network!r}: {len(table)} taps")
        print(table)


@app.command()
def recipes(
    as_json: Json = False,
    verb: Annotated[str, typer.Option("--for", metavar="VERB", help="'maximize' or 'invert'.")] = "maximize",
) -> None:
    """List the published settings that --recipe takes."""
    table = preimage.recipes(verb)  # type: ignore[arg-type]
    if as_json:
        _print_json([recipe.describe() for recipe in table.values()])
    else:
        print(table)


@app.command()
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
        _print_json(result.as_dict())
    else:
        for search in result.settings.get("step_sizes", ()):
            print(search["says"])
        width = max(map(len, result.objectives))
        for said, score, name in zip(result.objectives, result.scores, result.file_names(), strict=True):
            print(f"{said.ljust(width)}  {float(score):10.4g}  {folder / name}")
    _leave_if(result.interrupted)


@app.command()
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
        _print_json(result.as_dict())
    else:
        width = max(map(len, result.objectives))
        for i, (said, name) in enumerate(zip(result.objectives, result.file_names(), strict=True)):
            errors = f"feature error {float(result.feature_errors[i]):.4f}, pixel error {result.pixel_errors[i]:.3f}"
            print(f"{said.ljust(width)}  {errors}  {folder / name}")
        for one in seen:
            print(one)
    _leave_if(result.interrupted)


@app.command()
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
        recipe=recipe,
        steps=steps,
        seed=seed,
        colours=colours,
        model=model,
    )
    if as_json:
        _print_json(made.as_dict())
    else:
        print(f"{made.pictures} pictures: {made.page}")
    _leave_if(made.interrupted)


def _print_json(document: Any) -> None:
    json.dump(document, sys.stdout, indent=1)
    print()


def _leave_if(interrupted: bool) -> None:
    if interrupted:
        print("preimage: interrupted; what was finished is written", file=sys.stderr)
        raise typer.Exit(1)
