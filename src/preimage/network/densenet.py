"""DenseNet-BC for pictures of 32 x 32 pixels (Huang et al. 2017, arXiv:1608.06993; paper 1, section 3.1, SPEC I17).

Growth rate 12, bottlenecks of 48, compression by half. The 4, 8 and 23 layers of the three blocks, where the paper has
16 each, end in the same 342 filters of `dense3`, and train on one core in an hour and a half: most of a DenseNet's work
is in its first block. Two come with preimage, `cifar10` and `cifar10-without-4`, which has never seen a deer.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import as_file, files

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

INPUT_SIZE = (32, 32)
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BLOCKS = (4, 8, 23)
NAMES = ("cifar10", "cifar10-without-4")


class DenseLayer(nn.Module):
    """BatchNorm, ReLU, 1 x 1 convolution, and the same with 3 x 3: `growth` new channels."""

    def __init__(self, into: int, growth: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(into)
        self.conv1 = nn.Conv2d(into, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.conv1(F.relu(self.norm1(x)))
        out: Tensor = self.conv2(F.relu(self.norm2(narrow)))
        return out


class DenseBlock(nn.ModuleList):
    """Layers that each get what went into the block and what all layers before them made."""

    def __init__(self, layers: int, into: int, growth: int):
        super().__init__(DenseLayer(into + i * growth, growth) for i in range(layers))
        self.channels = into + layers * growth

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = torch.cat([x, layer(x)], 1)
        return x


class Transition(nn.Sequential):
    """Half the channels, half the resolution."""

    def __init__(self, into: int):
        super().__init__(nn.BatchNorm2d(into), nn.ReLU(), nn.Conv2d(into, into // 2, 1, bias=False), nn.AvgPool2d(2))


class DenseNet(nn.Module):
    """Images [N, 3, 32, 32] to logits [N, classes]; `dense3` is tapped before the last BatchNorm and ReLU."""

    input_size = INPUT_SIZE

    def __init__(self, blocks: Sequence[int] = BLOCKS, growth: int = 12, classes: int = 10):
        super().__init__()
        into = 2 * growth
        self.stem = nn.Conv2d(3, into, 3, padding=1, bias=False)
        self.dense1 = DenseBlock(blocks[0], into, growth)
        self.transition1 = Transition(self.dense1.channels)
        self.dense2 = DenseBlock(blocks[1], self.dense1.channels // 2, growth)
        self.transition2 = Transition(self.dense2.channels)
        self.dense3 = DenseBlock(blocks[2], self.dense2.channels // 2, growth)
        self.norm = nn.BatchNorm2d(self.dense3.channels)
        self.classifier = nn.Linear(self.dense3.channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.transition1(self.dense1(self.stem(x)))
        x = self.dense3(self.transition2(self.dense2(x)))
        logits: Tensor = self.classifier(F.relu(self.norm(x)).mean((2, 3)))
        return logits


def trained(name: str) -> DenseNet:
    """One of `NAMES`, with the weights that come with preimage (`experiments/train_cifar10.py`)."""
    module = DenseNet()
    with as_file(files("preimage.network") / "weights" / f"{name}.safetensors") as path:
        weights = load_file(path)
    # How many batches a BatchNorm has seen is not kept; nothing reads it.
    missing, unexpected = module.load_state_dict(weights, strict=False)
    assert not unexpected and all("num_batches" in one for one in missing)
    return module.eval()
