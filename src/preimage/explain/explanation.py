"""What `explain` returns: a heat map of a photo, with what was asked and how."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image, ImageShow
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.overlay import overlay, pictured
from preimage.explain.sheet import SIDE, answers, panels, same_photo, sheet, table, views
from preimage.images import to_pil, writable_folder, written_whole
from preimage.result import figure_html, file_stem, number


@dataclass
class Explanation:
    """Which parts of a photo made the network answer as it did.

    photo: float32 [C, H, W] in [0, 1], as the network was shown it. name: of the photo; of: its number among those
        that were given.
    objective: what was asked, as one writes it; method: how it was found.
    heatmap: float32 [H, W], larger is more important; its scale is the method's own.
    mask: of the methods that learn one, float32 [H, W] in [0, 1]: 1 where the photo is kept, 0 where it is perturbed.
    scores: what the network answers, by name: to the "photo", and for masks also to the "masked" photo (both, where
        two games are played at once: "kept", "deleted") and to the wholly "perturbed" one; for masks that a prior fills
        in, to the "filled" ones, as a mean; for integrated gradients to the "baseline".
    trace: for masks, the score of each step, [steps].
    fills: where what the mask removes was filled in by a prior (`preimage.explain.Filling`), the photo so filled,
        several times, float32 [chains, C, H, W]; pixels that were not removed are exactly the photo's.
    notes: what a person should know of how it went, in sentences; empty where there is nothing to say.
    details: of the run, plain JSON types. settings: all that determines the result, as in `Result`.
    interrupted: whether Ctrl-C ended it before its last step.
    """

    photo: Tensor
    name: str
    of: int
    objective: str
    method: str
    heatmap: Tensor
    mask: Tensor | None = None
    scores: dict[str, float] = field(default_factory=dict)
    trace: Tensor | None = None
    fills: Tensor | None = None
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False

    def __repr__(self) -> str:
        height, width = self.heatmap.shape
        return f"Explanation({self.name}, {self.objective}, {self.method}, {height} x {width})"

    def as_dict(self) -> dict[str, Any]:
        """What `result.json` says of it: plain JSON types, without the maps."""
        said: dict[str, Any] = {"photo": self.name, "of": self.of, "objective": self.objective, "method": self.method}
        said["scores"] = {name: number(value) for name, value in self.scores.items()}
        if self.mask is not None:
            said["kept"] = number(float(self.mask.mean()))
        if self.trace is not None:
            said["trace"] = [number(value) for value in self.trace.tolist()]
        return {**said, "notes": self.notes, "details": self.details, "interrupted": self.interrupted}

    def picture(self, side: int = 288) -> Image.Image:
        """Photo, heat map, both in one and, for masks, what is kept, side by side, with a caption.

        side: of each of them in pixels, the longer one. What the colours say: `preimage.explain.overlay`.
        """
        return panels(self, _checked_side(side))

    def show(self) -> None:
        """Show the picture: in a notebook below the cell, elsewhere in a window.

        Raises `RequestError` where no program shows pictures.
        """
        _show(self, self.picture())

    def save(self, folder: str | Path) -> Path:
        """As `Explanations.save`, for this one alone."""
        return Explanations([self]).save(folder)

    def _repr_html_(self) -> str:
        photo, heatmap, over, *kept = views(self)
        return "".join(
            [
                figure_html(photo, self.name, self.objective),
                figure_html(heatmap, "heat map", self.method),
                figure_html(over, self.method, answers(self)),
                *(figure_html(one, "kept", "what the mask keeps") for one in kept),
            ]
        )


class Explanations(Sequence[Explanation]):
    """Several explanations: photo by photo, for each what was asked in turn, for each of those every method."""

    def __init__(self, made: Sequence[Explanation]):
        self._made = list(made)

    def __len__(self) -> int:
        return len(self._made)

    @overload
    def __getitem__(self, index: int) -> Explanation: ...
    @overload
    def __getitem__(self, index: slice) -> Explanations: ...
    def __getitem__(self, index: int | slice) -> Explanation | Explanations:
        return self._made[index] if isinstance(index, int) else Explanations(self._made[index])

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self._made)

    def __repr__(self) -> str:
        if not self:
            return "Explanations(none)"
        methods = ", ".join(dict.fromkeys(one.method for one in self))
        return f"Explanations({len(self)}: {len(self._photos()[0])} photos, {methods})"

    @property
    def heatmaps(self) -> Tensor:
        """All heat maps, float32 [N, H, W]."""
        return torch.stack([one.heatmap for one in self])

    @property
    def settings(self) -> dict[str, Any]:
        """All that determines the results, the same for all of them."""
        return self[0].settings

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it early."""
        return any(one.interrupted or bool(one.settings.get("interrupted")) for one in self)

    def file_stems(self) -> list[str]:
        """How the files of each explanation are called, without what tells them apart."""
        digits = len(str(len(self)))
        return [
            "-".join([f"{i:0{digits}}", *map(file_stem, (one.name, one.objective, one.method))])
            for i, one in enumerate(self)
        ]

    def as_dict(self) -> dict[str, Any]:
        """What `result.json` holds: plain JSON types."""
        return {
            "preimage": version("preimage"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            **self.settings,
            "interrupted": self.interrupted,
            "explanations": [{**one.as_dict(), **files} for one, files in zip(self, self.files(), strict=True)],
        }

    def files(self) -> list[dict[str, str]]:
        """What `save` calls the files of each explanation: "file", "heatmap_file", "photo_file", "mask_file",
        "fills_file"."""
        photos, numbers = self._photos()
        shown = [f"photo-{i}-{file_stem(one.name)}.png" for i, one in enumerate(photos)]
        return [
            {
                "file": f"{stem}.png",
                "heatmap_file": f"{stem}-heatmap.npy",
                **({} if one.mask is None else {"mask_file": f"{stem}-mask.png"}),
                **({} if one.fills is None else {"fills_file": f"{stem}-filled.png"}),
                "photo_file": shown[photo],
            }
            for one, stem, photo in zip(self, self.file_stems(), numbers, strict=True)
        ]

    def sheet(self, side: int = SIDE) -> Image.Image:
        """All side by side: a row for each photo and objective, the photo first and then a column for each method.

        side: of each picture in pixels, the longer one. Raises `RequestError` where there is none.
        """
        if not self:
            raise RequestError("there are no explanations to show")
        return sheet(self, _checked_side(side))

    def show(self) -> None:
        """Show the sheet: in a notebook the pictures below the cell, elsewhere in a window.

        Raises `RequestError` where no program shows pictures, or there are none.
        """
        _show(self, self.sheet())

    def save(self, folder: str | Path) -> Path:
        """Write everything into `folder` (made if needed), each file whole or not at all, `result.json` last.

        For each explanation NAME.png, the heat map over the photo; NAME-heatmap.npy, its values as they are, float32
        [H, W]; for masks NAME-mask.png, white where the photo is kept; and, side by side, the photos that a prior has
        filled in, NAME-filled.png. Each photo once, as the network was shown
        it; and `sheet.png`, all side by side. NAME: `file_stems`; `files` lists all.

        Raises `RequestError` if the folder cannot be written to, or there is nothing to write.
        """
        side_by_side = self.sheet()
        path = writable_folder(folder)
        for photo, name in {
            files["photo_file"]: one.photo for one, files in zip(self, self.files(), strict=True)
        }.items():
            _write_picture(to_pil(name), path / photo)
        for one, files in zip(self, self.files(), strict=True):
            _write_picture(to_pil(overlay(one.photo, one.heatmap)), path / files["file"])
            with written_whole(path / files["heatmap_file"]) as file:
                np.save(file, one.heatmap.numpy().astype(np.float32))
            if one.mask is not None:
                _write_picture(to_pil(one.mask[None]), path / files["mask_file"])
            if one.fills is not None:
                _write_picture(to_pil(torch.cat(list(one.fills), 2)), path / files["fills_file"])
        _write_picture(side_by_side, path / "sheet.png")
        with written_whole(path / "result.json") as file:
            file.write_text(json.dumps(self.as_dict(), indent=1), encoding="utf-8")
        return path

    def _photos(self) -> tuple[list[Explanation], list[int]]:
        """One explanation for each photo, and the number of each explanation's photo among these."""
        firsts: list[Explanation] = []
        numbers = []
        for one in self:
            position = next((i for i, first in enumerate(firsts) if same_photo(first, one)), len(firsts))
            if position == len(firsts):
                firsts.append(one)
            numbers.append(position)
        return firsts, numbers

    def _repr_html_(self) -> str:
        rows = []
        for row in table(self)[1]:
            photo = figure_html(pictured(row.first.photo), row.first.name, row.first.objective)
            shown = [figure_html(overlay(one.photo, one.heatmap), one.method, answers(one)) for one in row.made if one]
            rows.append(f"<div>{photo}{''.join(shown)}</div>")
        return "".join(rows)


def _write_picture(picture: Image.Image, path: Path) -> None:
    with written_whole(path) as file:
        picture.save(file)


def _checked_side(side: int) -> int:
    if not 16 <= side <= 4096:
        raise RequestError(f"the side of a picture on a sheet is from 16 to 4096 pixels, not {side}")
    return side


def _show(shown: object, picture: Image.Image) -> None:
    """`shown` in a notebook, its picture elsewhere."""
    ipython = sys.modules.get("IPython")  # nobody is in a notebook who has not imported it
    shell = None if ipython is None else ipython.get_ipython()
    if ipython is not None and hasattr(shell, "kernel"):
        ipython.display.display(shown)
    elif not ImageShow.show(picture):
        raise RequestError("no program was found that shows pictures; save(FOLDER) writes them instead")
