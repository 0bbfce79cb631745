"""Every method measured where all is known: scenes with exact boxes and masks, and objects of which one part tells.

    python experiments/evaluation_scenes.py           # localisation and pointing (SPEC M19, M20, M.6a)
    python experiments/evaluation_scenes.py --top     # masks of the two strongest classes together (M3)
    python experiments/evaluation_scenes.py --parts   # the telling part against the other, and upside down (M21, M.6b)

Garments on photographs (`scenes.py`), and small networks that were trained on such scenes. Writes
`results/evaluation_scenes.json`, `results/evaluation_scenes_top2.json`, `results/evaluation_parts.json` and
`results/evaluation_parts_swapped.json`. Stopped,
it goes on where it was.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

import preimage as pi
from evaluation import CHEAP, RESULTS, write
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
from preimage.explain import (
    PUBLISHED_MASKS,
    RISE,
    BlurOcclusion,
    HybridMask,
    Mask,
    Method,
    Occlusion,
    PreservingMask,
    find_method,
)
from preimage.images import written_whole
from registry import CACHE, cached
from scenes import Kind, occlusion_for_scenes, part_network, scene, scene_network, source, write_coco

SCENES, PARTS = 80, 150
SEED = 1
LOCALISATION = replace(PUBLISHED_MASKS["localisation"], iterations=150)
"""The paper's setting for localisation, meant for the sum of the strongest classes (M3)."""


def methods() -> dict[str, str | Method]:
    """As published, but for half of a mask's iterations, and a quarter of the occluders, on photos of 96 pixels.

    Extremal perturbations need hundreds of iterations to come to their area, which took too long here.
    """
    return {
        "mask": Mask(iterations=150),
        "mask@localisation": LOCALISATION,
        "mask-preserve": PreservingMask(iterations=100),
        "mask-both": HybridMask(iterations=100),
        **{name: name for name in CHEAP},
        "integrated-gradients": "integrated-gradients",
        "smoothgrad": "smoothgrad",
        "occlusion": Occlusion(positions=14),
        "blur-occlusion": BlurOcclusion(positions=14),
        "variable-occlusion": replace(occlusion_for_scenes(), samples=196),
        "rise": RISE(samples=500),
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


def figure(network: pi.Network) -> None:
    """Six scenes of two objects, one of which is asked for, and what every method says."""
    made = [scene(source("test"), SEED, index, "scenes", 2) for index in range(6)]
    pictures = [one.picture for one in made]
    asked = [[f"class:{one.things[0].label}"] for one in made]
    sheet = pi.explain(
        network, pictures, asked, method=[find_method(one) for one in methods().values()], least_probability=0
    )
    with written_whole(RESULTS / "evaluation_scenes.jpg") as file:
        sheet.sheet(96).save(file, quality=90)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--parts", action="store_true")
    asked.add_argument("--top", action="store_true", help="masks of the two strongest classes together")
    asked.add_argument("--figure", action="store_true", help="only what the methods say of six scenes")
    given = asked.parse_args()
    if given.figure:
        figure(pi.Network(scene_network(), name="scene network"))
        return
    command = f"python experiments/evaluation_scenes.py{' --parts' * given.parts}{' --top' * given.top}"
    if given.parts:
        network = pi.Network(part_network(), name="part network")
        few: dict[str, str | Method] = {
            "mask": Mask(),
            **{name: name for name in ("gradient", "excitation-backprop", "grad-cam")},
        }
        for kind, name in (("parts", "evaluation_parts"), ("parts-swapped", "evaluation_parts_swapped")):
            made = measured(network, kind, PARTS, [Parts()], few)
            write(name, command, made)
            print(made)
        return
    network = pi.Network(scene_network(), name="scene network")
    if given.top:
        only: dict[str, str | Method] = {"mask@localisation": LOCALISATION, "mask": Mask(iterations=150)}
        made = measured(network, "scenes", SCENES, [Pointing(), Localisation()], only, target="top:2")
        write("evaluation_scenes_top2", command, made)
    else:
        measures = [Pointing(), Localisation(), DeletionGame(), Deletion(), Insertion()]
        made = measured(network, "scenes", SCENES, measures, methods())
        write("evaluation_scenes", command, made)
    print(made)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
