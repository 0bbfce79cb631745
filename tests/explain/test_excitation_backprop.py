"""Excitation backprop: by hand, against zennit, and what its masses must obey; its contrastive form."""

from __future__ import annotations

import copy
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
from preimage.explain.excitation_backprop import ContrastiveExcitationBackprop, ExcitationBackprop
from preimage.explain.layers import excitation_layer
from preimage.explain.method import Question
from preimage.network.excitation import Excitation
from preimage.objectives import EachItsOwn, Objective, parse
from zennit_oracle import zennit, zennit_mass

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
SIDE, CLASSES = 12, 5


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def photos(seed: int, count: int = 2) -> Tensor:
    return torch.rand((count, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))


def randomise(module: nn.Module, seed: int) -> nn.Module:
    """Weights and statistics of all signs, float64."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            for tensor in (part.weight.data, part.bias.data, part.running_mean):
                assert tensor is not None
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
            assert part.running_var is not None
            part.running_var.copy_(torch.rand(part.running_var.shape, generator=generator) + 0.5)
        elif isinstance(getattr(part, "weight", None), Tensor):
            weight: Any = part.weight
            weight.data.copy_(torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5)
            bias: Any = part.bias
            if bias is not None:
                bias.data.copy_(torch.randn(bias.shape, generator=generator) * 0.2)
    return module.eval()


class Plain(nn.Module):
    """Convolutions, max and average pooling and two linear layers."""

    layers = ("relu1", "pool1", "relu2", "pool2")

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1, self.pool1 = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.relu2 = nn.Conv2d(6, 8, 3, 1, 1, groups=2), nn.ReLU()
        self.average, self.pool2 = nn.AvgPool2d(2), nn.MaxPool2d(1)
        self.fc1, self.relu3, self.fc2 = nn.Linear(72, 10), nn.ReLU(), nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.average(self.relu2(self.conv2(x))))
        return self.fc2(self.relu3(self.fc1(x.flatten(1))))


class Terse(Plain):
    """The same network, as people write it who do not think of hooks: functions, methods, in place, one ReLU shared."""

    layers = ("relu1", "pool2")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(x))
        x = F.max_pool2d(torch.relu_(x), 2)
        x = self.pool2(F.avg_pool2d(F.relu(self.conv2(x), inplace=True), 2))
        return (
            F.linear(self.relu1(F.linear(x.flatten(1), self.fc1.weight, self.fc1.bias)), self.fc2.weight)
            + self.fc2.bias
        )


class Residual(nn.Module):
    """Two residual blocks with BatchNorm, one with a projection, and global average pooling."""

    layers = ("relu0", "relu1", "relu2", "relu3")

    def __init__(self, *, explicit: bool):
        super().__init__()
        self.explicit = explicit
        self.conv0, self.bn0, self.relu0 = nn.Conv2d(3, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU()
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        self.conv2, self.bn2, self.relu2 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        self.conv3, self.bn3, self.relu3 = nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()
        self.conv4, self.bn4, self.relu4 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.project, self.bn5 = nn.Conv2d(6, 8, 1, 2), nn.BatchNorm2d(8)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, CLASSES)
        if explicit:
            self.sum1, self.sum2 = zennit("layer").Sum(), zennit("layer").Sum()

    def forward(self, x: Tensor) -> Tensor:
        if self.explicit:
            x = self.relu0(self.bn0(self.conv0(x)))
            y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
            x = self.relu2(self.sum1(torch.stack([y, x], -1)))
            y = self.bn4(self.conv4(self.relu3(self.bn3(self.conv3(x)))))
            x = self.relu4(self.sum2(torch.stack([y, self.bn5(self.project(x))], -1)))
            return self.fc(self.pool(x).flatten(1))
        x = self.relu0(self.bn0(self.conv0(x)))
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        y += x
        x = self.relu2(y)
        y = self.bn4(self.conv4(self.relu3(self.bn3(self.conv3(x)))))
        x = torch.relu_(torch.add(y, self.bn5(self.project(x))))
        return self.fc(x.mean((2, 3)))


def question(network: Network, images: Tensor, asked: str | Objective = "class:1") -> Question:
    objective = parse(asked, network)[0] if isinstance(asked, str) else asked.bind(network)
    count = len(images)
    return Question(network, tuple(images), (objective,) * count, network.input_size, tuple(range(count)))


def mass(network: Network, images: Tensor, at: str, asked: str | Objective = "class:1", **settings: Any) -> Tensor:
    return ExcitationBackprop(at=at, **settings).mass(question(network, images, asked))[0]


def opened(module: nn.Module, **settings: Any) -> Network:
    return Network(module, SIDE, channels=3, name="net", **settings)


def close(found: Tensor, expected: Tensor) -> None:
    """To what float32 allows, in which activations are handed around: 1e-6 of the largest mass."""
    atol = 1e-6 * float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-5, atol=atol)


def exact_mass(module: nn.Module, layer: str, images: Tensor) -> Tensor:
    """What the rules alone give at a layer for class 1, float64 all the way."""
    seen: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output))
    x = images.double().requires_grad_()
    with Excitation(x, stabilizer=1e-6):
        out = module.requires_grad_(False)(x)
    handle.remove()
    return torch.autograd.grad(out, seen[0], one_hot(len(images)))[0]


def one_hot(count: int) -> Tensor:
    return F.one_hot(torch.ones(count, dtype=torch.long), CLASSES).double()


# The rule itself


def test_the_rule_by_hand() -> None:
    layer = nn.Linear(3, 2)
    layer.weight.data = torch.tensor([[1.0, 2.0, -4.0], [3.0, -1.0, 1.0]])
    layer.bias.data = torch.tensor([100.0, -100.0])
    layer.requires_grad_(False)
    x = torch.tensor([[2.0, 1.0, 3.0]], requires_grad=True)
    with Excitation(x):
        y = layer(x)
    # Unit 0 is excited by 2 and 2 of its inputs, unit 1 by 6 and 3.
    (p,) = torch.autograd.grad(y, x, torch.tensor([[1.0, 9.0]]))
    assert p.tolist() == [[0.5 + 6.0, 0.5, 3.0]]


def test_activations_below_zero_excite_through_negative_weights() -> None:
    weight = torch.tensor([[1.0, -2.0, 5.0, -7.0]])
    x = torch.tensor([[3.0, -1.0, -1.0, 1.0]], requires_grad=True)
    with Excitation(x):
        y = F.linear(x, weight)
    (p,) = torch.autograd.grad(y, x, torch.ones(1, 1))
    torch.testing.assert_close(p, torch.tensor([[0.6, 0.4, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("additions", "expected"),
    [("signed", [[-0.5, 0.25, 1.0], [1.5, 0.75, 0.0]]), ("positive", [[0.0, 0.25, 1.0], [1.0, 0.75, 0.0]])],
)
def test_a_sum_is_shared(additions: Any, expected: list[list[float]]) -> None:
    a = torch.tensor([[-1.0, -1.0, 2.0]], requires_grad=True)
    b = torch.tensor([[3.0, -3.0, 0.0]], requires_grad=True)
    with Excitation(a, b, additions=additions):
        out = a + b
    shares = torch.autograd.grad(out, (a, b), torch.ones(1, 3))
    assert [one[0].tolist() for one in shares] == expected


def test_a_branch_without_gradient_has_its_share_and_a_constant_has_none() -> None:
    a, other = torch.tensor([[1.0, 2.0]], requires_grad=True), torch.tensor([[3.0, 0.0]])
    for known, expected in (((a, other), [[0.25, 1.0]]), ((a,), [[1.0, 1.0]])):
        with Excitation(*known):
            out = a + other
        assert torch.autograd.grad(out, a, torch.ones(1, 2))[0].tolist() == expected


LINEAR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "conv1d": lambda x, w: F.conv1d(x.flatten(2), w[:, :, 0], stride=2),
    "conv2d": lambda x, w: F.conv2d(x, w, padding=1),
    "depthwise": lambda x, w: F.conv2d(x, w[:4, :1], groups=4, dilation=2),
    "conv3d": lambda x, w: F.conv3d(x[:, :, None], w[:, :, None], padding="same"),
    "transposed": lambda x, w: F.conv_transpose2d(x, w[:4], stride=2),
    "linear": lambda x, w: F.linear(x, w[:, 0].flatten(1)[:, :6]),
    "matmul": lambda x, w: x @ w[:6, 0].flatten(1),
    "matmul from the left": lambda x, w: w[:, 0].flatten(1)[:, :6] @ x,
    "avg_pool": lambda x, w: F.avg_pool2d(x, 3, 2, 1),
    "adaptive": lambda x, w: F.adaptive_avg_pool2d(x, 4),
    "mean": lambda x, w: x.mean((2, 3)),
    "sum": lambda x, w: torch.sum(x, dim=2),
    "bilinear": lambda x, w: F.interpolate(x, (9, 5), mode="bilinear"),
    "nearest": lambda x, w: F.interpolate(x, scale_factor=2),
}


@few
@given(seeds, st.sampled_from(sorted(LINEAR)))
def test_every_linear_layer_has_the_rule(seed: int, name: str) -> None:
    """The formula, with the layer's weights as a matrix; also where activations are below zero."""
    weight, value, call = normal(seed, 8, 4, 3, 3), normal(seed + 1, 1, 4, 6, 6), LINEAR[name]
    matrix: Any = torch.func.jacrev(lambda x: call(x, weight).flatten())(value).flatten(1)
    x = value.clone().requires_grad_()
    with Excitation(x):
        out = call(x, weight)
    p = normal(seed + 2, *out.shape)
    v, w = value.flatten(), matrix
    parts = v.clamp(min=0) * w.clamp(min=0) + v.clamp(max=0) * w.clamp(max=0)
    expected = (p.flatten() / (parts.sum(1) + 1e-20)) @ parts
    expected[~expected.isfinite()] = 0
    torch.testing.assert_close(torch.autograd.grad(out, x, p)[0].flatten(), expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(out, call(value, weight))


# Against zennit


@few
@given(seeds, st.sampled_from([(kind, layer) for kind in (Plain, Terse) for layer in kind.layers]))
def test_masses_of_plain_networks_are_zennits(seed: int, case: tuple[type[Plain], str]) -> None:
    kind, layer = case
    theirs, ours = randomise(Plain(), seed), kind().double().eval()
    ours.load_state_dict(theirs.state_dict())
    images = photos(seed)
    expected = zennit_mass(theirs, theirs.get_submodule(layer), images.double(), one_hot(2), [])
    found = exact_mass(ours, layer, images)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)
    close(mass(opened(ours), images, layer, stabilizer=1e-6), found)


