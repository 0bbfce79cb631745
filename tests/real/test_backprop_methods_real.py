"""The ways back through trained networks: against Captum and zennit, and the layers that they take."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from real_networks import stacked
from torch import Tensor, nn

import preimage as pi
from preimage.explain.deconvnet import Deconvnet
from preimage.explain.excitation_backprop import ContrastiveExcitationBackprop, ExcitationBackprop
from preimage.explain.grad_cam import GradCAM
from preimage.explain.gradient import Gradient
from preimage.explain.guided_backprop import GuidedBackprop
from preimage.explain.method import Method, Question
from preimage.objectives import label
from zennit_oracle import zennit, zennit_mass

pytestmark = pytest.mark.real


def two(network: pi.Network, photographs: list[tuple[Path, int]]) -> tuple[Tensor, list[int]]:
    """Two photographs and their classes; a little noise, since in flat areas max pooling may choose any unit."""
    some = [photographs[0], photographs[20]]
    images = stacked(some, network)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    return (0.98 * images + 0.02 * noise), [target for _, target in some]


def twin_of(resnet50: pi.Network) -> nn.Module:
    """torchvision's ResNet-50, made what ours is: strides in the first convolution of a block, with biases; float64.

    It takes what comes out of our preprocessing.
    """
    zennit("composites")  # torchvision can be imported now
    from torchvision.models import resnet50 as torchvision_s

    twin = torchvision_s(weights=None)
    for name, part in list(twin.named_modules()):
        if isinstance(part, nn.Conv2d):
            ours: Any = resnet50.module.get_submodule(name)
            parent, _, own = name.rpartition(".")
            setattr(twin.get_submodule(parent), own, copy.deepcopy(ours))
        elif isinstance(part, nn.BatchNorm2d):
            part.eps = 1e-3
        elif isinstance(part, nn.ReLU):
            part.inplace = False
    twin.load_state_dict(resnet50.module.state_dict())
    return twin.double().eval()


def in_float64(network: pi.Network) -> pi.Network:
    return pi.Network(copy.deepcopy(network.module).double(), name=network.name)


def preprocessed(network: pi.Network, images: Tensor) -> Tensor:
    out: Tensor = network.module.get_submodule("preprocessing")(images.double())
    return out


def questions(network: pi.Network, images: Tensor, targets: list[int]) -> Question:
    objectives = tuple(label(target).bind(network) for target in targets)
    return Question(network, tuple(images), objectives, network.input_size, (0,) * len(images))


def test_masses_of_resnet50_are_zennits(resnet50: pi.Network, photographs: list[tuple[Path, int]]) -> None:
    """53 convolutions with their BatchNorm, 16 additions, average pooling, down to 28 x 28."""
    network, twin = in_float64(resnet50), twin_of(resnet50)
    images, targets = two(network, photographs)
    x = preprocessed(network, images)
    with torch.no_grad():
        torch.testing.assert_close(twin(x), network.module(images.double()))
    seed = F.one_hot(torch.tensor(targets), 1000).double()
    canonizers = [zennit("torchvision").ResNetCanonizer()]
    expected = zennit_mass(twin, twin.get_submodule("layer2.0"), x, seed, canonizers)
    found, at = ExcitationBackprop(stabilizer=1e-6).mass(questions(network, images, targets))
    assert at == "layer2.0"
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("method", [Gradient(), GuidedBackprop(), Deconvnet()])
def test_gradients_of_resnet50_are_captums(
    resnet50: pi.Network, photographs: list[tuple[Path, int]], method: Method
) -> None:
    """Ours of the network as it is, Captum's of a twin in which every ReLU is a module of its own, not in place."""
    from captum.attr import Deconvolution, GuidedBackprop, Saliency

    network, twin = in_float64(resnet50), copy.deepcopy(resnet50.module).double()
    for part in list(twin.modules()):
        if hasattr(part, "conv3"):
            part.forward = _Block(part).forward  # type: ignore[method-assign]
    images, targets = two(network, photographs)
    kinds = {"gradient": Saliency, "guided-backprop": GuidedBackprop, "deconvnet": Deconvolution}
    twin.relu = nn.ReLU()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = kinds[method.name](twin).attribute(images.double(), target=torch.tensor(targets))
    expected = theirs.abs().amax(1).detach()
    found = [
        pi.explain(network, image, label(target), method=method).heatmap
        for image, target in zip(images, targets, strict=True)
    ]
    atol = 1e-6 * float(expected.max())
    torch.testing.assert_close(torch.stack(found).double(), expected, rtol=1e-4, atol=atol)


