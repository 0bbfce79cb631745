"""What `explain` returns: a heat map of a photo, with what was asked and how."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from preimage.images import to_pil, writable_folder, written_whole
from preimage.result import file_stem, number


@dataclass
class Explanation:
    """Which parts of a photo made the network answer as it did.

    photo: float32 [C, H, W] in [0, 1], as the network was shown it. name: of the photo; of: its number among those
        that were given.
    objective: what was asked, as one writes it; method: how it was found.
    heatmap: float32 [H, W], larger is more important; its scale is the method's own.
    mask: of the methods that learn one, float32 [H, W] in [0, 1]: 1 where the photo is kept, 0 where it is perturbed.
    scores: what the network answers, by name: to the "photo", and for masks also to the "masked" photo (both, where
        two games are played at once: "kept", "deleted") and to the wholly "perturbed" one.
    trace: for masks, the score of each step, [steps].
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

    def save(self, folder: str | Path) -> Path:
        """As `Explanations.save`, for this one alone."""
        return Explanations([self]).save(folder)


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
        photos, methods = (dict.fromkeys(values) for values in zip(*((e.of, e.method) for e in self), strict=True))
        return f"Explanations({len(self)}: {len(photos)} photos, {', '.join(methods)})"

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
        return any(one.interrupted for one in self)

    def file_stems(self) -> list[str]:
        """How the files of each explanation are called, without what tells them apart."""
        digits = len(str(len(self)))
        return [
            f"{i:0{digits}}-{file_stem(one.name)}-{file_stem(one.objective)}-{one.method}" for i, one in enumerate(self)
        ]

    def as_dict(self) -> dict[str, Any]:
        """What `result.json` holds: plain JSON types."""
        return {
            "preimage": version("preimage"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            **self.settings,
            "interrupted": self.interrupted,
            "explanations": [
                {**one.as_dict(), "file": f"{stem}.png"} for one, stem in zip(self, self.file_stems(), strict=True)
            ],
        }

    def save(self, folder: str | Path) -> Path:
        """Write the pictures and then `result.json` into `folder` (made if needed), each file whole or not at all.

        Raises `RequestError` if the folder cannot be written to.
        """
        path = writable_folder(folder)
        for one, stem in zip(self, self.file_stems(), strict=True):
            with written_whole(path / f"{stem}.png") as file:
                to_pil(one.heatmap[None]).save(file)
        with written_whole(path / "result.json") as file:
            file.write_text(json.dumps(self.as_dict(), indent=1), encoding="utf-8")
        return path
