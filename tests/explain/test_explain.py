"""The verb `explain`: what it takes, in which order it answers, what it refuses and in which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from squares import BOX, SIDE, Box, inside, noise, overlap, sharpness
from torch import Tensor, nn

from preimage import Explanation, Explanations, Network, RequestError, explain, methods, objectives
from preimage.explain import Found, Mask, Method, Question, find_method
from preimage.images import centre_crop, to_pil
from preimage.objectives import label

BOXES: list[Box] = [(8, 8, 16, 20), (36, 8, 20, 16), (24, 36, 24, 20)]
SHORT = Mask(iterations=2, start="half", jitter=0)


class Brightness(Method):
    """The photo's own brightness: a method without a mask, in a line."""

    name = "brightness"
    source = "nowhere"

    def explain(self, asked: Question) -> Found:
        asked.on_step(1)
        maps = asked.photos.mean(1)
        scores = torch.stack([asked.scores(i, asked.photos[i : i + 1])[0] for i in range(len(asked))])
        return Found(maps, scores={"photo": scores})


class Counting(Brightness):
    """Remembers the batches it was asked."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}

    def explain(self, asked: Question) -> Found:
        self.batches.append([str(one) for one in asked.objectives])
        return super().explain(asked)


def net() -> Network:
    return sharpness(*BOXES)


def logits(photo: Tensor) -> Tensor:
    out: Tensor = net().module(photo[None])[0]
    return out


# --- photos -------------------------------------------------------------------------------------------------------


def test_a_photo_in_any_form_is_explained_alike(tmp_path: Path) -> None:
    picture = to_pil(noise(1))
    picture.save(tmp_path / "cat.png")
    array = np.array(picture)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255
    given: list[Any] = [tmp_path / "cat.png", str(tmp_path / "cat.png"), picture, array, tensor]
    made = [explain(net(), one, "class:0", method=SHORT) for one in given]
    for one in made:
        assert isinstance(one, Explanation)
        torch.testing.assert_close(one.heatmap, made[0].heatmap, rtol=0, atol=1e-5)
        torch.testing.assert_close(one.photo, tensor)
    assert [one.name for one in made] == ["cat", "cat", "photo 0", "photo 0", "photo 0"]


@pytest.mark.parametrize("form", ["list", "tuple", "tensor", "array"])
def test_several_photos_in_any_form(form: str) -> None:
    photos = [noise(i) for i in range(3)]
    stack = torch.stack(photos)
    given: Any = {
        "list": photos, "tuple": tuple(photos), "tensor": stack, "array": stack.permute(0, 2, 3, 1).numpy()
    }[form]  # fmt: skip
    made = explain(net(), given, "class:1", method=SHORT)
    assert isinstance(made, Explanations)
    assert [one.of for one in made] == [0, 1, 2]
    for photo, one in zip(photos, made, strict=True):
        torch.testing.assert_close(one.photo, photo)


def test_one_photo_in_a_list_or_a_stack_stays_a_list() -> None:
    for photos in ([noise(0)], noise(0)[None]):
        assert isinstance(explain(net(), photos, "class:0", method=SHORT), Explanations)
    assert isinstance(explain(net(), noise(0), ["class:0"], method=SHORT), Explanations)
    assert isinstance(explain(net(), noise(0), "class:0", method=[SHORT]), Explanations)
    assert isinstance(explain(net(), noise(0), "class:0", method=SHORT), Explanation)


def test_photos_of_different_sizes_are_each_cropped() -> None:
    photos = [noise(0), noise(1, 80, 100), noise(2, 200, 66)]
    made = explain(net(), photos, "class:0", method=SHORT)
    for photo, one in zip(photos, made, strict=True):
        torch.testing.assert_close(one.photo, centre_crop(photo, (SIDE, SIDE)))
        alone = explain(net(), photo, "class:0", method=SHORT)
        torch.testing.assert_close(one.heatmap, alone.heatmap, rtol=0, atol=1e-4)
        assert one.heatmap.shape == (SIDE, SIDE)


def test_a_photo_smaller_than_the_network_s_input_is_refused_unless_it_may_be_enlarged() -> None:
    small = noise(0, 40, 70)
    words = r"photo 0 has 70 x 40 pixels, fewer than the 64 x 64 that Sharpness is to see; enlarge=True .* size="
    with pytest.raises(RequestError, match=words):
        explain(net(), small, "class:0", method=SHORT)
    with pytest.raises(RequestError, match=r"photo 1 has 70 x 40"):
        explain(net(), [noise(0), small, small], "class:0", method=SHORT)
    made = explain(net(), small, "class:0", method=SHORT, enlarge=True)
    torch.testing.assert_close(made.photo, centre_crop(small, (SIDE, SIDE)))


@pytest.mark.parametrize(("size", "shape"), [(48, (48, 48)), ((56, 72), (56, 72)), ([80, 64], (80, 64))])
def test_the_network_is_shown_the_photo_at_another_size(size: Any, shape: tuple[int, int]) -> None:
    network = Network(nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), SIDE)
    made = explain(network, noise(0, 100), "class:0", method=SHORT, size=size)
    assert made.heatmap.shape == made.mask.shape == made.photo.shape[1:] == shape
    assert made.settings["size"] == list(shape)


@pytest.mark.parametrize("size", [0, -1, 2.5, (64,), (64, 64, 64), "large"])
def test_sizes_that_are_none_are_refused(size: Any) -> None:
    with pytest.raises(RequestError, match="size"):
        explain(net(), noise(0), "class:0", method=SHORT, size=size)


def test_a_size_that_the_network_does_not_take_is_refused() -> None:
    network = Network(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4 * 64 * 64, 2)), SIDE)
    with pytest.raises(RequestError, match="does not run on 3 x 48 x 48"):
        explain(network, noise(0), "class:0", method=SHORT, size=48)


def test_photos_that_are_none_are_refused(tmp_path: Path) -> None:
    for wrong, words in [
        ([], "at least one photo"),
        ((), "at least one photo"),
        (torch.zeros(0, 3, 64, 64), "at least one photo"),
        (tmp_path / "nowhere.png", r"nowhere\.png"),
        (torch.zeros(1, 64, 64), r"shape \[3, H, W\] here, not \[1, 64, 64\]"),
        (torch.full((3, 64, 64), 2.0), r"\[0, 1\]"),
        (torch.full((3, 64, 64), torch.nan), r"\[0, 1\]"),
        ([noise(0), 7], "not int"),
        (None, "not NoneType"),
    ]:
        with pytest.raises(RequestError, match=words):
            explain(net(), wrong, "class:0", method=SHORT)  # type: ignore[call-overload]


def test_grey_photos() -> None:
    network = Network(nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 32)
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8))
    made = explain(network, grey, "class:1", method=Mask(iterations=2, perturbation="constant"))
    assert made.photo.shape == (1, 32, 32) and made.heatmap.shape == (32, 32)


# --- targets ------------------------------------------------------------------------------------------------------


def test_the_strongest_class_is_each_photo_s_own() -> None:
    flat = noise(1).clone()
    flat[:, 8:24, 8:28] = 0.5
    flat[:, 36:56, 8:24] = 0.5
    photos = [noise(0), flat]
    for targets in (None, [None], "top:1"):
        made = explain(net(), photos, targets, method=SHORT)
        assert [one.objective for one in made] == [f"prob:{int(logits(photo).argmax())}" for photo in photos]
    assert isinstance(explain(net(), noise(0), method=SHORT), Explanation)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 100), st.integers(1, 4))
def test_the_sum_of_the_strongest_classes(seed: int, count: int) -> None:
    photo = noise(seed)
    made = explain(net(), photo, f"top:{count}", method=Counting())
    ranked = logits(photo).sort(descending=True).indices[:count].tolist()
    assert made.objective == " + ".join(f"class:{one}" for one in ranked)
    assert made.scores["photo"] == pytest.approx(logits(photo)[ranked].sum().item(), rel=1e-4)


@pytest.mark.parametrize("wrong", ["top:0", "top:5", "top:-1", "top:", "top:two", "top:1.5", "top:99999999999999"])
def test_so_many_classes_there_are_not(wrong: str) -> None:
    with pytest.raises(RequestError, match=f"of 1 to 4, not '{wrong}'"):
        explain(net(), noise(0), wrong, method=SHORT)


def test_answers_come_photo_by_photo_then_target_by_target_then_method_by_method() -> None:
    made = explain(
        net(), [noise(0), noise(1)], ["class:1", "class:0"], method=[SHORT, Counting()], batch_size=3, progress=False
    )
    assert [(one.of, one.objective, one.method) for one in made] == [
        (i, f"{kind}:{c}", name)
        for i in (0, 1)
        for c in (1, 0)
        for kind, name in (("prob", "mask"), ("class", "brightness"))
    ]


def test_targets_for_each_photo() -> None:
    targets = [["class:1"], ["class:0", label(2)], ("class:2",)]
    made = explain(net(), [noise(i) for i in range(3)], targets, method=Counting())
    assert [(one.of, one.objective) for one in made] == [
        (0, "class:1"), (1, "class:0"), (1, "class:2"), (2, "class:2"),
    ]  # fmt: skip
    mixed = explain(net(), [noise(0), noise(1)], [[None, "top:2"], ["prob:0"]], method=Counting())
    assert [one.of for one in mixed] == [0, 0, 1]


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ([], "nothing to explain: a list of targets is empty"),
        ((), "nothing to explain: a list of targets is empty"),
        ([["class:0"], []], "nothing to explain: a list of targets is empty"),
        ([["class:0"]], "targets for 1 photos were given, but 2 photos"),
        ([["class:0"]] * 3, "targets for 3 photos were given, but 2 photos"),
        ([["class:0"], "class:1"], "same for all photos, or a list for each photo; not both"),
        ("class:9", "classes 0 to 3, not 9"),
        ("class:tabby", "without class names"),
        ("nowhere:0", "no tap 'nowhere'"),
        ("", "''|empty|nothing"),
    ],
)
def test_targets_that_cannot_be_asked_are_one_sentence(targets: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        explain(net(), [noise(0), noise(1)], targets, method=SHORT)


@pytest.mark.parametrize("wrong", [2.5, [2.5], {"class:0"}], ids=str)
def test_targets_of_another_kind_are_one_sentence(wrong: Any) -> None:
    with pytest.raises(RequestError):
        explain(net(), [noise(0)], wrong, method=SHORT)


@pytest.mark.parametrize("wrong", [[["class:0", ["class:1"]]], [[["class:0"]]]], ids=str)
def test_targets_that_are_nested_too_deep_are_one_sentence(wrong: Any) -> None:
    with pytest.raises(RequestError):
        explain(net(), [noise(0)], wrong, method=SHORT)


def test_names_of_classes_and_ranges_of_channels() -> None:
    module = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    network = Network(module, 32, labels=["cat", "dog"])
    made = explain(network, noise(0, 32), ["class:dog", "0:2-4"], method=Counting())
    assert [one.objective for one in made] == ["class:1 (dog)", "0:2", "0:3", "0:4"]
    alone = explain(network, noise(0, 32), "0:2-3", method=Counting())
    assert isinstance(alone, Explanations) and len(alone) == 2


def test_masks_ask_for_probabilities_and_others_for_logits() -> None:
    asked = ["class:0", "prob:1", "logprob:2", objectives.label(0) - objectives.label(1)]
    made = explain(net(), noise(0), asked, method=[SHORT, Counting()])
    assert [one.objective for one in made] == [
        "prob:0", "class:0", "prob:1", "prob:1", "logprob:2", "logprob:2", "prob:0 - prob:1", "class:0 - class:1",
    ]  # fmt: skip
    chances = logits(noise(0)).softmax(0)
    assert made[0].scores["photo"] == pytest.approx(chances[0].item(), abs=1e-5)
    assert made[4].scores["photo"] == pytest.approx(chances[2].log().item(), abs=1e-4)


# --- classes of almost no probability -----------------------------------------------------------------------------


class Chances(nn.Module):
    """The same probabilities for every photo, with a gradient of nothing."""

    def __init__(self, *chances: float) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(chances).log())

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.logits + 0 * images.mean((1, 2, 3))[:, None]
        return out


def test_a_class_of_almost_no_probability_is_refused_with_the_number() -> None:
    network = Network(Chances(0.9995, 0.0005), SIDE, channels=3, labels=["cat", "dog"], name="mine")
    words = (
        r"^mine gives class:1 \(dog\) a probability of 0\.0005 for photo 0; there is next to nothing to explain\. "
        r"Its first answer is class:0 \(cat\), 1; least_probability=0 \(--faint\) explains it all the same$"
    )
    for target in ("class:dog", "prob:dog", ["class:cat", "class:dog"]):
        with pytest.raises(RequestError, match=words):
            explain(network, noise(0), target, method=SHORT)
    with pytest.raises(RequestError, match=r"for photo 0, and 1 others are as faint; "):
        explain(network, [noise(0), noise(1)], "class:dog", method=SHORT)
    for options in ({"least_probability": 0}, {"least_probability": 4e-4}, {"method": Counting()}):
        explain(network, noise(0), "class:dog", **{"method": SHORT, **options})  # type: ignore[call-overload]
    both = explain(network, noise(0), "class:dog", method=[Counting(), SHORT])
    assert [one.method for one in both] == [Counting.name] and "0.0005" in both.settings["refused"][SHORT.name]
    with pytest.raises(RequestError, match="a probability of 1 for"):
        explain(network, noise(0), "class:cat", method=SHORT, least_probability=0.9999)


def test_what_is_no_probability_is_not_refused_for_being_small() -> None:
    network = Network(Chances(0.9999, 0.0001), SIDE, channels=3)
    for target in ("logprob:1", label(0) + label(1)):
        try:
            explain(network, noise(0), target, method=SHORT)
        except RequestError as error:
            assert "no part to find" in str(error)  # noqa: PT017 (a network that does not look at the photo)


# --- methods ------------------------------------------------------------------------------------------------------


def test_methods_are_known_by_their_names() -> None:
    known = methods()
    assert {"mask", "mask-preserve", "mask-both"} <= set(known)
    for name, method in known.items():
        assert find_method(name).describe() == method.describe()
        assert method.name == name and method.source and method.says
        assert json.loads(json.dumps(method.describe(), allow_nan=False))["name"] == name
        assert name in str(known) and method.says in str(known)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("msk", "there is no method 'msk'; the nearest are .*mask"),
        ("", "no method ''"),
        ("MASK", "no method 'MASK'.*mask"),
        (["mask", "gradcam-plus"], "no method 'gradcam-plus'"),
        ([], "at least one method"),
        ((), "at least one method"),
        ([Mask], "a name or a Method, not"),
        ([3], "a name or a Method, not int"),
    ],
)
def test_methods_that_are_not_there_are_one_sentence(wrong: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        explain(net(), noise(0), "class:0", method=wrong)


@pytest.mark.parametrize("wrong", [3, None, Mask], ids=str)
def test_a_method_of_another_kind_is_one_sentence(wrong: Any) -> None:
    with pytest.raises(RequestError, match="a name or a Method"):
        explain(net(), noise(0), "class:0", method=wrong)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"batch_size": -2}, "batch_size must be at least 1, not -2"),
        ({"seed": -1}, "a seed is a whole number from 0"),
        ({"seed": 2**62}, "a seed is a whole number from 0"),
    ],
)
def test_other_bad_options_are_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        explain(net(), noise(0), "class:0", method=SHORT, **options)


# --- batches ------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 7))
def test_every_question_is_asked_once_in_batches_of_the_size(photos: int, classes: int, batch_size: int) -> None:
    method = Counting()
    explain(
        net(), [noise(i) for i in range(photos)], [f"class:{c}" for c in range(classes)], method=method,
        batch_size=batch_size, progress=False,
    )  # fmt: skip
    sizes = [len(batch) for batch in method.batches]
    assert sum(sizes) == photos * classes
    assert max(sizes) <= batch_size
    assert len(sizes) == -(-photos * classes // batch_size)


def test_what_needs_other_taps_is_asked_by_itself() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    method = Counting()
    made = explain(
        Network(module, 32), [noise(0, 32), noise(1, 32)], ["class:0", "0:1", "class:1", "0:2"], method=method
    )
    assert sorted(map(sorted, method.batches)) == [
        ["0:1", "0:1", "0:2", "0:2"],
        ["class:0", "class:0", "class:1", "class:1"],
    ]
    assert [one.objective for one in made] == ["class:0", "0:1", "class:1", "0:2"] * 2


def test_a_batch_is_what_each_is_alone() -> None:
    photos, classes = [noise(i) for i in range(3)], ["class:0", "class:2"]
    method = Mask(iterations=12, jitter=0)
    each = [explain(net(), photo, one, method=method) for photo in photos for one in classes]
    for batch_size in (1, 2, 4, 16):
        made = explain(net(), photos, classes, method=method, batch_size=batch_size)
        for one, alone in zip(made, each, strict=True):
            torch.testing.assert_close(one.heatmap, alone.heatmap, rtol=0, atol=1e-4)
            assert one.scores == pytest.approx(alone.scores, abs=1e-5)


def test_the_same_seed_gives_the_same_bytes() -> None:
    method = Mask(iterations=5, start="random", perturbation="noise")
    first, again = (explain(net(), noise(0), "class:0", method=method, seed=3) for _ in range(2))
    assert torch.equal(first.heatmap, again.heatmap)
    assert first.scores == again.scores
    other = explain(net(), noise(0), "class:0", method=method, seed=4)
    assert not torch.equal(first.heatmap, other.heatmap)


# --- what comes back ----------------------------------------------------------------------------------------------


def test_an_explanation_holds_what_was_asked_and_found(tmp_path: Path) -> None:
    made = explain(net(), noise(2), "class:1", method=Mask(iterations=4), seed=5)
    assert made.heatmap.dtype == torch.float32 and made.heatmap.device.type == "cpu"
    torch.testing.assert_close(made.heatmap, 1 - made.mask)
    assert set(made.scores) == {"photo", "perturbed", "masked"}
    assert made.trace.shape == (4,) and made.trace.isfinite().all()
    assert not made.interrupted and (made.of, made.method, made.objective) == (0, "mask", "prob:1")
    said = json.loads(json.dumps(made.settings, allow_nan=False))
    assert (said["verb"], said["seed"], said["size"]) == ("explain", 5, [SIDE, SIDE])
    assert said["methods"] == [json.loads(json.dumps(Mask(iterations=4).describe()))]
    json.dumps(made.as_dict(), allow_nan=False)
    assert made.as_dict()["kept"] == pytest.approx(made.mask.mean().item())
    assert "64 x 64" in repr(made)
    both = explain(net(), noise(2), "class:1", method="mask-both", least_probability=0)
    assert set(both.scores) == {"photo", "perturbed", "kept", "deleted"}
    saved = json.loads((made.save(tmp_path) / "result.json").read_text(), parse_constant=pytest.fail)
    assert saved["explanations"][0]["objective"] == "prob:1"


def test_scores_are_those_of_the_pictures() -> None:
    """The masked photo, put together by hand."""
    photo, network = noise(2), sharpness(BOX)
    made = explain(network, photo, "class:0", method=Mask(iterations=30, perturbation="constant"))
    masked = made.mask * photo + (1 - made.mask) * 0.5
    for name, picture in (("photo", photo), ("masked", masked), ("perturbed", torch.full_like(photo, 0.5))):
        expected = network.module(picture[None]).softmax(1)[0, 0].item()
        assert made.scores[name] == pytest.approx(expected, abs=1e-4)


def test_the_trace_begins_with_the_start_and_ends_near_the_result() -> None:
    network = sharpness(BOX)
    made = explain(network, noise(2), "class:0", method=Mask(start="ones", jitter=0, iterations=80))
    assert made.trace[0].item() == pytest.approx(made.scores["photo"], abs=1e-5)
    assert made.trace[-1].item() == pytest.approx(made.scores["masked"], abs=0.02)
    kept = explain(network, noise(2), "class:0", method=Mask(game="preservation", start="ones", jitter=0, iterations=2))
    assert kept.trace[0].item() == pytest.approx(kept.scores["photo"], abs=1e-5)


def test_several_explanations_are_a_sequence() -> None:
    made = explain(net(), [noise(0), noise(1)], ["class:0", "class:1"], method=Counting())
    assert len(made) == 4 and len(made[1:3]) == 2 and isinstance(made[1:3], Explanations)
    assert made.heatmaps.shape == (4, SIDE, SIDE)
    assert "2 photos, brightness" in repr(made)
    assert len(set(made.file_stems())) == 4


def test_it_works_where_gradients_are_switched_off_outside() -> None:
    method = Mask(iterations=30, start="half", jitter=0)
    with torch.no_grad():
        made = explain(sharpness(BOX), noise(1), "class:0", method=method)
    twin = explain(sharpness(BOX), noise(1), "class:0", method=method)
    torch.testing.assert_close(made.heatmap, twin.heatmap)
    assert overlap(made.heatmap > 0.9, inside(BOX)) > 0.5


def test_progress_is_shown_on_standard_error_only_where_it_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    explain(net(), noise(0), "class:0", method=SHORT, progress=False)
    assert capsys.readouterr() == ("", "")
    explain(net(), noise(0), "class:0", method=SHORT, progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "mask" in err
