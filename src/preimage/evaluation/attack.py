"""Photos changed by less than one sees, so that a network answers wrongly (paper 4, section 5.5; SPEC M22)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network, Place
from preimage.objectives import Activations, EachItsOwn, Label, Objective, label
from preimage.optimization import SignAscent, Stage, climb
from preimage.parametrizations import Pixels
from preimage.priors import Clip

_BATCH = 16


@dataclass(frozen=True)
class Attack:
    """photos, attacked: float32 [N, C, H, W] in [0, 1]; before, after: the network's first answers, int64 [N]."""

    photos: Tensor
    attacked: Tensor
    before: Tensor
    after: Tensor

    @property
    def succeeded(self) -> Tensor:
        """Whether the first answer changed, bool [N]."""
        return self.before != self.after


def attack(
    network: Network,
    photos: Tensor,
    *,
    epsilon: float = 8 / 255,
    step_size: float = 1 / 255,
    steps: int = 10,
    seed: int = 0,
) -> Attack:
    """The iterative sign method (Kurakin, Goodfellow & Bengio 2017): away from each photo's first answer.

    Every step changes every pixel by `step_size` against the class's log-probability, and brings it back to within
    `epsilon` of the photo and to [0, 1]. The number of steps is that paper's for epsilon = 8:
    min(8 + 4, 1.25 * 8) = 10.

    photos: float32 [N, C, H, W] in [0, 1], at a size that the network takes. Raises `RequestError` for anything else.
    """
    if photos.ndim != 4 or not len(photos):
        raise RequestError(f"photos to attack are [N, C, H, W], not {list(photos.shape)}")
    if not (photos.isfinite().all() and photos.min() >= 0 and photos.max() <= 1):
        raise RequestError("photos to attack have values in [0, 1]")
    if not (epsilon > 0 and step_size > 0 and steps >= 1):
        raise RequestError("an attack takes an epsilon and a step size above zero and at least one step")
    before = network.class_scores(photos).argmax(1)
    parametrization = Pixels(photos.shape[1], photos.shape[2], photos.shape[3], grey=0.0)
    made = []
    for some, classes in zip(torch.split(photos, _BATCH), torch.split(before, _BATCH), strict=True):
        begin = some.to(network.device)
        ball = Clip((begin - epsilon).clamp_min(0), (begin + epsilon).clamp_max(1))
        asked = EachItsOwn(tuple(_OthersAbove(label(int(c)).bind(network)) for c in classes))
        stage = Stage(steps, SignAscent(step_size), smooth_solution=ball)
        reached = climb(network, asked, parametrization, begin, [stage], torch.Generator().manual_seed(seed))
        if reached.interrupted:
            raise KeyboardInterrupt
        made.append(reached.images().cpu())
    attacked = torch.cat(made)
    return Attack(photos.cpu(), attacked, before, network.class_scores(attacked).argmax(1))


@dataclass(frozen=True, repr=False)
class _OthersAbove(Objective):
    """log sum exp of all other logits, minus the class's own. Its gradient points where that of -log p does, whose size
    is p's distance from 1 and vanishes where the network is very sure."""

    asked: Label

    def places(self) -> frozenset[Place]:
        return self.asked.places()

    def score(self, activations: Activations) -> Tensor:
        logits, c = activations[self.asked.place], int(self.asked.label)
        others = torch.cat([logits[:, :c], logits[:, c + 1 :]], 1).logsumexp(1)
        return (others - logits[:, c]).flatten(1).mean(1) if logits.ndim > 2 else others - logits[:, c]

    def bind(self, network: Network) -> _OthersAbove:
        return self

    def __str__(self) -> str:
        return f"any class but {self.asked}"
