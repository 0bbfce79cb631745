"""Paper 4, supplement, sections 6.2 and 6.6, figures 4 to 6 (SPEC M23): photographs that the network gets wrong.

    python experiments/mask_failures.py

The paper looks at the class sunglasses, of which its network gets 8 % right. There are no photographs of it here; taken
instead are those photographs of ten classes that the bundled network gets wrong while it gives their own class a
probability of 5 % or more, the least probable first. (Below that a mask has nothing to take away.) Masks for the class
itself, as published, and for what the network was distracted by (the five strongest classes, settings of the
localisation experiment). Writes `results/mask_failures.json` and a figure.
"""

from __future__ import annotations

import argparse

import torch

import preimage as pi
from figure import RESULTS, pictures_in_rows, write_rows
from perturbing import mean
from photographs import balanced, cropped

POOL = 600
LEAST = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=8)
    asked = parser.parse_args()
    network = pi.load()
    pool = balanced(POOL)
    everything, labels = cropped(pool, 224), torch.tensor([c for _, c in pool])
    place = pi.Place(network.logits, True)
    with torch.no_grad(), network.held():
        logits = torch.cat([network.run(some, [place])[place] for some in torch.split(everything, 16)])
    own = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    right = logits.argmax(1) == labels
    wrong = ((~right) & (own >= LEAST)).nonzero().flatten()
    rows = wrong[own[wrong].argsort()][: asked.photos]
    photos, classes = everything[rows], labels[rows].tolist()
    table: dict[str, object] = {
        "network": "bundled",
        "photographs looked through": len(pool),
        "accuracy": mean(right.float()),
        "probability of the own class": mean(own[rows]),
    }
    first = logits[rows].argmax(1).tolist()
    said = [
        f"{network.labels[c].split(',')[0][:14]} {p:.3f}\n({network.labels[f].split(',')[0][:18]})"
        for c, p, f in zip(classes, own[rows].tolist(), first, strict=True)
    ]
    pictures = [("photo", list(zip(photos, said, strict=True)))]
    for title, method, targets in (
        ("own class", "mask", [[f"class:{c}"] for c in classes]),
        ("top five", "mask@localisation", "top:5"),
    ):
        made = pi.explain(network, photos, targets, method=method, least_probability=0, batch_size=6, progress=False)
        table[title] = {
            "deleted": mean([1 - float(one.mask.mean()) for one in made]),
            "score": mean([one.scores["photo"] for one in made]),
            "under the mask": mean([one.scores["masked"] for one in made]),
            "started again": sum(bool(one.notes) for one in made),
        }
        print(title, table[title], flush=True)
        pictures.append((title, [(one.heatmap[None].expand(3, -1, -1), "") for one in made]))
    write_rows("mask_failures", table)
    pictures_in_rows(pictures, RESULTS / "mask_failures.jpg", inches=1.4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
