"""Paper 4, supplement, section 6.5 and figure 9: deletion against preservation; and both at once.

    python experiments/mask_games.py

For photographs and SqueezeNet's first answers, split by how sure it is, since the paper finds preservation
hard where the score is low: how much is marked, what the probability becomes, how it falls while what the heat map
marks most is blurred away (the mean over shares of the pixels; lower is better), and how many runs did not converge.
Writes `results/mask_games.json` and a figure.
"""

from __future__ import annotations

import argparse

import torch

import networks
import preimage as pi
from figure import RESULTS, pictures_in_rows, write_rows
from perturbing import mean, strongest
from photographs import balanced, cropped
from preimage.evaluation import deletion_curve
from preimage.objectives import label

GAMES = ("mask", "mask-preserve", "mask-both")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=16)
    asked = parser.parse_args()
    network = pi.Network(networks.squeezenet(), name="squeezenet")
    photos = cropped(balanced(asked.photos), network.input_size[0])
    classes, sure = strongest(network, photos)
    half = float(sure.median())
    table: dict[str, object] = {"network": network.name, "photos": len(photos), "median probability": round(half, 3)}
    names = [f"{network.labels[c].split(',')[0][:18]} {p:.2f}" for c, p in zip(classes, sure.tolist(), strict=True)]
    rows = [("photo", [(photo, said) for photo, said in zip(photos[:10], names, strict=False)])]
    probabilities = [label(c, "prob").bind(network) for c in classes]
    for game in GAMES:
        targets = [[f"class:{c}"] for c in classes]
        made = pi.explain(network, photos, targets, method=game, least_probability=0, batch_size=8, progress=False)
        curve = deletion_curve(network, photos, made.heatmaps, probabilities).mean(1) / sure
        after = torch.tensor([one.scores["masked" if game != "mask-both" else "kept"] for one in made])
        row: dict[str, object] = {"started again": sum(bool(one.notes) for one in made)}
        for kind, some in {"all": sure >= 0, "surer half": sure > half, "less sure half": sure <= half}.items():
            row[kind] = {
                "marked": mean(made.heatmaps[some].mean((1, 2))),
                "probability under the mask, of the photo's": mean((after / sure)[some]),
                "while the marked is blurred away": mean(curve[some]),
            }
        table[game] = row
        print(game, row, flush=True)
        write_rows("mask_games", table)
        rows.append((game, [(one.heatmap[None].expand(3, -1, -1), "") for one in made[:10]]))
    pictures_in_rows(rows, RESULTS / "mask_games.jpg", inches=1.5)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
