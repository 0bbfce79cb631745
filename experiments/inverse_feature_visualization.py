"""Paper 1's experiments E1 to E25 (SPEC I.2): is the objective of an image recovered, and what spoils it?

    python experiments/inverse_feature_visualization.py E1 E2          # makes what is missing, then says what it shows
    python experiments/inverse_feature_visualization.py --all --parts 1          # the first 8 targets of everything
    python experiments/inverse_feature_visualization.py --all --summary-only     # of what was made already
    python experiments/inverse_feature_visualization.py --list
    python experiments/inverse_feature_visualization.py --all --workers 2    # or --ray ADDRESS: several parts at once

Every experiment is one or several runs (`inverse_runs.py`), some of them shared; what they show is summed up in
`inverse_summary.py`. Writes `results/inverse_E1.json` and others, and `docs/pictures/inverse-E1.png` and others.

ResNet-50's `layer2.0`, 512 filters at 64 pixels, stands for GoogLeNet's inception4c (SqueezeNet's `features.12` cannot:
what its squeeze layer lets through leaves 200 of its 512 features' singular values below a thousandth of the largest);
the DenseNets and SRNet are our own. The paper has 300 targets; ours are fewer, and results say how many.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import inverse_figures
import inverse_summary as ask
from figure import write_rows
from inverse_runs import ADAM, AGAIN, LAST, Run, climbed, made, make, parametrized, similarity, targets
from inverse_summary import Claim, Measured
from job_arguments import add_job_arguments, check_job_arguments
from preimage.images import written_whole
from preimage.objectives import Aggregate, floored_cosines
from preimage.optimization import Adam, Stage

PUBLISHED = 300
"""Targets of each of the paper's experiments (section 3.4)."""
GOOGLENET_GRID = (32, 96, 192, 256, 384, 512)
DENSENET_GRID = (32, 96, 160, 224, 288, 342)
"""Numbers of features of E6, E7, E11 and E12; the paper's are all multiples of 32 (and 342)."""


@dataclass(frozen=True)
class Experiment:
    """section: of the paper. runs: in the order in which figures show them. claims: what the paper says of it."""

    section: str
    runs: tuple[Run, ...]
    claims: tuple[Claim, ...]

    @property
    def has_spaces(self) -> bool:
        """Critical spaces are looked for among logits (E2 to E5)."""
        return self.runs[0].tap == "classifier"


def _filters(features: int, k: int, parametrization: str = "rgb") -> Run:
    """GoogLeNet's rows. All 512 filters with k = 2 have more targets: that is E1."""
    half = 24 if (features, k, parametrization) == (512, 2, "rgb") else 4 if parametrization != "rgb" else 2
    return Run("resnet50", "layer2.0", features, "max-mean", k, parametrization, 64, half, half)


def _dense(features: int, k: int, aggregate: Aggregate = "max-mean", parametrization: str = "rgb") -> Run:
    return Run("cifar10", "dense3", features, aggregate, k, parametrization, 32, 8, 8)


def _logits(network: str, k: int) -> Run:
    # (no aggregation of logits, whatever this says: they have no positions)
    return Run(network, "classifier", 10, "mean", k, "rgb", 32, 48, 10)


def _surfaces(mask: str, k: int) -> Run:
    # The paper speaks of 64 sampled targets, and of no canonical ones.
    return Run("super-resolution", "blocks.7", 64, "max-mean", k, mask, 32, 16, 0)


SIMPLE, LOGITS = "3.4, The Simple Case", "3.5, Utilizing the Critical Space"
COSINE, OTHERS = "3.6, Dropping the Cosine Term", "3.7, Different Parameterizations"

