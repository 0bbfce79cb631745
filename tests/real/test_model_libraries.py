"""torchvision and timm: their networks open, CNNs and transformers, and their errors are explained."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import preimage as pi

pytestmark = pytest.mark.real

_LIBRARY = torch.library.Library("torchvision", "DEF")


@pytest.fixture(scope="module", autouse=True)
def detection_operators() -> None:
    """The torchvision on the package index is a CUDA build; beside a CPU torch it lacks these two operators."""
    if "torchvision" not in sys.modules and torch.version.cuda is None:
        _LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    importlib.import_module("torchvision")


def test_torchvision_weights_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models: Any = importlib.import_module("torchvision.models")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = models.get_model_weights("squeezenet1_1").DEFAULT
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    theirs = models.squeezenet1_1()
    torch.save(theirs.state_dict(), checkpoints / Path(weights.url).name)
    network = pi.load("torchvision:squeezenet1_1")
    assert (network.input_size, network.channels) == ((224, 224), 3)
    assert network.mean == pytest.approx((0.485, 0.456, 0.406))
    assert network.labels is not None
    assert network.labels[281] == "tabby"
    assert torch.equal(network.module.features[0].weight, theirs.features[0].weight)
    assert network.taps()["features.12"].receptive_field == (207, 207)


def test_timm_weights_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm: Any = importlib.import_module("timm")
    from huggingface_hub import constants
    from safetensors.torch import save_file

    snapshots = tmp_path / "models--timm--resnet10t.c3_in1k"
    (snapshots / "refs").mkdir(parents=True)
    (snapshots / "refs" / "main").write_text("0" * 40)
    (snapshots / "snapshots" / ("0" * 40)).mkdir(parents=True)
    theirs = timm.create_model("resnet10t")
    save_file(theirs.state_dict(), snapshots / "snapshots" / ("0" * 40) / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    network = pi.load("timm:resnet10t")
    assert network.input_size == (176, 176)
    assert network.labels is not None
    assert len(network.labels) == 1000
    assert torch.equal(network.module.conv1[0].weight, theirs.conv1[0].weight)


def test_weights_that_cannot_be_fetched_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody answers there
    with pytest.raises(pi.RequestError, match="weights of 'torchvision:alexnet' could not be downloaded"):
        pi.load("torchvision:alexnet")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(pi.RequestError, match="weights of 'timm:resnet18' could not be"):
        pi.load("timm:resnet18")


def test_unknown_models_name_the_nearest() -> None:
    with pytest.raises(pi.RequestError, match=r"no model 'gogglenet'; the nearest are .*googlenet"):
        pi.load("torchvision:gogglenet")
    with pytest.raises(pi.RequestError, match=r"no model 'resnett50'; the nearest are .*resnet50"):
        pi.load("timm:resnett50")


def test_googlenet_fields_are_those_of_the_literature() -> None:
    # The published 5 x 5 branches (3a 59, 3b 91, 4a 171) are 3 x 3 in torchvision, as its own comment says.
    models: Any = importlib.import_module("torchvision.models")
    network = pi.Network(models.googlenet(weights=None, aux_logits=False, init_weights=False))
    table = network.taps()
    fields = {"conv3": (19, 4), "maxpool2": (27, 8), "inception3a": (43, 8), "inception3b": (59, 8)}
    fields |= {"maxpool3": (75, 16), "inception4a": (107, 16), "inception4d": (203, 16), "inception4e": (224, 16)}
    for tap, (size, stride) in fields.items():
        assert (table[tap].receptive_field, table[tap].stride) == ((size, size), (stride, stride))


@pytest.mark.parametrize(
    ("name", "tap", "shape"),
    [
        ("vit_tiny_patch16_224", "blocks.3", (192, 197)),
        ("convnext_atto", "stages.1", (80, 28, 28)),
        ("swin_tiny_patch4_window7_224", "layers.1", (192, 28, 28)),  # keeps its channels last
        ("mixer_s32_224", "blocks.2", (512, 49)),
    ],
)
def test_modern_networks_are_asked_unit_by_unit(name: str, tap: str, shape: tuple[int, ...]) -> None:
    timm: Any = importlib.import_module("timm")
    torch.manual_seed(0)
    network = pi.Network(timm.create_model(name), 224)
    assert network.tap(tap).shape == shape
    # Without transforms every score of the trace is that of the picture itself.
    result = pi.maximize(network, [f"{tap}:1", f"{tap}:2@3,4"], recipe="plain", steps=4)
    assert (result.scores > result.trace[0]).all()


def test_a_transformer_sees_patches_first_and_then_everything() -> None:
    timm: Any = importlib.import_module("timm")
    table = pi.Network(timm.create_model("vit_tiny_patch16_224", depth=2), 224).taps()
    assert table["patch_embed"].receptive_field == (16, 16)
    assert table["patch_embed"].stride == (16, 16)
    assert table["blocks.0"].receptive_field == (224, 224)
    assert table["output"].receptive_field == (224, 224)
