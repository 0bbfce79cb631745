"""Other ways back through a network than the gradient, call by call and without touching a module.

Guided backprop, the deconvnet and excitation backprop are the ordinary backward pass with another rule at some calls.
Captum and zennit put hooks on `nn.ReLU` and other modules, so they miss `F.relu`, `x.relu_()` and a plain `a + b`,
spoil modules that are called twice, need in-place ones rewritten, and change the user's network while they run. Here
every call is seen through `TorchFunctionMode`, be it made by a module, a function or a method, and gets its rule there;
nothing has to be put back. What is not understood is said, never passed over: a call without a rule, and a tensor that
came about where nobody could see it (`_unseen`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from preimage.errors import RequestError
from preimage.network.rectifiers import is_rectifier
from preimage.network.stand_ins import tensors_in

Call = Callable[..., Any]

# What a network may have in the place of ReLUs, or beside them, and what can stand for one.
_OTHER_ACTIVATIONS = frozenset(
    """gelu silu mish hardswish hardsigmoid sigmoid logsigmoid tanh hardtanh softplus softsign leaky_relu prelu rrelu
    elu selu celu glu softmax log_softmax softmin threshold clamp clip clamp_min clamp_max hardshrink softshrink
    tanhshrink maximum fmax where abs scaled_dot_product_attention multi_head_attention_forward""".split()
)


def plain_name(func: Call) -> str:
    """A function's name, the same for its in-place forms: `add` of `torch.add`, `x.add_` and `x += y`."""
    name: str = getattr(func, "__name__", "")
    if name.startswith("__i") and name.endswith("__") and name != "__iter__":
        name = name.replace("__i", "__", 1)
    if name.startswith("__"):
        return name
    return name.removesuffix("_")


class BackwardRules(TorchFunctionMode):
    """Gives calls on the way from some activations on another backward rule (`rule`), while the block lasts.

    start: the activations from which one goes; all that is computed from them is known as an activation, in contrast to
        weights and constants, whether or not it needs a gradient.
    """

    def __init__(self, *start: Tensor):
        super().__init__()
        # Each with whether it needed a gradient when it was last seen.
        self._known: Any = WeakIdKeyDictionary()
        self._note(start)

    @abstractmethod
    def rule(self, func: Call, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out a call on activations that need a gradient, so that its backward pass is what is wanted."""

    def is_activation(self, value: Any) -> bool:
        """Whether this was computed from the start, rather than being a weight or a number."""
        return isinstance(value, Tensor) and value in self._known

    def __torch_function__(
        self, func: Call, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = tensors_in((args, kwargs))
        # A weight that the network makes on the way may ask for a gradient of its own.
        on_the_way = [one for one in given if one.requires_grad and not (one.is_leaf and one not in self._known)]
        if not on_the_way:
            out = func(*args, **kwargs)
            if any(one in self._known for one in given):
                self._note(out)
            return out
        for one in on_the_way:
            if not self._known.get(one, False):
                raise self._unseen(one)
        name = plain_name(func)
        if name == "__iter__":
            parts = list(func(*args, **kwargs))
            self._note(parts)
            return iter(parts)
        out = self.rule(func, name, args, kwargs)
        self._note(out)
        if args and isinstance(args[0], Tensor) and (out is args[0] or name == "__setitem__"):
            self._note([args[0]] if args[0]._base is None else [args[0], args[0]._base])
        self._note(kwargs.get("out"))
        return out

    def _note(self, out: Any) -> None:
        for one in tensors_in(out):
            self._known[one] = one.requires_grad

    def _unseen(self, value: Tensor) -> RequestError:
        return RequestError(
            f"the network computes something {list(value.shape)} out of sight (a compiled or scripted part, or an "
            "autograd.Function of its own), where no other backward rule can be given; use the module as it was before "
            "compiling it"
        )


class RectifierRule(BackwardRules):
    """Another backward rule at every ReLU-like call (see `is_rectifier`).

    "guided": Springenberg et al. 2015, the gradient where both the unit and what comes back are positive (and where a
    bounded one, such as ReLU6, is not at its bound). "deconvnet": Zeiler & Fergus 2014, what comes back where that is
    positive, wherever the unit is.

    changed: how many calls got the rule. others: names of other activation functions on the way, which kept theirs.
    """

    def __init__(self, kind: Literal["guided", "deconvnet"], *start: Tensor):
        super().__init__(*start)
        self._is_guided = kind == "guided"
        self.changed = 0
        self.others: list[str] = []

    def rule(self, func: Call, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if is_rectifier(getattr(func, "__name__", ""), args, kwargs):
            self.changed += 1
            value, rest, named = input_and_rest(args, kwargs)
            upper = upper_bound(name, rest, named) if self._is_guided else None
            return _Rectified.apply(value, lambda one: func(one, *rest, **named), self._is_guided, upper)  # type: ignore[no-untyped-call]
        two_tensors = name in ("max", "min") and sum(isinstance(one, Tensor) for one in (*args, *kwargs.values())) > 1
        if (name in _OTHER_ACTIVATIONS or two_tensors) and name not in self.others:
            self.others.append(name)
        return func(*args, **kwargs)


class _Rectified(Function):
    """A ReLU that hands back only what is positive; what it keeps of its input is one bit a unit."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, call: Call, is_guided: bool, upper: float | None) -> Any:
        if is_guided:
            ctx.passes = value > 0 if upper is None else (value > 0) & (value < upper)
        out = call(value)
        ctx.is_guided = is_guided
        if out is value:
            ctx.mark_dirty(value)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        back = gradient.clamp(min=0)
        return (back * ctx.passes if ctx.is_guided else back), None, None, None


def upper_bound(name: str, rest: tuple[Any, ...], named: dict[str, Any]) -> float | None:
    """Where a ReLU-like call (arguments behind its input) cuts off: 6 for ReLU6; None where it does not."""
    if name == "relu6":
        return 6.0
    if name in ("hardtanh", "clamp", "clip"):
        default = 1.0 if name == "hardtanh" else None
        bound = rest[1] if len(rest) > 1 else next((named[k] for k in ("max_val", "max") if k in named), default)
        return None if bound is None else float(bound)
    return None


def input_and_rest(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
    """A call's input, and its other arguments."""
    if args:
        return args[0], args[1:], kwargs
    return kwargs["input"], (), {key: value for key, value in kwargs.items() if key != "input"}