class _Block:
    """A bottleneck whose three ReLUs are three modules."""

    def __init__(self, part: nn.Module):
        self.part: Any = part
        for name in ("relu1", "relu2", "relu3"):
            part.add_module(name, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        part = self.part
        identity = x if part.downsample is None else part.downsample(x)
        x = part.relu2(part.bn2(part.conv2(part.relu1(part.bn1(part.conv1(x))))))
        out: Tensor = part.relu3(part.bn3(part.conv3(x)) + identity)
        return out


def test_grad_cam_of_trained_networks_is_captums(
    resnet50: pi.Network, squeezenet: pi.Network, bundled: pi.Network, photographs: list[tuple[Path, int]]
) -> None:
    from captum.attr import LayerGradCam

    for network, layer in ((resnet50, "layer4"), (squeezenet, "features"), (bundled, "head")):
        images, targets = two(network, photographs)
        inputs = network.prepare(images)
        captum = LayerGradCam(network.module, network.module.get_submodule(layer))
        theirs = captum.attribute(inputs, target=torch.tensor(targets), relu_attributions=True).detach()
        expected = F.interpolate(theirs, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
        for image, target, one in zip(images, targets, expected, strict=True):
            found = pi.explain(network, image, label(target), method=GradCAM())
            assert found.details == {"at": layer}
            torch.testing.assert_close(found.heatmap, one, rtol=1e-3, atol=1e-5 * float(one.max()))


def test_layers_and_mass_of_trained_networks(
    resnet50: pi.Network, squeezenet: pi.Network, bundled: pi.Network, photographs: list[tuple[Path, int]]
) -> None:
    """All of it arrives where no unit is on by its bias alone; EfficientNet's filters of one channel lose most."""
    for network, layer, least in ((resnet50, "layer2.0", 0.99), (squeezenet, "features.5", 0.99), (bundled, None, 0.0)):
        images, targets = two(network, photographs)
        mass, at = ExcitationBackprop(additions="positive").mass(questions(network, images, targets))
        assert at == (layer or "stage3.0.depthwise")
        assert mass.shape[2:] == (28, 28)
        assert mass.min() >= 0
        assert (mass.sum((1, 2, 3)) > least).all() and (mass.sum((1, 2, 3)) < 1.001).all()


def test_googlenet_s_layer_is_that_of_the_paper() -> None:
    zennit("composites")
    from torchvision.models import googlenet

    torch.manual_seed(0)
    module = googlenet(weights=None, aux_logits=False, init_weights=False)
    network = pi.Network(module, 224, name="googlenet")
    image = torch.rand(3, 224, 224)
    for method, layer in (
        (ExcitationBackprop(), "maxpool2"),
        (ContrastiveExcitationBackprop(), "maxpool2"),
        (GradCAM(), "inception5b"),
    ):
        assert pi.explain(network, image, "class:1", method=method).details == {"at": layer}


def test_a_transformer_has_no_rule() -> None:
    import timm

    torch.manual_seed(0)
    network = pi.Network(timm.create_model("vit_tiny_patch16_224", depth=2), 224, name="vit")
    image = torch.rand(3, 224, 224)
    assert pi.explain(network, image, "class:1", method=Gradient()).heatmap.max() > 0
    for method, said in (
        (GuidedBackprop(), "there are none in vit before class:1; it has .*gelu instead"),
        (Deconvnet(), "there are none in vit"),
        (ExcitationBackprop(at="patch_embed.proj"), "excitation backprop has no rule for"),
        (GradCAM(), "vit goes on with tokens behind '.*', its last map"),
    ):
        with pytest.raises(pi.RequestError, match=said):
            pi.explain(network, image, "class:1", method=method)
