"""Photos changed by less than one sees, so that a network answers wrongly (paper 4, section 5.5; SPEC M22)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network, Place
from preimage.objectives import EachItsOwn, label
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
    if photos.ndim != 4 or not (photos.isfinite().all() and photos.min() >= 0 and photos.max() <= 1):
        raise RequestError(f"photos to attack are [N, C, H, W] with values in [0, 1], not {list(photos.shape)}")
    if not (epsilon > 0 and step_size > 0 and steps >= 1):
        raise RequestError("an attack takes an epsilon and a step size above zero and at least one step")
    before = first_answers(network, photos)
    parametrization = Pixels(photos.shape[1], photos.shape[2], photos.shape[3], grey=0.0)
    made = []
    for some, classes in zip(torch.split(photos, _BATCH), torch.split(before, _BATCH), strict=True):
        begin = some.to(network.device)
        ball = Clip((begin - epsilon).clamp_min(0), (begin + epsilon).clamp_max(1))
        asked = EachItsOwn(tuple(-label(int(c), "logprob").bind(network) for c in classes))
        stage = Stage(steps, SignAscent(step_size), smooth_solution=ball)
        reached = climb(network, asked, parametrization, begin, [stage], torch.Generator().manual_seed(seed))
        if reached.interrupted:
            raise KeyboardInterrupt
        made.append(reached.images().cpu())
    attacked = torch.cat(made)
    return Attack(photos, attacked, before, first_answers(network, attacked))


@torch.no_grad()
def first_answers(network: Network, images: Tensor) -> Tensor:
    """The strongest class of each image [N, C, H, W], int64 [N]."""
    place = Place(network.logits, after_relu=True)
    with network.held():
        logits = torch.cat([network.run(some, [place])[place].cpu() for some in torch.split(images, _BATCH)])
    return (logits.flatten(2).mean(2) if logits.ndim > 2 else logits).argmax(1)
