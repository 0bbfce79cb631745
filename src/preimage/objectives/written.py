"""Objectives that a user writes as a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import OUTPUT, Network, Place
from preimage.objectives.objective import Activations, Objective


@dataclass(frozen=True, repr=False, eq=False)
class Written(Objective):
    """Any differentiable function of what a tap answers (a caption's log-probability, a distance, a mixture).

    function: activations [N, channels, *positions] -> scores [N].
    """

    function: Callable[[Tensor], Tensor]
    place: Place
    name: str

    def places(self) -> frozenset[Place]:
        return frozenset({self.place})

    def score(self, activations: Activations) -> Tensor:
        values = activations[self.place]
        scores = self.function(values)
        if not isinstance(scores, Tensor) or scores.shape != (len(values),):
            got = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise RequestError(f"the function '{self.name}' gives {got} for {len(values)} images, not one score each")
        return scores

    def bind(self, network: Network) -> Written:
        return Written(self.function, Place(network.tap(self.place.tap).name, self.place.after_relu), self.name)

    def __str__(self) -> str:
        return f"{self.name} of {self.place}"


def written(
    function: Callable[[Tensor], Tensor], at: str = OUTPUT, *, name: str | None = None, after_relu: bool = True
) -> Written:
    """An objective from a function of a tap's activations [N, channels, *positions]; it returns a score for each, [N].

    name: how it is written down; default: the function's own.
    """
    if not callable(function):
        raise RequestError(f"an objective is written as a function of activations, not as {type(function).__name__}")
    return Written(function, Place(at, after_relu), name or str(getattr(function, "__name__", "function")))


def of_images(function: Callable[[Tensor], Tensor], size: tuple[int, int], name: str | None = None) -> Network:
    """A function of images [N, C, H, W] in [0, 1] as a network, whose output is the function's value: what
    `written` then takes is any text, sound or other model that scores images.

    size: (height, width) of the images that it takes.
    """

    class Scores(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            value = function(images)
            return value[:, None] if value.ndim == 1 else value

    return Network(Scores(), input_size=size, channels=3, name=name or getattr(function, "__name__", "function"))
