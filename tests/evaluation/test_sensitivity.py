"""How far heat maps move when photos hardly do: closed forms, and Captum's sensitivity_max as oracle."""

from __future__ import annotations

import json
import math

import pytest
import torch
from captum.metrics import sensitivity_max
from explained import always, case_of, method, notes, signed, summing, uniform, values
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from preimage import Network, RequestError
from preimage.evaluation.sensitivity import Sensitivity

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)
radii = st.floats(0.001, 0.3)


def test_the_gradient_of_a_linear_network_never_changes() -> None:
    network = summing(signed(0, 3, 8, 9))
    photo, again = uniform(1, 3, 8, 9), method("gradient", network)
    raw = Sensitivity().measure(case_of(network, photo, again(photo[None], None)[0], again=again))
    assert raw["changes"] == [0.0] * 4
    said = "1 heat maps do not depend on the photo at all, which is no merit"
    assert notes(Sensitivity(), raw)["largest change"] == (said,)


@few
@given(seeds, radii, st.integers(1, 6))
def test_a_heat_map_that_is_the_photo_moves_as_it_does(seed: int, radius: float, samples: int) -> None:
    """In a photo that is no nearer to black or white than the radius, nothing is cut."""
    photo = radius + (1 - 2 * radius) * uniform(seed, 1, 9, 7)
    shown: list[Tensor] = []

    def again(photos: Tensor, other: Network | None) -> Tensor:
        assert other is None
        shown.append(photos)
        return photos[:, 0]

    case = case_of(summing(torch.ones(1, 9, 7)), photo, photo[0], again=again, seed=seed)
    changes = Sensitivity(samples, radius).measure(case)["changes"]
    moved = shown[0] - photo
    assert moved.shape == (samples, 1, 9, 7) and moved.abs().max() <= radius + 1e-6
    assert changes == pytest.approx((moved.flatten(1).norm(dim=1) / photo.norm()).tolist(), rel=1e-5)
    assert max(changes) <= radius * math.sqrt(63) / float(photo.norm()) * (1 + 1e-5)
    # Uniform noise has the variance radius^2 / 3.
    assert float(moved.square().mean()) == pytest.approx(radius**2 / 3, rel=0.5)


@few
@given(seeds, radii)
def test_photos_stay_photos(seed: int, radius: float) -> None:
    def again(photos: Tensor, other: Network | None) -> Tensor:
        assert photos.min() >= 0 and photos.max() <= 1
        assert len({tuple(one.flatten().tolist()) for one in photos}) == 4
        return photos[:, 0]

    photo = (uniform(seed, 1, 6, 6) > 0.5).float()
    photo[0, 0, 0] = 1
    Sensitivity(radius=radius).measure(case_of(summing(torch.ones(1, 6, 6)), photo, photo[0], again=again))


class Squares(nn.Module):
    """A class is the sum of the squares of all pixels: its gradient is twice the photo."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.one * images.square().sum((1, 2, 3))[:, None]


@few
@given(seeds, radii)
def test_captum_finds_the_same_largest_change(seed: int, radius: float) -> None:
    network = Network(Squares(), (8, 8), channels=1)
    photo, again = uniform(seed, 1, 8, 8), method("gradient", network)
    seen: list[Tensor] = []

    def watched(photos: Tensor, other: Network | None) -> Tensor:
        seen.append(photos)
        return again(photos, other)

    case = case_of(network, photo, again(photo[None], None)[0], again=watched, seed=seed)
    measure = Sensitivity(samples=5, radius=radius)
    found = values(measure, measure.measure(case))["largest change"][0]
    turns = iter(torch.split(seen[0], 1))
    theirs = sensitivity_max(
        lambda inputs: again(inputs[0], None)[:, None],
        photo[None],
        perturb_func=lambda inputs, perturb_radius: next(turns),
        n_perturb_samples=5,
        max_examples_per_batch=1,
    )
    assert found == pytest.approx(float(theirs), rel=1e-5)


@few
@given(seeds, st.floats(1e-6, 1e6))
def test_the_scale_of_a_method_does_not_count(seed: int, scale: float) -> None:
    photo, network = uniform(seed, 1, 6, 6), summing(torch.ones(1, 6, 6))
    one, other = (
        Sensitivity().measure(case_of(network, photo, s * photo[0], again=lambda x, _, s=s: s * x[:, 0], seed=seed))
        for s in (1.0, scale)
    )
    assert one["changes"] == pytest.approx(other["changes"], rel=1e-4)


def test_maps_of_zeros_do_not_count() -> None:
    network, photo = summing(torch.ones(1, 6, 6)), uniform(0, 1, 6, 6)
    measure = Sensitivity()
    zero = measure.measure(case_of(network, photo, torch.zeros(6, 6), again=always(torch.zeros(6, 6))))
    flat = measure.measure(case_of(network, photo, torch.ones(6, 6), again=always(torch.ones(6, 6))))
    assert values(measure, zero, None, flat)["largest change"] == [None, None, 0.0]
    assert notes(measure, zero, None, flat)["largest change"] == (
        "1 heat maps left out that are zero everywhere",
        "1 heat maps do not depend on the photo at all, which is no merit",
    )
    assert json.loads(json.dumps(zero)) == zero
    assert measure.quantities([zero], [""], 0)[0].better == "lower"


def test_the_same_seed_draws_the_same() -> None:
    network, photo = summing(torch.ones(1, 6, 6)), uniform(0, 1, 6, 6)
    one, same, other = (
        Sensitivity().measure(case_of(network, photo, photo[0], again=lambda x, _: x[:, 0], seed=seed))
        for seed in (3, 3, 4)
    )
    assert one == same
    assert one != other


def test_what_cannot_be_measured_is_said() -> None:
    network, photo = summing(torch.ones(1, 6, 6)), uniform(0, 1, 6, 6)
    with pytest.raises(RequestError, match="not finite"):
        Sensitivity().measure(case_of(network, photo, photo[0], again=lambda x, _: x[:, 0] / 0))
    with pytest.raises(RequestError, match="at least one sample, not 0"):
        Sensitivity(samples=0)
    for radius in (0.0, -1.0, 1.5):
        with pytest.raises(RequestError, match="between 0 and 1"):
            Sensitivity(radius=radius)
