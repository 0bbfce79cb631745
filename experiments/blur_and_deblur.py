"""What blurring and deblurring does to detail (paper 0; SPEC A6, claim 6).

    python experiments/blur_and_deblur.py

At equal numbers of steps, the pictures of alternate blurring and deblurring should keep more energy in high frequencies
than those of blurring alone, and less than those of neither. The three differ in nothing else: same windows, same
steps, same start. Measured on the pixels as they are, before they are made to fit a picture: energy per pixel above an
eighth and above a quarter of a cycle per pixel, and which share of all energy that is. Writes
`results/blur_and_deblur.json`, `results/blur_and_deblur.jpg` and `results/blur_and_deblur-spectra.png`.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import torch

import networks
import preimage as pi
from figure import RESULTS, pictures_in_rows, radial_spectrum, write_rows
from interpolation import CLASSES
from pixels import climbed
from preimage.priors import BlurAndDeblur, Every, Gaussian
from preimage.recipes import Recipe, find_recipe


def compared() -> dict[str, Recipe]:
    """Neither, blurring alone (with the sigma that both begin with), and both."""
    neither, both = find_recipe("jitter"), find_recipe("blur-deblur")
    schedule = both.stages[0].smooth_solution
    assert isinstance(schedule, BlurAndDeblur)
    blur = Every(Gaussian(schedule.size, sigma=schedule.first), schedule.period, schedule.blur_after)
    alone = replace(both, name="blur alone", stages=(replace(both.stages[0], smooth_solution=blur),))
    return {"neither": neither, "blur alone": alone, "blur and deblur": both}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    rows, shown = [], []
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for axis, (name, count, steps) in zip(axes, (("squeezenet", 12, 300), ("resnet50", 3, 120)), strict=True):
        network = pi.Network(getattr(networks, name)(), name=name)
        asked = [f"class:{c}" for c in CLASSES[:count]]
        for said, recipe in compared().items():
            reached = climbed(network, asked, recipe, steps)
            spectrum = radial_spectrum(reached.images()) / reached.parameters[0].numel() ** 2
            above = {edge: spectrum[:, round(edge * 2 * spectrum.shape[1]) :].sum(1) for edge in (0.125, 0.25)}
            row: dict[str, Any] = {"network": name, "prior": said, "pictures": count, "steps": steps}
            for edge, energy in above.items():
                row[f"energy_above_{edge}"] = [float(f"{v:.3g}") for v in energy.tolist()]
                row[f"share_above_{edge}"] = [round(v, 4) for v in (energy / spectrum.sum(1)).tolist()]
            rows.append(row)
            medians = {key: statistics.median(values) for key, values in row.items() if isinstance(values, list)}
            print(name, said, medians, flush=True)
            axis.semilogy(
                (torch.arange(spectrum.shape[1]) + 0.5) / (2 * spectrum.shape[1]), spectrum.mean(0), label=said
            )
            cells = zip(reached.pictures()[:4], asked, row["share_above_0.125"], strict=False)
            shown.append(
                (f"{name}\n{said}", [(image, f"{what}: {share:.2f} above 1/8") for image, what, share in cells])
            )
        axis.set(title=name, xlabel="cycles per pixel", ylabel="energy of the pixels")
        axis.legend()
        write_rows("blur_and_deblur", rows)
    pictures_in_rows(shown, RESULTS / "blur_and_deblur.jpg", inches=2.6)
    figure.savefig(RESULTS / "blur_and_deblur-spectra.png", dpi=80)


if __name__ == "__main__":
    main()
