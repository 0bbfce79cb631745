"""Paper 3, figures S11, S12, S21 and S22 (SPEC P18, P19): how many different images are there of one class? And, what
the paper leaves open: are they remembered training images?

    python experiments/sampling_diversity.py
    python experiments/sampling_diversity.py --quick

10 chains of 200 steps for one class (--of; 8, ship), all samples whose probability is above 0.97, 400 of them at random
in a grid t-SNE of the judge's last features; the last samples of 10 chains for every class; and beside each of those
the nearest training image by E's code, with the share of 1,000 test photos that have a training image as near. About 3
minutes on one core after `sampling_table.py`, whose samples it shares, and 15 before. Writes
`results/sampling_diversity.json`, `results/sampling_grid.jpg`, `results/sampling_last.jpg` and
`results/sampling_nearest.jpg`.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from scipy.stats import binomtest
from torch import Tensor

import preimage as pi
from cifar10 import LABELS, pictures
from figure import pictures_in_rows
from preimage.evaluation import diversity, grid_map, judged, memory_check
from preimage.images import to_pil, written_whole
from sampling_claims import Answer, Claim, Found, answers, of
from sampling_setup import (
    STEPS,
    about,
    arguments,
    digits,
    judge_features,
    last_samples,
    opened,
    photos_of,
    results,
    walked,
    write_results,
)

ABOVE, SHOWN, EACH = 0.97, 400, 10
LEVEL = 0.01


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--of", type=int, default=8, help="the class of the long chains")
    parser.add_argument("--above", type=float, default=ABOVE, help="the probability that a sample must have")
    parser.add_argument("--count", type=int, default=100, help="as given to sampling_table.py, to share its samples")
    asked = parser.parse_args()
    began = time.process_time()
    world = opened(asked)
    chains, steps, count, known = (4, 20, EACH, 1000) if asked.quick else (10, STEPS, max(asked.count, EACH), 50_000)
    above = 0.0 if asked.quick else asked.above
    (chain,) = walked(world, "noiseless-joint", [asked.of], steps=steps, chains=chains, every=1, seed=asked.seed)
    sure = chain.confident(above)
    generator = torch.Generator().manual_seed(asked.seed)
    some = sure[torch.randperm(len(sure), generator=generator)[:SHOWN]]
    long = long_chains(world.judge, chain, some, len(sure), asked.of, asked.seed)
    print(long, flush=True)
    if len(some) >= 4:
        order = grid_map(judge_features(world.judge, some).float(), seed=asked.seed)
        with written_whole(results(asked) / "sampling_grid.jpg") as file:
            to_pil(laid_out(some, order)).resize((order.shape[1] * 48, order.shape[0] * 48)).save(file, quality=88)

    last = [last_samples(world, "noiseless-joint", i, count, steps=steps, seed=asked.seed) for i in range(len(LABELS))]
    shown = torch.cat([one[:EACH] for one in last])
    rows = [(LABELS[i], [(image, "") for image in one[:EACH]]) for i, one in enumerate(last)]
    pictures_in_rows(rows, results(asked) / "sampling_last.jpg", inches=0.8)

    assert isinstance(world.prior.encoder, pi.Network)
    training, held_out = pictures("train")[0][:known], photos_of(None, 200 if asked.quick else 1000, seed=asked.seed)
    memory, both = {}, torch.ones(len(shown), dtype=torch.bool)
    spaces: tuple[tuple[str, dict[str, Any]], ...] = (
        ("pixels", {}),
        ("code", {"network": world.prior.encoder, "tap": world.prior.code}),
    )
    for space, options in spaces:
        check = memory_check(shown, training, held_out, **options)
        single = check.suspicious(LEVEL, relative=True)
        both = both & single
        memory[space] = remembered(check.suspicious(LEVEL)) | {
            "relative": remembered(single),
            "median distance": digits(check.samples.distances[:, 0].quantile(0.5)),
            "median distance of held-out photos": digits(check.held_out.distances[:, 0].quantile(0.5)),
        }
        print(space, memory[space], flush=True)
    memory["copies"] = remembered(both)
    nearest = training[check.samples.indices[:, 0]].float() / 255
    pairs = []
    for i, label in enumerate(LABELS):
        own = range(i * EACH, (i + 1) * EACH)
        pairs.append((label, [(shown[k], f"{float(check.quantiles()[k]):.2f}") for k in own]))
        pairs.append(("nearest", [(nearest[k], "") for k in own]))
    pictures_in_rows(pairs, results(asked) / "sampling_nearest.jpg", inches=0.8)

    measured = {"chains": long, **memory}
    write_results(
        "sampling_diversity",
        asked,
        {**about(world, asked, began), "class": LABELS[asked.of], "claims": answers(CLAIMS, measured), **measured},
    )


def long_chains(judge: pi.Network, chain: pi.Chain, some: Tensor, sure: int, label: int, seed: int) -> Found:
    """What the long chains of one class found, beside as many real images."""
    real = photos_of(label, max(2, len(some)), "train", seed)
    found: Found = {
        "samples": len(chain.kept) * chain.samples.shape[1],
        "above": sure,
        "shown": len(some),
        "ms_ssim of real images": digits(diversity(real, [label] * len(real), seed=seed).mean),
    }
    if len(some) >= 2:
        found["ms_ssim"] = digits(diversity(some, [label] * len(some), seed=seed).mean)
        found["accuracy"] = digits((judged(judge, some).argmax(1) == label).double().mean())
    return found


def laid_out(images: Tensor, order: Tensor) -> Tensor:
    """Images [N, C, H, W] on a grid [rows, columns] of their numbers, white where it is empty: [C, rows H, columns
    W]."""
    blank = torch.ones_like(images[:1])
    cells = torch.cat([images, blank])[order]  # (number -1 is the last, the blank)
    rows, columns, channels, height, width = cells.shape
    return cells.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, columns * width)


def remembered(suspicious: Tensor) -> Found:
    """How many samples are nearer to a training image than 99 % of test photos, and whether chance makes so many."""
    count = int(suspicious.sum())
    chance = binomtest(count, len(suspicious), LEVEL, alternative="greater").pvalue
    return {"suspicious": count, "of": len(suspicious), "p": digits(chance)}


# --- claims -----------------------------------------------------------------------------------------------------------


def enough_sure(measured: dict[str, Found]) -> Answer:
    """At least 400 of the samples of 10 chains of 200 steps have a probability above 0.97, so that 400 can be shown."""
    sure = of(measured, "chains", "above")
    return sure >= SHOWN, {"above 0.97": sure, "samples": of(measured, "chains", "samples")}


def diverse_in_a_class(measured: dict[str, Found]) -> Answer:
    """The MS-SSIM of pairs of the samples shown is within 0.15 of that of as many training images of the class."""
    own, real = (of(measured, "chains", name) for name in ("ms_ssim", "ms_ssim of real images"))
    return abs(own - real) <= 0.15, {"MS-SSIM": own, "of real images": real}


def no_memory(measured: dict[str, Found]) -> Answer:
    """Of no more samples than chance allows (1 %; binomial test, p above 0.05) is one training image unusually near,
    both in pixels and by E's code: nearer, beside the four next, than with 99 % of test photos."""
    p = of(measured, "copies", "p")
    return p > 0.05, measured["copies"]


CLAIMS = (
    Claim("10 chains of 200 steps give 400 samples above 0.97 (figures S11 and S12).", enough_sure),
    Claim("There is a tremendous amount of diversity across images of one class (figure S11).", diverse_in_a_class),
    Claim("Samples are no copies of training images (not said in the paper).", no_memory),
)

if __name__ == "__main__":
    main()
