"""invert, on tiny networks: what it finds, and what it promises of photos, errors, settings, batches and Ctrl-C."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from preimage import Inversion, Network, Place, Recipe, RequestError, UnknownTapError, invert, recipes
from preimage.images import as_image, centre_crop
from preimage.optimization import LBFGS, Adam, Ascent, Stage
from preimage.parametrizations import Fourier, Pixels
from preimage.priors import Gaussian
from preimage.transforms import Jitter, Window

SIDE = 7
DISTANCES = ("l2", "l2-root", "l1")

few = settings(max_examples=5, deadline=None)
seeds = st.integers(0, 2**31)


def network(seed: int = 0, channels: int = 3, side: int = SIDE) -> Network:
    """Tap "0" loses nothing: four filters per channel, of which each pixel sees nine places. The rest loses more."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(channels, 4 * channels, 3, padding=2, bias=False),
        nn.ReLU(),
        nn.Conv2d(4 * channels, 5, 3, 2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 4),
    )
    return Network(module, side, channels=channels, labels=["cat", "dog", "newt", "crane"])


def photo(seed: int, channels: int = 3, height: int = SIDE, width: int = SIDE) -> Tensor:
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(seed))


def recipe(*stages: Stage, spread: float = 0.01, kind: Any = Pixels) -> Recipe:
    def made(channels: int, height: int, width: int, colours: Tensor | None) -> Any:
        return kind(channels, height, width, spread=spread)

    return Recipe("mine", "here", "", made, stages)


EXACT = recipe(Stage(40, LBFGS()))
SHORT = recipe(Stage(4, Adam(0.05)))
STILL = recipe(Stage(1, Ascent(0.0)))


# --- what it finds ------------------------------------------------------------------------------------------------


@few
@given(seeds, st.sampled_from(["noise", "grey"]))
def test_a_layer_that_loses_nothing_gives_every_photo_back(seed: int, start: str) -> None:
    """Each its own: what determines all pixels has the photo as its only answer."""
    photos = [photo(seed + i, 2) for i in range(3)]
    made = invert(network(seed, 2), photos, "0", recipe=EXACT, start=start)
    torch.testing.assert_close(made.images, torch.stack(photos), rtol=0, atol=2e-3)
    assert made.feature_errors.max() < 1e-5
    assert made.pixel_errors.max() < 1e-3


@few
@given(seeds)
def test_a_layer_gives_back_what_it_knows_and_no_more(seed: int) -> None:
    """relu(u - 1/2) knows bright pixels exactly, and of dark ones that they are: from white they fall to 1/2."""
    layer = nn.Conv2d(3, 3, 1, groups=3)
    layer.weight.data.fill_(1.0)
    layer.bias.data.fill_(-0.5)  # type: ignore[union-attr]
    thresholds = Network(nn.Sequential(layer, nn.ReLU()), SIDE, channels=3)
    one, white = photo(seed), torch.ones(3, SIDE, SIDE)
    bright = one.clamp_min(0.5)
    made = invert(thresholds, one, "1", recipe=recipe(Stage(40, LBFGS()), spread=0.0), start=white, one_sided=False)
    torch.testing.assert_close(made.images[0], bright, rtol=0, atol=1e-3)
    before = invert(thresholds, one, "1", recipe=EXACT, after_relu=False)
    torch.testing.assert_close(before.images[0], one, rtol=0, atol=1e-3)
    # Behind the ReLU no grey pixel has a slope; asked before it, those have one that are bright in the photo.
    grey = invert(thresholds, one, "1", recipe=EXACT, start="grey", one_sided=False).images
    torch.testing.assert_close(grey, torch.full_like(grey, 0.5))
    found = invert(thresholds, one, "1", recipe=EXACT, start="grey")
    torch.testing.assert_close(found.images[0].clamp_min(0.5), bright, rtol=0, atol=1e-3)
    assert found.feature_errors < 1e-5


