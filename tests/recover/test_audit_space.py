"""What an audit leaves out: directions that move none of several pictures, as the other pictures' objectives decide."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import preimage as pi
from preimage.objectives import channel, direction
from preimage.optimization import LBFGS, Adam, Stage
from preimage.parametrizations import SigmoidPixels
from preimage.priors import L2
from preimage.recipes import Recipe
from preimage.recover import Audit, CriticalSpace, FoundSpaces, Sensitivity, angle, choose_space, critical_spaces
from preimage.recover.audit_space import COUNT, JUDGES, SharedSpaces, all_angles, chosen_by, distinct, shared_spaces
from preimage.recover.solving import stretching

CLASSES = 6
ONES = torch.ones(CLASSES, dtype=torch.float64) / CLASSES**0.5
TAP = "6"


def network(dead: int | None = None) -> pi.Network:
    """Whose answers always add up to the same, as a classifier's do that was trained long enough."""
    torch.manual_seed(0)
    head = nn.Linear(16, CLASSES)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 5, 2), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    )
    with torch.no_grad():
        head.weight *= 10
        if dead is not None:
            head.weight[dead] = 0
        moving = [i for i in range(CLASSES) if i != dead]
        head.weight[moving] -= head.weight[moving].mean(0)
    return pi.Network(module, 16, name="centred")


@pytest.fixture(scope="module")
def made() -> pi.Result:
    return pi.maximize(network(), [channel(TAP, i) for i in range(5)], recipe="plain", steps=300)


@pytest.fixture(scope="module")
def audits(made: pi.Result) -> list[Audit]:
    return made.audit()


