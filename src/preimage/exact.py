"""Pictures in float32, beside the PNGs that people look at: what `maximize` keeps of pictures to be recovered from.

A PNG has 256 levels, of which inverse feature visualization sees the rounding (docs/recover.md). The folder that a
result with such pictures was saved to holds, besides:

pictures.safetensors    each picture, float32 [C, H, W] in [0, 1], under the name of its PNG
result.json             "exact": "pictures.safetensors", and of each image its "question": at which tap it was asked and
                        how, as `recover` has to know

Such folders come from elsewhere too, so they are read with suspicion: a header is looked at before any number, and of
result.json nothing but plain values is taken.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from preimage.errors import RequestError
from preimage.images import (
    MAX_PIXELS,
    Photo,
    as_image,
    image_files,
    listed_photos,
    photo_as_setting,
    photo_names,
    read_image,
    to_pil,
    written_whole,
)
from preimage.network import Place
from preimage.network.smoothing import WIDTH
from preimage.objectives import Aggregate, Channel, Direction, Label, Objective, Unit

EXACT = "pictures.safetensors"
"""How the file is called."""
_RESULT = "result.json"
_MAX_BYTES = 64 * 2**20
"""Of a result.json; thousands of pictures with their traces take less."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}\.png")
_MOST_FEATURES = 2**20


@dataclass(frozen=True)
class Question:
    """What `recover` has to know of how a picture was made; its arguments of these names say more.

    at: the tap. aggregate, cosine_power: how its map becomes one number per feature, and k. features: which channels;
    None: all. smoothing: how wide kinks were made; None: not at all.
    """

    at: Place
    aggregate: Aggregate = "max-mean"
    cosine_power: float = 2.0
    features: tuple[int, ...] | None = None
    smoothing: float | None = WIDTH

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "at": self.at.tap,
            "after_relu": self.at.after_relu,
            "aggregate": self.aggregate,
            "cosine_power": self.cosine_power,
            "features": None if self.features is None else list(self.features),
            "smoothing": self.smoothing,
        }

    @classmethod
    def of(cls, objective: Objective, smoothing: float) -> Question | None:
        """How an objective was asked; None where it is no direction of one layer's features."""
        if isinstance(objective, Direction):
            one = objective
            return cls(one.place, one.aggregate, one.cosine_power, one.features, smoothing)
        if isinstance(objective, (Channel, Label)):
            return cls(objective.place, "mean", 0.0, None, smoothing)
        if isinstance(objective, Unit) and objective.position is None:
            return cls(objective.place, "centre", 0.0, None, smoothing)
        return None

    @classmethod
    def read(cls, said: object, path: Path) -> Question:
        """`as_dict` back again, of a file that may come from elsewhere; raises `RequestError` for anything else."""
        if not isinstance(said, dict):
            raise _not_plain(path, "question")
        tap, after, features = said.get("at"), said.get("after_relu"), said.get("features")
        aggregate: Any = said.get("aggregate")
        power, smoothing = said.get("cosine_power"), said.get("smoothing")
        if not (isinstance(tap, str) and 0 < len(tap) <= 1000 and tap.isprintable()):
            raise _not_plain(path, "at")
        if not isinstance(after, bool):
            raise _not_plain(path, "after_relu")
        if aggregate not in get_args(Aggregate):
            raise _not_plain(path, "aggregate")
        if not (_is_number(power) and power >= 0):
            raise _not_plain(path, "cosine_power")
        if not (_is_number(smoothing) and smoothing > 0):
            raise _not_plain(path, "smoothing")
        if features is not None:
            if not (isinstance(features, list) and 0 < len(features) <= _MOST_FEATURES):
                raise _not_plain(path, "features")
            if not all(type(index) is int and 0 <= index < _MOST_FEATURES for index in features):
                raise _not_plain(path, "features")
            features = tuple(features)
        return cls(Place(tap, after), aggregate, float(power), features, float(smoothing))


@dataclass(frozen=True)
class Picture:
    """A picture to recover from.

    image: float32 [C, H, W] in [0, 1]. name: as it is called. source: as settings name it.
    question: how it was made, where result.json, `said_by`, says so.
    exact: of a PNG that was given by itself, the file beside it that has the same picture in float32.
    """

    image: Tensor
    name: str
    source: str
    question: Question | None = None
    said_by: Path | None = None
    exact: Path | None = None


def pictures(photos: Photo | Sequence[Photo], channels: int) -> list[Picture]:
    """All pictures that were given, those of folders in the order of their names.

    Of a folder that `maximize` wrote, the exact pictures are taken where there are any, else a folder stands for the
    image files below it. A PNG that is given by itself is read as it is.

    Raises `RequestError` for what `as_image` and `read_exact` refuse, and folders without images.
    """
    found: list[Picture] = []
    for number, photo in enumerate(listed_photos(photos)):
        if not is_folder(photo):
            found.append(_single(photo, number, channels))
            continue
        folder = Path(str(photo))
        if (folder / EXACT).exists() or _mentioned(folder):
            found += read_exact(folder, channels)
        else:
            found += [_single(path, number, channels) for path in image_files(folder)]
    return found


def is_folder(photo: object) -> bool:
    """Whether what was given for a photo stands for those of a folder."""
    return isinstance(photo, (str, Path)) and os.path.isdir(photo)  # (False for names that no file can have)


