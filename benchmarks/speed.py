"""What a step of `maximize` costs: against the bare network, and against the loop that people write today.

    make bench

Everything is timed in turn within one run and compared by medians, since machines are noisy; only ratios mean
anything. Writes `benchmarks/speed.json`.

(a) overhead: a step of `maximize` on SqueezeNet at 227 px, divided by a bare forward and backward pass to the same
    tap, both with the same layout and without gradients for parameters. The bare pass is given every advantage.
(b) the usual loop: a forward hook stores the activation while the whole network runs, parameters keep their
    gradients, the layout is the default one, and a random rescaling gives another input size in each step.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import networks
import preimage as pi
from preimage.objectives import EachItsOwn
from preimage.optimization import climb
from preimage.parametrizations import PHOTOGRAPHS, Fourier
from preimage.recipes import find_recipe

STEPS = 12
ROUNDS = 5


def our_steps(network: pi.Network, tap: str, batch: int) -> Callable[[], list[float]]:
    """A run of the default recipe; returns the seconds that each step took."""
    settings = find_recipe(None).stretched(STEPS)
    objective = EachItsOwn((pi.objectives.channel(tap, 7),) * batch)
    parametrization = settings.parametrization(3, *network.input_size, PHOTOGRAPHS)

    def run() -> list[float]:
        generator = torch.Generator().manual_seed(0)
        start = torch.stack([parametrization.start(generator)] * batch)
        ticks = [time.perf_counter()]
        climb(
            network,
            objective,
            parametrization,
            start,
            settings.stages,
            generator,
            on_step=lambda: ticks.append(time.perf_counter()),
        )
        return [b - a for a, b in itertools.pairwise(ticks)]

    return run


def bare_steps(network: pi.Network, tap: str, batch: int, *, channels_last: bool) -> Callable[[], list[float]]:
    """Forward to the tap and backward to the image, and nothing else."""
    module = network.module
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def run() -> list[float]:
        image = torch.rand(batch, 3, *network.input_size).to(memory_format=layout).requires_grad_(True)
        ticks = [time.perf_counter()]
        for _ in range(STEPS):
            value = stopped(module, tap, image)
            torch.autograd.grad(value[:, 7].sum(), image)
            ticks.append(time.perf_counter())
        return [b - a for a, b in itertools.pairwise(ticks)]

    return run


def stopped(module: nn.Module, tap: str, image: Tensor) -> Tensor:
    """The tap's value, with the rest of the network not run."""

    class StopError(Exception):
        pass

    kept: list[Tensor] = []

    def hook(_: nn.Module, __: Any, output: Tensor) -> None:
        kept.append(output)
        raise StopError

    handle = module.get_submodule(tap).register_forward_hook(hook)
    try:
        module(image)
    except StopError:
        pass
    finally:
        handle.remove()
    return kept[0]


def usual_steps(network: pi.Network, tap: str, batch: int) -> Callable[[], list[float]]:
    """The loop people write today (see the module's docstring), with the same parametrization."""
    module = network.module
    parametrization = Fourier(3, *network.input_size, colours=PHOTOGRAPHS)

    def run() -> list[float]:
        generator = torch.Generator().manual_seed(0)
        v = torch.stack([parametrization.start(generator)] * batch).requires_grad_(True)
        optimizer = torch.optim.Adam([v], lr=0.05)
        kept: list[Tensor] = []
        handle = module.get_submodule(tap).register_forward_hook(lambda *call: kept.append(call[2]))
        ticks = [time.perf_counter()]
        for _ in range(STEPS):
            optimizer.zero_grad()
            image = F.pad(parametrization.image(v), (12,) * 4, value=0.5)
            top, left = torch.randint(0, 17, (2,), generator=generator).tolist()
            image = image[:, :, top : top + 232, left : left + 232]
            scale = 0.9 + 0.2 * float(torch.rand((), generator=generator))
            image = F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=True)
            kept.clear()
            module(image)
            (-kept[0][:, 7].mean((1, 2)).sum()).backward()
            optimizer.step()
            ticks.append(time.perf_counter())
        handle.remove()
        module.zero_grad()
        return [b - a for a, b in itertools.pairwise(ticks)]

    return run


def in_turn(**runs: Callable[[], list[float]]) -> dict[str, float]:
    """Median seconds a step of each, all measured in turn; the first step of every run is left out."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            times[name] += run()[1:]
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    rows = []
    small = pi.Network(networks.squeezenet(), name="squeezenet")
    small.module.requires_grad_(False)
    for tap in ("features.6", "features.12", "output"):
        # The bare pass gets the output's own module, which is the whole network.
        name = "" if tap == "output" else tap
        for batch in (1, 8):
            took = in_turn(
                ours=our_steps(small, tap, batch),
                bare=bare_steps(small, name, batch, channels_last=True),
                bare_default_layout=bare_steps(small, name, batch, channels_last=False),
            )
            rows.append({"what": "overhead", "network": "squeezenet", "tap": tap, "batch": batch, **took})
    large = pi.Network(networks.resnet50(), name="resnet50")
    large.module.requires_grad_(True)
    for tap in ("layer1.2", "layer2.3", "layer4.2"):
        took = in_turn(ours=our_steps(large, tap, 1), usual=usual_steps(large, tap, 1))
        rows.append({"what": "usual loop", "network": "resnet50", "tap": tap, "batch": 1, **took})
    for row in rows:
        base = "bare" if row["what"] == "overhead" else "usual"
        row["ratio"] = row["ours"] / row[base] if base == "bare" else row[base] / row["ours"]
        said = "x the bare pass" if base == "bare" else "x faster than the usual loop"
        print(f"{row['network']:>10} {row['tap']:<12} batch {row['batch']}: {row['ratio']:.2f} {said}")
        if base == "bare":
            print(f"{'':>33} {row['ours'] / row['bare_default_layout']:.2f} x the bare pass in the default layout")
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "steps": STEPS, "rounds": ROUNDS}
    (Path(__file__).parent / "speed.json").write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
