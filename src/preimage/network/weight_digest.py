"""What tells a network's weights from others'."""

from __future__ import annotations

import hashlib

import torch

from preimage.network.opened import Network


def weights_of(network: Network) -> str:
    """The same for the same weights and buffers by the same names, wherever they are, in 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in network.module.state_dict().items():
        digest.update(f"{name} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
