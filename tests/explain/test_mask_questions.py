"""Masks for other questions than one class: several classes, any objective, layers; and many photos at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import settings
from squares import (
    GAMES,
    Box,
    explained,
    inside,
    noise,
    overlap,
    sharpness,
    watched,
    weighted,
)
from torch import Tensor, nn

from preimage import Network, RequestError, UnknownTapError, explain, objectives
from preimage.explain import Mask
from preimage.explain.learning import is_probability
from preimage.explain.mask import Game
from preimage.objectives import label, probabilities

few = settings(max_examples=8, deadline=None)
LARGE, LARGE_BOX = 112, (32, 48, 36, 40)


def most_important(heatmap: Tensor, count: int) -> Tensor:
    return heatmap >= heatmap.flatten().topk(count).values[-1]


# --- other questions ----------------------------------------------------------------------------------------------


BOXES: list[Box] = [(8, 8, 16, 20), (36, 8, 20, 16), (24, 36, 24, 20)]


def test_several_classes_are_the_sum_of_their_probabilities() -> None:
    """SPEC M3. The strongest five of four classes are none, of three here `top:3`."""
    network, photo = sharpness(*BOXES), noise(2)
    place = network.module(photo[None]).softmax(1)[0]
    ranked = place.sort(descending=True).indices.tolist()
    ask = Mask(iterations=15)
    found = explain(network, photo, "top:3", method=ask)
    total = label(ranked[0], "prob") + label(ranked[1], "prob") + label(ranked[2], "prob")
    expected = explain(network, photo, total, method=ask)
    torch.testing.assert_close(found.heatmap, expected.heatmap)
    assert found.scores["photo"] == pytest.approx(place[ranked[:3]].sum().item(), abs=1e-5)
    assert found.objective == expected.objective
    assert explain(network, photo, "top:1", method=ask).objective == explain(network, photo, method=ask).objective


def test_several_classes_are_found_where_each_of_them_is() -> None:
    boxes: list[Box] = [(12, 16, 32, 28), (64, 16, 32, 36), (40, 68, 40, 28)]
    made = explained(sharpness(*boxes, size=LARGE), noise(2, LARGE), label(0) + label(1) + label(2), l1=1e-3)
    wanted = torch.stack([inside(box, LARGE) for box in boxes]).any(0)
    assert overlap(most_important(made.heatmap, int(wanted.sum())), wanted) > 0.8


class Layers(nn.Module):
    """A first layer that does nothing, and scores that weigh its positions."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.features = nn.Conv2d(2, 3, 1, bias=False)
        nn.init.ones_(self.features.weight)
        self.head = Sum(weights)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(images))
        return out


class Sum(nn.Module):
    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, values: Tensor) -> Tensor:
        return (values[:, None] * self.weights).flatten(2).sum(2)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("start", ["half", "circle", "ones"])
def test_a_mask_over_activations_finds_the_positions_that_count(game: Game, start: Any) -> None:
    """On a linear network: those that count are switched off, or kept, and exactly those (SPEC M7)."""
    weights = torch.zeros(2, 3, 8, 8)
    weights[0, 1, 2:5, 3:6] = 1.0
    weights[1] = 0.5
    network = Network(Layers(weights), 8, channels=2)
    method = Mask(game=game, at="features", start=start, tv=0.0, l1=1e-3, iterations=60)
    made = explain(network, torch.full((2, 8, 8), 0.5), "head:0", method=method)
    assert torch.equal(made.heatmap > 0.5, inside((2, 3, 3, 3), 8))
    assert made.scores["photo"] == pytest.approx(9)
    assert made.scores["perturbed"] == pytest.approx(0)
    kept = made.scores["masked" if game != "both" else "kept"]
    assert kept == pytest.approx(0 if game == "deletion" else 9, abs=1e-3)


def test_a_mask_over_activations_is_shown_at_the_photo_s_size() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, 1, 1), nn.AdaptiveAvgPool2d(1)
    )
    network = Network(nn.Sequential(*module, nn.Flatten(), nn.Linear(4, 3)), 32, channels=3)
    made = explained(network, noise(0, 32), "class:1", at="2", iterations=5, start="half", l1=0.0)
    assert made.mask is not None and made.mask.shape == (32, 32)
    assert made.trace is not None and made.trace.shape == (5,)
    coarse = F.interpolate(made.mask[None, None], (8, 8), mode="nearest")
    assert torch.equal(F.interpolate(coarse, (32, 32), mode="nearest")[0, 0], made.mask)
    # What the rest of the network says of the masked activations, computed by hand.
    with torch.no_grad():
        values = network.module[:3](noise(0, 32)[None])
        answers = network.module[3:](values * coarse).softmax(1)
    assert made.scores["masked"] == pytest.approx(answers[0, 1].item(), abs=1e-5)


