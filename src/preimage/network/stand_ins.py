"""Linear functions that stand for those of a network, and how calls to those are read (for `linearised`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]

_LARGEST = 2**28
"""More numbers than this in one product do not fit into the memory of a small machine."""


def multilinear(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The sum over the activations, each with ones in the place of everything else that it is multiplied with."""

    def alone(kept: Tensor) -> Tensor:
        def change(value: Tensor) -> Tensor:
            return value if value is kept else torch.ones_like(value, dtype=torch.float64)

        changed_args, changed_kwargs = mapped((args, kwargs), change)
        out: Tensor = func(*changed_args, **changed_kwargs)
        # As large as what went in, to keep the numbers of a deep network finite.
        return out * float(kept.detach().abs().mean() / out.detach().abs().mean().clamp_min(1e-300))

    return torch.stack([alone(one) for one in tensors_in((args, kwargs)) if one.requires_grad]).sum(0)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """What `_multilinear` would give, without a product: attention multiplies large matrices."""
    if min(a.ndim, b.ndim) < 2:
        return multilinear(torch.matmul, (a, b), {})
    parts = [one.mean(dim, keepdim=True) for one, dim in ((a, -1), (b, -2)) if one.requires_grad]
    total = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    shape = *np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]
    if math.prod(shape) > _LARGEST:
        raise ValueError("too many tokens to compare each with each")
    return total.expand(shape)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Every token, and beside it all keys and values."""
    seen = key.mean((-2, -1), keepdim=True) + value.mean(-2, keepdim=True)
    if query.shape[:-2] != seen.shape[:-2]:  # heads that share their keys
        seen = seen.mean(-3, keepdim=True)
    return query.mean(-1, keepdim=True) + seen


def multi_head_attention(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    """Tokens first, with or without a batch behind them."""
    query, key, value = bound("query key value", args, kwargs)
    out = query + key.mean((0, -1), keepdim=True) + value.mean((0, -1), keepdim=True)
    if not kwargs.get("need_weights", True):
        return out, None
    asking, asked = (one.mean(-1).movedim(0, -1) for one in (query, key))
    weights = asking[..., :, None] + (asked + asked.mean(-1, keepdim=True))[..., None, :]
    if not kwargs.get("average_attn_weights", True):
        heads = args[4] if len(args) > 4 else kwargs["num_heads"]
        weights = weights.unsqueeze(-3).expand(*weights.shape[:-2], heads, *weights.shape[-2:])
    return out, weights


def box(
    lean: Tensor, kernel: Sequence[int], stride: Sequence[int], borders: Sequence[Pair], dilation: Sequence[int]
) -> Tensor:
    """Every output is the sum of what it sees, up to a factor that keeps the numbers of a deep network finite."""
    if max(kernel) == 1 and max(stride) == 1 and not any(map(any, borders)):
        return lean  # the same tensor: its field is measured once for a whole chain of 1 x 1 convolutions
    padded = F.pad(lean, [side for pair in reversed(borders) for side in pair])
    if max(dilation) == 1:
        pooled: Tensor = getattr(F, f"avg_pool{len(kernel)}d")(padded, kernel, stride) * math.prod(kernel) ** 0.5
        return pooled
    convolved: Tensor = getattr(F, f"conv{len(kernel)}d")(padded, ones(lean, kernel), None, stride, 0, dilation)
    return convolved


def ones(like: Tensor, kernel: Sequence[int]) -> Tensor:
    """A kernel of one channel, all positive, that keeps numbers finite as `box` does."""
    return torch.full((1, 1, *kernel), math.prod(kernel) ** -0.5).to(like)


def bound(names: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The named arguments, in this order, however they were given."""
    order = names.split()
    named = dict(zip(order, args, strict=False)) | kwargs
    return [named[name] for name in order]


def tensors_in(argument: Any) -> list[Tensor]:
    """Every tensor among the arguments of a call."""
    if isinstance(argument, Tensor):
        return [argument]
    if isinstance(argument, dict):
        argument = argument.values()
    elif not isinstance(argument, (tuple, list)):
        return []
    return [tensor for one in argument for tensor in tensors_in(one)]


def mapped(argument: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same arguments with every tensor changed."""
    if isinstance(argument, Tensor):
        return change(argument)
    if isinstance(argument, dict):
        return {key: mapped(value, change) for key, value in argument.items()}
    if type(argument) in (tuple, list):
        return type(argument)(mapped(one, change) for one in argument)
    return argument


def double(argument: Any) -> Any:
    """Constants of the network may be float32; the activations here are float64."""
    return mapped(argument, lambda value: value.double() if value.is_floating_point() else value)


def each(value: int | Sequence[int], dims: int) -> tuple[int, ...]:
    """One number for each dimension, as layers take them."""
    if isinstance(value, int):
        return (value,) * dims
    return tuple(value) * (dims if len(value) == 1 else 1)
