"""The answer while the most important pixels go (SPEC M17; the deletion curve of Petsiuk, Das & Saenko 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network
from preimage.objectives import Objective
from preimage.priors import Gaussian

SHARES = tuple(i / 20 for i in range(21))
"""Of the pixels: none, every twentieth more, all."""
_SIGMA = 10 / 224
"""Of the blur, as a share of the photo's shorter side (paper 4; SPEC M.2, M.5-4)."""
_BATCH = 16


def deletion_curve(
    network: Network,
    photos: Tensor,
    heatmaps: Tensor,
    objectives: Sequence[Objective],
    shares: Sequence[float] = SHARES,
) -> Tensor:
    """What the network answers while more and more of each photo is blurred, the most important pixels first.

    photos: float32 [N, C, H, W] in [0, 1]. heatmaps: [N, H, W], larger is more important; of equal ones, those further
        up and left go first. objectives: one for each photo, bound; `label(..., "prob")` for probabilities.
    shares: of the pixels to blur, each between 0 and 1.
    Returns scores, float32 [N, len(shares)].

    Raises `RequestError` for shapes that do not fit together, and for heat maps that are not finite.
    """
    if photos.ndim != 4 or heatmaps.shape != (len(photos), *photos.shape[2:]) or len(objectives) != len(photos):
        raise RequestError(
            f"photos {list(photos.shape)}, heat maps {list(heatmaps.shape)} and {len(objectives)} objectives do not "
            "fit together; they are [N, C, H, W], [N, H, W] and N"
        )
    if not heatmaps.isfinite().all():
        raise RequestError("a heat map has values that are not finite")
    if not all(0 <= share <= 1 for share in shares):
        raise RequestError(f"shares of the pixels lie between 0 and 1, not {list(shares)}")
    photos, heatmaps = photos.cpu(), heatmaps.cpu()
    blurred = Gaussian(sigma=_SIGMA * min(photos.shape[2:]))(photos)
    order = heatmaps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
    limits = torch.tensor([round(share * order.shape[1]) for share in shares])
    out = []
    with torch.no_grad(), network.held():
        for i, objective in enumerate(objectives):
            gone = (rank[i] < limits[:, None]).view(len(shares), 1, *photos.shape[2:])
            shown = torch.where(gone, blurred[i], photos[i])
            parts = torch.split(shown, _BATCH)
            scores = [objective.score(network.run(some.to(network.device), objective.places())) for some in parts]
            out.append(torch.cat(scores).cpu())
    return torch.stack(out) if out else torch.empty(0, len(shares))
