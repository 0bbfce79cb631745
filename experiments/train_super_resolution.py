"""Train SRNet on random surfaces, and say how good it is on others, beside bilinear upscaling.

    python experiments/train_super_resolution.py                         # 12 minutes on one core
    python experiments/train_super_resolution.py --check                 # only measures the weights that are there
    python experiments/train_super_resolution.py --check --sheet a.png   # and shows some: input, bilinear, ours, truth

It writes `weights/super_resolution.safetensors` and `weights/super_resolution.json`. Every surface is new; those that
it is measured on are from another seed, and nothing was chosen by them.

The loss is the mean absolute difference of normals and depth where there is a surface, and of the mask everywhere
(Weiss et al. 2019). Bilinear upscaling mixes a surface with what is behind it, so the fairer comparison is `inside`,
where all that it mixes is surface.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from super_resolution import FACTOR, SIDE, WEIGHTS, SRNet, bilinear, finished, super_resolution
from surfaces import as_picture, pairs

BATCH, STEPS, RATE = 8, 3000, 1e-3
DEPTH_WEIGHT = 5.0
"""Depths differ less than normals do."""
TEST_SEED = 1_000_003


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--check", action="store_true", help="only measure the network that is there")
    parser.add_argument("--sheet", type=Path, help="write a picture of some held-out surfaces")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    file = WEIGHTS / "super_resolution.json"
    found = json.loads(file.read_text()) if asked.check else run(asked.seed, asked.steps)
    found["test"] = {
        f"{SIDE} to {FACTOR * SIDE}": checked(500, SIDE),
        f"{4 * SIDE} to {4 * FACTOR * SIDE}": checked(20, 4 * SIDE),
    }
    file.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    if asked.sheet:
        Image.fromarray((sheet(8) * 255).round().byte().permute(1, 2, 0).numpy()).save(asked.sheet)


def run(seed: int, steps: int) -> dict[str, Any]:
    """Train, write the weights, and say how."""
    began = time.process_time()
    torch.manual_seed(seed)
    module = SRNet()
    # What comes out at first is the upscaled input.
    torch.nn.init.zeros_(module.fold[-1].weight)
    torch.nn.init.zeros_(module.fold[-1].bias)
    train(module, seed, steps)
    WEIGHTS.mkdir(exist_ok=True)
    save_file(
        {key: value.detach().contiguous() for key, value in module.state_dict().items()},
        WEIGHTS / "super_resolution.safetensors",
    )
    return {
        "command": f"python experiments/train_super_resolution.py --seed {seed} --steps {steps}",
        "seed": seed,
        "steps": steps,
        "surfaces": steps * BATCH,
        "epochs": "none: every surface is new",
        "batch": BATCH,
        "highest learning rate": RATE,
        "weight of depths": DEPTH_WEIGHT,
        "weights": sum(one.numel() for one in module.parameters()),
        "CPU seconds, one thread": round(time.process_time() - began),
        "computed in": "bfloat16",
        "torch": torch.__version__,
    }


def train(module: SRNet, seed: int, steps: int) -> None:
    """Show it so many batches, with a learning rate that rises for a tenth of them and falls to nothing."""
    module.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(module.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    losses: list[tuple[float, float]] = []
    bar = tqdm(range(steps), mininterval=10)
    for step in bar:
        low, high = pairs(seed, range(step * BATCH, (step + 1) * BATCH), SIDE, FACTOR)
        with torch.autocast("cpu", torch.bfloat16):
            made = module(low)
        loss = difference(made.float(), high)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append((loss.item(), difference(bilinear(low), high).item()))
        now = np.mean(losses[-100:], axis=0)
        bar.set_postfix(loss=f"{now[0]:.4f}", bilinear=f"{now[1]:.4f}", refresh=False)
    module.eval()


def difference(made: Tensor, truth: Tensor) -> Tensor:
    """The loss of maps [N, 5, H, W]: a scalar."""
    there = (truth[:, 4:] > 0).float()
    away = (made - truth).abs()
    per_map = (away[:, :4] * there).sum((0, 2, 3)) / there.sum().clamp_min(1)
    return per_map[:3].mean() + DEPTH_WEIGHT * per_map[3] + away[:, 4].mean()


@torch.no_grad()
def checked(count: int, side: int) -> dict[str, Any]:
    """The errors of the shipped network and of bilinear upscaling on surfaces of the test seed."""
    module = super_resolution()
    low, high = pairs(TEST_SEED, range(count), side, FACTOR)
    ours = torch.cat([module(some) for some in low.split(BATCH)])
    upscaled = bilinear(low)
    inside = (high[:, 4] > 0) & (upscaled[:, 4] > 0.999)
    return {
        "surfaces": count,
        "ours": errors(finished(ours), high, inside),
        "bilinear": errors(finished(upscaled), high, inside),
        "bilinear, of what is there only": errors(finished(bilinear_of_surfaces(low)), high, inside),
    }


def bilinear_of_surfaces(low: Tensor) -> Tensor:
    """Bilinear upscaling that leaves out, of normals and depths, pixels without a surface."""
    there = (low[:, 4:] > 0).float()
    cover = bilinear(there).clamp_min(1e-6)
    return torch.cat([bilinear(low[:, :4] * there) / cover, bilinear(low[:, 4:])], 1)


def errors(made: Tensor, truth: Tensor, inside: Tensor) -> dict[str, float]:
    """How far maps [N, 5, H, W] are from the truth: where there is a surface, and where `inside`, bool [N, H, W]."""
    found = {}
    for name, where in (("", truth[:, 4] > 0), (" inside", inside)):
        normals, true_normals = (maps[:, :3].movedim(1, 3)[where] for maps in (made, truth))
        depths, true_depths = (maps[:, 3][where] for maps in (made, truth))
        angles = 2 * torch.rad2deg(torch.asin(((normals - true_normals).norm(dim=1) / 2).clamp_max(1)))
        found |= {
            f"normals, mean angle in degrees{name}": float(angles.mean()),
            f"normals, L1{name}": float((normals - true_normals).abs().mean()),
            f"normals, PSNR in dB{name}": float(10 * torch.log10(4 / F.mse_loss(normals, true_normals))),
            f"depth, L1{name}": float((depths - true_depths).abs().mean()),
        }
    found["mask, share of wrong pixels"] = float(((made[:, 4] > 0) != (truth[:, 4] > 0)).float().mean())
    return {name: float(f"{value:.4g}") for name, value in found.items()}


@torch.no_grad()
def sheet(count: int) -> Tensor:
    """Input, bilinear, ours and truth below each other, as `surfaces.as_picture` shows them: [3, H, W] in [0, 1]."""
    low, high = pairs(TEST_SEED, range(count), SIDE, FACTOR)
    near = low.repeat_interleave(FACTOR, 2).repeat_interleave(FACTOR, 3)
    rows = [as_picture(maps) for maps in (near, finished(bilinear(low)), finished(super_resolution()(low)), high)]
    half = FACTOR * SIDE * 2  # shaded and normals only
    return torch.cat([torch.cat(list(one[:, :, :, :half]), 2) for one in rows], 1)


if __name__ == "__main__":
    main()
