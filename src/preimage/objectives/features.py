"""Asking for the features that a layer computed from a photo (paper 2, SPEC S2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.images import Photo, as_image
from preimage.network import Network, Place
from preimage.objectives.objective import Activations, Objective

Distance = Literal["l2", "l2-root", "l1"]

_ROUNDING = 1e-6
"""Answers that differ by a smaller share are the same up to float32's precision."""


@dataclass(frozen=True, repr=False, eq=False)
class Features(Objective):
    """-|Phi(u) - Phi_0|^2 / |Phi_0|^2: zero for the photo itself, and -1 for an image that the layer does not answer
    (paper 2, equation 3 with p = 2, and the Z of SPEC S.3-6).

    target: Phi_0, float32 [channels, *positions].
    distance: "l2" is that; "l2-root" |Phi(u) - Phi_0| / |Phi_0| (p = 1); "l1" has sums of absolute values.
    """

    place: Place
    target: Tensor
    distance: Distance = "l2"
    name: str = "a photo"

    def places(self) -> frozenset[Place]:
        return frozenset({self.place})

    def score(self, activations: Activations) -> Tensor:
        values = activations[self.place]
        target = self.target.to(values)
        if values.shape[1:] != target.shape:
            raise RequestError(
                f"'{self.place}' gives {list(values.shape[1:])} for this image, {list(target.shape)} for {self.name}; "
                "the two must be of one size"
            )
        off = (values - target).flatten(1)
        if self.distance == "l1":
            return -off.abs().sum(1) / target.abs().sum()
        squared = off.square().sum(1) / target.square().sum()
        # (the root has no slope at zero)
        return -squared if self.distance == "l2" else -(squared + torch.finfo(squared.dtype).tiny).sqrt()

    def bind(self, network: Network) -> Features:
        network.tap(self.place.tap)
        return self

    def __str__(self) -> str:
        return f"{self.place} as for {self.name}"


def features(
    network: Network,
    tap: str,
    photo: Photo,
    *,
    distance: Distance = "l2",
    after_relu: bool = True,
    name: str = "a photo",
) -> Features:
    """What `tap` answers to a photo, at the photo's own size, as an objective: be answered alike.

    photo: a file, picture, array or tensor (see `preimage.images.as_image`).
    distance: "l2" squared, "l2-root" without the square, "l1".
    after_relu: what the layer hands on, behind a final ReLU, rather than what stands before it.

    Raises `RequestError` for an unknown tap or distance, and where the layer answers the photo with zeros, or with
    what it answers to any image.
    """
    image = as_image(photo, network.channels)[None]
    return features_of_each(network, tap, image, [name], distance=distance, after_relu=after_relu)[0]


def features_of_each(
    network: Network,
    tap: str,
    photos: Tensor,
    names: Sequence[str],
    *,
    distance: Distance = "l2",
    after_relu: bool = True,
) -> list[Features]:
    """`features` for many photos [N, C, H, W] with one name each, in one pass."""
    if distance not in get_args(Distance):
        raise RequestError(f"a distance is one of {', '.join(get_args(Distance))}, not '{distance}'")
    place = Place(network.tap(tap).name, after_relu)
    # Grey and noise besides: a layer that answers all of them alike knows nothing of the image.
    noise = torch.rand(photos.shape[1:], generator=torch.Generator().manual_seed(0))
    others = torch.stack([torch.full_like(noise, 0.5), noise])
    with torch.no_grad():
        seen = network.run(torch.cat([photos, others]).to(network.device), [place])[place].cpu()
    asked = []
    for target, name in zip(seen, names, strict=False):
        if not target.isfinite().all():
            raise RequestError(f"'{tap}' does not answer {name} with finite numbers; check the network's weights")
        if not target.abs().sum() > 0:
            raise RequestError(f"'{tap}' answers {name} with zeros everywhere: there is nothing to invert")
        if (seen[-2:] - target).abs().max() <= _ROUNDING * target.abs().max():
            raise RequestError(f"'{tap}' gives the same for every image: it carries no information on {name}")
        asked.append(Features(place, target, distance, name))
    return asked
