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
from preimage.exact import EXACT, pictures
from preimage.images import writable_folder
from preimage.network.smoothing import WIDTH
from preimage.recover import FoundSpaces, Recoveries, Recovery
from preimage.recover.recovering import question_of
from preimage.recover.sensitivity import MEMORY


def recover(
    model: Model,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="Pictures, at the size at which they were made, or folders of them. A folder that 'maximize --recipe "
            "plain' wrote has them without rounding, and says how they were made: of the options up to --smoothing, "
            "none has to be given again.",
        ),
    ],
    out: Out,
    at: Annotated[
        str | None, typer.Option(metavar="TAP", help="The layer whose features the objective consists of.")
    ] = None,
    cosine_power: Annotated[
        float | None, typer.Option(help="The power of the cosine that they were made with. Default: 2.")
    ] = None,
    aggregate: Annotated[str | None, typer.Option(help="'max-mean', 'mean' or 'centre'. Default: 'max-mean'.")] = None,
    features: Annotated[
        str | None, typer.Option(metavar="FIRST-LAST", help="Which channels are features. Default: all.")
    ] = None,
    smoothing: Annotated[
        float | None,
        typer.Option(
            min=0.0, help=f"Width of the smoothed kinks, a share of a layer's mean; 0: none. Default: {WIDTH}."
        ),
    ] = None,
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
    single: Annotated[
        bool, typer.Option("--single", help="Compute the network in float32: up to twice as fast on a CPU.")
    ] = False,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Find the objective that a picture is the answer to (inverse feature visualization)."""
    writable_folder(out)
    if (out / EXACT).exists():
        raise RequestError(
            f"'{out}' holds pictures that maximize made, whose result.json would be replaced; write to another folder"
        )
    network = preimage.load(model, device=device)
    chosen = _range(features)
    spaces = (
        _known_space(network, known, images, at, cosine_power, aggregate, chosen, memory * 2**20) if known else None
    )
    found = preimage.recover(
        network,
        list(images),
        at,
        cosine_power=cosine_power,
        aggregate=aggregate,  # type: ignore[arg-type]
        features=chosen,
        smoothing="as made" if smoothing is None else smoothing or None,
        average=average,
        space=None if spaces is None else spaces.space,
        memory=memory * 2**20,
        precision="single" if single else "double",
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
        before = ""
        for one in all_found:
            taken = _taken(one.settings)
            if taken and taken != before:
                print(taken)
            before = taken
            said = ", ".join(f"{index} ({weight:+.2f})" for index, weight in one.strongest(5))
            print(f"{one.name}: {one.tap}:{said}\n  {one.says()}")
            if one.dead:
                print(f"  features that nothing changes: {', '.join(map(str, one.dead))}")
        print(folder / "result.json")
    leave_if(all_found.interrupted)


def _known_space(
    network: preimage.Network,
    count: int,
    images: list[Path],
    at: str | None,
    cosine_power: float | None,
    aggregate: str | None,
    features: range | None,
    memory: int,
) -> FoundSpaces:
    """The critical space of known objectives that are asked as those of all pictures were."""
    given = pictures(images, network.channels)
    asked = [question_of(one, at, cosine_power, aggregate, features) for one in given]  # type: ignore[arg-type]
    if any(one.features is not None for one in asked):
        raise RequestError("known objectives consist of all features of the tap; leave --features or --known out")
    ways = {(one.at, one.cosine_power, one.aggregate) for one in asked}
    if len(ways) > 1:
        raise RequestError(
            "known objectives are asked in one way, but these pictures were made in several; give --at, --cosine-power "
            "and --aggregate, or the pictures one by one"
        )
    ((place, power, way),) = ways
    return preimage.find_critical_space(network, place, count=count, cosine_power=power, aggregate=way, memory=memory)


def _taken(settings: dict[str, Any]) -> str:
    """What result.json of the folder that a picture comes from said, and nobody had to type."""
    taken = dict(settings.get("as_made", {}))
    file = taken.pop("file", None)
    some = taken.pop("features", None)
    if some is not None:
        taken["features"] = f"{len(some)} channels"
    values = {name: f"{value:g}" if isinstance(value, float) else value for name, value in taken.items()}
    said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
    return f"as '{file}' says: {said}" if said else ""


def _range(said: str | None) -> range | None:
    if said is None:
        return None
    match = re.fullmatch(r"(\d+)-(\d+)", said)
    if not match or int(match[1]) > int(match[2]):
        raise RequestError(f"features are given as FIRST-LAST, like 0-63, not '{said}'")
    return range(int(match[1]), int(match[2]) + 1)
