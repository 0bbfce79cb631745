"""Receptive field and stride of every tap, against closed forms."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from preimage.network import Network, Tap

Pair = tuple[int, int]


class Fn(nn.Module):
    def __init__(self, call: Callable[[Any, Tensor], Any], **parts: nn.Module):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.call = call

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


class Residual(nn.Module):
    def __init__(self, branch: nn.Module, how: str):
        super().__init__()
        self.branch, self.how = branch, how

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.branch(x)
        if self.how == "+=":
            y += x
        elif self.how == "add_":
            y.add_(x)
        elif self.how == "relu(+)":
            y = F.relu(torch.add(x, y))
        else:
            y = x + y
        return y


class Concat(nn.Module):
    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def conv(into: int, out: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(into, out, kernel, padding=options.pop("padding", kernel // 2), **options)


def row(module: nn.Module, size: int | Pair = 32, name: str = "output") -> Tap:
    tap: Tap = Network(module, size).taps()[name]
    return tap


def field(module: nn.Module, size: int | Pair = 32, name: str = "output") -> Pair | None:
    return row(module, size, name).receptive_field


# ---------------------------------------------------------------------------------------------------- random stacks


@dataclass(frozen=True)
class Axis:
    """Unit u of a map of `size` units sees the pixels u * jump + low ... u * jump + high."""

    size: int
    low: int = 0
    high: int = 0
    jump: int = 1

    def window(self, kernel: int, stride: int = 1, dilation: int = 1, padding: int = 0, ceil: bool = False) -> Axis:
        reach = dilation * (kernel - 1)
        size = -(-(self.size + 2 * padding - reach - 1) // stride) if ceil else None
        size = (self.size + 2 * padding - reach - 1) // stride + 1 if size is None else size + 1
        if ceil and (size - 1) * stride >= self.size + padding:
            size -= 1
        low, high = self.low - padding * self.jump, self.high + (reach - padding) * self.jump
        return Axis(size, low, high, self.jump * stride)

    def union(self, other: Axis) -> Axis:
        assert (self.size, self.jump) == (other.size, other.jump)
        return Axis(self.size, min(self.low, other.low), max(self.high, other.high), self.jump)


Axes = tuple[Axis, Axis]


@st.composite
def windows(draw: st.DrawFn, axes: Axes, kernels: int, dilations: int, pads: str) -> tuple[Axes, dict[str, Pair]]:
    named = {"kernel_size": kernels, "stride": 3, "dilation": dilations}
    options = {key: (draw(st.integers(1, most)), draw(st.integers(1, most))) for key, most in named.items()}
    pairs = zip(options["kernel_size"], options["dilation"], strict=True)
    reach = [k // 2 if pads == "pool" else d * (k - 1) // 2 for k, d in pairs]
    options["padding"] = (draw(st.integers(0, reach[0])), draw(st.integers(0, reach[1])))
    ceil = pads == "pool" and draw(st.booleans())
    order = ("kernel_size", "stride", "dilation", "padding")
    height, width = (axis.window(*numbers, ceil) for axis, *numbers in zip(axes, *map(options.get, order), strict=True))
    return (height, width), options | ({"ceil_mode": ceil} if pads == "pool" else {})  # type: ignore[dict-item]


@st.composite
def stacks(draw: st.DrawFn) -> tuple[nn.Sequential, Pair, int, list[Axes]]:
    size = draw(st.integers(12, 40)), draw(st.integers(12, 40))
    channels = first = draw(st.sampled_from([1, 2, 3, 5]))
    axes, layers, seen = (Axis(size[0]), Axis(size[1])), [], []
    kinds = st.sampled_from("conv conv max avg norm relu gelu residual concat".split())
    for kind in draw(st.lists(kinds, min_size=1, max_size=6)):
        after, layer = axes, None
        if kind == "conv":
            after, options = draw(windows(axes, 5, 3, "conv"))
            groups = draw(st.sampled_from([1, channels]))
            layer, made = nn.Conv2d(channels, 2 * groups, groups=groups, **options), 2 * groups
        elif kind == "max":
            after, options = draw(windows(axes, 4, 2, "pool"))
            layer, made = nn.MaxPool2d(**options), channels
        elif kind == "avg":
            after, options = draw(windows(axes, 4, 1, "pool"))
            options.pop("dilation")
            layer, made = nn.AvgPool2d(**options, count_include_pad=draw(st.booleans())), channels
        elif kind in ("norm", "relu", "gelu"):
            pointwise = {"norm": nn.BatchNorm2d(channels), "relu": nn.ReLU(draw(st.booleans())), "gelu": nn.GELU()}
            layer, made = pointwise[kind], channels
        elif kind == "residual":
            half, dilation = draw(st.integers(0, 2)), draw(st.integers(1, 2))
            same = {"dilation": dilation, "padding": half * dilation}
            after = tuple(a.union(a.window(2 * half + 1, 1, dilation, half * dilation)) for a in axes)
            branch = nn.Conv2d(channels, channels, 2 * half + 1, **same)
            layer, made = Residual(branch, draw(st.sampled_from(["+", "+=", "add_", "relu(+)"]))), channels
        else:
            halves = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
            layer, made = Concat(*(conv(channels, 2, 2 * half + 1) for half in halves)), 4
            after = tuple(a.union(a.window(2 * max(halves) + 1, 1, 1, max(halves))) for a in axes)
        if min(axis.size for axis in after) >= 4:
            axes, channels = after, made
            layers.append(layer)
            seen.append(axes)
    return nn.Sequential(*layers), size, first, seen


def fill(module: nn.Module, how: str) -> nn.Module:
    for parameter in module.parameters():
        if how == "dead":
            nn.init.zeros_(parameter)
        elif how == "negative":
            nn.init.constant_(parameter, -1.0)
        elif how == "alternating":  # the mean over every kernel and over all channels cancels
            with torch.no_grad():
                parameter.view(-1)[::2], parameter.view(-1)[1::2] = 1.0, -1.0
    return module


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    stacks(),
    st.sampled_from(["as drawn", "dead", "negative", "alternating"]),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_closed_form(drawn: tuple[nn.Sequential, Pair, int, list[Axes]], weights: str, dtype: torch.dtype) -> None:
    module, size, channels, seen = drawn
    table = Network(fill(module, weights).to(dtype), size, channels=channels).taps()
    for index, axes in enumerate(seen):
        tap = table[str(index)]
        assert tap.shape[1:] == tuple(axis.size for axis in axes)
        assert tap.receptive_field == tuple(
            min(axis.high - axis.low + 1, side) for axis, side in zip(axes, size, strict=True)
        )
        assert tap.stride == tuple(axis.jump for axis in axes)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=4))
@example([(1, 2, 1), (1, 3, 1), (6, 1, 3)])  # dilated: the outermost pixel that is left need not be at the border
def test_recurrence(layers: list[tuple[int, int, int]]) -> None:
    module, r, j = nn.Sequential(), 1, 1
    for kernel, stride, dilation in layers:
        module.append(conv(1, 1, kernel, stride=stride, dilation=dilation, padding=(kernel - 1) * dilation // 2))
        r, j = r + (kernel - 1) * dilation * j, j * stride
    tap = row(module, 48)
    assert tap.receptive_field == (min(r, 48), min(r, 48))
    assert tap.stride == (None if tap.shape[1:] == (1, 1) else (j, j))


class Inception(nn.Module):
    """In one piece, so that it is one tap: 1 x 1, 3 x 3, 5 x 5 and max pooling side by side."""

    def __init__(self, into: int):
        super().__init__()
        self.weights = nn.ParameterList(torch.randn(2, into, side, side) for side in (1, 3, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        inputs = [x, x, x, F.max_pool2d(x, 3, 1, 1)]
        maps = [F.conv2d(one, w, padding=w.shape[-1] // 2) for one, w in zip(inputs, self.weights, strict=True)]
        return F.relu(torch.cat(maps, 1), inplace=True)


class Stem(nn.Module):
    def __init__(self, into: int, out: int, kernel: int, stride: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, into, kernel, kernel))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.conv2d(x, self.weight, None, self.stride, self.weight.shape[-1] // 2))


def googlenet() -> nn.Sequential:
    layers = {
        "conv1": Stem(3, 4, 7, 2),
        "pool1": nn.MaxPool2d(3, 2, ceil_mode=True),
        "norm1": nn.LocalResponseNorm(5),
        "conv2": Stem(4, 8, 3, 1),
        "pool2": nn.MaxPool2d(3, 2, ceil_mode=True),
        "3a": Inception(8),
        "3b": Inception(8),
        "pool3": nn.MaxPool2d(3, 2, ceil_mode=True),
        "4a": Inception(8),
        "4b": Inception(8),
        "4c": Inception(8),
    }
    return nn.Sequential(OrderedDict(layers))


def test_googlenet() -> None:
    """SPEC A.2."""
    numbers = {
        "conv1": (7, 2),
        "pool1": (11, 4),
        "conv2": (19, 4),
        "pool2": (27, 8),
        "3a": (59, 8),
        "3b": (91, 8),
        "pool3": (107, 16),
        "4a": (171, 16),
        "4b": (235, 16),
        "4c": (299, 16),
    }
    table = Network(googlenet(), 304).taps()
    for name, (r, j) in numbers.items():
        assert (table[name].receptive_field, table[name].stride) == ((r, r), (j, j)), name


# ----------------------------------------------------------------------------------------- what sees the whole input


def squeeze_excite(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.c(x)
    return y * torch.sigmoid(self.down(y.mean((2, 3), keepdim=True)))


def squeeze_excite_in_place(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.c(x)
    y.mul_(torch.sigmoid(self.down(y.mean((2, 3), keepdim=True))))
    return y


def hand_attention(self: Any, x: Tensor) -> Tensor:
    q, k, v = self.c(x).flatten(2).transpose(1, 2).repeat(1, 1, 3).chunk(3, 2)
    return torch.softmax(q @ k.transpose(1, 2), dim=-1) @ v


def fused_attention(self: Any, x: Tensor) -> Tensor:
    t = self.c(x).flatten(2).transpose(1, 2)
    return F.scaled_dot_product_attention(query=t, key=t, value=t)


WHOLE: dict[str, Callable[[], nn.Module]] = {
    "adaptive avg": lambda: nn.Sequential(conv(3, 4), nn.AdaptiveAvgPool2d(1)),
    "adaptive max": lambda: nn.Sequential(conv(3, 4), nn.AdaptiveMaxPool2d(1)),
    "mean": lambda: Fn(lambda s, x: s.c(x).mean((2, 3)), c=conv(3, 4)),
    "amax": lambda: Fn(lambda s, x: s.c(x).amax((2, 3)), c=conv(3, 4)),
    "max over positions": lambda: Fn(lambda s, x: s.c(x).flatten(2).max(-1)[0], c=conv(3, 4)),
    "flatten, linear": lambda: nn.Sequential(conv(3, 4, stride=4), nn.Flatten(), nn.Linear(256, 5)),
    "pool, linear": lambda: nn.Sequential(conv(3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)),
    "softmax": lambda: nn.Sequential(conv(3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1)),
    "log-softmax": lambda: nn.Sequential(conv(3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LogSoftmax(1)),
    "sigmoid": lambda: nn.Sequential(conv(3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Sigmoid()),
    "unit length": lambda: Fn(lambda s, x: F.normalize(s.c(x).mean((2, 3)), dim=1), c=conv(3, 4)),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("weights", ["as drawn", "dead"])
def test_one_position_sees_everything(name: str, weights: str) -> None:
    tap = row(fill(WHOLE[name](), weights), (32, 32))
    assert (tap.receptive_field, tap.stride) == ((32, 32), None)


@pytest.mark.parametrize("how", ["matmul", "einsum", "addmm"])
def test_dead_weights_outside_of_layers(how: str) -> None:
    calls: dict[str, Callable[[Any, Tensor], Tensor]] = {
        "matmul": lambda s, x: x.mean((2, 3)) @ s.l.weight.T,
        "einsum": lambda s, x: torch.einsum("nchw,oc->no", x, s.l.weight),
        "addmm": lambda s, x: torch.addmm(s.l.bias, x.mean((2, 3)), s.l.weight.T),
    }
    tap = row(fill(Fn(calls[how], l=nn.Linear(3, 5)), "dead"), 16)
    assert (tap.receptive_field, tap.stride) == ((16, 16), None)


MIXING: dict[str, Callable[[], nn.Module]] = {
    "group norm": lambda: nn.Sequential(conv(3, 4), nn.GroupNorm(2, 4)),
    "instance norm": lambda: nn.Sequential(conv(3, 4), nn.InstanceNorm2d(4)),
    "batch norm without statistics": lambda: nn.Sequential(conv(3, 4), nn.BatchNorm2d(4, track_running_stats=False)),
    "spatial layer norm": lambda: nn.Sequential(conv(3, 4), nn.LayerNorm([4, 24, 32])),
    "squeeze and excitation": lambda: Fn(squeeze_excite, c=conv(3, 4), down=nn.Conv2d(4, 4, 1)),
    "squeeze and excitation, mul_": lambda: Fn(squeeze_excite_in_place, c=conv(3, 4), down=nn.Conv2d(4, 4, 1)),
    "softmax over positions": lambda: Fn(
        lambda s, x: s.c(x).flatten(2).softmax(-1).unflatten(2, x.shape[2:]), c=conv(3, 4)
    ),
}


@pytest.mark.parametrize("name", MIXING)
@pytest.mark.parametrize("weights", ["as drawn", "dead"])
def test_positions_that_see_everything(name: str, weights: str) -> None:
    tap = row(fill(MIXING[name](), weights), (24, 32))
    assert tap.shape == (4, 24, 32)
    assert tap.receptive_field == (24, 32)


@pytest.mark.parametrize("name", ["hand_attention", "fused_attention"])
def test_attention_functions(name: str) -> None:
    call = {"hand_attention": hand_attention, "fused_attention": fused_attention}[name]
    table = Network(Fn(call, c=conv(3, 4, 4, stride=4, padding=0)), 16).taps()
    assert (table["c"].receptive_field, table["c"].stride) == ((4, 4), (4, 4))
    assert table["output"].receptive_field == (16, 16)


class Embed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.position = nn.Parameter(torch.zeros(1, 17, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y)[0]
        return x + self.mlp(x)


class ViT(nn.Module):
    def __init__(self, block: Callable[[], nn.Module]):
        super().__init__()
        self.embed = Embed()
        self.blocks = nn.Sequential(block(), block())
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.blocks(self.embed(x)))[:, 0])
        return out


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "attention": Block,
    "encoder": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    "encoder, norm first": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_vit(name: str) -> None:
    table = Network(ViT(BLOCKS[name]), 16).taps()
    for early in ("embed.patch", "embed"):
        assert (table[early].receptive_field, table[early].stride) == ((4, 4), (4, 4)), early
    assert table["embed"].shape == (8, 17)
    for late in ("blocks.0", "blocks.1", "blocks", "norm", "head", "output"):
        assert table[late].receptive_field == (16, 16), late
    assert table["head"].stride is None
    if name == "attention":
        assert table["blocks.0.norm"].receptive_field == (4, 4)


def test_attention_weights() -> None:
    """The maps that attention gives beside its values see all that they compare."""
    names = {tap.name: tap.receptive_field for tap in Network(ViT(Block), 16).taps()}
    assert names["blocks.0.attention[0]"] == (16, 16)
    assert names["blocks.0.attention[1]"] == (16, 16)


def test_attention_weights_that_are_used() -> None:
    def call(self: Any, x: Tensor) -> Tensor:
        t = self.c(x).flatten(2).transpose(1, 2)
        values, weights = self.a(t, t, t)
        out: Tensor = values * weights.sum(1)[:, :, None]
        return out

    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    assert field(Fn(call, c=nn.Conv2d(3, 4, 4, 4), a=attention), 16) == (16, 16)


# ------------------------------------------------------------------------------------ what is as wide as its input is


def by_hand(self: Any, x: Tensor) -> Tensor:
    """ConvNeXt's layer norm over channels."""
    x = self.c(x)
    mean = x.mean(1, keepdim=True)
    return (x - mean) / torch.sqrt((x - mean).pow(2).mean(1, keepdim=True) + 1e-6)


