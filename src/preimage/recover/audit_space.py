"""What an audit leaves out: directions of features that move none of several pictures (paper 1, sections 2.2 and 3.5).

They answer equation 3 for every picture alike, and would be named first. Algorithm 1 finds them over all pictures of a
group. Whether they are left out of one picture's audit is decided by what the *other* pictures were asked, so that no
audit confirms itself. The picture's own Jacobian takes part in the search, but
not what it was asked: found over the others alone, spaces that a gap sets apart turned by 4 degrees at most, and angles
by 0.4 (24 pictures of the networks named at `JUDGES` and of the bundled network's stage2.0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from preimage.recover.angles import angle
from preimage.recover.critical_space import TIE, CriticalSpace, critical_spaces
from preimage.recover.finding_spaces import COUNT
from preimage.recover.principal_vectors import ROUNDED
from preimage.recover.sensitivity import Sensitivity
from preimage.recover.solving import shrinking, solve
from preimage.result import number

JUDGES = 3
"""How many other pictures, with objectives of their own, have to decide: groups of four pictures and more have spaces.
Of two, the median is a mean, and one bad picture decides. Of all choices by the triples out of six pictures (200 steps;
classes of `cifar10` and of `cifar10-without-4`, squeezenet's features.3), 0, 14 and 9 of 45 took another space than all
six; by the fours none of 60 in each."""

DISTINCT = 10.0
"""Degrees; asked objectives that are nearer count as one. About what recovery cannot tell apart (section 3.4)."""

BELOW, LASTS = 10**-0.5, 0.5
"""A gap sets a space apart that is the one of all thresholds over half a decade (`LASTS`), of those below `BELOW`: its
directions move no picture by more than about a tenth of what the largest singular value does. Other spaces, of which
large layers have hundreds, last for a few hundredths of a decade and come and go with single pictures."""

STEPS = 4
"""Where no gap helps: how many spaces are tried for each doubling of the number of directions that are left out, up to
half of all."""

IDLE = 0.01
"""Up to this share of the largest singular value a direction is said to move no picture, above to hardly move any."""

HELPS = 0.5
"""The others' median angle, as a share of chance, from which on a space is of use. With less, known objectives are not
recovered at all, and leaving something out would say nothing."""


@dataclass(frozen=True)
class LeftOut:
    """Directions of features that an audit leaves out of the answers.

    directions: float64 [features, m], orthonormal. features: which channels of the tap these are, [features].
    moved: how much the pictures move with them, |(C^perp)^T Dy| / |Dy|, the largest of all pictures, 0 to 1.
    pictures: over how many pictures they were found; 0: the user gave them.
    share: how much of the square of what was asked lies in the space that is left (Z_k^-1 C), 0 to 1.
    angle: between what that space holds of what was asked, and the answer; degrees, 0 to 90 (SPEC I12).
    """

    directions: Tensor
    features: Tensor
    moved: float
    pictures: int
    share: float
    angle: float

    def strongest(self, count: int = 3) -> list[tuple[int, float]]:
        """The channels that have most of it, and what length of each channel's unit vector is left out, 0 to 1; of a
        single direction its weights, with their signs."""
        lengths = self.directions.norm(dim=1)
        top = lengths.topk(min(count, len(lengths))).indices.tolist()
        weights = self.directions[:, 0] if self.directions.shape[1] == 1 else lengths
        return [(int(self.features[i]), float(weights[i])) for i in top]

    def says(self) -> str:
        """What was left out, in half a sentence."""
        features, count = self.directions.shape
        lengths = self.directions.norm(dim=1)
        if float(lengths.min()) > 0.9 * float(lengths.max()):
            which = f"{float(lengths.mean()):.2f} of each of the {features} channels"
        else:
            signed = "+.2f" if count == 1 else ".2f"
            which = ("" if count == 1 else "mostly of ") + ", ".join(
                f"{index} ({weight:{signed}})" for index, weight in self.strongest()
            )
        if not self.pictures:
            return f"left out {count} direction{'s' if count > 1 else ''} as told: {which}"
        return (
            f"left out {count} {moving(count, self.pictures, self.moved)} (at most {self.moved:.2g} of the largest "
            f"singular value): {which}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "says": self.says(),
            "directions": self.directions.shape[1],
            "moved": number(self.moved),
            "pictures": self.pictures,
            "share_inside": number(self.share),
            "strongest": [{"channel": index, "weight": number(weight)} for index, weight in self.strongest()],
        }


@dataclass(frozen=True)
class SharedSpaces:
    """The spaces that pictures of one group have in common, and how well each recovers what they were asked.

    spaces: of all features of the group, the whole space first, then those that a gap sets apart, then others.
    apart: how many they are without the others, of which there are none where no picture needs them.
    targets: what was asked, float64 [n, features], in distinct directions. angles: degrees [spaces, n, n]: what is
        recovered of picture i, and target j. moved: of each space, `LeftOut.moved`, [spaces].
    """

    spaces: list[CriticalSpace]
    apart: int
    targets: Tensor
    angles: Tensor
    moved: list[float]

    def judges(self, asked: Tensor) -> list[int]:
        """Which of the pictures may decide for one that was asked this, [features]: those that were asked otherwise."""
        return _apart(asked, self.targets)

    def chosen(self, asked: Tensor) -> tuple[int, float | None]:
        """Which space to take for a picture that was asked this, and the median angle with which the best recovers what
        the judges were asked: one that a gap sets apart, where that is of use, else any other that is. 0, the whole
        space, where none is, or where too few are left to judge (then None)."""
        some = self.judges(asked)
        if len(some) < JUDGES:
            return 0, None
        for count in (self.apart, len(self.spaces)):
            best, median, helps = judged(self.spaces[:count], self.angles[:count], some)
            if helps:
                return best, median
        return 0, median


def distinct(targets: Tensor) -> list[int]:
    """The first of each run of objectives, [n, features], that are less than `DISTINCT` apart; no more than 32, spread
    over all."""
    found: list[int] = []
    for i, one in enumerate(targets):
        if bool(one.any()) and len(_apart(one, targets[found])) == len(found):
            found.append(i)
    count = min(COUNT, len(found))
    return [found[i * len(found) // count] for i in range(count)]


def shared_spaces(seen: Sequence[Sensitivity], targets: Tensor, cosine_power: float) -> SharedSpaces | None:
    """What directions none of these pictures moves with: Algorithm 1 without the features that are dead in all.

    seen: of each picture by itself, of the same features, without known terms. targets: what each was asked, float64
    [n, features]; any that is nearly another's should be left out before (`distinct`). cosine_power: k.

    None where there are too few pictures to judge (those that answer nothing, or whose features all are dead, or that
    were asked for a dead one, do not count).
    """
    known = [
        i for i, one in enumerate(seen) if bool(one.response.any()) and float(one.gram.diagonal(0, 1, 2).max()) > 0
    ]
    if len(known) <= JUDGES:
        return None
    responses, grams = (torch.cat([getattr(seen[i], name) for i in known]) for name in ("response", "gram"))
    first = seen[known[0]]
    dead = Sensitivity(responses, grams, first.features, first.parameters).dead()
    alive = (~dead).nonzero()[:, 0]
    usable = [j for j, i in enumerate(known) if float(targets[i, alive].norm()) > 0.5**0.5 * float(targets[i].norm())]
    usable = [j for j in usable if bool(responses[j, alive].any())]
    if len(usable) <= JUDGES:
        return None
    responses, grams = responses[usable][:, alive], grams[usable][:, alive[:, None], alive]
    asked = targets[[known[j] for j in usable]]
    found = critical_spaces(grams, below=BELOW)
    kept = [one for one in found if _lasts(one)]
    angles = all_angles(kept, responses, grams, asked[:, alive], cosine_power)
    apart = len(kept)
    folds = [_apart(one, asked) for one in asked]
    if not all(judged(kept, angles, some)[2] for some in folds if len(some) >= JUDGES):
        others = _spread([one for one in found if one not in kept])
        if others:
            kept += others
            more = all_angles(others, responses, grams, asked[:, alive], cosine_power)
            angles = torch.cat([angles, more])
    spaces = []
    for one in kept:
        complement = torch.zeros(len(dead), one.complement.shape[1], dtype=torch.float64)
        complement[alive] = one.complement
        spaces.append(CriticalSpace.without(complement, one.thresholds))
    return SharedSpaces(spaces, apart, asked, angles, [float(one.residual(grams).max()) for one in kept])


def all_angles(
    spaces: Sequence[CriticalSpace], responses: Tensor, grams: Tensor, targets: Tensor, cosine_power: float
) -> Tensor:
    """Projected angles of what is recovered of each picture with each target, degrees [spaces, n, n] (SPEC I12).

    What `median_angles` takes its medians of, at once for all folds: the recovered objective of picture i against
    target j, both projected on Z_k^-1 C of picture i. 90 of targets with nothing in the space.
    """
    found = []
    for one in spaces:
        whole = not one.complement.shape[1]
        best = solve(responses, grams, cosine_power, None if whole else one.basis).best
        seen = targets.expand(len(responses), *targets.shape)
        if not whole:
            # What is perpendicular to Z^-1 C is Z C^perp, the smaller of both.
            outside = torch.linalg.qr(shrinking(responses, cosine_power) @ one.complement)[0]
            seen = seen - seen @ outside @ outside.mT
        found.append(angle(best[:, None].expand_as(seen), seen).nan_to_num(nan=90.0))
    return torch.stack(found)


def chosen_by(spaces: Sequence[CriticalSpace], angles: Tensor, some: Sequence[int]) -> int:
    """Which space `choose_space` takes if only some of the pictures are known, from `all_angles`."""
    own, chance = _medians(angles, some)
    shares = torch.where(chance > ROUNDED, own / chance, 1.0).clamp_max(1)
    equals = ((shares - shares.min()) * chance <= TIE).nonzero()[:, 0].tolist()
    best: int = max(equals, key=lambda i: spaces[i].dimension)
    return best


def judged(spaces: Sequence[CriticalSpace], angles: Tensor, some: Sequence[int]) -> tuple[int, float, bool]:
    """The space that some pictures choose, the median angle of what they were asked, and whether that is of use."""
    best = chosen_by(spaces, angles, some)
    median, chance = (float(one) for one in _medians(angles[best : best + 1], some))
    return best, median, median <= HELPS * chance


def moving(count: int, pictures: int, moved: float) -> str:
    """So many directions that move none, or hardly any, of so many pictures, in words."""
    if moved < IDLE:
        return f"direction{'s that move' if count > 1 else ' that moves'} none of the {pictures} pictures"
    return f"direction{'s that hardly move' if count > 1 else ' that hardly moves'} any of the {pictures} pictures"


def _medians(angles: Tensor, some: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Of each space, the median angle of some pictures with their own target, and with the next one's."""
    here = list(some)
    return angles[:, here, here].quantile(0.5, dim=1), angles[:, here, here[1:] + here[:1]].quantile(0.5, dim=1)


def _lasts(space: CriticalSpace) -> bool:
    return not space.complement.shape[1] or _decades(space) >= LASTS


def _spread(spaces: Sequence[CriticalSpace]) -> list[CriticalSpace]:
    """Of spaces that leave out about as much the one that lasts longest; none that leaves out more than half."""
    best: dict[int, CriticalSpace] = {}
    for one in spaces:
        features, count = one.complement.shape
        if count > features / 2:
            continue
        place = round(STEPS * math.log2(count))
        if place not in best or _decades(one) > _decades(best[place]):
            best[place] = one
    return list(best.values())


def _decades(space: CriticalSpace) -> float:
    low, high = space.thresholds
    return math.log10(high / low)


def _apart(one: Tensor, others: Tensor) -> list[int]:
    return (angle(one.expand_as(others), others) >= DISTINCT).nonzero()[:, 0].tolist()
