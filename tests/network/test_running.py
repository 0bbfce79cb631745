"""Running to taps: what is given, that it stops there, that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from preimage.network import Network, Place


class Fn(nn.Module):
    def __init__(self, call: Callable[[Any, Tensor], Any], **parts: nn.Module):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.call = call

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.armed = False

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.armed:
            raise AssertionError("this must not run")
        return x


class Residual(nn.Module):
    """Spoils what its parts gave: in-place ReLU, in-place addition, in-place everything."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        y += x
        out: Tensor = self.relu(y)
        return out


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(F.relu(a, inplace=True))
        b.relu_()
        b.add_(a).mul_(2)
        return b[:, [1, 0, 3, 2]]


class Views(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.left, self.right = nn.Conv2d(4, 4, 1), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.conv(x).chunk(2, 1)
        left, right = self.left(left), self.right(right)
        left *= 2
        return torch.cat([right.relu_(), left], 1)


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.grow, self.squeeze = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.pool, self.drop = nn.MaxPool2d(3, 1, 1), nn.Dropout(0.5, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.squeeze(self.drop(torch.cat([x, self.pool(F.relu(self.grow(x)))], 1)))
        return out


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.flatten(2).transpose(1, 2))
        return y.transpose(1, 2).unflatten(2, x.shape[2:])


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "functional": Functional,
    "views": Views,
    "dense": Dense,
    "attention": Attention,
    "relu": lambda: nn.ReLU(inplace=True),
    "norm": lambda: nn.BatchNorm2d(4),
    "identity": nn.Identity,
}


def plainly(net: Network, images: Tensor) -> tuple[dict[tuple[int, int], Tensor], Tensor]:
    """What a forward hook that copies sees at each call of each module, and the output."""
    seen: dict[tuple[int, int], Tensor] = {}
    calls: dict[int, int] = {}

    def hook(part: nn.Module, _: Any, output: Any) -> None:
        number = calls[id(part)] = calls.get(id(part), -1) + 1
        seen[id(part), number] = (output[0] if isinstance(output, tuple) else output).clone()

    handles = [part.register_forward_hook(hook) for part in net.module.modules()]
    output = net.module(net.prepare(images))
    for handle in handles:
        handle.remove()
    return seen, output.clone()


def frozen(module: nn.Module) -> nn.Module:
    """Torch takes other kernels, which round differently, where parameters need a gradient."""
    return module.eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def _unfused() -> Any:
    """The plain run takes the same kernels as ours: the fused attention skips the modules inside it."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


def site(net: Network, name: str) -> tuple[int, int]:
    path, _, number = name.partition("#")
    return id(net.module if path == "output" else net.module.get_submodule(path)), int(number or 1) - 1


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=4), st.integers(0, 2**31), st.data())
def test_what_a_copying_hook_sees(blocks: list[str], seed: int, data: st.DataObject) -> None:
    """Every tap at once, some of them, and each alone give what the hook saw; the output stays the same."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *(BLOCKS[block]() for block in blocks))
    net, images = Network(frozen(module), 6), torch.randn(2, 3, 6, 6)
    seen, output = plainly(net, images)
    names = [name for name, _ in module.named_modules() if name and known(net, name)]
    names += [name + "#2" for name in names if known(net, name + "#2")]
    names.append("output")
    whole = net.run(images, [Place(name, after_relu=True) for name in names])
    some = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
    part = net.run(images, [Place(name, after_relu=True) for name in some])
    assert torch.equal(whole[Place("output", True)], output)
    for name in names:
        expected = seen[site(net, name)]
        if expected.ndim == 3:
            expected = expected.transpose(1, 2)
        assert torch.equal(whole[Place(name, True)], expected), name
        if name in some:
            assert torch.equal(part[Place(name, True)], expected), name
    alone = Place(data.draw(st.sampled_from(names)), after_relu=True)
    assert torch.equal(net.run(images, [alone])[alone], whole[alone])


def known(net: Network, name: str) -> bool:
    try:
        return net.tap(name).name == name
    except KeyError:
        return False


def test_stops_at_the_deepest_tap() -> None:
    first, between, last = Counter(), Counter(), Counter()
    module = nn.Sequential(nn.Conv2d(3, 4, 1), first, nn.Sequential(nn.ReLU(), between), nn.ReLU(True), last)
    net, images = Network(module, 6), torch.rand(2, 3, 6, 6)
    net.taps()
    last.armed = True
    assert set(net.run(images, ["2", "0"])) == {Place("0"), Place("2")}
    between.armed = True
    net.run(images, ["2.0", "1", Place("2.0", after_relu=True)])
    first.armed = True
    net.run(images, ["0"])
    with pytest.raises(AssertionError, match="must not run"):
        net.run(images, ["1"])


