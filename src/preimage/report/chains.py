"""Chains of samples on a page: strips, a film of all, their scores, and the training images that are nearest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.memory import MemoryCheck
from preimage.evaluation.nearest_images import Nearest
from preimage.images import writable_folder, written_whole
from preimage.network import Network, Place
from preimage.report.chains_memory import (
    Known,
    Neighbour,
    check_comparison,
    compared,
    known_images,
    neighbours,
    percent,
    summary,
    verdict,
    write_picture,
)
from preimage.report.plot import HEIGHT, WIDTH
from preimage.report.templates import environment, text
from preimage.result import number
from preimage.sample import Chain
from preimage.sample.chain import spread

_MOST_FRAMES = 40
_MOST_POINTS = 200
_SMALL = 64
"""Pictures of up to so many pixels are enlarged pixel by pixel; smoothed, they would look like more than they are."""


@dataclass
class Strip:
    """One chain. strip: the file with all frames side by side; last: the score of the last, and score: that in words;
    curve: SVG path of the score of every step; verdict, kind, says: whether the last is a copy (kind: good, fair, bad
    or open, for the style sheet); neighbours: the nearest training images of the last, the nearest first."""

    name: str
    strip: str
    last: float
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
    """All that the section shows. anchor: its id on the page. name: of the prior, empty if there was none. steps: after
    which each frame was kept. small: whether pictures are enlarged pixel by pixel. memory: what is said of all chains'
    last samples. settings: name and value of each. source: where the chains lay. other: the network that was asked,
    where it is not the page's."""

    anchor: str
    title: str
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
    source: str = ""
    other: str = ""

    @property
    def count(self) -> int:
        """How many chains there are."""
        return sum(len(one.chains) for one in self.asked)

    @property
    def pictures(self) -> int:
        """How many pictures the strips hold."""
        return len(self.steps) * self.count

    def as_dict(self) -> dict[str, Any]:
        """What the `result.json` of a report holds of it: plain JSON types."""
        return {
            "folder": self.source,
            "steps": self.done,
            "chains": [
                {
                    "objective": asked.title,
                    "score": number(one.last),
                    "file": one.strip,
                    **({"verdict": one.verdict} if one.neighbours else {}),
                    "nearest": [{"image": near.name, "distance": float(near.distance)} for near in one.neighbours],
                }
                for asked in self.asked
                for one in asked.chains
            ],
        }


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
    page = environment().get_template("chains_page.html.j2")
    style = "\n".join(text(name) for name in ("page.css", "chains.css"))
    about = {"plot": (WIDTH, HEIGHT), "version": version("preimage")}
    html = page.render(chains=shown, style=style, script=text("chains.js"), **about)
    with written_whole(path / "index.html") as file:
        file.write_text(html, encoding="utf-8")
    return path / "index.html"


def chains_html(shown: Chains) -> str:
    """The section alone, for a page that holds `chains_style` and, behind the section, `chains_script`."""
    html: str = environment().get_template("chains.html.j2").render(chains=shown, plot=(WIDTH, HEIGHT))
    return html


def chains_style() -> str:
    """The section's style sheet, to come after that of a report."""
    return text("chains.css")


def chains_script() -> str:
    """What makes the strips a film."""
    return text("chains.js")


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
    if training is None and network is not None:
        raise RequestError("a network compares samples with training images; say training=")
    check_comparison(training, held_out)
    shape = chain.images.shape[1:]
    known = None if training is None else known_images(training, shape)
    control = None if held_out is None else known_images(held_out, shape)
    check = None if known is None else compared(chain, known, control, network, tap)
    return _shown(chain, folder, prefix, known, check)


def chain_sections(
    chains: Sequence[Chain | str | Path],
    folder: Path,
    *,
    training: Tensor | str | Path | None = None,
    held_out: Tensor | str | Path | None = None,
    network: Network | None = None,
) -> list[Chains]:
    """Sections for several runs, each a chain or a folder that `Chain.save` wrote, as `made_chains` makes one of one.

    network: the page's own; chains that were asked of another say so. All is read and compared before anything is
    written. Raises `RequestError` as `read_chains` and `chains_page` do.
    """
    check_comparison(training, held_out)
    read = [one if isinstance(one, Chain) else read_chains(one) for one in chains]
    if training is not None and not read:
        raise RequestError("training images are compared with samples; give chains, too")
    shapes = {chain.images.shape[1:] for chain in read}
    known = {} if training is None else {shape: known_images(training, shape) for shape in shapes}
    control = {} if held_out is None else {shape: known_images(held_out, shape) for shape in shapes}
    of_each = [(chain, known.get(chain.images.shape[1:]), control.get(chain.images.shape[1:])) for chain in read]
    checks = [None if near is None else compared(chain, near, far, None, None) for chain, near, far in of_each]
    sections = []
    for i, ((chain, near, _), check, source) in enumerate(zip(of_each, checks, chains, strict=True)):
        several = f"-{i + 1}" if len(read) > 1 else ""
        shown = _shown(chain, folder, f"images/chains{several}", near, check)
        shown.anchor += several
        shown.source = "" if isinstance(source, Chain) else str(source)
        if several:
            shown.title += f": {shown.source or i + 1}"
        asked_of = str(chain.settings.get("network", ""))
        shown.other = asked_of if network is not None and asked_of != repr(network) else ""
        sections.append(shown)
    return sections


