"""The one loop. Every method of this project is a setting of its update rule:

v  <-  K_e * [ v  +  A( K_f * grad_v J(v) )  +  eps_1 (r(v) - v) ]  +  N(0, eps_3^2)
J(v) = score( net( T( P(v) ) ) )  -  sum_i  weight_i R_i( P(v) )

With a stage's `move` all that v changes by, noise included, is scaled before K_e (paper 3's released code); with
`accept` the step is taken with the probability that makes exp J the density of v.

Where P(v) is a mask and no picture, `Parametrization.as_seen` lays it over one, and T moves that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.errors import NonFiniteScoreError, RequestError
from preimage.network import Answering, Network, Smoothed, smoothed
from preimage.objectives import EachItsOwn, Objective
from preimage.optimization.optimizer import Ascender, per_image
from preimage.optimization.stage import Stage
from preimage.parametrizations import Parametrization
from preimage.priors import Kernel
from preimage.transforms import InTurn, View

# On a GPU every look at a number makes the host wait for the device, so a bad one is looked for now and then.
_CHECK_EVERY = 16


@dataclass
class Climb:
    """What the loop has reached.

    parameters: v after the last whole step, [N, ...]; what v stands for is `parametrization`.
    trace: the objective of the transformed images while optimising, one [N] per step (NaN for images that a referee
        has stopped); where a stage asks something else of other taps, that score.
    snapshots: (steps done, images [N, C, H, W] on the CPU). visited: (steps done, v [N, ...] on the CPU).
    taken: of stages that accept or reject, how many steps of each image were accepted and how many there were, [N, 2].
    interrupted: whether Ctrl-C ended it.
    """

    parameters: Tensor
    parametrization: Parametrization
    trace: list[Tensor] = field(default_factory=list)
    snapshots: list[tuple[int, Tensor]] = field(default_factory=list)
    visited: list[tuple[int, Tensor]] = field(default_factory=list)
    taken: Tensor | None = None
    interrupted: bool = False

    @torch.no_grad()
    def pictures(self) -> Tensor:
        """The images so far as they are shown, [N, C, H, W] in [0, 1]."""
        return self.parametrization.picture(self.parameters)

    @torch.no_grad()
    def images(self) -> Tensor:
        """The images so far, [N, C, H, W], as they are: values may lie outside [0, 1]."""
        return self.parametrization.image(self.parameters)


Referee = Callable[[Climb], Tensor]
"""Says after every step which images go on, bool [N] on the CPU; one that was stopped stays stopped."""


def climb(
    network: Answering,
    objective: EachItsOwn,
    parametrization: Parametrization,
    start: Tensor,
    stages: Sequence[Stage],
    generator: torch.Generator,
    *,
    noise: Sequence[torch.Generator] | None = None,
    snapshot_every: int | None = None,
    visit_every: int | None = None,
    after: int = 0,
    on_step: Callable[[], object] | None = None,
    referee: Referee | None = None,
) -> Climb:
    """Climb from the parameters `start` [N, ...] through all stages.

    objective: bound to `network`, one member per image.
    generator, noise: all randomness, on the CPU. Views are drawn from the first, for the whole batch; eps_3's noise
        from one generator per image, so that it does not depend on the batch (default: from the first, too).
    snapshot_every, visit_every: keep images, or parameters, after every so many steps.
    after: go on as if so many steps had been done before, with `start` and the generators as those steps left them.
        Only optimizers without memory go on exactly.
    referee: may stop some images, or all; with one, scores that are not finite are its affair.
    Ctrl-C ends the climb and keeps what it has reached.

    Raises `NonFiniteScoreError` as soon as a score is NaN or infinite, and `RequestError` if a schedule of a stage
    never fires.
    """
    last = parametrization
    if stages:
        last = _at(parametrization, stages[-1])  # also where Ctrl-C, or a lack of steps, ends it before
    stages = [stage for stage in stages if stage.steps]
    for stage in stages:
        stage.check()
    reached = Climb(start, parametrization)
    run = _Run(network, objective, reached, [generator] * len(start) if noise is None else list(noise))
    total, done = sum(stage.steps for stage in stages), 0
    if not 0 <= after <= total:
        raise RequestError(f"of {total} steps there cannot be {after} done")
    objective.check(total)
    try:
        with network.held(), ExitStack() as precise:
            for stage in stages:
                precise.close()
                if stage.smoothing is not None and isinstance(network, Network):
                    precise.enter_context(network.in_float64())  # (its weights are converted once)
                if done + stage.steps <= after:
                    done += stage.steps
                    continue
                run.begin(stage, parametrization)
                skipped = max(0, after - done)
                done += skipped
                if skipped % stage.hold:
                    raise RequestError("a climb cannot go on while a view is held")
                for step in range(skipped, stage.steps):
                    if step % stage.hold == 0:
                        view = InTurn(stage.transforms).draw(generator)
                    run.advance(view, step, done / total)
                    done += 1
                    if referee is not None:
                        run.keep(referee(reached))
                    elif start.device.type == "cpu" or done % _CHECK_EVERY == 0:
                        run.check()
                    if snapshot_every and done % snapshot_every == 0:
                        image = reached.pictures()
                        reached.snapshots.append((done, _resized(image, parametrization).float().cpu()))
                    if visit_every and done % visit_every == 0:
                        reached.visited.append((done, reached.parameters.cpu()))
                    if on_step:
                        on_step()
                    if not run.alive.any():
                        return run.finished(last)
            if referee is None:
                check_finite(reached.trace, objective)
    except KeyboardInterrupt:
        reached.interrupted = True
    return run.finished(last)


class _Run:
    """A climb at work: which images are still going, and what the present stage does with them."""

    def __init__(self, network: Answering, objective: EachItsOwn, reached: Climb, noise: list[torch.Generator]):
        self._network = network
        self._objective = objective
        self._reached = reached
        self._noise = noise
        self._ascender: Ascender | None = None
        # For all images, where the stage wants no kinks: what the network saw when it began, and, for what was asked
        # last, the network and the objective.
        self._begun: Tensor | None = None
        self._smooth: tuple[tuple[Objective, ...], Smoothed, EachItsOwn] | None = None
        self._units: Tensor | None = None  # of the regularizers' weights, [N], where the stage wants them measured
        self.alive = torch.ones(len(reached.parameters), dtype=torch.bool)
        self.look: _Look | None = None

    def begin(self, stage: Stage, whole: Parametrization) -> None:
        """Take up a stage; `whole` is what the picture is in the end."""
        self._stage = stage
        if stage.optimizer is not None:
            self._ascender = stage.optimizer.start()
            self._ascender.keep(self.alive)
        if stage.optimizer is not None and stage.optimizer.looks_ahead and stage.smooth_update is not None:
            raise RequestError(
                f"{type(stage.optimizer).__name__} looks along its steps, where a smoothed gradient is not the slope; "
                "smooth the updates of Ascent, Momentum or Adam, or none"
            )
        if self._ascender is None:
            raise RequestError("the first stage needs an optimizer")
        if self._resize(_at(whole, stage)) and stage.optimizer is None:
            raise RequestError("a stage in which the picture has another size needs an optimizer of its own")
        self.look = self._units = self._begun = self._smooth = None
        if stage.smoothing is not None:
            if not isinstance(self._network, Network):
                raise RequestError("kinks can be smoothed of a whole network only, not of what lies behind a tap")
            self._reached.parameters = self._reached.parameters.double()

    def finished(self, last: Parametrization) -> Climb:
        """What was reached, at the size of the last stage also where that never began."""
        self._resize(last)
        return self._reached

    def _resize(self, to: Parametrization) -> bool:
        reached = self._reached
        now = reached.parametrization
        if (to.height, to.width) == (now.height, now.width):
            return False
        reached.parameters = to.parameters(_resized(reached.images(), to))
        reached.parametrization = to
        return True

    def advance(self, view: View, step: int, progress: float) -> None:
        """One application of the update rule; `progress` is the share of all steps that is done."""
        stage, reached, everyone = self._stage, self._reached, bool(self.alive.all())
        objective = (self._objective if everyone else self._objective.kept(self.alive.tolist())).at(progress)
        if self.look is None or self.look.plain.members != objective.members:
            network, asked = self._asked(objective, stage, view, progress)
            self.look = _Look(network, objective, asked, reached.parametrization, stage)
        look, ascender = self.look, self._ascender
        assert ascender is not None
        look.view, look.kernel = view, stage.update_kernel(step)
        v = reached.parameters if everyone else reached.parameters[self.alive]
        if stage.weights_per_gradient:
            if self._units is None:
                self._units = torch.ones(len(self.alive), device=v.device, dtype=v.dtype)
                self._units[self.alive] = look.steepness(v)
            look.units = self._units[self.alive]
        value, gradient = look(v)
        scores = look.scores
        step_size = 1 + step / stage.steps * (stage.last_step_size - 1)

        def drift(at: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
            change = step_size * ascender.step(at, value, gradient, look)
            return change if stage.denoiser is None else change + stage.pull * (stage.denoiser(at) - at)

        change = drift(v, value, gradient)
        noise: Tensor | float = 0.0
        if stage.noise:
            drawn = [torch.randn(v.shape[1:], generator=one) for one in self._noise]
            noise = stage.noise * torch.stack(drawn)[self.alive].to(v)
        if stage.move is not None:
            change, noise = change + noise, 0.0
            size = change.abs().flatten(1).mean(1).clamp_min(torch.finfo(v.dtype).tiny)
            change = step_size * stage.move * change / per_image(size, change)
        new = v + change
        kernel = stage.solution_kernel(step)
        if kernel is not None:
            new = kernel(new)
        new = new + noise
        if stage.accept:
            there = look(new)
            back = v - new - drift(new, *there)
            forth = new - v - change
            odds = there[0] - value + (forth.square() - back.square()).flatten(1).sum(1) / (2 * stage.noise**2)
            new = self._accepted(v, new, odds)
        if everyone:
            reached.parameters = new.detach()
        else:
            reached.parameters = reached.parameters.clone()
            reached.parameters[self.alive] = new.detach()
            scores = (
                torch.full((len(self.alive),), torch.nan).to(scores).masked_scatter(self.alive.to(v.device), scores)
            )
        reached.trace.append(scores)

    def _accepted(self, old: Tensor, new: Tensor, odds: Tensor) -> Tensor:
        """Each image's step, with the probability min(1, exp(odds))."""
        reached = self._reached
        drawn = torch.stack([torch.rand((), generator=one, dtype=torch.float64) for one in self._noise])
        going = drawn[self.alive].log().to(odds) < odds
        if reached.taken is None:
            reached.taken = torch.zeros(len(self.alive), 2, dtype=torch.int64)
        reached.taken[self.alive] += torch.stack([going, torch.ones_like(going)], 1).cpu()
        return torch.where(per_image(going, new), new, old)

    def _asked(self, plain: EachItsOwn, stage: Stage, view: View, progress: float) -> tuple[Answering, EachItsOwn]:
        """The network of this stage and what it is asked, for the images that are still going."""

        def asked(members: EachItsOwn) -> EachItsOwn:
            return members if stage.asks is None else EachItsOwn(tuple(map(stage.asks, members.members)))

        if stage.smoothing is None:
            return self._network, asked(plain)
        if not isinstance(self._network, Network):
            raise RequestError("kinks can be smoothed of a whole network only, not of what lies behind a tap")
        if self._begun is None:
            if not self.alive.all():
                raise RequestError("kinks can be smoothed of a whole network only, before any image is stopped")
            with torch.no_grad():
                self._begun = self._reached.parametrization.as_seen(self._reached.images(), view)
        whole = self._objective.at(progress)
        if self._smooth is None or self._smooth[0] != whole.members:
            everything = asked(whole)
            with torch.no_grad():
                network = smoothed(self._network, self._begun, tuple(everything.places()), stage.smoothing)
                activations = network.run(self._begun, network.taps)
            self._smooth = whole.members, network, everything.smoothed(activations, stage.smoothing)
        _, network, smooth = self._smooth
        views = len(self._begun) // len(self.alive)
        return network.kept(self.alive.repeat_interleave(views)), smooth.kept(self.alive.tolist())

    def check(self) -> None:
        """Raise `NonFiniteScoreError` if one of the last scores is NaN or infinite."""
        if self.look is not None:
            check_finite(self._reached.trace, self.look.asked)

    def keep(self, going: Tensor) -> None:
        """Stop all images that are not `going`, bool [N]."""
        going = going & self.alive
        if not torch.equal(going, self.alive):
            assert self._ascender is not None
            self._ascender.keep(going[self.alive])
            self.alive, self.look = going, None