OUTLIERS = Claim(
    "Except for the very few occasional outliers which can be filtered out by re-optimizing the input w.r.t. the "
    "predicted objective and investigating the SSIM index, the target objective is reliably recovered.",
    ask.outliers_show,
)
RELIABLE = Claim(
    "Interestingly, when the experiments are conducted with k = 2, accurate predictions are obtained.", ask.reliable
)
SLIGHT = Claim(
    "When increasing the number of features [...], we notice only slight increases in angular distances with "
    "prediction quality being similar to the results of Sec. 3.4.",
    ask.slight_increase,
)
AGGREGATION = (
    "When [...] exchanging the aggregation function by averaging or picking [...], we notice only slight increases in "
    "angular distances with prediction quality being similar to the results of Sec. 3.4."
)
FAILS = "Grad-IFV fails to extract meaningful predictions for averaging- and picking-aggregations"
NO_INFLUENCE = (
    "Although the image quality of the resulting realizations change notably, the quality of predicted objectives is "
    "not influenced."
)
WITHIN_5 = Claim(
    "Grad-IFV always recovers the 64 sampled target objectives accurately up to an angular distance of 5 degrees.",
    ask.within_5,
)
BELOW_20 = Claim(
    "We even obtain reliable results with angular distances < 20 degrees, when dropping the cosine term.", ask.below_20
)
UNRELIABLE = (
    "When running the experiments again with the cosine term dropped (k = 0), predictions may become unreliable."
)
ONES = Claim(
    "For DNcl, a single 9-dimensional critical space C_1 is determined, of which the complement is spanned by "
    "(approximately) (1, ..., 1).",
    ask.ones_are_left_out,
)
ONES_AGAIN = Claim("The same critical space C_1 is retrieved for DN4cl,", ask.ones_are_left_out)
UNSEEN = Claim(
    "accompanied by a second one C_2 of 8 dimensions with its complement being spanned by (1, ..., 1) and e_4.",
    ask.unseen_class_is_left_out,
)
OF_LOGITS = (
    Claim("When predicting objectives [...] as in the previous section, Grad-IFV fails.", ask.fails_in_everything),
    Claim(
        "All samples with high angular distance to the target objective exhibit a low SSIM index.",
        ask.bad_angles_have_low_ssim,
    ),
    Claim(
        "Target objectives cannot be recovered accurately for samples where FV failed to find a stable optimum.",
        ask.unstable_are_not_recovered,
    ),
    Claim(
        "There exists a cluster of (stable) samples for which the SSIM index is low although the prediction is "
        "accurate. All samples in the cluster have in common that a notable fraction of their target objectives is "
        "located in the subspace which we just factored out.",
        ask.accurate_but_changed_lie_outside,
    ),
)
ALL = _filters(512, 2)

