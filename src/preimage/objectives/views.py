"""Asking different things of different parts of one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.objectives.objective import Activations, Members, Objective


@dataclass(frozen=True, repr=False)
class EachView(Members):
    """Of the views that a transform shows of one picture, view i is asked `members[i]`; their scores are averaged.

    A picture that is shown as a whole is asked all of them (that is the score of the finished picture).
    """

    def score(self, activations: Activations) -> Tensor:
        count = len(next(iter(activations.values())))
        if count not in (1, len(self.members)):
            raise RequestError(f"{len(self.members)} objectives, one for each view of a picture, but {count} views")
        scores = []
        for i, member in enumerate(self.members):
            view = slice(i, i + 1) if count > 1 else slice(None)
            scores.append(member.score({place: activations[place][view] for place in member.places()}))
        return torch.stack(scores).mean(0)

    def __str__(self) -> str:
        return " | ".join(map(str, self.members))


def each_view(members: Sequence[Objective]) -> EachView:
    """One objective for each view of one picture (paper 0's canvas with several classes, SPEC A15).

    The views come from `preimage.transforms.WindowsAround`. Raises `RequestError` if there is no objective.
    """
    if not members:
        raise RequestError("there is no objective to optimise")
    if not all(isinstance(member, Objective) for member in members):
        raise RequestError("each view is asked an Objective, not a string; see preimage.objectives")
    return EachView(tuple(members))
