"""Paper 3's experiments: every criterion both ways, on made-up numbers, and measures of theirs on made-up images."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

import preimage as pi
import sampling_captions as captions
import sampling_conditions as conditions
import sampling_diversity
import sampling_inpainting as inpainting
import sampling_losses
import sampling_setup as setup
import sampling_sweeps
import sampling_table
import sampling_variants as variants
from preimage.errors import RequestError
from preimage.network.densenet import MEAN, STD
from preimage.priors import TotalVariation
from preimage.sample import Prior
from preimage.sample.architectures import Encoder, Generator
from sampling_claims import Claim, NotMeasuredError, answers, never_increases, of

# --- claims -----------------------------------------------------------------------------------------------------------


def row(**numbers: Any) -> dict[str, Any]:
    return numbers


def sweeps() -> dict[str, Any]:
    noise = {"0.1": 0.2, "1e-05": 0.7, "1e-09": 0.8, "1e-13": 0.8, "1e-17": 0.8}
    pull = {"1": 0.1, "0.1": 0.1, "0.01": 0.5, "0.001": 0.7, "0.0001": 0.75, "1e-05": 0.8, "0": 0.8}
    memory = {"1": 0.0, "0.1": 0.0, "0.01": 0.2, "0.001": 0.4, "0.0001": 0.6, "1e-05": 0.7, "0": 0.95}
    rows = {
        name: {
            "value": float(name),
            "accuracy": quality,
            "autocorrelation": memory[name],
            "change": 0.1 if name == "0" else 0.6,
            "between chains": 0.8,
        }
        for name, quality in pull.items()
    }
    bears = {"0": 0.9, "0.01": 0.9, "0.1": 0.88, "0.2": 0.82, "0.3": 0.6, "0.4": 0.4}
    return {
        "eps_3": {name: row(accuracy=one) for name, one in noise.items()},
        "eps_1": rows,
        "code noise": {name: row(share=float(name), accuracy=one) for name, one in bears.items()},
    }


def chains() -> dict[str, Any]:
    memory = {"PPGN-x": 0.95, "DGN-AM": 0.9, "PPGN-h": 0.9, "joint": 0.3, "noiseless": 0.4, "joint-x": 0.8}
    quality = {"PPGN-x": 0.1, "DGN-AM": 0.3, "PPGN-h": 0.3, "joint": 0.6, "noiseless": 0.7, "joint-x": 0.2}
    quality |= {"no prior": 0.1, "Gaussian prior": 0.15, "blur": 0.3, "total variation": 0.3}
    rows = {name: row(accuracy=one, autocorrelation=memory.get(name, 0.9)) for name, one in quality.items()}
    rows["DGN-AM"] |= {"change": 0.1, "between chains": 0.7}
    rows["no prior"] |= {"probability": 0.99}
    return rows


def table() -> dict[str, Any]:
    return {
        "real": row(accuracy=0.9, inception_score=7.0, ms_ssim=0.1, more_diverse=9),
        "noiseless-joint": row(accuracy=0.7, inception_score=5.0, ms_ssim=0.2, more_diverse=6),
        sampling_table.TUNED: row(accuracy=0.7, inception_score=5.0, ms_ssim=0.2, more_diverse=6),
        "dgn-am": row(accuracy=0.6, inception_score=4.0, ms_ssim=0.5, more_diverse=1),
        "joint": row(accuracy=0.65, inception_score=5.0, ms_ssim=0.2, more_diverse=6),
    }


def generators() -> dict[str, Any]:
    share = {"photos": 0.06, "all": 0.05, "without GAN": 0.01, "without h1": 0.05, "without h": 0.05}
    distance = {"photos": 0.0, "all": 6.0, "without GAN": 9.0, "without h1": 8.0, "without h": 5.0}
    return {name: {"high-frequency share": share[name], "frechet": distance[name], "accuracy": 0.7} for name in share}


def many() -> dict[str, Any]:
    return {
        "chains": {"above": 500, "samples": 2000, "ms_ssim": 0.2, "ms_ssim of real images": 0.1},
        "copies": {"suspicious": 1, "of": 100, "p": 0.6},
    }


def other_conditions() -> dict[str, Any]:
    units = {}
    for which, seen in (("one class", 1.5), ("many classes", 5.0)):
        units[f"{which}, noiseless-joint"] = {
            "above 99 % of photos": 0.8,
            "ms_ssim": 0.2,
            "classes that the judge sees": seen,
        }
        units[f"{which}, dgn-am"] = {"ms_ssim": 0.4}
    key = "top 5 of the judge"
    return {
        "units": units,
        "imagenet": {"seen, noiseless-joint": {key: 0.5}, "unseen, noiseless-joint": {key: 0.3}},
        "without-4": {conditions.WITHOUT: row(accuracy=0.7)},
    }


def told() -> dict[str, Any]:
    return {
        "told": {"class": 0.7, "background": 0.6},
        "published": {"class": 0.4, "background": 0.5},
        "alone": {"class": 0.72, "background": 0.2},
        "captions": {"more": 15, "less": 3, "of": 20},
    }


def filled() -> dict[str, Any]:
    ways = ("photo", "mean colour", "PPGN", *(f"context {one:g}" for one in inpainting.CONTEXTS))
    rows = {
        way: {
            "seam": 0.2,
            "accuracy": 0.8,
            "known pixels changed": 0.0,
            "SSIM around the hole": 0.7,
            "p": 0.001,
        }
        for way in ways
    }
    rows["photo"]["seam"] = 0.08
    rows["mean colour"]["accuracy"] = 0.6
    rows["context 1e-06"]["seam"] = 0.1
    return rows


MEASURED: dict[str, tuple[ModuleType, Callable[[], dict[str, Any]]]] = {
    "sweeps": (sampling_sweeps, sweeps),
    "variants": (variants, chains),
    "table": (sampling_table, table),
    "losses": (sampling_losses, generators),
    "diversity": (sampling_diversity, many),
    "conditions": (conditions, other_conditions),
    "captions": (captions, told),
    "inpainting": (inpainting, filled),
}

Change = tuple[Sequence[str], Any]
SPOILED: dict[str, dict[str, tuple[Change, ...]]] = {
    "sweeps": {
        "tiny_noise_is_best": ((("eps_3", "1e-05", "accuracy"), 0.9), (("eps_3", "0.1", "accuracy"), 0.78)),
        "no_pull_no_mixing": ((("eps_1", "0", "change"), 0.5), (("eps_1", "1", "change"), 0.05)),
        "more_pull_more_mixing": (
            (("eps_1", "0.001", "autocorrelation"), 0.8),
            (("eps_1", "0", "autocorrelation"), 0.04),
        ),
        "too_much_pull_ignores_class": ((("eps_1", "0.1", "accuracy"), 0.45),),
        "papers_pull_is_best": ((("eps_1", "0.001", "accuracy"), 0.9), (("eps_1", "1e-05", "autocorrelation"), 0.94)),
        "robust_to_a_fifth": ((("code noise", "0.2", "accuracy"), 0.8),),
    },
    "variants": {
        "pixels_mix_poorly": ((("PPGN-x", "autocorrelation"), 0.4), (("PPGN-x", "accuracy"), 0.7)),
        "dgn_am_mixes_poorly": ((("DGN-AM", "change"), 0.4),),
        "code_denoiser_does_not_help": ((("PPGN-h", "autocorrelation"), 0.8), (("PPGN-h", "accuracy"), 0.4)),
        "noiseless_improves": (
            (("noiseless", "autocorrelation"), 0.85),
            (("DGN-AM", "accuracy"), 0.66),
            (("PPGN-h", "accuracy"), 0.66),
        ),
        "joint_faster_but_worse": ((("joint", "autocorrelation"), 0.5), (("joint", "accuracy"), 0.8)),
        "ordered": ((("joint", "accuracy"), 0.75), (("DGN-AM", "accuracy"), 0.65), (("PPGN-x", "accuracy"), 0.31)),
        "joint_x_between": ((("joint-x", "accuracy"), 0.05), (("joint-x", "accuracy"), 0.65)),
        "fooled_without_prior": ((("no prior", "probability"), 0.8), (("no prior", "accuracy"), 0.68)),
        "hand_designed_below_learned": ((("blur", "accuracy"), 0.7), (("Gaussian prior", "accuracy"), 0.8)),
    },
    "table": {
        "recognised": (((sampling_table.TUNED, "accuracy"), 0.59),),
        "as_diverse": (((sampling_table.TUNED, "ms_ssim"), 0.26),),
        "less_diverse_without_prior": ((("dgn-am", "ms_ssim"), 0.19),),
        "better_than_dgn_am": ((("dgn-am", "accuracy"), 0.66), (("dgn-am", "ms_ssim"), 0.1)),
        "below_real": (
            (("noiseless-joint", "accuracy"), 0.91),
            (("noiseless-joint", "inception_score"), 7.0),
            (("noiseless-joint", "ms_ssim"), 0.05),
            (("noiseless-joint", "more_diverse"), 9),
        ),
        "noiseless_better_than_joint": ((("joint", "accuracy"), 0.75),),
    },
    "losses": {
        "blurry_without_gan": (
            (("without GAN", "high-frequency share"), 0.04),
            (("all", "high-frequency share"), 0.005),
        ),
        "pool5_is_best": ((("all", "frechet"), 4.0), (("without h1", "frechet"), 4.0)),
        "fc6_is_worse": ((("without h1", "frechet"), 4.0),),
        "without_h_is_best": ((("without GAN", "frechet"), 4.0),),
    },
    "diversity": {
        "enough_sure": ((("chains", "above"), 399),),
        "diverse_in_a_class": ((("chains", "ms_ssim"), 0.26),),
        "no_memory": ((("copies", "p"), 0.04),),
    },
    "conditions": {
        "excites_hidden_units": ((("units", "many classes, noiseless-joint", "above 99 % of photos"), 0.4),),
        "facets_of_units": (
            (("units", "one class, dgn-am", "ms_ssim"), 0.1),
            (("units", "many classes, noiseless-joint", "classes that the judge sees"), 2.5),
        ),
        "unseen_data": ((("imagenet", "unseen, noiseless-joint", "top 5 of the judge"), 0.2),),
        "any_network": ((("without-4", conditions.WITHOUT, "accuracy"), 0.5),),
    },
    "captions": {
        "drawn_as_told": ((("told", "class"), 0.4), (("captions", "less"), 14)),
        "class_is_not_lost": ((("told", "class"), 0.6),),
    },
    "inpainting": {
        "known_pixels_stay": ((("context 1e-05", "known pixels changed"), 0.025),),
        "fills_in_what_is_asked": ((("mean colour", "accuracy"), 0.78),),
        "fails_at_the_border": ((("photo", "seam"), 0.11),),
        "context_helps": ((("context 1e-09", "p"), 0.06),),
        "context_helps_at_best": ((("context 1e-06", "p"), 0.02),),
    },
}
UNDECIDED = {
    "sweeps": {
        "tiny_noise_is_best": [("eps_3", name, "accuracy") for name in ("0.1", "1e-05", "1e-09", "1e-13", "1e-17")],
        "too_much_pull_ignores_class": [("eps_1", name, "accuracy") for name in sweeps()["eps_1"]],
        "papers_pull_is_best": [("eps_1", name, "accuracy") for name in sweeps()["eps_1"]],
        "robust_to_a_fifth": [("code noise", name, "accuracy") for name in sweeps()["code noise"]],
    },
    "captions": {"class_is_not_lost": [("told", "class"), ("alone", "class")]},
}
ALL = [(room, claim) for room, (module, _) in MEASURED.items() for claim in module.CLAIMS]


def changed(measured: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    measured = copy.deepcopy(measured)
    place = measured
    for step in path[:-1]:
        place = place[step]
    assert path[-1] in place
    place[path[-1]] = value
    return measured


@pytest.mark.parametrize(("room", "claim"), ALL, ids=[f"{room}: {claim.question.__name__}" for room, claim in ALL])
def test_each_claim_holds_and_fails_by_its_criterion(room: str, claim: Claim) -> None:
    good = MEASURED[room][1]()
    assert claim.answered(good)["holds"] is True
    for path, value in SPOILED[room][claim.question.__name__]:
        assert claim.answered(changed(good, path, value))["holds"] is False, (path, value)
    assert claim.answered({})["holds"] is None
    assert claim.criterion and not claim.criterion.startswith("None")


@pytest.mark.parametrize("room", UNDECIDED)
def test_where_nothing_is_recognised_nothing_is_decided(room: str) -> None:
    for claim in MEASURED[room][0].CLAIMS:
        measured = MEASURED[room][1]()
        for path in UNDECIDED[room].get(claim.question.__name__, []):
            measured = changed(measured, path, 0.12)
        decided = claim.answered(measured)["holds"]
        assert (decided is None) == (claim.question.__name__ in UNDECIDED[room])


def test_the_ledger_reads_what_the_sweeps_found() -> None:
    assert sampling_sweeps.printed(sweeps()) == {
        "best eps_3": "1e-09, 1e-13, 1e-17",
        "best eps_1": "0.0001",
        "class ignored from": "0.1",
        "no mixing": "0",
        "code noise borne": "up to 20 %",
    }
    steady = sweeps()
    for one in steady["eps_1"].values():
        one |= {"accuracy": 0.8, "change": 0.7}
    found = sampling_sweeps.printed(steady)
    assert (found["class ignored from"], found["no mixing"]) == ("none", "none")


def test_the_ledger_reads_the_table_as_the_paper_prints_it() -> None:
    one = row(accuracy=0.596, inception_score=60.6, inception_score_deviation=1.6, ms_ssim=0.23)
    one |= row(ms_ssim_deviation=0.11, more_diverse=829, classes=[{}] * 1000)
    assert list(sampling_table.printed({"PPGN": one})["PPGN"].values()) == [
        "59.6 %",
        "60.60 ± 1.60",
        "0.23 ± 0.11",
        "829 / 1000",
    ]


def test_answers_are_of_plain_types() -> None:
    found = answers(sampling_table.CLAIMS, table())
    assert [one["holds"] for one in found] == [True] * len(sampling_table.CLAIMS)
    assert all({"sentence", "criterion", "holds", "numbers"} == one.keys() for one in found)
    told_of = answers(captions.CLAIMS, told())
    assert json.loads(json.dumps(told_of)) == told_of


def test_what_was_not_measured_is_missing() -> None:
    assert of({"a": {"b": 0}}, "a", "b") == 0
    for measured in ({}, {"a": {}}, {"a": {"b": None}}):
        with pytest.raises(NotMeasuredError, match="b of a"):
            of(measured, "a", "b")


@example([0.0, 0.04, 0.08], 0.05)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 0.5))
def test_never_increases_is_said_of_pairs(values: list[float], by: float) -> None:
    pairs = all(values[j] <= values[i] + by for j in range(len(values)) for i in range(j))
    assert never_increases(values, by) == pairs


# --- measures ---------------------------------------------------------------------------------------------------------


def cloud(mean: Tensor, spreads: Tensor) -> Tensor:
    """Points whose mean and (diagonal) covariance are exactly these."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(200, len(mean), generator=generator, dtype=torch.float64)
    points = points - points.mean(0)
    whitened = points @ torch.linalg.inv(torch.linalg.cholesky(points.T.cov())).mT
    return whitened * spreads + mean


