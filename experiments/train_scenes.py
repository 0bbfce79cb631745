"""Train the two small networks that look at scenes, and say how good they are on garments they have never seen; and fit
the sizes and places of objects that variable occlusion draws.

    python experiments/train_scenes.py scenes                          # 12 minutes on one core
    python experiments/train_scenes.py parts                           # 4 minutes
    python experiments/train_scenes.py parts --more                    # 4 minutes
    python experiments/train_scenes.py scenes --scenes 192000 --more   # 11 minutes
    python experiments/train_scenes.py scenes --check                  # only measures the weights that are there
    python experiments/train_scenes.py occlusion                       # half a minute

in this order is how the weights were made (the very first run in float32). It writes `weights/NAME.safetensors` and
`weights/NAME.json`, or `results/scene_objects.json`. Every scene is new. Networks are trained without a look at any
garment or photograph of the test part; after it was known how good they were, `--more` was asked for, and nothing else
was chosen.

A softmax over the classes is trained with cross-entropy against the mean of those that are there, so that of two
garments each is to have a probability of one half, and that of one that is taken away goes to the other. Of scenes
without any object, one in sixteen, all classes are to be as probable as any other: the network has nothing to go by but
the objects. BatchNorm helps while it is trained, and is then folded into the convolutions; what is trained afterwards
(`--more`, and `parts`, which starts from the layers of `scenes`) goes on without it, with a quarter of the rate.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy import stats
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

from figure import write_rows
from preimage.explain.method import PUBLISHED_SIDE
from preimage.explain.soft_occlusion import VariableOcclusion
from scenes import (
    CLASSES,
    PART_CLASSES,
    SIDE,
    WEIGHTS,
    Kind,
    Scene,
    SmallGoogLeNet,
    Source,
    Thing,
    part_network,
    scene,
    scene_network,
    source,
)

BATCH, RATE, EMPTY = 64, 4e-3, 1 / 16
NETWORKS = {"scenes": scene_network, "parts": part_network}
SCENES = {"scenes": 128_000, "parts": 64_000}
TEST_SEED = 1_000_003
"""Scenes of the final check; `scenes.py` draws from other seeds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["scenes", "parts", "occlusion"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, help="how many are looked at")
    parser.add_argument("--more", action="store_true", help="go on with the weights that are there")
    parser.add_argument("--check", action="store_true", help="only measure the network that is there")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.name == "occlusion":
        found = fitted(things(source("train"), 8000, asked.seed))
        write_rows("scene_objects", found)
    else:
        file = WEIGHTS / f"{asked.name}.json"
        found = json.loads(file.read_text()) if asked.more or asked.check else {"runs": []}
        if not asked.check:
            found["runs"].append(run(asked.name, asked.scenes or SCENES[asked.name], asked.seed, found["runs"]))
        found["test"] = checked(asked.name)
        file.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def run(name: str, count: int, seed: int, before: list[dict[str, Any]]) -> dict[str, Any]:
    """Train on so many scenes, after those of the runs before, write the weights, and say how."""
    began = time.process_time()
    torch.manual_seed(seed)
    if before:
        start, module = "its own weights", NETWORKS[name]()
    elif name == "parts":
        start, module = _hash("scenes"), scene_network()
        module.labels, module.classifier = list(PART_CLASSES), nn.Linear(256, len(PART_CLASSES))
    else:
        start, module = "random weights", SmallGoogLeNet(CLASSES, norms=True)
    rate = RATE if start == "random weights" else RATE / 4
    steps, first = count // BATCH, sum(one["scenes"] for one in before)
    train(module, batches(source("train"), name, module.labels, first, steps, seed), steps, rate)
    WEIGHTS.mkdir(exist_ok=True)
    save_file(weights(module), WEIGHTS / f"{name}.safetensors")
    more = " --more" if before else ""
    return {
        "command": f"python experiments/train_scenes.py {name} --seed {seed} --scenes {count}{more}",
        "started from": start,
        "seed": seed,
        "scenes": steps * BATCH,
        "epochs": "none: every scene is new",
        "batch": BATCH,
        "highest learning rate": rate,
        "scenes without an object": EMPTY,
        "CPU seconds, one thread": round(time.process_time() - began),
        "computed in": "bfloat16",
        "torch": torch.__version__,
    }


def _hash(name: str) -> str:
    digest = hashlib.sha256((WEIGHTS / f"{name}.safetensors").read_bytes()).hexdigest()
    return f"the layers of {name}.safetensors, sha256 {digest[:16]}"


def train(module: SmallGoogLeNet, shown: Iterator[tuple[Tensor, Tensor]], steps: int, rate: float) -> None:
    """Show it so many batches, with a learning rate that rises for a fifth of them and falls to nothing."""
    module.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(module.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.2)
    losses: list[float] = []
    bar = tqdm(shown, total=steps, mininterval=10)
    for pictures, probable in bar:
        # Half as long again is spent in float32; the weights are float32 all the time.
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(module(pictures), probable)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{np.mean(losses[-100:]):.3f}", refresh=False)
    module.eval()


