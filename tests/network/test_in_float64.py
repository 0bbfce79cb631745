"""A network borrowed in float64: it answers as the module made double would, and is given back as it was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from preimage import Network, Place, RequestError

pytestmark = [pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")]

few = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 2**31)
OUTPUT = Place("output", after_relu=True)
SIDE = 6


class BoomError(Exception):
    pass


class Scaling(nn.Module):
    """Weights that are no parameters: a buffer, one that is not saved, a plain attribute, and whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.randn(4, 1, 1))
        self.register_buffer("fleeting", torch.rand(4, 1, 1), persistent=False)
        self.register_buffer("order", torch.tensor([3, 1, 0, 2]))
        self.register_buffer("nothing", None)
        self.plain = torch.rand(4, 1, 1)
        self.offset: Tensor
        self.fleeting: Tensor
        self.order: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.order] * self.plain + self.offset * self.fleeting


class Counting(nn.Module):
    """Writes to its buffers in evaluation mode, in place and by replacement."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(4))
        self.register_buffer("last", torch.zeros(4))
        self.total: Tensor
        self.last: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.total += x.detach().mean((0, 2, 3))
        self.last = x.detach().mean((0, 2, 3))
        return x


class Bomb(nn.Module):
    error: BaseException | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.error is not None:
            raise self.error
        return x


class Tied(nn.Module):
    """Two layers that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh())


def pruned() -> nn.Module:
    layer = nn.Conv2d(4, 4, 1)
    prune.random_unstructured(layer, "weight", amount=0.4)
    return layer


PARTS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm2d(4),
    "weights of other kinds": Scaling,
    "counting": Counting,
    "tied": Tied,
    "weight norm": lambda: weight_norm(nn.Conv2d(4, 4, 1)),
    "spectral norm": lambda: spectral_norm(nn.Conv2d(4, 4, 1)),
    "parametrized weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
    "pruned": pruned,
    "frozen": lambda: nn.Conv2d(4, 4, 1).requires_grad_(False),
}


def network(part: str = "batch norm", seed: int = 0) -> tuple[Network, Bomb]:
    torch.manual_seed(seed)
    bomb = Bomb()
    module = nn.Sequential(nn.Conv2d(3, 4, 3), PARTS[part](), bomb, nn.Tanh(), nn.Conv2d(4, 2, 2)).train()
    module[0].eval()
    opened = Network(module, SIDE, mean=(0.5, 0.25, 0.125), std=(0.25, 0.5, 1.0))
    opened.taps()
    # (a hook that computes the weight from others has done so)
    opened.run(torch.rand(1, 3, SIDE, SIDE), [OUTPUT])
    return opened, bomb


def images(seed: int = 0, count: int = 2) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kept(module: nn.Module) -> list[tuple[str, int, Tensor | None, torch.dtype | None, bool | None]]:
    """Every tensor that any part holds, which object it is, and a copy of its numbers."""
    found = []
    for name, part in module.named_modules():
        for held in (part._parameters, part._buffers, vars(part)):
            for key, value in held.items():
                if isinstance(value, Tensor):
                    found.append((f"{name}.{key}", id(value), value.detach().clone(), value.dtype, value.requires_grad))
                elif value is None and held is not vars(part):
                    found.append((f"{name}.{key}", 0, None, None, None))
    return found


def unchanged(module: nn.Module, before: list[tuple[str, int, Tensor | None, torch.dtype | None, bool | None]]) -> None:
    now = kept(module)
    assert [one[0] for one in now] == [one[0] for one in before]
    for was, one in zip(before, now, strict=True):
        assert was[1] == one[1] and was[3:] == one[3:], was[0]
        if was[2] is not None and one[2] is not None:
            assert torch.equal(was[2], one[2]), was[0]


@pytest.mark.parametrize("part", PARTS)
@settings(max_examples=4, deadline=None)
@given(seeds)
def test_it_answers_as_the_module_made_double_does(part: str, seed: int) -> None:
    opened, _ = network(part, seed % 3)
    shown = images(seed)
    double = network(part, seed % 3)[0].module.double().eval()
    for one in double.modules():
        if isinstance(one, Scaling):
            one.plain = one.plain.double()
    assert opened.mean is not None and opened.std is not None
    mean, std = (torch.tensor(numbers, dtype=torch.float64).view(1, -1, 1, 1) for numbers in (opened.mean, opened.std))
    with torch.no_grad():
        expected = double((shown - mean) / std)
        with opened.in_float64():
            found = opened.run(shown, [OUTPUT])[OUTPUT]
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
    single = opened.run(shown, [OUTPUT])[OUTPUT]
    assert single.dtype == torch.float32
    assert (single - expected).abs().max() > 1e-10  # (float32 is not what was compared)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("error", [None, BoomError(), KeyboardInterrupt(), RuntimeError("boom")])
