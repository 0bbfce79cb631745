"""Being answered like a photo: the relative distance of features, on a linear network where it is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import preimage as pi
from preimage import Network, RequestError
from preimage.objectives import features
from preimage.optimization import LBFGS, Stage
from preimage.parametrizations import Pixels

few = settings(max_examples=10, deadline=None)


def linear(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network(nn.Sequential(nn.Conv2d(2, 6, 3, bias=False), nn.ReLU()), 8, channels=2)


def photo(seed: int) -> Tensor:
    return torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(seed))


@few
@given(st.integers(0, 2**31), st.sampled_from(["l1", "l2", "l2-root"]))
def test_it_is_zero_for_the_photo_minus_one_for_black_and_relative(seed: int, distance: str) -> None:
    network, one = linear(), photo(seed)
    asked = features(network, "0", one, distance=distance)  # type: ignore[arg-type]
    images = torch.stack([one, torch.zeros_like(one), one / 2])
    expected = [0.0, -1.0, -0.25 if distance == "l2" else -0.5]
    torch.testing.assert_close(asked.score(network.run(images, asked.places())), torch.tensor(expected))


def test_before_and_behind_the_relu() -> None:
    network, one = linear(), photo(0)
    behind, before = (features(network, "1", one, after_relu=after) for after in (True, False))
    assert behind.target.min() == 0 > before.target.min()
    assert torch.equal(before.target.relu(), behind.target)


def test_a_layer_that_loses_nothing_gives_the_photo_back() -> None:
    """Six filters over 3 x 3 x 2 windows determine all pixels: the photo is the only answer."""
    network, one = linear(), photo(3)
    recipe = pi.Recipe("lbfgs", "", "", lambda c, h, w, _: Pixels(c, h, w), (Stage(200, LBFGS()),))
    found = pi.maximize(network, features(network, "0", one), recipe=recipe)
    torch.testing.assert_close(found.images[0], one, atol=2e-3, rtol=0)
    assert found.scores[0] > -1e-6
    assert found.objectives == ["after:0 as for a photo"]


def test_what_cannot_be_asked_is_one_sentence() -> None:
    network = linear()
    with pytest.raises(RequestError, match="one of l2, l2-root, l1, not 'l3'"):
        features(network, "0", photo(0), distance="l3")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="answers a cat with zeros everywhere"):
        features(network, "0", torch.zeros(2, 8, 8), name="a cat")
    constant = Network(nn.Sequential(nn.Conv2d(2, 3, 1), nn.Hardtanh(5, 6)), 8, channels=2)
    with pytest.raises(RequestError, match="gives the same for every image"):
        features(constant, "1", photo(0))
    asked = features(network, "0", photo(0))
    with pytest.raises(RequestError, match=r"gives \[6, 10, 10\] for this image, \[6, 6, 6\] for a photo"):
        pi.maximize(network, asked, size=12, steps=1)
