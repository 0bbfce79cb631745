"""maximize, on tiny networks: what it promises of its images, scores, trace, seed, batches, errors and Ctrl-C."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from preimage import Network, NonFiniteScoreError, Recipe, RequestError, UnknownTapError, maximize
from preimage.objectives import EachItsOwn, Objective, channel, direction, label, resolve
from preimage.optimization import LBFGS, Adam, Ascent, Stage
from preimage.parametrizations import Fourier, Pixels, SigmoidPixels, measured_colours
from preimage.priors import TotalVariation
from preimage.transforms import Affine, Jitter

SIDE = 12
LABELS = ["tabby", "crane", "shark", "newt"]


def convolutional(channels: int = 3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 4),
    )


def net(channels: int = 3) -> Network:
    return Network(convolutional(channels), SIDE, labels=LABELS, channels=channels)


def pixels(channels: int, height: int, width: int, colours: Tensor | None) -> Pixels:
    return Pixels(channels, height, width)


def sigmoid(channels: int, height: int, width: int, colours: Tensor | None) -> SigmoidPixels:
    return SigmoidPixels(channels, height, width, colours=colours)


def fourier(channels: int, height: int, width: int, colours: Tensor | None) -> Fourier:
    return Fourier(channels, height, width, colours=colours)


def recipe(*stages: Stage, kind: Any = sigmoid) -> Recipe:
    return Recipe("mine", "here", "", kind, stages)


SHORT = recipe(Stage(4, Adam(0.05)))
MOVING = recipe(Stage(6, Adam(0.05), transforms=(Jitter(2), Affine(zoom=(1.0, 1.5), rotation=10))), kind=fourier)
ASKED: list[str | Objective] = ["3:0-2", "class:tabby", "0:4@1,2", 2 * label("newt") - channel("3", 1), "prob:crane"]


def same(one: Tensor, other: Tensor) -> None:
    """Equal up to the rounding that another batch gives, through a few steps."""
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


# --- what is returned ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "fourier", "plain"])
def test_every_recipe_makes_images_of_what_was_asked(name: str | None) -> None:
    result = maximize(net(), ["0:1", "class:tabby", "class:2"], recipe=name, steps=6)
    assert result.images.shape == (3, 3, SIDE, SIDE)
    assert result.images.dtype == result.scores.dtype == result.trace.dtype == torch.float32
    assert result.images.device.type == "cpu"
    assert not result.images.requires_grad
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    assert result.scores.shape == (3,)
    assert result.trace.shape == (6, 3)
    assert result.objectives == ["0:1", "class:0 (tabby)", "class:2 (shark)"]
    assert not result.interrupted
    assert result.snapshots == []


@pytest.mark.parametrize("name", [None, "fourier"])
def test_every_recipe_climbs(name: str | None) -> None:
    short, longer = (maximize(net(), ["0:1", "3:2", "class:tabby"], recipe=name, steps=n).scores for n in (1, 50))
    assert (longer > short).all()


def test_plain_climbs_directions() -> None:
    asked = [direction("0", [0.0, 1.0, 0, 0, 0, 0]), direction("3", [1.0, 0, 2.0, 0, 0])]
    short, longer = (maximize(net(), asked, recipe="plain", steps=n).scores for n in (1, 50))
    assert (longer > short).all()


def test_plain_asks_for_a_channel_as_a_direction() -> None:
    """Paper 1 asks for a feature by S_x with x = e_i, so that it stands out among the others."""
    asked = "0:1", direction("0", [0.0, 1.0, 0, 0, 0, 0])
    one, other = (maximize(net(), one, recipe="plain", steps=20).images for one in asked)
    assert torch.equal(one, other)


@pytest.mark.parametrize("kind", [pixels, sigmoid, fourier])
def test_scores_are_those_of_the_images_as_they_are(kind: Any) -> None:
    """No transform, no regularizer, and pixels that left the range are clipped first."""
    network = net()
    stage = Stage(5, Adam(0.3), asks=lambda one: 3 * one, transforms=(Jitter(3),), regularizers=(TotalVariation(0.01),))
    result = maximize(network, ASKED, recipe=recipe(stage, kind=kind))
    asked = EachItsOwn(tuple(resolve(ASKED, network)))
    torch.testing.assert_close(result.scores, asked.score(network.run(result.images, asked.places())))


def test_a_linear_unit_is_maximised_exactly() -> None:
    """Each pixel ends at the end of the range that its weight points to."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 2))
    network = Network(module, 4, channels=3)
    result = maximize(network, "1:*", recipe=recipe(Stage(3, Ascent(1e5)), kind=pixels))
    weight = module[1].weight.detach().view(2, 3, 4, 4)
    assert torch.equal(result.images, (weight > 0).float())
    best = module[1].bias + weight.clamp_min(0).sum((1, 2, 3))
    torch.testing.assert_close(result.scores, best.detach().diag() if best.ndim > 1 else best.detach())


