"""Every method of `explain` measured on 100 photographs of Imagenette, for three networks.

    python experiments/evaluation.py squeezenet
    python experiments/evaluation.py squeezenet --mosaics

Deletion, insertion and deletion game on photographs, or the grid pointing game on mosaics of them, for each network's
own first answer. Photographs are 200 pixels wide, so that networks see them smaller than they were trained; and for
want of a GPU the expensive methods have fewer steps than were published. `SETTINGS` says both, and so does the result,
`results/evaluation_NETWORK.json` or `results/mosaics_NETWORK.json`.

Stopped, it goes on where it was. `--workers 2`, or `--ray ADDRESS`, spreads it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch

import networks
import preimage as pi
from job_arguments import add_job_arguments, check_job_arguments
from preimage.evaluation import Deletion, DeletionGame, Evaluation, GridPointing, Insertion, evaluate
from preimage.explain import (
    RISE,
    BlurOcclusion,
    Extremal,
    HybridMask,
    IntegratedGradients,
    Mask,
    Method,
    Occlusion,
    PreservingMask,
    SmoothGrad,
    VariableOcclusion,
)
from preimage.images import written_whole
from registry import CACHE

PHOTOGRAPHS = 100
FAINT = 0.01
"""Below this probability there is next to nothing that a mask could take away."""
RESULTS = Path(__file__).parent / "results"
CHEAP = "gradient guided-backprop deconvnet excitation-backprop contrastive-excitation-backprop grad-cam".split()


def methods(
    mask: int, others: int, positions: int, rise: int, samples: int, extremal: int = 0
) -> dict[str, str | Method]:
    """All methods.

    mask, others: iterations of the deletion mask, and of the other learned ones; positions: of occluders along each
    side; rise: masks of RISE; samples: of the averaged gradients; extremal: iterations of these, which do not come to
    their area before about 400; 0: left out.
    """
    return {
        "mask": Mask(iterations=mask),
        "mask-preserve": PreservingMask(iterations=others),
        "mask-both": HybridMask(iterations=others),
        **({"extremal": Extremal(iterations=extremal)} if extremal else {}),
        **{name: name for name in CHEAP},
        "integrated-gradients": IntegratedGradients(nodes=samples),
        "smoothgrad": SmoothGrad(samples=samples),
        "occlusion": Occlusion(positions=positions),
        "blur-occlusion": BlurOcclusion(positions=positions),
        "variable-occlusion": VariableOcclusion(samples=positions**2),
        "rise": RISE(samples=rise),
    }


def few(mask: int | None) -> dict[str, str | Method]:
    """Those that cost little, and the deletion mask."""
    return {**({} if mask is None else {"mask": Mask(iterations=mask)}), **{name: name for name in CHEAP}}


@dataclass(frozen=True)
class Setting:
    """size: side of the photographs in pixels. steps: of the curves."""

    size: int
    methods: dict[str, str | Method]
    steps: int = 20


SETTINGS = {
    "squeezenet": Setting(160, methods(300, 150, 14, 500, 50, 400)),
    "bundled": Setting(160, methods(60, 40, 10, 200, 20), steps=10),
    "resnet50": Setting(112, few(40), steps=10),
}
MOSAICS = {
    "squeezenet": Setting(192, methods(60, 40, 8, 100, 10)),
    "bundled": Setting(192, few(60)),
    "resnet50": Setting(192, few(None)),
}


def opened(name: str) -> pi.Network:
    return pi.load() if name == "bundled" else pi.Network(getattr(networks, name)(), name=name)


def by_probability(made: Evaluation) -> dict[str, dict[str, dict[str, float]]]:
    """Means over the pictures whose class is faint, and over the others, of which masks can take something away."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in made.rows:
        if row["value"] is not None:
            kind = "faint" if row["probability"] < FAINT else "others"
            quantities = found.setdefault(kind, {}).setdefault(f"{row['measure']}, {row['quantity']}", {})
            quantities.setdefault(row["method"], []).append(row["value"])
    return {
        kind: {
            quantity: {method: round(sum(some) / len(some), 4) for method, some in methods.items()}
            | {"pictures": len(next(iter(methods.values())))}
            for quantity, methods in quantities.items()
        }
        for kind, quantities in found.items()
    }


def write(name: str, command: str, made: Evaluation) -> None:
    document = {"command": command, **made.as_dict(), "by_probability": by_probability(made)}
    with written_whole(RESULTS / f"{name}.json") as file:
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def measured(name: str, mosaics: bool, workers: int = 1, ray: str | None = None) -> Evaluation:
    networks.photographs()
    chosen = (MOSAICS if mosaics else SETTINGS)[name]
    on_photographs = [Deletion(steps=chosen.steps), Insertion(steps=chosen.steps), DeletionGame()]
    return evaluate(
        opened(name),
        f"folder:{CACHE / 'imagenette'}",
        [GridPointing()] if mosaics else on_photographs,
        chosen.methods,
        out=CACHE / "evaluation" / f"{name}{'-mosaics' if mosaics else ''}",
        size=chosen.size,
        fit="crop",
        target="first",
        limit=PHOTOGRAPHS,
        batch_size=4,
        workers=workers,
        ray=ray,
    )


def by_steps(name: str, workers: int = 1, ray: str | None = None) -> Evaluation:
    """Would more steps of the mask change the deletion game?"""
    size = SETTINGS[name].size
    return evaluate(
        opened(name),
        f"folder:{CACHE / 'imagenette'}",
        DeletionGame(),
        {"grad-cam": "grad-cam", **{f"mask, {steps} steps": Mask(iterations=steps) for steps in (40, 160)}},
        out=CACHE / "evaluation" / f"{name}-steps",
        size=size,
        fit="crop",
        target="first",
        limit=12,
        batch_size=4,
        workers=workers,
        ray=ray,
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("network", choices=list(SETTINGS))
    asked.add_argument("--mosaics", action="store_true")
    asked.add_argument("--steps", action="store_true", help="masks of 40 and 160 steps on 12 photographs")
    add_job_arguments(asked)
    given = asked.parse_args()
    check_job_arguments(asked, given)
    if given.steps:
        made = by_steps(given.network, given.workers, given.ray)
        write(f"steps_{given.network}", f"python experiments/evaluation.py {given.network} --steps", made)
        print(made)
        return
    made = measured(given.network, given.mosaics, given.workers, given.ray)
    command = f"python experiments/evaluation.py {given.network}{' --mosaics' if given.mosaics else ''}"
    write(f"{'mosaics' if given.mosaics else 'evaluation'}_{given.network}", command, made)
    print(made)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
