"""Extremal perturbations: of the area that one asks for, the part that a network looks at."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from onlookers import question
from squares import BOX, SIDE, Box, Sharpness, inside, noise, overlap, sharpness
from torch import Tensor, nn

from preimage import Network, RequestError, explain
from preimage.explain import Explanation, Extremal, find_method, methods
from preimage.objectives import label

PIXELS = BOX[2] * BOX[3]
MARGIN = 6
"""Of a photo of 64 pixels: sigma is 21 * 64 / 224 = 6, three cells of 7 * 64 / 224 = 2 pixels."""
SHARE = PIXELS / (SIDE + 2 * MARGIN) ** 2
"""Of the mask with its margin, that the square has."""


class Detail(nn.Module):
    """The logit of class k is 10 where square k is as full of detail as `noise`, and 0 where it is flat."""

    def __init__(self, *boxes: Box, times: float = 10.0) -> None:
        super().__init__()
        self.inner, self.times = Sharpness(*boxes), times

    def forward(self, images: Tensor) -> Tensor:
        seen = (images[:, :, t : t + h, left : left + w] for t, left, h, w in self.inner.boxes)
        found = [self.times * Sharpness.detail(one) / self.inner.full for one in seen]
        return torch.stack([*found, torch.zeros(len(images))], 1)


def detail(*boxes: Box, size: int | tuple[int, int] = SIDE, times: float = 10.0) -> Network:
    return Network(Detail(*(boxes or (BOX,)), times=times), size, channels=3)


def found(mask: Tensor, box: Box = BOX) -> float:
    """How well the mask's largest values, as many as the square has pixels, lie in the square."""
    least = mask.flatten().topk(box[2] * box[3]).values[-1]
    return overlap(mask >= least, inside(box, *mask.shape))


def explained(network: Network, photo: Any, target: Any = "class:0", **settings: Any) -> Explanation:
    made = explain(network, photo, target, method=Extremal(**{"areas": (SHARE,), **settings}))
    assert isinstance(made, Explanation)
    return made


def quick(**settings: Any) -> dict[str, Any]:
    """Fewer and longer steps, to one side only; the area is not held yet."""
    return {"iterations": 40, "step_size": 0.0075, "flip": False, **settings}


# --- they find what is looked at ----------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [BOX, (32, 8, 20, 24), (36, 36, 22, 22)], ids=str)
def test_the_mask_of_a_square_s_area_finds_it(box: Box) -> None:
    """With few steps. The photo is as full of detail everywhere else."""
    share = box[2] * box[3] / (SIDE + 2 * MARGIN) ** 2
    made = explained(detail(box), noise(3), areas=(share,), **quick())
    assert made.mask is not None
    assert found(made.mask, box) > 0.6
    lost = made.scores["photo"] - made.scores["perturbed"]
    assert made.scores["photo"] - made.scores["masked"] < 0.15 * lost


def test_with_the_published_settings_the_area_is_held_too() -> None:
    """As a share of the mask with its margin around the photo; here all of it lies over the photo."""
    made = explain(detail(), noise(3), "class:0", method=Extremal((SHARE,), flip=False))
    assert made.mask is not None
    assert found(made.mask) > 0.6
    share = float(made.mask.sum()) / (SIDE + 2 * MARGIN) ** 2
    assert abs(share - SHARE) < 0.2 * SHARE
    # Nearly all of it is kept or not; what is between is the discs' soft edge.
    assert ((made.mask > 0.8) | (made.mask < 0.2)).float().mean() > 0.8


def test_the_mask_is_the_heat_map() -> None:
    made = explained(detail(), noise(3), **quick())
    assert made.mask is not None and made.mask.shape == (SIDE, SIDE)
    assert torch.equal(made.heatmap, made.mask)
    assert made.mask.min() >= 0 and made.mask.max() <= 1


def test_photos_that_are_not_square_are_mirrored_and_found() -> None:
    """What is looked at lies in the middle, so that mirroring does not move it."""
    box = (12, 30, 22, 20)
    share = 22 * 20 / (60 * 92)
    made = explained(detail(box, size=(48, 80)), noise(2, 48, 80), areas=(share,), **quick(flip=True))
    assert made.mask is not None and made.mask.shape == (48, 80)
    assert found(made.mask, box) > 0.6


# --- several areas ------------------------------------------------------------------------------------------------


def test_of_several_areas_the_map_is_the_mean_of_what_each_alone_gives() -> None:
    network, photo = detail(), noise(3)
    areas = (0.05, 0.2)
    both = explained(network, photo, areas=areas, **quick(iterations=15))
    alone = [explained(network, photo, areas=(area,), **quick(iterations=15)) for area in areas]
    torch.testing.assert_close(both.heatmap, (alone[0].heatmap + alone[1].heatmap) / 2, rtol=0, atol=1e-5)
    assert set(both.scores) == {"photo", "perturbed", "kept 0.05", "kept 0.2"}
    for area, one in zip(areas, alone, strict=True):
        assert both.scores[f"kept {area}"] == pytest.approx(one.scores["masked"], abs=1e-4)
        assert set(one.scores) == {"photo", "perturbed", "masked"}


