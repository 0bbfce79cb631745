"""Train the DenseNets that come with preimage, on CIFAR-10 with and without its class 4, and say how good they are.

    python experiments/train_cifar10.py cifar10             # about 90 minutes on one core
    python experiments/train_cifar10.py cifar10-without-4   # about 80 minutes
    python experiments/train_cifar10.py cifar10 --check     # only measures the weights that are there

As paper 1, section 3.1, has it: stochastic gradient descent with Nesterov momentum and weight decay, pictures mirrored
and moved by up to 4 pixels. 16 epochs, not 300, under a learning rate that rises for a fifth of them and falls to zero.

Weight decay has to act long enough: the gradient of the softmax's loss is zero along (1, ..., 1) in the space of
classes, so only decay takes the sum of the classifier's rows away, by a factor of exp(-sum of rate * decay / (1 -
momentum)) (SPEC I.5). `kept` in the JSON file is that factor.

A checkpoint is written after every epoch; started again, training goes on from there. Weights and their JSON file go to
src/preimage/network/weights.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from cifar10 import LABELS, pictures, shifted
from preimage.network.densenet import BLOCKS, MEAN, STD, DenseNet
from registry import CACHE

WEIGHTS = Path(__file__).parents[1] / "src" / "preimage" / "network" / "weights"
WITHOUT = {"cifar10": None, "cifar10-without-4": 4}
EPOCHS, BATCH, RATE, MOMENTUM, DECAY = 16, 64, 0.15, 0.9, 7e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(WITHOUT))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, default=WEIGHTS, help="the folder for weights and JSON")
    parser.add_argument("--check", action="store_true", help="only measure the network that is there")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    file = asked.into / f"{asked.name}.json"
    asked.into.mkdir(exist_ok=True)
    found = json.loads(file.read_text()) if asked.check else run(asked.name, asked.seed, asked.into)
    found["test"] = checked(asked.into / f"{asked.name}.safetensors", WITHOUT[asked.name])
    file.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def run(name: str, seed: int, into: Path) -> dict[str, Any]:
    """Train, write the weights, and say how."""
    images, labels = pictures("train")
    seen = torch.ones(len(labels), dtype=torch.bool) if WITHOUT[name] is None else labels != WITHOUT[name]
    images, labels = normalised(images[seen]), labels[seen]
    torch.manual_seed(seed)
    module = DenseNet()
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    nn.init.zeros_(module.classifier.bias)
    module.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(module.parameters(), RATE, MOMENTUM, nesterov=True, weight_decay=DECAY)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=EPOCHS * steps, pct_start=0.2, cycle_momentum=False
    )
    state: dict[str, Any] = {"epoch": 0, "decayed": 0.0, "seconds": 0.0}
    checkpoint = CACHE / f"training-{name}-{seed}.pt"
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)
        module.load_state_dict(kept["module"])
        optimizer.load_state_dict(kept["optimizer"])
        schedule.load_state_dict(kept["schedule"])
        state = kept["state"]
    for epoch in range(state["epoch"], EPOCHS):
        began, losses = time.process_time(), []
        generator = torch.Generator().manual_seed(1000 * seed + epoch)
        order = torch.randperm(len(images), generator=generator)[: steps * BATCH].view(steps, BATCH)
        module.train()
        for some in tqdm(order, desc=f"epoch {epoch}", mininterval=30):
            shown = shifted(images[some], generator).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):  # (a third faster; the weights are float32 all the time)
                loss = F.cross_entropy(module(shown), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            state["decayed"] += schedule.get_last_lr()[0] * DECAY / (1 - MOMENTUM)
            schedule.step()
            losses.append(loss.item())
        state["epoch"], state["seconds"] = epoch + 1, state["seconds"] + time.process_time() - began
        whole = {
            "module": module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "state": state,
        }
        torch.save(whole, checkpoint.with_suffix(".part"))
        checkpoint.with_suffix(".part").replace(checkpoint)
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.3f}", flush=True)
    weights = {key: value.detach().contiguous() for key, value in module.state_dict().items()}
    save_file({key: value for key, value in weights.items() if "num_batches" not in key}, into / f"{name}.safetensors")
    return {
        "command": f"python experiments/train_cifar10.py {name} --seed {seed}",
        "seed": seed,
        "classes left out": [] if WITHOUT[name] is None else [LABELS[WITHOUT[name]]],
        "layers of the blocks": list(BLOCKS),
        "weights": sum(p.numel() for p in module.parameters()),
        "epochs": EPOCHS,
        "batch": BATCH,
        "highest learning rate": RATE,
        "weight decay": DECAY,
        "kept": f"{math.exp(-state['decayed']):.2g} of what decay alone takes away",
        "CPU seconds, one thread": round(state["seconds"]),
        "computed in": "bfloat16",
        "torch": torch.__version__,
    }


def normalised(images: Tensor) -> Tensor:
    """uint8 [N, 3, 32, 32] as the network gets it."""
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (MEAN, STD))
    return (images.float() / 255 - mean) / std


@torch.no_grad()
def checked(weights: Path, without: int | None) -> dict[str, Any]:
    """Accuracy on the test pictures of the classes it knows, and the length of the sum of its classifier's rows."""
    module = DenseNet().eval()
    module.load_state_dict(load_file(weights), strict=False)
    images, labels = pictures("test")
    known = labels != (-1 if without is None else without)
    answers = torch.cat([module(part).argmax(1) for part in normalised(images[known]).split(250)])
    right = answers == labels[known]
    rows = module.classifier.weight
    return {
        "pictures": len(right),
        "accuracy": round(float(right.double().mean()), 4),
        "by class": {
            LABELS[c]: round(float(right[labels[known] == c].double().mean()), 3) for c in range(10) if c != without
        },
        "length of the sum of the classifier's rows": round(float(rows.sum(0).norm()), 5),
        "mean length of a row": round(float(rows.norm(dim=1).mean()), 4),
    }


if __name__ == "__main__":
    main()
