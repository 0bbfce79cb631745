"""Paper 1's experiments E1 to E25 (SPEC I.2): is the objective of an image recovered, and what spoils it?

python experiments/inverse_feature_visualization.py E1            # makes what is missing, then says
python experiments/inverse_feature_visualization.py E1 E2 E3
python experiments/inverse_feature_visualization.py --all
"""

from __future__ import annotations

import argparse

import torch

from inverse_runs import Run, made

GN = Run("resnet50", "layer2.0", 512, "max-mean", 2, "rgb", 64, 24, 24)
RUNS = {"E1": [GN]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("which", nargs="*")
    parser.add_argument("--parts", type=int)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.which:
        for run in RUNS[name]:
            made(run, asked.parts)


if __name__ == "__main__":
    main()
