"""The diagrams of paper 1 (section S4, figures 2, 3 and S2), out of what was measured of an experiment's runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.stats import gaussian_kde
from torch import Tensor

from figure import pictures_in_rows
from inverse_summary import AGAIN, UNSTABLE, InSpace, Measured
from preimage.recover import angle, solve

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
SINGLY = 10
"""So many alpha_j have a segment of their own; what is above them is black, which the paper's bars become by their
edges: fragmentation."""
COLOURS = {"predicted": "tab:blue", "target": "tab:green", "response": "tab:orange", "random": "tab:gray"}
ABOVE: dict[str, Any] = {
    "loc": "lower center",
    "bbox_to_anchor": (0.5, 1.0),
    "frameon": False,
    "handlelength": 1,
    "columnspacing": 0.9,
}
"""Legends, where they cover nothing."""
NAMES = {
    "predicted": "predicted objective",
    "target": "target objective",
    "response": "feature response",
    "random": "random objective",
}


def drawn(name: str, runs: Sequence[Measured], folder: Path = PICTURES) -> Path:
    """`inverse-NAME.png`: contributions, stability, and angles against SSIM; of E1 figure 2a's distributions too."""
    distributions = name == "E1"
    rows = ["aabbbbcccccc", "ddddddeeeeee"] if distributions else ["aabbbbcccccc" if len(runs) == 1 else "aaaabbbccccc"]
    figure = plt.figure(figsize=(11.5, 3.6 * len(rows)), layout="constrained")
    axes = figure.subplot_mosaic("\n".join(rows))
    contributions_as_bars(axes["a"], runs)
    stability(axes["b"], runs)
    angles_and_ssim(axes["c"], runs)
    if distributions:
        (one,) = runs
        angles = {kind: values.double() for kind, values in one.angles.items()}
        densities(axes["d"], angles, 90, "angle to the target objective (degrees)")
        ssim = {kind: one.ssim[kind].double() for kind in AGAIN}
        densities(axes["e"], ssim, 1, "SSIM, before and after re-optimising")
    figure.suptitle(title(name, runs), fontsize=11)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"inverse-{name}.png"
    figure.savefig(path, dpi=80)
    plt.close(figure)
    return path


def title(name: str, runs: Sequence[Measured]) -> str:
    run = runs[-1].run
    counts = sorted({len(one.gain) for one in runs})
    features = f"{run.features}" if len(runs) == 1 else f"{runs[0].run.features} to {run.features}"
    aggregate = "" if run.tap == "classifier" else f", {run.aggregate}"
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return (
        f"{name}: {features} features of {run.network} {run.tap}{aggregate}, k = {run.k}, {run.parametrization}; "
        f"{many} targets{' each' if len(runs) > 1 else ''}"
    )


def contributions_as_bars(axis: Axes, runs: Sequence[Measured]) -> None:
    """alpha_j stacked by rising singular value, a bar for each run."""
    shades = plt.get_cmap("tab10").colors
    for place, one in enumerate(runs):
        alpha = one.alpha.numpy()
        bottom = 0.0
        for j, value in enumerate(alpha[:SINGLY]):
            axis.bar(place, value, 0.75, bottom, color=shades[j], edgecolor="black", linewidth=0.4)
            bottom += value
        if len(alpha) > SINGLY:
            axis.bar(place, alpha[SINGLY:].sum(), 0.75, bottom, color="black")
    labels = [str(one.run.features) for one in runs]
    axis.set(ylim=(0, 1.0), ylabel="contribution $\\alpha_j$, stacked")
    axis.set_xticks(range(len(runs)), labels, fontsize=8)
    axis.set_xlabel("features" if len(runs) > 1 else f"{labels[0]} features")
    if len(runs) == 1:
        axis.set_xlim(-1, 1)
        axis.set_xticks([])
    handles = [plt.Rectangle((0, 0), 1, 1, facecolor=shades[j], edgecolor="black", linewidth=0.4) for j in range(3)]
    names = ["$\\alpha_1$", "$\\alpha_2$", "$\\alpha_3$"]
    if any(one.run.features > SINGLY for one in runs):
        handles.append(plt.Rectangle((0, 0), 1, 1, facecolor="black"))
        names.append(f"j > {SINGLY}")
    axis.legend(handles, names, fontsize=7, ncols=2 if len(runs) == 1 else 4, **ABOVE)


def stability(axis: Axes, runs: Sequence[Measured]) -> None:
    """Density of SSIM under re-optimisation for the target, with the line below which a sample is unstable."""
    of_runs = {str(one.run.features): one.ssim["target"].double() for one in runs}
    colours = _shades(runs)
    densities(axis, of_runs, 1, "SSIM, target objective", dict(zip(of_runs, colours, strict=True)))
    axis.axvline(UNSTABLE, color="tab:red", linestyle="--", linewidth=1)
    legend = axis.get_legend()
    if legend is not None:
        legend.remove()  # (the colours are those of the next diagram)


