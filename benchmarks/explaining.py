"""What explanations cost: learned masks against the bare network, one call against many, and baselines against Captum.

    make bench-explain

Everything is timed in turn within one run; only ratios mean anything. Writes `benchmarks/explaining.json`.

(a) masks: 300 iterations (of ResNet-50 in batches of 16: 100) with the circular start, seconds a photo, beside as many
    bare forward and backward passes of the same batch (softmax of one class, gradient by the image, no gradient for
    parameters; the faster of two memory layouts). Bare passes are timed in four parts, before, between and after.
    Goal: at most 1.2 times the bare cost, the circular search at most 5 % of the whole.
(b) 64 photos in one call against 64 calls.
(c) the baselines that Captum has, one photo at a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import networks
import preimage as pi
from photographs import balanced, cropped
from preimage.explain import GradCAM, Gradient, IntegratedGradients, Mask, Method, Occlusion, Question
from preimage.explain.circle import circular_masks
from preimage.parametrizations import MaskOver
from preimage.priors import Gaussian

OUT = Path(__file__).parent / "explaining.json"
ITERATIONS = 300
PARTS = 4


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def bare(network: pi.Network, photos: Tensor, classes: Tensor, steps: int, layout: torch.memory_format) -> None:
    """Forward, softmax, and back to the image, and nothing else."""
    module = network.module
    images = network.prepare(photos).contiguous(memory_format=layout)
    with network.held():
        for _ in range(steps):
            image = images.detach().requires_grad_(True)
            score = module(image).softmax(1).gather(1, classes[:, None]).sum()
            torch.autograd.grad(score, image)


def masks(network: pi.Network, batch: int, iterations: int) -> dict[str, Any]:
    """(a) for one network and batch size."""
    photos = cropped(balanced(batch), network.input_size[0])
    with torch.no_grad():
        classes = network.run(photos, [pi.Place(network.logits, True)])[pi.Place(network.logits, True)].argmax(1)
    targets = [[f"class:{int(c)}"] for c in classes]

    found: list[Any] = []

    def learned() -> None:
        method = Mask(iterations=iterations)
        found.extend(
            pi.explain(
                network, list(photos), targets, method=method, least_probability=0, batch_size=batch, progress=False
            )
        )

    objectives = tuple(pi.objectives.label(int(c), "prob").bind(network) for c in classes)
    question = Question(network, tuple(photos), objectives, network.input_size, (0,) * batch, max(batch, 16))

    layouts = (torch.channels_last, torch.contiguous_format)
    trial = [seconds(lambda layout=layout: bare(network, photos, classes, 4, layout)) for layout in layouts]  # type: ignore[misc]
    layout = layouts[trial.index(min(trial))]
    part = max(1, iterations // PARTS // (1 if batch == 1 else 5))
    passes: list[float] = []

    def bare_part() -> None:
        passes.append(seconds(lambda: bare(network, photos, classes, part, layout)) / part)

    bare_part()
    with network.held():
        searches = [seconds(lambda: circle_search(question)) for _ in range(3 if batch == 1 else 1)]
    bare_part()
    whole = seconds(learned)
    bare_part()
    bare_part()
    bottom = statistics.mean(passes) * iterations
    full = bottom / iterations * ITERATIONS
    return {
        "iterations": iterations,
        "seconds_per_photo": round(whole / batch, 2),
        "bare_seconds_per_photo": round(bottom / batch, 2),
        "ratio": round(whole / bottom, 3),
        "circular_search_of_300": round(statistics.median(searches) / full, 4),
        "bare_layout": str(layout),
        "started_again": sum(bool(one.notes) for one in found),
    }


def circle_search(asked: Question) -> None:
    """Looking for the discs that a run starts from."""
    size = asked.size
    sides = {"photos": asked.photos, "perturbed": Gaussian(sigma=asked.pixels(10.0))(asked.photos), "seen": size}
    over = MaskOver(1, 28, 28, sigma=asked.pixels(5.0), **sides)  # type: ignore[arg-type]
    circular_masks(asked, over, asked.scores, "deletion")


def many(network: pi.Network, method: Method, count: int, batch: int, side: int) -> dict[str, Any]:
    """(b) for one method, on photos of `side` pixels."""
    photos = list(cropped(balanced(count), side))

    def explain(some: list[Tensor]) -> None:
        pi.explain(network, some, method=method, size=side, least_probability=0, batch_size=batch, progress=False)

    explain(photos[:1])
    one_call = seconds(lambda: explain(photos))
    calls = seconds(lambda: [explain([photo]) for photo in photos])
    return {"one_call": round(one_call, 2), "calls": round(calls, 2), "faster": round(calls / one_call, 2)}


def against_captum(network: pi.Network, rounds: int = 3) -> dict[str, Any]:
    """(c): seconds a photo of each, and how much faster ours is."""
    from captum.attr import IntegratedGradients as CaptumIntegrated
    from captum.attr import LayerGradCam, Saliency
    from captum.attr import Occlusion as CaptumOcclusion

    photo = cropped(balanced(1), network.input_size[0])
    module = network.module.eval()
    image = network.prepare(photo)
    windows = {"sliding_window_shapes": (3, 35, 35), "strides": (3, 8, 8)}
    layer = dict(module.named_modules())["layer4" if hasattr(module, "layer4") else "head"]
    rivals: dict[str, tuple[Method, Callable[[], object]]] = {
        "gradient": (Gradient(), lambda: Saliency(module).attribute(image.clone().requires_grad_(True), target=3)),
        "grad-cam": (GradCAM(), lambda: LayerGradCam(module, layer).attribute(image, target=3)),
        "integrated-gradients": (
            IntegratedGradients(),
            lambda: CaptumIntegrated(module).attribute(image, target=3, n_steps=50, internal_batch_size=16),
        ),
        "occlusion": (
            Occlusion(stride=8),
            lambda: CaptumOcclusion(module).attribute(image, target=3, perturbations_per_eval=16, **windows),
        ),
    }
    out = {}
    for name, (method, theirs) in rivals.items():
        ours = lambda method=method: pi.explain(network, photo[0], "class:3", method=method, progress=False)  # noqa: E731
        ours()
        times = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
        mine, captum = (statistics.median(column) for column in zip(*times, strict=True))
        out[name] = {"seconds": round(mine, 3), "captum": round(captum, 3), "faster": round(captum / mine, 2)}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=["masks", "many", "captum"], default=["masks", "many", "captum"])
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    bundled, resnet50 = pi.load(), pi.Network(networks.resnet50(), name="resnet50")
    table: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    table |= {"torch": torch.__version__, "threads": asked.threads}

    def keep(name: str, row: dict[str, Any]) -> None:
        table[name] = row
        print(name, row, flush=True)
        OUT.write_text(json.dumps(table, indent=1) + "\n")

    if "captum" in asked.parts:
        keep("against Captum, bundled", against_captum(bundled))
    if "many" in asked.parts:
        for side in (64, 224):
            for method in (Gradient(), GradCAM()):
                keep(f"64 photos of {side} px, bundled, {method.name}", many(bundled, method, 64, 16, side))
        keep("64 photos of 64 px, bundled, mask of 20 steps", many(bundled, Mask(iterations=20), 64, 16, 64))
    if "masks" in asked.parts:
        for network in (bundled, resnet50):
            for batch in (1, 16):
                # (Enough for a ratio there; the fixed costs weigh more than they would.)
                iterations = 100 if network is resnet50 and batch == 16 else ITERATIONS
                keep(f"masks, {network.name}, batch {batch}", masks(network, batch, iterations))


if __name__ == "__main__":
    main()
