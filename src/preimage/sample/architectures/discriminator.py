"""D: is this a photo, or was it made?"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from preimage.sample.architectures.generator import SLOPE
from preimage.sample.architectures.limits import LARGEST_SIDE, whole

_HALVING = {0: (), 1: (0,), 2: (0, 1), 3: (0, 1, 3), 4: (0, 1, 2, 3), 5: (0, 1, 2, 3, 4)}
"""Which of the five convolutions have stride 2, by how often the image has to be halved."""


class Discriminator(nn.Module):
    """Five convolutions and three fully connected layers, like AlexNet but scaled down (paper 3, S9.4; SPEC P27).

    width: channels of the first convolution; then come 2, 3, 3 and 2 times as many (AlexNet: 96, 256, 384, 384, 256).
    hidden: of the first two fully connected layers.
    spectral: weights are divided by their largest singular value (Miyato et al. 2018, arXiv:1802.05957), which keeps
    the gradients that G gets from D bounded.

    One logit, large for photos, where the paper has two outputs and a softmax: only the difference of two logits enters
    a softmax of two, so that is the same function with one row of weights less. Strides of 2 stand for AlexNet's max
    pooling, and a leaky ReLU for its ReLU, because both let gradients through to every pixel. No batch normalisation,
    as in the paper.

    Takes images [N, channels, size, size] in [0, 1], gives logits [N].
    """

    def __init__(self, channels: int, size: int, width: int = 24, hidden: int = 128, spectral: bool = False):
        super().__init__()
        whole("channels", channels, 1, 4)
        whole("size", size, 2, LARGEST_SIDE)
        whole("width", width, 1, 4096)
        whole("hidden", hidden)
        self.settings: dict[str, Any] = {
            "channels": channels,
            "size": size,
            "width": width,
            "hidden": hidden,
            "spectral": bool(spectral),
        }
        halvings = max(0, math.ceil(math.log2(size / 7)))
        # Above 224 pixels the first convolution takes larger strides, as AlexNet's (11 x 11, stride 4) does.
        first = 2 ** max(halvings - 4, 1)
        layers: list[nn.Module] = []
        into, side = channels, size
        for i, out in enumerate((width, 2 * width, 3 * width, 3 * width, 2 * width)):
            stride = (first if i == 0 else 2) if i in _HALVING[min(halvings, 5)] else 1
            radius = stride if i == 0 and stride > 1 else 1
            layers += [nn.Conv2d(into, out, 2 * radius + 1, stride, radius), nn.LeakyReLU(SLOPE)]
            into, side = out, (side - 1) // stride + 1
        self.convolutions = nn.Sequential(*layers)
        self.fully_connected = nn.Sequential(
            nn.Flatten(),
            nn.Linear(into * side * side, hidden),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, 1),
        )
        if spectral:
            for part in [*self.convolutions, *self.fully_connected]:
                if hasattr(part, "weight"):
                    spectral_norm(part)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, channels, size, size] in [0, 1] to logits [N]."""
        # Around zero, where layers that were just made are at home.
        logits: Tensor = self.fully_connected(self.convolutions(2 * images - 1))
        return logits.flatten().float()
