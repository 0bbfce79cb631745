"""A module comes back exactly as it was: after taps, runs, exceptions and Ctrl-C, for many kinds of modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import prune

from preimage.errors import RequestError, UnknownTapError
from preimage.network import Network, Place

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:For backward hooks to be called:UserWarning"),
]

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_state_dict_hooks",
)
GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
    "_global_forward_hooks_always_called",
)


class BoomError(Exception):
    pass


class Bomb(nn.Module):
    """Counts its calls and raises at one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.fuse: int | None = None
        self.error: type[BaseException] = BoomError

    def forward(self, x: Tensor) -> Tensor:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise self.error("boom")
        return x


class Counts(nn.Module):
    """Changes its buffers in evaluation mode too: in place, by replacement, and by taking one away."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.register_buffer("count", torch.zeros(3))
        self.register_buffer("nothing", None)
        self.register_buffer("fleeting", torch.ones(2), persistent=False)
        self.count: Tensor | None
        self.nothing: Tensor | None
        self.fleeting: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "in place" and self.count is not None:
            self.count += 1
        elif self.how == "data" and self.count is not None:
            self.count.data.add_(1)
        elif self.how == "copy" and self.count is not None:
            self.count.copy_(torch.rand(3))
        elif self.how == "replaced":
            self.count = torch.ones(3)
        elif self.how == "gone":
            self.count = None
        elif self.how == "set":
            self.nothing = torch.ones(5)
        elif self.how == "grown":
            self.fleeting = torch.cat([self.fleeting, torch.ones(1)]) if self.fleeting is not None else None
        elif self.how == "registered":
            self.register_buffer("grid", torch.ones(2))
        return x


class Caches(nn.Module):
    """Without any buffer before its first call."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "grid"):
            self.register_buffer("grid", torch.ones(x.shape[-1]))
        return x * self.get_buffer("grid").to(x.dtype)


