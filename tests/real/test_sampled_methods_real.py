"""Occlusion, RISE and averaged gradients on trained networks: what they call important is what the answer hangs on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import preimage as pi
from preimage.explain import Explanations, Method
from preimage.explain.integrated_gradients import IntegratedGradients
from preimage.explain.occlusion import Occlusion
from preimage.explain.rise import RISE
from preimage.explain.smoothgrad import SmoothGrad
from preimage.explain.soft_occlusion import BlurOcclusion, VariableOcclusion
from preimage.images import centre_crop, read_image
from preimage.priors import Gaussian

pytestmark = pytest.mark.real

PHOTOS, SHARE, SIDE = 8, 0.2, 128
"""Smaller pictures than the networks were trained on, and few samples, because this is to be quick."""
METHODS: tuple[Method, ...] = (
    Occlusion(square=56, positions=6),
    BlurOcclusion(diameter=56, positions=6),
    VariableOcclusion(samples=36),
    RISE(samples=64),
    IntegratedGradients(nodes=8),
    SmoothGrad(samples=8),
)


def probabilities(network: pi.Network, images: Tensor) -> Tensor:
    place = pi.Place(network.logits, after_relu=True)
    with torch.no_grad():
        return network.run(images, [place])[place].softmax(1)


def surest(network: pi.Network, photographs: list[tuple[Path, int]]) -> Tensor:
    """The photographs of which the network is surest: in others there is little to take away."""
    photos = torch.stack([centre_crop(read_image(path), (SIDE, SIDE)) for path, _ in photographs])
    return photos[probabilities(network, photos).amax(1).topk(PHOTOS).indices]


def blurred_away(photos: Tensor, heatmaps: Tensor, *, most: bool) -> Tensor:
    """The photos with the fifth of their pixels that is most, or least, important blurred away."""
    flat = heatmaps.flatten(1)
    chosen = flat.topk(round(SHARE * flat.shape[1]), largest=most).indices
    where = torch.zeros_like(flat).scatter_(1, chosen, 1.0).view(len(photos), 1, *photos.shape[2:])
    return torch.lerp(photos, Gaussian(sigma=10 * SIDE / 224)(photos), where)


@pytest.mark.parametrize("name", ["squeezenet", "bundled"])
def test_the_answer_hangs_on_what_is_called_important(
    name: str, photographs: list[tuple[Path, int]], request: pytest.FixtureRequest
) -> None:
    network: pi.Network = request.getfixturevalue(name)
    photos = surest(network, photographs)
    classes = probabilities(network, photos).argmax(1)
    found = pi.explain(network, photos, method=METHODS, size=SIDE)
    assert isinstance(found, Explanations)
    for number, method in enumerate(METHODS):
        heatmaps = torch.stack([one.heatmap for one in found[number :: len(METHODS)]])
        assert heatmaps.shape == (PHOTOS, SIDE, SIDE)
        assert heatmaps.isfinite().all()
        assert (heatmaps.flatten(1).std(1) > 0).all()
        left = [
            probabilities(network, blurred_away(photos, heatmaps, most=most))[range(PHOTOS), classes].mean()
            for most in (True, False)
        ]
        assert left[0] < left[1], method.name
