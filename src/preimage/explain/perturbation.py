"""What is put in the place of a part of a photo (paper 4, section 4.1; SPEC M4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.method import Question
from preimage.images import Photo, as_image, centre_crop
from preimage.priors import Gaussian

Kind = Literal["blur", "constant", "noise"]
Perturbation = Kind | Photo | Callable[[Tensor], Tensor]
"""A kind, a picture to put there, or a function that makes pictures [N, C, H, W] in [0, 1] out of photos."""

_NOISE = 0.225
"""Standard deviation of noise for networks that do not say that of their training images: about ImageNet's."""


def perturbed(photos: Tensor, perturbation: Perturbation, asked: Question, sigma: float) -> Tensor:
    """What photos [N, C, H, W] of a question become where they are perturbed, of the same shape, in [0, 1].

    "blur": a Gaussian of `sigma` pixels, mirrored at the border. "constant": the network's mean colour. "noise": that,
    with independent Gaussian noise of the network's own standard deviation, drawn from each photo's seed.

    Raises `RequestError` for another name, and for a function that returns something else.
    """
    if isinstance(perturbation, (np.ndarray, Tensor, Image.Image)) or (
        isinstance(perturbation, str) and perturbation not in ("blur", "constant", "noise")
    ):
        if isinstance(perturbation, str) and "." not in perturbation and "/" not in perturbation:
            raise RequestError(f"a perturbation is blur, constant, noise or an image file, not '{perturbation}'")
        picture = centre_crop(as_image(perturbation, asked.network.channels), (photos.shape[2], photos.shape[3]))
        return picture.to(photos).expand_as(photos)
    if perturbation == "blur":
        return Gaussian(sigma=sigma)(photos)
    if perturbation == "constant":
        return asked.mean_colour().to(photos).expand_as(photos)
    if perturbation == "noise":
        mean = asked.mean_colour().to(photos)
        std = torch.tensor(asked.network.std or (_NOISE,) * asked.network.channels).view(-1, 1, 1)
        drawn = [torch.randn(photos.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in asked.seeds]
        return (mean + (torch.stack(drawn) * std).to(photos)).clamp(0, 1)
    if not callable(perturbation):
        return perturbed(photos, as_image(perturbation, asked.network.channels), asked, sigma)
    with torch.no_grad():
        made = perturbation(photos.clone())
    if not isinstance(made, Tensor) or made.shape != photos.shape:
        got = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise RequestError(f"a perturbation makes pictures {list(photos.shape)} out of such photos, not {got}")
    if not (made.isfinite().all() and made.min() >= 0 and made.max() <= 1):
        raise RequestError("a perturbation makes pictures with finite values in [0, 1]; this one does not")
    return made.detach().to(photos)
