"""What every method of `explain` is given, and what it gives back."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from preimage.images import centre_crop
from preimage.network import Network
from preimage.objectives import EachItsOwn, Objective

PUBLISHED_SIDE = 224
"""The side of the photos for which paper 4 gives its numbers of pixels; `Question.pixels` scales them (SPEC M.5-4)."""


@dataclass(frozen=True, eq=False)
class Question:
    """A batch of photos, and what is asked of each: why is this answer so strong?

    pictures: the photos as they were given, [C, h, w] in [0, 1], as large as what the network is shown, or larger.
    objectives: bound to the network, one for each photo.
    size: (height, width) at which the network is shown the photos.
    seeds: of the randomness of each photo and objective. views_seed: of what is drawn for a whole batch.
    of: the number of each photo among the `given` ones; empty: these are all.
    chunk: how many images go through the network at once, at most. on_step: called with the number of steps done.
    fitted: the photos at `size`, where they have been made already.
    """

    network: Network
    pictures: Sequence[Tensor]
    objectives: tuple[Objective, ...]
    size: tuple[int, int]
    seeds: tuple[int, ...]
    chunk: int = 16
    on_step: Callable[[int], object] = lambda _: None
    of: tuple[int, ...] = ()
    given: int = 0
    views_seed: int = 0
    fitted: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    @cached_property
    def photos(self) -> Tensor:
        """The photos as the network is shown them: float32 [N, C, H, W] in [0, 1], on the network's device."""
        return self.canvases(0) if self.fitted is None else self.fitted.to(self.network.device)

    def canvases(self, margin: int) -> Tensor:
        """The photos with so many pixels more on each axis: resampled larger, not continued (SPEC M.2)."""
        size = (self.size[0] + margin, self.size[1] + margin)
        return torch.stack([centre_crop(one, size) for one in self.pictures]).to(self.network.device)

    def pixels(self, published: float) -> float:
        """A length of paper 4's, which is for photos of 224 pixels, for photos of this size."""
        return published * min(self.size) / PUBLISHED_SIDE

    def mean_colour(self) -> Tensor:
        """The colour that tells the network nothing: the mean of what it was trained on, or grey; [C, 1, 1]."""
        mean = self.network.mean or (0.5,) * self.network.channels
        return torch.tensor(mean, device=self.network.device).clamp(0, 1)[:, None, None]

    @torch.no_grad()
    def scores(self, index: int, images: Tensor, objective: Objective | None = None) -> Tensor:
        """What photo `index` is asked (or another objective), of other images [M, C, H, W]: float32 [M]."""
        asked = self.objectives[index] if objective is None else objective
        with self.network.held():
            parts = [asked.score(self.network.run(some, asked.places())) for some in torch.split(images, self.chunk)]
        return torch.cat(parts)

    @torch.no_grad()
    def photo_scores(self) -> Tensor:
        """What the network answers to each photo as it is: float32 [N]."""
        found = []
        for first in range(0, len(self), self.chunk):
            asked = EachItsOwn(self.objectives[first : first + self.chunk])
            found.append(asked.score(self.network.run(self.photos[first : first + self.chunk], asked.places())))
        return torch.cat(found)

    def together(self) -> EachItsOwn:
        """All objectives as one of the whole batch."""
        return EachItsOwn(self.objectives)


@dataclass
class Found:
    """What a method says of a batch.

    heatmaps: float32 [N, H, W], larger is more important. masks: [N, H, W] in [0, 1], 1 = kept.
    scores: by name, float32 [N]. traces: [steps, N], what the network answered while a mask was learned.
    notes: what a person should know of each photo's run, in sentences. details: of each photo, plain JSON types.
    fills: [N, K, C, H, W], each photo with what its mask removes filled in, where it was (`Filling`).
    """

    heatmaps: Tensor
    masks: Tensor | None = None
    scores: dict[str, Tensor] = field(default_factory=dict)
    traces: Tensor | None = None
    notes: list[list[str]] | None = None
    details: list[dict[str, Any]] | None = None
    interrupted: bool = False
    fills: Tensor | None = None


class Method(ABC):
    """A way of saying which parts of a photo made the network answer as it did; its fields are its settings.

    name: as one types it. source: where it was published.
    asks_probabilities: whether of a class it asks the probability, rather than the logit (SPEC M.3: all baselines go
        before the softmax).
    """

    name: ClassVar[str]
    source: ClassVar[str]
    asks_probabilities: ClassVar[bool] = False

    @abstractmethod
    def explain(self, asked: Question) -> Found:
        """A heat map for each photo.

        Raises `RequestError` where the method cannot be applied to the network, saying why.
        """

    def steps(self) -> int:
        """How many steps it reports to `Question.on_step` for a batch."""
        return 1

    @property
    def says(self) -> str:
        """What it does, in a sentence."""
        return " ".join(inspect.cleandoc(type(self).__doc__ or "").split("\n\n")[0].split())

    def describe(self) -> dict[str, Any]:
        """Its name and every setting, as plain JSON types."""
        return {"name": self.name, **{one.name: _plain(getattr(self, one.name)) for one in fields(self)}}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    return str(value) if not callable(value) else getattr(value, "__name__", type(value).__name__)
