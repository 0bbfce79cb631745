"""The commands: each parses, calls a verb and prints what was made."""

from __future__ import annotations

import typer

from preimage.cli.commands.atlas import atlas
from preimage.cli.commands.evaluate import evaluate
from preimage.cli.commands.explain import explain
from preimage.cli.commands.invert import invert
from preimage.cli.commands.listing import measures, methods, recipes, taps
from preimage.cli.commands.maximize import maximize
from preimage.cli.commands.recover import recover
from preimage.cli.commands.report import report
from preimage.cli.commands.sample import sample
from preimage.cli.commands.train_prior import train_prior

app = typer.Typer(
    help="Shows what a trained vision network has learned and why it decided as it did.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    taps,
    recipes,
    methods,
    measures,
    maximize,
    invert,
    explain,
    sample,
    recover,
    atlas,
    evaluate,
    report,
    train_prior,
):
    app.command()(command)

__all__ = [
    "app",
    "atlas",
    "evaluate",
    "explain",
    "invert",
    "maximize",
    "measures",
    "methods",
    "recipes",
    "recover",
    "report",
    "sample",
    "taps",
    "train_prior",
]
