"""The answer while the most important pixels go: closed forms on networks whose answer is a known sum of pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from preimage import Network, RequestError
from preimage.evaluation import deletion_curve
from preimage.evaluation.deletion import SHARES
from preimage.objectives import Objective, label

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
sizes = st.tuples(st.integers(4, 12), st.integers(4, 12))


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class Sums(nn.Module):
    """Class k is the sum of all pixels times weights[k]."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", images, self.weights)


def summing(weights: Tensor) -> Network:
    return Network(Sums(weights), tuple(weights.shape[2:]), channels=weights.shape[1])


def blurred(photos: Tensor) -> Tensor:
    """sigma is 10 pixels for photos of 224 (paper 4), as far as three of them."""
    sigma = 10 / 224 * min(photos.shape[2:])
    reach = math.ceil(3 * sigma)
    made = gaussian_filter(photos.double().numpy(), (0, 0, sigma, sigma), mode="reflect", radius=(0, 0, reach, reach))
    return torch.from_numpy(made)


def closed_form(weights: Tensor, photo: Tensor, heatmap: Tensor, shares: Any) -> list[float]:
    """Pixel after pixel is replaced, in Python's own stable order."""
    other = blurred(photo[None])[0]
    effect = (weights.double() * (other - photo.double())).sum(0).flatten()
    ranks = sorted(range(heatmap.numel()), key=lambda i: -float(heatmap.flatten()[i]))
    first = float((weights.double() * photo.double()).sum())
    return [first + float(effect[ranks[: round(share * len(ranks))]].sum()) for share in shares]


@few
@given(seeds, sizes, st.integers(1, 3), st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_it_is_the_sum_over_what_is_left_and_what_is_blurred(
    seed: int, size: tuple[int, int], channels: int, shares: list[float]
) -> None:
    """Shares in any order, also the same twice."""
    weights = uniform(seed, 2, channels, *size) - 0.5
    photos, heatmaps = uniform(seed + 1, 3, channels, *size), uniform(seed + 2, 3, *size) - 0.5
    network = summing(weights)
    asked = [label(k).bind(network) for k in (0, 1, 0)]
    found = deletion_curve(network, photos, heatmaps, asked, shares)
    assert found.shape == (3, len(shares)) and found.dtype == torch.float32
    for one, photo, heatmap, k in zip(found, photos, heatmaps, (0, 1, 0), strict=True):
        np.testing.assert_allclose(one.numpy(), closed_form(weights[k], photo, heatmap, shares), atol=2e-5)


def test_none_and_all_are_the_photo_and_the_blurred_photo() -> None:
    network = summing(uniform(0, 1, 3, 20, 20))
    photo = uniform(1, 1, 3, 20, 20)
    asked = [label(0).bind(network)]
    found = deletion_curve(network, photo, uniform(2, 1, 20, 20), asked, (0, 1))
    with torch.no_grad():
        assert found[0, 0].item() == pytest.approx(network.module(photo)[0, 0].item(), rel=1e-6)
        assert found[0, 1].item() == pytest.approx(network.module(blurred(photo).float())[0, 0].item(), rel=1e-5)


def test_every_twentieth_unless_one_says() -> None:
    assert list(SHARES) == pytest.approx(np.linspace(0, 1, 21))
    network = summing(uniform(0, 1, 1, 20, 20))
    photo, heatmap = uniform(1, 1, 1, 20, 20), uniform(2, 1, 20, 20)
    found = deletion_curve(network, photo, heatmap, [label(0).bind(network)])
    weights = network.module.weights.detach()[0]
    np.testing.assert_allclose(found[0].numpy(), closed_form(weights, photo[0], heatmap[0], SHARES), atol=2e-5)


def steps(size: tuple[int, int]) -> tuple[Network, Tensor]:
    """A photo of alternating black and white, and a network whose answer says how much of it is not yet blurred.

    Weights are such that each pixel's blurring takes away one of all.
    """
    height, width = size
    photo = (torch.arange(height)[:, None] + torch.arange(width)).remainder(2).float()[None, None]
    gone = photo.double() - blurred(photo)
    weights = (1 / (gone * height * width)).float()
    return summing(weights), photo


@few
@given(seeds, st.integers(0, 80))
def test_after_so_many_pixels_so_much_is_lost(seed: int, count: int) -> None:
    network, photo = steps((8, 10))
    found = deletion_curve(network, photo, uniform(seed, 1, 8, 10), [label(0).bind(network)], (0, count / 80))
    assert (found[0, 0] - found[0, 1]).item() == pytest.approx(count / 80, abs=1e-4)


def test_of_equal_ones_those_further_up_and_left_go_first() -> None:
    """What is lost with each tells which pixel it was: each is worth its own number."""
    photo = steps((6, 8))[1]
    gone = photo.double() - blurred(photo)
    network = summing((torch.arange(1, 49).view(1, 1, 6, 8) / gone).float())
    asked = [label(0).bind(network)]

    def order(heatmap: Tensor) -> list[int]:
        found = deletion_curve(network, photo, heatmap[None], asked, [i / 48 for i in range(49)])[0]
        return [round(float(lost)) - 1 for lost in found[:-1] - found[1:]]

    in_order = list(range(48))
    assert order(torch.full((6, 8), 0.25)) == in_order
    assert order(torch.zeros(6, 8, dtype=torch.long)) == in_order
    # Two levels: first the higher ones in order, then the others; -0.0 is 0.0.
    levels = torch.tensor([[0.0, 1.0, -0.0, 1.0] * 2] * 6)
    odd_first = in_order[1::2] + in_order[0::2]
    assert order(levels) == odd_first
    # Negative is less important than none.
    assert order(levels - 1) == odd_first and order(1000 * levels - 3) == odd_first


@few
@given(seeds)
def test_no_other_map_is_faster_than_what_each_pixel_takes_away(seed: int) -> None:
    weights, photo = uniform(seed, 1, 2, 7, 9) - 0.5, uniform(seed + 1, 1, 2, 7, 9)
    network = summing(weights)
    takes = (weights * (photo - blurred(photo))).sum(1).float()
    asked = [label(0).bind(network)] * 2
    shares = [i / 63 for i in range(64)]
    best, other = deletion_curve(
        network, photo.expand(2, -1, -1, -1), torch.cat([takes, uniform(seed + 2, 1, 7, 9)]), asked, shares
    )
    assert (best <= other + 1e-4).all()
    worst = deletion_curve(network, photo, -takes, asked[:1], shares)[0]
    assert (worst >= other - 1e-4).all()


def classifier() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 5, 3, 2), nn.ReLU(inplace=True), nn.BatchNorm2d(5), nn.Flatten(), nn.LazyLinear(4)
    )
    module(torch.zeros(2, 3, 16, 16))
    return Network(module.train(), 16, channels=3, labels=["cat", "dog", "newt", "crane"])


