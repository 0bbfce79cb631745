"""Random surfaces are what is said of them; SRNet doubles their resolution; and geometry is optimised through it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import preimage as pi
import train_super_resolution
from preimage.parametrizations.geometry import MaskKind
from super_resolution import FACTOR, MEAN, SIDE, STD, TAP, WEIGHTS, SRNet, bilinear, opened, recipe, super_resolution
from surfaces import Surface, pairs, rendered, surface

pytestmark = pytest.mark.real


# --- surfaces ---------------------------------------------------------------------------------------------------


def ball(width: float, level: float) -> Surface:
    """One blob of height 1 and no waves: a ball of radius width sqrt(-2 log level) around (0.5, 0.4, 0.6)."""
    one, none = np.ones(1, np.float32), np.zeros(0, np.float32)
    centre = np.array([[0.5, 0.4, 0.6]], np.float32)
    return Surface(centre, one * np.float32(width), one, np.zeros((0, 3), np.float32), none, none, level)


def rays(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x to the right and y upwards of the centre of each pixel, [side, side] each."""
    right, up = np.meshgrid((np.arange(side) + 0.5) / side, 1 - (np.arange(side) + 0.5) / side)
    return right, up


def field(of: Surface, x: NDArray[Any], y: NDArray[Any], depth: NDArray[Any]) -> NDArray[np.float64]:
    """Blobs and waves summed up in float64 as they are defined, without what keeps the front side free."""
    points = np.stack([x, y, depth], -1).astype(np.float64)
    away = ((points[..., None, :] - of.centres.astype(np.float64)) ** 2).sum(-1)
    blobs = of.heights * np.exp(-away / (2 * of.widths.astype(np.float64) ** 2))
    waves = of.amplitudes * np.cos(points @ of.waves.T.astype(np.float64) + of.phases)
    return np.asarray(blobs.sum(-1) + waves.sum(-1) - of.level)


@pytest.mark.parametrize(("width", "level"), [(0.2, 0.5), (0.1, 0.3), (0.15, 0.8)])
def test_a_blob_is_a_ball(width: float, level: float) -> None:
    maps = rendered(ball(width, level), 40)
    x, y = rays(40)
    radius = width * np.sqrt(-2 * np.log(level))
    beside = (x - 0.5) ** 2 + (y - 0.4) ** 2
    hit = beside < radius**2
    np.testing.assert_array_equal(maps[4] > 0, hit)
    towards = np.sqrt(radius**2 - beside[hit])
    np.testing.assert_allclose(maps[3][hit], 0.6 - towards, atol=1e-5)
    expected = np.stack([x[hit] - 0.5, y[hit] - 0.4, towards]) / radius
    np.testing.assert_allclose(maps[:3, hit], expected, atol=1e-4)


@pytest.mark.parametrize("index", range(6))
def test_the_field_vanishes_where_rays_stop_and_the_normal_is_where_it_falls_fastest(index: int) -> None:
    one = surface(11, index)
    maps = rendered(one, 48).astype(np.float64)
    there = (maps[4] > 0) & (maps[3] > 0.3)  # (nearer than that, the front pushes)
    x, y = (at[there] for at in rays(48))
    depth = maps[3][there]
    assert there.any()
    step = 1e-5
    slopes = [
        (field(one, x + dx, y + dy, depth + dz) - field(one, x - dx, y - dy, depth - dz)) / (2 * step)
        for dx, dy, dz in step * np.eye(3)
    ]
    outwards = -np.stack(slopes) * [[1], [1], [-1]]
    steepness = np.linalg.norm(outwards, axis=0)
    # To first order, the distance to the surface.
    distance = np.abs(field(one, x, y, depth)) / steepness
    assert distance.max() < 1e-4 and distance[maps[2][there] > 0.2].max() < 1e-6
    assert (outwards / steepness * maps[:3, there]).sum(0).min() > 1 - 1e-6


def test_maps_keep_their_ranges_and_the_background_is_empty() -> None:
    _, maps = pairs(12, range(24))
    there = maps[:, 4] > 0
    assert set(maps[:, 4].unique().tolist()) == {-1.0, 1.0}
    normals = maps[:, :3].movedim(1, 3)
    torch.testing.assert_close(normals[there].norm(dim=1), torch.ones(int(there.sum())), rtol=0, atol=1e-6)
    assert maps[:, 2].min() >= 0 and maps[:, 3].min() > 0 and maps[:, 3].max() <= 1
    assert torch.equal(normals[~there], torch.zeros_like(normals[~there]))
    assert (maps[:, 3][~there] == 1).all()
    # Neither nearly everything nor nearly nothing is surface.
    assert 0.3 < there.float().mean() < 0.8


