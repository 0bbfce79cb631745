"""Classifiers of small pictures: E, whose layers are codes, and another one to ask for classes or to judge."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from preimage.sample.architectures.limits import LARGEST_SIDE, whole


def _convolution(into: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())


class Encoder(nn.Module):
    """A small AlexNet: convolutions and max pooling down to `pool5`, then `fc6`, then the classes (SPEC P.6).

    `pool5`, [4 * width, size / 8, size / 8], stands for AlexNet's pool5, the features h1 that G has to match; `fc6`,
    [code], which ends in a ReLU, for its fc6, the code h. Both are taken behind their ReLUs (SPEC P.5-9).

    size: of the images, a multiple of 8. It wants images with about mean 0 and deviation 1: give mean and std to
    `preimage.Network`. Takes images [N, channels, size, size], gives logits [N, classes].
    """

    def __init__(self, channels: int, size: int, classes: int, width: int = 32, code: int = 256):
        super().__init__()
        whole("channels", channels, 1, 4)
        size = 8 * whole("an eighth of size", size // 8 if size % 8 == 0 else size / 8, 1, LARGEST_SIDE // 8)
        whole("classes", classes)
        whole("width", width, 1, 4096)
        whole("code", code)
        self.settings: dict[str, Any] = {
            "channels": channels,
            "size": size,
            "classes": classes,
            "width": width,
            "code": code,
        }
        self.input_size = (size, size)
        self.conv1 = _convolution(channels, width)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = _convolution(width, 2 * width)
        self.pool2 = nn.MaxPool2d(2)
        self.conv3 = _convolution(2 * width, 4 * width)
        self.conv4 = _convolution(4 * width, 4 * width)
        self.pool5 = nn.MaxPool2d(2)
        self.fc6 = nn.Sequential(
            nn.Flatten(), nn.Linear(4 * width * (size // 8) ** 2, code, bias=False), nn.BatchNorm1d(code), nn.ReLU()
        )
        self.classes = nn.Linear(code, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, channels, size, size], about mean 0 and deviation 1, to logits [N, classes]."""
        x = self.pool2(self.conv2(self.pool1(self.conv1(images))))
        logits: Tensor = self.classes(self.fc6(self.pool5(self.conv4(self.conv3(x)))))
        return logits


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation beside a shortcut (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, into: int, out: int, stride: int):
        super().__init__()
        self.first = _convolution(into, out, stride)
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out))
        self.shortcut = (
            nn.Identity()
            if stride == 1 and into == out
            else nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


class Classifier(nn.Module):
    """A small residual network: another family than `Encoder`, to ask for classes or to judge samples by.

    It wants images with about mean 0 and deviation 1. Takes images [N, channels, H, W], gives logits [N, classes].
    """

    def __init__(self, channels: int, size: int, classes: int, width: int = 24):
        super().__init__()
        whole("channels", channels, 1, 4)
        whole("size", size, 8, LARGEST_SIDE)
        whole("classes", classes)
        whole("width", width, 1, 4096)
        self.settings: dict[str, Any] = {"channels": channels, "size": size, "classes": classes, "width": width}
        self.input_size = (size, size)
        self.stem = _convolution(channels, width)
        self.block1 = ResidualBlock(width, 2 * width, 2)
        self.block2 = ResidualBlock(2 * width, 4 * width, 2)
        self.block3 = ResidualBlock(4 * width, 4 * width, 1)
        self.classes = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, channels, H, W], about mean 0 and deviation 1, to logits [N, classes]."""
        x = self.block3(self.block2(self.block1(self.stem(images))))
        logits: Tensor = self.classes(x.mean((2, 3)))
        return logits
