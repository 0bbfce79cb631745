"""How a mask's run ends: not converged, interrupted, with bad settings; and the module is only borrowed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import settings
from squares import (
    BOX,
    GAMES,
    SIDE,
    Indifferent,
    Sharpness,
    explained,
    noise,
    sharpness,
    watched,
)
from torch import Tensor, nn

from preimage import Network, RequestError, explain
from preimage.explain import Mask
from preimage.explain.mask import Game

few = settings(max_examples=8, deadline=None)
LARGE, LARGE_BOX = 112, (32, 48, 36, 40)


def most_important(heatmap: Tensor, count: int) -> Tensor:
    return heatmap >= heatmap.flatten().topk(count).values[-1]


# --- runs that do not converge ------------------------------------------------------------------------------------


class Sick(nn.Module):
    """Answers as another network does, but NaN where a picture is as `when` says."""

    def __init__(self, inner: nn.Module, when: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.when = inner, when

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.inner(images)
        return answers * torch.where(self.when(images), torch.nan, 1.0)[:, None]


def marked(images: Tensor) -> Tensor:
    return images[:, 0, 0, 0] > 0.99


@pytest.mark.parametrize("game", GAMES)
def test_a_photo_without_a_finite_score_does_not_spoil_the_others(game: Game) -> None:
    network = Network(Sick(Sharpness(BOX), marked), SIDE, channels=3)
    photos = [noise(i) * 0.9 for i in range(3)]
    photos[1][:, :8, :8] = 1.0
    method = Mask(game=game, iterations=15)
    together = explain(network, photos, "class:0", method=method, least_probability=0)
    for i in (0, 2):
        alone = explain(network, photos[i], "class:0", method=method)
        torch.testing.assert_close(together[i].heatmap, alone.heatmap, rtol=0, atol=1e-4)
        assert together[i].notes == []
    assert together[1].notes[:3] == [
        "the mask did not converge; started again from 'half'",
        "the mask did not converge; started again from 'random'",
        "no mask was found that does better than none: do not read it",
    ]
    json.dumps(together.as_dict(), allow_nan=False)


@pytest.mark.parametrize("game", GAMES[:2])
def test_a_run_that_fails_is_started_again_from_another_mask_and_that_is_said(game: Game) -> None:
    """NaN when all is perturbed, so that no mask of zeros can learn; every other can."""

    def black(images: Tensor) -> Tensor:
        return (images < 1e-3).flatten(1).all(1)

    network = Network(Sick(Sharpness(BOX), black), SIDE, mean=(0.0,) * 3)
    ask: dict[str, Any] = {"game": game, "perturbation": "constant", "iterations": 80, "jitter": 0}
    made = explained(network, 0.2 + 0.8 * noise(1), "prob:0", start="zeros", **ask)
    assert made.notes == ["the mask did not converge; started again from 'half'"]
    assert made.heatmap.isfinite().all() and made.trace is not None and made.trace.isfinite().all()
    half = explained(network, 0.2 + 0.8 * noise(1), "prob:0", start="half", **ask)
    torch.testing.assert_close(made.heatmap, half.heatmap, rtol=0, atol=1e-5)
    assert half.notes == []


def test_where_no_mask_does_better_than_none_that_is_said() -> None:
    made = explained(Network(Indifferent(), SIDE, channels=3), noise(0), "prob:0", iterations=20)
    assert made.notes[-1] == "no mask was found that does better than none: do not read it"
    assert len(made.notes) == 3


def test_a_mask_that_is_given_is_not_replaced_by_another_start() -> None:
    network, shown = watched(Network(Indifferent(), SIDE, channels=3))
    made = explained(network, noise(0), "prob:0", start=torch.ones(16, 16), iterations=4)
    assert len(shown) == 4
    assert made.notes == ["no mask was found that does better than none: do not read it"]


def test_a_mask_that_does_far_better_than_none_is_not_said_to_do_worse() -> None:
    network, photo = sharpness(), noise(1)
    start = torch.ones(16, 16)
    start[4:9, 6:12] = 0  # the square, exactly
    ask: dict[str, Any] = {"start": start, "l1": 1e-3, "tv": 1e-3, "jitter": 0}
    good = explained(network, photo, **ask, iterations=300)
    assert good.mask is not None
    learned = F.interpolate(good.mask[None, None], (16, 16), mode="area")[0, 0].clamp(0, 1)
    once_more = explained(network, photo, **{**ask, "start": learned}, iterations=1)
    # Less than a sixth of the photo is masked, and little of the answer is left.
    assert once_more.scores["masked"] < 0.3 * once_more.scores["photo"]
    assert once_more.heatmap.mean() < 0.3
    again = explained(network, photo, **{**ask, "start": start}, iterations=1)
    assert once_more.notes == [] and again.notes == []


def test_it_is_started_again_from_another_mask_than_the_first() -> None:
    made = explained(Network(Indifferent(), SIDE, channels=3), noise(0), "prob:0", start="half", iterations=4)
    assert not any("from 'half'" in note for note in made.notes)


# --- Ctrl-C -------------------------------------------------------------------------------------------------------


class Impatient(nn.Module):
    """Somebody presses Ctrl-C when it is shown masked photos for the `left`-th time."""

    def __init__(self, inner: nn.Module, left: int) -> None:
        super().__init__()
        self.inner, self.left = inner, left

    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        out: Tensor = self.inner(images)
        return out


def impatient(steps: int, inner: nn.Module | None = None) -> Network:
    return Network(Impatient(inner or Sharpness(BOX), steps + 1), SIDE, channels=3)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_ctrl_c_keeps_the_steps_that_were_done(steps: int) -> None:
    network = impatient(steps)
    made = explained(network, noise(1), iterations=20)
    assert made.interrupted
    assert made.trace is not None and made.trace.shape == (steps,)
    assert made.settings["interrupted"] is True
    if steps:
        complete = explained(sharpness(), noise(1), iterations=steps)
        torch.testing.assert_close(made.heatmap, complete.heatmap)
        assert made.scores == pytest.approx(complete.scores)
        assert not complete.interrupted
    json.dumps(made.as_dict(), allow_nan=False)


def test_ctrl_c_in_a_later_batch_keeps_the_earlier_ones() -> None:
    """Six steps of the first, two of the second; the third never began."""
    method = Mask(iterations=6)
    photos = [noise(i) for i in range(5)]
    made = explain(impatient(8), photos, "class:0", method=method, batch_size=2)
    assert [one.of for one in made] == [0, 1, 2, 3]
    assert [one.interrupted for one in made] == [False, False, True, True]
    assert made.interrupted
    whole = explain(sharpness(), photos, "class:0", method=method, batch_size=2)
    for i in range(2):
        torch.testing.assert_close(made[i].heatmap, whole[i].heatmap)
    assert [None if one.trace is None else len(one.trace) for one in made] == [6, 6, 2, 2]


def test_ctrl_c_before_anything_is_done_is_passed_on() -> None:
    class Nervous(Sharpness):
        def forward(self, images: Tensor) -> Tensor:
            if len(images) > 8:  # the discs of the circular search
                raise KeyboardInterrupt
            return super().forward(images)

    network = Network(Nervous(BOX), SIDE, channels=3)
    network.module.train()
    with pytest.raises(KeyboardInterrupt):
        explained(network, noise(1))
    assert network.module.training


def test_ctrl_c_in_a_second_run_ends_it_too() -> None:
    def nothing(images: Tensor) -> Tensor:
        return torch.ones(len(images), dtype=torch.bool)

    made = explain(
        impatient(8 + 3, Sick(Sharpness(BOX), nothing)),
        noise(1),
        "prob:0",
        method=Mask(iterations=8),
        least_probability=0,
    )
    assert made.interrupted


# --- bad settings, and the module is only borrowed ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"game": "chess"}, "a game is 'deletion', 'preservation' or 'both', not 'chess'"),
        ({"iterations": 0}, "iterations of 1 or more, in whole numbers, not 0"),
        ({"cells": 0}, "cells of 1 or more, in whole numbers, not 0"),
        ({"cells": -3}, "cells of 1 or more, in whole numbers, not -3"),
        ({"cells": SIDE + 1}, "65 x 65 cells is larger than what it is laid over, 64 x 64"),
        ({"start": "middle"}, "circle, random, half, zeros, ones or a tensor, not 'middle'"),
        ({"start": torch.ones(16, 15)}, r"shape \[16, 16\] here, .*, not \[16, 15\]"),
        ({"start": torch.ones(3, 16, 16)}, r"shape \[16, 16\] here, .*, not \[3, 16, 16\]"),
        ({"start": torch.ones(16)}, r"shape \[16, 16\] here, .*, not \[16\]"),
        ({"start": torch.tensor(1.0)}, r"shape \[16, 16\] here, .*, not \[\]"),
        ({"start": torch.full((16, 16), 1.5)}, r"values in \[0, 1\]"),
        ({"start": torch.full((16, 16), -0.1)}, r"values in \[0, 1\]"),
        ({"start": torch.full((16, 16), torch.nan)}, r"values in \[0, 1\]"),
        ({"perturbation": "fog"}, "blur, constant, noise or an image file, not 'fog'"),
        ({"blur": 0.0}, "blur above zero"),
        ({"mask_blur": -1.0}, "mask_blur of zero or more"),
    ],
)
def test_bad_settings_are_one_sentence(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        explained(sharpness(), noise(0), **{"iterations": 2, **wrong})


def test_a_start_with_four_axes_is_taken_or_refused_in_one_sentence() -> None:
    explained(sharpness(), noise(0), start=torch.ones(1, 1, 16, 16), iterations=2)
    with pytest.raises(RequestError, match="a mask to start from"):
        explained(sharpness(), noise(0), start=torch.ones(1, 2, 16, 16), iterations=2)


@pytest.mark.parametrize(
    "wrong", [{"jitter": -4}, {"step_size": math.nan}, {"step_size": -0.1}, {"l1": math.nan}, {"beta": 0.0}], ids=str
)
def test_settings_that_make_no_sense_are_one_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        explained(sharpness(), noise(0), **{"iterations": 2, **wrong})


def test_one_start_for_all_or_one_for_each() -> None:
    network, photos = sharpness(), [noise(0), noise(1)]
    starts = torch.rand((2, 16, 16), generator=torch.Generator().manual_seed(0))
    ask: dict[str, Any] = {"iterations": 3, "jitter": 0}
    each = explain(network, photos, "class:0", method=Mask(start=starts, **ask))
    every = explain(network, photos, "class:0", method=Mask(start=starts[0], **ask))
    for i, (photo, one, same) in enumerate(zip(photos, each, every, strict=True)):
        alone = explained(network, photo, start=starts[i], **ask)
        torch.testing.assert_close(one.heatmap, alone.heatmap, rtol=0, atol=1e-5)
        shared = explained(network, photo, start=starts[0], **ask)
        torch.testing.assert_close(same.heatmap, shared.heatmap, rtol=0, atol=1e-5)
    assert torch.equal(starts, torch.rand((2, 16, 16), generator=torch.Generator().manual_seed(0)))


def state(module: nn.Module) -> dict[str, Any]:
    return {
        "training": [part.training for part in module.modules()],
        "needed": [parameter.requires_grad for parameter in module.parameters()],
        "gradients": [parameter.grad for parameter in module.parameters()],
        "values": {name: value.clone() for name, value in module.state_dict().items()},
        "hooks": [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()],
    }


class Fails(nn.Module):
    """Raises when it is shown masked photos for the `left`-th time."""

    def __init__(self, left: int, error: type[BaseException]) -> None:
        super().__init__()
        self.left, self.error = left, error

    def forward(self, values: Tensor) -> Tensor:
        if values.requires_grad:
            self.left -= 1
            if self.left == 0:
                raise self.error
        return values


@pytest.mark.parametrize("at", [None, "0"])
@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_the_module_is_as_it_was(at: str | None, game: Game, error: type[BaseException] | None) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(),
        Fails(3 if error else 0, error or ZeroDivisionError), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    module[0].weight.requires_grad_(False)
    module.train()
    before = state(module)
    network, method = Network(module, 32, channels=3), Mask(game=game, at=at, iterations=5, start="half")
    if error is ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            explain(network, noise(0, 32), "class:1", method=method)
    else:
        made = explain(network, noise(0, 32), "class:1", method=method)
        assert made.interrupted == (error is KeyboardInterrupt)
    after = state(module)
    assert all(torch.equal(value, after["values"].pop(name)) for name, value in before.pop("values").items())
    assert not after.pop("values")
    assert after == before


def test_photos_and_starts_are_not_written_to() -> None:
    photo, start = noise(0), torch.full((16, 16), 0.5)
    explained(sharpness(), photo, start=start, iterations=3)
    assert torch.equal(photo, noise(0))
    assert torch.equal(start, torch.full((16, 16), 0.5))


def test_an_answer_that_resampling_takes_away_is_said_and_jitter_0_finds_it() -> None:
    """The network sees a pattern of single pixels, as in an attacked photo."""

    pattern = torch.randint(0, 2, (64, 64), generator=torch.Generator().manual_seed(0)) * 2.0 - 1

    class Patterned(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            found = (images.mean(1) * pattern)[:, 20:44, 20:44].mean((1, 2))
            return torch.stack([40 * found, torch.full_like(found, 4.0)], 1)

    photo = (0.5 + 0.3 * pattern).expand(3, -1, -1)
    network = Network(Patterned(), 64, channels=3)
    said = "resampling the photo by a few pixels, to jitter it, loses half of the answer or more; try jitter=0"
    assert said in explained(network, photo, iterations=30).notes
    still = explained(network, photo, iterations=200, jitter=0)
    assert still.notes == []
    assert still.scores["masked"] < 0.1 * still.scores["photo"]
    assert still.heatmap[20:44, 20:44].mean() > 4 * still.heatmap[:8].mean()
