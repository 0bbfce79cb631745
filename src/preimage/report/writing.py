"""Writing the page of a report around its pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.images import read_image, writable_folder, written_whole
from preimage.network import Network
from preimage.recipes import Recipe, find_recipe
from preimage.report.chains import Chains, chain_sections, chains_html, chains_script, chains_style
from preimage.report.contents import drawn_classes, spread_channels, suggested_taps
from preimage.report.making import PictureMaker, Section
from preimage.report.plot import HEIGHT, WIDTH
from preimage.report.templates import environment, text
from preimage.result import number
from preimage.sample import Chain


@dataclass
class Report:
    """What was written: the page, what is on it, how long it took, and whether Ctrl-C ended it early."""

    page: Path
    network: str
    settings: dict[str, Any]
    sections: list[Section]
    seconds: float
    interrupted: bool = False
    chains: list[Chains] = field(default_factory=list)

    @property
    def pictures(self) -> int:
        """How many pictures were made."""
        return sum(len(section.pictures) for section in self.sections)

    def as_dict(self) -> dict[str, Any]:
        """What `result.json` holds: plain JSON types."""
        return {
            "preimage": version("preimage"),
            "torch": torch.__version__,
            "verb": "report",
            "page": str(self.page),
            "network": self.network,
            **self.settings,
            "seconds": round(self.seconds, 1),
            "interrupted": self.interrupted,
            "images": [
                {
                    "objective": picture.objective,
                    "score": picture.score,
                    "file": picture.file,
                    **({"audit": picture.audit.numbers} if picture.audit else {}),
                }
                for section in self.sections
                for picture in section.pictures
            ],
            "inversions": [
                {"photo": section.title, "tap": one.tap, "feature_error": one.feature_error, "file": one.file}
                for section in self.sections
                for one in section.depths
                if one.file
            ],
            "reasons": [
                {
                    "photo": section.title,
                    "class": one.title,
                    "probability": number(one.before),
                    "under_the_mask": number(one.after),
                    "marked": number(one.marked),
                    "notes": one.notes,
                    "file": one.file,
                }
                for section in self.sections
                for one in section.why.reasons
            ],
            **({"chains": [one.as_dict() for one in self.chains]} if self.chains else {}),
        }


def write_report(
    network: Network,
    folder: str | Path,
    *,
    photos: Sequence[str | Path] = (),
    at: Sequence[str] | None = None,
    units: int = 6,
    classes: int = 12,
    depths: int = 6,
    reasons: int = 5,
    recipe: str | Recipe | None = None,
    steps: int | None = None,
    seed: int = 0,
    colours: str | Path | Tensor | None = None,
    model: str | None = None,
    chains: Sequence[Chain | str | Path] = (),
    training: Tensor | str | Path | None = None,
    held_out: Tensor | str | Path | None = None,
    progress: bool | None = None,
) -> Report:
    """Write `index.html`, its pictures and `result.json` into `folder`: what the network wants to see.

    photos: files; the page shows the network's answers to each, and what it wants to see for the strongest three.
    at: taps to show units of; default: six over all depths. units: how many per tap. classes: how many, drawn by
    `seed`. depths: for each photo, of how many layers from early to late the page shows what they still know of it
    (`preimage.invert`); where `at` is given, of those, unless it is 0. reasons: for how many of its strongest classes,
    five at most, the page shows why (`preimage.explain`), with other methods for the first. model: how the network was
    opened, for the page. chains: of samples, or folders that `Chain.save` wrote; each gets a section, with training and
    held_out as in `preimage.report.chains.chains_page`. They are read before anything is made.
    Others: as in `preimage.maximize`; steps: also of inversions and masks. Ctrl-C ends it with the pictures that are
    finished.

    Raises `RequestError` for a photo that cannot be read, an unknown tap, a folder that cannot be written to or is one
    of those of chains, whose `result.json` would be lost, and for folders that hold no chains, or broken ones.
    """
    began = time.monotonic()
    environment()
    images = [read_image(path, network.channels) for path in photos]
    table = network.taps()
    chosen = suggested_taps(network) if at is None else [table[network.tap(name).name] for name in at]
    path = writable_folder(folder)
    if any(not isinstance(one, Chain) and Path(one).resolve() == path.resolve() for one in chains):
        raise RequestError(
            f"a report in '{path}' would replace the result.json of the chains there; name another folder"
        )
    walked = chain_sections(chains, path, training=training, held_out=held_out, network=network)
    (path / "images").mkdir(exist_ok=True)
    settings = find_recipe(recipe).stretched(steps)
    options = {"recipe": settings, "seed": seed, "colours": colours, "progress": progress}
    maker = PictureMaker(network, path, options, steps)
    inverted = [] if not depths else suggested_taps(network, depths) if at is None else chosen
    order = [tap.name for tap in table]
    inverted = sorted(inverted, key=lambda tap: order.index(tap.name))
    for i, (photo, image) in enumerate(zip(photos, images, strict=True)):
        maker.photo(i, Path(photo), image, [tap.name for tap in inverted], reasons)
    drawn = drawn_classes(network, classes, seed)
    maker.classes(drawn, f"{len(drawn)} classes, drawn with seed {seed}: what the network wants to see for each.")
    for tap in reversed(chosen):
        maker.units(tap, spread_channels(tap, units))
    sections = [section for section in maker.sections if section.pictures or section.photo]
    if not sections and not walked and not maker.interrupted:
        raise RequestError("there is nothing to show: no class labels, and no layer with units was asked for")
    said = {"model": model or network.name, "recipe": settings.describe(), "seed": seed}
    seconds = time.monotonic() - began
    made = Report(path / "index.html", repr(network), said, sections, seconds, maker.interrupted, walked)
    with written_whole(path / "result.json") as file:
        file.write_text(json.dumps(made.as_dict(), indent=1), encoding="utf-8")
    with written_whole(made.page) as file:
        file.write_text(_render(made, network, len(table)), encoding="utf-8")
    return made


def _render(made: Report, network: Network, taps: int) -> str:
    rendering = environment()
    rendering.filters["score"] = lambda value: f"{value:.4g}"
    rendering.filters["chains"] = chains_html
    photos = [section for section in made.sections if section.photo]
    others = [section for section in made.sections if not section.photo]
    html: str = rendering.get_template("page.html.j2").render(
        report=made,
        sections=[*photos, *made.chains, *others],
        network=network,
        taps=taps,
        style=text("page.css") + (chains_style() if made.chains else ""),
        script=text("page.js") + (chains_script() if made.chains else ""),
        plot=(WIDTH, HEIGHT),
        version=version("preimage"),
    )
    return html
