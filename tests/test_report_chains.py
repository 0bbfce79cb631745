"""Chains on a page: what is written, what is said of copies, and how the film behaves in a real browser."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from torch import Tensor, nn

from command import Run
from preimage import Chain, Network, RequestError
from preimage.report import Report, write_report
from preimage.report.chains import chains_html, chains_page, chains_script, chains_style, curve, made_chains
from preimage.report.plot import HEIGHT, WIDTH

SIDE, EVERY = 8, 5
ASKED = ["class:0 (<script>alert(1)</script>)", "class:1 (dog)"]


def noise(count: int, seed: int) -> Tensor:
    return torch.rand((count, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))


def chain(kept: int = 6, samples: Tensor | None = None, **settings: Any) -> Chain:
    """Two chains of each of two questions; sample t of chain c is of one grey, (t + c / 10) / 10."""
    count = 4
    if samples is None:
        greys = (torch.arange(kept)[:, None] + torch.arange(count) / 10) / (kept + 4)
        samples = greys[:, :, None, None, None].expand(kept, count, 3, SIDE, SIDE).contiguous()
    done = kept * EVERY
    trace = -5 + 5 * torch.linspace(0.0, 1.0, done)[:, None].expand(done, count) * torch.tensor([0.5, 1.0, 0.2, 0.9])
    said = {"prior": "a <b>prior", "gradient": "logprob", "epsilons": [1e-5, 1.0, 0.0], "network": "n", "seed": 3}
    return Chain(
        samples,
        [EVERY * (t + 1) for t in range(kept)],
        torch.zeros(kept, count, 2),
        trace[EVERY - 1 :: EVERY],
        trace,
        done,
        [ASKED[0]] * 2 + [ASKED[1]] * 2,
        {**said, **settings},
        torch.zeros(count, 2),
        {},
    )


# --- what is written --------------------------------------------------------------------------------------------------


def test_each_chain_is_a_strip_of_its_samples(tmp_path: Path) -> None:
    made = chain()
    shown = made_chains(made, tmp_path)
    strips = [strip for asked in shown.asked for strip in asked.chains]
    assert len(strips) == 4 and shown.steps == made.kept and shown.pictures == 24
    for i, strip in enumerate(strips):
        pixels = np.asarray(Image.open(tmp_path / strip.strip))
        assert pixels.shape == (SIDE, 6 * SIDE, 3)
        expected = torch.cat(list(made.samples[:, i]), 2).permute(1, 2, 0)
        np.testing.assert_allclose(pixels / 255, expected, atol=0.5 / 255 + 1e-6)


def test_long_chains_are_thinned_evenly_and_keep_both_ends(tmp_path: Path) -> None:
    made = chain(kept=150)
    shown = made_chains(made, tmp_path)
    assert len(shown.steps) == 40
    assert (shown.steps[0], shown.steps[-1]) == (made.kept[0], made.kept[-1])
    gaps = np.diff(shown.steps) / EVERY
    assert set(gaps.tolist()) <= {3.0, 4.0}  # 149 / 39 = 3.8
    assert Image.open(tmp_path / shown.asked[0].chains[0].strip).width == 40 * SIDE


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (one.split(",") for one in re.split("[ML]", path)[1:])]


def test_a_curve_goes_through_every_step_between_the_bounds_of_its_question(tmp_path: Path) -> None:
    assert points(curve([0.0, 2.0, 1.0, 2.0], 0.0, 2.0)) == [
        (WIDTH / 4, HEIGHT - 2),
        (WIDTH / 2, 2),
        (WIDTH * 3 / 4, HEIGHT / 2),
        (WIDTH, 2),
    ]
    assert points(curve([math.nan, 1.0], 0.0, 1.0)) == [(WIDTH, 2)]
    assert curve([math.inf], 0.0, 1.0) == ""
    long = points(curve([float(i) for i in range(1003)], 0.0, 1002.0))
    assert len(long) <= 200 and long[-1] == (WIDTH, 2)
    # Both chains of a question share one scale, to which those of the other are nothing.
    asked = made_chains(chain(), tmp_path).asked
    assert points(asked[1].chains[1].curve)[-1][1] == 2
    first, second = (points(strip.curve) for strip in asked[0].chains)
    assert first[0][1] == second[0][1] == HEIGHT - 2
    assert second[-1][1] == 2 and first[-1][1] == pytest.approx(HEIGHT / 2, abs=0.1)


def test_probabilities_are_said_where_scores_are_their_logarithms(tmp_path: Path) -> None:
    (first, second) = made_chains(chain(), tmp_path).asked[0].chains
    space = "\N{NO-BREAK SPACE}"
    assert first.score == f"{100 * math.exp(-2.5):.0f}{space}%" and second.score == f"100{space}%"
    assert made_chains(chain(gradient="logit"), tmp_path).asked[0].chains[0].score == "-2.5"


# --- is it memory? ----------------------------------------------------------------------------------------------------


def test_a_copy_is_called_one_and_a_sample_of_its_own_is_not(tmp_path: Path) -> None:
    """Chain 1 ends in a training image, 2 and 4 in other pictures of the same kind, 3 in flat grey, near to all."""
    training, held_out, other = noise(300, 1), noise(200, 2), noise(2, 3)
    last = torch.stack([training[17], other[0], torch.full((3, SIDE, SIDE), 0.5), other[1]])
    samples = torch.stack([torch.zeros_like(last), last])
    shown = made_chains(
        chain(2, samples), tmp_path, training=(training * 255).round().to(torch.uint8), held_out=held_out
    )
    strips = [strip for asked in shown.asked for strip in asked.chains]
    assert [strip.verdict for strip in strips] == ["perhaps a copy", "no copy", "near to many", "no copy"]
    assert [strip.kind for strip in strips] == ["bad", "good", "fair", "good"]
    assert strips[0].neighbours[0].index == 17 and len(strips[0].neighbours) == 5
    assert float(strips[0].neighbours[0].distance) < 0.5 / 255
    pixels = np.asarray(Image.open(tmp_path / strips[0].neighbours[0].file))
    np.testing.assert_allclose(pixels / 255, training[17].permute(1, 2, 0), atol=0.5 / 255 + 1e-6)
    assert "2 of 4 last samples are nearer to a training image than 99" in shown.memory
    second = strips[1].neighbours[0]
    difference = (training[second.index] * 255).round() / 255 - other[0]
    assert float(second.distance) == pytest.approx(difference.square().mean().sqrt().item(), abs=1e-3)


def test_without_held_out_images_nothing_is_claimed(tmp_path: Path) -> None:
    shown = made_chains(chain(), tmp_path, training=noise(10, 1))
    strips = [strip for asked in shown.asked for strip in asked.chains]
    assert {(strip.verdict, strip.kind) for strip in strips} == {("not told", "open")}
    assert "Is it memory" not in shown.memory
    assert made_chains(chain(), tmp_path).memory == ""


def test_training_images_may_be_a_folder_of_any_sizes(tmp_path: Path) -> None:
    for i in range(3):
        pixels = (noise(1, i)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).resize((16, 8) if i else (SIDE, SIDE)).save(tmp_path / f"{i}.png")
    samples = noise(1, 0)[None].expand(1, 4, 3, SIDE, SIDE)
    strip = made_chains(chain(1, samples), tmp_path / "out", training=tmp_path).asked[0].chains[0]
    assert strip.neighbours[0].index == 0 and len(strip.neighbours) == 3
    assert {one.name for one in strip.neighbours} == {"0.png", "1.png", "2.png"}
    assert strip.neighbours[0].name == "0.png"
    assert float(strip.neighbours[0].distance) < 0.5 / 255


def test_features_may_be_compared_instead_of_pixels(tmp_path: Path) -> None:
    network = Network(torch.nn.Conv2d(3, 2, 3), SIDE, channels=3)
    options: dict[str, Any] = {
        "training": noise(150, 1),
        "held_out": noise(120, 2),
        "network": network,
        "tap": "output",
    }
    shown = made_chains(chain(), tmp_path, **options)
    assert "features at output" in shown.memory and "1 - cosine" in shown.memory


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="say training="):
        chains_page(chain(), tmp_path, held_out=noise(200, 1))
    with pytest.raises(RequestError, match="at least 100 held-out images"):
        chains_page(chain(), tmp_path, training=noise(10, 1), held_out=noise(99, 2))
    with pytest.raises(RequestError, match="no pixels in common"):
        chains_page(chain(), tmp_path, training=torch.rand(10, 3, 4, 4))
    with pytest.raises(RequestError, match="holds no image files"):
        chains_page(chain(), tmp_path / "out", training=tmp_path / "out")


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chains_page(chain(), tmp_path_factory.mktemp("chains"), training=noise(20, 1), held_out=noise(100, 2))


@pytest.fixture
def calm(browser: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """A browser whose reader has asked for less motion."""
    wanted = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
    yield browser
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def shown_step(browser: webdriver.Chrome) -> int:
    return int(browser.find_element(By.CSS_SELECTOR, ".player output").text.removeprefix("step "))


def test_every_image_loads_and_names_from_elsewhere_stay_text(browser: webdriver.Chrome, page: Path) -> None:
    browser.get(page.as_uri())
    sizes = browser.execute_script("return [...document.querySelectorAll('main img')].map(i => i.naturalWidth)")
    assert len(sizes) == 4 * (1 + 5) and min(sizes) > 0
    assert [h.text for h in browser.find_elements(By.TAG_NAME, "h3")] == ASKED
    assert browser.find_element(By.TAG_NAME, "h1").text == "Chains of a <b>prior"
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 1
    assert browser.get_log("browser") == []
    for image in re.findall(r"(?:src=\"|url\(')([^\"']+)", page.read_text("utf-8")):
        assert (page.parent / image).is_file()
    assert "http" not in page.read_text("utf-8")


def test_the_film_plays_by_itself_and_can_be_stopped(browser: webdriver.Chrome, page: Path) -> None:
    browser.get(page.as_uri())
    button = browser.find_element(By.CSS_SELECTOR, ".player button")
    assert button.text == "Pause"
    seen = browser.execute_async_script(
        "const done = arguments[0], seen = new Set(), o = document.querySelector('.player output');"
        "const t = setInterval(() => { seen.add(o.textContent);"
        " if (seen.size === 6) { clearInterval(t); done([...seen]); } }, 20);"
    )
    assert set(seen) == {f"step {EVERY * (t + 1)}" for t in range(6)}
    button.click()
    assert button.text == "Play"
    before = shown_step(browser)
    browser.execute_async_script("setTimeout(arguments[0], 500)")
    assert shown_step(browser) == before


def test_whoever_asked_for_less_motion_gets_none_until_they_play(calm: webdriver.Chrome, page: Path) -> None:
    calm.get(page.as_uri())
    button = calm.find_element(By.CSS_SELECTOR, ".player button")
    assert button.text == "Play" and shown_step(calm) == 30
    calm.execute_async_script("setTimeout(arguments[0], 500)")
    assert shown_step(calm) == 30
    button.click()
    assert button.text == "Pause"
    button.click()


def test_slider_keys_and_a_click_on_a_strip_show_that_sample(calm: webdriver.Chrome, page: Path) -> None:
    """What is shown large is cut from the strip at the right place: grey t, as `chain` has it."""
    calm.get(page.as_uri())

    def grey() -> float:
        frame = calm.find_element(By.CSS_SELECTOR, ".now .frame")
        pixels = np.asarray(Image.open(BytesIO(frame.screenshot_as_png)).convert("L"), float)
        middle = pixels[pixels.shape[0] // 4 : -(pixels.shape[0] // 4), 8:-8]
        assert np.ptp(middle) <= 1  # nothing of its neighbours
        return float(middle.mean()) / 255

    slider = calm.find_element(By.CSS_SELECTOR, ".player input")
    for _ in range(2):
        slider.send_keys(Keys.ARROW_LEFT)
    assert shown_step(calm) == 20
    assert grey() == pytest.approx(3 / 10, abs=2 / 255)
    film = calm.find_element(By.CSS_SELECTOR, ".film")
    calm.execute_script(
        "const box = arguments[0].getBoundingClientRect();"
        "arguments[0].dispatchEvent(new MouseEvent('click', {clientX: box.left + box.width * 1.5 / 6, bubbles: true}))",
        film,
    )
    assert shown_step(calm) == 10
    assert grey() == pytest.approx(1 / 10, abs=2 / 255)
    assert slider.get_attribute("value") == "1"


def test_small_pictures_are_enlarged_pixel_by_pixel(browser: webdriver.Chrome, page: Path) -> None:
    browser.get(page.as_uri())
    style = "return getComputedStyle(document.querySelector('{}')).imageRendering"
    for part in (".now .frame", ".film img", ".nearest img"):
        assert browser.execute_script(style.format(part)) == "pixelated"


@pytest.mark.parametrize("width", [390, 820])
def test_it_fits_small_screens(calm: webdriver.Chrome, page: Path, width: int) -> None:
    calm.get(page.as_uri())
    screen = {"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    calm.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        assert calm.execute_script("return document.documentElement.scrollWidth") == width
    finally:
        calm.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag not in ("img", "input", "path", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "path":
            assert self.open.pop() == tag


def test_the_section_alone_is_one_element_for_another_page(tmp_path: Path) -> None:
    html = chains_html(made_chains(chain(), tmp_path, prefix="pictures/walk"))
    tags = Tags()
    tags.feed(html)
    assert tags.open == [] and tags.seen[0] == "section" and tags.seen.count("section") == 1
    assert "figure" not in tags.seen  # whose buttons the report's own script opens large
    assert len(list((tmp_path / "pictures").glob("walk-*.png"))) == 4
    assert "prefers-reduced-motion" in chains_script() and ".chain" in chains_style()


# --- in a report ------------------------------------------------------------------------------------------------------


def saved(folder: Path, samples: Tensor | None = None, **settings: Any) -> Path:
    """A folder such as `preimage sample` writes."""
    made = chain(6 if samples is None else len(samples), samples, **{"network": repr(small()), **settings})
    made.randomness = {name: torch.zeros(1, 8, dtype=torch.uint8) for name in ("noise", "pulls", "views")}
    return made.save(folder)


def small() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    return Network(module, 16, labels=["cat", "dog", "eel"], name="small", channels=3)


def pictured(folder: Path, images: Tensor) -> Path:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(folder / f"{i:03}.png")
    return folder


def reported(folder: Path, chains: list[Path | Chain], **options: Any) -> tuple[Report, dict[str, Any], str]:
    """A report of chains and little else: what was made, its JSON and its page."""
    asked: dict[str, Any] = {"units": 0, "classes": 0, "steps": 2, "chains": chains, **options}
    made = write_report(small(), folder / "out", **asked)
    document = json.loads((folder / "out/result.json").read_text("utf-8"), parse_constant=pytest.fail)
    return made, document, made.page.read_text("utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with all that it can have, and two folders of chains."""
    folder = tmp_path_factory.mktemp("whole")
    (photos := folder / "photos").mkdir()
    Image.new("RGB", (20, 20), (200, 120, 30)).save(photos / "one.png")
    made, _, _ = reported(
        folder,
        [saved(folder / "first"), saved(folder / "second <b>")],
        photos=[photos / "one.png"],
        depths=1,
        reasons=0,
        units=1,
        classes=2,
        training=pictured(folder / "training", noise(20, 1)),
        held_out=pictured(folder / "held-out", noise(100, 2)),
    )
    return made.page


