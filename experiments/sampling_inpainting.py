"""Paper 3, figures 7 and S24 (SPEC P23): a hole in a photo, filled under its class, with and without regard to what
surrounds it.

    python experiments/sampling_inpainting.py
    python experiments/sampling_inpainting.py --quick

A square of 14 x 14 pixels (of 32; the paper: 100 of 227) at a random place of test photos, 4 of each class, 100 steps
that shorten to nothing as in the released code, from noise. PPGN asks for the class alone; PPGN-context also draws G's
picture to the known pixels, with the code's eps_4 = 1e-9 and with larger ones, because a hole in 32 x 32 leaves 50
times fewer pixels to be drawn to, and the condition is another. Beside them the hole filled with the mean colour of the
rest. Measured: the step in colour across the hole's border (seam), SSIM with the photo in the hole and 8 pixels around
it, the error of pixels in the hole, and what the judge sees.

About 8 minutes on one core (one photo a run: 17 ms a step). Writes `results/sampling_inpainting.json` and `.jpg`.
"""

from __future__ import annotations

import time

import torch
from scipy.stats import binomtest
from torch import Tensor

import preimage as pi
from cifar10 import LABELS
from figure import pictures_in_rows
from preimage.evaluation import judged, ssim
from sampling_claims import Answer, Claim, Found, answers, of
from sampling_setup import about, arguments, digits, labels_of_turn, opened, photos_of, results, write_results

SIDE, HOLE, AROUND = 32, 14, 8
CONTEXTS = (1e-9, 1e-7, 1e-6, 1e-5, 1e-4)
EPSILONS, LAST = (1e-5, 1.0, 0.0), 1e-32
PAPERS = f"context {CONTEXTS[0]:g}"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--photos", type=int, default=40)
    asked = parser.parse_args()
    began = time.process_time()
    world = opened(asked)
    count, steps = (2, 10) if asked.quick else (asked.photos, 100)
    photos, labels = photos_of(None, count, seed=asked.seed), labels_of_turn(count)
    corners = torch.randint(0, SIDE - HOLE + 1, (count, 2), generator=torch.Generator().manual_seed(asked.seed))
    holes = torch.stack([hole(int(y), int(x)) for y, x in corners])
    ways = {"PPGN": 0.0, **{f"context {one:g}": one for one in CONTEXTS}}
    made = {"photo": photos, "mean colour": with_mean(photos, holes)}
    for way, context in ways.items():
        filled = []
        for i in range(count):
            chain = pi.sample(
                world.condition,
                f"class:{int(labels[i])}",
                prior=world.prior,
                steps=steps,
                chains=1,
                every=steps,
                epsilons=EPSILONS,
                last=LAST,
                fill=(photos[i], holes[i]),
                context=context,
                seed=asked.seed + i,
                progress=False,
            )
            filled.append(chain.images[0])
        made[way] = torch.stack(filled)
        print(way, flush=True)
    values = {name: measured_of(images, photos, holes, labels, world.judge) for name, images in made.items()}
    measured = {
        name: {what: digits(one.double().mean()) for what, one in each.items()} for name, each in values.items()
    }
    best = best_context(measured)
    for way in ways:
        measured[way] |= {"known pixels are the same": bool(values[way]["known pixels changed"].sum() == 0)}
        if way != "PPGN":
            measured[way] |= nearer(values[way]["seam"], values["PPGN"]["seam"])
        print(way, measured[way], flush=True)
    shown = ("photo", "PPGN", PAPERS, best)
    rows = [("hole", [(shaded(photos[i], holes[i]), LABELS[int(labels[i])]) for i in range(min(10, count))])]
    rows += [(way, [(made[way][i], "") for i in range(min(10, count))]) for way in dict.fromkeys(shown)]
    pictures_in_rows(rows, results(asked) / "sampling_inpainting.jpg", inches=1.0)
    write_results(
        "sampling_inpainting",
        asked,
        {
            **about(world, asked, began),
            "photos": count,
            "steps": steps,
            "best context": best,
            "claims": answers(CLAIMS, measured),
            "ways": measured,
        },
    )


def hole(top: int, left: int) -> Tensor:
    """Where pixels are missing: bool [32, 32]."""
    missing = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    missing[top : top + HOLE, left : left + HOLE] = True
    return missing


def with_mean(photos: Tensor, holes: Tensor) -> Tensor:
    """Photos [N, C, H, W] whose holes [N, H, W] have the mean colour of the rest."""
    known = ~holes[:, None]
    mean = (photos * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True)
    return torch.where(known, photos, mean)


def shaded(photo: Tensor, missing: Tensor) -> Tensor:
    """A photo with a grey hole."""
    return torch.where(missing, torch.full_like(photo, 0.5), photo)


