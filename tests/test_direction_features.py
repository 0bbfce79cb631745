"""Directions of some of a layer's channels, and aggregations whose maxima are smoothed."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from preimage import Network, Place, RequestError, maximize
from preimage.objectives import (
    Direction,
    EachItsOwn,
    WeightedSum,
    aggregated,
    channel,
    direction,
    floored_cosines,
    in_sequence,
)
from preimage.objectives.directions import Aggregate, has_maxima, maxima_width

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
powers = st.sampled_from([0.0, 1.0, 2.0, 3.0])
chosen = st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True)
CHANNELS, TAP = 6, Place("layer")


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def small() -> Network:
    torch.manual_seed(0)
    return Network(nn.Sequential(nn.Conv2d(3, CHANNELS, 3), nn.ReLU(), nn.Flatten(), nn.Linear(CHANNELS * 36, 4)), 8)


def means_of_maxima(activation: Tensor, width: Tensor | None = None) -> Tensor:
    """The mean over positions of the maximum of each 3 x 3 window, or of w logsumexp(x / w), window by window."""
    windows = activation.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
    if width is None:
        return windows.amax(-1).mean((2, 3))
    wide = width.view(-1, 1, 1, 1)
    return (wide * torch.logsumexp(windows / wide[..., None], -1)).mean((2, 3))


def by_hand(response: Tensor, vector: Tensor, k: float) -> Tensor:
    unit = vector / vector.norm()
    return (response @ unit) * (response @ unit / response.norm(dim=1)) ** k


# --- features ---------------------------------------------------------------------------------------------------------


@few
@given(seeds, chosen, powers, st.sampled_from(["max-mean", "mean", "centre"]))
def test_a_direction_of_some_channels_sees_no_other(seed: int, some: list[int], k: float, aggregate: Aggregate) -> None:
    activation = drawn(seed, 3, CHANNELS, 5, 7) + 2
    vector = drawn(seed + 1, len(some)).abs()
    asked = direction("layer", vector, k, aggregate, features=some)
    response = {
        "max-mean": means_of_maxima(activation),
        "mean": activation.mean((2, 3)),
        "centre": activation[:, :, 2, 3],
    }[aggregate]
    found = asked.score({TAP: activation})
    torch.testing.assert_close(found, by_hand(response[:, some], vector, k), rtol=1e-5, atol=1e-6)
    others = activation.clone()
    others[:, [i for i in range(CHANNELS) if i not in some]] = 1e9
    assert torch.equal(asked.score({TAP: others}), found)


@few
@given(seeds, powers)
def test_all_channels_in_order_are_the_same_as_none_said(seed: int, k: float) -> None:
    activation, vector = drawn(seed, 2, CHANNELS, 4, 4), drawn(seed + 1, CHANNELS)
    whole = direction("layer", vector, k).score({TAP: activation})
    assert torch.equal(direction("layer", vector, k, features=range(CHANNELS)).score({TAP: activation}), whole)
    order = torch.randperm(CHANNELS, generator=torch.Generator().manual_seed(seed)).tolist()
    mixed = direction("layer", vector[order], k, features=order).score({TAP: activation})
    torch.testing.assert_close(mixed, whole, rtol=1e-6, atol=1e-9)


def test_features_of_a_layer_without_positions() -> None:
    activation = drawn(0, 3, CHANNELS)
    found = direction("layer", [3.0, 4.0], features=(4, 1)).score({TAP: activation})
    expected = by_hand(activation[:, [4, 1]], torch.tensor([3.0, 4.0]).double(), 2)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_features_that_the_layer_does_not_have_are_refused() -> None:
    network = small()
    for some in ([0, CHANNELS], [-1, 2]):
        with pytest.raises(RequestError, match=f"'0' has channels 0 to {CHANNELS - 1}, not all of"):
            direction("0", [1.0, 2.0], features=some).bind(network)
    for count in (1, 3):
        with pytest.raises(RequestError, match=f"2 features take as many numbers, not {count}"):
            direction("0", [1.0] * count, features=[0, 2]).bind(network)
    with pytest.raises(RequestError, match="one number per channel"):
        direction("0", [1.0, 2.0]).bind(network)
    bound = direction("0", [1.0, 2.0], features=[5, 2]).bind(network)
    assert isinstance(bound, Direction) and bound.features == (5, 2)


def test_directions_of_other_features_or_widths_are_other_objectives() -> None:
    same = [direction("0", [1.0, 2.0], features=[3, 4]), direction("0", [2.0, 4.0], features=torch.tensor([3, 4]))]
    assert same[0] == same[1] and hash(same[0]) == hash(same[1])
    others = [
        direction("0", [1.0, 2.0]),
        direction("0", [1.0, 2.0], features=[4, 3]),
        direction("0", [1.0, 2.0], 1, features=[3, 4]),
        direction("0", [1.0, 2.0], aggregate="mean", features=[3, 4]),
        same[0].without_kinks({Place("0"): drawn(0, 1, CHANNELS, 4, 4)}, 0.1),
    ]
    assert len({*same, *others}) == 1 + len(others)


def test_a_direction_of_some_channels_names_the_strongest_channel() -> None:
    assert "strongest 5," in str(direction("0", [1.0, -3.0, 2.0], features=[4, 5, 0]))


def test_a_feature_given_twice_is_refused() -> None:
    with pytest.raises(RequestError, match="twice"):
        direction("0", [1.0, 2.0], features=[3, 3]).bind(small())


def test_an_image_is_made_for_some_channels() -> None:
    network = small()
    asked = direction("0", [1.0, 2.0], features=[5, 2])
    made = maximize(network, asked, recipe="plain", steps=22, progress=False)
    activation = network.run(made.images, ["0"])[Place("0")].double()
    expected = by_hand(means_of_maxima(activation)[:, [5, 2]], torch.tensor([1.0, 2.0]).double(), 2)
    torch.testing.assert_close(made.scores.double(), expected, rtol=1e-5, atol=0)
    assert made.scores[0] > 2 * float(made.trace[0, 0])


# --- smoothed maxima --------------------------------------------------------------------------------------------------


@few
@given(seeds, st.floats(2**-6, 4, width=32), powers)
def test_smoothed_maxima_are_logsumexp_over_windows(seed: int, width: float, k: float) -> None:
    activation, vector = drawn(seed, 3, CHANNELS, 4, 6), drawn(seed + 1, CHANNELS)
    smooth = Direction(TAP, vector / vector.norm(), k, width=width).score({TAP: activation})
    response = means_of_maxima(activation, torch.tensor([width]).double())
    torch.testing.assert_close(smooth, by_hand(response, vector, k), rtol=1e-9, atol=1e-12)
    above = aggregated(activation, "max-mean", width) - aggregated(activation, "max-mean")
    assert (above >= -1e-13).all() and (above > 0).any()
    assert (above <= width * math.log(9) * (1 + 1e-12)).all()


@few
@given(seeds)
def test_every_image_may_have_its_own_width(seed: int) -> None:
    activation = drawn(seed, 3, CHANNELS, 5, 5)
    widths = torch.tensor([0.01, 0.5, 20.0], dtype=torch.float64)
    found = aggregated(activation, "max-mean", widths)
    torch.testing.assert_close(found, means_of_maxima(activation, widths), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("aggregate", ["max-mean", "mean", "centre"])
@pytest.mark.parametrize("shape", [(CHANNELS,), (CHANNELS, 9), (CHANNELS, 2, 5), (CHANNELS, 3, 3)])
def test_only_maxima_are_smoothed(aggregate: Aggregate, shape: tuple[int, ...]) -> None:
    """Means, central positions, logits, tokens and maps of fewer than 3 positions have none."""
    activation = drawn(0, 1, *shape)
    asked = direction("layer", [1.0] * CHANNELS, aggregate=aggregate)
    changed = asked.without_kinks({TAP: activation}, 0.1)
    pooled = aggregate == "max-mean" and shape == (CHANNELS, 3, 3)
    assert has_maxima(activation, aggregate) == pooled
    if not pooled:
        assert changed is asked
        assert torch.equal(aggregated(activation, aggregate, 7.0), aggregated(activation, aggregate))
    else:
        assert changed.width == pytest.approx(0.1 * float(activation.abs().mean()), rel=1e-12)
        assert changed.width == maxima_width(activation, 0.1)


@pytest.mark.parametrize("k", [0.0, 1.0, 2.0])
def test_the_gradient_of_a_smoothed_direction_is_a_finite_difference(k: float) -> None:
    activation = drawn(1, 1, 3, 4, 4) + 3
    activation[:, :, :3, :3] = 3.0  # where maxima have kinks
    smooth, exact = (
        Direction(TAP, torch.tensor([0.6, 0.0, 0.8]).double(), k, width=width, features=(0, 1, 2))
        for width in (0.3, None)
    )
    activation.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: smooth.score({TAP: x}), activation)
    assert not torch.autograd.gradcheck(lambda x: exact.score({TAP: x}), activation, raise_exception=False)


@pytest.mark.parametrize("views", [1, 3])
def test_every_member_is_smoothed_by_the_size_of_its_own_image(views: int) -> None:
    sizes = (0.01, 1.0, 100.0)
    activation = drawn(2, 3 * views, CHANNELS, 5, 5) * torch.tensor(sizes).repeat_interleave(views).view(-1, 1, 1, 1)
    a, b = direction("layer", range(1, CHANNELS + 1)), direction("layer", [1.0] * CHANNELS, 0)
    flat = direction("layer", [1.0] * CHANNELS, aggregate="mean")
    members = (2 * a - b, floored_cosines(b), in_sequence([a, flat, channel("layer", 1)]))
    found = EachItsOwn(members).smoothed({TAP: activation}, 0.2).members
    widths = [0.2 * float(activation[i * views : (i + 1) * views].abs().mean()) for i in range(3)]
    assert isinstance(found[0], WeightedSum)
    assert [weight for weight, _ in found[0].terms] == [2.0, -1.0]
    leaves: list[list[object]] = [[], [], []]
    for member, seen in zip(found, leaves, strict=True):
        member.each(lambda leaf, seen=seen: (seen.append(leaf), leaf)[1])  # type: ignore[misc]
    said = [[getattr(leaf, "width", None) for leaf in seen] for seen in leaves]
    assert said[0] == pytest.approx([widths[0]] * 2, rel=1e-12)
    assert said[1] == pytest.approx([widths[1]], rel=1e-12)
    assert said[2][0] == pytest.approx(widths[2], rel=1e-12) and said[2][1:] == [None, None]
    assert all(getattr(leaf, "width", None) is None for leaf in (a, b, flat))
    # Everything else about the members is as it was.
    unsmoothed = [one.each(lambda leaf: _exact(leaf)) for one in found]
    assert unsmoothed == list(members)


def _exact(leaf: object) -> Direction:
    if not isinstance(leaf, Direction):
        return leaf  # type: ignore[return-value]
    return Direction(leaf.place, leaf.vector, leaf.cosine_power, leaf.aggregate, leaf.floor, None, leaf.features)


def test_the_pooling_itself_is_that_of_torch() -> None:
    activation = drawn(3, 2, CHANNELS, 5, 6)
    assert torch.equal(aggregated(activation, "max-mean"), F.max_pool2d(activation, 3, 1).flatten(2).mean(2))
