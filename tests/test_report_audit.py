"""What the report says of pictures whose recipe lets one tell what they are the answer to."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest
import torch
from selenium import webdriver

import preimage as pi
from preimage.recover import Audit
from preimage.recover.audit import ALIKE
from preimage.report import making, write_report
from preimage.report.writing import Report


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
def plain(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("audited")
    return write_report(network(), folder / "out", units=2, classes=4, recipe="plain", steps=60)


def test_every_picture_says_what_it_is_the_answer_to(plain: Report) -> None:
    said = plain.page.read_text()
    pictures = json.loads((plain.page.parent / "result.json").read_text())["images"]
    assert len(pictures) >= 6
    for one in pictures:
        assert one["audit"]["says"].startswith(f"asked for {one['objective']}")
        assert 0 <= one["audit"]["cosine"] <= 1
        assert html.escape(one["audit"]["says"]) in said.replace("&#39;", "&#x27;")
    assert said.count('class="badge ') == said.count("the audit in full") == len(pictures)
    assert "<i>dog</i>" not in said and "&lt;i&gt;dog&lt;/i&gt;" in said


def test_a_verdict_is_what_the_numbers_say(plain: Report) -> None:
    for section in plain.sections:
        for picture in section.pictures:
            audit = picture.audit
            assert audit is not None
            assert (audit.verdict in ("as asked", "probably as asked")) == (audit.cosine >= ALIKE)
            assert [one.percent for one in audit.answer] == sorted((one.percent for one in audit.answer), reverse=True)
            assert sum((one.percent / 100) ** 2 for one in audit.answer) <= 1 + 1e-9
            heights = [height for height, _ in audit.spectrum]
            assert heights == sorted(heights) and heights[-1] == pytest.approx(100)


def test_classes_have_names_and_channels_numbers(plain: Report) -> None:
    for section in plain.sections:
        names = {one.name for picture in section.pictures if picture.audit for one in picture.audit.answer}
        if section.anchor == "classes":
            assert names <= {"cat", "<i>dog</i>", "cow", "hen"}
        else:
            assert all(name.startswith("channel ") for name in names)


def test_pictures_are_audited_together(tmp_path: Path) -> None:
    """What moves none of five pictures is found over all of them, and left out of each."""
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 6)
    with torch.no_grad():
        head.weight *= 10
        head.weight -= head.weight.mean(0)
    layers = [torch.nn.Conv2d(3, 16, 5, 2), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3), torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), head)
    net = pi.Network(module, 16, labels=list("abcdef"), name="centred")
    made = write_report(net, tmp_path / "out", at=[], classes=5, recipe="plain", steps=300)
    assert "left out 1 direction that moves none of the 5 pictures" in made.page.read_text()
    for one in json.loads((tmp_path / "out" / "result.json").read_text())["images"]:
        assert one["audit"]["left_out"]["directions"] == 1


def test_a_picture_that_answers_nothing_says_so_and_spoils_no_other(tmp_path: Path) -> None:
    net = network()
    made = pi.maximize(net, ["0:0", "0:1"], recipe="plain", steps=5)
    real = made.audit

    def audit(images: list[int] | None = None) -> list[Audit]:
        if images is None or 0 in images:
            raise pi.RequestError("no feature answers this image")
        return real(images)

    made.audit = audit  # type: ignore[method-assign, assignment]
    dead, alive = making._audits(made)
    assert dead == "no feature answers this image"
    assert isinstance(alive, Audit) and alive.objective == "0:1"


def test_the_page_fits_a_phone_with_audits_open(browser: webdriver.Chrome, plain: Report) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        browser.get(plain.page.as_uri())
        browser.execute_script("document.querySelectorAll('.audit details').forEach(one => one.open = true)")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        # Sentences get the width of the page, not of a thumbnail.
        widths = browser.execute_script(
            "return [...document.querySelectorAll('.audit details p')].map(one => one.getBoundingClientRect().width)"
        )
        assert widths and min(widths) > 300
        assert browser.get_log("browser") == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_other_recipes_say_nothing_of_it(tmp_path: Path) -> None:
    page = write_report(network(), tmp_path / "out", units=1, classes=1, steps=3).page
    assert 'class="badge ' not in page.read_text()


def test_ctrl_c_in_an_audit_keeps_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: object) -> making.Audited:
        raise KeyboardInterrupt

    monkeypatch.setattr(making, "_audited", pressed)
    made = write_report(network(), tmp_path / "out", units=1, classes=1, recipe="plain", steps=5)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["interrupted"]
    assert any(section.pictures for section in made.sections)
