"""`preimage train-prior`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

import preimage
from preimage import training
from preimage.cli.commands.options import Json, Model, Out, Seed
from preimage.cli.commands.printing import leave_if, print_json
from preimage.errors import RequestError
from preimage.sample import load_prior
from preimage.training import CODES, GENERATORS, IMAGES, PAPER, Schedule, TrainedDenoiser, TrainedPrior
from preimage.training.processes import local_device, writes

_KINDS = ("generator", "code-denoiser", "image-denoiser")


def train_prior(
    model: Model,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Photos to train on: all image files below it.")],
    out: Out,
    code: Annotated[
        str | None, typer.Option(metavar="TAP", help="The layer whose answers are the codes; behind its ReLU.")
    ] = None,
    match: Annotated[
        str | None, typer.Option(metavar="TAP", help="The layer whose features the images have to match.")
    ] = None,
    losses: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Of image, match, code and adversarial, with commas; NAME=SHARE says how much each counts. "
            "Default: image, match (with --match) and adversarial.",
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES",
            help="Noise on x, h1 and h as shares of their means, like h=0.1,x=0.01; 'paper': the joint prior's.",
        ),
    ] = None,
    kind: Annotated[str, typer.Option(help="What to train: 'generator', 'code-denoiser' or 'image-denoiser'.")] = (
        "generator"
    ),
    prior: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The prior to which a denoiser is added, in a new file.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Batches. Default: 10000; see --kind.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Photos in each batch.")] = Schedule.batch,
    rate: Annotated[float, typer.Option(help="The learning rate at the beginning.")] = Schedule.rate,
    size: Annotated[
        int | None, typer.Option(min=1, metavar="PX", help="Crop photos to squares and resample them to this side.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Channels of the generator's last up-convolution.")
    ] = None,
    precision: Annotated[str, typer.Option(help="'float32' or 'bfloat16'.")] = "float32",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")] = False,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after this time; --resume goes on.")] = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, metavar="N", help="Steps between checkpoints.")] = 200,
    preview_every: Annotated[int, typer.Option(min=1, metavar="N", help="Steps between previews.")] = 500,
    seed: Seed = 0,
    device: Annotated[
        str | None, typer.Option(help="Where to compute, e.g. 'cuda'; under torchrun one GPU for each process.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a prior for `sample` on your own photos and your own network."""
    if kind not in _KINDS:
        raise RequestError(f"--kind is one of {', '.join(_KINDS)}, not '{kind}'")
    default = {"generator": GENERATORS, "code-denoiser": CODES, "image-denoiser": IMAGES}[kind]
    schedule = replace(default, steps=steps or default.steps, batch=batch_size, rate=rate, seed=seed)
    network = preimage.load(model, device=local_device(device))
    options: dict[str, Any] = {
        "schedule": schedule,
        "size": size,
        "resume": resume,
        "minutes": minutes,
        "checkpoint_every": checkpoint_every,
        "preview_every": preview_every,
    }
    if kind != "image-denoiser" and code is None:
        raise RequestError(
            "say with --code TAP which of the network's layers gives the codes (preimage taps lists all)"
        )
    if kind != "generator" and (match or losses or noise or width):
        raise RequestError("--match, --losses, --noise and --width are for generators")
    if kind == "generator" and prior:
        raise RequestError("--prior is for denoisers")
    if prior:
        options["prior"] = load_prior(prior, encoder=network)
    trained: TrainedPrior | TrainedDenoiser
    if kind == "generator":
        trained = training.train_prior(
            network,
            folder,
            out,
            code=code or "",
            match=match,
            losses=_losses(losses),
            noise=_shares(noise, "--noise", PAPER) if noise else None,
            generator={} if width is None else {"width": width},
            precision=precision,  # type: ignore[arg-type]
            **options,
        )
    elif kind == "code-denoiser":
        trained = training.train_code_denoiser(network, folder, out, code=code or "", **options)
    else:
        trained = training.train_image_denoiser(
            folder, out, channels=network.channels, device=network.device, **options
        )
    if not writes():
        return
    progress = trained.progress
    if as_json:
        print_json(
            {
                "model": model,
                "kind": kind,
                "file": str(trained.file),
                "step": progress.step,
                "steps": schedule.steps,
                "losses": progress.losses,
                "settings": trained.settings,
            }
        )
    else:
        said = ", ".join(f"{name} {value:.4g}" for name, value in progress.losses.items())
        print(f"step {progress.step} of {schedule.steps}: {said or 'trained before'}")
        print(trained.file)
    if progress.step < schedule.steps:
        print(f"preimage: stopped at step {progress.step}; --resume goes on from there", file=sys.stderr)
    leave_if(progress.interrupted)


def _losses(said: str | None) -> list[str] | dict[str, float] | None:
    if said is None:
        return None
    if "=" in said:
        return _shares(said, "--losses", {})
    return [name.strip() for name in said.split(",")]


def _shares(said: str, option: str, paper: Any) -> dict[str, float]:
    """Like `h=0.1,x=0.01`; or, where the paper has such, `paper`."""
    if paper and said == "paper":
        return dict(paper)
    shares = {}
    for part in said.split(","):
        name, _, number = part.partition("=")
        try:
            shares[name.strip()] = float(number)
        except ValueError:
            raise RequestError(f"{option} is given as NAME=NUMBER,NAME=NUMBER, not '{said}'") from None
    return shares
