"""`preimage recover`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

import preimage
from preimage.cli.commands.options import Device, Json, Model, Out
from preimage.cli.commands.printing import leave_if, print_json
from preimage.errors import RequestError
from preimage.images import writable_folder
from preimage.network.smoothing import WIDTH
from preimage.recover import Recoveries, Recovery
from preimage.recover.sensitivity import MEMORY


def recover(
    model: Model,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, at the size at which they were made.")
    ],
    at: Annotated[str, typer.Option(metavar="TAP", help="The layer whose features the objective consists of.")],
    out: Out,
    cosine_power: Annotated[float, typer.Option(help="The power of the cosine that they were made with.")] = 2.0,
    aggregate: Annotated[str, typer.Option(help="'max-mean', 'mean' or 'centre'.")] = "max-mean",
    features: Annotated[
        str | None, typer.Option(metavar="FIRST-LAST", help="Which channels are features. Default: all.")
    ] = None,
    smoothing: Annotated[
        float, typer.Option(min=0.0, help="Width of the smoothed kinks, a share of a layer's mean; 0: none.")
    ] = WIDTH,
    known: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="First make N images whose objectives are known, and leave out directions that move none of them.",
        ),
    ] = 0,
    average: Annotated[
        bool, typer.Option("--average", help="The pictures are the last steps of one ascent; their mean counts.")
    ] = False,
    memory: Annotated[int, typer.Option(min=1, metavar="MB", help="What Jacobians may take.")] = MEMORY // 2**20,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Find the objective that a picture is the answer to (inverse feature visualization)."""
    writable_folder(out)
    network = preimage.load(model, device=device)
    options: dict[str, Any] = {"cosine_power": cosine_power, "aggregate": aggregate, "memory": memory * 2**20}
    spaces = None
    if known:
        if features:
            raise RequestError("known objectives consist of all features of the tap; leave --features or --known out")
        spaces = preimage.find_critical_space(network, at, count=known, **options)
    found = preimage.recover(
        network,
        list(images),
        at,
        features=_range(features),
        smoothing=smoothing or None,
        average=average,
        space=None if spaces is None else spaces.space,
        **options,
    )
    all_found = Recoveries([found]) if isinstance(found, Recovery) else found
    for one in all_found:
        one.settings["model"] = model
        if spaces is not None:
            one.settings["critical_spaces"] = spaces.as_dict()
    folder = all_found.save(out)
    if as_json:
        print_json(all_found.as_dict())
    else:
        for one in all_found:
            said = ", ".join(f"{index} ({weight:+.2f})" for index, weight in one.strongest(5))
            print(f"{one.name}: {one.tap}:{said}\n  {one.says()}")
            if one.dead:
                print(f"  features that nothing changes: {', '.join(map(str, one.dead))}")
        print(folder / "result.json")
    leave_if(all_found.interrupted)


def _range(said: str | None) -> range | None:
    if said is None:
        return None
    match = re.fullmatch(r"(\d+)-(\d+)", said)
    if not match or int(match[1]) > int(match[2]):
        raise RequestError(f"features are given as FIRST-LAST, like 0-63, not '{said}'")
    return range(int(match[1]), int(match[2]) + 1)
