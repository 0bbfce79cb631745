"""What a person sees of explanations: pictures, sheets and files, made of values that are known."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageShow
from torch import Tensor

from preimage.errors import RequestError
from preimage.explain.explanation import Explanation, Explanations
from preimage.explain.overlay import overlay
from preimage.explain.sheet import answers, table
from preimage.images import to_pil

SIDE, GAP, MARGIN = 192, 10, 16
NAMES = (
    *("mask", "mask-preserve", "mask-both", "gradient", "guided-backprop", "deconvnet", "excitation-backprop"),
    *("contrastive-excitation-backprop", "grad-cam", "occlusion", "blur-occlusion", "variable-occlusion"),
    *("integrated-gradients", "smoothgrad", "rise", "extremal"),
)


def rand(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def explanation(
    method: str = "mask", photo: int = 0, objective: str = "prob:281 (tabby)", channels: int = 3, **fields: Any
) -> Explanation:
    heatmap = rand(100 + photo, 24, 32) - (method == "integrated-gradients") * 0.5
    mask = 1 - heatmap if method.startswith("mask") else None
    scores = {"photo": 0.875} | ({} if mask is None else {"masked": 0.0625, "perturbed": 0.03125})
    given = {"heatmap": heatmap, "mask": mask, "scores": scores, **fields}
    return Explanation(rand(photo, channels, 24, 32), f"photo {photo}", photo, objective, method, **given)


def several(
    methods: Sequence[str], photos: int = 1, objectives: Sequence[str] = ("class:281 (tabby)",)
) -> Explanations:
    """As `explain` returns them: masks ask probabilities where the others ask logits."""
    settings = {"verb": "explain", "methods": [{"name": name} for name in methods]}
    return Explanations(
        [
            explanation(name, i, said.replace("class:", "prob:") if "mask" in name else said, settings=settings)
            for i in range(photos)
            for said in objectives
            for name in methods
        ]
    )


def array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB")).astype(int)


def columns(count: int, side: int = SIDE) -> list[int]:
    """Where the columns of a sheet begin."""
    return [MARGIN + i * (side + GAP) for i in range(count)]


# Tables


def test_a_row_for_each_photo_and_question_and_a_column_for_each_method() -> None:
    made = several(["mask", "gradient", "grad-cam"], photos=2, objectives=["class:1 (a)", "class:2 (b)"])
    titles, rows = table(made)
    assert titles == ["mask", "gradient", "grad-cam"]
    assert [[one and (one.of, one.objective, one.method) for one in row.made] for row in rows] == [
        [(of, f"prob:{said}", "mask"), (of, f"class:{said}", "gradient"), (of, f"class:{said}", "grad-cam")]
        for of in (0, 1)
        for said in ("1 (a)", "2 (b)")
    ]


def test_the_same_class_asked_in_two_ways_has_two_rows() -> None:
    settings = {"methods": [{"name": "mask"}, {"name": "gradient"}]}
    said = [("mask", "prob:1"), ("gradient", "prob:1"), ("mask", "prob:1"), ("gradient", "class:1")]
    made = [explanation(method, objective=one, settings=settings) for method, one in said]
    titles, rows = table(made)
    assert titles == ["mask", "gradient"]
    assert [[one is made[2 * i + j] for j, one in enumerate(row.made)] for i, row in enumerate(rows)] == [
        [True] * 2
    ] * 2


def test_methods_of_one_name_are_told_apart_by_their_settings() -> None:
    asked = [{"name": "mask", "beta": 3.0, "l1": 1e-4}, {"name": "mask", "beta": 2.0, "l1": 1e-4}, {"name": "rise"}]
    made = [
        explanation(one["name"], photo, settings={"methods": asked})
        for photo in (0, 1)
        for one in asked  # type: ignore[arg-type]
    ]
    titles, rows = table(made)
    assert titles == ["mask beta=3.0", "mask beta=2.0", "rise"]
    assert [len([one for one in row.made if one]) for row in rows] == [3, 3]


def test_what_ctrl_c_left_out_is_left_out() -> None:
    """The first method came to both photos, the second to one."""
    done = several(["mask", "gradient"], photos=2)[:3]
    titles, rows = table(done)
    assert titles == ["mask", "gradient"]
    assert [[one is not None for one in row.made] for row in rows] == [[True, True], [True, False]]
    assert done.sheet().size == several(["mask", "gradient"], photos=2).sheet().size


def test_explanations_of_several_calls_are_put_together() -> None:
    """Each call counts its photos from 0."""
    one = explanation("mask", 0, settings={"methods": [{"name": "mask"}]})
    same = explanation("gradient", 0, "class:281 (tabby)", settings={"methods": [{"name": "gradient"}]})
    other = replace(explanation("mask", 1, settings={"methods": [{"name": "mask"}]}), of=0, name=one.name)
    _, rows = table([one, same, other])
    assert [[bool(found) for found in row.made] for row in rows] == [[True, True], [True, False]]
    assert len({files["photo_file"] for files in Explanations([one, same, other]).files()}) == 2


# Pictures


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("method", ["mask", "gradient", "integrated-gradients"])
def test_a_picture_shows_every_view(method: str, channels: int) -> None:
    one = explanation(method, channels=channels)
    picture = one.picture(side=64)
    count = 4 if one.mask is not None else 3
    assert picture.width == 2 * MARGIN + count * 64 + (count - 1) * GAP
    pixels = array(picture)
    top = next(y for y in range(picture.height) if (pixels[y, MARGIN : MARGIN + 64] < 255).any(1).all())
    expected = array(to_pil(overlay(one.photo, one.heatmap)).resize((64, 48), Image.Resampling.NEAREST))
    left = columns(3, 64)[2]
    np.testing.assert_array_equal(pixels[top : top + 48, left : left + 64], expected)


def test_a_caption_says_what_was_asked_how_and_what_was_answered() -> None:
    one = explanation("mask", mask=torch.full((24, 32), 0.25))
    assert answers(one) == "photo 0.875, masked 0.0625, perturbed 0.0312, keeps 25% of the photo"
    assert answers(explanation("gradient")) == "photo 0.875"
    plain, noted = one.picture(), replace(one, notes=["the mask did not converge"]).picture()
    assert noted.height > plain.height
    red = array(noted)[plain.height - MARGIN :]
    assert ((red[..., 0] > red[..., 1] + 100) & (red[..., 1] < 60)).any()


@pytest.mark.parametrize(("methods", "photos"), [(1, 1), (2, 3), (5, 20), (16, 2)])
def test_a_sheet_is_a_table_whose_columns_never_touch(methods: int, photos: int) -> None:
    """However long names and notes are: what lies between the columns and around them is white."""
    made = several(NAMES[:methods], photos, ["class:12 (house finch, linnet, " + "Carpodacus mexicanus, " * 9 + ")"])
    made[0].notes.append("no mask was found that does better than none: do not read it, " * 4)
    made[0].name = "a_very_long_file_name_without_any_place_to_break_it_" * 3
    sheet = made.sheet()
    lefts = columns(1 + methods)
    assert sheet.mode == "RGB"
    assert sheet.width == lefts[-1] + SIDE + MARGIN
    assert sheet.height < 120 + photos * (SIDE + 150) + 100
    pixels = array(sheet)[:-30]  # above the legend
    for left in (*lefts, lefts[-1] + SIDE + GAP):
        assert (pixels[:, left - GAP + 1 : left - 1] == 255).all()
    for left in lefts:
        assert (pixels[:, left : left + SIDE] < 255).any(axis=(1, 2)).sum() >= photos * 144  # 4 : 3 pictures
    assert (pixels[: MARGIN // 2] == 255).all()


def test_every_picture_on_a_sheet_stands_in_its_place() -> None:
    made = several(["gradient", "integrated-gradients", "rise"], photos=3)
    pixels = array(made.sheet(side=64))
    tops = []
    for i, one in enumerate(made):
        expected = array(to_pil(overlay(one.photo, one.heatmap)).resize((64, 48), Image.Resampling.NEAREST))
        strip = pixels[:, columns(4, 64)[1 + i % 3] :][:, :64]
        tops.append([y for y in range(len(strip) - 48) if np.array_equal(strip[y : y + 48], expected)])
    assert all(len(found) == 1 for found in tops)
    for i in range(0, 9, 3):
        assert tops[i] == tops[i + 1] == tops[i + 2]
    assert tops[0] < tops[3] < tops[6]


def test_the_legend_speaks_of_both_sides_only_where_there_are_two() -> None:
    blue = [
        (pixels[..., 2] - pixels[..., 0] > 60).any()
        for pixels in (array(several([name]).sheet())[-30:] for name in ("gradient", "integrated-gradients"))
    ]
    assert blue == [False, True]


def test_photos_smaller_and_of_other_shapes_stand_side_by_side() -> None:
    wide, tall = explanation("gradient", 0), explanation("gradient", 1)
    tall = replace(tall, photo=rand(5, 3, 50, 20), heatmap=rand(6, 50, 20))
    sheet = Explanations([wide, tall]).sheet(side=100)
    assert sheet.width >= columns(2, 100)[-1] + 100 + MARGIN
    assert sheet.height > 75 + 100


@pytest.mark.parametrize("side", [0, -3, 15, 100_000])
def test_a_side_that_is_none(side: int) -> None:
    with pytest.raises(RequestError, match="from 16 to 4096 pixels"):
        explanation().picture(side)
    with pytest.raises(RequestError, match="from 16 to 4096 pixels"):
        several(["mask"]).sheet(side)


# Files


def test_save_writes_everything_and_says_where(tmp_path: Path) -> None:
    made = several(["mask", "integrated-gradients"], photos=2, objectives=["class:1 (a)", "class:2 (b/c)"])
    path = made.save(tmp_path / "new" / "out")
    document = json.loads((path / "result.json").read_text(), parse_constant=pytest.fail)
    assert document == made.as_dict()
    named = [name for one in document["explanations"] for key, name in one.items() if key.endswith("file")]
    assert len(set(named)) == 8 + 8 + 4 + 2
    assert {file.name for file in path.iterdir()} == {*named, "sheet.png", "result.json"}
    for one, said in zip(made, document["explanations"], strict=True):
        raw = np.load(path / said["heatmap_file"])
        assert raw.dtype == np.float32
        np.testing.assert_array_equal(raw, one.heatmap.numpy())
        np.testing.assert_array_equal(array(Image.open(path / said["photo_file"])), array(to_pil(one.photo)))
        shown = array(to_pil(overlay(one.photo, one.heatmap)))
        np.testing.assert_array_equal(array(Image.open(path / said["file"])), shown)
        assert ("mask_file" in said) == (one.mask is not None)
        if one.mask is not None:
            np.testing.assert_allclose(np.asarray(Image.open(path / said["mask_file"])) / 255, one.mask, atol=0.5 / 255)
    np.testing.assert_array_equal(array(Image.open(path / "sheet.png")), array(made.sheet()))
    assert document["explanations"][3]["file"] == "3-photo-0-class-2-b-c-integrated-gradients.png"


def test_one_is_saved_as_one_of_several(tmp_path: Path) -> None:
    one = explanation("mask", settings={"verb": "explain"})
    one.save(tmp_path / "one")
    Explanations([one]).save(tmp_path / "several")
    names = {file.name for file in (tmp_path / "one").iterdir()}
    assert names == {file.name for file in (tmp_path / "several").iterdir()}
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "several" / name).read_bytes() for name in names)


def test_a_heat_map_that_is_not_finite_is_saved_as_it_is(tmp_path: Path) -> None:
    heatmap = rand(0, 24, 32)
    heatmap[3, 4] = torch.nan
    path = explanation("gradient", heatmap=heatmap, scores={"photo": float("nan")}).save(tmp_path)
    (said,) = json.loads((path / "result.json").read_text(), parse_constant=pytest.fail)["explanations"]
    assert said["scores"] == {"photo": None}
    np.testing.assert_array_equal(np.load(path / said["heatmap_file"]), heatmap.numpy())


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the first heat map is written: half of it must not be left behind."""

    def full(file: Path, _: Any) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="no space left"):
        several(["mask"]).save(tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} == {".png"}
    for file in tmp_path.iterdir():
        Image.open(file).load()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot write to the folder"):
        explanation().save(tmp_path / "file")


