"""Why VGG needs weight decay (paper 0, supplement section 1 and figure 1; SPEC A7, claim 3).

    python experiments/weight_decay.py

Two channels of VGG-19's relu5_1 are maximized by jitter alone, with resizing, with blurring and with blurring and
deblurring; each without and with weight decay (1 % a step). Noted in every step: the largest pixel, in units of the
whole range 0..255; at the end: how much of the picture is more than a whole range away from grey ("polluted"), and how
many pixels there are on average in one connected patch of extreme values (more than eight times the median), which is
what spreading makes larger. SqueezeNet, which has no normalization either, and ResNet-50 beside it. Writes
`results/weight_decay.json`, `results/weight_decay.jpg` and `results/weight_decay-pixels.png` (largest pixel by step).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import torch
from scipy import ndimage
from torch import Tensor

import networks
import preimage as pi
from blur_and_deblur import compared
from figure import RESULTS, pictures_in_rows, write_rows
from pixels import climbed
from preimage.optimization import Climb
from preimage.recipes import Recipe, find_recipe, with_weight_decay

ASKED = {
    "vgg19": ("relu5_1:10", "relu5_1:100"),
    "squeezenet": ("features.9:10", "features.9:100"),
    "resnet50": ("layer3.2:10", "layer3.2:100"),
}
WINDOW = {"vgg19": 112, "squeezenet": 131, "resnet50": 128}


class LargestPixel:
    """A referee that lets all go on, and notes the largest |v| of each image after every step."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, reached: Climb) -> Tensor:
        self.seen.append(reached.parameters.abs().flatten(1).max(1).values)
        return torch.ones(len(reached.parameters), dtype=torch.bool)


def patch_pixels(v: Tensor) -> float:
    """The mean size of connected patches in which |v| [C, H, W] is more than eight times its median; 0: none."""
    size = v.abs().amax(0)
    labels, count = ndimage.label((size > 8 * size.median()).numpy(), structure=[[1, 1, 1]] * 3)
    return float((labels > 0).sum() / count) if count else 0.0


def made(network: pi.Network, recipe: Recipe, steps: int) -> tuple[dict[str, Any], Tensor, Tensor]:
    """The pixels themselves, without the bounds of a picture."""
    largest = LargestPixel()
    reached = climbed(network, ASKED[network.name], recipe, steps, WINDOW[network.name], largest)
    pixels = reached.parameters
    curve = torch.stack(largest.seen).mean(1)
    row = {
        "largest_pixel": [round(float(v), 3) for v in pixels.abs().flatten(1).max(1).values],
        "median_pixel": [round(float(v), 4) for v in pixels.abs().flatten(1).median(1).values],
        "polluted_share": [round(float(v), 4) for v in (pixels.abs().amax(1) > 1).float().mean((1, 2))],
        "patch_pixels": [round(patch_pixels(v), 2) for v in pixels],
        "largest_pixel_every_30_steps": [round(float(v), 3) for v in curve[29::30]],
    }
    return row, reached.pictures(), curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps
    plain = compared()
    recipes = {"jitter": plain["neither"], "with resizing": find_recipe("jitter-resize")}
    recipes |= {"with blurring": plain["blur alone"], "blur and deblur": plain["blur and deblur"]}
    rows, shown = [], []
    figure, axes = plt.subplots(1, len(ASKED), figsize=(5 * len(ASKED), 3.6), layout="constrained", sharey=True)
    for axis, name in zip(axes, ASKED, strict=True):
        network = pi.Network(getattr(networks, name)(), name=name)
        for (said, recipe), colour in zip(recipes.items(), ("C0", "C1", "C2", "C3"), strict=True):
            cells = []
            for decays in (False, True):
                used = with_weight_decay(recipe) if decays else replace(recipe)
                row, images, curve = made(network, used, steps)
                rows.append({"network": name, "prior": said, "decay": 0.01 if decays else 0.0, "steps": steps, **row})
                axis.semilogy(
                    curve, color=colour, ls="--" if decays else "-", label=said + (", decay" if decays else "")
                )
                captions = zip(images, ASKED[name], row["largest_pixel"], row["patch_pixels"], strict=True)
                word = "with decay" if decays else "without"
                cells += [
                    (im, f"{word}: {asked}\nlargest {top:.1f}, patches of {patch:.1f} pixels")
                    for im, asked, top, patch in captions
                ]
                print(name, said, "decay" if decays else "none", rows[-1], flush=True)
            if name == "vgg19":
                shown.append((said, cells))
        axis.set(
            title=f"{name} ({ASKED[name][0].partition(':')[0]})", xlabel="step", ylabel="largest |pixel - grey| / range"
        )
        axis.legend(fontsize=6)
        write_rows("weight_decay", rows)
    figure.savefig(RESULTS / "weight_decay-pixels.png", dpi=80)
    pictures_in_rows(shown, RESULTS / "weight_decay.jpg", inches=2.6)


if __name__ == "__main__":
    main()
