"""From an image back to the objective that it was made for, on a small network with random weights."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from preimage import (
    CriticalSpace,
    Network,
    Place,
    Recoveries,
    Recovery,
    RequestError,
    Result,
    UnknownTapError,
    maximize,
    recover,
)
from preimage.images import to_pil
from preimage.objectives import Aggregate, Direction, direction
from preimage.parametrizations import Pixels, SigmoidPixels
from preimage.recover import angle, sample_targets, sensitivity, solve

SIDE, FEATURES, TAP = 16, 8, "6"
SOME = [0, 2, 5, 7]


def kinked(seed: int = 1, features: int = FEATURES, dead: Sequence[int] = ()) -> Network:
    """Three convolutions with ReLUs and max-pooling between; its maxima lie on kinks."""
    torch.manual_seed(seed)
    last = nn.Conv2d(16, features, 3, padding=1)
    with torch.no_grad():
        last.weight[list(dead)] = 0.0
    module = nn.Sequential(
        nn.Conv2d(3, 12, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(12, 16, 3, padding=1),
        nn.ReLU(inplace=True),
        last,
        nn.ReLU(),
    )
    return Network(module, SIDE, name="small")


def noise(seed: int, count: int, height: int = SIDE, width: int = SIDE) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def recovered(network: Network, images: Any, **options: Any) -> Recoveries:
    found = recover(network, images, TAP, progress=False, **options)
    assert isinstance(found, Recoveries)
    return found


def one(network: Network, image: Any, at: str | Place = TAP, **options: Any) -> Recovery:
    found = recover(network, image, at, progress=False, **options)
    assert isinstance(found, Recovery)
    return found


TARGETS = torch.cat(
    [torch.eye(FEATURES, dtype=torch.float64)[:1], sample_targets(3, FEATURES, torch.Generator().manual_seed(1))]
)
"""A canonical objective, and three of uniform sparseness."""
OF_SOME = torch.tensor([0.1, 0.7, 0.5, 0.5], dtype=torch.float64)


@pytest.fixture(scope="module")
def network() -> Network:
    return kinked()


@pytest.fixture(scope="module")
def made(network: Network) -> Result:
    """Images of all targets, and one of a target among half of the features."""
    asked = [*(direction(TAP, target) for target in TARGETS), direction(TAP, OF_SOME, features=SOME)]
    return maximize(network, asked, recipe="plain", steps=660, progress=False)


@pytest.fixture(scope="module")
def found(network: Network, made: Result) -> Recoveries:
    return recovered(network, made.images[:4])


# --- the point of it --------------------------------------------------------------------------------------------------


def test_the_objective_is_recovered_where_the_response_is_far_away(found: Recoveries) -> None:
    """Measured: 0.06 to 0.5 degrees, where the feature response is 13 to 28 degrees away."""
    away = angle(found.objectives, TARGETS)
    response = angle(torch.stack([each.response for each in found]), TARGETS)
    assert away.max() < 4
    assert response.min() > 10
    assert (away < response / 5).all()
    assert all(each.stands_out for each in found)
    assert max(each.residual for each in found) < 0.1


def test_the_objective_among_some_features_is_recovered(network: Network, made: Result) -> None:
    """What the other features answer was not asked, and with them the image is the answer to something else."""
    known = one(network, made.images[4], features=SOME)
    assert known.objective.shape == known.response.shape == (len(SOME),)
    assert known.features.tolist() == SOME
    assert angle(known.objective, OF_SOME) < 4
    assert known.stands_out
    assert {index for index, _ in known.strongest(2)} < {2, 5, 7}


def test_a_picture_of_eight_bits_is_enough(network: Network, made: Result, tmp_path: Path) -> None:
    """Measured: 0.4 to 0.8 degrees from files; the bound allows for runs that end elsewhere."""
    made.save(tmp_path)
    files = [tmp_path / name for name in made.file_names()[:4]]
    from_files = recovered(network, files)
    assert angle(from_files.objectives, TARGETS).max() < 5
    assert all(each.stands_out for each in from_files)
    assert [each.name for each in from_files] == [file.stem for file in files]
    exact = recovered(network, made.images[:4])
    assert (from_files.objectives - exact.objectives).abs().max() > 1e-6


def test_without_smoothing_it_is_worse(network: Network, made: Result, found: Recoveries) -> None:
    """The image was made without kinks, and lies where the exact network's gradient does not vanish."""
    sharp = recovered(network, made.images[:4], smoothing=None)
    assert all(a.ratio > 2 * b.ratio for a, b in zip(sharp, found, strict=True))
    assert angle(sharp.objectives, TARGETS).mean() > 2 * angle(found.objectives, TARGETS).mean()