def test_the_trace_is_the_plain_objective_also_where_a_stage_asks_otherwise() -> None:
    network = net()
    network.module.eval()
    stages = (Stage(3, Adam(0.1)), Stage(3, None, asks=lambda one: one * 5, regularizers=(TotalVariation(1.0),)))
    result = maximize(network, ["class:0", "class:1"], recipe=recipe(*stages), snapshot_every=1)
    for step, images in result.snapshots[:-1]:
        expected = network.module(images).detach()[[0, 1], [0, 1]]
        torch.testing.assert_close(result.trace[step], expected, rtol=1e-4, atol=1e-5)


def test_snapshots_are_the_images_on_the_way() -> None:
    result = maximize(net(), ["0:0", "3:1", "0:2"], recipe=SHORT, steps=5, snapshot_every=2, batch_size=1)
    assert [steps for steps, _ in result.snapshots] == [2, 4]
    for steps, images in result.snapshots:
        shorter = maximize(net(), ["0:0", "3:1", "0:2"], recipe=SHORT, steps=steps, batch_size=1)
        torch.testing.assert_close(images, shorter.images)
        assert images.device.type == "cpu"


def test_settings_and_file_are_json_and_say_what_was_asked(tmp_path: Path) -> None:
    result = maximize(net(), ASKED, recipe=MOVING, seed=5, size=(10, 14), batch_size=3)
    said = json.loads((result.save(tmp_path) / "result.json").read_text())
    assert said["verb"] == "maximize"
    assert (said["seed"], said["size"], said["batch_size"]) == (5, [10, 14], 3)
    assert said["recipe"] == MOVING.describe()
    assert said["network"] == repr(net())
    assert [one["objective"] for one in said["images"]] == result.objectives
    assert len(said["trace"]) == 6


# --- seed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(seed: int) -> None:
    one, again = (maximize(net(), ASKED, recipe=MOVING, seed=seed) for _ in range(2))
    other = maximize(net(), ASKED, recipe=MOVING, seed=seed + 1)
    assert torch.equal(one.images, again.images)
    assert torch.equal(one.scores, again.scores)
    assert torch.equal(one.trace, again.trace)
    assert all((a != b).any() for a, b in zip(one.images, other.images, strict=True))


def test_torch_s_own_random_state_is_neither_used_nor_moved() -> None:
    torch.manual_seed(1)
    network = net()
    before = torch.get_rng_state()
    one = maximize(network, "0:0", recipe=MOVING)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(maximize(network, "0:0", recipe=MOVING).images, one.images)


@pytest.mark.parametrize("made", [SHORT, MOVING, recipe(Stage(3, LBFGS()))], ids=["adam", "moving", "lbfgs"])
def test_the_same_objective_asked_twice_gives_two_different_images(made: Recipe) -> None:
    result = maximize(net(), ["0:0", "class:1", "0:0", "0:0", "class:crane"], recipe=made)
    for a, b in ((0, 2), (0, 3), (2, 3), (1, 4)):
        assert (result.images[a] - result.images[b]).abs().max() > 1e-4
    alone = maximize(net(), "0:0", recipe=made)
    same(result.images[:1], alone.images)
    twice = maximize(net(), ["0:0", "0:0"], recipe=made)
    same(result.images[[0, 2]], twice.images)


# --- an image does not depend on what else is asked ---------------------------------------------------------------