@pytest.mark.parametrize(("tap", "words"), [("output", "no positions"), ("nowhere", "no tap 'nowhere'")])
def test_taps_without_positions_or_that_are_not_there_are_refused(tap: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        explained(sharpness(), noise(0), at=tap)
    with pytest.raises(UnknownTapError):
        explained(sharpness(), noise(0), at="nowhere")


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e4])
def test_scores_of_any_size_are_normalised(game: Game, factor: float) -> None:
    """The weights are for scores from 0 to 1; a logit a thousand times as large has the same mask."""
    weights = torch.zeros(2, 3, 8, 8)
    weights[0, 1, 2:5, 3:6] = torch.rand((3, 3), generator=torch.Generator().manual_seed(0))
    weights[1] = 0.01
    ask: dict[str, Any] = {
        "game": game, "iterations": 15, "cells": 8, "jitter": 0, "perturbation": "constant", "start": "half",
        "mask_blur": 10.0,
    }  # fmt: skip
    network = Network(Layers(weights), 8, channels=2, mean=(0.0, 0.0))
    photo = torch.full((2, 8, 8), 0.5)
    one = explained(network, photo, "head:0", **ask)
    other = explained(network, photo, factor * objectives.channel("head", 0), **ask)
    torch.testing.assert_close(other.heatmap, one.heatmap, rtol=0, atol=1e-3)
    assert other.scores["photo"] == pytest.approx(factor * one.scores["photo"], rel=1e-5)
    # From 1 for the photo to 0 for the perturbed one: as a probability of that size would be.
    share = weights[0].sum(0)[None] / weights[0].sum()
    if game != "both":
        twin = explained(weighted(share), torch.ones(1, 8, 8), "prob:0", **ask, l1=1e-4)
        torch.testing.assert_close(one.heatmap, twin.heatmap, rtol=0, atol=1e-3)


def test_an_objective_that_does_not_see_the_mask_has_nothing_to_find() -> None:
    made = explained(
        Network(Layers(torch.zeros(2, 3, 8, 8)), 8, channels=2), torch.zeros(2, 8, 8), "head:0", iterations=2
    )
    assert made.notes[0] == "the answer is the same for the photo and for the perturbed one: nothing to find"


def test_of_a_class_the_probability_is_asked() -> None:
    asked = [label(3), label(3, "logprob"), objectives.channel("a", 1), label(1) + label(2), 2 * label(1)]
    changed = [probabilities(one) for one in asked]
    assert changed[0] == label(3, "prob")
    assert changed[1:3] == asked[1:3]
    assert str(changed[3]) == "prob:1 + prob:2"
    assert [is_probability(one) for one in changed] == [True, False, False, True, False]
    assert not is_probability(label(1))


# --- batches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("game", GAMES)
def test_a_batch_is_what_each_photo_is_alone(game: Game) -> None:
    """The same class, so that the views are the same too."""
    network, photos = sharpness(), [noise(i) for i in range(3)]
    method = Mask(game=game, iterations=20)
    together = explain(network, photos, "class:0", method=method)
    for photo, one in zip(photos, together, strict=True):
        alone = explain(network, photo, "class:0", method=method)
        torch.testing.assert_close(one.heatmap, alone.heatmap, rtol=0, atol=1e-4)
        assert one.scores == pytest.approx(alone.scores, abs=1e-5)
        assert one.details == alone.details
        torch.testing.assert_close(one.trace, alone.trace, rtol=0, atol=1e-4)


def test_different_classes_in_a_batch_are_what_each_is_alone() -> None:
    """The jitter is the same for all, whatever else is asked."""
    network, photos = sharpness(*BOXES), [noise(0), noise(1)]
    method = Mask(iterations=20)
    classes = ["class:0", "class:1", "class:2"]
    each = [explain(network, photo, name, method=method) for photo in photos for name in classes]
    for batch_size in (1, 2, 5):
        together = explain(network, photos, classes, method=method, batch_size=batch_size)
        assert [one.of for one in together] == [0, 0, 0, 1, 1, 1]
        for one, alone in zip(together, each, strict=True):
            assert one.objective == alone.objective
            torch.testing.assert_close(one.heatmap, alone.heatmap, rtol=0, atol=1e-4)


def test_a_random_start_is_each_objective_s_own_in_any_company() -> None:
    """Over a white photo perturbed to black, the first that the network is shown is the start."""
    method = Mask(iterations=1, start="random", jitter=0, mask_blur=0.0, cells=32, perturbation="constant")

    def first(*targets: str, seed: int = 0) -> Tensor:
        network, shown = watched(weighted(torch.full((1, 32, 32), 0.5 / 1024)))
        explain(network, torch.ones(1, 32, 32), list(targets), method=method, seed=seed)
        return shown[0][:, 0]

    together, alone = first("prob:0", "prob:1"), first("prob:1")
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(first("prob:1", seed=1), alone)
    # Evenly between 0 and 1: five standard errors.
    assert abs(alone.mean().item() - 0.5) < 5 * 12**-0.5 / 32
    assert abs(alone.std().item() - 12**-0.5) < 0.02
