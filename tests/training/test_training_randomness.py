"""Every photo once before any is shown again, whatever the batch, and by seed and step alone."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from preimage.training.randomness import batch_at, generator, seeded

few = settings(max_examples=30, deadline=None)


@few
@given(st.integers(1, 13), st.integers(1, 30), st.integers(0, 2**31))
def test_every_photo_once_before_any_again(count: int, batch: int, seed: int) -> None:
    steps = 3 * count
    shown = torch.cat([batch_at(step, count, batch, seed) for step in range(steps)])
    assert len(shown) == steps * batch
    for turn in shown[: len(shown) // count * count].view(-1, count):
        assert sorted(turn.tolist()) == list(range(count))


def test_a_step_does_not_depend_on_those_before() -> None:
    forward = [batch_at(step, 10, 4, 0) for step in range(6)]
    backward = [batch_at(step, 10, 4, 0) for step in reversed(range(6))][::-1]
    assert all(torch.equal(one, other) for one, other in zip(forward, backward, strict=True))


def test_turns_seeds_and_purposes_differ() -> None:
    assert not torch.equal(batch_at(0, 50, 50, 0), batch_at(1, 50, 50, 0))
    assert not torch.equal(batch_at(0, 50, 50, 0), batch_at(0, 50, 50, 1))
    drawn = {
        float(torch.randn((), generator=generator(seed, what, number)))
        for seed in (0, 1)
        for what in ("a", "b")
        for number in (0, 1)
    }
    assert len(drawn) == 8


def test_the_caller_s_randomness_stays_as_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(0, "layers"):
        first = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded(0, "layers"):
        assert torch.equal(torch.rand(2), first)