@pytest.mark.parametrize("made", [SHORT, MOVING, recipe(Stage(3, LBFGS()))], ids=["adam", "moving", "lbfgs"])
def test_an_image_is_the_same_alone_and_among_others_in_the_order_asked(made: Recipe) -> None:
    asked = ["class:0", "0:3", "3:*", "0:1@centre", "class:3", "0:5"]
    each = {i: maximize(net(), resolve(asked, net())[i], recipe=made) for i in (0, 1, 4, 7, 8, 9)}
    for batch_size in (1, 2, 16):
        together = maximize(net(), asked, recipe=made, batch_size=batch_size)
        assert together.objectives == [str(one) for one in resolve(asked, net())]
        for index, alone in each.items():
            assert alone.objectives == [together.objectives[index]]
            same(together.images[index], alone.images[0])
            same(together.scores[index], alone.scores[0])
            same(together.trace[:, index], alone.trace[:, 0])


def test_two_directions_that_print_alike_do_not_disturb_each_other() -> None:
    """Their text names the strongest channel only; they are two objectives all the same."""
    one, other = direction("3", [3.0, 1, 0, 0, 0], 0, "mean"), direction("3", [3.0, 0, 1, 0, 0], 0, "mean")
    together = maximize(net(), [one, other], recipe=SHORT)
    same(together.images[0], maximize(net(), one, recipe=SHORT).images[0])
    same(together.images[1], maximize(net(), other, recipe=SHORT).images[0])


@pytest.mark.parametrize("batch_size", [1, 16])
def test_noise_does_not_depend_on_what_else_is_asked(batch_size: int) -> None:
    made = recipe(Stage(3, Ascent(0.1), noise=0.1))
    together = maximize(net(), ["0:0", "0:1", "0:2"], recipe=made, batch_size=batch_size)
    for i in range(3):
        same(together.images[i], maximize(net(), f"0:{i}", recipe=made).images[0])


def test_the_first_noise_is_another_draw_than_the_start() -> None:
    """N(0, eps_3^2) is independent of where one stands; here nothing else moves the pixels."""
    made = recipe(Stage(1, Ascent(0.0), noise=0.01), kind=pixels)
    still = recipe(Stage(1, Ascent(0.0)), kind=pixels)
    start = maximize(net(), "0:0", recipe=still).images.flatten() - 0.5
    noise = maximize(net(), "0:0", recipe=made).images.flatten() - 0.5 - start
    correlation = torch.corrcoef(torch.stack([start, noise]))[0, 1].item()
    assert abs(correlation) < 5 / math.sqrt(len(start))


# --- size, steps, channels, colours -------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "shape"), [(None, (SIDE, SIDE)), (9, (9, 9)), ((8, 15), (8, 15)), (1, (1, 1))])
def test_size(size: Any, shape: tuple[int, int]) -> None:
    result = maximize(net(), "0:0", recipe=SHORT, size=size)
    assert result.images.shape[2:] == shape
    assert result.settings["size"] == list(shape)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_grey_and_many_channelled_networks(channels: int, tmp_path: Path) -> None:
    result = maximize(net(channels), ["0:1", "class:0"], recipe="fourier", steps=3)
    assert result.images.shape == (2, channels, SIDE, SIDE)
    assert len(list(result.save(tmp_path).glob("*.png"))) == 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_another_precision_are_asked_in_theirs(dtype: torch.dtype) -> None:
    network = Network(convolutional().to(dtype), SIDE)
    result = maximize(network, "7:0", recipe=recipe(Stage(10, Adam(0.5))))
    assert result.images.dtype == result.scores.dtype == torch.float32
    assert result.scores[0] > result.trace[0, 0]
    assert network.dtype == dtype