def angles_and_ssim(axis: Axes, runs: Sequence[Measured]) -> None:
    """Angle to the target against SSIM under re-optimisation for the predicted objective. Triangles: unstable samples.
    Size: the fraction of the target in the critical space, where there are some."""
    handles = []
    if len(runs) == 1 and runs[0].spaces:
        for space, colour in zip(_shown(runs[0]), ("tab:blue", "tab:orange", "tab:green"), strict=False):
            if space.ssim is None:
                continue
            _points(axis, space.angles, space.ssim, runs[0].unstable, colour, 60 * space.inside.double() ** 2 + 2)
            handles.append(_handle(colour, f"$C$ of {space.space.dimension} dimensions"))
    else:
        for one, colour in zip(runs, _shades(runs), strict=True):
            _points(axis, one.angles["predicted"], one.ssim["predicted"], one.unstable, colour, None)
            if len(runs) > 1:
                handles.append(_handle(colour, f"{one.run.features} features"))
    handles.append(_handle("black", "unstable", "^"))
    if any(one.spaces for one in runs):
        handles.append(_handle("black", "size: fraction of the target in $Z_k^{-1}C$", ""))
    axis.set(
        xlabel="angle to the target objective (degrees)",
        ylabel="SSIM, predicted objective",
        xlim=(-2, 92),
        ylim=(min(0.0, *(_least(one) for one in runs)) - 0.02, 1.03),
    )
    if len(runs) == 1:
        axis.legend(handles=handles, fontsize=7, ncols=4 if len(handles) <= 4 else 3, **ABOVE)
    else:
        axis.legend(handles=handles, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def densities(axis: Axes, of: dict[str, Tensor], end: float, label: str, colours: dict[str, Any] | None = None) -> None:
    """Smoothed densities of values between 0 and `end`, each scaled to its own height, over marks for the values."""
    chosen = colours or COLOURS
    lowest = min(0.0, *(float(values.min()) for values in of.values()))
    grid = np.linspace(lowest, end, 400)
    for place, (name, values) in enumerate(of.items()):
        numbers = values.numpy()
        colour = chosen[name]
        height = -0.05 * (place + 1)
        axis.plot(numbers, np.full(len(numbers), height), "|", color=colour, markersize=5, alpha=0.7)
        axis.plot([], [], color=colour, label=NAMES.get(name, name))
        if len(numbers) > 2 and numbers.std() > 1e-4 * end:
            density = _folded(gaussian_kde(numbers), grid, lowest, end)
            if len(of) <= 4:
                axis.fill_between(grid, density / density.max(), color=colour, alpha=0.15, linewidth=0)
            axis.plot(grid, density / density.max(), color=colour)
    axis.set(xlabel=label, ylabel="density (each scaled to 1)", ylim=(-0.05 * len(of) - 0.06, 1.05))
    axis.set_yticks([0, 0.5, 1])
    axis.legend(fontsize=7, ncols=4, **ABOVE)


def _folded(density: gaussian_kde, grid: np.ndarray[Any, Any], low: float, high: float) -> np.ndarray[Any, Any]:
    """What a density would have beyond both ends is added inside them: no angle is above 90, no SSIM above 1."""
    folded: np.ndarray[Any, Any] = density(grid) + density(2 * high - grid) + density(2 * low - grid)
    return folded


def _points(axis: Axes, angles: Tensor, ssim: Tensor, unstable: Tensor, colour: Any, sizes: Tensor | None) -> None:
    for some, marker in ((~unstable, "o"), (unstable, "^")):
        size = 22 if sizes is None else sizes[some].numpy()
        axis.scatter(angles[some], ssim[some], s=size, marker=marker, color=colour, alpha=0.65, linewidths=0)


def _handle(colour: Any, label: str, marker: str = "o") -> Line2D:
    return Line2D([], [], color=colour, marker=marker, linestyle="", markersize=5, label=label)


def _shades(runs: Sequence[Measured]) -> list[Any]:
    if len(runs) == 1:
        return ["tab:blue"]
    return list(plt.get_cmap("plasma")(np.linspace(0, 0.88, len(runs))))


def _shown(one: Measured) -> list[InSpace]:
    """The whole space, C_1 and C_2."""
    spaces = [one.of_dimension(one.run.features - less) for less in range(3)]
    return [space for space in spaces if space is not None]


def _least(one: Measured) -> float:
    return float(one.ssim["predicted"].min())


def sheet(name: str, one: Measured, part: dict[str, Any], folder: Path = PICTURES) -> Path:
    """`inverse-NAME-sheet.jpg`: figure S2 of the first part's targets. Realisations, and per pixel the largest
    difference of the three colours between before and after they are optimised again for each objective."""
    before, again = part["images"], part["again"]
    predicted = solve(part["responses"], part["grams"], float(one.run.k)).best
    angles = {"predicted": angle(part["targets"], predicted), "response": angle(part["targets"], part["responses"])}
    rows = [("realisation", [(image, "") for image in before])]
    for kind in ("target", "predicted", "response", "random"):
        maps = (before - again[f"image {kind}"].float()).abs().amax(1, keepdim=True).expand(-1, 3, -1, -1)
        captions = [
            f"SSIM {float(part[f'ssim {kind}'][i]):.2f}"
            + (f"; {float(angles[kind][i]):.0f}° off" if kind in angles else "")
            for i in range(len(before))
        ]
        rows.append((f"change for the\n{NAMES[kind]}", list(zip(maps, captions, strict=True))))
    path = folder / f"inverse-{name}-sheet.jpg"
    pictures_in_rows(rows, path, inches=1.5)
    return path
