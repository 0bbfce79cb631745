"""What blurring and deblurring does to detail (paper 0; SPEC A6, claim 6).

    python experiments/blur_and_deblur.py

At equal numbers of steps, the pictures of alternate blurring and deblurring should keep more energy in high frequencies
than those of blurring alone, and less than those of neither. The three differ in nothing else: same window, same
steps, same start. Writes `results/blur_and_deblur.json` and `results/blur_and_deblur.png`, with radial spectra.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

import matplotlib.pyplot as plt
import torch

import networks
import preimage as pi
from figure import RESULTS, high_frequency_share, pictures_in_rows, radial_spectrum, write_rows
from interpolation import CLASSES
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
    rows, shown, spectra = [], [], {}
    for name, count, steps in (("squeezenet", 12, 300), ("resnet50", 4, 150)):
        network = pi.Network(getattr(networks, name)(), name=name)
        for said, recipe in compared().items():
            made = pi.maximize(
                network, [f"class:{c}" for c in CLASSES[:count]], recipe=recipe, steps=steps, batch_size=6
            )
            shares = [round(float(v), 4) for v in high_frequency_share(made.images)]
            spectrum = radial_spectrum(made.images)
            spectra[name, said] = (spectrum / spectrum.sum(1, keepdim=True)).mean(0)
            rows.append({"network": name, "prior": said, "pictures": count, "steps": steps, "share": shares})
            print(f"{name:>10} {said:<16} power above 1/4 cycle: median {statistics.median(shares):.4f}", flush=True)
            cells = zip(made.images[:4], made.objectives, shares, strict=False)
            shown.append((f"{name}\n{said}", [(image, f"{what}: {share:.3f}") for image, what, share in cells]))
        write_rows("blur_and_deblur", rows)
    pictures_in_rows(shown, RESULTS / "blur_and_deblur.png", inches=2.6)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", sharey=True)
    for axis, name in zip(axes, ("squeezenet", "resnet50"), strict=True):
        for said in compared():
            power = spectra[name, said]
            axis.semilogy((torch.arange(len(power)) + 0.5) / (2 * len(power)), power, label=said)
        axis.set(title=name, xlabel="cycles per pixel", ylabel="share of the power")
        axis.legend()
    figure.savefig(RESULTS / "blur_and_deblur-spectra.png", dpi=80)


if __name__ == "__main__":
    main()
