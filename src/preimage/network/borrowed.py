"""Lending a user's module to us for a while, and giving it back exactly as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from preimage.errors import RequestError


@contextmanager
def borrowed(module: nn.Module) -> Iterator[None]:
    """Within the block the module is in evaluation mode and its parameters need no gradient.

    Afterwards (also after an exception or Ctrl-C) training flags, `requires_grad`, parameters, buffers and other
    tensors of every part are as they were. Flags are set one by one, not through `module.eval()`: modules may
    override `train` with side effects. Nothing is replaced, so hooks, dtype and device never change.

    Raises `RequestError` for a module whose weights do not exist yet (lazy) or cannot be given back (made in
    inference mode).
    """
    weights = [*module.parameters(), *module.buffers()]
    if any(is_lazy(weight) for weight in weights):
        raise RequestError(f"{type(module).__name__} has lazy parts without weights; run it once on real data first")
    if any(weight.is_inference() for weight in weights):
        raise RequestError(f"{type(module).__name__} was made in torch.inference_mode(); make it outside of that")
    parts = [_Part.of(part) for part in module.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    # The fused attention kernels skip the modules inside them, and then nothing could be tapped there.
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for part in parts:
            part.module.training = False
        for parameter, _ in gradients:
            parameter.requires_grad_(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
        for part in parts:
            part.give_back()
        for parameter, needed in gradients:
            parameter.requires_grad_(needed)


@contextmanager
def precise(module: nn.Module) -> Iterator[None]:
    """Within the block the module's weights are in float64; to be used within `borrowed`, which knows what they were.

    No weight is written to: others take their places, and they return. What the module keeps of a run in float64 goes.
    """
    before: list[tuple[dict[str, Any], dict[str, Any]]] = []
    try:
        for part in module.modules():
            kinds: tuple[dict[str, Any], ...] = (part._parameters, part._buffers, vars(part))
            for held in kinds:
                before.append((held, dict(held)))
                for name, value in list(held.items()):
                    if isinstance(value, Tensor) and value.is_floating_point():
                        wide = value.detach().double()
                        if wide.ndim == 4:  # (so convolutions in float64 are up to a fifth faster)
                            wide = wide.contiguous(memory_format=torch.channels_last)
                        held[name] = nn.Parameter(wide, False) if isinstance(value, nn.Parameter) else wide
        yield
    finally:
        for held, was in before:
            for name in was.keys() | held.keys():
                now, then = held.get(name), was.get(name)
                if now is then or not (isinstance(now, Tensor) or isinstance(then, Tensor)):
                    continue
                if name in was:
                    held[name] = then
                else:
                    del held[name]


@dataclass
class _Part:
    """One part of the module and everything of it that a run may change."""

    module: nn.Module
    training: bool
    attributes: dict[str, Any]
    parameters: dict[str, Tensor | None]
    buffers: dict[str, Tensor | None]
    not_saved: set[str]
    values: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, part: nn.Module) -> _Part:
        held = dict(part._buffers)
        values = {name: buffer.detach().clone() for name, buffer in held.items() if buffer is not None}
        not_saved = set(part._non_persistent_buffers_set)
        return cls(part, part.training, dict(vars(part)), dict(part._parameters), held, not_saved, values)

    def give_back(self) -> None:
        part = self.module
        part.training = self.training
        # Hooks that compute a weight (spectral and weight norm, pruning) leave a new tensor on the part, and networks
        # keep activations there, with the whole graph behind them.
        now = vars(part)
        for name in now.keys() | self.attributes.keys():
            value, before = now.get(name), self.attributes.get(name)
            if value is before or not (isinstance(value, Tensor) or isinstance(before, Tensor)):
                continue
            if name in self.attributes:
                now[name] = before
            else:
                del now[name]
        _put_back(part._parameters, self.parameters)
        _put_back(part._buffers, self.buffers)
        part._non_persistent_buffers_set.intersection_update(self.not_saved)
        for name, value in self.values.items():
            buffer = self.buffers[name]
            if buffer is not None and not torch.equal(buffer, value):
                with torch.no_grad():
                    buffer.copy_(value)


def _put_back(now: dict[str, Any], before: dict[str, Any]) -> None:
    if not isinstance(now, dict):
        return  # a compiled module's tensors have fixed places
    if now.keys() != before.keys() or any(now[name] is not value for name, value in before.items()):
        now.clear()
        now.update(before)