def test_larger_areas_keep_more() -> None:
    made = [explained(detail(), noise(3), areas=(area,), **quick(iterations=90)) for area in (0.03, SHARE, 0.3)]
    shares = [float(one.heatmap.mean()) for one in made]
    kept = [one.scores["masked"] for one in made]
    assert shares[0] < shares[1] < shares[2]
    assert kept[0] < kept[1] < kept[2] <= made[0].scores["photo"] * 1.01


# --- whatever is asked --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["prob:0", "logprob:0", "1:0"])
def test_other_scores_are_asked_as_strongly_as_logits(target: str) -> None:
    """The probability of `sharpness` goes from 0.9 to 0.02 and its logarithm by 3.8."""
    network = sharpness()
    if target == "1:0":
        # A channel's mean, 1/100 of the logit.
        network = Network(nn.Sequential(Detail(BOX, times=0.1), nn.Identity()), SIDE, channels=3)
    made = explained(network, noise(3), target, **quick())
    assert found(made.heatmap) > 0.6
    assert made.objective.startswith(target)


def test_each_of_several_classes_and_their_sum() -> None:
    other = (40, 8, 18, 20)
    network = detail(BOX, other)
    made = explain(network, noise(3), ["class:1", "class:0"], method=Extremal((SHARE,), **quick()))
    assert found(made[0].heatmap, other) > 0.6 and found(made[1].heatmap) > 0.6
    both = explained(network, noise(3), label(0) + label(1), areas=(2 * SHARE,), **quick())
    either = inside(BOX) | inside(other)
    least = both.heatmap.flatten().topk(int(either.sum())).values[-1]
    assert overlap(both.heatmap >= least, either) > 0.6


def test_what_speaks_against_a_class_is_kept_where_it_does_not_look() -> None:
    made = explained(detail(), noise(3), -label(0), **quick())
    assert made.scores["photo"] < made.scores["perturbed"] - 5
    assert made.scores["masked"] == pytest.approx(made.scores["perturbed"], abs=0.5)
    assert found(made.heatmap) < 0.1


def test_a_score_that_is_the_same_without_the_photo_has_no_part_to_find() -> None:
    made = explained(Network(nn.Sequential(nn.Flatten(), Even()), SIDE, channels=3), noise(0), "prob:1", iterations=2)
    assert made.notes == ["the answer is the same for the photo and for the blurred one: nothing to find"]


class Even(nn.Module):
    """Answers as much for every class, whatever it is shown."""

    def forward(self, values: Tensor) -> Tensor:
        return 0 * values[:, :3]


def test_logits_of_another_scale_are_found_as_well() -> None:
    made = explained(detail(times=1.0), noise(3), **quick())
    assert found(made.heatmap) > 0.6


# --- company ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
def test_a_batch_is_explained_as_each_alone(flip: bool) -> None:
    """Asked the same, they are also mirrored in the same steps."""
    network, photos = detail(), [noise(i) for i in range(3)]
    method = Extremal((0.05, 0.2), iterations=10, step_size=0.01, flip=flip)
    together = explain(network, photos, "class:0", method=method)
    assert min((one.heatmap - other.heatmap).abs().max() for one, other in pairwise(together)) > 0.01
    for i, photo in enumerate(photos):
        alone = explain(network, photo, "class:0", method=method, batch_size=1)
        torch.testing.assert_close(together[i].heatmap, alone.heatmap, rtol=0, atol=1e-4)
        assert together[i].scores == pytest.approx(alone.scores, abs=1e-3)


