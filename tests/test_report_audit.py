"""What the report says of pictures whose recipe lets one tell what they are the answer to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import preimage as pi
from preimage.report import making, write_report


def network() -> pi.Network:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    )
    return pi.Network(module, 24, labels=["cat", "<i>dog</i>", "cow", "hen"], name="tiny")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    return write_report(network(), folder / "out", units=2, classes=2, recipe="plain", steps=60).page


def test_every_picture_says_what_it_is_the_answer_to(plain: Path) -> None:
    said = plain.read_text()
    pictures = json.loads((plain.parent / "result.json").read_text())["images"]
    assert len(pictures) >= 4
    for one in pictures:
        assert one["audit"]["says"].startswith(f"asked for {one['objective']}; the picture is the answer to ")
        assert "cosine" in one["audit"]["says"]
    assert said.count("<dt>audit</dt>") == len(pictures)
    assert "<i>dog</i>" not in said


def test_other_recipes_say_nothing_of_it(tmp_path: Path) -> None:
    page = write_report(network(), tmp_path / "out", units=1, classes=1, steps=3).page
    assert "<dt>audit</dt>" not in page.read_text()


def test_ctrl_c_in_an_audit_keeps_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: object) -> making.Audited:
        raise KeyboardInterrupt

    monkeypatch.setattr(making, "_audited", pressed)
    made = write_report(network(), tmp_path / "out", units=1, classes=1, recipe="plain", steps=5)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["interrupted"]
    assert any(section.pictures for section in made.sections)
