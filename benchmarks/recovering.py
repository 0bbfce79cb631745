"""What recovering an objective costs: Jacobian and solution for all features, against as many backward passes.

    make bench-recover

For each network, tap and size, in turn within one run and on one core; only ratios mean anything. Writes
`benchmarks/recovering.json`. In float64 ("double") and in the network's own float32 ("single"):

    ours            sensitivity() and solve(), all features; the linear algebra is in float64 in any case
    smoothed        the same with smoothed kinks, as recover() does it
    passes          one forward pass, and a backward pass for each feature through its graph (paper 1, section 3.3)
    smooth passes   the same through the network with smoothed kinks
    written plainly forward and backward() for each feature, as one writes it, gradients of the weights included

Of the last three, 24 features are timed and scaled up, without any solution. The better of two turns counts. Goals:
small pictures at least 3 times as fast as passes (what is written plainly is what they beat so), and none slower.

`memory`: the most that the process grew by while one Jacobian was computed, when all of it may be held and when a
quarter may; in processes of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import networks
import preimage as pi
from preimage.network import Place
from preimage.network.smoothing import WIDTH, computing, smoothed
from preimage.objectives import aggregated
from preimage.objectives.directions import maxima_width
from preimage.parametrizations import SigmoidPixels
from preimage.recover import sensitivity, solve
from preimage.recover.sensitivity import Precision

OUT = Path(__file__).parent / "recovering.json"
TIMED = 24
CASES = (
    ("cifar10", "output", 32),
    ("cifar10", "dense3", 32),
    ("squeezenet", "features.6", 64),
    ("squeezenet", "features.12", 64),
    ("squeezenet", "features.12", 224),
    ("resnet50", "layer2.0", 64),
    ("resnet50", "layer2.0", 224),
)


def opened(name: str) -> pi.Network:
    return pi.load(name) if name == "cifar10" else pi.Network(getattr(networks, name)(), name=name)


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def case(name: str, tap: str, side: int) -> dict[str, Any]:
    network = opened(name)
    found: dict[str, Any] = {"network": name, "tap": tap, "side": side, "features": network.tap(tap).channels}
    for precision in ("double", "single"):
        times = timed(network, Place(tap), side, precision)
        found[precision] = {key: round(value, 3) for key, value in times.items()} | {
            f"{them} / {us}": round(times[them] / times[us], 2)
            for us, *others in (("ours", "passes", "written plainly"), ("smoothed", "smooth passes", "written plainly"))
            for them in others
        }
    print(found, flush=True)
    return found


def timed(network: pi.Network, place: Place, side: int, precision: Precision) -> dict[str, float]:
    parametrization = SigmoidPixels(3, side, side)
    dtype = torch.float64 if precision == "double" else torch.float32
    v = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(dtype)
    features = network.tap(place.tap).channels
    some = min(TIMED, features)

    def answers(parameters: Tensor) -> Tensor:
        return aggregated(network.run(parametrization.image(parameters), [place])[place], "max-mean")

    def smooth_answers(parameters: Tensor) -> Tensor:
        image = parametrization.image(parameters)
        activation = smoothed(network, image.detach(), [place], WIDTH, dtype).run(image, [place])[place]
        return aggregated(activation, "max-mean", torch.tensor([maxima_width(activation[0], WIDTH)]))

    def ours(smoothing: float | None) -> None:
        seen = sensitivity(network, v, place, parametrization, smoothing=smoothing, precision=precision)
        solve(seen.response, seen.gram)

    def passes(asked: Callable[[Tensor], Tensor] = answers) -> None:
        with computing(network, dtype):
            w = v.clone().requires_grad_(True)
            y = asked(w)
            for j in range(some):
                torch.autograd.grad(y[0, j], w, retain_graph=True)

    def written_plainly() -> None:
        with computing(network, dtype):
            for parameter in network.module.parameters():
                parameter.requires_grad_(True)
            for j in range(some):
                w = v.clone().requires_grad_(True)
                answers(w)[0, j].backward()

    ways: dict[str, tuple[Callable[[], object], float]] = {
        "ours": (lambda: ours(None), 1.0),
        "smoothed": (lambda: ours(WIDTH), 1.0),
        "passes": (passes, features / some),
        "smooth passes": (lambda: passes(smooth_answers), features / some),
        "written plainly": (written_plainly, features / some),
    }
    passes()  # (everything is warm)
    turns = [{key: seconds(run) * scale for key, (run, scale) in ways.items()} for _ in range(2)]
    return {key: min(turn[key] for turn in turns) for key in ways}


def grown(share: float) -> dict[str, Any]:
    """By how much the process grew for one Jacobian of ResNet-50's layer2.0 at 96 pixels (this process does nothing
    else), when so much of it may be held."""
    network, side = opened("resnet50"), 96
    parametrization = SigmoidPixels(3, side, side)
    v = torch.zeros(1, 3, side, side, dtype=torch.float64)
    sensitivity(network, v, "layer2.0", parametrization, features=range(4))  # (everything is warm)
    # Linux: the peak is forgotten, so that what loading the network took does not hide what follows.
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    whole = 16 * 512 * v.numel()
    began = time.perf_counter()
    seen = sensitivity(network, v, "layer2.0", parametrization, memory=int(whole * share))
    return {
        "allowed MiB": round(whole * share / 2**20),
        "grown MiB": round(peak() - before),
        "blocks": seen.blocks,
        "seconds": round(time.perf_counter() - began, 1),
    }


def peak() -> float:
    """The most that this process has had since its peak was forgotten, MiB."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 2**10


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        print(json.dumps(grown(float(sys.argv[1]))))
        return
    found = {"torch": torch.__version__, "cases": [case(*one) for one in CASES], "memory": []}
    for share in (1.0, 0.25):
        command = [sys.executable, __file__, str(share)]
        found["memory"].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    print(found["memory"])


if __name__ == "__main__":
    main()