def test_the_same_seed_gives_the_same_bytes_and_another_mirrors_in_other_steps() -> None:
    network, method = detail(), Extremal((0.1,), iterations=20)
    first, again, other = (explain(network, noise(1), "class:0", method=method, seed=s).heatmap for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_it_counts_its_steps() -> None:
    assert Extremal().steps() == 800
    assert Extremal((0.1, 0.2, 0.4), iterations=50).steps() == 150
    done: list[int] = []
    network, method = detail(), Extremal((0.1, 0.2), iterations=25)
    asked = question(network, noise(0)[None], "class:0")
    object.__setattr__(asked, "on_step", done.append)
    method.explain(asked)
    assert sum(done) == method.steps() == 50


# --- written down, and refused ------------------------------------------------------------------------------------


def test_what_was_asked_is_written_down() -> None:
    said = json.loads(json.dumps(Extremal().describe(), allow_nan=False))
    assert said == {
        "name": "extremal",
        "areas": [0.1],
        "iterations": 800,
        "step_size": 0.001,
        "weight": 300.0,
        "levels": 8,
        "blur": 20.0,
        "step": 7.0,
        "sigma": 21.0,
        "flip": True,
    }
    assert find_method("extremal") == Extremal() and methods()["extremal"].says.endswith(".")
    made = explained(detail(), noise(0), iterations=2)
    json.dumps(made.as_dict(), allow_nan=False)
    assert made.settings["methods"] == [Extremal((SHARE,), iterations=2).describe()]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"areas": ()}, r"areas are shares of the photo between 0 and 1, not \[\]"),
        ({"areas": (0.1, 1.0)}, r"between 0 and 1, not \[0.1, 1.0\]"),
        ({"areas": (0.0,)}, "between 0 and 1"),
        ({"areas": (-0.1,)}, "between 0 and 1"),
        ({"areas": (math.nan,)}, "between 0 and 1"),
        ({"iterations": 0}, "at least 1 iteration and 2 levels"),
        ({"levels": 1}, "at least 1 iteration and 2 levels"),
        ({"sigma": 0.0}, "sigma above zero"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_one_sentence(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        explained(detail(), noise(0), **{"iterations": 1, **wrong})


def test_one_area_without_brackets_is_understood_or_one_sentence() -> None:
    try:
        assert Extremal(areas=0.1).areas == (0.1,)  # type: ignore[arg-type]
    except RequestError:
        return


@pytest.mark.parametrize(
    "wrong",
    [
        {"step_size": -0.1},
        {"step_size": math.nan},
        {"weight": -300.0},
        {"weight": math.nan},
        {"blur": -20.0},
        {"blur": 0.0},
        {"blur": math.nan},
    ],
    ids=str,
)
def test_other_settings_that_make_no_sense_are_one_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        explained(detail(), noise(0), **{"iterations": 1, **wrong})


class Sick(nn.Module):
    """Answers NaN for photos whose first pixel is white."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Detail(BOX)

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.inner(images)
        return answers * torch.where(images.amax((1, 2, 3)) > 0.99, torch.nan, 1.0)[:, None]


def test_a_network_without_a_finite_answer_says_so() -> None:
    made = explained(Network(Sick(), SIDE, channels=3), noise(0).clamp_min(0.999), iterations=2)
    assert made.notes == ["the network's answers are not finite: do not read this map"]


def test_a_photo_without_a_finite_score_does_not_spoil_the_others() -> None:
    photos = [0.9 * noise(0), noise(1).clamp_min(0.999), 0.9 * noise(2)]
    method = Extremal((0.1,), iterations=2)
    together = explain(Network(Sick(), SIDE, channels=3), photos, "class:0", method=method)
    alone = explain(Network(Sick(), SIDE, channels=3), photos[0], "class:0", method=method)
    torch.testing.assert_close(together[0].heatmap, alone.heatmap, rtol=0, atol=1e-4)
    assert together[1].notes


# --- Ctrl-C, and the module is only borrowed ----------------------------------------------------------------------


class Fails(nn.Module):
    """Raises when it is shown masked photos for the `left`-th time."""

    def __init__(self, inner: nn.Module, left: int, error: type[BaseException]) -> None:
        super().__init__()
        self.inner, self.left, self.error = inner, left, error

    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            self.left -= 1
            if self.left == 0:
                raise self.error
        out: Tensor = self.inner(images)
        return out


def failing(steps: int, error: type[BaseException] = KeyboardInterrupt) -> Network:
    return Network(Fails(Detail(BOX), steps + 1, error), SIDE, channels=3)


@pytest.mark.parametrize("steps", [1, 7, 25])
def test_ctrl_c_keeps_the_steps_that_were_done(steps: int) -> None:
    made = explained(failing(steps), noise(1), iterations=40)
    assert made.interrupted and made.settings["interrupted"] is True
    complete = explained(detail(), noise(1), iterations=steps)
    torch.testing.assert_close(made.heatmap, complete.heatmap, rtol=0, atol=1e-5)
    assert made.scores == pytest.approx(complete.scores, abs=1e-4)


def test_ctrl_c_in_a_later_area_keeps_the_earlier_ones() -> None:
    made = explained(failing(20 + 5), noise(1), areas=(0.05, 0.1, 0.2), iterations=20)
    assert made.interrupted
    assert set(made.scores) == {"photo", "perturbed", "kept 0.05", "kept 0.1"}
    first = explained(detail(), noise(1), areas=(0.05,), iterations=20)
    assert made.scores["kept 0.05"] == pytest.approx(first.scores["masked"], abs=1e-4)


def state(module: nn.Module) -> dict[str, Any]:
    return {
        "training": [part.training for part in module.modules()],
        "needed": [parameter.requires_grad for parameter in module.parameters()],
        "gradients": [parameter.grad for parameter in module.parameters()],
        "hooks": [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()],
    }


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_the_module_and_the_photo_are_as_they_were(error: type[BaseException] | None) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(),
        Fails(nn.Identity(), 3 if error else 0, error or ZeroDivisionError),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    module[0].weight.requires_grad_(False)
    module.train()
    before, values = state(module), {name: value.clone() for name, value in module.state_dict().items()}
    network, photo = Network(module, 32, channels=3), noise(0, 32)
    if error is ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            explained(network, photo, iterations=5)
    else:
        assert explained(network, photo, iterations=5).interrupted == (error is KeyboardInterrupt)
    assert state(module) == before
    assert all(torch.equal(values[name], value) for name, value in module.state_dict().items())
    assert torch.equal(photo, noise(0, 32))
