"""The list of taps: names, order, shapes, how it prints, and what is said when a tap or a network does not fit."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from preimage.errors import RequestError, UnknownTapError
from preimage.network import OUTPUT, Network, Place, Tap, TapTable
from preimage.network.taps import token_grid


class Fn(nn.Module):
    def __init__(self, call: Callable[[Any, Tensor], Any], **parts: nn.Module):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.call = call

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


def small() -> nn.Sequential:
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    return nn.Sequential(OrderedDict(stem=stem, head=head))


def names(module: nn.Module, size: int = 8, **options: Any) -> list[str]:
    return [tap.name for tap in Network(module, size, **options).taps()]


# -------------------------------------------------------------------------------------------------------------- names


def test_order_and_rows() -> None:
    table = Network(small(), (8, 12)).taps()
    assert [tap.name for tap in table] == "stem.0 stem.1 stem.2 stem head.0 head.1 head.2 head output".split()
    assert [tap.kind for tap in table] == (
        "Conv2d BatchNorm2d ReLU Sequential AdaptiveAvgPool2d Flatten Linear Sequential Sequential".split()
    )
    assert table["stem"] == Tap("stem", "Sequential", (4, 4, 6), 4, (3, 3), (2, 2))
    assert table["head.0"] == Tap("head.0", "AdaptiveAvgPool2d", (4, 1, 1), 4, (8, 12), None)
    assert table["output"] == Tap("output", "Sequential", (5,), 5, (8, 12), None)
    assert OUTPUT == "output"


def test_row_without_receptive_field() -> None:
    """`tap` answers without measuring; once measured, both say the same."""
    net = Network(small(), 8)
    assert net.tap("stem") == Tap("stem", "Sequential", (4, 4, 4), 4)
    table = net.taps()
    assert net.tap("stem") == table["stem"]
    assert table["stem"].receptive_field == (3, 3)


def test_shared_module_called_twice() -> None:
    shared = Fn(lambda s, x: s.relu(s.b(s.relu(s.a(x)))), relu=nn.ReLU(), a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 5, 1))
    table = Network(shared, 8).taps()
    assert [(tap.name, tap.channels) for tap in table] == [
        ("a", 4),
        ("relu", 4),
        ("b", 5),
        ("relu#2", 5),
        ("output", 5),
    ]


def test_shared_module_under_names_of_its_own() -> None:
    relu = nn.ReLU()
    module = nn.Sequential(nn.Conv2d(3, 4, 1), relu, nn.Conv2d(4, 5, 1), relu)
    assert names(module) == ["0", "1", "2", "3", "output"]


def test_shared_module_with_more_names_than_calls() -> None:
    """Each of its names can be asked, though only one of them is listed."""
    conv = nn.Conv2d(3, 4, 1)
    module = Fn(lambda s, x: s.first(x), first=conv, second=conv)
    net = Network(module, 8)
    assert [tap.name for tap in net.taps()] == ["first", "output"]
    assert net.tap("second").name == "first"
    values = net.run(torch.rand(1, 3, 8, 8), ["first", "second"])
    assert torch.equal(values[Place("first")], values[Place("second")])


def test_shared_module_with_more_calls_than_names() -> None:
    conv = nn.Conv2d(3, 3, 1)
    module = Fn(lambda s, x: s.first(s.second(s.first(x))), first=conv, second=conv)
    net = Network(module, 8)
    assert [tap.name for tap in net.taps()] == ["first", "first#2", "first#3", "output"]
    assert net.tap("second").name == "first"


class Pair(NamedTuple):
    map: Tensor
    score: Tensor


OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], list[str]]] = {
    "tensor": (lambda x: x, [""]),
    "tuple": (lambda x: (x, x + 1), ["[0]", "[1]"]),
    "list": (lambda x: [x, x + 1, x + 2], ["[0]", "[1]", "[2]"]),
    "dict": (lambda x: {"out": x, "aux": x + 1}, ["[out]", "[aux]"]),
    "ordered dict": (lambda x: OrderedDict(b=x, a=x + 1), ["[b]", "[a]"]),
    "named tuple": (lambda x: Pair(x, x + 1), ["[0]", "[1]"]),
    "one of a tuple": (lambda x: (x, None), [""]),
    "one of a dict": (lambda x: {"out": x, "note": "text", "size": 3}, [""]),
    "nested": (lambda x: {"a": (x, [x + 1]), "b": x + 2}, ["[a][0]", "[a][1][0]", "[b]"]),
    "no floats": (lambda x: (x, x > 0, x.argmax(1)), [""]),
    "no batch": (lambda x: (x, torch.ones(7, 3)), [""]),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_several_outputs(name: str) -> None:
    call, keys = OUTPUTS[name]
    module = Fn(lambda s, x: call(s.c(x)), c=nn.Conv2d(3, 4, 1))
    net = Network(module, 8)
    assert [tap.name for tap in net.taps()] == ["c", *("output" + key for key in keys)]
    images = torch.rand(2, 3, 8, 8)
    for index, key in enumerate(keys):
        values = net.run(images, ["c", "output" + key])
        assert torch.equal(values[Place("output" + key)], values[Place("c")] + index)


def test_submodule_called_output() -> None:
    """`output` is the network's own output, also where a part of the network has that name."""
    module = Fn(lambda s, x: s.output(x.mean((2, 3))).softmax(1), output=nn.Linear(3, 5)).eval().requires_grad_(False)
    net, images = Network(module, 8, channels=3), torch.rand(2, 3, 8, 8)
    assert torch.equal(net.run(images, ["output"])[Place("output")], module(net.prepare(images)))


