"""Whether another network sees in a picture what it sees in the photo: ranks, known and against torch.topk."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from preimage import Network, Recipe, RequestError, agreement, invert
from preimage.optimization import Adam, Stage
from preimage.parametrizations import Pixels

CLASSES, SIDE = 7, 6

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31)
orders = st.lists(st.permutations(range(CLASSES)), min_size=1, max_size=20)


def reader() -> Network:
    """Its answers are the pixels of an image of one row, so that an image says what is answered."""
    return Network(nn.Flatten(), (1, CLASSES), channels=1, name="reader")


def written(orders: Sequence[Sequence[int]]) -> Tensor:
    """Images [N, 1, 1, CLASSES] that the reader answers with these classes, from the strongest on."""
    images = torch.zeros(len(orders), 1, 1, CLASSES)
    for image, order in zip(images, orders, strict=True):
        image[0, 0, list(order)] = torch.linspace(1, 0, CLASSES)
    return images


def judge(seed: int = 0, classes: int = CLASSES) -> Network:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (SIDE - 2) ** 2, classes))
    return Network(module, SIDE, channels=3, name="judge")


def images(seed: int, count: int, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


@few
@given(orders, st.data())
def test_ranks_are_read_from_the_strongest_answer_to_the_weakest(photos: list[list[int]], data: st.DataObject) -> None:
    pictures = [data.draw(st.permutations(order)) for order in photos]
    seen = agreement(reader(), written(pictures), written(photos))
    assert seen.judge == "reader"
    assert seen.photo_ranks.tolist() == photos
    assert seen.picture_ranks.tolist() == pictures
    pairs = list(zip(pictures, photos, strict=True))
    assert seen.first.tolist() == [made[0] == one[0] for made, one in pairs]
    assert seen.among_five.tolist() == [one[0] in made[:5] for made, one in pairs]
    classes = data.draw(st.lists(st.integers(0, CLASSES - 1), min_size=len(pairs), max_size=len(pairs)))
    for among in (1, 2, 5, CLASSES, CLASSES + 3):
        for ranks, of_photos in ((pictures, False), (photos, True)):
            expected = [k in order[:among] for k, order in zip(classes, ranks, strict=True)]
            assert seen.right(classes, among, photos=of_photos).tolist() == expected
            assert seen.right(torch.tensor(classes), among, photos=of_photos).tolist() == expected
    assert seen.right(classes).tolist() == seen.right(classes, 1).tolist()


@few
@given(seeds, st.integers(1, 40))
def test_ranks_are_torch_s(seed: int, count: int) -> None:
    """Also of more images than fit into a batch."""
    network, pictures, photos = judge(seed), images(seed, count), images(seed + 1, count)
    seen = agreement(network, pictures, photos)
    with torch.no_grad():
        for ranks, shown in ((seen.picture_ranks, pictures), (seen.photo_ranks, photos)):
            logits = network.module(shown)
            assert ranks.shape == (count, CLASSES)
            assert ranks.dtype == torch.int64
            ordered = logits.gather(1, ranks)
            torch.testing.assert_close(ordered, logits.topk(CLASSES).values, rtol=1e-5, atol=1e-6)
    assert seen.picture_ranks.sort(1).values.tolist() == [list(range(CLASSES))] * count


@few
@given(seeds, st.integers(1, 20))
def test_the_same_pictures_all_agree(seed: int, count: int) -> None:
    photos = images(seed, count)
    seen = agreement(judge(), photos.clone(), photos)
    assert seen.first.all() and seen.among_five.all()
    assert torch.equal(seen.picture_ranks, seen.photo_ranks)
    assert seen.right(seen.photo_ranks[:, 0]).all()


def test_equal_answers_come_in_the_order_of_the_classes() -> None:
    seen = agreement(reader(), torch.full((2, 1, 1, CLASSES), 0.5), torch.zeros(2, 1, 1, CLASSES))
    assert seen.picture_ranks.tolist() == seen.photo_ranks.tolist() == [list(range(CLASSES))] * 2


def test_fewer_than_five_classes_are_all_among_the_first_five() -> None:
    seen = agreement(judge(0, 3), images(0, 6), images(1, 6))
    assert seen.among_five.all()
    assert seen.photo_ranks.shape == (6, 3)


def test_it_says_how_many_and_gives_them_as_json() -> None:
    photos = [[0, 1, 2, 3, 4, 5, 6], [1, 0, 2, 3, 4, 5, 6], [2, 1, 0, 3, 4, 5, 6]]
    pictures = [[0, 6, 5, 4, 3, 2, 1], [5, 1, 2, 3, 4, 0, 6], [1, 3, 0, 4, 5, 2, 6]]
    seen = agreement(reader(), written(pictures), written(photos))
    assert str(seen) == (
        "reader gives its first answer to the photo again for 1 of 3 pictures, and has it among its first five for 2"
    )
    said = seen.as_dict()
    assert said == {
        "judge": "reader",
        "photo_class": [0, 1, 2],
        "picture_class": [0, 5, 1],
        "first": [True, False, False],
        "among_five": [True, True, False],
    }
    assert json.loads(json.dumps(said)) == said


def test_answers_by_place_are_averaged() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, CLASSES, 3)
    seen = agreement(Network(layer, SIDE, channels=3), images(0, 9), images(1, 9))
    with torch.no_grad():
        assert torch.equal(seen.photo_ranks[:, 0], layer(images(1, 9)).mean((2, 3)).argmax(1))


@pytest.mark.parametrize("side", [SIDE - 2, SIDE + 1, 3 * SIDE])
def test_pictures_of_another_size_are_resampled_without_aliases(side: int) -> None:
    network, pictures, photos = judge(), images(0, 20, side), images(1, 20, side)
    resized = [
        F.interpolate(one, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        for one in (pictures, photos)
    ]
    seen, expected = agreement(network, pictures, photos), agreement(network, *resized)
    assert torch.equal(seen.picture_ranks, expected.picture_ranks)
    assert torch.equal(seen.photo_ranks, expected.photo_ranks)


@few
@given(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=5), st.integers(2, 5))
def test_what_stands_out_does_so_at_any_size(classes: list[int], times: int) -> None:
    """Antialiasing gives a neighbour an eighth of it at most."""
    photos = torch.full((len(classes), 1, 1, CLASSES), 0.2)
    for one, index in zip(photos, classes, strict=True):
        one[0, 0, index] = 1.0
    larger = photos.repeat_interleave(times, 2).repeat_interleave(times, 3)
    seen = agreement(reader(), larger, larger)
    assert seen.photo_ranks[:, 0].tolist() == classes
    assert seen.right(classes).all()


@pytest.mark.parametrize(
    ("pictures", "photos"),
    [((2, 3, 6, 6), (3, 3, 6, 6)), ((2, 3, 6, 6), (2, 3, 7, 7)), ((3, 6, 6), (3, 6, 6)), ((1, 3, 6, 6), (3, 6, 6))],
)
def test_pictures_and_photos_belong_together(pictures: tuple[int, ...], photos: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match=r"pictures \[.*\] and photos \[.*\] are not \[N, C, H, W\] both") as caught:
        agreement(judge(), torch.zeros(pictures), torch.zeros(photos))
    assert str(list(pictures)) in str(caught.value) and str(list(photos)) in str(caught.value)


def test_a_judge_has_classes_to_tell_apart() -> None:
    with pytest.raises(RequestError, match="'judge' does not classify: its answer has 1 numbers"):
        agreement(judge(0, 1), images(0, 2), images(1, 2))


def test_a_judge_that_takes_other_channels() -> None:
    with pytest.raises(RequestError, match=r"reader takes images \[N, 1, H, W\], not \[2, 3,"):
        agreement(reader(), images(0, 2), images(1, 2))


def test_the_judge_and_the_pictures_are_left_as_they_were() -> None:
    network, pictures, photos = judge(), images(0, 3), images(1, 3).requires_grad_(True)
    network.module.train()
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    agreement(network, pictures, photos)
    assert network.module.training
    assert all(torch.equal(before[name], value) for name, value in network.module.state_dict().items())
    assert torch.equal(pictures, images(0, 3)) and photos.grad is None


def test_of_an_inversion() -> None:
    """What the layer below the answers cannot tell from the photo has the photo's answers."""
    recipe = Recipe("mine", "", "", lambda c, h, w, _: Pixels(c, h, w), (Stage(60, Adam(0.03), last_step_size=0.05),))
    photos = images(0, 4)
    made = invert(judge(), photos, "1", recipe=recipe)
    seen = agreement(judge(), made.images, made.photos)
    assert seen.first.tolist() == [True] * 4
    assert torch.equal(seen.photo_ranks, agreement(judge(), photos, photos).photo_ranks)


def test_what_is_no_judge_or_no_picture_is_said() -> None:
    image = torch.zeros(1, 3, SIDE, SIDE)
    with pytest.raises(RequestError, match=r"a judge is a preimage\.Network, not Flatten"):
        agreement(nn.Flatten(), image, image)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"made\.images, made\.photos"):
        agreement(judge(), [image], [image])  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="there is no picture"):
        agreement(judge(), image[:0], image[:0])
    with pytest.raises(RequestError, match="2 classes for 1 pictures"):
        agreement(judge(), image, image).right([1, 2])
