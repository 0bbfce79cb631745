"""Figures: pictures in rows with captions, and what experiments measure in pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor

RESULTS = Path(__file__).parent / "results"


def write_rows(name: str, rows: Any) -> None:
    """`results/NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


def pictures_in_rows(
    rows: Sequence[tuple[str, Sequence[tuple[Tensor, str]]]], to: Path, inches: float = 1.9, dpi: int = 80
) -> None:
    """Rows of (title, [(image [C, H, W], caption), ...]), each with its title on the left."""
    columns = max(len(cells) for _, cells in rows)
    figure, grid = plt.subplots(
        len(rows), columns, figsize=(columns * inches, len(rows) * (inches + 0.3)), layout="constrained", squeeze=False
    )
    for axes, (title, cells) in zip(grid, rows, strict=True):
        for axis in axes:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        axes[0].set_ylabel(title, fontsize=10)
        for axis, (image, caption) in zip(axes, cells, strict=False):
            axis.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy())
            axis.set_xlabel(caption, fontsize=8)
    to.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(to, dpi=dpi)
    plt.close(figure)


def radial_spectrum(images: Tensor, bins: int = 32) -> Tensor:
    """Power against frequency: [N, C, H, W] -> [N, bins], bin k from k / 2 bins to (k + 1) / 2 bins cycles a pixel.

    Each image's mean is taken off and its edges are faded out (Hann), so that neither counts as a frequency.
    """
    height, width = images.shape[2:]
    fade = torch.outer(torch.hann_window(height, periodic=False), torch.hann_window(width, periodic=False))
    centred = (images - images.mean((2, 3), keepdim=True)) * fade
    power = torch.fft.fft2(centred).abs().square().mean(1)
    frequency = (torch.fft.fftfreq(height)[:, None].square() + torch.fft.fftfreq(width)[None].square()).sqrt()
    index = (frequency * 2 * bins).long().clamp_max(bins)  # corners beyond half a cycle go to a bin of their own
    sums = torch.zeros(len(images), bins + 1).index_add_(1, index.flatten(), power.flatten(1))
    return sums[:, :bins]


def high_frequency_share(images: Tensor, above: float = 0.25) -> Tensor:
    """The share of an image's power at more than `above` cycles a pixel, [N]."""
    spectrum = radial_spectrum(images)
    first = round(above * 2 * spectrum.shape[1])
    return spectrum[:, first:].sum(1) / spectrum.sum(1)