def test_output_without_floats() -> None:
    net = Network(Fn(lambda s, x: s.c(x).argmax(1), c=nn.Conv2d(3, 4, 1)), 8)
    assert [tap.name for tap in net.taps()] == ["c"]
    with pytest.raises(RequestError, match="no output that can be asked for classes"):
        _ = net.logits


LOGITS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "tensor": (lambda x: x, "output"),
    "tuple": (lambda x: (x, x), "output[0]"),
    "segmentation": (lambda x: {"aux": x, "out": x}, "output[out]"),
    "huggingface": (lambda x: {"states": x, "logits": x}, "output[logits]"),
}


@pytest.mark.parametrize("name", LOGITS)
def test_logits(name: str) -> None:
    call, expected = LOGITS[name]
    assert Network(Fn(lambda s, x: call(s.c(x)), c=nn.Conv2d(3, 4, 1)), 8).logits == expected


def test_logits_by_name() -> None:
    assert Network(small(), 8, logits="head.2").logits == "head.2"
    with pytest.raises(UnknownTapError, match=r"head\.2"):
        _ = Network(small(), 8, logits="head.22").logits


# --------------------------------------------------------------------------------------------------------- channel axis

LAST: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "linear": lambda s, x: s.l(x.permute(0, 2, 3, 1)),
    "layer norm": lambda s, x: s.n(s.c(x).permute(0, 2, 3, 1)),
    "permute": lambda s, x: s.c(x).permute(0, 2, 3, 1),
    "permute, negative": lambda s, x: s.c(x).permute(0, -2, -1, 1),
    "permute, tuple": lambda s, x: s.c(x).permute((0, 2, 3, 1)),
    "torch.permute": lambda s, x: torch.permute(s.c(x), (0, 2, 3, 1)),
    "torch.permute by keyword": lambda s, x: torch.permute(s.c(x), dims=(0, 2, 3, 1)),
    "permute, contiguous": lambda s, x: s.c(x).permute(0, 2, 3, 1).contiguous(),
    "movedim": lambda s, x: s.c(x).movedim(1, -1),
    "torch.movedim": lambda s, x: torch.movedim(s.c(x), 1, 3),
    "moveaxis": lambda s, x: s.c(x).moveaxis(1, -1),
    "transposes": lambda s, x: s.c(x).transpose(1, 2).transpose(-1, -2),
    "swapaxes": lambda s, x: s.c(x).swapaxes(1, 2).swapaxes(2, 3),
    "pointwise": lambda s, x: s.l(x.permute(0, 2, 3, 1)).tanh() * 2 + 1,
    "residual": lambda s, x: (lambda y: y + s.n(y))(s.l(x.permute(0, 2, 3, 1))),
    "rolled": lambda s, x: torch.roll(s.l(x.permute(0, 2, 3, 1)), (1, 1), (1, 2)),
    "cat": lambda s, x: torch.cat([s.two(x.permute(0, 2, 3, 1))] * 2, -1),
    "concat": lambda s, x: torch.concat([s.two(x.permute(0, 2, 3, 1))] * 2, dim=-1),
    "half of the channels": lambda s, x: s.wide(x.permute(0, 2, 3, 1))[..., :4],
    "chunk": lambda s, x: s.wide(x.permute(0, 2, 3, 1)).chunk(2, -1)[1],
    "split": lambda s, x: s.wide(x.permute(0, 2, 3, 1)).split([3, 4, 1], dim=3)[1],
    "gated": lambda s, x: F.glu(s.wide(x.permute(0, 2, 3, 1))),
    "there and back": lambda s, x: s.c(s.three(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1),
}


