"""The realisations behind paper 1's experiments: targets, images, Jacobians, recovered objectives, re-optimisation.

A run is one network, tap, number of features, aggregation, power of the cosine and parametrization. Its targets come in
parts of 8, each kept as soon as it is done (in $PREIMAGE_CACHE/inverse), so that a run that was stopped goes on; it is
the same in whatever process it is made. What paper 1 calls an experiment is one or several runs
(`inverse_feature_visualization.py`).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from skimage.metrics import structural_similarity
from torch import Tensor

import networks
import preimage as pi
from preimage.images import written_whole
from preimage.jobs import finished
from preimage.network import Place
from preimage.network.smoothing import WIDTH
from preimage.objectives import Aggregate, EachItsOwn, direction, floored_cosines
from preimage.optimization import LBFGS, Adam, Climb, Stage, climb
from preimage.parametrizations import Fourier, Parametrization, SigmoidPixels
from preimage.recover import Sensitivity, sample_targets, sensitivity, solve
from registry import CACHE

PART = 8
ADAM, LAST, AGAIN = 800, 300, 500
"""Steps: of Adam, then of L-BFGS (the recipe `plain`; paper 1 has 800 and 300, of GoogLeNet 3000 and 500), and of Adam
when a realisation is optimised again."""


@dataclass(frozen=True)
class Run:
    """network: a name from `opened`. tap: asked before its ReLU. features: how many channels, the first ones.
    parametrization: "rgb", "fft", "fft-e", "mask=1" or "mask free". sampled, canonical: numbers of targets."""

    network: str
    tap: str
    features: int
    aggregate: Aggregate
    k: int
    parametrization: str
    side: int
    sampled: int
    canonical: int

    @property
    def key(self) -> str:
        parts = (self.network, self.tap, self.features, self.aggregate, f"k{self.k}", self.parametrization, self.side)
        return "-".join(str(part).replace(" ", "-").replace("=", "-") for part in parts)

    @property
    def folder(self) -> Path:
        return CACHE / "inverse" / self.key


@functools.cache
def opened(name: str) -> pi.Network:
    """A network by the name that a run has for it."""
    if name == "bundled" or name.startswith("cifar10"):
        return pi.load(name)
    if name == "super-resolution":
        import super_resolution

        return super_resolution.opened()
    return pi.Network(getattr(networks, name)(), name=name)


def parametrized(run: Run) -> Parametrization:
    """P of a run."""
    channels, side = opened(run.network).channels, run.side
    if run.parametrization.startswith("mask"):
        from preimage.parametrizations import Geometry

        return Geometry(channels, side, side, mask="one" if run.parametrization == "mask=1" else "free")
    if run.parametrization == "rgb":
        return SigmoidPixels(channels, side, side)
    # (SPEC I2: P_fft is unitary; P_ffte has Lucid's scale and its quarter of the contrast)
    return (
        Fourier(channels, side, side, decay=0.0, contrast=1.0)
        if run.parametrization == "fft"
        else Fourier(channels, side, side)
    )


def targets(run: Run) -> Tensor:
    """Sampled and canonical objectives in turn, so that every part has both; float64 [N, features]."""
    generator = torch.Generator().manual_seed(0)
    sampled = sample_targets(run.sampled, run.features, generator) if run.sampled else torch.empty(0, run.features)
    canonical = torch.eye(run.features, dtype=torch.float64)[
        torch.randperm(run.features, generator=generator)[: run.canonical]
    ]
    order = sorted(
        [(i / max(1, len(sampled)), one) for i, one in enumerate(sampled)]
        + [((i + 0.5) / max(1, len(canonical)), one) for i, one in enumerate(canonical)],
        key=lambda pair: pair[0],
    )
    return torch.stack([one for _, one in order]).double()


def make(runs: Sequence[Run], only: int | None = None, workers: int = 1, ray: str | None = None) -> None:
    """Make the parts of some runs that are missing.

    only: the first so many of each run. workers, ray: see `preimage.jobs.finished`.
    """
    counts = {run: len(targets(run).split(PART)[:only]) for run in runs}
    units = [(run, i) for run, count in counts.items() for i in range(count)]
    missing = [unit for unit in units if _kept(*unit) is None]
    for (run, number), part in finished(_part, missing, workers, ray=ray) if missing else ():
        run.folder.mkdir(parents=True, exist_ok=True)
        with written_whole(_file(run, number)) as file:
            torch.save(part, file)
        print(f"{run.key} part {number + 1} of {counts[run]}: {part['seconds']}", flush=True)


def made(run: Run, only: int | None = None) -> dict[str, Any]:
    """All parts of a run, made where they are missing: everything by name, stacked over the targets.

    only: the first so many parts. Besides tensors [N, ...] the mean `seconds` per target of each phase.
    """
    make([run], only)
    kept = (_kept(run, number) for number in range(len(targets(run).split(PART)[:only])))
    parts = [part for part in kept if part is not None]
    whole: dict[str, Any] = {
        name: torch.cat([part[name] for part in parts]) for name in parts[0] if isinstance(parts[0][name], Tensor)
    }
    whole["seconds"] = {
        name: sum(part["seconds"][name] * len(part["targets"]) for part in parts) / len(whole["targets"])
        for name in parts[0]["seconds"]
    }
    return whole


def _file(run: Run, number: int) -> Path:
    return run.folder / f"{number:03d}.pt"


def _kept(run: Run, number: int) -> dict[str, Any] | None:
    """A part, if it was made; ends with a sentence where it is of other targets."""
    path = _file(run, number)
    if not path.exists():
        return None
    part: dict[str, Any] = torch.load(path, weights_only=True)
    if not torch.equal(part["targets"], targets(run).split(PART)[number]):
        raise SystemExit(f"{path} holds other targets; delete {run.folder}")
    return part


def _part(unit: tuple[Run, int]) -> dict[str, Any]:
    torch.set_num_threads(1)  # in whatever process; on it depend the last bits
    run, number = unit
    some = targets(run).split(PART)[number]
    parametrization = parametrized(run)
    generators = [torch.Generator().manual_seed(1000 * number + i) for i in range(len(some))]
    start = torch.stack([parametrization.start(generator) for generator in generators])
    began = time.perf_counter()
    reached = climbed(
        run, some, start, (Stage(ADAM, Adam(0.05), asks=floored_cosines), Stage(LAST, LBFGS(), smoothing=WIDTH))
    )
    parameters = reached.parameters
    seconds = {"realisation": (time.perf_counter() - began) / len(some)}
    began = time.perf_counter()
    seen = seen_by(run, parameters)
    seconds["Jacobian"] = (time.perf_counter() - began) / len(some)
    began = time.perf_counter()
    predicted = solve(seen.response, seen.gram, float(run.k)).best
    seconds["solution"] = (time.perf_counter() - began) / len(some)
    # Samplers of other objectives go on where the targets' ended, so that no random one is a target.
    random = sample_targets(len(some), run.features, torch.Generator().manual_seed(10_000 + number))
    before = parametrization.picture(parameters).float()
    again: dict[str, Tensor] = {}
    began = time.perf_counter()
    # (All in one batch: a third faster than four small ones.)
    objectives = {"target": some, "predicted": predicted, "response": seen.response, "random": random}
    stages = (Stage(AGAIN, Adam(0.05), asks=floored_cosines),)
    starts = parameters.float().repeat(len(objectives), *(1,) * (parameters.ndim - 1))
    pictures = climbed(run, torch.cat(list(objectives.values())), starts, stages).pictures()
    for name, after in zip(objectives, pictures.chunk(len(objectives)), strict=True):
        again[f"ssim {name}"] = torch.tensor([similarity(a, b) for a, b in zip(before, after, strict=True)])
        if number == 0:
            again[f"image {name}"] = after.half()
    seconds["one re-optimisation"] = (time.perf_counter() - began) / len(some) / 4
    kept = {"targets": some, "responses": seen.response, "grams": seen.gram, "random": random}
    return {
        **kept,
        **{name: value for name, value in again.items() if name.startswith("ssim")},
        "images": before,
        "parameters": parameters.float(),
        "scores": torch.stack(reached.trace)[[ADAM - 1, ADAM + LAST // 2, -1]].T.float(),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "again": {name: value for name, value in again.items() if name.startswith("image")},
    }


def climbed(run: Run, objectives: Tensor, start: Tensor, stages: Sequence[Stage]) -> Climb:
    network = opened(run.network)
    features = None if run.features == network.tap(run.tap).channels else range(run.features)
    asked = EachItsOwn(
        tuple(direction(run.tap, x, run.k, run.aggregate, features=features).bind(network) for x in objectives)
    )
    return climb(network, asked, parametrized(run), start, stages, torch.Generator().manual_seed(0))


def seen_by(run: Run, parameters: Tensor, **options: Any) -> Sensitivity:
    """Response and Gram matrix of a run's features for some parameters."""
    asked: dict[str, Any] = {"aggregate": run.aggregate, "features": range(run.features)}
    return sensitivity(opened(run.network), parameters, Place(run.tap), parametrized(run), **{**asked, **options})


def similarity(a: Tensor, b: Tensor) -> float:
    """SSIM of two images [C, H, W] (Wang et al. 2004; SPEC I.4-17)."""
    return float(
        structural_similarity(
            a.numpy(),
            b.numpy(),
            data_range=1.0,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def fewer(run: Run, sampled: int, canonical: int) -> Run:
    """The same run with other numbers of targets."""
    return replace(run, sampled=sampled, canonical=canonical)
