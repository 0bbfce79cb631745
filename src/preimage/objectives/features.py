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
    ceiling: of a layer that ends in a ReLU (infinity) or is cut off above (6 for a ReLU6); None otherwise. Such a layer
        is asked before it, with differences that it would hide left out. A unit that is off by mistake then still has
        a gradient (SPEC A11); the distance is zero for the same images, and elsewhere as large as behind it or larger.
    """

    place: Place
    target: Tensor
    distance: Distance = "l2"
    name: str = "a photo"
    ceiling: float | None = None

    def places(self) -> frozenset[Place]:
        return frozenset({self.place})

    def score(self, activations: Activations) -> Tensor:
        values, target = self._values(activations)
        off = values - target
        if self.ceiling is not None:
            off = torch.where(target > 0, off, off.clamp_min(0))
            off = torch.where(target < self.ceiling, off, off.clamp_max(0))
        off = off.flatten(1)
        if self.distance == "l1":
            return -off.abs().sum(1) / target.abs().sum()
        squared = off.square().sum(1) / target.square().sum()
        # (the root has no slope at zero)
        return -squared if self.distance == "l2" else -(squared + torch.finfo(squared.dtype).tiny).sqrt()

    def error(self, activations: Activations) -> Tensor:
        """|Phi(u) - Phi_0|^2 / |Phi_0|^2 of what the layer hands on, whatever `distance` is, [N]."""
        values, target = self._values(activations)
        if self.ceiling is not None:
            values = values.clamp(0, self.ceiling)
        return (values - target).square().flatten(1).sum(1) / target.square().sum()

    def _values(self, activations: Activations) -> tuple[Tensor, Tensor]:
        values = activations[self.place]
        target = self.target.to(values)
        if values.shape[1:] != target.shape:
            raise RequestError(
                f"'{self.place}' gives {list(values.shape[1:])} for this image, {list(target.shape)} for {self.name}; "
                "the two must be of one size"
            )
        return values, target

    def bind(self, network: Network) -> Features:
        network.tap(self.place.tap)
        return self

    def __str__(self) -> str:
        place = self.place if self.ceiling is None else Place(self.place.tap, True)
        return f"{place} as for {self.name}"


def features(
    network: Network,
    tap: str,
    photo: Photo,
    *,
    distance: Distance = "l2",
    after_relu: bool = True,
    one_sided: bool = True,
    name: str = "a photo",
) -> Features:
    """What `tap` answers to a photo, at the photo's own size, as an objective: be answered alike.

    photo: a file, picture, array or tensor (see `preimage.images.as_image`).
    distance: "l2" squared, "l2-root" without the square, "l1".
    after_relu: what the layer hands on, behind a final ReLU, rather than what stands before it.
    one_sided: ask for that before the ReLU, leaving out what it hides (see `Features`); False: behind it, as in paper
        2, where units that are off have no gradient.

    Raises `RequestError` for an unknown tap or distance, and where the layer answers the photo with zeros, or with
    what it answers to any image.
    """
    image = as_image(photo, network.channels)[None]
    return features_of_each(network, tap, image, [name], distance=distance, after_relu=after_relu, one_sided=one_sided)[
        0
    ]


def features_of_each(
    network: Network,
    tap: str,
    photos: Tensor,
    names: Sequence[str],
    *,
    distance: Distance = "l2",
    after_relu: bool = True,
    one_sided: bool = True,
) -> list[Features]:
    """`features` for many photos [N, C, H, W] with one name each, in one pass."""
    if distance not in get_args(Distance):
        raise RequestError(f"a distance is one of {', '.join(get_args(Distance))}, not '{distance}'")
    places = [Place(network.tap(tap).name, after) for after in (False, True)]
    # Grey and noise besides: a layer that answers all of them alike knows nothing of the image.
    noise = torch.rand(photos.shape[1:], generator=torch.Generator().manual_seed(0))
    others = torch.stack([torch.full_like(noise, 0.5), noise])
    with torch.no_grad():
        answers = network.run(torch.cat([photos, others]).to(network.device), places)
        ceiling = _ceiling(*(answers[place] for place in places)) if after_relu and one_sided else None
        seen = answers[places[after_relu]].cpu()
    asked = []
    for target, name in zip(seen, names, strict=False):
        if not target.isfinite().all():
            raise RequestError(f"'{tap}' does not answer {name} with finite numbers; check the network's weights")
        if not target.abs().sum() > 0:
            raise RequestError(f"'{tap}' answers {name} with zeros everywhere: there is nothing to invert")
        if (seen[-2:] - target).abs().max() <= _ROUNDING * target.abs().max():
            raise RequestError(f"'{tap}' gives the same for every image: it carries no information on {name}")
        place = places[after_relu and ceiling is None]
        # (A view would keep the whole batch.)
        asked.append(Features(place, target.clone(), distance, name, ceiling))
    return asked


def _ceiling(before: Tensor, after: Tensor) -> float | None:
    """Where a layer cuts off what lies above zero: infinity for a ReLU; None if it does anything else than cut off."""
    if torch.equal(before, after):
        return None
    if torch.equal(before.relu(), after):
        return torch.inf
    highest = float(after.max())
    return highest if torch.equal(before.clamp(0, highest), after) else None
