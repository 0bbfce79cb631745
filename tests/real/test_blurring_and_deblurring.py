"""Paper 0 on real trained networks: its claims that can be told in seconds (the rest: experiments/)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import networks
import preimage as pi
from preimage.objectives import EachItsOwn, neuron, residual, resolve, tiled
from preimage.optimization import Climb, climb, plain_scores
from preimage.recipes import Recipe, find_recipe, with_weight_decay

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def vgg19() -> pi.Network:
    return pi.Network(networks.vgg19(), name="vgg19")


@pytest.mark.parametrize(("recipe", "steps"), [("jitter-resize", 80), ("blur", 200), ("blur-deblur", 80)])
def test_a_class_s_picture_is_recognised_by_its_own_network(squeezenet: pi.Network, recipe: str, steps: int) -> None:
    """Among the first five of 1000, shown as a whole, with a share of the recipe's steps."""
    result = pi.maximize(squeezenet, "class:flamingo", recipe=recipe, steps=steps)
    place = pi.Place(squeezenet.logits, after_relu=True)
    with torch.no_grad():
        assert 130 in squeezenet.run(result.images, [place])[place][0].topk(5).indices


@pytest.mark.parametrize(("name", "tap"), [("squeezenet", "features.9"), ("resnet50", "layer2.1")])
def test_a_unit_that_is_off_has_no_gradient_behind_its_relu(
    name: str, tap: str, request: pytest.FixtureRequest
) -> None:
    """Claim 5, behind a concatenation and behind a residual addition."""
    network: pi.Network = request.getfixturevalue(name)
    image = torch.full((1, 3, *network.input_size), 0.5).requires_grad_(True)
    places = pi.Place(tap), pi.Place(tap, after_relu=True)
    values = network.run(image, places)
    before, behind = (values[place][0, :, 7, 7] for place in places)
    off = (before < 0).nonzero().flatten().tolist()[:4]
    assert len(off) == 4
    for i in off:
        gradients = [torch.autograd.grad(side[i], image, retain_graph=True)[0] for side in (before, behind)]
        assert gradients[0].abs().max() > 0
        assert torch.count_nonzero(gradients[1]) == 0


def test_the_search_finds_the_highest_of_all_step_sizes(squeezenet: pi.Network) -> None:
    """Claim 1 for a unit in the middle: one that lies within what was tried, and cheaper than trying all."""
    ask = {"recipe": "unconstrained", "steps": 120, "size": "receptive-field"}
    result = pi.maximize(squeezenet, "features.8:21@centre", optimizer="auto", **ask)
    (search,) = result.settings["step_sizes"]
    factors = [row[0] for row in search["tried"]]
    assert min(factors) < search["factor"] < max(factors)
    assert search["cost"] < len(factors) - 1
    assert result.scores > pi.maximize(squeezenet, "features.8:21@centre", **ask).scores


def test_the_first_layer_has_no_best_step_size(squeezenet: pi.Network) -> None:
    with pytest.raises(pi.RequestError, match=r"features\.0:5@centre .* has no best one.*first layer"):
        pi.maximize(
            squeezenet,
            "features.0:5@centre",
            recipe="unconstrained",
            steps=60,
            size="receptive-field",
            optimizer="auto",
        )


def test_a_picture_of_the_receptive_field_is_worth_as_much_in_its_place(squeezenet: pi.Network) -> None:
    """What a unit of SqueezeNet sees ends where its receptive field does."""
    made = pi.maximize(squeezenet, "features.7:20@centre", recipe="unconstrained", steps=20, size="receptive-field")
    assert made.images.shape[2:] == (64, 64)
    placed = pi.placed(squeezenet, made.images[0], "features.7")
    asked = EachItsOwn(tuple(resolve("features.7:20@centre", squeezenet)))
    torch.testing.assert_close(plain_scores(squeezenet, asked, placed[None], (227, 227)), made.scores)


def largest_pixel(network: pi.Network, recipe: Recipe, tap: str, steps: int) -> list[float]:
    """Of all pixels, on average over two channels, after every step."""
    recipe = recipe.stretched(steps).windowed(48, 48)
    parametrization = recipe.parametrization(3, 64, 64, None)
    start = torch.stack([parametrization.start(torch.Generator().manual_seed(0))] * 2)
    seen: list[float] = []

    def note(reached: Climb) -> Tensor:
        seen.append(float(reached.parameters.abs().flatten(1).max(1).values.mean()))
        return torch.ones(2, dtype=torch.bool)

    asked = EachItsOwn(tuple(resolve([f"{tap}:10", f"{tap}:100"], network)))
    climb(network, asked, parametrization, start, recipe.stages, torch.Generator().manual_seed(1), referee=note)
    return seen


def test_extreme_pixels_grow_in_vgg_and_weight_decay_bounds_them(vgg19: pi.Network) -> None:
    """Claim 3: without decay they go on growing, with it they end below; a strong one holds them where they are."""
    jitter = find_recipe("jitter")
    without = largest_pixel(vgg19, jitter, "relu4_4", 60)
    decayed = largest_pixel(vgg19, with_weight_decay(jitter, 0.05), "relu4_4", 60)
    assert without[-1] > 1.5 * without[29]
    assert decayed[-1] < 0.5 * without[-1]
    assert decayed[-1] < 1.5 * decayed[29]


def test_a_residual_block_is_asked_for_its_branch_first(resnet50: pi.Network) -> None:
    """The trace is that of the branch in the first half, and of the sum in the second."""
    asked = residual("layer2.1", 40, "layer2.1.bn3")
    made = pi.maximize(resnet50, asked, recipe="plain", steps=4, window=96)
    halves = [pi.maximize(resnet50, one, recipe="plain", steps=4, window=96) for one in asked.members]
    torch.testing.assert_close(made.trace[:2], halves[0].trace[:2])
    place = pi.Place("layer2.1")
    with torch.no_grad():
        torch.testing.assert_close(made.scores, resnet50.run(made.images, [place])[place][:, 40].mean((1, 2)))
    assert made.objectives == ["layer2.1.bn3:40 then layer2.1:40"]


def test_filters_on_one_canvas_are_what_each_would_be_alone(squeezenet: pi.Network) -> None:
    """A tile's gradient is its own unit's: after one step of plain ascent the tiles are those of separate canvases."""
    tiling = tiled(squeezenet, "features.6", range(4), gap=4)
    recipe = find_recipe("unconstrained").stretched(1)
    recipe = recipe.with_optimizer(replace(recipe.stages[0].optimizer, per_first_gradient=False, step_size=1e-6))
    together = pi.maximize(squeezenet, tiling.objective, recipe=recipe, size=tiling.size)
    for index, tile, (y, x) in zip(range(4), tiling.cut(together.images[0]), tiling.positions, strict=True):
        alone = pi.maximize(squeezenet, pi.objectives.unit("features.6", index, y, x), recipe=recipe, size=tiling.size)
        torch.testing.assert_close(tile, tiling.cut(alone.images[0])[index])


def test_neurons_need_less_canvas_the_lower_they_are(resnet50: pi.Network) -> None:
    sides = [
        pi.maximize(resnet50, neuron(tap, 3), recipe="unconstrained", steps=1, size="receptive-field").images.shape[2]
        for tap in ("layer1.1", "layer2.2", "layer3.1")
    ]
    assert sides == sorted(sides)
    assert sides[0] < sides[2] / 4
