"""Integrated gradients and SmoothGrad: against Captum, and on networks whose gradients are known."""

from __future__ import annotations

import json
import math
from typing import Any

import captum.attr
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onlookers import looking, picture, question, rectifying, square, weights
from torch import Tensor, nn

import preimage as pi
from preimage.explain import Method
from preimage.explain.integrated_gradients import IntegratedGradients
from preimage.explain.smoothgrad import SmoothGrad

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
METHODS = (IntegratedGradients(nodes=7), SmoothGrad(samples=7))
names = {"argvalues": METHODS, "ids": [one.name for one in METHODS]}
SHAPE = (3, 9, 12)


def close(found: Tensor, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected.to(found), rtol=1e-4, atol=2e-5 * scale)


@few
@given(seeds, st.integers(0, 4), st.sampled_from(["mean", "black", 0.3, "picture"]), st.sampled_from([1, 3, 50]))
def test_integrals_are_captum_s(seed: int, target: int, baseline: Any, nodes: int) -> None:
    size = (20, 26)
    network, photo = rectifying(seed, size), picture(seed, 3, *size)
    start = torch.tensor([0.485, 0.456, 0.406])[:, None, None].expand_as(photo)
    if baseline == "picture":
        start = baseline = picture(seed + 1, 3, *size)
    elif baseline != "mean":
        start = torch.full_like(photo, 0.0 if baseline == "black" else baseline)
    found = pi.explain(network, photo, f"class:{target}", method=IntegratedGradients(nodes, baseline))
    theirs = captum.attr.IntegratedGradients(lambda images: network.module(network.prepare(images)).double())
    expected = theirs.attribute(
        photo[None], baselines=start[None], target=target, n_steps=nodes, method="gausslegendre"
    )
    close(found.heatmap, expected[0].detach().sum(0))


@few
@given(seeds, st.integers(1, 5), st.floats(0, 1))
def test_a_heat_map_of_integrals_adds_up_exactly_for_polynomials(seed: int, power: int, baseline: float) -> None:
    """n nodes integrate degree 2 n - 1 exactly, and the gradient's degree is one less than the answer's."""
    network, photo = looking(weights(seed, *SHAPE), power), picture(seed, *SHAPE)
    nodes = (power + 1) // 2
    found = pi.explain(network, photo, "class:0", method=IntegratedGradients(nodes, baseline))
    seen = network.module.weights.detach().double()
    expected = (seen * (photo.double() ** power - baseline**power)).sum(0)
    torch.testing.assert_close(found.heatmap.double(), expected, rtol=0, atol=1e-5 * power)
    assert found.scores["photo"] == pytest.approx(float((seen * photo**power).sum()), abs=1e-4)
    assert found.scores["baseline"] == pytest.approx(float((seen * baseline**power).sum()), abs=1e-4)
    assert float(found.heatmap.sum()) == pytest.approx(found.scores["photo"] - found.scores["baseline"], abs=1e-3)


@few
@given(seeds)
def test_more_nodes_close_the_gap(seed: int) -> None:
    """A rectified network is linear by pieces: no quadrature is exact, but many nodes are nearly so."""
    network, photo = rectifying(seed, (20, 26)), picture(seed, 3, 20, 26)
    found = pi.explain(network, photo, "class:1", method=IntegratedGradients(400))
    gap = float(found.heatmap.sum()) - (found.scores["photo"] - found.scores["baseline"])
    assert abs(gap) < 0.01 * float(found.heatmap.abs().sum())


@few
@given(seeds)
def test_of_a_linear_network_every_copy_has_the_same_gradient(seed: int) -> None:
    seen, photo = weights(seed, *SHAPE), picture(seed, *SHAPE)
    found = pi.explain(looking(seen), photo, "class:0", method=SmoothGrad(samples=5, spread=0.3))
    close(found.heatmap, seen.abs().amax(0))


