"""A network without kinks: closed forms of every call, bounds, gradients, and widths that are each image's own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from preimage import Network, Place, RequestError
from preimage.network import Smoothed, smooth_max_pool, smoothed
from preimage.network.smoothing import WIDTH

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31)
Function = Callable[[Tensor], Tensor]

CHANNELS, SIDE = 3, 6
OUTPUT = Place("output", after_relu=True)


class Applied(nn.Module):
    """One call, on a copy of the images."""

    def __init__(self, function: Function):
        super().__init__()
        self.function = function
        self.register_buffer("one", torch.ones(()))
        self.one: Tensor

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images * self.one)


def applied(function: Function, side: int = SIDE) -> Network:
    return Network(Applied(function), side, channels=CHANNELS)


def values(seed: int, count: int = 2, rows: int = SIDE, columns: int = SIDE) -> Tensor:
    """Of both signs, and far beyond the bound of a ReLU6 too."""
    return 4 * torch.randn(count, CHANNELS, rows, columns, generator=torch.Generator().manual_seed(seed)).double()


def exact(network: Network, images: Tensor, *places: Place) -> list[Tensor]:
    with network.in_float64(), torch.no_grad():
        found = network.run(images, places)
    return [found[place] for place in places]


def composite(seed: int = 0) -> Network:
    """All kinds of kinks, one after the other, calls in place and without."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(CHANNELS, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(6, 5, 3, padding=1),
        nn.PReLU(5),
        nn.Conv2d(5, 4, 2),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Linear(16, 4),
        nn.LeakyReLU(0.1, inplace=True),
    )
    return Network(module, SIDE, channels=CHANNELS)


RELUS: dict[str, Function] = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, True),
    "F.relu_": lambda x: F.relu_(x),
    "torch.relu": torch.relu,
    "torch.relu_": lambda x: torch.relu_(x),
    "relu": lambda x: x.relu(),
    "relu_": lambda x: x.relu_(),
    "relu_, and nobody takes what it returns": lambda x: (x.relu_(), x)[1],
    "clamp(0)": lambda x: x.clamp(0),
    "clamp(min=0)": lambda x: x.clamp(min=0),
    "clamp(0, None)": lambda x: x.clamp(0, None),
    "clamp_(min=0)": lambda x: x.clamp_(min=0),
    "torch.clamp": lambda x: torch.clamp(x, min=0.0),
    "torch.clamp by name": lambda x: torch.clamp(input=x, min=0.0),
    "torch.clip": lambda x: torch.clip(x, 0),
    "clip_": lambda x: x.clip_(0),
    "clamp_min": lambda x: x.clamp_min(0),
    "clamp_min_": lambda x: x.clamp_min_(0.0),
    "nn.Threshold": nn.Threshold(0, 0),
    "nn.Threshold in place": nn.Threshold(0.0, 0.0, inplace=True),
    "F.threshold": lambda x: F.threshold(x, 0, 0),
}

BOUNDED: dict[str, tuple[Function, float]] = {
    "nn.ReLU6": (nn.ReLU6(), 6.0),
    "nn.ReLU6 in place": (nn.ReLU6(inplace=True), 6.0),
    "F.relu6": (F.relu6, 6.0),
    "F.relu6 in place": (lambda x: F.relu6(x, True), 6.0),
    "nn.Hardtanh": (nn.Hardtanh(0, 2.5), 2.5),
    "nn.Hardtanh in place": (nn.Hardtanh(0, 2.5, inplace=True), 2.5),
    "F.hardtanh": (lambda x: F.hardtanh(x, 0.0, 2.0), 2.0),
    "F.hardtanh, bounded by itself": (lambda x: F.hardtanh(x, 0.0), 1.0),
    "clamp(0, b)": (lambda x: x.clamp(0, 3), 3.0),
    "clamp(max=b, min=0)": (lambda x: x.clamp(max=3.0, min=0.0), 3.0),
    "clamp_(0, b)": (lambda x: x.clamp_(0, 3), 3.0),
    "torch.clip": (lambda x: torch.clip(x, min=0, max=1.5), 1.5),
}