def test_stops_within_the_module_that_holds_the_tap() -> None:
    counter = Counter()
    module = nn.Sequential(Fn(lambda s, x: s.later(s.conv(x)), conv=nn.Conv2d(3, 4, 1), later=counter))
    net = Network(module, 6)
    net.taps()
    counter.armed = True
    net.run(torch.rand(1, 3, 6, 6), ["0.conv"])


def test_stops_at_an_earlier_call_of_a_shared_module() -> None:
    counter = Counter()
    module = Fn(lambda s, x: s.relu(s.later(s.relu(s.conv(x)))), relu=nn.ReLU(), conv=nn.Conv2d(3, 4, 1), later=counter)
    net = Network(module, 6)
    net.taps()
    counter.armed = True
    net.run(torch.rand(1, 3, 6, 6), ["relu"])
    with pytest.raises(AssertionError, match="must not run"):
        net.run(torch.rand(1, 3, 6, 6), ["relu#2"])


def test_stops_though_the_module_catches_exceptions() -> None:
    counter = Counter()

    def call(self: Any, x: Tensor) -> Tensor:
        try:
            x = self.conv(x)
        except Exception:
            x = torch.zeros(1)
        out: Tensor = self.later(x)
        return out

    net = Network(Fn(call, conv=nn.Conv2d(3, 4, 1), later=counter), 6)
    net.taps()
    counter.armed = True
    net.run(torch.rand(1, 3, 6, 6), ["conv"])


def test_each_module_runs_once() -> None:
    counter = Counter()
    net = Network(nn.Sequential(nn.Conv2d(3, 4, 1), counter, nn.ReLU(), nn.Conv2d(4, 4, 1)), 6)
    net.taps()
    before = counter.calls
    net.run(torch.rand(2, 3, 6, 6), ["0", "1", "2", Place("2", True), "3", "output"])
    assert counter.calls == before + 1


def test_keys_are_what_was_asked() -> None:
    net = Network(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), 6)
    values = net.run(torch.rand(1, 3, 6, 6), ["1", Place("1", True), Place("0"), "0"])
    assert set(values) == {Place("1"), Place("1", True), Place("0")}
    assert {value.shape for value in values.values()} == {(1, 4, 6, 6)}


def test_values_are_their_own() -> None:
    """Writing into one value changes no other, and no image."""
    net = Network(nn.Sequential(nn.Identity(), nn.Identity(), nn.ReLU()), 6, channels=3)
    images = torch.rand(2, 3, 6, 6)
    kept = images.clone()
    places = [Place("0"), Place("1"), Place("2", True), Place("output", True)]
    values = net.run(images, places)
    for place in places:
        values[place].fill_(-1)
    assert torch.equal(images, kept)
    again = net.run(images, places)
    again[Place("0")].fill_(-1)
    assert torch.equal(again[Place("1")], kept)


# ------------------------------------------------------------------------------------------------------------- images

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("normalised", [False, True])
def test_images_are_left_alone(layout: str, channels: int, normalised: bool) -> None:
    """Also where the network writes into its input."""
    module = Fn(lambda s, x: s.c(x.sub_(0.5).mul_(2)), c=nn.Conv2d(channels, 4, 1))
    images = torch.rand(2, channels, 6, 6).to(memory_format=LAYOUTS[layout])
    kept = images.clone()
    net = Network(module, 6, [0.5] * channels if normalised else None)
    first = net.run(images, ["c"])[Place("c")]
    assert torch.equal(images, kept)
    assert torch.equal(net.run(images, ["c"])[Place("c")], first)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_gradient_where_the_network_writes_into_its_input(layout: str, channels: int) -> None:
    module = Fn(lambda s, x: s.c(x.sub_(0.5)), c=nn.Conv2d(channels, 4, 1))
    images = torch.rand(2, channels, 6, 6).to(memory_format=LAYOUTS[layout]).requires_grad_()
    Network(module, 6).run(images, ["c"])[Place("c")].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().min() > 0


def test_preprocessing() -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.5)
    net = Network(nn.Sequential(nn.Identity()), 4, mean, std)
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([(images[:, c] - mean[c]) / std[c] for c in range(3)], 1)
    assert torch.equal(net.run(images, ["0"])[Place("0")], expected)
    assert torch.equal(net.prepare(images), expected)


