"""What several commands can be given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="'bundled', 'cifar10', 'FILE.py:FACTORY', 'torchvision:NAME' or 'timm:NAME'."),
]


def _folder(given: str | Path) -> Path:
    """A URL would become a folder called `s3:`."""
    if "://" in str(given):
        raise typer.BadParameter(f"this command writes to a folder of this machine, or a mounted one, not to '{given}'")
    return Path(given)


Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", parser=_folder, help="Folder to write to; made if needed.")
]
Device = Annotated[str | None, typer.Option(help="Where to compute, e.g. 'cuda'. Default: the CPU.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Optimisation steps. Default: the recipe's.")]
Seed = Annotated[int, typer.Option(help="Of all randomness: same seed, same machine, same pictures.")]
Workers = Annotated[int, typer.Option(min=1, metavar="N", help="Processes.")]
Ray = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="A Ray cluster that does the work: HOST:PORT, ray://HOST:PORT or auto."),
]
RecipeName = Annotated[str | None, typer.Option("--recipe", help="A published setting; 'preimage recipes' lists them.")]
Colours = Annotated[
    Path | None,
    typer.Option(help="Folder of images whose colours to use, for networks not trained on photographs."),
]