def measured_of(images: Tensor, photos: Tensor, holes: Tensor, labels: Tensor, judge: pi.Network) -> dict[str, Tensor]:
    """Of each image [N]: the seam, SSIM around the hole, the root mean square error in it, whether the judge sees the
    class, and known pixels that are not the photo's."""
    around = torch.stack([near(image, missing) for image, missing in zip(images, holes, strict=True)])
    real = torch.stack([near(photo, missing) for photo, missing in zip(photos, holes, strict=True)])
    inside = holes[:, None].expand_as(images)
    squares = ((images - photos).square() * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3))
    return {
        "seam": seam(images, holes),
        "SSIM around the hole": ssim(around, real),
        "error in the hole": squares.sqrt(),
        "accuracy": judged(judge, images).argmax(1) == labels,
        "known pixels changed": ((images != photos) & ~inside).sum((1, 2, 3)),
    }


def seam(images: Tensor, holes: Tensor) -> Tensor:
    """The mean absolute difference of neighbours of which one lies in the hole and one does not, [N]."""
    sums, counts = torch.zeros(len(images)), torch.zeros(len(images))
    for axis in (2, 3):
        length = images.shape[axis] - 1
        steps = (images.narrow(axis, 1, length) - images.narrow(axis, 0, length)).abs().mean(1)
        crossing = holes.narrow(axis - 1, 1, length) ^ holes.narrow(axis - 1, 0, length)
        sums += (steps * crossing).sum((1, 2))
        counts += crossing.sum((1, 2))
    return sums / counts


def near(image: Tensor, missing: Tensor) -> Tensor:
    """The square with the hole and what is around it, moved inwards where it would leave the image: [C, 30, 30]."""
    side = min(HOLE + 2 * AROUND, SIDE)
    top, left = (int(missing.any(axis).nonzero()[0]) - AROUND for axis in (1, 0))
    top, left = (min(max(0, one), SIDE - side) for one in (top, left))
    return image[:, top : top + side, left : left + side]


def best_context(measured: dict[str, Found]) -> str:
    """The context with the smallest seam among those whose accuracy is within 0.05 of PPGN's; PAPERS if there is
    none."""
    least = of(measured, "PPGN", "accuracy") - 0.05
    able = [name for name in measured if name.startswith("context") and measured[name]["accuracy"] >= least]
    return min(able, key=lambda name: float(measured[name]["seam"]), default=PAPERS)


def nearer(own: Tensor, other: Tensor) -> Found:
    """In how many photos a seam is smaller, and larger, than another's; sign test, one-sided."""
    smaller, larger = int((own < other).sum()), int((own > other).sum())
    p = binomtest(smaller, smaller + larger, alternative="greater").pvalue if smaller + larger else 1.0
    return {"smaller seam": smaller, "larger seam": larger, "p": digits(p)}


# --- claims -----------------------------------------------------------------------------------------------------------


def known_pixels_stay(measured: dict[str, Found]) -> Answer:
    """In no photo and in no way of filling is any known pixel changed, not by one bit."""
    of(measured, "PPGN", "known pixels changed")
    changed = {name: of(measured, name, "known pixels changed") for name in measured}
    return not any(changed.values()), {"mean number of pixels changed": changed}


def fills_in_what_is_asked(measured: dict[str, Found]) -> Answer:
    """The judge sees the class in more of the photos that PPGN has filled than of those with the mean colour in the
    hole, by more than 0.05."""
    own, blank, photo = (of(measured, name, "accuracy") for name in ("PPGN", "mean colour", "photo"))
    return own > blank + 0.05, {"accuracy": own, "mean colour": blank, "photos": photo}


def fails_at_the_border(measured: dict[str, Found]) -> Answer:
    """The mean seam of PPGN is more than twice that of photos at the same places."""
    own, photo = (of(measured, name, "seam") for name in ("PPGN", "photo"))
    return own > 2 * photo, {"seam": own, "of photos": photo}


def context_helps(measured: dict[str, Found]) -> Answer:
    """With the paper's eps_4, 1e-9, more photos have a smaller seam than with PPGN than chance allows (sign test,
    one-sided, p below 0.05). (Also told: of the best eps_4 tried.)"""
    p, best = of(measured, PAPERS, "p"), best_context(measured)
    seams = {name: of(measured, name, "seam") for name in dict.fromkeys(("PPGN", PAPERS, best))}
    return p < 0.05, {"seam": seams, "p": p, "best": best, "p of the best": of(measured, best, "p")}


def context_helps_at_best(measured: dict[str, Found]) -> Answer:
    """The same with that eps_4, of those tried, that has the smallest seam with an accuracy within 0.05 of PPGN's; it
    has been chosen on these photos, so p has to be below 0.05 / 5."""
    best = best_context(measured)
    p = of(measured, best, "p")
    return p < 0.05 / len(CONTEXTS), {"best": best, "p": p, "SSIM": of(measured, best, "SSIM around the hole")}


CLAIMS = (
    Claim("Known pixels are clamped (equation 25).", known_pixels_stay),
    Claim("It tends to fill in semantically correct content (section S10).", fills_in_what_is_asked),
    Claim("It often fails to match the local details of the surrounding context (section S10).", fails_at_the_border),
    Claim("The context term helps the filled-in pixels match better (figure 7), eps_4 as published.", context_helps),
    Claim("The same with the best eps_4.", context_helps_at_best),
)

if __name__ == "__main__":
    main()
