"""Images parametrized by their pixels, as they are or behind a sigmoid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.parametrizations.parametrization import Parametrization


@dataclass(frozen=True)
class Pixels(Parametrization):
    """P(v) = grey + v: the pixels themselves, free to leave [0, 1] while optimising.

    Paper 0 starts from N(0, 1) on the 0..255 scale around the mean (SPEC A9); that is the default spread.

    shown: how a picture with more contrast than fits is handed over. None: cut off at black and white. A share, 0.99 in
        paper 0's code: first scaled down until that share of all v lies between -1 and 1 ("255 divided by the 99th
        percentile").
    """

    spread: float = 1 / 255
    grey: float = 0.5
    shown: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)

    def image(self, parameters: Tensor) -> Tensor:
        return parameters + self.grey

    def picture(self, parameters: Tensor) -> Tensor:
        if self.shown is None:
            return super().picture(parameters)
        sizes = parameters.abs().flatten(1)
        # (torch.quantile refuses images of more than 16 million values)
        common = sizes.kthvalue(max(1, round(self.shown * sizes.shape[1])), dim=1).values
        return super().picture(parameters * (1 / common).clamp_max(1.0)[:, None, None, None])

    def parameters(self, images: Tensor) -> Tensor:
        return images - self.grey


@dataclass(frozen=True)
class SigmoidPixels(Parametrization):
    """P(v) = sigmoid(v), or sigmoid(A v) with a colour matrix A [channels, channels] (paper 1, P_rgb; SPEC I2)."""

    colours: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)

    def image(self, parameters: Tensor) -> Tensor:
        return torch.sigmoid(coloured(parameters, self.colours))

    def parameters(self, images: Tensor) -> Tensor:
        return uncoloured(logit(images), self.colours)


def coloured(values: Tensor, colours: Tensor | None) -> Tensor:
    """Independent channels -> correlated ones, [N, channels, H, W] -> the same; None changes nothing."""
    return values if colours is None else torch.einsum("oc,nchw->nohw", colours.to(values), values)


def uncoloured(values: Tensor, colours: Tensor | None) -> Tensor:
    """The inverse of `coloured`; of a matrix that knows fewer colours than channels, the nearest there is."""
    return values if colours is None else coloured(values, torch.linalg.pinv(colours.double(), rtol=1e-5))


def logit(images: Tensor) -> Tensor:
    """The inverse of the sigmoid, with black and white kept away from 0 and 1, where it is infinite.

    By 1/512, from where an ascent can start. Pixels in float64 are taken at their word (1e-12): what one has reached in
    black and white hardly changes any more, and whoever asks what it was for has to know that.
    """
    return torch.logit(images, eps=1e-12 if images.dtype == torch.float64 else 1 / 512)
