"""What lies behind a tap, given other activations there: against the rest of the network, run by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from preimage import Network, Place, RequestError, UnknownTapError

few = settings(max_examples=15, deadline=None)
SIDE = 8


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def plain(in_place: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(inplace=in_place), nn.Conv2d(4, 5, 3, 2, 1), nn.ReLU(inplace=in_place),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    )  # fmt: skip


class Residual(nn.Module):
    """Adds its branch to what goes around it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.branch = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        out: Tensor = self.head((stem + self.branch(stem).relu()).mean((2, 3)))
        return out


class Shared(nn.Module):
    """Calls one part three times."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.again = nn.Conv2d(3, 3, 3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.again(self.again(self.again(images).relu()).relu())
        return out


class Tokens(nn.Module):
    """[N, tokens, channels] in the middle, as transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 6, 2, 2)
        self.mix = nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        out: Tensor = self.head(self.mix(tokens).tanh().mean(1))
        return out


def taps_behind(network: Network, tap: str) -> list[str]:
    names = [row.name for row in network.taps()]
    return names[names.index(tap) + 1 :]


@pytest.mark.parametrize("make", [plain, partial(plain, True), Residual, Shared, Tokens])
def test_with_its_own_activations_nothing_changes(make: Callable[[], nn.Module]) -> None:
    """At every tap, for every tap behind it."""
    network = Network(make(), SIDE, channels=3)
    images = random(2, 3, SIDE, SIDE)
    for row in network.taps():
        behind = [Place(name, after_relu=True) for name in taps_behind(network, row.name)]
        place = Place(row.name, after_relu=True)
        with torch.no_grad():
            expected = network.run(images, [place, *behind])
            found = network.beyond(row.name, images).run(expected[place], behind) if behind else {}
        for one, value in found.items():
            torch.testing.assert_close(value, expected[one])


@few
@given(st.integers(0, 1000), st.booleans())
def test_the_network_goes_on_with_what_it_is_given(seed: int, in_place: bool) -> None:
    module = plain(in_place)
    network = Network(module, SIDE)
    images, values = random(2, 3, SIDE, SIDE), random(2, 4, SIDE, SIDE, seed=seed) - 0.5
    kept = values.clone()
    with torch.no_grad():
        for tap, rest in (("0", module[1:]), ("1", module[2:])):
            place = Place("output", after_relu=True)
            found = network.beyond(tap, images).run(values, [place])[place]
            torch.testing.assert_close(found, rest(values.clone()))
            same = network.run(images, [place], instead=(tap, values))[place]
            assert torch.equal(same, found)
    assert torch.equal(values, kept)  # an in-place ReLU writes into a copy


def test_before_a_relu_that_follows_the_value_is_the_one_that_was_given() -> None:
    module = plain()
    network = Network(module, SIDE)
    values = random(1, 4, SIDE, SIDE) - 0.5
    places = [Place("1"), Place("1", after_relu=True), Place("3"), Place("0")]
    found = network.beyond("0", random(1, 3, SIDE, SIDE, seed=1)).run(values, places)
    torch.testing.assert_close(found[places[0]], values)
    torch.testing.assert_close(found[places[1]], values.relu())
    torch.testing.assert_close(found[places[2]], module[2](values.relu()).detach())
    torch.testing.assert_close(found[places[3]], values)


def test_gradients_flow_to_the_activations() -> None:
    module = plain()
    network = Network(module, SIDE)
    values = (random(2, 4, SIDE, SIDE) - 0.5).requires_grad_(True)
    place = Place("output", after_relu=True)
    with network.held():
        found = network.beyond("0", random(2, 3, SIDE, SIDE, seed=1)).run(values, [place])[place]
        (gradient,) = torch.autograd.grad(found[:, 1].sum(), values)
    twin = values.detach().requires_grad_(True)
    (expected,) = torch.autograd.grad(module[1:](twin)[:, 1].sum(), twin)
    torch.testing.assert_close(gradient, expected)