def test_frechet_of_gaussians_is_the_closed_form() -> None:
    mean, other = torch.tensor([1.0, 2, 3, 0], dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    spread, another = torch.tensor([1.0, 2, 3, 0.5]), torch.tensor([2.0, 2, 1, 0.5])
    one, two = cloud(mean, spread), cloud(other, another)
    assert setup.frechet(one, two) == pytest.approx(14 + 1 + 4, abs=1e-9)
    assert setup.frechet(one, one) == pytest.approx(0, abs=1e-9)
    # Turning both together changes nothing, also where covariances do not commute with the axes.
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    assert setup.frechet(one @ turn, two @ turn) == pytest.approx(19, abs=1e-9)


def test_frechet_where_covariances_do_not_commute() -> None:
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    one, two = cloud(torch.zeros(3), torch.ones(3)) @ mixing, cloud(torch.zeros(3), torch.tensor([1.0, 2, 3]))
    s, t = one.T.cov(), two.T.cov()
    both = torch.linalg.eigvals(s @ t).real.sqrt().sum()
    assert setup.frechet(one, two) == pytest.approx(float(s.trace() + t.trace() - 2 * both), rel=1e-9)


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=20)
def test_hand_designed_priors_smooth(seed: int) -> None:
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    for smooth in (variants.blurred, variants.smoother):
        after = smooth(images)
        assert after.shape == images.shape and after.min() >= 0 and after.max() <= 1
        assert (TotalVariation(1.0, beta=2.0).energy(after) < TotalVariation(1.0, beta=2.0).energy(images)).all()
        flat = images.mean((2, 3), keepdim=True).expand_as(images)
        assert torch.allclose(smooth(flat), flat, atol=1e-6)


