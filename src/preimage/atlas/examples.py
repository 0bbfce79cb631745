"""The photos that units answer most strongly, and what their receptive fields see of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from preimage.atlas.parts import Array
from preimage.atlas.plan import TapPlan
from preimage.atlas.reading import Example
from preimage.errors import RequestError
from preimage.images import centre_crop, image_files, read_image
from preimage.network import Network

CHUNK = 256
"""Photos that are looked at together, and are looked at again when the process is killed."""
_TOGETHER = 16
_LARGEST, _SMALLEST = 96, 32
"""Longer sides of crops, in pixels."""


@dataclass(frozen=True)
class Photos:
    """A folder of photos. names: below the folder, sorted. digest: of names and sizes in bytes."""

    folder: str
    names: tuple[str, ...]
    digest: str

    @classmethod
    def found(cls, folder: str | Path) -> Photos:
        """All image files below a folder; raises `RequestError` if there are none."""
        root = Path(folder)
        paths = image_files(root)
        names = tuple(path.relative_to(root).as_posix() for path in paths)
        told = "\n".join(f"{name} {path.stat().st_size}" for name, path in zip(names, paths, strict=True))
        return cls(str(root), names, hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:16])

    @property
    def chunks(self) -> int:
        """In how many parts they are looked at."""
        return math.ceil(len(self.names) / CHUNK)


@torch.no_grad()
def strongest_of(
    network: Network, taps: Sequence[TapPlan], photos: Photos, chunk: int, count: int
) -> tuple[dict[str, Array], dict[str, Any]]:
    """One chunk of photos, seen by all taps: of each channel the `count` photos that it answers most strongly.

    A photo is brought to the network's input size by its centre (`preimage.images.centre_crop`); the activation of a
    channel is the highest of its map. Arrays by the tap's place in the plan: `activation-I` float32 [channels, count],
    `photo-I` int32 (-1: none), `position-I` int32, where in the flattened map. Of equal ones the first photo counts.
    The document lists the photos that are "broken", each with "photo" and "why".

    Raises `RequestError` for photos that are not there, on this machine.
    """
    first = chunk * CHUNK
    names = photos.names[first : first + CHUNK]
    best = [_Best(tap.count, count) for tap in taps]
    # The same side of a ReLU as in the objective.
    places = [next(iter(tap.objective(tap.channels[0]).bind(network).places())) for tap in taps]
    broken: list[dict[str, str]] = []
    waiting: list[tuple[int, Tensor]] = []

    def look() -> None:
        if not waiting:
            return
        images = torch.stack([image for _, image in waiting]).to(network.device)
        numbers = torch.tensor([number for number, _ in waiting], dtype=torch.int32)
        found = network.run(images, set(places))
        for tap, place, one in zip(taps, places, best, strict=True):
            values = found[place][:, tap.channels[0] : tap.channels[1] + 1].float().cpu()
            one.add(values.reshape(*values.shape[:2], -1), numbers)
        waiting.clear()

    with network.held():
        for number, name in enumerate(names, first):
            path = Path(photos.folder) / name
            if not path.is_file():
                raise RequestError(f"the photo '{path}' is not there any more, or not on the machine that looks at it")
            try:
                waiting.append((number, centre_crop(read_image(path, network.channels), network.input_size)))
            except RequestError as error:
                broken.append({"photo": name, "why": " ".join(str(error).split())})
            if len(waiting) == _TOGETHER:
                look()
        look()
    arrays: dict[str, Array] = {}
    for i, one in enumerate(best):
        arrays |= {f"activation-{i}": one.values.numpy(), f"photo-{i}": one.photos.numpy()}
        arrays[f"position-{i}"] = one.positions.numpy()
    return arrays, {"chunk": chunk, "photos": len(names), "broken": broken}


class _Best:
    def __init__(self, channels: int, count: int):
        self.values = torch.full((channels, count), -torch.inf)
        self.photos = torch.full((channels, count), -1, dtype=torch.int32)
        self.positions = torch.zeros(channels, count, dtype=torch.int32)

    def add(self, values: Tensor, photos: Tensor) -> None:
        """values: [N, channels, positions]; photos: their numbers, [N]."""
        highest, where = values.max(2)
        highest = torch.where(highest.isfinite(), highest, -torch.inf)
        self.merge(highest.T, photos.expand(highest.shape[1], -1), where.T.to(torch.int32))

    def merge(self, values: Tensor, photos: Tensor, positions: Tensor) -> None:
        """More candidates, [channels, n] each; of equal ones those that are there already stay."""
        count = self.values.shape[1]
        both = torch.cat([self.values, values], 1)
        order = both.sort(stable=True, dim=1, descending=True).indices[:, :count]
        self.values = both.gather(1, order)
        self.photos = torch.cat([self.photos, photos], 1).gather(1, order).masked_fill(self.values == -torch.inf, -1)
        self.positions = torch.cat([self.positions, positions], 1).gather(1, order)


@dataclass(frozen=True)
class Chosen:
    """The strongest photos of some channels, [channels, k] each: numbers of photos (-1: none), positions, values."""

    photos: Array
    positions: Array
    activations: Array

    def rows(self, channels: range) -> Chosen:
        """Some of the channels, counted from the first."""
        some = slice(channels.start, channels.stop)
        return Chosen(self.photos[some], self.positions[some], self.activations[some])


def merged(chunks: Iterable[dict[str, Array]], channels: Mapping[int, int], count: int) -> dict[int, Chosen]:
    """The strongest photos of some taps, of all chunks in their order, one of which is held at a time.

    channels: how many each tap has, by its place in the plan.
    """
    best = {place: _Best(number, count) for place, number in channels.items()}
    for one in chunks:
        for place, found in best.items():
            parts = (one[f"{what}-{place}"] for what in ("activation", "photo", "position"))
            found.merge(*(torch.from_numpy(np.array(part)) for part in parts))
    return {
        place: Chosen(found.photos.numpy(), found.positions.numpy(), found.values.numpy())
        for place, found in best.items()
    }


def crop_size(tap: TapPlan, input_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the crops of a tap, in the proportions of what its units see."""
    field = tap.receptive_field if tap.receptive_field and len(tap.shape) == 3 else input_size
    side = min(_LARGEST, max(_SMALLEST, 2 * max(field)))
    scale = side / max(field)
    return max(1, round(field[0] * scale)), max(1, round(field[1] * scale))


