"""The report: what is on the page, and how it behaves in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import preimage as pi
from command import Run
from preimage.images import centre_crop
from preimage.invert import Inversion
from preimage.report import making, suggested_taps, write_report
from preimage.report.plot import HEIGHT, WIDTH, sparkline
from preimage.report.writing import Report


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on a small network and one photograph, whose name and labels try to break out of the page."""
    folder = tmp_path_factory.mktemp("report")
    photo = folder / "a <b>photo.png"
    Image.new("RGB", (50, 40), (200, 120, 30)).save(photo)
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, 2, 1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    )
    labels = ["cat", "<script>alert(1)</script>", 'say "dog"', "a & b"]
    network = pi.Network(module, 32, labels=labels, name="tiny")
    return write_report(network, folder / "out", photos=[photo], units=3, classes=4, steps=5).page


def test_no_console_error_and_every_image_loads(browser: webdriver.Chrome, page: Path) -> None:
    browser.get(page.as_uri())
    sizes = browser.execute_script("return [...document.querySelectorAll('main img')].map(i => i.naturalWidth)")
    others = browser.find_elements(By.CSS_SELECTOR, ".others img")
    assert 6 <= len(others) <= 9  # some methods have no rule for this network
    # The photo, why it answers so for four classes, twice, and what others say, what two layers know of it, three of
    # its classes, four classes, three units of two layers.
    assert len(sizes) == 1 + 2 * 4 + len(others) + 2 + 3 + 4 + 2 * 3
    assert min(sizes) > 0
    assert browser.get_log("browser") == []


def test_a_click_opens_the_picture_large_and_keys_go_on(browser: webdriver.Chrome, page: Path) -> None:
    browser.get(page.as_uri())
    dialog = browser.find_element(By.TAG_NAME, "dialog")
    assert not dialog.is_displayed()
    buttons = browser.find_elements(By.CSS_SELECTOR, "figure button")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", buttons[1])
    buttons[1].click()
    assert dialog.is_displayed()
    large = dialog.find_element(By.TAG_NAME, "img")
    shown = buttons[1].find_element(By.TAG_NAME, "img")
    assert large.get_attribute("src") == shown.get_attribute("src")
    assert large.size["width"] > shown.size["width"]
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    following = buttons[2].find_element(By.TAG_NAME, "img")
    assert large.get_attribute("src") == following.get_attribute("src")
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()
    assert browser.get_log("browser") == []


def test_it_fits_a_phone(browser: webdriver.Chrome, page: Path) -> None:
    browser.get(page.as_uri())
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390
        widths = browser.execute_script(
            "return [...document.querySelectorAll('.sheet figure')].map(f => f.offsetWidth)"
        )
        assert min(widths) > 150  # two side by side
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_names_from_elsewhere_stay_text(browser: webdriver.Chrome, page: Path) -> None:
    browser.get(page.as_uri())
    assert "a <b>photo.png" in [h.text for h in browser.find_elements(By.TAG_NAME, "h2")]
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 1
    titles = {title.text for title in browser.find_elements(By.CSS_SELECTOR, ".title")}
    assert {"<script>alert(1)</script>", 'say "dog"', "a & b", "channel 0"} <= titles


def test_each_picture_says_how_it_was_made(browser: webdriver.Chrome, page: Path) -> None:
    browser.get(page.as_uri())
    figure = browser.find_elements(By.CSS_SELECTOR, "#tap-0 figure")[1]
    browser.execute_script("arguments[0].querySelector('details').open = true", figure)
    said = figure.text
    for part in ("channel 2", "0:2", "3 x 3 px", "2 x 2 px", "recipe default, 5 steps, 32 x 32 px, seed 0"):
        assert part in said
    assert figure.find_element(By.CSS_SELECTOR, "path").get_attribute("d").count("L") == 4  # five steps


def test_the_folder_needs_nothing_outside(page: Path) -> None:
    text = page.read_text("utf-8")
    assert "http" not in text
    document = json.loads((page.parent / "result.json").read_text("utf-8"))
    for image in document["images"]:
        assert f'src="{image["file"]}"' in text
        assert (page.parent / image["file"]).is_file()


def test_the_command_writes_it(preimage: Run, tiny: str, tmp_path: Path) -> None:
    done = preimage("report", f"{tiny}:net", "-o", "tour", "--units", "1", "--classes", "2", "--steps", "2", "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "tour/result.json").read_text())
    assert (tmp_path / "tour/index.html").is_file()
    assert document["model"] == f"{tiny}:net"


def test_layers_are_spread_from_first_to_last() -> None:
    module = torch.nn.Sequential(
        *[torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.ReLU()) for _ in range(11)]
    )
    names = [tap.name for tap in suggested_taps(pi.Network(module, 16), 6)]
    assert names == ["0", "2", "4", "6", "8", "10"]


