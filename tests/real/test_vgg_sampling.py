"""VGG-19 up to relu4_1 and the decoder of its codes as a prior: r(x) = G(E(x)) of the sampler `joint-x`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import networks
import preimage as pi
from preimage.errors import RequestError
from preimage.evaluation import judged
from preimage.images import centre_crop, read_image

pytestmark = pytest.mark.real

SIDE = 96
STRAWBERRY = 949


@pytest.fixture(scope="module")
def prior() -> pi.Prior:
    return networks.vgg19_prior(SIDE)


@pytest.fixture(scope="module")
def photos() -> Tensor:
    """The first photograph of each of three classes, [3, 3, SIDE, SIDE]."""
    first = {label: path for path, label in reversed(networks.photographs())}
    return torch.stack([centre_crop(read_image(first[label]), (SIDE, SIDE)) for label in (0, 491, 701)])


@torch.no_grad()
def passed(decode: Callable[[Tensor], Tensor], prior: pi.Prior, images: Tensor, times: int) -> Tensor:
    for _ in range(times):
        images = decode(prior.encode(images))
    return images


def walked(bundled: pi.Network, prior: pi.Prior, epsilons: tuple[float, float, float], steps: int) -> pi.Chain:
    return pi.sample(
        bundled,
        f"class:{STRAWBERRY}",
        prior=prior,
        sampler="joint-x",
        epsilons=epsilons,
        move=5,
        gradient="logit",
        steps=steps,
        every=1,
        chains=1,
        progress=False,
    )


def test_the_decoder_makes_the_photo_of_its_code(prior: pi.Prior, photos: Tensor) -> None:
    """Nearer to its own photograph than to any other, or to the photograph's mean colour."""
    made = passed(networks.vgg19_decoder(), prior, photos, 1)
    errors = (made[:, None] - photos).square().mean((2, 3, 4))
    flat = photos.mean((2, 3), keepdim=True)
    assert errors.argmin(1).tolist() == [0, 1, 2]
    assert (errors.diagonal() < (flat - photos).square().mean((1, 2, 3))).all()


def test_passes_gain_contrast_and_the_prior_holds_them_back(prior: pi.Prior, photos: Tensor) -> None:
    """The trap of this pair: G(E(x)) again and again runs away from photographs."""
    assert prior.generator is not None
    before = float(photos.std())
    wild, steady = passed(networks.vgg19_decoder(), prior, photos, 5), passed(prior.generator, prior, photos, 5)
    assert float(wild.std()) > 1.1 * before
    assert float(wild.min()) < -0.1
    assert float(wild.max()) > 1.1
    assert 0 <= steady.min() <= steady.max() <= 1
    assert float(steady.std()) < float(wild.std())


def test_the_class_is_climbed_by_chains_of_the_pair(bundled: pi.Network, prior: pi.Prior) -> None:
    chain = walked(bundled, prior, (0.3, 1e5, 1.0), steps=20)
    assert chain.settings["denoiser"] == "Learned(G(E(x)))"
    assert chain.samples.isfinite().all()
    assert chain.state.isfinite().all()
    assert 0 <= chain.samples.min() <= chain.samples.max() <= 1
    sure = judged(bundled, chain.samples[:, 0])[:, STRAWBERRY]
    assert sure[0] < 0.01
    assert sure[-5:].mean() > 0.5


def test_the_pull_is_towards_what_the_pair_makes_of_the_image(bundled: pi.Network, prior: pi.Prior) -> None:
    """With next to no condition and no noise, steps of a given length go straight to G(E(x))."""
    assert prior.generator is not None
    chain = walked(bundled, prior, (1.0, 1e-9, 0.0), steps=2)
    images = chain.codes[:, 0] + 0.5
    change = images[1] - images[0]
    towards = passed(prior.generator, prior, images[:1], 1)[0] - images[0]
    assert float(torch.cosine_similarity(change.flatten(), towards.flatten(), 0)) > 0.9999
    assert float(change.abs().mean()) == pytest.approx(5 / 255, rel=1e-4)


def test_sides_that_codes_have_no_place_for_are_refused() -> None:
    with pytest.raises(RequestError, match="makes images"):
        networks.vgg19_prior(100)
