"""What an atlas costs: units a minute, against the bare network, and from one process to two.

    make bench-atlas

Everything is timed in turn within one run; only ratios mean anything. Writes `benchmarks/atlas.json`.

(a) one batch of units of a tap, from the call to the finished file (transforms, Fourier parametrization, incoming
    channels, embeddings and writing included; step sizes not looked for), against as many bare forward and backward
    passes of the same batch at the same size, to the same tap, without gradients for parameters, in the faster of two
    memory layouts. Goal: at most 1.15. Bare passes are timed before and after.
(b) what looking for the step size costs beside that, in pictures (in steps of a picture alone, that is).
(c) the same job by one process of one thread, and by two: 1 is no gain, 2 is all. From the first part that is finished
    to the last, so that the start of processes, which a long job does not notice, is left out; and with it.
(d) what grows with an atlas, of made-up units of 64 pixels: seconds to write the site and to tell the status, bytes of
    the index that a page loads first, and of all files.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
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
PASSES = 12
COSTS = (
    # network, tap, units, steps
    ("bundled", "stage2", 24, 200),
    ("bundled", "stage3", 16, 200),
    ("bundled", "stage4", 16, 100),
    ("bundled", "stage5", 16, 60),
    ("resnet50", "layer2", 8, 40),
)
TUNED = ("stage3", 40)
SCALED = ("stage3", 40, 100)
GROWN = (2_000, 8_000)


def bare(network: pi.Network, tap: TapPlan, count: int) -> float:
    """Seconds of one forward and backward pass of so many units' pictures; the median, of the faster layout."""
    members = tuple(tap.objective(i).bind(network) for i in range(tap.channels[0], tap.channels[0] + count))
    asked = EachItsOwn(members)
    found = []
    for layout in (torch.channels_last, torch.contiguous_format):
        images = torch.rand(count, network.channels, *tap.seen).contiguous(memory_format=layout)
        times = []
        with network.held():
            for _ in range(PASSES):
                began = time.perf_counter()
                image = images.detach().requires_grad_(True)
                torch.autograd.grad(asked.score(network.run(image, asked.places())).sum(), image)
                times.append(time.perf_counter() - began)
        found.append(statistics.median(times))
    return min(found)


def cost(network: pi.Network, tap: str, units: int, steps: int) -> dict[str, Any]:
    """(a) for one tap."""
    recipe = find_recipe(None)
    (plan,) = planned(network, tap, recipe, units=units, batch_size=units)
    before = bare(network, plan, units)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        pi.atlas(
            network, tap, f"{folder}/atlas", steps=steps, units=units, batch_size=units, tune=False, site=False,
            progress=False,
        )  # fmt: skip
        whole = time.perf_counter() - began
    bottom = steps * (before + bare(network, plan, units)) / 2
    usual = whole * recipe.steps / steps
    return {
        "network": network.name,
        "tap": tap,
        "pixels": list(plan.seen),
        "units": units,
        "steps": steps,
        "seconds": round(whole, 2),
        "bare": round(bottom, 2),
        "ratio": round(whole / bottom, 3),
        f"units a minute, at {recipe.steps} steps": round(60 * units / usual, 2),
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
            began = time.perf_counter()
            pi.atlas(
                "bundled", tap, out, steps=steps, units=units, batch_size=4, tune=False, site=False, progress=False,
                workers=workers, threads=1,
            )  # fmt: skip
            whole = time.perf_counter() - began
            written = sorted(path.stat().st_mtime for path in (out / "parts").glob("units-*"))
        # The last of several processes' first parts; what follows is made at full speed.
        first = written[workers - 1]
        rows[workers] = {
            "seconds": round(whole, 2),
            "parts a second": round((len(written) - workers) / (written[-1] - first), 4),
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
    document: dict[str, Any] = {**known, "command": "make bench-atlas", "threads": torch.get_num_threads()}
    document |= {"cores": os.cpu_count(), "torch": torch.__version__}
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