def test_blur_is_a_gaussian() -> None:
    dot = torch.zeros(1, 1, 15, 15)
    dot[0, 0, 7, 7] = 1
    made = variants.blurred(dot, 1.0)[0, 0]
    assert float(made.sum()) == pytest.approx(1, abs=1e-6)
    assert float(made[7, 9] / made[7, 7]) == pytest.approx(math.exp(-2), rel=1e-5)
    assert torch.allclose(made, made.mT)


def test_smoother_moves_towards_the_four_neighbours() -> None:
    dot = torch.zeros(1, 1, 5, 5)
    dot[0, 0, 2, 2] = 1
    made = variants.smoother(dot, 0.5)[0, 0]
    assert made[2, 2] == 0.5 and made[1, 2] == made[2, 1] == 0.125 and made[1, 1] == 0


def test_seam_is_the_step_across_the_border() -> None:
    holes = torch.stack([inpainting.hole(0, 0), inpainting.hole(9, 4), inpainting.hole(18, 18)])
    images = holes[:, None].expand(-1, 3, -1, -1).float() * 0.5 + 0.25
    assert torch.allclose(inpainting.seam(images, holes), torch.tensor(0.5))
    ramp = (torch.arange(32) / 31).expand(3, 3, 32, 32)
    # Every second border of a hole in the middle runs along the ramp; at a corner, too.
    assert torch.allclose(inpainting.seam(ramp, holes), torch.tensor(0.5 / 31))
    assert torch.equal(inpainting.seam(torch.full((3, 3, 32, 32), 0.7), holes), torch.zeros(3))


