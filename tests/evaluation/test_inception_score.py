"""exp(E KL(p(y|x) || p(y))): closed forms, and against SciPy's relative entropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from torch import Tensor

from preimage import RequestError
from preimage.evaluation.inception_score import inception_score

few = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**31)
class_counts = st.integers(1, 12)


def answers(seed: int, count: int, classes: int, sharp: float = 2.0) -> Tensor:
    return (sharp * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))).softmax(1)


@few
@given(class_counts, st.integers(1, 20))
def test_sure_and_equally_frequent_answers_score_the_number_of_classes(classes: int, times: int) -> None:
    mean, deviation = inception_score(torch.eye(classes).repeat(times, 1), splits=1)
    assert mean == pytest.approx(classes, rel=1e-12) and deviation == 0


@few
@given(seeds, class_counts, st.integers(1, 10))
def test_constant_answers_score_one(seed: int, classes: int, splits: int) -> None:
    mean, deviation = inception_score(answers(seed, 1, classes).repeat(40, 1), splits)
    assert mean == pytest.approx(1, abs=1e-9) and deviation == pytest.approx(0, abs=1e-9)


@few
@given(seeds, st.integers(2, 60), class_counts)
def test_it_is_scipy_s_relative_entropy(seed: int, count: int, classes: int) -> None:
    made = answers(seed, count, classes).double()
    divergences = entropy(made.numpy(), made.numpy().mean(0, keepdims=True), axis=1)
    assert inception_score(made, splits=1)[0] == pytest.approx(np.exp(divergences.mean()), rel=1e-6)


@few
@given(seeds, st.integers(2, 60), class_counts)
def test_it_lies_between_one_and_classes_and_images(seed: int, count: int, classes: int) -> None:
    score, _ = inception_score(answers(seed, count, classes, 20), splits=1)
    assert 1 - 1e-9 <= score <= min(count, classes) + 1e-9


@few
@given(seeds, st.integers(2, 60), class_counts)
def test_the_order_of_classes_does_not_count(seed: int, count: int, classes: int) -> None:
    made = answers(seed, count, classes)
    turned = made[:, torch.randperm(classes, generator=torch.Generator().manual_seed(seed))]
    assert inception_score(turned, 2) == pytest.approx(inception_score(made, 2), rel=1e-9)


def test_of_each_part_its_own_score() -> None:
    """Half of the images in either part: whichever they are, each part scores exp(H(share of the first class))."""
    made = torch.eye(2, dtype=torch.float64).repeat(50, 1)
    mean, deviation = inception_score(made, splits=4, seed=3)
    order = np.random.default_rng(3).permutation(100)
    shares = [float(made[part, 0].mean()) for part in np.array_split(order, 4)]
    scores = [np.exp(entropy([share, 1 - share])) for share in shares]
    assert mean == pytest.approx(np.mean(scores), rel=1e-9) and deviation == pytest.approx(np.std(scores), rel=1e-9)


def test_images_sorted_by_class_are_shuffled_first() -> None:
    """In their order every part would hold one class, and score 1."""
    score, deviation = inception_score(torch.eye(10).repeat_interleave(100, 0), splits=10)
    assert score > 9 and 0 < deviation < 1


def test_a_part_scores_its_number_of_images_at_most() -> None:
    assert inception_score(torch.eye(10), splits=10)[0] == pytest.approx(1)
    assert inception_score(torch.eye(10), splits=5)[0] == pytest.approx(2)


def test_rounding_of_coarse_probabilities_does_not_count() -> None:
    made = answers(0, 40, 5).double()
    assert inception_score(made * 1.0005, 1)[0] == pytest.approx(inception_score(made, 1)[0], rel=1e-9)


def test_what_are_no_probabilities_is_said() -> None:
    good = torch.full((4, 2), 0.5)
    for wrong in (good * 2, -good, good * torch.nan, torch.tensor([[1.5, -0.5]])):
        with pytest.raises(RequestError, match="take the softmax"):
            inception_score(wrong, 1)
    for wrong in (good[0], good[:0], good[:, :0]):
        with pytest.raises(RequestError, match=r"probabilities \[N, classes\]"):
            inception_score(wrong, 1)
    for splits in (0, 5):
        with pytest.raises(RequestError, match="1 to 4 parts"):
            inception_score(good, splits)
