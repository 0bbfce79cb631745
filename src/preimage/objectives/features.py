"""Asking for the features that a layer computed from a photo (paper 2, SPEC S2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.images import Photo, as_image
from preimage.network import Network, Place
from preimage.objectives.objective import Activations, Objective

Distance = Literal["l2", "l1"]


@dataclass(frozen=True, repr=False, eq=False)
class Features(Objective):
    """-|Phi(u) - Phi_0|^2 / |Phi_0|^2, or -|Phi(u) - Phi_0|_1 / |Phi_0|_1: zero for the photo itself, and about -1 for
    an image that the layer does not answer (paper 2, equation 2, with the Z of SPEC S.3-6).

    target: Phi_0, float32 [channels, *positions].
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
        return -off.square().sum(1) / target.square().sum()

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
    after_relu: what the layer hands on, behind a final ReLU, rather than what stands before it.

    Raises `RequestError` for an unknown tap or distance, and where the layer answers the photo with zeros, or with
    what it answers to any image.
    """
    if distance not in get_args(Distance):
        raise RequestError(f"a distance is one of {', '.join(get_args(Distance))}, not '{distance}'")
    image = as_image(photo, network.channels)
    place = Place(network.tap(tap).name, after_relu)
    with torch.no_grad():
        # Grey and noise besides: a layer that answers all of them alike knows nothing of the image.
        noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
        seen = network.run(torch.stack([image, torch.full_like(image, 0.5), noise]), [place])[place]
    target = seen[0]
    if not target.abs().sum() > 0:
        raise RequestError(f"'{tap}' answers {name} with zeros everywhere: there is nothing to invert")
    if (seen[1:] == target).all():
        raise RequestError(f"'{tap}' gives the same for every image: it carries no information on {name}")
    return Features(place, target.cpu(), distance, name)
