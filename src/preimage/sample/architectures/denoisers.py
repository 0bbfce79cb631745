"""Denoising autoencoders: r(h) for codes (PPGN-h), and r(x) for images (PPGN-x)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from preimage.sample.architectures.limits import whole

_OF_4096 = (4096, 2048, 1024, 500, 1024, 2048, 4096)


class CodeDenoiser(nn.Module):
    """PPGN-h's p(h): seven hidden layers with ReLUs, and a linear output (paper 3, S9.3; SPEC P8, P.5-6).

    length: of the codes. width: of the first and the last hidden layer; default `length`. The others keep the paper's
    proportions, 4096-2048-1024-500-1024-2048-4096. Codes are divided by `code_scale`, which training measures, and what
    comes out is multiplied by it.

    Takes codes [N, length] and gives codes.
    """

    code_scale: Tensor

    def __init__(self, length: int, width: int | None = None):
        super().__init__()
        whole("length", length)
        width = whole("width", length if width is None else width, 1, 8192)
        self.settings: dict[str, Any] = {"length": length, "width": width}
        self.register_buffer("code_scale", torch.ones(()))
        layers: list[nn.Module] = []
        into = length
        for one in _OF_4096:
            out = max(1, round(one * width / 4096))
            layers += [nn.Linear(into, out), nn.ReLU()]
            into = out
        self.layers = nn.Sequential(*layers, nn.Linear(into, length))

    def forward(self, codes: Tensor) -> Tensor:
        """Codes [N, length], noisy, to what they were."""
        clean: Tensor = self.layers(codes / self.code_scale)
        return clean.float() * self.code_scale


class ImageDenoiser(nn.Module):
    """PPGN-x's p(x): a convolution down to the size of AlexNet's conv1, three up-convolutions (paper 3, S9.2; SPEC P6).

    width: channels of the convolution (11 x 11, stride 4, as in AlexNet, which has 96) and of the first up-convolution;
    the second has half as many. The first two double the size, the third (3 x 3) makes the colours. Leaky ReLUs between
    them, and a linear output.

    Takes images [N, channels, H, W] and gives images of the same size, on the same scale, not clipped.
    """

    def __init__(self, channels: int, width: int = 96):
        super().__init__()
        whole("channels", channels, 1, 4)
        whole("width", width, 2, 4096)
        self.settings: dict[str, Any] = {"channels": channels, "width": width}
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 11, 4, 5),
            nn.LeakyReLU(0.3),
            nn.ConvTranspose2d(width, width, 4, 2, 1),
            nn.LeakyReLU(0.3),
            nn.ConvTranspose2d(width, width // 2, 4, 2, 1),
            nn.LeakyReLU(0.3),
            nn.ConvTranspose2d(width // 2, channels, 3, 1, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, channels, H, W], noisy, to what they were."""
        # Around zero, where layers that were just made are at home. Sides that 4 does not divide come out too long.
        clean: Tensor = self.layers(images - 0.5)[:, :, : images.shape[2], : images.shape[3]]
        return clean.float() + 0.5
