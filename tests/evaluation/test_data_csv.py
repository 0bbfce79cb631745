"""Tables: what is written comes back as it was."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from preimage.evaluation.data import Annotation, open_data

WIDTH, HEIGHT = 50, 40
few = settings(max_examples=40, deadline=None)
labels = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9)
floats = {"allow_nan": False, "allow_infinity": False}


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    left, right = sorted(draw(st.lists(st.floats(0, WIDTH, **floats), min_size=2, max_size=2, unique=True)))  # type: ignore[arg-type]
    top, bottom = sorted(draw(st.lists(st.floats(0, HEIGHT, **floats), min_size=2, max_size=2, unique=True)))  # type: ignore[arg-type]
    return left, top, right, bottom


def written(folder: Path, header: list[str], rows: list[list[object]]) -> str:
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return f"csv:{folder / 't.csv'}"


@few
@given(st.lists(st.tuples(st.sampled_from(["a, b.png", 'c"d.png', "é.png"]), labels, boxes()), min_size=1, max_size=9))
def test_boxes_come_back_as_they_were_written(rows: list[tuple[str, str, tuple[float, float, float, float]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in {path for path, _, _ in rows}:
            Image.new("L", (WIDTH, HEIGHT)).save(folder / path)
        source = written(folder, "path label x0 y0 x1 y1".split(), [[path, label, *box] for path, label, box in rows])
        data = open_data(source)
        assert data.faults == ()
        assert [one.path.name for one in data.examples] == list(dict.fromkeys(path for path, _, _ in rows))
        for example in data.examples:
            its = [(label, box) for path, label, box in rows if path == example.path.name]
            assert list(example.annotations) == [Annotation(label, box) for label, box in its]
            assert list(example.labels) == list(dict.fromkeys(label for label, _ in its))
        assert data.labels == sorted({label for _, label, _ in rows})


@few
@given(
    st.lists(
        st.tuples(st.floats(0, WIDTH, exclude_max=True), st.floats(0, HEIGHT, exclude_max=True), labels), min_size=1
    )
)
def test_points_come_back_as_they_were_written(points: list[tuple[float, float, str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.new("L", (WIDTH, HEIGHT)).save(folder / "a.png")
        rows: list[list[object]] = [["a.png", "dog", *point] for point in points]
        (example,) = open_data(written(folder, "path label x y name".split(), rows)).examples
        assert [one.points for one in example.annotations] == [((name, x, y),) for x, y, name in points]
        assert example.labels == ("dog",)


def test_labels_alone_and_columns_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "deep" / "a.png")
    (example,) = open_data(
        written(tmp_path, ["label", "path"], [["dog", "deep/a.png"], ["cat", "./deep/a.png"]])
    ).examples
    assert example.labels == ("dog", "cat") and example.annotations == ()
    header = "name x1 y1 x0 y0 label x y path".split()
    rows: list[list[object]] = [
        ["eye", 9, 8, 1, 2, "dog", 3, 4, "deep/a.png"],
        ["", "", "", "", "", "cat", "", "", "deep/a.png"],
    ]
    (example,) = open_data(written(tmp_path, header, rows)).examples
    assert example.annotations == (Annotation("dog", (1, 2, 9, 8), points=(("eye", 3, 4),)),)
    assert example.labels == ("dog", "cat")


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    """A mark of the byte order, lines that end as on Windows, empty lines, and space around cells."""
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    text = '\ufeffpath, label,x0,y0,x1,y1\r\n\r\na.png, dog ,1,2,3.5, 4\r\n"a.png","big, dog",1,2,3,4\r\n'
    (tmp_path / "t.csv").write_bytes(text.encode())
    (example,) = open_data(f"csv:{tmp_path / 't.csv'}").examples
    assert example.annotations == (Annotation("dog", (1, 2, 3.5, 4)), Annotation("big, dog", (1, 2, 3, 4)))