def read_chains(folder: str | Path) -> Chain:
    """The chains in a folder, whole enough to be shown.

    Raises `RequestError` where there are none, or where they are broken: images that are none, or parts that do not
    belong together.
    """
    if not (Path(folder) / "chain.safetensors").is_file():
        raise RequestError(
            f"'{folder}' holds no chains (no chain.safetensors); give a folder that 'preimage sample' wrote"
        )
    chain = Chain.load(folder)
    samples, kept, count = chain.samples, len(chain.kept), len(chain.objectives)
    shapes = ((samples, (kept, count, *samples.shape[2:])), (chain.scores, (kept, count)))
    if samples.ndim != 5 or not samples.numel() or any(tuple(one.shape) != wanted for one, wanted in shapes):
        raise RequestError(
            f"the chains in '{folder}' are broken: samples {[*samples.shape]} and scores {[*chain.scores.shape]} do "
            f"not belong to {kept} kept steps of {count} chains"
        )
    if chain.trace.ndim != 2 or chain.trace.shape[1] != count:
        raise RequestError(
            f"the chains in '{folder}' are broken: scores of every step, {[*chain.trace.shape]}, are not of {count} "
            "chains"
        )
    if not (samples.is_floating_point() and samples.isfinite().all() and samples.min() >= 0 and samples.max() <= 1):
        raise RequestError(f"the chains in '{folder}' are broken: not all values of their images lie in [0, 1]")
    return chain


def _shown(chain: Chain, folder: Path, prefix: str, known: Known | None, check: MemoryCheck | Nearest | None) -> Chains:
    """Write the pictures, and say what is to be shown."""
    count, _, height, width = chain.images.shape
    frames = spread(len(chain.kept), _MOST_FRAMES)
    (folder / prefix).parent.mkdir(parents=True, exist_ok=True)
    digits = len(str(count))
    strips = []
    for i in range(count):
        name = f"{prefix}-{i:0{digits}}.png"
        write_picture(torch.cat(list(chain.samples[frames, i]), 2), folder / name)
        last = float(chain.scores[-1, i])
        strips.append(Strip(f"chain {i + 1}", name, last, _said(chain, i, last), ""))
    if check is not None and known is not None:
        nearest = check.samples if isinstance(check, MemoryCheck) else check
        for i, strip in enumerate(strips):
            strip.neighbours = neighbours(nearest, i, known, folder, f"{prefix}-training")
            strip.verdict, strip.kind, strip.says = verdict(check, i)
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
        "chains",
        "Samples, step by step",
        str(chain.settings.get("prior") or ""),
        [chain.kept[i] for i in frames],
        chain.done,
        height,
        width,
        max(height, width) <= _SMALL,
        asked,
        summary(check),
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


def _range(trace: Tensor) -> tuple[float, float]:
    known = trace[trace.isfinite()]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)


def _said(chain: Chain, i: int, score: float) -> str:
    """A score in words: of a class by itself as the probability that it stands for."""
    of_class = chain.objectives[i].startswith("class:") and " and " not in chain.objectives[i]
    if of_class and chain.settings.get("gradient") == "logprob":
        return percent(math.exp(score))
    return f"{score:.4g}"


def _settings(chain: Chain) -> list[tuple[str, str]]:
    wanted = ("network", "prior", "sampler", "form", "epsilons", "move", "gradient", "filled in", "context", "seed")
    said = [(name, chain.settings.get(name)) for name in wanted]
    return [(name, _plainly(value)) for name, value in said if value not in (None, 0.0)] + [("steps", str(chain.done))]


def _plainly(value: Any) -> str:
    return ", ".join(f"{one:g}" for one in value) if isinstance(value, (list, tuple)) else str(value)