def test_a_report_has_a_section_of_chains_behind_the_photos(browser: webdriver.Chrome, whole: Path) -> None:
    browser.get(whole.as_uri())
    headings = [h.text for h in browser.find_elements(By.TAG_NAME, "h2")]
    folder = whole.parent.parent
    titles = [f"Samples, step by step: {folder / name}" for name in ("first", "second <b>")]
    assert headings == ["one.png", *titles, "Classes", "0"]
    links = browser.find_elements(By.CSS_SELECTOR, "nav a")
    assert [link.text for link in links] == headings
    for link, heading in zip(links, headings, strict=True):
        target = (link.get_attribute("href") or "").partition("#")[2]
        found = browser.execute_script(
            "return [...document.querySelectorAll('[id]')].filter(e => e.id === arguments[0])"
            ".map(e => e.querySelector('h2').textContent)",
            target,
        )
        assert found == [heading]
    sizes = browser.execute_script("return [...document.querySelectorAll('main img')].map(i => i.naturalWidth)")
    # The photo, its three classes, a depth, two classes, a unit; of eight chains the strip and five training images.
    assert len(sizes) == 1 + 3 + 1 + 2 + 1 + 8 * (1 + 5) and min(sizes) > 0
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 1
    assert browser.get_log("browser") == []


