"""Which layers, units and classes of a network a report shows when nobody says."""

from __future__ import annotations

import torch

from preimage.network import Network, Tap

# Layers that hold no weights of their own, or only rescale what came before, are no places of their own to show.
_PASSING = (
    "BatchNorm GroupNorm LayerNorm InstanceNorm ReLU GELU SiLU Sigmoid Tanh Hardswish Dropout DropPath Identity "
    "Pool Pad Flatten Upsample Softmax"
).split()


def suggested_taps(network: Network, count: int = 6) -> list[Tap]:
    """At most `count` layers with positions, spread evenly from the first to the last.

    They are looked for among the outermost modules, and one level further in where those are fewer than `count`.
    """
    spatial = [
        tap
        for tap in network.taps()
        if len(tap.shape) >= 2
        and max(tap.shape[1:]) > 1
        and tap.receptive_field != (1, 1)  # preprocessing
        and not any(word in tap.kind for word in _PASSING)
    ]
    spatial = [tap for tap in spatial if not tap.name.startswith("output")] or spatial
    chosen: list[Tap] = []
    for depth in range(4):
        level = [tap for tap in spatial if tap.name.count(".") <= depth]
        # A container stands for its last part; where both are there, keep the inner one.
        chosen = [tap for tap in level if not any(other.name.startswith(tap.name + ".") for other in level)]
        if len(chosen) >= count:
            break
    if len(chosen) <= count:
        return chosen
    return [chosen[round(i * (len(chosen) - 1) / (count - 1))] for i in range(count)] if count > 1 else chosen[-1:]


def spread_channels(tap: Tap, count: int) -> list[int]:
    """`count` channels of a tap, evenly over all of them."""
    count = min(count, tap.channels)
    return [i * tap.channels // count for i in range(count)]


def drawn_classes(network: Network, count: int, seed: int) -> list[int]:
    """`count` different classes, drawn at random; none for a network without class labels."""
    if not network.labels:
        return []
    generator = torch.Generator().manual_seed(seed)
    return sorted(torch.randperm(len(network.labels), generator=generator)[:count].tolist())
