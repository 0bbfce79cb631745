"""`mask@NAME`: the paper's other settings, name by name, at the layers that they are for."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from squares import BOX, SIDE, noise, sharpness
from torch import Tensor, nn

from preimage import Network, RequestError, explain
from preimage.explain import PUBLISHED_MASKS, Mask, find_method, methods

LAYERS: dict[str, tuple[str, int, float, float]] = {
    # name: tap, rows of its map, lambda_1, lambda_2 (SPEC M.2; VGG-16's fourth has 14 and not the 13 that is printed)
    "alexnet-pool1": ("features.2", 27, 1e-4, 1e-2),
    "alexnet-pool2": ("features.5", 13, 5e-3, 1e-2),
    "alexnet-relu3": ("features.7", 13, 5e-3, 1e-2),
    "alexnet-relu4": ("features.9", 13, 5e-3, 1e-2),
    "alexnet-pool5": ("features.12", 6, 1e-2, 1e-3),
    "vgg16-pool1": ("features.4", 112, 5e-5, 1e-2),
    "vgg16-pool2": ("features.9", 56, 1e-4, 1e-2),
    "vgg16-pool3": ("features.16", 28, 1e-4, 1e-2),
    "vgg16-pool4": ("features.23", 14, 5e-3, 1e-2),
    "vgg16-pool5": ("features.30", 7, 1e-2, 1e-3),
}


def published(name: str) -> Mask:
    found = find_method(f"mask@{name}")
    assert isinstance(found, Mask)
    return found


def test_these_are_all() -> None:
    assert set(PUBLISHED_MASKS) == {"localisation", "alexnet", *LAYERS}
    for name, one in PUBLISHED_MASKS.items():
        assert find_method(f"mask@{name}") is one
        assert type(one) is Mask and one.game == "deletion"
        # What the paper does not change stays as it is (SPEC M.2).
        assert (one.iterations, one.step_size) == (300, 0.1)


@pytest.mark.parametrize("name", LAYERS)
def test_at_a_layer_the_weights_are_the_published_ones_on_any_map(name: str) -> None:
    tap, rows, l1, tv = LAYERS[name]
    method = published(name)
    assert method.at == tap and method.beta == 3
    for cells in ((rows, rows), (rows + 1, rows), (2 * rows, 3 * rows), (1, 1)):
        assert method.weights(cells) == pytest.approx((l1, tv), rel=1e-12)


def test_for_localisation_masks_are_sharper_and_cover_more() -> None:
    """SPEC M.2: lambda_1 1e-3 and beta 2, the rest the same; beta 2 does not depend on how fine the grid is."""
    method = published("localisation")
    assert replace(method, l1=None, beta=3.0) == Mask()
    assert method.beta == 2
    assert method.weights((28, 28)) == pytest.approx((1e-3, 1e-2))
    assert method.weights((14, 14)) == pytest.approx((4e-3, 1e-2))
    assert method.weights((28, 56)) == pytest.approx((5e-4, 1e-2))


def test_alexnet_has_thirty_cells_of_its_own() -> None:
    """SPEC M.5-7: 227 / 7.57 = 30; its weights are meant for these, not for 28."""
    method = published("alexnet")
    assert method.cells == 30 and method.at is None
    assert method.weights((30, 30)) == pytest.approx((1e-4, 1e-2))
    assert Mask().weights((30, 30)) != pytest.approx((1e-4, 1e-2))
    network = Network(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3)), 227, channels=3)
    made = explain(
        network, noise(0, 228), "prob:0", method=replace(method, iterations=1, start="random", mask_blur=0.0)
    )
    assert made.mask is not None and made.mask.shape == (227, 227)
    # Cells of seven and of eight pixels, each of one value.
    ends = (made.mask.diff(dim=1) != 0).any(0).nonzero().flatten().diff()
    assert len(ends) == 28 and set(ends.tolist()) == {7, 8}


# --- at the layers of networks built as they are ------------------------------------------------------------------

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def torchvision_features(name: str) -> nn.Sequential:
    """Without weights: only what the layers are."""
    if "torchvision" not in sys.modules and torch.version.cuda is None:
        # The torchvision on the package index is a CUDA build; beside a CPU torch it lacks these two operators.
        for operator in (
            "nms(Tensor dets, Tensor scores, float threshold)",
            "qnms(Tensor d, Tensor s, float threshold)",
        ):
            if not hasattr(torch.ops.torchvision, operator.partition("(")[0]):
                _LIBRARY.define(f"{operator} -> Tensor")
    models: Any = importlib.import_module("torchvision.models")
    with torch.device("meta"):
        features: nn.Sequential = getattr(models, name)().features
    return features


@pytest.mark.parametrize(("network", "side"), [("alexnet", 227), ("vgg16", 224)])
def test_taps_are_torchvision_s_layers_of_that_name(network: str, side: int) -> None:
    features = torchvision_features(network)
    pools = convolutions = 0
    values: Tensor = torch.empty(1, 3, side, side, device="meta")
    found: dict[str, tuple[str, int]] = {}
    for i, layer in enumerate(features):
        values = layer(values)
        convolutions += isinstance(layer, nn.Conv2d)
        if isinstance(layer, nn.MaxPool2d):
            # AlexNet's last pooling follows the fifth convolution, and is called so.
            pools = convolutions if network == "alexnet" else pools + 1
            found[f"{network}-pool{pools}"] = (f"features.{i}", values.shape[2])
        elif isinstance(layer, nn.ReLU) and convolutions in (3, 4):
            found[f"{network}-relu{convolutions}"] = (f"features.{i}", values.shape[2])
    for name, (tap, rows, _, _) in LAYERS.items():
        if name.startswith(network):
            assert found[name] == (tap, rows)


def narrow(network: str) -> Network:
    """Built as AlexNet or VGG-16 is, of four channels a layer."""
    torch.manual_seed(0)
    features = nn.Sequential()
    channels = 3
    for layer in torchvision_features(network):
        one: nn.Module = type(layer)() if isinstance(layer, nn.ReLU) else layer
        if isinstance(layer, nn.Conv2d):
            one = nn.Conv2d(channels, 4, layer.kernel_size, layer.stride, layer.padding)  # type: ignore[arg-type]
            channels = 4
        features.append(one)
    module = nn.Sequential()
    module.add_module("features", features)
    module.add_module("head", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)))
    return Network(module, 227 if network == "alexnet" else 224, channels=3)


@pytest.mark.parametrize("name", ["alexnet-pool1", "alexnet-relu3", "alexnet-pool5", "vgg16-pool4", "vgg16-pool5"])
def test_a_mask_at_a_layer_has_a_cell_for_each_of_its_positions(name: str) -> None:
    rows = LAYERS[name][1]
    network = narrow(name.partition("-")[0])
    start = 0.3 + 0.4 * torch.rand((rows, rows), generator=torch.Generator().manual_seed(0))
    method = replace(published(name), iterations=1, step_size=1e-3, start=start)
    made = explain(network, noise(0, 228), "prob:0", method=method)
    assert made.mask is not None and made.mask.shape == network.input_size
    row_ends = (made.mask.diff(dim=0) != 0).any(1)
    assert int(row_ends.sum()) == rows - 1
    assert made.mask.unique().numel() <= rows * rows
    # Without blur: each cell is what it was, but for one step of at most 1e-3.
    nearest = nn.functional.interpolate(start[None, None], network.input_size, mode="nearest")[0, 0]
    assert (made.mask - nearest).abs().max() <= 1.001e-3
    assert made.settings["methods"][0]["at"] == LAYERS[name][0]


def test_where_there_is_no_such_tap_that_is_said_and_another_can_be_named() -> None:
    with pytest.raises(RequestError, match=r"has no tap 'features\.30'"):
        explain(sharpness(), noise(0), "prob:0", method="mask@vgg16-pool5")
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    method = replace(published("vgg16-pool5"), at="1", iterations=2)
    made = explain(Network(module, SIDE, channels=3), noise(0), "prob:0", method=method)
    assert made.heatmap.shape == (SIDE, SIDE)


def test_it_is_written_down_under_its_name() -> None:
    made = explain(sharpness(BOX), noise(0), "class:0", method=["mask@localisation", Mask(iterations=2)])
    assert [one.method for one in made] == ["mask@localisation", "mask"]
    first, second = json.loads(json.dumps(made.as_dict()))["methods"]
    assert first["name"] == "mask@localisation" and second["name"] == "mask"
    assert (first["l1"], first["beta"], first["iterations"]) == (1e-3, 2.0, 300)
    # It covers more than what the defaults do: the square, of 480 pixels, has to be sharp to be answered.
    assert made[0].scores["masked"] < made[0].scores["photo"] / 2


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("mask@localization", "mask@localisation"),
        ("mask@vgg-pool5", "mask@vgg16-pool5"),
        ("mask@alexnet-pool3", "mask@alexnet-pool1"),
        ("localisation", "mask@localisation"),
    ],
)
def test_a_name_that_is_not_known_is_told_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(RequestError, match=rf"there is no method '{wrong}'; the nearest are .*{near}"):
        find_method(wrong)


def test_they_are_no_methods_of_their_own() -> None:
    assert not any("@" in name for name in methods())
    for wrong in ("mask@", "mask-preserve@localisation", "gradient@localisation"):
        with pytest.raises(RequestError, match="there is no method"):
            find_method(wrong)
