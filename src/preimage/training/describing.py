"""Networks as settings name them, so that training does not go on with another one."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import nn

from preimage.network import Network


def described(what: Network | nn.Module) -> dict[str, Any]:
    """A network by its name and its weights; a module by its class and its settings, because it learns."""
    if isinstance(what, Network):
        digest = hashlib.sha256()
        for name, weight in what.module.state_dict().items():
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().flatten().view(-1).double().numpy().tobytes())
        return {"name": what.name, "weights": digest.hexdigest()[:16]}
    return {"class": type(what).__name__, "settings": getattr(what, "settings", None)}
