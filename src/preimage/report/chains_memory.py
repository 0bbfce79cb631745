"""Is it memory? The training images that are nearest to samples, and what is said of them on a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.memory import LEVEL, MemoryCheck, memory_check
from preimage.evaluation.nearest_images import NEAREST, Nearest, nearest_images
from preimage.images import centre_crop, image_files, read_image, to_pil, written_whole
from preimage.network import Network, Place
from preimage.sample import Chain


@dataclass
class Neighbour:
    """A training image: its file on the page, its number in the data set, how far it is away, in words, and what it is
    called: its file in a folder of training images, or its number."""

    file: str
    index: int
    distance: str
    name: str


@dataclass
class Known:
    """Images to compare with, [N, C, H, W], and what each is called."""

    images: Tensor
    names: list[str]


def check_comparison(training: Tensor | str | Path | None, held_out: Tensor | str | Path | None) -> None:
    """Raises `RequestError` for held-out images without training images."""
    if held_out is not None and training is None:
        raise RequestError("held-out images are there to be compared with training images; say training=")


def known_images(given: Tensor | str | Path, shape: Sequence[int]) -> Known:
    """Images, or those of a folder brought to the shape of samples, [C, H, W].

    Raises `RequestError` for what is no folder, holds no images, or images that cannot be read.
    """
    if isinstance(given, Tensor):
        return Known(given, [str(i) for i in range(len(given))])
    channels, height, width = shape
    paths = image_files(given)
    read = [(centre_crop(read_image(path, channels), (height, width)) * 255).round() for path in paths]
    images = torch.stack([one.to(torch.uint8) for one in read])  # (bytes, of which many fit)
    return Known(images, [path.relative_to(given).as_posix() for path in paths])


def compared(
    chain: Chain, training: Known, held_out: Known | None, network: Network | None, tap: str | Place | None
) -> MemoryCheck | Nearest:
    """The training images nearest to the last sample of each chain; with held-out images, beside theirs."""
    count = min(NEAREST, len(training.images))
    if held_out is None:
        return nearest_images(chain.images, training.images, count, network=network, tap=tap)
    return memory_check(chain.images, training.images, held_out.images, count, network=network, tap=tap)


def neighbours(nearest: Nearest, i: int, training: Known, folder: Path, prefix: str) -> list[Neighbour]:
    """The training images nearest to sample i, written as `folder / prefix` with their numbers."""
    out = []
    for index, distance in zip(nearest.indices[i].tolist(), nearest.distances[i].tolist(), strict=True):
        name = f"{prefix}-{index}.png"
        image = training.images[index]
        write_picture(image if image.is_floating_point() else image.float() / 255, folder / name)
        # (the length of a difference says little; its root mean square is in units of the pixels' range)
        size = distance / math.sqrt(image.numel()) if nearest.space == "pixels" else distance
        out.append(Neighbour(name, index, f"{size:.3f}", training.names[index]))
    return out


def verdict(check: MemoryCheck | Nearest, i: int) -> tuple[str, str, str]:
    """Whether a sample is a copy: in a word or two, for the style sheet, and in a sentence."""
    if isinstance(check, Nearest):
        return "not told", "open", "What is unusually near, only photographs that were not trained on could tell."
    share = float(check.quantiles()[i])
    near = bool(check.suspicious()[i])
    alone = check.samples.distances.shape[1] > 1 and bool(check.suspicious(relative=True)[i])
    most, real = percent(1 - LEVEL), "photographs that were not trained on"
    if near and alone:
        return (
            "perhaps a copy",
            "bad",
            f"Nearer to one training image than {most} of {real} are, and to that one alone.",
        )
    if near:
        return "near to many", "fair", f"Nearer to training images than {most} of {real} are, but to many alike."
    if alone:
        return (
            "one stands out",
            "fair",
            f"No nearer than {real} are, but one training image stands out among the nearest.",
        )
    return "no copy", "good", f"Of {real}, {percent(share)} are as near to a training image or nearer."


def summary(check: MemoryCheck | Nearest | None) -> str:
    """What is said of all samples; nothing where nothing was compared."""
    if check is None:
        return ""
    if isinstance(check, Nearest):
        return f"The training images nearest to each chain's last sample, in {_space(check)}, and {_unit(check)}."
    near, count, real = int(check.suspicious().sum()), len(check.samples.indices), len(check.held_out.indices)
    return (
        f"Is it memory? In {_space(check.samples)}, {near} of {count} last samples are nearer to a training image than "
        f"{percent(1 - LEVEL)} of {real} photographs that were not trained on; by chance it would be "
        f"{LEVEL * count:.2g}. Beside each are the nearest, and {_unit(check.samples)}."
    )


def _unit(nearest: Nearest) -> str:
    return "the root mean square of the difference" if nearest.space == "pixels" else "1 - cosine"


def _space(nearest: Nearest) -> str:
    return "pixels" if nearest.space == "pixels" else f"features at {nearest.space}"


def percent(share: float) -> str:
    """A share as percent in words, with no more digits than it has a meaning."""
    of_100 = 100 * share
    digits = f"{of_100:.0f}" if of_100 >= 1 or not of_100 else f"{of_100:.1g}"
    return f"{digits}\N{NO-BREAK SPACE}%"


def write_picture(image: Tensor, path: Path) -> None:
    """Write an image, [C, H, W] in [0, 1], whole or not at all."""
    with written_whole(path) as file:
        to_pil(image).save(file)