@pytest.mark.parametrize(("given_mean", "given_std"), [((0.25,), None), (None, (0.5,))])
def test_half_of_the_preprocessing(given_mean: tuple[float] | None, given_std: tuple[float] | None) -> None:
    net = Network(nn.Sequential(nn.Identity()), 4, given_mean, given_std, channels=1)
    values = net.run(torch.ones(1, 1, 4, 4), ["0"])[Place("0")]
    assert torch.equal(values, torch.full((1, 1, 4, 4), 0.75 if given_mean else 2.0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(dtype: torch.dtype) -> None:
    """The module computes in its own type; values come as float32, gradients in the images' type."""
    module = (
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        .to(dtype)
        .eval()
        .requires_grad_(False)
    )
    net = Network(module, 6)
    images = torch.rand(2, 3, 6, 6, requires_grad=True)
    values = net.run(images, ["0", "output", Place("output", True)])
    assert net.dtype == dtype
    assert {value.dtype for value in values.values()} == {torch.float32}
    assert torch.equal(values[Place("output", True)], module(net.prepare(images)).float())
    (gradient,) = torch.autograd.grad(values[Place("output")].sum(), images)
    assert gradient.dtype == torch.float32
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("size", [(6, 6), (9, 5), (1, 1), (17, 30)])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_size_and_number(size: tuple[int, int], count: int) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module.append(nn.Linear(4, 5)).eval().requires_grad_(False)
    net, images = Network(module, 6), torch.rand(count, 3, *size)
    values = net.run(images, ["0", "1", "output"])
    assert values[Place("1")].shape == (count, 4, *size)
    assert values[Place("output")].shape == (count, 5)
    assert torch.equal(values[Place("output")], module(net.prepare(images)))
    assert torch.equal(values[Place("1")], values[Place("0")])


VIEWS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "view(N, -1)": lambda s, x: s.l(F.relu(s.c(x)).view(x.size(0), -1)),
    "view(-1, features)": lambda s, x: s.l(F.max_pool2d(s.c(x), 1).view(-1, 4 * 6 * 6)),
    "view(N, C, -1)": lambda s, x: s.l(s.c(x).view(x.size(0), 4, -1).flatten(1)),
    "view of groups": lambda s, x: s.l(s.c(x).view(x.size(0), 2, -1).flatten(1)),
    "view of the input": lambda s, x: s.l(torch.cat([x, x[:, :1]], 1).view(x.size(0), -1)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views(name: str) -> None:
    """Networks written with `view`, which demands a memory layout, run as they do without us."""
    module = Fn(VIEWS[name], c=nn.Conv2d(3, 4, 1), l=nn.Linear(144, 5)).eval().requires_grad_(False)
    images = torch.rand(2, 3, 6, 6)
    values = Network(module, 6).run(images, ["output"])[Place("output")]
    torch.testing.assert_close(values, module(images))


# ---------------------------------------------------------------------------------------------------------- gradients


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(["residual", "dense", "norm", "attention"]), max_size=3), st.data())
def test_gradient_is_the_gradient(blocks: list[str], data: st.DataObject) -> None:
    """Of the same module, run plainly, with the same values in front."""
    torch.manual_seed(data.draw(st.integers(0, 2**31)))
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *(BLOCKS[block]() for block in blocks), nn.Conv2d(4, 2, 1))
    net = Network(frozen(module), 6, (0.5, 0.4, 0.3), (0.2, 0.3, 0.2))
    images = torch.rand(2, 3, 6, 6, requires_grad=True)
    plain = module(net.prepare(images))
    ours = net.run(images, ["output"])[Place("output")]
    assert torch.equal(ours, plain)
    weights = torch.randn_like(plain)
    (mine,) = torch.autograd.grad((ours * weights).sum(), images)
    (theirs,) = torch.autograd.grad((plain * weights).sum(), images)
    assert torch.equal(mine, theirs)


def test_second_order() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 2, 1))
    images = torch.rand(1, 3, 6, 6, requires_grad=True)
    values = Network(module, 6).run(images, ["output"])[Place("output")]
    (gradient,) = torch.autograd.grad(values.sum(), images, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), images)
    assert second.abs().max() > 0


def test_no_graph_where_none_is_asked() -> None:
    net = Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), 6)
    assert not net.run(torch.rand(1, 3, 6, 6), ["1"])[Place("1")].requires_grad
    images = torch.rand(1, 3, 6, 6, requires_grad=True)
    with torch.no_grad():
        assert not net.run(images, ["1"])[Place("1")].requires_grad


