"""Is it memory? Copies are found, and real images are not suspected more often than by chance."""

from __future__ import annotations

import json

import pytest
import torch
from explained import uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from preimage import Network, RequestError
from preimage.evaluation.memory import MemoryCheck, memory_check
from preimage.evaluation.nearest_images import Nearest, nearest_images

SIDE = 6

few = settings(max_examples=25, deadline=None)


def at(*distances: float) -> Nearest:
    values = torch.tensor(distances)[:, None]
    return Nearest("pixels", torch.zeros_like(values, dtype=torch.int64), values)


@few
@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.lists(st.integers(0, 50), min_size=1, max_size=10))
def test_a_quantile_is_the_share_as_near_or_nearer(control: list[int], own: list[int]) -> None:
    found = MemoryCheck(at(*map(float, own)), at(*map(float, control)))
    expected = [sum(one <= value for one in control) / len(control) for value in own]
    assert found.quantiles().tolist() == pytest.approx(expected, abs=1e-12)
    assert found.suspicious(0.25).tolist() == [value < 0.25 for value in expected]


def test_nearer_than_99_of_100_is_suspicious() -> None:
    """That is, of 200 held-out images one may be as near, and not two."""
    control = at(*[float(value) for value in range(1, 201)])
    assert MemoryCheck(at(0.5, 1.0, 1.9, 2.0, 50.0), control).suspicious().tolist() == [True, True, True, False, False]


def test_copies_are_found_and_real_images_are_not() -> None:
    training, held_out, fresh = (uniform(seed, count, 3, SIDE, SIDE) for seed, count in ((0, 300), (1, 300), (2, 200)))
    copies = (training[:10] + 0.02 * uniform(3, 10, 3, SIDE, SIDE)).clamp(0, 1)
    torch.manual_seed(0)
    net = Network(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten()), SIDE, channels=3)
    for asked in ({}, {"network": net, "tap": "0"}):
        found = memory_check(torch.cat([copies, fresh]), training, held_out, **asked)  # type: ignore[arg-type]
        for relative in (False, True):
            assert found.suspicious(relative=relative)[:10].all()
            # Of 200, two by chance; eight or more is less than one in a thousand.
            assert found.suspicious(relative=relative)[10:].sum() < 8
        assert found.samples.indices[:10, 0].tolist() == list(range(10))
        assert found.quantiles()[10:].mean() == pytest.approx(0.5, abs=0.1)


def test_flat_pictures_are_near_to_all_and_copies_of_none() -> None:
    """In pixels a grey picture is nearer to photographs than photographs are, which `relative` sees through."""
    training, held_out = (uniform(seed, 200, 3, SIDE, SIDE) for seed in (0, 1))
    found = memory_check(torch.full((1, 3, SIDE, SIDE), 0.5), training, held_out)
    assert found.suspicious().all() and not found.suspicious(relative=True).any()


def test_it_is_what_nearest_images_finds() -> None:
    training, held_out, samples = (uniform(seed, 120, 3, SIDE, SIDE) for seed in (0, 1, 2))
    found = memory_check(samples, training, held_out, 3)
    for part, images in ((found.samples, samples), (found.held_out, held_out)):
        expected = nearest_images(images, training, 3)
        assert torch.equal(part.indices, expected.indices) and torch.equal(part.distances, expected.distances)


def test_json_and_print() -> None:
    training, held_out = (uniform(seed, 100, 3, SIDE, SIDE) for seed in (0, 1))
    found = memory_check(training[:2], training, held_out, 2)
    said = found.as_dict()
    assert json.loads(json.dumps(said)) == said
    assert said["suspicious"] == said["relative_suspicious"] == [True, True] and said["held_out"] == 100
    assert said["median_distance"] == 0 < said["median_held_out_distance"]
    assert str(found) == (
        "in pixels, 2 of 2 samples are nearer to a training image than 99% of 100 held-out images are"
    )
    assert "relative_quantiles" not in memory_check(training[:2], training, held_out, 1).as_dict()


def test_a_control_has_to_be_large_enough() -> None:
    images = uniform(0, 99, 3, SIDE, SIDE)
    with pytest.raises(RequestError, match="at least 100 held-out images"):
        memory_check(images[:1], images, images)
    with pytest.raises(RequestError, match="level lies between 0 and 1, not 1"):
        MemoryCheck(at(1.0), at(1.0)).suspicious(1.0)
