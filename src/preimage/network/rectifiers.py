"""What stood before a ReLU, found while the network runs and without replacing any module.

Paper 0, section 4.3 (SPEC A11): a gradient that starts behind a ReLU is zero wherever the unit is off, so an
objective on a layer that ends in one has to be asked before it, also where a concatenation (Inception) or an
addition (residual block) follows. Every call is seen through `TorchFunctionMode`, be it a module, a function or
an in-place method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

# Calls that commute with taking the value before the ReLU: they only move or add values. Max pooling is among
# them because max and ReLU commute; average pooling is not.
TRANSPARENT = frozenset(
    """cat concat concatenate add add_ __add__ __radd__ __iadd__ max_pool1d max_pool2d max_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d max_pool1d_with_indices max_pool2d_with_indices
    max_pool3d_with_indices adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices
    adaptive_max_pool3d_with_indices dropout dropout1d dropout2d dropout3d feature_dropout
    alpha_dropout flatten view reshape permute transpose contiguous clone unsqueeze squeeze chunk split
    __getitem__ movedim moveaxis swapaxes channel_shuffle unflatten stack unbind expand expand_as repeat view_as
    """.split()
)
_ALWAYS_RECTIFY = frozenset({"relu", "relu_", "relu6"})
_RECTIFY_FROM_ZERO = {"hardtanh": 1, "hardtanh_": 1, "clamp": 1, "clamp_": 1, "clip": 1, "clip_": 1}
_RECTIFY_FROM_ZERO |= {"clamp_min": 1, "clamp_min_": 1, "threshold": 1, "threshold_": 1, "_threshold": 1}
_LOWER_BOUND = ("min", "min_val", "threshold")


def is_rectifier(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether this call cuts off everything below zero (ReLU, ReLU6, Hardtanh(0, b), clamp(min=0) ...)."""
    if name in _ALWAYS_RECTIFY:
        return True
    position = _RECTIFY_FROM_ZERO.get(name)
    if position is None:
        return False
    bound = args[position] if len(args) > position else next((kwargs[k] for k in _LOWER_BOUND if k in kwargs), None)
    if "threshold" in name and (args[2] if len(args) > 2 else kwargs.get("value")) != 0:
        return False  # what lies below is not cut off but set to another value
    return isinstance(bound, (int, float)) and bound == 0


class BeforeRectifiers(TorchFunctionMode):
    """Remembers, for every tensor that ends in a ReLU, what it would have been without that ReLU.

    `keep` names the ReLU calls worth remembering, numbered in the order in which they are made; None remembers
    all of them, which is how a first run finds out which ones matter (`origin`).
    """

    def __init__(self, keep: frozenset[int] | None = None):
        super().__init__()
        self._keep = keep
        self._calls = 0
        # tensor -> (version of the tensor, value before the ReLU, numbers of the ReLU calls it stems from)
        self._known: Any = WeakIdKeyDictionary()

    def before(self, value: Tensor) -> Tensor | None:
        """The value before the ReLU; None where `value` does not end in one."""
        found = self._find(value)
        return None if found is None else found[0]

    def origin(self, value: Tensor) -> frozenset[int]:
        """The numbers of the ReLU calls that `value` ends in."""
        found = self._find(value)
        return frozenset() if found is None else found[1]

    def _find(self, value: Tensor) -> tuple[Tensor, frozenset[int]] | None:
        entry = self._known.get(value)
        # An in-place change after we looked makes what we remember wrong; the version tells.
        return None if entry is None or entry[0] != _version(value) else entry[1:]

    def _remember(self, out: Any, before: Any, origin: frozenset[int]) -> None:
        if isinstance(out, Tensor):
            self._known[out] = (_version(out), before, origin)
        elif isinstance(out, (tuple, list)):
            for one, value in zip(out, before, strict=True):
                self._remember(one, value, origin)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if is_rectifier(name, args, kwargs):
            return self._rectify(func, args, kwargs)
        if name in TRANSPARENT:
            return self._pass_through(func, args, kwargs)
        return func(*args, **kwargs)

    def _rectify(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        number, self._calls = self._calls, self._calls + 1
        value = args[0] if args else kwargs.get("input")
        if not isinstance(value, Tensor) or (self._keep is not None and number not in self._keep):
            return func(*args, **kwargs)
        before = value.clone()  # this call, or a later one, may write into `value`
        out = func(*args, **kwargs)
        self._remember(out, before, frozenset({number}))
        return out

    def _pass_through(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        origin: frozenset[int] = frozenset()
        is_in_place = func.__name__ in ("add_", "__iadd__")

        def without(argument: Any, first: bool) -> Any:
            nonlocal origin
            if isinstance(argument, Tensor):
                found = self._find(argument)
                if found is not None:
                    origin |= found[1]
                value = argument if found is None else found[0]
                return value.clone() if first and is_in_place else value
            if isinstance(argument, (tuple, list)) and any(isinstance(one, Tensor) for one in argument):
                return type(argument)([without(one, False) for one in argument])
            return argument

        if not any(self._find(one) for argument in (*args, *kwargs.values()) for one in _tensors(argument)):
            return func(*args, **kwargs)
        replaced = [without(argument, index == 0) for index, argument in enumerate(args)]
        before = func(*replaced, **{key: without(argument, False) for key, argument in kwargs.items()})
        out = func(*args, **kwargs)
        if out is not None:
            self._remember(out, before, origin)
        return out


def _version(value: Tensor) -> int:
    """How often a tensor was written to; tensors of inference mode do not count, but nobody climbs through them."""
    return 0 if value.is_inference() else value._version


def _tensors(argument: Any) -> list[Tensor]:
    if isinstance(argument, Tensor):
        return [argument]
    return [one for one in argument if isinstance(one, Tensor)] if isinstance(argument, (tuple, list)) else []
