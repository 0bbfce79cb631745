"""Objectives that change with time, with the view or with the place on a canvas, and how large a canvas has to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from preimage import Network, Place, RequestError, UnknownTapError
from preimage.objectives import (
    EachItsOwn,
    EachView,
    InSequence,
    Objective,
    channel,
    each_view,
    in_sequence,
    label,
    residual,
)
from preimage.optimization import Ascent, Climb, Stage, climb
from preimage.parametrizations import Pixels
from preimage.transforms import Transform, WindowsAround

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
C, SIDE, CLASSES = 2, 5, 3
A = Place("a")


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Linear(nn.Module):
    """scores = W x, so that the gradient of class k is row k of W."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(0, CLASSES, C * SIDE * SIDE))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T


def linear() -> tuple[Network, Tensor]:
    """A network and its rows as images [classes, C, SIDE, SIDE]."""
    module = Linear()
    return Network(module, SIDE, channels=C), module.weight.detach().view(CLASSES, C, SIDE, SIDE)


def climbed(
    network: Network,
    members: Sequence[Objective],
    start: Tensor,
    steps: int,
    transforms: tuple[Transform, ...] = (),
    referee: Any = None,
) -> Climb:
    asked = EachItsOwn(tuple(members)).bind(network)
    assert isinstance(asked, EachItsOwn)
    stages = [Stage(steps, Ascent(1.0), transforms=transforms)]
    kind = Pixels(*start.shape[1:])
    return climb(network, asked, kind, start, stages, torch.Generator().manual_seed(0), referee=referee)


# --- one after the other ------------------------------------------------------------------------------------------


def asked_at_each_step(shares: Sequence[float], steps: int) -> list[int]:
    """Which member is asked, step by step."""
    members = [channel("a", i) for i in range(len(shares))]
    objective = in_sequence(members, shares)
    assert objective.at(1.0) is members[-1]
    return [members.index(objective.at(step / steps)) for step in range(steps)]  # type: ignore[arg-type]


@few
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 4))
def test_members_are_asked_in_order_each_for_its_share_of_the_steps(shares: list[int], times: int) -> None:
    asked = asked_at_each_step(shares, sum(shares) * times)
    assert asked == [i for i, share in enumerate(shares) for _ in range(share * times)]


@few
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=5), st.integers(1, 200))
def test_shares_of_broken_steps_are_met_up_to_one_step(shares: list[float], steps: int) -> None:
    asked = asked_at_each_step(shares, steps)
    assert asked == sorted(asked)
    ends = [sum(shares[: i + 1]) / sum(shares) * steps for i in range(len(shares))]
    assert all(abs(sum(one <= i for one in asked) - end) <= 1 for i, end in enumerate(ends))


@pytest.mark.parametrize(
    ("shares", "steps"),
    [
        ([1, 1, 2], 4),
        ([3, 5], 80),
        ([0.5, 0.25, 0.25], 12),
        ([0.1, 0.2, 0.7], 10),
        ([1, 3, 9, 1, 9], 23),
        ([1 / 3, 1 / 3, 1 / 3], 3000),
    ],
)
def test_shares_of_whole_steps_are_met_exactly(shares: list[float], steps: int) -> None:
    counts = [round(share / sum(shares) * steps) for share in shares]
    assert asked_at_each_step(shares, steps) == [i for i, count in enumerate(counts) for _ in range(count)]


def test_a_sequence_within_a_sequence_goes_through_all_its_members() -> None:
    members = [channel("a", i) for i in range(4)]
    objective = in_sequence([in_sequence(members[:2]), in_sequence(members[2:])])
    assert [objective.at(step / 8) for step in range(8)] == [one for one in members for _ in range(2)]


@few
@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=4), st.integers(1, 3))
def test_sequences_within_sequences_are_exact_too(shares: list[list[int]], times: int) -> None:
    """Three deep: whole steps for every one of the innermost."""
    counts = [times * share for one in shares for share in one]
    members = iter(asked := [channel("a", i) for i in range(len(counts))])
    inner = [in_sequence([next(members) for _ in one], one) for one in shares]
    objective: Objective = in_sequence(inner, [sum(one) for one in shares])
    steps = 2 * sum(counts)
    last = channel("b", 0)
    objective = in_sequence([objective, last])
    found = [objective.at(step / steps) for step in range(steps)]
    expected = [one for one, count in zip(asked, counts, strict=True) for _ in range(count)]
    assert found == expected + [last] * sum(counts)
    assert objective.at(1.0) == last


def test_shares_are_equal_by_default() -> None:
    members = [channel("a", i) for i in range(3)]
    assert [in_sequence(members).at(step / 6) for step in range(6)] == [one for one in members for _ in range(2)]


@pytest.mark.parametrize(
    ("count", "shares"), [(0, None), (2, [1.0]), (1, [1.0, 1.0]), (2, [1.0, 0.0]), (2, [1.0, -1.0]), (0, [])]
)
def test_a_sequence_needs_a_share_for_each(count: int, shares: list[float] | None) -> None:
    with pytest.raises(RequestError, match=f"one share above zero for each of its objectives, not .* for {count}"):
        in_sequence([channel("a", i) for i in range(count)], shares)


