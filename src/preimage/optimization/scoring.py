"""The score of finished pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.network import Network
from preimage.objectives import EachItsOwn


@torch.no_grad()
def plain_scores(network: Network, objective: EachItsOwn, pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """The objective [N] of pictures [N, C, H, W] as they are: no transform, no regularizer.

    size: (height, width) at which the network is asked, if it does not take the pictures' own; they are resampled.
    """
    if pictures.shape[2:] != size:
        pictures = F.interpolate(pictures, size, mode="bilinear", antialias=True, align_corners=False)
    return objective.score(network.run(pictures, objective.places()))
