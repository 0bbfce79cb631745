"""Heat maps as colours: they are readable in order, by everybody, whatever a map's values are, and so is the photo."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2lab
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.overlay import coloured, masked, overlay, pictured, scaled

few = settings(max_examples=40, deadline=None)
SHARES = torch.linspace(-1, 1, 513)
# The second row keeps more than a hundredth of the values at the ends, so that none is clipped.
SIGNED = torch.stack([SHARES, SHARES.sign()])
_TO_LINEAR = np.vectorize(lambda v: v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4)
_FROM_LINEAR = np.vectorize(lambda v: 12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055)
# How colours look without one kind of cones: Machado, Oliveira & Fernandes 2009, table 1, severity 1.0, linear RGB.
_WITHOUT = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
Maps = arrays.arrays(
    np.float32, (6, 7), elements=st.floats(-100, 100, width=32).filter(lambda v: abs(v) > 1e-3 or not v)
)


def lab(colours: Tensor) -> np.ndarray:
    """The first row of colours [3, H, W] in CIELAB: [W, 3]."""
    return rgb2lab(colours[:, 0].T.double().numpy()[None])[0]


def seen_without(cones: str, colours: Tensor) -> np.ndarray:
    linear = _TO_LINEAR(colours[:, 0].T.double().numpy()) @ np.array(_WITHOUT[cones]).T
    return rgb2lab(_FROM_LINEAR(linear.clip(0, 1))[None])[0]


def test_lightness_is_how_much_it_matters() -> None:
    """Even steps of CIELAB lightness from black, the same on both sides, so that the map is in order even in grey."""
    lightness = lab(coloured(SIGNED))[:, 0]
    np.testing.assert_allclose(lightness, 92 * SHARES.abs().numpy(), atol=2.5)
    assert (np.diff(lightness[256:]) > 0).all()
    assert (np.diff(lightness[:257]) < 0).all()


@pytest.mark.parametrize("cones", _WITHOUT)
def test_the_colour_blind_see_the_same_order(cones: str) -> None:
    lightness = seen_without(cones, coloured(SIGNED))[:, 0]
    assert (np.diff(lightness[256:]) > 0).all()
    assert (np.diff(lightness[:257]) < 0).all()


@pytest.mark.parametrize("cones", _WITHOUT)
def test_the_colour_blind_tell_for_from_against(cones: str) -> None:
    """30 is about the distance of red from orange; 2.3 can just be told apart (Mahy et al. 1994)."""
    colours = seen_without(cones, coloured(SIGNED))
    for share in range(64, 257, 16):
        assert np.linalg.norm(colours[256 + share] - colours[256 - share]) > 30


@few
@given(Maps)
def test_a_scaled_map_keeps_order_and_sign(values: np.ndarray) -> None:
    heatmap = torch.from_numpy(values)
    share = scaled(heatmap)
    assert share.shape == heatmap.shape
    assert float(share.abs().max()) <= 1
    order = heatmap.flatten().argsort()
    assert bool((share.flatten()[order].diff() >= 0).all())
    if float(heatmap.min()) < 0:
        assert torch.equal(share.sign(), heatmap.sign())
    else:
        assert float(share.min()) == 0
    if float(heatmap.max()) > max(0, float(heatmap.min())) and -float(heatmap.min()) <= float(heatmap.max()):
        assert float(share.max()) == 1


@few
@given(Maps, st.integers(-20, 20))
def test_the_scale_of_a_map_does_not_matter(values: np.ndarray, power: int) -> None:
    heatmap = torch.from_numpy(values)
    assert torch.equal(scaled(heatmap * 2.0**power), scaled(heatmap))


@few
@given(arrays.arrays(np.int16, (5, 6), elements=st.integers(0, 1000)), st.integers(0, 1000))
def test_of_a_map_without_negative_values_the_offset_does_not_matter(values: np.ndarray, offset: int) -> None:
    heatmap = torch.from_numpy(values).float()
    torch.testing.assert_close(scaled(heatmap + offset), scaled(heatmap))


@pytest.mark.parametrize("value", [-3.0, 0.0, 0.4, 1e30])
def test_a_map_that_is_the_same_everywhere_says_nothing(value: float) -> None:
    heatmap = torch.full((4, 5), value)
    share = scaled(heatmap)
    # A negative constant is no absence of an answer: everything speaks against it.
    assert torch.equal(share, torch.full((4, 5), -1.0 if value < 0 else 0.0))


def test_the_tail_of_a_gradient_is_clipped() -> None:
    """One percent lies above 1; what is below is spread over the whole scale."""
    heatmap = torch.linspace(0, 1, 990)
    heatmap = torch.cat([heatmap, torch.full((10,), 5.0)]).view(25, 40)
    share = scaled(heatmap).flatten()
    torch.testing.assert_close(share[:990], heatmap.flatten()[:990])
    assert bool((share[990:] == 1).all())


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-3])
def test_few_bright_points_do_not_drown_in_noise(noise: float) -> None:
    heatmap = noise * torch.rand((50, 50), generator=torch.Generator().manual_seed(0))
    heatmap[20, 30] = 1
    share = scaled(heatmap)
    assert float(share[20, 30]) == 1
    share[20, 30] = 0
    assert float(share.max()) <= 10 * noise


def test_what_is_not_finite_is_grey_and_changes_nothing_else() -> None:
    heatmap = torch.rand((20, 20), generator=torch.Generator().manual_seed(0))
    heatmap[0, 0] = 0
    whole = coloured(heatmap)
    heatmap[3, 4:6] = torch.tensor([torch.nan, torch.inf])
    broken = coloured(heatmap)
    assert bool((broken[:, 3, 4:6] == 0.5).all())
    whole[:, 3, 4:6] = 0.5
    torch.testing.assert_close(broken, whole, atol=0.02, rtol=0)  # one percent of 400 values is 4 of them
    assert bool(overlay(torch.rand(3, 20, 20), torch.full((20, 20), torch.nan)).isfinite().all())


def test_each_map_of_a_batch_has_its_own_scale() -> None:
    batch = (
        torch.randn((3, 2, 8, 9), generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 100.0])[:, None, None]
    )
    for i in range(3):
        for j in range(2):
            assert torch.equal(scaled(batch)[i, j], scaled(batch[i, j]))


def test_where_nothing_matters_the_photo_is_bare() -> None:
    photo = torch.rand((3, 8, 9), generator=torch.Generator().manual_seed(0))
    heatmap = torch.zeros(8, 9)
    heatmap[2, 3] = 1
    shown = overlay(photo, heatmap)
    luma = 0.299 * photo[0] + 0.587 * photo[1] + 0.114 * photo[2]
    expected = luma.expand(3, 8, 9).clone()
    expected[:, 2, 3] = shown[:, 2, 3]
    torch.testing.assert_close(shown, expected)


def test_the_photo_can_be_read_below_the_colours() -> None:
    """At every importance a quarter of the photo's contrast is left, in every channel."""
    black, grey, white = (overlay(torch.full((3, *SIGNED.shape), value), SIGNED) for value in (0.0, 0.5, 1.0))
    assert float((white - black).min()) >= 0.25 - 1e-6
    torch.testing.assert_close(grey, (white + black) / 2)


