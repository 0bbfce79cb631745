"""Which axis of an activation holds the channels: the second in most networks, the last in transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

_SECOND = ("conv", "batch_norm", "instance_norm", "group_norm", "pixel_shuffle")
_PERMUTATIONS = ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis")
_RESHAPES = ("flatten", "reshape", "view", "unflatten")
# These change the number of channels, but not where they are.
_RESIZES = ("cat", "concat", "concatenate", "glu", "__getitem__", "narrow", "chunk", "split", "tensor_split")


class ChannelAxes(TorchFunctionMode):
    """Follows the channel axis from call to call, since a shape alone does not tell it (Swin keeps [N, H, W, C])."""

    def __init__(self) -> None:
        super().__init__()
        self._known: Any = WeakIdKeyDictionary()

    def axis(self, value: Tensor) -> int:
        """The channel axis of `value`; unseen tensors of three axes are [N, tokens, C], all others [N, C, ...]."""
        found: int | None = self._known.get(value)
        if found is None or not 0 < found < value.ndim:
            return 2 if value.ndim == 3 else 1
        return found

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(one, Tensor) and one.ndim >= 3:
                axis = self._follow(getattr(func, "__name__", ""), args, kwargs or {}, one)
                if axis is not None:
                    self._known[one] = axis
        return out

    def _follow(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> int | None:
        if name.startswith(_SECOND):
            return 1
        if name == "linear":
            return out.ndim - 1
        source = next((a for a in _flat((args, kwargs)) if isinstance(a, Tensor) and a in self._known), None)
        if name in ("layer_norm", "rms_norm"):
            size = args[1] if len(args) > 1 else kwargs["normalized_shape"]
            # Over several axes, one of them holds the channels, and the norm does not say which.
            return out.ndim - 1 if len(size) == 1 else None if source is None else self._known[source]
        if source is None:
            return None
        axis: int = self._known[source]
        if name in _PERMUTATIONS:
            return _permuted(name, axis, source.ndim, [*args[1:], *kwargs.values()])
        if name in _RESHAPES:
            if axis == source.ndim - 1 and out.shape[-1] == source.shape[-1]:
                return out.ndim - 1
            return axis if out.shape[: axis + 1] == source.shape[: axis + 1] else None
        is_resized = name.startswith(_RESIZES) and [*out.shape[:axis], *out.shape[axis + 1 :]] == [
            *source.shape[:axis],
            *source.shape[axis + 1 :],
        ]
        kept = out.ndim == source.ndim and (out.shape[axis] == source.shape[axis] or is_resized)
        return axis if kept else None


def _permuted(name: str, axis: int, ndim: int, given: Sequence[Any]) -> int | None:
    """Where `axis` goes; given: the call's arguments after the tensor."""
    if name in ("movedim", "moveaxis"):
        moved, places = ([a % ndim for a in _flat([one])] for one in given)
        order = [a for a in range(ndim) if a not in moved]
        for place, one in sorted(zip(places, moved, strict=True)):
            order.insert(place, one)
        return order.index(axis)
    rest = [a % ndim for a in _flat(given) if isinstance(a, int)]
    if name == "permute":
        return rest.index(axis) if axis in rest else None
    return {rest[0]: rest[1], rest[1]: rest[0]}.get(axis, axis) if len(rest) == 2 else None


def _flat(args: Any) -> list[Any]:
    out: list[Any] = []
    for one in args.values() if isinstance(args, dict) else args:
        out.extend(_flat(one) if isinstance(one, (tuple, list, dict)) else [one])
    return out
