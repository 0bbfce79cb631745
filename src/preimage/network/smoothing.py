"""A network without kinks, in float64: what inverse feature visualization differentiates.

The maxima of a network of ReLUs and max-pooling lie on its kinks, where the gradient does not vanish although no step
leads higher; paper 1's condition, that it does, then says nothing. So every ReLU becomes w softplus(x / w) and every
maximum w logsumexp(x / w), with a width w so small that the answers hardly change, call by call and without touching a
module. Both lie above what they replace, by at most w log 2 and w log n (n numbers in a window).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from preimage.errors import RequestError
from preimage.network.opened import Network
from preimage.network.rectifiers import is_rectifier
from preimage.network.taps import Place

WIDTH = 0.01
"""How wide kinks are made, as a share of the mean size of what comes out of the call, image by image."""


@dataclass(frozen=True)
class Smoothed:
    """A network whose kinks are smoothed for certain images; an `Answering`.

    widths: of each call that has kinks, in the order in which the network makes them, one number per image, [N] each,
        in the units of that call's output. They hold for these `taps` only. dtype: in which it computes and answers.
    """

    network: Network
    taps: tuple[str | Place, ...]
    widths: tuple[Tensor, ...]
    dtype: torch.dtype = torch.float64

    @contextmanager
    def held(self) -> Iterator[None]:
        """Borrow the module for many runs at once, with its weights in the right precision."""
        with computing(self.network, self.dtype):
            yield

    def run(self, images: Tensor, taps: Iterable[str | Place]) -> dict[Place, Tensor]:
        """As `Network.run`, without kinks, for the images that widths were measured on, in turn."""
        if set(taps) != set(self.taps):
            raise RequestError(f"widths were measured for {list(map(str, self.taps))}, not for {list(map(str, taps))}")
        with self.held(), _WithoutKinks(self.widths):
            return self.network.run(images, self.taps)

    def kept(self, images: Tensor) -> Smoothed:
        """The same for some of the images, bool [N] or numbers."""
        return replace(self, widths=tuple(width[images] for width in self.widths))


def computing(network: Network, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Borrow the module, in float64 or in its own precision."""
    return network.in_float64() if dtype is torch.float64 else network.held()


def smoothed(
    network: Network,
    images: Tensor,
    taps: Sequence[str | Place],
    share: float = WIDTH,
    dtype: torch.dtype = torch.float64,
) -> Smoothed:
    """The network with kinks as wide as this share of the mean size that a call's output has on each of the images.

    images: [N, C, H, W] in [0, 1]. dtype: in which the network computes: float64, or float32, its own.

    Raises `RequestError` for a share that is not above zero, and for a network that computes in half precision.
    """
    if not share > 0:
        raise RequestError(f"kinks are smoothed over a width above zero, not {share}")
    for tap in taps:  # (the network is opened, if it was not yet, before its calls are counted)
        network.tap(tap.tap if isinstance(tap, Place) else tap)
    measure = _Widths(share)
    with computing(network, dtype), torch.no_grad(), measure:
        network.run(images.to(dtype), taps)
    return Smoothed(network, tuple(taps), tuple(measure.found), dtype)