@pytest.mark.parametrize("light", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_what_is_important_is_seen_at_a_glance(light: float) -> None:
    """On any grey, full importance is a colour far from the bare photo's, and from what speaks against, in CIELAB."""
    shown = lab(overlay(torch.full((3, *SIGNED.shape), light), SIGNED))
    against, bare, important = shown[0], shown[256], shown[-1]
    assert np.linalg.norm(important - bare) > 45
    assert np.linalg.norm(against - bare) > 25
    assert np.linalg.norm(important - against) > 45


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_photos_of_any_number_of_channels(channels: int) -> None:
    photo = torch.rand((channels, 6, 5), generator=torch.Generator().manual_seed(0))
    heatmap = torch.rand((6, 5), generator=torch.Generator().manual_seed(1))
    for shown in (overlay(photo, heatmap), masked(photo, heatmap), pictured(photo)):
        assert shown.shape == (3, 6, 5)
        assert 0 <= float(shown.min()) <= float(shown.max()) <= 1
    if channels != 3:
        mean = photo.mean(0).expand(3, 6, 5)
        torch.testing.assert_close(pictured(photo), mean)
        torch.testing.assert_close(overlay(photo, heatmap), overlay(mean, heatmap))


def test_a_masked_photo_is_the_photo_where_it_is_kept() -> None:
    photo = torch.rand((3, 28, 28), generator=torch.Generator().manual_seed(0))
    assert torch.equal(masked(photo, torch.ones(28, 28)), photo)
    gone = masked(photo, torch.zeros(28, 28))
    assert float(gone.max()) <= 0.35 * float(photo.max())
    assert float((gone / 0.35).std()) < 0.5 * float(photo.std())  # what was fine is blurred
    half = torch.zeros(28, 28)
    half[:, :14] = 1
    torch.testing.assert_close(masked(photo, half), torch.cat([photo[:, :, :14], gone[:, :, 14:]], 2))


def test_what_is_given_is_not_changed() -> None:
    photo, heatmap = torch.rand(3, 6, 5), torch.randn(6, 5)
    heatmap[0, 0] = torch.nan
    before = photo.clone(), heatmap.clone()
    for make in (overlay, masked):
        make(photo, heatmap.nan_to_num())
    coloured(heatmap)
    overlay(photo, heatmap)
    assert torch.equal(photo, before[0])
    torch.testing.assert_close(heatmap, before[1], equal_nan=True, atol=0, rtol=0)


def test_wrong_shapes_are_said() -> None:
    photo = torch.rand(3, 6, 5)
    with pytest.raises(RequestError, match=r"a heat map has shape \[H, W\], not \[1, 6, 5\]"):
        coloured(torch.rand(1, 6, 5))
    for make in (overlay, masked):
        with pytest.raises(RequestError, match=r"\[5, 6\] is not of a photo \[3, 6, 5\]"):
            make(photo, torch.rand(5, 6))
        with pytest.raises(RequestError, match=r"not of a photo \[6, 5\]"):
            make(photo[0], torch.rand(6, 5))
