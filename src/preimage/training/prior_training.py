"""Training G, against E that stays as it is and D that learns beside it (paper 3, S9; SPEC P9, P10, P26)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from preimage.errors import RequestError
from preimage.network import Network, Place
from preimage.sample.architectures import build
from preimage.sample.prior import Prior
from preimage.training.describing import described
from preimage.training.encoding import Encoding, as_place
from preimage.training.keeping import kept
from preimage.training.loop import Progress, Schedule, Step, train, write_record
from preimage.training.losses import adversarial_loss, checked_losses, discriminator_loss, squared_distance
from preimage.training.noise_levels import Means, measured_means
from preimage.training.pausing import Pausing
from preimage.training.photos import Photos, opened
from preimage.training.processes import Processes, joined
from preimage.training.randomness import generator, seeded

DEFAULT_LOSSES = ("image", "match", "adversarial")
"""Equation 18: the noiseless joint prior, which the paper found best."""

GENERATORS = Schedule(steps=12_000, halvings=2, decay=0.0, momentum=0.5)
"""An hour for small images on one core. The paper has 10^6 steps, momentum 0.9 and decay 4e-4, for 12 days of a GPU."""

_SHOWN = 12
_SHORTEST = 1e-12


@dataclass
class TrainedPrior:
    """A prior, and how it came about.

    prior: generator, encoder, taps, means and noise, for `sample`. discriminator: D, if there was one. weights: of the
    losses, as they were chosen. progress: how far training came. settings: everything that was asked. file: the prior's
    file; None where the generator is a module of one's own, which a file cannot hold without code.
    """

    prior: Prior
    discriminator: nn.Module | None
    weights: dict[str, float]
    progress: Progress
    settings: dict[str, Any]
    file: Path | None


def train_prior(
    network: Network,
    photos: str | Path | Tensor | Photos,
    folder: str | Path,
    *,
    code: str | Place,
    match: str | Place | None = None,
    losses: Iterable[str] | Mapping[str, float] | None = None,
    weights: Mapping[str, float] | None = None,
    noise: Mapping[str, float] | None = None,
    generator: nn.Module | Mapping[str, Any] | None = None,
    discriminator: nn.Module | Mapping[str, Any] | None = None,
    pausing: Pausing | None = None,
    adversary_waits: int | None = None,
    schedule: Schedule | None = None,
    size: int | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    resume: bool = False,
    minutes: float | None = None,
    checkpoint_every: int = 200,
    preview_every: int = 500,
) -> TrainedPrior:
    """Train a generator that makes images from what `network` has at `code`.

    photos: a folder of image files, a tensor [N, C, size, size] (bytes, or floats in [0, 1]), or `Photos`.
    folder: for checkpoints, `losses.csv` and previews (see `loop.train`, also for resume, minutes and the last two),
        and in the end for `prior.safetensors`, which `sample` takes as prior.
    code, match: taps of h and, if features are to be matched, of h1; a name means what stands behind its ReLU.
    losses: which of `image`, `match`, `code`, `adversarial`, or the share of each; default image, match (if a tap is
        given) and adversarial. Each loss is the squared distance, or the logarithm, of the paper's equations 19 to 23,
        averaged over the batch; its weight is chosen at the start so that the lengths of the gradients at the image are
        to each other as the shares, by default 1 for image and adversarial and 0.3 for match and code (SPEC P.5-7 has
        1 : 1 : 1 : 0.1: with it, G draws the grid that features behind max pooling reward). The first has weight 1.
    weights: of single losses, instead of what would be chosen.
    noise: on x, h1 and h, as shares of the mean pixel and mean activations, which are measured (`noise_levels.PAPER`
        has the paper's); default none. x is disturbed before E, h1 between its taps, h before G; what G is to reach is
        each without its own noise (paper 3, figure S9c).
    generator, discriminator: modules of your own, or settings for ours (width, hidden ...), which by default have batch
        and spectral normalisation (norm, spectral). Where several processes train, each normalises by its own part of
        a batch.
    adversary_waits: for so many steps D learns and G does not listen yet, because the gradient of a new D says nothing
        of how strong it will be; then the weight of the adversarial loss is chosen. Default 300, at most a tenth.
    schedule: default `GENERATORS`.
    size: crop photos to squares and resample them to this side.
    precision: `bfloat16` computes G and D in it, with weights in float32.

    Raises `RequestError` for what does not fit together, `DivergedError` when training diverges, `WriteError` when the
    disk is full.
    """
    schedule = schedule or GENERATORS
    code, match = as_place(code), None if match is None else as_place(match)
    default = [name for name in DEFAULT_LOSSES if name != "match" or match is not None]
    shares = checked_losses(default if losses is None else losses)
    if "match" in shares and match is None:
        raise RequestError("the loss 'match' needs the tap whose features are to be matched: --match TAP")
    fixed = dict(weights or {})
    for name, weight in fixed.items():
        if name not in shares or not 0 < weight < float("inf"):
            raise RequestError(f"weights above zero can be given to {', '.join(shares)}; not {weight!r} to '{name}'")
    if precision not in ("float32", "bfloat16"):
        raise RequestError(f"precision is 'float32' or 'bfloat16', not '{precision}'")
    if discriminator is not None and "adversarial" not in shares:
        raise RequestError("a discriminator is for the loss 'adversarial', which was not asked for")
    waits = min(300, schedule.steps // 10) if adversary_waits is None else adversary_waits
    pictures = opened(photos, network.channels, size)
    with network.held(), joined(network.device) as processes:
        encoding = Encoding(network, code, match, pictures.size)
        means = measured_means(pictures, encoding, schedule.seed)
        levels = means.noise(dict(noise or {}))
        made = _generator(generator, encoding, means, pictures, schedule.seed).to(network.device)
        judge = None
        if "adversarial" in shares:
            judge = _discriminator(discriminator, pictures, schedule.seed).to(network.device)
        task = GeneratorTask(
            pictures, encoding, made, judge, shares, fixed, levels, pausing or Pausing(), waits, schedule, processes
        )
        task.in_bfloat16 = precision == "bfloat16"
        settings = {
            "trains": "generator",
            "network": described(network),
            "photos": {"count": len(pictures), "size": pictures.size, "digest": pictures.digest()},
            "code": str(code),
            "match": None if match is None else str(match),
            "losses": shares,
            "weights": fixed,
            "noise": levels,
            "generator": described(made),
            "discriminator": None if judge is None else described(judge),
            "pausing": [task.pausing.d_below, task.pausing.g_above],
            "adversary_waits": waits,
            "precision": precision,
        }
        progress = train(
            task,
            len(pictures),
            folder,
            schedule,
            settings,
            resume=resume,
            minutes=minutes,
            checkpoint_every=checkpoint_every,
            preview_every=preview_every,
            processes=processes,
        )
        write_record(folder, {**settings, "means": asdict(means)}, schedule, task, progress, processes)
    # (the seconds that it took are in training.json; they differ from run to run, and the prior does not)
    about = {"settings": settings, "schedule": asdict(schedule), "weights": task.found, "steps": progress.step}
    prior = Prior(
        made,
        network,
        code,
        match,
        pictures.size,
        encoding.code_shape,
        pictures.channels,
        means.h,
        means.h1,
        levels,
        name=Path(folder).resolve().name,
        trained=about,
    )
    file = kept(prior, folder) if processes.is_first else None
    return TrainedPrior(prior, judge, dict(task.found), progress, settings, file)


class GeneratorTask:
    """Steps of G and D; see `train_prior`, which makes it."""

    def __init__(
        self,
        photos: Photos,
        encoding: Encoding,
        made: nn.Module,
        judge: nn.Module | None,
        shares: Mapping[str, float],
        fixed: Mapping[str, float],
        noise: Mapping[str, float],
        pausing: Pausing,
        waits: int,
        schedule: Schedule,
        processes: Processes,
    ):
        self.parts = {"generator": made} if judge is None else {"generator": made, "discriminator": judge}
        self.columns = [*shares, *([] if judge is None else ["discriminator", "g_learns", "d_learns"])]
        self.found: dict[str, float] = {}
        self.pausing = pausing
        self.in_bfloat16 = False
        self._photos, self._encoding, self._made, self._judge = photos, encoding, made, judge
        self._shares, self._fixed, self._noise, self._waits = shares, fixed, noise, waits
        self._schedule, self._processes = schedule, processes
        self._device = encoding.network.device
        # What E makes of a photo is always the same, unless the photo or what E makes of it on the way is disturbed.
        disturbed = noise["x"] or noise["h1"]
        self._known = None if disturbed else encoding.of_all(photos)
        self._places = {"match": encoding.match, "code": encoding.code}
        self._reference = next(iter(shares))

    def step(self, number: int, indices: Tensor) -> Step:
        photos = self._photos.batch(self._processes.part(indices)).to(self._device)
        photos = photos.contiguous(memory_format=torch.channels_last)
        codes, wanted = self._targets(photos, indices, number)
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)
        with self._autocast():
            image = self._made(codes).float()
        # All terms meet at the image: each gradient is computed up to there, and G is gone through once.
        leaf = image.detach().requires_grad_()
        terms = self._terms(leaf, photos, wanted)
        fake = real = None
        if self._judge is not None:
            with self._autocast():
                fake, real = self._judge(leaf).float(), self._judge(photos).float()
            terms["adversarial"] = adversarial_loss(fake)
        losses = {name: float(terms[name].detach()) for name in self._shares}
        learns = ["generator"]
        if fake is not None and real is not None:
            d_loss = discriminator_loss(real, fake)
            losses = self._processes.average({**losses, "discriminator": float(d_loss.detach())})
            d_learns, g_learns = self.pausing.learns(losses["discriminator"], losses["adversarial"])
            learns = ["generator"] * g_learns + ["discriminator"] * d_learns
            losses |= {"g_learns": float(g_learns), "d_learns": float(d_learns)}
        else:
            losses = self._processes.average(losses)
        if "generator" in learns:
            torch.autograd.backward(image, self._gradient(leaf, terms, number))
        if "discriminator" in learns:
            assert self._judge is not None
            # The same pass through D serves both; only its weights are asked for here, not the image.
            torch.autograd.backward(d_loss, inputs=list(self._judge.parameters()))
        return Step(losses, learns)

    def preview(self) -> list[Tensor]:
        indices = torch.arange(min(_SHOWN, len(self._photos)))
        photos = self._photos.batch(indices)
        codes, _ = self._encoding.of(photos.to(self._device))
        self._made.eval()
        with torch.no_grad():
            made = self._made(codes).float().cpu()
        self._made.train()
        return [photos, made]

    def _targets(self, photos: Tensor, indices: Tensor, number: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The codes that G gets, and what its image's features and code are to be."""
        if self._known is not None:
            part = self._processes.part(indices)
            code, features = (None if one is None else one[part].to(self._device) for one in self._known)
        else:
            shown = photos + self._disturbance("x", photos, number)
            code, features = self._encoding.of(shown)
            if features is not None and self._noise["h1"]:
                code = self._encoding.beyond(shown, features + self._disturbance("h1", features, number))
        assert code is not None
        wanted = {"code": code} | ({} if features is None else {"match": features})
        return code + self._disturbance("h", code, number), wanted

    def _disturbance(self, what: str, values: Tensor, number: int) -> Tensor | float:
        """Noise like `values`, of the level of x, h1 or h."""
        if not self._noise[what]:
            return 0.0
        source = generator(self._schedule.seed, f"noise on {what}", number)
        whole = torch.randn(self._schedule.batch, *values.shape[1:], generator=source)
        return self._noise[what] * self._processes.part(whole).to(values.device)

    def _terms(self, leaf: Tensor, photos: Tensor, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The reconstruction losses that are asked for, at the image `leaf`."""
        terms = {}
        if "image" in self._shares:
            terms["image"] = squared_distance(leaf, photos)
        places = {name: place for name in ("match", "code") if name in self._shares and (place := self._places[name])}
        if places:
            reached = self._encoding.reached(leaf, list(places.values()))
            terms |= {name: squared_distance(reached[place], wanted[name]) for name, place in places.items()}
        return terms

    def _gradient(self, leaf: Tensor, terms: Mapping[str, Tensor], number: int) -> Tensor:
        """Of the weighted sum of all terms, at the image."""
        active = [name for name in self._shares if name != "adversarial" or number >= self._waits or len(terms) == 1]
        new = [name for name in active if name not in self.found]
        if new:
            measured = [*new, *({self._reference} - {*new})]
            self._choose_weights(new, {name: self._length(leaf, terms[name]) for name in measured})
        total = sum((self.found[name] * terms[name] for name in active), start=leaf.new_zeros(()))
        (gradient,) = torch.autograd.grad(total, leaf, retain_graph=self._judge is not None)
        return gradient

    def _length(self, leaf: Tensor, term: Tensor) -> float:
        """Of a term's gradient at the image, over the whole batch."""
        (gradient,) = torch.autograd.grad(term, leaf, retain_graph=True)
        square = self._processes.average({"": float(gradient.double().square().sum())})
        return float(square[""] ** 0.5)

    def _choose_weights(self, names: list[str], lengths: Mapping[str, float]) -> None:
        for name in names:
            if name in self._fixed:
                self.found[name] = self._fixed[name]
            elif name == self._reference:
                self.found[name] = 1.0
            else:
                if not _SHORTEST < lengths[name] < float("inf"):
                    raise RequestError(
                        f"the loss '{name}' has a gradient of length {lengths[name]:.3g} at the image, from which no "
                        f"weight can be chosen; give one"
                    )
                wanted = self._shares[name] / self._shares[self._reference] * self.found[self._reference]
                self.found[name] = wanted * lengths[self._reference] / lengths[name]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self.in_bfloat16)


def _generator(
    asked: nn.Module | Mapping[str, Any] | None, encoding: Encoding, means: Means, photos: Photos, seed: int
) -> nn.Module:
    if isinstance(asked, nn.Module):
        device = next((weight.device for weight in asked.parameters()), torch.device("cpu"))
        try:
            with torch.no_grad():
                made = asked(torch.zeros(1, *encoding.code_shape, device=device))
        except (RuntimeError, RequestError) as error:
            raise RequestError(
                f"the generator takes codes of another shape than {list(encoding.code_shape)}, which "
                f"{encoding.network.name} has at {encoding.code}"
            ) from error
        if tuple(made.shape[1:]) != (photos.channels, photos.size, photos.size):
            raise RequestError(
                f"the generator makes images {list(made.shape[1:])}, but the photos are "
                f"{[photos.channels, photos.size, photos.size]}"
            )
        return asked
    with seeded(seed, "generator"):
        shapes = {"code_shape": encoding.code_shape, "channels": photos.channels, "size": photos.size}
        ours = build("generator", {"norm": True, **(asked or {}), **shapes})
    ours.get_buffer("code_scale").fill_(means.h_root_mean_square)
    return ours.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _discriminator(asked: nn.Module | Mapping[str, Any] | None, photos: Photos, seed: int) -> nn.Module:
    if isinstance(asked, nn.Module):
        return asked
    with seeded(seed, "discriminator"):
        ours = build(
            "discriminator", {"spectral": True, **(asked or {}), "channels": photos.channels, "size": photos.size}
        )
    return ours.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