@given(st.integers(0, 18), st.integers(0, 18))
def test_what_is_near_a_hole_holds_all_of_it(top: int, left: int) -> None:
    missing = inpainting.hole(top, left)
    assert int(missing.sum()) == inpainting.HOLE**2 and missing[top, left] and missing[top + 13, left + 13]
    cut = inpainting.near(missing[None].float(), missing)
    assert cut.shape == (1, 30, 30) and int(cut.sum()) == inpainting.HOLE**2


def test_a_hole_gets_the_mean_colour_of_the_rest() -> None:
    photos = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    holes = torch.stack([inpainting.hole(2, 3), inpainting.hole(10, 18)])
    made = inpainting.with_mean(photos, holes)
    for i in range(2):
        assert torch.equal(made[i][:, ~holes[i]], photos[i][:, ~holes[i]])
        mean = photos[i][:, ~holes[i]].mean(1)
        assert torch.allclose(made[i][:, holes[i]], mean[:, None].expand(-1, 196))


def test_best_context_keeps_the_class() -> None:
    rows = filled()
    assert inpainting.best_context(rows) == "context 1e-06"
    rows["context 1e-06"]["accuracy"] = 0.7
    rows["context 1e-05"]["seam"] = 0.15
    assert inpainting.best_context(rows) == "context 1e-05"
    for way in rows:
        rows[way]["accuracy"] = 0.1 if way.startswith("context") else 0.8
    assert inpainting.best_context(rows) == inpainting.PAPERS