class Stubborn(nn.Module):
    """Overrides `train`, as networks with frozen parts do."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.norm = nn.BatchNorm2d(4)

    def train(self, mode: bool = True) -> Stubborn:
        self.calls += 1
        super().train(mode)
        self.norm.train(True)
        return self

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x)
        return out


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x + 0, inplace=True) + 1
        x -= 2
        return x.clamp_(min=0)


class SharedRelu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.b(self.relu(self.a(x))))
        return out


class Heads(nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self.one, self.two = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Any:
        a, b = self.one(x), self.two(x)
        return {"dict": {"a": a, "b": b}, "tuple": (a, b), "nested": [{"a": (a, None)}, b]}[self.kind]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.flatten(2).transpose(1, 2))
        return y.transpose(1, 2).unflatten(2, x.shape[2:])


PARTS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "batch norm": lambda: nn.BatchNorm2d(4),
    "batch norm without statistics": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "sync batch norm": lambda: nn.SyncBatchNorm(4),
    "dropout": lambda: nn.Dropout(0.5),
    "relu": lambda: nn.ReLU(inplace=True),
    "shared relu": SharedRelu,
    "in place": InPlace,
    "stubborn": Stubborn,
    "caches": Caches,
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3, padding=1)),
    "spectral norm by hooks": lambda: nn.utils.spectral_norm(nn.Conv2d(4, 4, 1)),
    "weight norm by hooks": lambda: nn.utils.weight_norm(nn.Conv2d(4, 4, 1)),
    "pruned": lambda: prune.l1_unstructured(nn.Conv2d(4, 4, 3, padding=1), "weight", 0.5),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(nn.Conv2d(4, 4, 1)),
    "attention": Attention,
    **{
        f"counts, {how}": (lambda how=how: Counts(how))
        for how in "copy data replaced gone set grown registered".split()
    },
    "counts, in place": lambda: Counts("in place"),
}
HEADS: dict[str, Callable[[], nn.Module]] = {
    "map": lambda: nn.Conv2d(4, 5, 1),
    "logits": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)),
    **{kind: (lambda kind=kind: Heads(kind)) for kind in ("dict", "tuple", "nested")},
}


def quiet_hook(*_: Any) -> None:
    return None


def quiet_backward(*_: Any) -> None:
    return None


def bits(value: Tensor | None) -> tuple[Any, ...] | None:
    if value is None:
        return None
    raw = value.detach().cpu().contiguous().view(torch.uint8) if value.ndim else value.detach().cpu().reshape(1)
    return value.dtype, value.device, tuple(value.shape), raw.reshape(-1).view(torch.uint8).numpy().tobytes()


def snapshot(module: nn.Module) -> dict[str, Any]:
    """All that can be told apart from outside."""
    out: dict[str, Any] = {
        "global hooks": [dict(getattr(torch_module, name)) for name in GLOBAL_HOOKS],
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "gradients": torch.is_grad_enabled(),
        "modes": torch._C._len_torch_function_stack(),
        "default type": torch.get_default_dtype(),
        "state": {name: bits(value) for name, value in module.state_dict().items()},
        "order": list(module.state_dict()),
    }
    for name, part in module.named_modules(remove_duplicate=False):
        out[name] = {
            "id": id(part),
            "class": type(part),
            "names": [key for key in sorted(vars(part)) if key not in ("fuse", "calls")],
            "plain tensors": [
                (key, type(value), value.dtype, value.device)
                for key, value in vars(part).items()
                if torch.is_tensor(value)
            ],
            "training": part.training,
            "children": [(key, id(child)) for key, child in part._modules.items()],
            "hooks": [(key, dict(getattr(part, key))) for key in HOOKS if hasattr(part, key)],
            "buffers": [(key, id(value), bits(value)) for key, value in part._buffers.items()],
            "parameters": [
                (key, id(p), p.requires_grad, bits(p), id(p.grad), bits(p.grad))
                for key, p in part._parameters.items()
                if p is not None
            ],
        }
    return out


@st.composite
def modules(draw: st.DrawFn) -> tuple[nn.Module, Bomb, torch.dtype]:
    names = draw(st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=5))
    parts: list[nn.Module] = [nn.Conv2d(3, 4, 3, padding=1), *(PARTS[name]() for name in names)]
    bomb = Bomb()
    parts.insert(draw(st.integers(0, len(parts))), bomb)
    module = nn.Sequential(*parts, HEADS[draw(st.sampled_from(sorted(HEADS)))]())
    # The decomposition behind `orthogonal` exists for float32 and float64 only.
    wide = [torch.float32, torch.float64]
    dtype = draw(
        st.sampled_from(wide if {"orthogonal", "spectral norm by hooks"} & set(names) else [*wide, torch.bfloat16])
    )
    module = module.to(dtype)
    chance = draw(st.randoms(use_true_random=False))
    for part in module.modules():
        part.training = chance.random() < 0.5
        if chance.random() < 0.3:
            part.register_forward_hook(quiet_hook, always_call=chance.random() < 0.5)
        if chance.random() < 0.3:
            part.register_forward_pre_hook(quiet_hook, with_kwargs=chance.random() < 0.5)
        if chance.random() < 0.2 and not isinstance(part, (InPlace, nn.ReLU)):
            part.register_full_backward_hook(quiet_backward)
    for parameter in module.parameters():
        parameter.requires_grad_(chance.random() < 0.5)
        if chance.random() < 0.5:
            parameter.grad = torch.full_like(parameter, 7.0)
    return module, bomb, dtype


def use(net: Network, what: str) -> None:
    images = torch.full((2, 3, 8, 8), 0.25)
    if what == "taps":
        net.taps()
    elif what == "tap":
        net.tap("0")
    elif what == "run":
        net.run(images, ["0", "1"])
    elif what == "run after":
        net.run(images, [Place("0", after_relu=True), Place("1")])
    elif what == "gradient":
        images.requires_grad_()
        # Torch itself refuses to go back through an in-place operation behind a backward hook.
        with suppress(RuntimeError):
            torch.autograd.grad(net.run(images, ["1"])[Place("1")].sum(), images)
    elif what == "check":
        net.check_size((10, 12))
    elif what == "unknown":
        net.run(images, ["no such tap"])
    else:
        with net.held():
            net.run(images, ["1"])
            raise BoomError


EXPECTED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "unknown": lambda: pytest.raises(UnknownTapError),
    "held": lambda: pytest.raises(BoomError),
}
ACTIONS = ["taps", "tap", "run", "run after", "gradient", "check", "unknown", "held"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(modules(), st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=3))
def test_comes_back(drawn: tuple[nn.Module, Bomb, torch.dtype], actions: list[str]) -> None:
    module, _, _ = drawn
    before = snapshot(module)
    net = Network(module, 8)
    for action in actions:
        with EXPECTED.get(action, nullcontext)():
            use(net, action)
        assert snapshot(module) == before


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    modules(),
    st.sampled_from(ACTIONS),
    st.integers(0, 3),
    st.sampled_from([BoomError, RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit]),
    st.booleans(),
)
def test_comes_back_after_a_failure(
    drawn: tuple[nn.Module, Bomb, torch.dtype], action: str, fuse: int, error: type[BaseException], opened: bool
) -> None:
    module, bomb, _ = drawn
    before = snapshot(module)
    net = Network(module, 8)
    if opened:
        net.taps()
    bomb.fuse, bomb.error = fuse, error
    with suppress(Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
        use(net, action)
    assert snapshot(module) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("fuse", [0, 1])
def test_interrupt_gets_through(error: type[BaseException], fuse: int) -> None:
    """Whether it comes while the taps are looked for, or while their receptive fields are measured."""
    bomb = Bomb()
    module = nn.Sequential(nn.Conv2d(3, 4, 3), bomb)
    bomb.fuse, bomb.error = fuse, error
    with pytest.raises(error):
        Network(module, 8).taps()


def test_usable_after_a_failure() -> None:
    bomb = Bomb()
    module = nn.Sequential(nn.Conv2d(3, 4, 3), bomb, nn.ReLU())
    net, images = Network(module, 8), torch.rand(2, 3, 8, 8)
    expected = net.run(images, ["2"])[Place("2")]
    bomb.fuse, bomb.error = 0, KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        net.run(images, ["2"])
    bomb.fuse = None
    assert torch.equal(net.run(images, ["2"])[Place("2")], expected)


@pytest.mark.parametrize("name", PARTS)
def test_each_part(name: str) -> None:
    """Every kind of part once, in training mode, and through every action."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), PARTS[name](), nn.Conv2d(4, 5, 1))
    before = snapshot(module)
    net = Network(module, 8)
    for action in ACTIONS:
        with EXPECTED.get(action, nullcontext)():
            use(net, action)
        assert snapshot(module) == before, action