@few
@given(seeds, st.sampled_from(Residual.layers))
def test_masses_of_residual_networks_are_zennits(seed: int, layer: str) -> None:
    """With BatchNorm of both signs merged, additions by module, operator and in place, pooling by module and mean."""
    theirs = randomise(Residual(explicit=True), seed)
    ours = Residual(explicit=False).double().eval()
    ours.load_state_dict(theirs.state_dict())
    images = photos(seed)
    canonizers = [zennit("canonizers").SequentialMergeBatchNorm()]
    expected = zennit_mass(theirs, theirs.get_submodule(layer), images.double(), one_hot(2), canonizers)
    found = exact_mass(ours, layer, images)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)
    close(mass(opened(ours), images, layer, stabilizer=1e-6), found)


# What masses obey


class Varied(nn.Module):
    """No bias above zero: then a unit that is on was excited, and no mass is lost."""

    taps = ("relu", "pool", "cat", "block", "up")

    def __init__(self, seed: int, *, residual: bool):
        super().__init__()
        self.residual = residual
        self.conv, self.relu, self.pool = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.left, self.right, self.cat = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 3, padding=1), nn.Identity()
        self.inner, self.block = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Identity()
        self.up, self.average, self.fc = nn.Upsample(scale_factor=2, mode="bilinear"), nn.AvgPool2d(4), nn.LazyLinear(5)
        self(torch.zeros(1, 3, SIDE, SIDE))
        randomise(self, seed)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.data.clamp_(max=0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv(x)))
        x = self.cat(torch.cat([self.relu(self.left(x)), F.relu(self.right(x))], 1))
        x = self.block((x + self.inner(x)).relu() if self.residual else self.inner(x).relu())
        x = self.average(self.up(F.pad(x, (1, 1, 1, 1), mode="reflect")))
        return self.fc(F.dropout(x.flatten(1), training=False))


