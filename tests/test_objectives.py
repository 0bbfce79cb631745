"""What objectives score, how they combine, print and bind: values and gradients against the formulas of the papers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from preimage import Network, RequestError, UnknownTapError
from preimage.network import Place
from preimage.objectives import (
    Direction,
    EachItsOwn,
    Label,
    Objective,
    channel,
    direction,
    floored_cosines,
    label,
    log_probabilities,
    neuron,
    unit,
)

A = Place("a")
LABELS = ["tabby, tabby cat", "crane (bird)", "crane (machine)", "great_white_shark", "Egyptian cat"]
few = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**31)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classifier(labels: list[str] | None = LABELS) -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    return Network(module, 8, labels=labels)


# --- algebra: a random expression, once as an objective and once as the same arithmetic on numbers ---------------

Meaning = Callable[[Tensor], Tensor]
Expression = tuple[Objective, Meaning, Meaning]  # objective, its score, the sum of the sizes of all its terms

factors = st.floats(-8, 8).filter(lambda x: x == 0 or abs(x) > 1e-3)
divisors = st.floats(0.1, 8) | st.floats(-8, -0.1) | st.integers(1, 5)


def leaf(index: int) -> Expression:
    return channel("a", index), lambda m: m[:, index], lambda m: m[:, index].abs()


def plus(pair: tuple[Expression, Expression]) -> Expression:
    (a, x, p), (b, y, q) = pair
    return a + b, lambda m: x(m) + y(m), lambda m: p(m) + q(m)


def minus(pair: tuple[Expression, Expression]) -> Expression:
    (a, x, p), (b, y, q) = pair
    return a - b, lambda m: x(m) - y(m), lambda m: p(m) + q(m)


def scaled(pair: tuple[Expression, float, bool]) -> Expression:
    (a, x, p), by, from_left = pair
    return by * a if from_left else a * by, lambda m: by * x(m), lambda m: abs(by) * p(m)


def divided(pair: tuple[Expression, float]) -> Expression:
    (a, x, p), by = pair
    return a / by, lambda m: x(m) / by, lambda m: p(m) / abs(by)


def negated(one: Expression) -> Expression:
    a, x, p = one
    return -a, lambda m: -x(m), p


expressions = st.recursive(
    st.integers(0, 2).map(leaf),
    lambda inner: (
        st.tuples(inner, inner).map(plus)
        | st.tuples(inner, inner).map(minus)
        | st.tuples(inner, factors, st.booleans()).map(scaled)
        | st.tuples(inner, divisors).map(divided)
        | inner.map(negated)
    ),
    max_leaves=8,
)


@few
@given(expressions, seeds)
def test_arithmetic_on_objectives_is_arithmetic_on_scores(expression: Expression, seed: int) -> None:
    objective, meaning, size = expression
    activation = normal(seed, 4, 3, 5, 2)
    means = activation.mean((2, 3))
    error = (objective.score({A: activation}) - meaning(means)).abs()
    assert (error <= 1e-12 * size(means) + 1e-300).all()
    assert objective.places() == {A}


@few
@given(expressions, seeds)
def test_what_is_printed_read_as_arithmetic_gives_the_score(expression: Expression, seed: int) -> None:
    objective, _, size = expression
    activation = normal(seed, 1, 3, 4, 4)
    means = activation.mean((2, 3))
    read = re.sub(r"a:(\d)", r"m[0, \1]", str(objective))
    said = float(eval(read, {"m": means}))  # weights are printed with six digits
    assert abs(said - float(objective.score({A: activation})[0])) <= 1e-5 * float(size(means)[0]) + 1e-300


@few
@given(expressions, seeds)
def test_each_changes_every_leaf_and_keeps_the_combination(expression: Expression, seed: int) -> None:
    objective, meaning, size = expression
    activation = normal(seed, 2, 3, 3, 3)
    moved = objective.each(lambda one: channel("a", (one.index + 1) % 3))  # type: ignore[attr-defined]
    rolled = activation.mean((2, 3)).roll(-1, dims=1)
    error = (moved.score({A: activation}) - meaning(rolled)).abs()
    assert (error <= 1e-12 * size(rolled) + 1e-300).all()


@pytest.mark.parametrize(
    ("objective", "printed"),
    [
        (channel("a", 3), "a:3"),
        (channel("a.b", 3, after_relu=True), "after:a.b:3"),
        (unit("a", 1, 4, 5), "a:1@4,5"),
        (neuron("a", 1), "a:1@centre"),
        (neuron("a", 1, after_relu=True), "after:a:1@centre"),
        (2 * channel("a", 0) - channel("b", 1), "2 * a:0 - b:1"),
        (channel("a", 0) + channel("b", 1) / 2, "a:0 + 0.5 * b:1"),
        (-channel("a", 0), "-a:0"),
        (-(2 * channel("a", 0)), "-2 * a:0"),
        (channel("a", 0) - (channel("b", 1) - channel("c", 2)), "a:0 - b:1 + c:2"),
        (label(7), "class:7"),
        (label(7, "prob"), "prob:7"),
        (label(7, "logprob"), "logprob:7"),
        (EachItsOwn((channel("a", 0), label(1))), "[a:0, class:1]"),
    ],
)
def test_printing(objective: Objective, printed: str) -> None:
    assert str(objective) == printed
    assert repr(objective) == f"<objective {printed}>"


@pytest.mark.parametrize("wrong", ["2", None, channel("a", 1), 1j, [2.0]])
def test_objectives_scale_by_real_numbers_only(wrong: Any) -> None:
    with pytest.raises(TypeError):
        channel("a", 0) * wrong
    with pytest.raises(TypeError):
        channel("a", 0) / wrong


@pytest.mark.parametrize("wrong", [2, "a:1", None])
def test_objectives_add_to_objectives_only(wrong: Any) -> None:
    with pytest.raises(TypeError):
        channel("a", 0) + wrong
    with pytest.raises(TypeError):
        channel("a", 0) - wrong


# --- a batch in which each image is asked its own -----------------------------------------------------------------


@few
@given(st.lists(expressions, min_size=1, max_size=5), seeds)
def test_each_its_own_scores_image_i_by_member_i(members: list[Expression], seed: int) -> None:
    activation = normal(seed, len(members), 3, 2, 2).requires_grad_(True)
    asked = EachItsOwn(tuple(one[0] for one in members))
    scores = asked.score({A: activation})
    for i, (member, _, _) in enumerate(members):
        alone = activation[i : i + 1].detach().requires_grad_(True)
        score = member.score({A: alone})
        assert torch.equal(scores[i : i + 1], score)
        (own,) = torch.autograd.grad(score.sum(), alone)
        (all_of_them,) = torch.autograd.grad(scores[i], activation, retain_graph=True)
        assert torch.equal(all_of_them[i : i + 1], own)
        assert all_of_them.count_nonzero() == own.count_nonzero()


def test_each_its_own_needs_as_many_images_as_members() -> None:
    asked = EachItsOwn((channel("a", 0), channel("a", 1)))
    with pytest.raises(RequestError, match=r"2 objectives.*3"):
        asked.score({A: torch.zeros(3, 2, 1, 1)})


def test_each_its_own_of_nothing_is_refused() -> None:
    with pytest.raises(RequestError, match="no objective"):
        EachItsOwn(())


def test_each_its_own_asks_for_all_places_and_reads_only_the_member_s() -> None:
    b = Place("b", after_relu=True)
    asked = EachItsOwn((channel("a", 0), channel("b", 1, after_relu=True)))
    assert asked.places() == {A, b}
    scores = asked.score({A: torch.ones(2, 1, 2, 2), b: torch.full((2, 2, 3, 3), 7.0)})
    assert scores.tolist() == [1.0, 7.0]


# --- channels and units -------------------------------------------------------------------------------------------


@few
@given(seeds, st.integers(1, 4), st.integers(1, 4), st.data())
def test_units_read_one_position_and_channels_the_mean(seed: int, height: int, width: int, data: st.DataObject) -> None:
    activation = normal(seed, 2, 3, height, width)
    i = data.draw(st.integers(0, 2))
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    assert torch.equal(unit("a", i, y, x).score({A: activation}), activation[:, i, y, x])
    centre = activation[:, i, (height - 1) // 2, (width - 1) // 2]
    assert torch.equal(neuron("a", i).score({A: activation}), centre)
    means = torch.from_numpy(activation.numpy()[:, i].reshape(2, -1).mean(1))
    torch.testing.assert_close(channel("a", i).score({A: activation}), means, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("index", [0, 4])
def test_a_layer_without_positions_is_its_neurons(index: int) -> None:
    values = normal(1, 3, 5)
    assert torch.equal(neuron("a", index).score({A: values}), values[:, index])
    assert torch.equal(channel("a", index).score({A: values}), values[:, index])


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_tokens_are_asked_by_row_and_column_of_their_patch(prefix: int) -> None:
    tokens = normal(2, 2, 3, prefix + 16)
    patches = tokens[:, :, prefix:].reshape(2, 3, 4, 4)
    for y, x in ((0, 0), (0, 3), (3, 1), (2, 2)):
        assert torch.equal(unit("a", 1, y, x).score({A: tokens}), patches[:, 1, y, x])
    assert torch.equal(neuron("a", 1).score({A: tokens}), patches[:, 1, 1, 1])


@pytest.mark.parametrize(("y", "x"), [(4, 0), (0, 6), (-1, 0), (0, -1), (10**9, 10**9)])
def test_a_position_outside_the_map_says_what_there_is(y: int, x: int) -> None:
    with pytest.raises(RequestError, match=rf"rows 0 to 3 and columns 0 to 5, not {y},{x}"):
        unit("a", 0, y, x).score({A: torch.zeros(1, 1, 4, 6)})


def test_tokens_that_form_no_square_have_no_rows_and_columns() -> None:
    with pytest.raises(RequestError, match="no rows and columns"):
        neuron("a", 0).score({A: torch.zeros(1, 1, 15)})


# --- classes (SPEC P2) --------------------------------------------------------------------------------------------

LOGITS = Place("output", after_relu=True)


@few
@given(seeds, st.integers(0, 4))
def test_class_scores_and_their_gradients_are_those_of_paper_3(seed: int, i: int) -> None:
    """Table S2: (a) dl_i, (b) s_i (dl_i - sum_j s_j dl_j), (c) dl_i - dlog sum_j exp l_j, here for l = tanh(W x)."""
    weight, x = normal(seed, 5, 7) * 2, normal(seed + 1, 1, 7).requires_grad_(True)

    def logits(image: Tensor) -> Tensor:
        return 3 * torch.tanh(image @ weight.T)

    l = logits(x).detach()[0]  # noqa: E741
    dl = torch.autograd.functional.jacobian(lambda image: logits(image)[0], x.detach())[:, 0]
    s = (l - l.max()).exp() / (l - l.max()).exp().sum()
    expected = {
        "logit": (l[i], dl[i]),
        "prob": (s[i], s[i] * (dl[i] - (s[:, None] * dl).sum(0))),
        "logprob": (s[i].log(), dl[i] - (s[:, None] * dl).sum(0)),
    }
    for kind, (value, gradient) in expected.items():
        score = label(i, kind).score({LOGITS: logits(x)})  # type: ignore[arg-type]
        (found,) = torch.autograd.grad(score.sum(), x)
        torch.testing.assert_close(score[0], value, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found[0], gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["logit", "prob", "logprob"])
def test_class_scores_of_a_map_are_means_over_its_positions(kind: Any) -> None:
    scores = normal(3, 2, 4, 3, 5)
    each = torch.stack(
        [label(1, kind).score({LOGITS: scores[:, :, y, x]}) for y in range(3) for x in range(5)]
    )  # fmt: skip
    torch.testing.assert_close(label(1, kind).score({LOGITS: scores}), each.mean(0), rtol=1e-12, atol=1e-14)


def test_probabilities_of_all_classes_sum_to_one() -> None:
    logits = normal(4, 3, 6) * 20
    total = torch.stack([label(i, "prob").score({LOGITS: logits}) for i in range(6)]).sum(0)
    torch.testing.assert_close(total, torch.ones(3, dtype=torch.float64), rtol=1e-12, atol=0)


def test_log_probability_stays_finite_where_the_probability_is_zero() -> None:
    logits = torch.tensor([[0.0, -1e4]])
    assert label(1, "prob").score({LOGITS: logits}).item() == 0.0
    assert label(1, "logprob").score({LOGITS: logits}).item() == -1e4


def test_log_probabilities_changes_logits_only_and_reaches_into_sums_and_batches() -> None:
    asked = EachItsOwn((2 * label(0) - channel("a", 1), label(1, "prob"), label(2)))
    changed = log_probabilities(asked)
    assert str(changed) == "[2 * logprob:0 - a:1, prob:1, logprob:2]"
    assert str(asked) == "[2 * class:0 - a:1, prob:1, class:2]"
    assert str(log_probabilities(3 * asked)) == f"3 * {changed}"


def test_an_unknown_kind_of_class_score_lists_the_known_ones() -> None:
    with pytest.raises(RequestError, match=r"logit, prob, logprob.*'softmax'"):
        label(0, "softmax")  # type: ignore[arg-type]


# --- directions (SPEC I1, I4) -------------------------------------------------------------------------------------


@few
@given(seeds, st.integers(0, 4), st.integers(1, 9), st.integers(1, 6))
def test_direction_and_its_gradient_are_those_of_paper_1(seed: int, k: int, features: int, count: int) -> None:
    """S = x^T y (x^T y / |y|)^k and dS/dy = (k + 1) q^k Z_k x, q = x^T y / |y|, Z_k = I - k / (k + 1) yy^T / |y|^2."""
    asked = direction("a", normal(seed, features), cosine_power=k)
    y = normal(seed + 1, count, features).requires_grad_(True)
    scores = asked.score({A: y})
    (gradient,) = torch.autograd.grad(scores.sum(), y)
    x = asked.vector.double().numpy()
    for one, score, slope in zip(y.detach().numpy(), scores.detach().numpy(), gradient.numpy(), strict=True):
        unit_y = one / np.linalg.norm(one)
        q = x @ unit_y
        z = np.eye(features) - k / (k + 1) * np.outer(unit_y, unit_y)
        assert np.isclose(score, (x @ one) * q**k, rtol=1e-11, atol=1e-13)
        assert np.allclose(slope, (k + 1) * q**k * (z @ x), rtol=1e-10, atol=1e-12)


@few
@given(seeds, st.sampled_from(["max-mean", "mean", "centre"]), st.integers(3, 6), st.integers(3, 6), st.integers(0, 3))
def test_direction_aggregates_a_map(seed: int, aggregate: Any, height: int, width: int, k: int) -> None:
    activation = normal(seed, 2, 4, height, width)
    maps = activation.numpy()
    if aggregate == "mean":
        y = maps.mean((2, 3))
    elif aggregate == "centre":
        y = maps[:, :, (height - 1) // 2, (width - 1) // 2]
    else:
        windows = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), axis=(2, 3))
        y = windows.max((-2, -1)).mean((2, 3))
    asked = direction("a", normal(seed + 1, 4), k, aggregate)
    x = asked.vector.double().numpy()
    expected = (y @ x) * (y @ x / np.linalg.norm(y, axis=1)) ** k
    np.testing.assert_allclose(asked.score({A: activation}).numpy(), expected, rtol=1e-10, atol=1e-12)


def test_direction_of_tokens_centres_where_a_unit_does() -> None:
    """Both say "centre": one class token and 4 x 4 patches have it at row 1, column 1, as `neuron` finds it."""
    tokens = normal(5, 2, 3, 17)
    for i in range(3):
        axis = torch.zeros(3)
        axis[i] = 1
        score = direction("a", axis, cosine_power=0, aggregate="centre").score({A: tokens})
        assert torch.equal(score, neuron("a", i).score({A: tokens}))


def test_direction_along_an_axis_without_cosine_is_the_channel() -> None:
    activation = normal(6, 3, 4, 5, 5)
    asked = direction("a", [0, 0, -3, 0], cosine_power=0, aggregate="mean")
    torch.testing.assert_close(asked.score({A: activation}), -channel("a", 2).score({A: activation}))


def test_direction_is_largest_in_its_own_direction() -> None:
    vector = normal(7, 6)
    asked = direction("a", vector)
    others = normal(8, 500, 6)
    others = others / others.norm(dim=1, keepdim=True)
    own = asked.score({A: vector[None] / vector.norm()})
    assert (asked.score({A: others}) < own).all()
    torch.testing.assert_close(own, torch.ones(1, dtype=torch.float64), rtol=1e-6, atol=0)


@few
@given(seeds, st.sampled_from([1e-30, 1e-20, 1e-10, 1e-3, 1.0, 1e3, 1e10, 1e30]))
def test_direction_does_not_depend_on_the_length_of_its_vector(seed: int, length: float) -> None:
    vector = normal(seed, 5)
    vector = vector / vector.norm()
    torch.testing.assert_close(direction("a", vector * length).vector, direction("a", vector).vector)


def test_direction_is_not_changed_through_the_tensor_it_was_made_of() -> None:
    vector = torch.tensor([0.0, 1.0], requires_grad=True)
    asked = direction("a", vector)
    with torch.no_grad():
        vector.fill_(5)
    assert asked.vector.tolist() == [0.0, 1.0]
    assert not asked.vector.requires_grad


def test_direction_of_a_silent_layer_has_a_finite_score_and_gradient() -> None:
    for k in range(4):
        y = torch.zeros(1, 3, requires_grad=True)
        score = direction("a", [1.0, 2.0, 0.0], k).score({A: y})
        (gradient,) = torch.autograd.grad(score.sum(), y)
        assert score.item() == 0.0
        assert gradient.isfinite().all()


@few
@given(seeds, st.integers(1, 4))
def test_floored_cosines_keep_every_cosine_above_a_tenth(seed: int, k: int) -> None:
    vector, y = normal(seed, 4), normal(seed + 1, 6, 4)
    plain = direction("a", vector, k)
    floored = floored_cosines(plain)
    x = plain.vector.double()
    cosine = (y @ x) / y.norm(dim=1)
    expected = (y @ x) * cosine.clamp_min(0.1) ** k
    torch.testing.assert_close(floored.score({A: y}), expected, rtol=1e-10, atol=1e-12)
    free = cosine > 0.1
    assert torch.equal(floored.score({A: y})[free], plain.score({A: y})[free])


def test_floored_cosines_leaves_other_objectives_and_own_floors_alone() -> None:
    own = direction("a", [1.0, 0.0], floor=0.3)
    assert floored_cosines(own) is own
    assert floored_cosines(channel("a", 0)) == channel("a", 0)
    inside = floored_cosines(2 * direction("a", [1.0, 0.0]) + label(1))
    floors = [term.floor for _, term in inside.terms if isinstance(term, Direction)]  # type: ignore[attr-defined]
    assert floors == [0.1]


@pytest.mark.parametrize("vector", [[0.0, 0.0], [1.0, float("nan")], [float("inf"), 0.0], [[1.0, 2.0]], 3.0, []])
def test_direction_refuses_what_points_nowhere(vector: Any) -> None:
    with pytest.raises(RequestError, match="direction"):
        direction("a", vector)


def test_direction_refuses_unknown_aggregates_and_negative_powers() -> None:
    with pytest.raises(RequestError, match=r"max-mean, mean, centre.*'median'"):
        direction("a", [1.0], aggregate="median")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="-1"):
        direction("a", [1.0], cosine_power=-1)


# --- binding ------------------------------------------------------------------------------------------------------


def test_bind_resolves_names_inside_every_combination() -> None:
    network = classifier()
    asked = EachItsOwn((2 * label("tabby") - channel("0", 1), label("Egyptian Cat", "prob")))
    bound = asked.bind(network)
    assert str(bound) == "[2 * class:0 (tabby, tabby cat) - 0:1, prob:4 (Egyptian cat)]"
    assert bound.places() == {LOGITS, Place("0")}
    images = torch.rand(2, 3, 8, 8)
    values = network.run(images, bound.places())
    conv, logits = network.module[0](images), network.module(images)
    expected = torch.stack([2 * logits[0, 0] - conv[0, 1].mean(), logits[1].softmax(0)[4]])
    torch.testing.assert_close(bound.score(values), expected)


def test_bind_finds_the_logits_that_the_network_names() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Softmax(1))
    network = Network(module, 2, logits="1")
    bound = label(2).bind(network)
    assert bound.places() == {Place("1", after_relu=True)}
    images = torch.rand(2, 3, 2, 2)
    torch.testing.assert_close(bound.score(network.run(images, bound.places())), module[1](images.flatten(1))[:, 2])


def test_bind_does_not_name_classes_of_a_network_without_labels() -> None:
    assert str(label(3).bind(classifier(None))) == "class:3"
    with pytest.raises(RequestError, match=r"without class names.*'tabby'"):
        label("tabby").bind(classifier(None))


def test_a_class_number_from_numpy_is_a_number() -> None:
    logits = np.array([0.1, 0.7, 0.2])
    assert str(label(np.argmax(logits)).bind(classifier())) == "class:1 (crane (bird))"  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [-1, 4, 10**6])
def test_a_channel_outside_the_range_says_the_range(index: int) -> None:
    for asked in (channel("0", index), neuron("0", index), unit("0", index, 0, 0)):
        with pytest.raises(RequestError, match=rf"'0' has channels 0 to 3, not {index}"):
            asked.bind(classifier())


@pytest.mark.parametrize("index", [-1, 5])
def test_a_class_outside_the_range_says_the_range(index: int) -> None:
    with pytest.raises(RequestError, match=rf"classes 0 to 4, not {index}"):
        label(index).bind(classifier())


def test_a_direction_of_the_wrong_length_says_both_lengths() -> None:
    with pytest.raises(RequestError, match=r"\[4\].*\[3\]"):
        direction("0", [1.0, 2.0, 3.0]).bind(classifier())


def test_a_position_in_a_layer_without_positions_is_refused() -> None:
    with pytest.raises(RequestError, match="'4' has no positions"):
        unit("4", 1, 0, 0).bind(classifier())
    assert neuron("4", 1).bind(classifier()) == neuron("4", 1)


@pytest.mark.parametrize("asked", [channel("1.conv", 0), neuron("nope", 0), direction("nope", [1.0])])
def test_bind_refuses_unknown_taps(asked: Objective) -> None:
    with pytest.raises(UnknownTapError, match="no tap"):
        asked.bind(classifier())


def test_an_unknown_class_names_the_nearest() -> None:
    with pytest.raises(RequestError, match=r"no class 'tiger shark'.*class:3 \(great_white_shark\)"):
        label("tiger shark").bind(classifier())


def test_the_same_question_is_equal_and_hashes_alike() -> None:
    assert {channel("a", 1), channel("a", 1), unit("a", 1, 2, 3), unit("a", 1, 2, 3)} == {
        channel("a", 1),
        unit("a", 1, 2, 3),
    }
    assert channel("a", 1) != channel("a", 1, after_relu=True)
    assert Label(1) == label(1) != label(1, "prob")
