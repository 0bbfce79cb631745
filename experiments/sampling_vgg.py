"""Paper 3, section S11 (SPEC P11): Joint PPGN-x with a pair that was trained for something else.

    python experiments/sampling_vgg.py
    python experiments/sampling_vgg.py --fit    # only the decoder's gain and offset (printed; used in networks.py)

The pair is VGG-19 up to relu4_1 and the decoder of Huang & Belongie (2017), which was trained to change the style of
photographs. r(x) = G(E(x)) walks among images of 160 x 160; the bundled network, and ResNet-50, ask for ImageNet's
classes, and see the image enlarged to their own 224. SqueezeNet had no part in it and judges.

The chains are of the released code's form (steps of a fixed mean length, `MOVE`), which decides how fast they go, and
climb the class's logit: a log-probability is satisfied by a hardly visible pattern, and from there on the pair's own
taste is all that moves. eps_1 and eps_3 (eps_2 being one of three proportions) are those of `TRIED` that SqueezeNet
likes best on two classes, which are reported apart; what counts is measured on six others.

Beside them: the same without the prior (eps_1 = 0), the sampler's own numbers in the paper's form, chains that start
from a photograph, and how fast the pair alone runs away from photographs, as it comes and with the gain that
`networks.vgg19_prior` gives it. About 11 CPU minutes, in parts; it writes after each, and goes on where a run was
ended. Writes `results/sampling_vgg.json` and `docs/pictures/sampling-vgg.png`.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import networks
import preimage as pi
from figure import pictures_in_rows, write_rows
from preimage.evaluation import judged
from preimage.images import centre_crop, read_image, written_whole
from registry import CACHE
from transfer_recognition import OPEN, wilson

SIDE, STEPS, CHAINS, MOVE = 160, 60, 2, 5.0
CLIMB = 1e5
TRIED = ((0.3, 1.0), (0.3, 5.0), (1.0, 1.0), (1.0, 5.0))
"""(eps_1, eps_3). With eps_1 = 3 only the pair's own taste was left, in a first look at the same two classes."""
TUNED_ON = {130: "flamingo", 949: "strawberry"}
CLASSES = {1: "goldfish", 340: "zebra", 417: "balloon", 779: "school bus", 980: "volcano", 985: "daisy"}
ASKING, JUDGE = ("bundled", "resnet50"), "squeezenet"
PARTS = (
    *(f"{name}, {which}" for name in ASKING for which in ("prior", "no prior")),
    "bundled, from a photo",
    "the sampler's own numbers, paper's form",
    "pair alone",
)
CHURCH = 497
PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "sampling-vgg.png"
PASSES, ROUNDS = 5, 4
Epsilons = tuple[float, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="only fit the decoder's gain and offset")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    photos = of_each_class(8)
    if asked.fit:
        print(*fitted(photos))
        return
    prior = networks.vgg19_prior(SIDE)
    opened = {name: OPEN[name]() for name in (*ASKING, JUDGE)}
    tried = []
    for pull, noise in TRIED:
        epsilons = (pull, CLIMB, noise)
        images = walked(opened["bundled"], prior, TUNED_ON, epsilons, chains=1)
        tried.append({"epsilons": epsilons, **measured(images, TUNED_ON, "bundled", opened)})
    best: Epsilons = max(tried, key=lambda one: one["judge's log-probability"])["epsilons"]
    without = (0.0, *best[1:])
    shown: dict[str, Tensor] = {}
    found: dict[str, Any] = {
        "command": "python experiments/sampling_vgg.py",
        "side": SIDE,
        "steps": STEPS,
        "move": MOVE,
        "gradient": "logit",
        "tuned on": list(TUNED_ON.values()),
        "tried": tried,
        "epsilons": best,
        "not_run": dict.fromkeys(PARTS, "python experiments/sampling_vgg.py"),
    }

    def done(part: str, measurements: Any) -> None:
        # (after each part, because all of them together take long on a busy machine)
        del found["not_run"][part]
        found[part] = measurements
        write_rows("sampling_vgg", {**found, "CPU seconds of this run": round(time.process_time() - began)})
        print(part, measurements, flush=True)

    for name in ASKING:
        for which, source, epsilons in (("prior", prior, best), ("no prior", None, without)):
            shown[f"{name}, {which}"] = walked(opened[name], source, CLASSES, epsilons)
            done(f"{name}, {which}", measured(shown[f"{name}, {which}"], CLASSES, name, opened))
            sheet(shown, opened)
    church = of_class(CHURCH)
    shown["bundled, from a photo"] = walked(opened["bundled"], prior, CLASSES, best, chains=1, start=church)
    done("bundled, from a photo", measured(shown["bundled, from a photo"], CLASSES, "bundled", opened))
    sheet(shown, opened)
    images = walked(opened["bundled"], prior, TUNED_ON, None, chains=1)
    done("the sampler's own numbers, paper's form", measured(images, TUNED_ON, "bundled", opened))
    done("pair alone", alone(photos[:4]))


