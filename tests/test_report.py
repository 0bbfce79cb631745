"""The report: what is on the page, and how it behaves in a real browser."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import preimage as pi
from command import Run
from preimage.images import centre_crop
from preimage.report import suggested_taps, write_report
from preimage.report.plot import HEIGHT, WIDTH, sparkline

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1280,900"
).split()


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


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        if os.environ.get("CI"):
            pytest.fail("chromium and chromedriver must be installed where CI runs")
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def test_no_console_error_and_every_image_loads(browser: webdriver.Chrome, page: Path) -> None:
    browser.get(page.as_uri())
    sizes = browser.execute_script("return [...document.querySelectorAll('main img')].map(i => i.naturalWidth)")
    assert len(sizes) == 1 + 3 + 4 + 2 * 3  # the photo, three of its classes, four classes, three units of two layers
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
        widths = browser.execute_script("return [...document.querySelectorAll('figure')].map(f => f.offsetWidth)")
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
