"""Does another network still see in a picture what it sees in the photo? (paper 2, section 3.2; SPEC S-T1)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network

_AMONG = 5
_BATCH = 16


@dataclass(frozen=True)
class Agreement:
    """What a network answers to photos and to pictures made of them.

    judge: its name. photo_ranks, picture_ranks: int64 [N, classes], the classes from the strongest to the weakest.
    """

    judge: str
    photo_ranks: Tensor
    picture_ranks: Tensor

    @property
    def first(self) -> Tensor:
        """Whether its first answer to the picture is its first answer to the photo, bool [N]."""
        return self.picture_ranks[:, 0] == self.photo_ranks[:, 0]

    @property
    def among_five(self) -> Tensor:
        """Whether its first answer to the photo is among its first five to the picture, bool [N]."""
        return (self.picture_ranks[:, :_AMONG] == self.photo_ranks[:, :1]).any(1)

    def right(self, classes: Tensor | list[int], among: int = 1, *, photos: bool = False) -> Tensor:
        """Whether these classes [N] are among its first answers to the pictures (or to the photos), bool [N]."""
        ranks = self.photo_ranks if photos else self.picture_ranks
        if len(classes) != len(ranks):
            raise RequestError(f"{len(classes)} classes for {len(ranks)} pictures")
        return (ranks[:, :among] == torch.as_tensor(classes)[:, None]).any(1)

    def __str__(self) -> str:
        count = len(self.first)
        return (
            f"{self.judge} gives its first answer to the photo again for {int(self.first.sum())} of {count} pictures, "
            f"and has it among its first five for {int(self.among_five.sum())}"
        )

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types: its name, and for each picture the first answers to photo and picture."""
        return {
            "judge": self.judge,
            "photo_class": self.photo_ranks[:, 0].tolist(),
            "picture_class": self.picture_ranks[:, 0].tolist(),
            "first": self.first.tolist(),
            "among_five": self.among_five.tolist(),
        }


def agreement(judge: Network, pictures: Tensor, photos: Tensor) -> Agreement:
    """Show pictures and photos, both [N, C, H, W] in [0, 1], to a network that classifies.

    For an `Inversion`: `agreement(other, made.images, made.photos)`. Where they do not have the size that the judge
    takes, they are resampled to it.

    Raises `RequestError` for other shapes, or where the judge tells fewer than two classes apart.
    """
    if not isinstance(judge, Network):
        raise RequestError(f"a judge is a preimage.Network, not {type(judge).__name__}")
    if not (isinstance(pictures, Tensor) and isinstance(photos, Tensor)):
        raise RequestError("pictures and photos are tensors [N, C, H, W]; of an Inversion: made.images, made.photos")
    if not len(pictures):
        raise RequestError("there is no picture to show")
    if pictures.shape != photos.shape or pictures.ndim != 4:
        raise RequestError(f"pictures {list(pictures.shape)} and photos {list(photos.shape)} are not [N, C, H, W] both")
    return Agreement(judge.name, _ranks(judge, photos), _ranks(judge, pictures))


def _ranks(judge: Network, images: Tensor) -> Tensor:
    if images.shape[2:] != judge.input_size:
        parts = torch.split(images, _BATCH)
        fit = [F.interpolate(p, judge.input_size, mode="bilinear", antialias=True, align_corners=False) for p in parts]
        images = torch.cat(fit)
    scores = judge.class_scores(images, _BATCH)
    if scores.shape[1] < 2:
        raise RequestError(f"'{judge.name}' does not classify: its answer has {scores.shape[1]} numbers")
    return scores.sort(dim=1, descending=True, stable=True).indices