PRELU = nn.PReLU(CHANNELS)
with torch.no_grad():
    PRELU.weight.copy_(torch.tensor([0.5, 0.0, 0.125]))
LEAKY: dict[str, tuple[Function, float | list[float]]] = {
    "nn.LeakyReLU": (nn.LeakyReLU(0.2), 0.2),
    "nn.LeakyReLU in place": (nn.LeakyReLU(0.2, inplace=True), 0.2),
    "F.leaky_relu": (lambda x: F.leaky_relu(x, 0.3), 0.3),
    "F.leaky_relu, as steep as by itself": (F.leaky_relu, 0.01),
    "F.leaky_relu_": (lambda x: F.leaky_relu_(x, 0.3), 0.3),
    "nn.PReLU": (PRELU, [0.5, 0.0, 0.125]),
    "nn.PReLU of one number": (nn.PReLU(init=0.375), 0.375),
    "F.prelu": (lambda x: F.prelu(x, torch.tensor([0.25], dtype=x.dtype)), 0.25),
}


def replaced(function: Function, images: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """The smoothed call, the exact call, and the width [N, 1, 1, 1] as it is defined: a share of the mean size."""
    network = applied(function)
    found = smoothed(network, images, [OUTPUT], share)
    (sharp,) = exact(network, images, OUTPUT)
    with torch.no_grad():
        smooth = found.run(images, [OUTPUT])[OUTPUT]
    width = share * sharp.abs().mean((1, 2, 3))
    assert smooth.dtype == torch.float64
    assert len(found.widths) == 1
    torch.testing.assert_close(found.widths[0], width, rtol=1e-12, atol=0)
    return smooth, sharp, width.view(-1, 1, 1, 1)


def softplus(x: Tensor, width: Tensor) -> Tensor:
    """w log(1 + exp(x / w)), by numpy."""
    return width * torch.from_numpy(np.logaddexp(0, (x / width).numpy()))


@pytest.mark.parametrize("name", RELUS)
@pytest.mark.parametrize("share", [1.0, 0.05])
def test_a_relu_becomes_a_softplus_above_it_by_at_most_w_log_2(name: str, share: float) -> None:
    images = values(1)
    images[:, :, 0, 0] = 0.0  # on the kink itself
    smooth, sharp, width = replaced(RELUS[name], images, share)
    torch.testing.assert_close(sharp, images.clamp(min=0), rtol=0, atol=0)
    torch.testing.assert_close(smooth, softplus(images, width), rtol=1e-12, atol=1e-15)
    above, rounding = (smooth - sharp) / width, 1e-13 * images.abs().max() / width
    assert (above >= -rounding).all()
    assert (above <= math.log(2) + rounding).all()
    torch.testing.assert_close(above[:, :, 0, 0], torch.full_like(above[:, :, 0, 0], math.log(2)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize("share", [1.0, 0.05])
def test_a_bounded_relu_becomes_the_difference_of_two_softpluses(name: str, share: float) -> None:
    images, (function, bound) = values(2), BOUNDED[name]
    smooth, sharp, width = replaced(function, images, share)
    torch.testing.assert_close(sharp, images.clamp(0, bound), rtol=0, atol=0)
    expected = softplus(images, width) - softplus(images - bound, width)
    torch.testing.assert_close(smooth, expected, rtol=1e-12, atol=1e-13)
    assert ((smooth - sharp).abs() <= width * math.log(2) + 1e-13).all()


@pytest.mark.parametrize("name", LEAKY)
@pytest.mark.parametrize("share", [1.0, 0.05])
def test_a_leaky_relu_keeps_its_slopes(name: str, share: float) -> None:
    images, (function, slope) = values(3), LEAKY[name]
    smooth, sharp, width = replaced(function, images, share)
    # (a slope that was given in float32 is one in float64 too, but PReLU's weights are float32 to begin with)
    slopes = torch.tensor(slope, dtype=torch.float64).view(-1, 1, 1)
    torch.testing.assert_close(sharp, torch.where(images > 0, images, slopes * images), rtol=1e-7, atol=0)
    expected = slopes * images + (1 - slopes) * softplus(images, width)
    torch.testing.assert_close(smooth, expected, rtol=1e-7, atol=1e-13)
    above = smooth - sharp
    assert (above >= -1e-12).all()
    assert (above <= (1 - slopes) * width * math.log(2) + 1e-12).all()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.clamp(-1, 1),
        lambda x: x.clamp_min(0.5),
        lambda x: F.threshold(x, 0, 3),
        lambda x: F.hardtanh(x),
        lambda x: x.clamp(max=0),
        torch.tanh,
        F.avg_pool2d,
        F.gelu,
    ],
)
def test_what_has_no_such_kink_is_left_as_it_is(function: Function) -> None:
    calls: tuple[object, ...] = (3,) if function is F.avg_pool2d else ()
    network, images = applied(lambda x: function(x, *calls)), values(4)
    found = smoothed(network, images, [OUTPUT], 0.5)
    assert found.widths == ()
    torch.testing.assert_close(found.run(images, [OUTPUT])[OUTPUT], exact(network, images, OUTPUT)[0], rtol=0, atol=0)


# --- max-pooling ------------------------------------------------------------------------------------------------------


def by_windows(
    x: Tensor, width: Tensor, kernel: tuple[int, int], options: tuple[tuple[int, int], ...], shape: torch.Size
) -> Tensor:
    """w logsumexp(x / w) over the windows that `F.unfold` lays out, and all of what lies around the image is empty."""
    stride, padding, dilation = options
    more = 8  # a window may begin in the image and end far beyond it (ceil_mode)
    around = (padding[1], padding[1] + more, padding[0], padding[0] + more)
    wide = F.pad(x, around, value=-1e300)
    windows = F.unfold(wide, kernel, dilation, 0, stride).view(*x.shape[:2], kernel[0] * kernel[1], -1)
    counts = [
        (n - d * (k - 1) - 1) // s + 1 for n, d, k, s in zip(wide.shape[2:], dilation, kernel, stride, strict=True)
    ]
    highest = windows.amax(2, keepdim=True)
    total = ((windows - highest) / width).exp().sum(2, keepdim=True).log() * width + highest
    return total[:, :, 0].view(*x.shape[:2], *counts)[..., : shape[2], : shape[3]]


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=80, deadline=None)
@given(seeds, pairs, pairs, st.booleans(), st.booleans(), st.tuples(st.integers(1, 2), st.integers(1, 2)), pairs)
def test_pooling_is_logsumexp_over_every_window(
    seed: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padded: bool,
    ceil_mode: bool,
    dilation: tuple[int, int],
    more: tuple[int, int],
) -> None:
    padding = (kernel[0] // 2 * padded, kernel[1] // 2 * padded)
    x = values(seed, 2, 4 + more[0], 4 + more[1])
    assume(all(d * (k - 1) < side for d, k, side in zip(dilation, kernel, x.shape[2:], strict=True)))
    sharp = F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)
    width = torch.tensor([0.3, 2.0], dtype=torch.float64).view(-1, 1, 1, 1)
    smooth = smooth_max_pool(x, width, kernel, stride, padding, dilation, ceil_mode)
    assert smooth.shape == sharp.shape
    options = (stride, padding, dilation)
    torch.testing.assert_close(smooth, by_windows(x, width, kernel, options, sharp.shape), rtol=1e-12, atol=1e-12)
    above = (smooth - sharp) / width
    assert (above >= 0).all()
    assert (above <= math.log(kernel[0] * kernel[1]) + 1e-12).all()


