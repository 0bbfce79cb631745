"""Paper 2, figure 1 (SPEC S-F1), and its claims on scales: "fluid demons yield only fine details, elastic and
fluid-elastic both coarse and fine ones", "the Sobolev filter is sharper than the Gaussian of the same size".

    python experiments/demons_schemes.py

The class king crab under six schemes on three networks (paper: VGG-19; its trunk, which is what we have, knows no
classes), and the radial power spectra of eight classes on two of them. Coarse is below a 32nd of a cycle a pixel,
fine above an eighth. Writes `results/demons_schemes.json`, `results/demons_schemes.jpg` and
`results/demons_spectra.png`.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import preimage as pi
from figure import RESULTS, pictures_in_rows, radial_spectrum, write_rows
from transfer_recognition import OPEN, drawn_classes

KING_CRAB = 121
SCHEMES = ("fluid", "elastic", "fluid-elastic")
NAMES = [f"{scheme}{suffix}" for suffix in ("", "-gaussian") for scheme in SCHEMES]
MEASURED = ("squeezenet", "bundled")
BINS = 32
COARSE, FINE = round(BINS * 2 / 32), round(BINS * 2 / 8)


def shares(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the power below a 32nd and above an eighth of a cycle a pixel, [N] each."""
    whole = spectrum.sum(1)
    return spectrum[:, :COARSE].sum(1) / whole, spectrum[:, FINE:].sum(1) / whole


def main() -> None:
    networks = {name: make() for name, make in OPEN.items()}
    rows = []
    for name, network in networks.items():
        cells = []
        for recipe in NAMES:
            made = pi.maximize(network, f"class:{KING_CRAB}", recipe=recipe, progress=False)
            cells.append((made.images[0], f"{recipe}\n{float(made.scores[0]):.0f}"))
        rows += [(f"{name}\nSobolev", cells[:3]), (f"{name}\nGaussian", cells[3:])]
        print(name, [cell[1].replace("\n", " ") for cell in cells], flush=True)
    pictures_in_rows(rows, RESULTS / "demons_schemes.jpg", inches=2.4)

    table, curves = [], {}
    classes = [f"class:{i}" for i in drawn_classes(8)]
    for name in MEASURED:
        coarse, fine = {}, {}
        for recipe in NAMES:
            made = pi.maximize(networks[name], classes, recipe=recipe, progress=False)
            spectrum = radial_spectrum(made.images, BINS)
            curves[name, recipe] = spectrum.median(0).values
            coarse[recipe], fine[recipe] = shares(spectrum)
            table.append(
                {
                    "network": name,
                    "recipe": recipe,
                    "coarse_share": round(float(coarse[recipe].median()), 4),
                    "fine_share": round(float(fine[recipe].median()), 4),
                    "score": round(float(made.scores.mean()), 1),
                }
            )
            print(table[-1], flush=True)
        for suffix in ("", "-gaussian"):
            for scheme in SCHEMES[1:]:
                more = coarse[scheme + suffix] > coarse["fluid" + suffix]
                says = f"{scheme}{suffix} has a larger coarse share than fluid{suffix}"
                table.append({"network": name, "claim": says, "holds": int(more.sum()), "of": len(more)})
        for scheme in SCHEMES:
            more = fine[scheme] > fine[scheme + "-gaussian"]
            says = f"{scheme} has a larger fine share with Sobolev than with Gaussian"
            table.append({"network": name, "claim": says, "holds": int(more.sum()), "of": len(more)})
    for row in table:
        if "claim" in row:
            print(row)
    write_rows("demons_schemes", table)

    figure, axes = plt.subplots(1, len(MEASURED), figsize=(9, 3.6), layout="constrained", sharey=True)
    frequency = (torch.arange(BINS) + 0.5) / (2 * BINS)
    for axis, name in zip(axes, MEASURED, strict=True):
        for i, recipe in enumerate(NAMES):
            power = curves[name, recipe] / curves[name, recipe].sum()
            axis.loglog(frequency, power, f"C{i % 3}{'--' if 'gaussian' in recipe else '-'}", label=recipe)
        axis.set(title=name, xlabel="cycles per pixel", ylim=(1e-6, 1))
    axes[0].set_ylabel("share of the power")
    axes[0].legend(fontsize=8)
    figure.savefig(RESULTS / "demons_spectra.png", dpi=110)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
