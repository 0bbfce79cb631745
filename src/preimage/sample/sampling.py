"""sample: what are the many images that would be answered so? (paper 3)"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from preimage.canvas import pair
from preimage.errors import RequestError
from preimage.images import Photo, as_image, centre_crop, photo_as_setting
from preimage.network import Network
from preimage.network.borrowed import borrowed
from preimage.objectives import EachItsOwn, Objective
from preimage.optimization import Ascent, Stage, climb
from preimage.parametrizations import Code, FilledIn, Parametrization, Pixels
from preimage.priors import (
    Clip,
    Denoiser,
    Encoding,
    Grey,
    Learned,
    NoisyReconstruction,
    Reconstruction,
    Regularizer,
)
from preimage.sample.chain import Chain
from preimage.sample.conditions import Condition, Gradient, Judges, conditions
from preimage.sample.prior import Prior, load_prior
from preimage.sample.samplers import Sampler, find_sampler

_APART = 1_000_003
"""How far apart the seeds of two chains are."""
_VIEWS, _PULLS = 500_001, 700_001
"""How far the seeds of views, and of the noise inside a denoiser, are from those of the chains."""


@dataclass(frozen=True, eq=False)
class Context(Regularizer):
    """Half the squared difference between an image and what is known of it, summed over known pixels (paper 3, section
    S10: PPGN-context; SPEC P23). Half, so that its gradient is the released code's.

    known: [C, H, W]. missing: 1 where pixels are made up, [1, H, W].
    """

    known: Tensor
    missing: Tensor

    def energy(self, images: Tensor) -> Tensor:
        off = (images - self.known.to(images)) * (1 - self.missing.to(images))
        return off.square().flatten(1).sum(1) / 2


def sample(
    network: Network,
    objectives: str | Objective | Sequence[str | Objective],
    *,
    prior: str | Path | Prior | tuple[nn.Module, Callable[[Tensor], Tensor]] | None = "cifar10",
    sampler: str | Sampler = "noiseless-joint",
    form: Literal["released", "paper"] = "released",
    steps: int = 200,
    chains: int = 4,
    every: int = 10,
    epsilons: tuple[float, float, float] | None = None,
    move: float | None = None,
    last: float | None = None,
    gradient: Gradient = "logprob",
    also: Sequence[Condition] = (),
    denoiser: Callable[[Tensor], Tensor] | None = None,
    start: Photo | Chain | None = None,
    fill: tuple[Photo, Any] | None = None,
    context: float = 0.0,
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Chain:
    """Walk chains of plausible images that a network answers in the wanted way (paper 3, equations 7 and 11).

    objectives: as in `preimage.maximize`; classes count by their log-probability, and hidden units by their share of
        all channels at their place (`gradient`). Of several, each gets `chains` chains of its own.
    prior: `cifar10`, a file, a `Prior`, or a pair (generator, encoder) of one's own. None: images without any, for the
        samplers that take none; of the network's size, or `size`.
    sampler: a name from `preimage.sample.SAMPLERS` or a `Sampler`. form: "released", as paper 3's code has it: steps of
        a fixed mean length and codes kept within bounds; "paper": equation 11 as it stands.
    steps: how many to go. every: each so many steps, a sample of each chain is kept.
    epsilons: (eps_1, eps_2, eps_3) instead of the sampler's; move, last: its `move` and `last`.
    gradient: which of table S2, for classes.
    also: further conditions that all chains are under; any number of networks.
    denoiser: r of one's own, codes -> codes or images -> images in [0, 1]; instead of the prior's.
    start: an image, whose code the chains start from (or itself): with so little noise as `noiseless-joint` has, which
        float32 cannot add, all of them are then one chain; or a `Chain` (or the folder of one) to go on with.
        Default: noise.
    fill: (photo, missing): pixels where `missing` [H, W] is true are made up, and the others never change (inpainting).
    context: eps_4: how strongly the generator's own picture is drawn to the known pixels (PPGN-context: 1e-9 in the
        paper's code, for pixels in 0..255).
    size: of images without a prior.
    seed: of all randomness; a chain depends on its objective, its number and the seed, not on what runs beside it.
    progress: show a bar on standard error; default: if that is a terminal.

    All chains run in one batch. Ctrl-C ends the run and keeps what was reached.

    Raises `RequestError` for anything that cannot be done as asked, `NonFiniteScoreError` if a score is not finite.
    """
    for name, value in (("steps", steps), ("chains", chains), ("every", every)):
        if value < 1:
            raise RequestError(f"{name} must be at least 1, not {value}")
    if form not in ("released", "paper"):
        raise RequestError(f"form is 'released' or 'paper', not '{form}'")
    settings = _settings(find_sampler(sampler), form, epsilons, move, last)
    source = Prior(size=network.input_size if size is None else pair("size", size), channels=network.channels)
    if prior is not None:
        source = load_prior(prior)
    judges, asked = conditions(network, objectives, also, gradient)
    if any(judge.channels != source.channels for judge in judges.networks):
        raise RequestError(f"{source.name} makes images of {source.channels} channels, which not all networks take")
    asked = [one for one in asked for _ in range(chains)]
    if isinstance(start, (str, Path)) and Path(start).is_dir():
        start = Chain.load(start)
    before = start if isinstance(start, Chain) else None
    plain = _parametrization(settings, source)
    parametrization, known = plain, ""
    energies: tuple[Regularizer, ...] = ()
    if fill is not None:
        photo, missing = _filled(fill, source)
        parametrization = FilledIn(
            plain.channels, plain.height, plain.width, plain.spread, inner=plain, known=photo, missing=missing
        )
        known = photo_as_setting(fill[0], photo)
        if context:
            # eps_4 is for pixels in 0..255, and eps_2 scales every gradient of J.
            energies = (Context(context * 255**2 / settings.epsilons[1], photo, missing),)
    elif context:
        raise RequestError("a context is what fill= leaves as it is; say fill=")
    seeds = [seed + _APART * (i % chains) for i in range(len(asked))]
    noise = [torch.Generator().manual_seed(one) for one in seeds]
    pulls = [torch.Generator().manual_seed(one + _PULLS) for one in seeds]
    views = torch.Generator().manual_seed(seed + _VIEWS)
    begin = _begin(parametrization, source, noise, start, before)
    done = 0
    if before is not None:
        done = before.go_on(noise, pulls, views, [str(one) for one in asked], settings)
    r = _denoiser(settings, source, parametrization, pulls, denoiser)
    stage = _stage(settings, source, done + steps, r, energies)
    said = {
        "verb": "sample",
        "network": repr(network),
        "prior": source.name if prior is not None else None,
        "sampler": settings.name,
        "form": form,
        "epsilons": list(settings.epsilons),
        "move": settings.move,
        "last": settings.last,
        "clip": settings.clip,
        "scale": _scale(settings, source),
        "gradient": gradient,
        "denoiser": None if r is None else repr(r),
        "parametrization": parametrization.describe(),
        "steps": done + steps,
        "every": every,
        "chains": chains,
        "seed": seed,
        "start": None
        if start is None or isinstance(start, Chain)
        else photo_as_setting(start, as_image(start, source.channels)),
        "filled in": known or None,
        "context": context,
        "device": str(source.device if source.generator is not None else network.device),
    }
    hidden = None if progress is None else not progress
    with _lent(source), judges.held(), tqdm(total=steps, disable=hidden, unit="step", leave=False) as bar:
        reached = climb(
            judges,
            EachItsOwn(tuple(asked)),
            parametrization,
            begin,
            [stage],
            views,
            noise=noise,
            visit_every=every,
            after=done,
            on_step=bar.update,
        )
        return Chain.of(judges, asked, reached, said, done, (noise, pulls, views), before)


def _settings(
    sampler: Sampler,
    form: str,
    epsilons: tuple[float, float, float] | None,
    move: float | None,
    last: float | None,
) -> Sampler:
    if epsilons is not None:
        if len(epsilons) != 3 or min(epsilons) < 0:
            raise RequestError(f"epsilons are three numbers of 0 or more, not {epsilons}")
        sampler = replace(sampler, epsilons=(float(epsilons[0]), float(epsilons[1]), float(epsilons[2])))
    if form == "paper":
        sampler = sampler.as_the_paper()
        if move is not None or last is not None:
            raise RequestError("the paper's form has no steps of a given length: leave out move= and last=")
    if sampler.epsilons[1] <= 0:
        raise RequestError("eps_2 must be above zero: without a condition every image is as good as another")
    if move is not None:
        sampler = replace(sampler, move=move)
    if last is not None:
        if sampler.move is None:
            raise RequestError("only steps of a given length (move=) can become shorter (last=)")
        sampler = replace(sampler, last=last)
    return sampler


def _scale(settings: Sampler, prior: Prior) -> float:
    return prior.scale if settings.space == "code" else 1 / 255


def _parametrization(settings: Sampler, prior: Prior) -> Parametrization:
    """What the chains walk through."""
    if settings.space == "image":
        return Pixels(prior.channels, prior.height, prior.width, spread=_scale(settings, prior))
    if prior.generator is None or prior.code_shape is None:
        raise RequestError(f"the sampler '{settings.name}' walks among codes of a generator: give a prior= with one")
    return Code(
        prior.channels,
        prior.height,
        prior.width,
        spread=prior.scale,
        generate=prior.generator,
        code=prior.code_shape,
        encode=prior.encode,
    )


def _denoiser(
    settings: Sampler,
    prior: Prior,
    parametrization: Parametrization,
    pulls: Sequence[torch.Generator],
    own: Callable[[Tensor], Tensor] | None,
) -> Denoiser | None:
    """r of the sampler."""
    grey = 0.5 if settings.space == "image" else 0.0
    if not settings.epsilons[0]:
        return None
    if own is not None:
        return Learned(own, grey, getattr(own, "__name__", type(own).__name__))
    if settings.pull == "none":
        raise RequestError(f"the sampler '{settings.name}' is pulled nowhere: leave eps_1 at 0, or give a denoiser=")
    if settings.pull == "zero":
        return Grey()
    if settings.pull == "learned":
        found = prior.denoiser if settings.space == "code" else prior.image_denoiser
        if found is None:
            kind = "codes" if settings.space == "code" else "images"
            raise RequestError(
                f"{prior.name} has no denoiser of {kind}, which the sampler '{settings.name}' needs; train one "
                "(preimage train-prior) or give denoiser="
            )
        return Learned(found, grey, type(found).__name__)
    if prior.encoder is None or prior.generator is None:
        raise RequestError(f"the sampler '{settings.name}' needs a prior with a generator and an encoder")
    if settings.space == "image":
        generator = prior.generator
        return Learned(lambda images: generator(prior.encode(images)), grey, "G(E(x))")

    def seen(codes: Tensor) -> Tensor:
        return parametrization.as_seen(parametrization.image(codes), lambda images: images)

    if settings.pull == "reconstruction":
        return Reconstruction(prior.encode, seen)
    if not isinstance(prior.encoder, Network) or prior.code is None or prior.match is None:
        raise RequestError(
            f"the sampler '{settings.name}' needs a prior whose encoder is a network with a tap of matched features"
        )
    assert prior.code_shape is not None
    missing = [name for name in ("h", "h1", "x") if name not in prior.noise]
    if missing:
        raise RequestError(f"{prior.name} does not say with how much noise of {', '.join(missing)} it was trained")
    sigma = (prior.noise["h"], prior.noise["h1"], prior.noise["x"])
    return NoisyReconstruction(
        Encoding(prior.encoder, prior.code, prior.code_shape), prior.match, seen, sigma, list(pulls)
    )


def _stage(
    settings: Sampler, prior: Prior, steps: int, denoiser: Denoiser | None, energies: tuple[Regularizer, ...]
) -> Stage:
    """The sampler as a stage of the one loop, in units of v itself."""
    scale = _scale(settings, prior)
    pull, climbing, noise = settings.epsilons
    return Stage(
        steps,
        Ascent(climbing * scale**2),
        regularizers=energies,
        smooth_solution=None if settings.clip is None else Clip(0.0, settings.clip * scale),
        denoiser=denoiser,
        pull=pull if denoiser is not None else 0.0,
        noise=noise * scale,
        move=None if settings.move is None else settings.move * scale,
        last_step_size=settings.last,
    )


def _filled(fill: tuple[Photo, Any], prior: Prior) -> tuple[Tensor, Tensor]:
    """The photo [C, H, W] at the prior's size, and what is missing of it, [1, H, W] of zeros and ones."""
    photo, missing = fill
    size = (prior.height, prior.width)
    image = as_image(photo, prior.channels)
    mask = torch.as_tensor(missing)
    if tuple(mask.shape) != tuple(image.shape[1:]):
        raise RequestError(
            f"what is missing is told for every pixel of the photo, {[*image.shape[1:]]}, not {[*mask.shape]}"
        )
    if tuple(image.shape[1:]) != size:
        image = centre_crop(image, size)
        mask = centre_crop(mask[None].float().expand(prior.channels, -1, -1), size)[0] > 0
    mask = mask.bool()
    if not mask.any() or mask.all():
        raise RequestError("something, and not everything, has to be missing of a photo that is filled in")
    return image, mask[None].float()