def test_a_trace_is_drawn_from_left_to_right_and_low_to_high() -> None:
    assert sparkline([0.0, 2.0, 1.0]) == f"M0.0,{HEIGHT - 2:.1f}L{WIDTH / 2:.1f},2.0L{WIDTH:.1f},{HEIGHT / 2:.1f}"
    assert sparkline([float("nan")]) == ""
    assert sparkline([1.0]).startswith("M0.0,")
    assert sparkline(list(map(float, range(1000)))).count("L") < 60


def test_a_photograph_is_cropped_at_its_centre() -> None:
    image = torch.zeros(3, 20, 40)
    image[:, :, 10:30] = 1
    assert torch.equal(centre_crop(image, (20, 20)), torch.ones(3, 20, 20))
    assert centre_crop(image, (32, 48)).shape == (3, 32, 48)


# --- what each depth still knows of a photo -----------------------------------------------------------------------

ODD = '<i>first"'
"""The name of a layer that tries to break out of the page."""


def deep() -> pi.Network:
    """Five convolutions, of which a strip shows some."""
    torch.manual_seed(0)
    module = torch.nn.Sequential()
    for i in range(5):
        module.add_module(ODD if i == 0 else f"conv{i}", torch.nn.Conv2d(3 if i == 0 else 6, 6, 3, padding=1))
        module.add_module(f"relu{i}", torch.nn.ReLU())
    module.add_module("pool", torch.nn.AdaptiveAvgPool2d(1))
    module.add_module("flat", torch.nn.Flatten())
    module.add_module("head", torch.nn.Linear(6, 4))
    return pi.Network(module, 16, labels=["cat", "dog", "newt", "crane"], name="deep", channels=3)


def photographs(folder: Path) -> list[Path]:
    levels = torch.rand(24, 30, 3, generator=torch.Generator().manual_seed(0)).mul(255).byte().numpy()
    for name, picture in (("one.png", levels), ("two.png", 255 - levels)):
        Image.fromarray(picture).save(folder / name)
    return [folder / "one.png", folder / "two.png"]


def short(folder: Path, **options: Any) -> tuple[Report, dict[str, Any], str]:
    """A report of photos and nothing else: what was made, its JSON and its page."""
    asked: dict[str, Any] = {"units": 0, "classes": 0, "reasons": 0, "steps": 3} | options
    made = write_report(asked.pop("network", None) or deep(), folder / "out", **asked)
    document = json.loads((folder / "out/result.json").read_text("utf-8"), parse_constant=pytest.fail)
    return made, document, made.page.read_text("utf-8")


@pytest.fixture(scope="module")
def strips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strips")
    return short(folder, photos=photographs(folder), depths=3)[0].page


def test_a_strip_shows_a_photo_at_so_many_depths(strips: Path, tmp_path: Path) -> None:
    document = json.loads((strips.parent / "result.json").read_text("utf-8"))
    text = strips.read_text("utf-8")
    assert text.count('<div class="strip depths">') == 2
    shown = [(one["photo"], one["tap"]) for one in document["inversions"]]
    assert shown == [(photo, tap) for photo in ("one.png", "two.png") for tap in (ODD, "conv2", "conv4")]
    files = [one["file"] for one in document["inversions"]]
    assert len(set(files)) == 6
    for one in document["inversions"]:
        assert f'src="{one["file"]}"' in text
        assert 0 < one["feature_error"] < 10
        with Image.open(strips.parent / one["file"]) as picture:
            assert picture.size == (16, 16)
    assert document["images"] and all(one["file"] not in files for one in document["images"])
    # They are what the function makes.
    network = deep()
    made = pi.invert(network, photographs(tmp_path)[0], [ODD, "conv2", "conv4"], steps=3)
    found = [one["feature_error"] for one in document["inversions"][:3]]
    assert found == pytest.approx(made.feature_errors.tolist(), rel=1e-3)


def test_a_click_on_a_strip_says_the_feature_error(browser: webdriver.Chrome, strips: Path) -> None:
    browser.get(strips.as_uri())
    document = json.loads((strips.parent / "result.json").read_text("utf-8"))
    figures = browser.find_elements(By.CSS_SELECTOR, ".depths figure")
    assert len(figures) == 6
    dialog = browser.find_element(By.TAG_NAME, "dialog")
    for figure, one in list(zip(figures, document["inversions"], strict=True))[:4]:
        button, error = figure.find_element(By.TAG_NAME, "button"), f"{one['feature_error']:.3f}"
        browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button)
        assert figure.find_element(By.CSS_SELECTOR, ".title").text == one["tap"]
        assert figure.find_element(By.CSS_SELECTOR, ".score").text == error
        said = figure.find_element(By.TAG_NAME, "figcaption").get_attribute("title")
        assert "recipe default, 3 steps, seed 0; pixel error 0." in (said or "")
        button.click()
        assert dialog.is_displayed()
        assert dialog.find_element(By.TAG_NAME, "span").text == f"what {one['tap']} still knows, feature error {error}"
        assert (dialog.find_element(By.TAG_NAME, "img").get_attribute("src") or "").endswith(one["file"])
        browser.switch_to.active_element.send_keys(Keys.ESCAPE)
        assert not dialog.is_displayed()
    # From the last picture of a strip the arrow goes on to what the network wants to see.
    last = figures[2].find_element(By.TAG_NAME, "button")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", last)
    last.click()
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert "score" in dialog.find_element(By.TAG_NAME, "span").text
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert browser.get_log("browser") == []


