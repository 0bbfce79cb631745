"""Paper 4, supplement, section 6.3 and figure 7 (SPEC M8): the same photographs, masks of several networks.

    python experiments/mask_architectures.py

For each photograph and each network's first answer the published mask; and whether networks agree: the correlation of
their heat maps for the same photograph, beside that for different ones. Writes `results/mask_architectures.json` and a
figure.
"""

from __future__ import annotations

import argparse
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

import preimage as pi
from figure import RESULTS, pictures_in_rows, write_rows
from perturbing import mean, strongest
from photographs import balanced, cropped
from transfer_recognition import OPEN


def correlations(a: Tensor, b: Tensor) -> Tensor:
    """Between heat maps [N, H, W] of two networks, each pair, [N, N]."""
    flat = [F.interpolate(m[:, None], (28, 28), mode="area").flatten(1) for m in (a, b)]
    centred = [F.normalize(m - m.mean(1, keepdim=True)) for m in flat]
    return centred[0] @ centred[1].T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=4)
    asked = parser.parse_args()
    table: dict[str, object] = {}
    shown = cropped(balanced(asked.photos), 224)
    rows = [("photo", [(photo, "") for photo in shown])]
    maps: dict[str, Tensor] = {}
    for name, make in OPEN.items():
        network = make()
        photos = cropped(balanced(asked.photos), network.input_size[0])
        classes, _ = strongest(network, photos)
        targets = [[f"class:{c}"] for c in classes]
        made = pi.explain(network, photos, targets, least_probability=0, batch_size=5, progress=False)
        maps[name] = made.heatmaps
        table[name] = {
            "deleted": mean([1 - float(one.mask.mean()) for one in made]),
            "probability": mean([one.scores["photo"] for one in made]),
            "under the mask": mean([one.scores["masked"] for one in made]),
            "started again": sum(bool(one.notes) for one in made),
        }
        print(name, table[name], flush=True)
        names = [network.labels[c].split(",")[0][:20] for c in classes]
        rows.append((name, [(one.heatmap[None].expand(3, -1, -1), n) for one, n in zip(made, names, strict=True)]))
    for a, b in combinations(maps, 2):
        found = correlations(maps[a], maps[b])
        off = ~torch.eye(len(found), dtype=torch.bool)
        table[f"{a} and {b}"] = {"same photo": mean(found.diagonal()), "different photos": mean(found[off])}
        print(a, b, table[f"{a} and {b}"], flush=True)
    write_rows("mask_architectures", table)
    pictures_in_rows(rows, RESULTS / "mask_architectures.jpg", inches=1.5)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
