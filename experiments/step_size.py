"""Step size against activation (paper 0, supplement figures 2 and 3; SPEC A8, claim 1).

    python experiments/step_size.py

For a unit in the middle and a class unit of SqueezeNet and ResNet-50, and a unit of SqueezeNet's first layer, plain
gradient ascent without any constraint runs at 13 step sizes, each twice the one before, and to its end. Then
`optimizer="auto"` looks for the best one by itself. Writes `results/step_size.json` (final activations, what the
search found, what it cost) and `results/step_size.png`: activation while optimising, final activation against step
size, and the pictures.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import networks
import preimage as pi
from figure import RESULTS, write_rows
from preimage.canvas import receptive_field_size
from preimage.objectives import EachItsOwn, Objective, resolve
from preimage.optimization import Climb, climb, plain_scores, scaled, search_step_size
from preimage.optimization.step_size import OCTAVES
from preimage.recipes import find_recipe

ASKED = [
    ("squeezenet", "features.8:20@centre", 500, 5),
    ("squeezenet", "class:flamingo", 500, 1),
    ("resnet50", "layer2.3:20@centre", 200, 3),
    ("resnet50", "class:flamingo", 120, 1),
    ("squeezenet", "features.0:5@centre", 300, 1),
]
"""Network, objective, steps, and from how many starts, whose final activations are averaged."""


class Record:
    """A referee that lets all go on, and notes the activation of the pixels and of the picture now and then."""

    def __init__(self, network: pi.Network, asked: EachItsOwn, size: tuple[int, int]):
        self._network, self._asked, self._size = network, asked, size
        self.steps: list[int] = []
        self.picture: list[Tensor] = []

    def __call__(self, reached: Climb) -> Tensor:
        if len(reached.trace) % 10 == 0:
            self.steps.append(len(reached.trace))
            self.picture.append(plain_scores(self._network, self._asked, reached.pictures(), self._size))
        return torch.ones(len(reached.parameters), dtype=torch.bool)


def full_curves(network: pi.Network, objective: Objective, steps: int, starts: int) -> tuple[dict[str, Any], Tensor]:
    """All 13 step sizes to the end, in one batch for each start, and then the search that a user would start."""
    recipe = find_recipe("unconstrained").stretched(steps)
    size = receptive_field_size(network, [objective])
    parametrization = recipe.parametrization(3, *size, None)
    factors = tuple(2.0**octave for octave in OCTAVES)
    everyone = EachItsOwn((objective,) * len(factors))
    runs: list[tuple[Climb, Record]] = []
    for seed in range(starts):
        start = parametrization.start(torch.Generator().manual_seed(seed))
        record = Record(network, everyone, size)
        reached = climb(
            network,
            everyone,
            parametrization,
            start.expand(len(factors), *start.shape).clone(),
            [scaled(stage, factors) for stage in recipe.stages],
            torch.Generator().manual_seed(1),
            referee=record,
        )
        runs.append((reached, record))
    reached, record = runs[0]
    finals = torch.stack([torch.stack(one.picture)[-3:].mean(0) for _, one in runs])
    row = {
        "network": network.name,
        "objective": str(objective),
        "size": list(size),
        "steps": steps,
        "starts": starts,
        "levels": [round(255 * recipe.stages[0].optimizer.step_size * factor, 4) for factor in factors],
        "pixels": [round(float(v), 3) for v in torch.stack(reached.trace)[-10:].mean(0)],
        "picture": [round(float(v), 3) for v in finals.mean(0)],
        "picture_of_each_start": [[round(float(v), 3) for v in line] for line in finals],
        "contrast": [round(float(v), 4) for v in (reached.images() - 0.5).flatten(1).std(1)],
        "curves": {"steps": record.steps, "picture": [[round(v, 2) for v in line.tolist()] for line in record.picture]},
    }
    start = parametrization.start(torch.Generator().manual_seed(0))
    began = time.monotonic()
    try:
        search = search_step_size(network, objective, parametrization, start, recipe.stages, size, 1)
        row["search"] = search.as_dict() | {"seconds": round(time.monotonic() - began, 1)}
    except pi.RequestError as error:
        row["search"] = {"refused": str(error)}
    return row, reached.pictures()


def drawn(rows: list[dict[str, Any]], pictures: list[Tensor], to: Path) -> None:
    figure, grid = plt.subplots(len(rows), 8, figsize=(21, 2.9 * len(rows)), layout="constrained")
    for axes, row, images in zip(grid, rows, pictures, strict=True):
        colours = plt.get_cmap("viridis")(torch.linspace(0, 1, len(row["levels"])).numpy())
        for i, colour in enumerate(colours):
            axes[0].plot(row["curves"]["steps"], [line[i] for line in row["curves"]["picture"]], color=colour)
        axes[0].set(title=f"{row['network']}  {row['objective']}", xlabel="step", ylabel="activation of the picture")
        for line in row["picture_of_each_start"]:
            axes[1].semilogx(row["levels"], line, "-", color="lightgrey", base=2)
        axes[1].semilogx(row["levels"], row["picture"], "o-", color="black", base=2)
        axes[1].set(xlabel="step size (levels of 255)", ylabel="final activation of the picture")
        other = axes[1].twinx()
        other.loglog(row["levels"], [max(v, 1e-3) for v in row["pixels"]], "x--", color="tab:red", base=2)
        other.tick_params(labelcolor="tab:red")
        other.set_ylabel("of the pixels, unbounded", color="tab:red")
        best = max(range(len(row["picture"])), key=lambda i: row["picture"][i])
        shown = sorted({0, max(best - 2, 0), best, min(best + 2, 12), min(best + 4, 12), 12})
        for axis in axes[2:]:
            axis.axis("off")
        for axis, i in zip(axes[2:], shown, strict=False):
            axis.imshow(images[i].permute(1, 2, 0).numpy())
            axis.set_title(f"{row['levels'][i]:g}: {row['picture'][i]:.4g}" + (" (best)" if i == best else ""))
    figure.savefig(to, dpi=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["squeezenet", "resnet50"], help="keep the other rows, and the figure")
    chosen = parser.parse_args().only
    opened = {name: pi.Network(getattr(networks, name)(), name=name) for name in ("squeezenet", "resnet50")}
    before = json.loads((RESULTS / "step_size.json").read_text()) if chosen else []
    rows, pictures = [], []
    for number, (name, asked, steps, starts) in enumerate(ASKED):
        if chosen in (None, name):
            row, images = full_curves(opened[name], resolve(asked, opened[name])[0], steps, starts)
            pictures.append(images)
            print(name, asked, dict(zip(row["levels"], row["picture"], strict=True)), row["search"], flush=True)
        else:
            row = before[number]
        rows.append(row)
    write_rows("step_size", rows)
    if chosen is None:
        drawn(rows, pictures, RESULTS / "step_size.png")


if __name__ == "__main__":
    main()
