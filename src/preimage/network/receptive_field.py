"""What a unit sees of the input: one backward pass through the linearised network.

Paper 0, section 4.2 (SPEC A10): put a one at the centre of a channel, go backwards once, and the area of the
input where the gradient is not zero is the receptive field. ReLU and max pooling would hide part of it (SPEC
A.3-6), so every call is replaced by a linear one that depends on exactly the same inputs: activations and
normalisations with fixed statistics by the identity, max by average pooling, and weights by positive constants,
which cannot cancel. With constant weights all channels of a layer are alike, so one of them is enough: a
network of a thousand channels costs as much as one of one channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from preimage.network.running import Site, tensors, watching_everything
from preimage.network.taps import token_grid

Pair = tuple[int, int]
Field = tuple[Pair, Pair | None]

_POINTWISE = frozenset(
    """relu relu_ relu6 hardtanh hardtanh_ leaky_relu leaky_relu_ elu elu_ selu selu_ celu celu_ gelu silu silu_ mish
    mish_ hardswish hardsigmoid sigmoid sigmoid_ tanh tanh_ softplus softsign prelu rrelu logsigmoid clamp clamp_ clip
    clamp_min clamp_min_ clamp_max threshold threshold_ batch_norm dropout dropout1d dropout2d dropout3d
    feature_dropout alpha_dropout abs exp log sqrt pow square contiguous clone""".split()
)
_SUMS = frozenset(
    """add add_ sub sub_ mul mul_ div div_ __add__ __radd__ __iadd__ __sub__ __rsub__ __isub__ __mul__ __rmul__
    __imul__""".split()
)
_EVERYTHING = ("group_norm", "instance_norm")
_SPATIAL = ("avg_pool", "adaptive_avg_pool", "interpolate", "pad", "upsample")


class _Linearised(TorchFunctionMode):
    """Replaces each call by a linear one with the same reach (module docstring)."""

    def __init__(self) -> None:
        super().__init__()
        self._one_channel: Any = WeakIdKeyDictionary()  # [N, C, ...] -> the same as [N, 1, ...]

    def lean(self, value: Tensor) -> Tensor:
        """One channel that depends on all that `value` depends on, position by position."""
        found: Tensor | None = self._one_channel.get(value)
        return value.mean(1, keepdim=True) if found is None else found

    def _spread(self, lean: Tensor, channels: int) -> Tensor:
        out = lean.expand(lean.shape[0], channels, *lean.shape[2:])
        self._one_channel[out] = lean
        return out

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        first = args[0] if args else kwargs.get("input")
        if isinstance(first, Tensor) and first.is_floating_point():
            if name in _POINTWISE:
                return first
            if name.startswith("conv") and first.ndim >= 3:
                return self._convolve(func, args, kwargs)
            if "max_pool" in name:
                return self._pool(name, args, kwargs)
            if name == "linear":
                return first.mean(-1, keepdim=True).expand(*first.shape[:-1], args[1].shape[0])
            if name in ("layer_norm", "rms_norm"):
                size = args[1] if len(args) > 1 else kwargs["normalized_shape"]
                return first + first.mean(tuple(range(-len(size), 0)), keepdim=True)
            if name in _EVERYTHING:
                lean = self.lean(first)
                return self._spread(lean + lean.mean(tuple(range(2, lean.ndim)), keepdim=True), first.shape[1])
            if name in ("softmax", "softmax_"):
                return torch.full_like(first, 1 / first.shape[kwargs.get("dim", args[1] if len(args) > 1 else -1)])
            if name == "scaled_dot_product_attention":
                return args[2].mean(-2, keepdim=True).expand(*first.shape[:-1], args[2].shape[-1])
            if name == "multi_head_attention_forward":
                return first + args[2].mean(0, keepdim=True), None
            if name in _SUMS:
                return self._sum(func, args, kwargs)
        if name in ("cat", "concat", "concatenate"):
            return self._concatenate(func, args, kwargs)
        if name.startswith(_SPATIAL) and isinstance(first, Tensor) and first in self._one_channel:
            return self._spread(func(self.lean(first), *args[1:], **kwargs), first.shape[1])
        return func(*_double(args), **_double(kwargs))

    def _convolve(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        value, weight, dims = args[0], args[1], args[1].ndim - 2
        if "transpose" in func.__name__:
            names = ("stride", "padding", "output_padding", "groups", "dilation")
            given = dict(zip(names, args[3:], strict=False)) | kwargs
            channels = weight.shape[1] * given.pop("groups", 1)
            options = {name: given[name] for name in names if name in given}
            return self._spread(func(self.lean(value), _ones(value, weight.shape[2:]), None, **options), channels)
        given = dict(zip(("stride", "padding", "dilation"), args[3:], strict=False)) | kwargs
        kernel = tuple(weight.shape[2:])
        stride, dilation = (_each(given.get(name, 1), dims) for name in ("stride", "dilation"))
        padding = given.get("padding", 0)
        if isinstance(padding, str):
            reach = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
            borders = [(r // 2, r - r // 2) for r in reach]
        else:
            borders = [(p, p) for p in _each(padding, dims)]
        return self._spread(_box(self.lean(value), kernel, stride, borders, dilation), weight.shape[0])

    def _pool(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        value = args[0]
        dims = int(name[name.index("pool") + 4])
        if name.startswith("adaptive"):
            pooled: Tensor = getattr(F, f"adaptive_avg_pool{dims}d")(self.lean(value), args[1])
            return self._spread(pooled, value.shape[1])
        order = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        named = dict(zip(order, args[1:], strict=False)) | kwargs
        defaults = {"kernel_size": 1, "padding": 0, "dilation": 1}
        kernel, padding, dilation = (_each(named.get(key, default), dims) for key, default in defaults.items())
        stride = _each(named.get("stride") or kernel, dims)
        # The true pooling says how many outputs there are (ceil_mode); the border is made to give just as many.
        max_pool = getattr(F, f"max_pool{dims}d")
        target = max_pool(self.lean(value).detach(), kernel, stride, padding, dilation, bool(named.get("ceil_mode")))
        sizes = zip(target.shape[2:], value.shape[2:], kernel, stride, padding, dilation, strict=True)
        borders = [(p, max(0, (out - 1) * s + d * (k - 1) + 1 - size - p)) for out, size, k, s, p, d in sizes]
        pooled = _box(self.lean(value), kernel, stride, borders, dilation)
        for axis, count in enumerate(target.shape):
            pooled = pooled.narrow(axis, 0, count)
        return self._spread(pooled, value.shape[1])

    def _sum(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Sums, differences and products all depend on both sides: let each be the sum."""
        a: Any = args[0]
        b: Any = args[1] if len(args) > 1 else kwargs.get("other")
        for one, other in ((a, b), (b, a)):
            if not isinstance(other, Tensor):
                return one
            # A constant (a bias, a position embedding) adds nothing to what is seen.
            if not other.requires_grad and np.broadcast_shapes(one.shape, other.shape) == tuple(one.shape):
                return one
        if a in self._one_channel and b in self._one_channel and a.shape[1] == b.shape[1]:
            out = self._spread(self.lean(a) + self.lean(b), a.shape[1])
            if func.__name__ == "add_":
                self._one_channel[a] = self.lean(out)  # a statement `a.add_(b)` does not look at what comes back
            return out
        return a + b

    def _concatenate(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        parts = args[0] if args else kwargs["tensors"]
        dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
        if dim in (1, 1 - parts[0].ndim) and parts[0].ndim >= 3 and all(p in self._one_channel for p in parts):
            return self._spread(torch.stack([self.lean(p) for p in parts]).sum(0), sum(p.shape[1] for p in parts))
        return func(*args, **kwargs)


def _box(
    lean: Tensor, kernel: Sequence[int], stride: Sequence[int], borders: Sequence[Pair], dilation: Sequence[int]
) -> Tensor:
    """Every output is the sum of what it sees, up to a factor that keeps the numbers of a deep network finite."""
    if max(kernel) == 1 and max(stride) == 1 and not any(map(any, borders)):
        return lean  # the same tensor: its field is measured once for a whole chain of 1 x 1 convolutions
    padded = F.pad(lean, [side for pair in reversed(borders) for side in pair])
    if max(dilation) == 1:
        pooled: Tensor = getattr(F, f"avg_pool{len(kernel)}d")(padded, kernel, stride) * math.prod(kernel) ** 0.5
        return pooled
    convolved: Tensor = getattr(F, f"conv{len(kernel)}d")(padded, _ones(lean, kernel), None, stride, 0, dilation)
    return convolved


def _ones(like: Tensor, kernel: Sequence[int]) -> Tensor:
    return torch.full((1, 1, *kernel), math.prod(kernel) ** -0.5).to(like)


def receptive_fields(
    module: nn.Module, sites: Sequence[Site], channels: int, input_size: Pair, device: torch.device
) -> list[Field]:
    """The receptive field and stride (each height, width) of a central unit at every site.

    A unit that sees the whole input, or would see more if there were more, has the input's size. The probe is
    twice the input's size where the network allows that, so that no field is cut off by the border.
    """
    # Token networks are dear to probe, and their fields end at windows or at the whole image anyway.
    is_convolutional = all(site.channel_axis == 1 for site in sites)
    for scale in (2, 1) if is_convolutional else (1,):
        size = (input_size[0] * scale, input_size[1] * scale)
        try:
            return _measure(module, sites, channels, size, input_size, device)
        except (RuntimeError, ValueError, AssertionError, IndexError, TypeError):
            if scale == 1:
                raise
    raise AssertionError("unreachable")


def _measure(
    module: nn.Module, sites: Sequence[Site], channels: int, size: Pair, input_size: Pair, device: torch.device
) -> list[Field]:
    # Two images: in the first the central unit is asked, in the second its neighbour below and to the right.
    image = torch.ones(2, channels, *size, dtype=torch.float64, device=device, requires_grad=True)
    wanted = {(id(site.module), site.call, site.path): index for index, site in enumerate(sites)}
    calls: dict[int, int] = {}
    seen: dict[int, Tensor] = {}
    made_by: dict[int, list[Any]] = {}
    mode = _Linearised()

    def note(part: nn.Module, output: Any) -> None:
        number = calls[id(part)] = calls.get(id(part), -1) + 1
        for path, value in tensors(output):
            index = wanted.get((id(part), number, path))
            if index is None:
                continue
            axis = sites[index].channel_axis
            seen[index] = mode.lean(value) if axis == 1 else value.movedim(axis, 1).mean(1, keepdim=True)
            made_by[index] = [fn for fn in (value.grad_fn, seen[index].grad_fn) if fn is not None]

    with torch.enable_grad(), watching_everything(note, module), mode:
        module(image)
    # A convolution, its normalisation and its activation are one tensor here: ask it once. And what is computed
    # from units that see everything sees everything: that needs no pass of its own.
    fields: dict[int, Field] = {}
    everything: dict[Any, tuple[Pair, Pair]] = {}
    for index, lean in sorted(seen.items()):
        if id(lean) in fields:
            continue
        seed, units = _seed(lean)
        source = _ancestor(made_by[index], everything)
        if source is not None:
            fields[id(lean)] = input_size, _stride_from(source, units)
        else:
            gradient = None
            if seed.requires_grad:
                (gradient,) = torch.autograd.grad(seed, image, retain_graph=True, allow_unused=True)
            fields[id(lean)] = _read(gradient, units, size, input_size)
        field, stride = fields[id(lean)]
        if field == input_size and stride is not None:
            everything |= dict.fromkeys(made_by[index], (units, stride))
    return [fields[id(seen[index])] if index in seen else ((0, 0), None) for index in range(len(sites))]


def _ancestor(nodes: list[Any], known: dict[Any, tuple[Pair, Pair]]) -> tuple[Pair, Pair] | None:
    """What is known of the first of the graph's `known` nodes that `nodes` were computed from."""
    waiting, visited = list(nodes), set(nodes)
    while waiting:
        node = waiting.pop()
        if node in known:
            return known[node]
        for following, _ in node.next_functions:
            if following is not None and following not in visited:
                visited.add(following)
                waiting.append(following)
    return None


def _stride_from(source: tuple[Pair, Pair], units: Pair) -> Pair | None:
    if units == (1, 1):
        return None
    (height, width), (down, right) = source
    return max(1, round(height / units[0])) * down, max(1, round(width / units[1])) * right


def _seed(lean: Tensor) -> tuple[Tensor, Pair]:
    """The central unit of the first image plus its diagonal neighbour of the second; and the map's size."""
    if lean.ndim == 2:
        return lean[0, 0] + lean[1, 0], (1, 1)
    units = lean.flatten(2)
    if lean.ndim >= 4:
        height, width = math.prod(lean.shape[2:-1]), lean.shape[-1]
        prefix = 0
    else:
        prefix, height, width = token_grid(units.shape[2]) or (0, 1, units.shape[2])
    y, x = (height - 1) // 2, (width - 1) // 2
    below, right = min(y + 1, height - 1), min(x + 1, width - 1)
    return units[0, 0, prefix + y * width + x] + units[1, 0, prefix + below * width + right], (height, width)


def _read(gradient: Tensor | None, units: Pair, size: Pair, input_size: Pair) -> tuple[Pair, Pair | None]:
    if gradient is None:
        return (0, 0), None
    seen = gradient.ne(0).any(1)
    field, stride = [], []
    for axis in (0, 1):
        lines = seen.any(2 - axis)
        (low, high), (low2, high2) = (_extent(lines[i]) for i in (0, 1))
        field.append(min(max(high - low, high2 - low2) + 1, input_size[axis]))
        if units[axis] == 1:
            stride.append(input_size[axis])
        elif low > 0:
            stride.append(low2 - low)
        elif high2 < size[axis] - 1:
            stride.append(high2 - high)
        else:  # both ends lie beyond the border: the ratio of the sizes is all that is left
            stride.append(round(size[axis] / units[axis]))
    return (field[0], field[1]), None if units == (1, 1) else (stride[0], stride[1])


def _extent(lines: Tensor) -> Pair:
    where = lines.nonzero()
    return (int(where[0]), int(where[-1])) if len(where) else (0, -1)


def _double(argument: Any) -> Any:
    """Constants of the network may be float32; everything here is float64."""
    if isinstance(argument, Tensor):
        return argument.double() if argument.is_floating_point() else argument
    if isinstance(argument, dict):
        return {key: _double(value) for key, value in argument.items()}
    if type(argument) in (tuple, list):
        return type(argument)(_double(one) for one in argument)
    return argument


def _each(value: int | Sequence[int], dims: int) -> tuple[int, ...]:
    return (value,) * dims if isinstance(value, int) else tuple(value)
