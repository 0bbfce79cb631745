"""Gradient, guided backprop and deconvnet: against Captum and by hand, however a network writes its ReLUs."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import preimage as pi
from preimage import Network, RequestError
from preimage.explain.deconvnet import Deconvnet
from preimage.explain.gradient import Gradient
from preimage.explain.guided_backprop import GuidedBackprop
from preimage.explain.method import Method
from preimage.objectives import parse

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
SIDE, CLASSES = 12, 5
METHODS = [Gradient(), GuidedBackprop(), Deconvnet()]


def photos(seed: int, count: int = 2) -> Tensor:
    return torch.rand((count, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))


class Explicit(nn.Module):
    """Every ReLU is a module of its own, as Captum needs it; a residual, a concatenation, BatchNorm, pooling."""

    def __init__(self, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()
        self.left, self.relu3 = nn.Conv2d(6, 4, 1), nn.ReLU()
        self.right, self.relu4 = nn.Conv2d(6, 4, 3, padding=1), nn.ReLU()
        self.fc1, self.relu5, self.fc2 = nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, CLASSES)
        for tensor in (self.bn1.weight.data, self.bn1.bias.data, self.bn1.running_mean):
            assert tensor is not None
            tensor.normal_()
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.relu1(self.bn1(self.conv1(x))), 2)
        x = self.relu2(x + self.conv2(x))
        x = torch.cat([self.relu3(self.left(x)), self.relu4(self.right(x))], 1)
        return self.fc2(self.relu5(self.fc1(x.mean((2, 3)))))


class Terse(Explicit):
    """The same with functions, methods, in-place calls and one module for several ReLUs."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))
        x.relu_()  # what it returns is not used
        x = F.max_pool2d(x, 2)
        y = self.conv2(x)
        y += x
        x = F.relu(y, inplace=True)
        x = torch.cat([self.relu1(self.left(x)), self.relu1(self.right(x))], 1)
        return self.fc2(self.fc1(x.mean((2, 3))).clamp(min=0))


def opened(module: nn.Module, **settings: Any) -> Network:
    return Network(module, SIDE, channels=3, name="net", **settings)


def captum(method: Method, module: nn.Module, images: Tensor, target: int) -> Tensor:
    """The heat maps that Captum gives for photos, float64."""
    from captum.attr import Deconvolution, GuidedBackprop, Saliency

    kinds = {"gradient": Saliency, "guided-backprop": GuidedBackprop, "deconvnet": Deconvolution}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it puts hooks on the ReLUs
        return kinds[method.name](module).attribute(images.double(), target=target).abs().amax(1).detach()


@few
@given(seeds, st.sampled_from(METHODS), st.sampled_from([Explicit, Terse]))
def test_heatmaps_are_captums(seed: int, method: Method, kind: type[Explicit]) -> None:
    """Whatever way the network writes its ReLUs; Captum gets every one as a module."""
    images = photos(seed)
    found = pi.explain(opened(kind(seed)), images, "class:2", method=method).heatmaps
    assert found.shape == (2, SIDE, SIDE) and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), captum(method, Explicit(seed), images, 2), rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize(
    ("relu", "open_"),
    [
        (nn.ReLU(), [False, True, True]),
        (nn.ReLU(inplace=True), [False, True, True]),
        (lambda x: x.relu_(), [False, True, True]),
        (torch.relu, [False, True, True]),
        (lambda x: torch.clamp_min(x, 0), [False, True, True]),
        (lambda x: F.threshold(x, 0, 0), [False, True, True]),
        (nn.ReLU6(), [False, True, False]),
        (nn.ReLU6(inplace=True), [False, True, False]),
        (lambda x: F.hardtanh(x, 0.0, 6.0), [False, True, False]),
        (lambda x: x.clamp(0, 6), [False, True, False]),
        (lambda x: x.clamp_(min=0, max=6), [False, True, False]),
        (lambda x: F.relu6(F.relu6(x)), [False, True, False]),
    ],
)
def test_every_kind_of_relu_by_hand(relu: Callable[[Tensor], Tensor], open_: list[bool]) -> None:
    """Three pixels, at -1, 3 and 9 when they reach the ReLU, weighed by 2, then by -2."""

    class Three(nn.Module):
        def __init__(self, weight: float):
            super().__init__()
            self.weight = weight

        def forward(self, x: Tensor) -> Tensor:
            return self.weight * relu(x * 20 - 11).sum((1, 2, 3))[:, None]

    image = torch.tensor([[[0.5, 0.7, 1.0]]])
    for weight in (2.0, -2.0):
        network = Network(Three(weight), (1, 3), channels=1)
        guided, deconvnet = (
            pi.explain(network, image, "class:0", method=method).heatmap[0].tolist()
            for method in (GuidedBackprop(), Deconvnet())
        )
        assert guided == ([40.0 * one for one in open_] if weight > 0 else [0.0] * 3)
        assert deconvnet == ([40.0] * 3 if weight > 0 else [0.0] * 3)


