"""Train what paper 3 needs on CIFAR-10: the encoder E, a classifier to ask for classes, generators, and denoisers.

    python experiments/train_cifar10_prior.py encoder          # about 10 minutes on one core
    python experiments/train_cifar10_prior.py classifier       # about 10 minutes
    python experiments/train_cifar10_prior.py generator        # the noiseless joint prior, 45 minutes; after encoder
    python experiments/train_cifar10_prior.py joint-generator  # goes on with noise on x, h1, h, and the loss on codes
    python experiments/train_cifar10_prior.py code-denoiser    # r(h) for PPGN-h
    python experiments/train_cifar10_prior.py image-denoiser   # r(x) for PPGN-x

Every part keeps its checkpoints in $PREIMAGE_CACHE and goes on from there when it is started again; --minutes stops it
after that time. Weights (float16) and a JSON file with what was measured go to --into. The classifiers are trained with
different seeds, and are of different families, so that neither knows the other's mistakes; the DenseNet that comes with
preimage is the third, for judging.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from cifar10 import LABELS, pictures, shifted
from preimage import Network, load
from preimage.network.densenet import MEAN, STD
from preimage.sample import Prior, load_prior
from preimage.sample.architectures import Classifier, Encoder, build, name_of
from preimage.training import (
    CODES,
    GENERATORS,
    IMAGES,
    PAPER,
    TrainedDenoiser,
    TrainedPrior,
    train_code_denoiser,
    train_image_denoiser,
    train_prior,
)
from registry import CACHE

CODE, MATCH = "fc6", "pool5"
CLASSIFIERS = {"encoder": (Encoder, 0), "classifier": (Classifier, 1000)}
"""The architecture, and what is added to the seed."""
EPOCHS, BATCH, RATE, MOMENTUM, DECAY = 16, 64, 0.1, 0.9, 5e-4
GENERATOR = {"width": 32, "hidden": 384}
STEPS = {"generator": 12_000, "joint-generator": 4_000, "code-denoiser": 20_000, "image-denoiser": 2_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*CLASSIFIERS, *STEPS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, default=CACHE / "cifar10-prior", help="the folder for weights and JSON")
    parser.add_argument("--steps", type=int, help="batches; default: all that the part needs")
    parser.add_argument("--minutes", type=float, help="stop after this time, and go on when started again")
    parser.add_argument("--photos", type=int, help="use so many photos only, to try it out")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"], help="of generators")
    asked = parser.parse_args()
    if asked.device == "cpu":
        torch.set_num_threads(1)
    asked.into.mkdir(parents=True, exist_ok=True)
    found = classifier(asked) if asked.part in CLASSIFIERS else prior(asked)
    print(json.dumps(found, indent=1))


def classifier(asked: argparse.Namespace) -> dict[str, Any]:
    """Train E or the classifier, as train_cifar10.py trains its networks; the JSON document."""
    made, more = CLASSIFIERS[asked.part]
    seed = asked.seed + more
    images, labels = pictures("train")
    images, labels = normalised(images[: asked.photos]).to(asked.device), labels[: asked.photos].to(asked.device)
    torch.manual_seed(seed)
    module = made(3, 32, len(LABELS)).to(asked.device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(module.parameters(), RATE, MOMENTUM, nesterov=True, weight_decay=DECAY)
    batches = len(images) // BATCH
    total = asked.steps or EPOCHS * batches
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=total, pct_start=0.3, cycle_momentum=False
    )
    checkpoint = CACHE / f"training-prior-{asked.part}-{seed}-{total}-{len(images)}.pt"
    step, seconds = 0, 0.0
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)
        module.load_state_dict(kept["module"])
        optimizer.load_state_dict(kept["optimizer"])
        schedule.load_state_dict(kept["schedule"])
        step, seconds = kept["step"], kept["seconds"]
    began, last, losses = time.process_time(), time.monotonic(), []
    stop = None if asked.minutes is None else last + 60 * asked.minutes
    module.train()
    bar = tqdm(total=total, initial=step, desc=asked.part, mininterval=10)
    while step < total:
        epoch, at = divmod(step, batches)
        generator = torch.Generator().manual_seed(100_003 * seed + epoch)
        order = torch.randperm(len(images), generator=generator)
        some = order[at * BATCH : (at + 1) * BATCH].to(asked.device)
        moved = torch.Generator().manual_seed(1_000_003 * (seed + 1) + step)
        shown = shifted(images[some].cpu(), moved).to(asked.device, memory_format=torch.channels_last)
        with torch.autocast(asked.device, torch.bfloat16):
            loss = F.cross_entropy(module(shown), labels[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        step += 1
        bar.update()
        bar.set_postfix(loss=f"{sum(losses[-100:]) / len(losses[-100:]):.3f}", refresh=False)
        late = stop is not None and time.monotonic() > stop
        if late or step == total or time.monotonic() - last > 60:
            last = time.monotonic()
            spent = seconds + time.process_time() - began
            whole = {
                "module": module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "step": step,
                "seconds": spent,
            }
            torch.save(whole, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
            if late and step < total:
                raise SystemExit(f"stopped at step {step} of {total}; started again, it goes on")
    bar.close()
    document = {
        "command": f"python experiments/train_cifar10_prior.py {asked.part} --seed {asked.seed}",
        "seed": seed,
        "architecture": asked.part,
        "settings": module.settings,
        "weights": sum(p.numel() for p in module.parameters()),
        "epochs": round(total / batches, 2),
        "CPU seconds": round(seconds + time.process_time() - began),
        "computed in": "bfloat16",
    }
    saved(asked.into / f"{asked.part}.safetensors", module)
    document["test accuracy"] = accuracy(network(asked.into, asked.part), pictures("test")[0])
    return written(asked.into / f"{asked.part}.json", document)


def prior(asked: argparse.Namespace) -> dict[str, Any]:
    """Train a generator or a denoiser; the JSON document."""
    photos = pictures("train")[0][: asked.photos]
    steps = asked.steps or STEPS[asked.part]
    folder = CACHE / f"training-prior-{asked.part}-{asked.seed}-{steps}-{len(photos)}"
    usual = {"code-denoiser": CODES, "image-denoiser": IMAGES}.get(asked.part, GENERATORS)
    schedule = replace(usual, steps=steps, seed=asked.seed)
    options: dict[str, Any] = {"schedule": schedule, "resume": True, "minutes": asked.minutes}
    trained: TrainedPrior | TrainedDenoiser
    if asked.part == "image-denoiser":
        trained = train_image_denoiser(photos, folder, device=asked.device, **options)
    elif asked.part == "code-denoiser":
        # Codes of 256 numbers leave nothing to a bottleneck in the paper's proportion, 31: four times as wide.
        encoder = network(asked.into, "encoder", asked.device)
        trained = train_code_denoiser(encoder, photos, folder, code=CODE, width=1024, **options)
    else:
        joint = asked.part == "joint-generator"
        trained = train_prior(
            network(asked.into, "encoder", asked.device),
            photos,
            folder,
            code=CODE,
            match=MATCH,
            losses=("image", "match", "code", "adversarial") if joint else ("image", "match", "adversarial"),
            noise=PAPER if joint else None,
            generator=noiseless(asked.into) if joint else GENERATOR,
            precision=asked.precision,
            **options,
        )
    if trained.progress.step < steps:
        raise SystemExit(f"stopped at step {trained.progress.step} of {steps}; started again, it goes on")
    small = halved(trained.prior)
    small.name = "cifar10" if asked.part == "generator" else f"cifar10-{asked.part}"
    file = small.save(asked.into / f"{asked.part}.safetensors")
    document = {
        "command": f"python experiments/train_cifar10_prior.py {asked.part} --seed {asked.seed}",
        "seed": asked.seed,
        "bytes": file.stat().st_size,
        "seconds since it went on": round(trained.progress.seconds),
        "losses of the last step": trained.progress.losses,
        "settings": trained.settings,
    }
    if isinstance(trained, TrainedPrior):
        # As it was written: with weights in float16.
        reopened = load_prior(file)
        document |= {
            "weights of losses": trained.weights,
            "mean code": reopened.mean_code,
            "mean match": reopened.mean_match,
            "noise": dict(reopened.noise),
            "test": reconstructed(reopened),
        }
    return written(asked.into / f"{asked.part}.json", document)


def noiseless(folder: Path) -> nn.Module:
    """The noiseless generator, from which the joint one goes on."""
    path = folder / "generator.safetensors"
    if not path.exists():
        raise SystemExit(f"there is no {path} yet: python experiments/train_cifar10_prior.py generator")
    found = load_prior(path).generator
    assert found is not None
    return found


def halved(whole: Prior) -> Prior:
    """The same prior with weights in float16, to be written; what opens it computes in float32."""
    small = copy.copy(whole)
    for part in ("generator", "denoiser", "image_denoiser"):
        module = getattr(whole, part)
        if module is not None:
            setattr(small, part, copy.deepcopy(module).cpu().half())
    if isinstance(whole.encoder, Network):
        own = whole.encoder
        # (E's own weights are multiples of float16's already: it was opened from such a file)
        module = copy.deepcopy(own.module).cpu().half()
        small.encoder = Network(module, own.input_size, own.mean, own.std, own.labels, name=own.name)
    return small


@torch.no_grad()
def reconstructed(of: Prior) -> dict[str, Any]:
    """How well test photos come back from their codes: by pixels, by E's features, and by who recognises them."""
    photos = pictures("test")[0].float() / 255
    made, codes, features = [], [0.0, 0.0], [0.0, 0.0]
    assert isinstance(of.encoder, Network) and of.generator is not None and of.code and of.match
    with of.encoder.held():
        for some in torch.split(photos, 250):
            was = of.encoder.run(some, [of.code, of.match])
            made.append(of.generator(was[of.code]))
            now = of.encoder.run(made[-1], [of.code, of.match])
            for sums, place in ((codes, of.code), (features, of.match)):
                sums[0] += float((now[place] - was[place]).square().sum())
                sums[1] += float(was[place].square().sum())
    images = torch.cat(made)
    return {
        "pixel error, root mean square": round(float((images - photos).square().mean().sqrt()), 4),
        "relative squared error of codes": round(codes[0] / codes[1], 4),
        "relative squared error of features": round(features[0] / features[1], 4),
        "accuracy of E on reconstructions": accuracy(of.encoder, images),
        "accuracy of the DenseNet on reconstructions": accuracy(load("cifar10"), images),
    }


