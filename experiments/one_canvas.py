"""Many things on one canvas (paper 0's code; SPEC A13, A15).

    python experiments/one_canvas.py

A13: 64 filters of a SqueezeNet layer as one objective on one canvas, a tile for each, in one pass; score and time
against 64 pictures of their own. A15: six classes on one canvas, each in its place. Writes `results/one_canvas.json`,
`results/one_canvas-filters.jpg` and `results/one_canvas-classes.jpg`.
"""

from __future__ import annotations

import argparse
import time

import torch

import networks
import preimage as pi
from figure import RESULTS, write_rows
from preimage.images import to_pil
from preimage.objectives import each_view, label, neuron, tiled
from preimage.optimization import Adam, Stage
from preimage.parametrizations import Fourier
from preimage.recipes import Recipe
from preimage.transforms import Affine, WindowsAround

TAP, FILTERS, STEPS = "features.7", range(64), 100
PLACES = {"flamingo": (0.28, 0.2), "tabby": (0.28, 0.5), "goldfinch": (0.28, 0.8)}
PLACES |= {"daisy": (0.75, 0.2), "monarch": (0.75, 0.5), "strawberry": (0.75, 0.8)}

FILTER_RECIPE = Recipe(
    "filters",
    "experiments/one_canvas.py",
    "Fourier coefficients, no transform",
    lambda c, h, w, colours: Fourier(c, h, w, colours=colours, centred=True),
    (Stage(STEPS, Adam(0.05)),),
)


def scene(size: tuple[int, int]) -> Recipe:
    """A window around each class's place, moved by a few pixels and turned a little."""
    around = WindowsAround(tuple(PLACES.values()), jitter=24)
    views = (around, Affine(zoom=(0.8, 1.25), rotation=10))
    return Recipe(
        "scene",
        "experiments/one_canvas.py",
        "a window around each class's place",
        lambda c, h, w, colours: Fourier(c, h, w, colours=colours, centred=True),
        (Stage(300, Adam(0.05), transforms=views),),
        canvas=size[0] / 227,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    network = pi.Network(networks.squeezenet(), name="squeezenet")
    tiling = tiled(network, TAP, list(FILTERS), gap=4)
    began = time.perf_counter()
    together = pi.maximize(network, tiling.objective, recipe=FILTER_RECIPE, size=tiling.size)
    one_pass = time.perf_counter() - began
    began = time.perf_counter()
    apart = pi.maximize(network, [neuron(TAP, i) for i in FILTERS], recipe=FILTER_RECIPE, size="receptive-field")
    separate = time.perf_counter() - began
    with torch.no_grad():
        (values,) = network.run(together.images, [TAP]).values()
    scores = [float(values[0, i, *tiling.positions[n]]) for n, i in enumerate(FILTERS)]
    row = {
        "tap": TAP,
        "filters": len(FILTERS),
        "steps": STEPS,
        "canvas": list(tiling.size),
        "tile": list(tiling.side),
        "seconds_one_pass": round(one_pass, 2),
        "seconds_apart": round(separate, 2),
        "mean_score_one_pass": round(sum(scores) / len(scores), 2),
        "mean_score_apart": round(float(apart.scores.mean()), 2),
    }
    print(row)
    to_pil(together.images[0]).save(RESULTS / "one_canvas-filters.jpg", quality=90)
    size = (500, 720)
    recipe = scene(size)
    asked = each_view([label(name) for name in PLACES])
    made = pi.maximize(network, asked, recipe=recipe, size=size)
    to_pil(made.images[0]).save(RESULTS / "one_canvas-classes.jpg", quality=90)
    windows = recipe.windowed(*network.input_size).stages[0].transforms[0].draw(torch.Generator().manual_seed(0))
    place = pi.Place(network.logits, after_relu=True)
    with torch.no_grad():
        logits = network.run(windows(made.images), [place])[place]
    assert network.labels is not None
    ranks = {
        name: int((row > row[label(name).bind(network).label]).sum()) + 1
        for name, row in zip(PLACES, logits, strict=True)
    }
    print("rank of each class in the window at its place:", ranks)
    write_rows("one_canvas", {"filters": row, "classes": {"places": PLACES, "rank_in_its_window": ranks}})


if __name__ == "__main__":
    main()
