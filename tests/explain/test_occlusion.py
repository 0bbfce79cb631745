"""Occlusion: against Captum, against its definition, and on networks of which one knows where they look."""

from __future__ import annotations

import json
import math
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onlookers import Looking, looking, picture, question, rectifying, square, weights
from torch import Tensor

import preimage as pi
from preimage.explain import Method
from preimage.explain.occlusion import Occlusion
from preimage.explain.soft_occlusion import BlurOcclusion, VariableOcclusion

few = settings(max_examples=15, deadline=None)
METHODS = (Occlusion(positions=14), BlurOcclusion(positions=12), VariableOcclusion(samples=40))
names = {"argvalues": METHODS, "ids": [one.name for one in METHODS]}


def captums(network: pi.Network, photo: Tensor, target: int, side: int, stride: int, behind: Tensor) -> Tensor:
    found: Tensor = captum.attr.Occlusion(lambda images: network.module(network.prepare(images))).attribute(
        photo[None],
        sliding_window_shapes=(3, side, side),
        strides=(3, stride, stride),
        baselines=behind.expand_as(photo)[None],
        target=target,
        perturbations_per_eval=32,
    )
    # A window hides all channels at once, so that each of them carries the whole difference.
    assert torch.equal(found[0, 0], found[0, 1]) and torch.equal(found[0, 0], found[0, 2])
    return found[0, 0]