def test_before_the_relu_there_may_be_something_where_behind_it_is_nothing() -> None:
    layer = nn.Conv2d(3, 3, 1, groups=3, bias=False)
    layer.weight.data.fill_(-1.0)
    negative = Network(nn.Sequential(nn.Sequential(layer, nn.ReLU())), SIDE, channels=3)
    with pytest.raises(RequestError, match="answers photo 0 with zeros everywhere"):
        invert(negative, photo(0), "0", recipe=EXACT)
    made = invert(negative, photo(0), "0", recipe=EXACT, after_relu=False)
    torch.testing.assert_close(made.images[0], photo(0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("distance", DISTANCES)
def test_every_distance_leads_to_the_photo(distance: Any) -> None:
    short, longer = (
        invert(
            network(0, 2), photo(1, 2), "0", recipe=recipe(Stage(n, Adam(0.02), last_step_size=0.05)), distance=distance
        )
        for n in (1, 120)
    )
    assert longer.feature_errors < 0.01 < short.feature_errors
    assert longer.pixel_errors < 0.1 < short.pixel_errors


@few
@given(seeds, st.sampled_from(DISTANCES))
def test_from_the_photo_itself_a_tiny_step_stays_there(seed: int, distance: Any) -> None:
    tiny = recipe(Stage(1, Ascent(1e-9)), spread=0.0)
    one = photo(seed)
    made = invert(network(), one, ["0", "2", "output"], recipe=tiny, start=one, distance=distance)
    torch.testing.assert_close(made.images, one.expand(3, -1, -1, -1), rtol=0, atol=1e-5)
    assert made.feature_errors.max() < 1e-6
    assert made.pixel_errors.max() < 1e-5


# --- errors and scores --------------------------------------------------------------------------------------------


@few
@given(seeds, st.sampled_from(DISTANCES), st.booleans(), st.integers(1, 3))
def test_errors_and_scores_are_what_they_say(seed: int, distance: Any, after_relu: bool, batch_size: int) -> None:
    """Recomputed from the images in float64, with the bare module."""
    asked, taps = network(seed), ["1", "2", "output"]
    photos = torch.stack([photo(seed + i) for i in range(2)])
    options = {"distance": distance, "after_relu": after_relu, "one_sided": False}
    made = invert(asked, photos, taps, recipe=SHORT, batch_size=batch_size, seed=seed, **options)
    exact = copy.deepcopy(asked.module).double()
    parts = {"1": 2 if after_relu else 1, "2": 3, "output": 7}
    for i, (tap, of) in enumerate(zip(made.taps, made.of, strict=True)):
        part = exact[: parts[tap]]
        with torch.no_grad():
            found, wanted = (part(image[None].double()) for image in (made.images[i], photos[of]))
        error = float((found - wanted).square().sum() / wanted.square().sum())
        assert float(made.feature_errors[i]) == pytest.approx(error, rel=1e-4, abs=1e-9)
        relative = {
            "l2": error,
            "l2-root": error**0.5,
            "l1": float((found - wanted).abs().sum() / wanted.abs().sum()),
        }
        assert float(made.scores[i]) == pytest.approx(-relative[distance], rel=1e-4, abs=1e-9)
        off = made.images[i].double().numpy() - photos[of].double().numpy()
        assert float(made.pixel_errors[i]) == pytest.approx(float(np.sqrt(np.mean(off**2))), rel=1e-5, abs=1e-7)
    assert made.feature_errors.dtype == made.pixel_errors.dtype == torch.float32
    assert made.feature_errors.shape == made.pixel_errors.shape == made.scores.shape == (6,)


def test_errors_do_not_depend_on_the_distance_that_was_climbed() -> None:
    images = [invert(network(), photo(0), "2", recipe=STILL, distance=one) for one in DISTANCES]  # type: ignore[arg-type]
    errors = [float(made.feature_errors[0]) for made in images]
    assert errors == [errors[0]] * 3
    assert len({float(made.scores[0]) for made in images}) == 3


def test_an_image_that_the_layer_does_not_answer_is_as_far_off_as_one() -> None:
    black = torch.zeros(3, SIDE, SIDE)
    made = invert(network(), photo(0), "0", recipe=recipe(Stage(1, Ascent(0.0)), spread=0.0), start=black)
    assert float(made.feature_errors[0]) == pytest.approx(1)
    assert float(made.pixel_errors[0]) == pytest.approx(float(photo(0).square().mean().sqrt()))


# --- many at once -------------------------------------------------------------------------------------------------


def test_pairs_come_photo_by_photo_and_within_each_tap_by_tap() -> None:
    photos = [photo(i) for i in range(3)]
    made = invert(network(), photos, ["2", "0"], recipe=SHORT)
    assert made.of == [0, 0, 1, 1, 2, 2]
    assert made.taps == ["2", "0"] * 3
    assert torch.equal(made.photos, torch.stack([photos[i] for i in made.of]))
    assert made.objectives == [f"after:{tap} as for photo {of}" for of, tap in zip(made.of, made.taps, strict=True)]
    assert made.images.shape == made.photos.shape == (6, 3, SIDE, SIDE)
    assert made.trace.shape == (4, 6)
    assert not made.interrupted


@pytest.mark.parametrize("made", [SHORT, recipe(Stage(3, LBFGS())), None], ids=["adam", "lbfgs", "default"])
def test_a_photo_s_image_is_the_same_alone_and_among_others(made: Recipe | None) -> None:
    photos, taps = [photo(i) for i in range(3)], ["0", "output"]
    each = {
        (of, tap): invert(network(), photos[of], tap, recipe=made, steps=3, seed=4) for of in range(3) for tap in taps
    }
    for batch_size in (1, 2, 16):
        together = invert(network(), photos, taps, recipe=made, steps=3, batch_size=batch_size, seed=4)
        assert sorted(zip(together.of, together.taps, strict=True)) == sorted(each)
        for i, (of, tap) in enumerate(zip(together.of, together.taps, strict=True)):
            alone = each[of, tap]
            for name in ("images", "photos", "scores", "feature_errors", "pixel_errors"):
                one, other = getattr(together, name)[i], getattr(alone, name)[0]
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(together.trace[:, i], alone.trace[:, 0], rtol=1e-3, atol=1e-3)


def test_the_same_seed_gives_the_same_bytes_another_others_and_grey_has_none() -> None:
    one, again, other = (invert(network(), photo(0), "2", recipe=SHORT, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.images, again.images)
    assert not torch.equal(one.images, other.images)
    grey = [invert(network(), photo(0), "2", recipe=SHORT, seed=seed, start="grey").images for seed in (1, 2)]
    assert torch.equal(*grey)


# --- photos and sizes ---------------------------------------------------------------------------------------------


def test_a_photo_may_be_a_file_a_picture_an_array_a_tensor_or_several(tmp_path: Path) -> None:
    array = (photo(0, 3, 9, 12).permute(1, 2, 0) * 255).round().byte().numpy()
    path = tmp_path / "one.png"
    Image.fromarray(array).save(path)
    tensor = torch.from_numpy(array).movedim(-1, 0) / 255
    ways: list[Any] = [
        path,
        str(path),
        Image.fromarray(array),
        array,
        array / 255,
        tensor,
        tensor.double(),
        tensor[None],
        array[None],
        (path,),
        [tensor],
    ]
    for way in ways:
        made = invert(network(), way, "0", recipe=SHORT)
        assert made.photos.shape == (1, 3, SIDE, SIDE)
        torch.testing.assert_close(made.photos[0], centre_crop(tensor, (SIDE, SIDE)), rtol=0, atol=1e-6)
        assert made.of == [0]
    both = invert(network(), torch.stack([tensor, 1 - tensor]), "0", recipe=SHORT)
    torch.testing.assert_close(both.photos[1], 1 - both.photos[0])


@pytest.mark.parametrize(("size", "shape"), [(None, (SIDE, SIDE)), (9, (9, 9)), ((8, 11), (8, 11))])
def test_photos_of_any_size_and_mode_are_cropped_to_one(size: Any, shape: tuple[int, int], tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (10, 14), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    clear = Image.new("RGBA", (5, 20), (250, 10, 10, 128))
    clear.putpixel((2, 10), (0, 255, 0, 255))
    photos: list[Any] = [tmp_path / "grey.png", clear, photo(1, 3, 30, 8), levels[..., None], photo(2)]
    made = invert(network(), photos, "0", recipe=SHORT, size=size)
    assert made.images.shape == (5, 3, *shape)
    for found, given_ in zip(made.photos, photos, strict=True):
        torch.testing.assert_close(found, centre_crop(as_image(given_, 3), shape))
    assert made.settings["size"] == list(shape)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_networks_of_any_number_of_channels(channels: int, tmp_path: Path) -> None:
    made = invert(network(0, channels), [photo(0, channels), photo(1, channels)], "0", recipe=SHORT)
    assert made.images.shape == (2, channels, SIDE, SIDE)
    assert len(list(made.save(tmp_path).glob("*.png"))) == 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_another_precision(dtype: torch.dtype) -> None:
    asked = network()
    made = invert(Network(asked.module.to(dtype), SIDE, channels=3), photo(0), "0", recipe=EXACT)
    assert made.images.dtype == made.feature_errors.dtype == torch.float32
    assert made.feature_errors < (1e-5 if dtype == torch.float64 else 0.02)


def test_a_photo_may_be_of_any_precision() -> None:
    for dtype in (torch.float16, torch.float64, torch.bfloat16):
        made = invert(network(), photo(0).to(dtype), "0", recipe=SHORT)
        torch.testing.assert_close(made.photos[0], photo(0), rtol=0, atol=0.01)


# --- recipes ------------------------------------------------------------------------------------------------------


def test_a_name_that_moves_a_window_is_taken_without_it() -> None:
    moving = recipes()["jitter-resize"]
    assert moving.has_window and moving.canvas > 1
    one, other = (
        invert(network(), photo(0), "0", recipe=chosen, steps=3) for chosen in ("jitter-resize", moving.still())
    )
    assert one.images.shape == (1, 3, SIDE, SIDE)
    assert torch.equal(one.images, other.images)
    said = one.settings["recipe"]
    assert (said["name"], said["canvas"]) == ("jitter-resize", 1.0)
    assert all("transforms" not in stage and "hold" not in stage for stage in said["stages"])
    assert "window" not in one.settings


@pytest.mark.parametrize("made", ["published", "own"])
def test_a_recipe_with_a_window_is_refused_in_one_sentence(made: Literal["published", "own"]) -> None:
    own = recipe(Stage(3, Adam(0.1), transforms=(Window(5, 5),)))
    with pytest.raises(RequestError, match=r"a part of the picture at a time, .* use Recipe\.still\(\)") as caught:
        invert(network(), photo(0), "0", recipe=recipes()["jitter"] if made == "published" else own)
    assert "\n" not in str(caught.value)


def test_small_movements_are_the_user_s_own_affair() -> None:
    made = invert(network(), photo(0), "0", recipe=recipe(Stage(5, Adam(0.05), transforms=(Jitter(1),))))
    assert made.images.shape == (1, 3, SIDE, SIDE)
    assert made.settings["recipe"]["stages"][0]["transforms"] == [repr(Jitter(1))]


def test_an_optimizer_steps_and_snapshots_are_those_of_maximize() -> None:
    made = invert(network(), photo(0), "0", recipe=SHORT, optimizer=Ascent(0.0), steps=5, snapshot_every=2)
    still = invert(network(), photo(0), "0", recipe=STILL)
    torch.testing.assert_close(made.images, still.images)
    assert made.trace.shape == (5, 1)
    assert [steps for steps, _ in made.snapshots] == [2, 4]


@pytest.mark.parametrize("kind", [Pixels, Fourier])
def test_grey_is_a_start_without_noise(kind: Any) -> None:
    still = recipe(Stage(1, Ascent(0.0)), spread=0.3, kind=kind)
    grey, noise = (invert(network(), photo(0), "0", recipe=still, start=start).images for start in ("grey", "noise"))
    torch.testing.assert_close(grey, torch.full_like(grey, 0.5))
    assert noise.std() > 0.05


def test_an_image_as_start_has_the_noise_on_top() -> None:
    begin = photo(5, 3, 9, 9) / 2 + 0.25
    made = invert(network(), photo(0), "0", recipe=STILL, start=begin)
    noise = invert(network(), photo(0), "0", recipe=STILL).images - 0.5
    torch.testing.assert_close(made.images[0], centre_crop(begin, (SIDE, SIDE)) + noise[0], rtol=0, atol=1e-6)


# --- settings and files -------------------------------------------------------------------------------------------


def test_settings_name_all_that_was_asked(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), (200, 30, 100)).save(tmp_path / "a cat.png")
    array = np.zeros((8, 8, 3), dtype=np.uint8)
    array[2:] = 90
    photos: list[Any] = [tmp_path / "a cat.png", array, photo(0)]
    made = invert(
        network(), photos, ("0", "2"), recipe=SHORT, distance="l1", after_relu=False, start="grey", seed=7, batch_size=2
    )
    said = json.loads((made.save(tmp_path / "out") / "result.json").read_text(), parse_constant=pytest.fail)
    assert said["verb"] == "invert"
    assert said["at"] == ["0", "2"]
    assert said["photos"][0] == str(tmp_path / "a cat.png")
    assert len(set(said["photos"])) == 3
    assert (said["distance"], said["after_relu"], said["start"]) == ("l1", False, "grey")
    assert (said["seed"], said["batch_size"], said["size"]) == (7, 2, [SIDE, SIDE])
    assert said["recipe"] == SHORT.describe()
    assert said["network"] == repr(network())
    assert said["images"][1]["objective"] == "2 as for a cat"
    assert said == json.loads(json.dumps(made.as_dict()))


def test_settings_say_where_it_started(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), (200, 30, 100)).save(tmp_path / "start.png")
    starts: list[Any] = ["noise", "grey", tmp_path / "start.png", photo(1), photo(2)]
    said = [invert(network(), photo(0), "0", recipe=STILL, start=start).settings["start"] for start in starts]
    assert said[:3] == ["noise", "grey", str(tmp_path / "start.png")]
    assert len(set(said)) == 5


def test_settings_tell_photos_apart_by_their_pixels() -> None:
    names = [invert(network(), photo(i), "0", recipe=STILL).settings["photos"] for i in (0, 0, 1)]
    assert names[0] == names[1] != names[2]


def test_settings_tell_palettes_apart() -> None:
    pictures = [Image.new("P", (8, 8)) for _ in range(2)]
    for level, picture in zip((10, 200), pictures, strict=True):
        picture.putpalette([level, 2, 3] * 256)
    made = invert(network(), pictures, "0", recipe=STILL)
    assert not torch.equal(*made.photos)
    assert len(set(made.settings["photos"])) == 2


def test_saved_are_images_one_file_per_photo_and_finite_numbers(tmp_path: Path) -> None:
    photos = [photo(i) for i in range(3)]
    made = invert(network(), photos, ["0", "2"], recipe=SHORT, snapshot_every=2)
    assert made.save(tmp_path) == tmp_path
    names = made.file_names()
    kept = {f"{Path(name).stem}-step{steps}.png" for name in names for steps in (2, 4)}
    shown = {"photo-0.png", "photo-1.png", "photo-2.png"}
    assert {path.name for path in tmp_path.iterdir()} == {*names, *kept, *shown, "result.json"}
    said = json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)
    assert [one["photo"] for one in said["images"]] == [f"photo-{i}.png" for i in (0, 0, 1, 1, 2, 2)]
    assert [one["tap"] for one in said["images"]] == made.taps
    assert [one["file"] for one in said["images"]] == names
    for i, one in enumerate(said["images"]):
        assert one["feature_error"] == pytest.approx(float(made.feature_errors[i]), rel=1e-5)
        assert one["pixel_error"] == pytest.approx(float(made.pixel_errors[i]), rel=1e-5)
        assert one["score"] == pytest.approx(float(made.scores[i]), rel=1e-5)
        for file, image in ((one["file"], made.images[i]), (one["photo"], made.photos[i])):
            with Image.open(tmp_path / file) as picture:
                levels = torch.from_numpy(np.array(picture)).movedim(-1, 0) / 255
            torch.testing.assert_close(levels, image, rtol=0, atol=0.5001 / 255)


class _Strange(nn.Sequential):
    """A layer whose name is markup."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module('<b>"&', nn.Conv2d(3, 4, 3))


def test_a_notebook_shows_each_photo_once_before_its_images_and_names_stay_text() -> None:
    photos = [photo(i) for i in range(2)]
    made = invert(Network(_Strange(), SIDE, channels=3), photos, ['<b>"&', "output"], recipe=SHORT)
    html = made._repr_html_()
    assert html.count("<figure") == html.count("<img") == 2 + 4
    assert html.count("<figcaption>photo<br>") == 2
    assert "<b>" not in html
    assert html.count("&lt;b&gt;&quot;&amp;<br>feature error") == 2
    for error in made.feature_errors.tolist():
        assert f"feature error {error:.3f}" in html
    captions = [part.split("<br>")[0] for part in html.split("<figcaption>")[1:]]
    assert captions == ["photo", "&lt;b&gt;&quot;&amp;", "output"] * 2
    assert repr(made) == f'Inversion(4 images of {SIDE} x {SIDE} at <b>"&, output)'


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"photos": []}, "at least one photo and one tap"),
        ({"photos": torch.zeros(0, 3, 8, 8)}, "at least one photo and one tap"),
        ({"at": []}, "at least one photo and one tap"),
        ({"at": "conv1"}, "has no tap 'conv1'"),
        ({"at": ["0", "9"]}, "has no tap '9'"),
        ({"recipe": "nope"}, "there is no recipe 'nope'.* elastic"),
        ({"recipe": "elastik"}, r"no recipe 'elastik'; did you mean elastic\?"),
        ({"distance": "l3"}, "one of l2, l2-root, l1, not 'l3'"),
        ({"photos": "gone.png"}, "no image file 'gone.png'"),
        ({"photos": [photo(0), photo(0, 2)]}, r"shape \[3, H, W\] here, not \[2, 7, 7\]"),
        ({"photos": photo(0) * 3}, r"values lie in \[0, 1\]"),
        ({"photos": 7}, "not int"),
        ({"photos": torch.zeros(3, 8, 8)}, "'0' answers photo 0 with zeros everywhere"),
        ({"photos": [photo(0), torch.zeros(3, 8, 8)]}, "'0' answers photo 1 with zeros everywhere"),
        ({"size": 0}, "above zero, not 0"),
        ({"size": (8, 8, 8)}, "a size is one side"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"batch_size": -2}, "batch_size must be at least 1, not -2"),
        ({"steps": 0}, "at least one step, not 0"),
        ({"snapshot_every": 0}, "snapshot_every must be at least 1"),
        ({"seed": -1}, "a seed is a whole number"),
        ({"start": "gone.png"}, "no image file 'gone.png'"),
        ({"start": torch.zeros(1, 8, 8)}, r"shape \[3, H, W\]"),
        ({"colours": torch.eye(4)}, r"\[3, 3\] here, not \[4, 4\]"),
    ],
)
def test_what_cannot_be_is_one_sentence(changes: dict[str, Any], said: str) -> None:
    asked: dict[str, Any] = {"photos": photo(0), "at": "0", "recipe": SHORT} | changes
    with pytest.raises(RequestError, match=said) as caught:
        invert(network(), asked.pop("photos"), asked.pop("at"), **asked)
    assert "\n" not in str(caught.value)


def test_a_tap_that_is_not_there_is_an_unknown_tap() -> None:
    with pytest.raises(UnknownTapError):
        invert(network(), photo(0), "nope")


def test_a_layer_that_gives_the_same_for_every_image_knows_nothing() -> None:
    constant = Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Hardtanh(5, 6)), SIDE, channels=3)
    with pytest.raises(RequestError, match=r"'1' gives the same for every image: .* on photo 0"):
        invert(constant, photo(0), "1", recipe=SHORT)
    made = invert(constant, photo(0), "0", recipe=SHORT)
    assert made.taps == ["0"]


def test_a_photo_that_is_grey_all_over_can_be_inverted() -> None:
    """It is what layers are compared with to see whether they know anything, but not all that they are."""
    grey = torch.full((3, SIDE, SIDE), 0.5)
    made = invert(network(), grey, "0", recipe=EXACT)
    torch.testing.assert_close(made.images[0], grey, rtol=0, atol=1e-3)


def test_a_network_that_does_not_answer_with_numbers() -> None:
    broken = network()
    broken.module[2].weight.data.fill_(torch.nan)  # type: ignore[index, union-attr]
    assert invert(broken, photo(0), "0", recipe=SHORT).scores.isfinite().all()
    with pytest.raises(RequestError, match="does not answer photo 0 with finite numbers"):
        invert(broken, photo(0), "2", recipe=SHORT)


def test_a_size_that_the_network_does_not_take() -> None:
    fixed = Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2)), SIDE, channels=3)
    with pytest.raises(RequestError, match=rf"does not run on 3 x 9 x 9 .* own input size is {SIDE} x {SIDE}"):
        invert(fixed, photo(0), "1", recipe=SHORT, size=9)
    assert invert(fixed, photo(0, 3, 9, 9), "1", recipe=SHORT).images.shape == (1, 3, SIDE, SIDE)


# --- Ctrl-C -------------------------------------------------------------------------------------------------------


class _Impatient(nn.Module):
    """Presses Ctrl-C in the forward pass that is given to `left`, counted from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network().module
        self.left = 0

    def forward(self, images: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        out: Tensor = self.inner(images)
        return out


def inverted(press_at: int, **options: Any) -> tuple[Inversion, list[Tensor]]:
    """Three photos, four steps for each batch, and Ctrl-C in one of the passes."""
    module, photos = _Impatient(), [photo(i) for i in range(3)]
    asked = Network(module, SIDE, channels=3)
    asked.tap("inner.0")
    module.left = press_at
    return invert(asked, photos, recipe=SHORT, **options), photos


def test_ctrl_c_keeps_the_photos_that_were_begun(tmp_path: Path) -> None:
    """Features of three photos; four steps of the first, two of the second; the third never began."""
    made, photos = inverted(3 + 4 + 2 + 1, at="inner.0", batch_size=1)
    assert made.interrupted
    assert made.of == made.asked == [0, 1]
    assert torch.equal(made.photos, torch.stack(photos[:2]))
    assert made.taps == ["inner.0"] * 2
    whole, _ = inverted(0, at="inner.0", batch_size=1)
    assert whole.of == [0, 1, 2] and not whole.interrupted
    for name in ("images", "scores", "feature_errors", "pixel_errors"):
        torch.testing.assert_close(getattr(made, name)[0], getattr(whole, name)[0])
    assert made.feature_errors.shape == made.pixel_errors.shape == (2,)
    assert made.trace[2:, 1].isnan().all()
    said = json.loads((made.save(tmp_path) / "result.json").read_text(), parse_constant=pytest.fail)
    assert said["interrupted"] is True
    assert len(said["photos"]) == 3  # what was asked
    assert [one["photo"] for one in said["images"]] == ["photo-0.png", "photo-1.png"]
    assert not (tmp_path / "photo-2.png").exists()


def test_ctrl_c_between_taps_leaves_each_image_with_its_own_photo_and_tap() -> None:
    """Taps go one after the other: all photos at the first, and of the second tap two photos, one step."""
    made, photos = inverted(4 + 2 * 4 + 1 + 1, at=["inner.0", "output"], batch_size=2)
    assert made.interrupted
    assert made.of == [0, 0, 1, 1, 2]
    assert made.taps == ["inner.0", "output", "inner.0", "output", "inner.0"]
    assert torch.equal(made.photos, torch.stack([photos[i] for i in made.of]))
    exact = copy.deepcopy(network().module).double()
    for i, tap in enumerate(made.taps):
        part = exact[:1] if tap == "inner.0" else exact
        with torch.no_grad():
            found, wanted = (part(image[None].double()) for image in (made.images[i], made.photos[i]))
        error = float((found - wanted).square().sum() / wanted.square().sum())
        assert float(made.feature_errors[i]) == pytest.approx(error, rel=1e-4)
    html = made._repr_html_()
    assert html.count("<figcaption>photo<br>") == 3


# --- the network is only borrowed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training: bool) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(0.5))
    module.train(training)
    module[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    flags = [(part.training, len(part._forward_hooks), len(part._forward_pre_hooks)) for part in module.modules()]
    random = torch.get_rng_state()
    one = photo(0)
    kept = one.clone()
    made = invert(Network(module, SIDE, channels=3), one, ["0", "2"], recipe=SHORT, start=one)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(one, kept)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    after = [(part.training, len(part._forward_hooks), len(part._forward_pre_hooks)) for part in module.modules()]
    assert after == flags
    assert [p.requires_grad for p in module.parameters()] == [False, True, True, True]
    assert all(p.grad is None for p in module.parameters())
    assert not made.images.requires_grad and not made.feature_errors.requires_grad
    # Dropout is off and normalisation fixed while it is asked, whatever the flags say.
    again = invert(Network(module, SIDE, channels=3), one, ["0", "2"], recipe=SHORT, start=one)
    assert torch.equal(made.images, again.images)


@pytest.mark.parametrize("at", [None, 3, ["1", 2], Place("1")])
def test_taps_are_named_by_strings(at: Any) -> None:
    with pytest.raises(RequestError, match="a tap is named by a string"):
        invert(network(), photo(0), at)


def test_gray_is_grey() -> None:
    with pytest.raises(RequestError, match="'noise', 'grey' or an image, not 'gray'"):
        invert(network(), photo(0), "1", start="gray")


def test_quasi_newton_steps_are_not_smoothed() -> None:
    smoothed = recipe(Stage(2, LBFGS(), smooth_update=Gaussian(3, 1.0)))
    with pytest.raises(RequestError, match="LBFGS looks along its steps, where a smoothed gradient is not the slope"):
        invert(network(), photo(0), "1", recipe=smoothed)