@pytest.mark.parametrize("name", PARTS)
def test_goes_on_working(name: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), PARTS[name](), nn.Conv2d(4, 5, 1)).eval()
    images = torch.rand(2, 3, 8, 8)
    before = module(images)
    net = Network(module, 8)
    net.taps()
    net.run(images, ["output"])
    assert torch.equal(module(images), before)


def test_runs_in_evaluation_mode_whatever_the_flags() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 5))
    images = torch.rand(2, 3, 8, 8)
    net = Network(module, 8)
    expected = module.eval().requires_grad_(False)(net.prepare(images))
    module.train()
    assert torch.equal(net.run(images, ["output"])[Place("output")], expected)
    assert all(part.training for part in module.modules())


def test_train_is_never_called() -> None:
    part = Stubborn()
    module = nn.Sequential(nn.Conv2d(3, 4, 3), part)
    net = Network(module, 8)
    net.taps()
    net.run(torch.rand(1, 3, 8, 8), ["1"])
    assert part.calls == 0
    assert part.norm.training


def test_no_gradient_reaches_parameters() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    values = Network(module, 8).run(images, ["2"])[Place("2")]
    values.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_borrowed_once_within_held() -> None:
    """Within the block the module stays borrowed, and what it counts is put back when the block ends."""
    part = Counts("in place")
    module = nn.Sequential(nn.Conv2d(3, 4, 3), part)
    net = Network(module, 8)
    net.tap("0")
    with net.held():
        for number in (1, 2, 3):
            net.run(torch.rand(1, 3, 8, 8), ["1"])
            assert part.count is not None
            assert part.count.tolist() == [number] * 3
            assert not module.training
    assert part.count is not None
    assert part.count.tolist() == [0, 0, 0]
    assert module.training


def test_graph_of_the_user_survives() -> None:
    """A backward pass that the user has not made yet still works afterwards: no saved tensor was written to."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), Counts("none"))
    loss = module(torch.rand(2, 3, 8, 8)).sum()
    net = Network(module, 8)
    net.taps()
    net.run(torch.rand(2, 3, 8, 8), ["2"])
    loss.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_training_goes_on_as_if_nothing_had_been() -> None:
    def train(look: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
        module.append(nn.Linear(144, 5))
        optimizer = torch.optim.Adam(module.parameters())
        for _ in range(2):
            optimizer.zero_grad()
            module(torch.rand(4, 3, 8, 8)).square().sum().backward()
            if look:
                net = Network(module, 8)
                net.taps()
                net.run(torch.full((2, 3, 8, 8), 0.5), ["2", "output"])
            optimizer.step()
        return module.state_dict()

    plain, looked_at = train(False), train(True)
    assert all(torch.equal(plain[name], looked_at[name]) for name in plain)


@pytest.fixture
def slow_path() -> Iterator[None]:
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.usefixtures("slow_path")
def test_fast_path_that_the_user_switched_off_stays_off() -> None:
    Network(nn.Sequential(nn.Conv2d(3, 4, 3), Attention()), 8).taps()
    assert not torch.backends.mha.get_fastpath_enabled()


def test_shared_buffer_and_shared_parameter() -> None:
    one, two = Counts("in place"), Counts("in place")
    two.count = one.count
    a, b = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
    b.weight = a.weight
    module = nn.Sequential(a, one, b, two)
    before = snapshot(module)
    Network(module, 8).taps()
    assert snapshot(module) == before
    assert one.count is two.count
    assert a.weight is b.weight


def test_buffer_with_nan() -> None:
    part = Counts("in place")
    assert part.count is not None
    part.count.fill_(float("nan"))
    module = nn.Sequential(nn.Conv2d(3, 4, 3), part)
    before = snapshot(module)
    Network(module, 8).taps()
    assert snapshot(module) == before


def test_made_in_inference_mode() -> None:
    """Torch gives such a module no gradients: it runs, or is refused in a sentence."""
    with torch.inference_mode():
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    values = None
    with suppress(RequestError):
        values = Network(module, 8).run(torch.rand(1, 3, 8, 8), ["2"])[Place("2")]
    assert values is None or values.shape == (1, 4, 6, 6)


def test_hooks_that_the_user_has_still_work() -> None:
    """A hook that changes the output changes the tapped value just as it changes what the network goes on with."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)).eval()
    module[0].register_forward_hook(lambda part, given, output: output * 2)
    net, images = Network(module, 8), torch.rand(2, 3, 8, 8)
    doubled = module[0](net.prepare(images))
    values = net.run(images, ["0", "output"])
    assert torch.equal(values[Place("0")], doubled)
    assert torch.equal(values[Place("output")], module(net.prepare(images)))
