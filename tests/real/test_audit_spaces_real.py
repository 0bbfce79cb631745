"""Audits of a trained network's classes, of which one direction moves no picture (paper 1, section 3.5, row E2)."""

from __future__ import annotations

import pytest
import torch

import preimage as pi
from preimage.recover import angle

pytestmark = pytest.mark.real


def test_pictures_of_classes_are_answers_to_their_class() -> None:
    """A softmax does not see (1, ..., 1), and weight decay took it away: alone, every picture is the answer to it."""
    made = pi.maximize(pi.load("cifar10"), [f"class:{i}" for i in range(5)], recipe="plain", steps=200, progress=False)
    ones = torch.ones(10, dtype=torch.float64)
    found, alone = made.audit(), made.audit(space=False)
    for asked, (one, before) in enumerate(zip(found, alone, strict=True)):
        assert before.left_out is None and one.left_out is not None
        assert float(angle(before.recovery.objective, ones)) < 1
        assert one.left_out.directions.shape == (10, 1)
        assert float(angle(one.left_out.directions[:, 0], ones)) < 1
        assert one.left_out.moved < 0.001
        assert one.recovery.strongest(1)[0][0] == asked
    # E2: about 10 degrees.
    assert torch.tensor([one.angle for one in found]).median() < 10
