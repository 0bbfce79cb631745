"""Paper 4, supplement, section 6.4 and figure 8 (SPEC M7): masks over the activations of intermediate layers.

    python experiments/mask_layers.py

ResNet-50 and SqueezeNet, whose maps have about the sizes of the paper's AlexNet and VGG-16 (neither is to be had from
the package registries); weights are those of the VGG-16 layer with the most similar map. Writes
`results/mask_layers.json` and a figure for each network.
"""

from __future__ import annotations

import argparse

import torch

import preimage as pi
from figure import RESULTS, pictures_in_rows, write_rows
from perturbing import mean, strongest
from photographs import balanced, cropped
from preimage.explain import Mask
from transfer_recognition import OPEN

TAPS = {
    "resnet50": ("layer1", "layer2", "layer3", "layer4"),
    "squeezenet": ("features.2", "features.5", "features.8", "features.12"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2)
    asked = parser.parse_args()
    table: dict[str, object] = {}
    for name, taps in TAPS.items():
        network = OPEN[name]()
        photos = cropped(balanced(asked.photos), network.input_size[0])
        classes, _ = strongest(network, photos)
        names = [network.labels[c].split(",")[0][:24] for c in classes]
        rows = [("photo", [(photo, said) for photo, said in zip(photos, names, strict=True)])]
        for tap in (None, *taps):
            method = Mask(at=tap)
            targets = [[f"class:{c}"] for c in classes]
            made = pi.explain(
                network, photos, targets, method=method, least_probability=0, batch_size=4, progress=False
            )
            before, after = ([one.scores[key] for one in made] for key in ("photo", "masked"))
            row = {"deleted": mean([1 - float(one.mask.mean()) for one in made])}
            row |= {"probability": mean(before), "under the mask": mean(after)}
            row["started again"] = sum(bool(one.notes) for one in made)
            table[f"{name} {tap or 'photo'}"] = row
            print(name, tap, row, flush=True)
            write_rows("mask_layers", table)
            size = "x".join(map(str, network.tap(tap).shape[1:])) if tap else "pixels"
            cells = [(one.heatmap[None].expand(3, -1, -1), f"{one.scores['masked']:.3f}") for one in made]
            rows.append((f"{tap or 'photo'} {size}", cells))
        pictures_in_rows(rows, RESULTS / f"mask_layers_{name}.jpg", inches=1.6)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