@few
@given(seeds, st.sampled_from([(False, "signed"), (False, "positive"), (True, "positive")]))
def test_mass_is_conserved_layer_by_layer(seed: int, case: tuple[bool, Any]) -> None:
    """And never negative. Signed shares lose some where a branch below zero has nothing that excites it."""
    network = opened(Varied(seed, residual=case[0]))
    images = photos(seed, 3)
    top = mass(network, images, "average", additions=case[1]).sum((1, 2, 3))
    # Nothing is excited at all where no weight of the class is positive for what is on.
    assert ((top - 1).abs().lt(1e-5) | (top == 0)).all()
    for tap in Varied.taps:
        found = mass(network, images, tap, additions=case[1])
        assert found.min() >= 0
        torch.testing.assert_close(found.sum((1, 2, 3)), top, rtol=1e-5, atol=1e-6)


@few
@given(seeds)
def test_mass_is_linear_in_what_is_asked(seed: int) -> None:
    network = opened(randomise(Residual(explicit=False), seed))
    images = photos(seed)
    a, b = (parse(f"class:{i}", network)[0] for i in (0, 3))
    found = mass(network, images, "relu0", 2 * a - b)
    close(found, 2 * mass(network, images, "relu0", a) - mass(network, images, "relu0", b))


class Normalised(nn.Module):
    """A convolution and an affine map of its channels, written in several ways; `how` is none of the weights."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.first, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.conv, self.bn = nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, CLASSES)

    def merged(self) -> tuple[Tensor, Tensor]:
        assert self.bn.running_var is not None and self.bn.running_mean is not None
        factor = self.bn.weight / (self.bn.running_var + self.bn.eps).sqrt()
        assert self.conv.bias is not None
        return factor, (self.conv.bias - self.bn.running_mean) * factor + self.bn.bias

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        factor, bias = (one[:, None, None] for one in self.merged())
        if self.how == "merged":
            y = F.conv2d(x, self.conv.weight * factor[..., None], bias[:, 0, 0])
        elif self.how == "module":
            y = self.bn(self.conv(x))
        elif self.how == "torch.batch_norm":
            bn = self.bn
            y = torch.batch_norm(
                self.conv(x), bn.weight, bn.bias, bn.running_mean, bn.running_var, False, 0.1, bn.eps, False
            )
        elif self.how == "operators":
            y = F.conv2d(x, self.conv.weight) * factor + bias
        else:
            y = F.conv2d(x, self.conv.weight)
            y /= 1 / factor
            y += bias
        return self.fc(F.relu_(y).mean((-1, -2)))


@few
@given(seeds, st.sampled_from(["module", "torch.batch_norm", "operators", "in place"]))
def test_a_normalisation_is_part_of_the_layer_before(seed: int, how: str) -> None:
    merged = randomise(Normalised("merged"), seed)
    ours = Normalised(how).double()
    ours.load_state_dict(merged.state_dict())
    images = photos(seed)
    close(mass(opened(ours), images, "relu"), mass(opened(merged), images, "relu"))


def test_a_normalisation_elsewhere_hands_mass_on() -> None:
    bn = nn.BatchNorm2d(3)
    bn.weight.data = torch.tensor([1.0, -1.0, 2.0])
    bn.eval().requires_grad_(False)
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    with Excitation(x):
        y = bn(x)
    p = torch.rand(2, 3, 4, 4)
    assert torch.equal(torch.autograd.grad(y, x, p)[0], p)


# The method


def test_the_map_is_the_mass_at_the_photo_s_size() -> None:
    network = opened(randomise(Residual(explicit=False), 0))
    images = photos(0)
    found = pi.explain(network, images, "class:1", method=ExcitationBackprop(at="relu3"))
    expected = F.interpolate(mass(network, images, "relu3").sum(1, keepdim=True), (SIDE, SIDE), mode="bilinear")[:, 0]
    close(found.heatmaps, expected)
    assert found[0].details == {"at": "relu3"}


@pytest.mark.parametrize("method", [ExcitationBackprop(), ContrastiveExcitationBackprop()])
def test_a_batch_is_its_photos_one_by_one(method: ExcitationBackprop) -> None:
    module = randomise(Residual(explicit=False), 3)
    module.train()
    before = copy.deepcopy(module.state_dict())
    flags = [part.training for part in module.modules()], [p.requires_grad for p in module.parameters()]
    network, images = opened(module), photos(3, 4)
    together = pi.explain(network, images, ["class:1", "class:2"], method=method).heatmaps
    alone = [
        pi.explain(network, image, target, method=method).heatmap
        for image in images
        for target in ("class:1", "class:2")
    ]
    close(together, torch.stack(alone))
    assert flags == ([part.training for part in module.modules()], [p.requires_grad for p in module.parameters()])
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_hooks or part._backward_hooks for part in module.modules())


def test_any_objective_behind_the_layer() -> None:
    network = opened(randomise(Residual(explicit=False), 1))
    images = photos(1)
    found = mass(network, images, "relu0", "relu3:2@1,1")  # before its ReLU: the convolution and its BatchNorm
    positions = found.sum(1) != 0
    assert positions.any() and not positions[:, 6:].any() and not positions[:, :, 6:].any()
    with pytest.raises(RequestError, match=r"relu0:2 does not depend on 'relu3'; take a layer before it"):
        mass(network, images, "relu3", "relu0:2")


# Contrastive


@few
@given(seeds)
def test_the_contrast_is_the_mass_with_the_last_weights_negated(seed: int) -> None:
    module = randomise(Residual(explicit=False), seed)
    negated = copy.deepcopy(module)
    weight: Any = negated.get_submodule("fc").weight
    weight.data.neg_()
    images = photos(seed)
    method = ContrastiveExcitationBackprop(at="relu1")
    found = method.mass(question(opened(module), images))[0]
    close(found, mass(opened(module), images, "relu1") - mass(opened(negated), images, "relu1"))
    map_ = pi.explain(opened(module), images, "class:1", method=method).heatmaps
    expected = F.interpolate(found.sum(1, keepdim=True).clamp(min=0), (SIDE, SIDE), mode="bilinear")[:, 0]
    close(map_, expected)


class ScoresAsMaps(nn.Module):
    """SqueezeNet's head: a convolution gives the scores of every position, then ReLU and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.scores = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(F.relu(self.scores(self.relu(self.conv(x)))), 1).flatten(1)


