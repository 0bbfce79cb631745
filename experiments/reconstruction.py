"""Paper 2, table 1 and figure 4 (SPEC S-T1, S-F4): is a photo still recognised after it went through a layer?

    python experiments/reconstruction.py

Photographs are reconstructed from a middle and a deep layer of two networks, by every method, and classified by a
third network that had no part in it (ResNet-50), and by the other of the two. The photographs are 200 pixels wide, so
that they are reconstructed at 160 x 160; judges get them at their own size. Writes `results/reconstruction.json` (with
95 % bootstrap intervals over the photographs) and, for each layer, `results/reconstruction_NETWORK_TAP.jpg`.

    python experiments/reconstruction.py --photos 6 --steps 1000 --figure-only --methods tv fluid fluid-elastic

is figure 4: few photos, many steps.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import preimage as pi
from figure import RESULTS, pictures_in_rows
from photographs import balanced, cropped, share
from preimage.network.loading import imagenet_labels
from preimage.optimization import Momentum
from preimage.recipes import Recipe, find_recipe
from transfer_recognition import OPEN

LAYERS = [("squeezenet", "features.7"), ("squeezenet", "features.12"), ("bundled", "stage5.0"), ("bundled", "stage7.0")]
METHODS = ["tv", "fluid", "fluid-elastic", "fluid-gaussian", "fluid-elastic-gaussian", "default"]
SIDE = 160
MOST = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--layers", nargs="+", default=[":".join(layer) for layer in LAYERS], metavar="NETWORK:TAP")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--figure-only", action="store_true", help="write no table")
    asked = parser.parse_args()
    if asked.photos > MOST:
        parser.error(f"step sizes are tuned on the photographs after the first {MOST}")
    chosen, labels = balanced(asked.photos), imagenet_labels()
    photos, classes = cropped(chosen, SIDE), [label for _, label in chosen]
    judges = {name: make() for name, make in OPEN.items()}
    for layer in asked.layers:
        name, tap = layer.split(":")
        rows = [("photo", [(photo, labels[c].split(",")[0]) for photo, c in zip(photos[:6], classes[:6], strict=True)])]
        for method in asked.methods:
            recipe, levels = tuned(judges[name], tap, method, asked.steps)
            began = time.monotonic()
            made = inverted(judges[name], photos, tap, recipe, asked.steps)
            row: dict[str, Any] = {
                "network": name,
                "tap": tap,
                "method": method,
                "steps": asked.steps,
                "step_levels": levels,
                "feature_error": round(float(made.feature_errors.mean()), 4),
                "pixel_error": round(float(made.pixel_errors.mean()), 4),
                "seconds_per_photo": round((time.monotonic() - began) / len(photos), 2),
            }
            for judge in judges.values():
                if judge is judges[name]:
                    continue
                seen = pi.agreement(judge, made.images, made.photos)
                row[judge.name] = {
                    "top1": share(seen.right(classes)),
                    "top5": share(seen.right(classes, 5)),
                    "photo_top1": share(seen.right(classes, photos=True)),
                    "photo_top5": share(seen.right(classes, 5, photos=True)),
                    "as_on_photo": share(seen.first),
                    "photo_answer_among_five": share(seen.among_five),
                }
            print(json.dumps({k: v["as_on_photo"] if isinstance(v, dict) else v for k, v in row.items()}), flush=True)
            if not asked.figure_only:
                record(row)
            shown = zip(made.images[:6], made.feature_errors[:6], strict=True)
            rows.append((method, [(image, f"feature error {float(error):.3f}") for image, error in shown]))
        kind = "figure4" if asked.figure_only else "reconstruction"
        pictures_in_rows(rows, RESULTS / f"{kind}_{name}_{tap}.jpg", inches=1.8)


def inverted(network: pi.Network, photos: Tensor, tap: str, recipe: Recipe, steps: int) -> pi.Inversion:
    ours = recipe.source == "preimage"  # paper 2 compares behind the ReLU
    return pi.invert(network, photos, tap, recipe=recipe, steps=steps, size=SIDE, one_sided=ours, progress=False)


def tuned(network: pi.Network, tap: str, method: str, steps: int) -> tuple[Recipe, float | None]:
    """The recipe with the step size (in levels of 0..255) that leaves the smallest feature error on four photographs
    that are not among those measured; None where the method finds its steps by itself."""
    recipe = find_recipe(method, "invert")
    own = recipe.stages[0].optimizer
    if not isinstance(own, Momentum):
        return recipe, None
    photos = cropped(balanced(MOST + 4)[MOST:], SIDE)
    errors = {}
    for factor in (1 / 3, 1, 3, 10):
        changed = recipe.with_optimizer(replace(own, step_size=factor * own.step_size))
        try:
            made = inverted(network, photos, tap, changed, steps)
        except pi.NonFiniteScoreError:
            continue
        errors[factor] = float(made.feature_errors.mean())
    best = min(errors, key=lambda factor: errors[factor])
    print(
        method, {f"{factor * own.step_size * 255:.2g}": round(error, 3) for factor, error in errors.items()}, flush=True
    )
    return recipe.with_optimizer(replace(own, step_size=best * own.step_size)), round(best * own.step_size * 255, 3)


def record(row: dict[str, Any]) -> None:
    """Put a row into the table, in place of an older one of the same layer and method."""
    path = RESULTS / "reconstruction.json"
    kept = json.loads(path.read_text()) if path.exists() else []
    key = ("network", "tap", "method")
    kept = [one for one in kept if [one[k] for k in key] != [row[k] for k in key]]
    path.write_text(json.dumps([*kept, row], indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
