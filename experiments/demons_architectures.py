"""Paper 2, figure 2 (SPEC S-F2): one class under four schemes, with and without octaves and jitter.

    python experiments/demons_architectures.py

The class daisy on the networks that are here: each with the setting that was published for the architecture closest to
it (SqueezeNet: VGG-19's, since both are plain; ResNet-50: its own; EfficientNet-Lite0: DenseNet-121's, both being deep
and narrow). Writes `results/demons_architectures.jpg` and `results/demons_architectures.json`.
"""

from __future__ import annotations

import time

import torch

import networks
import preimage as pi
from figure import RESULTS, pictures_in_rows, write_rows

DAISY = "class:985"
ASKED = {
    "squeezenet": (lambda: pi.Network(networks.squeezenet(), name="squeezenet"), "vgg19"),
    "resnet50": (lambda: pi.Network(networks.resnet50(), name="resnet50"), "resnet50"),
    "bundled": (pi.load, "densenet121"),
}
SCHEMES = ("tv", "fluid", "elastic", "fluid-elastic")


def main() -> None:
    rows, table = [], []
    for name, (make, architecture) in ASKED.items():
        network = make()
        for octaves in (False, True):
            cells = []
            for scheme in SCHEMES:
                recipe = f"{scheme}@{architecture}{'-octaves' if octaves else ''}"
                began = time.monotonic()
                made = pi.maximize(network, DAISY, recipe=recipe, progress=False)
                cells.append((made.images[0], f"{scheme}\n{float(made.scores[0]):.4g}"))
                table.append({"network": name, "recipe": recipe, "score": float(made.scores[0])})
                print(table[-1], round(time.monotonic() - began), "s", flush=True)
            rows.append((f"{name}\n{'octaves, jitter' if octaves else 'neither'}", cells))
    pictures_in_rows(rows, RESULTS / "demons_architectures.jpg", inches=2.1)
    write_rows("demons_architectures", table)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
