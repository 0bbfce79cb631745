"""Training denoising autoencoders: r(h) for PPGN-h and r(x) for PPGN-x (paper 3, S9.2 and S9.3; SPEC P6, P8)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from preimage.errors import RequestError
from preimage.network import Network, Place
from preimage.sample.architectures import CodeDenoiser, ImageDenoiser
from preimage.sample.prior import Prior
from preimage.training.describing import described
from preimage.training.encoding import Encoding, as_place
from preimage.training.keeping import kept
from preimage.training.loop import Progress, Schedule, Step, train, write_record
from preimage.training.losses import squared_distance
from preimage.training.noise_levels import PAPER, measured_means
from preimage.training.photos import Photos, opened
from preimage.training.processes import Processes, joined
from preimage.training.randomness import generator, seeded

CODES = Schedule(steps=100_000, decay=1e-3)
"""S9.3's setting."""

IMAGES = Schedule(steps=25_000, decay=4e-4)
"""S9.2's setting."""

PIXEL_NOISE = 25.6 / 256
"""S9.2's sigma, 25.6 on a scale of 256 values (SPEC P.5-4)."""

_SHOWN = 12


@dataclass
class TrainedDenoiser:
    """denoiser: r. noise: the standard deviation that it was trained with. prior: the prior that was given, or one
    without a generator, with this denoiser. progress, settings: how far it came, and everything that was asked. file:
    the prior's; None where a part of it is a module of one's own."""

    denoiser: nn.Module
    noise: float
    prior: Prior
    progress: Progress
    settings: dict[str, Any]
    file: Path | None


def train_code_denoiser(
    network: Network,
    photos: str | Path | Tensor | Photos,
    folder: str | Path,
    *,
    code: str | Place,
    noise: float = PAPER["h"],
    prior: Prior | None = None,
    denoiser: nn.Module | None = None,
    width: int | None = None,
    schedule: Schedule = CODES,
    size: int | None = None,
    **options: Any,
) -> TrainedDenoiser:
    """Train r(h), for PPGN-h, on the codes that `network` has of photos.

    noise: as a share of the mean activation, which is measured. prior: the prior whose codes these are; it is written
    together with the denoiser, as `prior.safetensors`. denoiser: a module of your own instead of
    `CodeDenoiser` with this width. options: resume, minutes, checkpoint_every, preview_every (see `loop.train`).

    Raises `RequestError` for codes that are no vectors, and as `train_prior` does.
    """
    place = as_place(code)
    pictures = opened(photos, network.channels, size)
    if prior is not None and prior.code != place:
        raise RequestError(f"the prior's codes are those at {prior.code}, not at {place}")
    with network.held(), joined(network.device) as processes:
        encoding = Encoding(network, place, None, pictures.size)
        means = measured_means(pictures, encoding, schedule.seed)
        level = means.noise({"h": noise})["h"]
        if denoiser is None:
            if len(encoding.code_shape) != 1:
                raise RequestError(
                    f"a denoiser of codes takes vectors, but {place} has shape {list(encoding.code_shape)}; give a "
                    "denoiser of your own"
                )
            with seeded(schedule.seed, "denoiser"):
                denoiser = CodeDenoiser(encoding.code_shape[0], width)
            denoiser.get_buffer("code_scale").fill_(means.h_root_mean_square)
        task = DenoiserTask(denoiser.to(network.device), pictures, encoding, level, schedule, processes)
        settings = {**task.settings(), "trains": "code denoiser", "network": described(network), "code": str(place)}
        progress = train(task, len(pictures), folder, schedule, settings, processes=processes, **options)
        write_record(folder, settings, schedule, task, progress, processes)
    without = Prior(
        None, network, place, None, pictures.size, encoding.code_shape, pictures.channels, means.h, name="a denoiser"
    )
    whole = replace(prior or without, denoiser=denoiser)
    return TrainedDenoiser(
        denoiser, level, whole, progress, settings, kept(whole, folder) if processes.is_first else None
    )


