"""What images are pulled towards."""

from __future__ import annotations

import torch
from torch import Tensor


class Grey:
    """r(v) = 0: pulling towards it is weight decay, v <- v - eps_1 v (paper 0, SPEC A7)."""

    def __call__(self, values: Tensor) -> Tensor:
        return torch.zeros_like(values)

    def __repr__(self) -> str:
        return "Grey()"