def test_there_may_be_none(tmp_path: Path) -> None:
    none = Explanations([])
    assert repr(none) == "Explanations(none)"
    for wrong in (none.sheet, none.show, lambda: none.save(tmp_path / "out")):
        with pytest.raises(RequestError, match="there are no explanations"):
            wrong()
    assert not (tmp_path / "out").exists()


def test_ctrl_c_between_two_methods_is_said() -> None:
    """No explanation is cut short, but not all that were asked are there."""
    done = several(["gradient", "rise"])[:1]
    assert not done.interrupted
    assert not done.as_dict()["interrupted"]
    done.settings["interrupted"] = True
    assert done.interrupted
    assert done.as_dict()["interrupted"] is True


# Showing


def test_a_notebook_shows_every_view_and_nothing_that_a_name_smuggles_in() -> None:
    one = explanation("mask", objective="class:1 (<script>alert(1)</script>)", scores={})
    page = one._repr_html_()
    assert page.count("<figure") == page.count("data:image/png;base64,") == 4
    assert "<script>" not in page
    assert explanation("gradient")._repr_html_().count("<figure") == 3
    made = several(["mask", "gradient"], photos=3)
    assert made._repr_html_().count("<figure") == 3 * (1 + 2)
    assert made._repr_html_().count("<div") == 3