def test_in_a_report_films_and_large_pictures_do_not_disturb_each_other(calm: webdriver.Chrome, whole: Path) -> None:
    calm.get(whole.as_uri())
    first, second = calm.find_elements(By.CSS_SELECTOR, ".player")
    slider = first.find_element(By.TAG_NAME, "input")
    calm.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", slider)
    slider.send_keys(Keys.ARROW_LEFT)
    assert first.find_element(By.TAG_NAME, "output").text == "step 25"
    assert second.find_element(By.TAG_NAME, "output").text == "step 30"
    dialog = calm.find_element(By.TAG_NAME, "dialog")
    button, following = calm.find_elements(By.CSS_SELECTOR, "#classes figure button")
    calm.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button)
    button.click()
    assert dialog.is_displayed()
    calm.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    large = dialog.find_element(By.TAG_NAME, "img").get_attribute("src")
    assert large == following.find_element(By.TAG_NAME, "img").get_attribute("src")
    calm.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert first.find_element(By.TAG_NAME, "output").text == "step 25"
    assert calm.get_log("browser") == []


@pytest.mark.parametrize("width", [390, 820])
def test_a_report_with_chains_fits_small_screens(calm: webdriver.Chrome, whole: Path, width: int) -> None:
    calm.get(whole.as_uri())
    screen = {"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    calm.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        assert calm.execute_script("return document.documentElement.scrollWidth") == width
    finally:
        calm.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_json_of_a_report_names_chains_and_what_is_near(tmp_path: Path) -> None:
    training = noise(150, 1)
    last = torch.stack([training[7], *noise(3, 3)])
    folder = saved(tmp_path / "walked", torch.stack([torch.zeros_like(last), last]))
    images = {"training": pictured(tmp_path / "t", training), "held_out": pictured(tmp_path / "h", noise(100, 2))}
    made, document, text = reported(tmp_path, [folder], **images)
    (one,) = document["chains"]
    assert one["folder"] == str(folder) and one["steps"] == 10
    assert [walk["objective"] for walk in one["chains"]] == [ASKED[0]] * 2 + [ASKED[1]] * 2
    assert [walk["score"] for walk in one["chains"]] == pytest.approx([-2.5, 0, -4, -0.5], abs=1e-5)
    assert [walk["verdict"] for walk in one["chains"]] == ["perhaps a copy", "no copy", "no copy", "no copy"]
    nearest = one["chains"][0]["nearest"][0]
    assert nearest["image"] == "007.png" and nearest["distance"] < 0.5 / 255
    for walk in one["chains"]:
        assert f'src="{walk["file"]}"' in text and (tmp_path / "out" / walk["file"]).is_file()
    assert document["images"] == [] and made.pictures == 0
    assert [section.title for section in made.chains] == ["Samples, step by step"]
    assert "http" not in text


def test_chains_need_no_folder_and_without_them_a_report_says_nothing_of_any(tmp_path: Path) -> None:
    made, document, _ = reported(tmp_path, [chain()])
    assert made.chains[0].count == 4 and document["chains"][0]["folder"] == ""
    _, document, text = reported(tmp_path, [], classes=1)
    assert "chain" not in text and "chains" not in document


def test_chains_of_another_network_say_so(tmp_path: Path) -> None:
    folders: list[Path | Chain] = [saved(tmp_path / "own"), saved(tmp_path / "other", network="Network(<other>)")]
    made, _, text = reported(tmp_path, folders)
    assert [section.other for section in made.chains] == ["", "Network(<other>)"]
    assert text.count("Network(&lt;other&gt;)") == 2  # what was asked, and among the settings
    assert "<other>" not in text


def test_chains_without_a_prior_walk_from_noise(tmp_path: Path) -> None:
    _, _, text = reported(tmp_path, [saved(tmp_path / "free", prior=None)])
    assert "pictures of" not in text and "None" not in text and "no prior" not in text


def broken(folder: Path, **changed: Tensor) -> Path:
    """Saved chains, of whose tensors some are others."""
    file = saved(folder) / "chain.safetensors"
    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    save_file({**load_file(file), **changed}, file, about)
    return folder


def test_what_is_no_chain_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """The page that was there stays, file by file."""
    _, _, _ = reported(tmp_path, [saved(tmp_path / "good")])
    (tmp_path / "empty").mkdir()
    (saved(tmp_path / "cut") / "chain.safetensors").write_bytes(
        (tmp_path / "good/chain.safetensors").read_bytes()[:-100]
    )
    save_file({"weight": torch.zeros(3)}, saved(tmp_path / "foreign") / "chain.safetensors")
    samples = noise(24, 1).reshape(6, 4, 3, SIDE, SIDE)
    broken(tmp_path / "flat", samples=samples[:, :, 0].contiguous())
    broken(tmp_path / "fewer", samples=samples[:5].contiguous())
    broken(tmp_path / "scores", scores=torch.zeros(6, 3))
    broken(tmp_path / "trace", trace=torch.zeros(30))
    broken(tmp_path / "bright", samples=2 * samples)
    broken(tmp_path / "nan", samples=samples * math.nan)
    pictures = pictured(tmp_path / "pictures", noise(9, 1))
    before = {path: path.read_bytes() for path in sorted((tmp_path / "out").rglob("*")) if path.is_file()}
    good = tmp_path / "good"
    for chains, options, said in (
        (["missing"], {}, "holds no chains"),
        (["empty"], {}, "holds no chains"),
        (["good", "empty"], {}, "empty' holds no chains"),
        (["cut"], {}, "cannot be read"),
        (["foreign"], {}, "cannot be read"),
        (["flat"], {}, r"are broken: samples \[6, 4, 8, 8\]"),
        (["fewer"], {}, r"do not belong to 6 kept steps of 4 chains"),
        (["scores"], {}, r"scores \[6, 3\]"),
        (["trace"], {}, r"scores of every step, \[30\]"),
        (["bright"], {}, "not all values of their images"),
        (["nan"], {}, "not all values of their images"),
        (["good"], {"held_out": pictures}, "say training="),
        (["good"], {"training": pictures, "held_out": pictures}, "at least 100 held-out images"),
        (["good"], {"training": tmp_path / "missing"}, "is not a folder"),
        ([], {"training": pictures}, "give chains, too"),
    ):
        with pytest.raises(RequestError, match=said):
            reported(tmp_path, [tmp_path / name for name in chains], classes=1, **options)
        assert {path: path.read_bytes() for path in sorted((tmp_path / "out").rglob("*")) if path.is_file()} == before
    with pytest.raises(RequestError, match=r"would replace the result\.json of the chains there"):
        write_report(small(), tmp_path / "out/../good", chains=[good])
    assert not (good / "index.html").exists()


# --- the commands -----------------------------------------------------------------------------------------------------

WALK = ("-o", "walked", "--prior", "none", "--sampler", "no-prior", "--steps", "4", "--every", "2", "--chains", "2")


def test_what_sample_wrote_report_shows(preimage: Run, tiny: str, tmp_path: Path) -> None:
    done = preimage("sample", f"{tiny}:net", "class:dog", *WALK, "--animation")
    assert done.returncode == 0, done.stderr
    films = sorted((tmp_path / "walked").glob("*-chain.webp"))
    assert [film.name for film in films] == ["0-class-1-dog-chain.webp", "1-class-1-dog-chain.webp"]
    with Image.open(films[0]) as film:
        assert film.size == (128, 128) and getattr(film, "n_frames", 1) == 2
    pictured(tmp_path / "seen", noise(3, 1))
    words = ("report", f"{tiny}:net", "-o", "tour", "--units", "0", "--classes", "0", "--chains", "walked")
    done = preimage(*words, "--training", "seen")
    assert (done.returncode, done.stdout) == (0, "0 pictures, 2 chains: tour/index.html\n"), done.stderr
    text = (tmp_path / "tour/index.html").read_text("utf-8")
    assert 'id="chains"' in text and 'href="#chains"' in text and "training image 000.png" in text
    document = json.loads(preimage(*words, "--json").stdout)
    assert [len(walk["nearest"]) for walk in document["chains"][0]["chains"]] == [0, 0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--chains", "nowhere"), "holds no chains"),
        (("--chains", "."), "holds no chains"),
        (("--training", "."), "give chains, too"),
    ],
)
def test_a_wrong_request_for_chains_gets_one_line(
    preimage: Run, tiny: str, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    pictured(tmp_path / "seen", noise(1, 1))
    done = preimage("report", f"{tiny}:net", "-o", "tour", *words)
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "tour/index.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--training", "seen"), "say --report"),
        (("--report", "--held-out", "seen"), "say --training"),
        (("--report", "--training", "nowhere"), "is not a folder"),
    ],
)
def test_sample_looks_at_what_its_page_needs_before_it_walks(
    preimage: Run, tiny: str, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    pictured(tmp_path / "seen", noise(1, 1))
    done = preimage("sample", f"{tiny}:net", "class:dog", *WALK, *words)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    assert list((tmp_path / "walked").iterdir()) == []
