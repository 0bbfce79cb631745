"""Images parametrized by their pixels, as they are or behind a sigmoid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.parametrizations.parametrization import Parametrization

_SHOWN = 0.99


@dataclass(frozen=True)
class Pixels(Parametrization):
    """P(v) = grey + v: the pixels themselves, free to leave [0, 1] while optimising.

    A picture with more contrast than can be shown is handed over with less: all of v is scaled down until 99 % of its
    values lie between -1 and 1 (255 divided by the 99th percentile, as paper 0's code shows its pictures), and what
    then still is beyond black or white is cut off.

    Paper 0 starts from N(0, 1) on the 0..255 scale around the mean (SPEC A9); that is the default spread.
    """

    spread: float = 1 / 255
    grey: float = 0.5

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)

    def image(self, parameters: Tensor) -> Tensor:
        return parameters + self.grey

    def picture(self, parameters: Tensor) -> Tensor:
        sizes = parameters.abs().flatten(1)
        # (torch.quantile refuses images of more than 16 million values)
        common = sizes.kthvalue(max(1, round(_SHOWN * sizes.shape[1])), dim=1).values
        return self.image(parameters * (1 / common).clamp_max(1.0)[:, None, None, None]).clamp(0, 1)

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
    """The inverse of the sigmoid, with black and white kept 1/512 away from 0 and 1, where it is infinite."""
    return torch.logit(images, eps=1 / 512)
