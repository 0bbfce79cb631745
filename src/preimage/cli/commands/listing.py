"""`preimage taps`, `recipes`, `methods` and `measures`: what there is to ask for."""

from __future__ import annotations

from typing import Annotated

import typer

import preimage
from preimage.cli.commands.options import Json, Model
from preimage.cli.commands.printing import print_json


def taps(model: Model, as_json: Json = False) -> None:
    """List every place of a network that can be asked."""
    network = preimage.load(model)
    table = network.taps()
    if as_json:
        print_json([tap.as_dict() for tap in table])
    else:
        print(f"{network!r}: {len(table)} taps")
        print(table)


def recipes(
    as_json: Json = False,
    verb: Annotated[str, typer.Option("--for", metavar="VERB", help="'maximize' or 'invert'.")] = "maximize",
) -> None:
    """List the published settings that --recipe takes."""
    table = preimage.recipes(verb)  # type: ignore[arg-type]
    if as_json:
        print_json([recipe.describe() for recipe in table.values()])
    else:
        print(table)


def methods(as_json: Json = False) -> None:
    """List the ways of explaining that --method takes."""
    table = preimage.methods()
    if as_json:
        print_json([{**one.describe(), "source": one.source, "says": one.says} for one in table.values()])
    else:
        print(table)


def measures(as_json: Json = False) -> None:
    """List the measures that evaluate --measure takes."""
    table = preimage.measures()
    if as_json:
        print_json([{**one.describe(), "source": one.source, "needs": one.needs} for one in table.values()])
    else:
        print(table)
