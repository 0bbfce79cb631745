"""Small generators, encoders and networks of which everything is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from preimage import Network
from preimage.network import Place
from preimage.sample import Prior

SIDE, CODE = 8, 6


class Decoder(nn.Module):
    """A small generator: codes [N, 6] -> images [N, 3, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        last = nn.Linear(24, 3 * SIDE * SIDE)
        self.layers = nn.Sequential(nn.Linear(CODE, 24), nn.LeakyReLU(0.3), last)
        with torch.no_grad():  # (so that codes can say much)
            last.weight.mul_(10)

    def forward(self, codes: Tensor) -> Tensor:
        return torch.sigmoid(self.layers(codes)).view(-1, 3, SIDE, SIDE)


class Reader(nn.Module):
    """A small encoder: features `conv`, codes `code` of 6, five classes."""

    def __init__(self, seed: int = 5) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.flat = nn.Flatten()
        self.code = nn.Linear(16, CODE)
        self.code_relu = nn.ReLU()
        self.head = nn.Linear(CODE, 5)
        with torch.no_grad():  # (so that pictures differ in what they are)
            self.code.weight.mul_(6)
            assert self.code.bias is not None
            self.code.bias.add_(1)
            self.head.weight.mul_(8)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.code_relu(self.code(self.flat(self.pool(self.relu(self.conv(images)))))))


LABELS = ["ant", "bee", "cat", "dog", "eel"]


def reader(seed: int = 5) -> Network:
    return Network(Reader(seed).eval(), (SIDE, SIDE), labels=LABELS, name="reader")


def small_prior(**more: object) -> Prior:
    options: dict[str, object] = {
        "code": Place("code_relu", after_relu=True),
        "match": Place("relu", after_relu=True),
        "size": SIDE,
        "code_shape": (CODE,),
        "mean_code": 1.0,
        "mean_match": 0.3,
        "noise": {"h": 0.05, "h1": 0.03, "x": 0.01},
        "name": "a small prior",
    }
    return Prior(Decoder().eval(), reader(), **{**options, **more})  # type: ignore[arg-type]
