"""Lending a user's module to us for a while, and giving it back exactly as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def borrowed(module: nn.Module) -> Iterator[None]:
    """Within the block the module is in evaluation mode and its parameters need no gradient.

    Afterwards (also after an exception or Ctrl-C) training flags, `requires_grad` and buffers are as they were.
    Flags are set one by one, not through `module.eval()`: modules may override `train` with side effects.
    Nothing is replaced, so hooks, dtype and device never change in the first place.
    """
    flags = [(part, part.training) for part in module.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    buffers = [(part, dict(part._buffers), set(part._non_persistent_buffers_set)) for part in module.modules()]
    saved = {id(b): (b._version, b.detach().clone()) for _, held, _ in buffers for b in held.values() if b is not None}
    # The fused attention kernels skip the modules inside them, and then nothing could be tapped there.
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for part, _ in flags:
            part.training = False
        for parameter, _ in gradients:
            parameter.requires_grad_(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
        for part, training in flags:
            part.training = training
        for parameter, needed in gradients:
            parameter.requires_grad_(needed)
        for part, held, not_saved in buffers:
            _restore(part, held, saved)
            part._non_persistent_buffers_set.intersection_update(not_saved)


def _restore(part: nn.Module, held: dict[str, Tensor | None], saved: dict[int, tuple[int, Tensor]]) -> None:
    now = part._buffers
    if now.keys() != held.keys() or any(now[name] is not buffer for name, buffer in held.items()):
        now.clear()
        now.update(held)
    for buffer in held.values():
        if buffer is None:
            continue
        version, value = saved[id(buffer)]
        if buffer._version != version:
            with torch.no_grad():
                buffer.copy_(value)
