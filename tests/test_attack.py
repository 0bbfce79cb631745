"""The iterative sign method: within its ball for any photo, and where a classifier is linear, its optimum."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from climbs import linear
from preimage import Network, RequestError
from preimage.evaluation import Attack, attack

few = settings(max_examples=12, deadline=None)
seeds = st.integers(0, 2**31)
SIDE, CHANNELS, CLASSES = 6, 3, 4
ROUNDING = 2**-23
"""Of float32 numbers up to 2, the sums of photo and epsilon."""


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def photos(seed: int, count: int) -> Tensor:
    """Some pixels are black or white."""
    return (1.4 * uniform(seed, count, CHANNELS, SIDE, SIDE) - 0.2).clamp(0, 1)


def curved(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(CHANNELS, 8, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * (SIDE - 2) ** 2, CLASSES)
    )
    return Network(module, SIDE, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3))


class TwoClasses(nn.Module):
    """Logits of 0 and of sum w x - threshold, `times` as strong."""

    def __init__(self, weight: Tensor, threshold: float, times: float = 1.0) -> None:
        super().__init__()
        self.weight, self.threshold, self.times = nn.Parameter(weight), threshold, times

    def forward(self, images: Tensor) -> Tensor:
        second = self.times * ((images * self.weight).flatten(1).sum(1) - self.threshold)
        return torch.stack([torch.zeros_like(second), second], 1)


def two_classes(seed: int, times: float = 1.0) -> tuple[Network, Tensor]:
    """A network and its weights [C, H, W], of about as many black as white photos in either class."""
    weight = 0.1 * torch.randn((CHANNELS, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))
    return Network(TwoClasses(weight, float(weight.sum()) / 2, times), SIDE, channels=CHANNELS), weight


# --- where it may go ----------------------------------------------------------------------------------------------


@few
@given(seeds, st.integers(1, 4), st.floats(1e-4, 2), st.floats(1e-4, 2), st.integers(1, 6))
def test_it_stays_within_epsilon_of_the_photo_and_within_zero_and_one(
    seed: int, count: int, epsilon: float, step_size: float, steps: int
) -> None:
    given_photos = photos(seed, count)
    made = attack(curved(seed), given_photos, epsilon=epsilon, step_size=step_size, steps=steps)
    assert made.attacked.shape == given_photos.shape and made.attacked.dtype == torch.float32
    assert made.attacked.min() >= 0 and made.attacked.max() <= 1
    apart = (made.attacked.double() - given_photos.double()).abs().max()
    assert apart <= min(epsilon, steps * step_size) + steps * ROUNDING
    assert torch.equal(given_photos, photos(seed, count)) and torch.equal(made.photos, given_photos)


def test_the_published_settings_are_eight_of_256_levels_in_ten_steps_of_one() -> None:
    network, _ = two_classes(0)
    grey = torch.full((1, CHANNELS, SIDE, SIDE), 0.5)
    apart = (attack(network, grey).attacked - grey).abs()
    torch.testing.assert_close(apart, torch.full_like(apart, 8 / 255), rtol=0, atol=10 * ROUNDING)
    short = attack(network, grey, steps=3)
    torch.testing.assert_close((short.attacked - grey).abs(), torch.full_like(apart, 3 / 255), rtol=0, atol=1e-6)


# --- where it goes ------------------------------------------------------------------------------------------------


@few
@given(seeds, st.floats(0.01, 0.6), st.integers(1, 8))
def test_of_a_linear_classifier_it_is_the_sign_image(seed: int, epsilon: float, steps: int) -> None:
    """No other image as near is answered with less of the first class, once there are steps enough to get there."""
    network, weight = two_classes(seed)
    given_photos = photos(seed, 3)
    step_size = 0.05
    made = attack(network, given_photos, epsilon=epsilon, step_size=step_size, steps=steps)
    towards = torch.where(made.before[:, None, None, None] == 1, -weight.sign(), weight.sign())
    reach = min(epsilon, steps * step_size)
    expected = (given_photos + reach * towards).clamp(0, 1)
    torch.testing.assert_close(made.attacked, expected, rtol=0, atol=2e-6)
    # The optimum over the whole ball, pixel by pixel.
    sums = (made.attacked * weight).flatten(1).sum(1)
    low, high = (given_photos - reach).clamp_min(0), (given_photos + reach).clamp_max(1)
    corners = torch.stack([low * weight, high * weight])
    best = torch.where(made.before == 1, corners.amin(0).flatten(1).sum(1), corners.amax(0).flatten(1).sum(1))
    torch.testing.assert_close(sums, best, rtol=0, atol=1e-4)


@few
@given(seeds)
def test_answers_before_and_after_are_the_strongest_classes(seed: int) -> None:
    network, weight = two_classes(seed)
    given_photos = photos(seed, 9)
    made = attack(network, given_photos, epsilon=0.02, step_size=0.02)
    threshold = float(weight.sum()) / 2
    for images, answers in ((given_photos, made.before), (made.attacked, made.after)):
        sums = (images * weight).flatten(1).sum(1) - threshold
        sure = sums.abs() > 1e-5
        assert answers.dtype == torch.int64 and answers.shape == (9,)
        assert torch.equal(answers[sure], (sums > 0).long()[sure])
    assert torch.equal(made.succeeded, made.before != made.after) and made.succeeded.dtype == torch.bool


def test_it_succeeds_just_where_the_margin_is_smaller_than_what_epsilon_moves() -> None:
    """Of grey photos no bound of [0, 1] is in the way: epsilon moves the logit by epsilon * sum |w|."""
    network, weight = two_classes(3)
    grey = 0.5 + 0.2 * (uniform(0, 12, CHANNELS, SIDE, SIDE) - 0.5)
    margins = ((grey - 0.5) * weight).flatten(1).sum(1).abs()
    epsilon = float(margins.median() + 1e-3) / float(weight.abs().sum())
    made = attack(network, grey, epsilon=epsilon, step_size=epsilon / 2, steps=4)
    assert torch.equal(made.succeeded, margins < epsilon * weight.abs().sum())
    assert 0 < int(made.succeeded.sum()) < 12


def test_every_photo_is_led_away_from_its_own_answer() -> None:
    network, rows = linear()
    shown = torch.stack([(50 * row).sigmoid() for row in rows])  # each class's own
    assert attack(network, shown, epsilon=1e-3).before.tolist() == [0, 1, 2]
    made = attack(network, shown, epsilon=1.0, step_size=0.1, steps=20)
    assert made.succeeded.all()
    images = made.attacked.flatten(1)
    logprobs = (images @ rows.flatten(1).T).log_softmax(1)
    before = (shown.flatten(1) @ rows.flatten(1).T).log_softmax(1)
    assert (logprobs.diagonal() < before.diagonal() - 5).all()


@pytest.mark.parametrize("count", [1, 16, 17, 35])
def test_a_batch_is_attacked_as_each_alone(count: int) -> None:
    network, given_photos = curved(), photos(5, count)
    together = attack(network, given_photos, epsilon=0.1, step_size=0.03, steps=4)
    assert torch.equal(together.before, network.class_scores(given_photos).argmax(1))
    for i in (0, count // 2, count - 1):
        alone = attack(network, given_photos[i : i + 1], epsilon=0.1, step_size=0.03, steps=4)
        same = (together.attacked[i] - alone.attacked[0]).abs() < 1e-5
        # (where a gradient is next to 0, rounding may decide on its sign)
        assert same.float().mean() > 0.95
        assert (together.before[i], together.after[i]) == (alone.before[0], alone.after[0])


def test_answers_by_place_are_averaged() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(CHANNELS, CLASSES, 3)
    made = attack(Network(layer, SIDE, channels=CHANNELS), photos(1, 3), epsilon=0.3, step_size=0.05)
    with torch.no_grad():
        assert torch.equal(made.before, layer(photos(1, 3)).mean((2, 3)).argmax(1))
        assert torch.equal(made.after, layer(made.attacked).mean((2, 3)).argmax(1))


def test_a_network_that_is_very_sure_is_attacked_too() -> None:
    """The same classifier, its logits 200 times as strong: the same answers, the same best attack."""
    given_photos = photos(1, 3)
    settings: dict[str, Any] = {"epsilon": 0.3, "step_size": 0.05}
    mild = attack(two_classes(1)[0], given_photos, **settings)
    sure = attack(two_classes(1, times=200)[0], given_photos, **settings)
    assert torch.equal(mild.before, sure.before) and mild.succeeded.all()
    torch.testing.assert_close(sure.attacked, mild.attacked, rtol=0, atol=1e-5)


# --- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(CHANNELS, SIDE, SIDE),
        torch.zeros(SIDE, SIDE),
        torch.full((1, CHANNELS, SIDE, SIDE), 1.01),
        torch.full((1, CHANNELS, SIDE, SIDE), -0.01),
        torch.full((1, CHANNELS, SIDE, SIDE), math.nan),
        torch.full((1, CHANNELS, SIDE, SIDE), math.inf),
    ],
)
def test_what_is_no_batch_of_photos_is_refused(wrong: Tensor) -> None:
    with pytest.raises(RequestError, match="photos to attack"):
        attack(curved(), wrong)


def test_photos_that_the_network_does_not_take_are_refused() -> None:
    with pytest.raises(RequestError, match=r"takes images \[N, 3, H, W\], not \[1, 2, 6, 6\]"):
        attack(curved(), torch.zeros(1, 2, SIDE, SIDE))
    with pytest.raises(RequestError, match="does not run on 3 x 9 x 9 images"):
        attack(curved(), torch.zeros(1, CHANNELS, 9, 9))


def test_no_photo_is_refused() -> None:
    with pytest.raises(RequestError):
        attack(curved(), torch.zeros(0, CHANNELS, SIDE, SIDE))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": 0.0},
        {"epsilon": -0.1},
        {"epsilon": math.nan},
        {"step_size": 0.0},
        {"step_size": -1.0},
        {"step_size": math.nan},
        {"steps": 0},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="epsilon and a step size above zero and at least one step"):
        attack(curved(), photos(0, 1), **wrong)


# --- the network is borrowed --------------------------------------------------------------------------------------


class Fails(nn.Module):
    """Raises when it is asked for a gradient for the `left`-th time."""

    def __init__(self, left: int, error: type[BaseException]) -> None:
        super().__init__()
        self.left, self.error = left, error

    def forward(self, values: Tensor) -> Tensor:
        if values.requires_grad:
            self.left -= 1
            if self.left == 0:
                raise self.error
        return values


def state(module: nn.Module) -> dict[str, Any]:
    return {
        "training": [part.training for part in module.modules()],
        "needed": [parameter.requires_grad for parameter in module.parameters()],
        "gradients": [parameter.grad for parameter in module.parameters()],
        "hooks": [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()],
    }


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_the_network_is_as_it_was(error: type[BaseException] | None) -> None:
    """Ctrl-C is handed on: half an attack is none."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(CHANNELS, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(),
        Fails(3 if error else 0, error or ZeroDivisionError), nn.Flatten(), nn.Linear(4 * (SIDE - 2) ** 2, CLASSES),
    )  # fmt: skip
    module[0].weight.requires_grad_(False)
    module.train()
    before, values = state(module), {name: value.clone() for name, value in module.state_dict().items()}
    network = Network(module, SIDE, channels=CHANNELS)
    if error is None:
        made = attack(network, photos(0, 2))
        assert isinstance(made, Attack) and not made.attacked.requires_grad
    else:
        with pytest.raises(error):
            attack(network, photos(0, 2))
    assert state(module) == before
    assert all(torch.equal(values[name], value) for name, value in module.state_dict().items())
