"""Where to start from (paper 0, supplement section 4; SPEC A9).

    python experiments/start_images.py

Paper 0: "The initial image should not be zero nor gaussian white noise with big standard deviation", but N(0, 1) on the
0..255 scale. Plain ascent, with the step size that the search finds for each, and blurring and deblurring, from starts
of standard deviation 0, 1, 10 and 50 levels: units of a middle layer and classes of SqueezeNet and ResNet-50. Writes
`results/start_images.json` and `results/start_images.jpg`.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from typing import Any

import networks
import preimage as pi
from figure import RESULTS, high_frequency_share, pictures_in_rows, write_rows
from preimage.parametrizations import Pixels
from preimage.recipes import Recipe, find_recipe

LEVELS = (0, 1, 10, 50)
ASKED = {
    "squeezenet": (("features.8:20-25@centre", "receptive-field", 300), ("class:flamingo class:tabby", None, 300)),
    "resnet50": (("layer2.3:20-25@centre", "receptive-field", 150),),
}


def starting_from(recipe: Recipe, levels: int) -> Recipe:
    """The recipe with another spread of the start; pictures are shown as before."""
    return replace(recipe, parametrization=lambda c, h, w, _: Pixels(c, h, w, spread=levels / 255, shown=0.99))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    rows: list[dict[str, Any]] = []
    shown = []
    for name, questions in ASKED.items():
        network = pi.Network(getattr(networks, name)(), name=name)
        for asked, size, steps in questions:
            for recipe in ("unconstrained", "blur-deblur") if size is None else ("unconstrained",):
                cells = []
                for levels in LEVELS:
                    used = starting_from(find_recipe(recipe), levels)
                    auto = "auto" if recipe == "unconstrained" else None
                    made = pi.maximize(network, asked.split(), recipe=used, steps=steps, size=size, optimizer=auto)
                    share = float(high_frequency_share(made.images).median()) if size is None else None
                    row = {"network": name, "asked": asked, "recipe": recipe, "levels": levels, "steps": steps}
                    row |= {"scores": [round(float(v), 2) for v in made.scores], "high_frequency_share": share}
                    rows.append(row)
                    mean = statistics.mean(row["scores"])
                    print(f"{name:>10} {asked:<28} {recipe:<14} start {levels:>2} levels: mean {mean:8.1f}", flush=True)
                    cells += [(made.images[0], f"{levels} levels: {mean:.4g} (mean of {len(row['scores'])})")]
                shown.append((f"{name}\n{asked.split('@')[0].split()[0]}\n{recipe}", cells))
        write_rows("start_images", rows)
    pictures_in_rows(shown, RESULTS / "start_images.jpg", inches=2.4)


if __name__ == "__main__":
    main()