def test_a_batch_is_answered_as_each_alone() -> None:
    """Also with more shares than go through the network at once, and another objective for each photo."""
    network = classifier()
    photos, heatmaps = uniform(0, 5, 3, 16, 16), uniform(1, 5, 16, 16)
    kinds: list[Objective] = [
        label("cat", "prob").bind(network),
        label(1).bind(network),
        label(2, "logprob").bind(network),
        (label(0) - 2 * label(3)).bind(network),
        label("crane", "prob").bind(network),
    ]
    shares = [i / 40 for i in range(41)]
    together = deletion_curve(network, photos, heatmaps, kinds, shares)
    for i in range(5):
        alone = deletion_curve(network, photos[i : i + 1], heatmaps[i : i + 1], kinds[i : i + 1], shares)
        torch.testing.assert_close(together[i], alone[0], rtol=1e-5, atol=1e-6)
    for i in (0, 17, 40):
        alone = deletion_curve(network, photos, heatmaps, kinds, shares[i : i + 1])
        torch.testing.assert_close(together[:, i], alone[:, 0], rtol=1e-5, atol=1e-6)
    assert (together[0] > 0).all() and (together[0] < 1).all()


def test_network_photos_and_maps_are_as_they_were() -> None:
    network = classifier()
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    photos, heatmaps = uniform(0, 2, 3, 16, 16).requires_grad_(True), uniform(1, 2, 16, 16).requires_grad_(True)
    found = deletion_curve(network, photos, heatmaps, [label(0).bind(network)] * 2)
    assert not found.requires_grad and photos.grad is None
    assert torch.equal(photos.detach(), uniform(0, 2, 3, 16, 16)) and torch.equal(heatmaps, uniform(1, 2, 16, 16))
    assert all(part.training for part in network.module.modules())
    assert all(torch.equal(before[name], value) for name, value in network.module.state_dict().items())


# --- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("photos", "heatmaps", "objectives"),
    [
        ((2, 3, 16, 16), (1, 16, 16), 2),
        ((2, 3, 16, 16), (2, 16, 15), 2),
        ((2, 3, 16, 16), (2, 16, 16), 1),
        ((2, 3, 16, 16), (2, 16, 16), 3),
        ((2, 3, 16, 16), (2, 1, 16, 16), 2),
        ((3, 16, 16), (16, 16), 1),
        ((3, 16, 16), (3, 16), 3),
    ],
)
def test_shapes_that_do_not_fit_together_are_one_sentence(
    photos: tuple[int, ...], heatmaps: tuple[int, ...], objectives: int
) -> None:
    network = classifier()
    with pytest.raises(RequestError, match="do not fit together") as caught:
        deletion_curve(network, torch.zeros(photos), torch.zeros(heatmaps), [label(0).bind(network)] * objectives)
    for part in (str(list(photos)), str(list(heatmaps)), f"{objectives} objectives"):
        assert part in str(caught.value)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_maps_that_are_not_finite_have_no_order(wrong: float) -> None:
    network, heatmaps = classifier(), torch.zeros(1, 16, 16)
    heatmaps[0, 3, 4] = wrong
    with pytest.raises(RequestError, match="values that are not finite"):
        deletion_curve(network, torch.zeros(1, 3, 16, 16), heatmaps, [label(0).bind(network)])


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan, math.inf])
def test_shares_lie_between_zero_and_one(wrong: float) -> None:
    network = classifier()
    with pytest.raises(RequestError, match="shares of the pixels lie between 0 and 1"):
        deletion_curve(network, torch.zeros(1, 3, 16, 16), torch.zeros(1, 16, 16), [label(0).bind(network)], (0, wrong))


def test_no_photo_has_no_curve() -> None:
    found = deletion_curve(classifier(), torch.zeros(0, 3, 16, 16), torch.zeros(0, 16, 16), [])
    assert found.shape == (0, len(SHARES))
