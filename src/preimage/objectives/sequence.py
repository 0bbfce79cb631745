"""Asking for one thing first and for another afterwards."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Place
from preimage.objectives.objective import Activations, Members, Objective
from preimage.objectives.units import Channel


@dataclass(frozen=True, repr=False)
class InSequence(Members):
    """`members` one after the other, each for its share of all steps; the last one is what an image is scored by."""

    shares: tuple[float, ...] = ()

    def places(self) -> frozenset[Place]:
        return self.members[-1].places()

    def check(self, steps: int) -> None:
        asked = [self._now(step / steps)[0] for step in range(steps)]
        for index, member in enumerate(self.members):
            if index not in asked:
                raise RequestError(
                    f"in {steps} steps {member} would never be asked; ask for more steps, or for a larger share"
                )
            member.check(asked.count(index))

    def score(self, activations: Activations) -> Tensor:
        return self.members[-1].score(activations)

    def at(self, progress: float) -> Objective:
        now, within = self._now(progress)
        return self.members[now].at(within)

    def _now(self, progress: float) -> tuple[int, float]:
        """Which member it is, and its own progress."""
        ends = [0.0, *accumulate(self.shares)]
        # A share that ends exactly here has ended, whatever rounding says.
        now = min(bisect_right(ends, (progress + 1e-9) * ends[-1]) - 1, len(self.members) - 1)
        within = (progress * ends[-1] - ends[now]) / self.shares[now]
        return now, max(within, 0.0)

    def __str__(self) -> str:
        if len(set(self.shares)) == 1:
            return " then ".join(map(str, self.members))
        return " then ".join(
            f"{m} ({s / sum(self.shares):.3g})" for m, s in zip(self.members, self.shares, strict=True)
        )


def in_sequence(members: Sequence[Objective], shares: Sequence[float] | None = None) -> InSequence:
    """First members[0], then members[1], ...; shares: of the steps, in any unit, all equal by default.

    Raises `RequestError` if there is nothing to ask, or a share is missing or not above zero.
    """
    if not all(isinstance(member, Objective) for member in members):
        raise RequestError("a sequence is made of Objectives, not of strings; see preimage.objectives")
    given = [1.0] * len(members) if shares is None else [float(share) for share in shares]
    if not members or len(given) != len(members) or not all(share > 0 for share in given):
        raise RequestError(
            f"a sequence needs one share above zero for each of its objectives, not {given} for {len(members)}"
        )
    return InSequence(tuple(members), tuple(given))


def residual(block: str, index: int, branch: str, share: float = 0.5) -> InSequence:
    """Channel `index` of a residual block: first of its residual branch alone, then of branch plus identity.

    Paper 0, section 4.3: "train the residual part firstly, then finetune the training image by adding the identity
    path" (SPEC A12). Both are asked before the ReLU that the block ends in.

    block: the tap of the sum, `layer2.1`. branch: the tap of what is added to the identity, `layer2.1.bn3`.
    share: of the steps, for the branch.
    """
    if not 0 < share < 1:
        raise RequestError(f"the residual branch's share of the steps lies between 0 and 1, not {share}")
    return in_sequence((Channel(Place(branch), index), Channel(Place(block), index)), (share, 1 - share))
