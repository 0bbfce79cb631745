"""Which features of two networks correspond, by inverse feature visualization and by correlation? (paper 1, section 4)

    python experiments/network_comparison.py control            # a network and itself, plain and permuted
    python experiments/network_comparison.py trainings pairs    # two trainings, a class left out; two networks
    python experiments/network_comparison.py control --channels 2

Some channels of a first network are realised, and the pictures inverted in a second. That is checked against the
correlation of channels over photographs: does the recovered objective, or the residual of a channel's own gradient,
name the channel that correlates best, and more often than the mere response to the picture does?

The second training of `cifar10` is `experiments/weights/cifar10-seed1.safetensors`, made by

    python experiments/train_cifar10.py cifar10 --seed 1 --into DIR

and copied there; without the file that pair is left out, and the result says so. Writes
`results/network_comparison.json` and `.png`; pairs that are not asked for stay as they were. On a
machine of two cores that was busy with other things a channel of 64 pixels took 70 seconds, photographs included.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from safetensors.torch import load_file
from torch import Tensor

import networks
import preimage as pi
from cifar10 import pictures
from figure import RESULTS, write_rows
from photographs import balanced
from preimage.network.densenet import DenseNet
from preimage.recover.comparison import RANKINGS, Comparison
from preimage.recover.correspondence import compare

SECOND_TRAINING = Path(__file__).parent / "weights" / "cifar10-seed1.safetensors"
CHANNELS, PHOTOS = 24, 500
STRONG = 0.5
"""Channels whose best correlation is below have no counterpart that a ranking could miss."""
COLOURS = {"objective": "tab:blue", "residual": "tab:orange", "response": "tab:grey"}


@dataclass(frozen=True)
class Pair:
    """Two networks at two taps, and the side of the pictures."""

    name: str
    group: str
    first: Callable[[], pi.Network]
    second: Callable[[], pi.Network]
    at: tuple[str, str]
    size: int


def squeezenet() -> pi.Network:
    return pi.Network(networks.squeezenet(), name="squeezenet")


def resnet50() -> pi.Network:
    return pi.Network(networks.resnet50(), name="resnet50")


def second_training() -> pi.Network:
    module = DenseNet()
    module.load_state_dict(load_file(SECOND_TRAINING), strict=False)
    ours = pi.load("cifar10")
    return pi.Network(module.eval(), mean=ours.mean, std=ours.std, labels=ours.labels, name="cifar10, seed 1")


def order() -> Tensor:
    """Of the permuted network's channels at features.6: which channel of the original each is. Both halves, of 1 x 1
    and of 3 x 3 filters, keep their place."""
    generator = torch.Generator().manual_seed(1)
    return torch.cat([torch.randperm(128, generator=generator), 128 + torch.randperm(128, generator=generator)])


def permuted_squeezenet() -> pi.Network:
    """Its channels at features.6 in another order, each scaled by another factor, 0.1 to 10; what follows is spoilt."""
    module = networks.squeezenet()
    fire = module.features[6]
    factors = 10 ** (2 * torch.rand(256, generator=torch.Generator().manual_seed(2)) - 1)
    with torch.no_grad():
        for half, part in enumerate((fire.expand1x1, fire.expand3x3)):
            taken = order()[128 * half : 128 * (half + 1)] - 128 * half
            scale = factors[128 * half : 128 * (half + 1)]
            part.weight.copy_(part.weight[taken] * scale.view(-1, 1, 1, 1))
            part.bias.copy_(part.bias[taken] * scale)
    return pi.Network(module, name="squeezenet, permuted")


def cifar10() -> pi.Network:
    return pi.load("cifar10")


PAIRS = (
    Pair("itself", "control", squeezenet, squeezenet, ("features.6", "features.6"), 64),
    Pair("itself, permuted", "control", squeezenet, permuted_squeezenet, ("features.6", "features.6"), 64),
    Pair("two trainings", "trainings", cifar10, second_training, ("dense3", "dense3"), 32),
    Pair("two trainings, deeper down", "trainings", cifar10, second_training, ("transition1", "transition1"), 32),
    Pair(
        "a class left out",
        "trainings",
        cifar10,
        lambda: pi.load("cifar10-without-4"),
        ("dense3", "dense3"),
        32,
    ),
    Pair("two networks", "pairs", squeezenet, resnet50, ("features.6", "layer2.0"), 96),
    Pair("two networks, the other way", "pairs", resnet50, squeezenet, ("layer2.0", "features.6"), 96),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="+", choices=sorted({pair.group for pair in PAIRS}))
    parser.add_argument("--channels", type=int, default=CHANNELS)
    parser.add_argument("--photos", type=int, default=PHOTOS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "network_comparison.json"
    rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for pair in PAIRS:
        if pair.group not in asked.groups:
            continue
        if pair.second is second_training and not SECOND_TRAINING.exists():
            rows[pair.name] = {"left out": f"{SECOND_TRAINING.name} is missing; see the file's beginning"}
            print(f"{pair.name}: {rows[pair.name]['left out']}")
        else:
            rows[pair.name] = compared(pair, asked.channels, asked.photos)
        write_rows("network_comparison", rows)
    draw({name: row for name, row in rows.items() if "agreement" in row}, RESULTS / "network_comparison.png")


def compared(pair: Pair, count: int, photos: int) -> dict[str, Any]:
    """One pair as plain JSON types."""
    first, second = pair.first(), pair.second()
    channels = first.tap(pair.at[0]).channels
    chosen = sorted(torch.randperm(channels, generator=torch.Generator().manual_seed(0))[:count].tolist())
    began = time.perf_counter()
    found = compare(first, second, pair.at, features=chosen, photos=photographs(pair, photos), size=pair.size)
    seconds = time.perf_counter() - began
    print(f"\n{pair.name}\n{found}", flush=True)
    found.save(RESULTS.parents[1] / "out" / "network_comparison" / pair.name.replace(", ", "-").replace(" ", "-"))
    assert found.correlations is not None
    strong = found.correlations.nan_to_num(nan=-1).amax(1) >= STRONG
    row: dict[str, Any] = {
        "first": f"{first.name} {pair.at[0]}",
        "second": f"{second.name} {pair.at[1]}",
        "pixels": pair.size,
        "photographs": photos,
        "channels": len(found),
        "candidates": found.alive,
        "dead": [list(some) for some in found.dead],
        "says": found.says(),
        "agreement": [found.match_rate(by).as_dict() for by in RANKINGS],
        f"best correlation at least {STRONG}": {"channels": int(strong.sum()), **rates(found, strong)},
        "median degrees from the asked direction, in the first network": round(float(found.own_angles.median()), 1),
        "one objective stands out in the second": int(found.stands_out.sum()),
        "seconds a channel": round(seconds / len(found), 1),
        "table": found.table(),
    }
    if pair.group == "control":
        right = torch.tensor(found.channels)
        if pair.second is permuted_squeezenet:
            right = order().argsort()[right]
        row["is the right channel"] = {
            by: f"{int((found.ranked(by)[:, 0] == right).sum())} of {len(found)}" for by in RANKINGS
        }
        row["is the right channel"]["correlation"] = f"{int((found.best_correlated() == right).sum())} of {len(found)}"
    return row


def rates(found: Comparison, some: Tensor) -> dict[str, float | None]:
    """The share of some channels whose best-correlated channel each ranking has first."""
    best = found.best_correlated()
    return {
        by: round(float((found.ranked(by)[:, 0] == best)[some].double().mean()), 3) if some.any() else None
        for by in RANKINGS
    }


def photographs(pair: Pair, count: int) -> Sequence[Any]:
    """Test pictures of CIFAR-10 for its networks, Imagenette photographs for the others."""
    if pair.group == "trainings":
        return list(pictures("test")[0][:count].float() / 255)
    return [path for path, _ in balanced(count)]


def draw(rows: dict[str, Any], to: Path) -> None:
    """For each pair: how often each ranking names the best-correlated channel first, and among five."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 0.7 * len(rows) + 1.4), sharey=True, layout="constrained")
    for axis, quantity, title in zip(axes, ("first", "among_five"), ("first", "among the first five"), strict=True):
        for i, by in enumerate(RANKINGS):
            for y, row in enumerate(rows.values()):
                one = next(rate for rate in row["agreement"] if rate["by"] == by)[quantity]
                at = y + 0.25 * (i - 1)
                axis.barh(at, one["mean"], 0.23, color=COLOURS[by], label=f"by {by}" if y == 0 else None)
                if one["interval"] is not None:
                    axis.plot(one["interval"], [at, at], color="black", linewidth=1)
                if i == 0:
                    label = "by chance" if y == 0 else None
                    axis.plot([one["chance"]] * 2, [y - 0.4, y + 0.4], color="tab:red", linewidth=1, label=label)
        axis.set(xlim=(0, 1), xlabel=f"best-correlated channel is {title}")
    axes[0].set_yticks(range(len(rows)), [f"{name}\n({row['channels']} channels)" for name, row in rows.items()])
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8)
    figure.savefig(to, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
