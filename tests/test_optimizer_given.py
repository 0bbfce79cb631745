"""`maximize` with an optimizer that takes the place of the recipe's, or with the best step size of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from peaks import GOAL, Convolutional, ascent, peak, recipe
from preimage import Network, RequestError, maximize, recipes
from preimage.optimization import LBFGS, Adam, Ascent, Momentum, NormalisedAscent, Optimizer, Stage
from preimage.transforms import Jitter


def test_auto_gives_each_objective_the_picture_of_its_own_best_step_size() -> None:
    network = Network(Convolutional(1), 16)
    made = recipe(Stage(55, NormalisedAscent(0.01), transforms=(Jitter(2),)))
    asked = ["4:1", "4:2", "4:1", "2:3"]
    found = maximize(network, asked, recipe=made, optimizer="auto", seed=3)
    said = json.loads(json.dumps(found.settings["step_sizes"], allow_nan=False))
    assert [one["objective"] for one in said] == ["4:1", "4:2", "2:3"]
    factors = {one["objective"]: one["factor"] for one in said}
    assert len(set(factors.values())) > 1, "or this shows little"
    for objective, factor in factors.items():
        with_it = maximize(network, asked, recipe=made, optimizer=NormalisedAscent(0.01 * factor), seed=3)
        for index in (i for i, one in enumerate(asked) if one == objective):
            torch.testing.assert_close(found.scores[index], with_it.scores[index], rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(found.trace[:20, index], with_it.trace[:20, index], rtol=1e-3, atol=1e-3)
    assert found.settings["recipe"] == made.describe()


@pytest.mark.parametrize("best", [-1, 4])
def test_auto_reaches_a_goal_that_the_recipe_misses(best: int) -> None:
    network, _ = peak()
    made = recipe(Stage(4, ascent(best)))
    found, plain = (maximize(network, "class:0", recipe=made, optimizer=how) for how in ("auto", None))
    assert float(found.images.mean()) == pytest.approx(GOAL, abs=1e-5)
    assert abs(float(plain.images.mean()) - GOAL) > 0.1
    assert "step_sizes" not in plain.settings


def test_auto_is_the_same_again() -> None:
    network = Network(Convolutional(1), 16)
    made = recipe(Stage(12, NormalisedAscent(0.01), transforms=(Jitter(2),)))
    one, again = (maximize(network, ["4:1", "2:0"], recipe=made, optimizer="auto", seed=9) for _ in range(2))
    assert torch.equal(one.images, again.images)
    assert one.settings == again.settings


@pytest.mark.parametrize("optimizer", [Adam(0.03), Momentum(0.5, 0.5), Ascent(2.0), LBFGS()], ids=str)
def test_an_optimizer_given_takes_the_place_of_the_recipe_s(optimizer: Optimizer) -> None:
    network = Network(Convolutional(1), 8)
    given_one = recipe(Stage(3, Adam(0.7)), Stage(2, None, transforms=(Jitter(1),)), Stage(2, NormalisedAscent(0.3)))
    by_hand = recipe(Stage(3, optimizer), Stage(2, None, transforms=(Jitter(1),)), Stage(2, optimizer))
    result = maximize(network, ["4:1", "0:0"], recipe=given_one, optimizer=optimizer)
    expected = maximize(network, ["4:1", "0:0"], recipe=by_hand)
    assert torch.equal(result.images, expected.images)
    assert torch.equal(result.trace, expected.trace)
    assert result.settings["recipe"] == by_hand.describe()
    assert "step_sizes" not in result.settings


def test_the_recipe_itself_is_not_changed() -> None:
    before = recipes()["plain"].describe()
    result = maximize(Network(Convolutional(), 8), "4:1", recipe="plain", optimizer=Adam(0.01), steps=11)
    assert recipes()["plain"].describe() == before
    assert [stage["optimizer"] for stage in result.settings["recipe"]["stages"]] == [repr(Adam(0.01))] * 2


@pytest.mark.parametrize("optimizer", ["automatic", "", "Adam", 0.1, Adam])
def test_anything_else_is_no_optimizer(optimizer: Any) -> None:
    with pytest.raises(RequestError, match="an optimizer is 'auto' or an Optimizer, not"):
        maximize(Network(Convolutional(), 8), "4:1", recipe=recipe(Stage(3, Adam(0.1))), optimizer=optimizer)
