"""What smoothing a batch costs: `Gaussian` and `Sobolev` as they are, and the other ways to apply the same filter.

    OMP_NUM_THREADS=1 python benchmarks/filters.py

On one thread, borders mirrored at the pixels' edges, all ways timed in turn within one run and compared by medians,
since machines are noisy; only ratios mean anything. All are checked to give the same values first. Writes
`benchmarks/filters.json`.

ours: `kernel(values)`. grouped: `F.conv2d`, a group for each channel. folded: `F.conv2d` with channels as images, so
that there are no groups. separable: a grouped column and a grouped row (a Gaussian only). shifted: sums of shifted
copies, weighted, for as many separable parts as the kernel has up to float32 (one, of a Gaussian). fft: a product of
spectra, the filter's kept from one call to the next, at the next size of small prime factors. The last two are the
ways that `Sobolev` chooses between by its size.

Whatever a way can prepare, it has prepared before it is timed; ours is given nothing.
"""

from __future__ import annotations

import functools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from scipy import fft
from torch import Tensor

from preimage.priors import Gaussian, Sobolev

SHAPE = (8, 3, 224, 224)
SIZES = (5, 7, 9, 11, 15, 21)
ROUNDS = 15
SAME = 1e-5

Filter = Callable[[Tensor], Tensor]


def reflected(values: Tensor, size: int) -> Tensor:
    reach = size // 2
    values = torch.cat([values[:, :, :reach].flip(2), values, values[:, :, -reach:].flip(2)], 2)
    return torch.cat([values[..., :reach].flip(3), values, values[..., -reach:].flip(3)], 3)


def grouped(weights: Tensor) -> Filter:
    channels, size = SHAPE[1], len(weights)
    stacked = weights.expand(channels, 1, size, size).contiguous()
    return lambda values: F.conv2d(reflected(values, size), stacked, groups=channels)


def folded(weights: Tensor) -> Filter:
    single = weights[None, None]
    return lambda values: F.conv2d(reflected(values, len(weights)).flatten(0, 1)[:, None], single).view(values.shape)


def separable(profile: Tensor) -> Filter:
    channels, size = SHAPE[1], len(profile)
    column = profile.view(1, 1, size, 1).repeat(channels, 1, 1, 1)
    row = profile.view(1, 1, 1, size).repeat(channels, 1, 1, 1)

    def apply(values: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(reflected(values, size), row, groups=channels), column, groups=channels)

    return apply


def shifted(weights: Tensor) -> Filter:
    size = len(weights)
    left, shares, right = torch.linalg.svd(weights.double())
    parts = [
        ((share * left[:, i]).tolist(), right[i].tolist()) for i, share in enumerate(shares) if share > 1e-7 * shares[0]
    ]

    def along(values: Tensor, profile: list[float], axis: int) -> Tensor:
        length = values.shape[axis] - size + 1
        total = values.narrow(axis, 0, length) * profile[0]
        for shift, weight in enumerate(profile[1:], 1):
            total.add_(values.narrow(axis, shift, length), alpha=weight)
        return total

    def apply(values: Tensor) -> Tensor:
        padded = reflected(values, size)
        return functools.reduce(Tensor.add_, (along(along(padded, row, 3), column, 2) for column, row in parts))

    return apply


def by_fft(weights: Tensor) -> Filter:
    size = len(weights)
    inner = [side + size - 1 for side in SHAPE[2:]]
    shape = [fft.next_fast_len(side, real=True) for side in inner]
    spectrum = torch.fft.rfft2(weights, s=shape)

    def apply(values: Tensor) -> Tensor:
        whole = torch.fft.irfft2(torch.fft.rfft2(reflected(values, size), s=shape) * spectrum, s=shape)
        return whole[:, :, size - 1 : inner[0], size - 1 : inner[1]]

    return apply


def ways(kernel: Gaussian | Sobolev) -> dict[str, Filter]:
    weights = kernel.kernel
    out = {"ours": kernel, "grouped": grouped(weights), "folded": folded(weights)}
    if isinstance(kernel, Gaussian):
        out["separable"] = separable(kernel.profile.float())
    return out | {"shifted": shifted(weights), "fft": by_fft(weights)}


def in_turn(filters: dict[str, Filter], values: Tensor) -> dict[str, float]:
    """Median milliseconds of each, all measured in turn; one round before that is left out."""
    times: dict[str, list[float]] = {name: [] for name in filters}
    for number in range(ROUNDS + 1):
        for name, apply in filters.items():
            begun = time.perf_counter()
            apply(values)
            if number:
                times[name].append(1000 * (time.perf_counter() - begun))
    return {name: statistics.median(measured) for name, measured in times.items()}


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    values = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
    names = ("ours", "grouped", "folded", "separable", "shifted", "fft")
    print(f"{'ms (x ours)':<12}" + "".join(f"{name:>16}" for name in names))
    rows = []
    for kind in (Gaussian, Sobolev):
        for size in SIZES:
            filters = ways(kind(size))
            expected = filters["ours"](values)
            for name, apply in filters.items():
                torch.testing.assert_close(
                    apply(values), expected, rtol=0, atol=SAME, msg=lambda m, n=name: f"{n}: {m}"
                )
            took = in_turn(filters, values)
            rows.append({"kernel": kind.__name__, "size": size, "milliseconds": took})
            cells = (f"{took[n]:.1f} ({took[n] / took['ours']:.2f})" if n in took else "" for n in names)
            print(f"{kind.__name__} {size:<{11 - len(kind.__name__)}}" + "".join(f"{cell:>16}" for cell in cells))
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "shape": SHAPE, "rounds": ROUNDS}
    (Path(__file__).parent / "filters.json").write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