def test_what_goes_around_the_tap_is_computed_from_the_images() -> None:
    module = Residual()
    network = Network(module, SIDE)
    images, values = random(3, 3, SIDE, SIDE), random(3, 4, SIDE, SIDE, seed=1) - 0.5
    place = Place("output", after_relu=True)
    with torch.no_grad():
        found = network.beyond("branch", images).run(values, [place])[place]
        expected = module.head((module.stem(images) + values.relu()).mean((2, 3)))
        torch.testing.assert_close(found, expected)
        # Behind the stem nothing else reaches the end, so that the images do not matter.
        stems = [network.beyond("stem", one).run(values, [place])[place] for one in (images, images * 0)]
    assert torch.equal(*stems)


@pytest.mark.parametrize("views", [1, 2, 3])
def test_there_may_be_several_activations_of_each_image(views: int) -> None:
    module = Residual()
    network = Network(module, SIDE)
    images, values = random(2, 3, SIDE, SIDE), random(2 * views, 4, SIDE, SIDE, seed=1) - 0.5
    place = Place("output", after_relu=True)
    with torch.no_grad():
        found = network.beyond("branch", images).run(values, [place])[place]
        for i in range(2 * views):
            one = i // views
            expected = module.head((module.stem(images[one : one + 1]) + values[i : i + 1].relu()).mean((2, 3)))
            torch.testing.assert_close(found[i : i + 1], expected)


def test_a_later_call_of_the_same_part() -> None:
    module = Shared()
    network = Network(module, SIDE)
    values = random(1, 3, SIDE, SIDE) - 0.5
    place = Place("output", after_relu=True)
    expected = [values, module.again(values.relu()), module.again(module.again(values.relu()).relu())]
    for tap, wanted in zip(("again#3", "again#2", "again"), expected, strict=True):
        found = network.beyond(tap, random(1, 3, SIDE, SIDE, seed=5)).run(values, [place])[place]
        torch.testing.assert_close(found, wanted.detach())


def test_channels_that_are_last_are_given_second() -> None:
    module = Tokens()
    network = Network(module, SIDE)
    values = random(2, 6, 16) - 0.5
    place = Place("output", after_relu=True)
    with torch.no_grad():
        found = network.beyond("mix", random(2, 3, SIDE, SIDE)).run(values, [place, "mix"])
        torch.testing.assert_close(found[place], module.head(values.tanh().mean(2)))
    torch.testing.assert_close(found[Place("mix")], values)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_activations_are_taken_in_the_network_s_precision(dtype: torch.dtype) -> None:
    module = plain().to(dtype)
    network = Network(module, SIDE)
    values = random(1, 4, SIDE, SIDE)
    place = Place("output", after_relu=True)
    with torch.no_grad():
        found = network.beyond("1", random(1, 3, SIDE, SIDE)).run(values, [place])[place]
        torch.testing.assert_close(found, module[2:](values.to(dtype)).float())
    assert found.dtype == torch.float32


def test_a_tap_before_the_exchange_is_what_the_images_make_of_it() -> None:
    module = plain()
    network = Network(module, SIDE)
    images = random(1, 3, SIDE, SIDE)
    with torch.no_grad():
        found = network.beyond("2", images).run(torch.zeros(1, 5, 4, 4), ["0", "output"])
        torch.testing.assert_close(found[Place("0")], module[0](images))
        torch.testing.assert_close(found[Place("output")], module[6](torch.zeros(1, 5)))


# --- bad input ----------------------------------------------------------------------------------------------------


