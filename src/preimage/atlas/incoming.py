"""Which channels a unit is made from: gradient times activation, one step back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network, Place
from preimage.objectives import EachItsOwn, Objective

STRONGEST = 5
_FURTHEST = 16
"""So many taps back the first that mixes channels is looked for."""


def contributions(network: Network, objectives: Sequence[Objective], images: Tensor, before: str) -> Tensor:
    """What each channel of the tap `before` gives to each image's own objective, float32 [N, channels] on the CPU.

    Gradient times activation, summed over positions: the objective's gradient with respect to that tap's activations
    (behind a ReLU that it ends in), times these activations. Where what lies between is linear this is exactly what
    the channel adds to the score (a bias comes on top); elsewhere it is that to first order. It holds for these images
    alone, which are the units' own pictures: what a unit is made from when it sees what it wants.

    images: float [N, C, H, W]. Raises `RequestError` where the objectives do not depend on that tap, or where it
    cannot be exchanged (one of several outputs).
    """
    asked = EachItsOwn(tuple(objectives))
    place = Place(before, after_relu=True)
    images = images.to(network.device)
    with torch.no_grad():
        values = network.run(images, [place])[place]
    values = values.detach().requires_grad_(True)
    with torch.enable_grad():
        score = asked.score(network.beyond(before, images).run(values, asked.places()))
        if not score.requires_grad:
            raise RequestError(f"{asked} does not depend on '{before}'")
        (gradient,) = torch.autograd.grad(score.sum(), values, allow_unused=True)
    if gradient is None:
        raise RequestError(f"{asked} does not depend on '{before}'")
    return (
        (gradient * values.detach()).flatten(2).sum(2).cpu() if values.ndim > 2 else (gradient * values).detach().cpu()
    )


def preceding(network: Network, tap: str, objectives: Sequence[Objective], image: Tensor) -> str | None:
    """The nearest tap before `tap` in which more than one channel makes these objectives; None where there is none.

    That leaves out what lies inside the tap itself, and what is done channel by channel (a normalisation, an
    activation, a depthwise convolution), whose channel is the same unit once more.

    image: [C, H, W], on which it is tried; anything with contrast.
    """
    names = [row.name for row in network.taps()]
    here = names.index(network.tap(tap).name)
    tried = 0
    images = image.expand(len(objectives), *image.shape)
    for name in reversed(names[:here]):
        if name.startswith(f"{names[here]}."):
            continue
        if tried == _FURTHEST:
            return None
        tried += 1
        try:
            given = contributions(network, objectives, images, name)
        except RequestError:  # on another way through the network
            continue
        if bool(((given != 0).sum(1) > 1).any()):
            return name
    return None


def strongest(given: Tensor, count: int = STRONGEST) -> list[list[tuple[int, float]]]:
    """Of each row of `contributions` the channels that weigh most, with their share of the sum of all sizes, signed."""
    out = []
    for row in given:
        row = row.nan_to_num(0.0, 0.0, 0.0)
        total = float(row.abs().sum())
        order = row.abs().sort(descending=True, stable=True).indices[:count].tolist()
        out.append([(index, float(row[index]) / total) for index in order if total and float(row[index])])
    return out
