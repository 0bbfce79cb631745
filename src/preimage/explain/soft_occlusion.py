"""Blurring soft discs of a photo away instead of hiding squares of it.

Paper 4, supplement, section 4.1 (SPEC M15, M16). Lengths are published for photos of 224 pixels and scaled for others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.method import PUBLISHED_SIDE, Found, Method, Question
from preimage.explain.occlusion import (
    answers_without,
    centres,
    check_above_zero,
    check_positions,
    mean_falls,
)
from preimage.explain.perturbation import perturbed

_FINENESS, _NODES, _REACH = 32, 28, 8.0
"""Of a disc's profile: values for each sigma of distance, and the integral's nodes, over so many sigmas either way."""
_FALL = 0.01
"""By this much the heat map of a large disc falls from its centre to the far end of the photo."""


@dataclass(frozen=True)
class BlurOcclusion(Method):
    """How far the answer falls, on average, while a soft disc that covers the pixel blurs its part of the photo.

    The heat map is sum_k M_k (score of the photo - score with disc k blurred) / sum_k M_k, pixel by pixel.

    diameter: of the discs; softness: sigma of the Gaussian that softens their edges; blur: sigma of the Gaussian that
        blurs the photo; all in pixels, for photos of 224.
    positions: of the centre along each axis, evenly from border to border; discs are cut off there.

    Raises `RequestError` for settings that make no sense, and when asked, for a disc as large as the photo, or for
    discs so far apart that they leave pixels between them.
    """

    name: ClassVar[str] = "blur-occlusion"
    source: ClassVar[str] = "paper 4, supplement, section 4.1"

    diameter: float = 35.0
    softness: float = 10.0
    blur: float = 10.0
    positions: int = 28

    def __post_init__(self) -> None:
        check_positions(self.positions)
        for what, value in (("diameter", self.diameter), ("softness", self.softness), ("blur", self.blur)):
            check_above_zero(f"a disc's {what}", value)

    def steps(self) -> int:
        return self.positions**2

    def explain(self, asked: Question) -> Found:
        diameter, sigma = asked.pixels(self.diameter), asked.pixels(self.softness)
        if diameter >= min(asked.size):
            raise RequestError(
                f"a disc of {diameter:.3g} pixels is as large as the photo, {asked.size[0]} x {asked.size[1]}"
            )
        if max(asked.size) / (self.positions - 1) > diameter:
            raise RequestError(
                f"discs of {diameter:.3g} pixels with so few positions leave pixels of a photo of {asked.size[0]} x "
                f"{asked.size[1]} uncovered; ask for larger discs, or for more positions"
            )
        rows, columns = (centres(length, self.positions) for length in asked.size)
        points = torch.cartesian_prod(torch.tensor(rows), torch.tensor(columns))
        radii = torch.full((len(points),), diameter / 2)

        def discs(_: int, which: slice) -> Tensor:
            return soft_discs(points[which], radii[which], sigma, asked.size, asked.network.device)

        behind = perturbed(asked.photos, "blur", asked, asked.pixels(self.blur))
        return mean_falls(asked, behind, len(points), discs, self.steps())


@dataclass(frozen=True)
class VariableOcclusion(Method):
    """The smallest of those soft discs, drawn at random, whose blurring makes the answer fall furthest.

    `samples` discs are drawn: their area from a log-normal distribution, the height of their centre from a normal one,
    both fitted by paper 4 to objects of COCO, and left to right uniformly. Of the `share` of them that suppress the
    answer most, the one with the smallest radius is taken. Its centre is the point: details say it as (row, column) of
    a pixel, and the radius in pixels.

    The heat map is that disc, which falls by 1 % more from its centre to the far end of the photo, so that the point is
    its only maximum however large the disc is.

    log_area: mean and standard deviation of the area's logarithm (pixels squared, photos of 224). height: those of the
        centre's distance from the top. Centres outside the photo are moved to its border. softness, blur: as in
        `BlurOcclusion`.

    Raises `RequestError` for settings that make no sense.
    """

    name: ClassVar[str] = "variable-occlusion"
    source: ClassVar[str] = "paper 4, supplement, section 4.1"

    samples: int = 784
    share: float = 0.1
    log_area: tuple[float, float] = (7.5060, 1.2848)
    height: tuple[float, float] = (116.0759, 47.5054)
    softness: float = 10.0
    blur: float = 10.0

    def __post_init__(self) -> None:
        if type(self.samples) is not int or self.samples < 1:
            raise RequestError(f"at least 1 disc is drawn, a whole number, not {self.samples}")
        if not (isinstance(self.share, Real) and 0 < self.share <= 1):
            raise RequestError(f"the share of discs that are looked at is above 0 and at most 1, not {self.share}")
        for what, pair in (("log_area", self.log_area), ("height", self.height)):
            if len(pair) != 2 or not all(math.isfinite(value) for value in pair) or pair[1] < 0:
                raise RequestError(f"{what} is a mean and a standard deviation, not {pair}")
        check_above_zero("a disc's softness", self.softness)
        check_above_zero("a disc's blur", self.blur)

    def steps(self) -> int:
        return self.samples

    def draw(self, asked: Question, index: int) -> tuple[Tensor, Tensor]:
        """Discs for one photo, from its seed.

        Returns the pixels (row, column) at their centres, int64 [samples, 2], and their radii in pixels, [samples].
        """
        generator = torch.Generator().manual_seed(asked.seeds[index])
        area, down = torch.randn((2, self.samples), generator=generator, dtype=torch.float64)
        across = torch.rand(self.samples, generator=generator, dtype=torch.float64)
        radii = (self.log_area[0] + self.log_area[1] * area).exp().div(math.pi).sqrt() * asked.pixels(1)
        (mean, deviation), (height, width) = self.height, asked.size
        points = torch.stack([(mean + deviation * down) * (height / PUBLISHED_SIDE), across * width], 1)
        return points.floor().long().clamp(torch.tensor([0, 0]), torch.tensor([height - 1, width - 1])), radii

    def explain(self, asked: Question) -> Found:
        sigma = asked.pixels(self.softness)
        drawn = [self.draw(asked, i) for i in range(len(asked))]
        disc = partial(soft_discs, sigma=sigma, size=asked.size, device=asked.network.device)

        def discs(i: int, which: slice) -> Tensor:
            points, radii = drawn[i]
            return disc(points[which] + 0.5, radii[which])

        behind = perturbed(asked.photos, "blur", asked, asked.pixels(self.blur))
        left: list[list[Tensor]] = [[] for _ in range(len(asked))]
        with asked.network.held():
            whole = asked.photo_scores()
            for i, _, scores in answers_without(asked, behind, self.samples, discs, self.samples):
                left[i].append(scores)
        heatmaps: list[Tensor] = []
        details: list[dict[str, Any]] = []
        notes: list[list[str]] = []
        for scores, (points, radii) in zip((torch.cat(some).cpu() for some in left), drawn, strict=True):
            finite = bool(scores.isfinite().all())
            notes.append([] if finite else ["some answers to the photo without a disc are not finite: do not read it"])
            lowest = scores.sort(stable=True).indices[: max(1, round(self.share * self.samples))]
            best = lowest[radii[lowest].argmin()]
            chosen = disc(points[best][None] + 0.5, radii[best][None])[0]
            away = _distances(points[best][None].to(chosen) + 0.5, asked.size)[0]
            heatmaps.append(chosen * (1 - _FALL * away / math.hypot(*asked.size)))
            details.append({"point": points[best].tolist(), "radius": float(radii[best])})
        return Found(torch.stack(heatmaps), scores={"photo": whole}, notes=notes, details=details)


def soft_discs(
    points: Tensor, radii: Tensor, sigma: float, size: tuple[int, int], device: torch.device | None = None
) -> Tensor:
    """Discs, 1 inside, convolved with a Gaussian in the plane and cut off at the photo's border: float32 [K, H, W].

    points: centres (from the top, from the left) [K, 2] within the photo, in pixels: the first pixel's centre is at
        (0.5, 0.5). radii: [K], and sigma, in pixels. size: (height, width).

    A soft disc falls with the distance from its centre alone. At distance t and with radius R, in units of sigma, it is
    the integral over u from 0 to R of u exp(-(u^2 + t^2) / 2) I_0(u t), which is looked up between values 1/32 apart
    (linearly, which is off by less than 1e-4).
    """
    apart = _distances(points.to(device), size) * (_FINENESS / sigma)
    last = math.ceil(math.hypot(*size) * _FINENESS / sigma) + 1
    different, which = map(torch.from_numpy, np.unique(radii.double().numpy() / sigma, return_inverse=True))
    profiles = _profiles(different, last + 1).float().to(device)
    before = apart.floor().clamp_(max=last - 1)
    low = before.long() + which.to(device)[:, None, None] * (last + 1)
    table = profiles.flatten()
    return torch.lerp(table[low], table[low + 1], apart - before)


def _distances(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Of every pixel's centre from each point, float32 [K, H, W]."""
    rows, columns = (torch.arange(length, device=points.device) + 0.5 for length in size)
    down, across = rows - points[:, :1].float(), columns - points[:, 1:].float()
    return torch.hypot(down[:, :, None], across[:, None])


def _profiles(radii: Tensor, count: int) -> Tensor:
    """Soft discs at distances 0, 1/32, 2/32 ..., in units of sigma: float64 [radii, count]."""
    nodes, weights = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(_NODES))
    t = torch.arange(count, dtype=torch.float64) / _FINENESS
    # Further from u = t the integrand is nothing.
    end = torch.minimum(radii[:, None], t + _REACH)
    half = (end - (t - _REACH).clamp(min=0)).clamp(min=0)[..., None] / 2
    u = end[..., None] - half * (1 - nodes)
    t = t[:, None]
    # i0e(x) is exp(-x) I_0(x), which does not overflow.
    values = u * torch.exp(-(u - t).square() / 2) * torch.special.i0e(u * t)
    integrals: Tensor = (half * values) @ weights
    return integrals