def test_sign_test_of_seams() -> None:
    one, other = torch.zeros(6), torch.tensor([1.0, 1, 1, 1, 1, 0])
    assert inpainting.nearer(one, other) == {"smaller seam": 5, "larger seam": 0, "p": 0.03125}
    assert inpainting.nearer(one, one)["p"] == 1


def test_images_stand_where_the_grid_says() -> None:
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 2, 2) / 4
    made = sampling_diversity.laid_out(images, torch.tensor([[2, -1], [0, 1]]))
    assert made.shape == (1, 4, 4)
    assert torch.equal(made[0, ::2, ::2], torch.tensor([[0.5, 1.0], [0.0, 0.25]]))


def test_copies_are_tested_against_chance() -> None:
    none, some = (torch.arange(100) < count for count in (1, 6))
    assert sampling_diversity.remembered(none)["p"] == pytest.approx(1 - 0.99**100, rel=1e-3)
    assert sampling_diversity.remembered(some)["p"] < 0.001


def test_effective_number_of_classes() -> None:
    assert conditions.effective(torch.tensor([3, 3, 3])) == 1
    assert conditions.effective(torch.arange(12) % 4) == pytest.approx(4)


def test_channels_are_chosen_by_their_strongest_photos() -> None:
    labels = torch.arange(40) % 4
    shares = torch.full((40, 8), 0.01)
    shares[labels == 2, 5] = 0.9  # one class
    shares[:10, 1] = 0.8  # all classes
    assert conditions.two_channels(shares, labels, 10) == {"one class": 5, "many classes": 1}


