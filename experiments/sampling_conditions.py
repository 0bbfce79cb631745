"""Paper 3, figures S17, S19 and S20 (SPEC P20, P21): other conditions on the same generator.

    python experiments/sampling_conditions.py
    python experiments/sampling_conditions.py --quick

Hidden units (P20): two channels of the condition network's last convolutional map, at its centre, counted as shares of
all channels there; of the channels that test photos excite most, the one whose 50 strongest photos are of the fewest
classes, and the one whose are of the most. 10 chains of 200 steps each, noiseless and DGN-AM.

Another network (P21): with CIFAR-10 alone there is no second data set of photographs with classes of its own, but there
is a network that knows one: the EfficientNet-Lite0 that comes with preimage, trained on ImageNet. It asks the generator
for ImageNet's classes, half of which are things that CIFAR-10 has, and half of which the generator was never shown, as
the paper asks one of ImageNet for the scenes of Places. It sees the 32 x 32 samples enlarged to 96; SqueezeNet, another
network of ImageNet, judges them at 224. And `cifar10-without-4`, a DenseNet that has never seen a deer, asks for the
nine others.

About 8 minutes on one core, most of it EfficientNet's (15 ms a step and chain). Writes
`results/sampling_conditions.json` and two figures.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch import Tensor

import preimage as pi
from cifar10 import LABELS, pictures
from figure import pictures_in_rows
from preimage.evaluation import diversity, judged
from preimage.network import Place
from sampling_claims import Answer, Claim, Found, answers, of, part
from sampling_setup import STEPS, World, about, arguments, digits, mean, opened, results, write_results
from transfer_recognition import OPEN

MAPS = {"classifier": "block3", "encoder": "conv4"}
TOP = 50
WITHOUT = "cifar10-without-4"
SEEN = {404: "airliner", 817: "sports car", 555: "fire engine", 282: "tiger cat", 339: "sorrel"}
"""ImageNet's classes that CIFAR-10 has under other names (air plane, automobile, truck, cat, horse)."""
UNSEEN = {980: "volcano", 949: "strawberry", 985: "daisy", 417: "balloon", 970: "alp"}
SIDE = 96
PULL = 1e-7
"""eps_1 of the released code for Places (SPEC P21)."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--parts", nargs="+", default=["units", "imagenet", "without-4"])
    asked = parser.parse_args()
    began = time.process_time()
    world = opened(asked)
    parts = {"units": units, "imagenet": imagenet, "without-4": without_deer}
    measured: dict[str, dict[str, Found]] = {name: parts[name](world, asked) for name in asked.parts}
    write_results(
        "sampling_conditions",
        asked,
        {**about(world, asked, began), "claims": answers(CLAIMS, measured), **measured},
    )


def made(
    world: World, network: pi.Network, objectives: list[str], sampler: str, asked: Any, **options: Any
) -> pi.Chain:
    """Chains of any network's objectives, from noise."""
    chains, steps = (2, 10) if asked.quick else (options.pop("chains", 10), STEPS)
    options.pop("chains", None)
    return pi.sample(
        network,
        objectives,
        prior=world.prior_for(sampler),
        sampler=sampler,
        steps=steps,
        chains=chains,
        every=options.pop("every", 5),
        seed=asked.seed,
        progress=False,
        **options,
    )


# --- hidden units -----------------------------------------------------------------------------------------------------


