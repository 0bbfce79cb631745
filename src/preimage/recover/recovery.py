"""What `recover` returns: the objective that an image is the answer to."""

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
from preimage.objectives import Direction, direction
from preimage.recover.angles import angle
from preimage.result import figure_html, file_stem, number

STANDS_OUT, CANCELS = 0.75, 0.15
"""Of an image that is the answer to something, the smallest singular value is at most the first share of the next, and
what is left of the features' gradients, once they are weighted and added, the second share of what they would add up to
if they were perpendicular. Measured: `python experiments/recover_limits.py wrong`; docs/recover.md."""
_LISTED, _CANDIDATES = 8, 5


@dataclass
class Recovery:
    """The objective that an image is the answer to, as far as the network can tell (paper 1).

    image: float32 [C, H, W] in [0, 1]. name: of the image. tap: of the layer.
    objective: float64 [features], a unit vector, with the sign that the image answers positively.
    response: float64 [features], the feature response y, which is not the objective.
    singular_values: float64, ascending, of M: |x^T Z_k Dy| for the objective, for the next candidate, and so on. The
        first near zero and the second not: the image is the answer to `objective`.
    candidates: float64 [at most 5, features], the objectives in question, the likeliest first.
    features: the channels of the tap that these vectors consist of, int64 [features]. dead: those among them that no
        image can change, taken out before (zero in every vector).
    is_plane: whether the two smallest singular values are equal, so that any mixture of the first two candidates is as
        good an answer. uncancelled: |x^T Z_k Dy| as a share of sqrt(sum of x_j^2 |Dy_j|^2), what the gradients of the
        single features would add up to if they were perpendicular; near 0 where they cancel, as at a maximum.
        known: the coefficients of what was optimised besides, beside the objective's unit length
        (`preimage.recover.audit`). settings: as in `Result`.
    """

    image: Tensor
    name: str
    tap: str
    objective: Tensor
    response: Tensor
    singular_values: Tensor
    candidates: Tensor
    features: Tensor
    dead: list[int]
    is_plane: bool
    uncancelled: float
    known: list[float] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        said = ", ".join(f"{index}: {weight:.2f}" for index, weight in self.strongest(3))
        return f"Recovery({self.name} at {self.tap}: {said} ...; {self.says()})"

    @property
    def residual(self) -> float:
        """|x^T Z_k Dy| of the objective, as a share of the largest singular value: 0 where the gradient vanishes."""
        return float(self.singular_values[0] / self.singular_values[-1])

    @property
    def ratio(self) -> float:
        """The smallest singular value as a share of the next: near 0, one objective stands out; near 1, none does."""
        if len(self.singular_values) < 2:
            return 0.0
        return float(self.singular_values[0] / self.singular_values[1].clamp_min(1e-300))

    @property
    def idle(self) -> int:
        """How many directions of the features move the image not at all (singular values below 1e-7 of the largest)."""
        return int((self.singular_values <= 1e-7 * self.singular_values[-1]).sum())

    @property
    def stands_out(self) -> bool:
        """Whether one objective explains the image clearly better than all that are perpendicular to it."""
        distinct = self.ratio <= STANDS_OUT and not self.is_plane and self.idle <= 1
        return distinct and self.uncancelled <= CANCELS

    @property
    def angle_to_response(self) -> float:
        """Degrees between the objective and the feature response."""
        return float(angle(self.objective, self.response))

    def strongest(self, count: int = _LISTED) -> list[tuple[int, float]]:
        """The channels with the largest weights in the objective, and the weights."""
        top = self.objective.abs().topk(min(count, len(self.objective))).indices
        return [(int(self.features[i]), float(self.objective[i])) for i in top]

    def direction(self) -> Direction:
        """The objective as one that `maximize` takes."""
        said = self.settings
        chosen = None if said["features"] is None else self.features.tolist()
        return direction(
            self.tap,
            self.objective,
            said["cosine_power"],
            said["aggregate"],
            after_relu=said["after_relu"],
            features=chosen,
        )

    def says(self) -> str:
        """How far to trust it, in a sentence."""
        if self.idle > 1:
            return (
                f"{self.idle} of {len(self.singular_values)} directions of these features move the image not at all, "
                "so the objective is known only up to them: ask with another aggregation, or leave them out (space=)"
            )
        if self.is_plane:
            return "the two smallest singular values are equal: any mixture of the first two candidates answers it"
        numbers = (
            f"the smallest singular value is {self.ratio:.2f} of the next, and {self.uncancelled:.3f} of the features' "
            "gradients is left when they are added up"
        )
        if self.stands_out:
            return f"one objective stands out: {numbers}"
        said = (
            f"no objective stands out: {numbers}. The image is no maximum here: was it made for another network, tap "
            "or size, with another recipe than 'plain', or not to its end?"
        )
        if "exact" in self.settings:
            said += f" It was read with 8 bits; '{Path(self.settings['exact']).parent}' has it in full."
        return said

    def as_dict(self) -> dict[str, Any]:
        """What `result.json` says of it: plain JSON types."""
        return {
            "image": self.name,
            "tap": self.tap,
            "says": self.says(),
            "stands_out": self.stands_out,
            "strongest": [{"channel": index, "weight": number(weight)} for index, weight in self.strongest()],
            "angle_to_response": number(self.angle_to_response),
            "residual": number(self.residual),
            "uncancelled": number(self.uncancelled),
            "dead": self.dead,
            "features": self.features.tolist(),
            "objective": [number(value) for value in self.objective.tolist()],
            "response": [number(value) for value in self.response.tolist()],
            "singular_values": [number(value) for value in self.singular_values.tolist()],
            "candidates": [[number(value) for value in one] for one in self.candidates.tolist()],
        }

    def save(self, folder: str | Path) -> Path:
        """Write `result.json` and the image into `folder` (made if needed), each file whole or not at all."""
        return Recoveries([self]).save(folder)

    def _repr_html_(self) -> str:
        said = ", ".join(f"{index}: {weight:.2f}" for index, weight in self.strongest(4))
        return figure_html(self.image, f"{self.tap}: {said}", self.says())