def shown(network: Network, tap: TapPlan, photos: Photos, chosen: Chosen) -> tuple[Array, list[list[Example]]]:
    """What units see of their strongest photos: crops uint8 [channels, k, C, h, w], and where that is.

    Crops are taken from the photo as it is, in its own pixels. Beyond the border of what the network was shown of it,
    there is grey.
    """
    sight = _Sight(network, tap)
    size = crop_size(tap, network.input_size)
    channels, count = chosen.photos.shape
    crops = np.full((channels, count, network.channels, *size), 128, np.uint8)
    read = lru_cache(maxsize=1)(lambda name: read_image(Path(photos.folder) / name, network.channels))
    # Photo by photo, so that each is read once.
    found: dict[tuple[int, int], Example] = {}
    for i, j in sorted(np.argwhere(chosen.photos >= 0).tolist(), key=lambda at: int(chosen.photos[tuple(at)])):
        name = photos.names[int(chosen.photos[i, j])]
        photo = read(name)
        frame = sight.frame(int(chosen.positions[i, j]))
        whole, seen = (_in_photo(box, photo, network.input_size) for box in (frame, _inside(frame, network.input_size)))
        crops[i, j] = _crop(photo, whole, seen, size)
        sides = (*photo.shape[1:], *photo.shape[1:])
        top, left, height, width = (round(at / side, 5) for at, side in zip(seen, sides, strict=True))
        activation = float(f"{float(chosen.activations[i, j]):.6g}")
        found[i, j] = {
            "photo": name,
            "photo_size": (int(photo.shape[1]), int(photo.shape[2])),
            "box": (top, left, height, width),
            "activation": activation,
        }
    return crops, [[found[i, j] for j in range(count) if (i, j) in found] for i in range(channels)]


Box = tuple[float, float, float, float]
"""Top, left, height, width."""