# --- captions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("colour", "said"),
    [
        ((0.1, 0.1, 0.1), "dark grey"),
        ((0.5, 0.5, 0.5), "grey"),
        ((0.9, 0.9, 0.95), "bright grey"),
        ((0.9, 0.2, 0.2), "dark red"),
        ((0.8, 0.6, 0.3), "bright red"),
        ((0.2, 0.5, 0.2), "green"),
        ((0.4, 0.5, 0.9), "blue"),
        ((0.1, 0.1, 0.4), "dark blue"),
        ((0.6, 0.9, 0.7), "bright green"),
    ],
)
def test_background_is_that_of_the_border(colour: tuple[float, ...], said: str) -> None:
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    inside = image[:, 4:-4, 4:-4].clone()
    image[:] = torch.tensor(colour)[:, None, None]
    image[:, 4:-4, 4:-4] = inside
    (found,) = captions.backgrounds(image[None])
    assert str(found) == said


def test_captions_are_words_that_are_known() -> None:
    for label in range(10):
        for brightness in range(3):
            for colour in range(4):
                said = captions.caption(label, captions.Background(brightness, colour))
                numbers = captions.tokens(said)
                assert len(numbers) == captions.LENGTH and numbers[-1] == 0  # (its end is always there)
                assert " ".join(captions.WORDS[i] for i in numbers if i) == said


@pytest.fixture(scope="module")
def captioner() -> tuple[captions.Captioner, pi.Network]:
    torch.manual_seed(0)
    encoder = pi.Network(Encoder(3, 32, 10, width=4, code=16).eval(), 32, MEAN, STD, name="E")
    return captions.Captioner(encoder.module, 4 * 4 * 16, width=24).eval(), encoder


def test_features_are_the_taps(captioner: tuple[captions.Captioner, pi.Network]) -> None:
    writer, encoder = captioner
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    place = pi.Place("pool5", after_relu=True)
    own = writer.features(encoder.prepare(images))
    assert torch.allclose(own, encoder.run(images, [place])[place].flatten(1), atol=1e-6)


def test_what_is_written_is_likeliest_word_by_word(captioner: tuple[captions.Captioner, pi.Network]) -> None:
    writer, _ = captioner
    features = torch.randn(5, 256, generator=torch.Generator().manual_seed(2)) * 3
    words = writer.write(features)
    after = writer.after(features, words)
    assert torch.equal(after.argmax(2), words)
    assert torch.allclose(after.exp().sum(2), torch.ones(5, captions.LENGTH), atol=1e-5)
    # A word does not depend on those after it.
    other = words.clone()
    other[:, 4:] = 3
    assert torch.equal(writer.after(features, other)[:, :5], after[:, :5])


def test_a_captions_condition_is_its_log_probability(captioner: tuple[captions.Captioner, pi.Network]) -> None:
    writer, encoder = captioner
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    said = "a frog on a dark green background"
    network, objective = captions.condition(writer, encoder, said)
    bound = objective.bind(network)
    score = bound.score(network.run(images, bound.places()))
    features = writer.features(encoder.prepare(images))
    numbers = captions.tokens(said)[: len(said.split()) + 1]
    by_hand = torch.zeros(2)
    for place, word in enumerate(numbers):
        before = torch.tensor([numbers[:place] + [0]]).expand(2, -1)
        by_hand += writer.after(features, before)[:, place, word]
    assert numbers[-1] == 0 and torch.allclose(score, by_hand, atol=1e-4)