def smooth_max_pool(
    value: Tensor,
    width: Tensor | float,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> Tensor:
    """w logsumexp(x / w) over windows of [N, C, H, W], as `F.max_pool2d` places them; `width` broadcasts with x."""
    options = (tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), ceil_mode)
    with torch.no_grad():
        highest = F.max_pool2d(value, *options)
    rows, columns = highest.shape[-2:]
    reach = [
        (n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip((rows, columns), stride, dilation, kernel, strict=True)
    ]
    below, right = (max(0, r - size - p) for r, size, p in zip(reach, value.shape[-2:], padding, strict=True))
    # Cut to what windows reach, so that they can be unfolded and folded.
    padded = F.pad(value, (padding[1], right, padding[0], below), value=-torch.inf)[..., : reach[0], : reach[1]]
    apply: Callable[..., Tensor] = _SoftMaximum.apply
    wide = torch.as_tensor(width, dtype=value.dtype, device=value.device)
    return apply(padded, highest, wide, tuple(kernel), tuple(stride), tuple(dilation))


class _SoftMaximum(torch.autograd.Function):
    """w logsumexp(x / w) over windows; what goes back are the windows' softmax weights, which are computed once.

    One place in the windows after the other, as strided views: unfolding them all takes three times as long.
    """

    @staticmethod
    def forward(
        context: Any,
        padded: Tensor,
        highest: Tensor,
        width: Tensor,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Tensor:
        context.places = _places(tuple(highest.shape[-2:]), kernel, stride, dilation)
        weights = [((padded[place] - highest) / width).exp_() for place in context.places]
        total = sum(weights[1:], weights[0].clone())
        context.save_for_backward(*(one.div_(total) for one in weights))
        context.size = padded.shape
        return highest + width * total.log()

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weights = context.saved_tensors
        layout = torch.channels_last if _is_channels_last(weights[0]) else torch.contiguous_format
        whole = torch.empty(context.size, dtype=weights[0].dtype, device=weights[0].device, memory_format=layout)
        whole.zero_()
        for place, weight in zip(context.places, weights, strict=True):
            whole[place].addcmul_(weight, gradients[0])
        return whole, None, None, None, None, None


def _places(
    size: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> list[tuple[Any, ...]]:
    """For each place in a window, where all windows have it: index expressions."""
    rows, columns = (
        [slice(k * d, k * d + (n - 1) * s + 1, s) for k in range(count)]
        for n, count, s, d in zip(size, kernel, stride, dilation, strict=True)
    )
    return [(..., row, column) for row in rows for column in columns]


def _is_channels_last(value: Tensor) -> bool:
    return value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)


class _SoftRectifier(torch.autograd.Function):
    """w softplus(x / w); its slope is computed once, however often gradients go back through it."""

    @staticmethod
    def forward(context: Any, value: Tensor, width: Tensor) -> Tensor:
        scaled = value / width
        context.save_for_backward(torch.sigmoid(scaled))
        return width * F.softplus(scaled, threshold=40)

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = context.saved_tensors
        return slope * gradients[0], None


class _Kinks(TorchFunctionMode):
    """Sees every call that has a kink: ReLUs (also leaky and bounded ones) and max-pooling over images.

    Others (`maximum`, `abs`, adaptive pooling over windows of several sizes) are left as they are.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        value = args[0] if args else kwargs.get("input")
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return func(*args, **kwargs)
        if name in _LEAKY or is_rectifier(name, args, kwargs):
            return self.met(value, lambda width: _rectified(value, width, name, args, kwargs), func, args, kwargs)
        if func is F.batch_norm and (scaled := _frozen_norm(value, *args[1:], **kwargs)) is not None:
            return scaled
        if name == "max_pool2d":
            return self.met(value, lambda width: _pooled(value, width, args, kwargs), func, args, kwargs)
        return func(*args, **kwargs)

    @abstractmethod
    def met(
        self,
        value: Tensor,
        without_kink: Callable[[Tensor], Tensor],
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """What the call is to return."""


class _Widths(_Kinks):
    """Leaves everything as it is and measures how wide each kink is to be made."""

    def __init__(self, share: float):
        super().__init__()
        self._share = share
        self.found: list[Tensor] = []

    def met(self, value: Tensor, without_kink: Any, func: Any, args: Any, kwargs: Any) -> Any:
        out = func(*args, **kwargs)
        # (not zero, also where a layer is silent)
        self.found.append(self._share * out.detach().abs().flatten(1).mean(1).clamp_min(1e-12))
        return out


class _WithoutKinks(_Kinks):
    """Makes every kink as wide as is said."""

    def __init__(self, widths: Sequence[Tensor]):
        super().__init__()
        self._widths = widths
        self._calls = 0

    def met(self, value: Tensor, without_kink: Any, func: Any, args: Any, kwargs: Any) -> Any:
        width = self._widths[self._calls]
        self._calls += 1
        copies, left = divmod(len(value), len(width))
        if left:
            raise RequestError(f"kinks were measured on {len(width)} images, but {len(value)} come through the network")
        if copies > 1:
            width = width.repeat_interleave(copies)
        out = without_kink(width.view(-1, *[1] * (value.ndim - 1)))
        is_in_place = func.__name__.endswith("_") or kwargs.get("inplace", False)
        return value.copy_(out) if is_in_place else out


def _frozen_norm(
    value: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """Batch normalisation with fixed statistics is a scale and a shift of each channel, and as such much cheaper to
    differentiate; None where the batch has a say."""
    if training or mean is None or variance is None:
        return None
    scale = (variance + eps).rsqrt() * (1.0 if weight is None else weight)
    shift = (0.0 if bias is None else bias) - mean * scale
    shape = (1, -1, *[1] * (value.ndim - 2))
    return torch.addcmul(shift.view(shape), value, scale.view(shape))


_LEAKY = frozenset({"leaky_relu", "leaky_relu_", "prelu"})


def _rectified(value: Tensor, width: Tensor, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    if name in _LEAKY:
        slope = args[1] if len(args) > 1 else kwargs.get("negative_slope", kwargs.get("weight", 0.01))
        if isinstance(slope, Tensor):
            slope = slope.view(1, -1, *[1] * (value.ndim - 2))
        leaky: Tensor = slope * value + (1 - slope) * _above(value, width)
        return leaky
    highest = 6.0 if name == "relu6" else None
    if name.startswith(("hardtanh", "clamp", "clip")) and "min_" not in name and not name.endswith("_min"):
        highest = args[2] if len(args) > 2 else kwargs.get("max_val", kwargs.get("max"))
        if name.startswith("hardtanh") and highest is None:
            highest = 1.0
    out = _above(value, width)
    return out if highest is None else out - _above(value - highest, width)


def _above(value: Tensor, width: Tensor) -> Tensor:
    apply: Callable[..., Tensor] = _SoftRectifier.apply
    return apply(value, width)


def _pooled(value: Tensor, width: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    given = dict(zip(names, args, strict=False)) | kwargs
    kernel = _both(given["kernel_size"])
    stride = _both(given.get("stride") or kernel)
    padding, dilation = _both(given.get("padding", 0)), _both(given.get("dilation", 1))
    return smooth_max_pool(value, width, kernel, stride, padding, dilation, given.get("ceil_mode", False))


def _both(side: int | Sequence[int]) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else (side[0], side[-1])