def planted(count: int, features: int, idle: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Responses, Gram matrices and targets of nearly maxima without a cosine (k = 0): what x has beside the idle
    directions moves them a thousandth of what others do, and idle^T Dy = 0."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randn(count, features, dtype=torch.float64, generator=generator)
    jacobians = torch.randn(count, features, 4 * features, dtype=torch.float64, generator=generator)
    out = targets - targets @ idle @ idle.mT
    out = (out / out.norm(dim=1, keepdim=True))[..., None]
    jacobians = jacobians - 0.999 * out @ (out.mT @ jacobians) - idle @ (idle.mT @ jacobians)
    responses = targets + torch.randn(count, features, dtype=torch.float64, generator=generator)
    return responses, jacobians @ jacobians.mT, targets


def each(responses: Tensor, grams: Tensor) -> list[Sensitivity]:
    features = torch.arange(responses.shape[1])
    return [Sensitivity(responses[[i]], grams[[i]], features, 100) for i in range(len(grams))]


def test_what_moves_no_picture_is_named_first_unless_it_is_left_out(made: pi.Result, audits: list[Audit]) -> None:
    for asked, (before, after) in enumerate(zip(made.audit(space=False), audits, strict=True)):
        assert before.left_out is None
        # Z_k x is the idle direction.
        trivial = stretching(before.recovery.response, 2.0) @ ONES
        assert float(angle(before.recovery.objective, trivial)) < 0.01
        assert before.angle > 45
        assert after.recovery.strongest(1)[0][0] == asked
        assert after.left_out is not None and after.left_out.pictures == 5
        assert float(angle(after.left_out.directions[:, 0], ONES)) < 1e-4
        assert after.left_out.moved < 1e-5
    # Section 3.3: about 10 degrees.
    assert torch.tensor([one.angle for one in audits]).median() < 10


def test_both_angles_are_told_the_projected_and_the_plain(audits: list[Audit]) -> None:
    """The answer has none of (1, ..., 1), the channel 1 / sqrt(6) of it."""
    for one in audits:
        assert one.left_out is not None
        # Z_k moves the admissible space a little off C, so that the shares are those of Z_k^-1 C.
        assert one.plain_cosine == pytest.approx(one.cosine * one.left_out.share**0.5, abs=1e-9)
        assert one.inside == pytest.approx(one.cosine**2, abs=1e-9)
        said = one.as_dict()
        assert said["angle"] < said["plain_angle"]


def test_the_asked_residual_is_one_of_the_space(audits: list[Audit]) -> None:
    for one in audits:
        values = one.recovery.singular_values
        assert len(values) == CLASSES - 1
        assert float(values[0] / values[-1]) * (1 - 1e-9) <= one.residual <= 1


def test_it_says_what_was_left_out(audits: list[Audit]) -> None:
    said = json.loads(json.dumps(audits[0].as_dict(), allow_nan=False))
    assert "left out 1 direction that moves none of the 5 pictures" in audits[0].says()
    assert audits[0].says().endswith("0.41 of each of the 6 channels")
    assert said["left_out"]["directions"] == 1 and said["left_out"]["pictures"] == 5
    assert len(audits[0].recovery.settings["critical_space"]["left_out"][0]) == CLASSES


def test_too_few_pictures_have_no_space(made: pi.Result) -> None:
    assert all(one.left_out is None for one in made.audit([0, 1, 2]))
    assert all(one.left_out is not None for one in made.audit([0, 1, 2, 3]))


def test_the_same_asked_twice_counts_once(made: pi.Result) -> None:
    assert all(one.left_out is None for one in made.audit([0, 1, 2, 2, 1]))


def test_groups_are_of_one_question(made: pi.Result) -> None:
    """Two and two pictures of different powers are no four."""
    assert made.made is not None
    own = made.made.objectives
    other = [direction(TAP, torch.eye(CLASSES)[i], 1.0).bind(made.made.network) for i in range(5)]
    mixed = replace(made, made=replace(made.made, objectives=[*own[:2], *other[2:]]))
    assert all(one.left_out is None for one in mixed.audit())


def test_an_audit_does_not_confirm_itself(made: pi.Result) -> None:
    """Said to have been asked for what it was not, a picture still names what it shows, by the others' space."""
    assert made.made is not None
    other = channel(TAP, 5).bind(made.made.network)
    lied = replace(made, made=replace(made.made, objectives=[other, *made.made.objectives[1:]]))
    found = lied.audit()[0]
    assert found.left_out is not None
    assert found.recovery.strongest(1)[0][0] == 0
    assert found.angle > 60


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(4, 7))
def test_its_own_objective_does_not_decide(seed: int, count: int) -> None:
    idle = torch.linalg.qr(torch.randn(9, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1)))[0]
    responses, grams, targets = planted(count, 9, idle, seed)
    seen = each(responses, grams)
    changed = targets.clone()
    changed[0] = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 2))
    first, second = shared_spaces(seen, targets, 0.0), shared_spaces(seen, changed, 0.0)
    assert first is not None and second is not None
    if len(distinct(targets)) == len(distinct(changed)) == count:
        assert first.judges(targets[0]) == second.judges(changed[0]) == list(range(1, count))
        assert first.chosen(targets[0]) == second.chosen(changed[0])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), power=st.sampled_from([0.0, 2.0]))
def test_it_chooses_as_choose_space_does(seed: int, power: float) -> None:
    idle = torch.eye(8, dtype=torch.float64)[:, :2]
    responses, grams, targets = planted(6, 8, idle, seed)
    spaces = critical_spaces(grams)
    angles = all_angles(spaces, responses, grams, targets, power)
    for out in range(6):
        some = [i for i in range(6) if i != out]
        best, medians = choose_space(spaces, responses[some], grams[some], targets[some], power)
        assert chosen_by(spaces, angles, some) == best
        assert torch.allclose(angles[:, some, some].quantile(0.5, dim=1), medians, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), idle=st.integers(0, 3))
