"""How much of a photo can be found again in ResNet-50? (beyond paper 2)

    python experiments/good_inversions.py

Photographs are inverted at a middle and at the last convolutional layer of ResNet-50, at 224 x 224, and shown to two
networks that had no part in it: do they give their first answer to the photo again? Writes
`results/good_inversions.json` (with 95 % bootstrap intervals over the photographs) and a figure for each way.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

import preimage as pi
from figure import RESULTS, pictures_in_rows, write_rows
from photographs import balanced, cropped, share
from transfer_recognition import OPEN

ASKED = {
    "layer3": {"tap": "layer3", "recipe": "default", "steps": 300},
    "layer4": {"tap": "layer4", "recipe": "robust", "steps": 200},
    "layer3-before": {"tap": "layer3", "recipe": "default", "steps": 300, "after_relu": False},
    "layer4-default": {"tap": "layer4", "recipe": "default", "steps": 300},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--ways", nargs="+", choices=ASKED, default=list(ASKED))
    asked = parser.parse_args()
    networks = {name: make() for name, make in OPEN.items()}
    photos = cropped(balanced(asked.photos), 224)
    path = RESULTS / "good_inversions.json"
    table = json.loads(path.read_text()) if path.exists() else {}
    for way in asked.ways:
        began = time.monotonic()
        options = dict(ASKED[way])
        made = pi.invert(networks["resnet50"], photos, options.pop("tap"), batch_size=4, progress=False, **options)
        row = {
            **ASKED[way],
            "feature_error": round(float(made.feature_errors.mean()), 4),
            "pixel_error": round(float(made.pixel_errors.mean()), 4),
            "seconds_per_photo": round((time.monotonic() - began) / len(photos), 1),
        }
        for name in ("bundled", "squeezenet"):
            seen = pi.agreement(networks[name], made.images, photos)
            row[name] = {"first": share(seen.first), "among_five": share(seen.among_five)}
        table[way] = row
        print(way, row, flush=True)
        write_rows("good_inversions", table)
        shown = zip(photos[:8], made.images[:8], made.feature_errors[:8], strict=True)
        pairs = [(photo, image, float(error)) for photo, image, error in shown]
        rows = [
            ("photo", [(photo, "") for photo, _, _ in pairs]),
            (way, [(image, f"feature error {error:.3f}") for _, image, error in pairs]),
        ]
        pictures_in_rows(rows, RESULTS / f"good_inversions_{way}.jpg", inches=1.8)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
