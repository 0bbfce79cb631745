"""What one unit sees of an image of any size, against closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from preimage import Network, RequestError, UnknownTapError

Layer = tuple[int, int, int]
layers = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 3)).filter(lambda one: one[2] < one[0])


def stack(*shapes: Layer, between: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Convolutions (kernel, stride, padding) of one channel to start with, each followed by `between`."""
    torch.manual_seed(0)
    module = nn.Sequential()
    for i, (kernel, stride, padding) in enumerate(shapes):
        module.append(nn.Conv2d(2 if i else 1, 2, kernel, stride, padding)).append(between())
    return module


def units(side: int, shapes: list[Layer]) -> int:
    """How many units the last map has along an axis, 0 where one of the kernels does not fit."""
    for kernel, stride, padding in shapes:
        if side + 2 * padding < kernel:
            return 0
        side = (side + 2 * padding - kernel) // stride + 1
    return side


def pixels(unit: int, side: int, shapes: list[Layer]) -> set[int]:
    """The pixels of an axis that a unit is computed from: layer by layer, without what is padding."""
    seen = {unit}
    for depth in reversed(range(len(shapes))):
        kernel, stride, padding = shapes[depth]
        there = units(side, shapes[:depth])
        seen = {u * stride - padding + t for u in seen for t in range(kernel)} & set(range(there))
    return seen


# --- closed forms -------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(layers, min_size=1, max_size=3), st.integers(6, 30), st.integers(6, 30), st.data())
@example([(3, 2, 1), (1, 2, 0)], 8, 8, None)
@example([(3, 1, 2), (3, 1, 2)], 6, 6, None)
def test_a_unit_sees_the_pixels_that_it_is_computed_from(
    shapes: list[Layer], height: int, width: int, data: st.DataObject | None
) -> None:
    rows, columns = units(height, shapes), units(width, shapes)
    assume(rows > 0 and columns > 0)
    network = Network(stack(*shapes), 32)
    tap = str(2 * len(shapes) - 1)
    central = (rows - 1) // 2, (columns - 1) // 2
    asked = central if data is None else (data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1)))
    for unit, found in (
        (asked, network.sees(tap, (height, width), asked)),
        (central, network.sees(tap, (height, width))),
    ):
        down, right = pixels(unit[0], height, shapes), pixels(unit[1], width, shapes)
        assert found is not None
        if down and right:
            spans = max(down) - min(down) + 1, max(right) - min(right) + 1
            assert found == ((min(down), min(right)), spans)
        else:
            assert 0 in found[1]


def test_by_hand() -> None:
    """Of two 3 x 3 convolutions with stride 2 and padding 1, unit u sees the pixels 4 u - 3 to 4 u + 3."""
    network = Network(stack((3, 2, 1), (3, 2, 1)), (32, 40))
    for tap in ("2", "3"):
        assert network.sees(tap) == ((9, 13), (7, 7))  # unit (3, 4) of 8 x 10
        assert network.sees(tap, (16, 24)) == ((1, 5), (7, 7))  # unit (1, 2) of 4 x 6
        assert network.sees(tap, (16, 24), (0, 5)) == ((0, 17), (4, 7))
        assert network.sees(tap, (16, 24), (2, 0)) == ((5, 0), (7, 4))
        assert network.sees(tap, (16, 24), (3, 1)) == ((9, 1), (7, 7))
        assert network.sees(tap, (15, 15), (3, 3)) == ((9, 9), (6, 6))  # one pixel short at the lower right
        assert network.sees(tap, (5, 6)) == ((0, 0), (4, 4))
    assert network.sees("0", (16, 24), (0, 0)) == ((0, 0), (2, 2))
    assert network.sees("0", None, (15, 19)) == ((29, 37), (3, 3))


def test_a_unit_of_padding_alone_sees_nothing() -> None:
    network = Network(nn.Sequential(nn.Conv2d(1, 1, 1, padding=1)), 8)
    found = network.sees("0", None, (0, 4))
    assert found is not None and found[1][0] == 0
    assert network.sees("0", None, (1, 4)) == ((0, 3), (1, 1))


