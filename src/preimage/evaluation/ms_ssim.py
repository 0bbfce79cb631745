"""How alike two images are at several scales: MS-SSIM (Wang, Simoncelli & Bovik 2003); paper 3, table S3, SPEC P24."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RequestError

WINDOW, SIGMA = 11, 1.5
"""The Gaussian window: its side and its standard deviation, in pixels."""

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The published exponents, from the finest scale to the coarsest; they sum to 1 (section 3.2 of Wang et al. 2003)."""

_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2
_VALUES_AT_ONCE = 2_000_000


def scales_that_fit(height: int, width: int) -> int:
    """How many scales, at most the five published, leave a window's worth of pixels at the coarsest.

    32 pixels have 2, 64 have 3, 128 have 4. Five take 161, one more than SPEC P.5-12 says.
    Raises `RequestError` where not even one does.
    """
    side = min(height, width)
    if side < WINDOW:
        raise RequestError(f"SSIM takes images of at least {WINDOW} x {WINDOW} pixels, not {height} x {width}")
    count = 1
    while count < len(WEIGHTS) and -(-side // 2**count) >= WINDOW:
        count += 1
    return count


def ms_ssim(one: Tensor, other: Tensor, scales: int | None = None) -> Tensor:
    """MS-SSIM of each pair of images: float64 [N], 0 to 1, which equal ones have.

    one, other: float [N, C, H, W] in [0, 1]. scales: 1 to 5; default as many as fit (`scales_that_fit`).

    The product over scales of (mean contrast and structure)^weight, times the mean luminance at the coarsest. The
    weights of the first scales alone are divided by their sum, so that the exponents sum to 1 for any number of them;
    values of different numbers of scales do not compare. Between scales 2 x 2 pixels become their mean, as in the
    authors' code. Each channel is compared by itself, and means go over channels and places. A mean below zero (images
    that are each other's negatives) counts as zero, because a root of it is no number.

    In float64: a variance is a small difference of squares. Raises `RequestError` for other shapes, or where so many
    scales do not fit.
    """
    _check(one, other)
    fit = scales_that_fit(*one.shape[2:])
    count = fit if scales is None else scales
    if not 1 <= count <= fit:
        raise RequestError(f"images of {one.shape[2]} x {one.shape[3]} pixels take 1 to {fit} scales, not {count}")
    return torch.cat([_ms_ssim(a, b, count) for a, b in _chunks(one, other)])


def ssim(one: Tensor, other: Tensor) -> Tensor:
    """SSIM of each pair of images (Wang et al. 2004), -1 to 1, float64 [N]: the one scale of the images as they are.

    one, other: float [N, C, H, W] in [0, 1]. Raises `RequestError` as `ms_ssim` does.
    """
    _check(one, other)
    scales_that_fit(*one.shape[2:])
    return torch.cat([_ssim(a, b) for a, b in _chunks(one, other)])


def _ssim(one: Tensor, other: Tensor) -> Tensor:
    luminance, structure = _maps(one, other)
    return (luminance * structure).mean((1, 2, 3))


def _ms_ssim(one: Tensor, other: Tensor, count: int) -> Tensor:
    weights = [weight / sum(WEIGHTS[:count]) for weight in WEIGHTS[:count]]
    product = one.new_ones(len(one))
    for scale, weight in enumerate(weights):
        luminance, structure = _maps(one, other)
        if scale == count - 1:
            structure = luminance * structure
        product = product * structure.mean((1, 2, 3)).clamp_min(0) ** weight
        # An odd last row or column stands for itself, as it does in the authors' code.
        one, other = (F.avg_pool2d(images, 2, ceil_mode=True) for images in (one, other))
    return product


def _maps(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast times structure, wherever the window fits: [N, C, H - 10, W - 10] each."""
    means = _blurred(torch.stack([one, other, one * one, other * other, one * other]))
    mean_one, mean_other = means[0], means[1]
    both, squares = mean_one * mean_other, mean_one.square() + mean_other.square()
    luminance = (2 * both + _LUMINANCE) / (squares + _LUMINANCE)
    structure = (2 * (means[4] - both) + _CONTRAST) / (means[2] + means[3] - squares + _CONTRAST)
    return luminance, structure


def _blurred(images: Tensor) -> Tensor:
    """Means under the window wherever it fits: two products of matrices, which are faster than convolutions here."""
    down, right = (_windows(side, images) for side in images.shape[-2:])
    return down @ images @ right.T


def _windows(side: int, like: Tensor) -> Tensor:
    """A row for each place of the window along `side` pixels: [side - 10, side]."""
    apart = torch.arange(side, device=like.device) - torch.arange(side - WINDOW + 1, device=like.device)[:, None]
    inside = (apart >= 0) & (apart < WINDOW)
    distance = (apart - WINDOW // 2).to(like.dtype)
    return torch.where(inside, -distance.square() / (2 * SIGMA**2), -torch.inf).softmax(1)


def _check(one: Tensor, other: Tensor) -> None:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)) or one.ndim != 4 or one.shape != other.shape:
        shapes = [list(i.shape) if isinstance(i, Tensor) else type(i).__name__ for i in (one, other)]
        raise RequestError(
            f"pairs of images are two tensors [N, C, H, W] of one shape, not {shapes[0]} and {shapes[1]}"
        )
    if not one.numel():
        raise RequestError("there is no image to compare")
    if not (one.is_floating_point() and other.is_floating_point()):
        raise RequestError("images to compare are floats in [0, 1]")
    for images in (one, other):
        if not (images.isfinite().all() and images.min() >= 0 and images.max() <= 1):
            raise RequestError("images to compare have values in [0, 1]")


def _chunks(one: Tensor, other: Tensor) -> list[tuple[Tensor, Tensor]]:
    size = max(1, _VALUES_AT_ONCE // one[0].numel())
    halves = [[part.double() for part in torch.split(images, size)] for images in (one, other)]
    return list(zip(*halves, strict=True))