# --- images that are no maxima ----------------------------------------------------------------------------------------


def test_no_objective_explains_other_images_as_well(network: Network, made: Result, found: Recoveries) -> None:
    """Noise, upside-down images, and another network: the smallest singular value is nearer to the next."""
    others = [
        *recovered(network, noise(1, 8)),
        *recovered(network, made.images[:4].flip(2)),
        *recovered(kinked(51), made.images[:4]),
    ]
    assert max(each.ratio for each in found) < 0.75 * min(each.ratio for each in others)
    assert max(each.residual for each in found) < 0.75 * min(each.residual for each in others)
    for each, target in zip(others[8:], [*TARGETS, *TARGETS], strict=True):
        assert angle(each.objective, target) > 30


@pytest.mark.parametrize("features", [8, 16, 32])
def test_nothing_stands_out_of_noise(features: int) -> None:
    """Measured: of few features the smallest singular value is 0.38 to 0.83 of the next by itself, so that this says
    little; of their gradients 0.23 to 0.36 is left, where of the images above it is at most 0.1."""
    wide = kinked(2, features)
    others = recovered(wide, noise(3, 16))
    assert not any(each.stands_out for each in others)
    assert min(each.uncancelled for each in others) > 0.2


@pytest.mark.parametrize("how", ["another network", "upside down"])
def test_nothing_stands_out_of_images_that_are_no_maxima_here(network: Network, made: Result, how: str) -> None:
    other, images = (network, made.images[:4].flip(2)) if how == "upside down" else (kinked(51), made.images[:4])
    for each in recovered(other, images):
        assert not each.stands_out
        assert each.says().startswith("no objective stands out: the smallest singular value is 0.")
        assert each.uncancelled > 0.2
        assert "was it made for another network" in each.says()


def test_what_is_said_follows_from_singular_values_and_gradients(found: Recoveries) -> None:
    clear = replace(found[0], singular_values=torch.tensor([0.1, 1.0, 5.0]).double(), uncancelled=0.05)
    assert clear.ratio == pytest.approx(0.1) and clear.residual == pytest.approx(0.02)
    assert clear.stands_out
    assert clear.says().startswith(
        "one objective stands out: the smallest singular value is 0.10 of the next, and 0.05"
    )
    unclear = replace(clear, singular_values=torch.tensor([0.99, 1.0, 5.0]).double())
    assert not unclear.stands_out and "0.99 of the next" in unclear.says()
    left = replace(clear, uncancelled=0.3)
    assert not left.stands_out and "0.300 of the features' gradients is left" in left.says()
    plane = replace(clear, is_plane=True)
    assert not plane.stands_out and "any mixture of the first two" in plane.says()
    idle = replace(clear, singular_values=torch.tensor([0.0, 1e-8, 0.5, 5.0]).double())
    assert idle.idle == 2 and not idle.stands_out and idle.says().startswith("2 of 4 directions")


