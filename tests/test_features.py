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


@pytest.mark.parametrize(("last", "ceiling"), [(nn.ReLU(), torch.inf), (nn.ReLU6(), 6.0), (nn.Tanh(), None)])
def test_a_rectified_layer_is_asked_before_it_for_what_it_does_not_hide(last: nn.Module, ceiling: float | None) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 6, 3)
    conv.weight.data *= 40  # so that ReLU6 cuts off something
    network, one = Network(nn.Sequential(conv, last), 8, channels=2), photo(1)
    asked, plain = features(network, "1", one), features(network, "1", one, one_sided=False)
    assert asked.ceiling == ceiling
    assert plain.ceiling is None
    assert str(asked) == str(plain) == "after:1 as for a photo"
    images = torch.stack([one, photo(2), torch.zeros_like(one)])
    scores, behind = asked.score(network.run(images, asked.places())), plain.score(network.run(images, plain.places()))
    torch.testing.assert_close(asked.error(network.run(images, asked.places())), -behind)
    assert scores[0] == behind[0] == 0
    assert (scores <= behind).all()
    if ceiling is not None:
        with torch.no_grad():
            found, wanted = conv(images), last(conv(one))
        off = found - wanted
        hidden = ((wanted == 0) & (off < 0)) | ((wanted == ceiling) & (off > 0))
        expected = -off.masked_fill(hidden, 0).square().sum((1, 2, 3)) / wanted.square().sum()
        torch.testing.assert_close(scores, expected)
        assert (scores[1:] < behind[1:]).all()


def test_a_unit_that_is_off_by_mistake_has_a_gradient() -> None:
    network, one = linear(), photo(0)
    image = torch.zeros(1, 2, 8, 8, requires_grad=True)  # (no bias: all units stand at zero)
    slopes = []
    for one_sided in (True, False):
        asked = features(network, "1", one, one_sided=one_sided)
        (slope,) = torch.autograd.grad(asked.score(network.run(image, asked.places())).sum(), image)
        slopes.append(float(slope.abs().sum()))
    assert slopes[0] > 0 == slopes[1]


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
