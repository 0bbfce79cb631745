"""What every measure of an explanation is given, and what it gives back."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from preimage.evaluation.asked import Asked
from preimage.evaluation.data.example import Annotation, Example
from preimage.evaluation.view import View
from preimage.explain import Question
from preimage.explain.perturbation import perturbed
from preimage.network import Network
from preimage.objectives import Objective

Raw = Mapping[str, Any]
"""What a measure finds out of one case: plain JSON types."""

Needs = Literal["photos", "boxes", "regions", "points"]


@dataclass(frozen=True, eq=False)
class Case:
    """One photo, one class and what one method says of them.

    photo: float32 [C, H, W] in [0, 1], as the network is shown it. heatmap: float32 [H, W], larger is more important.
    objective: bound to the network; of a class, its probability. label: the class, as the data set calls it.
    cell: on a mosaic, the place of the photo that was asked about, row by row.
    point: (row, column), where the method names a point itself (variable occlusion).
    again: the same method with the same question, for other photos [M, C, H, W], of another network or of this one
        (None): heat maps [M, H, W].
    seed: of this case's randomness, the same for all methods. chunk: how many images go through the network at once.
    """

    network: Network
    photo: Tensor
    heatmap: Tensor
    objective: Objective
    label: str
    example: Example
    view: View
    again: Callable[[Tensor, Network | None], Tensor]
    point: tuple[int, int] | None = None
    cell: int = 0
    seed: int = 0
    chunk: int = 16

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of what the network is shown, in pixels."""
        return self.photo.shape[1], self.photo.shape[2]

    @cached_property
    def _question(self) -> Question:
        shown, objectives = self.photo[None], (self.objective,)
        return Question(self.network, (self.photo,), objectives, self.size, (self.seed,), self.chunk, fitted=shown)

    def scores(self, images: Tensor) -> Tensor:
        """What the network answers to images [M, C, H, W]: float32 [M] on the CPU."""
        return self._question.scores(0, images.to(self.network.device)).float().cpu()

    @cached_property
    def score(self) -> float:
        """What it answers to the photo."""
        return float(self.scores(self.photo[None])[0])

    def without(self, kind: Literal["blur", "constant", "noise"] = "blur") -> Tensor:
        """The photo with everything perturbed, [C, H, W] on the CPU (paper 4, section 4.1; sigma 10 at 224 pixels)."""
        return perturbed(self._question.photos, kind, self._question, self.pixels(10.0))[0].cpu()

    def pixels(self, published: float) -> float:
        """A length that was published for photos of 224 pixels, for photos of this size (SPEC M.5-4, M.6)."""
        return self._question.pixels(published)

    def annotations(self) -> list[Annotation]:
        """The photo's objects of the class that was asked."""
        return self.example.of(self.label)


Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Quantity:
    """One number of each case, and how they are brought together.

    values: in the order of the cases; None where a case does not count.
    by_class: the mean over the classes of each class's mean, instead of the mean over all cases.
    divisor: then each class's mean is divided by that of these values.
    notes: what a person should know to read the number, in sentences.
    """

    name: str
    values: list[float | None]
    better: Better | None = "higher"
    by_class: bool = False
    divisor: list[float | None] | None = None
    notes: tuple[str, ...] = ()


class Measure(ABC):
    """A number that says how good an explanation is; its fields are its settings.

    name: as one types it. source: where it was published. needs: what of a data set it cannot do without.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[Needs] = "photos"

    def arrange(self, asked: Sequence[Asked], seed: int) -> list[Asked]:
        """The pictures that it is measured on, made of the photos; as a rule these themselves.

        Raises `RequestError` where they cannot be made.
        """
        return list(asked)

    @abstractmethod
    def measure(self, case: Case) -> Raw:
        """What is found out of one case: plain JSON types, no more than a few hundred numbers.

        Raises `RequestError` where this case cannot be measured, saying why; the case is then counted as failed.
        """

    @abstractmethod
    def quantities(self, raws: Sequence[Raw | None], labels: Sequence[str], seed: int) -> list[Quantity]:
        """All cases of one method brought together, in the order of the photos; None for those that failed.

        raws: what `measure` found, and as "file" the photo. labels: of each case. seed: for what has to be drawn (a
            held-out split), the same for every method.
        """

    @property
    def says(self) -> str:
        """What it does, in a sentence."""
        return " ".join(inspect.cleandoc(type(self).__doc__ or "").split("\n\n")[0].split())

    def describe(self) -> dict[str, Any]:
        """Its name and every setting, as plain JSON types."""
        return {"name": self.name, **{one.name: getattr(self, one.name) for one in fields(self)}}  # type: ignore[arg-type]


def plain(raws: Sequence[Raw | None], key: str) -> list[float | None]:
    """One number of each case; None where it failed, or the number is not finite."""
    found = [None if raw is None else raw.get(key) for raw in raws]
    return [None if value is None or not torch.tensor(float(value)).isfinite() else float(value) for value in found]