@pytest.mark.parametrize("size", [(4, 4), (6, 8)])
@pytest.mark.parametrize("name", LAST)
def test_channels_last(name: str, size: tuple[int, int]) -> None:
    """[N, H, W, C], also where a side is as long as there are channels, so that the shape does not tell."""
    linear = {"l": nn.Linear(3, 4), "two": nn.Linear(3, 2), "three": nn.Linear(3, 3), "wide": nn.Linear(3, 8)}
    module = Fn(LAST[name], c=nn.Conv2d(3, 4, 1), n=nn.LayerNorm(4), **linear).eval().requires_grad_(False)
    net = Network(module, size)
    tap = net.tap("output")
    assert (tap.shape, tap.channels) == ((4, *size), 4)
    images = torch.rand(2, 3, *size)
    values = net.run(images, ["output"])[Place("output")]
    assert torch.equal(values, module(net.prepare(images)).permute(0, 3, 1, 2))


SECOND: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "conv": lambda s, x: s.c(x),
    "layer norm, permuted back": lambda s, x: s.n(s.c(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "linear, permuted back": lambda s, x: s.l(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous(),
    "linear, moved back": lambda s, x: s.l(x.movedim(1, -1)).movedim(-1, 1),
    "layer norm over all": lambda s, x: F.layer_norm(s.c(x), s.c(x).shape[1:]),
    "group norm": lambda s, x: F.group_norm(s.c(x), 2),
    "pooled": lambda s, x: F.interpolate(F.avg_pool2d(s.c(x), 2), scale_factor=2),
    "cat": lambda s, x: torch.cat([s.c(x)[:, :2]] * 2, 1),
    "raw": lambda s, x: torch.cat([x, x[:, :1]], 1),
}


@pytest.mark.parametrize("size", [(4, 4), (6, 8)])
@pytest.mark.parametrize("name", SECOND)
def test_channels_second(name: str, size: tuple[int, int]) -> None:
    module = Fn(SECOND[name], c=nn.Conv2d(3, 4, 1), l=nn.Linear(3, 4), n=nn.LayerNorm(4)).eval().requires_grad_(False)
    net = Network(module, size)
    assert net.tap("output").shape == (4, *size)
    images = torch.rand(2, 3, *size)
    values = net.run(images, ["output"])[Place("output")]
    assert torch.equal(values, module(net.prepare(images)))


TOKENS: dict[str, tuple[Callable[[Any, Tensor], Tensor], bool]] = {
    "tokens": (lambda s, x: s.c(x).flatten(2).transpose(1, 2), True),
    "flattened": (lambda s, x: s.c(x).flatten(2), False),
    "flattened by keyword": (lambda s, x: s.c(x).flatten(start_dim=2), False),
    "flattened by a module": (lambda s, x: s.f(s.c(x)), False),
    "linear": (lambda s, x: s.l(x.flatten(2).transpose(1, 2)), True),
    "class token": (lambda s, x: (lambda t: torch.cat([t[:, :1], t], 1))(s.n(s.c(x).flatten(2).transpose(1, 2))), True),
    "mixed by a linear": (lambda s, x: s.m(s.c(x).flatten(2)).transpose(1, 2), True),
}


@pytest.mark.parametrize("name", TOKENS)
def test_tokens(name: str) -> None:
    """[N, tokens, C] and [N, C, tokens]."""
    call, is_last = TOKENS[name]
    parts = {"c": nn.Conv2d(3, 4, 1), "l": nn.Linear(3, 4), "n": nn.LayerNorm(4), "f": nn.Flatten(2)}
    module = Fn(call, **parts, m=nn.Linear(16, 16)).eval().requires_grad_(False)
    net = Network(module, 4)
    images = torch.rand(2, 3, 4, 4)
    plain = module(net.prepare(images))
    if name == "mixed by a linear":  # an MLP-Mixer: nothing can tell channels from tokens but the module's author
        assert sorted(net.tap("output").shape) == [4, 16]
        return
    expected = plain.transpose(1, 2) if is_last else plain
    assert net.tap("output").shape == tuple(expected.shape[1:])
    assert torch.equal(net.run(images, ["output"])[Place("output")], expected)


@given(st.integers(1, 40), st.integers(0, 5))
def test_token_grid(side: int, before: int) -> None:
    found = token_grid(side * side + before)
    assert found is not None
    prefix, height, width = found
    assert prefix + height * width == side * side + before
    assert height == width
    if before <= 2 * side:  # else the next square fits
        assert (prefix, height) == (before, side)


@given(st.integers(1, 3000))
def test_token_grid_is_a_grid(tokens: int) -> None:
    found = token_grid(tokens)
    side = math.isqrt(tokens)
    assert found == ((tokens - side * side, side, side) if tokens - side * side <= 5 else None)


# ------------------------------------------------------------------------------------------------------------ printing


def test_prints_as_a_table() -> None:
    table = Network(small(), (8, 12)).taps()
    lines = str(table).splitlines()
    assert lines[0].split() == ["name", "kind", "shape", "channels", "receptive", "field", "stride"]
    assert len(lines) == 1 + len(table)
    assert lines[4].split("  ")[0] == "stem"
    assert "4 x 4 x 6" in lines[4]
    assert lines[4].endswith("3 x 3            2 x 2")
    assert lines[-1].endswith("8 x 12           -")
    assert repr(table) == str(table)
    columns = [line.index("x") for line in lines[1:5]]
    assert len(set(columns)) == 1


def test_prints_as_html() -> None:
    table = TapTable([Tap("<b>", "Conv&2d", (4, 2, 2), 4, (3, 3), None)])
    html = table._repr_html_()
    assert html.count("<tr>") == 2
    assert html.count("<td>") == 6
    assert "<td>&lt;b&gt;</td><td>Conv&amp;2d</td><td>4 x 2 x 2</td><td>4</td><td>3 x 3</td><td>-</td>" in html


def test_table_is_a_list_and_finds_by_name() -> None:
    table = Network(small(), 8).taps()
    assert table[0].name == "stem.0"
    assert table[-1].name == "output"
    assert [tap.name for tap in table[:2]] == ["stem.0", "stem.1"]
    assert table["stem.1"] is table[1]
    with pytest.raises(KeyError, match="nothing"):
        table["nothing"]


def test_row_as_json() -> None:
    row = Network(small(), 8).taps()["stem"].as_dict()
    assert json.loads(json.dumps(row)) == {
        "name": "stem",
        "kind": "Sequential",
        "shape": [4, 4, 4],
        "channels": 4,
        "receptive_field": [3, 3],
        "stride": [2, 2],
    }


def test_place() -> None:
    assert str(Place("layer3")) == "layer3"
    assert str(Place("layer3", after_relu=True)) == "after:layer3"
    assert Place("layer3") == Place("layer3", False) != Place("layer3", True)
    assert len({Place("a"), Place("a", False), Place("a", True)}) == 2


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("typed", "meant"), [("stem.00", "stem.0"), ("HEAD", "head"), ("sten", "stem"), ("outputs", "output")]
)
def test_unknown_tap_names_the_nearest(typed: str, meant: str) -> None:
    net = Network(small(), 8, name="tiny")
    for ask in (lambda: net.tap(typed), lambda: net.run(torch.rand(1, 3, 8, 8), [typed])):
        with pytest.raises(UnknownTapError) as caught:
            ask()
        message = str(caught.value)
        assert message.startswith(f"tiny has no tap '{typed}'; the nearest are ")
        assert meant in message.partition("nearest are ")[2].partition(" (")[0].split(", ")
        assert message.endswith("(preimage taps lists all 9)")


def test_unknown_tap_without_a_near_one() -> None:
    with pytest.raises(KeyError) as caught:
        Network(small(), 8).tap("qqqqqqqqqqqq")
    assert "nearest" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "images", [(3, 8, 8), (1, 1, 8, 8), (1, 4, 8, 8), (8, 8), (1, 3, 8, 8, 1), (2, 8, 8, 3)], ids=str
)
def test_wrong_image_shape_says_both(images: tuple[int, ...]) -> None:
    with pytest.raises(RequestError) as caught:
        Network(small(), 8, name="tiny").run(torch.rand(images), ["stem"])
    assert str(caught.value) == f"tiny takes images [N, 3, H, W], not {list(images)}"


