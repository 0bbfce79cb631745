"""Excitation backprop as zennit computes it."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch
from torch import Tensor, nn

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def zennit(part: str) -> Any:
    """A module of zennit, which imports torchvision, which (a CUDA build) lacks two operators beside a CPU torch."""
    if "torchvision" not in sys.modules and torch.version.cuda is None:
        _LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module(f"zennit.{part}")


def zennit_mass(
    module: nn.Module, layer: nn.Module, images: Tensor, seed: Tensor, canonizers: list[Any], stabilizer: float = 1e-6
) -> Tensor:
    """The mass at what `layer` gives (no linear layer itself), if that of the module's output is `seed`.

    What a BatchNorm adds to the variance is made part of it: the one that zennit leaves behind after merging still has
    it, and divides by sqrt(1 + eps).
    """
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_var is not None:
            part.running_var += part.eps
            part.eps = 1e-30
    seen: list[Tensor] = []
    composite = zennit("composites").ExcitationBackprop(stabilizer, zero_params="bias", canonizers=canonizers)
    with composite.context(module) as changed:
        handle = layer.register_forward_hook(lambda _, __, output: seen.append(output))
        out = changed(images.clone().requires_grad_())
        handle.remove()
        return torch.autograd.grad(out, seen[-1], seed)[0].detach()