def test_a_strip_fits_a_phone(browser: webdriver.Chrome, strips: Path) -> None:
    browser.get(strips.as_uri())
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_names_of_layers_stay_text(browser: webdriver.Chrome, strips: Path) -> None:
    browser.get(strips.as_uri())
    assert browser.find_elements(By.TAG_NAME, "i") == []
    first = browser.find_element(By.CSS_SELECTOR, ".depths img")
    assert first.get_attribute("alt") == f"what {ODD} still knows"


def test_no_depths_no_strip(tmp_path: Path) -> None:
    made, document, text = short(tmp_path, photos=photographs(tmp_path), depths=0)
    assert document["inversions"] == []
    assert 'class="strip depths"' not in text and "still knows" not in text
    assert not list((tmp_path / "out/images").glob("*depth*"))
    assert made.pictures == len(document["images"]) == 6  # three classes of each photo


def test_no_photo_no_strip(tmp_path: Path) -> None:
    _, document, text = short(tmp_path, classes=1, depths=3)
    assert document["inversions"] == []
    assert 'class="strip' not in text


@pytest.mark.parametrize("depths", [1, 2, 5, 9])
def test_there_are_as_many_depths_as_layers_at_most(depths: int, tmp_path: Path) -> None:
    _, document, _ = short(tmp_path, photos=photographs(tmp_path)[:1], depths=depths)
    taps = [one["tap"] for one in document["inversions"]]
    assert len(taps) == min(depths, 5)
    assert taps[-1] == "conv4"
    assert taps == [tap for tap in (ODD, "conv1", "conv2", "conv3", "conv4") if tap in taps]


def test_layers_that_were_asked_for_are_the_depths(tmp_path: Path) -> None:
    _, document, _ = short(tmp_path, photos=photographs(tmp_path)[:1], at=["conv3", "relu1"], depths=1)
    assert [one["tap"] for one in document["inversions"]] == ["relu1", "conv3"]  # from early to late
    _, document, _ = short(tmp_path, photos=photographs(tmp_path)[:1], at=["conv3"], depths=0)
    assert document["inversions"] == []


def test_ctrl_c_in_a_strip_keeps_the_depths_that_were_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second photo's strip: the first is whole, and there is one of the second's."""
    network, real, calls = deep(), making.invert, []

    def pressed(*args: Any, **options: Any) -> Inversion:
        calls.append(1)
        if len(calls) <= 3:
            return real(*args, **options)
        left = [1 + 2]  # the features of a depth, and two looks

        def press(*_: Any) -> None:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

        handle = network.module.register_forward_pre_hook(press)
        try:
            return real(*args, **options)
        finally:
            handle.remove()

    monkeypatch.setattr(making, "invert", pressed)
    made, document, text = short(tmp_path, network=network, photos=photographs(tmp_path), depths=3, classes=2)
    assert made.interrupted and document["interrupted"] is True
    assert "The run was interrupted" in text
    assert [(one["photo"], one["tap"]) for one in document["inversions"]] == [
        ("one.png", ODD),
        ("one.png", "conv2"),
        ("one.png", "conv4"),
        ("two.png", ODD),
    ]
    assert len(document["images"]) == 3  # the first photo's classes
    assert "two.png" in text


def test_the_command_takes_the_number_of_depths(preimage: Run, tiny: str, tmp_path: Path) -> None:
    one = photographs(tmp_path)[0]
    words = ("report", f"{tiny}:net", one, "-o", "tour", "--units", "0", "--classes", "0", "--steps", "2", "--json")
    for depths, taps in (("0", []), ("1", ["3"]), ("2", ["0", "3"])):
        done = preimage(*words, "--depths", depths)
        assert done.returncode == 0
        assert [known["tap"] for known in json.loads(done.stdout)["inversions"]] == taps
    assert preimage(*words, "--depths", "-1").returncode == 2


def dead() -> pi.Network:
    """One of its layers gives the same for every image, as one does that was pruned or died in training."""
    network = deep()
    torch.nn.init.zeros_(network.module.conv2.weight)  # type: ignore[arg-type, union-attr]
    return network


def test_a_layer_that_knows_nothing_is_no_reason_to_have_no_report(tmp_path: Path) -> None:
    _, document, _ = short(tmp_path, network=dead(), photos=photographs(tmp_path)[:1], depths=5)
    assert {ODD, "conv1"} <= {one["tap"] for one in document["inversions"]}
