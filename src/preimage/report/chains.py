"""Chains of samples on a page: strips, a film of all, their scores, and the training images that are nearest."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.memory import LEVEL, MemoryCheck, memory_check
from preimage.evaluation.nearest_images import NEAREST, Nearest, nearest_images
from preimage.images import centre_crop, image_files, read_image, to_pil, writable_folder, written_whole
from preimage.network import Network, Place
from preimage.report.plot import HEIGHT, WIDTH
from preimage.sample import Chain

_MOST_FRAMES = 40
_MOST_POINTS = 200
_SMALL = 64
"""Pictures of up to so many pixels are enlarged pixel by pixel; smoothed, they would look like more than they are."""


@dataclass
class Neighbour:
    """A training image: its file, its number in the data set, and how far it is away, in words."""

    file: str
    index: int
    distance: str


@dataclass
class Strip:
    """One chain. strip: the file with all frames side by side; score: of the last, in words; curve: SVG path of the
    score of every step; verdict, kind, says: whether the last is a copy (kind: good, fair, bad or open, for the style
    sheet); neighbours: the nearest training images of the last, the nearest first."""

    name: str
    strip: str
    score: str
    curve: str
    verdict: str = ""
    kind: str = "open"
    says: str = ""
    neighbours: list[Neighbour] = field(default_factory=list)


@dataclass
class Asked:
    """The chains of one objective, whose curves have one scale: from `low` to `high`, in words."""

    title: str
    low: str
    high: str
    chains: list[Strip]


@dataclass
class Chains:
    """All that the section shows. steps: after which each frame was kept. small: whether pictures are enlarged pixel by
    pixel. memory: what is said of all chains' last samples. settings: name and value of each."""

    name: str
    steps: list[int]
    done: int
    height: int
    width: int
    small: bool
    asked: list[Asked]
    memory: str
    settings: list[tuple[str, str]]
    interrupted: bool

    @property
    def pictures(self) -> int:
        """How many pictures the strips hold."""
        return len(self.steps) * sum(len(one.chains) for one in self.asked)


def chains_page(
    chain: Chain,
    folder: str | Path,
    *,
    training: Tensor | str | Path | None = None,
    held_out: Tensor | str | Path | None = None,
    network: Network | None = None,
    tap: str | Place | None = None,
) -> Path:
    """Write `index.html` and its pictures (`images/chain-...png`) into `folder`; the page's path.

    Each chain is a strip of its kept samples (40 at most, evenly chosen, the last among them) over the score of every
    step, and all of them a film that can be stopped and moved through by hand; it starts by itself unless the reader
    has asked for less motion.

    training: images that the prior was trained on, [N, C, H, W], floats in [0, 1] or bytes, or a folder of them; the
        nearest of each chain's last sample are shown beside it. held_out: at least 100 such images that it was not
        trained on, without which nobody can tell what is unusually near. Images of a folder are brought to the
        samples' size.
    network, tap: compare features at that tap, instead of pixels (see `preimage.evaluation.memory.memory_check`).

    Raises `RequestError` for a folder that cannot be written to, and images that cannot be compared.
    """
    path = writable_folder(folder)
    shown = made_chains(chain, path, training=training, held_out=held_out, network=network, tap=tap)
    page = _environment().get_template("chains_page.html.j2")
    style = "\n".join(_text(name) for name in ("page.css", "chains.css"))
    html = page.render(chains=shown, style=style, script=_text("chains.js"), plot=(WIDTH, HEIGHT), **_about())
    with written_whole(path / "index.html") as file:
        file.write_text(html, encoding="utf-8")
    return path / "index.html"


def chains_html(shown: Chains) -> str:
    """The section alone, for a page that holds `chains_style` and, behind the section, `chains_script`."""
    html: str = _environment().get_template("chains.html.j2").render(chains=shown, plot=(WIDTH, HEIGHT))
    return html


def chains_style() -> str:
    """The section's style sheet, to come after that of a report."""
    return _text("chains.css")


def chains_script() -> str:
    """What makes the strips a film."""
    return _text("chains.js")