class Recoveries(Sequence[Recovery]):
    """The recoveries of several images, in their order."""

    def __init__(self, members: Sequence[Recovery], interrupted: bool = False):
        self._members = list(members)
        self.interrupted = interrupted

    def __len__(self) -> int:
        return len(self._members)

    @overload
    def __getitem__(self, index: int) -> Recovery: ...

    @overload
    def __getitem__(self, index: slice) -> Recoveries: ...

    def __getitem__(self, index: int | slice) -> Recovery | Recoveries:
        if isinstance(index, slice):
            return Recoveries(self._members[index], self.interrupted)
        return self._members[index]

    def __iter__(self) -> Iterator[Recovery]:
        return iter(self._members)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self._members))

    @property
    def objectives(self) -> Tensor:
        """Of all images, float64 [N, features]."""
        return torch.stack([one.objective for one in self._members])

    def as_dict(self) -> dict[str, Any]:
        """What `result.json` holds."""
        first = self._members[0].settings if self._members else {}
        shared = {
            name: value
            for name, value in first.items()
            if all(one.settings.get(name) == value for one in self._members)
        }
        own = [{name: value for name, value in one.settings.items() if name not in shared} for one in self._members]
        return {
            "preimage": version("preimage"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            **shared,
            "interrupted": self.interrupted,
            "recoveries": [{**own[i], **one.as_dict(), "file": self._file(i)} for i, one in enumerate(self._members)],
        }

    def _file(self, index: int) -> str:
        return f"{index:0{len(str(len(self)))}}-{file_stem(Path(self._members[index].name).stem)}.png"

    def save(self, folder: str | Path) -> Path:
        """Write the images and then `result.json` into `folder` (made if needed), each whole or not at all.

        Raises `RequestError` if the folder cannot be written to.
        """
        path = writable_folder(folder)
        for index, one in enumerate(self._members):
            with written_whole(path / self._file(index)) as file:
                to_pil(one.image).save(file)
        with written_whole(path / "result.json") as file:
            file.write_text(json.dumps(self.as_dict(), indent=1), encoding="utf-8")
        return path

    def _repr_html_(self) -> str:
        return "".join(one._repr_html_() for one in self._members)