def test_the_contrast_of_scores_that_are_maps() -> None:
    module = randomise(ScoresAsMaps(), 0)
    scores: Any = module.get_submodule("scores")
    scores.bias.data.fill_(0.3)
    images = photos(0)
    found = ContrastiveExcitationBackprop(at="relu").mass(question(opened(module), images))[0]
    with torch.no_grad():
        x = module.get_submodule("relu")(module.get_submodule("conv")(images.double()))
        w = scores.weight[1, :, 0, 0]
        y = F.relu(scores(x))[:, 1]
        top = y / y.sum((1, 2), keepdim=True)  # what average pooling hands down
        parts = [x * (sign * w).clamp(min=0)[:, None, None] for sign in (1, -1)]
        shares = [part / (part.sum(1, keepdim=True) + 1e-20) for part in parts]
    close(found, top[:, None] * (shares[0] - shares[1]))


@few
@given(seeds)
def test_contrastive_maps_vanish_when_both_classes_share_a_weight(seed: int) -> None:
    module = randomise(Residual(explicit=False), seed)
    weight: Any = module.get_submodule("fc").weight
    weight.data[3] = weight.data[1]
    images = photos(seed)
    plain = pi.explain(opened(module), images, "class:1", method=ExcitationBackprop(at="relu0")).heatmaps
    found = pi.explain(
        opened(module), images, "class:1", method=ContrastiveExcitationBackprop(at="relu0", contrast="class:3")
    ).heatmaps
    assert found.max() <= 1e-9 * plain.abs().max()