def partial_convolution(self: Any, x: Tensor) -> Tensor:
    """FasterNet's."""
    y: Tensor = self.c(x).clone()
    y[:, :2] = self.d(y[:, :2])
    return y


def filled(self: Any, x: Tensor) -> Tensor:
    y = self.d(self.c(x))
    out = torch.zeros(y.shape)
    out[:, :4] = y
    return out


def preprocessed_in_place(self: Any, x: Tensor) -> Tensor:
    x[:, 0] -= 0.5
    out: Tensor = self.d(self.c(x))
    return out


def added_as_a_statement(self: Any, x: Tensor) -> Tensor:
    x = self.n(self.c(x).permute(0, 2, 3, 1))
    x.add_(self.d(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    return x.permute(0, 3, 1, 2)


FIVE: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "plain": lambda s, x: s.d(s.c(x)),
    "channel softmax": lambda s, x: s.d(s.c(x)).softmax(1),
    "channel log-softmax": lambda s, x: F.log_softmax(s.d(s.c(x)), dim=1),
    "unit length": lambda s, x: F.normalize(s.d(s.c(x)), dim=1),
    "divided by its length": lambda s, x: (lambda y: y / y.norm(dim=1, keepdim=True))(s.d(s.c(x))),
    "layer norm by hand": lambda s, x: s.d(by_hand(s, x)),
    "layer norm, permuted": lambda s, x: s.n(s.d(s.c(x)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "maxout": lambda s, x: s.d(s.c(x)).unflatten(1, (2, 2)).amax(1),
    "maximum of two": lambda s, x: torch.maximum(s.c(x), s.d(s.c(x)) / 1000),
    "difference": lambda s, x: s.c(x) - s.d(s.c(x)),
    "rsub": lambda s, x: 1 - s.d(s.c(x)),
    "gate": lambda s, x: s.c(x) * torch.sigmoid(s.d(s.c(x))),
    "quotient": lambda s, x: s.c(x) / (1 + s.d(s.c(x)).exp()),
    "chunks": lambda s, x: torch.cat(s.d(s.c(x)).chunk(2, 1)[::-1], 1),
    "stack": lambda s, x: torch.stack([s.c(x), s.d(s.c(x))]).sum(0),
    "filled": filled,
    "preprocessed in place": preprocessed_in_place,
    "added as a statement": added_as_a_statement,
    "keywords": lambda s, x: F.conv2d(input=s.c(x), weight=s.d.weight, bias=s.d.bias, padding=1),
    "weight by keyword": lambda s, x: F.conv2d(s.c(x), weight=s.d.weight, padding=1, groups=1),
    "linear by keyword": lambda s, x: F.linear(s.d(s.c(x)).permute(0, 2, 3, 1), weight=s.l.weight).permute(0, 3, 1, 2),
    "circular padding": lambda s, x: F.conv2d(F.pad(s.c(x), (1, 1, 1, 1), mode="circular"), s.d.weight),
}


@pytest.mark.parametrize("name", FIVE)
def test_two_convolutions(name: str) -> None:
    """Two 3 x 3 convolutions see 5 x 5, whatever else stands around them."""
    module = Fn(FIVE[name], c=conv(3, 4), d=conv(4, 4), n=nn.LayerNorm(4), l=nn.Linear(4, 4))
    tap = row(module, (16, 24))
    assert tap.shape[1:] == (16, 24)
    assert (tap.receptive_field, tap.stride) == ((5, 5), (1, 1))


def test_written_channels() -> None:
    """FasterNet's partial convolution writes into some of the channels."""
    tap = row(Fn(partial_convolution, c=conv(3, 4), d=conv(2, 2)), 16)
    assert (tap.receptive_field, tap.stride) == ((5, 5), (1, 1))


def test_what_is_added_later_is_not_seen_before() -> None:
    def call(self: Any, x: Tensor) -> Tensor:
        x = self.c(x)
        y = F.relu(x)
        y.add_(self.wide(y))
        out: Tensor = self.d(x)
        return out

    assert field(Fn(call, c=conv(3, 4), wide=conv(4, 4, 9), d=conv(4, 4)), 32) == (5, 5)


def test_constant() -> None:
    """A part that gives the same for every image (a position embedding) does not disturb the others."""

    def call(self: Any, x: Tensor) -> Tensor:
        out: Tensor = self.c(x).flatten(2).transpose(1, 2) + self.position(torch.arange(16)[None])
        return out

    table = Network(Fn(call, c=nn.Conv2d(3, 4, 4, 4), position=nn.Embedding(16, 4)), 16).taps()
    assert (table["c"].receptive_field, table["output"].receptive_field) == ((4, 4), (4, 4))


# -------------------------------------------------------------------------------------------- sizes that do not scale


def test_adaptive_pooling_that_changes_nothing() -> None:
    """VGG and AlexNet: at the network's own size the adaptive pooling has windows of one unit."""
    table = Network(nn.Sequential(conv(3, 4, stride=4), nn.AdaptiveAvgPool2d(8)), 32).taps()
    assert (table["0"].receptive_field, table["0"].stride) == ((3, 3), (4, 4))
    assert (table["1"].receptive_field, table["1"].stride) == ((3, 3), (4, 4))


def test_resizing_to_the_own_size() -> None:
    tap = row(Fn(lambda s, x: s.c(F.interpolate(x, size=(32, 32))), c=conv(3, 4)), 32)
    assert (tap.receptive_field, tap.stride) == ((3, 3), (1, 1))


def test_pooling_to_one_position() -> None:
    tap = row(nn.Sequential(conv(3, 4, stride=4), nn.AvgPool2d(8)), 32)
    assert tap.shape == (4, 1, 1)
    assert (tap.receptive_field, tap.stride) == ((31, 31), None)


def test_strides_behind_what_sees_everything() -> None:
    """They follow from the strides of the layers, not from how much smaller the maps become without padding."""
    layers = [conv(1, 1, 17, stride=4), conv(1, 1, 5), conv(1, 1, 7, padding=0), conv(1, 1, 1)]
    table = Network(nn.Sequential(*layers), 32).taps()
    assert [table[str(i)].receptive_field for i in range(4)] == [(17, 17), (32, 32), (32, 32), (32, 32)]
    assert [table[str(i)].stride for i in range(4)] == [(4, 4)] * 4


def test_one_row() -> None:
    """Pooled over the height only (text lines): one row of positions."""
    tap = row(Fn(lambda s, x: s.c(x).mean(2, keepdim=True), c=conv(3, 4)), (16, 32))
    assert tap.receptive_field == (16, 3)
    assert tap.stride is not None
    assert tap.stride[1] == 1


# ----------------------------------------------------------------------------------------------------------- going up


@settings(max_examples=15, deadline=None, report_multiple_bugs=False)
@given(
    st.integers(1, 5), st.integers(1, 2), st.integers(1, 3), st.integers(0, 2), st.sampled_from([1, 2, 4]), st.data()
)
def test_transposed(kernel: int, stride: int, dilation: int, padding: int, groups: int, data: st.DataObject) -> None:
    out = data.draw(st.integers(1, 3)) * groups
    up = nn.ConvTranspose2d(4, out, kernel, stride, padding, groups=groups, dilation=dilation)
    # Output o takes from input i where o = i * stride - padding + t * dilation, for one t below `kernel`.
    seen = []
    for o in (100, 101):
        taken = [o + padding - t * dilation for t in range(kernel)]
        seen.append([i // stride for i in taken if i % stride == 0])
    widest = max((max(one) - min(one) + 1 for one in seen if one), default=0)
    assert field(nn.Sequential(conv(3, 4), up), 16) == (widest + 2, widest + 2)


def test_unpooling() -> None:
    def call(self: Any, x: Tensor) -> Tensor:
        y, places = self.down(self.c(x))
        out: Tensor = self.up(y, places)
        return out

    module = Fn(call, c=conv(3, 4), down=nn.MaxPool2d(2, return_indices=True), up=nn.MaxUnpool2d(2))
    assert field(module, 16) == (4, 4)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsampling(mode: str) -> None:
    tap = row(nn.Sequential(conv(3, 4, stride=2), nn.Upsample(scale_factor=2, mode=mode), conv(4, 4, 1)), 32)
    # Bilinear takes two units of stride 2; nearest takes one.
    assert tap.receptive_field == ((5, 5) if mode == "bilinear" else (3, 3))


def test_pixel_shuffle() -> None:
    assert field(nn.Sequential(conv(3, 8, stride=2), nn.PixelShuffle(2)), 16) == (3, 3)


# -------------------------------------------------------------------------------------------------- what is left alone


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_traced() -> None:
    """A traced module can be run, though nothing inside it can be seen."""
    module = torch.jit.trace(nn.Sequential(conv(3, 4), nn.ReLU()).eval(), torch.rand(1, 3, 8, 8))
    assert [tap.name for tap in Network(module, 8, channels=3).taps()] == ["output"]


def test_measured_once() -> None:
    calls = []
    module = Fn(lambda s, x: (calls.append(1), s.c(x))[1], c=conv(3, 4))
    net = Network(module, 8)
    first = net.taps()
    count = len(calls)
    assert net.taps() == first
    assert len(calls) == count