# --- what is computed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("aggregate", ["max-mean", "mean", "centre"])
@pytest.mark.parametrize("smoothing", [None, 0.05])
def test_it_is_the_solution_for_the_image_s_own_parameters(
    network: Network, k: float, aggregate: Aggregate, smoothing: float | None
) -> None:
    images = noise(4, 2)
    options: dict[str, Any] = {"aggregate": aggregate, "smoothing": smoothing}
    both = recovered(network, images, cosine_power=k, **options)
    kind = SigmoidPixels(3, SIDE, SIDE)
    seen = sensitivity(network, kind.parameters(images.double()), TAP, kind, **options)
    solution = solve(seen.response, seen.gram, k)
    for i, each in enumerate(both):
        torch.testing.assert_close(each.objective, solution.best[i], rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(each.singular_values, solution.singular_values[i], rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(each.response, seen.response[i], rtol=1e-9, atol=1e-12)
        assert each.objective.dtype == each.response.dtype == each.singular_values.dtype == torch.float64
        assert float(each.objective.norm()) == pytest.approx(1, rel=1e-12)
        assert float(each.objective @ each.response) >= 0
        assert each.singular_values.tolist() == sorted(each.singular_values.tolist())
        assert each.candidates.shape == (5, FEATURES)
        torch.testing.assert_close(each.candidates @ each.candidates.mT, torch.eye(5).double(), rtol=0, atol=1e-9)
        assert torch.equal(each.candidates[0], each.objective)
        assert each.residual == pytest.approx(float(each.singular_values[0] / each.singular_values[-1]))
        left, rows = each.singular_values[0], seen.gram[i].diagonal().sqrt()
        assert each.uncancelled == pytest.approx(float(left / (each.objective * rows).norm()), rel=1e-5)
        assert each.angle_to_response == pytest.approx(float(angle(each.objective, each.response)))
        assert torch.equal(each.image, images[i]) and not each.dead and not each.is_plane


def test_an_image_may_be_given_in_any_way(network: Network, made: Result, tmp_path: Path) -> None:
    eight = to_pil(made.images[0])
    eight.save(tmp_path / "seven.png")
    array = np.asarray(eight)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255
    ways: list[Any] = [tmp_path / "seven.png", str(tmp_path / "seven.png"), eight, array, tensor]
    alone = [one(network, way) for way in ways]
    together = recovered(network, ways)
    for each in (*alone, *together):
        assert torch.equal(each.objective, alone[0].objective)
        assert torch.equal(each.image, tensor)
    assert [each.name for each in together] == ["seven", "seven", "photo 2", "photo 3", "photo 4"]


def test_a_stack_of_arrays_is_many_images(network: Network) -> None:
    images = noise(5, 3)
    stack = images.permute(0, 2, 3, 1).numpy()
    found = recover(network, stack, TAP, progress=False)
    assert isinstance(found, Recoveries)
    assert torch.equal(found.objectives, recovered(network, images).objectives)


def test_images_of_several_sizes_are_each_taken_as_they_are(network: Network) -> None:
    images = [noise(5, 1)[0], noise(6, 1, 20, 14)[0], noise(7, 1, 11, 30)[0]]
    together = recovered(network, images)
    for image, each in zip(images, together, strict=True):
        alone = one(network, image)
        assert torch.equal(alone.objective, each.objective)
        assert each.image.shape == image.shape
        assert each.settings["parametrization"]["height"] == image.shape[1]
        assert each.settings["parametrization"]["width"] == image.shape[2]


def test_the_parametrization_may_be_another_one(network: Network) -> None:
    image = noise(8, 1)[0]
    kind = Pixels(3, 5, 5)  # (fitted to the image)
    given = one(network, image, parametrization=kind)
    own = Pixels(3, SIDE, SIDE)
    seen = sensitivity(network, own.parameters(image[None]), TAP, own)
    torch.testing.assert_close(given.objective, solve(seen.response, seen.gram).best[0], rtol=1e-6, atol=1e-8)
    assert given.settings["parametrization"]["kind"] == "Pixels"
    assert given.settings["parametrization"]["height"] == SIDE
    assert angle(given.objective, one(network, image).objective) > 0.1


def test_little_memory_gives_the_same(network: Network, found: Recoveries, made: Result) -> None:
    small = one(network, made.images[0], memory=4 * 16 * 3 * SIDE * SIDE)
    torch.testing.assert_close(small.objective, found[0].objective, rtol=1e-6, atol=1e-8)
    with pytest.raises(RequestError, match=r"\(memory=\); 0 features would fit"):
        one(network, made.images[0], memory=10_000)


def test_gradients_that_are_switched_off_outside_do_not_matter(network: Network, found: Recoveries) -> None:
    with torch.no_grad():
        again = one(network, found[1].image)
    assert torch.equal(again.objective, found[1].objective)


def test_after_a_relu_it_is_another_layer(network: Network) -> None:
    image = noise(9, 1)[0]
    after = one(network, image, Place(TAP, after_relu=True))
    assert after.settings["after_relu"] is True
    assert (after.response > 0).all() and not (one(network, image).response > 0).all()
    assert after.direction().place == Place(TAP, after_relu=True)


@pytest.mark.parametrize("count", [1, 3])
def test_average_is_one_answer_for_the_steps_of_an_ascent(network: Network, count: int) -> None:
    images = noise(10, count)
    mean = one(network, images, average=True)
    kind = SigmoidPixels(3, SIDE, SIDE)
    seen = sensitivity(network, kind.parameters(images.double()), TAP, kind, average=True)
    torch.testing.assert_close(mean.objective, solve(seen.response, seen.gram).best[0], rtol=1e-6, atol=1e-8)
    assert torch.equal(mean.image, images[-1])
    assert mean.settings["average"] is True
    if count == 1:
        torch.testing.assert_close(mean.objective, one(network, images[0]).objective, rtol=1e-6, atol=1e-8)


# --- dead features and critical spaces --------------------------------------------------------------------------------


def test_dead_features_are_listed_and_have_no_part() -> None:
    dead = [2, 5]
    network, image = kinked(3, dead=dead), noise(11, 1)[0]
    known = one(network, image)
    assert known.dead == dead
    assert known.objective[dead].tolist() == [0.0, 0.0]
    assert (known.candidates[:, dead] == 0).all()
    assert len(known.singular_values) == FEATURES - 2 and known.singular_values[0] > 1e-6
    assert known.as_dict()["dead"] == dead
    # They do not even count by what they answer all the time.
    others = [i for i in range(FEATURES) if i not in dead]
    without = one(network, image, features=others)
    torch.testing.assert_close(known.objective[others], without.objective, rtol=1e-6, atol=1e-8)
    assert without.dead == []
    some = one(network, image, features=[5, 0, 1])
    assert some.dead == [5] and some.objective[0] == 0


def test_a_layer_of_dead_features_has_no_answer() -> None:
    with pytest.raises(RequestError, match="no feature of '6' changes with this image"):
        one(kinked(3, dead=range(FEATURES)), noise(12, 1)[0])


def test_a_layer_of_one_feature_has_one_answer() -> None:
    known = one(kinked(4, features=1), noise(12, 1)[0])
    assert known.objective.abs().tolist() == [1.0]
    assert known.ratio == 0


class Sums(nn.Sequential):
    """Logits of which the sum is the same for every image: what a softmax reads."""

    def __init__(self, dead: int | None = None):
        torch.manual_seed(5)
        last = nn.Linear(12, 5)
        with torch.no_grad():
            alive = [i for i in range(5) if i != dead]
            last.weight[alive] -= last.weight[alive].mean(0)
            if dead is not None:
                last.weight[dead] = 0.0
        super().__init__(nn.Conv2d(3, 12, 5), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)


ONES = torch.ones(5, 1, dtype=torch.float64) / math.sqrt(5)


@pytest.mark.parametrize("k", [0.0, 2.0])
def test_a_critical_space_leaves_out_what_answers_every_image(k: float) -> None:
    network = Network(Sums(), 8)
    space = CriticalSpace.without(ONES)
    for image in noise(13, 3, 8, 8):
        free = one(network, image, "output", cosine_power=k)
        assert free.residual < 1e-6  # (weights are float32, their sum is not quite zero)
        bound = one(network, image, "output", cosine_power=k, space=space)
        assert bound.residual > 1e-3
        assert len(bound.singular_values) == 4
        y = bound.response / bound.response.norm()
        shrunk = bound.objective - k / (k + 1) * y * (y @ bound.objective)
        assert abs(float(shrunk @ ONES[:, 0])) < 1e-12
        assert bound.settings["critical_space"]["left_out"] == ONES.T.tolist()
        seen = sensitivity(network, parameters(image), "output", SigmoidPixels(3, 8, 8))
        expected = solve(seen.response, seen.gram, k, space.basis).best[0]
        torch.testing.assert_close(bound.objective, expected, rtol=1e-6, atol=1e-8)


def parameters(image: Tensor) -> Tensor:
    return SigmoidPixels(3, *image.shape[1:]).parameters(image[None].double())


@pytest.mark.parametrize("of_dead", [True, False])
def test_a_critical_space_leaves_it_out_also_where_a_feature_is_dead(of_dead: bool) -> None:
    """The sum of the others is the same for every image, whether the space counts the dead one in or not."""
    network = Network(Sums(dead=3), 8)
    left_out = torch.tensor([1.0, 1, 1, float(of_dead), 1], dtype=torch.float64)[:, None]
    known = one(network, noise(14, 1, 8, 8)[0], "output", space=CriticalSpace.without(left_out / left_out.norm()))
    assert known.dead == [3]
    assert known.residual > 1e-3


def test_a_space_that_leaves_out_the_dead_feature_itself() -> None:
    network = Network(Sums(dead=3), 8)
    left_out = torch.tensor([[1.0, 1, 1, 0, 1], [0, 0, 0, 1, 0]], dtype=torch.float64).T
    known = one(network, noise(14, 1, 8, 8)[0], "output", space=CriticalSpace.without(left_out / left_out.norm(dim=0)))
    assert known.dead == [3] and known.residual > 1e-3 and len(known.singular_values) == 3


# --- back into maximize -----------------------------------------------------------------------------------------------


def test_the_answer_can_be_asked(network: Network, made: Result, found: Recoveries) -> None:
    asked = found[1].direction()
    assert isinstance(asked, Direction)
    torch.testing.assert_close(asked.vector.double(), found[1].objective, rtol=1e-6, atol=1e-7)
    assert (asked.place, asked.cosine_power, asked.aggregate, asked.features) == (Place(TAP), 2.0, "max-mean", None)
    again = maximize(network, asked, recipe="plain", steps=220, progress=False)
    # With a third of the steps, it is answered nearly as well as what was asked in the first place.
    assert again.scores[0] > 0.9 * float(made.scores[1])


def test_every_setting_comes_back(network: Network) -> None:
    options: dict[str, Any] = {"cosine_power": 1.0, "aggregate": "mean", "features": [6, 1, 3]}
    known = one(network, noise(15, 1)[0], **options)
    asked = known.direction()
    assert (asked.cosine_power, asked.aggregate, asked.features) == (1.0, "mean", (6, 1, 3))
    torch.testing.assert_close(asked.vector.double(), known.objective, rtol=1e-6, atol=1e-7)
    made = maximize(network, [asked, 2 * asked], recipe="plain", steps=11, progress=False)
    assert made.scores[1] == pytest.approx(2 * float(made.scores[0]), rel=0.5)
    again = one(network, made.images[0], **options)
    assert again.settings["cosine_power"] == 1.0 and again.settings["features"] == [6, 1, 3]


# --- files, slices ----------------------------------------------------------------------------------------------------


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


def test_what_is_saved_is_json_and_pictures(found: Recoveries, tmp_path: Path) -> None:
    folder = found.save(tmp_path / "new" / "folder")
    said = strict((folder / "result.json").read_text(encoding="utf-8"))
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["result.json", *(one["file"] for one in said["recoveries"])]
    )
    assert said["verb"] == "recover" and said["at"] == TAP and said["smoothing"] == 0.01
    assert said["cosine_power"] == 2.0 and said["interrupted"] is False and len(said["images"]) == 4
    for each, entry in zip(found, said["recoveries"], strict=True):
        with Image.open(folder / entry["file"]) as picture:
            assert np.array_equal(np.asarray(picture), np.asarray(to_pil(each.image)))
        assert entry["objective"] == pytest.approx(each.objective.tolist(), rel=1e-5, abs=1e-9)
        assert entry["singular_values"] == pytest.approx(each.singular_values.tolist(), rel=1e-5)
        assert len(entry["candidates"]) == 5 and entry["features"] == list(range(FEATURES))
        assert entry["stands_out"] is True and entry["says"] == each.says()
        index, weight = each.strongest(1)[0]
        assert entry["strongest"][0] == {"channel": index, "weight": pytest.approx(weight, rel=1e-5)}


def test_numbers_that_are_none_are_null(found: Recoveries, tmp_path: Path) -> None:
    broken = replace(found[0], singular_values=torch.zeros(3).double(), response=torch.full((8,), torch.nan).double())
    text = (broken.save(tmp_path) / "result.json").read_text(encoding="utf-8")
    (entry,) = strict(text)["recoveries"]
    assert entry["residual"] is None and entry["response"] == [None] * 8 and entry["angle_to_response"] is None


def test_every_image_s_size_is_said(network: Network) -> None:
    said = strict(json.dumps(recovered(network, [noise(5, 1)[0], noise(6, 1, 20, 14)[0]]).as_dict()))
    assert [(one["parametrization"]["height"], one["parametrization"]["width"]) for one in said["recoveries"]] == [
        (SIDE, SIDE),
        (20, 14),
    ]
    assert "parametrization" not in said


def test_recoveries_are_a_sequence(found: Recoveries) -> None:
    assert len(found) == 4 and list(found) == [found[i] for i in range(4)] and found[-1] is found[3]
    part = found[1:3]
    assert isinstance(part, Recoveries)
    assert list(part) == [found[1], found[2]]
    assert torch.equal(part.objectives, found.objectives[1:3]) and found.objectives.shape == (4, FEATURES)
    assert len(found[4:]) == 0 and found[4:].as_dict()["recoveries"] == []
    with pytest.raises(IndexError):
        found[4]
    assert Recoveries(list(found), interrupted=True)[:2].interrupted
    assert repr(found).count("\n") == 3


def test_it_shows_itself(found: Recoveries) -> None:
    index = found[0].strongest(1)[0][0]
    assert index == 0  # (the first target is the first channel)
    assert repr(found[0]).startswith(f"Recovery(photo 0 at {TAP}: {index}: 1.00")
    html = found._repr_html_()
    assert html.count("<figure") == 4 and "one objective stands out" in html


# --- Ctrl-C, and wrong requests ---------------------------------------------------------------------------------------


class Fuse(nn.Module):
    """Ctrl-C as soon as it sees a white image."""

    def forward(self, images: Tensor) -> Tensor:
        if bool((images > 0.9).all()):
            raise KeyboardInterrupt
        return images


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_ctrl_c_keeps_what_is_done(network: Network, nth: int, tmp_path: Path) -> None:
    module = network.module
    assert isinstance(module, nn.Sequential)
    fused = Network(nn.Sequential(Fuse(), *module), SIDE)
    images = list(noise(16, 4))
    images[nth] = torch.ones(3, SIDE, SIDE)
    weights = [(weight, weight.dtype) for weight in fused.module.parameters()]
    done = recover(fused, images, "7", progress=False)
    assert isinstance(done, Recoveries)
    assert done.interrupted and len(done) == nth
    expected = recovered(network, images[:nth])
    assert not expected.interrupted
    torch.testing.assert_close(done.objectives, expected.objectives, rtol=1e-9, atol=1e-12)
    assert strict((done.save(tmp_path) / "result.json").read_text(encoding="utf-8"))["interrupted"] is True
    now = [(weight, weight.dtype) for weight in fused.module.parameters()]
    assert all(a[0] is b[0] and a[1] == b[1] for a, b in zip(weights, now, strict=True))


def test_ctrl_c_before_anything_is_done_ends_it(network: Network) -> None:
    module = network.module
    assert isinstance(module, nn.Sequential)
    fused = Network(nn.Sequential(Fuse(), *module), SIDE)
    white, other = torch.ones(3, SIDE, SIDE), noise(17, 1)[0]
    for images, more in ((white, {}), ([white, other], {}), ([other, white], {"average": True})):
        with pytest.raises(KeyboardInterrupt):
            recover(fused, images, "7", progress=False, **more)  # type: ignore[arg-type]


def test_wrong_requests_are_refused_in_a_sentence(network: Network, tmp_path: Path) -> None:
    image = noise(18, 1)[0]

    def refused(said: str, given: Any = image, at: str = TAP, **options: Any) -> None:
        with pytest.raises(RequestError, match=said) as caught:
            recover(options.pop("network", network), given, at, progress=False, **options)
        assert "\n" not in str(caught.value)

    refused("there is no image to recover", [])
    refused("there is no image to recover", torch.zeros(0, 3, SIDE, SIDE))
    refused(r"an image has shape \[3, H, W\] here, not \[1, 16, 16\]", image[:1])
    refused(r"an image has shape \[3, H, W\] here, not \[4, 16, 16\]", [image, torch.cat([image, image[:1]])])
    refused(r"values lie in \[0, 1\]", image * 2)
    refused(r"values lie in \[0, 1\]", image * torch.nan)
    refused("there is no image file", tmp_path / "missing.png")
    refused("aggregate must be one of max-mean, mean, centre, not 'median'", aggregate="median")
    refused("cosine_power must not be negative, but is -1", cosine_power=-1.0)
    refused("the power not negative", cosine_power=float("nan"))
    refused("has features 0 to 7, not", features=[0, FEATURES])
    refused("has features 0 to 7, not", features=[-1])
    refused("has features 0 to 7, not", features=[])
    refused("a width above zero", smoothing=0.0)
    refused("the critical space has 5 features, but here are 8", space=CriticalSpace.without(ONES))
    refused("the critical space has 5 features, but here are 3", space=CriticalSpace.without(ONES), features=[0, 1, 2])
    refused("one size, but these images have several", [image, image[:, 1:]], average=True)
    refused("does not run on 3 x 2 x 2 images", image[:, :2, :2])
    half = Network(nn.Sequential(nn.Conv2d(3, 2, 3)).half(), SIDE, name="coarse")
    refused("coarse computes in float16", network=half, at="0")
    with pytest.raises(UnknownTapError, match="small has no tap 'layer4'"):
        recover(network, image, "layer4")
