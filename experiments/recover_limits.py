"""How far inverse feature visualization carries: what has to be true of an image for its objective to be recovered?

    python experiments/recover_limits.py kinks      # how images are made, and how they are looked at
    python experiments/recover_limits.py width      # how wide kinks are made, and how many steps
    python experiments/recover_limits.py wrong      # images that are the answer to nothing here
    python experiments/recover_limits.py terms      # regularizers, filters and transforms beside the objective
    python experiments/recover_limits.py layers     # taps of three networks, sizes
    python experiments/recover_limits.py spaces     # layers with directions that move no image, and critical spaces
    python experiments/recover_limits.py aggregates # means of maxima, means, the centre: how well images must converge

Eight objectives (four sampled with uniform Hoyer sparseness, four canonical) of the 256 channels of SqueezeNet's
features.6 at 64 pixels, k = 2, means of maxima, unless said otherwise. Angles are degrees to the objective that was
asked, 0 to 90; `ratio` is the smallest singular value as a share of the second, and `uncancelled` what is left of the
features' gradients when they are weighted and added up, by which `Recovery.stands_out` judges.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from figure import write_rows
from inverse_feature_visualization import EXPERIMENTS, kept
from inverse_runs import Run, opened, parametrized, targets
from photographs import balanced, cropped
from preimage.network import Place
from preimage.network.smoothing import WIDTH
from preimage.objectives import EachItsOwn, direction, floored_cosines
from preimage.optimization import LBFGS, Adam, Ascent, Climb, Stage, climb
from preimage.priors import L2, Sobolev, TotalVariation
from preimage.recover import Sensitivity, angle, choose_space, critical_spaces, sensitivity, solve
from preimage.recover.asked import known_terms
from preimage.recover.audit import VIEWS
from preimage.transforms import InTurn, Jitter

BASE = Run("squeezenet", "features.6", 256, "max-mean", 2, "rgb", 64, 4, 4)
ADAM = Stage(800, Adam(0.05), asks=floored_cosines)
END = Stage(300, LBFGS(), smoothing=WIDTH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=list(PARTS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    rows = PARTS[asked.which]()
    write_rows(
        f"recover_limits_{asked.which}",
        {
            "command": f"python experiments/recover_limits.py {asked.which}",
            "seconds": round(time.perf_counter() - began),
            "rows": rows,
        },
    )


def climbed(
    run: Run, x: Tensor, stages: Sequence[Stage], start: Tensor | None = None, every: int | None = None
) -> Climb:
    """The ascents for some objectives [N, features], from noise or from parameters."""
    network, parametrization = opened(run.network), parametrized(run)
    features = None if run.features == network.tap(run.tap).channels else range(run.features)
    asked = EachItsOwn(
        tuple(direction(run.tap, one, run.k, run.aggregate, features=features).bind(network) for one in x)
    )
    if start is None:
        start = torch.stack([parametrization.start(torch.Generator().manual_seed(i)) for i in range(len(x))])
    return climb(network, asked, parametrization, start, stages, torch.Generator().manual_seed(0), snapshot_every=every)


def seen(run: Run, parameters: Tensor, **options: Any) -> Sensitivity:
    """What the run's tap answers."""
    given: dict[str, Any] = {"aggregate": run.aggregate, "features": range(run.features)}
    return sensitivity(opened(run.network), parameters, Place(run.tap), parametrized(run), **{**given, **options})


def row(name: str, run: Run, x: Tensor, found: Sensitivity, **more: Any) -> dict[str, Any]:
    """Angles of what is recovered and of the response."""
    solution = solve(found.response, found.gram, float(run.k))
    recovered = solution.best[:, : run.features]
    apart = (solution.best.square() * found.gram.diagonal(dim1=1, dim2=2)).sum(1).sqrt()
    left = solution.singular_values[:, 0] / apart
    angles, ratios = angle(x, recovered), solution.singular_values[:, 0] / solution.singular_values[:, 1]
    out = {
        "what": name,
        **more,
        "median angle": round(float(angles.median()), 2),
        "angles": [round(float(one), 1) for one in angles],
        "median angle of the response": round(float(angle(x, found.response[:, : run.features]).median()), 1),
        "median ratio": round(float(ratios.median()), 3),
        "ratios": [round(float(one), 3) for one in ratios],
        "uncancelled": [round(float(one), 3) for one in left],
    }
    print(out, flush=True)
    return out


