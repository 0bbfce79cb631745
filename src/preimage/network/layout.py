"""Which axis of an activation holds the channels: the second in most networks, the last in transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

_SECOND = ("conv", "batch_norm", "instance_norm", "group_norm", "pixel_shuffle")
_LAST = ("linear", "layer_norm", "rms_norm")


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
        if isinstance(out, Tensor) and out.ndim >= 3:
            axis = self._follow(getattr(func, "__name__", ""), args, out)
            if axis is not None:
                self._known[out] = axis
        return out

    def _follow(self, name: str, args: tuple[Any, ...], out: Tensor) -> int | None:
        if name.startswith(_SECOND):
            return 1
        if name in _LAST:
            return out.ndim - 1
        source = next((a for a in _flat(args) if isinstance(a, Tensor) and a in self._known), None)
        if source is None:
            return None
        axis: int = self._known[source]
        rest = [a % source.ndim for a in _flat(args[1:]) if isinstance(a, int) and not isinstance(a, bool)]
        if name == "permute":
            return rest.index(axis) if axis in rest else None
        if name in ("transpose", "swapaxes") and len(rest) == 2:
            return {rest[0]: rest[1], rest[1]: rest[0]}.get(axis, axis)
        if name in ("flatten", "reshape", "view", "unflatten"):
            if axis == source.ndim - 1 and out.shape[-1] == source.shape[-1]:
                return out.ndim - 1
            return axis if out.shape[: axis + 1] == source.shape[: axis + 1] else None
        kept = out.ndim == source.ndim and (out.shape[axis] == source.shape[axis] or name.startswith("cat"))
        return axis if kept else None


def _flat(args: Any) -> list[Any]:
    out: list[Any] = []
    for one in args:
        out.extend(_flat(one) if isinstance(one, (tuple, list)) else [one])
    return out