@few
@given(seeds)
def test_a_contrasting_class_takes_its_own_mass_off(seed: int) -> None:
    network, images = opened(randomise(Residual(explicit=False), seed)), photos(seed)
    method = ContrastiveExcitationBackprop(at="relu0", contrast="class:2")
    found = method.mass(question(network, images))[0]
    close(found + mass(network, images, "relu0", "class:2"), mass(network, images, "relu0"))


def test_a_contrast_is_one_class() -> None:
    network = opened(randomise(Plain(), 0))
    with pytest.raises(RequestError, match="a contrast is one class, not the 8 of 'relu2:\\*'"):
        pi.explain(network, photos(0, 1), "class:1", method=ContrastiveExcitationBackprop(contrast="relu2:*"))
    with pytest.raises(RequestError, match="classes 0 to 4, not 9"):
        pi.explain(network, photos(0, 1), "class:1", method=ContrastiveExcitationBackprop(contrast="class:9"))


# What has no rule


class After(nn.Module):
    """Something behind a convolution and its ReLU."""

    def __init__(self, do: Callable[[Tensor], Tensor]):
        super().__init__()
        self.conv, self.relu, self.fc, self.do = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, CLASSES), do

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.do(self.relu(self.conv(x))).flatten(2).mean(2)[:, :4])


