"""The prior that comes with preimage, on a few chains, so that a broken file or a sampler that lost its way is noticed.

How good its samples are is measured by experiments/sampling_table.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from skimage import data

import preimage as pi
from preimage.images import as_image

pytestmark = pytest.mark.real

CLASSES = ("airplane", "bird", "deer", "horse")
CHAINS, STEPS = 4, 100


@pytest.fixture(scope="module")
def prior() -> pi.Prior:
    return pi.load_prior("cifar10")


@pytest.fixture(scope="module")
def chain(prior: pi.Prior) -> pi.Chain:
    asked = [f"class:{name}" for name in CLASSES]
    return pi.sample(pi.load("cifar10"), asked, prior=prior, chains=CHAINS, steps=STEPS, every=50, progress=False)


def test_another_network_sees_what_was_asked(prior: pi.Prior, chain: pi.Chain) -> None:
    """E, which shares no weight with the DenseNet that asked, in at least 60 % of cases; by chance it would be 10 %."""
    encoder = prior.encoder
    assert isinstance(encoder, pi.Network)
    assert chain.images.shape == (len(CLASSES) * CHAINS, 3, 32, 32)
    assert chain.images.min() >= 0 and chain.images.max() <= 1
    wanted = torch.tensor([encoder.labels.index(name) for name in CLASSES]).repeat_interleave(CHAINS)
    assert float((encoder.class_scores(chain.images).argmax(1) == wanted).double().mean()) >= 0.6


def test_chains_from_noise_differ(chain: pi.Chain) -> None:
    each = chain.images.unflatten(0, (len(CLASSES), CHAINS))
    for some in each:
        assert torch.pdist(some.flatten(1)).min() > 0.5


def test_without_a_pull_it_is_dgn_am(prior: pi.Prior) -> None:
    options: dict[str, Any] = {"prior": prior, "steps": 10, "chains": 2, "progress": False}
    climbing = pi.sample(pi.load("cifar10"), "class:ship", sampler="dgn-am", **options)
    unpulled = pi.sample(pi.load("cifar10"), "class:ship", epsilons=(0.0, 1.0, 1e-17), **options)
    assert torch.equal(climbing.images, unpulled.images)


def test_a_hole_is_filled_and_nothing_else(prior: pi.Prior) -> None:
    photo = torch.nn.functional.interpolate(
        as_image(data.chelsea(), 3)[None], (32, 32), mode="bilinear", antialias=True
    )[0]
    missing = torch.zeros(32, 32, dtype=torch.bool)
    missing[8:22, 8:22] = True
    found = pi.sample(pi.load("cifar10"), "class:cat", prior=prior, fill=(photo, missing), steps=20, progress=False)
    assert torch.equal(found.images[0][:, ~missing], photo[:, ~missing])
    assert not torch.allclose(found.images[0][:, missing], photo[:, missing], atol=0.05)