class _Sight:
    """Where units see, in pixels of the network's input."""

    def __init__(self, network: Network, tap: TapPlan):
        self._network, self._tap = network, tap
        self._whole = 0, 0, *network.input_size
        central = network.sees(tap.tap) if len(tap.shape) == 3 and tap.stride is not None else None
        self._central = None if central is None or 0 in central[1] else central
        self._probed: dict[tuple[int, int], Box] = {}

    def frame(self, position: int) -> Box:
        """What a unit sees, which may reach beyond the border; `position` in the flattened map."""
        if self._central is None:
            return self._whole
        _, rows, columns = self._tap.shape
        y, x = divmod(position, columns)
        (top, left), (height, width) = self._central
        sides = self._network.input_size
        if top > 0 and left > 0 and top + height < sides[0] and left + width < sides[1]:
            assert self._tap.stride is not None
            # Units are a stride apart, and none of them sees more than the central one does.
            down, right = (y - (rows - 1) // 2) * self._tap.stride[0], (x - (columns - 1) // 2) * self._tap.stride[1]
            return top + down, left + right, height, width
        # The central unit's own field is cut off, so it says nothing of the others'. What a unit sees up and down has
        # nothing to do with its column: one probe on the diagonal serves a whole row and a whole column.
        (vertical, _), (_, horizontal) = self._probe(min(y, columns - 1), y), self._probe(x, min(x, rows - 1))
        return vertical[0], horizontal[0], vertical[1], horizontal[1]

    def _probe(self, x: int, y: int) -> tuple[tuple[float, float], tuple[float, float]]:
        if (y, x) not in self._probed:
            seen = self._network.sees(self._tap.tap, unit=(y, x))
            self._probed[y, x] = self._whole if seen is None else (*seen[0], *seen[1])
        top, left, height, width = self._probed[y, x]
        return (top, height), (left, width)


def _inside(frame: Box, size: tuple[int, int]) -> Box:
    """The part of a box that the network is shown: beyond its input's border it sees padding, not the photo."""
    top, left = max(frame[0], 0), max(frame[1], 0)
    bottom, right = min(frame[0] + frame[2], size[0]), min(frame[1] + frame[3], size[1])
    return top, left, max(bottom - top, 0), max(right - left, 0)


def _in_photo(frame: Box, photo: Tensor, size: tuple[int, int]) -> Box:
    """A box of what `centre_crop` makes of a photo, in pixels of the photo."""
    scale = max(size[0] / photo.shape[1], size[1] / photo.shape[2])
    whole = [max(round(side * scale), least) for side, least in zip(photo.shape[1:], size, strict=True)]
    corner = [(side - least) // 2 for side, least in zip(whole, size, strict=True)]
    down, right = photo.shape[1] / whole[0], photo.shape[2] / whole[1]
    return (frame[0] + corner[0]) * down, (frame[1] + corner[1]) * right, frame[2] * down, frame[3] * right


def _crop(photo: Tensor, frame: Box, seen: Box, size: tuple[int, int]) -> Array:
    """What is `seen` of a photo [C, H, W], where it stands in `frame`, in so many pixels: uint8, grey elsewhere."""
    out = torch.full((photo.shape[0], *size), 128, dtype=torch.uint8)
    # A frame that was cut off at the border has other proportions: it stands in the middle then.
    scale = min(size[0] / frame[2], size[1] / frame[3])
    top, left = (frame[axis] - (size[axis] / scale - frame[2 + axis]) / 2 for axis in (0, 1))
    y0, x0 = max(0, math.floor(seen[0] + 1e-6)), max(0, math.floor(seen[1] + 1e-6))
    y1 = min(photo.shape[1], max(y0 + 1, math.ceil(seen[0] + seen[2] - 1e-6)))
    x1 = min(photo.shape[2], max(x0 + 1, math.ceil(seen[1] + seen[3] - 1e-6)))
    at = [round((y0 - top) * scale), round((x0 - left) * scale), round((y1 - top) * scale), round((x1 - left) * scale)]
    at = [max(0, min(value, side)) for value, side in zip(at, (*size, *size), strict=True)]
    if at[2] > at[0] and at[3] > at[1]:
        part = photo[None, :, y0:y1, x0:x1]
        sides = at[2] - at[0], at[3] - at[1]
        made = F.interpolate(part, sides, mode="bilinear", antialias=True, align_corners=False)[0]
        out[:, at[0] : at[2], at[1] : at[3]] = (made.clamp(0, 1) * 255).round().to(torch.uint8)
    return out.numpy()
