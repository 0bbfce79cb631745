"""How different the images of a class are: pairs that are drawn fairly, and what is known of their likeness."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from explained import uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from preimage import RequestError
from preimage.evaluation.diversity import Diversity, diversity, drawn_pairs
from preimage.evaluation.ms_ssim import ms_ssim

few = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**31)


@few
@given(seeds, st.integers(2, 300), st.integers(1, 200))
def test_pairs_are_different_and_of_different_images(seed: int, count: int, pairs: int) -> None:
    first, second = drawn_pairs(count, pairs, np.random.default_rng(seed))
    assert len(first) == len(second) == min(pairs, count * (count - 1) // 2)
    assert ((first >= 0) & (first < second) & (second < count)).all()
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == len(first)


def test_pairs_of_very_many_images_stay_in_bounds() -> None:
    """The number of a pair is turned into two by a square root, which must not round across an integer."""
    count = 3_000_000
    first, second = drawn_pairs(count, 10_000, np.random.default_rng(0))
    assert ((first >= 0) & (first < second) & (second < count)).all()


def test_every_pair_is_as_likely() -> None:
    """Chi-square over 15 pairs; a fair draw would fall below this once in ten thousand, and the seeds are fixed."""
    drawn = Counter(
        pair
        for seed in range(3000)
        for pair in zip(*(one.tolist() for one in drawn_pairs(6, 3, np.random.default_rng(seed))), strict=True)
    )
    assert len(drawn) == 15
    assert chisquare(list(drawn.values())).pvalue > 1e-4


def test_all_pairs_where_there_are_few() -> None:
    images = uniform(0, 9, 3, 16, 16)
    classes = [3, 0, 3, 0, 3, 0, 3, 0, 0]
    found = diversity(images, classes)
    assert found.classes == (0, 3) and found.pairs == (10, 6) and found.scales == 1
    for label, mean, deviation in zip(found.classes, found.means, found.deviations, strict=True):
        own = images[torch.tensor(classes) == label]
        i, j = torch.triu_indices(len(own), len(own), 1)
        values = ms_ssim(own[i], own[j]).double()
        assert mean == pytest.approx(float(values.mean()), abs=1e-6)
        assert deviation == pytest.approx(float(np.std(values.numpy())), abs=1e-6)
    assert found.mean == pytest.approx(np.mean(found.means))
    assert found.deviation == pytest.approx(np.std(found.means))


def test_copies_have_no_diversity() -> None:
    images = torch.cat([uniform(0, 1, 3, 32, 32).repeat(5, 1, 1, 1), uniform(1, 5, 3, 32, 32)])
    found = diversity(images, [0] * 5 + [1] * 5)
    assert found.means[0] == 1 and found.deviations[0] == 0
    assert found.means[1] < 0.5 and found.scales == 2


def test_a_class_s_pairs_depend_on_its_images_and_the_seed_alone() -> None:
    images = uniform(0, 60, 1, 16, 16)
    classes = torch.arange(60) % 2
    alone, together = diversity(images[classes == 1], [1] * 30, pairs=7), diversity(images, classes, pairs=7)
    assert together.pairs == (7, 7)
    assert alone.means[0] == together.means[1]
    assert diversity(images, classes, pairs=7) == together
    assert diversity(images, classes, pairs=7, seed=1).means != together.means
    twice = diversity(images.repeat(2, 1, 1, 1), [0] * 60 + [1] * 60, pairs=7)
    assert twice.means[0] != twice.means[1]


def test_of_itself_all_classes_but_the_least_diverse_are_more_diverse() -> None:
    real = Diversity((0, 1, 2), (0.1, 0.3, 0.2), (0.0,) * 3, (5,) * 3, 2)
    assert real.more_diverse(real) == 2
    made = Diversity((0, 1, 2), (0.29, 0.3, 0.9), (0.0,) * 3, (5,) * 3, 2)
    assert made.more_diverse(real) == 1
    with pytest.raises(RequestError, match="of 3 scales does not compare with that of 2"):
        Diversity((0,), (0.1,), (0.0,), (5,), 3).more_diverse(real)


def test_json() -> None:
    said = diversity(uniform(0, 4, 3, 16, 16), [0, 0, 7, 7]).as_dict()
    assert json.loads(json.dumps(said)) == said
    assert [row["class"] for row in said["classes"]] == [0, 7] and said["classes"][0]["pairs"] == 1


def test_what_has_no_pairs_is_said() -> None:
    images = uniform(0, 3, 3, 16, 16)
    with pytest.raises(RequestError, match="class 1 has a single image"):
        diversity(images, [0, 0, 1])
    with pytest.raises(RequestError, match="3 images take as many classes"):
        diversity(images, [0, 0])
    with pytest.raises(RequestError, match="whole numbers from 0 on"):
        diversity(images, [0, 0, -1])
    with pytest.raises(RequestError, match="whole numbers"):
        diversity(images, torch.zeros(3))
    with pytest.raises(RequestError, match="at least one pair, not 0"):
        diversity(images, [0, 0, 0], pairs=0)
    with pytest.raises(RequestError, match=r"\[N, C, H, W\] with at least one"):
        diversity(images[:0], [])
