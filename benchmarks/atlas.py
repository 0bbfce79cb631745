"""What an atlas costs: units a minute, against the bare network, and from one process to two.

    make bench-atlas

Everything is timed in turn within one run; only ratios mean anything. Writes `benchmarks/atlas.json`.

(a) one batch of units of a tap, from the call to the finished file (transforms, Fourier parametrization, incoming
    channels, embeddings and writing included; step sizes not looked for), against as many bare forward and backward
    passes of the same batch at the same size, to the same tap, without gradients for parameters, in the faster of two
    memory layouts; on one core. Goal: at most 1.15. Three turns, bare passes before and after each; their median.
(b) what looking for the step size costs beside that, in pictures (in steps of a picture alone, that is).
(c) the same command with one process of one thread, and with two: 1 is no gain, 2 is all. From part to part, so that
    the start of processes, which a long job does not notice, is left out; and with it.
(d) what grows with an atlas, of made-up units of 64 pixels: seconds to write the site and to tell the status, bytes of
    the index that a page loads first, and of all files.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import networks
import preimage as pi
from preimage.atlas import status
from preimage.atlas.parts import packed, sealed
from preimage.atlas.plan import TapPlan, planned
from preimage.atlas.site import write_site
from preimage.atlas.tuning import UNITS, tuned
from preimage.jobs.storage import open_storage
from preimage.objectives import EachItsOwn
from preimage.recipes import find_recipe

OUT = Path(__file__).parent / "atlas.json"
ROUNDS = 3
COSTS = (
    # network, tap, units, steps
    ("bundled", "stage2", 24, 100),
    ("bundled", "stage3", 16, 60),
    ("bundled", "stage4", 16, 24),
    ("bundled", "stage5", 16, 16),
    ("resnet50", "layer2", 8, 24),
)
TUNED = ("stage3", 40)
SCALED = ("stage3", 40, 300)
GROWN = (2_000, 8_000)


def bare(network: pi.Network, tap: TapPlan, count: int, passes: int, layout: torch.memory_format) -> float:
    """Seconds of so many forward and backward passes of so many units' pictures."""
    members = tuple(tap.objective(i).bind(network) for i in range(tap.channels[0], tap.channels[0] + count))
    asked = EachItsOwn(members)
    images = torch.rand(count, network.channels, *tap.seen).contiguous(memory_format=layout)
    began = time.perf_counter()
    with network.held():
        for _ in range(passes):
            image = images.detach().requires_grad_(True)
            torch.autograd.grad(asked.score(network.run(image, asked.places())).sum(), image)
    return time.perf_counter() - began


