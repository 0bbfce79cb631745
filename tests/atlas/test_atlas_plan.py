"""Which batches an atlas is made in: from the settings alone, each unit once, within the memory that is given."""

from __future__ import annotations

import itertools
import json
import re
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import preimage as pi
from preimage import RequestError
from preimage.atlas.plan import TapPlan, bytes_per_picture, planned, taps_of
from preimage.atlas.plan import whole_network as whole
from preimage.recipes import find_recipe

DEFAULT = find_recipe(None)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.relu(self.norm(self.conv(x))))


@pytest.fixture(scope="module")
def network() -> pi.Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), Residual(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip
    return pi.Network(module, input_size=40, labels=list("abcde"))


def plan(first: int, last: int, batch: int) -> TapPlan:
    return TapPlan("a", "a", "Conv2d", (99, 4, 4), (3, 3), (1, 1), (first, last), "channel", (8, 8), batch)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 70))
def test_every_unit_is_in_one_batch_in_order_and_none_is_too_large(first: int, more: int, batch: int) -> None:
    batches = plan(first, first + more, batch).batches
    assert [c for one in batches for c in one.channels] == list(range(first, first + more + 1))
    sizes = [len(one.channels) for one in batches]
    assert max(sizes) <= batch and max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
    assert len(batches) == -(-(more + 1) // batch), "as few as can be"
    assert len({one.file for one in batches} | {one.examples_file for one in batches}) == 2 * len(batches)


def test_a_plan_is_read_back_as_it_was(network: pi.Network) -> None:
    taps = planned(network, ["0", "3:2-5", "8"], DEFAULT, batch_size=3)
    assert taps_of(json.loads(json.dumps({"taps": [one.as_dict() for one in taps]}))) == taps
    with pytest.raises(RequestError, match="no plan that can be read"):
        taps_of({"taps": [{"tap": "0"}]})


def test_low_units_are_seen_alone_and_high_ones_with_all(network: pi.Network) -> None:
    low, high, classes = planned(network, ["0", "4", "output"], DEFAULT)
    assert (low.asked, low.written(3)) == ("centre", "0:3@centre") and high.asked == "centre"
    for one, field, stride in ((low, 3, 2), (high, 11, 4)):  # 3; and 3 + 2 * 2 + 4 * 1
        assert network.sees(one.tap, one.seen)[1] == (field, field)  # type: ignore[index]
        assert network.sees(one.tap, (one.seen[0] - stride,) * 2)[1] != (field, field)  # type: ignore[index]
    assert (classes.asked, classes.seen, classes.written(2)) == ("class", (40, 40), "class:2")
    for one in (low, high, classes):
        row = network.taps()[one.tap]
        assert one.receptive_field == row.receptive_field and one.count == row.channels
        assert str(one.objective(1).bind(network)).startswith(one.written(1))
    (sized,) = planned(network, "0", DEFAULT, size=20)
    assert (sized.asked, sized.seen, sized.written(3)) == ("channel", (20, 20), "0:3")


def test_some_channels_or_the_first_ones(network: pi.Network) -> None:
    taps = planned(network, ["0:2-6", "4:7", "8"], DEFAULT, units=3)
    assert [one.channels for one in taps] == [(2, 4), (7, 7), (0, 2)]


def test_the_whole_network_has_each_kind_of_unit_once(network: pi.Network) -> None:
    """The last of what one unit goes through; the mean over positions is the channel once more."""
    # Convolution, normalisation and activation of "0" are one; the residual sum sees what its convolution sees.
    assert whole(network) == ["2", "3", "5", "output"]
    assert [one.tap for one in planned(network, None, DEFAULT)] == ["2", "3", "5", "output"]


def test_what_a_picture_takes_counts_all_maps_down_to_its_tap(network: pi.Network) -> None:
    table = network.taps()
    row = table["0"]
    values, pixels = 8 * 20 * 20, 3 * 40 * 40
    assert bytes_per_picture(network, row, DEFAULT, (40, 40)) == (2 * values + 6 * pixels) * 4
    assert bytes_per_picture(network, row, DEFAULT, (20, 20)) == (2 * values + 6 * pixels) * 4 / 4
    sizes = [bytes_per_picture(network, one, DEFAULT, (40, 40)) for one in table]
    assert sizes == sorted(sizes) and len(set(sizes)) == len(sizes)


def test_a_batch_fits_the_memory_and_one_picture_that_does_not_is_refused(network: pi.Network) -> None:
    each = bytes_per_picture(network, network.taps()["8"], DEFAULT, (40, 40))
    for memory, batch in ((each, 1), (3 * each - 1, 2), (3 * each, 3), (100 * each, 4)):
        (one,) = planned(network, "8", DEFAULT, memory=memory, batch_size=4)
        assert one.batch == batch
    with pytest.raises(RequestError, match=r"one picture of '8' takes about .* does not fit into a memory"):
        planned(network, "8", DEFAULT, memory=each - 1)


@pytest.mark.parametrize(
    ("at", "says"),
    [
        (["0", "0"], "'0' is asked twice"),
        (["0:0-3", "0:5"], "'0' is asked twice"),
        ("0:8", "'0' has channels 0 to 7, not 8 to 8"),
        ("0:5-2", "'0' has channels 0 to 7, not 5 to 2"),
        ([], "one tap at least"),
        ("nowhere", "has no tap 'nowhere'"),
        ("nowhere:0-2", "has no tap 'nowhere'"),
    ],
)
def test_units_that_there_are_not_are_refused(network: pi.Network, at: str | list[str], says: str) -> None:
    with pytest.raises(RequestError, match=re.escape(says)):
        planned(network, at, DEFAULT)


@settings(max_examples=20)
@given(st.integers(-3, 0))
def test_less_than_one_is_none(network: pi.Network, count: int) -> None:
    for key in ("batch_size", "units"):
        with pytest.raises(RequestError, match="at least 1"):
            planned(network, "0", DEFAULT, **{key: count})


def test_small_pictures_are_made_with_more_others(network: pi.Network) -> None:
    """As many as have together the pixels of 16 of 64 x 64; at least 16, never more than 128, nor than fit."""
    for side in (5, 12, 16, 32, 64):
        (one,) = planned(network, "8", DEFAULT, size=side)
        assert one.batch == {5: 128, 12: 128, 16: 128, 32: 64, 64: 16}[side]
        each = bytes_per_picture(network, network.tap("8"), DEFAULT, (side, side))
        assert planned(network, "8", DEFAULT, size=side, memory=3 * each)[0].batch == min(3, one.batch)
        assert planned(network, "8", DEFAULT, size=side, batch_size=7)[0].batch == 7


def test_taps_of_the_same_spelling_have_files_of_their_own() -> None:
    module = nn.ModuleDict({"a b": nn.Conv2d(3, 2, 1), "a-b": nn.Conv2d(2, 2, 1)})

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.parts["a-b"](self.parts["a b"](x))

    taps = planned(pi.Network(Both(), input_size=8), ["parts.a b", "parts.a-b"], DEFAULT)
    assert len({one.key for one in taps}) == 2


def test_no_file_is_called_as_a_tap_of_that_name_would_be() -> None:
    """`a b` would be `a-b-2` beside `a-b`, which is taken."""
    names = ["a-b-2", "a-b", "a b"]
    module = nn.Sequential(OrderedDict((name, nn.Conv2d(3, 3, 1)) for name in names))
    for order in itertools.permutations(names):
        taps = planned(pi.Network(module, input_size=8), list(order), DEFAULT)
        assert len({one.key for one in taps}) == 3