# --- chains -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> setup.World:
    torch.manual_seed(0)
    encoder = pi.Network(Encoder(3, 32, 10, width=4, code=16).eval(), 32, MEAN, STD, name="E")
    generator = Generator((16,), 3, 32, width=4).eval()
    with torch.no_grad():  # (so that codes can say much)
        for one in generator.parameters():
            one.mul_(3)
    prior = Prior(generator, encoder, code=pi.Place("fc6", True), match=pi.Place("pool5", True), mean_code=0.5)
    return setup.World(prior, None, encoder, encoder, missing={"code-denoiser": "train it"})


def test_chains_of_classes_are_told_apart(world: setup.World) -> None:
    photos = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    of_photos = setup.walked(world, "noiseless-joint", [2, 5], steps=4, every=2, photos=photos)
    samples, codes, scores = setup.by_class(of_photos, 2)
    assert samples.shape == (2, 2, 3, 3, 32, 32) and codes.shape == (2, 2, 3, 16) and scores.shape == (2, 2, 3)
    for i in range(3):
        assert torch.equal(samples[1, :, i], of_photos[i].samples[:, 1])
    (of_noise,) = setup.walked(world, "dgn-am", [2, 5], steps=4, every=2, chains=3)
    samples, _, scores = setup.by_class([of_noise], 2)
    assert torch.equal(samples[1], of_noise.samples[:, 3:]) and torch.equal(scores[0], of_noise.scores[:, :3])


def test_what_is_measured_of_chains_is_of_late_samples(world: setup.World) -> None:
    found = setup.walked(world, "noiseless-joint", [2, 5], steps=12, every=2, chains=3)
    said = setup.measured_chains(world, found, [2, 5], every=2, settled=4)
    late = found[0].samples[2:]  # after steps 6, 8, 10 and 12
    right = [
        float((world.judge.class_scores(late[:, i : i + 3].flatten(0, 1)).argmax(1) == label).double().mean())
        for i, label in ((0, 2), (3, 5))
    ]
    assert said["accuracy"] == pytest.approx(sum(right) / 2, rel=1e-3) and said["samples"] == 24
    assert said["probability"] == pytest.approx(float(found[0].scores[2:].exp().mean()), rel=1e-3)
    assert said["lag"] == 4


def test_last_samples_are_kept_and_are_of_their_seed(
    world: setup.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "SAMPLES", tmp_path)
    monkeypatch.setattr(setup, "AT_ONCE", 2)
    made = setup.last_samples(world, "noiseless-joint", 3, 3, steps=2)
    assert made.shape == (3, 3, 32, 32) and len(list(tmp_path.iterdir())) == 1
    assert torch.equal(setup.last_samples(world, "noiseless-joint", 3, 3, steps=2), made)
    assert len(list(tmp_path.iterdir())) == 1
    assert not torch.equal(setup.last_samples(world, "noiseless-joint", 3, 3, steps=2, seed=1), made)
    assert not torch.allclose(
        made[0], made[2], atol=1e-4
    )  # (chains of the second batch are others than those of the first)


def test_a_sampler_without_its_part_says_how_to_train_it(world: setup.World) -> None:
    with pytest.raises(RequestError, match="train it"):
        world.prior_for("ppgn-h")
    assert world.prior_for("dgn-am") is world.prior


def test_photos_to_start_from_are_of_other_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.arange(400) % 10
    images = labels[:, None, None, None].expand(-1, 3, 4, 4).to(torch.uint8)
    monkeypatch.setattr(setup, "pictures", lambda split: (images, labels))
    found = (setup.photos_beside([1, 7], 11)[:, 0, 0, 0] * 255).round().long()
    assert len(found) == 11 and not ({1, 7} & set(found.tolist())) and len(set(found.tolist())) == 8
    turn = (setup.photos_of(None, 23)[:, 0, 0, 0] * 255).round().long()
    assert torch.equal(turn, setup.labels_of_turn(23))
    assert ((setup.photos_of(6, 5)[:, 0, 0, 0] * 255).round() == 6).all()
