"""Nearest against bilinear resizing (paper 0, supplement section 3 and figure 4; SPEC A2 to A4, claim 2).

    python experiments/interpolation.py

Two claims: pictures made with nearest interpolation have more energy in high frequencies than with bilinear, and both
are less sensitive to where and how large the network sees them than pictures made with translation alone. Measured on
class pictures of SqueezeNet and ResNet-50: the share of power above a quarter of a cycle per pixel, and the class's
logit over 40 random windows of 0.8 to 1.2 times the network's size, divided by its logit over windows of exactly
that size. Writes `results/interpolation.json` and `results/interpolation.jpg`.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from torch import Tensor

import networks
import preimage as pi
from figure import RESULTS, high_frequency_share, pictures_in_rows, write_rows
from preimage.transforms import Window

RECIPES = ("jitter", "jitter-resize", "jitter-resize-nearest")
CLASSES = (130, 281, 976, 471, 207, 9, 386, 852, 402, 340, 528, 949)


def windows_score(network: pi.Network, image: Tensor, label: int, scale: tuple[float, float]) -> float:
    """The mean logit over 40 windows on one picture."""
    generator = torch.Generator().manual_seed(0)
    window = Window(*network.input_size, scale=scale)
    place = pi.Place(network.logits, after_relu=True)
    seen = torch.cat([window.draw(generator)(image[None]) for _ in range(40)])
    with torch.no_grad():
        return float(torch.cat([network.run(part, [place])[place][:, label] for part in seen.split(8)]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    rows, shown = [], []
    for name, count, steps in (("squeezenet", 12, 300), ("resnet50", 4, 150)):
        network = pi.Network(getattr(networks, name)(), name=name)
        for recipe in RECIPES:
            made = pi.maximize(
                network, [f"class:{c}" for c in CLASSES[:count]], recipe=recipe, steps=steps, batch_size=6
            )
            moved = [windows_score(network, im, c, (1, 1)) for im, c in zip(made.images, CLASSES, strict=False)]
            resized = [windows_score(network, im, c, (0.8, 1.2)) for im, c in zip(made.images, CLASSES, strict=False)]
            row = {
                "network": name,
                "recipe": recipe,
                "pictures": count,
                "steps": steps,
                "high_frequency_share": [round(float(v), 4) for v in high_frequency_share(made.images)],
                "logit_moved": [round(v, 2) for v in moved],
                "logit_moved_and_resized": [round(v, 2) for v in resized],
                "kept_when_resized": [round(b / a, 3) for a, b in zip(moved, resized, strict=True)],
            }
            rows.append(row)
            print(
                f"{name:>10} {recipe:<22} power above 1/4 cycle {statistics.median(row['high_frequency_share']):.3f}  "
                f"kept when resized {statistics.median(row['kept_when_resized']):.2f}",
                flush=True,
            )
            cells = zip(made.images[:4], made.objectives, row["high_frequency_share"], strict=False)
            shown.append((f"{name}\n{recipe}", [(image, f"{said}: {share:.2f}") for image, said, share in cells]))
        write_rows("interpolation", rows)
    pictures_in_rows(shown, RESULTS / "interpolation.jpg", inches=2.6)


if __name__ == "__main__":
    main()
