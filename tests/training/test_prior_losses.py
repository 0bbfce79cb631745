"""The losses of paper 3 against their equations, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from preimage import RequestError
from preimage.training.losses import (
    SHARES,
    adversarial_loss,
    checked_losses,
    discriminator_loss,
    squared_distance,
)

few = settings(max_examples=25, deadline=None)
logits = st.lists(st.floats(-8, 8), min_size=1, max_size=6).map(lambda them: torch.tensor(them, dtype=torch.float64))


def test_squared_distance_is_summed_over_an_image_and_averaged_over_images() -> None:
    made = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]])
    wanted = torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]]])
    assert float(squared_distance(made, wanted)) == (5 + 25) / 2


def test_the_gradient_of_a_squared_distance_is_twice_the_difference_over_the_number_of_images() -> None:
    made, wanted = torch.rand(3, 2, 4, 4, dtype=torch.float64), torch.rand(3, 2, 4, 4, dtype=torch.float64)
    leaf = made.clone().requires_grad_()
    squared_distance(leaf, wanted).backward()
    torch.testing.assert_close(leaf.grad, 2 * (made - wanted) / 3, rtol=1e-12, atol=0)


@few
@given(logits, logits)
def test_logarithms_of_probabilities(real: torch.Tensor, fake: torch.Tensor) -> None:
    """Equations 21 and 22, with D the sigmoid of its logit."""
    said = [1 / (1 + math.exp(-one)) for one in fake.tolist()]
    true = [1 / (1 + math.exp(-one)) for one in real.tolist()]
    generator = sum(-math.log(one) for one in said) / len(said)
    judge = sum(-math.log(one) for one in true) / len(true) + sum(-math.log(1 - one) for one in said) / len(said)
    assert float(adversarial_loss(fake)) == pytest.approx(generator, rel=1e-10)
    assert float(discriminator_loss(real, fake)) == pytest.approx(judge, rel=1e-9)


@few
@given(logits)
def test_two_outputs_and_a_softmax_are_the_same(fake: torch.Tensor) -> None:
    """The paper's D has two outputs; ours is their difference."""
    first = torch.randn(len(fake), dtype=torch.float64)
    both = torch.stack([first, first + fake], 1).log_softmax(1)
    torch.testing.assert_close(adversarial_loss(fake), -both[:, 1].mean(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(discriminator_loss(fake, fake), -both.sum(1).mean(), rtol=1e-9, atol=1e-12)


def test_who_wants_what() -> None:
    """G's loss falls as D takes its images for photos; D's rises, and falls as it takes photos for photos."""
    fake, real = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    (g_slope,) = torch.autograd.grad(adversarial_loss(fake), fake)
    d_slopes = torch.autograd.grad(discriminator_loss(real, fake), (real, fake))
    assert (g_slope < 0).all() and (d_slopes[0] < 0).all() and (d_slopes[1] > 0).all()


def test_g_learns_most_where_d_is_sure() -> None:
    """What does not saturate: the slope goes to -1, not to 0, as D is sure that it was made."""
    fake = torch.tensor([-30.0], requires_grad=True)
    (slope,) = torch.autograd.grad(adversarial_loss(fake), fake)
    assert float(slope) == pytest.approx(-1)
    assert math.isfinite(float(adversarial_loss(torch.tensor([-1e4]))))


def test_losses_are_asked_for_by_names_or_shares() -> None:
    assert checked_losses(["adversarial", "image"]) == {"image": 1.0, "adversarial": SHARES["adversarial"]}
    assert checked_losses({"code": 2, "image": 0.5}) == {"image": 0.5, "code": 2.0}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["picture"], "there is no loss 'picture'; there are image, match, code, adversarial"),
        ([], "at least one loss is needed"),
        ({"image": 0}, "the share of the loss 'image' is a number above zero, not 0"),
        ({"image": float("nan")}, "not nan"),
    ],
)
def test_wrong_losses_get_one_sentence(asked: object, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        checked_losses(asked)  # type: ignore[arg-type]