def test_wrong_image_size() -> None:
    """Of a network that takes one size only."""
    net = Network(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), 8, channels=3)
    with pytest.raises(RequestError, match="9 x 9"):
        net.check_size((9, 9))
    with pytest.raises(RequestError, match="9 x 9"):
        net.run(torch.rand(1, 3, 9, 9), ["output"])
    net.check_size((8, 8))


def test_check_size_of_a_network_that_takes_any() -> None:
    net = Network(small(), 8)
    net.check_size((5, 17))
    net.check_size((8, 8))


@pytest.mark.parametrize("which", ["mean", "std"])
@pytest.mark.parametrize("numbers", [[0.5], [0.5, 0.5], [0.5] * 4])
def test_wrong_preprocessing_length(which: str, numbers: list[float]) -> None:
    sentence = f"{which} has {len(numbers)} numbers, but the input has 3 channels"
    with pytest.raises(RequestError) as caught:
        Network(small(), 8, channels=3, **{which: numbers})  # type: ignore[arg-type]
    assert str(caught.value) == sentence


def test_mean_and_std_of_different_length() -> None:
    with pytest.raises(RequestError, match="std has 1 numbers, but the input has 3 channels"):
        Network(small(), 8, (0.5, 0.5, 0.5), (0.5,))


@pytest.mark.parametrize("std", [[0.0, 1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, float("nan")]])
def test_std_must_be_positive(std: list[float]) -> None:
    with pytest.raises(RequestError, match="every std must be above zero"):
        Network(small(), 8, std=std)


