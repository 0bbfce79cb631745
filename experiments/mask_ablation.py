"""Paper 4, M4 and M6: masks learned with each perturbation, and without each of what regularises them.

    python experiments/mask_ablation.py

Does a mask still work under the perturbations that it was not learned with? One that found an artefact does not. For
photographs and the bundled network's first answers: the share of the probability that is left under the mask, for three
perturbations, and SPEC M17's curve (mask cut at thresholds). Without upsampling a mask has a cell for each pixel, and
its weights are scaled so that the same mask costs the same. Writes `results/mask_ablation.json` and a figure.
"""

from __future__ import annotations

import argparse
import time

import torch

import preimage as pi
from figure import RESULTS, pictures_in_rows, write_rows
from perturbing import KINDS, curve_under, left_under, mean, strongest
from photographs import balanced, cropped
from preimage.explain import Mask

SETTINGS = {
    "as published": Mask(),
    "learned with constant": Mask(perturbation="constant"),
    "learned with noise": Mask(perturbation="noise"),
    "no jitter": Mask(jitter=0),
    "no TV": Mask(tv=0.0),
    "no upsampling": Mask(cells=224, mask_blur=0.0),
    "no jitter, TV, upsampling": Mask(cells=224, mask_blur=0.0, jitter=0, tv=0.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=32)
    asked = parser.parse_args()
    network = pi.load()
    photos = cropped(balanced(asked.photos), 224)
    classes, probabilities = strongest(network, photos)
    table: dict[str, object] = {"network": "bundled", "photos": len(photos), "probability": mean(probabilities)}
    pictures = [("photo", [(photo, network.labels[c][:24]) for photo, c in zip(photos[:8], classes, strict=False)])]
    for name, setting in SETTINGS.items():
        began = time.monotonic()
        targets = [[f"class:{c}"] for c in classes]
        made = pi.explain(network, photos, targets, method=setting, least_probability=0, batch_size=8, progress=False)
        masks = torch.stack([one.mask for one in made])
        row: dict[str, object] = {
            "deleted": mean(1 - masks.mean((1, 2))),
            "left": {kind: mean(values) for kind, values in left_under(network, photos, masks, classes).items()},
            "curve": {k: mean(curve_under(network, photos, masks, classes, k).mean(1)) for k in KINDS},
            "started again": sum(bool(one.notes) for one in made),
            "seconds_per_photo": round((time.monotonic() - began) / len(photos), 1),
        }
        table[name] = row
        print(name, row, flush=True)
        write_rows("mask_ablation", table)
        pictures.append((name, [(one.heatmap[None].expand(3, -1, -1), "") for one in made[:8]]))
        pictures_in_rows(pictures, RESULTS / "mask_ablation.jpg", inches=1.5)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
