"""The gradient along the way from nothing to the photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.averaged_gradients import averaged_gradients
from preimage.explain.method import Found, Method, Question
from preimage.images import Photo, as_image, centre_crop

_NAMED = ("mean", "black")


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """How much each pixel adds to the answer, or takes from it, on the straight way from a baseline to the photo.

    Sundararajan, Taly & Yan 2017, "Axiomatic Attribution for Deep Networks", equation 1, summed over the channels:
    signed, positive where a pixel speaks for the answer. The heat map adds up to score(photo) - score(baseline) (their
    completeness, proposition 1), as far as the integral is exact; both scores are returned.

    nodes: of the Gauss-Legendre quadrature, which is exact for polynomials up to degree 2 nodes - 1 along the way.
    baseline: "mean" (the network's mean colour), "black", a number in [0, 1], or a picture, cropped and resampled as
        the photo is.

    Raises `RequestError` for another baseline, or if no gradient comes back from what is asked.
    """

    name: ClassVar[str] = "integrated-gradients"
    source: ClassVar[str] = "Sundararajan, Taly & Yan 2017, equation 1"

    nodes: int = 50
    baseline: float | Photo = "mean"

    def __post_init__(self) -> None:
        if type(self.nodes) is not int or self.nodes < 1:
            raise RequestError(f"an integral takes at least 1 node, a whole number, not {self.nodes}")
        given = self.baseline
        if isinstance(given, str) and given not in _NAMED and "." not in given and "/" not in given:
            raise RequestError(f"a baseline is mean, black, a number or a picture, not '{given}'")
        if isinstance(given, (int, float)) and not 0 <= given <= 1:
            raise RequestError(f"a baseline's number lies in [0, 1], and is not {given}")

    def steps(self) -> int:
        return self.nodes

    def explain(self, asked: Question) -> Found:
        nodes, weights = np.polynomial.legendre.leggauss(self.nodes)
        along = ((1 + nodes) / 2).tolist()
        start = self._start(asked)
        way = asked.photos - start
        gradients = averaged_gradients(asked, lambda i, k: start + along[k] * way[i], (weights / 2).tolist())
        ends = torch.cat([asked.scores(i, start[None]) for i in range(len(asked))])
        return Found((way * gradients).sum(1), scores={"photo": asked.photo_scores(), "baseline": ends})

    def _start(self, asked: Question) -> Tensor:
        """The baseline, [C, H, W]."""
        given, shape = self.baseline, asked.photos.shape[1:]
        if isinstance(given, str) and given == "mean":
            return asked.mean_colour().expand(shape)
        if isinstance(given, str) and given == "black":
            return asked.photos.new_zeros(shape)
        if isinstance(given, (int, float)):
            return asked.photos.new_full(shape, given)
        return centre_crop(as_image(given, asked.network.channels), asked.size).to(asked.photos)
