"""Paper 4, M5: what a mask starts from.

    python experiments/mask_starts.py

For photographs and SqueezeNet's first answers: the loss that masks end with, from each start, after all steps
and after a third of them; no run is started again. Writes `results/mask_starts.json` and a figure.
"""

from __future__ import annotations

import argparse

import torch

import networks
import preimage as pi
from figure import RESULTS, pictures_in_rows, write_rows
from perturbing import mean, strongest
from photographs import balanced, cropped
from preimage.explain import Mask

STARTS = ("circle", "random", "half", "zeros", "ones")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=8)
    asked = parser.parse_args()
    network = pi.Network(networks.squeezenet(), name="squeezenet")
    photos = cropped(balanced(asked.photos), network.input_size[0])
    targets = [[f"class:{c}"] for c in strongest(network, photos)[0]]
    table: dict[str, object] = {"network": network.name, "photos": len(photos)}
    pictures = [("photo", [(photo, "") for photo in photos[:8]])]
    for steps in (100, 300):
        ended: dict[str, torch.Tensor] = {}
        for start in STARTS:
            made = pi.explain(
                network,
                photos,
                targets,
                method=Mask(iterations=steps, start=start, again=False),  # type: ignore[arg-type]
                least_probability=0,
                batch_size=8,
                progress=False,
            )
            ended[start] = torch.tensor([float(one.details["loss"]) for one in made])
            row = {"loss": mean(ended[start]), "median": round(float(ended[start].median()), 4)}
            row["worse than no mask"] = sum(bool(one.notes) for one in made)
            if start != "circle":
                row["circle ends lower"] = mean((ended["circle"] < ended[start]).float())
            table[f"{start}, {steps} steps"] = row
            print(start, steps, row, flush=True)
            write_rows("mask_starts", table)
            if steps == 300:
                cells = [(one.heatmap[None].expand(3, -1, -1), f"{one.details['loss']:.3f}") for one in made[:8]]
                pictures.append((start, cells))
    pictures_in_rows(pictures, RESULTS / "mask_starts.jpg", inches=1.5)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
