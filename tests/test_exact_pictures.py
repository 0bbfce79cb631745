"""Pictures in float32 beside their PNGs: the same bits come back, and what comes from elsewhere is looked at first."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import preimage as pi
from preimage import Network, Place, Recoveries, RequestError, Result, exact
from preimage.exact import EXACT, Question, is_folder, pictures
from preimage.images import to_pil
from preimage.objectives import Direction, direction
from preimage.parametrizations import SigmoidPixels

SIDE = 16
CHANNELS = 6


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 10, 5, 2), nn.ReLU(), nn.Conv2d(10, CHANNELS, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4)
    )
    return Network(module, SIDE, name="small")


def made(network: Network, asked: Any, **options: Any) -> Result:
    return pi.maximize(network, asked, **({"recipe": "plain", "steps": 22, "progress": False} | options))


@pytest.fixture(scope="module")
def eleven(network: Network) -> Result:
    """Eleven pictures, of two taps: their names have two digits."""
    return made(network, ["2:*", "0:0-3", "class:2"])


@pytest.fixture
def folder(eleven: Result, tmp_path: Path) -> Path:
    return eleven.save(tmp_path / "made")


def said(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return document


def resaid(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = said(folder)
    change(document)
    (folder / "result.json").write_text(json.dumps(document), encoding="utf-8")


def all_found(network: Network, images: Any, *at: str, **options: Any) -> Recoveries:
    found = pi.recover(network, images, *at, progress=False, **options)
    assert isinstance(found, Recoveries)
    return found


# --- written and read -------------------------------------------------------------------------------------------------


def test_the_same_bits_come_back_in_order(eleven: Result, folder: Path) -> None:
    found = pictures(folder, 3)
    assert torch.equal(torch.stack([one.image for one in found]), eleven.images)
    assert [f"{one.name}.png" for one in found] == eleven.file_names()
    assert all(one.image.dtype == torch.float32 for one in found)
    eight = pictures([folder / name for name in eleven.file_names()], 3)
    assert not any(torch.equal(a.image, b.image) for a, b in zip(found, eight, strict=True))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=12, max_size=12))
def test_any_value_in_range_comes_back(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    image = torch.tensor(values).view(3, 2, 2)
    folder = tmp_path_factory.mktemp("any")
    exact.write_exact(folder, {"0-a.png": image})
    (found,) = pictures(folder, 3)
    assert torch.equal(found.image, image) and found.question is None


def test_result_json_says_how_each_picture_was_asked(eleven: Result, folder: Path) -> None:
    document = said(folder)
    assert document["exact"] == "pictures.safetensors"
    asked = {"after_relu": False, "aggregate": "max-mean", "cosine_power": 2.0, "features": None, "smoothing": 0.01}
    assert [one["question"] for one in document["images"][:10]] == [{"at": tap, **asked} for tap in "2222220000"]
    assert document["images"][10]["question"] == {"at": "output", **asked, "after_relu": True}
    for one, picture in zip(document["images"], pictures(folder, 3), strict=True):
        assert picture.question is not None
        assert picture.question.as_dict() == one["question"]
        assert picture.said_by == folder / "result.json"


def test_every_way_of_asking_is_kept(network: Network, tmp_path: Path) -> None:
    asked = [
        direction("2", [1.0, 2.0], 1.0, "centre", features=[4, 1], after_relu=True),
        pi.objectives.neuron("2", 3),
        pi.objectives.unit("2", 3, 1, 1),
        "logprob:1",
    ]
    read = [one.question for one in pictures(made(network, asked).save(tmp_path), 3)]
    assert read == [
        Question(Place("2", True), "centre", 1.0, (4, 1), 0.01),
        Question(Place("2"), "centre", 0.0, None, 0.01),
        None,
        Question(Place("output", True), "mean", 0.0, None, 0.01),
    ]


def test_pictures_that_were_not_made_to_be_recovered_from_are_not_kept(network: Network, folder: Path) -> None:
    """And what was kept of those that they replace goes."""
    made(network, "2:0", recipe="unconstrained", steps=2).save(folder)
    assert not (folder / EXACT).exists() and "exact" not in said(folder)
    assert "question" not in said(folder)["images"][0]


def test_it_is_written_whole_or_not_at_all(
    eleven: Result, folder: Path, monkeypatch: pytest.MonkeyPatch, network: Network
) -> None:
    before = [(folder / name).read_bytes() for name in (EXACT, "result.json")]

    def full(tensors: object, file: Path) -> None:
        Path(file).write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(exact, "save_file", full)
    with pytest.raises(OSError, match="no space left"):
        made(network, "2:0").save(folder)
    assert [(folder / name).read_bytes() for name in (EXACT, "result.json")] == before
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*eleven.file_names(), "0-2-0.png", EXACT, "result.json"]
    )


# --- recovered from ---------------------------------------------------------------------------------------------------


def test_a_folder_is_recovered_from_as_the_result_is(network: Network, eleven: Result, folder: Path) -> None:
    found = all_found(network, folder)
    assert [one.tap for one in found] == [*"2222220000", "output"]
    assert [one.name for one in found] == [name.removesuffix(".png") for name in eleven.file_names()]
    for image, one in zip(eleven.images, found, strict=True):
        alone = pi.recover(network, image, Place(one.tap, one.tap == "output"), progress=False)
        assert isinstance(alone, pi.Recovery)
        assert torch.equal(one.image, image)
        torch.testing.assert_close(one.objective, alone.objective, rtol=0, atol=1e-12)
        asked = one.direction()
        assert isinstance(asked, Direction) and asked.place == Place(one.tap, one.tap == "output")
    assert json.loads(json.dumps(found.as_dict()))["recoveries"][10]["at"] == "after:output"
    again = all_found(network, str(folder))
    assert torch.equal(again[0].objective, found[0].objective)


def test_what_is_given_wins(network: Network, tmp_path: Path) -> None:
    asked = direction("2", [1.0, 2.0], 1.0, "centre", features=[4, 1])
    folder = made(network, asked).save(tmp_path)

    def settled(**options: Any) -> dict[str, Any]:
        one = all_found(network, folder, **options)[0].settings
        return {name: one[name] for name in ("at", "cosine_power", "aggregate", "features", "smoothing")}

    own = {"at": "2", "cosine_power": 1.0, "aggregate": "centre", "features": [4, 1], "smoothing": 0.01}
    assert settled() == own
    for name, value in (
        ("cosine_power", 0.0),
        ("aggregate", "mean"),
        ("features", [0, 2, 3]),
        ("smoothing", None),
        ("smoothing", 0.03),
    ):
        assert settled(**{name: value}) == own | {name: value}
    # Of another tap, its channels mean nothing.
    assert settled(at="0") == own | {"at": "0", "features": None}
    taken = all_found(network, folder, cosine_power=2.0, smoothing=None)[0].settings["as_made"]
    assert taken == {"file": str(folder / "result.json"), "at": "2", "aggregate": "centre", "features": [4, 1]}


def test_folders_and_files_may_be_mixed(network: Network, eleven: Result, folder: Path) -> None:
    png = folder / eleven.file_names()[0]
    found = all_found(network, [png, folder, eleven.images[1]], "2")
    assert [one.name for one in found] == [
        png.stem,
        *(name.removesuffix(".png") for name in eleven.file_names()),
        "photo 2",
    ]
    assert torch.equal(found[1].image, eleven.images[0]) and torch.equal(found[12].image, eleven.images[1])


def test_a_png_by_itself_is_read_as_it_is(network: Network, eleven: Result, folder: Path) -> None:
    png = folder / eleven.file_names()[0]
    one = pi.recover(network, png, "2", progress=False)
    assert isinstance(one, pi.Recovery)
    assert torch.equal(one.image, (eleven.images[0] * 255).round() / 255)
    assert one.settings["exact"] == str(folder / EXACT) and "as_made" not in one.settings
    with pytest.raises(RequestError, match="nothing says at which tap 00-2-0 was made"):
        pi.recover(network, png)
    (folder / EXACT).unlink()
    alone = pi.recover(network, png, "2", progress=False)
    assert isinstance(alone, pi.Recovery) and "exact" not in alone.settings


def test_another_folder_stands_for_its_image_files(network: Network, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    (tmp_path / "below").mkdir()
    for name in ("b.png", "below/a.png"):
        to_pil(torch.rand(3, SIDE, SIDE, generator=generator)).save(tmp_path / name)
    (tmp_path / "result.json").write_text("not ours", encoding="utf-8")
    assert [one.name for one in all_found(network, tmp_path, "2")] == ["b", "a"]
    with pytest.raises(RequestError, match="nothing says at which tap b was made"):
        pi.recover(network, tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(RequestError, match="holds no image files"):
        pi.recover(network, tmp_path / "none", "2")


def test_without_result_json_the_pictures_are_as_exact(network: Network, eleven: Result, folder: Path) -> None:
    (folder / "result.json").unlink()
    assert torch.equal(all_found(network, folder, "2")[3].image, eleven.images[3])
    with pytest.raises(RequestError, match="nothing says at which tap 00-2-0 was made"):
        pi.recover(network, folder)


def test_steps_of_one_ascent_answer_one_question(network: Network, folder: Path) -> None:
    with pytest.raises(RequestError, match="answer one question, but these images were made for several"):
        pi.recover(network, folder, average=True)


@pytest.mark.parametrize("name", ["\0", "x" * 5000, "missing.png"])
def test_a_name_that_no_folder_can_have_is_none(network: Network, name: str) -> None:
    assert not is_folder(name)
    with pytest.raises(RequestError):
        pi.recover(network, name, "2")


# --- with suspicion ---------------------------------------------------------------------------------------------------

HEADERS: list[tuple[dict[str, Any], str]] = [
    ({"a.png": ("U8", [3, 4, 4])}, "has 'a.png' in U8, but pictures are in F32"),
    ({"a.png": ("F16", [3, 4, 4])}, "has 'a.png' in F16, but pictures are in F32"),
    ({"a.png": ("F64", [3, 4, 4])}, "has 'a.png' in F64, but pictures are in F32"),
    ({"a.png": ("F32", [4, 4])}, r"in the shape \[4, 4\], but a picture has \[3, H, W\] here"),
    ({"a.png": ("F32", [1, 3, 4, 4])}, r"in the shape \[1, 3, 4, 4\], but a picture has"),
    ({"a.png": ("F32", [1, 4, 4])}, r"in the shape \[1, 4, 4\], but a picture has"),
    ({"a.png": ("F32", [3, 0, 4])}, r"in the shape \[3, 0, 4\], but a picture has"),
    ({"../a.png": ("F32", [3, 4, 4])}, r"holds '\.\./a\.png', which is no name of a PNG that maximize writes"),
    ({"a\x1b[2J.png": ("F32", [3, 4, 4])}, r"holds 'a\\x1b\[2J\.png', which is no name"),
    ({"a.png": ("F32", [3, 4, 4]), "b": ("F32", [3, 4, 4])}, "holds 'b', which is no name"),
    ({}, "holds no pictures"),
]
_BYTES = {"U8": 1, "F16": 2, "F32": 4, "F64": 8}


def bare(header: dict[str, Any]) -> bytes:
    """A safetensors file of zeros, of any header."""
    entries, end = {}, 0
    for name, (dtype, shape) in header.items():
        start, end = end, end + torch.Size(shape).numel() * _BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


@pytest.mark.parametrize(("header", "says"), HEADERS)
def test_a_header_that_is_not_ours_is_refused(tmp_path: Path, header: dict[str, Any], says: str) -> None:
    (tmp_path / EXACT).write_bytes(bare(header))
    with pytest.raises(RequestError, match=says) as caught:
        pictures(tmp_path, 3)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_file_of_zeros_under_a_header_like_ours_is_read(tmp_path: Path) -> None:
    (tmp_path / EXACT).write_bytes(bare({"a.png": ("F32", [3, 4, 5])}))
    assert torch.equal(pictures(tmp_path, 3)[0].image, torch.zeros(3, 4, 5))


def test_too_many_pixels_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MAX_PIXELS", 12)
    (tmp_path / EXACT).write_bytes(bare({"a.png": ("F32", [3, 4, 3])}))
    assert len(pictures(tmp_path, 3)) == 1
    (tmp_path / EXACT).write_bytes(bare({"a.png": ("F32", [3, 4, 4])}))
    with pytest.raises(RequestError, match=r"has 'a\.png' with 4 x 4; more than 12 pixels are refused"):
        pictures(tmp_path, 3)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    whole = bytearray(bare({"a.png": ("F32", [3, 2, 2])}))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (folder / EXACT).write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    # Anything but a RequestError is a fault.
    with suppress(RequestError):
        assert all(0 <= one.image.min() <= one.image.max() <= 1 for one in pictures(folder, 3))


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"[" * 9000, bare({"a.png": ("F32", [3, 2, 2])})[:-1]])
def test_what_is_no_safetensors_file_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / EXACT).write_bytes(content)
    with pytest.raises(RequestError, match=r"pictures\.safetensors' cannot be read: ") as caught:
        pictures(tmp_path, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [-0.001, 1.001, float("nan"), float("inf")])
def test_values_lie_in_range(tmp_path: Path, value: float) -> None:
    image = torch.full((3, 2, 2), 0.5)
    image[1, 0, 1] = value
    save_file({"a.png": image}, tmp_path / EXACT)
    with pytest.raises(RequestError, match=r"has values in 'a\.png' that do not lie in \[0, 1\]"):
        pictures(tmp_path, 3)


def test_channels_are_the_network_s(folder: Path) -> None:
    with pytest.raises(RequestError, match=r"in the shape \[3, 16, 16\], but a picture has \[1, H, W\] here"):
        pictures(folder, 1)


def test_what_result_json_mentions_has_to_be_there(folder: Path) -> None:
    (folder / EXACT).unlink()
    with pytest.raises(RequestError, match=r"pictures\.safetensors' is not there, although '.*result\.json' mentions"):
        pictures(folder, 3)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / EXACT).mkdir()
    with pytest.raises(RequestError, match="is no file"):
        pictures(tmp_path, 3)


def test_both_files_are_of_one_result(folder: Path) -> None:
    kept = load_file(folder / EXACT)
    save_file(dict(list(kept.items())[1:]), folder / EXACT)
    with pytest.raises(RequestError, match=r"result\.json' lists other pictures than '.*pictures\.safetensors' holds"):
        pictures(folder, 3)


def test_the_pngs_are_the_same_pictures(eleven: Result, folder: Path) -> None:
    png = folder / eleven.file_names()[4]
    pixels = to_pil(eleven.images[4])
    pixels.putpixel((3, 3), (255, 0, 255))
    pixels.save(png)
    with pytest.raises(RequestError, match=r"04-2-4\.png' is not the picture that '.*' has by this name"):
        pictures(folder, 3)
    Image.new("RGB", (3, 5)).save(png)
    with pytest.raises(RequestError, match="is not the picture"):
        pictures(folder, 3)
    png.unlink()
    assert torch.equal(pictures(folder, 3)[4].image, eleven.images[4])


PLAIN: dict[str, Any] = {
    "at": "2",
    "after_relu": False,
    "aggregate": "mean",
    "cosine_power": 1,
    "features": [0, 3],
    "smoothing": 0.02,
}
WRONG: list[tuple[str, Any]] = [
    *(("at", value) for value in (None, 3, "", ["2"], {"x": 1}, "a\x1b[31m", "x" * 1001)),
    *(("after_relu", value) for value in (None, 0, "false")),
    *(("aggregate", value) for value in (None, "median", ["mean"], {})),
    *(("cosine_power", value) for value in (None, True, "2", -1, float("nan"), float("inf"), 10**400, [2])),
    *(("smoothing", value) for value in (None, False, 0, -0.01, float("nan"), float("inf"), "0.01")),
    *(("features", value) for value in ([], "01", [True], [-1], [0.5], ["0"], [10**9], {"0": 1}, 3)),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_of_result_json_only_plain_values_are_taken(folder: Path, key: str, value: Any) -> None:
    resaid(folder, lambda document: document["images"][2].update(question=PLAIN))
    read = pictures(folder, 3)[2].question
    assert read == Question(Place("2"), "mean", 1.0, (0, 3), 0.02)
    resaid(folder, lambda document: document["images"][2].update(question=PLAIN | {key: value}))
    with pytest.raises(RequestError, match=f'result\\.json\' does not say plainly what "{key}" is') as caught:
        pictures(folder, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda document: document.update(exact="/etc/passwd"), 'does not say plainly what "exact" is'),
        (lambda document: document.update(exact=["pictures.safetensors"]), 'what "exact" is'),
        (lambda document: document.update(images={}), 'what "images" is'),
        (lambda document: document.update(images=["00-2-0.png"]), 'what "images" is'),
        (lambda document: document["images"][0].update(file="../00-2-0.png"), 'what "file" is'),
        (lambda document: document["images"][0].update(file=None), 'what "file" is'),
        (lambda document: document["images"][0].update(question="2:0"), 'what "question" is'),
        (lambda document: document["images"].pop(), "lists other pictures than"),
    ],
)
def test_a_result_json_that_is_not_ours_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    resaid(folder, change)
    with pytest.raises(RequestError, match=says) as caught:
        pictures(folder, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b"{'exact': 1}"])
def test_a_result_json_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "result.json").write_bytes(content)
    with pytest.raises(RequestError, match=r"result\.json' is no JSON that can be read: ") as caught:
        pictures(folder, 3)
    assert "\n" not in str(caught.value)


def test_a_result_json_without_names_is_not_ours(folder: Path) -> None:
    (folder / "result.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(RequestError, match=r"result\.json' is not what maximize writes"):
        pictures(folder, 3)


def test_a_huge_result_json_is_refused_unread(folder: Path) -> None:
    with (folder / "result.json").open("r+b") as file:
        file.truncate(64 * 2**20 + 1)
    with pytest.raises(RequestError, match="more than 67,108,864 bytes"):
        pictures(folder, 3)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(PLAIN)), _JSON)
def test_a_question_is_read_back_or_refused(key: str, value: Any) -> None:
    document = json.loads(json.dumps(PLAIN | {key: value}))
    with suppress(RequestError):
        read = Question.read(document, Path("result.json"))
        assert read.as_dict() == document
        assert Question.read(read.as_dict(), Path("result.json")) == read


def test_pictures_of_another_network_are_refused(network: Network, folder: Path, tmp_path: Path) -> None:
    resaid(folder, lambda document: document["images"][0]["question"].update(at="layer4"))
    with pytest.raises(RequestError, match="small has no tap 'layer4'"):
        pi.recover(network, folder)
    resaid(folder, lambda document: document["images"][0]["question"].update(at="2", features=[0, 77]))
    with pytest.raises(RequestError, match="has features 0 to 5, not"):
        pi.recover(network, folder)


def test_a_copied_folder_is_as_good(network: Network, eleven: Result, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere")
    shutil.rmtree(folder)
    found = pictures([tmp_path / "elsewhere"], 3)
    assert [one.source for one in found][:1] == [f"{tmp_path / 'elsewhere' / EXACT}:00-2-0.png"]
    assert torch.equal(stacked(found), eleven.images)


def stacked(found: list[exact.Picture]) -> Tensor:
    return torch.stack([one.image for one in found])


def test_pictures_of_five_channels_are_kept_too(tmp_path: Path) -> None:
    """Of which a PNG shows the channels side by side."""
    torch.manual_seed(0)
    network = Network(nn.Sequential(nn.Conv2d(5, 4, 3), nn.ReLU()), 8, name="five")
    result = made(network, "0:1")
    assert isinstance(result.made, pi.result.Making) and isinstance(result.made.parametrization, SigmoidPixels)
    folder = result.save(tmp_path)
    assert torch.equal(stacked(pictures(folder, 5)), result.images)
    assert all_found(network, folder)[0].image.shape == (5, 8, 8)