def test_show_opens_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Viewer(ImageShow.Viewer):
        def show(self, image: Image.Image, **_: Any) -> bool:
            seen.append(image)
            return True

    monkeypatch.setattr(ImageShow, "_viewers", [Viewer()])
    one, both = explanation(), several(["mask", "gradient"])
    assert one.show() is None  # type: ignore[func-returns-value]
    assert both.show() is None  # type: ignore[func-returns-value]
    np.testing.assert_array_equal(array(seen[0]), array(one.picture()))
    np.testing.assert_array_equal(array(seen[1]), array(both.sheet()))


def test_where_no_window_can_be_opened_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageShow, "_viewers", [])
    with pytest.raises(RequestError, match=r"no program was found that shows pictures; save\(FOLDER\)"):
        explanation().show()


@pytest.mark.parametrize("in_notebook", [True, False])
def test_show_in_a_notebook_displays_itself(monkeypatch: pytest.MonkeyPatch, in_notebook: bool) -> None:
    """IPython in a terminal has a shell too, but no kernel."""
    displayed: list[object] = []
    shell = SimpleNamespace(kernel=object()) if in_notebook else SimpleNamespace()
    ipython = SimpleNamespace(get_ipython=lambda: shell, display=SimpleNamespace(display=displayed.append))
    monkeypatch.setitem(sys.modules, "IPython", ipython)  # type: ignore[arg-type]
    monkeypatch.setattr(ImageShow, "show", lambda _: True)
    one = explanation()
    one.show()
    assert displayed == ([one] if in_notebook else [])