def made_chains(
    chain: Chain,
    folder: Path,
    *,
    prefix: str = "images/chain",
    training: Tensor | str | Path | None = None,
    held_out: Tensor | str | Path | None = None,
    network: Network | None = None,
    tap: str | Place | None = None,
) -> Chains:
    """Write the pictures of a section below `folder`, their names beginning with `prefix`, and say what is to be shown.

    Others, and what is raised: as in `chains_page`.
    """
    count, _, height, width = chain.images.shape
    if held_out is not None and training is None:
        raise RequestError("held-out images are there to be compared with training images; say training=")
    if training is None and network is not None:
        raise RequestError("a network compares samples with training images; say training=")
    frames = _chosen(len(chain.kept))
    known = None if training is None else _images(training, chain)
    check = None if known is None else _compared(chain, known, held_out, network, tap)
    (folder / prefix).parent.mkdir(parents=True, exist_ok=True)
    digits = len(str(count))
    strips = []
    for i in range(count):
        name = f"{prefix}-{i:0{digits}}.png"
        _write(torch.cat(list(chain.samples[frames, i]), 2), folder / name)
        strips.append(Strip(f"chain {i + 1}", name, _said(chain, i, float(chain.scores[-1, i])), ""))
    if check is not None and known is not None:
        nearest = check.samples if isinstance(check, MemoryCheck) else check
        for i, strip in enumerate(strips):
            strip.neighbours = _neighbours(nearest, i, known, folder, f"{prefix}-training")
            strip.verdict, strip.kind, strip.says = _verdict(check, i)
    asked = []
    for said in dict.fromkeys(chain.objectives):
        rows = [i for i, one in enumerate(chain.objectives) if one == said]
        low, high = _range(chain.trace[:, rows])
        for i in rows:
            strips[i].curve = curve(chain.trace[:, i].tolist(), low, high)
        first = rows[0]
        some = [strips[i] for i in rows]
        asked.append(Asked(said, _said(chain, first, low), _said(chain, first, high), some))
    return Chains(
        str(chain.settings.get("prior") or "no prior"),
        [chain.kept[i] for i in frames],
        chain.done,
        height,
        width,
        max(height, width) <= _SMALL,
        asked,
        _summary(check),
        _settings(chain),
        chain.interrupted,
    )


