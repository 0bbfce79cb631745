"""Grad-CAM: by hand, against Captum, and which layer it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import preimage as pi
from preimage import Network, RequestError
from preimage.explain.grad_cam import GradCAM

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
SIDE, CLASSES = 16, 5


def photos(seed: int, count: int = 2) -> Tensor:
    return torch.rand((count, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))


def network_of(seed: int, *, head: str = "linear") -> nn.Sequential:
    torch.manual_seed(seed)
    module = nn.Sequential()
    module.add_module("early", nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)))
    module.add_module("late", nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()))
    if head == "linear":
        module.add_module("pool", nn.AdaptiveAvgPool2d(1))
        module.add_module("flat", nn.Flatten())
        module.add_module("fc", nn.Linear(8, CLASSES))
    elif head == "deep":
        module.add_module("flat", nn.Flatten())
        module.add_module("fc", nn.Sequential(nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, CLASSES)))
    else:
        module.add_module("drop", nn.Dropout())
        module.add_module("scores", nn.Sequential(nn.Conv2d(8, CLASSES, 1), nn.ReLU()))
        module.add_module("pool", nn.AdaptiveAvgPool2d(1))
        module.add_module("flat", nn.Flatten())
    return module.double().eval()


def opened(module: nn.Module) -> Network:
    return Network(module, SIDE, channels=3, name="net")


def upsampled(maps: Tensor) -> Tensor:
    return F.interpolate(maps, (SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]


@few
@given(seeds, st.sampled_from(["linear", "deep", "maps"]), st.sampled_from(["early", "late"]))
def test_maps_are_captums(seed: int, head: str, layer: str) -> None:
    from captum.attr import LayerGradCam

    module, images = network_of(seed, head=head), photos(seed)
    captum = LayerGradCam(module, module.get_submodule(layer))
    expected = captum.attribute(images.double(), target=3, relu_attributions=True).detach()
    found = pi.explain(opened(module), images, "class:3", method=GradCAM(at=layer))
    torch.testing.assert_close(found.heatmaps.double(), upsampled(expected), rtol=1e-5, atol=1e-9)
    assert found[0].details == {"at": layer}


def test_a_class_activation_map_by_hand() -> None:
    """With global average pooling, alpha is the class's weights divided by the number of positions (CAM)."""
    module, images = network_of(0), photos(0)
    with torch.no_grad():
        values = module[1](module[0](images.double()))
        weights: Any = module.get_submodule("fc").weight
        maps = (values * weights[2, :, None, None] / 16).sum(1, keepdim=True).clamp(min=0)
    found = pi.explain(opened(module), images, "class:2", method=GradCAM()).heatmaps
    torch.testing.assert_close(found.double(), upsampled(maps), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("head", ["linear", "deep", "maps"])
def test_the_layer_is_the_last_with_positions_that_are_not_scores(head: str) -> None:
    network = opened(network_of(1, head=head))
    assert pi.explain(network, photos(1)[0], "class:0", method=GradCAM()).details == {"at": "late"}
    # Of what is asked of a layer it is the last before it whose channels are not yet those that are asked.
    assert pi.explain(network, photos(1)[0], "late:1", method=GradCAM()).details == {"at": "early"}


def test_as_many_channels_as_classes_are_not_yet_scores() -> None:
    module = nn.Sequential(nn.Conv2d(3, CLASSES, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module.append(nn.Linear(CLASSES, CLASSES))
    assert pi.explain(opened(module), photos(1)[0], "class:0", method=GradCAM()).details == {"at": "1"}


def test_a_batch_is_its_photos_one_by_one_and_the_network_stays_as_it_was() -> None:
    module = network_of(2)
    module.train()
    network, images, targets = opened(module), photos(2, 3), ["class:0", "prob:4"]
    together = pi.explain(network, images, targets, method=GradCAM()).heatmaps
    alone = [pi.explain(network, image, one, method=GradCAM()).heatmap for image in images for one in targets]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-5, atol=1e-10)
    assert all(part.training and not part._forward_hooks for part in module.modules())
    assert all(p.requires_grad and p.grad is None for p in module.parameters())


def test_how_relus_are_written_does_not_matter() -> None:
    class InPlace(nn.Module):
        def __init__(self, parts: nn.Sequential):
            super().__init__()
            self.early, self.late, self.fc = parts[0], nn.Sequential(parts[1][0], parts[1][1]), parts[-1]

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.relu(self.late(self.early(x)), inplace=True).mean((2, 3)))

    module = network_of(3)
    expected = pi.explain(opened(module), photos(3), "class:1", method=GradCAM(at="early")).heatmaps
    found = pi.explain(opened(InPlace(module)), photos(3), "class:1", method=GradCAM(at="early")).heatmaps
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-10)


def test_what_cannot_be_asked_is_said() -> None:
    network = opened(network_of(0))
    with pytest.raises(RequestError, match=r"'fc' has no map of positions, its shape is \[5\]"):
        pi.explain(network, photos(0, 1), "class:1", method=GradCAM(at="fc"))
    with pytest.raises(RequestError, match=r"early:2 does not depend on 'late'; take a layer before it"):
        pi.explain(network, photos(0, 1), "early:2", method=GradCAM(at="late"))
    with pytest.raises(RequestError, match=r"no layer for grad-cam before early\.0:2; name one with at="):
        pi.explain(network, photos(0, 1), "early.0:2", method=GradCAM())
    with pytest.raises(
        RequestError, match=r"goes on with tokens behind 'patches', its last map; name a layer with at="
    ):
        pi.explain(opened(Tokens()), photos(0, 1), "class:1", method=GradCAM())
    assert (
        pi.explain(opened(Tokens()), photos(0)[0], "class:1", method=GradCAM(at="patches")).details["at"] == "patches"
    )


class Tokens(nn.Module):
    """Patches as tokens, which are mixed and then averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.mix, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.gelu(self.mix(self.patches(x).flatten(2).mT)).mean(1))
