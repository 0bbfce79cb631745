"""Values before a final ReLU (SPEC A11), however the ReLU is written and whatever carries its value on."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from preimage.network import Network, Place

One = Callable[[Tensor], Any]
Two = Callable[[Tensor, Tensor], Tensor]
BEFORE, AFTER = Place("body"), Place("body", after_relu=True)


class Body(nn.Module):
    def __init__(self, call: Two, parts: list[nn.Module]):
        super().__init__()
        self.call, self.parts = call, nn.ModuleList(parts)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.call(a, b)


class Net(nn.Module):
    """Two convolutions, joined by `call`; what follows spoils the tapped tensor if it was not copied."""

    def __init__(self, call: Two, parts: list[nn.Module] | None = None, bias: float | None = None):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.body = Body(call, parts or [])
        if bias is not None:
            nn.init.constant_(self.a.bias, bias)  # type: ignore[arg-type]
            nn.init.constant_(self.b.bias, bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(self.a(x), self.b(x))
        out = out + 0 if out.requires_grad else out
        return out.mul_(3).sub_(1)


def inputs(net: Network) -> tuple[Tensor, Tensor, Tensor]:
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    prepared, module = net.prepare(images), net.module
    assert isinstance(module, Net)
    with torch.no_grad():
        return images, module.a(prepared), module.b(prepared)


def check(call: Two, before: Two, parts: list[nn.Module] | None = None, axis: int = 1) -> None:
    """`call` gives the value after the ReLU, `before` the same without it; the tap must give both exactly.

    axis: where the channels are.
    """
    torch.manual_seed(0)
    net = Network(Net(call, parts).eval().requires_grad_(False), 6)
    images, a, b = inputs(net)
    values = net.run(images, [BEFORE, AFTER, Place("output")])
    expected_after = call(a.clone(), b.clone()).movedim(axis, 1)
    expected_before = before(a.clone(), b.clone()).movedim(axis, 1)
    assert torch.equal(values[AFTER], expected_after)
    assert torch.equal(values[BEFORE], expected_before)
    assert torch.equal(values[Place("output")], expected_after * 3 - 1)
    # Also alone, where the run ends at the tap and nothing else is asked for.
    assert torch.equal(net.run(images, ["body"])[BEFORE], expected_before)
    assert torch.equal(net.run(images, [AFTER])[AFTER], expected_after)


# ------------------------------------------------------------------------------------------- the ways to write a ReLU

RELUS: dict[str, One] = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu by keyword": lambda x: F.relu(input=x),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(0),
    "clamp min": lambda x: x.clamp(min=0),
    "clamp min float": lambda x: x.clamp(min=0.0),
    "clamp in place": lambda x: x.clamp_(min=0),
    "torch.clamp": lambda x: torch.clamp(x, 0),
    "torch.clamp by keyword": lambda x: torch.clamp(input=x, min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "clamp_min_": lambda x: x.clamp_min_(0),
    "clip": lambda x: torch.clip(x, min=0),
    "clip_": lambda x: x.clip_(0),
    "F.threshold": lambda x: F.threshold(x, 0, 0),
    "F.threshold in place": lambda x: F.threshold(x, 0.0, 0.0, inplace=True),
    "torch.threshold": lambda x: torch.threshold(x, 0, 0),
}
BOUNDED: dict[str, One] = {
    "F.relu6": F.relu6,
    "F.relu6 in place": lambda x: F.relu6(x, inplace=True),
    "F.hardtanh": lambda x: F.hardtanh(x, 0, 6),
    "F.hardtanh in place": lambda x: F.hardtanh(x, 0.0, 6.0, inplace=True),
    "F.hardtanh by keyword": lambda x: F.hardtanh(x, min_val=0.0, max_val=0.3),
    "clamp both": lambda x: x.clamp(0, 0.2),
    "clamp both by keyword": lambda x: torch.clamp(x, max=0.2, min=0),
    "clip both": lambda x: torch.clip(x, 0, 0.2),
}
MODULES: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "ReLU in place": lambda: nn.ReLU(inplace=True),
    "ReLU6": nn.ReLU6,
    "ReLU6 in place": lambda: nn.ReLU6(inplace=True),
    "Hardtanh": lambda: nn.Hardtanh(0, 6),
    "Hardtanh in place": lambda: nn.Hardtanh(0.0, 6.0, inplace=True),
    "Threshold": lambda: nn.Threshold(0, 0),
    "Threshold in place": lambda: nn.Threshold(0.0, 0.0, inplace=True),
}


@pytest.mark.parametrize("name", [*RELUS, *BOUNDED])
def test_function(name: str) -> None:
    relu = {**RELUS, **BOUNDED}[name]
    check(lambda a, b: relu(a), lambda a, b: a)


@pytest.mark.parametrize("name", MODULES)
def test_module(name: str) -> None:
    part = MODULES[name]()
    check(lambda a, b: part(a), lambda a, b: a, [part])


@pytest.mark.parametrize("name", RELUS)
def test_relu_of_before_is_after(name: str) -> None:
    torch.manual_seed(2)
    net = Network(Net(lambda a, b: RELUS[name](a)), 6)
    values = net.run(torch.rand(2, 3, 6, 6), [BEFORE, AFTER])
    assert torch.equal(F.relu(values[BEFORE]), values[AFTER])
    assert values[BEFORE].min() < 0


# --------------------------------------------------------------------------------------------- what carries a ReLU on

CARRIERS: dict[str, One] = {
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "max_pool2d, padded, ceil": lambda x: F.max_pool2d(x, kernel_size=3, stride=2, padding=1, ceil_mode=True),
    "max_pool2d with places": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "torch.max_pool2d": lambda x: torch.max_pool2d(x, 2),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 3),
    "adaptive_max_pool2d with places": lambda x: F.adaptive_max_pool2d(x, 3, return_indices=True)[0],
    "flatten": lambda x: x.flatten(1),
    "torch.flatten": lambda x: torch.flatten(x, start_dim=1),
    "torch.flatten by keyword": lambda x: torch.flatten(input=x, start_dim=1),
    "reshape": lambda x: x.reshape(x.shape[0], -1),
    "permute": lambda x: x.permute(0, 2, 3, 1).contiguous(),
    "transpose": lambda x: x.flatten(2).transpose(1, 2),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "dropout in place": lambda x: F.dropout(x, 0.5, training=False, inplace=True),
    "dropout2d": lambda x: F.dropout2d(x, 0.5, training=False),
    "first chunk": lambda x: x.chunk(2, 1)[0],
    "last chunk": lambda x: torch.chunk(x, 2, dim=1)[1],
    "split": lambda x: x.split([1, 3], 1)[1],
    "slice": lambda x: x[:, 1:3],
    "every other": lambda x: x[..., ::2],
    "squeeze": lambda x: x[:, :1].squeeze(1).unsqueeze(1),
    "clone": lambda x: x.clone(),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "unflatten": lambda x: x.unflatten(1, (2, 2)).flatten(1, 2),
    "several": lambda x: F.dropout(F.max_pool2d(x.contiguous(), 2), training=False).flatten(2)[..., 1:],
}


@pytest.mark.parametrize("name", CARRIERS)
def test_carried(name: str) -> None:
    carry = CARRIERS[name]
    check(lambda a, b: carry(F.relu(a)), lambda a, b: carry(a), axis={"permute": 3, "transpose": 2}.get(name, 1))


CARRYING_MODULES: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "flatten": nn.Flatten,
    "max pool": lambda: nn.MaxPool2d(2),
    "max pool, ceil": lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "adaptive max pool": lambda: nn.AdaptiveMaxPool2d(2),
    "dropout": lambda: nn.Dropout(0.5),
    "dropout in place": lambda: nn.Dropout(0.5, inplace=True),
    "dropout2d": lambda: nn.Dropout2d(0.5),
    "channel shuffle": lambda: nn.ChannelShuffle(2),
}


@pytest.mark.parametrize("name", CARRYING_MODULES)
def test_carried_by_module(name: str) -> None:
    part = CARRYING_MODULES[name]().eval()
    check(lambda a, b: part(F.relu(a)), lambda a, b: part(a), [part])


def statement(method: str, a: Tensor, b: Tensor) -> Tensor:
    getattr(a, method)(b)
    return a


def relu(x: Tensor) -> Tensor:
    return F.relu(x)


def same(x: Tensor) -> Tensor:
    return x


JOINS: dict[str, Callable[[Callable[[Tensor], Tensor]], Two]] = {
    "cat": lambda r: lambda a, b: torch.cat([r(a), r(b)], 1),
    "cat, one bare": lambda r: lambda a, b: torch.cat((r(a), b), dim=1),
    "cat, other bare": lambda r: lambda a, b: torch.cat((a, r(b)), dim=1),
    "cat by keyword": lambda r: lambda a, b: torch.cat(tensors=[r(a), r(b)], dim=1),
    "concat": lambda r: lambda a, b: torch.concat([r(a), r(b)], 1),
    "cat of pooled": lambda r: lambda a, b: torch.cat([F.max_pool2d(r(a), 3, 1, 1), r(b)], 1),
    "+": lambda r: lambda a, b: r(a) + r(b),
    "+, one bare": lambda r: lambda a, b: r(a) + b,
    "+, other bare": lambda r: lambda a, b: a + r(b),
    "+ number": lambda r: lambda a, b: r(a) + 1,
    "number +": lambda r: lambda a, b: 1 + r(a),
    "sum": lambda r: lambda a, b: sum([r(a), r(b)], torch.zeros(())),
    "torch.add": lambda r: lambda a, b: torch.add(r(a), r(b)),
    "torch.add, scaled": lambda r: lambda a, b: torch.add(r(a), r(b), alpha=2),
    "torch.add by keyword": lambda r: lambda a, b: torch.add(r(a), other=r(b)),
    "add": lambda r: lambda a, b: r(a).add(r(b)),
    "+=": lambda r: lambda a, b: operator.iadd(r(a), r(b)),
    "+=, one bare": lambda r: lambda a, b: operator.iadd(a, r(b)),
    "+=, other bare": lambda r: lambda a, b: operator.iadd(r(a), b),
    "add_ as a statement": lambda r: lambda a, b: statement("add_", r(a), r(b)),
    "add_ into bare": lambda r: lambda a, b: statement("add_", a, r(b)),
    "added to itself": lambda r: lambda a, b: (lambda x: x + x)(r(a)),
}


@pytest.mark.parametrize("name", JOINS)
def test_joined(name: str) -> None:
    check(JOINS[name](relu), JOINS[name](same))


def test_relu_of_a_sum() -> None:
    """A residual block: its ReLU comes after the addition, and the identity keeps its own ReLU."""
    check(lambda a, b: operator.iadd(a, F.relu(b)).relu_(), lambda a, b: a + F.relu(b))


# ----------------------------------------------------------------------------------------------------- given as it is

AS_IT_IS: dict[str, Two] = {
    "no ReLU": lambda a, b: a,
    "average pool": lambda a, b: F.avg_pool2d(F.relu(a), 2),
    "global average": lambda a, b: F.adaptive_avg_pool2d(F.relu(a), 1),
    "mean": lambda a, b: F.relu(a).mean((2, 3)),
    "leaky": lambda a, b: F.leaky_relu(a),
    "gelu": lambda a, b: F.gelu(a),
    "elu": lambda a, b: F.elu(a),
    "silu": lambda a, b: F.silu(a),
    "sigmoid": lambda a, b: F.relu(a).sigmoid(),
    "hardtanh": lambda a, b: F.hardtanh(a),
    "clamp above": lambda a, b: a.clamp(max=0.1),
    "clamp elsewhere": lambda a, b: a.clamp(min=0.1),
    "threshold to another value": lambda a, b: F.threshold(a, 0.0, 5.0),
    "torch.threshold to another value": lambda a, b: torch.threshold(a, 0.0, 5.0),
    "threshold elsewhere": lambda a, b: F.threshold(a, 0.1, 0.0),
    "difference": lambda a, b: a - F.relu(b),
    "written over": lambda a, b: F.relu(a).mul_(-1),
    "normalised": lambda a, b: F.group_norm(F.relu(a), 2),
    "convolved": lambda a, b: F.conv2d(F.relu(a), torch.ones(4, 4, 1, 1)),
}


@pytest.mark.parametrize("name", AS_IT_IS)
def test_as_it_is(name: str) -> None:
    check(AS_IT_IS[name], AS_IT_IS[name])


def test_view_written_over() -> None:
    """A change through a view makes what was remembered of the base wrong."""

    def call(a: Tensor, b: Tensor) -> Tensor:
        x = F.relu(a)
        x[:, 0] = -1
        return x

    check(call, call)


# --------------------------------------------------------------------------------------------------------- dead units

# Torch refuses to go back through a ReLU whose result was written into.
IN_PLACE = {"+=", "+=,", "add_", "bare"}
DEAD: dict[str, Two] = {
    **{f"function, {name}": (lambda a, b, r=r: r(a + 0)) for name, r in {**RELUS, **BOUNDED}.items()},
    **{f"carried, {name}": (lambda a, b, c=c: c(F.relu(a))) for name, c in CARRIERS.items() if "several" not in name},
    **{f"joined, {name}": make(relu) for name, make in JOINS.items() if not IN_PLACE & {*name.split()}},
}


@pytest.mark.parametrize("name", DEAD)
def test_dead_unit(name: str) -> None:
    """SPEC A.2, claim 5: a dead unit has no gradient behind its ReLU, and has one before it."""
    torch.manual_seed(0)
    net = Network(Net(DEAD[name], bias=-100.0), 6)
    images = torch.rand(2, 3, 6, 6, requires_grad=True)
    values = net.run(images, [BEFORE, AFTER])
    (dead,) = torch.autograd.grad(values[AFTER].sum(), images, retain_graph=True)
    (alive,) = torch.autograd.grad(values[BEFORE].sum(), images)
    assert dead.abs().max() == 0
    assert alive.abs().max() > 0


@pytest.mark.parametrize("name", [name for name in JOINS if IN_PLACE & {*name.split()}])
def test_dead_unit_written_into(name: str) -> None:
    torch.manual_seed(0)
    net = Network(Net(JOINS[name](relu), bias=-100.0), 6)
    images = torch.rand(2, 3, 6, 6, requires_grad=True)
    (alive,) = torch.autograd.grad(net.run(images, [BEFORE])[BEFORE].sum(), images)
    assert alive.abs().max() > 0


def test_gradient_before_the_relu() -> None:
    """It is the gradient of the same network without its last ReLU."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)).eval().requires_grad_(False)
    net = Network(module, 6)
    images = torch.rand(2, 3, 6, 6, requires_grad=True)
    (ours,) = torch.autograd.grad(net.run(images, ["2"])[Place("2")].square().sum(), images)
    (plain,) = torch.autograd.grad(module[:2](net.prepare(images)).square().sum(), images)
    assert torch.equal(ours, plain)


