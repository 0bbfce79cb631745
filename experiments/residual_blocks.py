"""Residual blocks: the branch first, the identity path afterwards (paper 0, section 4.3; SPEC A12).

    python experiments/residual_blocks.py

"It is necessary to train the residual part firstly, then finetune the training image by adding the identity path." For
eight channels of three blocks of ResNet-50: the sum asked all the time, the branch all the time, and the branch for
the first half and the sum afterwards, equally many steps each; compared by the sum before the ReLU and by the branch of
the finished picture. Writes `results/residual_blocks.json` and `results/residual_blocks.jpg`.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

import networks
import preimage as pi
from figure import RESULTS, pictures_in_rows, write_rows
from preimage.objectives import Objective, channel, residual

BLOCKS = ("layer2.1", "layer3.2", "layer4.1")
CHANNELS = range(40, 48)
STEPS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    network = pi.Network(networks.resnet50(), name="resnet50")
    rows: list[dict[str, Any]] = []
    shown = []
    for block in BLOCKS:
        places = [pi.Place(block), pi.Place(f"{block}.bn3")]
        ways: dict[str, list[Objective]] = {
            "sum": [channel(block, i) for i in CHANNELS],
            "branch": [channel(f"{block}.bn3", i) for i in CHANNELS],
            "branch, then sum": [residual(block, i, f"{block}.bn3") for i in CHANNELS],
        }
        for way, asked in ways.items():
            made = pi.maximize(network, asked, recipe="fourier", steps=STEPS, window=128, batch_size=8)
            with torch.no_grad():
                values = network.run(made.images, places)
            own = torch.arange(len(CHANNELS))
            whole, branch = (values[place][own, list(CHANNELS)].mean((1, 2)) for place in places)
            row = {"block": block, "asked": way, "steps": STEPS}
            row |= {"sum": [round(float(v), 3) for v in whole], "branch": [round(float(v), 3) for v in branch]}
            rows.append(row)
            print(f"{block} {way:<18} sum {whole.mean():.3f}  branch {branch.mean():.3f}", flush=True)
            cells = zip(made.images[:6], CHANNELS, whole, branch, strict=False)
            shown.append((f"{block}\n{way}", [(im, f"{i}: sum {s:.2f}, branch {b:.2f}") for im, i, s, b in cells]))
        write_rows("residual_blocks", rows)
    pictures_in_rows(shown, RESULTS / "residual_blocks.jpg")


if __name__ == "__main__":
    main()