def test_a_sequence_is_scored_by_its_last_and_combines_with_others() -> None:
    first, last, other = channel("a", 0), channel("b", 1), channel("a", 2)
    objective = in_sequence([first, last], [3, 1])
    values = {A: normal(0, 2, 3, 4, 4), Place("b"): normal(1, 2, 3, 4, 4)}
    assert torch.equal(objective.score(values), last.score(values))
    assert objective.places() == {Place("b")}
    assert str(objective) == "a:0 (0.75) then b:1 (0.25)"
    both = 2 * objective - other
    assert torch.equal(both.at(0.0).score(values), 2 * first.score(values) - other.score(values))
    assert torch.equal(both.at(0.75).score(values), 2 * last.score(values) - other.score(values))
    moved = objective.each(lambda one: channel("c", one.index))  # type: ignore[attr-defined]
    assert isinstance(moved, InSequence)
    assert (moved.members, moved.shares) == ((channel("c", 0), channel("c", 1)), (3.0, 1.0))


def test_each_its_own_sequence_stays_the_same_object_until_it_changes() -> None:
    """The loop begins anew when what it asks is another object."""
    plain = EachItsOwn((channel("a", 0), 2 * channel("a", 1)))
    assert plain.at(0.0) is plain and plain.at(0.9) is plain
    objective = EachItsOwn((in_sequence([channel("a", 0), channel("a", 1)]), channel("a", 2)))
    early, later = objective.at(0.1), objective.at(0.7)
    assert str(early) == "[a:0, a:2]" and str(later) == "[a:1, a:2]"
    again = objective.at(0.4)
    assert all(one is other for one, other in zip(again.members, early.members, strict=True))


@pytest.mark.parametrize(("shares", "counts"), [(None, (2, 2)), ([1, 3], (1, 3)), ([3, 1], (3, 1))])
def test_climbing_a_sequence_follows_one_gradient_and_then_the_other(
    shares: list[float] | None, counts: tuple[int, int]
) -> None:
    network, rows = linear()
    start = normal(1, 2, C, SIDE, SIDE)
    sequence = in_sequence([label(0), label(1)], shares)
    reached = climbed(network, [sequence, label(2)], start, 4)
    expected = start + torch.stack([counts[0] * rows[0] + counts[1] * rows[1], 4 * rows[2]])
    torch.testing.assert_close(reached.parameters, expected, rtol=1e-5, atol=1e-5)
    at, scores = start[0] + 0.5, []
    for k in [0] * counts[0] + [1] * counts[1]:
        scores.append((at * rows[k]).sum())
        at = at + rows[k]
    torch.testing.assert_close(torch.stack(reached.trace)[:, 0], torch.stack(scores), rtol=1e-5, atol=1e-4)


def test_a_sequence_goes_on_where_another_image_is_stopped() -> None:
    network, rows = linear()
    start = normal(1, 2, C, SIDE, SIDE)

    def second_only_after_one(reached: Climb) -> Tensor:
        return torch.tensor([len(reached.trace) < 1, True])

    sequence = in_sequence([label(0), label(1)])
    reached = climbed(network, [label(2), sequence], start, 4, referee=second_only_after_one)
    expected = start + torch.stack([rows[2], 2 * rows[0] + 2 * rows[1]])
    torch.testing.assert_close(reached.parameters, expected, rtol=1e-5, atol=1e-5)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.relu(images + self.branch(images))


def test_a_residual_block_is_asked_for_its_branch_first_and_then_for_the_sum() -> None:
    torch.manual_seed(0)
    block = Block()
    network, start = Network(nn.Sequential(block), 4), normal(1, 1, 3, 4, 4)
    objective = residual("0", 1, "0.branch", 0.25)
    assert objective.at(0.0) == channel("0.branch", 1) and objective.at(0.25) == channel("0", 1)
    assert str(objective) == "0.branch:1 (0.25) then 0:1 (0.75)"
    reached = climbed(network, [objective], start, 4)
    of_branch = block.branch.weight.detach()[1].expand(3, 4, 4) / 16
    of_sum = of_branch.clone()
    of_sum[1] += 1 / 16
    torch.testing.assert_close(reached.parameters[0], start[0] + of_branch + 3 * of_sum)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 2.0])
def test_the_branch_has_a_share_of_the_steps(share: float) -> None:
    with pytest.raises(RequestError, match="residual branch's share of the steps lies between 0 and 1"):
        residual("a", 0, "b", share)


@pytest.mark.parametrize("make", [in_sequence, each_view])
def test_every_member_is_checked_against_the_network(make: Any) -> None:
    network, _ = linear()
    with pytest.raises(UnknownTapError, match="no tap 'nowhere'"):
        make([channel("nowhere", 0), label(0)]).bind(network)
    with pytest.raises(RequestError, match="not 3"):
        make([label(3), label(0)]).bind(network)
    named = Network(Linear(), SIDE, channels=C, labels=["cat", "dog", "owl"])
    assert make([label("dog"), label("owl")]).bind(named) == make([label(1), label(2)]).bind(named)