def train_image_denoiser(
    photos: str | Path | Tensor | Photos,
    folder: str | Path,
    *,
    noise: float = PIXEL_NOISE,
    channels: int = 3,
    prior: Prior | None = None,
    denoiser: nn.Module | None = None,
    width: int = 96,
    schedule: Schedule = IMAGES,
    size: int | None = None,
    device: str | torch.device = "cpu",
    **options: Any,
) -> TrainedDenoiser:
    """Train r(x), for PPGN-x, on photos.

    noise: its standard deviation, for images in [0, 1]. prior: as in `train_code_denoiser`. denoiser: a module of your
    own instead of `ImageDenoiser` with this width. options: as in `train_code_denoiser`.
    """
    if not 0 < noise < float("inf"):
        raise RequestError(f"the noise on images is above zero, not {noise}")
    pictures = opened(photos, channels, size)
    if prior is not None and (prior.channels, prior.height, prior.width) != (channels, *[pictures.size] * 2):
        raise RequestError(
            f"the prior's images are {prior.channels} x {prior.height} x {prior.width}, but the photos "
            f"{channels} x {pictures.size} x {pictures.size}"
        )
    where = torch.device(device)
    with joined(where) as processes:
        if denoiser is None:
            with seeded(schedule.seed, "denoiser"):
                denoiser = ImageDenoiser(channels, width)
        denoiser = denoiser.to(where)
        task = DenoiserTask(denoiser, pictures, None, noise, schedule, processes)
        settings = {**task.settings(), "trains": "image denoiser"}
        progress = train(task, len(pictures), folder, schedule, settings, processes=processes, **options)
        write_record(folder, settings, schedule, task, progress, processes)
    whole = replace(prior or Prior(size=pictures.size, channels=channels, name="a denoiser"), image_denoiser=denoiser)
    return TrainedDenoiser(
        denoiser, noise, whole, progress, settings, kept(whole, folder) if processes.is_first else None
    )


class DenoiserTask:
    """Steps of a denoiser: |r(v + noise) - v|^2, averaged over the batch; v are codes, or without `encoding` images."""

    columns = ("denoising",)

    def __init__(
        self,
        denoiser: nn.Module,
        photos: Photos,
        encoding: Encoding | None,
        noise: float,
        schedule: Schedule,
        processes: Processes,
    ):
        self.parts = {"denoiser": denoiser}
        self.found: dict[str, float] = {}
        self._denoiser, self._photos, self._encoding = denoiser, photos, encoding
        self._noise, self._schedule, self._processes = noise, schedule, processes
        self._device = next(denoiser.parameters()).device
        self._known = None if encoding is None else encoding.of_all(photos)

    def settings(self) -> dict[str, Any]:
        """What belongs into the training's settings, as plain JSON types."""
        photos = {"count": len(self._photos), "size": self._photos.size, "digest": self._photos.digest()}
        return {"photos": photos, "noise": self._noise, "denoiser": described(self._denoiser)}

    def step(self, number: int, indices: Tensor) -> Step:
        values = self._values(self._processes.part(indices))
        source = generator(self._schedule.seed, "noise", number)
        noise = self._processes.part(torch.randn(self._schedule.batch, *values.shape[1:], generator=source))
        self._denoiser.zero_grad(set_to_none=True)
        loss = squared_distance(self._denoiser(values + self._noise * noise.to(self._device)), values)
        torch.autograd.backward(loss)
        return Step(self._processes.average({"denoising": float(loss.detach())}), ["denoiser"])

    def preview(self) -> list[Tensor]:
        if self._encoding is not None:
            return []
        images = self._values(torch.arange(min(_SHOWN, len(self._photos))))
        source = generator(self._schedule.seed, "noise on the preview")
        noisy = images + self._noise * torch.randn(images.shape, generator=source).to(self._device)
        with torch.no_grad():
            return [images, noisy, self._denoiser(noisy)]

    def _values(self, indices: Tensor) -> Tensor:
        """Codes or images of these photos."""
        if self._known is not None:
            return self._known[0][indices].to(self._device)
        images = self._photos.batch(indices).to(self._device)
        return images if self._encoding is None else self._encoding.of(images)[0]
