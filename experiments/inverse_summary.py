"""What the realisations of paper 1's experiments show, in numbers, and whether the paper's sentences hold for them.

A sentence is put as a question of a few runs whose answer is yes or no; the question's docstring is the criterion, in
the words in which results say it, and its thresholds were set before anything was measured: the paper's own where it
prints one, otherwise those of SPEC I.5, and otherwise stated there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import getdoc
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest, spearmanr
from torch import Tensor

from inverse_runs import Run
from preimage.recover import (
    CriticalSpace,
    angle,
    choose_space,
    contributions,
    critical_spaces,
    dead_features,
    fraction_inside,
    hoyer,
    projected_angle,
    projected_target,
    solve,
)

UNSTABLE = 0.7
"""SSIM under re-optimisation for the target itself, below which no stable optimum was found (figure 2's caption)."""
JACOBIANS = 32
"""How many of the first Jacobians Algorithm 1 sees (section 3.5)."""
FAILED = 45
"""Degrees; where the median angle is larger, objectives are not recovered."""
WITHOUT = 4
"""The class that the second DenseNet has never seen."""
AGAIN = ("target", "predicted", "response", "random")

Found = dict[str, Any]
Answer = tuple[bool | None, Found]
"""Whether it holds (None: nothing to judge by), and the numbers that it was judged by."""


@dataclass
class InSpace:
    """Objectives recovered in one critical space C of the logits.

    angles: to the target, both projected on Z_k^-1 C (SPEC I12), [N]; NaN where a target has nothing there. response:
    the same of the feature response. projected: of the recovered objective to the projected target (section 2.2).
    predicted: the recovered objectives, [N, features]. inside: fraction of each target in Z_k^-1 C, [N]. ssim: of
    re-optimisation for what was recovered; None where that was not made.
    """

    space: CriticalSpace
    predicted: Tensor
    angles: Tensor
    response: Tensor
    projected: Tensor
    inside: Tensor
    ssim: Tensor | None = None

    def complement_has(self, vector: Tensor) -> float:
        """The length of a unit vector's projection on what C leaves out: 1 where it is left out completely."""
        return float((self.space.complement.mT @ vector).norm())


@dataclass
class Measured:
    """One run: of each target its angles in degrees, contributions c_j^2, SSIM, and how far the ascent had come.

    angles: to "predicted", "response", "random", [N] each. contributions: [N, features]. ssim: under re-optimisation
    for each of `AGAIN`, [N]. ratio: smallest by second singular value of Z_k Dy, [N]; near 1, nothing tells the
    objective. gain: what the second half of L-BFGS added, as a share of the score, [N]. sparseness: Hoyer's, [N].
    dead: features that no image changes. spaces, chosen: critical spaces, where they were looked for, and which is
    best. halved: of runs in which nothing is recovered otherwise, every second target in a critical space that the
    others have found and chosen.
    """

    run: Run
    angles: dict[str, Tensor]
    contributions: Tensor
    ssim: dict[str, Tensor]
    ratio: Tensor
    gain: Tensor
    sparseness: Tensor
    seconds: dict[str, float] = field(default_factory=dict)
    dead: list[int] = field(default_factory=list)
    spaces: list[InSpace] = field(default_factory=list)
    chosen: int = 0
    halved: InSpace | None = None

    @property
    def alpha(self) -> Tensor:
        """alpha_j of section 3.5, [features]."""
        return self.contributions.mean(0)

    @property
    def unstable(self) -> Tensor:
        """Bool [N]: re-optimising for the target itself leads elsewhere."""
        return self.ssim["target"] < UNSTABLE

    def of_dimension(self, dimension: int) -> InSpace | None:
        """The first critical space of that dimension, by rising threshold."""
        return next((one for one in self.spaces if one.space.dimension == dimension), None)


def measured(run: Run, samples: dict[str, Any], with_spaces: bool = False) -> Measured:
    """Everything about a run, of what `inverse_runs.made` returns for it."""
    targets, responses, grams = samples["targets"], samples["responses"], samples["grams"]
    solution = solve(responses, grams, float(run.k))
    compared = {"predicted": solution.best, "response": responses, "random": samples["random"]}
    scores = samples["scores"].double()
    found = Measured(
        run=run,
        angles={name: angle(targets, other) for name, other in compared.items()},
        contributions=contributions(targets, solution),
        ssim={name: samples[f"ssim {name}"] for name in AGAIN},
        ratio=solution.singular_values[:, 0] / solution.singular_values[:, 1],
        gain=(scores[:, 2] - scores[:, 1]) / scores[:, 2].abs(),
        sparseness=hoyer(targets),
        seconds=dict(samples["seconds"]),
        dead=dead_features(grams),
    )
    if with_spaces and len(targets) > 1:
        began = time.perf_counter()
        spaces = critical_spaces(grams[:JACOBIANS])
        found.seconds["a critical space"] = round((time.perf_counter() - began) / len(spaces), 3)
        found.spaces = [in_space(one, targets, responses, grams, float(run.k)) for one in spaces]
        found.chosen = choose_space(spaces, responses, grams, targets, float(run.k))[0]
    elif run.k and len(targets) >= 8 and _median(found.angles["predicted"]) > FAILED:
        found.halved = in_half(targets, responses, grams, float(run.k))
    return found


def in_half(targets: Tensor, responses: Tensor, grams: Tensor, k: float) -> InSpace:
    """Every second target, in a critical space that the others found and chose: directions that move none of them by
    more than a tenth of what the largest singular value does."""
    spaces = critical_spaces(grams[::2], below=0.1)
    best, _ = choose_space(spaces, responses[::2], grams[::2], targets[::2], k)
    return in_space(spaces[best], targets[1::2], responses[1::2], grams[1::2], k)


def in_space(space: CriticalSpace, targets: Tensor, responses: Tensor, grams: Tensor, k: float) -> InSpace:
    basis = space.basis if space.complement.shape[1] else None
    predicted = solve(responses, grams, k, basis).best
    return InSpace(
        space=space,
        predicted=predicted,
        angles=projected_angle(targets, predicted, responses, k, basis),
        response=projected_angle(targets, responses, responses, k, basis),
        projected=angle(predicted, projected_target(targets, responses, k, basis)),
        inside=fraction_inside(targets, responses, k, basis),
    )


# --- numbers ----------------------------------------------------------------------------------------------------------


def spread(values: Tensor) -> Found:
    """Median, its 95 % bootstrap interval, and quartiles, of values that are numbers."""
    numbers = values[~values.isnan()].double().numpy()
    if not len(numbers):
        return {"median": None, "of": 0}
    drawn = np.random.default_rng(0).choice(numbers, (2000, len(numbers)))
    return {
        "median": _round(np.median(numbers)),
        "interval": [_round(v) for v in np.quantile(np.median(drawn, 1), (0.025, 0.975))],
        "quartiles": [_round(v) for v in np.quantile(numbers, (0.25, 0.75))],
        "of": len(numbers),
    }


def as_dict(one: Measured) -> Found:
    """A run in plain JSON types."""
    predicted = one.angles["predicted"]
    told: Found = {
        "run": one.run.key,
        "features": one.run.features,
        "aggregate": one.run.aggregate,
        "k": one.run.k,
        "parametrization": one.run.parametrization,
        "side": one.run.side,
        "targets": len(predicted),
        "targets_wanted": one.run.sampled + one.run.canonical,
        "angles": {name: spread(values) for name, values in one.angles.items()},
        "share_below_20": _round((predicted < 20).double().mean()),
        "largest_angle": _round(predicted.max()),
        "angle_of_canonical": spread(predicted[one.sparseness > 0.999]),
        "angle_of_sampled": spread(predicted[one.sparseness <= 0.999]),
        "cosines": {name: spread(torch.deg2rad(values).cos()) for name, values in one.angles.items()},
        "alpha": [_round(v) for v in one.alpha[:10]],
        "ssim": {name: spread(values) for name, values in one.ssim.items()},
        "unstable": _round(one.unstable.double().mean()),
        "convergence": convergence(one),
        "dead_features": one.dead,
        "seconds_per_target": one.seconds,
    }
    if one.spaces:
        told["critical_spaces"] = [space_as_dict(space) for space in one.spaces]
        told["chosen_space"] = one.chosen
    if one.halved is not None:
        told["critical_space_of_half"] = space_as_dict(one.halved)
    return told


def space_as_dict(one: InSpace) -> Found:
    features = len(one.space.basis)
    unseen = torch.zeros(features, dtype=torch.float64)
    unseen[min(WITHOUT, features - 1)] = 1
    return {
        "dimension": one.space.dimension,
        "thresholds": [float(f"{v:.3g}") for v in one.space.thresholds],
        "complement_has_ones": _round(one.complement_has(ones(features))),
        f"complement_has_e_{WITHOUT}": _round(one.complement_has(unseen)),
        "angles": spread(one.angles),
        "angles_of_response": spread(one.response),
        "angles_to_projected_target": spread(one.projected),
        "fraction_inside": spread(one.inside),
        "ssim": None if one.ssim is None else spread(one.ssim),
    }


def convergence(one: Measured) -> Found:
    """How the angle depends on how far the ascent had come; thirds of the targets by either measure.

    An image that is no optimum has no objective to recover: of one that is, the smallest singular value is far below
    the second, and more steps gain nothing.
    """
    told: Found = {}
    angles = one.angles["predicted"]
    for name, values in (("ratio of the smallest to the second singular value", one.ratio), ("gain", one.gain)):
        order = values.argsort()
        thirds = [part for part in order.tensor_split(3) if len(part)]
        told[name] = {
            "rank_correlation_with_angle": rank_correlation(values, angles),
            "thirds": [
                {
                    "from": _digits(values[part[0]]),
                    "to": _digits(values[part[-1]]),
                    "median_angle": _round(angles[part].quantile(0.5)),
                    "of": len(part),
                }
                for part in thirds
            ],
        }
    return told


def rank_correlation(a: Tensor, b: Tensor) -> float | None:
    """Spearman's; None where one of them is constant or there are fewer than three."""
    if len(a) < 3 or a.min() == a.max() or b.min() == b.max():
        return None
    return _round(spearmanr(a.numpy(), b.numpy()).statistic)


def numbers(runs: Sequence[Measured], by_features: bool = False) -> Found:
    """What the ledger asks of an experiment, by name; by_features: with the number of features before each name."""
    told: Found = {}
    for one in runs:
        before = f"{one.run.features}: " if by_features else ""
        told |= {
            f"{before}angle to predicted": spread(one.angles["predicted"]),
            f"{before}angle to response": spread(one.angles["response"]),
            f"{before}cosine to predicted": spread(torch.deg2rad(one.angles["predicted"]).cos()),
            f"{before}cosine to response": spread(torch.deg2rad(one.angles["response"]).cos()),
            f"{before}largest angle": _round(one.angles["predicted"].max()),
            f"{before}least SSIM": _round(one.ssim["predicted"].min()),
        }
        told |= {f"{before}alpha {j}": _round(v) for j, v in enumerate(one.alpha[:3].tolist(), 1)}
        told |= {f"{before}SSIM {name}": spread(values) for name, values in one.ssim.items()}
        if one.spaces:
            told |= _numbers_of_spaces(one)
    return told


def _numbers_of_spaces(one: Measured) -> Found:
    features = one.run.features
    dimensions = [space.space.dimension for space in one.spaces]
    told: Found = {
        "dimensions": ", ".join(str(d) for d in dict.fromkeys(dimensions)),
        "chosen dimension": dimensions[one.chosen],
        "largest alpha beside 1": f"alpha_{1 + int(one.alpha[1:].argmax()) + 1}",
    }
    for below in range(3):
        space = one.of_dimension(features - below)
        if space is None:
            names = ("(1, ..., 1)", f"e_{WITHOUT}", "complement", "angle", "90th percentile")
            told |= {f"{features - below}: {name}": "no such space" for name in names}
            told[f"dimension {features - below}"] = "no such space"
            continue
        plain = space_as_dict(space)
        told |= {
            f"dimension {features - below}": features - below,
            f"{features - below}: (1, ..., 1)": plain["complement_has_ones"],
            f"{features - below}: e_{WITHOUT}": plain[f"complement_has_e_{WITHOUT}"],
            f"{features - below}: complement": (
                f"(1, ..., 1): {plain['complement_has_ones']:.3f}, "
                f"e_{WITHOUT}: {plain[f'complement_has_e_{WITHOUT}']:.3f}"
            ),
            f"{features - below}: angle": plain["angles"],
            f"{features - below}: 90th percentile": _round(space.angles.nan_to_num(90.0).quantile(0.9)),
        }
    return told


def ones(features: int) -> Tensor:
    """(1, ..., 1) of unit length."""
    return torch.full((features,), 1 / math.sqrt(features), dtype=torch.float64)


# --- sentences --------------------------------------------------------------------------------------------------------

Question = Callable[[Sequence[Measured]], Answer]


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, and the question of the experiment's runs that decides on it; `beside`: a run of another
    experiment, which is asked together with them, as the last."""

    sentence: str
    question: Question
    beside: Run | None = None

    @property
    def criterion(self) -> str:
        return " ".join((getdoc(self.question) or "").split())

    def answered(self, runs: Sequence[Measured], beside: Measured | None = None) -> Found:
        """The sentence with its criterion, whether it holds, and by which numbers, in plain JSON types."""
        holds, found = None, Found()
        if runs and (self.beside is None or beside is not None):
            holds, found = self.question([*runs, *([beside] if beside is not None else [])])
        return {"sentence": self.sentence, "criterion": self.criterion, "holds": holds, "found": found}


def near_the_target(runs: Sequence[Measured]) -> Answer:
    """The median angle to the predicted objective is at most 15 degrees ("approx. 10"), and at most a tenth of the
    predictions ("very few outliers") are further from the target than the median feature response."""
    (one,) = runs
    predicted, response = (_median(one.angles[name]) for name in ("predicted", "response"))
    outliers = float((one.angles["predicted"] > response).double().mean())
    found = {"median angle": predicted, "share of outliers": _round(outliers)}
    return predicted <= 15 and outliers <= 0.1, found


def responses_are_far(runs: Sequence[Measured]) -> Answer:
    """The median angle to the feature response is between 35 and 55 degrees ("about 45"), and its quartiles are further
    apart than those of the angle to the predicted objective ("with large variance")."""
    (one,) = runs
    median = _median(one.angles["response"])
    apart = {name: _quartile_distance(one.angles[name]) for name in ("response", "predicted")}
    found = {"median angle of responses": median} | {f"between quartiles, {k}": v for k, v in apart.items()}
    return 35 <= median <= 55 and apart["response"] > apart["predicted"], found


def first_contribution_is_all(runs: Sequence[Measured]) -> Answer:
    """alpha_1 is at least 0.9, and every other alpha_j below 0.05."""
    (one,) = runs
    first, other = float(one.alpha[0]), float(one.alpha[1:].max())
    return first >= 0.9 and other < 0.05, {"alpha_1": _round(first), "largest other": _round(other)}


def remains_optimal(runs: Sequence[Measured]) -> Answer:
    """At least nine tenths of the realisations ("almost all") keep an SSIM of 0.7 or more when they are optimised again
    for the predicted objective, and its median is at most 0.05 below that for the target."""
    (one,) = runs
    kept = float((one.ssim["predicted"] >= UNSTABLE).double().mean())
    target, predicted = (_median(one.ssim[name]) for name in ("target", "predicted"))
    found = {"share kept": _round(kept), "SSIM for the target": target, "SSIM for the predicted": predicted}
    return kept >= 0.9 and predicted >= target - 0.05, found


def response_changes_more(runs: Sequence[Measured]) -> Answer:
    """For at least three quarters of the realisations SSIM is lower when they are optimised again for the feature
    response than for the predicted objective."""
    (one,) = runs
    share = float((one.ssim["response"] < one.ssim["predicted"]).double().mean())
    return share >= 0.75, {"share changed more": _round(share)}


def response_is_like_random(runs: Sequence[Measured]) -> Answer:
    """For at least a quarter of the realisations ("in many cases") SSIM for the feature response is at most 0.05 above
    that for a random objective."""
    (one,) = runs
    share = float((one.ssim["response"] <= one.ssim["random"] + 0.05).double().mean())
    return share >= 0.25, {"share like random": _round(share)}


def below_one(runs: Sequence[Measured]) -> Answer:
    """The largest SSIM under re-optimisation for the target is below 1."""
    (one,) = runs
    largest = float(one.ssim["target"].max())
    return largest < 1, {"largest SSIM for the target": round(largest, 6)}


def outliers_show(runs: Sequence[Measured]) -> Answer:
    """Of the predictions more than 45 degrees from the target at least nine tenths have an SSIM below 0.7 when the
    image is optimised again for them. Undecided without such predictions."""
    far = torch.cat([one.angles["predicted"] > 45 for one in runs])
    low = torch.cat([one.ssim["predicted"] < UNSTABLE for one in runs])
    found: Found = {"outliers": int(far.sum()), "of which with a low SSIM": int((far & low).sum())}
    return (None if not far.any() else bool((far & low).sum() >= 0.9 * far.sum())), found


def fails_in_everything(runs: Sequence[Measured]) -> Answer:
    """With C = R^10 the median angle is above 40 degrees (SPEC I.5)."""
    (one,) = runs
    median = _median(one.angles["predicted"])
    return median > 40, {"median angle": median}


def second_is_significant(runs: Sequence[Measured]) -> Answer:
    """alpha_2 is at least 0.1, and the largest beside alpha_1."""
    return _significant(runs, 2)


def third_is_significant(runs: Sequence[Measured]) -> Answer:
    """alpha_3 is at least 0.1, and the largest beside alpha_1."""
    return _significant(runs, 3)


def _significant(runs: Sequence[Measured], which: int) -> Answer:
    (one,) = runs
    alpha = one.alpha
    found = {f"alpha_{j}": _round(v) for j, v in enumerate(alpha[:4].tolist(), 1)}
    return bool(alpha[which - 1] >= 0.1 and int(alpha[1:].argmax()) + 2 == which), found


def ones_are_left_out(runs: Sequence[Measured]) -> Answer:
    """A critical space of one dimension less than features is found, and the cosine between its complement and
    (1, ..., 1) is above 0.99 (SPEC I.5)."""
    (one,) = runs
    space = one.of_dimension(one.run.features - 1)
    if not one.spaces or space is None:
        return (False if one.spaces else None), {}
    cosine = space.complement_has(ones(one.run.features))
    return cosine > 0.99, {"cosine with (1, ..., 1)": _round(cosine)}


def only_one_space(runs: Sequence[Measured]) -> Answer:
    """Beside the whole space exactly one critical space is found for thresholds between 0 and 1."""
    (one,) = runs
    dimensions = [space.space.dimension for space in one.spaces if space.space.dimension < one.run.features]
    return (len(dimensions) == 1 if one.spaces else None), {"dimensions below all": dimensions}


def unseen_class_is_left_out(runs: Sequence[Measured]) -> Answer:
    """A critical space of two dimensions less than features is found, and the projections of (1, ..., 1) and e_4 on its
    complement are longer than 0.95 (SPEC I.5)."""
    (one,) = runs
    space = one.of_dimension(one.run.features - 2)
    if not one.spaces or space is None:
        return (False if one.spaces else None), {}
    plain = space_as_dict(space)
    lengths = plain["complement_has_ones"], plain[f"complement_has_e_{WITHOUT}"]
    return min(lengths) > 0.95, {"(1, ..., 1) in the complement": lengths[0], "e_4 in the complement": lengths[1]}


def good_without_ones(runs: Sequence[Measured]) -> Answer:
    """Known objectives choose the critical space of 9 dimensions, in which the median projected angle is below 20
    degrees and below that of the feature response (SPEC I.5)."""
    return _good_in(runs, 1)


def good_without_unseen(runs: Sequence[Measured]) -> Answer:
    """Known objectives choose the critical space of 8 dimensions, in which the median projected angle is below 20
    degrees and below that of the feature response (SPEC I.5)."""
    return _good_in(runs, 2)


def _good_in(runs: Sequence[Measured], less: int) -> Answer:
    (one,) = runs
    if not one.spaces:
        return None, {}
    chosen, space = one.spaces[one.chosen], one.of_dimension(one.run.features - less)
    found: Found = {"chosen dimension": chosen.space.dimension, "median angle in it": _median(chosen.angles)}
    if space is None:
        return False, found
    own, response = _median(space.angles), _median(space.response)
    dimension = one.run.features - less
    found |= {f"median angle in {dimension}": own, f"of the response in {dimension}": response}
    return chosen.space.dimension == dimension and own < min(20.0, response), found


def bad_angles_have_low_ssim(runs: Sequence[Measured]) -> Answer:
    """In the chosen space, at least nine tenths of the samples that are more than 45 degrees off have an SSIM below 0.7
    when optimised again for what was predicted there. Undecided without such samples or without that SSIM."""
    (one,) = runs
    space = one.spaces[one.chosen] if one.spaces else None
    if space is None or space.ssim is None:
        return None, {}
    far, low = space.angles > 45, space.ssim < UNSTABLE
    found: Found = {"far off": int(far.sum()), "of which with a low SSIM": int((far & low).sum())}
    return (None if not far.any() else bool((far & low).sum() >= 0.9 * far.sum())), found


def unstable_are_not_recovered(runs: Sequence[Measured]) -> Answer:
    """In the chosen space, the median angle of unstable samples is above 20 degrees and above that of the stable ones.
    Undecided without unstable samples."""
    (one,) = runs
    angles = one.spaces[one.chosen].angles if one.spaces else one.angles["predicted"]
    if not one.unstable.any() or one.unstable.all():
        return None, {"unstable": int(one.unstable.sum())}
    bad, good = _median(angles[one.unstable]), _median(angles[~one.unstable])
    found = {"unstable": int(one.unstable.sum()), "median angle, unstable": bad, "stable": good}
    return bad > max(20.0, good), found


def accurate_but_changed_lie_outside(runs: Sequence[Measured]) -> Answer:
    """In the chosen space, stable samples that are predicted to 20 degrees but have an SSIM below 0.7 have a smaller
    median fraction of the target in Z_k^-1 C than those with a higher one. Undecided without either."""
    (one,) = runs
    space = one.spaces[one.chosen] if one.spaces else None
    if space is None or space.ssim is None:
        return None, {}
    accurate = ~one.unstable & (space.angles < 20)
    changed, kept = accurate & (space.ssim < UNSTABLE), accurate & (space.ssim >= UNSTABLE)
    found: Found = {"changed": int(changed.sum()), "kept": int(kept.sum())}
    if not changed.any() or not kept.any():
        return None, found
    inside = [_median(space.inside[some]) for some in (changed, kept)]
    return inside[0] < inside[1], found | {"inside, changed": inside[0], "inside, kept": inside[1]}


def worse_without_cosine(runs: Sequence[Measured]) -> Answer:
    """The median angle in the chosen critical space is larger than that of the same network with k = 2 in its own."""
    medians = []
    for one in runs:
        medians.append(_median(one.spaces[one.chosen].angles if one.spaces else one.angles["predicted"]))
    without, with_cosine = medians
    return without > with_cosine, {"median angle, k = 0": without, "k = 2": with_cosine}


def better_than_response(runs: Sequence[Measured]) -> Answer:
    """For 160 features, and all fewer that were tried, the prediction is nearer to the target than the feature response
    for more targets than chance allows (sign test, one-sided, p below 0.05)."""
    tried = {one.run.features: nearer_than_response(one) for one in runs}
    better_up_to: int | str = "none"
    for features in sorted(tried):
        if not tried[features]:
            break
        better_up_to = features
    if 160 not in tried:
        return None, {}
    return all(better for features, better in tried.items() if features <= 160), {"better up to": better_up_to}


def ssim_of_160(runs: Sequence[Measured]) -> Answer:
    """For 160 features, no SSIM under re-optimisation for the predicted objective is below 0.89."""
    one = _with(runs, 160)
    if one is None:
        return None, {}
    least = float(one.ssim["predicted"].min())
    return least >= 0.89, {"least SSIM of 160": _round(least)}


def perpendicular_above_288(runs: Sequence[Measured]) -> Answer:
    """For every number of features above 288 that was tried, at least nine tenths of the angles ("almost all") are 70
    degrees or more."""
    return _perpendicular(runs, 288, lambda share: share >= 0.9)


def perpendicular_above_256(runs: Sequence[Measured]) -> Answer:
    """For every number of features above 256 that was tried, more than half of the angles ("most") are 70 degrees or
    more."""
    return _perpendicular(runs, 256, lambda share: share > 0.5)


def _perpendicular(runs: Sequence[Measured], above: int, enough: Callable[[float], bool]) -> Answer:
    shares = {one.run.features: float((one.angles["predicted"] >= 70).double().mean()) for one in runs}
    many = {features: value for features, value in shares.items() if features > above}
    if not many:
        return None, {}
    found: Found = {f"share of 70 to 90 degrees, {features}": _round(value) for features, value in many.items()}
    first = next((features for features in sorted(shares) if enough(shares[features])), None)
    found["perpendicular from"] = first if first else f"none up to {max(shares)}"
    return all(enough(value) for value in many.values()), found


def degrades_with_features(runs: Sequence[Measured]) -> Answer:
    """Some number of features has a median angle more than 10 degrees above that of the fewest features, and so have
    all larger ones. Undecided with fewer than three numbers of features."""
    medians = {one.run.features: _median(one.angles["predicted"]) for one in sorted(runs, key=lambda r: r.run.features)}
    tried = list(medians)
    if len(tried) < 3:
        return None, {}
    worse = [features for features in tried if medians[features] > medians[tried[0]] + 10]
    begins = next((f for f in tried if all(other in worse for other in tried if other >= f)), None)
    return begins is not None, {"degradation begins at": begins if begins else f"none up to {tried[-1]}"}


def slight_increase(runs: Sequence[Measured]) -> Answer:
    """For every number of features the median angle is below 20 degrees, and the largest median is at most 10 degrees
    above that of the fewest features ("only slight increases"). Undecided with fewer than three numbers of features."""
    ordered = sorted(runs, key=lambda r: r.run.features)
    medians = [_median(one.angles["predicted"]) for one in ordered]
    if len(medians) < 3:
        return None, {}
    increase = _round(max(medians) - medians[0])
    found = {"largest median angle": max(medians), "increase": increase}
    for one in ordered:
        if one.halved is not None:
            found[f"{one.run.features}: median angle in a critical space"] = _median(one.halved.angles)
    return max(medians) < 20 and increase <= 10, found


def close_to_perfect(runs: Sequence[Measured]) -> Answer:
    """alpha_1 is at least 0.9."""
    (one,) = runs
    return float(one.alpha[0]) >= 0.9, {
        "alpha_1": _round(one.alpha[0]),
        "median angle": _median(one.angles["predicted"]),
    }


def not_meaningful(runs: Sequence[Measured]) -> Answer:
    """alpha_1 is below 0.5: less than half of the target is in the prediction."""
    (one,) = runs
    return float(one.alpha[0]) < 0.5, {
        "alpha_1": _round(one.alpha[0]),
        "median angle": _median(one.angles["predicted"]),
    }


def reliable(runs: Sequence[Measured]) -> Answer:
    """The median angle is below 20 degrees, and below that of the feature response."""
    (one,) = runs
    predicted, response = (_median(one.angles[name]) for name in ("predicted", "response"))
    found = {"median angle": predicted, "of the response": response}
    if one.halved is not None:
        found |= {
            "dimension of a critical space": one.halved.space.dimension,
            "median angle in it": _median(one.halved.angles),
            "of the response in it": _median(one.halved.response),
        }
    return predicted < min(20.0, response), found


def slightly_more(runs: Sequence[Measured]) -> Answer:
    """The median angle is below 20 degrees, and at most 10 degrees above that of the maximum-then-mean aggregation."""
    other, pooled = (_median(one.angles["predicted"]) for one in runs)
    found = {"median angle": other, "more than beside": _round(other - pooled)}
    return other < 20 and other - pooled <= 10, found


def not_influenced(runs: Sequence[Measured]) -> Answer:
    """The median angle is within 5 degrees of that of the RGB parametrization; where that is above 45 degrees, and
    nothing is recovered, those in critical spaces count (within 10 degrees: every second target only)."""
    other, rgb = (_median(one.angles["predicted"]) for one in runs)
    found = {"median angle": other, "more than beside": _round(other - rgb)}
    if rgb <= FAILED:
        return abs(other - rgb) <= 5, found
    halves = [one.halved for one in runs]
    if any(half is None for half in halves):
        return None, found
    other, rgb = (_median(half.angles) for half in halves if half is not None)
    found |= {"median angle in a critical space": other, "more than beside in it": _round(other - rgb)}
    return abs(other - rgb) <= 10, found


def within_5(runs: Sequence[Measured]) -> Answer:
    """No angle is larger than 5 degrees."""
    return _within(runs, 5, strictly=False)


def below_20(runs: Sequence[Measured]) -> Answer:
    """Every angle is below 20 degrees."""
    return _within(runs, 20, strictly=True)


def _within(runs: Sequence[Measured], degrees: float, *, strictly: bool) -> Answer:
    (one,) = runs
    angles = one.angles["predicted"]
    inside = angles < degrees if strictly else angles <= degrees
    found = {"largest angle": _round(angles.max()), "share within": _round(inside.double().mean())}
    return bool(inside.all()), found


def nearer_than_response(one: Measured) -> bool:
    """Sign test, one-sided, p below 0.05: predictions are nearer to their targets than responses are."""
    nearer = int((one.angles["predicted"] < one.angles["response"]).sum())
    return bool(binomtest(nearer, len(one.angles["predicted"]), alternative="greater").pvalue < 0.05)


def _with(runs: Sequence[Measured], features: int) -> Measured | None:
    return next((one for one in runs if one.run.features == features), None)


def _median(values: Tensor) -> float:
    # A target with nothing in the space has no angle to what is recovered there: not recovered at all.
    return _round(values.double().nan_to_num(nan=90.0).quantile(0.5))


def _quartile_distance(values: Tensor) -> float:
    return _round(values.double().quantile(0.75) - values.double().quantile(0.25))


def _round(value: Any) -> float:
    return round(float(value), 4)


def _digits(value: Tensor) -> float:
    return float(f"{float(value):.3g}")