def _single(photo: Photo, number: int, channels: int) -> Picture:
    image = as_image(photo, channels)
    beside = None
    if isinstance(photo, (str, Path)):
        name, path = photo_names([photo])[0], Path(photo)
        if path.suffix == ".png" and path.with_name(EXACT).is_file():
            beside = path.with_name(EXACT)
    else:
        name = f"photo {number}"
    return Picture(image, name, photo_as_setting(photo, image), exact=beside)


def write_exact(folder: Path, images: Mapping[str, Tensor]) -> None:
    """Write pictures [C, H, W] by the names of their PNGs into `folder`, whole or not at all."""
    with written_whole(folder / EXACT) as file:
        save_file({name: image.float().contiguous().numpy() for name, image in images.items()}, file)


def read_exact(folder: Path, channels: int) -> list[Picture]:
    """The exact pictures of a folder, in the order of their names, which is that of the result's images.

    Raises `RequestError` for a file that is missing or damaged, holds anything but float32 pictures [channels, H, W]
    of at most `MAX_PIXELS` with values in [0, 1], or others than result.json or the PNGs beside it; and for a
    result.json with anything but plain values.
    """
    path, listed = folder / EXACT, _listed(folder)
    images = _images(path, channels)
    if listed is not None and set(listed) != set(images):
        raise RequestError(f"'{folder / _RESULT}' lists other pictures than '{path}' holds; save the result once more")
    for name, image in images.items():
        if channels in (1, 3) and (folder / name).is_file():
            seen = read_image(folder / name, channels)
            if not torch.equal(seen, as_image(to_pil(image), channels)):
                raise RequestError(
                    f"'{folder / name}' is not the picture that '{path}' has by this name; give the PNG itself, or "
                    "save the result once more"
                )
    said_by = None if listed is None else folder / _RESULT
    questions = listed or {}
    return [
        Picture(images[name], name.removesuffix(".png"), f"{path}:{name}", questions.get(name), said_by)
        for name in sorted(images)
    ]


def _images(path: Path, channels: int) -> dict[str, Tensor]:
    if not path.exists():
        raise RequestError(
            f"'{path}' is not there, although '{path.with_name(_RESULT)}' mentions it; copy it too, or name the PNGs"
        )
    if not path.is_file():
        raise RequestError(f"'{path}' is no file")
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            for name in names:
                part = file.get_slice(name)
                _check_header(path, name, part.get_dtype(), list(part.get_shape()), channels)
            images = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise RequestError(f"'{path}' cannot be read: {' '.join(str(error).split())}") from error
    if not images:
        raise RequestError(f"'{path}' holds no pictures")
    for name, image in images.items():
        if not (image.isfinite().all() and image.min() >= 0 and image.max() <= 1):
            raise RequestError(f"'{path}' has values in '{name}' that do not lie in [0, 1]")
    return images


def _check_header(path: Path, name: str, dtype: str, shape: list[int], channels: int) -> None:
    if not _NAME.fullmatch(name):
        raise RequestError(f"'{path}' holds {name[:80]!a}, which is no name of a PNG that maximize writes")
    if dtype != "F32":
        raise RequestError(f"'{path}' has '{name}' in {dtype}, but pictures are in F32")
    if len(shape) != 3 or shape[0] != channels or 0 in shape:
        raise RequestError(f"'{path}' has '{name}' in the shape {shape}, but a picture has [{channels}, H, W] here")
    if shape[1] * shape[2] > MAX_PIXELS:
        raise RequestError(
            f"'{path}' has '{name}' with {shape[2]} x {shape[1]}; more than {MAX_PIXELS:,} pixels are refused"
        )


def _mentioned(folder: Path) -> bool:
    """Whether a result.json mentions exact pictures; one that cannot be read mentions nothing."""
    try:
        return _result(folder / _RESULT).get("exact") is not None
    except RequestError:
        return False


def _listed(folder: Path) -> dict[str, Question | None] | None:
    """Of each exact picture that result.json lists, how it was made; None where it mentions none."""
    path = folder / _RESULT
    said = _result(path)
    if said.get("exact") is None:
        return None
    images = said.get("images")
    if said["exact"] != EXACT:
        raise _not_plain(path, "exact")
    if not (isinstance(images, list) and all(isinstance(one, dict) for one in images)):
        raise _not_plain(path, "images")
    found: dict[str, Question | None] = {}
    for one in images:
        name, question = one.get("file"), one.get("question")
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise _not_plain(path, "file")
        found[name] = None if question is None else Question.read(question, path)
    return found


def _result(path: Path) -> dict[str, Any]:
    """What a result.json says; nothing where there is none."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RequestError(f"'{path}' has more than {_MAX_BYTES:,} bytes, which is refused")
        said = json.loads(path.read_text(encoding="utf-8"))
    except RequestError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"'{path}' is no JSON that can be read: {' '.join(str(error).split())}") from error
    if not isinstance(said, dict):
        raise RequestError(f"'{path}' is not what maximize writes")
    return said


def _is_number(value: object) -> TypeGuard[float]:
    return (isinstance(value, float) and math.isfinite(value)) or (type(value) is int and abs(value) < 2**53)


def _not_plain(path: Path, key: str) -> RequestError:
    return RequestError(f"'{path}' does not say plainly what \"{key}\" is, as maximize writes it")
