"""What the experiments of paper 3 share: the trained parts, how chains are walked, and what is measured of them.

Parts are those that `train_cifar10_prior.py` writes to $PREIMAGE_CACHE/cifar10-prior. Where there is no generator, the
prior that comes with preimage is taken. What asks for classes is `classifier` (or, with `--condition encoder`, the
encoder's own head); what judges is the DenseNet that comes with preimage, which had no part in any of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import preimage as pi
from cifar10 import LABELS, pictures
from figure import RESULTS
from preimage.errors import RequestError
from preimage.evaluation import judged, mixing
from preimage.images import written_whole
from preimage.jobs import finished, gpus_on
from preimage.network import Place
from preimage.sample import SAMPLERS, Sampler
from registry import CACHE
from train_cifar10_prior import network, part_file

WEIGHTS = CACHE / "cifar10-prior"
SAMPLES = CACHE / "samples"
STEPS, EVERY = 200, 5
SETTLED = 50
"""Steps after which chains are measured; before, they only leave where they started."""
AT_ONCE = 100
"""Chains in one batch."""


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every experiment can be told."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="try it out in a minute; writes to $PREIMAGE_CACHE/sampling-quick"
    )
    parser.add_argument("--prior", type=Path, help="the noiseless joint prior's file")
    parser.add_argument("--condition", default="classifier", choices=["classifier", "encoder"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser


@dataclass
class World:
    """All that takes part. missing: what is not trained yet, and how to train it."""

    prior: pi.Prior
    joint: pi.Prior | None
    condition: pi.Network
    judge: pi.Network
    device: str = "cpu"
    missing: dict[str, str] = field(default_factory=dict)

    def prior_for(self, sampler: str | Sampler) -> pi.Prior:
        """The samplers with noise along the way have a generator of their own; raises `RequestError` without it."""
        name = sampler if isinstance(sampler, str) else sampler.name
        part = {"joint": "joint-generator", "joint-x": "joint-generator", "ppgn-h": "code-denoiser"}.get(name)
        part = "image-denoiser" if name == "ppgn-x" else part
        if part in self.missing:
            raise RequestError(self.missing[part])
        if part == "joint-generator":
            assert self.joint is not None
            return self.joint
        return self.prior


def opened(asked: argparse.Namespace, weights: Path = WEIGHTS) -> World:
    """The parts that there are; ends with a sentence where there is no prior, or nothing to ask for classes."""
    if asked.device == "cpu":
        torch.set_num_threads(1)
    file = asked.prior or weights / "generator.safetensors"
    prior = pi.load_prior(file if asked.prior or file.exists() else "cifar10").to(asked.device)
    missing = {}
    for part, what in (("code-denoiser", "denoiser"), ("image-denoiser", "image_denoiser")):
        path = part_file(weights, part)
        if path.exists():
            prior = replace(prior, **{what: getattr(pi.load_prior(path).to(asked.device), what)})
        elif getattr(prior, what) is None:
            missing[part] = f"python experiments/train_cifar10_prior.py {part}"
    joint = None
    if (path := part_file(weights, "joint-generator")).exists():
        joint = pi.load_prior(path).to(asked.device)
    else:
        missing["joint-generator"] = "python experiments/train_cifar10_prior.py joint-generator"
    if asked.condition == "encoder":
        assert isinstance(prior.encoder, pi.Network)
        condition = prior.encoder
    elif not part_file(weights, "classifier").exists():
        raise SystemExit(
            "there is no classifier yet: python experiments/train_cifar10_prior.py classifier; or --condition encoder"
        )
    else:
        condition = network(weights, asked.condition, asked.device)
    for part, how in missing.items():
        print(f"there is no {part} yet: {how}", flush=True)
    return World(prior, joint, condition, pi.load("cifar10", device=asked.device), asked.device, missing)


# --- chains -----------------------------------------------------------------------------------------------------------


def walked(
    world: World,
    sampler: str | Sampler,
    classes: Sequence[int],
    *,
    steps: int,
    chains: int = 1,
    every: int = EVERY,
    photos: Tensor | None = None,
    **options: Any,
) -> tuple[pi.Chain, ...]:
    """Chains for each class: from noise, or one for each class and photo [N, 3, 32, 32]. A photo's chains are one
    `Chain`, because without noise two chains from the same code are the same."""
    options = {
        "prior": world.prior_for(sampler),
        "sampler": sampler,
        "steps": steps,
        "every": every,
        "progress": False,
        **options,
    }
    objectives = [f"class:{i}" for i in classes]
    if photos is None:
        return (pi.sample(world.condition, objectives, chains=chains, **options),)
    return tuple(pi.sample(world.condition, objectives, chains=1, start=photo, **options) for photo in photos)


def by_class(found: Sequence[pi.Chain], classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Samples [classes, kept, chains, C, H, W], codes and log-probabilities of what `walked` gave."""
    parts = []
    for what in ("samples", "codes", "scores"):
        each = [getattr(one, what).unflatten(1, (classes, -1)).transpose(0, 1) for one in found]
        parts.append(torch.cat(each, 2))
    return parts[0], parts[1], parts[2]