def _begin(
    parametrization: Parametrization,
    prior: Prior,
    noise: Sequence[torch.Generator],
    start: Any,
    before: Chain | None,
) -> Tensor:
    """v of each chain to start from, [N, ...]."""
    if before is not None:
        if tuple(before.state.shape) != (len(noise), *parametrization.shape):
            raise RequestError(
                f"these chains are {len(noise)} of {[*parametrization.shape]}, but the chain to go on with has "
                f"{[*before.state.shape]}"
            )
        # (a copy of its own: products may round differently where a tensor from a file begins at another address)
        return before.state.to(prior.device).clone()
    drawn = torch.stack([parametrization.start(generator) for generator in noise]).to(prior.device)
    if start is None:
        return drawn
    image = centre_crop(as_image(start, prior.channels), (prior.height, prior.width)).to(prior.device)
    with _lent(prior):
        return parametrization.parameters(image[None]).expand_as(drawn).clone()


@contextmanager
def _lent(prior: Prior) -> Iterator[None]:
    """Borrow every module of a prior."""
    with ExitStack() as stack:
        if isinstance(prior.encoder, Network):
            stack.enter_context(prior.encoder.held())
        for one in (prior.generator, prior.encoder, prior.denoiser, prior.image_denoiser):
            if isinstance(one, nn.Module):
                stack.enter_context(borrowed(one))
        yield


__all__ = ["Context", "Judges", "sample"]