class _Look:
    """J and its gradient, smoothed by K_f, under the view of the present step; an `Evaluate`."""

    view: View
    kernel: Kernel | None
    units: Tensor | float = 1.0

    def __init__(
        self,
        network: Answering,
        plain: EachItsOwn,
        asked: EachItsOwn,
        parametrization: Parametrization,
        stage: Stage,
    ):
        self.plain, self.asked = plain, asked
        self._network = network
        self._places = self.asked.places()
        # What a trace shows should not jump because a stage asks differently, as long as it can be seen at all.
        self._traced = plain if stage.asks is not None and plain.places() <= self._places else self.asked
        self._parametrization = parametrization
        self._stage = stage
        # A line search ends where the next step starts: without random views that look need not be repeated.
        self._remembers = stage.optimizer is not None and stage.optimizer.looks_ahead and not stage.transforms
        self._last: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self.scores = torch.empty(0)

    def __call__(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        if self._remembers and self._last is not None and torch.equal(self._last[0], parameters):
            self.scores = self._last[1]
            return self._last[2], self._last[3]
        v = parameters.detach().requires_grad_(True)
        with torch.enable_grad():
            image = self._parametrization.image(v)
            activations = self._network.run(self._parametrization.as_seen(image, self.view), self._places)
            scores = self.asked.score(activations)
            value = scores
            for regularizer in self._stage.regularizers:
                value = value - self.units * regularizer.weight * regularizer.energy(image)
            (gradient,) = torch.autograd.grad(value.sum(), v)
        if self.kernel is not None:
            gradient = self.kernel(gradient)
        with torch.no_grad():
            self.scores = scores.detach() if self._traced is self.asked else self._traced.score(activations)
        if self._remembers:
            self._last = (v.detach(), self.scores, value.detach(), gradient)
        return value.detach(), gradient

    def steepness(self, parameters: Tensor) -> Tensor:
        """Mean |gradient| of each image's score by those pixels that it depends on, without regularizers, [N]."""
        image = self._parametrization.image(parameters.detach()).detach().requires_grad_(True)
        with torch.enable_grad():
            shown = self._parametrization.as_seen(image, self.view)
            scores = self.asked.score(self._network.run(shown, self._places))
            (gradient,) = torch.autograd.grad(scores.sum(), image)
        return gradient.abs().flatten(1).sum(1) / (gradient != 0).flatten(1).sum(1).clamp_min(1)


def _at(whole: Parametrization, stage: Stage) -> Parametrization:
    """The parametrization at a stage's scale."""
    return whole.resized(round(whole.height * stage.scale), round(whole.width * stage.scale))


def _resized(images: Tensor, like: Parametrization) -> Tensor:
    """The images at the size of a parametrization."""
    if images.shape[2:] == (like.height, like.width):
        return images
    return F.interpolate(images, size=(like.height, like.width), mode="bilinear", antialias=True, align_corners=False)


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
