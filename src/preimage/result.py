"""What a verb returns: images with their scores, and everything needed to make them again."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from preimage.exact import EXACT, Question, write_exact
from preimage.images import to_pil, writable_folder, written_whole

if TYPE_CHECKING:
    from preimage.recover.audit import Audit


@dataclass(frozen=True)
class Making:
    """What a result has to remember to be audited: everything is as it was when the last step was done.

    parameters: v of each image, [N, ...]. objectives: bound to the network. stages: of the recipe, as they were run.
    """

    network: Any
    objectives: list[Any]
    parametrization: Any
    parameters: Tensor
    stages: tuple[Any, ...]


@dataclass
class Result:
    """Images that a network answers in a wanted way.

    images: float32 [N, C, H, W] in [0, 1], on the CPU.
    scores: float32 [N], the objective of each image as it is: no transform, no regularizer.
    trace: float32 [steps, N], the objective while optimising, of the transformed images.
    objectives: how each image's objective is written.
    settings: all that determines the images: what was asked, recipe, sizes, seed.
    snapshots: (steps done, images [N, C, H, W]) where they were asked for.
    interrupted: whether Ctrl-C ended the run early; images are then what had been reached.
    asked: which of the objectives that were asked the images belong to, by number: all, unless it was interrupted.
    made: how, in this very session; what `audit` needs besides. Not saved.
    """

    images: Tensor
    scores: Tensor
    trace: Tensor
    objectives: list[str]
    settings: dict[str, Any]
    snapshots: list[tuple[int, Tensor]] = field(default_factory=list)
    interrupted: bool = False
    asked: list[int] = field(default_factory=list)
    made: Making | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.asked = self.asked or list(range(len(self.objectives)))

    def __repr__(self) -> str:
        count, _, height, width = self.images.shape
        some = ", ".join(self.objectives[:4]) + (", ..." if count > 4 else "")
        return f"Result({count} images of {height} x {width}: {some})"

    def audit(self, images: Sequence[int] | None = None, **options: Any) -> list[Audit]:
        """What each picture (or those by number) is the answer to, beside what was asked; see `preimage.recover.audit`.

        Raises `RequestError` where that cannot be told.
        """
        from preimage.recover.audit import audit  # (the verbs stand above what they return)

        return audit(self, images, **options)

    def as_dict(self) -> dict[str, Any]:
        """What `result.json` holds: plain JSON types, without the pictures."""
        return {
            "preimage": version("preimage"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            **self.settings,
            "interrupted": self.interrupted,
            **({"exact": EXACT} if self.is_exact else {}),
            "images": [self.image_as_dict(i) for i in range(len(self.objectives))],
            "trace": [[number(value) for value in row] for row in self.trace.tolist()],
        }

    def image_as_dict(self, index: int) -> dict[str, Any]:
        """What `result.json` says of one image."""
        score, name = number(float(self.scores[index])), self.file_names()[index]
        said = {"objective": self.objectives[index], "score": score, "file": name}
        question = self.question(index)
        return said if question is None else said | {"question": question.as_dict()}

    @property
    def is_exact(self) -> bool:
        """Whether the pictures were made to be recovered from: the recipe's last stage smooths the network's kinks."""
        return self.made is not None and self.made.stages[-1].smoothing is not None

    def question(self, index: int) -> Question | None:
        """How an image's objective was asked in the last stage, where that smooths kinks and asks for a direction."""
        if self.made is None or not self.is_exact:
            return None
        stage, objective = self.made.stages[-1], self.made.objectives[index]
        return Question.of(objective if stage.asks is None else stage.asks(objective), stage.smoothing)

    def file_names(self) -> list[str]:
        """One PNG name per image, made of its objective."""
        digits = len(str(len(self.objectives)))
        return [f"{i:0{digits}}-{file_stem(said)}.png" for i, said in enumerate(self.objectives)]

    def save(self, folder: str | Path) -> Path:
        """Write the PNGs and then `result.json` into `folder` (made if needed), each file whole or not at all.

        Pictures that were made to be recovered from (`is_exact`) are also written in float32, all into one file
        (`preimage.exact`), since 8 bits lose some of what `recover` needs.

        Raises `RequestError` if the folder cannot be written to.
        """
        path = writable_folder(folder)
        for image, name in zip(self.images, self.file_names(), strict=True):
            with written_whole(path / name) as file:
                to_pil(image).save(file)
        for steps, images in self.snapshots:
            for image, name in zip(images, self.file_names(), strict=True):
                with written_whole(path / f"{Path(name).stem}-step{steps}.png") as file:
                    to_pil(image).save(file)
        if self.is_exact:
            write_exact(path, dict(zip(self.file_names(), self.images, strict=True)))
        else:
            (path / EXACT).unlink(missing_ok=True)  # of what was saved here before, and is being replaced
        with written_whole(path / "result.json") as file:
            file.write_text(json.dumps(self.as_dict(), indent=1), encoding="utf-8")
        return path

    def _repr_html_(self) -> str:
        shown = zip(self.images, self.objectives, self.scores, strict=True)
        return "".join(figure_html(image, said, f"{float(score):.4g}") for image, said, score in shown)


def figure_html(image: Tensor, title: str, says: str = "") -> str:
    """An image [C, H, W] with a title, as a notebook shows it, the pixels inside."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, format="PNG")
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return (
        f'<figure style="display:inline-block;margin:4px"><img src="{source}" alt="{html.escape(title)}">'
        f"<figcaption>{html.escape(title)}<br>{html.escape(says)}</figcaption></figure>"
    )


def number(value: float) -> float | None:
    """JSON has no NaN: what an interrupted run did not reach is null."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def file_stem(objective: str) -> str:
    """What a file may be called that belongs to an objective."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", objective).strip("-.")[:80] or "objective"