# --- one for each view --------------------------------------------------------------------------------------------


@few
@given(seeds, st.integers(2, 4))
def test_view_i_is_asked_member_i_and_a_whole_picture_all_of_them(seed: int, count: int) -> None:
    members = [(i + 1) * channel("a", i) for i in range(count)]
    values, objective = normal(seed, count, count, 3, 3).double(), each_view(members)
    means = values.mean((2, 3))
    scores = objective.score({A: values})
    expected = sum((i + 1) * means[i, i] for i in range(count)) / count
    torch.testing.assert_close(scores, expected.view(1), rtol=1e-12, atol=1e-12)  # type: ignore[union-attr]
    whole = sum((i + 1) * means[:1, i] for i in range(count)) / count
    torch.testing.assert_close(objective.score({A: values[:1]}), whole, rtol=1e-12, atol=1e-12)


def test_there_are_as_many_views_as_objectives() -> None:
    objective = each_view([channel("a", 0), channel("a", 1)])
    for views in (3, 4):
        with pytest.raises(RequestError, match=f"2 objectives, one for each view of a picture, but {views} views"):
            objective.score({A: torch.zeros(views, 2, 1, 1)})
    with pytest.raises(RequestError, match="no objective to optimise"):
        each_view([])


def test_each_view_prints_asks_all_places_and_changes_with_its_members() -> None:
    objective = each_view([in_sequence([channel("a", 0), channel("b", 1)]), channel("c", 2)])
    assert str(objective) == "a:0 then b:1 | c:2"
    assert objective.places() == {Place("b"), Place("c")}
    assert objective.at(0.0) == each_view([channel("a", 0), channel("c", 2)])
    assert objective.at(0.5) == each_view([channel("b", 1), channel("c", 2)])
    plain = each_view([channel("a", 0), channel("c", 2)])
    assert plain.at(0.0) is plain and plain.at(0.9) is plain
    changed = each_view([label(0), channel("a", 1)]).each(lambda one: 2 * one)
    assert isinstance(changed, EachView)
    assert str(changed) == "2 * class:0 | 2 * a:1"


def test_each_part_of_a_canvas_is_pulled_by_its_own_class() -> None:
    """w_k / K in the window of class k, the sum where windows overlap, for each picture of a batch."""
    network, rows = linear()
    start = normal(2, 2, C, 9, 11)
    windows = WindowsAround(((0.0, 0.0), (1.0, 1.0)), height=SIDE, width=SIDE)
    objectives = [each_view([label(0), label(1)]), each_view([label(2), label(0)])]
    reached = climbed(network, objectives, start, 2, (windows,))
    step = torch.zeros_like(start)
    for i, (first, second) in enumerate([(0, 1), (2, 0)]):
        step[i, :, :5, :5] += rows[first] / 2
        step[i, :, 4:, 6:] += rows[second] / 2
    torch.testing.assert_close(reached.parameters, start + 2 * step, rtol=1e-5, atol=1e-5)


# --- each its own, shown several times ----------------------------------------------------------------------------


@few
@given(seeds, st.integers(1, 4), st.integers(1, 4))
def test_several_views_of_an_image_are_asked_the_same_and_averaged(seed: int, images: int, views: int) -> None:
    values = normal(seed, images * views, 4, 3, 2).double().requires_grad_(True)
    scores = EachItsOwn(tuple(channel("a", i) for i in range(images))).score({A: values})
    by_image = values.mean((2, 3)).view(images, views, 4)
    expected = torch.stack([by_image[i, :, i].mean() for i in range(images)])
    torch.testing.assert_close(scores, expected, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(scores[0], values)
    assert (gradient[:views, 0] == gradient[0, 0, 0, 0]).all() and gradient.sum().item() == pytest.approx(1)
    assert gradient[views:].count_nonzero() == 0


@pytest.mark.parametrize("counts", [(1, 1), (3, 3), (2, 4)])
def test_views_that_do_not_divide_among_the_images(counts: tuple[int, int]) -> None:
    asked = EachItsOwn((channel("a", 0), channel("b", 0)))
    values = {A: torch.zeros(counts[0], 1, 1, 1), Place("b"): torch.zeros(counts[1], 1, 1, 1)}
    with pytest.raises(RequestError, match=r"2 objectives, but \["):
        asked.score(values)


def test_some_images_of_a_batch_only() -> None:
    asked = EachItsOwn(tuple(channel("a", i) for i in range(4)))
    assert asked.kept([True, False, False, True]).members == (channel("a", 0), channel("a", 3))
    assert asked.kept([True] * 4) == asked
    with pytest.raises(RequestError, match="no objective to optimise"):
        asked.kept([False] * 4)