def measured_chains(
    world: World, found: Sequence[pi.Chain], classes: Sequence[int], every: int = EVERY, settled: int = SETTLED
) -> dict[str, Any]:
    """How chains mix and what they show, behind the first `settled` steps; means over classes."""
    samples, codes, scores = by_class(found, len(classes))
    late = torch.tensor([step > settled for step in found[0].kept])
    samples, codes, scores = samples[:, late], codes[:, late], scores[:, late]
    lags = max(1, min(20, int(late.sum()) // 2))
    each = [mixing(codes[i], samples[i], every=every, lags=lags) for i in range(len(classes))]
    correlations = [one.autocorrelation or (1.0,) * lags for one in each]  # what does not move remembers everything
    answers = torch.stack([judged(world.judge, samples[i].flatten(0, 1)) for i in range(len(classes))])
    wanted = torch.tensor(list(classes))
    return {
        "lag": every * lags,
        "autocorrelation": mean([one[-1] for one in correlations]),
        "autocorrelations": {
            str(every * (k + 1)): mean([one[k] for one in correlations]) for k in range(0, lags, max(1, lags // 5))
        },
        "change": mean([one.change[-1] for one in each if one.change]),
        "between chains": mean([one.apart for one in each if one.apart is not None]),
        "probability": digits(scores.exp().mean()),
        "judge's probability": digits(answers[torch.arange(len(classes)), :, wanted].mean()),
        "accuracy": digits((answers.argmax(2) == wanted[:, None]).double().mean()),
        "samples": int(answers.shape[0] * answers.shape[1]),
    }


@dataclass(frozen=True)
class Last:
    """The last sample of each of `count` chains from noise, of one class (figures S21 and S22).

    clear: steps that go on without noise or pull. options: of `preimage.sample`, in the order of their names.
    """

    sampler: str
    label: int
    count: int
    steps: int
    clear: int
    seed: int
    options: tuple[tuple[str, Any], ...]

    @classmethod
    def of(
        cls,
        sampler: str,
        label: int,
        count: int,
        *,
        steps: int = STEPS,
        clear: int = 0,
        seed: int = 0,
        **options: Any,
    ) -> Last:
        """The same, with the sampler's options as keywords."""
        return cls(sampler, label, count, steps, clear, seed, tuple(sorted(options.items())))

    def path(self, world: World) -> Path:
        """Where they are kept, by all that they follow from."""
        prior = world.prior_for(self.sampler)
        said = [repr(SAMPLERS[self.sampler]), self.label, self.count, self.steps, self.seed, list(self.options)]
        said += [self.clear] if self.clear else []
        encoder = prior.encoder.module if isinstance(prior.encoder, pi.Network) else None
        modules = [prior.generator, encoder, prior.denoiser, world.condition.module]
        key = hashlib.sha256(repr([said, *map(digest, modules)]).encode()).hexdigest()[:16]
        return SAMPLES / f"{self.sampler}-{self.label}-{key}.safetensors"


@dataclass
class Walking:
    """Walks chains, in whatever process."""

    world: World

    def __call__(self, asked: Last) -> Tensor:
        """Samples [count, C, H, W] in [0, 1]."""
        world, parts = self.world, []
        options = {"steps": asked.steps, "every": asked.steps, **dict(asked.options)}
        for first in range(0, asked.count, AT_ONCE):
            chains = min(AT_ONCE, asked.count - first)
            seed = asked.seed + first
            (one,) = walked(world, asked.sampler, [asked.label], chains=chains, seed=seed, **options)
            if asked.clear:
                going = {"chains": chains, "every": asked.clear, "start": one, "steps": asked.clear}
                going |= {"prior": world.prior_for(asked.sampler), "epsilons": (0.0, 1.0, 0.0), "progress": False}
                one = pi.sample(world.condition, f"class:{asked.label}", **going)
            parts.append(one.images)
        return torch.cat(parts)


def samples_of(world: World, asked: Sequence[Last], workers: int = 1, ray: str | None = None) -> list[Tensor]:
    """Samples [count, C, H, W] in [0, 1] of each. They are kept in $PREIMAGE_CACHE as soon as they are made, because
    several experiments look at the same. workers, ray: see `preimage.jobs.finished`."""
    paths = {one: one.path(world) for one in asked}
    missing = [one for one, path in paths.items() if not path.exists()]
    SAMPLES.mkdir(parents=True, exist_ok=True)
    gpus = gpus_on(torch.device(world.device))
    for one, images in finished(Walking(world), missing, workers, ray=ray, gpus=gpus) if missing else ():
        with written_whole(paths[one]) as file:
            save_file({"images": images.contiguous()}, file)
    return [load_file(paths[one])["images"] for one in asked]


def last_samples(world: World, sampler: str, label: int, count: int, **asked: Any) -> Tensor:
    """The samples of one class, [count, 3, 32, 32]; asked: see `Last.of`."""
    return samples_of(world, [Last.of(sampler, label, count, **asked)])[0]


def digest(module: Any) -> str:
    """What tells a module's weights from others'."""
    found = hashlib.sha256()
    for value in module.state_dict().values() if isinstance(module, nn.Module) else ():
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


# --- photographs and judges -------------------------------------------------------------------------------------------


def photos_of(label: int | None, count: int, split: Literal["train", "test"] = "test", seed: int = 0) -> Tensor:
    """Photographs of a class, or (None) of all in turn, drawn by the seed: float [count, 3, 32, 32] in [0, 1]."""
    images, labels = pictures(split)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    if label is not None:
        return images[order[labels[order] == label][:count]].float() / 255
    each = [order[labels[order] == i][: -(-count // len(LABELS))] for i in range(len(LABELS))]
    return images[torch.stack(each, 1).flatten()[:count]].float() / 255


def photos_beside(classes: Sequence[int], count: int, seed: int = 0) -> Tensor:
    """Test photos to start from, of all other classes in turn: float [count, 3, 32, 32]."""
    photos = photos_of(None, 2 * len(LABELS) * -(-count // (len(LABELS) - len(classes))), seed=seed)
    others = [i for i, label in enumerate(labels_of_turn(len(photos)).tolist()) if label not in classes]
    return photos[others[:count]]


def labels_of_turn(count: int) -> Tensor:
    """The classes of `photos_of(None, count)`."""
    return torch.arange(count) % len(LABELS)


@torch.no_grad()
def judge_features(judge: pi.Network, images: Tensor, chunk: int = 100) -> Tensor:
    """The DenseNet's last features, averaged over places: float64 [N, 342]."""
    place = Place("norm", after_relu=True)
    with judge.held():
        parts = [judge.run(some.to(judge.device), [place])[place].mean((2, 3)) for some in torch.split(images, chunk)]
    return torch.cat(parts).cpu().double()


def frechet(one: Tensor, other: Tensor) -> float:
    """The Frechet distance of two clouds of points [N, D], taken as Gaussian (Heusel et al. 2017, equation 6): |m -
    n|^2 + tr(S + T - 2 (S T)^(1/2))."""
    means = [points.double().mean(0) for points in (one, other)]
    covariances = [points.double().T.cov() for points in (one, other)]
    # tr (S T)^(1/2) is the sum of the singular values of S^(1/2) T^(1/2).
    roots = []
    for matrix in covariances:
        values, vectors = torch.linalg.eigh(matrix)
        roots.append(vectors * values.clamp_min(0).sqrt() @ vectors.mT)
    both = torch.linalg.svdvals(roots[0] @ roots[1]).sum()
    return float((means[0] - means[1]).square().sum() + sum(m.trace() for m in covariances) - 2 * both)


# --- numbers ----------------------------------------------------------------------------------------------------------


def digits(value: Any) -> float:
    return float(f"{float(value):.4g}")


def mean(values: Sequence[float]) -> float | None:
    return digits(sum(values) / len(values)) if values else None


def results(asked: argparse.Namespace) -> Path:
    """The folder for what an experiment writes: what is only tried out (--quick) leaves results as they are."""
    folder = CACHE / "sampling-quick" if asked.quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_results(name: str, asked: argparse.Namespace, document: dict[str, Any]) -> None:
    """`NAME.json`, as `figure.write_rows` writes it."""
    (results(asked) / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def about(world: World, asked: argparse.Namespace, began: float) -> dict[str, Any]:
    """What every result says of itself."""
    return {
        "prior": world.prior.name,
        "prior weights": digest(world.prior.generator),
        "condition": world.condition.name,
        "judge": world.judge.name,
        "quick": asked.quick,
        "seed": asked.seed,
        "device": asked.device,
        "CPU seconds": round(time.process_time() - began),
        "not_run": world.missing,
    }