@few
@given(seeds)
def test_any_objective_at_any_tap(seed: int) -> None:
    """The gradient of a sum over two taps, one of them before a ReLU, by autograd alone."""
    module = Explicit(seed)
    network, images = opened(module), photos(seed)
    asked = 2 * parse("relu1:3@4,5", network)[0] - parse("fc1:2", network)[0]
    x = images.double().requires_grad_()
    seen: dict[str, Tensor] = {}
    for name in ("bn1", "fc1"):
        module.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    module(x)
    (expected,) = torch.autograd.grad((2 * seen["bn1"][:, 3, 4, 5] - seen["fc1"][:, 2]).sum(), x)
    found = pi.explain(network, images, asked, method=Gradient()).heatmaps
    torch.testing.assert_close(found.double(), expected.abs().amax(1), rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_its_photos_one_by_one_and_the_network_stays_as_it_was(method: Method) -> None:
    module = Terse(0).train()
    before = copy.deepcopy(module.state_dict())
    flags = [p.training for p in module.modules()], [p.requires_grad for p in module.parameters()]
    network, images, targets = opened(module), photos(0, 3), ["class:0", "class:4"]
    together = pi.explain(network, images, targets, method=method).heatmaps
    alone = [pi.explain(network, image, one, method=method).heatmap for image in images for one in targets]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-5, atol=1e-10)
    assert flags == ([p.training for p in module.modules()], [p.requires_grad for p in module.parameters()])
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())
    assert not any(part._forward_hooks or part._backward_hooks for part in module.modules())
    assert torch.equal(images, photos(0, 3))


def test_the_network_stays_as_it_was_after_a_refusal() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))
    module.train()
    with pytest.raises(RequestError):
        pi.explain(opened(module), photos(0, 1), "class:1", method=GuidedBackprop())
    assert all(part.training and not part._forward_hooks for part in module.modules())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not torch.overrides._get_current_function_mode_stack()


class Transformer(nn.Module):
    """Patches, one encoder layer with attention and GELU, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.patches(x).flatten(2).mT).mean(1))


@pytest.mark.parametrize("method", [GuidedBackprop(), Deconvnet()])
@pytest.mark.parametrize(
    ("module", "instead"),
    [
        (Transformer(), "it has multi_head_attention_forward, gelu instead"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(inplace=True), nn.Flatten(), nn.Linear(400, 5)),
            "it has silu instead",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(), nn.Flatten(), nn.Linear(400, 5)),
            "it has leaky_relu instead",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(432, 5)), "it has no activation function there"),
    ],
)
def test_a_network_without_relus_is_refused(method: Method, module: nn.Module, instead: str) -> None:
    with pytest.raises(RequestError, match=f"{method.name} is another way back through ReLUs, .* class:1; {instead}"):
        pi.explain(opened(module), photos(0, 1), "class:1", method=method)


@pytest.mark.parametrize("method", [GuidedBackprop(), Deconvnet()])
def test_other_activation_functions_beside_relus_are_said(method: Method) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.SiLU(), nn.Flatten(), nn.Sigmoid())
    network = opened(module)
    found = pi.explain(network, photos(0, 2), "class:1", method=method)
    assert [one.notes for one in found] == [
        [f"only ReLUs have the rule of {method.name}; silu, sigmoid went back as in the gradient"]
    ] * 2
    # What is asked comes before them.
    assert pi.explain(network, photos(0, 1)[0], "2:1", method=method).notes == []


@pytest.mark.parametrize("method", [GuidedBackprop(), Deconvnet()])
def test_a_part_that_cannot_be_looked_into_is_refused(method: Method) -> None:
    """Its ReLUs would go back as in the gradient, and nobody would know."""

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(_HiddenReLU.apply(self.conv(x)).mean((2, 3)))  # type: ignore[no-untyped-call]

    with pytest.raises(RequestError, match="out of sight"):
        pi.explain(opened(Hidden()), photos(0, 1), "class:1", method=method)


class _HiddenReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def test_a_tap_that_the_photo_does_not_reach_has_no_gradient() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().flatten(1)[:, :CLASSES]

    with pytest.raises(RequestError, match="class:1 has no gradient in net"):
        pi.explain(opened(Constant()), photos(0, 1), "class:1", method=Gradient())
