"""What G and D are trained with (paper 3, equations 19 to 23)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RequestError

LOSSES = ("image", "match", "code", "adversarial")
"""Equations 19 (pixels), 20 (features h1), 23 (codes h) and 21 (against D), by the names that users give them."""

SHARES: Mapping[str, float] = {"image": 1.0, "match": 0.3, "code": 0.3, "adversarial": 1.0}
"""How long each term's gradient at the image is to be, beside the others, when its weight is chosen (SPEC P.5-7)."""


def squared_distance(made: Tensor, wanted: Tensor) -> Tensor:
    """Equations 19, 20 and 23: |made - wanted|^2 over all that belongs to one image [N, ...], averaged over the N."""
    return (made - wanted).square().sum() / len(made)


def adversarial_loss(fake: Tensor) -> Tensor:
    """Equation 21, -log D(G(h)), averaged; fake: D's logits [N] of images that were made.

    It falls as D takes them for photos; the form that does not saturate where D is sure that they are not.
    """
    return F.softplus(-fake).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Equation 22 with its brackets set right, -(log D(x) + log(1 - D(G(h)))), averaged (SPEC P.5-8); logits [N]."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def checked_losses(asked: Iterable[str] | Mapping[str, Any]) -> dict[str, float]:
    """The losses that are asked for, each with its share; raises `RequestError` for unknown names and bad shares.

    asked: names, for the usual shares; or shares by name.
    """
    shares = dict(asked) if isinstance(asked, Mapping) else {name: SHARES.get(name, 0.0) for name in asked}
    for name, share in shares.items():
        if name not in LOSSES:
            raise RequestError(f"there is no loss '{name}'; there are {', '.join(LOSSES)}")
        if not isinstance(share, (int, float)) or not 0 < share < float("inf"):
            raise RequestError(f"the share of the loss '{name}' is a number above zero, not {share!r}")
    if not shares:
        raise RequestError(f"at least one loss is needed: {', '.join(LOSSES)}")
    return {name: float(shares[name]) for name in LOSSES if name in shares}
