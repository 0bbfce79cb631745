"""The nearest images of a data set: against scikit-learn's neighbours, and the images themselves."""

from __future__ import annotations

import pytest
import torch
from explained import uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from preimage import Network, RequestError, UnknownTapError
from preimage.evaluation.nearest_images import Nearest, nearest_images
from preimage.network import Place

SIDE = 6

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)


def network(side: int = SIDE) -> Network:
    torch.manual_seed(0)
    return Network(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()), side, channels=3
    )


def of_sklearn(points: Tensor, among: Tensor, count: int, metric: str) -> tuple[Tensor, Tensor]:
    found = NearestNeighbors(n_neighbors=count, algorithm="brute", metric=metric).fit(among.double().flatten(1).numpy())
    distances, indices = found.kneighbors(points.double().flatten(1).numpy())
    return torch.from_numpy(indices), torch.from_numpy(distances)


@few
@given(seeds, st.integers(1, 6), st.integers(1, 60), st.integers(1, 70), st.data())
def test_in_pixels_they_are_sklearn_s(seed: int, count: int, size: int, chunk: int, data: st.DataObject) -> None:
    """Whatever is looked at at once."""
    nearest = data.draw(st.integers(1, size))
    images, among = uniform(seed, count, 3, SIDE, SIDE), uniform(seed + 1, size, 3, SIDE, SIDE)
    found = nearest_images(images, among, nearest, chunk=chunk)
    indices, distances = of_sklearn(images, among, nearest, "euclidean")
    assert found.space == "pixels"
    assert torch.equal(found.indices, indices)
    torch.testing.assert_close(found.distances.double(), distances, rtol=1e-5, atol=1e-6)


@few
@given(seeds, st.integers(1, 70))
def test_in_features_they_are_sklearn_s_by_the_cosine(seed: int, chunk: int) -> None:
    images, among = uniform(seed, 3, 3, SIDE, SIDE), uniform(seed + 1, 40, 3, SIDE, SIDE)
    net = network()
    with torch.no_grad():
        points = [net.module[0](one) for one in (images, among)]
    found = nearest_images(images, among, 4, network=net, tap="0", chunk=chunk)
    indices, distances = of_sklearn(points[0], points[1], 4, "cosine")
    assert found.space == "0"
    assert torch.equal(found.indices, indices)
    torch.testing.assert_close(found.distances.double(), distances, rtol=1e-4, atol=1e-6)


@few
@given(seeds, st.integers(1, 40))
def test_a_training_image_s_nearest_is_itself(seed: int, chunk: int) -> None:
    among = (uniform(seed, 40, 3, SIDE, SIDE) * 255).round().byte()
    which = torch.tensor([0, 7, 39])
    for asked in ({}, {"network": network(), "tap": "0"}):
        for images in (among[which], among[which].float() / 255):
            found = nearest_images(images, among, 2, chunk=chunk, **asked)  # type: ignore[arg-type]
            assert torch.equal(found.indices[:, 0], which)
            assert (found.distances[:, 0] < 1e-7).all() and (found.distances[:, 1] > 1e-5).all()
            if not asked:
                assert (found.distances[:, 0] == 0).all()


def test_copies_are_named_in_their_order() -> None:
    among = torch.cat([uniform(0, 4, 3, SIDE, SIDE)] * 3)
    found = nearest_images(among[1:2], among, 3, chunk=5)
    assert found.indices.tolist() == [[1, 5, 9]] and found.distances.tolist() == [[0.0] * 3]


def test_a_place_behind_a_relu() -> None:
    images, among = uniform(0, 2, 3, SIDE, SIDE), uniform(1, 20, 3, SIDE, SIDE)
    net = network()
    with torch.no_grad():
        points = [net.module[:2](one) for one in (images, among)]
    found = nearest_images(images, among, 3, network=net, tap=Place("1", after_relu=True))
    assert torch.equal(found.indices, of_sklearn(points[0], points[1], 3, "cosine")[0])
    assert found.space == "after:1"


def test_features_of_images_of_any_size() -> None:
    small = uniform(0, 5, 3, SIDE, SIDE)
    large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
    found = nearest_images(large, small, 1, network=network(), tap="0")
    assert found.indices[:, 0].tolist() == list(range(5))


def test_the_network_is_left_as_it_was() -> None:
    net = network()
    net.module.train()
    found = nearest_images(uniform(0, 2, 3, SIDE, SIDE), uniform(1, 9, 3, SIDE, SIDE), 2, network=net, tap="0")
    assert net.module.training and not found.distances.requires_grad


def test_a_relative_distance_tells_a_copy_from_a_flat_picture() -> None:
    found = Nearest("pixels", torch.zeros(3, 3, dtype=torch.int64), torch.tensor([[1, 4, 4], [2, 2, 2], [0, 0, 0.0]]))
    assert found.relative.tolist() == [0.25, 1, 1]
    with pytest.raises(RequestError, match="at least the two nearest"):
        _ = Nearest("pixels", torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1)).relative


def test_what_cannot_be_compared_is_said() -> None:
    image, among = uniform(0, 1, 3, SIDE, SIDE), uniform(1, 4, 3, SIDE, SIDE)
    with pytest.raises(RequestError, match="a network and a tap"):
        nearest_images(image, among, 1, network=network())
    with pytest.raises(RequestError, match="a network and a tap"):
        nearest_images(image, among, 1, tap="0")
    with pytest.raises(UnknownTapError):
        nearest_images(image, among, 1, network=network(), tap="nowhere")
    with pytest.raises(RequestError, match="of 4 images, 1 to 4 can be the nearest, not 5"):
        nearest_images(image, among, 5)
    with pytest.raises(RequestError, match=r"no pixels in common"):
        nearest_images(image, among[..., :4], 1)
    with pytest.raises(RequestError, match=r"\[N, C, H, W\] with at least one"):
        nearest_images(image, among[:0], 1)
    with pytest.raises(RequestError, match=r"bytes, or floats in \[0, 1\]"):
        nearest_images(image * 255, among, 1)
    with pytest.raises(RequestError, match=r"bytes, or floats in \[0, 1\]"):
        nearest_images(image, among - 1, 1)
    with pytest.raises(RequestError, match="at least one image, not 0"):
        nearest_images(image, among, 1, chunk=0)