@pytest.mark.parametrize(
    "what", [None, 3, "resnet", torch.rand, nn.ReLU, [nn.ReLU()]], ids=lambda what: type(what).__name__
)
def test_not_a_module(what: Any) -> None:
    with pytest.raises(RequestError, match=r"must be a torch\.nn\.Module, not \w+"):
        Network(what, 8)


@pytest.mark.parametrize("size", [0, -3, (4,), (4, 0), ()], ids=str)
def test_wrong_input_size(size: Any) -> None:
    with pytest.raises(RequestError, match="input_size must be a height and a width in pixels"):
        Network(small(), size)


def test_network_that_does_not_run() -> None:
    with pytest.raises(RequestError) as caught:
        Network(nn.Sequential(nn.Flatten(), nn.Linear(7, 5)), 8, channels=3, name="broken").taps()
    message = str(caught.value)
    assert message.startswith("broken does not run on 3 x 8 x 8 images (RuntimeError: mat1 and mat2 shapes")
    assert message.endswith("say what it takes with input_size= and channels=")
    assert "\n" not in message


def test_wrong_number_of_channels() -> None:
    with pytest.raises(RequestError, match=r"does not run on 1 x 8 x 8 images .*channels="):
        Network(small(), 8, channels=1).taps()


def test_module_says_its_size_and_labels() -> None:
    module = small()
    module.input_size, module.labels = (3, 10, 12), ["a", "b"]  # type: ignore[assignment]
    net = Network(module)
    assert (net.input_size, net.labels) == ((10, 12), ("a", "b"))
    net = Network(module, 8, labels=["c"])
    assert (net.input_size, net.labels) == ((8, 8), ("c",))


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_channels_from_the_first_convolution(channels: int) -> None:
    net = Network(nn.Sequential(nn.Conv2d(channels, 4, 1)), 8)
    assert net.channels == channels
    assert repr(net) == f"Network(Sequential, {channels} x 8 x 8)"
    assert net.run(torch.rand(2, channels, 8, 8), ["0"])[Place("0")].shape == (2, 4, 8, 8)


def test_channels_from_mean() -> None:
    net = Network(Fn(lambda s, x: x.flatten(1)), 4, mean=(0.1, 0.2))
    assert net.channels == 2
    assert net.tap("output").shape == (32,)


def test_opening_is_lazy() -> None:
    """Making a Network runs nothing; the first question runs the module once."""
    calls = []
    net = Network(Fn(lambda s, x: (calls.append(x.shape), s.c(x))[1], c=nn.Conv2d(3, 4, 1)), (6, 7))
    assert calls == []
    net.tap("c")
    assert calls == [(1, 3, 6, 7)]
    net.tap("output")
    assert len(calls) == 1