EXPERIMENTS = {
    "E1": Experiment(
        SIMPLE,
        (ALL,),
        (
            Claim(
                "The predictions show only a deviation of approx. 10 degrees with very few outliers.",
                ask.near_the_target,
            ),
            Claim(
                "The angular distance between targets and feature responses is about 45 degrees with large variance.",
                ask.responses_are_far,
            ),
            Claim(
                "alpha_1 = 1 (approximately) holds true for the scenario of Sec. 3.4.", ask.first_contribution_is_all
            ),
            Claim(
                "High SSIM indices confirm that almost all realizations remain optima under the predicted objectives,",
                ask.remains_optimal,
            ),
            Claim(
                "yet there is clearly more change happening when re-optimizing for the feature response.",
                ask.response_changes_more,
            ),
            Claim(
                "In many cases re-optimizing for the feature response yields similar results to re-optimizing for a "
                "random vector.",
                ask.response_is_like_random,
            ),
            Claim(
                "The SSIM index is strictly lower than one when re-optimizing for the target objective.", ask.below_one
            ),
            OUTLIERS,
        ),
    ),
    "E2": Experiment(
        LOGITS,
        (_logits("cifar10", 2),),
        (
            ONES,
            Claim("For DNcl, a single [...] critical space C_1 is determined.", ask.only_one_space),
            Claim(
                "The horizontal bars indicate additional contributions indicated by significant values for alpha_2",
                ask.second_is_significant,
            ),
            Claim("Grad-IFV performs well for one particular critical space (C_1 for DNcl).", ask.good_without_ones),
            *OF_LOGITS,
        ),
    ),
    "E3": Experiment(
        LOGITS,
        (_logits("cifar10-without-4", 2),),
        (
            ONES_AGAIN,
            UNSEEN,
            Claim("Additional contributions indicated by significant values for alpha_3", ask.third_is_significant),
            Claim("Grad-IFV performs well for one particular critical space (C_2 for DN4cl).", ask.good_without_unseen),
            *OF_LOGITS,
        ),
    ),
    "E4": Experiment(
        LOGITS,
        (_logits("cifar10", 0),),
        (ONES, Claim(UNRELIABLE, ask.worse_without_cosine, _logits("cifar10", 2))),
    ),
    "E5": Experiment(
        LOGITS,
        (_logits("cifar10-without-4", 0),),
        (ONES_AGAIN, UNSEEN, Claim(UNRELIABLE, ask.worse_without_cosine, _logits("cifar10-without-4", 2))),
    ),
    "E6": Experiment(
        COSINE,
        tuple(_dense(features, 0) for features in DENSENET_GRID),
        (
            Claim(
                "When only considering the first 160 convolution filters [...], predicted objectives still perform "
                "significantly better than just estimating the target via the feature response.",
                ask.better_than_response,
            ),
            Claim("The SSIM index obtained by re-optimization does not drop below 0.89.", ask.ssim_of_160),
            Claim("For more features, prediction quality starts to degenerate quickly.", ask.degrades_with_features),
            Claim(
                "When considering more than 288 of the 342 available filters in DNde, almost all angular distances are "
                "in the range from 70 to 90 degrees.",
                ask.perpendicular_above_288,
            ),
        ),
    ),
    "E7": Experiment(
        COSINE,
        tuple(_filters(features, 0) for features in GOOGLENET_GRID),
        (
            Claim(
                "When increasing the feature count [...], degradation starts to set in for 96 features and continues "
                "up to 256.",
                ask.degrades_with_features,
            ),
            Claim(
                "Beyond, most predicted objectives are perpendicular to the target objective.",
                ask.perpendicular_above_256,
            ),
        ),
    ),
    "E8": Experiment(
        COSINE,
        (_dense(80, 0),),
        (
            Claim(
                "The results for max pooling followed by averaging are close to perfect (80 filters).",
                ask.close_to_perfect,
            ),
        ),
    ),
    "E9": Experiment(COSINE, (_dense(80, 0, "mean"),), (Claim(FAILS, ask.not_meaningful),)),
    "E10": Experiment(COSINE, (_dense(80, 0, "centre"),), (Claim(FAILS, ask.not_meaningful),)),
    "E11": Experiment(COSINE, tuple(_dense(features, 2) for features in DENSENET_GRID), (SLIGHT, OUTLIERS)),
    "E12": Experiment(COSINE, tuple(_filters(features, 2) for features in GOOGLENET_GRID), (SLIGHT, OUTLIERS)),
    "E13": Experiment(COSINE, (_dense(80, 2),), (RELIABLE, OUTLIERS)),
    "E14": Experiment(
        COSINE, (_dense(80, 2, "mean"),), (Claim(AGGREGATION, ask.slightly_more, _dense(80, 2)), RELIABLE, OUTLIERS)
    ),
    "E15": Experiment(
        COSINE, (_dense(80, 2, "centre"),), (Claim(AGGREGATION, ask.slightly_more, _dense(80, 2)), RELIABLE, OUTLIERS)
    ),
    "E16": Experiment(OTHERS, (_dense(342, 2),), (RELIABLE,)),
    **{
        name: Experiment(
            OTHERS,
            (_dense(342, 2, parametrization=kind),),
            (Claim(NO_INFLUENCE, ask.not_influenced, _dense(342, 2)), RELIABLE),
        )
        for name, kind in (("E17", "fft"), ("E18", "fft-e"))
    },
    "E19": Experiment(OTHERS, (ALL,), (RELIABLE,)),
    **{
        name: Experiment(OTHERS, (_filters(512, 2, kind),), (Claim(NO_INFLUENCE, ask.not_influenced, ALL), RELIABLE))
        for name, kind in (("E20", "fft"), ("E21", "fft-e"))
    },
    "E22": Experiment(OTHERS, (_surfaces("mask=1", 2),), (WITHIN_5,)),
    "E23": Experiment(OTHERS, (_surfaces("mask free", 2),), (WITHIN_5,)),
    "E24": Experiment(OTHERS, (_surfaces("mask=1", 0),), (BELOW_20,)),
    "E25": Experiment(OTHERS, (_surfaces("mask free", 0),), (BELOW_20,)),
}


def kept(run: Run, most: int | None = None) -> dict[str, Any] | None:
    """The parts of a run that exist, as `made` returns them, without making any; None if there are none."""
    count = 0
    while (most is None or count < most) and (run.folder / f"{count:03d}.pt").exists():
        count += 1
    return made(run, count) if count else None


def shown(run: Run, samples: dict[str, Any] | None, with_spaces: bool, making: bool) -> Measured | None:
    """What a run shows. In critical spaces, images are optimised again for what was recovered there (making: where
    that is still missing)."""
    if samples is None:
        return None
    found = ask.measured(run, samples, with_spaces)
    wanted = {id(one): one for one in (found.of_dimension(run.features - less) for less in (0, 1, 2)) if one}
    if found.spaces:
        wanted[id(found.spaces[found.chosen])] = found.spaces[found.chosen]
    for one in wanted.values():
        if one.space.dimension == run.features:
            one.ssim = samples["ssim predicted"]  # (with C = R^n the run itself has done it)
        else:
            one.ssim = optimised_again(run, samples, one.predicted, f"space-{one.space.dimension}", making)
    return found