# --- chains -----------------------------------------------------------------------------------------------------------


def walked(
    network: pi.Network,
    prior: pi.Prior | None,
    classes: Mapping[int, str],
    epsilons: Epsilons | None,
    *,
    chains: int = CHAINS,
    start: Tensor | None = None,
) -> Tensor:
    """The last image of every chain, [classes * chains, 3, SIDE, SIDE]; with the sampler's own numbers, in the paper's
    form, if there are no epsilons. Kept in $PREIMAGE_CACHE/samples, so that a run that was ended goes on."""
    decoder = None if prior is None else [repr(one.tolist()) for one in prior.generator.buffers()]
    said = [decoder, network.name, list(classes), epsilons, chains, start is None, SIDE, STEPS, MOVE]
    path = CACHE / "samples" / f"vgg-{hashlib.sha256(repr(said).encode()).hexdigest()[:16]}.safetensors"
    if path.exists():
        return load_file(path)["images"]
    began = time.process_time()
    own: dict[str, Any] = {"epsilons": epsilons, "move": MOVE, "gradient": "logit"} if epsilons else {"form": "paper"}
    chain = pi.sample(
        network,
        [f"class:{label}" for label in classes],
        prior=prior,
        size=None if prior else SIDE,
        sampler="joint-x" if prior else "no-prior",
        steps=STEPS,
        every=STEPS,
        chains=chains,
        start=start,
        progress=False,
        **own,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        save_file({"images": chain.images.contiguous()}, file)
    print(f"{network.name}, {epsilons}: {time.process_time() - began:.0f} CPU seconds", flush=True)
    return chain.images


def measured(
    images: Tensor, classes: Mapping[int, str], asking: str, opened: Mapping[str, pi.Network]
) -> dict[str, Any]:
    """What the network that asked, the judge, and the network that neither asked nor judges, say of images in the
    order of classes."""
    wanted = torch.tensor(list(classes)).repeat_interleave(len(images) // len(classes))
    other = next(name for name in ASKING if name != asking)
    said = {name: judged(opened[name], images) for name in (asking, JUDGE, other)}
    own = {name: one.gather(1, wanted[:, None])[:, 0] for name, one in said.items()}
    ranks = {name: (one > own[name][:, None]).sum(1) + 1 for name, one in said.items()}
    right = int((ranks[JUDGE] == 1).sum())
    return {
        "images": len(images),
        "probability of the network that asked": digits(own[asking].mean()),
        "judge's accuracy": digits(right / len(images)),
        "judge's accuracy, 95 %": wilson(right, len(images)),
        "among the judge's first five": digits((ranks[JUDGE] <= 5).double().mean()),
        "judge's probability": digits(own[JUDGE].mean()),
        "judge's log-probability": digits(own[JUDGE].log().mean()),
        "judge's rank, median": float(ranks[JUDGE].double().quantile(0.5)),
        "judge's ranks": {
            name: some.tolist()
            for name, some in zip(classes.values(), ranks[JUDGE].view(len(classes), -1), strict=True)
        },
        f"accuracy of {other}": digits((ranks[other] == 1).double().mean()),
        f"among the first five of {other}": digits((ranks[other] <= 5).double().mean()),
    }


# --- the pair alone ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def alone(photos: Tensor, passes: int = 10) -> dict[str, Any]:
    """How photographs fare that go through encoder and decoder again and again: the standard deviation of their colours
    (mean over the three), the mean colour's distance from theirs, and the root mean square error of the first pass."""
    found = {}
    for name, decoder in (
        ("as it comes", networks.vgg19_decoder()),
        ("with gain", networks.vgg19_prior(SIDE).generator),
    ):
        encode = networks.vgg19_prior(SIDE).encode
        assert decoder is not None
        images, rows = photos, []
        for step in range(passes + 1):
            if step in (0, 1, passes):
                rows.append(
                    {
                        "passes": step,
                        "contrast": digits(images.std((0, 2, 3)).mean()),
                        "colours off": digits((images - photos).mean((0, 2, 3)).abs().mean()),
                        "error": digits((images - photos).square().mean().sqrt()),
                        "lowest": digits(images.min()),
                        "highest": digits(images.max()),
                    }
                )
            images = decoder(encode(images))
        found[name] = rows
    return found


@torch.no_grad()
def fitted(photos: Tensor) -> tuple[list[float], list[float]]:
    """Gain and offset of each colour with which `PASSES` passes leave mean and contrast of photographs as they were."""
    raw, encode = networks.vgg19_decoder(), networks.vgg19_prior(SIDE).encode
    gain, offset = torch.ones(3), torch.zeros(3)
    mean = photos.mean((0, 2, 3))
    for _ in range(ROUNDS):
        decoder = networks.Steady(raw, gain.tolist(), offset.tolist())
        images = photos
        for _ in range(PASSES):
            images = decoder(encode(images))
        better = gain * (photos.std((0, 2, 3)) / images.std((0, 2, 3))) ** (1 / PASSES)
        # A gain turns about black, and is to turn about the mean.
        offset += (gain - better) * mean + (mean - images.mean((0, 2, 3))) / PASSES
        gain = better
    return gain.tolist(), offset.tolist()


def of_each_class(count: int) -> Tensor:
    """The first photograph of each of the first classes, [count, 3, SIDE, SIDE]."""
    return torch.stack([of_class(label) for label in sorted({label for _, label in networks.photographs()})[:count]])


def of_class(wanted: int) -> Tensor:
    path = next(path for path, label in networks.photographs() if label == wanted)
    return centre_crop(read_image(path), (SIDE, SIDE))


# --- the sheet --------------------------------------------------------------------------------------------------------


def sheet(shown: Mapping[str, Tensor], opened: Mapping[str, pi.Network]) -> None:
    """A row for each class; below each image the probability of the network that asked, and the judge's rank."""
    rows = []
    said: dict[str, tuple[Tensor, Tensor]] = {}
    for name, images in shown.items():
        wanted = torch.tensor(list(CLASSES)).repeat_interleave(len(images) // len(CLASSES))[:, None]
        judge = judged(opened[JUDGE], images)
        asking = judged(opened[name.partition(",")[0]], images)
        said[name] = asking.gather(1, wanted)[:, 0], (judge > judge.gather(1, wanted)).sum(1) + 1
    for i, title in enumerate(CLASSES.values()):
        cells = []
        for name, images in shown.items():
            each = len(images) // len(CLASSES)
            of_each = 1 if name.endswith("no prior") else each
            for k in range(i * each, i * each + of_each):
                sure, rank = float(said[name][0][k]), int(said[name][1][k])
                cells.append((images[k], f"{name}\np {sure:.2f}, judge's no. {rank}"))
        rows.append((title, cells))
    pictures_in_rows(rows, PICTURE, inches=1.45, dpi=80)
    # (160 colours are enough for pictures of this size, and a third of the bytes)
    Image.open(PICTURE).convert("RGB").quantize(160).save(PICTURE, optimize=True)


def digits(value: Any) -> float:
    return float(f"{float(value):.3g}")


if __name__ == "__main__":
    main()
