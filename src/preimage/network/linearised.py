"""A network's calls, replaced by linear ones that depend on exactly the same inputs (SPEC A10, A.3-6).

Activations and normalisations with fixed statistics become the identity, max pooling average pooling, products sums,
and weights positive constants, which cannot cancel. With constant weights all channels of a layer are alike, so one
of them is enough: a network of a thousand channels costs as much as one of one channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from preimage.network.stand_ins import (
    attention,
    bound,
    box,
    double,
    each,
    mapped,
    matmul,
    multi_head_attention,
    multilinear,
    ones,
    tensors_in,
)

# Names without the underscore of their in-place forms.
_POINTWISE = frozenset(
    """relu relu6 hardtanh leaky_relu elu selu celu gelu silu mish hardswish hardsigmoid sigmoid tanh softplus
    softsign prelu rrelu logsigmoid tanhshrink hardshrink softshrink threshold clamp clip clamp_min clamp_max dropout
    dropout1d dropout2d dropout3d feature_dropout alpha_dropout feature_alpha_dropout abs neg negative exp expm1 log
    log1p log2 sqrt rsqrt pow square reciprocal erf sin cos floor ceil round nan_to_num contiguous clone detach to
    float double half bfloat16 type_as local_response_norm fake_quantize_per_tensor_affine __neg__ __abs__ __pow__
    __rdiv__ __rtruediv__""".split()
)
_SUMS = frozenset(
    """add sub subtract rsub mul multiply div divide true_divide maximum minimum fmax fmin __add__ __radd__ __iadd__
    __sub__ __rsub__ __isub__ __mul__ __rmul__ __imul__ __truediv__ __itruediv__""".split()
)
_MEANS = frozenset("mean max min amax amin median logsumexp norm vector_norm linalg_vector_norm std var prod".split())
_NORMS = frozenset("layer_norm rms_norm batch_norm group_norm instance_norm".split())
_OVER_DIM = frozenset("softmax log_softmax softmin gumbel_softmax normalize".split())
_MULTILINEAR = frozenset("einsum bmm mm mv baddbmm addmm tensordot bilinear".split())
_SPATIAL = ("avg_pool", "adaptive_avg_pool", "interpolate", "pad", "upsample")


class Linearised(TorchFunctionMode):
    """Replaces each call that an activation goes into; activations are the tensors that require a gradient.

    Everything else (parameters, buffers, constants) is computed as it is, so that a module which computes and keeps
    its own weights on the way (spectral_norm) is not disturbed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._one_channel: Any = WeakIdKeyDictionary()  # [N, C, ...] -> the same as [N, 1, ...]
        # Nothing is written in place, since the maps here share their memory: what stands for a tensor now, and of
        # which tensor it is a part.
        self._now: Any = WeakIdKeyDictionary()
        self._part_of: Any = WeakIdKeyDictionary()

    def now(self, value: Tensor) -> Tensor:
        """What `value` holds after all that was written into it."""
        while value in self._now:
            value = self._now[value]
        return value

    def lean(self, value: Tensor) -> Tensor:
        """One channel that depends on all that `value` depends on, position by position."""
        value = self.now(value)
        found: Tensor | None = self._one_channel.get(value)
        return value.mean(1, keepdim=True) if found is None else found

    def spread(self, lean: Tensor, channels: int) -> Tensor:
        """So many channels, all like this one."""
        out = lean.expand(lean.shape[0], channels, *lean.shape[2:])
        self._one_channel[out] = lean
        return out

    def _alias(self, value: Tensor) -> Tensor:
        """The same values as a tensor of its own: what is written into one is not seen in the other."""
        if value in self._one_channel:
            return self.spread(self._one_channel[value], value.shape[1])
        return value.view_as(value)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = tensors_in((args, kwargs))
        target: Any = given[0] if given else None
        if any(one in self._now for one in given):
            args, kwargs = mapped((args, kwargs), self.now)
            given = [self.now(one) for one in given]
        if not any(one.requires_grad for one in given):
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "__setitem__":
            self._write_part(target, args[1], args[2])
            return None
        if name == "copy_":
            return self._write(target, (args[0] * 0 + args[1].double()) if args[1].requires_grad else args[1])
        if name.startswith("__"):
            in_place = name.startswith("__i")
        elif in_place := name.endswith("_") and args != ():
            name = name.removesuffix("_")
            if name not in _POINTWISE | _SUMS:  # it is carried out as it is, so on a copy
                args = (args[0].to(torch.float64, copy=True).contiguous(), *args[1:])
        out = self._call(func, name, args, kwargs)
        if in_place and isinstance(out, Tensor):
            return self._write(target, out)
        if name == "__getitem__" and isinstance(out, Tensor):
            self._part_of[out] = (target, args[1])
        return out

    def _write(self, target: Any, value: Tensor) -> Tensor:
        self._now[self.now(target)] = self._alias(value)
        if target in self._part_of:
            whole, index = self._part_of[target]
            self._write_part(whole, index, value)
        out: Tensor = target
        return out

    def _write_part(self, target: Tensor, index: Any, value: Any) -> None:
        changed = self.now(target).to(torch.float64, copy=True)
        changed[index] = double(value)
        self._write(target, changed)

    def _call(self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name in ("cat", "concat", "concatenate"):
            return self._concatenate(func, args, kwargs)
        if name in _SUMS:
            return self._sum(*bound("input other", args, kwargs))
        if name in _MULTILINEAR:
            return multilinear(func, args, kwargs)
        if name in ("matmul", "__matmul__", "__rmatmul__"):
            return matmul(*bound("input other", args, kwargs)) if name != "__rmatmul__" else matmul(args[1], args[0])
        if name == "where" and len(args) == 3:
            return self._sum(args[1], args[2])
        first = args[0] if args else kwargs.get("input", kwargs.get("query"))
        if not isinstance(first, Tensor) or not first.requires_grad:
            return func(*double(args), **double(kwargs))
        if name in _POINTWISE:
            return self._alias(first)
        if name.startswith("conv") and first.ndim >= 3:
            return self._convolve(func, args, kwargs)
        if "max_pool" in name:
            return self._pool(name, args, kwargs)
        if name.startswith("max_unpool"):
            return self._unpool(args, kwargs)
        if name == "linear":
            _, weight = bound("input weight", args, kwargs)
            return first.mean(-1, keepdim=True).expand(*first.shape[:-1], weight.shape[0])
        if name in _NORMS:
            return self._normalise(func, name, args, kwargs)
        if name in _OVER_DIM:
            position = 2 if name == "normalize" else 1
            dim = kwargs.get("dim", args[position] if len(args) > position else (1 if name == "normalize" else -1))
            return self._mixed(first, (dim,) if isinstance(dim, int) else tuple(dim))
        if name in _MEANS:
            return self._mean(name, args, kwargs)
        if name == "scaled_dot_product_attention":
            return attention(*bound("query key value", args, kwargs))
        if name == "multi_head_attention_forward":
            return multi_head_attention(args, kwargs)
        if name.startswith(_SPATIAL) and first in self._one_channel:
            return self.spread(func(self.lean(first), *args[1:], **kwargs), first.shape[1])
        return func(*double(args), **double(kwargs))

    def _mixed(self, value: Tensor, dims: tuple[int, ...]) -> Tensor:
        """Every position, and beside it all those that it is normalised with along `dims`."""
        if value in self._one_channel:
            lean = self.lean(value)
            rest = [d % value.ndim for d in dims if d % value.ndim != 1]
            return self.spread(lean + lean.mean(rest, keepdim=True) if rest else lean, value.shape[1])
        return value + value.mean(dims, keepdim=True) if dims else self._alias(value)

    def _normalise(self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        value: Tensor = args[0] if args else kwargs["input"]
        if name in ("layer_norm", "rms_norm"):
            size = bound("input normalized_shape", args, kwargs)[1]
            return self._mixed(value, tuple(range(-len(size), 0)))
        if name == "batch_norm":
            # torch.batch_norm and the one of torch.nn.functional take their arguments in different orders.
            weights, statistics = "weight bias", "running_mean running_var"
            order = f"{statistics} {weights}" if func is F.batch_norm else f"{weights} {statistics}"
            named = dict(zip(f"input {order} training".split(), args, strict=False)) | kwargs
            is_fixed = not named.get("training", False) and named.get("running_mean") is not None
        elif name == "instance_norm":
            named = dict(zip("input mean var weight bias use_input_stats".split(), args, strict=False)) | kwargs
            is_fixed = not named.get("use_input_stats", True)
        else:
            is_fixed = False
        if is_fixed:
            return self._alias(value)
        if value not in self._one_channel:
            value = self.spread(self.lean(value), value.shape[1])
        return self._mixed(value, tuple(range(2, value.ndim)))

    def _mean(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Means, maxima, norms and the like, over some dims or over all."""
        value: Tensor = args[0] if args else kwargs["input"]
        rest = list(args[1:])
        if name in ("norm", "vector_norm", "linalg_vector_norm"):
            rest = rest[1:]  # the order of the norm
        dim = kwargs.get("dim", kwargs.get("axis", rest[0] if rest else None))
        if isinstance(dim, Tensor) or "other" in kwargs:
            return self._sum(value, dim if isinstance(dim, Tensor) else kwargs["other"])
        if dim is None or isinstance(dim, bool):  # std(unbiased)
            return value.mean()
        keep = bool(kwargs.get("keepdim", rest[-1] if len(rest) > 1 and isinstance(rest[-1], bool) else False))
        dims = [d % value.ndim for d in ((dim,) if isinstance(dim, int) else dim)] or list(range(value.ndim))
        if keep and value in self._one_channel and 1 not in dims:
            out = self.spread(self.lean(value).mean(dims, keepdim=True), value.shape[1])
        else:
            out = value.mean(dims, keepdim=keep)
        if name in ("max", "min", "median"):
            return getattr(torch.return_types, name)((out, torch.zeros_like(out, dtype=torch.long)))
        return out

    def _convolve(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        is_transposed = "transpose" in func.__name__
        rest = "output_padding groups dilation" if is_transposed else "dilation groups"
        given = dict(zip(f"input weight bias stride padding {rest}".split(), args, strict=False)) | kwargs
        value, weight = given.pop("input"), given.pop("weight")
        given.pop("bias", None)
        groups, dims = given.pop("groups", 1), weight.ndim - 2
        if value.ndim != weight.ndim:
            raise ValueError("a convolution without batch")
        if is_transposed:
            lean = func(self.lean(value), ones(value, weight.shape[2:]), None, **given)
            return self.spread(lean, weight.shape[1] * groups)
        kernel = tuple(weight.shape[2:])
        stride, dilation = (each(given.get(name, 1), dims) for name in ("stride", "dilation"))
        padding = given.get("padding", 0)
        if isinstance(padding, str):
            reach = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
            borders = [(r // 2, r - r // 2) for r in reach]
        else:
            borders = [(p, p) for p in each(padding, dims)]
        return self.spread(box(self.lean(value), kernel, stride, borders, dilation), weight.shape[0])

    def _pool(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        is_adaptive = name.startswith("adaptive")
        order = "output_size return_indices" if is_adaptive else "kernel_size stride padding dilation ceil_mode"
        named = dict(zip(f"input {order}".split(), args, strict=False)) | kwargs
        value: Tensor = named["input"]
        dims = int(name[name.index("pool") + 4])
        max_pool = getattr(F, f"{'adaptive_' * is_adaptive}max_pool{dims}d")
        options = {key: named[key] for key in order.split() if key in named and key != "return_indices"}
        # The true pooling says how many outputs there are (ceil_mode); the border is made to give just as many.
        target, indices = max_pool(self.lean(value).detach(), **options, return_indices=True)
        if is_adaptive:
            pooled: Tensor = getattr(F, f"adaptive_avg_pool{dims}d")(self.lean(value), named["output_size"])
        else:
            defaults = {"padding": 0, "dilation": 1}
            kernel = each(named["kernel_size"], dims)
            padding, dilation = (each(named.get(key, default), dims) for key, default in defaults.items())
            stride = each(named.get("stride") or kernel, dims)
            sizes = zip(target.shape[2:], value.shape[2:], kernel, stride, padding, dilation, strict=True)
            borders = [(p, max(0, (out - 1) * s + d * (k - 1) + 1 - size - p)) for out, size, k, s, p, d in sizes]
            pooled = box(self.lean(value), kernel, stride, borders, dilation)
            for axis, count in enumerate(target.shape):
                pooled = pooled.narrow(axis, 0, count)
        out = self.spread(pooled, value.shape[1])
        return (out, indices.expand(out.shape)) if name.endswith("_with_indices") else out

    def _unpool(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Which pixel of its window a unit goes to depends on the image: let it go to all of them."""
        order = "input indices kernel_size stride padding output_size".split()
        named = dict(zip(order, args, strict=False)) | kwargs
        value: Tensor = named["input"]
        dims = value.ndim - 2
        kernel, padding = (each(named.get(key) or 0, dims) for key in ("kernel_size", "padding"))
        stride = each(named.get("stride") or kernel, dims)
        transposed = getattr(F, f"conv_transpose{dims}d")
        out = transposed(self.lean(value), ones(value, kernel), None, stride, padding)
        wanted = list(named.get("output_size") or out.shape)[-dims:]
        missing = [want - have for want, have in zip(wanted, out.shape[2:], strict=True)]
        return self.spread(F.pad(out, [side for more in reversed(missing) for side in (0, more)]), value.shape[1])

    def _sum(self, a: Any, b: Any) -> Tensor:
        """Sums, differences, products and quotients all depend on both sides: let each be the sum."""
        for one, other in ((a, b), (b, a)):
            if isinstance(other, Tensor) and other.requires_grad:
                continue
            # A constant (a bias, a position embedding) adds nothing to what is seen.
            shape = np.broadcast_shapes(one.shape, getattr(other, "shape", ()))
            return self._alias(one) if shape == tuple(one.shape) else one.expand(shape)
        if a.ndim == b.ndim >= 3 and all(one in self._one_channel or one.shape[1] == 1 for one in (a, b)):
            return self.spread(self.lean(a) + self.lean(b), max(a.shape[1], b.shape[1]))
        out: Tensor = a + b
        return out

    def _concatenate(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        parts = args[0] if args else kwargs["tensors"]
        dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
        if dim in (1, 1 - parts[0].ndim) and parts[0].ndim >= 3 and all(p in self._one_channel for p in parts):
            return self.spread(torch.stack([self.lean(p) for p in parts]).sum(0), sum(p.shape[1] for p in parts))
        return func(*double(args), **kwargs)
