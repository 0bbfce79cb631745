"""Normals, depth and mask from free parameters: closed forms, ranges, inverses, gradients, and a whole run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import preimage as pi
from preimage.errors import RequestError
from preimage.optimization import LBFGS, Adam, Stage
from preimage.parametrizations.geometry import Geometry, MaskKind
from preimage.recipes import Recipe

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
sides = st.integers(1, 7)
masks: st.SearchStrategy[MaskKind] = st.sampled_from(["one", "free"])
MEAN, STD = (0.5, 0.5, 0.5, 0.0, 0.5), (0.5, 0.5, 0.5, 1.0, 0.5)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normals(image: Tensor) -> Tensor:
    return 2 * image[:, :3] - 1


@few
@given(seeds, sides, sides, masks, st.sampled_from([0.01, 1.0, 30.0, 1000.0]), st.booleans())
def test_any_parameters_are_geometry(
    seed: int, height: int, width: int, mask: MaskKind, size: float, double: bool
) -> None:
    """Normals of length 1 that never point away, everything else within its range, also where sigmoids saturate."""
    kind = Geometry(5, height, width, mask=mask)
    v = size * normal(seed, 2, *kind.shape)
    image = kind.image(v if double else v.float())
    assert image.shape == (2, 5, height, width)
    assert image.dtype == (torch.float64 if double else torch.float32)
    exact = 1e-12 if double else 1e-6
    torch.testing.assert_close(normals(image).norm(dim=1), torch.ones_like(image[:, 0]), rtol=0, atol=exact)
    assert normals(image)[:, 2].min() >= 0
    assert image.min() >= 0 and image.max() <= 1
    assert torch.equal(kind.picture(v), kind.image(v))
    if mask == "one":
        assert torch.equal(image[:, 4], torch.ones_like(image[:, 4]))


@few
@given(seeds, masks)
def test_closed_form(seed: int, mask: MaskKind) -> None:
    """The normal is the eye's direction, tilted by theta about the y axis and turned by phi about the z axis."""
    kind = Geometry(5, 1, 1, mask=mask)
    v = 3 * normal(seed, 1, *kind.shape)
    phi, second, third, *fourth = v.flatten().tolist()
    theta = -math.pi / 2 + math.pi / (1 + math.exp(-second))
    tilt = np.array([[math.cos(theta), 0, math.sin(theta)], [0, 1, 0], [-math.sin(theta), 0, math.cos(theta)]])
    turn = np.array([[math.cos(phi), -math.sin(phi), 0], [math.sin(phi), math.cos(phi), 0], [0, 0, 1]])
    depth = 1 / (1 + math.exp(-third))
    free = 2 / (1 + math.exp(-fourth[0])) - 1 if fourth else 1.0
    found = ((kind.image(v).flatten() - torch.tensor(MEAN)) / torch.tensor(STD)).numpy()
    np.testing.assert_allclose(found, [*(turn @ tilt @ [0, 0, 1]), depth, free], rtol=1e-10, atol=1e-12)


def test_all_zero_is_a_wall_that_faces_the_eye_half_way_to_the_back() -> None:
    found = Geometry(5, 2, 3).image(torch.zeros(1, 4, 2, 3))
    assert torch.equal(found[0, :, 0, 0], torch.tensor([0.5, 0.5, 1.0, 0.5, 0.5]))


@few
@given(seeds, masks, st.integers(-5, 5))
def test_phi_may_turn_as_often_as_it_likes(seed: int, mask: MaskKind, turns: int) -> None:
    kind = Geometry(5, 3, 4, mask=mask)
    v = normal(seed, 2, *kind.shape)
    turned, other = v.clone(), v.clone()
    turned[:, 0] += 2 * math.pi * turns
    torch.testing.assert_close(kind.image(turned), kind.image(v), rtol=0, atol=1e-13)
    # Half a turn is the same as a tilt to the other side.
    turned[:, 0] += math.pi
    other[:, 1] *= -1
    torch.testing.assert_close(kind.image(turned), kind.image(other), rtol=0, atol=1e-13)


