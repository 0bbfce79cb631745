"""Is a picture that `maximize` made the answer to what was asked? (paper 1, sections 1 and 4)

Asked for X, the picture is the answer to Y. Where other terms were optimised with the objective, the plain gradient is
not zero, but the whole is, and those terms are known: each becomes one more row of the Jacobian, and the recovered
vector has one more coefficient, its weight (an extension; paper 1 leaves it for later).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network, Place
from preimage.network.smoothing import WIDTH
from preimage.objectives import Aggregate, Channel, Direction, Label, Objective, Unit, WeightedSum
from preimage.optimization import Stage
from preimage.parametrizations import Parametrization
from preimage.recover.angles import angle
from preimage.recover.recovering import recovered
from preimage.recover.recovery import Recovery
from preimage.recover.sensitivity import MEMORY, sensitivity
from preimage.recover.solving import shrinking
from preimage.result import Result, number
from preimage.transforms import InTurn

VIEWS = 16
"""How many random views stand for all, of a picture that was made under transforms."""


@dataclass(frozen=True)
class Asked:
    """An objective as a direction x of a tap's features y (SPEC I1): S = x^T y (x^T y / |y|)^k.

    Where it is another function of y, x is its gradient by y at the picture, and k is 0.
    """

    place: Place
    aggregate: Aggregate
    features: tuple[int, ...] | None
    cosine_power: float
    vector: Tensor


@dataclass
class Audit:
    """What one picture was asked for, and what it is the answer to.

    objective: what was asked, as one writes it. asked: float64 [features], as a unit vector.
    recovery: what the picture is the answer to; its `objective` has the same features.
    residual: |x^T Z_k Dy| for the asked x, as a share of the largest singular value. rank: how many singular values are
        smaller; 0: nothing explains the picture better. inside: the share of the asked x, squared, in the first
        left-singular vector.
    weights: of the further terms of what was optimised, by name, beside the recovered objective's unit length and in
        units of the median row of the Jacobian; empty where there were none.
    notes: what spoils the comparison, in sentences.
    """

    objective: str
    asked: Tensor
    recovery: Recovery
    residual: float
    rank: int
    inside: float
    weights: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def cosine(self) -> float:
        """Of the asked and the recovered objective, 0 to 1: their sign cannot be recovered."""
        a, b = self.asked, self.recovery.objective
        return abs(float(a @ b / (a.norm() * b.norm()).clamp_min(1e-300)))

    @property
    def angle(self) -> float:
        """Degrees between the asked and the recovered objective, 0 to 90."""
        return float(angle(self.asked, self.recovery.objective))

    def says(self) -> str:
        """The finding in a sentence or two."""
        answer = ", ".join(f"{index} ({weight:+.2f})" for index, weight in self.recovery.strongest(3))
        found = (
            f"asked for {self.objective}; the picture is the answer to {answer} at {self.recovery.tap}: cosine "
            f"{self.cosine:.3f} ({self.angle:.1f} degrees), residual {self.residual:.4f} of the largest singular value"
        )
        if self.recovery.idle > 1:
            found = (
                f"asked for {self.objective}, which the picture is an answer to with a residual of {self.residual:.4f} "
                f"of the largest singular value; but {self.recovery.says()}"
            )
        elif not self.recovery.stands_out:
            found += f"; but {self.recovery.says()}"
        elif self.rank:
            found += f", where {self.rank} other direction{'s have' if self.rank > 1 else ' has'} less"
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "asked": self.objective,
            "says": self.says(),
            "cosine": number(self.cosine),
            "angle": number(self.angle),
            "residual": number(self.residual),
            "rank": self.rank,
            "inside": number(self.inside),
            "weights": {name: number(value) for name, value in self.weights.items()},
            "notes": self.notes,
            "answer_to": self.recovery.as_dict(),
        }


def audit(result: Result, images: Sequence[int] | None = None, *, memory: int = MEMORY) -> list[Audit]:
    """What each picture of a result is the answer to, beside what was asked.

    images: by number; default: all. memory: bytes that Jacobians may take.

    What was optimised in the last stage of the recipe counts: regularizers, the pull of a denoiser, smoothed solutions
    and updates, and the mean over random views. With steps of Adam, a pull's weight has no fixed proportion to the
    objective's; it is recovered like the others. A network with kinks has its maxima on them, where nothing can be
    recovered: only recipes whose last stage smooths them (`plain`) are exact.

    Raises `RequestError` for results that were read or made elsewhere, objectives that are no function of one layer's
    response, and masks.
    """
    made = result.made
    if made is None:
        raise RequestError(
            "this result does not know its network any more; audit it where it was made, or recover() it"
        )
    chosen = range(len(result.objectives)) if images is None else images
    return [_audited(result, made, index, memory) for index in chosen]


def _audited(result: Result, made: Any, index: int, memory: int) -> Audit:
    network: Network = made.network
    parametrization: Parametrization = made.parametrization
    stage: Stage = made.stages[-1]
    v = made.parameters[index : index + 1].double()
    notes = []
    if stage.smoothing is None:
        notes.append("the recipe leaves the network's kinks as they are, on which no gradient vanishes")
    smoothing = stage.smoothing or WIDTH
    views = []
    if stage.transforms:
        generator = torch.Generator().manual_seed(0)
        views = [InTurn(stage.transforms).draw(generator) for _ in range(VIEWS)]
        notes.append(f"the mean over {VIEWS} random views stands for all")
    if parametrization.channels != network.channels:
        raise RequestError("a mask over a photo is no picture whose objective could be recovered")
    objective = made.objectives[index] if stage.asks is None else stage.asks(made.objectives[index])
    asked = asked_features(objective, network, parametrization.image(v))
    names, known = known_terms(stage, parametrization, v)
    filters = (stage.update_kernel(stage.steps - 1), stage.solution_kernel(stage.steps - 1))
    kernels = [one for one in filters if one is not None]
    seen = sensitivity(
        network,
        v,
        asked.place,
        parametrization,
        aggregate=asked.aggregate,
        features=asked.features,
        smoothing=smoothing,
        memory=memory,
        views=views,
        update_kernels=kernels,
        known=known,
    )
    settings = {
        "verb": "recover",
        "at": str(asked.place),
        "after_relu": asked.place.after_relu,
        "cosine_power": asked.cosine_power,
        "aggregate": asked.aggregate,
        "features": None if asked.features is None else list(asked.features),
        "smoothing": smoothing,
    }
    name = result.file_names()[index]
    found = recovered(seen, asked.cosine_power, None, result.images[index], name, asked.place.tap, settings)
    response = seen.response[0]
    vector = torch.cat([asked.vector, response.new_zeros(seen.known)])
    condition = shrinking(response[None], asked.cosine_power)[0] @ vector
    residual = float((condition @ seen.gram[0] @ condition).clamp_min(0).sqrt())
    if seen.known:
        # The asked objective with the weights of the other terms that suit it best.
        terms, mixed = seen.gram[0, -seen.known :, -seen.known :], seen.gram[0, -seen.known :] @ condition
        residual = float((residual**2 - mixed @ torch.linalg.pinv(terms) @ mixed).clamp_min(0).sqrt())
    return Audit(
        objective=result.objectives[index],
        asked=asked.vector,
        recovery=found,
        residual=residual / float(found.singular_values[-1]),
        rank=int((found.singular_values < residual * (1 - 1e-9)).sum()),
        inside=float((found.objective @ asked.vector).square()),
        weights=dict(zip(names, found.known, strict=True)),
        notes=notes,
    )


def known_terms(stage: Stage, parametrization: Parametrization, v: Tensor) -> tuple[list[str], Tensor | None]:
    """What was optimised beside the objective: names, and each gradient by the parameters, [1, terms, *shape]."""
    names, found = [], []
    for regularizer in stage.regularizers:
        w = v.detach().requires_grad_(True)
        with torch.enable_grad():
            energy = regularizer.energy(parametrization.image(w)).sum()
            (gradient,) = torch.autograd.grad(energy, w)
        names.append(repr(regularizer))
        found.append(-gradient)
    if stage.denoiser is not None and stage.pull:
        names.append(repr(stage.denoiser))
        found.append(stage.denoiser(v) - v)
    solution = stage.solution_kernel(stage.steps - 1)
    if solution is not None:
        # v = K_e (v + A g) at rest, so that K_e A g = v - K_e v: the filtered rows have this one to balance.
        names.append(repr(solution))
        found.append(solution(v) - v)
    return names, torch.stack(found, 1) if found else None


def asked_features(objective: Objective, network: Network, image: Tensor) -> Asked:
    """An objective as a direction of one layer's features; raises `RequestError` for those that are none."""
    if isinstance(objective, Direction):
        vector = objective.vector.double()
        vector /= vector.norm()  # (it is kept in float32)
        return Asked(objective.place, objective.aggregate, objective.features, objective.cosine_power, vector)
    if isinstance(objective, WeightedSum):
        parts = [(weight, asked_features(term, network, image)) for weight, term in objective.terms]
        first = parts[0][1]
        alike = all(
            (one.place, one.aggregate, one.features, one.cosine_power) == (first.place, first.aggregate, None, 0.0)
            for _, one in parts
        )
        if alike:
            vector = torch.stack([weight * one.vector for weight, one in parts]).sum(0)
            return replace(first, vector=vector / vector.norm().clamp_min(1e-300))
    if isinstance(objective, (Channel, Unit)) and getattr(objective, "position", None) is None:
        vector = torch.zeros(network.tap(objective.place.tap).channels, dtype=torch.float64)
        vector[objective.index] = 1
        aggregate: Aggregate = "mean" if isinstance(objective, Channel) else "centre"
        return Asked(objective.place, aggregate, None, 0.0, vector)
    if isinstance(objective, Label):
        with network.in_float64():
            logits = network.run(image.to(network.device), [objective.place])[objective.place].detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(objective.score({objective.place: logits}).sum(), logits)
        vector = gradient.flatten(2).sum(2)[0].cpu() if gradient.ndim > 2 else gradient[0].cpu()
        return Asked(objective.place, "mean", None, 0.0, vector / vector.norm().clamp_min(1e-300))
    raise RequestError(
        f"{objective} is no direction of one layer's features, so what its picture is the answer to cannot be told "
        "from it alone; name a tap, with preimage.recover"
    )