# --- the receptive field ------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.lists(layers, min_size=1, max_size=3),
    st.sampled_from([nn.ReLU, nn.GELU, nn.Identity]),
    st.sampled_from(["as drawn", "dead", "negative"]),
)
def test_on_a_large_image_a_central_unit_sees_its_receptive_field(
    shapes: list[Layer], between: type[nn.Module], weights: str
) -> None:
    """Whatever the weights are: what a unit might see counts, not what this one happens to answer to."""
    module = stack(*shapes, between=between)
    for parameter in module.parameters():
        if weights != "as drawn":
            nn.init.constant_(parameter, 0.0 if weights == "dead" else -1.0)
    network = Network(module, 64)
    for i, row in enumerate(network.taps()):
        found = network.sees(row.name, (96, 110))
        assert found is not None and row.receptive_field is not None
        assert found[1] == row.receptive_field, row.name
        if i == 0:
            assert row.receptive_field == (shapes[0][0],) * 2


def test_units_a_stride_apart_see_pixels_a_stride_apart() -> None:
    network = Network(nn.Sequential(*stack((5, 2, 2)), nn.MaxPool2d(3, 2, 1), nn.Conv2d(2, 3, 3, 1, 1)), 64)
    row = network.taps()["3"]
    assert (row.receptive_field, row.stride) == ((17, 17), (4, 4))
    for unit in ((5, 6), (6, 9), (8, 7)):
        top, left = 4 * unit[0] - 8, 4 * unit[1] - 8
        assert network.sees("3", unit=unit) == ((top, left), (17, 17))


@pytest.mark.parametrize("tap", ["2", "3", "4", "output"])
def test_what_sees_everything_sees_all_of_every_image(tap: str) -> None:
    module = nn.Sequential(*stack((3, 2, 1)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
    network = Network(module, (16, 24))
    assert network.sees(tap) == ((0, 0), (16, 24))
    assert network.sees(tap, (30, 20)) == ((0, 0), (30, 20))


class Tokens(nn.Module):
    """A class token, and one for every patch of 4 x 4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(1, 6, 4, 4), nn.Parameter(torch.zeros(1, 1, 6))
        self.norm = nn.LayerNorm(6)

    def forward(self, images: Tensor) -> Any:
        patches = self.patch(images).flatten(2).transpose(1, 2)
        return self.norm(torch.cat([self.token.expand(len(images), -1, -1), patches], 1))


def test_a_token_sees_its_patch() -> None:
    network = Network(Tokens(), 16)
    assert network.sees("norm", unit=(1, 3)) == ((4, 12), (4, 4))
    assert network.sees("norm") == ((4, 4), (4, 4))


# --- where it cannot be -------------------------------------------------------------------------------------------


class Detached(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(images.detach().numpy() * 2)


def test_what_has_no_gradient_cannot_be_measured() -> None:
    network = Network(nn.Sequential(Detached(), nn.Conv2d(3, 2, 1)), 8)
    assert network.sees("0") is None
    assert network.sees("1") is None


def test_an_image_that_the_network_does_not_get_through_is_seen_as_far_as_it_gets() -> None:
    module = nn.Sequential(*stack((3, 2, 1)), nn.Flatten(), nn.Linear(2 * 8 * 8, 4))
    network = Network(module, 16)
    assert network.sees("3") == ((0, 0), (16, 16))
    assert network.sees("0", (12, 12)) == ((3, 3), (3, 3))
    narrow = Network(nn.Sequential(nn.Conv2d(1, 1, 5), nn.Conv2d(1, 1, 5)), 16)
    assert narrow.sees("0", (4, 9)) is None
    assert narrow.sees("0", (7, 9)) == ((1, 2), (5, 5))
    assert narrow.sees("1", (7, 9)) is None


def test_the_module_is_only_borrowed() -> None:
    module = stack((3, 2, 1)).train()
    module[0].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    network = Network(module, 16)
    with torch.inference_mode():
        assert network.sees("1") == ((5, 5), (3, 3))
    assert module.training and module[0].training
    assert not module[0].bias.requires_grad and module[0].weight.requires_grad
    assert module[0].weight.grad is None
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not module[0]._forward_hooks and not module[0]._forward_pre_hooks


def test_a_tap_has_to_be_there() -> None:
    network = Network(stack((3, 2, 1)), 16)
    with pytest.raises(UnknownTapError, match="no tap 'nowhere'"):
        network.sees("nowhere")


@pytest.mark.parametrize("unit", [(0, 8), (8, 0), (-1, 0), (0, -1), (3, 100)])
def test_a_unit_has_to_be_on_the_map(unit: tuple[int, int]) -> None:
    network = Network(stack((3, 2, 1)), 16)
    with pytest.raises(RequestError):
        network.sees("0", unit=unit)
