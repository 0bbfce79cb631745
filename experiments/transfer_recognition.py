"""Transfer recognition: is a picture made for a class by one network recognised by another?

    python experiments/transfer_recognition.py

For 40 ImageNet classes drawn with seed 0, `maximize` makes a picture with each of the three networks, and the two
others classify it (resampled to their input size). A picture that only fools the network it was made with is not
recognised by a network of another architecture; one that shows what the class looks like is. Writes
`results/transfer_recognition.json` and a contact sheet per network and recipe.

    python experiments/transfer_recognition.py --makers squeezenet bundled --recipes default fourier unconstrained \\
        jitter jitter-resize jitter-resize-nearest blur blur-deblur --out experiments/results/recipe_transfer.json

is the table by which the default recipe was chosen.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import networks
import preimage as pi
from preimage.report.sheet import contact_sheet

RESULTS = Path(__file__).parent / "results"
OPEN = {
    "squeezenet": lambda: pi.Network(networks.squeezenet(), name="squeezenet"),
    "resnet50": lambda: pi.Network(networks.resnet50(), name="resnet50"),
    "bundled": pi.load,
}


def drawn_classes(count: int) -> list[int]:
    return torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:count].tolist()


def recognised(judge: pi.Network, images: Tensor, classes: list[int]) -> dict[str, Any]:
    """How many images [N, 3, H, W] the judge answers with their class first, and among its first five."""
    resized = F.interpolate(images, size=judge.input_size, mode="bilinear", antialias=True)
    place = pi.Place(judge.logits, after_relu=True)
    with torch.no_grad():
        logits = torch.cat([judge.run(part, [place])[place] for part in resized.split(10)])
    hits = logits.topk(5).indices == torch.tensor(classes)[:, None]
    first, five = int(hits[:, 0].sum()), int(hits.any(1).sum())
    return {
        "top1": first / len(classes),
        "top1_interval": wilson(first, len(classes)),
        "top5": five / len(classes),
        "top5_interval": wilson(five, len(classes)),
        "mean_log_probability": round(float(logits.log_softmax(1)[range(len(classes)), classes].mean()), 3),
    }


def wilson(hits: int, count: int, z: float = 1.96) -> list[float]:
    """The 95 % interval of a share (Wilson 1927), which also holds near 0 and 1."""
    share, slack = hits / count, z * z / count
    middle = (share + slack / 2) / (1 + slack)
    half = z / (1 + slack) * math.sqrt(share * (1 - share) / count + slack / (4 * count))
    return [round(middle - half, 3), round(middle + half, 3)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--makers", nargs="+", choices=OPEN, default=list(OPEN))
    parser.add_argument("--recipes", nargs="+", default=["default"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--classes", type=int, default=40)
    parser.add_argument("--append", action="store_true", help="keep the rows that the file has of other runs")
    parser.add_argument("--out", type=Path, default=RESULTS / "transfer_recognition.json")
    asked = parser.parse_args()
    opened, classes, rows = {name: make() for name, make in OPEN.items()}, drawn_classes(asked.classes), []
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    if asked.append and asked.out.exists():
        kept = json.loads(asked.out.read_text())["rows"]
        rows = [r for r in kept if not (r["maker"] in asked.makers and r["recipe"] in asked.recipes)]
    for maker, recipe in itertools.product(asked.makers, asked.recipes):
        began = time.monotonic()
        wanted = [pi.objectives.label(index) for index in classes]
        result = pi.maximize(opened[maker], wanted, recipe=recipe, steps=asked.steps, batch_size=8)
        seconds = (time.monotonic() - began) / len(classes)
        name = maker if len(asked.recipes) == 1 else f"{recipe}-{maker}"
        contact_sheet(result, columns=8).save(asked.out.with_name(f"{asked.out.stem}-{name}.jpg"), quality=88)
        for judge in sorted(opened.keys() - {maker}):
            row = {"maker": maker, "recipe": recipe, "steps": len(result.trace), "judge": judge}
            row |= recognised(opened[judge], result.images, classes)
            rows.append(row | {"seconds_per_picture": round(seconds, 1)})
            print(
                f"{recipe:<22} {maker:>10} judged by {judge:<10} top-1 {row['top1']:.3f} {row['top1_interval']}  "
                f"top-5 {row['top5']:.3f} {row['top5_interval']}  {seconds:.1f} s a picture",
                flush=True,
            )
        asked.out.write_text(json.dumps({"classes": classes, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