def test_the_module_is_given_back_as_it_was(part: str, error: BaseException | None) -> None:
    opened, bomb = network(part)
    next(opened.module.parameters()).grad = gradient = torch.ones_like(next(opened.module.parameters()))
    training = [one.training for one in opened.module.modules()]
    before, hooks = kept(opened.module), [len(one._forward_hooks) for one in opened.module.modules()]
    with suppress(BoomError, KeyboardInterrupt, RuntimeError), opened.in_float64():
        opened.run(images(), [OUTPUT])
        bomb.error = error
        opened.run(images(), [OUTPUT])
    bomb.error = None
    unchanged(opened.module, before)
    assert [one.training for one in opened.module.modules()] == training
    assert [len(one._forward_hooks) for one in opened.module.modules()] == hooks
    assert next(opened.module.parameters()).grad is gradient
    assert opened.dtype == torch.float32
    assert opened.run(images(), [OUTPUT])[OUTPUT].dtype == torch.float32
    unchanged(opened.module, before)


def test_within_the_block_weights_are_in_float64_and_need_no_gradient() -> None:
    opened, _ = network("weights of other kinds")
    with opened.in_float64():
        assert opened.dtype == torch.float64
        for tensor in (*opened.module.parameters(), *opened.module.buffers()):
            assert not tensor.requires_grad
            assert tensor.dtype == (torch.float64 if tensor.is_floating_point() else torch.int64)
        scaling = opened.module[1]  # type: ignore[index]
        assert scaling.plain.dtype == torch.float64
        shown = images().requires_grad_(True)
        (gradient,) = torch.autograd.grad(opened.run(shown, [OUTPUT])[OUTPUT].sum(), shown)
        assert gradient.dtype == torch.float64
        assert torch.autograd.gradcheck(
            lambda x: opened.run(x, [Place("0")])[Place("0")], images(1, 1).requires_grad_()
        )


def test_weights_that_are_shared_stay_equal_within_the_block() -> None:
    opened, _ = network("tied")
    tied = opened.module[1]  # type: ignore[index]
    assert isinstance(tied, Tied)
    with opened.in_float64():
        assert torch.equal(tied.first.weight, tied.second.weight)
    assert tied.first.weight is tied.second.weight


def test_blocks_may_stand_within_each_other() -> None:
    opened, bomb = network()
    before = kept(opened.module)

    def answers() -> torch.dtype:
        return opened.run(images(), [OUTPUT])[OUTPUT].dtype

    with opened.held():
        assert answers() == torch.float32
        borrowed = [id(weight) for weight in (*opened.module.parameters(), *opened.module.buffers())]
        with opened.in_float64():
            with opened.in_float64():
                assert answers() == torch.float64
            assert answers() == torch.float64
            with opened.held():
                assert answers() == torch.float64
            bomb.error = BoomError()
            with pytest.raises(BoomError), opened.in_float64():
                answers()
            bomb.error = None
            assert answers() == torch.float64
        assert answers() == torch.float32
        assert [id(weight) for weight in (*opened.module.parameters(), *opened.module.buffers())] == borrowed
    unchanged(opened.module, before)


def test_a_module_in_float64_stays_in_it() -> None:
    torch.manual_seed(0)
    opened = Network(nn.Conv2d(3, 2, 3).double(), SIDE)
    before = kept(opened.module)
    with opened.in_float64():
        inside = opened.run(images(), [OUTPUT])[OUTPUT]
    assert inside.dtype == torch.float64
    assert torch.equal(opened.run(images(), [OUTPUT])[OUTPUT], inside.float())
    unchanged(opened.module, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype: torch.dtype) -> None:
    opened = Network(nn.Conv2d(3, 2, 3).to(dtype), SIDE, name="coarse")
    with pytest.raises(RequestError, match=r"^coarse computes in b?float16, too coarse .* module\.float\(\)$"):
        opened.in_float64().__enter__()
    assert opened.dtype == dtype


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square()


class OnlyAttributes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = torch.ones(1, 3, 3, 3) / 27

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel)


def test_a_module_without_weights_computes_in_float64_too() -> None:
    opened, shown = Network(Square(), SIDE), images()
    with opened.in_float64():
        found = opened.run(shown, [OUTPUT])[OUTPUT]
    assert torch.equal(found, shown.square())


def test_a_module_whose_weights_are_attributes_alone_runs_in_float64() -> None:
    opened, shown = Network(OnlyAttributes(), SIDE), images()
    with opened.in_float64():
        found = opened.run(shown, [OUTPUT])[OUTPUT]
    expected = F.conv2d(shown, torch.ones(1, 3, 3, 3).div(27).double())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


class Caching(nn.Module):
    """Computes a grid once, in the type of what comes in (positions, windows of attention)."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "grid"):
            grid = torch.linspace(0, 1, x.shape[-1], dtype=x.dtype)
            if self.how == "buffer":
                self.register_buffer("grid", grid)
            else:
                self.grid = grid
        return x * self.grid


@pytest.mark.parametrize("how", ["attribute", "buffer"])
def test_what_a_module_caches_in_float64_does_not_outlive_the_block(how: str) -> None:
    torch.manual_seed(0)
    opened = Network(nn.Sequential(nn.Conv2d(3, 4, 3), Caching(how), nn.Conv2d(4, 2, 2)), SIDE)
    opened.taps()
    expected = opened.run(images(), [OUTPUT])[OUTPUT]
    with opened.held():
        with opened.in_float64():
            opened.run(images(), [OUTPUT])
        assert torch.equal(opened.run(images(), [OUTPUT])[OUTPUT], expected)
