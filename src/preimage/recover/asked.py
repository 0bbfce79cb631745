"""What was asked of a picture, as a direction of one layer's features, and what else its recipe optimised."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network, Place
from preimage.objectives import Aggregate, Channel, Direction, Label, Objective, Unit, WeightedSum
from preimage.optimization import Stage
from preimage.parametrizations import Parametrization


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