def curve(values: Sequence[float], low: float, high: float) -> str:
    """SVG path data of one value for each step: step t of n lies at t / n of the width, and the values between `low`,
    below, and `high`, above. Values that are not finite are left out, long traces thinned, keeping the last."""
    stride = max(1, -(-len(values) // _MOST_POINTS))
    points = [
        (t, value) for t, value in enumerate(values, 1) if math.isfinite(value) and (len(values) - t) % stride == 0
    ]
    span = (high - low) or 1.0
    drawn = [
        f"{t / len(values) * WIDTH:.1f},{(HEIGHT - 2) - (value - low) / span * (HEIGHT - 4):.1f}" for t, value in points
    ]
    return "M" + "L".join(drawn) if drawn else ""


def _chosen(kept: int) -> list[int]:
    """Which kept samples become frames, evenly from the first to the last."""
    if kept <= _MOST_FRAMES:
        return list(range(kept))
    return [round(i * (kept - 1) / (_MOST_FRAMES - 1)) for i in range(_MOST_FRAMES)]


def _images(given: Tensor | str | Path, chain: Chain) -> Tensor:
    if isinstance(given, Tensor):
        return given
    _, channels, height, width = chain.images.shape
    read = [(centre_crop(read_image(path, channels), (height, width)) * 255).round() for path in image_files(given)]
    return torch.stack([one.to(torch.uint8) for one in read])  # (bytes, of which many fit)


def _compared(
    chain: Chain,
    training: Tensor,
    held_out: Tensor | str | Path | None,
    network: Network | None,
    tap: str | Place | None,
) -> MemoryCheck | Nearest:
    count = min(NEAREST, len(training))
    if held_out is None:
        return nearest_images(chain.images, training, count, network=network, tap=tap)
    return memory_check(chain.images, training, _images(held_out, chain), count, network=network, tap=tap)


def _neighbours(nearest: Nearest, i: int, training: Tensor, folder: Path, prefix: str) -> list[Neighbour]:
    out = []
    for index, distance in zip(nearest.indices[i].tolist(), nearest.distances[i].tolist(), strict=True):
        name = f"{prefix}-{index}.png"
        image = training[index]
        _write(image if image.is_floating_point() else image.float() / 255, folder / name)
        # (the length of a difference says little; its root mean square is in units of the pixels' range)
        size = distance / math.sqrt(image.numel()) if nearest.space == "pixels" else distance
        out.append(Neighbour(name, index, f"{size:.3f}"))
    return out


def _verdict(check: MemoryCheck | Nearest, i: int) -> tuple[str, str, str]:
    """Whether a sample is a copy: in a word or two, for the style sheet, and in a sentence."""
    if isinstance(check, Nearest):
        return "not told", "open", "What is unusually near, only photographs that were not trained on could tell."
    share = float(check.quantiles()[i])
    near = bool(check.suspicious()[i])
    alone = check.samples.distances.shape[1] > 1 and bool(check.suspicious(relative=True)[i])
    most, real = _percent(1 - LEVEL), "photographs that were not trained on"
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
    return "no copy", "good", f"Of {real}, {_percent(share)} are as near to a training image or nearer."


def _summary(check: MemoryCheck | Nearest | None) -> str:
    if check is None:
        return ""
    if isinstance(check, Nearest):
        return f"The training images nearest to each chain's last sample, in {_space(check)}, and {_unit(check)}."
    near, count, real = int(check.suspicious().sum()), len(check.samples.indices), len(check.held_out.indices)
    return (
        f"Is it memory? In {_space(check.samples)}, {near} of {count} last samples are nearer to a training image than "
        f"{_percent(1 - LEVEL)} of {real} photographs that were not trained on; by chance it would be "
        f"{LEVEL * count:.2g}. Beside each are the nearest, and {_unit(check.samples)}."
    )


def _unit(nearest: Nearest) -> str:
    return "the root mean square of the difference" if nearest.space == "pixels" else "1 - cosine"


def _space(nearest: Nearest) -> str:
    return "pixels" if nearest.space == "pixels" else f"features at {nearest.space}"


def _percent(share: float) -> str:
    percent = 100 * share
    digits = f"{percent:.0f}" if percent >= 1 or not percent else f"{percent:.1g}"
    return f"{digits}\N{NO-BREAK SPACE}%"


def _range(trace: Tensor) -> tuple[float, float]:
    known = trace[trace.isfinite()]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)


def _said(chain: Chain, i: int, score: float) -> str:
    """A score in words: of a class by itself as the probability that it stands for."""
    of_class = chain.objectives[i].startswith("class:") and " and " not in chain.objectives[i]
    if of_class and chain.settings.get("gradient") == "logprob":
        return _percent(math.exp(score))
    return f"{score:.4g}"


def _settings(chain: Chain) -> list[tuple[str, str]]:
    wanted = ("network", "prior", "sampler", "form", "epsilons", "move", "gradient", "filled in", "context", "seed")
    said = [(name, chain.settings.get(name)) for name in wanted]
    return [(name, _plainly(value)) for name, value in said if value not in (None, 0.0)] + [("steps", str(chain.done))]


def _plainly(value: Any) -> str:
    return ", ".join(f"{one:g}" for one in value) if isinstance(value, (list, tuple)) else str(value)


def _write(image: Tensor, path: Path) -> None:
    with written_whole(path) as file:
        to_pil(image).save(file)


def _text(name: str) -> str:
    return (files("preimage.report") / name).read_text("utf-8")


def _about() -> dict[str, str]:
    return {"version": version("preimage")}


def _environment() -> Any:
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise RequestError("reports need the package jinja2: pip install 'preimage[report]'") from error
    loader = jinja2.FunctionLoader(_text)
    made = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, loader=loader)
    made.filters["json"] = json.dumps
    return made
