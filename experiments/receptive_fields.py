"""Receptive fields, and canvases of their size (paper 0, section 4.2; SPEC A10, claim 4).

    python experiments/receptive_fields.py

First: the receptive field measured by back-propagation, at every convolution and pooling layer of SqueezeNet and
ResNet-50, against the closed form r <- r + (k - 1) j, j <- j s; as `Network.taps()` measures it (through the
linearised network) and as the paper does (one backward pass through the network as it is, from random noise).
Then: a unit at a low, a middle and a high tap is maximized on a canvas of its receptive field, the picture is put into
a full-size one, and score and time are compared with a run at full size, 150 steps each of the same recipe. Writes
`results/receptive_fields.json` and `results/receptive_fields.jpg`.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch import Tensor, nn

import networks
import preimage as pi
from figure import RESULTS, pictures_in_rows, write_rows
from preimage.objectives import EachItsOwn, resolve
from preimage.optimization import Ascent, plain_scores

UNITS = {
    "squeezenet": ("features.3:20", "features.7:20", "features.12:20"),
    "resnet50": ("layer1.1:20", "layer2.2:30", "layer3.1:20"),
}
STEPS = 150


def closed_form(module: nn.Module) -> dict[str, int]:
    """Layers in the order of the longest path through either network, with their receptive fields."""
    field, jump, fields = 1, 1, {}
    for name, part in module.named_modules():
        if not isinstance(part, (nn.Conv2d, nn.MaxPool2d)) or "downsample" in name or "expand1x1" in name:
            continue
        if name == "preprocessing":
            continue
        size, stride = (v if isinstance(v, int) else v[0] for v in (part.kernel_size, part.stride))
        field, jump = field + (size - 1) * jump, jump * stride
        fields[name] = field
    return fields


def as_in_the_paper(network: pi.Network, tap: str) -> int:
    """Rows of the input where the gradient of one central unit is not zero, for one noise image."""
    image = torch.rand((1, 3, *network.input_size), generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    (values,) = network.run(image, [tap]).values()
    rows, columns = values.shape[2:]
    (gradient,) = torch.autograd.grad(values[0, 0, rows // 2, columns // 2], image)
    seen = gradient[0].abs().sum((0, 2)).nonzero()
    return int(seen.max() - seen.min() + 1) if len(seen) else 0


def measured(network: pi.Network) -> list[dict[str, Any]]:
    table, rows = network.taps(), []
    for tap, expected in closed_form(network.module).items():
        expected = min(expected, network.input_size[0])
        found = table[tap].receptive_field
        paper = as_in_the_paper(network, tap)
        rows.append({"network": network.name, "tap": tap, "closed_form": expected, "taps": found[0], "one_pass": paper})
    return rows


def on_both_canvases(network: pi.Network, asked: str) -> tuple[dict[str, Any], list[tuple[Tensor, str]]]:
    tap = asked.partition(":")[0]
    objective = resolve(f"{asked}@centre", network)
    options = {"recipe": "unconstrained", "steps": STEPS, "optimizer": Ascent(0.4 / 255, per_first_gradient=True)}
    row: dict[str, Any] = {"network": network.name, "unit": f"{asked}@centre", "steps": STEPS}
    row["receptive_field"] = list(network.taps()[tap].receptive_field)
    pictures = {}
    for kind, size in (("field", "receptive-field"), ("full", None)):
        seconds = []
        for _ in range(2):  # the first run also plans
            began = time.perf_counter()
            made = pi.maximize(network, objective, size=size, **options)
            seconds.append(time.perf_counter() - began)
        pictures[kind] = made.images[0]
        row |= {f"{kind}_size": list(made.images.shape[2:]), f"{kind}_score": round(float(made.scores), 3)}
        row[f"{kind}_seconds"] = round(min(seconds), 3)
    placed = pi.placed(network, pictures["field"], tap)
    score = plain_scores(network, EachItsOwn(tuple(objective)), placed[None], network.input_size)
    row |= {"placed_score": round(float(score), 3)}
    row["cost"] = round(row["field_seconds"] / row["full_seconds"], 3)
    row["score_kept"] = round(row["placed_score"] / row["full_score"], 3)
    cells = [
        (pictures["field"], f"{asked}\n{row['field_size'][0]} px: {row['field_score']:.4g}"),
        (placed, f"placed: {row['placed_score']:.4g}"),
        (pictures["full"], f"full size: {row['full_score']:.4g}, {1 / row['cost']:.0f} x the time"),
    ]
    return row, cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    fields, canvases, shown = [], [], []
    for name, units in UNITS.items():
        network = pi.Network(getattr(networks, name)(), name=name)
        rows = measured(network)
        fields += rows
        exact = sum(row["taps"] == row["closed_form"] for row in rows)
        less = sum(row["one_pass"] < row["closed_form"] for row in rows)
        print(f"{name}: {exact} of {len(rows)} layers as in the closed form; one plain pass finds less at {less}")
        line = []
        for unit in units:
            row, cells = on_both_canvases(network, unit)
            canvases.append(row)
            line += cells
            print(row, flush=True)
        shown.append((name, line))
    write_rows("receptive_fields", {"fields": fields, "canvases": canvases})
    pictures_in_rows(shown, RESULTS / "receptive_fields.jpg")


if __name__ == "__main__":
    main()
