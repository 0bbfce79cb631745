"""Every method measured where all is known: scenes with exact boxes and masks, and objects of which one part tells.

    python experiments/evaluation_scenes.py           # localisation and pointing (SPEC M19, M20, M.6a)
    python experiments/evaluation_scenes.py --parts   # the telling part against the other, and upside down (M21, M.6b)

Garments on photographs (`scenes.py`), and small networks that were trained on such scenes. Writes
`results/evaluation_scenes.json`, `results/evaluation_parts.json` and `results/evaluation_parts_swapped.json`. Stopped,
it goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import preimage as pi
from evaluation import CHEAP, write
from preimage.evaluation import (
    Deletion,
    DeletionGame,
    Evaluation,
    Insertion,
    Localisation,
    Measure,
    Parts,
    Pointing,
    evaluate,
)
from preimage.explain import RISE, Extremal, HybridMask, Mask, Method, PreservingMask, find_method
from registry import CACHE, cached
from scenes import Kind, occlusion_for_scenes, part_network, scene_network, write_coco

SCENES, PARTS = 150, 150
SEED = 1


def methods() -> dict[str, str | Method]:
    """As published, but for 150 iterations of the other learned masks, and 1,000 masks of RISE."""
    return {
        "mask": Mask(),
        "mask@localisation": find_method("mask@localisation"),
        "mask-preserve": PreservingMask(iterations=150),
        "mask-both": HybridMask(iterations=150),
        "extremal": Extremal(iterations=150),
        **{name: name for name in CHEAP},
        "integrated-gradients": "integrated-gradients",
        "smoothgrad": "smoothgrad",
        "occlusion": "occlusion",
        "blur-occlusion": "blur-occlusion",
        "variable-occlusion": occlusion_for_scenes(),
        "rise": RISE(samples=1000),
    }


def measured(
    network: pi.Network,
    kind: Kind,
    count: int,
    measures: list[Measure],
    chosen: dict[str, str | Method],
    target: str = "label",
) -> Evaluation:
    def make(folder: Path) -> None:
        write_coco(folder, count, SEED, kind)

    folder = cached(f"{kind}-{count}-{SEED}", make)
    return evaluate(
        network,
        f"coco:{folder / 'photos'},{folder / 'instances.json'}",
        measures,
        chosen,
        out=CACHE / "evaluation" / f"{kind}-{target.replace(':', '-')}",
        target=target,
        batch_size=8,
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--parts", action="store_true")
    given = asked.parse_args()
    command = f"python experiments/evaluation_scenes.py{' --parts' if given.parts else ''}"
    if given.parts:
        network = pi.Network(part_network(), name="part network")
        few: dict[str, str | Method] = {"mask": Mask(), **{name: name for name in ("gradient", "grad-cam", "rise")}}
        for kind, name in (("parts", "evaluation_parts"), ("parts-swapped", "evaluation_parts_swapped")):
            made = measured(network, kind, PARTS, [Parts()], few)
            write(name, command, made)
            print(made)
        return
    network = pi.Network(scene_network(), name="scene network")
    measures = [Pointing(), Localisation(), DeletionGame(), Deletion(), Insertion()]
    made = measured(network, "scenes", SCENES, measures, methods())
    write("evaluation_scenes", command, made)
    print(made)
    # The paper's setting for localisation: what the strongest classes rest on, together (M3).
    only: dict[str, str | Method] = {"mask@localisation": "mask@localisation", "mask": Mask()}
    made = measured(network, "scenes", SCENES, [Pointing(), Localisation()], only, target="top:2")
    write("evaluation_scenes_top2", command, made)
    print(made)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
