"""Paper 3, figure S8 (SPEC P12, P13): what each loss does to G, and which features are to be matched.

    python experiments/sampling_losses.py
    python experiments/sampling_losses.py --quick

Four generators, trained on the same batches of CIFAR-10 from the same start: with all losses (panel b), without the
adversarial one (c), without h1 (d) and without h (e). All have the loss on pixels, so the last three of section S8,
fc6, pool5 and both, are (d), (e) and (b). Their reconstructions of 2,000 test photos are compared: the share of their
power above a quarter of a cycle a pixel (blur), what the judge recognises, and the Frechet distance to the photos in
the judge's last features, the analogue of what "image quality" is measured by today (Heusel et al. 2017).

Smaller generators than the prior's, and few steps: --steps 2000 of each take about 30 minutes on one core, all four
together. A run that was stopped goes on, and --minutes stops it. Writes `results/sampling_losses.json` and `.jpg`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import preimage as pi
from cifar10 import pictures
from figure import high_frequency_share, pictures_in_rows
from preimage.evaluation import judged
from preimage.training import GENERATORS, train_prior
from registry import CACHE
from sampling_claims import Answer, Claim, Found, answers, of
from sampling_setup import (
    about,
    arguments,
    digits,
    frechet,
    judge_features,
    labels_of_turn,
    opened,
    photos_of,
    results,
    write_results,
)
from train_cifar10_prior import CODE, MATCH

COMBINATIONS = {
    "all": ("image", "match", "code", "adversarial"),
    "without GAN": ("image", "match", "code"),
    "without h1": ("image", "code", "adversarial"),
    "without h": ("image", "match", "adversarial"),
}
PANELS = {"all": "b", "without GAN": "c", "without h1": "d", "without h": "e"}
MATCHES = {"pool5": "without h", "fc6": "without h1", "both": "all"}
GENERATOR = {"width": 16, "hidden": 256}
SHOWN = 10


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument(
        "--minutes", type=float, help="stop each training after this time, and go on when started again"
    )
    asked = parser.parse_args()
    began = time.process_time()
    world = opened(asked)
    encoder = world.prior.encoder
    assert isinstance(encoder, pi.Network)
    count, steps = (200, 8) if asked.quick else (2000, asked.steps)
    photos, labels = photos_of(None, count, seed=asked.seed), labels_of_turn(count)
    wanted = judge_features(world.judge, photos)
    rows = {"photos": measured_of(world.judge, photos, photos, labels, wanted)}
    cells = [("photos", [(image, "") for image in photos[:SHOWN]])]
    for name, losses in COMBINATIONS.items():
        generator, said = trained(encoder, name, losses, steps, asked)
        made = reconstructed(generator, photos)
        rows[name] = {**measured_of(world.judge, made, photos, labels, wanted), "panel": PANELS[name], **said}
        cells.append((f"{name} ({PANELS[name]})", [(image, "") for image in made[:SHOWN]]))
        print(name, rows[name], flush=True)
    pictures_in_rows(cells, results(asked) / "sampling_losses.jpg", inches=0.9)
    write_results(
        "sampling_losses",
        asked,
        {
            **about(world, asked, began),
            "steps": steps,
            "generator": GENERATOR,
            "claims": answers(CLAIMS, rows),
            "generators": rows,
        },
    )


def trained(
    encoder: pi.Network, name: str, losses: tuple[str, ...], steps: int, asked: argparse.Namespace
) -> tuple[pi.Prior, Found]:
    """A generator with these losses, and what its training says."""
    photos = pictures("train")[0][: 640 if asked.quick else None]
    found = train_prior(
        encoder,
        photos,
        CACHE / f"training-losses-{name.replace(' ', '-')}-{asked.seed}-{steps}-{len(photos)}",
        code=CODE,
        match=MATCH,
        losses=losses,
        generator=GENERATOR,
        schedule=replace(GENERATORS, steps=steps, seed=asked.seed),
        precision="bfloat16",
        resume=True,
        minutes=asked.minutes,
    )
    if found.progress.step < steps:
        raise SystemExit(f"'{name}' stopped at step {found.progress.step} of {steps}; started again, it goes on")
    said: dict[str, Any] = {
        "losses": list(losses),
        "weights": {key: digits(value) for key, value in found.weights.items()},
        "losses of the last step": {key: digits(value) for key, value in found.progress.losses.items()},
        "seconds since it went on": round(found.progress.seconds),
    }
    return found.prior, said


@torch.no_grad()
def reconstructed(prior: pi.Prior, photos: Tensor) -> Tensor:
    """G(E(x)), [N, 3, 32, 32] on the CPU."""
    assert prior.generator is not None
    prior.generator.eval()
    return torch.cat([prior.generator(prior.encode(some.to(prior.device))).cpu() for some in photos.split(100)])


def measured_of(judge: pi.Network, images: Tensor, photos: Tensor, labels: Tensor, wanted: Tensor) -> Found:
    """How blurred, recognisable and real images are."""
    share, real = high_frequency_share(images), high_frequency_share(photos)
    return {
        "high-frequency share": digits(share.median()),
        "of that of the photo": digits((share / real).median()),
        "accuracy": digits((judged(judge, images).argmax(1) == labels).double().mean()),
        "pixel error": digits((images - photos).square().mean().sqrt()),
        "frechet": digits(frechet(judge_features(judge, images), wanted)),
        "images": len(images),
    }


# --- claims -----------------------------------------------------------------------------------------------------------


def blurry_without_gan(rows: dict[str, Found]) -> Answer:
    """Without the adversarial loss the median share of power at high frequencies is lower than with all losses, and
    less than half of that of photos."""
    share = {name: of(rows, name, "high-frequency share") for name in ("photos", "all", "without GAN")}
    return share["without GAN"] < min(share["all"], share["photos"] / 2), {"high-frequency share": share}


def pool5_is_best(rows: dict[str, Found]) -> Answer:
    """Of the generators that match pool5, fc6 or both, that of pool5 has the smallest Frechet distance to photos."""
    distance = {name: of(rows, run, "frechet") for name, run in MATCHES.items()}
    quality = {name: of(rows, run, "accuracy") for name, run in MATCHES.items()}
    return min(distance, key=lambda name: distance[name]) == "pool5", {"Frechet": distance, "accuracy": quality}


def fc6_is_worse(rows: dict[str, Found]) -> Answer:
    """The generator that matches fc6 alone has a larger Frechet distance to photos than that of pool5."""
    distance = {name: of(rows, MATCHES[name], "frechet") for name in ("pool5", "fc6")}
    return distance["fc6"] > distance["pool5"], {"Frechet": distance}


def without_h_is_best(rows: dict[str, Found]) -> Answer:
    """Of all four generators, that without the loss on h has the smallest Frechet distance to photos (the combination
    that the noiseless sampler uses)."""
    distance = {name: of(rows, name, "frechet") for name in COMBINATIONS}
    return min(distance, key=lambda name: distance[name]) == "without h", {"Frechet": distance}


CLAIMS = (
    Claim("Removing the GAN loss yields blurry results (figure S8 c).", blurry_without_gan),
    Claim("Matching the pool5 features leads to the best image quality (section S8).", pool5_is_best),
    Claim("Compared to pool5, fc6 feature matching often produces worse image quality (figure S8).", fc6_is_worse),
    Claim("Without the loss on h the image quality is best (figure S8 e).", without_h_is_best),
)

if __name__ == "__main__":
    main()