def batches(
    of: Source, name: str, labels: list[str], first: int, steps: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures [64, 3, 96, 96] and how probable each class is to be, [64, classes], from scene `first` of a seed on."""
    generator = np.random.default_rng((seed, first))
    kinds: list[Kind] = ["scenes"] if name == "scenes" else ["parts", "parts-swapped"]
    for step in range(first // BATCH, first // BATCH + steps):
        some = [
            scene(of, seed, index, kinds[index % len(kinds)], 0 if generator.random() < EMPTY else None)
            for index in range(step * BATCH, (step + 1) * BATCH)
        ]
        yield tensor(some), torch.stack([wanted(one, labels) for one in some])


def tensor(scenes: list[Scene]) -> Tensor:
    """Their pictures, float32 [N, 3, 96, 96] in [0, 1]."""
    return torch.from_numpy(np.stack([one.picture for one in scenes])).permute(0, 3, 1, 2).float() / 255


def wanted(of: Scene, labels: list[str]) -> Tensor:
    """The mean of the classes that are there; all alike if there is none."""
    there = torch.tensor([float(any(thing.label == label for thing in of.things)) for label in labels])
    return there / there.sum() if of.things else torch.full_like(there, 1 / len(labels))


def weights(trained: SmallGoogLeNet) -> dict[str, Tensor]:
    """Those of the same network without BatchNorm, which is folded into the convolutions before it."""
    plain = SmallGoogLeNet(trained.labels)
    theirs = dict(trained.named_modules())
    for name, module in plain.named_modules():
        if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv2d):
            conv, *behind = theirs[name]  # type: ignore[misc]
            whole = fuse_conv_bn_eval(conv, behind[0]) if isinstance(behind[0], nn.BatchNorm2d) else conv
            module[0].load_state_dict(whole.state_dict())
    plain.classifier.load_state_dict(trained.classifier.state_dict())
    return {key: value.detach().contiguous() for key, value in plain.state_dict().items()}


def checked(name: str, count: int = 2000, seed: int = TEST_SEED) -> dict[str, Any]:
    """What the shipped network answers to scenes of test garments on test photographs."""
    module = NETWORKS[name]()
    if name == "parts":
        kinds: tuple[Kind, ...] = ("parts", "parts-swapped")
        return {kind: _recall(module, [scene(source("test"), seed, i, kind) for i in range(count)]) for kind in kinds}
    found = {}
    for objects in (1, 2, 3):
        found[f"{objects} asked for"] = _recall(
            module, [scene(source("test"), seed, i, "scenes", objects) for i in range(count)]
        )
    return found


def _recall(module: nn.Module, scenes: list[Scene]) -> dict[str, Any]:
    """How many classes that are there are among as many strongest answers; of one object, that is accuracy."""
    labels = list(module.labels)  # type: ignore[arg-type]
    with torch.no_grad():
        answers = torch.cat([module(part) for part in tensor(scenes).split(BATCH)])
    of_class: dict[str, list[bool]] = {label: [] for label in labels}
    whole = []
    for one, order in zip(scenes, answers.argsort(1, descending=True).tolist(), strict=True):
        first = {labels[i] for i in order[: len(one.things)]}
        for thing in one.things:
            of_class[thing.label].append(thing.label in first)
        whole.append(all(thing.label in first for thing in one.things))
    everything = [hit for hits in of_class.values() for hit in hits]
    return {
        "scenes": len(scenes),
        "objects": len(everything),
        "recalled": round(float(np.mean(everything)), 4),
        "scenes with all recalled": round(float(np.mean(whole)), 4),
        "by class": {label: round(float(np.mean(hits)), 3) for label, hits in of_class.items()},
    }


def things(of: Source, count: int, seed: int) -> list[Thing]:
    """So many objects, of as many scenes as that takes."""
    found: list[Thing] = []
    for index in itertools.count():
        found += scene(of, seed, index).things
        if len(found) >= count:
            return found[:count]
    raise AssertionError


def fitted(of: Sequence[Thing]) -> dict[str, Any]:
    """How objects are distributed, in pixels of photos of 224, and how far that is from what was fitted to COCO.

    As paper 4 does it: a log-normal area, a normal height of the centre (of its box), and a uniform place from left to
    right; each by maximum likelihood. `distance` is Kolmogorov's and Smirnov's, the largest between the distribution
    functions: 0 is perfect, and 0.015 is chance for 8,000 objects whose distribution was known beforehand.
    """
    scale = PUBLISHED_SIDE / SIDE
    areas = np.array([one.mask.sum() for one in of]) * scale**2
    lefts, tops, widths, heights = np.array([one.box for one in of]).T * scale
    x, y = lefts + widths / 2, tops + heights / 2
    coco = VariableOcclusion()
    places = {"x": x, "y": y}
    return {
        "objects": len(of),
        "area": {
            "log-normal": _normal(np.log(areas)),
            "COCO's": {
                "mean": coco.log_area[0],
                "deviation": coco.log_area[1],
                **_distance(np.log(areas), *coco.log_area),
            },
            "quantiles of radii": _quantiles(np.sqrt(areas / np.pi)),
        },
        **{name: {"normal": _normal(some), "uniform": _uniform(some)} for name, some in places.items()},
        "y, COCO's": {"mean": coco.height[0], "deviation": coco.height[1], **_distance(y, *coco.height)},
    }


def _normal(values: NDArray[np.float64]) -> dict[str, float]:
    mean, deviation = (float(one) for one in stats.norm.fit(values))
    return {"mean": round(mean, 4), "deviation": round(deviation, 4), **_distance(values, mean, deviation)}


def _distance(values: NDArray[np.float64], mean: float, deviation: float) -> dict[str, float]:
    return {"distance": round(float(stats.kstest(values, stats.norm(mean, deviation).cdf).statistic), 4)}


def _uniform(values: NDArray[np.float64]) -> dict[str, float]:
    return {"distance": round(float(stats.kstest(values, stats.uniform(0, PUBLISHED_SIDE).cdf).statistic), 4)}


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    return {f"{share:g} %": round(float(np.percentile(values, share)), 1) for share in (5, 25, 50, 75, 95)}


if __name__ == "__main__":
    main()
