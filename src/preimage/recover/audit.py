"""Is a picture that `maximize` made the answer to what was asked? (paper 1, sections 1 and 4)

Asked for X, the picture is the answer to Y. What moves none of several pictures is left out of the answers
(`preimage.recover.audit_space`). Where other terms were optimised with the objective, the plain gradient is
not zero, but the whole is, and those terms are known: each becomes one more row of the Jacobian, and the recovered
vector has one more coefficient, its weight (an extension; paper 1 leaves it for later).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network
from preimage.network.smoothing import WIDTH
from preimage.optimization import Stage
from preimage.parametrizations import Parametrization
from preimage.recover.angles import angle, projected_angle
from preimage.recover.asked import Asked, asked_features, known_terms
from preimage.recover.audit_space import JUDGES, LeftOut, SharedSpaces, distinct, moving, shared_spaces
from preimage.recover.critical_space import CriticalSpace
from preimage.recover.finding_spaces import FoundSpaces
from preimage.recover.recovering import recovered
from preimage.recover.recovery import Recovery
from preimage.recover.sensitivity import MEMORY, Sensitivity, sensitivity
from preimage.recover.solving import admissible, shrinking
from preimage.result import Result, number
from preimage.transforms import InTurn, View

VIEWS = 16
"""How many random views stand for all, of a picture that was made under transforms."""

HELD = 0.5
"""How much of the square of what was asked has to be in a critical space for the picture to be audited there. Below,
most of the asked objective would vanish, and what is left of it says nothing."""

ALIKE = 0.9
"""The cosine, 26 degrees, from which on a picture counts as the answer to what was asked: what is farther away is, in
paper 1's figure 2, another objective or an ascent that did not arrive."""

Verdict = Literal["as asked", "probably as asked", "something else", "cannot be told"]

UNRECOVERED = 45.0
"""Degrees, half of what a random direction of many features has: a median above it is noted."""


