"""How large a canvas has to be for what its units see, and where a small picture lies in a large one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convolutions import convolutions, normal
from preimage import Network, RequestError, UnknownTapError
from preimage.canvas import placed, receptive_field_size
from preimage.objectives import Objective, channel, each_view, in_sequence, label, neuron, residual

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)


def classifier() -> Network:
    """Fields of 3, 7 and 15 pixels, 2, 4 and 8 pixels apart, and class scores."""
    features = convolutions((3, 2, 1), (3, 2, 1), (3, 2, 1))
    return Network(nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)), (40, 15))


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        # With one pixel of padding, unit u sees the field around pixel `stride * u`: the first one is cut off, the
        # second is not, and it is the central one of three.
        ([neuron("0", 0)], (6, 6)),
        ([channel("1", 0)], (12, 12)),
        ([neuron("2", 0)], (24, 15)),  # the input has no more than 15 columns
        ([neuron("0", 0), channel("1", 1)], (12, 12)),
        ([channel("1", 0) - 2 * channel("0", 1)], (12, 12)),
        ([label(0)], (40, 15)),
        ([neuron("0", 0), label(0)], (40, 15)),
        ([channel("3", 0)], (40, 15)),
        ([residual("1", 0, "0")], (12, 12)),
        ([each_view([channel("0", 0), channel("1", 0)])], (12, 12)),
    ],
    ids=str,
)
def test_a_canvas_holds_whole_strides_of_all_fields(asked: list[Objective], size: tuple[int, int]) -> None:
    assert receptive_field_size(classifier(), asked) == size


def extent(module: nn.Sequential, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of what the central unit of a linear network sees, (0, 0) where the map has no units."""
    canvas = torch.zeros(1, 1, *size, requires_grad=True)
    try:
        values = module(canvas)
    except RuntimeError:  # smaller than a kernel
        return 0, 0
    below, right = ((n - 1) // 2 for n in values.shape[2:])
    (gradient,) = torch.autograd.grad(values[0, 0, below, right], canvas)
    where = gradient[0, 0].nonzero()
    height, width = (where.amax(0) - where.amin(0) + 1).tolist() if len(where) else (0, 0)
    return height, width


layers = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 3)).filter(lambda one: one[2] < one[0])


