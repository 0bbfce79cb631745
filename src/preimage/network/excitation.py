"""The backward rules of excitation backprop (Zhang et al., ECCV 2016; SPEC M.5-13).

Mass goes down from a unit to those that excite it, each in proportion to its own part of the excitation. For a linear
layer y = f(x, w), whose bias is left out,

    p_in = x * f'(w+, p_out / (f(x, w+) + stabilizer))

where f' is the layer's ordinary way back. What is a linear layer: every convolution, also transposed, `linear`, a
product with a constant matrix, average pooling, means and sums over positions, interpolation. What the paper, whose
activations are never negative and whose networks are plain, leaves open is settled here as follows.

- Activations below zero (linear bottlenecks): they excite through negative weights. x+ goes with w+ and x- with w-,
  so that mass stays positive; zennit's ZPlus does the same.
- BatchNorm behind a linear layer is part of it, and so are constant factors and summands: what counts is the sign of
  the weights as they are in the end (zennit merges them into the module for that, we only into the rule).
- What gives each unit to one unit only hands its mass on as it is: ReLUs, dropout, constant factors and summands and
  BatchNorm that stand elsewhere, local response normalisation.
- A sum of two activations (a residual) is shared as they share it: a / (a + b), b / (a + b), as TorchRay and zennit
  do. Where they have opposite signs one of these is negative and the other above one. With "positive" only what has
  the sign of the sum gets a share, and mass stays positive.
- What moves and selects (max pooling, concatenation, flatten, padding ...) goes back as always.
- Nothing else has a rule: a call that is not known here is refused by name.

Every rule is linear in p: the mass of a difference of scores is the difference of their masses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakIdKeyDictionary

from preimage.errors import RequestError
from preimage.network.backward_rules import BackwardRules, Call, input_and_rest
from preimage.network.rectifiers import TRANSPARENT, is_rectifier
from preimage.network.stand_ins import tensors_in

Additions = Literal["signed", "positive"]

TINY = 1e-20

_SUMS = frozenset("add __add__ __radd__".split())
_DIFFERENCES = frozenset("sub subtract __sub__".split())
_PRODUCTS = frozenset("mul multiply __mul__ __rmul__".split())
_QUOTIENTS = frozenset("div divide true_divide __truediv__".split())
_MATRIX_PRODUCTS = frozenset("matmul mm bmm __matmul__ __rmatmul__".split())
_DROPOUTS = frozenset("dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout".split())
_POOLS = frozenset("mean sum avg_pool1d avg_pool2d avg_pool3d".split())
_POOLS |= frozenset("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d interpolate upsample".split())
_INTERPOLATIONS = frozenset("nearest nearest-exact linear bilinear trilinear area".split())
# Selecting, moving, copying: ones and zeros, of which autograd knows where they are.
_MOVES = (TRANSPARENT - _SUMS - _DROPOUTS - {"add_", "__iadd__"}) | frozenset(
    """__get__ __setitem__ __iter__ copy pad _pad constant_pad_nd zero_pad2d to float double half bfloat16 type type_as
    cpu cuda pixel_shuffle pixel_unshuffle unfold index_select narrow select roll flip rot90 t T tile
    repeat_interleave ravel broadcast_to hstack vstack dstack column_stack swapdims max amax maximum fmax fill
    as_strided tensor_split hsplit vsplit dsplit split_with_sizes requires_grad retain_grad detach""".split()
)


@dataclass(frozen=True)
class _Layer:
    """A linear layer: what goes in, and how it is applied, without bias, with these or other weights.

    weight: None for a layer whose weights are fixed and positive. weight_axis, out_axis: where the output's channels
        are in the weight and in the output; None where a factor for each channel cannot be merged into the weight.
    """

    value: Tensor
    apply: Callable[..., Tensor]
    weight: Tensor | None = None
    weight_axis: int | None = None
    out_axis: int = 1

    def handed_down(self, mass: Tensor, stabilizer: float, *, negated: bool = False) -> Tensor:
        """The mass of the inputs, given that of the outputs; negated: as if all weights had the other sign."""
        value = self.value.detach()
        signs: list[tuple[Tensor, Tensor | None]] = [(value.clamp(min=0), None)]
        if self.weight is not None:
            weight = -self.weight if negated else self.weight
            signs = [(value.clamp(min=0), weight.clamp(min=0))]
            if bool((value < 0).any()):
                signs.append((value.clamp(max=0), weight.clamp(max=0)))
        with torch.enable_grad():
            inputs = [part.requires_grad_() for part, _ in signs]
            outputs = [
                self.apply(part) if weight is None else self.apply(part, weight)
                for part, (_, weight) in zip(inputs, signs, strict=True)
            ]
            excitation = torch.stack(outputs).sum(0) if len(outputs) > 1 else outputs[0]
        total = excitation.detach()
        # Where nothing excites, there is nobody to hand the mass to.
        relative = torch.where(total > 0, mass / (total + stabilizer), torch.zeros_like(mass))
        gradients = torch.autograd.grad(excitation, inputs, relative)
        parts = [(part * gradient).detach() for part, gradient in zip(inputs, gradients, strict=True)]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def scaled(self, factor: Tensor | float, shape: torch.Size) -> _Layer | None:
        """The same layer with its outputs, of this shape, times constants; None where that is no longer such a layer.

        factor: broadcasts against the outputs.
        """
        if self.weight is None or self.weight_axis is None:
            return None
        if not isinstance(factor, Tensor) or factor.numel() == 1:
            return replace(self, weight=self.weight * factor)
        axis = self.out_axis % len(shape)
        per_axis = (1,) * (len(shape) - factor.ndim) + tuple(factor.shape)
        if len(per_axis) != len(shape) or any(size != 1 for i, size in enumerate(per_axis) if i != axis):
            return None
        view = [1] * self.weight.ndim
        view[self.weight_axis] = -1
        return replace(self, weight=self.weight * factor.reshape(view))


class Excitation(BackwardRules):
    """Gives every call on the way from `start` the rule of excitation backprop: gradients are masses, within the block.

    stabilizer: what is added to each excitation before something is divided by it. additions: see this module.

    Raises `RequestError`, while the network runs, at a call that has no rule.
    """

    def __init__(self, *start: Tensor, stabilizer: float = TINY, additions: Additions = "signed"):
        super().__init__(*start)
        self._stabilizer, self._additions = stabilizer, additions
        # What comes straight out of a linear layer: (version of the tensor, the layer).
        self._straight: Any = WeakIdKeyDictionary()

    def rule(self, func: Call, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        activations = [one for one in tensors_in((args, kwargs)) if self.is_activation(one)]
        if is_rectifier(getattr(func, "__name__", ""), args, kwargs) or name == "local_response_norm":
            return self._handed_on(func, args, kwargs)
        if name in _DROPOUTS:
            is_on = kwargs.get("training", args[2] if len(args) > 2 else True)
            return self._handed_on(func, args, kwargs) if is_on else func(*args, **kwargs)
        if name in _SUMS | _DIFFERENCES and len(args) == 2 and kwargs.get("alpha", 1) == 1:
            return self._sum(func, name, args, kwargs, activations)
        if len(activations) == 1:
            if name in _PRODUCTS | _QUOTIENTS | {"neg", "negative", "__neg__"}:
                return self._times(func, name, args, kwargs, activations[0])
            layer = self._layer(func, name, args, kwargs, activations[0])
            if layer is not None:
                return self._through(layer, func, args, kwargs)
            if name == "batch_norm":
                return self._normalised(func, args, kwargs)
        out = func(*args, **kwargs)
        # A size, a mask, an index: not on the way any more.
        if name not in _MOVES and any(one.requires_grad for one in tensors_in(out)):
            raise self._no_rule(name, activations)
        return out

    def _no_rule(self, name: str, activations: list[Tensor]) -> RequestError:
        bare = name.strip("_")
        verb = {"mul": "a product", "truediv": "a quotient", "div": "a quotient", "sub": "a difference"}.get(bare)
        what = f"{verb} of two activations" if verb and len(activations) > 1 else f"'{bare}'"
        return RequestError(
            f"excitation backprop has no rule for {what}, which lies between its map and what is asked; take a map "
            "behind it with at=, if there is one, or another method"
        )

    def _layer(
        self, func: Call, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], value: Tensor
    ) -> _Layer | None:
        """A call as a linear layer; None if it is none."""
        if (name.startswith("conv") and name[-2:] in ("1d", "2d", "3d")) or name == "linear":
            named = dict(zip(("input", "weight", "bias"), args[:3], strict=False)) | kwargs
            rest = {key: one for key, one in kwargs.items() if key not in ("input", "weight", "bias")}
            if named["input"] is not value:
                return None
            weight: Tensor = named["weight"]
            is_transposed = "transpose" in name
            groups = named.get("groups", args[6] if len(args) > 6 else 1)
            axis = (1 if groups == 1 else None) if is_transposed else 0
            return _Layer(
                value,
                lambda one, weight: func(one, weight, None, *args[3:], **rest),
                weight,
                axis,
                -1 if name == "linear" else 1,
            )
        if name in _MATRIX_PRODUCTS and len(args) == 2 and not kwargs:
            first = args[0] is value
            apply = (lambda one, weight: func(one, weight)) if first else (lambda one, weight: func(weight, one))
            return _Layer(value, apply, args[1] if first else args[0])
        if name in _POOLS:
            given, rest_args, rest = input_and_rest(args, kwargs)
            if "interpolate" in name or name == "upsample":
                mode = rest.get("mode", rest_args[2] if len(rest_args) > 2 else "nearest")
                if mode not in _INTERPOLATIONS:
                    raise self._no_rule(f"{name} ({mode})", [])
            return _Layer(given, lambda one: func(one, *rest_args, **rest))
        return None

    def _through(self, layer: _Layer, func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call's own values, with the rule of a linear layer behind them."""
        out = _Excited.apply(layer.value, layer, lambda: func(*args, **kwargs), self._stabilizer)  # type: ignore[no-untyped-call]
        self._straight[out] = (out._version, layer)
        return out

    def _before(self, value: Tensor) -> _Layer | None:
        """The linear layer that a tensor comes straight out of."""
        version, layer = self._straight.get(value, (None, None))
        return layer if version == value._version else None

    def _normalised(self, func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # torch.batch_norm and the one of torch.nn.functional take their arguments in different orders.
        weights, statistics = "weight bias", "running_mean running_var"
        rest = "training momentum eps"
        order = f"{statistics} {weights}" if func is F.batch_norm else f"{weights} {statistics}"
        named = dict(zip(f"input {order} {rest}".split(), args, strict=False)) | kwargs
        if named.get("training", False) or named.get("running_mean") is None:
            raise self._no_rule("batch_norm (with the statistics of the batch)", [])
        value: Tensor = named["input"]
        before = self._before(value)
        if before is not None and before.out_axis % value.ndim == 1:
            factor = (named["running_var"] + named.get("eps", 1e-5)).rsqrt()
            if named.get("weight") is not None:
                factor = factor * named["weight"]
            merged = before.scaled(factor.reshape(-1, *[1] * (value.ndim - 2)), value.shape)
            if merged is not None:
                return self._through(merged, func, args, kwargs)
        return self._handed_on(func, args, kwargs)

    def _merged(
        self, layer: _Layer | None, value: Tensor, func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A call with a constant, and the linear layer that it makes of the one before, if it does."""
        if layer is None:
            return self._handed_on(func, args, kwargs)
        if not _is_in_place(func):
            return self._through(layer, func, args, kwargs)
        # Nobody sees any more what the layer itself gave; it can as well be the merged one from the beginning.
        node: Any = value.grad_fn
        node.layer = layer
        out = self._handed_on(func, args, kwargs)
        self._straight[out] = (out._version, layer)
        return out

    def _times(self, func: Call, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], value: Tensor) -> Any:
        others = [one for one in (*args, *kwargs.values()) if one is not value]
        if name in _QUOTIENTS and (args[0] is not value or "rounding_mode" in kwargs):
            raise self._no_rule(name, [])
        factor = others[0] if others else -1.0
        before = self._before(value)
        merged = None
        if before is not None and isinstance(factor, (int, float, Tensor)):
            merged = before.scaled(1 / factor if name in _QUOTIENTS else factor, value.shape)
        return self._merged(merged, value, func, args, kwargs)

    def _sum(
        self, func: Call, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], activations: list[Tensor]
    ) -> Any:
        a, b = args
        if len(activations) > 1:
            if name in _DIFFERENCES:
                raise self._no_rule("sub", activations)
            return _Shared.apply(a, b, lambda: func(a, b, **kwargs), self._shares(a, b))  # type: ignore[no-untyped-call]
        value = a if self.is_activation(a) else b
        if value is b and name in _DIFFERENCES:
            raise self._no_rule("a constant minus an activation", [])
        return self._merged(self._before(value), value, func, args, kwargs)

    def _shares(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        a, b = a.detach(), b.detach()
        if self._additions == "positive":
            sign = torch.sign(a + b)
            a, b = (a * sign).clamp(min=0), (b * sign).clamp(min=0)
        total = a + b
        total = total + torch.where(total < 0, -self._stabilizer, self._stabilizer).to(total)
        total = torch.where(total == 0, torch.ones_like(total), total)
        return a / total, b / total

    def _handed_on(self, func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that gives each unit to one unit only: its mass is that one's."""
        value = next(one for one in tensors_in((args, kwargs)) if one.requires_grad)
        return _HandedOn.apply(value, lambda: func(*args, **kwargs))  # type: ignore[no-untyped-call]


def _is_in_place(func: Call) -> bool:
    name: str = getattr(func, "__name__", "")
    return name.startswith("__i") or (name.endswith("_") and not name.startswith("__"))


class _Excited(Function):
    """A linear layer under the rule; `contrastive` on its node takes off what the negated weights would give."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, layer: _Layer, call: Callable[[], Tensor], stabilizer: float) -> Tensor:
        ctx.layer, ctx.stabilizer, ctx.version, ctx.contrastive = layer, stabilizer, value._version, False
        out = call()
        # A pooling that has nothing to do gives what it is given.
        return out.clone() if out.data_ptr() == value.data_ptr() else out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mass: Tensor) -> Any:
        if ctx.layer.value._version != ctx.version:
            raise RequestError(
                "the network writes into what one of its linear layers was given, so excitation backprop does not know "
                "that any more; take a map behind that with at=, or another method"
            )
        down = ctx.layer.handed_down(mass, ctx.stabilizer)
        if ctx.contrastive:
            down = down - ctx.layer.handed_down(mass, ctx.stabilizer, negated=True)
        return down, None, None, None


class _HandedOn(Function):
    """Any call, with the identity as its way back."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, call: Callable[[], Tensor]) -> Tensor:
        ctx.shape = value.shape
        out = call()
        if out is value:
            ctx.mark_dirty(value)
        elif out.data_ptr() == value.data_ptr():
            out = out.clone()
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mass: Tensor) -> Any:
        return mass.sum_to_size(ctx.shape), None


class _Shared(Function):
    """A sum of two activations; each gets its share of the mass."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, call: Callable[[], Tensor], shares: tuple[Tensor, Tensor]) -> Tensor:
        ctx.shares, ctx.shapes = shares, (a.shape, b.shape)
        out = call()
        if out is a:
            ctx.mark_dirty(a)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mass: Tensor) -> Any:
        own = [(mass * share).sum_to_size(shape) for share, shape in zip(ctx.shares, ctx.shapes, strict=True)]
        return own[0], own[1], None, None


def contrast_last_layers(*outputs: Tensor) -> None:
    """Have the last layers with weights before `outputs` hand down the contrast, their mass less that of -w.

    Raises `RequestError` if there is none.
    """
    found = list(_last_layers([one.grad_fn for one in outputs]))
    if not found:
        raise RequestError(
            "contrastive excitation backprop negates the weights of the last linear layer before what is asked, and "
            "there is none behind its map"
        )
    for node in found:
        node.contrastive = True


def _last_layers(nodes: list[Any]) -> Iterator[Any]:
    seen: set[Any] = set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        layer = getattr(node, "layer", None)
        if isinstance(layer, _Layer) and layer.weight is not None:
            yield node
        else:
            nodes.extend(following for following, _ in node.next_functions)