@few
@given(seeds, st.floats(1e-3, 10))
def test_equal_values_in_a_window_are_above_their_maximum_by_w_log_n(seed: int, width: float) -> None:
    x = values(seed)[:, :, :1, :1].expand(-1, -1, 5, 7)
    above = smooth_max_pool(x, torch.tensor(width).double(), (2, 3), (1, 1)) - x[:, :, :4, :5]
    width = float(torch.tensor(width))
    torch.testing.assert_close(above, torch.full_like(above, width * math.log(6)), rtol=1e-10, atol=1e-13)


def test_a_width_given_as_a_number_is_that_number() -> None:
    x = values(0)
    as_tensor = smooth_max_pool(x, torch.tensor(0.1, dtype=torch.float64), (2, 2), (1, 1))
    assert torch.equal(smooth_max_pool(x, 0.1, (2, 2), (1, 1)), as_tensor)


@pytest.mark.parametrize("name", ["relu", "pooling"])
def test_second_derivatives_are_refused(name: str) -> None:
    network, image = applied(KINKED[name]), on_kinks(0)
    found = smoothed(network, image, [OUTPUT], 0.5)
    image.requires_grad_(True)
    out = found.run(image, [OUTPUT])[OUTPUT]
    (gradient,) = torch.autograd.grad(out.square().sum(), image, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


@few
@given(seeds, pairs, pairs, st.booleans(), st.tuples(st.integers(1, 2), st.integers(1, 2)))
def test_gradients_of_pooling_are_finite_differences(
    seed: int, kernel: tuple[int, int], stride: tuple[int, int], ceil_mode: bool, dilation: tuple[int, int]
) -> None:
    padding = (kernel[0] // 2, kernel[1] // 2)
    x = values(seed, 1, 5, 6).requires_grad_(True)
    width = torch.tensor(0.7, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda one: smooth_max_pool(one, width, kernel, stride, padding, dilation, ceil_mode), x
    )


POOLS: dict[str, tuple[Function, tuple[int, int], tuple[tuple[int, int], ...]]] = {
    "nn.MaxPool2d": (nn.MaxPool2d(2), (2, 2), ((2, 2), (0, 0), (1, 1))),
    "nn.MaxPool2d with everything": (
        nn.MaxPool2d((3, 2), (2, 1), (1, 0), (1, 2), ceil_mode=True),
        (3, 2),
        ((2, 1), (1, 0), (1, 2)),
    ),
    "F.max_pool2d": (lambda x: F.max_pool2d(x, 3), (3, 3), ((3, 3), (0, 0), (1, 1))),
    "F.max_pool2d by position": (
        lambda x: F.max_pool2d(x, 3, 2, 1, 1, True),
        (3, 3),
        ((2, 2), (1, 1), (1, 1)),
    ),
    "F.max_pool2d by name": (
        lambda x: F.max_pool2d(input=x, kernel_size=[3, 3], padding=[1, 1], stride=[1, 2]),
        (3, 3),
        ((1, 2), (1, 1), (1, 1)),
    ),
    "torch.max_pool2d": (lambda x: torch.max_pool2d(x, 2, 1), (2, 2), ((1, 1), (0, 0), (1, 1))),
    "torch.max_pool2d, lists of one": (
        lambda x: torch.max_pool2d(x, [3], [2], [1], [1], False),
        (3, 3),
        ((2, 2), (1, 1), (1, 1)),
    ),
}


@pytest.mark.parametrize("name", POOLS)
def test_every_way_to_call_max_pooling_is_seen(name: str) -> None:
    function, kernel, options = POOLS[name]
    images = values(5)
    smooth, sharp, width = replaced(function, images, 0.2)
    torch.testing.assert_close(smooth, by_windows(images, width, kernel, options, sharp.shape), rtol=1e-12, atol=1e-12)
    assert (smooth > sharp).any()


# --- whole networks ---------------------------------------------------------------------------------------------------


def furthest(network: Network, widths: tuple[Tensor, ...], images: Tensor) -> Tensor:
    """How far the smoothed `composite` may be from the exact one, in each number of its output: what the kinks add,
    w log n at most, goes through the absolute weights, and kinks themselves pass it on undiminished at most."""
    found = list(widths)
    bound = torch.zeros_like(images)
    modules = network.module
    assert isinstance(modules, nn.Sequential)
    for part in modules:
        if isinstance(part, nn.Conv2d):
            bound = F.conv2d(bound, part.weight.double().abs(), None, part.stride, part.padding)
        elif isinstance(part, nn.Linear):
            bound = bound @ part.weight.double().abs().T
        elif isinstance(part, nn.BatchNorm2d):
            assert part.running_var is not None
            bound = bound * (part.weight / (part.running_var + part.eps).sqrt()).double().abs().view(1, -1, 1, 1)
        elif isinstance(part, nn.MaxPool2d):
            bound = F.max_pool2d(bound, 3, 2, 1) + found.pop(0).view(-1, 1, 1, 1) * math.log(9)
        elif isinstance(part, nn.Flatten):
            bound = bound.flatten(1)
        else:  # ReLU, ReLU6 (both its kinks lie within w log 2), PReLU and LeakyReLU, which are no steeper than 1
            bound = bound + found.pop(0).view(-1, *[1] * (bound.ndim - 1)) * math.log(2)
    assert not found
    return bound


@few
@given(seeds, st.sampled_from([1e-6, 1e-4, 1e-2]))
def test_narrow_kinks_give_the_exact_network_up_to_what_they_add(seed: int, share: float) -> None:
    network, images = composite(seed % 5), values(seed) / 4
    found = smoothed(network, images, [OUTPUT], share)
    with torch.no_grad():
        away = (found.run(images, [OUTPUT])[OUTPUT] - exact(network, images, OUTPUT)[0]).abs()
    bound = furthest(network, found.widths, images)
    assert (away <= bound + 1e-12).all()
    # The bound itself shrinks with the share, since widths are proportional to it.
    wide = smoothed(network, images, [OUTPUT], 1.0)
    torch.testing.assert_close(bound, share * furthest(network, wide.widths, images), rtol=1e-9, atol=0)


def test_wide_kinks_do_not() -> None:
    network, images = composite(), values(0) / 4
    found = smoothed(network, images, [OUTPUT], 1.0)
    away = (found.run(images, [OUTPUT])[OUTPUT] - exact(network, images, OUTPUT)[0]).abs()
    assert (away > 1e-2).any(1).all()


def on_kinks(seed: int) -> Tensor:
    """An image of which whole windows are equal, and whole areas are zero."""
    image = values(seed, 1) / 4
    image[:, 0] = 0.0
    image[:, 1:, :4, :4] = image[:, 1:, :1, :1]
    return image


KINKED: dict[str, Function] = {"relu": F.relu, "relu6": F.relu6, "pooling": lambda x: F.max_pool2d(x, 2)}


@pytest.mark.parametrize("name", KINKED)
@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_finite_differences_also_where_the_exact_network_has_kinks(name: str, seed: int) -> None:
    network, image = applied(KINKED[name]), on_kinks(seed)
    found = smoothed(network, image, [OUTPUT], 0.05)

    def check(answer: Callable[[Tensor], Tensor]) -> bool:
        return torch.autograd.gradcheck(answer, image.clone().requires_grad_(True), raise_exception=False)

    assert check(lambda x: found.run(x, [OUTPUT])[OUTPUT])
    with network.in_float64():
        assert not check(lambda x: network.run(x, [OUTPUT])[OUTPUT])


@settings(max_examples=3, deadline=None)
@given(seeds)
def test_gradients_of_a_whole_network_are_finite_differences(seed: int) -> None:
    network, image = composite(seed % 7), values(seed, 1) / 4
    found = smoothed(network, image, [OUTPUT], 0.05)
    assert torch.autograd.gradcheck(lambda x: found.run(x, [OUTPUT])[OUTPUT], image.requires_grad_(True))


def test_a_silent_layer_has_finite_answers_and_gradients() -> None:
    network = applied(lambda x: F.max_pool2d(F.relu(-x.abs() - 1), 2))
    images = values(6).requires_grad_(True)
    found = smoothed(network, images.detach(), [OUTPUT])
    out = found.run(images, [OUTPUT])[OUTPUT]
    (gradient,) = torch.autograd.grad(out.sum(), images)
    assert out.abs().max() < 1e-11
    assert gradient.isfinite().all()


# --- what stands before a ReLU, and taps in the middle ----------------------------------------------------------------


@pytest.mark.parametrize("pooled", [False, True])
def test_what_is_tapped_before_a_relu_is_what_the_smoothed_network_has_there(pooled: bool) -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(CHANNELS, 4, 3), nn.Conv2d(4, 5, 3)
    last = [nn.MaxPool2d(2)] if pooled else []
    network = Network(nn.Sequential(first, nn.ReLU(True), second, nn.ReLU(True), *last), 8, channels=CHANNELS)
    images = values(7, 2, 8, 8)
    tap = Place("output")
    found = smoothed(network, images, [tap], 0.1)
    with torch.no_grad():
        smooth = found.run(images, [tap])[tap]
        x = F.conv2d(images, first.weight.double(), first.bias.double() if first.bias is not None else None)
        x = softplus(x, 0.1 * x.clamp(min=0).mean((1, 2, 3), keepdim=True))
        x = F.conv2d(x, second.weight.double(), second.bias.double() if second.bias is not None else None)
        if pooled:
            sharp = exact(network, images, tap)[0]
            width = 0.1 * sharp.abs().mean((1, 2, 3)).view(-1, 1, 1, 1)
            x = by_windows(x, width, (2, 2), ((2, 2), (0, 0), (1, 1)), sharp.shape)
    torch.testing.assert_close(smooth, x, rtol=1e-10, atol=1e-12)
    assert (smooth < 0).any()


def test_several_taps_at_once_are_each_what_it_is_alone() -> None:
    network, images = composite(), values(8) / 4
    places = [Place("0"), Place("3", True), Place("6"), OUTPUT]
    found = smoothed(network, images, places, 0.05)
    assert found.taps == tuple(places)
    together = found.run(images, reversed(places))
    for place in places:
        alone = smoothed(network, images, [place], 0.05).run(images, [place])[place]
        torch.testing.assert_close(together[place], alone, rtol=1e-12, atol=1e-14)


# --- each image has its own widths ------------------------------------------------------------------------------------


@few
@given(seeds, st.integers(2, 4), st.floats(1e-3, 1))
def test_widths_do_not_depend_on_what_else_is_in_the_batch(seed: int, count: int, share: float) -> None:
    network = composite()
    images = values(seed, count) * torch.logspace(-2, 2, count).view(-1, 1, 1, 1)
    together = smoothed(network, images, [OUTPUT], share)
    assert len(together.widths) == 5
    out = together.run(images, [OUTPUT])[OUTPUT]
    for i in range(count):
        alone = smoothed(network, images[i : i + 1], [OUTPUT], share)
        for many, one in zip(together.widths, alone.widths, strict=True):
            assert many.shape == (count,)
            torch.testing.assert_close(many[i : i + 1], one, rtol=1e-10, atol=0)
        answer = alone.run(images[i : i + 1], [OUTPUT])[OUTPUT]
        torch.testing.assert_close(out[i : i + 1], answer, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("which", [[True, False, True], [2, 0], [1]])
def test_kept_is_the_same_for_some_of_the_images(which: list[bool] | list[int]) -> None:
    network, images = composite(), values(9, 3) * torch.tensor([0.1, 1.0, 10.0]).view(-1, 1, 1, 1)
    found = smoothed(network, images, [OUTPUT], 0.1)
    chosen = torch.tensor(which)
    some = found.kept(chosen)
    assert isinstance(some, Smoothed)
    torch.testing.assert_close(
        some.run(images[chosen], [OUTPUT])[OUTPUT],
        found.run(images, [OUTPUT])[OUTPUT][chosen],
        rtol=1e-10,
        atol=1e-13,
    )


def test_several_views_of_each_image_have_its_width() -> None:
    network, images = composite(), values(10) * torch.tensor([0.1, 10.0]).view(-1, 1, 1, 1)
    found = smoothed(network, images, [OUTPUT], 0.3)
    views = images.repeat_interleave(3, 0)
    torch.testing.assert_close(
        found.run(views, [OUTPUT])[OUTPUT],
        found.run(images, [OUTPUT])[OUTPUT].repeat_interleave(3, 0),
        rtol=1e-10,
        atol=1e-13,
    )


def test_widths_stay_those_of_the_images_that_they_were_measured_on() -> None:
    network = applied(F.relu)
    images, others = values(11), 100 * values(12)
    found = smoothed(network, images, [OUTPUT])
    width = WIDTH * images.clamp(min=0).mean((1, 2, 3)).view(-1, 1, 1, 1)
    torch.testing.assert_close(found.run(others, [OUTPUT])[OUTPUT], softplus(others, width), rtol=1e-12, atol=1e-15)


# --- wrong requests, and the module afterwards ------------------------------------------------------------------------


def test_widths_of_other_images_or_taps_are_refused() -> None:
    network, images = composite(), values(13, 3)
    found = smoothed(network, images, ["output"])
    for taps in (["0"], ["output", "0"], []):
        with pytest.raises(RequestError, match=r"widths were measured for \['output'\], not for"):
            found.run(images, taps)
    for count in (2, 4):
        with pytest.raises(RequestError, match=f"measured on 3 images, but {count} come"):
            found.run(values(0, count), ["output"])


@pytest.mark.parametrize("share", [0.0, -0.01, float("nan")])
def test_a_share_that_is_no_width_is_refused(share: float) -> None:
    with pytest.raises(RequestError, match="a width above zero"):
        smoothed(composite(), values(0), [OUTPUT], share)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_in_one_sentence(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = Network(nn.Sequential(nn.Conv2d(CHANNELS, 4, 3), nn.ReLU()).to(dtype), SIDE, name="coarse")
    with pytest.raises(RequestError) as caught:
        smoothed(network, values(0), [OUTPUT])
    said = str(caught.value)
    assert said.startswith("coarse computes in ") and "module.float()" in said
    assert str(dtype).removeprefix("torch.") in said and "\n" not in said
    assert network.dtype == dtype


def test_the_network_is_exact_and_in_float32_again_afterwards() -> None:
    network, images = composite(), values(14)
    weights = {name: (value, value.dtype, value._version) for name, value in network.module.state_dict().items()}
    held = list(network.module.parameters())
    before = network.run(images.float(), [OUTPUT])[OUTPUT]
    found = smoothed(network, images, [OUTPUT], 0.3)
    found.run(images, [OUTPUT])
    with pytest.raises(RequestError):
        found.run(images[:, :1], [OUTPUT])
    with found.held():
        found.run(images, [OUTPUT])
    after = network.run(images.float(), [OUTPUT])[OUTPUT]
    assert after.dtype == torch.float32
    assert torch.equal(before, after)
    assert all(a is b for a, b in zip(held, network.module.parameters(), strict=True))
    for name, value in network.module.state_dict().items():
        assert value.dtype == weights[name][1]
        assert torch.equal(value, weights[name][0]) and value._version == weights[name][2]