def test_colours_are_measured_on_a_folder_or_given_as_a_matrix(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
    array[:, :, 1] = array[:, :, 0]
    Image.fromarray(array).save(tmp_path / "a.png")
    matrix = measured_colours(tmp_path)
    from_folder = maximize(net(), "0:0", recipe=MOVING, colours=str(tmp_path))
    from_matrix = maximize(net(), "0:0", recipe=MOVING, colours=matrix)
    assert torch.equal(from_folder.images, from_matrix.images)
    assert not torch.equal(from_folder.images, maximize(net(), "0:0", recipe=MOVING).images)
    # Red and green are equal in that folder, so they are in the parametrized images.
    torch.testing.assert_close(from_folder.images[:, 0], from_folder.images[:, 1], rtol=0, atol=1e-5)
    assert maximize(net(5), "0:0", recipe=MOVING, colours=torch.eye(5)).images.shape[1] == 5


def test_settings_tell_runs_apart_that_made_different_images() -> None:
    """They are "all that determines the images"."""
    plain = maximize(net(), "0:0", recipe=MOVING)
    coloured = maximize(net(), "0:0", recipe=MOVING, colours=torch.eye(3))
    assert (plain.images - coloured.images).abs().max() > 1e-3
    assert plain.settings != coloured.settings


def test_settings_tell_parametrizations_apart() -> None:
    as_pixels, as_sigmoid = (
        maximize(net(), "0:0", recipe=recipe(Stage(2, Adam(0.1)), kind=kind)) for kind in (pixels, sigmoid)
    )
    assert (as_pixels.images - as_sigmoid.images).abs().max() > 1e-3
    assert as_pixels.settings != as_sigmoid.settings


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 0}, "at least one step, not 0"),
        ({"steps": -5}, "at least one step, not -5"),
        ({"size": 0}, "above zero, not 0"),
        ({"size": (8, -1)}, r"above zero, not \(8, -1\)"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"snapshot_every": 0}, "snapshot_every must be at least 1"),
        ({"recipe": "nope"}, "no recipe 'nope'"),
        ({"colours": "no/such/folder"}, "not a folder"),
        ({"colours": torch.eye(4)}, r"\[3, 3\] here, not \[4, 4\]"),
        ({"colours": torch.ones(3)}, r"\[3, 3\] here, not \[3\]"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        maximize(net(), "0:0", **({"recipe": SHORT} | changes))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], "no objective"),
        ("0", "cannot be read"),
        ("0:99", "channels 0 to 5, not 99"),
        ("class:lion", "no class 'lion'"),
        ("class:4", "classes 0 to 3, not 4"),
        ("0:0@6,0", "rows 0 to 5 and columns 0 to 5, not 6,0"),
        (direction("0", [1.0, 0.0]), r"\[6\].*\[2\]"),
        (3, "not int"),
    ],
)
def test_objectives_that_cannot_be(asked: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        maximize(net(), asked, recipe=SHORT)


def test_an_unknown_tap() -> None:
    with pytest.raises(UnknownTapError):
        maximize(net(), "nope:0", recipe=SHORT)


def test_a_size_that_the_network_does_not_take_says_its_own() -> None:
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)), 8, channels=3)
    with pytest.raises(RequestError, match=r"does not run on 3 x 9 x 9 .*its own input size is 8 x 8"):
        maximize(network, "1:0", recipe=SHORT, size=9)


def test_transforms_that_do_not_fit_the_size() -> None:
    with pytest.raises(RequestError, match="more than 20 pixels"):
        maximize(net(), "0:0", recipe=recipe(Stage(1, Adam(0.1), transforms=(Jitter(20),))))


def test_a_recipe_whose_first_stage_has_no_optimizer() -> None:
    with pytest.raises(RequestError, match="first stage needs an optimizer"):
        maximize(net(), "0:0", recipe=recipe(Stage(2, None)))


class _Delicate(nn.Module):
    """Scores x, but beyond `limit` NaN."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, images: Tensor) -> Tensor:
        score = images.mean((2, 3))
        return torch.where(score > self.limit, math.nan, score)


def test_nan_from_the_start_and_nan_on_the_way() -> None:
    made = recipe(Stage(50, Ascent(3.0)), kind=pixels)
    with pytest.raises(NonFiniteScoreError, match=r"score of output:1 became nan at step 0 \(tap output\)"):
        maximize(Network(_Delicate(0.1), 4), "output:1", recipe=made)
    with pytest.raises(NonFiniteScoreError, match=r"at step [1-9]\d* \(tap output\); try a smaller step size"):
        maximize(Network(_Delicate(0.8), 4), "output:1", recipe=made)


def test_nan_at_the_very_end_is_not_returned_as_a_score() -> None:
    """The last step may be the one that breaks; "`NonFiniteScoreError` if a score is not finite"."""
    made = recipe(Stage(1, Ascent(10.0)), kind=pixels)
    with pytest.raises(NonFiniteScoreError):
        maximize(Network(_Delicate(0.55), 4), "output:1", recipe=made)


# --- Ctrl-C -------------------------------------------------------------------------------------------------------


class _Impatient(nn.Module):
    """Presses Ctrl-C in the forward pass that is given to `press_at`, counted from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = convolutional()
        self.left: int | None = None

    def forward(self, images: Tensor) -> Tensor:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.left = None
                raise KeyboardInterrupt
        out: Tensor = self.inner(images)
        return out