@few
@given(seeds, st.floats(0, 1), st.integers(1, 20))
def test_of_a_quadratic_network_the_mean_gradient_is_that_at_the_mean_copy(seed: int, spread: float, n: int) -> None:
    seen, photo = weights(seed, *SHAPE), 0.2 + 0.5 * picture(seed, *SHAPE)
    asked = question(looking(seen, power=2), photo[None], "class:0", [seed])
    generator = torch.Generator().manual_seed(seed)
    noise = torch.stack([torch.randn(SHAPE, generator=generator) for _ in range(n)]).mean(0)
    sigma = spread * (photo.max() - photo.min())
    close(SmoothGrad(n, spread).explain(asked).heatmaps[0], (2 * seen * (photo + sigma * noise)).abs().amax(0))


def test_of_a_cubic_network_the_noise_adds_its_variance() -> None:
    """E[(x + noise)^2] = x^2 + sigma^2; the mean of n such squares has variance (4 x^2 sigma^2 + 2 sigma^4) / n."""
    count, photo = 4000, picture(0, 1, 6, 8)
    sigma = 0.4 * float(photo.max() - photo.min())
    asked = question(looking(torch.ones(1, 6, 8) / 3, power=3), photo[None], "class:0", chunk=500)
    found = SmoothGrad(count, 0.4).explain(asked).heatmaps[0]
    errors = ((4 * photo.square() * sigma**2 + 2 * sigma**4) / count).sqrt()
    assert ((found - (photo.square() + sigma**2)[0]).abs() < 5 * errors[0]).all()


@few
@given(seeds, st.sampled_from(["class:1", "prob:3", "logprob:0", "2:4", "0:1@3,3"]))
def test_without_noise_it_is_the_gradient(seed: int, target: str) -> None:
    network, photo = rectifying(seed, (20, 26)), picture(seed, 3, 20, 26)
    images = photo[None].clone().requires_grad_(True)
    (objective,) = pi.objectives.parse(target, network)
    objective.score(network.run(images, objective.places())).sum().backward()
    assert images.grad is not None
    flat = torch.full((3, 20, 26), 0.4)
    for given_photo, spread, expected in ((photo, 0.0, images.grad), (flat, 0.3, None)):
        found = pi.explain(network, given_photo, target, method=SmoothGrad(3, spread))
        if expected is None:  # nor has a photo of one colour any noise
            plain = pi.explain(network, given_photo, target, method=SmoothGrad(1, 0.0))
            close(found.heatmap, plain.heatmap)
        else:
            close(found.heatmap, expected[0].abs().amax(0))


@pytest.mark.parametrize("method", **names)
def test_a_batch_is_answered_as_each_alone(method: Method) -> None:
    size = (20, 26)
    network, photos = rectifying(0, size), picture(2, 3, 3, *size)
    targets = ["class:1", "prob:2", "2:3", "2:1@4,5", "logprob:0", 2 * pi.objectives.label(1) - pi.objectives.label(0)]
    each = [
        pi.explain(network, photo, target, method=method, seed=5, batch_size=7)
        for photo in photos
        for target in targets
    ]
    for batch_size in (1, 4, 64):
        together = pi.explain(network, photos, targets, method=method, seed=5, batch_size=batch_size)
        assert together.heatmaps.shape == (18, *size)
        for number, (one, alone) in enumerate(zip(together, each, strict=True)):
            assert one.of == number // 6
            close(one.heatmap, alone.heatmap)
            assert one.scores == pytest.approx(alone.scores, rel=1e-4, abs=1e-6)


def test_noise_follows_the_seed() -> None:
    network, photo = rectifying(0, (20, 26)), picture(0, 3, 20, 26)
    maps = [pi.explain(network, photo, "class:0", method=SmoothGrad(5), seed=seed).heatmap for seed in (1, 1, 2)]
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


