"""Writing the site of an atlas from its finished parts."""

from __future__ import annotations

import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from preimage.atlas.plan import taps_of
from preimage.atlas.reading import Batch, about, tunings, units_of
from preimage.atlas.site.contents import Layer, details, feeding
from preimage.atlas.site.files import SiteFiles
from preimage.atlas.site.neighbours import neighbours
from preimage.atlas.site.sheets import PER_SHEET, is_small, picture, sheet, square, thumbnail
from preimage.jobs.storage import open_storage

ICON = 88
"""Pixels of the picture that stands for a layer: twice its size on the page, for screens that have them."""


def write_site(folder: str | Path) -> str:
    """Write the site of all units that are finished into `site/` of an atlas's folder, and say where its page is.

    folder: local, or an fsspec URL. The site may be written while the atlas is still being made, and again as often as
    one likes: the same parts give the same bytes, what is there is replaced file by file, and the index, which names
    all others, comes last.

    Raises `RequestError` where there is no atlas, or a part of it is damaged, and `WriteError` where the site cannot be
    written.
    """
    storage = open_storage(folder)
    settings, tuned = about(folder), tunings(folder)
    labels = settings["labels"]
    layers = [Layer(plan, labels if plan.asked == "class" else None, tuned.get(plan.tap)) for plan in taps_of(settings)]
    site = _Site(SiteFiles(storage), layers)
    for batch in units_of(folder):
        site.add(batch)
    site.finish(_called(settings["model"]), settings["network"])
    return site.files.page


def _called(model: str) -> str:
    """The function alone, of `path/to/file.py:function`."""
    file, _, function = model.rpartition(":")
    return function if file.endswith(".py") else model


class _Site:
    """A site while batches come in: pictures are written at once, what tells of them when all are there."""

    def __init__(self, files: SiteFiles, layers: list[Layer]):
        self.files = files
        self.layers = layers
        self._by_tap = {layer.plan.tap: layer for layer in layers}
        self._embeddings: list[np.ndarray] = []
        self._units: list[tuple[str, int]] = []
        self._details: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = []
        self._made = ""
        files.write_scripts()

    def add(self, batch: Batch) -> None:
        layer = self._by_tap[batch.tap]
        name = f"{layer.plan.key}-{batch.number:04}"
        pictures = [picture(pixels) for pixels in batch.images]
        layer.picture = layer.picture or (pictures[0].height, pictures[0].width)
        for unit, one in zip(batch.units, pictures, strict=True):
            if unit["failure"] is None:
                self.files.write_picture(
                    f"pictures/{layer.plan.key}-{unit['channel']}.webp", one, lossless=is_small(one)
                )
                if layer.strongest is None or (unit["score"] or -math.inf) > layer.strongest[0]:
                    layer.strongest = (unit["score"] or -math.inf, one)
        layer.batches.append((batch.number, len(batch.units), self._sheets(name, [thumbnail(one) for one in pictures])))
        layer.units += batch.units
        self._examples(layer, batch)
        run = batch.settings
        self._made = self._made or f"recipe {run['recipe']}, {run['steps']} steps, seed {run['seed']}"
        embedding = np.asarray(batch.embedding, dtype=np.float32)
        failed = np.array([unit["failure"] is not None for unit in batch.units])
        self._embeddings.append(np.where(failed[:, None], np.nan, embedding))  # a grey picture has no neighbours
        self._units += [(batch.tap, unit["channel"]) for unit in batch.units]
        self._details.append((name, *details(batch)))

    def _sheets(self, name: str, thumbnails: list[Image.Image]) -> list[list[Any]]:
        """The sheets of a batch: each its file, columns and rows, and width and height of a picture."""
        made = []
        for first in range(0, len(thumbnails), PER_SHEET):
            laid, file = sheet(thumbnails[first : first + PER_SHEET]), f"sheets/{name}-{first // PER_SHEET}.webp"
            self.files.write_picture(file, laid.image, lossless=laid.lossless, quality=85)
            made.append([file, laid.columns, laid.rows, laid.width, laid.height])
        return made

    def _examples(self, layer: Layer, batch: Batch) -> None:
        if batch.crops is None:
            return
        for unit, crops, examples in zip(batch.units, batch.crops, batch.examples, strict=True):
            if examples:
                laid = sheet([picture(pixels) for pixels in crops[: len(examples)]], columns=len(examples))
                file = f"examples/{layer.plan.key}-{unit['channel']}.webp"
                self.files.write_picture(file, laid.image, lossless=laid.lossless)

    def finish(self, model: str, network: str) -> None:
        """Write what tells of all batches. model: what the atlas is called. network: what it is of, in a sentence."""
        close = neighbours(np.concatenate(self._embeddings)) if self._embeddings else []
        feeds, at = feeding(self.layers), 0
        for name, shared, units in self._details:
            for unit in units:
                unit["neighbours"] = [[*self._units[i], cosine] for i, cosine in close[at]]
                unit["feeds"] = [list(one) for one in feeds.get(self._units[at], [])]
                at += 1
            self.files.write_call(f"data/{name}.js", "details", name, shared, units)
        # A layer of which nothing is finished yet has nothing to show.
        begun = [layer for layer in self.layers if layer.units]
        self.files.write_call("data/index.js", "contents", self._index(model, network, begun))
        self.files.write_page()

    def _index(self, model: str, network: str, begun: list[Layer]) -> dict[str, Any]:
        blank = Image.new("RGB", (ICON, ICON), (128, 128, 128))
        icons = None
        if begun:
            laid = sheet([blank if one.strongest is None else square(one.strongest[1], ICON) for one in begun])
            self.files.write_picture("sheets/layers.webp", laid.image, lossless=False)
            icons = laid.as_dict()
        return {
            "preimage": version("preimage"),
            "model": model,
            "network": network,
            "made": self._made,
            "planned": sum(layer.plan.count for layer in self.layers),
            "perSheet": PER_SHEET,
            "icons": icons,
            "taps": [layer.as_dict() for layer in begun],
        }
