"""The recipes of paper 0, and what one may ask of them: sizes, windows, weight decay, starts; also as commands."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import preimage as pi
from preimage import Network, RequestError, load, maximize
from preimage.images import centre_crop, read_image
from preimage.optimization import Ascent
from preimage.parametrizations import Pixels
from preimage.priors import BlurAndDeblur, Deblur, FallingBlur, Gaussian
from preimage.recipes import find_recipe, with_weight_decay

MOVING = ["jitter", "jitter-resize", "jitter-resize-nearest", "blur-deblur"]
PAPER_0 = ["unconstrained", *MOVING, "blur"]
SHARES = {"unconstrained": 1.0, "blur": 1.44} | dict.fromkeys(MOVING, 300 / 224)
SIDE = 32
ASKED = ["3:1", "0:2"]


@pytest.fixture
def network(tiny: str) -> Network:
    """Takes 32 x 32; tap 0 sees 3 pixels, 2 apart, tap 3 sees 7, 4 apart."""
    return load(f"{tiny}:net")


def sides(name: str, window: int = SIDE) -> tuple[int, int]:
    return (round(window * SHARES[name]),) * 2


# --- every recipe -------------------------------------------------------------------------------------------------


def test_they_are_listed_with_their_source() -> None:
    table = pi.recipes()
    assert set(PAPER_0) <= set(table)
    for name in PAPER_0:
        assert "paper 0" in table[name].source
        assert table[name].source in str(table)
        assert table[name].canvas == SHARES[name]
        assert table[name].has_window == (name != "unconstrained")


@pytest.mark.parametrize("name", PAPER_0)
def test_every_recipe_makes_pictures_that_answer_more_strongly(name: str, network: Network) -> None:
    steps = 30
    result = maximize(network, ASKED, recipe=name, steps=steps)
    still = maximize(network, ASKED, recipe=name, steps=steps, optimizer=Ascent(0.0))
    assert result.images.shape == (2, 3, *sides(name))
    assert result.images.isfinite().all()
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    assert result.trace.shape == (steps, 2)
    assert result.trace.isfinite().all()
    assert (result.scores > still.scores).all()
    assert (result.images - still.images).abs().amax((1, 2, 3)).min() > 0.05
    assert result.settings["size"] == list(sides(name))
    assert result.settings.get("window") == (None if name == "unconstrained" else [SIDE, SIDE])
    assert sum(stage["steps"] for stage in result.settings["recipe"]["stages"]) == steps
    json.dumps(result.settings, allow_nan=False)


@pytest.mark.parametrize("name", PAPER_0)
def test_the_same_seed_gives_the_same_bytes_and_another_another_picture(name: str, network: Network) -> None:
    one, again = (maximize(network, ASKED, recipe=name, steps=12, seed=4) for _ in range(2))
    other = maximize(network, ASKED, recipe=name, steps=12, seed=5)
    assert torch.equal(one.images, again.images)
    assert torch.equal(one.scores, again.scores)
    assert torch.equal(one.trace, again.trace)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(one.images, other.images, strict=True))


@pytest.mark.parametrize("name", PAPER_0)
def test_the_score_is_that_of_the_whole_picture_where_the_network_takes_it(name: str, network: Network) -> None:
    result = maximize(network, "class:dog", recipe=name, steps=10)
    with torch.no_grad():
        expected = network.module.eval()(result.images)[:, 1]
    torch.testing.assert_close(result.scores, expected)


def test_where_the_network_takes_its_own_size_only_the_picture_is_resampled(tiny: str) -> None:
    network = load(f"{tiny}:fixed")
    result = maximize(network, "3:1", recipe="jitter", steps=10)
    assert result.images.shape[2:] == sides("jitter")
    assert result.settings["scored_at"] == [SIDE, SIDE]
    small = torch.nn.functional.interpolate(result.images, (SIDE, SIDE), mode="bilinear", antialias=True)
    with torch.no_grad():
        torch.testing.assert_close(result.scores, network.module(small)[:, 1])


def test_the_published_numbers() -> None:
    """SPEC A2 to A6; lengths in levels of 0..255."""
    for name in MOVING:
        (stage,) = find_recipe(name).stages
        assert stage.hold == 10
        (window,) = stage.transforms
        assert (window.placing, window.frame) == ("edges", 5)  # type: ignore[attr-defined]
        assert stage.optimizer.step_size * 255 == pytest.approx(1.5)  # type: ignore[union-attr]
    for name in ("jitter-resize", "jitter-resize-nearest"):
        (window,) = find_recipe(name).stages[0].transforms
        assert window.scale == (0.8, 1.2)  # type: ignore[attr-defined]
        assert (window.interpolation == "nearest") == name.endswith("nearest")  # type: ignore[attr-defined]
    blur = find_recipe("blur").stages
    assert [stage.steps for stage in blur] == [190, 150, 150, 10]
    assert [stage.optimizer.step_size * 255 for stage in blur] == pytest.approx([11, 6, 6, 3])  # type: ignore
    assert [stage.smooth_solution for stage in blur] == [
        FallingBlur(2.5, 0.78),
        FallingBlur(0.936, 0.78),
        FallingBlur(0.936, 0.44),
        FallingBlur(0.44, 0.304),
    ]
    assert [stage.scale for stage in blur] == pytest.approx([1 / 1.44, 1 / 1.2, 1, 1])


def test_blur_deblur_blurs_after_the_first_and_deblurs_after_the_sixth_step_of_ten() -> None:
    (stage,) = find_recipe("blur-deblur").stages
    plan = [stage.solution_kernel(step) for step in range(stage.steps)]
    for step, kernel in enumerate(plan):
        round_, within = divmod(step, 10)
        sigma = max(0.5, 1.2 * 0.99 ** (150 * 10 * round_ / stage.steps))
        if within == 0:
            assert isinstance(kernel, Gaussian)
            assert kernel.size == 7
            assert kernel.sigma == pytest.approx(sigma)
        elif within == 5:
            assert isinstance(kernel, Deblur)
            assert (kernel.kernel.size, kernel.iterations) == (7, 10)
            assert kernel.kernel.sigma == pytest.approx(0.8 * sigma)
        else:
            assert kernel is None


def test_what_is_handed_over_has_as_much_contrast_as_fits() -> None:
    """Faint pictures stay as they are; of others 99 % of |v| are scaled to between -1 and 1, then cut off at 1/2."""
    kind = find_recipe("jitter").parametrization(3, 20, 20, None)
    faint = torch.randn((1, 3, 20, 20), generator=torch.Generator().manual_seed(0)) / 100
    torch.testing.assert_close(kind.picture(faint), faint + 0.5)
    strong = faint * 1e4
    common = float(np.sort(strong.abs().flatten().numpy())[round(0.99 * strong.numel()) - 1])
    torch.testing.assert_close(kind.picture(strong), (0.5 + strong / common).clamp(0, 1))
    torch.testing.assert_close(kind.picture(faint * 2e4), kind.picture(strong))


# --- size and window ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize(("size", "shape"), [(40, (40, 40)), ((36, 50), (36, 50)), (32, (32, 32))])
def test_size_is_that_of_the_picture(name: str, size: Any, shape: tuple[int, int], network: Network) -> None:
    result = maximize(network, "3:1", recipe=name, steps=10, size=size)
    assert result.images.shape[2:] == shape
    assert (result.settings["size"], result.settings["window"]) == (list(shape), [SIDE, SIDE])


def test_the_smallest_octave_has_to_hold_the_window_too(network: Network) -> None:
    result = maximize(network, "3:1", recipe="blur", steps=10, size=(46, 60))
    assert result.images.shape[2:] == (46, 60)
    with pytest.raises(RequestError, match=r"0\.694 times its final size.*window of 32 x 32 .*45 x 60 is too small"):
        maximize(network, "3:1", recipe="blur", steps=10, size=(45, 60))


def taken(caught: pytest.ExceptionInfo[RequestError]) -> tuple[int, int]:
    """The size that a message says a recipe takes."""
    found = re.search(r"it takes (\d+) x (\d+) or more$", str(caught.value))
    assert found is not None
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("window", [None, 24, 25, (18, 25)])
def test_the_size_that_is_named_is_taken(window: Any, network: Network) -> None:
    with pytest.raises(RequestError) as caught:
        maximize(network, "3:1", recipe="blur", steps=10, size=33 if window is None else 26, window=window)
    size = taken(caught)
    assert maximize(network, "3:1", recipe="blur", steps=10, size=size, window=window).images.shape[2:] == size


@pytest.mark.parametrize("window", [None, 24])
def test_the_size_that_is_named_is_the_smallest_one(window: Any, network: Network) -> None:
    with pytest.raises(RequestError) as caught:
        maximize(network, "3:1", recipe="blur", steps=10, size=33 if window is None else 26, window=window)
    height, width = taken(caught)
    with pytest.raises(RequestError, match="is too small"):
        maximize(network, "3:1", recipe="blur", steps=10, size=(height - 1, width - 1), window=window)


@pytest.mark.parametrize("name", [*MOVING, "blur"])
@pytest.mark.parametrize("window", [24, (20, 28)])
def test_window_is_what_the_network_sees(name: str, window: Any, network: Network) -> None:
    seen: list[tuple[int, ...]] = []
    assert isinstance(network.module, nn.Sequential)
    handle = network.module[0].register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    result = maximize(network, "3:1", recipe=name, steps=10, window=window)
    handle.remove()
    height, width = (window, window) if isinstance(window, int) else window
    whole = [round(height * SHARES[name]), round(width * SHARES[name])]
    assert list(result.images.shape[2:]) == result.settings["size"] == whole
    assert result.settings["window"] == [height, width]
    assert seen.count((height, width)) >= 10
    assert set(seen) <= {(height, width), tuple(whole), (SIDE, SIDE)}  # the last to see what taps there are
    both = maximize(network, "3:1", recipe=name, steps=10, window=window, size=tuple(whole))
    assert torch.equal(both.images, result.images)


@pytest.mark.parametrize("name", ["unconstrained", "plain", "default"])
def test_without_a_moving_window_the_picture_is_what_the_network_sees(name: str, network: Network) -> None:
    sizes: list[dict[str, Any]] = [{"size": 24}, {"window": 24}, {"size": 24, "window": 24}]
    for asked in sizes:
        result = maximize(network, "3:1", recipe=name, steps=2, **asked)
        assert result.images.shape[2:] == (24, 24)
        assert "window" not in result.settings
    with pytest.raises(RequestError, match=f"'{name}' shows the network the whole picture"):
        maximize(network, "3:1", recipe=name, steps=2, size=32, window=24)


@pytest.mark.parametrize(
    ("asked", "side"),
    [
        # Of n pixels tap 0 makes n / 2 units, and unit u sees pixels 2 u - 1 to 2 u + 1; tap 3 makes n / 4, and they
        # see 4 u - 3 to 4 u + 3. The central one is unit 1 of 3: with fewer it is unit 0, which the border cuts off.
        (["0:1"], 6),
        (["3:1"], 12),
        (["0:1", "3:1"], 12),  # room for all
        (["class:cat"], 32),  # at most what the network takes
        (["0:1", "class:cat"], 32),
    ],
)
def test_a_picture_as_large_as_what_the_units_see(asked: list[str], side: int, network: Network) -> None:
    result = maximize(network, asked, recipe="unconstrained", steps=5, size="receptive-field")
    assert result.images.shape[2:] == (side, side)
    assert (result.scores > result.trace[0]).all()


@pytest.mark.parametrize("name", MOVING)
def test_the_canvas_is_larger_than_a_receptive_field_by_the_same_share(name: str, network: Network) -> None:
    result = maximize(network, "class:cat", recipe=name, steps=6, size="receptive-field")
    assert result.images.shape[2:] == sides(name)
    small = maximize(network, "3:1", recipe=name, steps=6, size="receptive-field")
    assert small.settings["window"] == [12, 12]
    assert small.images.shape[2:] == sides(name, 12)


@pytest.mark.parametrize("name", ["jitter", "blur-deblur"])
@pytest.mark.parametrize("window", [6, 8, 10])
def test_a_window_smaller_than_two_frames_learns_all_the_same(name: str, window: int, network: Network) -> None:
    result = maximize(network, "3:1", recipe=name, steps=10, window=window)
    still = maximize(network, "3:1", recipe=name, steps=10, window=window, optimizer=Ascent(0.0))
    # (of a window without any gradient both would come from the same noise and the same blur)
    assert (result.images - still.images).abs().mean() > 0.01


def test_a_receptive_field_that_is_not_known() -> None:
    """It is measured by a gradient, which a layer in numpy does not have."""

    class Numpy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.from_numpy(np.flip(images.numpy(), 2).copy())

    unknown = Network(nn.Sequential(Numpy(), nn.Conv2d(3, 4, 3)), 16)
    assert unknown.taps()["1"].receptive_field is None
    with pytest.raises(RequestError, match="receptive field of '1' is not known; give a size"):
        maximize(unknown, "1:0", recipe="jitter", steps=2, size="receptive-field")


# --- weight decay -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAPER_0)
@pytest.mark.parametrize("decay", [0.01, 0.5])
def test_weight_decay_takes_a_share_of_every_pixel_in_each_step(name: str, decay: float, network: Network) -> None:
    """Without gradient and blur, v shrinks by (1 - decay) a step: known after so many."""
    steps = 6
    recipe = find_recipe(name)
    recipe = with_weight_decay(recipe.stretched(steps), decay)
    said = [stage.describe() for stage in recipe.stages]
    assert all((one["denoiser"], one["pull"]) == ("Grey()", decay) for one in said)
    if name in ("blur", "blur-deblur"):
        return
    start = maximize(network, "3:1", recipe=name, steps=1, optimizer=Ascent(0.0)).images - 0.5
    shrunk = maximize(network, "3:1", recipe=name, steps=steps, optimizer=Ascent(0.0), weight_decay=decay).images - 0.5
    torch.testing.assert_close(shrunk, start * (1 - decay) ** steps, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", PAPER_0)
def test_weight_decay_bounds_the_pixels(name: str, network: Network) -> None:
    free, decayed = (
        maximize(network, "3:1", recipe=name, steps=30, weight_decay=decay, snapshot_every=30) for decay in (None, 0.2)
    )
    assert (decayed.images - 0.5).abs().mean() < (free.images - 0.5).abs().mean()
    assert decayed.settings != free.settings
    none = maximize(network, "3:1", recipe=name, steps=30, weight_decay=0.0)
    torch.testing.assert_close(none.images, free.images)


@pytest.mark.parametrize("decay", [-0.01, 1.01, math.nan, math.inf])
def test_a_weight_decay_that_cannot_be(decay: float, network: Network) -> None:
    with pytest.raises(RequestError, match=r"share of each pixel, from 0 to 1, not"):
        maximize(network, "3:1", recipe="jitter", weight_decay=decay)


# --- start --------------------------------------------------------------------------------------------------------


def photo(height: int, width: int) -> Tensor:
    return torch.rand((3, height, width), generator=torch.Generator().manual_seed(1)) * 0.5 + 0.25


@pytest.mark.parametrize("name", ["unconstrained", *MOVING[:3]])
def test_it_starts_from_an_image_with_the_recipe_s_noise_on_top(name: str, network: Network) -> None:
    image = photo(*sides(name))
    still: dict[str, Any] = {"recipe": name, "steps": 1, "optimizer": Ascent(0.0)}
    from_grey = maximize(network, ASKED, **still).images
    result = maximize(network, ASKED, start=image, **still).images
    torch.testing.assert_close(result, image + from_grey - 0.5, rtol=0, atol=1e-5)
    assert 0.5 / 255 < float((result - image).std()) < 2 / 255


def test_a_start_of_another_shape_is_cropped_to_the_canvas(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "start.png"
    array = (photo(70, 50).permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(array).save(path)
    still: dict[str, Any] = {"recipe": "jitter", "steps": 1, "optimizer": Ascent(0.0)}
    noise = maximize(network, "3:1", **still).images[0] - 0.5
    expected = centre_crop(read_image(path, 3), (43, 43)) + noise
    for given in (path, str(path), Image.open(path), array, torch.from_numpy(np.moveaxis(array, -1, 0) / 255)):
        result = maximize(network, "3:1", start=given, **still)
        torch.testing.assert_close(result.images[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [*PAPER_0, "default", "plain", "fourier"])
def test_every_recipe_can_start_from_an_image(name: str, network: Network) -> None:
    image = torch.zeros(3, SIDE, SIDE)
    image[:, : SIDE // 2] = 0.9
    result = maximize(network, "3:1", recipe=name, steps=6, start=image).images[0]
    height = result.shape[1]
    assert result[:, : height // 2].mean() > result[:, height // 2 :].mean() + 0.1


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("gone.png", "no image file 'gone.png'"),
        (torch.zeros(1, 8, 8), r"shape \[3, H, W\] here, not \[1, 8, 8\]"),
        (torch.full((3, 8, 8), 2.0), r"values lie in \[0, 1\]"),
        (torch.full((3, 8, 8), math.nan), r"values lie in \[0, 1\]"),
        (7, "not int"),
    ],
)
def test_a_start_that_is_no_image(start: Any, said: str, network: Network) -> None:
    with pytest.raises(RequestError, match=said):
        maximize(network, "3:1", recipe="jitter", steps=6, start=start)


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": 20}, r"window of 32 x 32 pixels.*canvas of 20 x 20"),
        ({"size": (40, 31)}, r"window of 32 x 32 pixels.*canvas of 40 x 31"),
        ({"size": 30, "window": (16, 31)}, r"window of 16 x 31 pixels.*canvas of 30 x 30"),
        ({"size": 0}, "a size is one side .* not 0"),
        ({"size": -3}, "a size is one side .* not -3"),
        ({"size": (8, 8, 8)}, "a size is one side"),
        ({"size": 8.5}, "a size is one side .* not 8.5"),
        ({"size": "large"}, "a size is one side .* not large"),
        ({"window": 0}, "a window is one side .* not 0"),
        ({"window": "receptive-field"}, "a window is one side"),
        ({"window": (8, 0)}, "a window is one side"),
        ({"optimizer": "best"}, "'auto' or an Optimizer, not 'best'"),
        ({"weight_decay": 2.0}, "from 0 to 1, not 2"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(changes: dict[str, Any], said: str, network: Network) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        maximize(network, "3:1", **({"recipe": "jitter", "steps": 5} | changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("steps", [1, 5])
def test_too_few_steps_to_deblur_are_refused(steps: int, network: Network) -> None:
    with pytest.raises(RequestError, match=rf"deblurring comes after step 6 .* in {steps} steps it never happens"):
        maximize(network, "3:1", recipe="blur-deblur", steps=steps)
    assert maximize(network, "3:1", recipe="blur-deblur", steps=6).trace.shape == (6, 1)
    with pytest.raises(RequestError, match="blurring comes after step 3"):
        BlurAndDeblur(blur_after=3).check(2)


def test_pixels_are_what_all_of_them_change() -> None:
    for name in PAPER_0:
        kind = find_recipe(name).parametrization(3, 5, 7, torch.eye(3))
        assert kind == Pixels(3, 5, 7, shown=0.99)
        drawn = torch.stack([kind.start(torch.Generator().manual_seed(i)) for i in range(100)])
        assert float(drawn.std()) * 255 == pytest.approx(1, abs=6 / math.sqrt(2 * drawn.numel()))