@settings(max_examples=40, deadline=None)
@given(st.lists(layers, min_size=1, max_size=3), st.integers(16, 40), st.integers(16, 40))
def test_a_canvas_is_the_smallest_in_whole_strides_on_which_the_central_unit_sees_its_whole_field(
    stack: list[tuple[int, int, int]], height: int, width: int
) -> None:
    """Seen by a gradient through the network, which is linear; one axis after the other, on canvases ever larger."""
    field = stride = 1
    for kernel, step, _ in stack:
        field, stride = field + (kernel - 1) * stride, stride * step
    assume(field < min(height, width) // 2)
    module = convolutions(*stack)
    assume(min(module(torch.zeros(1, 1, height, width)).shape[2:]) > 1)  # of one unit no stride is known, see below
    network, tap = Network(module, (height, width)), str(len(stack) - 1)
    assert extent(module, (3 * height, 3 * width)) == (field, field)
    found = receptive_field_size(network, [neuron(tap, 0)])
    for axis, whole in enumerate((height, width)):
        side = -(-field // stride) * stride
        while side < whole and extent(module, (side, width) if axis == 0 else (height, side))[axis] < field:
            side += stride
        assert found[axis] == min(side, whole)
    seen = extent(module, found)
    assert all(n == field or side == most for n, side, most in zip(seen, found, (height, width), strict=True))


def test_a_map_of_one_unit_has_no_stride_and_takes_a_canvas_of_its_field() -> None:
    """16 pixels, then 8, 4 and one unit, which sees 1 + 4 of them."""
    module = convolutions((1, 2, 0), (1, 2, 0), (2, 3, 0))
    network = Network(module, 16)
    assert (network.taps()["2"].shape, network.taps()["2"].stride) == ((5, 1, 1), None)
    assert receptive_field_size(network, [neuron("2", 0)]) == (5, 5) == extent(module, (5, 5))


def test_without_padding_the_central_unit_sees_its_whole_field_on_such_a_canvas() -> None:
    network = Network(convolutions((4, 2, 0), (3, 2, 0)), 40)
    asked = neuron("1", 0)
    size = receptive_field_size(network, [asked])
    assert size == (8, 8) == network.taps()["1"].receptive_field
    canvas = normal(0, 1, 1, *size).requires_grad_(True)
    (gradient,) = torch.autograd.grad(asked.score(network.run(canvas, ["1"])).sum(), canvas)
    assert gradient.count_nonzero() == 8 * 8


class Detached(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(images.detach().numpy() * 2)


def test_a_field_that_is_not_known_has_no_size() -> None:
    network = Network(nn.Sequential(Detached(), nn.Conv2d(3, 2, 1)), 8)
    with pytest.raises(RequestError, match="receptive field of '0' is not known; give a size in pixels"):
        receptive_field_size(network, [channel("0", 0)])


def central(network: Network, tap: str, index: int, images: Tensor) -> Tensor:
    return neuron(tap, index).score(network.run(images, [tap]))[0]


@few
@given(seeds, st.integers(0, 20), st.integers(0, 20), st.floats(0, 1))
def test_without_padding_a_unit_sees_the_same_wherever_its_picture_is_placed(
    seed: int, down: int, right: int, grey: float
) -> None:
    """All that the unit sees lies in the picture, so that biases and what is around it do not matter."""
    network = Network(convolutions((4, 2, 0), (3, 2, 0), bias=True), 40)
    field = 8  # 4 + 2 * 2; units are 4 apart
    image, size = normal(seed, 1, field, field), (field + down, field + right)
    large = placed(network, image, "1", size, grey)
    assert large.shape == (1, *size)
    for index in (0, 4):
        expected = central(network, "1", index, image[None])
        torch.testing.assert_close(central(network, "1", index, large[None]), expected, rtol=1e-5, atol=1e-5)


@few
@given(seeds, st.integers(0, 20), st.integers(0, 20), st.sampled_from([(3, 1, 1), (3, 2, 1), (5, 2, 2), (5, 3, 2)]))
def test_with_padding_and_without_bias_grey_of_zero_is_what_the_picture_was_padded_with(
    seed: int, down: int, right: int, layer: tuple[int, int, int]
) -> None:
    """One padded layer sees zeros beyond a small picture, and the same zeros on the larger one."""
    network = Network(convolutions(layer), 40)
    image, size = normal(seed, 1, 5, 4), (5 + down, 4 + right)
    large = placed(network, image, "0", size, grey=0.0)
    expected = central(network, "0", 2, image[None])
    torch.testing.assert_close(central(network, "0", 2, large[None]), expected, rtol=1e-5, atol=1e-5)


@few
@given(seeds, st.integers(0, 30), st.integers(0, 30), st.floats(0, 1))
def test_a_picture_moves_by_as_many_strides_as_the_central_unit_and_is_grey_around(
    seed: int, down: int, right: int, grey: float
) -> None:
    """Of n pixels this network makes ceil(n / 4) units, the first of them looking at pixel 0."""
    network = Network(convolutions((3, 2, 1), (3, 2, 1)), 40)
    image, size = normal(seed, 1, 8, 9), (8 + down, 9 + right)
    top, left = (4 * ((-(-n // 4) - 1) // 2 - (-(-m // 4) - 1) // 2) for n, m in zip(size, (8, 9), strict=True))
    expected = torch.full((1, *size), grey)
    fits = image[:, : size[0] - top, : size[1] - left]
    expected[:, top : top + 8, left : left + 9] = fits
    assert torch.equal(placed(network, image, "1", size, grey), expected)


def test_a_picture_is_placed_on_the_network_s_input_by_default_and_as_it_is_on_its_own_size() -> None:
    network = classifier()
    image = normal(0, 1, 8, 8)
    assert placed(network, image, "1").shape == (1, 40, 15)
    assert torch.equal(placed(network, image, "1", (8, 8)), image)


def test_what_lies_outside_is_cut_off() -> None:
    """Central units on 16 and on 8 pixels are rows 1 and 0 of maps whose units are 4 apart: 4 pixels are lost there."""
    network = Network(convolutions((3, 2, 1), (3, 2, 1)), 40)
    image = normal(0, 1, 16, 16)
    assert torch.equal(placed(network, image, "1", (8, 8)), image[:, 4:12, 4:12])
    tall = placed(network, image, "1", (24, 8), grey=0.25)
    assert torch.equal(tall[:, 4:20], image[:, :, 4:12])
    assert (tall[:, :4] == 0.25).all() and (tall[:, 20:] == 0.25).all()


def test_a_picture_needs_a_tap_with_positions() -> None:
    network = classifier()
    for tap in ("3", "5"):
        with pytest.raises(RequestError, match=f"'{tap}' has no positions"):
            placed(network, normal(0, 1, 8, 8), tap)
    with pytest.raises(UnknownTapError, match="no tap 'nowhere'"):
        placed(network, normal(0, 1, 8, 8), "nowhere")


class TwoOutputs(nn.Module):
    """No class scores: which of the two should they be?"""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = self.first(images)
        return {"x": found, "y": found.mean((2, 3))}


def test_a_field_needs_no_class_scores() -> None:
    network = Network(TwoOutputs(), 16)
    assert receptive_field_size(network, [channel("first", 0).bind(network)]) == (3, 3)


def test_a_sequence_needs_room_for_all_that_it_asks() -> None:
    network = classifier()
    asked = in_sequence([label(1), channel("0", 3)]).bind(network)
    assert receptive_field_size(network, [asked]) == network.input_size


@pytest.mark.parametrize(
    ("shape", "tap", "size", "says"),
    [
        ((3, 8, 8), "1", None, r"shape \[1, h, w\] here, not \[3, 8, 8\]"),
        ((8, 8), "1", None, r"not \[8, 8\]"),
        ((1, 8, 8), "5", None, "has no positions"),
        ((1, 8, 8), "1", 0, "a size is one side or"),
        ((1, 8, 8), "1", True, "a size is one side or"),
    ],
)
def test_what_cannot_be_placed_is_one_sentence(shape: tuple[int, ...], tap: str, size: int, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        placed(classifier(), torch.zeros(shape), tap, size)