def part_file(folder: Path, part: str) -> Path:
    """The file of a part that was trained into `folder`, or else of the one that comes with the experiments."""
    own, shipped = folder / f"{part}.safetensors", Path(__file__).parent / "weights" / f"cifar10-{part}.safetensors"
    return own if own.exists() or not shipped.exists() else shipped


def network(folder: Path, part: str, device: str = "cpu") -> Network:
    """E or the classifier, opened; taps pool5 and fc6 are E's h1 and h."""
    path = part_file(folder, part)
    if not path.exists():
        raise SystemExit(f"there is no {path} yet: python experiments/train_cifar10_prior.py {part}")
    with safe_open(path, "pt") as file:
        about = file.metadata()
        module = build(about["architecture"], json.loads(about["settings"]))
        weights = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (it is no dict)
    missing, unexpected = module.load_state_dict(weights, strict=False)
    assert not unexpected and all("num_batches" in key for key in missing)
    return Network(module.to(device), 32, MEAN, STD, LABELS, name=f"cifar10-{part}")


def saved(path: Path, module: nn.Module) -> None:
    """Weights in float16, and what `build` needs to make the module again."""
    weights = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    small = {key: value.half() for key, value in weights.items() if "num_batches" not in key}
    about = {"architecture": name_of(module), "settings": json.dumps(getattr(module, "settings"))}  # noqa: B009
    save_file(small, path, about)
    path.chmod(0o644)


def accuracy(judge: Network, images: Tensor) -> float:
    """How often `judge` gives test pictures, or what was made of them, their class. images: bytes, or in [0, 1]."""
    labels = pictures("test")[1]
    images = images.float() / 255 if images.dtype == torch.uint8 else images
    return round(float((judge.class_scores(images, 250).argmax(1) == labels).double().mean()), 4)


def normalised(images: Tensor) -> Tensor:
    """uint8 [N, 3, 32, 32] as networks get it."""
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def written(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    path.write_text(json.dumps(document, indent=1) + "\n")
    return document


if __name__ == "__main__":
    main()
