"""Making a network from its name and its settings, without running any code that came with them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from preimage.errors import RequestError, nearest
from preimage.sample.architectures.denoisers import CodeDenoiser, ImageDenoiser
from preimage.sample.architectures.discriminator import Discriminator
from preimage.sample.architectures.encoder import Classifier, Encoder
from preimage.sample.architectures.generator import Generator

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "generator": Generator,
    "discriminator": Discriminator,
    "code-denoiser": CodeDenoiser,
    "image-denoiser": ImageDenoiser,
    "encoder": Encoder,
    "classifier": Classifier,
}
"""By the name under which files keep them. Each has `settings`, plain JSON types, from which `build` makes its like."""

MOST_WEIGHTS = 500_000_000


def build(name: str, settings: Mapping[str, Any]) -> nn.Module:
    """The network `name` with these settings, in evaluation mode, its weights not yet loaded.

    Raises `RequestError` for a name or a setting that does not exist, one out of its range, and for more than
    `MOST_WEIGHTS` weights, before any memory is taken for them.
    """
    if name not in ARCHITECTURES:
        close = nearest(name, ARCHITECTURES) or list(ARCHITECTURES)
        raise RequestError(f"there is no architecture '{name}'; there are {', '.join(close)}")
    made = ARCHITECTURES[name]
    known = list(inspect.signature(made).parameters)
    for key in settings:
        if key not in known:
            raise RequestError(f"the architecture '{name}' has no setting '{key}'; it has {', '.join(known)}")
    missing = [key for key, one in inspect.signature(made).parameters.items() if one.default is one.empty]
    for key in missing:
        if key not in settings:
            raise RequestError(f"the architecture '{name}' needs the setting '{key}'")
    with torch.device("meta"):
        count = sum(weight.numel() for weight in made(**settings).parameters())
    if count > MOST_WEIGHTS:
        raise RequestError(f"the architecture '{name}' would have {count:,} weights; at most {MOST_WEIGHTS:,} are made")
    return made(**settings).eval()


def name_of(module: nn.Module) -> str:
    """The name under which `build` knows a module; raises `RequestError` for one that is not ours."""
    for name, made in ARCHITECTURES.items():
        if type(module) is made:
            return name
    raise RequestError(f"{type(module).__name__} is none of the architectures {', '.join(ARCHITECTURES)}")
