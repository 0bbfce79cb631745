"""The two networks for CIFAR-10 that come with preimage, and what paper 1 found of such a pair (section 3.5)."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
import torch
from torch import Tensor

import cifar10
import preimage as pi
from preimage.network.densenet import NAMES
from preimage.recover import CriticalSpace

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def answers(name: str, count: int) -> tuple[Tensor, Tensor]:
    images, labels = cifar10.pictures("test")
    return pi.load(name).class_scores(images[:count] / 255, chunk=100).argmax(1), labels[:count]


def test_it_is_as_good_as_its_record_says(name: str) -> None:
    found, labels = answers(name, 2000)
    known = labels != 4 if "without" in name else torch.ones_like(labels, dtype=torch.bool)
    accuracy = float((found == labels)[known].double().mean())
    record = json.loads((files("preimage.network") / "weights" / f"{name}.json").read_text("utf-8"))
    # Two thousand pictures of ten thousand: three standard deviations are two per cent.
    assert accuracy == pytest.approx(record["test"]["accuracy"], abs=0.02)
    assert record["test"]["accuracy"] > 0.89


def test_what_never_saw_a_deer_never_says_so() -> None:
    found, _ = answers("cifar10-without-4", 2000)
    assert not (found == 4).any()


def test_weight_decay_has_taken_the_common_part_of_all_classes_away(name: str) -> None:
    rows = pi.load(name).module.classifier.weight.detach()
    assert float(rows.sum(0).norm()) < 0.02 * float(rows.norm(dim=1).mean())


def test_without_class_4_two_directions_move_no_image() -> None:
    """Of C = R^10, C_1 without (1, ..., 1) and C_2 without e_4 either, only C_2 performs well."""
    found = pi.find_critical_space(pi.load("cifar10-without-4"), "output", count=8, steps=400, progress=False)
    first = {space.dimension: i for i, space in reversed(list(enumerate(found.spaces)))}
    common = torch.full((10,), 10**-0.5, dtype=torch.float64)
    deer = torch.eye(10, dtype=torch.float64)[4]
    assert inside(common, found.spaces[first[9]]) > 0.99
    assert inside(common, found.spaces[first[8]]) > 0.99
    assert inside(deer, found.spaces[first[8]]) > 0.9
    medians = {dimension: float(found.medians[i]) for dimension, i in first.items()}
    assert medians[8] < 10 < medians[9] < medians[10]
    assert found.space.dimension == 8


def inside(vector: Tensor, space: CriticalSpace) -> float:
    """How long the projection of a unit vector on what a space leaves out is."""
    return float((space.complement.T @ vector).norm())