def kinks() -> list[dict[str, Any]]:
    x = targets(BASE)
    adam = climbed(BASE, x, [ADAM]).parameters
    rows = []
    with_kinks = climbed(BASE, x, [Stage(300, LBFGS())], adam).parameters
    for name, v in (("Adam", adam), ("Adam, L-BFGS on the network as it is", with_kinks)):
        rows.append(row(f"{name}; seen as it is", BASE, x, seen(BASE, v, smoothing=None)))
        rows.append(row(f"{name}; seen without kinks", BASE, x, seen(BASE, v)))
    small = climbed(BASE, x, [Stage(40, Adam(0.002))], adam, every=2)
    parametrization = parametrized(BASE)
    steps = torch.stack([image for _, image in small.snapshots]).double()
    averaged = [
        seen(BASE, parametrization.parameters(steps[:, i]), smoothing=None, average=True) for i in range(len(x))
    ]
    merged = replace(
        averaged[0],
        response=torch.cat([one.response for one in averaged]),
        gram=torch.cat([one.gram for one in averaged]),
    )
    rows.append(row("Adam, then 40 steps of 0.002; mean over every second of them", BASE, x, merged))
    smooth = climbed(BASE, x, [END], adam).parameters
    rows.append(row("plain: Adam, L-BFGS without kinks; seen as it is", BASE, x, seen(BASE, smooth, smoothing=None)))
    rows.append(row("plain; seen without kinks", BASE, x, seen(BASE, smooth)))
    image = parametrization.image(smooth)
    for bits in (8, 16):
        levels = 2**bits - 1
        written = parametrization.parameters((image * levels).round() / levels)
        rows.append(row(f"plain, through a picture file of {bits} bits; without kinks", BASE, x, seen(BASE, written)))
    return rows


def width() -> list[dict[str, Any]]:
    x = targets(BASE)
    adam = climbed(BASE, x, [ADAM]).parameters
    rows = []
    for share in (0.001, 0.003, 0.01, 0.03, 0.1):
        v = climbed(BASE, x, [replace(END, smoothing=share)], adam).parameters
        for look in dict.fromkeys((share, WIDTH)):
            rows.append(row("300 steps", BASE, x, seen(BASE, v, smoothing=look), made=share, seen=look))
    narrowed = [Stage(100, LBFGS(), smoothing=share) for share in (0.1, 0.03, 0.01)]
    rows.append(
        row(
            "100 steps of each",
            BASE,
            x,
            seen(BASE, climbed(BASE, x, narrowed, adam).parameters),
            made="0.1, 0.03, 0.01",
        )
    )
    again = [Stage(100, LBFGS(), smoothing=WIDTH)] * 3
    rows.append(
        row("widths measured again every 100 steps", BASE, x, seen(BASE, climbed(BASE, x, again, adam).parameters))
    )
    v = adam
    for steps in (100, 200, 400, 800):
        more = steps if steps == 100 else steps // 2
        v = climbed(BASE, x, [Stage(more, LBFGS(), smoothing=WIDTH)], v).parameters
        rows.append(row("so many steps of L-BFGS", BASE, x, seen(BASE, v), steps=steps))
    return rows