def optimised_again(run: Run, samples: dict[str, Any], objectives: Tensor, name: str, making: bool) -> Tensor | None:
    """SSIM [N] of a run's images before and after they are optimised again for other objectives, kept beside the run's
    parts; None where it is missing and not to be made."""
    path = run.folder / f"again-{name}.pt"
    if path.exists():
        before = torch.load(path, weights_only=True)
        if before["objectives"].shape == objectives.shape and torch.allclose(before["objectives"], objectives):
            ssim: Tensor = before["ssim"]
            return ssim
    if not making:
        return None
    start = samples["parameters"]
    stages = (Stage(AGAIN, Adam(0.05), asks=floored_cosines),)
    after = [
        picture
        for some, asked in zip(start.split(8), objectives.split(8), strict=True)
        for picture in climbed(run, asked, some, stages).pictures()
    ]
    images = parametrized(run).picture(start).float()
    ssim = torch.tensor([similarity(a, b) for a, b in zip(images, after, strict=True)])
    with written_whole(path) as file:
        torch.save({"objectives": objectives, "ssim": ssim}, file)
    return ssim


def summed_up(
    name: str, experiment: Experiment, runs: Sequence[Measured], beside: dict[str, Measured]
) -> dict[str, Any]:
    """An experiment in plain JSON types; beside: runs of other experiments that claims compare with, by their key."""
    wanted = {run.key for run in experiment.runs}
    wanted |= {claim.beside.key for claim in experiment.claims if claim.beside is not None}
    claims = [
        claim.answered(runs, None if claim.beside is None else beside.get(claim.beside.key))
        for claim in experiment.claims
    ]
    return {
        "experiment": name,
        "section": experiment.section,
        "command": f"python experiments/inverse_feature_visualization.py {name}",
        "claims": claims,
        # What the ledger takes from here, by name; of the experiment's runs, and what claims were judged by.
        "numbers": ask.numbers(runs, len(experiment.runs) > 1)
        | {key: value for claim in claims for key, value in claim["found"].items()},
        "seconds": {"machine": f"{platform.machine()}, one thread of two cores, others busy"} | runs[-1].seconds,
        "targets": {one.run.key: len(one.gain) for one in runs},
        "targets_published": PUBLISHED,
        "steps": {"adam": ADAM, "lbfgs": LAST, "again": AGAIN},
        "not_run": sorted(wanted - {one.run.key for one in runs} - beside.keys()),
        "runs": [ask.as_dict(one) for one in runs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", metavar="E", help="E1 to E25")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--parts", type=int, help="of each run only the first so many parts, of 8 targets each")
    parser.add_argument("--summary-only", action="store_true", help="make nothing; of what was made already")
    parser.add_argument("--list", action="store_true", help="which runs belong to which, and how far each is")
    add_job_arguments(parser)
    asked = parser.parse_args()
    check_job_arguments(parser, asked)
    names = list(EXPERIMENTS) if asked.all or asked.list else asked.which
    unknown = [name for name in names if name not in EXPERIMENTS]
    if unknown or not names:
        parser.error(f"there is no {', '.join(unknown)}; one of {', '.join(EXPERIMENTS)}" if unknown else "which?")
    torch.set_num_threads(1)
    if asked.list:
        for name in names:
            for run in EXPERIMENTS[name].runs:
                there = len(list(run.folder.glob("[0-9]*.pt")))
                print(f"{name:4} {run.key}: {there} of {-(-len(targets(run)) // 8)} parts")
        return
    if not asked.summary_only and (asked.workers > 1 or asked.ray is not None):
        # All at once, so that nobody waits for the last part of an experiment.
        make([run for name in names for run in EXPERIMENTS[name].runs], asked.parts, asked.workers, asked.ray)
    for name in names:
        experiment = EXPERIMENTS[name]
        if not asked.summary_only:
            make(experiment.runs, asked.parts)
        said(name, experiment, asked.parts, not asked.summary_only)


def said(name: str, experiment: Experiment, parts: int | None, making: bool) -> None:
    samples = {run.key: kept(run, parts) for run in experiment.runs}
    found = [shown(run, samples[run.key], experiment.has_spaces, making) for run in experiment.runs]
    runs = [one for one in found if one is not None]
    if not runs:
        print(f"{name}: not run; python experiments/inverse_feature_visualization.py {name}")
        return
    others = {claim.beside.key: claim.beside for claim in experiment.claims if claim.beside is not None}
    beside = {key: shown(run, kept(run), experiment.has_spaces, False) for key, run in others.items()}
    told = summed_up(name, experiment, runs, {key: one for key, one in beside.items() if one is not None})
    write_rows(f"inverse_{name}", told)
    inverse_figures.drawn(name, runs)
    if name == "E1":
        inverse_figures.sheet(name, runs[0], torch.load(experiment.runs[0].folder / "000.pt", weights_only=True))
    for claim in told["claims"]:
        verdict = {True: "holds", False: "does not hold", None: "undecided"}[claim["holds"]]
        print(f"{name}: {verdict}: {claim['sentence']} {claim['found']}")


if __name__ == "__main__":
    main()
