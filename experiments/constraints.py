"""The other constraints of paper 0's code, side by side (SPEC A16).

    python experiments/constraints.py

Three classes of SqueezeNet under jitter with resizing, and with one thing added: clipping of pixels that
contribute little, Huber total variation, a blurred gradient, a start that is biased to the centre, and one from the
mean of 200 photographs of the first class. Writes `results/constraints.jpg` and `results/constraints.json` (score,
power in high frequencies).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch

import networks
import preimage as pi
from figure import RESULTS, high_frequency_share, pictures_in_rows, write_rows
from preimage.images import centre_crop, read_image
from preimage.optimization import ClippedByContribution, NormalisedAscent, Stage
from preimage.priors import Gaussian, HuberTotalVariation
from preimage.recipes import find_recipe

CLASSES = ("class:tench", "class:French horn", "class:flamingo")
STEPS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    network = pi.Network(networks.squeezenet(), name="squeezenet")
    plain = find_recipe("jitter-resize")

    def with_(**changes: Any) -> Any:
        stages: tuple[Stage, ...] = tuple(replace(stage, **changes) for stage in plain.stages)
        return replace(plain, stages=stages)

    tenches = [path for path, label in networks.photographs() if label == 0][:200]
    mean = torch.stack([centre_crop(read_image(path), (304, 304)) for path in tenches]).mean(0)
    ways: dict[str, tuple[Any, Any]] = {
        "jitter-resize": (plain, None),
        "clipped by contribution": (with_(optimizer=ClippedByContribution(NormalisedAscent(1.5 / 255))), None),
        "Huber total variation": (with_(regularizers=(HuberTotalVariation(1e-5),)), None),
        "blurred gradient": (with_(smooth_update=Gaussian(sigma=1.0)), None),
        "centre-biased start": (plain, pi.starts.centre_biased((304, 304))),
        "mean-image start": (plain, mean),
    }
    rows, shown = [], []
    for said, (recipe, start) in ways.items():
        made = pi.maximize(network, CLASSES, recipe=recipe, steps=STEPS, start=start)
        shares = high_frequency_share(made.images)
        scores = [round(float(v), 2) for v in made.scores]
        rows.append({"way": said, "scores": scores, "high_frequency_share": [round(float(v), 4) for v in shares]})
        print(rows[-1], flush=True)
        cells = zip(made.images, made.objectives, scores, strict=True)
        shown.append(
            (said, [(image, f"{said}\n{what.partition('(')[2][:-1]}: {score:.4g}") for image, what, score in cells])
        )
    write_rows("constraints", rows)
    pictures_in_rows(
        [("", [cell for _, line in shown[i : i + 2] for cell in line]) for i in (0, 2, 4)], RESULTS / "constraints.jpg"
    )


if __name__ == "__main__":
    main()