def wrong() -> list[dict[str, Any]]:
    x = targets(BASE)
    parametrization = parametrized(BASE)
    v = climbed(BASE, x, [ADAM, END]).parameters
    image = parametrization.image(v)
    rows = [row("the images themselves", BASE, x, seen(BASE, v))]
    for name, changed in (
        ("mirrored", image.flip(3)),
        ("upside down", image.flip(2)),
        ("moved by one pixel", image.roll(1, 3)),
        ("a little darker (0.95)", image * 0.95),
        (
            "noise of 2 % on every pixel",
            (image + 0.02 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1),
        ),
        ("grey noise", torch.rand(image.shape, generator=torch.Generator().manual_seed(1)).double()),
        ("photographs", cropped(balanced(len(x)), BASE.side).double()),
    ):
        rows.append(row(name, BASE, x, seen(BASE, parametrization.parameters(changed.double()))))
    for side in (56, 80):
        other = replace(BASE, side=side)
        scaled = torch.nn.functional.interpolate(image, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        rows.append(row(f"resampled to {side} pixels", other, x, seen(other, parametrized(other).parameters(scaled))))
    other = replace(BASE, tap="features.4", features=128)
    rows.append(row("another tap", other, x[:, :128] + 1e-12, seen(other, v)))
    other = replace(BASE, network="resnet50", tap="layer1.0")
    rows.append(row("another network", other, x, seen(other, v)))
    unfinished = climbed(BASE, x, [replace(ADAM, steps=100), replace(END, steps=20)]).parameters
    rows.append(row("stopped early (100 + 20 steps)", BASE, x, seen(BASE, unfinished)))
    return rows


def terms() -> list[dict[str, Any]]:
    """Each image is asked twice: as if nothing but the objective had been optimised, and with what else there was."""
    x = targets(BASE)
    adam = climbed(BASE, x, [ADAM]).parameters
    parametrization = parametrized(BASE)
    rows = []
    cases = {
        "nothing": END,
        "total variation": replace(END, regularizers=(TotalVariation(1.0, beta=2.0),), weights_per_gradient=True),
        "total variation, ten times": replace(
            END, regularizers=(TotalVariation(10.0, beta=2.0),), weights_per_gradient=True
        ),
        "L2": replace(END, regularizers=(L2(1.0),), weights_per_gradient=True),
        "L2, ten times": replace(END, regularizers=(L2(10.0),), weights_per_gradient=True),
        "updates smoothed (Sobolev)": Stage(
            2000, Ascent(0.05, per_first_gradient=True), smooth_update=Sobolev(5), smoothing=WIDTH
        ),
        "solution smoothed (Sobolev)": Stage(
            2000, Ascent(0.05, per_first_gradient=True), smooth_solution=Sobolev(5, gamma=0.05), smoothing=WIDTH
        ),
        "jitter of 2 pixels": Stage(1000, Adam(0.002), transforms=(Jitter(2),), smoothing=WIDTH),
    }
    for name, stage in cases.items():
        v = climbed(BASE, x, [stage], adam).parameters
        rows.append(row(f"{name}; as if there were nothing", BASE, x, seen(BASE, v)))
        if name == "nothing":
            continue
        _, known = known_terms(stage, parametrization, v)
        kernels = [one for one in (stage.smooth_update, stage.smooth_solution) if one is not None]
        generator = torch.Generator().manual_seed(1)
        views = [InTurn(stage.transforms).draw(generator) for _ in range(VIEWS)] if stage.transforms else []
        found = seen(BASE, v, known=known, update_kernels=kernels, views=views)
        rows.append(row(f"{name}; with what there was", BASE, x, found))
    return rows


def layers() -> list[dict[str, Any]]:
    rows = []
    for network, tap, count, side in (
        ("squeezenet", "features.3", 128, 64),
        ("squeezenet", "features.6", 256, 48),
        ("squeezenet", "features.6", 256, 96),
        ("squeezenet", "features.9", 384, 96),
        ("resnet50", "layer1.0", 256, 48),
        ("resnet50", "layer2.0", 512, 48),
        ("resnet50", "layer2.3", 512, 64),
        ("resnet50", "layer3.0", 512, 96),
        ("bundled", "stage2.0", 24, 64),
        ("bundled", "stage3.0", 40, 96),
        ("bundled", "stage4.0", 80, 96),
    ):
        run = replace(BASE, network=network, tap=tap, features=count, side=side, sampled=2, canonical=2)
        x = targets(run)
        v = climbed(run, x, [ADAM, END]).parameters
        found = seen(run, v)
        values = torch.linalg.eigvalsh(found.gram).clamp_min(0).sqrt()
        small = (values < 1e-3 * values[:, -1:]).sum(1).double().mean()
        rows.append(
            row(
                f"{network} {tap}",
                run,
                x,
                found,
                features=count,
                side=side,
                **{"singular values below 0.001": float(small)},
            )
        )
    return rows


def spaces() -> list[dict[str, Any]]:
    """Layers in which a direction moves no image: what algorithm 1 finds with 8 known objectives, and what that does
    for 8 others."""
    rows = []
    for network, tap, count, side in (("squeezenet", "features.3", 128, 48), ("resnet50", "layer1.0", 256, 48)):
        run = replace(BASE, network=network, tap=tap, features=count, side=side, sampled=8, canonical=8)
        x = targets(run)
        found = seen(run, climbed(run, x, [ADAM, END]).parameters)
        known, others = (
            Sensitivity(found.response[i::2], found.gram[i::2], found.features, found.parameters) for i in (0, 1)
        )
        candidates = critical_spaces(known.gram, below=0.1)
        best, medians = choose_space(candidates, known.response, known.gram, x[::2], float(run.k))
        for i in dict.fromkeys((0, best)):
            basis = None if i == 0 else candidates[i].basis
            solution = solve(others.response, others.gram, float(run.k), basis)
            angles = angle(x[1::2], solution.best)
            left_out = [
                ", ".join(f"{int(j)} ({float(column[j]):+.2f})" for j in column.abs().topk(2).indices)
                for column in candidates[i].complement.T
            ]
            rows.append(
                {
                    "what": f"{network} {tap}",
                    "dimension": candidates[i].dimension,
                    "of": count,
                    "thresholds": [float(f"{value:.3g}") for value in candidates[i].thresholds],
                    "left out": left_out,
                    "median angle of the known": round(float(medians[i]), 2),
                    "median angle": round(float(angles.median()), 2),
                    "angles": [round(float(one), 1) for one in angles],
                }
            )
            print(rows[-1], flush=True)
    return rows


def aggregates() -> list[dict[str, Any]]:
    """What the images of E13, E14 and E15 leave of the gradient, beside the singular values that it has to be below.

    `left`: |x' Dy| of the objective as it was optimised, x' = d <x, y> cos(x, y)^k / dy of length 1, as a share of the
    largest singular value of Dy; `below it`: how many singular values are smaller. Uses what those experiments kept.
    """
    rows = []
    for name in ("E13", "E14", "E15"):
        run = EXPERIMENTS[name].runs[0]
        samples = kept(run)
        if samples is None:
            raise SystemExit(f"python experiments/inverse_feature_visualization.py {name} --parts 1 comes first")
        gram = samples["grams"].double()
        values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
        asked = in_gradient_direction(samples["targets"], samples["responses"], float(run.k))
        left = torch.einsum("nf,nfg,ng->n", asked, gram, asked).clamp_min(0).sqrt()
        found = solve(samples["responses"], gram, float(run.k))
        rows.append(
            {
                "what": f"{name}, {run.aggregate}",
                "objectives": len(left),
                "left": rounded((left / values[:, -1]).median()),
                "smallest singular value": rounded((values[:, 0] / values[:, -1]).median()),
                "tenth": rounded((values[:, 9] / values[:, -1]).median()),
                "below it": float((values < left[:, None]).sum(1).double().median()),
                "median angle": round(float(angle(samples["targets"], found.best).median()), 1),
            }
        )
        print(rows[-1], flush=True)
    return rows


def in_gradient_direction(objectives: Tensor, responses: Tensor, k: float) -> Tensor:
    """How the optimised score <x, y> cos(x, y)^k changes with the response y (SPEC I1), scaled to length 1."""
    y = responses.double().clone().requires_grad_(True)
    x = objectives.double()
    products = (x * y).sum(1)
    scores = products * (products / x.norm(dim=1) / y.norm(dim=1)) ** k
    (gradient,) = torch.autograd.grad(scores.sum(), y)
    return gradient / gradient.norm(dim=1, keepdim=True)


def rounded(value: Tensor) -> float:
    return float(f"{float(value):.2g}")


PARTS = {
    "kinks": kinks,
    "width": width,
    "wrong": wrong,
    "terms": terms,
    "layers": layers,
    "spaces": spaces,
    "aggregates": aggregates,
}


if __name__ == "__main__":
    main()
