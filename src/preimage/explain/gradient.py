"""The gradient of the answer (SPEC M9), also with other rules at the ReLUs (`guided_backprop`, `deconvnet`)."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.method import Found, Method, Question
from preimage.network.backward_rules import RectifierRule


@dataclass(frozen=True)
class Gradient(Method):
    """The pixels that, changed a little, change the answer most.

    Simonyan et al. 2014: |d score / d pixel|, of the colour channel where it is largest; the score of a class is its
    logit. Heatmaps [N, H, W] are not negative, in units of score for a whole step from black to white. Any objective
    at any tap.
    """

    name: ClassVar[str] = "gradient"
    source: ClassVar[str] = "Simonyan et al. 2014; paper 4, SPEC M9"

    def explain(self, asked: Question) -> Found:
        gradient, scores = pixel_gradient(asked)
        return Found(largest_channel(gradient), scores={"photo": scores})


def pixel_gradient(
    asked: Question, rule: RectifierRule | None = None, photos: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """d score / d pixel of each photo, [N, C, H, W], and the scores, [N].

    rule: made with `photos`, changes the way back at the ReLUs.

    Raises `RequestError` if what is asked does not depend on the photo by anything that has a gradient.
    """
    objective = asked.together()
    images = with_gradient(asked.photos) if photos is None else photos
    with asked.network.held(), torch.enable_grad():
        with nullcontext() if rule is None else rule:
            values = asked.network.run(images, objective.places())
        scores = objective.score(values)
    if not scores.requires_grad:
        raise RequestError(f"{asked.objectives[0]} has no gradient in {asked.network.name}")
    return torch.autograd.grad(scores.sum(), images)[0], scores.detach()


def with_gradient(values: Tensor) -> Tensor:
    """The same values as a tensor that a gradient can be asked for."""
    return values.detach().clone().requires_grad_()


def largest_channel(gradient: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H, W], the largest absolute value over the channels."""
    return gradient.abs().amax(1)


def through_rectifiers(asked: Question, method: Method, rule: RectifierRule, photos: Tensor) -> Found:
    """The heat map of a method that is the gradient with another rule at the ReLUs.

    Raises `RequestError` if there are none; where other activation functions stand beside them, a note says so.
    """
    gradient, scores = pixel_gradient(asked, rule, photos)
    others = ", ".join(rule.others)
    if not rule.changed:
        instead = f"it has {others} instead" if others else "it has no activation function there"
        raise RequestError(
            f"{method.name} is another way back through ReLUs, and there are none in {asked.network.name} before "
            f"{asked.objectives[0]}; {instead}"
        )
    notes = [f"only ReLUs have the rule of {method.name}; {others} went back as in the gradient"] if others else []
    return Found(largest_channel(gradient), scores={"photo": scores}, notes=[list(notes) for _ in range(len(asked))])
