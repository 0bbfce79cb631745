"""The images of a data set that are nearest to given ones (paper 3, figures S10 and S25: is it memory?)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.embedding import by_features, embedded, in_pixels
from preimage.network import Network, Place

NEAREST = 5
_CHUNK = 1024
_SPARE = 8
"""How many more than asked are compared exactly, for what rounding may have put behind others."""


@dataclass(frozen=True)
class Nearest:
    """space: "pixels", or the tap whose features were compared. indices: int64 [N, k] in the data set, the nearest
    first. distances: float32 [N, k], ascending: Euclidean in pixels, 1 - cosine in features."""

    space: str
    indices: Tensor
    distances: Tensor

    @property
    def relative(self) -> Tensor:
        """The nearest's distance as a share of the mean of the others', [N]; it takes two or more, and 1 where all are
        0 apart.

        A flat, blurred picture is near to everything, a copy is near to one (after Carlini et al. 2023, section 4.2).
        """
        if self.distances.shape[1] < 2:
            raise RequestError("relative distances take at least the two nearest")
        first, others = self.distances[:, 0].double(), self.distances[:, 1:].double().mean(1)
        return torch.where(others > 0, first / others, 1.0)


def nearest_images(
    images: Tensor,
    among: Tensor,
    count: int = NEAREST,
    *,
    network: Network | None = None,
    tap: str | Place | None = None,
    chunk: int = _CHUNK,
) -> Nearest:
    """For each image the `count` nearest of a data set, in pixels; or in a network's features at a tap.

    images: [N, C, H, W]; among: [M, C, H, W], M at least `count`; floats in [0, 1] or bytes. In pixels both have the
        same size, in features any. chunk: how many of the data set are looked at at once, which bounds the memory.

    Scalar products choose few of each chunk, whose distances are then taken of differences: that of an image from
    itself is exactly 0. Of equal distances the earlier in the data set is named first, unless more than eight are equal
    to the last.

    Raises `RequestError` for other shapes, or a network without tap, and `UnknownTapError`.
    """
    if (network is None) != (tap is None):
        raise RequestError("features take a network and a tap; without both, images are compared in pixels")
    for what in (images, among):
        if not isinstance(what, Tensor) or what.ndim != 4 or not what.numel():
            shape = list(what.shape) if isinstance(what, Tensor) else type(what).__name__
            raise RequestError(f"images are a tensor [N, C, H, W] with at least one of them, not {shape}")
    if not 1 <= count <= len(among):
        raise RequestError(f"of {len(among)} images, 1 to {len(among)} can be the nearest, not {count}")
    if chunk < 1:
        raise RequestError(f"a chunk has at least one image, not {chunk}")
    if network is None and images.shape[1:] != among.shape[1:]:
        raise RequestError(
            f"images {list(images.shape[1:])} and those of the data set {list(among.shape[1:])} have no pixels in "
            "common; resample them, or compare features"
        )
    embedding = in_pixels if network is None or tap is None else by_features(network, tap)
    points = embedded(images, embedding, min(chunk, 256))
    indices = torch.zeros(len(images), 0, dtype=torch.int64)
    distances = torch.zeros(len(images), 0)
    for begin in range(0, len(among), chunk):
        others = embedded(among[begin : begin + chunk], embedding, min(chunk, 256))
        some = _few(points, others, count + _SPARE)
        both = torch.cat([distances, _distances(points, others, some)], 1)
        which = torch.cat([indices, begin + some], 1)
        distances, order = both.sort(stable=True, dim=1)
        distances, indices = distances[:, :count], which.gather(1, order[:, :count])
    if network is not None:
        distances = distances.square() / 2  # between unit vectors, which is 1 - cosine
    return Nearest("pixels" if tap is None else str(tap), indices, distances)


def _few(points: Tensor, others: Tensor, count: int) -> Tensor:
    """The nearest up to rounding, by their place: int64 [N, count, or all there are]."""
    middle = others.mean(0)  # rounding is less around zero
    moved = others - middle
    squares = moved.square().sum(1) - 2 * (points - middle) @ moved.T
    return squares.topk(min(count, len(others)), 1, largest=False).indices.sort(1).values


def _distances(points: Tensor, others: Tensor, chosen: Tensor) -> Tensor:
    return torch.stack([(others[some] - point).norm(dim=1) for point, some in zip(points, chosen, strict=True)])