def impatient(runs: int | None) -> Network:
    module = _Impatient()
    network = Network(module, SIDE)
    network.tap("inner")
    module.left = runs
    return network


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_ctrl_c_keeps_what_was_reached(steps: int, tmp_path: Path) -> None:
    network = impatient(steps + 1)
    network.module.train()
    result = maximize(network, ["output:0", "output:1"], recipe=replace(SHORT, stages=(Stage(9, Adam(0.05)),)))
    assert result.interrupted
    assert result.trace.shape == (steps, 2)
    assert network.module.training
    if steps:
        complete = maximize(impatient(None), ["output:0", "output:1"], recipe=SHORT, steps=steps)
        torch.testing.assert_close(result.images, complete.images)
        torch.testing.assert_close(result.scores, complete.scores)
        assert not complete.interrupted
    said = json.loads((result.save(tmp_path) / "result.json").read_text())
    assert said["interrupted"] is True and len(said["images"]) == 2


def test_ctrl_c_in_a_later_batch_keeps_the_earlier_ones(tmp_path: Path) -> None:
    """Four steps of the first batch, two of the second, the third never began."""
    network = impatient(4 + 2 + 1)
    asked = ["output:0", "output:1", "output:2", "output:3", "inner.0:0"]
    result = maximize(network, asked, recipe=SHORT, batch_size=2)
    assert result.interrupted
    assert result.objectives == asked[:4]
    assert result.trace.shape == (4, 4)
    assert result.trace[:, :2].isfinite().all() and result.trace[:2].isfinite().all()
    assert result.trace[2:, 2:].isnan().all()
    whole = maximize(impatient(None), asked, recipe=SHORT, batch_size=2)
    torch.testing.assert_close(result.images[:2], whole.images[:2])
    torch.testing.assert_close(result.trace[:2], whole.trace[:2, :4])
    said = json.loads((result.save(tmp_path) / "result.json").read_text(), parse_constant=pytest.fail)
    assert said["trace"][3][2:] == [None, None]


# --- the module is only borrowed ----------------------------------------------------------------------------------


def state(module: nn.Module) -> dict[str, Any]:
    return {
        "training": [part.training for part in module.modules()],
        "needed": [parameter.requires_grad for parameter in module.parameters()],
        "gradients": [parameter.grad for parameter in module.parameters()],
        "values": {name: value.clone() for name, value in module.state_dict().items()},
        "hooks": [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()],
    }


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("asked", ["class:0", "0:0@99,99"])
def test_the_module_is_left_as_it_was_also_after_an_error(training: bool, asked: str) -> None:
    module = convolutional()
    module.train(training)
    module[1].train(not training)
    module[3].weight.requires_grad_(False)
    before = state(module)
    network = Network(module, SIDE)
    if "@" in asked:
        with pytest.raises(RequestError):
            maximize(network, asked, recipe=SHORT)
    else:
        maximize(network, asked, recipe=SHORT)
    after = state(module)
    assert all(torch.equal(value, after["values"][name]) for name, value in before["values"].items())
    del before["values"], after["values"]
    assert after == before


def test_a_network_in_training_is_asked_as_in_evaluation() -> None:
    one, other = convolutional(), convolutional()
    one.train()
    other.eval()
    results = [maximize(Network(module, SIDE), ["7:0", "3:1"], recipe=SHORT) for module in (one, other)]
    assert torch.equal(results[0].images, results[1].images)


# --- progress -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_progress_goes_to_standard_error_and_only_to_a_terminal_unless_asked(
    progress: bool | None, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    maximize(net(), ["0:0", "3:0"], recipe=SHORT, progress=progress)
    said = capsys.readouterr()
    assert said.out == ""
    assert ("/8" in said.err) == shown  # two batches of four steps
    assert bool(said.err) == shown


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    maximize(net(), "0:0", recipe=SHORT, progress=False)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
    maximize(net(), "0:0", recipe=SHORT)
    assert "/4" in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_objects_strings_and_sequences_of_both_are_taken() -> None:
    single: list[str | Objective | Sequence[str | Objective]] = ["0:1", channel("0", 1), ["0:1"], (channel("0", 1),)]
    images = [maximize(net(), one, recipe=SHORT).images for one in single]  # type: ignore[arg-type]
    assert all(torch.equal(images[0], other) for other in images)