def units(world: World, asked: argparse.Namespace) -> dict[str, Found]:
    tap = MAPS[asked.condition]
    photos, labels = (one[: 500 if asked.quick else 5000] for one in pictures("test"))
    shares = centre_shares(world.condition, tap, photos)
    channels = two_channels(shares, labels, min(TOP, len(photos) // 10))
    found, rows = {}, []
    for which, channel in channels.items():
        strongest = shares[:, channel].topk(10).indices
        rows.append(
            (f"{which}: photos", [(photos[i].float() / 255, f"{float(shares[i, channel]):.2f}") for i in strongest])
        )
        for sampler in ("noiseless-joint", "dgn-am"):
            chain = made(world, world.condition, [f"{tap}:{channel}"], sampler, asked)
            late = chain.samples[len(chain.kept) // 4 :].flatten(0, 1)
            share = chain.probabilities[len(chain.kept) // 4 :].flatten()
            seen = judged(world.judge, late).argmax(1)
            found[f"{which}, {sampler}"] = {
                "channel": channel,
                "samples": len(late),
                "mean share": digits(share.mean()),
                "above 0.97": digits((share > 0.97).double().mean()),
                "above 99 % of photos": digits((share > shares[:, channel].quantile(0.99)).double().mean()),
                "99 % of photos are below": digits(shares[:, channel].quantile(0.99)),
                "ms_ssim": digits(diversity(chain.images, [0] * len(chain.images), seed=asked.seed).mean),
                "classes that the judge sees": digits(effective(seen)),
                "of photos": digits(effective(labels[shares[:, channel].topk(min(TOP, len(photos) // 10)).indices])),
            }
            shown = zip(chain.images[:10], chain.probabilities[-1], strict=False)
            rows.append((f"{which}: {sampler}", [(image, f"{float(p):.2f}") for image, p in shown]))
            print(which, sampler, found[f"{which}, {sampler}"], flush=True)
    pictures_in_rows(rows, results(asked) / "sampling_units.jpg", inches=0.85)
    return found


@torch.no_grad()
def centre_shares(network: pi.Network, tap: str, photos: Tensor) -> Tensor:
    """Softmax over the channels at the centre of a map, before its ReLU, as `Share` has it: [N, channels]."""
    place = Place(tap)
    parts = []
    with network.held():
        for some in photos.split(250):
            values = network.run((some.float() / 255).to(network.device), [place])[place]
            height, width = values.shape[2:]
            parts.append(values[:, :, height // 2, width // 2].softmax(1).cpu())
    return torch.cat(parts)


def two_channels(shares: Tensor, labels: Tensor, top: int) -> dict[str, int]:
    """Of the quarter of channels with the largest shares: whose strongest photos are of the fewest classes, and whose
    are of the most."""
    strong = shares.topk(top, 0)
    able = strong.values.mean(0).topk(max(2, shares.shape[1] // 4)).indices.tolist()
    spread = {channel: effective(labels[strong.indices[:, channel]]) for channel in able}
    return {"one class": min(able, key=lambda c: spread[c]), "many classes": max(able, key=lambda c: spread[c])}


def effective(classes: Tensor) -> float:
    """How many classes there are in effect: exp of the entropy of their frequencies."""
    shares = torch.bincount(classes).double() / len(classes)
    return float(torch.special.entr(shares).sum().exp())


# --- another network --------------------------------------------------------------------------------------------------


def imagenet(world: World, asked: argparse.Namespace) -> dict[str, Found]:
    asks = pi.load("bundled", input_size=SIDE, device=asked.device)
    judge = OPEN["squeezenet"]()
    classes = {**SEEN, **UNSEEN}
    found: dict[str, Found] = {}
    rows = []
    for sampler in ("noiseless-joint", "dgn-am"):
        eps = (PULL, 1.0, 1e-17) if sampler == "noiseless-joint" else None
        chains = made(world, asks, [f"class:{i}" for i in classes], sampler, asked, chains=4, every=STEPS, epsilons=eps)
        of_each = chains.images.unflatten(0, (len(classes), -1))
        answers_ = judged(judge, chains.images).unflatten(0, (len(classes), -1))
        sure = chains.probabilities[-1].unflatten(0, (len(classes), -1))
        for which, group in (("seen", SEEN), ("unseen", UNSEEN)):
            own = [list(classes).index(i) for i in group]
            top = answers_[own].topk(5, 2).indices
            hits = (top == torch.tensor(list(group)).view(-1, 1, 1)).any(2).double()
            ranks = (answers_[own] > answers_[own].gather(2, index(group, answers_))).sum(2) + 1
            found[f"{which}, {sampler}"] = {
                "probability": digits(sure[own].mean()),
                "top 5 of the judge": digits(hits.mean()),
                "median rank by the judge": float(ranks.flatten().double().quantile(0.5)),
                "ms_ssim": mean([diversity(of_each[i], [0] * of_each.shape[1]).mean for i in own]),
                "samples": int(hits.numel()),
            }
            print(which, sampler, found[f"{which}, {sampler}"], flush=True)
        for i, name in enumerate(classes.values()):
            cells = [(image, f"{float(p):.2f}") for image, p in zip(of_each[i], sure[i], strict=True)]
            if sampler == "noiseless-joint":
                rows.append((name, cells))
            else:
                rows[i] = (rows[i][0], rows[i][1] + cells)
    pictures_in_rows(rows, results(asked) / "sampling_imagenet.jpg", inches=0.95)
    return found


def index(group: dict[int, str], like: Tensor) -> Tensor:
    """The classes of a group, to gather by: [classes, chains, 1]."""
    return torch.tensor(list(group)).view(-1, 1, 1).expand(-1, like.shape[1], 1)


def without_deer(world: World, asked: argparse.Namespace) -> dict[str, Found]:
    network = pi.load(WITHOUT, device=asked.device)
    classes = [i for i in range(len(LABELS)) if i != 4]
    chains = made(world, network, [f"class:{i}" for i in classes], "noiseless-joint", asked, chains=5, every=STEPS)
    seen = judged(world.judge, chains.images).argmax(1).unflatten(0, (len(classes), -1))
    right = (seen == torch.tensor(classes)[:, None]).double().mean(1)
    return {
        WITHOUT: {
            "accuracy": digits(right.mean()),
            "probability": digits(chains.probabilities[-1].mean()),
            "of each": {LABELS[i]: digits(one) for i, one in zip(classes, right, strict=True)},
            "samples": int(seen.numel()),
        }
    }


# --- claims -----------------------------------------------------------------------------------------------------------

Measured = dict[str, dict[str, Found]]


def excites_hidden_units(measured: Measured) -> Answer:
    """For both channels, more than half of the noiseless samples have a larger share than 99 % of test photos."""
    rows = part(measured, "units")
    found = {
        which: of(rows, f"{which}, noiseless-joint", "above 99 % of photos") for which in ("one class", "many classes")
    }
    return all(one > 0.5 for one in found.values()), found


def facets_of_units(measured: Measured) -> Answer:
    """For both channels, noiseless samples have a lower MS-SSIM than DGN-AM's; and of the channel that many classes
    excite the judge sees at least twice as many (in effect) as of the other."""
    rows = part(measured, "units")
    both = ("one class", "many classes")
    alike = {
        f"{which}, {s}": of(rows, f"{which}, {s}", "ms_ssim") for which in both for s in ("noiseless-joint", "dgn-am")
    }
    seen = {which: of(rows, f"{which}, noiseless-joint", "classes that the judge sees") for which in both}
    diverse = all(alike[f"{which}, noiseless-joint"] < alike[f"{which}, dgn-am"] for which in both)
    return diverse and seen["many classes"] >= 2 * seen["one class"], {"MS-SSIM": alike, "classes seen": seen}


def unseen_data(measured: Measured) -> Answer:
    """Of classes that the generator never saw, the judge has at least a quarter of the samples' among its first five
    (chance: 1 of 200)."""
    found = of(part(measured, "imagenet"), "unseen, noiseless-joint", "top 5 of the judge")
    seen = of(measured["imagenet"], "seen, noiseless-joint", "top 5 of the judge")
    return found >= 0.25, {"top 5, unseen": found, "top 5, seen": seen}


def any_network(measured: Measured) -> Answer:
    """Asked by a network that never saw a deer, at least 60 % of the samples of the nine other classes are what the
    judge sees: a condition need not be the one that the generator knows."""
    found = of(part(measured, "without-4"), WITHOUT, "accuracy")
    return found >= 0.6, {"accuracy": found}


CLAIMS = (
    Claim(
        "PPGNs can generate the set of inputs that activate a given hidden neuron (figure S19).", excites_hidden_units
    ),
    Claim(
        "The diversity of samples is substantially improved, uncovering different facets (figure S19).", facets_of_units
    ),
    Claim("The PPGN produces high-quality images for an unseen dataset (figure S17).", unseen_data),
    Claim("The condition network is replaceable (section 1).", any_network),
)

if __name__ == "__main__":
    main()
