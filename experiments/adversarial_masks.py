"""Paper 4, section 5.5 (SPEC M22): what masks say of attacked photos.

    python experiments/adversarial_masks.py

Photographs are attacked with the iterative sign method (epsilon 8 / 255, 10 steps). For each, the mask of the first
answer is learned on the clean and on the attacked photo. Two questions: does the attacked photo, perturbed by its own
mask, get its clean label back; and can a classifier that has seen neither photo tell which of the two masks is that of
the attacked one? Writes `results/adversarial_masks.json` and a figure.

Masks have 100 steps and no jitter: the published one resamples the photo to a few pixels more, which takes the attack
away by itself, so that there would be nothing left to explain.

The classifier is a logistic regression on the mask at 28 x 28 and its spectrum, cross-validated in ten folds in which
the two masks of a photo stay together. The paper trains a network on 5,000 photos, and reports 93.6 %.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

import networks
import preimage as pi
from figure import RESULTS, pictures_in_rows, write_rows
from perturbing import mean
from photographs import balanced, cropped, share
from preimage.evaluation import attack
from preimage.explain import GradCAM, Gradient, Mask, Method
from preimage.priors import Gaussian

BATCH = 8
METHODS: dict[str, Method] = {"mask": Mask(iterations=100, jitter=0), "gradient": Gradient(), "grad-cam": GradCAM()}


def features(heatmaps: Tensor) -> np.ndarray:
    """Each heat map [N, H, W], scaled to its largest value, at 28 x 28, and the log of its spectrum."""
    scaled = heatmaps / heatmaps.amax((1, 2), keepdim=True).clamp_min(1e-12)
    small = F.adaptive_avg_pool2d(scaled[:, None], 28)[:, 0]
    spectrum = torch.fft.rfft2(small).abs().add(1e-3).log()
    return torch.cat([small.flatten(1), spectrum.flatten(1)], 1).numpy()


def detected(clean: Tensor, attacked: Tensor) -> dict[str, object]:
    """How often a classifier tells the heat maps of attacked photos [N, H, W] from those of clean ones."""
    values = np.concatenate([features(clean), features(attacked)])
    wanted = np.repeat([0, 1], len(clean))
    photos = np.tile(np.arange(len(clean)), 2)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=2000))
    said = cross_val_predict(model, values, wanted, groups=photos, cv=GroupKFold(10))
    right = torch.from_numpy(said == wanted).double().view(2, -1)
    return mean(right.mean(0))  # (the two answers on one photo are not independent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=100)
    asked = parser.parse_args()
    network = pi.Network(networks.squeezenet(), name="squeezenet")
    photos = cropped(balanced(asked.photos), network.input_size[0])
    made = attack(network, photos)
    table: dict[str, object] = {
        "network": network.name,
        "photos": len(photos),
        "largest change": round(float((made.attacked - photos).abs().max()) * 255, 3),
        "attacks that changed the first answer": share(made.succeeded),
    }
    print(table, flush=True)
    rows = made.succeeded.nonzero().flatten().tolist()
    pairs = {"clean": (photos[rows], made.before[rows]), "attacked": (made.attacked[rows], made.after[rows])}
    for name, method in METHODS.items():
        found = {}
        for kind, (images, classes) in pairs.items():
            targets = [[f"class:{int(c)}"] for c in classes]
            found[kind] = pi.explain(
                network, images, targets, method=method, least_probability=0, batch_size=BATCH, progress=False
            )
        maps = {kind: some.heatmaps for kind, some in found.items()}
        row: dict[str, object] = {"told apart": detected(maps["clean"], maps["attacked"])}
        if name == "mask":
            masks = {kind: torch.stack([one.mask for one in some]) for kind, some in found.items()}
            row |= {f"deleted, {kind}": mean(1 - some.mean((1, 2))) for kind, some in masks.items()}
            row["started again"] = sum(bool(one.notes) for some in found.values() for one in some)
            ranks = shown_ranks(network, pairs["attacked"][0], masks["attacked"])
            clean = pairs["clean"][1]
            row["clean label restored"] = share(ranks[:, 0] == clean)
            row["clean label among five"] = share((ranks[:, :5] == clean[:, None]).any(1))
            # What blurring does by itself: all of the attacked photo, and as much of it at random places.
            ranks = shown_ranks(network, pairs["attacked"][0], torch.zeros_like(masks["attacked"]))
            row["by blurring everything"] = share(ranks[:, 0] == clean)
            row["by the mask of another photo"] = share(
                shown_ranks(network, pairs["attacked"][0], masks["attacked"].roll(1, 0))[:, 0] == clean
            )
            draw(network, pairs, found)
        table[name] = row
        print(name, row, flush=True)
        write_rows("adversarial_masks", table)


@torch.no_grad()
def shown_ranks(network: pi.Network, photos: Tensor, masks: Tensor) -> Tensor:
    """The classes from strongest to weakest for photos [N, C, H, W] blurred where masks [N, H, W] are 0."""
    place = pi.Place(network.logits, True)
    shown = torch.lerp(Gaussian(sigma=10.0 * photos.shape[3] / 224)(photos), photos, masks[:, None])
    logits = torch.cat([network.run(some, [place])[place] for some in torch.split(shown, 16)])
    return logits.argsort(dim=1, descending=True)


def draw(network: pi.Network, pairs: dict, found: dict) -> None:
    rows = []
    for kind, (images, classes) in pairs.items():
        names = [network.labels[int(c)].split(",")[0][:22] for c in classes[:8]]
        rows.append((kind, [(image, name) for image, name in zip(images[:8], names, strict=True)]))
        rows.append(("mask", [(one.heatmap[None].expand(3, -1, -1), "") for one in found[kind][:8]]))
    pictures_in_rows(rows, RESULTS / "adversarial_masks.jpg", inches=1.6)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
