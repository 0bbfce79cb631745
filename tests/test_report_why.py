"""Why a network answers a photo as it does: masks, curves and other methods on the page of a report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from torch import Tensor, nn

import preimage as pi
from command import Run
from preimage.evaluation import deletion_curve
from preimage.explain import Explanations, Mask
from preimage.images import centre_crop, read_image
from preimage.objectives import label
from preimage.report import making, write_report
from preimage.report import why as why_module
from preimage.report.plot import HEIGHT, WIDTH, falling
from preimage.report.why import BASELINES, why
from preimage.report.writing import Report

SIDE = 16
LABELS = ["<script>alert(1)</script>", 'say "dog"', "a & b", "newt", "crane"]
"""From the likeliest to the least; some try to break out of the page."""
LIKELY = [0.5, 0.3, 0.15, 0.046, 0.004]
"""Of a grey photo, about."""


def network(*, likely: list[float] | None = None, labels: list[str] | None = LABELS, **named: nn.Module) -> pi.Network:
    """Two rectified convolutions, and these probabilities but for what the photo changes of them."""
    torch.manual_seed(0)
    module = nn.Sequential()
    module.add_module("conv", nn.Conv2d(3, 6, 3, padding=1))
    module.add_module("relu", nn.ReLU())
    for name, one in named.items():
        module.add_module(name, one)
    module.add_module("pool", nn.AdaptiveAvgPool2d(2))
    module.add_module("flat", nn.Flatten())
    head = nn.Linear(24, len(likely or LIKELY))
    with torch.no_grad():
        head.weight.mul_(0.1)
        head.bias.copy_(torch.tensor(likely or LIKELY).log())
    module.add_module("head", head)
    return pi.Network(module, SIDE, labels=labels, name="small", channels=3)


def photograph(folder: Path, name: str = "one.png", seed: int = 0) -> Path:
    levels = torch.rand(24, 30, 3, generator=torch.Generator().manual_seed(seed)).mul(255).byte().numpy()
    Image.fromarray(levels).save(folder / name)
    return folder / name


def fitted(path: Path) -> Tensor:
    return centre_crop(read_image(path, 3), (SIDE, SIDE))


def short(folder: Path, net: pi.Network, photos: list[Path], **options: Any) -> tuple[Report, dict[str, Any], str]:
    """A report of photos and nothing else: what was made, its JSON and its page."""
    asked: dict[str, Any] = {"units": 0, "classes": 0, "depths": 0, "steps": 3, **options}
    made = write_report(net, folder / "out", photos=photos, **asked)
    document = json.loads((folder / "out/result.json").read_text("utf-8"), parse_constant=pytest.fail)
    return made, document, made.page.read_text("utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("why")
    return short(folder, network(), [photograph(folder, "a <b>photo.png")])[0].page


# --- the section --------------------------------------------------------------------------------------------------


def test_there_is_a_mask_for_each_class_of_one_per_cent_and_more(page: Path, tmp_path: Path) -> None:
    document = json.loads((page.parent / "result.json").read_text("utf-8"))
    reasons, text = document["reasons"], page.read_text("utf-8")
    # The fifth has 0.4 per cent.
    assert [one["class"] for one in reasons] == LABELS[:4]
    assert text.count("Why it answers so") == 1
    assert [one["probability"] for one in reasons] == sorted((one["probability"] for one in reasons), reverse=True)
    for i, one in enumerate(reasons):
        assert one["photo"] == "a <b>photo.png"
        assert one["file"] == f"images/photo0-why{i}.png"
        assert 0.01 <= one["probability"] <= 1 and 0 <= one["marked"] <= 1
        for name in (one["file"], f"images/photo0-kept{i}.png"):
            assert f'src="{name}"' in text
            with Image.open(page.parent / name) as picture:
                assert picture.size == (SIDE, SIDE)
        assert f"{100 * one['probability']:.1f} % to {100 * one['under_the_mask']:.1f} %" in text


def test_they_are_what_the_functions_make(page: Path, tmp_path: Path) -> None:
    net, photo = network(), fitted(photograph(tmp_path))
    made = pi.explain(net, [photo], [f"class:{k}" for k in range(4)], method=Mask(iterations=3), least_probability=0)
    assert isinstance(made, Explanations)
    document = json.loads((page.parent / "result.json").read_text("utf-8"))
    for one, said in zip(made, document["reasons"], strict=True):
        assert one.mask is not None
        assert said["probability"] == pytest.approx(one.scores["photo"], rel=1e-4)
        assert said["under_the_mask"] == pytest.approx(one.scores["masked"], rel=1e-3)
        assert said["marked"] == pytest.approx(1 - float(one.mask.mean()), abs=1e-3)
        assert said["notes"] == one.notes
    with torch.no_grad():
        likely = net.module(photo[None]).softmax(1)[0]
    assert [said["probability"] for said in document["reasons"]] == pytest.approx(likely[:4].tolist(), rel=1e-4)


def test_curves_are_those_of_the_masks_and_of_the_other_methods(tmp_path: Path) -> None:
    net, photo = network(), fitted(photograph(tmp_path))
    classes = [label(k).bind(net) for k in (0, 1)]
    written: dict[str, Tensor] = {}
    made = why(
        net, photo, classes, lambda picture, name: written.__setitem__(name, picture), "p",
        titles=["first", "second", "more"], iterations=3,
    )  # fmt: skip
    masks = pi.explain(net, [photo], list(classes), method=Mask(iterations=3), least_probability=0)
    assert [one.title for one in made.reasons] == ["first", "second"] and not made.interrupted
    for k, (one, mask) in enumerate(zip(made.reasons, masks, strict=True)):
        curve = deletion_curve(net, photo[None], mask.heatmap[None], [label(k, "prob").bind(net)])[0]
        assert one.curve == falling(curve.tolist())
        assert (one.before, one.after) == pytest.approx((mask.scores["photo"], mask.scores["masked"]), rel=1e-4)
    assert [one.method for one in made.others] == list(BASELINES)
    for other in made.others:
        assert other.file == f"p-{other.method}.png" and other.file in written
        heatmap = pi.explain(net, photo, "class:0", method=other.method).heatmap
        curve = deletion_curve(net, photo[None], heatmap[None], [label(0, "prob").bind(net)])[0]
        assert other.curve == falling(curve.tolist())
        assert pi.methods()[other.method].source in other.says
    assert set(written) == {f"p-{kind}{k}.png" for kind in ("why", "kept") for k in (0, 1)} | {
        f"p-{name}.png" for name in BASELINES
    }
    assert all(picture.shape == (3, SIDE, SIDE) for picture in written.values())


class Bright(nn.Module):
    """Class 0 has the probability 0.8 * the share of pixels that are as sharp as in `chequered`, class 1 the rest."""

    def forward(self, images: Tensor) -> Tensor:
        sharp = 2 * (images - 0.5).abs().amax(1)
        likely = (0.1 + 0.8 * (sharp > 0.97).float() * sharp).mean((1, 2))
        return torch.stack([likely, 1 - likely], 1).log()


def chequered() -> Tensor:
    return (torch.arange(SIDE)[:, None] + torch.arange(SIDE)).remainder(2).float().expand(3, -1, -1)


def test_it_says_after_how_much_half_is_lost() -> None:
    """The network counts sharp pixels: 0.1 + 0.8 * the share that is left has fallen to 0.45 after 56.25 %.

    That is, of every twentieth, after 60 %.
    """
    net = pi.Network(Bright(), SIDE, channels=3)
    made = why(net, chequered(), [label(0).bind(net)], lambda *_: None, "p", titles=["sharp"], iterations=1)
    assert [one.half for one in made.reasons] == ["60 %"]
    # Class 1 becomes likelier the more is blurred.
    made = why(net, chequered(), [label(1).bind(net)], lambda *_: None, "p", titles=["flat"], iterations=1)
    assert [one.half for one in made.reasons] == ["never"]


def test_the_number_of_reasons_is_the_number_of_classes_at_most(tmp_path: Path) -> None:
    photo = photograph(tmp_path)
    for asked, shown in ((1, 1), (3, 3), (5, 4)):
        document = short(tmp_path, network(), [photo], reasons=asked)[1]
        assert [one["class"] for one in document["reasons"]] == LABELS[:shown]


def test_no_reasons_no_section(tmp_path: Path) -> None:
    made, document, text = short(tmp_path, network(), [photograph(tmp_path)], reasons=0)
    assert document["reasons"] == [] and not made.interrupted
    assert "Why it answers so" not in text and "What other methods say" not in text
    assert not [path for path in (tmp_path / "out/images").iterdir() if "-why" in path.name or "-kept" in path.name]
    assert document["images"]


def test_where_no_class_has_one_per_cent_there_is_no_section(tmp_path: Path) -> None:
    flat = network(likely=[1 / 200] * 200, labels=None)
    _, document, text = short(tmp_path, flat, [photograph(tmp_path)])
    assert document["reasons"] == [] and "Why it answers so" not in text
    assert len(document["images"]) == 3


def test_no_photo_no_reasons(tmp_path: Path) -> None:
    _, document, text = short(tmp_path, network(), [], classes=1)
    assert document["reasons"] == [] and "Why it answers so" not in text


def test_several_photos_have_each_their_own(tmp_path: Path) -> None:
    photos = [photograph(tmp_path, "one.png", 0), photograph(tmp_path, "two.png", 1)]
    _, document, text = short(tmp_path, network(), photos, reasons=2)
    assert [(one["photo"], one["file"]) for one in document["reasons"]] == [
        (name, f"images/photo{i}-why{k}.png") for i, name in enumerate(("one.png", "two.png")) for k in (0, 1)
    ]
    assert text.count("Why it answers so") == text.count("What other methods say") == 2


class Odd(nn.Module):
    """Has no rule in excitation backprop."""

    def forward(self, values: Tensor) -> Tensor:
        return values.sin()


def test_a_method_that_cannot_be_applied_says_why_in_its_caption(tmp_path: Path) -> None:
    net = network(odd=Odd())
    refused = {}
    for name in BASELINES:
        try:
            pi.explain(net, fitted(photograph(tmp_path)), "class:0", method=name)
        except pi.RequestError as error:
            refused[name] = str(error)
    assert "excitation-backprop" in refused and "gradient" not in refused
    made, _, text = short(tmp_path, net, [photograph(tmp_path)])
    others = made.sections[0].why.others
    assert [one.method for one in others] == list(BASELINES)
    for other in others:
        assert (other.file is None) == (other.method in refused)
        if other.file is None:
            assert other.says == refused[other.method]
        else:
            assert (tmp_path / "out" / other.file).is_file()
    for name in refused:
        assert f'<figcaption><span class="title">{name}</span>' in text
    assert len(made.sections[0].why.reasons) == 4


def test_networks_and_settings_are_left_as_they_were(tmp_path: Path) -> None:
    net = network()
    net.module.train()
    before = {name: value.clone() for name, value in net.module.state_dict().items()}
    short(tmp_path, net, [photograph(tmp_path)], reasons=2)
    assert all(part.training for part in net.module.modules())
    assert all(parameter.requires_grad for parameter in net.module.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.module.state_dict().items())


# --- the page -----------------------------------------------------------------------------------------------------


def test_the_page_in_a_browser(browser: webdriver.Chrome, page: Path) -> None:
    """All pictures load, names stay text, a click shows one large, and it fits a phone."""
    browser.get(page.as_uri())
    sizes = browser.execute_script("return [...document.querySelectorAll('main img')].map(i => i.naturalWidth)")
    # The photo, two pictures of each of four classes, the other methods, what it wants to see for three classes.
    assert len(sizes) == 1 + 2 * 4 + len(BASELINES) + 3
    assert min(sizes) > 0
    assert browser.get_log("browser") == []
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 1
    reasons, others = browser.find_elements(By.CSS_SELECTOR, ".strip")
    titles = [one.text for one in reasons.find_elements(By.CSS_SELECTOR, ".title")]
    assert titles == LABELS[:4]
    headings = [one.text for one in browser.find_elements(By.TAG_NAME, "h3")]
    assert headings[:2] == ["Why it answers so", f"What other methods say of {LABELS[0]}"]
    assert [one.text for one in others.find_elements(By.CSS_SELECTOR, ".title")] == list(BASELINES)
    button = reasons.find_elements(By.TAG_NAME, "button")[2]
    assert button.get_attribute("data-says") == f"what the mask marks for {LABELS[1]}"
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button)
    button.click()
    dialog = browser.find_element(By.TAG_NAME, "dialog")
    assert dialog.is_displayed() and LABELS[1] in dialog.text
    assert (dialog.find_element(By.TAG_NAME, "img").get_attribute("src") or "").endswith("photo0-why1.png")
    browser.execute_script("document.querySelector('dialog').close()")
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert browser.get_log("browser") == []


def test_names_are_escaped(page: Path) -> None:
    text = page.read_text("utf-8")
    assert "<script>alert" not in text and "a <b>photo" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 4
    assert 'say "dog"' not in text


def test_names_with_a_colon_stay_whole(tmp_path: Path) -> None:
    net = network(labels=["bird: crane", *LABELS[1:]])
    document = short(tmp_path, net, [photograph(tmp_path)], reasons=1)[1]
    assert [one["class"] for one in document["reasons"]] == ["bird: crane"]


# --- Ctrl-C -------------------------------------------------------------------------------------------------------


def pressing(monkeypatch: pytest.MonkeyPatch, calls: int, keeps: bool = False) -> None:
    """Ctrl-C in the `calls`-th call of explain: before it has made anything, or after its first step."""
    real, left = why_module.explain, [calls]

    def pressed(net: pi.Network, *args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0]:
            return real(net, *args, **options)
        if not keeps:
            raise KeyboardInterrupt
        looks = [2]

        def press(_: nn.Module, given: Any) -> None:
            if given[0].requires_grad:
                looks[0] -= 1
                if not looks[0]:
                    raise KeyboardInterrupt

        handle = net.module.register_forward_pre_hook(press)
        try:
            return real(net, *args, **options)
        finally:
            handle.remove()

    monkeypatch.setattr(why_module, "explain", pressed)


@pytest.mark.parametrize("done", [0, 1, 5])
def test_ctrl_c_in_another_method_keeps_the_masks_and_those_before(
    done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pressing(monkeypatch, 2 + done)
    made, document, text = short(tmp_path, network(), [photograph(tmp_path)], depths=2, classes=2)
    assert made.interrupted and document["interrupted"] is True
    assert "The run was interrupted" in text
    assert len(document["reasons"]) == 4
    assert [one.method for one in made.sections[0].why.others] == list(BASELINES[:done])
    # Nothing is begun afterwards.
    assert document["inversions"] == document["images"] == []
    assert not list((tmp_path / "out/images").glob("*.tmp*"))


def test_ctrl_c_while_masks_are_learned_keeps_what_they_have_become(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pressing(monkeypatch, 1, keeps=True)
    made, document, text = short(tmp_path, network(), [photograph(tmp_path)])
    assert document["interrupted"] is True and "The run was interrupted" in text
    assert len(document["reasons"]) == 4
    assert made.sections[0].why.others == [] and "What other methods say" not in text


def test_ctrl_c_before_the_first_mask_leaves_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pressing(monkeypatch, 1)
    made, document, text = short(tmp_path, network(), [photograph(tmp_path)])
    assert document["interrupted"] is True and document["reasons"] == []
    assert "Why it answers so" not in text and len(made.sections[0].answers) == 5


@pytest.mark.parametrize("where", ["masks", "other methods", "depths"])
def test_ctrl_c_in_the_first_photo_ends_the_second_s_too(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [photograph(tmp_path, "one.png", 0), photograph(tmp_path, "two.png", 1)]
    if where == "depths":
        real = making.invert

        def pressed(*args: Any, **options: Any) -> Any:
            made = real(*args, **options)
            made.interrupted = True
            return made

        monkeypatch.setattr(making, "invert", pressed)
    else:
        pressing(monkeypatch, 1 if where == "masks" else 3, keeps=where == "masks")
    made, document, _ = short(tmp_path, network(), photos, depths=1, reasons=1)
    assert {one["photo"] for one in document["reasons"]} == {"one.png"}
    assert made.interrupted and document["interrupted"] is True


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_takes_the_number_of_reasons(preimage: Run, tiny: str, tmp_path: Path) -> None:
    one = photograph(tmp_path)
    words = ("report", f"{tiny}:net", one, "-o", "tour", "--units", "0", "--classes", "0", "--depths", "0",
             "--steps", "2", "--json")  # fmt: skip
    for asked in (0, 2):
        done = preimage(*words, "--reasons", str(asked))
        assert done.returncode == 0
        document = json.loads(done.stdout)
        assert len(document["reasons"]) == asked
        assert document == json.loads((tmp_path / "tour/result.json").read_text())
    assert preimage(*words, "--reasons", "-1").returncode == 2
    assert preimage(*words, "--reasons", "6").returncode == 2


# --- curves as drawings -------------------------------------------------------------------------------------------


def points(path: str) -> list[tuple[float, float]]:
    found = re.fullmatch(r"M([^L]+)((?:L[^L]+)*)", path)
    assert found is not None
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in path[1:].split("L"))]


def test_a_curve_is_drawn_from_left_to_right_and_from_zero_to_the_highest() -> None:
    assert points(falling([0.5, 0.25, 0.0])) == [(0, 2), (WIDTH / 2, HEIGHT / 2), (WIDTH, HEIGHT - 2)]
    # Where it rises, the highest is above, and what is below zero is drawn at zero.
    assert points(falling([1.0, 4.0, -3.0])) == [
        (0, HEIGHT - 2 - (HEIGHT - 4) / 4),
        (WIDTH / 2, 2),
        (WIDTH, HEIGHT - 2),
    ]
    assert points(falling([0.0, 0.0])) == [(0, HEIGHT - 2), (WIDTH, HEIGHT - 2)]
    assert points(falling([3.0])) == [(0, 2)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=30))
def test_a_curve_is_the_values_scaled(values: list[float]) -> None:
    drawn = points(falling(values))
    assert len(drawn) == len(values)
    highest = max(values) or 1.0
    for i, ((x, y), value) in enumerate(zip(drawn, values, strict=True)):
        assert x == pytest.approx(WIDTH * i / (len(values) - 1), abs=0.051)
        if max(values) > 1e-9:
            assert y == pytest.approx(HEIGHT - 2 - (HEIGHT - 4) * value / highest, abs=0.051)


@pytest.mark.parametrize("values", [[1.0, float("nan"), 0.5], [float("nan")] * 3, [float("inf"), 1.0]])
def test_what_is_not_finite_is_left_out_of_a_curve(values: list[float]) -> None:
    assert "nan" not in falling(values) and "inf" not in falling(values)
