"""Learned masks on a trained network and photographs: both games do what the paper says, within a third of its steps.

Photographs are resampled to 160 pixels, where the bundled network still knows them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import preimage as pi
from preimage.explain import Explanations, Mask
from preimage.priors import Gaussian

pytestmark = pytest.mark.real

SIZE = 160


@pytest.fixture(scope="module")
def few(photographs: list[tuple[Path, int]]) -> list[Path]:
    """Three photographs of three classes."""
    return [path for path, _ in photographs[:30:10]]


def learned(network: pi.Network, photos: list[Path], game: str) -> Explanations:
    method = Mask(game=game, iterations=100)  # type: ignore[arg-type]
    made = pi.explain(network, photos, method=method, size=SIZE, enlarge=True)
    assert isinstance(made, Explanations)
    return made


@pytest.fixture(scope="module")
def deleted(bundled: pi.Network, few: list[Path]) -> Explanations:
    return learned(bundled, few, "deletion")


@pytest.fixture(scope="module")
def preserved(bundled: pi.Network, few: list[Path]) -> Explanations:
    return learned(bundled, few, "preservation")


def masked(network: pi.Network, made: Explanations, others: Tensor) -> Tensor:
    """The probability of each photo's class where its mask puts another picture."""
    photos, masks = torch.stack([one.photo for one in made]), torch.stack([one.mask for one in made])[:, None]
    place = pi.Place(network.logits, after_relu=True)
    with torch.no_grad():
        chances = network.run(masks * photos + (1 - masks) * others, [place])[place].softmax(1)
    classes = [int(one.objective.split(":")[1].split(" ")[0]) for one in made]
    return chances[torch.arange(len(made)), classes]


def test_deletion_takes_the_answer_away_with_less_than_half_of_the_photo(
    bundled: pi.Network, deleted: Explanations
) -> None:
    for one in deleted:
        assert one.scores["masked"] < one.scores["photo"] / 10
        assert one.notes == []
        assert one.heatmap.min() >= 0 and one.heatmap.max() <= 1
    assert deleted.heatmaps.mean() < 0.5
    blurred = Gaussian(sigma=10 * SIZE / 224)(torch.stack([one.photo for one in deleted]))
    expected = torch.tensor([one.scores["masked"] for one in deleted])
    torch.testing.assert_close(masked(bundled, deleted, blurred), expected, rtol=0, atol=1e-3)


def test_preservation_keeps_the_answer_with_less_than_half_of_the_photo(preserved: Explanations) -> None:
    for one in preserved:
        assert one.scores["masked"] > 0.9 * one.scores["photo"]
        assert one.notes == []
    assert preserved.heatmaps.mean() < 0.5


def test_what_was_learned_with_a_blur_deletes_with_the_mean_colour_too(
    bundled: pi.Network, deleted: Explanations
) -> None:
    """Less well, but the mask is no trick of the blur alone: on average less than a fifth of the answer is left."""
    assert bundled.mean is not None
    mean = torch.tensor(bundled.mean)[:, None, None]
    before = torch.tensor([one.scores["photo"] for one in deleted])
    assert (masked(bundled, deleted, mean) / before).mean() < 0.2