@pytest.mark.parametrize(
    ("do", "named"),
    [
        (F.gelu, "'gelu'"),
        (F.silu, "'silu'"),
        (nn.Sigmoid(), "'sigmoid'"),
        (lambda x: x.sigmoid_(), "'sigmoid'"),
        (nn.LeakyReLU(), "'leaky_relu'"),
        (lambda x: x.softmax(1), "'softmax'"),
        (nn.LayerNorm(10), "'layer_norm'"),
        (nn.GroupNorm(2, 4), "'group_norm'"),
        (lambda x: x * x.mean((2, 3), keepdim=True), "a product of two activations"),
        (lambda x: x / x.mean((2, 3), keepdim=True), "a quotient of two activations"),
        (lambda x: x * (x > 1), "a product of two activations"),
        (lambda x: x - x.mean((2, 3), keepdim=True), "a difference of two activations"),
        (lambda x: x @ x.mT, "'matmul'"),
        (lambda x: x**2, "'pow'"),
        (lambda x: F.scaled_dot_product_attention(x, x, x), "'scaled_dot_product_attention'"),
        (lambda x: F.conv2d(x, x[0, :1, None, :1, :1].expand(4, 4, 1, 1)), "'conv2d'"),
        (lambda x: F.interpolate(x, 20, mode="bicubic"), "bicubic"),
        (lambda x: F.batch_norm(x, None, None, training=True), "statistics of the batch"),
    ],
)
def test_what_has_no_rule_is_named(do: Any, named: str) -> None:
    network = opened(After(do))
    with pytest.raises(RequestError, match=f"excitation backprop has no rule for .*{named}"):
        pi.explain(network, photos(0, 1), "class:1", method=ExcitationBackprop(at="relu"))


def test_what_comes_before_the_layer_needs_no_rule() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.LayerNorm(10), nn.Conv2d(4, 6, 3), nn.ReLU())
    module.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES)])
    found = pi.explain(opened(module), photos(0, 1)[0], "class:1", method=ExcitationBackprop(at="4"))
    assert found.heatmap.max() > 0


def test_a_part_that_cannot_be_looked_into_is_refused() -> None:
    class Scripted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.fc = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(_Squared.apply(self.relu(self.conv(x))).mean((2, 3)))  # type: ignore[no-untyped-call]

    with pytest.raises(RequestError, match="out of sight"):
        pi.explain(opened(Scripted()), photos(0, 1), "class:1", method=ExcitationBackprop(at="relu"))


class _Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value * value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def test_settings_are_checked() -> None:
    with pytest.raises(RequestError, match="a stabilizer is not negative"):
        ExcitationBackprop(stabilizer=-1.0)
    with pytest.raises(RequestError, match="additions are 'signed' or 'positive', not 'both'"):
        ExcitationBackprop(additions="both")  # type: ignore[arg-type]
    network = opened(randomise(Plain(), 0))
    with pytest.raises(RequestError, match=r"'fc1' has no map of positions, its shape is \[10\]"):
        pi.explain(network, photos(0, 1), "class:1", method=ExcitationBackprop(at="fc1"))


# The layer


def test_the_layer_is_the_first_small_one_that_all_passes_through() -> None:
    """Inside a block a part of the answer goes by; a linear block's output is below zero."""
    module = nn.Sequential()
    module.add_module("stem", nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU()))
    module.add_module("block", _Block(4))
    module.add_module("down", nn.Conv2d(4, 4, 3, 2, 1))
    module.add_module("second", _Block(4))
    module.add_module("late", nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)))
    module.add_module("head", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)))
    network = Network(module, 56, channels=3)
    objectives = {text: EachItsOwn((parse(text, network)[0],)) for text in ("class:1", "second:1")}
    assert excitation_layer(network, objectives["class:1"]) == "second"
    assert excitation_layer(network, objectives["second:1"]) == "down"
    assert excitation_layer(Network(module, 28, channels=3), objectives["class:1"]) == "stem"
    with pytest.raises(RequestError, match="no layer for excitation before"):
        excitation_layer(network, EachItsOwn((parse("stem:1", network)[0],)))


class _Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.relu(self.conv(x))).relu()