def test_the_same_surface_is_rendered_at_every_resolution() -> None:
    """Of three times as many rays, every third goes through the middle of a pixel of the smaller picture."""
    for index in range(4):
        small, large = (rendered(surface(13, index), side) for side in (20, 60))
        middle = large[:, 1::3, 1::3]
        # Rounding may move a ray that only just hits, or misses.
        same = np.abs(middle - small).max(0) < 1e-3
        assert same.mean() > 0.99


def test_the_two_numbers_make_the_surface() -> None:
    assert np.array_equal(rendered(surface(14, 3), 16), rendered(surface(14, 3), 16))
    others = [rendered(surface(*one), 16) for one in ((14, 3), (14, 4), (15, 3))]
    assert not np.array_equal(others[0], others[1]) and not np.array_equal(others[0], others[2])
    low, high = pairs(14, [3, 4], 16, 4)
    assert np.array_equal(low[1].numpy(), rendered(surface(14, 4), 16))
    assert np.array_equal(high[0].numpy(), rendered(surface(14, 3), 64))


# --- the network ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> pi.Network:
    return opened()


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return train_super_resolution.checked(500, SIDE)


def test_it_beats_bilinear_upscaling_on_surfaces_that_it_has_not_seen(measured: dict[str, Any]) -> None:
    """Its errors are less than half as large, also against bilinear upscaling that knows what to leave out, and less
    than two thirds where all that bilinear upscaling mixes is surface."""
    for other in (measured["bilinear"], measured["bilinear, of what is there only"]):
        for name, error in measured["ours"].items():
            if "PSNR" not in name:
                assert error < other[name] * (2 / 3 if "inside" in name else 1 / 2), name


def test_what_is_written_of_the_weights_is_so(measured: dict[str, Any]) -> None:
    said = json.loads((WEIGHTS / "super_resolution.json").read_text())
    assert said["seed"] != train_super_resolution.TEST_SEED
    test = said["test"][f"{SIDE} to {FACTOR * SIDE}"]
    for name in ("ours", "bilinear"):
        assert measured[name] == pytest.approx(test[name], rel=0.01)


def test_the_eighth_block_is_a_tap(network: pi.Network) -> None:
    row = network.taps()[TAP]
    assert (row.name, row.channels, row.shape) == ("blocks.7", 64, (64, SIDE, SIDE))
    assert row.stride == (1, 1)
    assert sum(name.startswith("blocks.") and name.count(".") == 1 for name in (r.name for r in network.taps())) == 10


def test_the_tap_is_behind_the_addition(network: pi.Network) -> None:
    low, _ = pairs(16, range(2))
    images = low * torch.tensor(STD).view(1, 5, 1, 1) + torch.tensor(MEAN).view(1, 5, 1, 1)
    assert images.min() >= 0 and images.max() <= 1
    module = network.module
    assert isinstance(module, SRNet)
    with torch.no_grad():
        found = {place.tap: value for place, value in network.run(images, ["blocks.6", TAP, "output"]).items()}
        block: Any = module.blocks[7]
        inside = block.conv2(block.conv1(found["blocks.6"]).relu())
        torch.testing.assert_close(found[TAP], found["blocks.6"] + inside, rtol=1e-4, atol=1e-4)
        # The network gets the maps themselves.
        torch.testing.assert_close(found["output"], module(low), rtol=1e-4, atol=1e-4)


def test_it_adds_to_the_upscaled_input_at_any_size() -> None:
    module = super_resolution()
    for layer in (module.fold[2].weight, module.fold[2].bias):
        assert isinstance(layer, Tensor)
        torch.nn.init.zeros_(layer)
    maps = torch.randn(1, 5, 12, 17, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(module(maps), bilinear(maps))
    assert bilinear(maps).shape == (1, 5, 24, 34)


# --- both -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["one", "free"])
def test_geometry_is_optimised_through_it(network: pi.Network, mask: MaskKind) -> None:
    asked = pi.objectives.direction(TAP, torch.eye(64)[3], cosine_power=2, aggregate="max-mean")
    result = pi.maximize(network, ["blocks.7:3", asked], recipe=recipe(mask), steps=15, size=16, progress=False)
    assert result.images.shape == (2, 5, 16, 16)
    assert result.images.min() >= 0 and result.images.max() <= 1
    # (`plain` asks a channel as a direction, so that its mean need not rise)
    assert result.scores[1] > result.trace[0, 1]
    with torch.no_grad():
        answer = next(iter(network.run(result.images, [TAP]).values()))
    assert answer[0, 3].mean() == pytest.approx(float(result.scores[0]), rel=1e-4)
    normals = 2 * result.images[:, :3] - 1
    assert normals[:, 2].min() >= 0
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(2, 16, 16), rtol=0, atol=1e-5)
    if mask == "one":
        assert (result.images[:, 4] == 1).all()
