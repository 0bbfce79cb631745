"""Opening a network by a string: bundled, a user's own file, torchvision or timm."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import nn

from preimage.errors import RequestError, nearest
from preimage.network import densenet, efficientnet_lite
from preimage.network.opened import Network

BUNDLED = "bundled"
_OURS = ", ".join(f"'{name}'" for name in (BUNDLED, *densenet.NAMES))


def load(what: str = BUNDLED, *, device: str | torch.device | None = None, **options: Any) -> Network:
    """Open a network by a string.

    what: `bundled` (EfficientNet-Lite0 trained on ImageNet; nothing is downloaded), `cifar10` and `cifar10-without-4`
        (small DenseNets for pictures of 32 x 32, the second of which has never seen a deer; likewise),
        `path/to/file.py:factory` (a function without arguments, or a module, in a file of your own, which is run as
        code), `torchvision:NAME` or `timm:NAME` (their pretrained weights).
    device: where to put it; default: where its factory left it.
    options: passed on to `Network` (input_size, mean, std, labels ...); they win over what the network says of itself.

    Raises `RequestError` with one sentence for anything that cannot be opened.
    """
    kind, separator, rest = what.rpartition(":")
    module: nn.Module
    if what == BUNDLED:
        module, found = efficientnet_lite.efficientnet_lite0(), _bundled()
    elif what in densenet.NAMES:
        module, found = densenet.trained(what), _cifar10(what)
    elif separator and kind.endswith(".py"):
        module, found = _from_file(Path(kind), rest), {"name": rest}
    elif separator and kind == "torchvision":
        module, found = _from_torchvision(rest)
    elif separator and kind == "timm":
        module, found = _from_timm(rest)
    else:
        raise RequestError(
            f"unknown network '{what}': give {_OURS}, 'FILE.py:FACTORY', 'torchvision:NAME' or 'timm:NAME'"
        )
    if device is not None:
        try:
            module = module.to(torch.device(device))
        except (RuntimeError, AssertionError) as error:
            raise RequestError(f"device '{device}' cannot be used here: {str(error).splitlines()[0]}") from error
    return Network(module, **{**found, **options})


def imagenet_labels() -> list[str]:
    """The 1000 ImageNet class names, in the usual order."""
    return (files("preimage.network") / "imagenet_labels.txt").read_text("utf-8").splitlines()


def _bundled() -> dict[str, Any]:
    return {
        "name": "EfficientNet-Lite0",
        "input_size": efficientnet_lite.INPUT_SIZE,
        "mean": efficientnet_lite.MEAN,
        "std": efficientnet_lite.STD,
        "labels": imagenet_labels(),
    }


def _cifar10(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "input_size": densenet.INPUT_SIZE,
        "mean": densenet.MEAN,
        "std": densenet.STD,
        "labels": list(densenet.LABELS),
    }


def _from_file(path: Path, name: str) -> nn.Module:
    if not path.is_file():
        raise RequestError(f"there is no file '{path}' to take the network '{name}' from")
    spec = importlib.util.spec_from_file_location(f"preimage_user_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = code  # dataclasses and pickles look their module up there
    folder = str(path.parent.resolve())
    sys.path.insert(0, folder)  # the file may import its neighbours, as when run as a script
    try:
        spec.loader.exec_module(code)
    except (Exception, SystemExit) as error:
        raise RequestError(f"'{path}' cannot be run: {_in_one_line(error)}") from error
    finally:
        sys.path.remove(folder)
    if not hasattr(code, name):
        known = [key for key, value in vars(code).items() if callable(value) and not key.startswith("_")]
        close = nearest(name, known) or known[:6]
        raise RequestError(f"'{path}' has no '{name}'; it has {', '.join(close) or 'nothing that can be called'}")
    return _called(getattr(code, name), f"{path}:{name}")


def _called(factory: Callable[[], Any], what: str) -> nn.Module:
    if isinstance(factory, nn.Module):
        return factory
    try:
        module = factory()
    except (Exception, SystemExit) as error:
        raise RequestError(f"'{what}' failed when called: {_in_one_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise RequestError(f"'{what}' must give a torch.nn.Module, but gave {type(module).__name__}")
    return module


def _in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _from_torchvision(name: str) -> tuple[nn.Module, dict[str, Any]]:
    models = _imported("torchvision.models", "torchvision")
    if name not in models.list_models():
        raise RequestError(f"torchvision has no model '{name}'{_did_you_mean(name, models.list_models())}")
    weights = models.get_model_weights(name).DEFAULT
    preset = weights.transforms()
    module = _downloaded(lambda: models.get_model(name, weights=weights), f"torchvision:{name}")
    found = {"name": name, "labels": weights.meta.get("categories")}
    # Presets of classifiers say these; those of detectors and segmenters leave some out.
    found |= {key: getattr(preset, key) for key in ("mean", "std") if getattr(preset, key, None) is not None}
    side = getattr(preset, "crop_size", None) or getattr(preset, "resize_size", None)
    if side:
        found["input_size"] = (side[0], side[-1]) if isinstance(side, (list, tuple)) else (side, side)
    return module.eval(), found


def _from_timm(name: str) -> tuple[nn.Module, dict[str, Any]]:
    timm = _imported("timm", "timm")
    if not timm.is_model(name):
        raise RequestError(f"timm has no model '{name}'{_did_you_mean(name, timm.list_models())}")
    module = _downloaded(lambda: timm.create_model(name, pretrained=True), f"timm:{name}")
    config = timm.data.resolve_model_data_config(module)
    found: dict[str, Any] = {
        "name": name,
        "input_size": config["input_size"][1:],
        "mean": config["mean"],
        "std": config["std"],
    }
    if getattr(module, "num_classes", None) == 1000:
        found["labels"] = imagenet_labels()
    return module.eval(), found


def _did_you_mean(name: str, known: list[str]) -> str:
    close = nearest(name, known)
    return f"; the nearest are {', '.join(close)}" if close else ""


def _imported(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise RequestError(f"{package} is not installed: pip install {package}") from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        raise RequestError(
            f"{package} cannot be imported: the installed torchvision was built for another torch than the "
            f"{torch.__version__} that is here (its operator torchvision::nms does not exist); install the "
            "torchvision build that belongs to this torch"
        ) from error


def _downloaded(make: Callable[[], nn.Module], what: str) -> nn.Module:
    try:
        return make()
    except OSError as error:  # urllib and the hub's clients raise subclasses of it when offline
        raise RequestError(f"the weights of '{what}' could not be downloaded: {error}") from error
    except RuntimeError as error:
        raise RequestError(f"the weights of '{what}' could not be loaded: {str(error).splitlines()[0]}") from error
