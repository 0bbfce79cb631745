"""One class and one unit of ResNet-50 under every recipe, side by side (paper 2's: `demons_schemes.py`).

    python experiments/recipe_gallery.py

Every recipe as it is, with seed 0; nothing was picked out among several tries. Writes `docs/pictures/recipes.jpg` and
`results/recipe_gallery.json` (scores, seconds).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import networks
import preimage as pi
from figure import pictures_in_rows, write_rows

ASKED = ("class:flamingo", "layer3.2:30")
TO = Path(__file__).parent.parent / "docs" / "pictures" / "recipes.jpg"
COLUMNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int)
    steps = parser.parse_args().steps
    network = pi.Network(networks.resnet50(), name="resnet50")
    rows, cells = [], []
    for name, recipe in pi.recipes().items():
        if recipe.source.startswith("paper 2"):
            continue
        began = time.monotonic()
        made = pi.maximize(network, list(ASKED), recipe=recipe, steps=steps)
        seconds = round(time.monotonic() - began, 1)
        scores = [round(float(v), 2) for v in made.scores]
        rows.append({"recipe": name, "steps": len(made.trace), "seconds_of_both": seconds, "scores": scores})
        print(rows[-1], flush=True)
        for image, asked, score in zip(made.images, ASKED, scores, strict=True):
            cells.append((image, f"{name}\n{asked}: {score:.4g}"))
        write_rows("recipe_gallery", rows)
        lines = [("", cells[i : i + 2 * COLUMNS]) for i in range(0, len(cells), 2 * COLUMNS)]
        pictures_in_rows(lines, TO, inches=2.5)


if __name__ == "__main__":
    main()