@pytest.mark.parametrize(
    ("size", "side", "stride"),
    [((224, 224), 35, 8), ((64, 64), 10, 2), ((56, 80), 9, 2), ((96, 60), 9, 2), ((57, 57), 9, 2)],
)
def test_windows_by_stride_are_captum_s(size: tuple[int, int], side: int, stride: int) -> None:
    network, photo = rectifying(0, size, stride=max(2, size[0] // 16)), picture(1, 3, *size)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    for target, colour, behind in ((3, None, mean), (0, 0.25, torch.full((3, 1, 1), 0.25))):
        found = pi.explain(network, photo, f"class:{target}", method=Occlusion(stride=8, colour=colour))
        expected = captums(network, photo, target, side, stride, behind)
        torch.testing.assert_close(found.heatmap, expected, rtol=1e-4, atol=1e-6)


@few
@given(st.integers(0, 2**31), st.sampled_from([(3, 40, 56), (1, 56, 56), (2, 64, 48)]), st.integers(2, 28))
def test_heat_is_the_mean_fall_under_the_squares_that_cover_a_pixel(
    seed: int, shape: tuple[int, int, int], positions: int
) -> None:
    """Of a linear network, whose score falls by what the square takes away."""
    channels, *size = shape
    network, photo = looking(weights(seed, *shape), mean=[0.5] * channels), picture(seed, *shape)
    width = round(0.9 * min(size)) if positions < 5 else round(0.4 * min(size))
    method = Occlusion(width / min(size) * 224, positions, colour=(0.1, 0.5, 0.9)[:channels])
    taken = ((photo - torch.tensor(method.colour)[:, None, None]) * network.module.weights.detach()).sum(0).double()
    total, count = torch.zeros(size, dtype=torch.float64), torch.zeros(size)
    starts = [
        sorted({round(float(centre) - width / 2) for centre in np.linspace(0, length, positions)}) for length in size
    ]
    for top in starts[0]:
        for left in starts[1]:
            rows, columns = slice(max(top, 0), top + width), slice(max(left, 0), left + width)
            total[rows, columns] += taken[rows, columns].sum()
            count[rows, columns] += 1
    if not count.all():
        with pytest.raises(pi.RequestError, match="uncovered"):
            pi.explain(network, photo, "class:0", method=method)
        return
    found = pi.explain(network, photo, "class:0", method=method)
    scale = float(network.module.weights.detach().abs().sum())
    torch.testing.assert_close(found.heatmap.double(), total / count, rtol=0, atol=1e-6 * scale)


def test_published_squares_have_35_pixels_a_side_at_784_places() -> None:
    network = looking(torch.ones(1, 224, 224), mean=[0.0])
    found = pi.explain(network, torch.ones(1, 224, 224), "class:0", method=Occlusion())
    # Away from the border all squares that cover a pixel are whole.
    assert torch.equal(found.heatmap[35:-35, 35:-35], torch.full((154, 154), 35.0**2))
    # The corner is covered by those centred at 0, 224 / 27 and 448 / 27, of which 17, 26 and 34 pixels are left.
    assert float(found.heatmap[0, 0]) == pytest.approx(((17 + 26 + 34) / 3) ** 2)
    module: Looking = network.module
    module.shown.clear()
    pi.explain(network, torch.ones(1, 224, 224), "class:0", method=Occlusion(), batch_size=49)
    assert module.shown.count(49) == 784 // 49
    module.shown.clear()
    pi.explain(network, torch.ones(1, 224, 224), "class:0", method=Occlusion(stride=8), batch_size=25)
    assert module.shown.count(25) == 25 * 25 // 25


@pytest.mark.parametrize("method", **names)
def test_a_batch_is_answered_as_each_alone(method: Method) -> None:
    size = (40, 48)
    network, photos = rectifying(0, size), picture(2, 3, 3, *size)
    targets = ["class:1", "prob:2", "2:3", "2:1@4,5", "logprob:0"]
    options: dict[str, Any] = {"method": method, "seed": 5, "least_probability": 0}
    together = pi.explain(network, photos, targets, batch_size=4, **options)
    assert together.heatmaps.shape == (15, *size)
    assert together.heatmaps.isfinite().all()
    for one in together:
        alone = pi.explain(network, photos[one.of], one.objective.split(" ")[0], batch_size=7, **options)
        torch.testing.assert_close(one.heatmap, alone.heatmap, rtol=1e-4, atol=1e-5 * float(alone.heatmap.abs().max()))
        assert one.details == alone.details
        (objective,) = pi.objectives.parse(one.objective.split(" ")[0], network)
        with torch.no_grad():
            score = objective.score(network.run(photos[one.of][None], objective.places()))
        assert one.scores["photo"] == pytest.approx(float(score), rel=1e-4)


@pytest.mark.parametrize("method", **names)
def test_no_more_images_at_once_than_asked_and_all_steps_are_said(method: Method) -> None:
    network = looking(square((32, 32), 8, 8, 9))
    asked = question(network, picture(0, 3, 1, 32, 32), "class:0", chunk=5)
    done: list[int] = []
    object.__setattr__(asked, "on_step", done.append)
    network.module.shown.clear()
    method.explain(asked)
    assert max(network.module.shown) == 5
    assert sum(done) == method.steps()
    assert min(done) >= 0


@few
@given(st.integers(0, 16), st.integers(0, 24))
def test_nothing_is_found_where_no_square_reaches_what_the_network_sees(top: int, left: int) -> None:
    size, side, reach = (40, 48), 16, 6  # squares of 35 / 224 * 40 pixels
    network, photo = looking(square(size, top, left, side), mean=[0.5]), torch.ones(1, *size)
    found = pi.explain(network, photo, "class:0", method=Occlusion())
    near = torch.zeros(size, dtype=torch.bool)
    near[max(0, top - reach + 1) : top + side + reach - 1, max(0, left - reach + 1) : left + side + reach - 1] = True
    inside = square(size, top, left, side)[0].bool()
    assert (found.heatmap[~near] == 0).all()
    assert (found.heatmap[inside] > 0).all()
    assert inside[tuple(divmod(int(found.heatmap.argmax()), size[1]))]


@pytest.mark.parametrize("method", **names)
def test_the_heat_lies_where_the_network_looks(method: Method) -> None:
    size, place = (64, 64), (30, 12)
    seen = square(size, *place, 16)
    photo = 0.5 + 0.5 * picture(0, 1, *size)
    # Blurring leaves the mean as it is; what it takes away are differences.
    if not isinstance(method, Occlusion):
        rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
        photo = ((rows + columns) % 2).float()[None]
        seen = seen * photo
    found = pi.explain(looking(seen, mean=[0.0]), photo, "class:0", method=method)
    inside = square(size, *place, 16)[0].bool()
    heat = found.heatmap.clamp(min=0)
    assert heat[inside].mean() > 3 * heat[~inside].mean()
    point = divmod(int(heat.argmax()), 64)
    assert inside[point]


@pytest.mark.parametrize(
    "method", [Occlusion(), Occlusion(stride=8), BlurOcclusion()], ids=["squares", "stride", "discs"]
)
def test_heat_moves_with_the_photo(method: Method) -> None:
    # On photos of 54 pixels, 28 positions and a stride of 8 are both 2 pixels apart.
    content = picture(3, 3, 10, 10)
    maps = []
    for top, left in ((16, 18), (22, 28)):
        photo, seen = torch.full((3, 54, 54), 0.5), torch.zeros(3, 54, 54)
        photo[:, top : top + 10, left : left + 10] = content
        seen[:, top : top + 10, left : left + 10] = weights(4, 3, 10, 10)
        heat = pi.explain(looking(seen, mean=[0.5] * 3), photo, "class:0", method=method).heatmap
        maps.append(heat[top - 5 : top + 15, left - 5 : left + 15])
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-4, atol=1e-4)


def test_the_network_comes_back_as_it_was_also_after_an_exception() -> None:
    class Failing(Looking):
        def forward(self, images: Tensor) -> Tensor:
            if len(self.shown) > 4:
                raise KeyError("enough")
            return super().forward(images)

    module = Failing(torch.ones(1, 16, 16)).train()
    network = pi.Network(module, 16, channels=1)
    with pytest.raises(KeyError):
        pi.explain(network, picture(0, 1, 16, 16), "class:0", method=Occlusion())
    assert module.training and module.weights.requires_grad


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positions": 1}, "at least 2 positions"),
        ({"positions": 2.0}, "at least 2 positions"),
        ({"square": 0}, "side is a number above zero"),
        ({"square": math.inf}, "side is a number above zero"),
        ({"stride": -1}, "stride is a number above zero"),
        ({"colour": 1.5}, r"colour is a number in \[0, 1\]"),
        ({"colour": (0.1, 0.2)}, "colour has 3 channels here, not 2"),
        ({"positions": 3}, "leave pixels of a photo of 56 x 56 uncovered"),
        ({"stride": 40}, "stride of 40 leave pixels of a photo of 56 x 56 uncovered"),
        ({"square": 224}, "56 pixels is as large as the photo, 56 x 56; it has to be smaller than 56"),
    ],
)
def test_squares_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(pi.RequestError, match=message):
        pi.explain(rectifying(0, (56, 56)), picture(0, 3, 56, 56), "class:0", method=Occlusion(**settings))


@pytest.mark.parametrize("method", [Occlusion(), *METHODS], ids=str)
@pytest.mark.parametrize("side", [4, 7, 9, 23])
def test_small_photos_are_covered_too(method: Method, side: int) -> None:
    found = pi.explain(looking(torch.ones(1, side, side)), picture(0, 1, side, side), "class:0", method=method)
    assert found.heatmap.isfinite().all()


@pytest.mark.parametrize("method", **names)
def test_what_was_asked_is_written_down(method: Method) -> None:
    said = json.loads(json.dumps(method.describe()))
    assert said.keys() == {"name", *vars(method)}
    assert method.says.endswith(".") and method.source