@dataclass
class Audit:
    """What one picture was asked for, and what it is the answer to.

    objective: what was asked, as one writes it. asked: float64 [features], as a unit vector.
    recovery: what the picture is the answer to; its `objective` has the same features.
    residual: |x^T Z_k Dy| for the asked x, as a share of the largest singular value. rank: how many singular values are
        smaller; 0: nothing explains the picture better. inside: the share of the asked x, squared, in the first
        left-singular vector. Where directions were left out, x stands for what the critical space holds of it.
    left_out: those directions; None where there are none.
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
    left_out: LeftOut | None = None

    @property
    def cosine(self) -> float:
        """Of the asked and the recovered objective, 0 to 1: their sign cannot be recovered. Both as far as the critical
        space holds them, where something was left out."""
        return self.plain_cosine if self.left_out is None else math.cos(math.radians(self.left_out.angle))

    @property
    def angle(self) -> float:
        """Degrees between the asked and the recovered objective, 0 to 90; as for `cosine` (SPEC I12)."""
        return self.plain_angle if self.left_out is None else self.left_out.angle

    @property
    def plain_cosine(self) -> float:
        """Of the asked objective as it is and the recovered one, 0 to 1."""
        a, b = self.asked, self.recovery.objective
        return abs(float(a @ b / (a.norm() * b.norm()).clamp_min(1e-300)))

    @property
    def plain_angle(self) -> float:
        """Degrees between the asked objective as it is and the recovered one, 0 to 90."""
        return float(angle(self.asked, self.recovery.objective))

    @property
    def verdict(self) -> Verdict:
        """The finding in a word or two; less than certain where no objective stands out from the others."""
        if self.cosine >= ALIKE:
            return "as asked" if self.recovery.stands_out else "probably as asked"
        return "something else" if self.recovery.stands_out else "cannot be told"

    def says(self) -> str:
        """The finding in a sentence or two."""
        answer = ", ".join(f"{index} ({weight:+.2f})" for index, weight in self.recovery.strongest(3))
        found = (
            f"asked for {self.objective}; the picture is the answer to {answer} at {self.recovery.tap}: cosine "
            f"{self.cosine:.3f} ({self.angle:.1f} degrees), residual {self.residual:.4f} of the largest singular value"
        )
        doubts = self.recovery.idle > 1 or not self.recovery.stands_out
        if self.recovery.idle > 1:
            found = (
                f"asked for {self.objective}, which the picture is an answer to with a residual of {self.residual:.4f} "
                "of the largest singular value"
            )
        elif not doubts and self.rank:
            found += f", where {self.rank} other direction{'s have' if self.rank > 1 else ' has'} less"
        if self.left_out is not None:
            found += f"; {self.left_out.says()}"
        return f"{found}; but {self.recovery.says()}" if doubts else found

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "asked": self.objective,
            "verdict": self.verdict,
            "says": self.says(),
            "cosine": number(self.cosine),
            "angle": number(self.angle),
            "plain_cosine": number(self.plain_cosine),
            "plain_angle": number(self.plain_angle),
            "left_out": None if self.left_out is None else self.left_out.as_dict(),
            "residual": number(self.residual),
            "rank": self.rank,
            "inside": number(self.inside),
            "weights": {name: number(value) for name, value in self.weights.items()},
            "notes": self.notes,
            "answer_to": self.recovery.as_dict(),
        }


def audit(
    result: Result,
    images: Sequence[int] | None = None,
    *,
    memory: int = MEMORY,
    space: CriticalSpace | FoundSpaces | bool = True,
) -> list[Audit]:
    """What each picture of a result is the answer to, beside what was asked.

    images: by number; default: all. memory: bytes that Jacobians may take.
    space: the critical space (paper 1, section 2.2; SPEC I8, I9), which leaves out directions that move no picture.
        True: where four or more of these pictures were asked for different directions of the same features, without
        regularizers, denoisers or smoothed solutions, Algorithm 1 finds it over them, and what the others were asked
        decides for each picture whether it is taken; a picture asked for what it leaves out is audited without, and
        `notes` says so. False: nothing is left out. Or your own, of `find_critical_space`.

    What was optimised in the last stage of the recipe counts: regularizers, the pull of a denoiser, smoothed solutions
    and updates, and the mean over random views. With steps of Adam, a pull's weight has no fixed proportion to the
    objective's; it is recovered like the others. A network with kinks has its maxima on them, where nothing can be
    recovered: only recipes whose last stage smooths them (`plain`) are exact.

    Raises `RequestError` for results that were read or made elsewhere, objectives that are no function of one layer's
    response, masks, and a space of other features or where the recipe has further terms.
    """
    made = result.made
    if made is None:
        raise RequestError(
            "this result does not know its network any more; audit it where it was made, or recover() it"
        )
    if made.parametrization.channels != made.network.channels:
        raise RequestError("a mask over a photo is no picture whose objective could be recovered")
    chosen = list(range(len(result.objectives)) if images is None else images)
    auditor = _Auditor(result, made, memory)
    asked = {index: auditor.asked(index) for index in chosen}
    own = space.space if isinstance(space, FoundSpaces) else space
    if isinstance(own, CriticalSpace):
        for one in asked.values():
            auditor.check_space(one, own)
        return [auditor.audited(index, asked[index], own) for index in chosen]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, one in asked.items():
        groups.setdefault((one.place, one.aggregate, one.features, one.cosine_power), []).append(index)
    done: dict[int, Audit] = {}
    for group in groups.values():
        shared = auditor.shared({index: asked[index] for index in group}) if own and not auditor.has_terms else None
        done |= {index: auditor.audited(index, asked[index], shared) for index in group}
    return [done[index] for index in chosen]


class _Auditor:
    """What all pictures of a result have in common, and the sensitivities that are needed twice."""

    def __init__(self, result: Result, made: Any, memory: int) -> None:
        self._result, self._memory, self._made = result, memory, made
        self._network: Network = made.network
        self._parametrization: Parametrization = made.parametrization
        stage: Stage = made.stages[-1]
        self._stage = stage
        self._notes = []
        if stage.smoothing is None:
            self._notes.append("the recipe leaves the network's kinks as they are, on which no gradient vanishes")
        self._smoothing = stage.smoothing or WIDTH
        self._views: list[View] = []
        if stage.transforms:
            generator = torch.Generator().manual_seed(0)
            self._views = [InTurn(stage.transforms).draw(generator) for _ in range(VIEWS)]
            self._notes.append(f"the mean over {VIEWS} random views stands for all")
        filters = (stage.update_kernel(stage.steps - 1), stage.solution_kernel(stage.steps - 1))
        self._kernels = [one for one in filters if one is not None]
        pulled = stage.denoiser is not None and bool(stage.pull)
        self.has_terms = bool(stage.regularizers) or pulled or filters[1] is not None
        self._seen: dict[int, Sensitivity] = {}

    def _parameters(self, index: int) -> Tensor:
        parameters: Tensor = self._made.parameters[index : index + 1]
        return parameters.double()

    def asked(self, index: int) -> Asked:
        """What a picture was asked for in the recipe's last stage."""
        objective = self._made.objectives[index]
        if self._stage.asks is not None:
            objective = self._stage.asks(objective)
        return asked_features(objective, self._network, self._parametrization.image(self._parameters(index)))

    def check_space(self, asked: Asked, space: CriticalSpace) -> None:
        """Whether a space that the user gave is one of these features."""
        if len(space.basis) != len(asked.vector):
            raise RequestError(
                f"the critical space has {len(space.basis)} features, but '{asked.place.tap}' was asked for "
                f"{len(asked.vector)}"
            )
        if self.has_terms:
            raise RequestError(
                "a critical space is one of features alone, but this recipe also optimises other terms: audit with "
                "space=False"
            )

    def shared(self, group: dict[int, Asked]) -> SharedSpaces | None:
        """The spaces of a group of pictures; None where it has too few that were asked for different directions."""
        numbers = list(group)
        targets = torch.stack([one.vector for one in group.values()])
        some = distinct(targets)
        if len(some) <= JUDGES:
            return None
        for i in some:
            self._seen[numbers[i]] = self._sensitivity(numbers[i], group[numbers[i]], None)
        power = next(iter(group.values())).cosine_power
        return shared_spaces([self._seen[numbers[i]] for i in some], targets[some], power)

    def _sensitivity(self, index: int, asked: Asked, known: Tensor | None) -> Sensitivity:
        return sensitivity(
            self._network,
            self._parameters(index),
            asked.place,
            self._parametrization,
            aggregate=asked.aggregate,
            features=asked.features,
            smoothing=self._smoothing,
            memory=self._memory,
            views=self._views,
            update_kernels=self._kernels,
            known=known,
        )

    def audited(self, index: int, asked: Asked, shared: SharedSpaces | CriticalSpace | None) -> Audit:
        """One picture; `shared` is of its group, or the one space that the user gave."""
        names, known = known_terms(self._stage, self._parametrization, self._parameters(index))
        seen = self._seen.pop(index, None) or self._sensitivity(index, asked, known)
        response, power, notes = seen.response[0], asked.cosine_power, list(self._notes)
        space, moved, pictures = None, 0.0, 0
        if isinstance(shared, CriticalSpace) and shared.complement.shape[1]:
            space, moved = shared, float(shared.residual(seen.gram)[0])
        elif isinstance(shared, SharedSpaces):
            best, median = shared.chosen(asked.vector)
            space, moved, pictures = shared.spaces[best], shared.moved[best], len(shared.targets)
            if median is not None and not space.complement.shape[1]:
                notes += _unrecovered(median, len(shared.judges(asked.vector)))
        vector, share = asked.vector, 1.0
        if space is not None and space.complement.shape[1]:
            allowed = admissible(response[None], power, space.basis)[0]
            inside = allowed @ (allowed.mT @ asked.vector)
            share = float(inside.square().sum())
            if share < HELD:
                notes.append(_outside(1 - share, space, moved, pictures))
                space = None
            else:
                vector = inside / inside.norm()
        else:
            space = None
        settings = {
            "verb": "recover",
            "at": str(asked.place),
            "after_relu": asked.place.after_relu,
            "cosine_power": power,
            "aggregate": asked.aggregate,
            "features": None if asked.features is None else list(asked.features),
            "smoothing": self._smoothing,
            "critical_space": None if space is None else {"left_out": space.complement.T.tolist()},
        }
        result = self._result
        name = result.file_names()[index]
        found = recovered(seen, power, space, result.images[index], name, asked.place.tap, settings)
        condition = shrinking(response[None], power)[0] @ torch.cat([vector, response.new_zeros(seen.known)])
        residual = float((condition @ seen.gram[0] @ condition).clamp_min(0).sqrt())
        if seen.known:
            # The asked objective with the weights of the other terms that suit it best.
            terms, mixed = seen.gram[0, -seen.known :, -seen.known :], seen.gram[0, -seen.known :] @ condition
            residual = float((residual**2 - mixed @ torch.linalg.pinv(terms) @ mixed).clamp_min(0).sqrt())
        left_out = None
        if space is not None:
            between = float(
                projected_angle(asked.vector[None], found.objective[None], response[None], power, space.basis)
            )
            left_out = LeftOut(space.complement, seen.features, moved, pictures, share, between)
        return Audit(
            objective=result.objectives[index],
            asked=asked.vector,
            recovery=found,
            residual=residual / float(found.singular_values[-1]),
            rank=int((found.singular_values < residual * (1 - 1e-9)).sum()),
            inside=float((found.objective @ vector).square()),
            weights=dict(zip(names, found.known, strict=True)),
            notes=notes,
            left_out=left_out,
        )


def _outside(share: float, space: CriticalSpace, moved: float, pictures: int) -> str:
    count = space.complement.shape[1]
    which = moving(count, pictures, moved) if pictures else f"direction{'s' if count > 1 else ''} of the given space"
    some = f"{count} " if count > 1 else ""
    return f"{math.sqrt(share):.2f} of what was asked lies in the {some}{which}, so nothing was left out here"


def _unrecovered(median: float, judges: int) -> list[str]:
    """Where the other pictures' own objectives are not found again, an answer about this one says little."""
    if median < UNRECOVERED:
        return []
    return [
        f"of the {judges} other pictures, what was asked is not found again either (median {median:.0f} degrees), "
        "whatever is left out"
    ]
