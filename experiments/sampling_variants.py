"""Paper 3, figures S13 and S14 (SPEC P17): chains of all variants, from a photo's code and from a random one; with
PPGN-x, DGN-AM, PPGN-h, joint, noiseless (P6 to P10), joint-x (P11) and the hand-designed priors (P3 to P5).

    python experiments/sampling_variants.py
    python experiments/sampling_variants.py --quick

Two classes, 8 chains of each from noise and from 8 photos of other classes, 200 steps, all with the published numbers
(those of joint-x are ours). Measured behind the first 50 steps: how the judge answers, and how soon codes are forgotten
(autocorrelation 75 steps apart; of chains in pixels that of their images' codes under E, so that all are compared in
one space). Hand-designed priors act as r: eps_1 = 0.1 towards a blurred image (Gaussian, 1 pixel), or towards one with
less total variation. Jitter, patch priors and centre-bias (P5) are no r; `pi.maximize` has the first and the last.

About 10 minutes on one core. Writes `results/sampling_variants.json` and two figures for each class and start.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import preimage as pi
from cifar10 import LABELS
from figure import pictures_in_rows
from preimage.errors import RequestError
from sampling_claims import ALIKE, Answer, Claim, Found, answers, of
from sampling_setup import (
    EVERY,
    SETTLED,
    STEPS,
    World,
    about,
    arguments,
    measured_chains,
    opened,
    photos_beside,
    results,
    walked,
    write_results,
)

CLASSES = (1, 7)
SHOWN = (5, 10, 20, 50, 100, 150, 200)


def blurred(images: Tensor, sigma: float = 1.0) -> Tensor:
    """Images [N, C, H, W] under a Gaussian of `sigma` pixels: what a blur prior pulls towards."""
    reach = round(3 * sigma)
    line = torch.exp(-torch.arange(-reach, reach + 1, device=images.device).square() / (2 * sigma**2))
    line = (line / line.sum()).to(images)
    channels = images.shape[1]
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    across = F.conv2d(padded, line.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(across, line.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def smoother(images: Tensor, by: float = 0.25) -> Tensor:
    """Images one step down the slope of their total variation (beta = 2): each pixel moves towards its four
    neighbours' mean, all the way with `by` 1."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    up, down, left, right = padded[..., :-2, 1:-1], padded[..., 2:, 1:-1], padded[..., 1:-1, :-2], padded[..., 1:-1, 2:]
    return images + by * ((up + down + left + right) / 4 - images)


@dataclass(frozen=True)
class Variant:
    """A sampler, its panel in figure S13 or its place in SPEC, and what it is run with otherwise than published."""

    sampler: str
    panel: str
    options: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    "PPGN-x": Variant("ppgn-x", "a"),
    "DGN-AM": Variant("dgn-am", "b"),
    "PPGN-h": Variant("ppgn-h", "c"),
    "joint": Variant("joint", "d"),
    "noiseless": Variant("noiseless-joint", "e"),
    "joint-x": Variant("joint-x", "P11"),
    "no prior": Variant("no-prior", "P3"),
    "Gaussian prior": Variant("gaussian", "P4"),
    "blur": Variant("no-prior", "P5", {"epsilons": (0.1, 1e5, 0.0), "denoiser": blurred}),
    "total variation": Variant("no-prior", "P5", {"epsilons": (0.1, 1e5, 0.0), "denoiser": smoother}),
}