@pytest.mark.parametrize("method", **names)
def test_no_more_images_at_once_than_asked_and_all_steps_are_said(method: Method) -> None:
    network, done = looking(weights(0, 1, 8, 8)), []
    asked = question(network, picture(0, 3, 1, 8, 8), "class:0", chunk=5)
    object.__setattr__(asked, "on_step", done.append)
    network.module.shown.clear()
    method.explain(asked)
    # Copies of several photos go together: 21 of them are 4 times five and one.
    assert sorted(network.module.shown, reverse=True)[:4] == [5, 5, 5, 5]
    assert network.module.shown.count(5) == 4
    assert sum(done) == method.steps() == 7


@pytest.mark.parametrize("method", **names)
def test_the_heat_lies_where_the_network_looks(method: Method) -> None:
    seen = square((30, 40), 7, 20, 9, channels=3) * weights(0, 3, 30, 40)
    heat = pi.explain(looking(seen, power=2), picture(0, 3, 30, 40), "class:0", method=method).heatmap
    inside = square((30, 40), 7, 20, 9)[0].bool()
    assert (heat[inside] != 0).all()
    assert (heat[~inside] == 0).all()


def test_integrals_move_with_the_photo() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, padding_mode="circular"), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    network, photo = pi.Network(module, (16, 20)), picture(0, 3, 16, 20)
    here, there = (
        pi.explain(network, one, "class:2", method=IntegratedGradients(20)).heatmap
        for one in (photo, photo.roll((3, 7), (1, 2)))
    )
    close(there, here.roll((3, 7), (0, 1)))


@pytest.mark.parametrize("method", **names)
def test_the_network_comes_back_as_it_was(method: Method) -> None:
    network = rectifying(0, (20, 26))
    module = network.module.train()
    pi.explain(network, picture(0, 3, 20, 26), "class:0", method=method)
    assert all(part.training for part in module.modules())
    assert all(one.requires_grad and one.grad is None for one in module.parameters())
    with torch.no_grad():  # what surrounds the call makes no difference
        pi.explain(network, picture(0, 3, 20, 26), "class:0", method=method)


@pytest.mark.parametrize("method", **names)
def test_networks_without_gradients_are_refused(method: Method) -> None:
    class Closed(nn.Module):
        @torch.no_grad()
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :4]

    with pytest.raises(pi.RequestError, match="lets no gradient through to the photo"):
        pi.explain(pi.Network(Closed(), 8, channels=1), picture(0, 1, 8, 8), "class:0", method=method)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (IntegratedGradients, {"nodes": 0}, "at least 1 node"),
        (IntegratedGradients, {"nodes": 2.0}, "at least 1 node"),
        (IntegratedGradients, {"baseline": "white"}, "mean, black, a number or a picture, not 'white'"),
        (IntegratedGradients, {"baseline": 1.5}, r"in \[0, 1\], and is not 1.5"),
        (IntegratedGradients, {"baseline": math.nan}, r"in \[0, 1\], and is not nan"),
        (IntegratedGradients, {"baseline": "missing.png"}, "no image file 'missing.png'"),
        (IntegratedGradients, {"baseline": torch.zeros(1, 4, 4)}, r"shape \[3, H, W\] here"),
        (SmoothGrad, {"samples": 0}, "at least 1 of samples"),
        (SmoothGrad, {"spread": -0.1}, "a number from 0 on"),
        (SmoothGrad, {"spread": math.inf}, "a number from 0 on"),
    ],
)
def test_what_makes_no_sense_is_refused(method: type[Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(pi.RequestError, match=message):
        pi.explain(rectifying(0, (20, 26)), picture(0, 3, 20, 26), "class:0", method=method(**settings))


@pytest.mark.parametrize("method", [*METHODS, IntegratedGradients(baseline=torch.zeros(3, 4, 4))], ids=str)
def test_what_was_asked_is_written_down(method: Method) -> None:
    said = json.loads(json.dumps(method.describe()))
    assert said.keys() == {"name", *vars(method)}
    assert method.says.endswith(".")