@settings(max_examples=10, deadline=None)
@given(seeds, masks)
def test_gradients_agree_with_finite_differences(seed: int, mask: MaskKind) -> None:
    kind = Geometry(5, 2, 3, mask=mask)
    v = (2 * normal(seed, 1, *kind.shape)).requires_grad_(True)
    assert torch.autograd.gradcheck(kind.image, (v,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mask", ["one", "free"])
def test_gradients_are_finite_everywhere(mask: MaskKind, dtype: torch.dtype) -> None:
    corners = torch.cartesian_prod(*[torch.tensor([-1e4, -100.0, -17.0, -1.0, 0.0, 1.0, 17.0, 100.0, 1e4])] * 2)
    kind = Geometry(5, 1, len(corners), mask=mask)
    v = corners.T[[0, 1, 0, 1][: kind.shape[0]]].reshape(1, *kind.shape).to(dtype).requires_grad_(True)
    for channel in range(5):
        image = kind.image(v)
        if image[:, channel].requires_grad:
            (slope,) = torch.autograd.grad(image[:, channel].sum(), v)
            assert slope.isfinite().all()


def test_phi_has_no_gradient_where_it_does_not_matter() -> None:
    v = torch.zeros(1, 4, 1, 1, dtype=torch.float64)
    slopes = torch.autograd.functional.jacobian(Geometry(5, 1, 1).image, v).reshape(5, 4)
    expected = torch.zeros(5, 4, dtype=torch.float64)
    expected[0, 1] = math.pi / 4 / 2  # d theta / d second = pi / 4, and an image has half a normal
    expected[3, 2] = expected[4, 3] = 1 / 4
    torch.testing.assert_close(slopes, expected, rtol=0, atol=1e-15)


# --- back -------------------------------------------------------------------------------------------------------


@few
@given(seeds, sides, sides, masks)
def test_parameters_of_an_image_give_that_image(seed: int, height: int, width: int, mask: MaskKind) -> None:
    kind = Geometry(5, height, width, mask=mask)
    v = normal(seed, 2, *kind.shape)
    v[:, 0] *= 10
    image = kind.image(v)
    found = kind.parameters(image)
    assert found.shape == v.shape
    torch.testing.assert_close(kind.image(found), image, rtol=1e-10, atol=1e-12)
    # Of all angles that give the same normal, those with 0 <= theta and -pi <= phi <= pi.
    assert found[:, 1].min() >= 0 and found[:, 0].abs().max() <= math.pi
    torch.testing.assert_close(kind.parameters(kind.image(found)), found, rtol=1e-8, atol=1e-8)


@few
@given(seeds)
def test_what_no_parameters_give_comes_back_as_nearly_as_may_be(seed: int) -> None:
    """Normals that point away or have another length: no other allowed one is nearer, but for the sigmoid's ends."""
    directions = normal(seed, 1, 3, 1, 1)
    image = torch.full((1, 5, 1, 1), 0.5, dtype=torch.float64)
    image[:, :3] = (0.4 * directions / directions.norm() + 1) / 2
    kind = Geometry(5, 1, 1)
    found = normals(kind.image(kind.parameters(image))).flatten()
    others = normal(seed + 1, 4000, 3)
    others = others / others.norm(dim=1, keepdim=True)
    others[:, 2].abs_()
    wanted = normals(image).flatten()
    # theta ends pi / 512 short of the rim, and a chord is no longer than its arc.
    assert (found - wanted).norm() <= (others - wanted).norm(dim=1).min() + math.pi / 512


@pytest.mark.parametrize("mask", ["one", "free"])
def test_empty_background_and_the_ends_of_the_ranges_have_finite_parameters(mask: MaskKind) -> None:
    kind = Geometry(5, 1, 3, mask=mask)
    image = torch.tensor([[0.5, 0.5, 0.5, 1.0, 0.0], [0.5, 0.5, 0.0, 0.0, 1.0], [1.0, 0.5, 0.5, 1.0, 1.0]]).T
    found = kind.parameters(image.reshape(1, 5, 1, 3))
    assert found.isfinite().all()
    again = kind.image(found)[0, :, 0].T
    assert torch.equal(again[0, :3], torch.tensor([0.5, 0.5, 1.0]))
    assert (again[2] - image.T[2]).abs().max() <= math.pi / 1024 + 1e-6
    assert (again[:, 3] - image[3]).abs().max() <= 1 / 512 + 1e-6
    expected = image[4] if mask == "free" else torch.ones(3)
    assert (again[:, 4] - expected).abs().max() <= 1 / 512 + 1e-6


# --- what it is --------------------------------------------------------------------------------------------------


def test_a_free_mask_is_a_fourth_parameter() -> None:
    assert math.prod(Geometry(5, 128, 128).shape) == 128**2 * 4  # table 1
    assert math.prod(Geometry(5, 128, 128, mask="one").shape) == 128**2 * 3
    small = Geometry(5, 128, 128, spread=0.5, mask="one").resized(3, 4)
    assert small == Geometry(5, 3, 4, spread=0.5, mask="one")
    assert small.describe() == {
        "kind": "Geometry", "channels": 5, "height": 3, "width": 4, "spread": 0.5, "mask": "one"
    }  # fmt: skip


def test_the_start_is_normal_with_the_spread_of_sigmoid_pixels() -> None:
    start = Geometry(5, 64, 64).start(torch.Generator().manual_seed(0))
    assert start.shape == (4, 64, 64)
    assert abs(float(start.std()) - 0.01) < 6 * 0.01 / math.sqrt(2 * start.numel())
    assert abs(float(start.mean())) < 6 * 0.01 / math.sqrt(start.numel())


def test_other_channels_and_masks_are_refused() -> None:
    with pytest.raises(RequestError, match="5 channels"):
        Geometry(3, 8, 8)
    with pytest.raises(RequestError, match="'one' or 'free', not 'binary'"):
        Geometry(5, 8, 8, mask="binary")  # type: ignore[arg-type]


class Maps(nn.Module):
    """Hands its five input channels on, after some filters."""

    input_size = (9, 8)

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Identity()
        self.filters = nn.Conv2d(5, 4, 3, padding=1)
        generator = torch.Generator().manual_seed(0)
        for one in self.filters.parameters():
            one.data = torch.randn(one.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.filters(self.same(x)).tanh()


def geometry(mask: MaskKind) -> Recipe:
    stages = Stage(30, Adam(0.05)), Stage(10, LBFGS())
    return Recipe(
        "geometry", "", "", lambda channels, height, width, _: Geometry(channels, height, width, mask=mask), stages
    )


@pytest.mark.parametrize("mask", ["one", "free"])
def test_images_are_made_and_handed_back_to_the_network(mask: MaskKind) -> None:
    network = pi.Network(Maps(), mean=MEAN, std=STD)
    result = pi.maximize(network, "filters:0-3", recipe=geometry(mask), progress=False)
    assert result.images.shape == (4, 5, 9, 8)
    assert result.images.min() >= 0 and result.images.max() <= 1
    with torch.no_grad():
        values = {place.tap: value for place, value in network.run(result.images, ["same", "filters"]).items()}
    torch.testing.assert_close(values["filters"].mean((2, 3)).diagonal(), result.scores)
    seen = values["same"]
    torch.testing.assert_close(seen[:, :3].norm(dim=1), torch.ones(4, 9, 8), rtol=0, atol=1e-6)
    assert seen[:, 2].min() >= 0
    assert seen[:, 4].min() >= -1 and (seen[:, 4].min() == 1) == (mask == "one")
    assert (result.scores > result.trace[0]).all()
    # Each filter answers most strongly to the image that was made for it.
    assert torch.equal(values["filters"].mean((2, 3)).argmax(0), torch.arange(4))