def main() -> None:
    asked = arguments(__doc__).parse_args()
    began = time.process_time()
    world = opened(asked)
    count, steps = (2, 20) if asked.quick else (8, STEPS)
    settled = min(SETTLED, steps // 4)
    photos = photos_beside(CLASSES, count, asked.seed)
    rows: dict[str, dict[str, Found]] = {"photo": {}, "noise": {}}
    strips: dict[tuple[str, int], list[tuple[str, list[tuple[Tensor, str]]]]] = {}
    failed = {}
    for variant, one in VARIANTS.items():
        for start in rows:
            began_here = time.process_time()
            try:
                found = walked(
                    world,
                    one.sampler,
                    CLASSES,
                    steps=steps,
                    chains=count,
                    photos=photos if start == "photo" else None,
                    seed=asked.seed,
                    **one.options,
                )
            except RequestError as error:
                failed[variant] = str(error)
                break
            in_codes(world, found)
            measures = measured_chains(world, found, CLASSES, EVERY, settled)
            seconds = round((time.process_time() - began_here) / (steps * count * len(CLASSES)), 5)
            rows[start][variant] = {**measures, "panel": one.panel, "CPU seconds a step and chain": seconds}
            print(start, variant, {k: v for k, v in measures.items() if not isinstance(v, dict)}, flush=True)
            for i, label in enumerate(CLASSES):
                cells = [(photos[0], "photo")] if start == "photo" else []
                strips.setdefault((start, label), []).append(
                    (variant, cells + strip(found[0], i if start == "photo" else i * count))
                )
    for (start, label), each in strips.items():
        pictures_in_rows(each, results(asked) / f"sampling_variants_{start}_{LABELS[label]}.jpg", inches=0.95)
    said = about(world, asked, began)
    write_results(
        "sampling_variants",
        asked,
        {
            **said,
            "not_run": said["not_run"] | failed,
            "classes": [LABELS[label] for label in CLASSES],
            "claims": {start: answers(CLAIMS, each) for start, each in rows.items()},
            **rows,
        },
    )


def in_codes(world: World, found: Sequence[pi.Chain]) -> None:
    """Where chains walked among pixels, what E sees in their images in place of these: all variants in one space."""
    for one in found:
        if one.codes.shape[2:] == one.samples.shape[2:]:
            with torch.no_grad():
                parts = [world.prior.encode(some.to(world.device)).cpu() for some in one.samples]
            one.codes = torch.stack(parts)


def strip(chain: pi.Chain, which: int) -> list[tuple[Tensor, str]]:
    """One chain's samples, with what the condition gives each."""
    at = [chain.kept.index(step) for step in SHOWN if step in chain.kept]
    return [(chain.samples[i, which], f"{chain.kept[i]}: {float(chain.probabilities[i, which]):.2f}") for i in at]


# --- claims -----------------------------------------------------------------------------------------------------------

Rows = dict[str, Found]


def _of(rows: Rows, names: Sequence[str]) -> tuple[Found, Found]:
    memory = {name: of(rows, name, "autocorrelation") for name in names}
    return memory, {name: of(rows, name, "accuracy") for name in names}


def dgn_am_mixes_poorly(rows: Rows) -> Answer:
    """DGN-AM's images that lie the longest lag apart differ (1 - SSIM) by less than half of what images of different
    chains do."""
    change, apart = (of(rows, "DGN-AM", what) for what in ("change", "between chains"))
    return change < apart / 2, {"change": change, "between chains": apart}


def code_denoiser_does_not_help(rows: Rows) -> Answer:
    """PPGN-h has an autocorrelation no more than 0.05 below DGN-AM's, and an accuracy no more than 0.05 above."""
    memory, quality = _of(rows, ("PPGN-h", "DGN-AM"))
    same = memory["PPGN-h"] >= memory["DGN-AM"] - ALIKE and quality["PPGN-h"] <= quality["DGN-AM"] + ALIKE
    return same, {"autocorrelation": memory, "accuracy": quality}


def noiseless_improves(rows: Rows) -> Answer:
    """Noiseless has an autocorrelation more than 0.1 below those of DGN-AM and PPGN-h ("substantially"), and an
    accuracy more than 0.05 above both."""
    memory, quality = _of(rows, ("noiseless", "DGN-AM", "PPGN-h"))
    others = ("DGN-AM", "PPGN-h")
    faster = all(memory["noiseless"] < memory[name] - 2 * ALIKE for name in others)
    better = all(quality["noiseless"] > quality[name] + ALIKE for name in others)
    return faster and better, {"autocorrelation": memory, "accuracy": quality}


def joint_faster_but_worse(rows: Rows) -> Answer:
    """Joint has a lower autocorrelation than noiseless, and a lower accuracy."""
    memory, quality = _of(rows, ("joint", "noiseless"))
    holds = memory["joint"] < memory["noiseless"] and quality["joint"] < quality["noiseless"]
    return holds, {"autocorrelation": memory, "accuracy": quality}


def pixels_mix_poorly(rows: Rows) -> Answer:
    """PPGN-x has a higher autocorrelation than noiseless, by more than 0.05, and a lower accuracy, likewise."""
    memory, quality = _of(rows, ("PPGN-x", "noiseless"))
    slower = memory["PPGN-x"] > memory["noiseless"] + ALIKE
    return slower and quality["PPGN-x"] < quality["noiseless"] - ALIKE, {"autocorrelation": memory, "accuracy": quality}


def ordered(rows: Rows) -> Answer:
    """By accuracy: noiseless at least as high as joint, joint above PPGN-h and DGN-AM, both above PPGN-x (SPEC P.6)."""
    _, quality = _of(rows, ("noiseless", "joint", "PPGN-h", "DGN-AM", "PPGN-x"))
    middle = (quality["PPGN-h"], quality["DGN-AM"])
    holds = quality["noiseless"] >= quality["joint"] > max(middle) and min(middle) > quality["PPGN-x"]
    return holds, {"accuracy": quality}


def joint_x_between(rows: Rows) -> Answer:
    """Joint-x has a higher accuracy than PPGN-x, and a lower one than joint."""
    _, quality = _of(rows, ("PPGN-x", "joint-x", "joint"))
    return quality["PPGN-x"] < quality["joint-x"] < quality["joint"], {"accuracy": quality}


def fooled_without_prior(rows: Rows) -> Answer:
    """Without a prior the condition gives samples at least 0.9 on average, but the judge recognises fewer of them than
    of noiseless ones, by more than 0.05: images that fool a network."""
    sure = of(rows, "no prior", "probability")
    _, quality = _of(rows, ("no prior", "noiseless"))
    found = {"condition's probability": sure, "accuracy": quality}
    return sure >= 0.9 and quality["no prior"] < quality["noiseless"] - ALIKE, found


def hand_designed_below_learned(rows: Rows) -> Answer:
    """No hand-designed prior (Gaussian, blur, total variation) has the accuracy of noiseless."""
    _, quality = _of(rows, ("noiseless", "Gaussian prior", "blur", "total variation"))
    return all(one < quality["noiseless"] for name, one in quality.items() if name != "noiseless"), {
        "accuracy": quality
    }


CLAIMS = (
    Claim("The sampling chain in the image space mixes poorly (figure S13 a).", pixels_mix_poorly),
    Claim("The sampling chain from DGN-AM still mixes poorly (figure S13 b).", dgn_am_mixes_poorly),
    Claim("PPGN-h does not mix faster or produce better samples (figure S13 c).", code_denoiser_does_not_help),
    Claim("Noiseless joint PPGN-h substantially improves mixing speed and sample quality.", noiseless_improves),
    Claim("Joint PPGN-h mixes slightly faster, but generates slightly worse samples.", joint_faster_but_worse),
    Claim("The variants in order of sample quality (section 3, as SPEC P.6 puts it).", ordered),
    Claim("Joint PPGN-x is better than PPGN-x, and worse than Joint PPGN-h (section S11).", joint_x_between),
    Claim("Without a prior the images are fooling ones (section 3.1).", fooled_without_prior),
    Claim(
        "Learned priors make more recognisable images than hand-designed ones (section 1).", hand_designed_below_learned
    ),
)

if __name__ == "__main__":
    main()
