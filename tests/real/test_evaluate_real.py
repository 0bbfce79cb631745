"""`evaluate` on a trained network and real photographs in each format: boxes know where the objects are."""

from __future__ import annotations

from pathlib import Path

import pytest

import preimage as pi
from preimage.explain import SmoothGrad

pytestmark = pytest.mark.real

DATA = Path(__file__).parent.parent / "evaluation" / "data"
SOURCES = {
    "folder": f"folder:{DATA / 'photos'}",
    "csv": f"csv:{DATA / 'photos/boxes.csv'}",
    "coco": f"coco:{DATA / 'photos'},{DATA / 'instances.json'}",
    "voc": f"voc:{DATA / 'voc'}",
}


def test_a_gradient_finds_what_chance_does_not(squeezenet: pi.Network) -> None:
    """The photographs of a network that knows them: fewer pixels have to go in the gradient's order."""
    made = pi.evaluate(
        squeezenet,
        SOURCES["folder"],
        ["deletion", "grid-pointing"],
        [SmoothGrad(samples=5), "grad-cam"],
        progress=False,
    )
    assert made.failures == {}
    assert {one.of for one in made.summary} == {3}
    assert all(row["probability"] is not None and 0 < row["probability"] <= 1 for row in made.rows)
    means = {method: made.of("grid-pointing", "localisation", method).mean for method in ("grad-cam", "random")}
    assert means["grad-cam"] is not None and means["random"] is not None
    assert means["random"] == pytest.approx(0.25, abs=0.02)  # a quarter of the pixels are in the cell
    assert means["grad-cam"] > means["random"]


@pytest.mark.parametrize("kind", ["csv", "coco", "voc"])
def test_every_format_names_the_same_photos_and_classes(squeezenet: pi.Network, kind: str, tmp_path: Path) -> None:
    names = {"n01440764": "tench", "n03000684": "chain saw"}
    data = SOURCES[kind]
    classes = {one: names.get(one, one) for one in pi.evaluation.data.open_data(data).labels}  # type: ignore[attr-defined]
    made = pi.evaluate(
        squeezenet, data, ["pointing", "localisation"], "grad-cam", classes=classes, out=tmp_path, progress=False
    )
    assert {row["class"] for row in made.rows} <= {0, 491}
    hits = made.of("pointing", "all", "grad-cam")
    assert hits.mean is not None and hits.count >= 3
    again = pi.evaluate(
        squeezenet, data, ["pointing", "localisation"], "grad-cam", classes=classes, out=tmp_path, progress=False
    )
    assert again.rows == made.rows