# ------------------------------------------------------------------------------------------------------ random programs


@dataclass
class Cell:
    """A tensor that may be written into: its value, and what it would be without its last ReLU."""

    value: Tensor
    before: Tensor


OPS = "conv relu relu6 relu_ module shared += save swap pool dropout cat lost".split()


class Program(nn.Module):
    """Random calls one after the other; `saved` is an alias, so writing into one writes into the other."""

    def __init__(self, ops: list[str]):
        super().__init__()
        self.ops = ops
        shared = nn.ReLU(inplace=True)
        makes: dict[str, Callable[[], nn.Module]] = {
            "conv": lambda: nn.Conv2d(3, 3, 3, padding=1),
            "module": nn.ReLU,
            "shared": lambda: shared,
            "pool": lambda: nn.MaxPool2d(3, 1, 1),
            "dropout": lambda: nn.Dropout(0.5),
        }
        self.parts = nn.ModuleList(makes.get(op, nn.Identity)() for op in ops)
        self.taps = nn.ModuleList(nn.Identity() for _ in ops)

    def forward(self, x: Tensor) -> Tensor:
        x = saved = x + 0
        for op, part, tap in zip(self.ops, self.parts, self.taps, strict=True):
            if op in ("relu", "relu6", "relu_"):
                x = {"relu": F.relu, "relu6": F.relu6, "relu_": torch.relu_}[op](x)
            elif op == "+=":
                x += saved
            elif op == "save":
                saved = x
            elif op == "swap":
                x, saved = saved, x
            elif op == "cat":
                x = torch.cat([x, saved], 1)[:, 1:4]
            elif op == "lost":
                x = x.neg().neg()
            else:
                x = part(x)
            tap(x)
        return x

    def expected(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The same with pairs instead of tensors: what SPEC A11 asks for, by definition."""
        cell = saved = Cell(x + 0, x + 0)
        out = []
        for op, part in zip(self.ops, self.parts, strict=True):
            value, before = cell.value, cell.before
            if op in ("relu", "module"):
                cell = Cell(F.relu(value), value)
            elif op == "relu6":
                cell = Cell(F.relu6(value), value)
            elif op in ("relu_", "shared"):
                cell.value, cell.before = F.relu(value), value
            elif op == "+=":
                cell.value, cell.before = value + saved.value, before + saved.before
            elif op == "save":
                saved = cell
            elif op == "swap":
                cell, saved = saved, cell
            elif op == "cat":
                pair = [torch.cat(two, 1)[:, 1:4] for two in ([value, saved.value], [before, saved.before])]
                cell = Cell(*pair)
            elif op == "lost":
                cell = Cell(value, value)
            elif op == "conv":
                cell = Cell(part(value), part(value))
            elif op == "pool":
                cell = Cell(part(value), part(before))
            out.append((cell.value, cell.before))
        return out


@st.composite
def programs(draw: st.DrawFn) -> list[str]:
    """Views (the slice in `cat`) are not written into: what their base then holds is another matter."""
    ops = draw(st.lists(st.sampled_from(OPS), min_size=1, max_size=10))
    out: list[str] = []
    for op in ops:
        if out and out[-1] == "cat":
            out.append("lost" if draw(st.booleans()) else "pool")
        out.append(op)
    return out


@settings(max_examples=50, deadline=None)
@given(programs(), st.integers(0, 2**31))
def test_random_programs(ops: list[str], seed: int) -> None:
    torch.manual_seed(seed)
    module = Program(ops).eval().requires_grad_(False)
    net = Network(module, 6, channels=3)
    images = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        expected = module.expected(net.prepare(images))
        final = module(net.prepare(images))
    names = [f"taps.{index}" for index in range(len(ops))]
    places = [Place(name, after) for name in names for after in (False, True)]
    values = net.run(images, [*places, Place("output", after_relu=True)])
    assert torch.equal(values[Place("output", True)], final)
    for name, (after, before) in zip(names, expected, strict=True):
        assert torch.equal(values[Place(name, True)], after)
        assert torch.equal(values[Place(name)], before)
        assert torch.equal(net.run(images, [name])[Place(name)], before)


def test_another_path_than_when_opened() -> None:
    """A network that takes its ReLU only for some inputs is refused in a sentence, not answered wrongly."""

    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.inner(x)
            return F.relu(y) if bool((x == 0.5).all()) else y + 1

    net = Network(nn.Sequential(Fickle()), 6)
    assert net.run(torch.full((1, 3, 6, 6), 0.5), ["0"])[Place("0")].shape == (1, 4, 6, 6)
    with pytest.raises(ValueError, match="another path than when it was opened"):
        net.run(torch.rand(1, 3, 6, 6), ["0"])