def test_what_is_planted_is_found_and_nothing_else(seed: int, idle: int) -> None:
    directions = torch.linalg.qr(
        torch.randn(10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    )[0][:, :idle]
    responses, grams, targets = planted(6, 10, directions, seed)
    found = shared_spaces(each(responses, grams), targets, 0.0)
    assert found is not None
    best, median = found.chosen(targets[0])
    complement = found.spaces[best].complement
    assert complement.shape[1] == idle
    assert torch.allclose(complement @ complement.mT, directions @ directions.mT, atol=1e-6)
    assert median is not None and median < 1


def gradual(residual: float) -> tuple[list[Sensitivity], Tensor]:
    """Directions of all sizes, the same in all pictures, without a gap between the idle and the others; and maxima, of
    whose objectives so much of the gradient is left."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(6, 30, dtype=torch.float64, generator=generator)
    targets[:, :16] = 0
    targets /= targets.norm(dim=1, keepdim=True)
    kept = torch.eye(30, dtype=torch.float64) - (1 - residual) * targets[:, :, None] * targets[:, None, :]
    jacobians = kept @ torch.logspace(-3.5, 0, 30, dtype=torch.float64).diag()
    return each(targets, jacobians @ jacobians.mT), targets


def test_without_a_gap_spaces_are_taken_that_help() -> None:
    seen, targets = gradual(0.01)
    found = shared_spaces(seen, targets, 0.0)
    assert found is not None and found.apart == 1
    own = []
    for i, target in enumerate(targets):
        best, median = found.chosen(target)
        left_out = found.spaces[best].complement.shape[1]
        # The targets have nothing of the first sixteen directions.
        assert 1 <= left_out <= 16
        assert median is not None and median < 45
        own.append(float(found.angles[best, i, i]))
    assert found.angles[0].diagonal().min() > 80
    assert torch.tensor(own).median() < 45


def test_without_a_gap_spaces_are_not_taken_that_do_not_help() -> None:
    seen, targets = gradual(1.0)
    found = shared_spaces(seen, targets, 0.0)
    assert found is not None and found.apart == 1 and len(found.spaces) > 5
    assert all(found.chosen(target)[0] == 0 for target in targets)


def test_a_gap_goes_before_a_smaller_angle() -> None:
    spaces = [CriticalSpace.without(torch.eye(20, dtype=torch.float64)[:, :count]) for count in (0, 1, 5)]
    targets = torch.eye(20, dtype=torch.float64)[-4:]

    def chosen(*own: float) -> int:
        angles = torch.full((3, 4, 4), 90.0, dtype=torch.float64)
        for space, degrees in enumerate(own):
            angles[space].fill_diagonal_(degrees)
        return SharedSpaces(spaces, 2, targets, angles, [0.0] * 3).chosen(targets[0])[0]

    assert chosen(90, 30, 5) == 1  # of use, and set apart by a gap
    assert chosen(90, 60, 5) == 2  # no use, but another is
    assert chosen(90, 60, 50) == 0  # none is


def test_where_known_objectives_are_not_found_nothing_is_left_out() -> None:
    """Jacobians that have nothing to do with what was asked: the idle direction explains nothing by being out."""
    idle = torch.full((12, 1), 12**-0.5, dtype=torch.float64)
    responses, grams, _ = planted(6, 12, idle, 0)
    other = torch.randn(6, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = shared_spaces(each(responses, grams), other, 0.0)
    assert found is not None and len(found.spaces) > 1
    best, median = found.chosen(other[0])
    assert best == 0 and median is not None and median > 45


def test_it_is_said_where_no_known_objective_is_found_again(made: pi.Result) -> None:
    assert made.made is not None
    turned = [channel(TAP, (i + 1) % 5).bind(made.made.network) for i in range(5)]
    for one in replace(made, made=replace(made.made, objectives=turned)).audit():
        assert one.left_out is None
        assert any("of the 4 other pictures, what was asked is not found again either" in note for note in one.notes)


def test_what_was_asked_never_vanishes_silently() -> None:
    asked = [channel(TAP, i) for i in range(5)] + [direction(TAP, ONES.float())]
    made = pi.maximize(network(), asked, recipe="plain", steps=300)
    *others, last = made.audit()
    alone = made.audit([5], space=False)[0]
    assert all(one.left_out is not None and not one.notes for one in others)
    assert last.left_out is None and last.angle == last.plain_angle == pytest.approx(alone.angle)
    (note,) = last.notes
    assert note.startswith("1.00 of what was asked lies in the direction that moves none of the 6 pictures")


def test_dead_features_are_put_back() -> None:
    made = pi.maximize(network(dead=2), [channel(TAP, i) for i in (0, 1, 3, 4, 5)], recipe="plain", steps=300)
    wanted = torch.ones(CLASSES, dtype=torch.float64)
    wanted[2] = 0
    for asked, one in zip((0, 1, 3, 4, 5), made.audit(), strict=True):
        assert one.recovery.dead == [2]
        assert one.left_out is not None and one.left_out.directions.shape == (CLASSES, 1)
        assert float(angle(one.left_out.directions[:, 0], wanted)) < 1e-4
        assert one.recovery.strongest(1)[0][0] == asked
        assert float(one.recovery.objective[2]) == 0


def test_a_picture_asked_for_a_dead_feature_judges_nobody() -> None:
    responses, grams, targets = planted(JUDGES + 1, 8, torch.eye(8, dtype=torch.float64)[:, :1], 0)
    grams[:, 3] = 0
    grams[:, :, 3] = 0
    targets[0] = torch.eye(8, dtype=torch.float64)[3]
    assert shared_spaces(each(responses, grams), targets, 0.0) is None


def test_a_space_of_ones_own(made: pi.Result, audits: list[Audit]) -> None:
    space = CriticalSpace.without(ONES[:, None])
    spaces = FoundSpaces(
        [CriticalSpace.whole(CLASSES), space], torch.zeros(2), 1, torch.eye(CLASSES), made_up_sensitivity(), 2.0
    )
    for given_space in (space, spaces):
        for own, found in zip(made.audit([0, 1], space=given_space), audits, strict=False):
            assert own.left_out is not None and own.left_out.pictures == 0
            assert own.angle == pytest.approx(found.angle, abs=1e-3)
            assert "left out 1 direction as told: 0.41 of each of the 6 channels" in own.says()
    whole = made.audit([0], space=CriticalSpace.whole(CLASSES))[0]
    assert whole.left_out is None and whole.angle == made.audit([0], space=False)[0].angle


def made_up_sensitivity() -> Sensitivity:
    return Sensitivity(torch.ones(1, CLASSES), torch.eye(CLASSES)[None], torch.arange(CLASSES), 1)


def test_a_space_of_other_features_is_refused(made: pi.Result) -> None:
    with pytest.raises(pi.RequestError, match="the critical space has 7 features, but '6' was asked for 6"):
        made.audit(space=CriticalSpace.whole(7))


def test_other_terms_are_no_features() -> None:
    recipe = Recipe(
        "tried",
        "-",
        "-",
        lambda *size: SigmoidPixels(*size[:3]),
        (Stage(20, Adam(0.05)), Stage(10, LBFGS(), regularizers=(L2(1.0),), smoothing=0.01)),
    )
    made = pi.maximize(network(), [channel(TAP, i) for i in range(4)], recipe=recipe)
    assert all(one.left_out is None for one in made.audit())
    with pytest.raises(pi.RequestError, match="also optimises other terms"):
        made.audit(space=CriticalSpace.without(ONES[:, None]))


def test_distinct_objectives() -> None:
    eye = torch.eye(40, dtype=torch.float64)
    near = eye[0] + 0.1 * eye[1]  # 5.7 degrees
    assert distinct(torch.stack([eye[0], near, -eye[0], eye[1], torch.zeros_like(near)])) == [0, 3]
    chosen = distinct(eye)
    assert len(chosen) == len(set(chosen)) == COUNT