def test_other_shapes_are_one_sentence() -> None:
    network = Network(plain(), SIDE)
    images = random(2, 3, SIDE, SIDE)
    beyond = network.beyond("1", images)
    for count in (1, 3):
        with pytest.raises(RequestError, match=rf"{count} activations of 1, but 2 images"):
            beyond.run(torch.zeros(count, 4, SIDE, SIDE), ["output"])
    with pytest.raises(RequestError, match=r"has \[2, 4, 8, 8\], not \[2, 5, 8, 8\]"):
        beyond.run(torch.zeros(2, 5, SIDE, SIDE), ["output"])
    with pytest.raises(RequestError, match=r"has \[2, 4, 8, 8\], not \[2, 4, 4, 4\]"):
        beyond.run(torch.zeros(2, 4, 4, 4), ["output"])
    with pytest.raises(UnknownTapError, match="no tap 'nowhere'"):
        network.beyond("nowhere", images)
    with pytest.raises(UnknownTapError, match="no tap 'nowhere'"):
        network.run(images, ["output"], instead=("nowhere", images))


def test_a_part_that_gives_several_tensors_cannot_be_exchanged_in_part() -> None:
    class Pair(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images + 1, images - 1

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair, self.last = Pair(), nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            a, b = self.pair(images)
            out: Tensor = self.last(a * b)
            return out

    network = Network(Around(), SIDE, channels=3)
    images = random(1, 3, SIDE, SIDE)
    with pytest.raises(RequestError, match=r"gives several tensors at once.*take a tap inside it, or behind it"):
        network.beyond("pair[0]", images).run(images, ["output"])
    found = network.beyond("last", images).run(images, ["output"])
    torch.testing.assert_close(found[Place("output")], images)


def test_what_stands_before_the_relu_of_a_value_that_was_exchanged_is_refused_with_a_remedy() -> None:
    module = plain()
    network = Network(module, SIDE)
    values = random(1, 4, SIDE, SIDE)
    beyond = network.beyond("1", random(1, 3, SIDE, SIDE))
    with pytest.raises(RequestError, match="ask after:1"):
        beyond.run(values, ["1"])
    after = Place("1", after_relu=True)
    torch.testing.assert_close(beyond.run(values, [after])[after], values)


def test_the_network_is_not_blamed_for_the_exchange() -> None:
    network = Network(plain(), SIDE)
    with pytest.raises(RequestError) as caught:
        network.beyond("1", random(1, 3, SIDE, SIDE)).run(random(1, 4, SIDE, SIDE), ["1"])
    assert "another path" not in str(caught.value)


# --- the module is only borrowed ----------------------------------------------------------------------------------


def state(module: nn.Module) -> dict[str, Any]:
    return {
        "training": [part.training for part in module.modules()],
        "needed": [parameter.requires_grad for parameter in module.parameters()],
        "hooks": [dict(part._forward_hooks) for part in module.modules()],
        "values": {name: value.tolist() for name, value in module.state_dict().items()},
    }


class Bomb(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.error: type[BaseException] | None = None

    def forward(self, values: Tensor) -> Tensor:
        if self.error is not None:
            raise self.error
        return values


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt, RuntimeError])
def test_the_module_is_as_it_was(error: type[BaseException] | None) -> None:
    module = nn.Sequential(*plain(True)[:3], nn.BatchNorm2d(5), bomb := Bomb(), nn.AdaptiveAvgPool2d(1))
    module.train()
    module[0].weight.requires_grad_(False)
    network = Network(module, SIDE)
    network.tap("1")
    before = state(module)
    bomb.error = error
    beyond = network.beyond("1", random(1, 3, SIDE, SIDE))
    if error is None:
        beyond.run(random(1, 4, SIDE, SIDE), ["output"])
    else:
        with pytest.raises(error):
            beyond.run(random(1, 4, SIDE, SIDE), ["output"])
    assert state(module) == before
    bomb.error = None
    with beyond.held():
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
        beyond.run(random(1, 4, SIDE, SIDE), ["output"])
    assert state(module) == before


def test_hooks_of_the_user_s_own_see_the_run() -> None:
    module = plain()
    seen: list[Tensor] = []
    module[2].register_forward_hook(lambda part, given, out: seen.append(given[0].detach()))
    network = Network(module, SIDE)
    network.tap("1")
    seen.clear()
    values = random(1, 4, SIDE, SIDE)
    network.beyond("1", random(1, 3, SIDE, SIDE)).run(values, ["output"])
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], values)