def made(network: pi.Network, tap: str, units: int, steps: int) -> float:
    """Seconds of an atlas of one batch, from the call to the finished file."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        pi.atlas(
            network, tap, f"{folder}/atlas", steps=steps, units=units, batch_size=units, tune=False, site=False,
            progress=False, threads=1,
        )  # fmt: skip
        return time.perf_counter() - began


def cost(network: pi.Network, tap: str, units: int, steps: int) -> dict[str, Any]:
    """(a) for one tap: `steps` in a turn, from which a run of the recipe's length is worked out."""
    recipe = find_recipe(None)
    (plan,) = planned(network, tap, recipe, units=units, batch_size=units)
    layouts = (torch.channels_last, torch.contiguous_format)
    trial = [bare(network, plan, units, 5, layout) for layout in layouts]
    layout = layouts[trial.index(min(trial))]
    turns = []
    for _ in range(ROUNDS):
        before = bare(network, plan, units, steps // 2, layout)
        short, whole = made(network, tap, units, 1), made(network, tap, units, steps)
        after = bare(network, plan, units, steps // 2, layout)
        step = (whole - short) / (steps - 1)
        turns.append((short + step * (recipe.steps - 1), (before + after) / (2 * (steps // 2)) * recipe.steps, short))
    ratios = [ours / bottom for ours, bottom, _ in turns]
    ours = statistics.median(turn[0] for turn in turns)
    return {
        "network": network.name,
        "tap": tap,
        "pixels": list(plan.seen),
        "units": units,
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(one, 3) for one in ratios],
        "seconds before and after the steps": round(statistics.median(turn[2] for turn in turns), 2),
        "units a minute": round(60 * units / ours, 2),
    }


def tuning(network: pi.Network, tap: str, units: int) -> dict[str, Any]:
    """(b)."""
    recipe = find_recipe(None)
    (plan,) = planned(network, tap, recipe, units=units)
    found = tuned(network, plan, [plan.objective(i).bind(network) for i in range(UNITS)], recipe, None, 0)
    pictures = sum(one.cost for one in found.searches)
    return {
        "tap": tap,
        "pictures": round(pictures, 1),
        "of a layer of": units,
        "share": round(pictures / units, 3),
        "says": found.says,
    }


def scaling(tap: str, units: int, steps: int) -> dict[str, Any]:
    """(c)."""
    rows = {}
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "atlas"
            words = [sys.executable, "-m", "preimage.cli", "atlas", "bundled", "--at", tap, "-o", str(out), "--no-tune"]
            words += ["--steps", str(steps), "--units", str(units), "--batch-size", "4", "--threads", "1"]
            began = time.perf_counter()
            subprocess.run([*words, "--workers", str(workers)], check=True, capture_output=True)
            whole = time.perf_counter() - began
            written = sorted(path.stat().st_mtime for path in (out / "parts").glob("units-*"))
        # From the last of several processes' first parts on, all of them are at work.
        rows[workers] = {
            "seconds": round(whole, 2),
            "parts a second": round((len(written) - workers) / (written[-1] - written[workers - 1]), 4),
        }
    return {
        "tap": tap,
        "units": units,
        "steps": steps,
        "cores": os.cpu_count(),
        "workers": rows,
        "speed-up": round(rows[2]["parts a second"] / rows[1]["parts a second"], 3),
        "with the start of processes": round(rows[1]["seconds"] / rows[2]["seconds"], 3),
    }


def grown(units: int) -> dict[str, Any]:
    """(d) for so many units of one layer: pictures and embeddings are noise, which is the worst for their files."""
    noise = np.random.default_rng(0)
    (plan,) = planned(pi.load("bundled"), "head:0", find_recipe(None))
    plan = replace(plan, channels=(0, units - 1), shape=(units,), asked="channel", seen=(64, 64), batch=16)
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(folder)
        storage.prepare()
        job = {"verb": "atlas", "model": "noise", "network": "noise", "labels": None, "taps": [plan.as_dict()]}
        storage.write("job.json", json.dumps(job).encode())
        storage.write(f"parts/{plan.tune_file}", sealed({"tap": plan.tap, "factor": 1.0, "says": "", "units": []}))
        for batch in plan.batches:
            told = [
                {"channel": c, "objective": plan.written(c), "score": float(noise.random()), "trace": [0.5] * 60}
                | {"failure": None, "incoming": [], "audit": None}
                for c in batch.channels
            ]
            arrays = {
                "images": noise.integers(0, 256, (len(told), 3, 64, 64), "uint8"),
                "embedding": noise.standard_normal((len(told), 320)).astype(np.float16),
                "channels": np.array(batch.channels, np.int32),
            }
            run = {"recipe": "noise", "steps": 1, "seed": 0}
            storage.write(f"parts/{batch.file}", packed(arrays, {"tap": plan.tap, "units": told, "settings": run}))
        began = time.perf_counter()
        status(folder)
        middle = time.perf_counter()
        write_site(folder)
        return {
            "units": units,
            "status, seconds": round(middle - began, 2),
            "site, seconds": round(time.perf_counter() - middle, 1),
            "index, bytes a unit": round((Path(folder) / "site/data/index.js").stat().st_size / units, 1),
            "site, bytes a unit": round(sum(p.stat().st_size for p in Path(folder, "site").rglob("*.*")) / units),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", choices=("cost", "tuning", "scaling", "grown"), help="one part; the others stay as they were"
    )
    only = parser.parse_args().only
    known = json.loads(OUT.read_text()) if OUT.exists() and only else {}
    document: dict[str, Any] = {**known, "command": "make bench-atlas"}
    document |= {"cores": os.cpu_count(), "torch": torch.__version__}
    torch.set_num_threads(1)
    bundled = pi.load("bundled")
    if only in (None, "cost"):
        opened = {"bundled": bundled, "resnet50": pi.Network(networks.resnet50(), name="resnet50")}
        document["cost"] = [cost(opened[name], *rest) for name, *rest in COSTS]
        print(json.dumps(document["cost"], indent=1), flush=True)
    if only in (None, "tuning"):
        document["tuning"] = tuning(bundled, *TUNED)
        print(json.dumps(document["tuning"], indent=1), flush=True)
    if only in (None, "scaling"):
        document["scaling"] = scaling(*SCALED)
        print(json.dumps(document["scaling"], indent=1), flush=True)
    if only in (None, "grown"):
        document["grown"] = [grown(count) for count in GROWN]
        print(json.dumps(document["grown"], indent=1), flush=True)
    OUT.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
