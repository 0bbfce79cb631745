"""The one loop. Every method of this project is a setting of its update rule:

v  <-  K_e * [ v  +  A( K_f * grad_v J(v) )  +  eps_1 (r(v) - v) ]  +  N(0, eps_3^2)
J(v) = score( net( T( P(v) ) ) )  -  sum_i  weight_i R_i( P(v) )
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from preimage.errors import NonFiniteScoreError, RequestError
from preimage.network import Network
from preimage.objectives import EachItsOwn
from preimage.optimization.optimizer import Ascender
from preimage.optimization.stage import Stage
from preimage.parametrizations import Parametrization
from preimage.transforms import InTurn, View

# On a GPU every look at a number makes the host wait for the device, so a bad one is looked for now and then.
_CHECK_EVERY = 16


@dataclass
class Climb:
    """What the loop has reached.

    parameters: v after the last whole step, [N, ...]. trace: the objective of the transformed images while
    optimising, one [N] per step; where a stage asks something else of other taps, that score.
    snapshots: (steps done, images [N, C, H, W] on the CPU). interrupted: whether Ctrl-C ended it.
    """

    parameters: Tensor
    trace: list[Tensor] = field(default_factory=list)
    snapshots: list[tuple[int, Tensor]] = field(default_factory=list)
    interrupted: bool = False


def climb(
    network: Network,
    objective: EachItsOwn,
    parametrization: Parametrization,
    start: Tensor,
    stages: Sequence[Stage],
    generator: torch.Generator,
    *,
    noise: Sequence[torch.Generator] | None = None,
    snapshot_every: int | None = None,
    on_step: Callable[[], object] | None = None,
) -> Climb:
    """Climb from the parameters `start` [N, ...] through all stages.

    objective: bound to `network`, one member per image.
    generator, noise: all randomness, on the CPU. Views are drawn from the first, for the whole batch; eps_3's noise
        from one generator per image, so that it does not depend on the batch (default: from the first, too).
    Ctrl-C ends the climb and keeps what it has reached.

    Raises `NonFiniteScoreError` as soon as a score is NaN or infinite.
    """
    reached = Climb(start)
    sources = [generator] * len(start) if noise is None else noise
    ascender: Ascender | None = None
    try:
        with network.held():
            for stage in stages:
                if stage.optimizer is not None:
                    ascender = stage.optimizer.start()
                if ascender is None:
                    raise RequestError("the first stage needs an optimizer")
                asked = objective if stage.asks is None else EachItsOwn(tuple(map(stage.asks, objective.members)))
                look = _Look(network, objective, asked, parametrization, stage)
                for step in range(stage.steps):
                    look.view = InTurn(stage.transforms).draw(generator)
                    reached.trace.append(_advance(reached, look, ascender, step / stage.steps, sources))
                    if start.device.type == "cpu" or len(reached.trace) % _CHECK_EVERY == 0:
                        check_finite(reached.trace, asked)
                    if snapshot_every and len(reached.trace) % snapshot_every == 0:
                        with torch.no_grad():
                            image = parametrization.image(reached.parameters).clamp(0, 1).cpu()
                        reached.snapshots.append((len(reached.trace), image))
                    if on_step:
                        on_step()
            check_finite(reached.trace, objective)
    except KeyboardInterrupt:
        reached.interrupted = True
    return reached


def _advance(
    reached: Climb, look: _Look, ascender: Ascender, progress: float, noise: Sequence[torch.Generator]
) -> Tensor:
    """One application of the update rule; returns the scores [N] from which it started."""
    stage, v = look.stage, reached.parameters
    value, gradient = look(v)
    scores = look.scores
    step_size = 1 + progress * (stage.last_step_size - 1)
    new = v + step_size * ascender.step(v, value, gradient, look)
    if stage.denoiser is not None:
        new = new + stage.pull * (stage.denoiser(v) - v)
    if stage.smooth_solution is not None:
        new = stage.smooth_solution(new)
    if stage.noise:
        new = new + stage.noise * torch.stack([torch.randn(v.shape[1:], generator=one) for one in noise]).to(v)
    reached.parameters = new.detach()
    return scores


class _Look:
    """J and its gradient, smoothed by K_f, under the view of the present step; an `Evaluate`."""

    view: View

    def __init__(
        self,
        network: Network,
        plain: EachItsOwn,
        asked: EachItsOwn,
        parametrization: Parametrization,
        stage: Stage,
    ):
        self._network = network
        self._asked = asked
        self._places = asked.places()
        # What a trace shows should not jump because a stage asks differently, as long as it can be seen at all.
        self._traced = plain if asked is not plain and plain.places() <= self._places else asked
        self._parametrization = parametrization
        self.stage = stage
        self.scores = torch.empty(0)
        self._last: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def __call__(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        # A line search ends where the next step starts: without random views that look need not be repeated.
        remembers = self.stage.optimizer is not None and self.stage.optimizer.looks_ahead and not self.stage.transforms
        if remembers and self._last is not None and torch.equal(self._last[0], parameters):
            self.scores = self._last[1]
            return self._last[2], self._last[3]
        v = parameters.detach().requires_grad_(True)
        with torch.enable_grad():
            image = self._parametrization.image(v)
            activations = self._network.run(self.view(image), self._places)
            scores = self._asked.score(activations)
            value = scores
            for regularizer in self.stage.regularizers:
                value = value - regularizer.weight * regularizer.energy(image)
            (gradient,) = torch.autograd.grad(value.sum(), v)
        if self.stage.smooth_update is not None:
            gradient = self.stage.smooth_update(gradient)
        with torch.no_grad():
            self.scores = scores.detach() if self._traced is self._asked else self._traced.score(activations)
        if remembers:
            self._last = (v.detach(), self.scores, value.detach(), gradient)
        return value.detach(), gradient


def check_finite(trace: Sequence[Tensor], objective: EachItsOwn) -> None:
    """Raise `NonFiniteScoreError` if one of the last scores, one [N] per step, is NaN or infinite."""
    if not trace:
        return
    recent = torch.stack(list(trace[-_CHECK_EVERY:]))
    if recent.isfinite().all():
        return
    row, image = (int(i) for i in (~recent.isfinite()).nonzero()[0])
    step = max(0, len(trace) - _CHECK_EVERY) + row
    asked = objective.members[image]
    taps = ", ".join(sorted({place.tap for place in asked.places()}))
    remedy = (
        "the network gives no finite answer for the start image: check its weights, mean and std"
        if step == 0
        else "try a smaller step size, or a recipe that keeps the pixels bounded"
    )
    raise NonFiniteScoreError(
        f"the score of {asked} became {float(recent[row, image])} at step {step} (tap {taps}); {remedy}"
    )
