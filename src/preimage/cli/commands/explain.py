"""`preimage explain`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import preimage
from preimage.cli.commands.options import Device, Json, Model, Out, Seed
from preimage.cli.commands.printing import leave_if, print_json
from preimage.explain.explaining import BATCH, LEAST_PROBABILITY
from preimage.explain.sheet import answers
from preimage.images import writable_folder

_ALL = "all"


def explain(
    model: Model,
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photographs, explained in batches.")],
    out: Out,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="C",
            help="What to explain: a name, a number, 'top:5' (the sum of the five strongest) or any objective; may be "
            "given several times. Default: each photo's strongest class.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="M",
            help="'preimage methods' lists them; may be given several times; 'all' is all of them. Default: mask.",
        ),
    ] = None,
    perturbation: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="What masks put in the place of what they remove: 'blur', 'constant', 'noise', an image file; or a "
            "prior ('cifar10', or a file of train-prior), which fills it in. Default: blur.",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, metavar="PX", help="Side at which the network is shown the photos.")
    ] = None,
    enlarge: Annotated[bool, typer.Option("--enlarge", help="Take photos that are smaller than that.")] = False,
    faint: Annotated[
        bool, typer.Option("--faint", help="Explain classes to which the network gives next to no probability.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Photos that go through together.")] = BATCH,
    seed: Seed = 0,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Show which parts of the photos made the network answer as it did."""
    writable_folder(out)  # better now than after minutes of work
    network = preimage.load(model, device=device)
    result = preimage.explain(
        network,
        list(photos),
        [_objective(one, network) for one in classes] if classes else None,
        method=_methods(method or ["mask"]),
        perturbation=perturbation,
        size=size,
        enlarge=enlarge,
        least_probability=0.0 if faint else LEAST_PROBABILITY,
        seed=seed,
        batch_size=batch_size,
    )
    result.settings["model"] = model
    folder = result.save(out)
    if as_json:
        print_json(result.as_dict())
    else:
        columns = [(one.name, one.objective, one.method, answers(one)) for one in result]
        widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
        for said, files in zip(columns, result.files(), strict=True):
            row = "  ".join(text.ljust(width) for text, width in zip(said, widths, strict=True))
            print(f"{row}  {folder / files['file']}")
    for one in result:
        for note in one.notes:
            print(f"preimage: {one.name}, {one.objective}, {one.method}: {note}", file=sys.stderr)
    for name, why in result.settings.get("refused", {}).items():
        print(f"preimage: {name}: {why}", file=sys.stderr)
    leave_if(result.interrupted)


def _objective(asked: str, network: preimage.Network) -> str:
    """A class's name may have a colon in it; anything else with one is an objective."""
    is_class = ":" not in asked or asked in (network.labels or ())
    return f"class:{asked}" if is_class else asked


def _methods(asked: list[str]) -> list[str]:
    """Each once, in the order in which they were asked."""
    return list(dict.fromkeys(name for one in asked for name in (preimage.methods() if one == _ALL else [one])))
