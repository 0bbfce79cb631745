"""`preimage sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

import preimage
from preimage.cli.commands.options import Device, Json, Model, Out, Seed
from preimage.cli.commands.printing import leave_if, print_json
from preimage.errors import RequestError
from preimage.images import as_image, image_files, writable_folder
from preimage.report.chains import chains_page
from preimage.sample import SAMPLERS


def sample(
    model: Model,
    objectives: Annotated[
        list[str],
        typer.Argument(metavar="OBJECTIVE...", help="A class or a unit; each gets chains of its own."),
    ],
    out: Out,
    prior: Annotated[
        str, typer.Option(metavar="P", help="'cifar10', a file that train-prior wrote, or 'none'.")
    ] = "cifar10",
    encoder: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The network that reads codes, if the prior does not hold it.")
    ] = None,
    sampler: Annotated[str, typer.Option(metavar="S", help=f"One of {', '.join(SAMPLERS)}.")] = "noiseless-joint",
    paper_form: Annotated[
        bool, typer.Option("--paper-form", help="Equation 11 as it stands, without steps of a given length.")
    ] = False,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="How many steps to go.")] = 200,
    chains: Annotated[int, typer.Option(min=1, metavar="N", help="Chains of each objective.")] = 4,
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Keep a sample after each so many steps.")] = 10,
    epsilons: Annotated[
        str | None, typer.Option(metavar="E1,E2,E3", help="Weights of prior, condition and noise.")
    ] = None,
    move: Annotated[
        float | None, typer.Option(metavar="X", help="Mean change of a code in a step, in tenths of its mean.")
    ] = None,
    gradient: Annotated[str, typer.Option(help="Of a class: 'logprob', 'prob', 'logit' or 'unsure'.")] = "logprob",
    start: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="An image to start from, or a folder of chains to go on with.")
    ] = None,
    fill: Annotated[
        Path | None, typer.Option(metavar="PHOTO", help="Fill in this photo, where --missing is white.")
    ] = None,
    missing: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="White where pixels of the photo are to be made up.")
    ] = None,
    context: Annotated[float, typer.Option(help="How strongly the picture is drawn to the known pixels.")] = 0.0,
    report: Annotated[
        bool, typer.Option("--report", help="Also write index.html: chains as strips and as a film.")
    ] = False,
    animation: Annotated[
        bool, typer.Option("--animation", help="Also write each chain as an animated picture, ...-chain.webp.")
    ] = False,
    training: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="What the prior was trained on; with --report, the nearest stand beside samples."
        ),
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The like that it was not trained on, to judge by.")
    ] = None,
    seed: Seed = 0,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Walk chains of plausible images that the network answers in the wanted way."""
    writable_folder(out)
    _check_comparison(report, training, held_out)
    network = preimage.load(model, device=device)
    known = None if prior == "none" else preimage.load_prior(prior, encoder=preimage.load(encoder) if encoder else None)
    if device is not None and known is not None:
        known = known.to(device)
    given: dict[str, Any] = {} if epsilons is None else {"epsilons": _three(epsilons)}
    chain = preimage.sample(
        network,
        objectives,
        prior=known,
        sampler=sampler,
        form="paper" if paper_form else "released",
        steps=steps,
        chains=chains,
        every=every,
        move=move,
        gradient=gradient,  # type: ignore[arg-type]
        start=start,
        fill=None if fill is None else (fill, _mask(fill, missing)),
        context=context,
        seed=seed,
        **given,
    )
    chain.settings["model"] = model
    folder = chain.save(out)
    if animation:
        chain.save_animations(out)
    if report:
        chains_page(chain, out, training=training, held_out=held_out)
    if as_json:
        print_json(chain.as_dict())
    else:
        width = max(map(len, chain.objectives))
        for said, name, score in zip(chain.objectives, chain.image_names(), chain.scores[-1], strict=True):
            print(f"{said.ljust(width)}  {float(score):10.4g}  {folder / name}")
    leave_if(chain.interrupted)


def _check_comparison(report: bool, training: Path | None, held_out: Path | None) -> None:
    # (chains may take an hour; what the page needs is looked at before they begin)
    if not report and (training or held_out):
        raise RequestError("training images are shown beside the samples on a page; say --report, too")
    if held_out and not training:
        raise RequestError("held-out images are there to be compared with training images; say --training FOLDER")
    for images in filter(None, (training, held_out)):
        image_files(images)


def _three(written: str) -> tuple[float, float, float]:
    try:
        first, second, third = (float(one) for one in written.split(","))
    except ValueError:
        raise RequestError(f"--epsilons are three numbers with commas, like 1e-5,1,1e-17, not '{written}'") from None
    return first, second, third


def _mask(photo: Path, missing: Path | None) -> Tensor:
    if missing is None:
        raise RequestError("which part of the photo is to be made up? Give an image with --missing, white there")
    image = as_image(missing)
    wanted = as_image(photo).shape
    if image.shape[1:] != wanted[1:]:
        raise RequestError(
            f"'{missing}' has {image.shape[2]} x {image.shape[1]} pixels, but the photo {wanted[2]} x {wanted[1]}"
        )
    white: Tensor = image.mean(0) > torch.tensor(0.5)
    return white