@pytest.mark.parametrize("opened", [False, True])
def test_inference_mode(opened: bool) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    net, images = Network(module, 6), torch.rand(2, 3, 6, 6)
    expected = Network(module, 6).run(images, ["1"])[Place("1")]
    if opened:
        net.taps()
    with torch.inference_mode():
        assert torch.equal(net.run(images, ["1"])[Place("1")], expected)
        assert net.taps()["1"].receptive_field == (3, 3)


def test_randomness_is_not_used_up() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(0.5), nn.MaxPool2d(2))
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    net = Network(module, 6)
    net.taps()
    net.run(torch.full((1, 3, 6, 6), 0.5), ["3", "output"])
    assert torch.equal(torch.rand(4), expected)


# -------------------------------------------------------------------------------------------------------- other shapes


def test_two_dimensional_outputs() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 7), nn.ReLU(), nn.Linear(7, 5)).eval().requires_grad_(False)
    net, images = Network(module, 4), torch.rand(3, 3, 4, 4)
    values = net.run(images, ["1", "2", Place("2", True), "output"])
    assert values[Place("1")].shape == (3, 7)
    assert torch.equal(values[Place("2")], values[Place("1")])
    assert torch.equal(values[Place("2", True)], F.relu(values[Place("1")]))
    assert torch.equal(values[Place("output")], module(net.prepare(images)))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_gray_and_many_channels(channels: int) -> None:
    module = (
        nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2)).eval().requires_grad_(False)
    )
    net, images = Network(module, 6), torch.rand(2, channels, 6, 6)
    values = net.run(images, ["0", Place("output", True)])
    assert net.taps()["output"].receptive_field == (4, 4)
    assert torch.equal(values[Place("output", True)], F.max_pool2d(F.relu(values[Place("0")]), 2))


class Swin(nn.Module):
    """Keeps [N, H, W, C] all along."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 2, 2)
        self.norm, self.mlp = nn.LayerNorm(6), nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 6))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        x = x + self.mlp(self.norm(x))
        out: Tensor = self.head(x.mean((1, 2)))
        return out


def test_channels_last_network() -> None:
    module = Swin().eval().requires_grad_(False)
    net, images = Network(module, (12, 8)), torch.rand(2, 3, 12, 8)
    shapes = {tap.name: tap.shape for tap in net.taps()}
    assert shapes == {
        "patch": (6, 6, 4),
        "norm": (6, 6, 4),
        "mlp.0": (12, 6, 4),
        "mlp.1": (12, 6, 4),
        "mlp.2": (6, 6, 4),
        "mlp": (6, 6, 4),
        "head": (5,),
        "output": (5,),
    }
    seen, _ = plainly(net, images)
    values = net.run(images, ["norm", "mlp.0", "mlp.1", Place("mlp.1", True), "mlp"])
    for name in ("norm", "mlp.0", "mlp"):
        assert torch.equal(values[Place(name)], seen[site(net, name)].permute(0, 3, 1, 2)), name
    assert torch.equal(values[Place("mlp.1")], values[Place("mlp.0")])
    assert torch.equal(values[Place("mlp.1", True)], F.relu(values[Place("mlp.0")]))
    table = net.taps()
    assert (table["mlp"].receptive_field, table["mlp"].stride) == ((2, 2), (2, 2))


def test_network_that_takes_another_path() -> None:
    module = Fn(lambda s, x: s.a(x) if bool((x == 0.5).all()) else x.sum(), a=nn.Conv2d(3, 4, 1))
    net = Network(module, 6)
    with pytest.raises(ValueError, match="did not reach every tap"):
        net.run(torch.rand(1, 3, 6, 6), ["a"])


def test_failure_inside_gets_through() -> None:
    counter = Counter()
    net = Network(nn.Sequential(nn.Conv2d(3, 4, 1), counter), 6)
    net.taps()
    counter.armed = True
    with pytest.raises(AssertionError, match="must not run"):
        net.run(torch.rand(1, 3, 6, 6), ["output"])


def test_networks_one_inside_the_other() -> None:
    """A module may be opened twice, and a part of it too."""
    inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(True))
    module = nn.Sequential(nn.Conv2d(3, 4, 1), inner).eval().requires_grad_(False)
    outer, part, images = Network(module, 6), Network(inner, 6), torch.rand(2, 3, 6, 6)
    values = outer.run(images, ["0", "1.0", "1"])
    again = part.run(values[Place("0")], ["0", "output"])
    assert torch.equal(again[Place("0")], values[Place("1.0")])
    assert torch.equal(again[Place("output")], values[Place("1")])
