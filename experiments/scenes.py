"""Scenes of which everything is known: garments on photographs, with the exact mask, box and class of each (SPEC M.6).

    python experiments/scenes.py OUT --count 300 --seed 1                    # one to three garments on each
    python experiments/scenes.py OUT --count 300 --seed 1 --parts            # objects of two parts, one of them telling
    python experiments/scenes.py OUT --count 300 --seed 1 --parts-swapped    # the same, upside down

writes OUT/photos/*.png and OUT/instances.json (COCO's format; masks as RLE, parts as the keypoints `eyes` and `feet`),
so that the networks trained on such scenes are measured as any other on anybody's data:

    preimage evaluate experiments/scenes.py:scene_network --data coco:OUT/photos,OUT/instances.json ...
    preimage evaluate experiments/scenes.py:part_network --data coco:OUT/photos,OUT/instances.json --measure parts ...

The garments and photographs are those that no network was trained on, unless `--split train` asks for the others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from scipy import ndimage
from torch import Tensor, nn

import objects
from objects import Split, silhouette
from preimage.explain.soft_occlusion import VariableOcclusion

Kind = Literal["scenes", "parts", "parts-swapped"]
Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SIDE = 96
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "sandal", "sneaker", "bag", "ankle boot")
"""Fashion-MNIST's without shirt and coat, which nobody can tell from T-shirts and pullovers at this size."""
PART_CLASSES = ("trouser", "dress", "sandal", "sneaker", "bag", "ankle boot")
SHARED = ("pullover", "coat")
"""The part of an object of any class that does not tell which."""

LONGEST = {1: (24, 60), 2: (24, 48), 3: (24, 40), "part": (24, 42)}
"""The longer side of a garment in pixels, drawn log-uniformly, by how many there are (SPEC M.6a: 16 to 40 of 64)."""
OVERLAP = 0.1
"""The boxes of two objects share at most this part of the smaller one."""

LOG_AREA, HEIGHT = (7.7893, 0.5532), (111.5925, 48.2928)
"""Mean and deviation of the logarithm of an object's area, and of its distance from the top (see
`occlusion_for_scenes`)."""

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Source:
    """What scenes are composed of.

    garments: by class, uint8 [N, 28, 28]. photographs: what is behind.
    """

    garments: Mapping[str, Pixels]
    photographs: Sequence[Path | Image.Image]


@dataclass(frozen=True)
class Thing:
    """An object on a scene.

    mask: what can be seen of it, bool [96, 96]. garments: (class, index within its class) of all that it is made of.
    parts: the masks of named parts.
    """

    label: str
    mask: Mask
    garments: tuple[tuple[str, int], ...]
    parts: Mapping[str, Mask] = field(default_factory=dict)

    @property
    def points(self) -> dict[str, tuple[float, float]]:
        """Of each part, the centre of its pixel that is nearest to its centroid: (x, y) from the top left corner."""
        return {name: _middle(mask) for name, mask in self.parts.items()}

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The tightest around the mask: left, top, width, height in pixels."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


@dataclass(frozen=True)
class Scene:
    """A picture, uint8 [96, 96, 3], the canvas under it, and its objects in the order in which they were put there."""

    picture: Pixels
    canvas: Pixels
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class _Cut:
    """A garment of its final size, ready to be put on a canvas: cover [h, w] in [0, 1], colours [h, w, 3]."""

    name: tuple[str, int]
    cover: NDArray[np.float32]
    colours: NDArray[np.float32]


@cache
def source(split: Split) -> Source:
    """The garments and photographs of a split."""
    images, labels = objects.garments(split)
    return Source({name: images[labels == i] for i, name in enumerate(objects.FASHION)}, objects.photographs(split))


def scene(of: Source, seed: int, index: int, kind: Kind = "scenes", count: int | None = None) -> Scene:
    """Scene `index` of a seed, the same whenever it is asked for.

    kind: `scenes`: garments of different classes; `parts`: one object, whose upper half is a garment of its class and
        whose lower half is of a class in `SHARED`, whatever its own; `parts-swapped`: the other way round.
    count: how many objects; default: one to three, drawn evenly (of parts: one). 0: of parts, an object of two shared
        halves, which has no class, and no annotation.
    """
    generator = np.random.default_rng((seed, index, ("scenes", "parts", "parts-swapped").index(kind)))
    canvas = _canvas(generator, of)
    if kind == "scenes":
        return _composed(generator, of, canvas, int(generator.integers(1, 4)) if count is None else count)
    return _of_parts(generator, of, canvas, kind == "parts", count != 0)


def _composed(generator: np.random.Generator, of: Source, canvas: Pixels, count: int) -> Scene:
    picture, owner = canvas.copy(), np.full((SIDE, SIDE), -1)
    placed: list[tuple[str, _Cut]] = []
    boxes: list[tuple[int, int, int, int]] = []
    for label in generator.permutation(CLASSES)[:count]:
        cut = _cut(generator, of, str(label), LONGEST[count])
        box = _free_box(generator, cut.cover.shape, boxes)
        if box is not None:
            _put(picture, owner, cut, box[:2], len(placed))
            placed.append((str(label), cut))
            boxes.append(box)
    things = (Thing(label, owner == i, (cut.name,)) for i, (label, cut) in enumerate(placed))
    return Scene(picture, canvas, tuple(thing for thing in things if thing.mask.any()))


def _of_parts(generator: np.random.Generator, of: Source, canvas: Pixels, telling_above: bool, classed: bool) -> Scene:
    label = str(generator.choice(PART_CLASSES))
    kinds = [label if classed else str(generator.choice(SHARED)), str(generator.choice(SHARED))]
    longest = float(_log_uniform(generator, *LONGEST["part"]))
    above, below = (_cut(generator, of, one, (longest, longest)) for one in (kinds if telling_above else kinds[::-1]))
    height = above.cover.shape[0] + below.cover.shape[0]
    width = max(above.cover.shape[1], below.cover.shape[1])
    left, top, _, _ = _free_box(generator, (height, width), [])  # type: ignore[misc]
    picture, owner = canvas.copy(), np.full((SIDE, SIDE), -1)
    for i, (cut, start) in enumerate(((above, top), (below, top + above.cover.shape[0]))):
        _put(picture, owner, cut, (left + (width - cut.cover.shape[1]) // 2, start), i)
    parts = {name: owner == i for i, name in enumerate(("eyes", "feet"))}
    thing = Thing(label, owner >= 0, (above.name, below.name), parts)
    return Scene(picture, canvas, (thing,) if classed else ())


def _canvas(generator: np.random.Generator, of: Source) -> Pixels:
    """Some square of a photograph, at least half as wide as that is."""
    chosen = of.photographs[int(generator.integers(len(of.photographs)))]
    photo = chosen if isinstance(chosen, Image.Image) else objects.photograph(chosen)
    side = min(photo.size) * generator.uniform(0.5, 1)
    left, top = (generator.uniform(0, length - side) for length in photo.size)
    return np.array(photo.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (left, top, left + side, top + side)))


def _cut(generator: np.random.Generator, of: Source, label: str, longest: tuple[float, float]) -> _Cut:
    """Some garment of a class, of some size and colour, perhaps mirrored."""
    index = int(generator.integers(len(of.garments[label])))
    garment = of.garments[label][index]
    inside = silhouette(garment)
    if generator.random() < 0.5:
        garment, inside = garment[:, ::-1], inside[:, ::-1]
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    frame = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # Pixels on the border are darkened by the black behind them; they take the light of their neighbours.
    light = np.where(ndimage.binary_erosion(inside), garment, ndimage.maximum_filter(garment, 3)) / np.float32(255)
    shape, light = inside[frame].astype(np.float32), light[frame]
    scale = _log_uniform(generator, *longest) / max(shape.shape)
    size = tuple(max(1, round(length * scale)) for length in shape.shape[::-1])
    cover, light = (_resized(one, size) for one in (shape, light * shape))
    light = light / np.maximum(cover, 1e-3)
    hue, saturation, value = generator.uniform((0, 0, 0.6), (1, 0.7, 1))
    tint = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    colours = light[..., None] * (value * (1 - saturation + saturation * tint))
    return _Cut((label, index), cover, colours.astype(np.float32))


def _free_box(
    generator: np.random.Generator, shape: tuple[int, ...], boxes: Sequence[tuple[int, int, int, int]]
) -> tuple[int, int, int, int] | None:
    """A place for something of (height, width) beside those that are there: left, top, right, bottom; or None."""
    height, width = shape
    for _ in range(50):
        left, top = (int(generator.integers(0, SIDE - length + 1)) for length in (width, height))
        box = (left, top, left + width, top + height)
        if all(_shared(box, other) <= OVERLAP for other in boxes):
            return box
    return None


def _shared(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """What two boxes share, of the smaller one."""
    across, down = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return max(across, 0) * max(down, 0) / smaller


def _put(picture: Pixels, owner: NDArray[np.int_], cut: _Cut, corner: tuple[int, int], index: int) -> None:
    """Lay a garment over a picture; a pixel is its own where it covers at least half of it."""
    (left, top), (height, width) = corner, cut.cover.shape
    place = np.s_[top : top + height, left : left + width]
    own = cut.cover >= 0.5
    cover = np.where(own, cut.cover, 0)[..., None]
    picture[place] = np.rint(np.clip(255 * cover * cut.colours + (1 - cover) * picture[place], 0, 255))
    owner[place][own] = index


def _middle(mask: Mask) -> tuple[float, float]:
    """The pixel of a mask that is nearest to its centroid: its centre, (x, y)."""
    rows, columns = np.nonzero(mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5


def _resized(values: NDArray[Any], size: tuple[int, ...]) -> NDArray[np.float32]:
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(picture.resize((size[0], size[1]), Image.Resampling.BILINEAR))


def _log_uniform(generator: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(generator.uniform(np.log(low), np.log(high))))


class Inception(nn.Module):
    """Four branches side by side: 1 x 1; 3 x 3 and 5 x 5, each behind a squeeze; pooling, then 1 x 1."""

    def __init__(
        self, channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int, **options: bool
    ):
        super().__init__()
        self.branch1 = convolution(channels, one, 1, **options)
        self.branch2 = nn.Sequential(
            convolution(channels, three[0], 1, **options), convolution(three[0], three[1], 3, **options)
        )
        self.branch3 = nn.Sequential(
            convolution(channels, five[0], 1, **options), convolution(five[0], five[1], 5, **options)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), convolution(channels, pool, 1, **options))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class SmallGoogLeNet(nn.Module):
    """GoogLeNet (Szegedy et al. 2014) for scenes: its layers and their names, fewer channels, 320,000 weights.

    RGB in [0, 1], 96 x 96, to the logits of `labels`. pool2 has 24 x 24 positions, pool3 12 x 12, pool4 and inception5b
    6 x 6; pool5 is the mean over them. Only ReLUs, and no BatchNorm unless `norms` (for training; `folded` ends it).
    """

    input_size = (SIDE, SIDE)

    def __init__(self, labels: Sequence[str], *, norms: bool = False):
        super().__init__()
        self.labels = list(labels)
        self.conv1 = convolution(3, 16, 5, 2, norms=norms)
        self.conv2 = convolution(16, 32, 3, norms=norms)
        self.pool2 = nn.MaxPool2d(3, 2, 1)
        self.inception3a = Inception(32, 16, (16, 32), (8, 16), 16, norms=norms)
        self.inception3b = Inception(80, 24, (24, 48), (8, 24), 24, norms=norms)
        self.pool3 = nn.MaxPool2d(3, 2, 1)
        self.inception4a = Inception(120, 40, (32, 64), (12, 32), 32, norms=norms)
        self.inception4b = Inception(168, 48, (40, 80), (12, 32), 32, norms=norms)
        self.pool4 = nn.MaxPool2d(3, 2, 1)
        self.inception5a = Inception(192, 64, (48, 96), (12, 32), 32, norms=norms)
        self.inception5b = Inception(224, 80, (48, 112), (12, 32), 32, norms=norms)
        self.pool5 = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(256, len(labels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool2(self.conv2(self.conv1(4 * x - 2)))
        x = self.pool3(self.inception3b(self.inception3a(x)))
        x = self.pool4(self.inception4b(self.inception4a(x)))
        return self.classifier(self.pool5(self.inception5b(self.inception5a(x))).flatten(1))


def convolution(inputs: int, outputs: int, size: int, stride: int = 1, *, norms: bool = False) -> nn.Sequential:
    """A convolution that keeps the size (but for the stride), perhaps BatchNorm, and a ReLU."""
    norm = [nn.BatchNorm2d(outputs)] if norms else []
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=not norms), *norm, nn.ReLU())


def scene_network() -> SmallGoogLeNet:
    """Which of `CLASSES` are on a scene; `weights/scenes.json` tells how it was trained, and how good it is."""
    return _trained(CLASSES, "scenes")


def part_network() -> SmallGoogLeNet:
    """Which of `PART_CLASSES` the telling half of an object is, above or below; see `weights/parts.json`."""
    return _trained(PART_CLASSES, "parts")


def _trained(labels: Sequence[str], name: str) -> SmallGoogLeNet:
    module = SmallGoogLeNet(labels)
    module.load_state_dict(load_file(WEIGHTS / f"{name}.safetensors"))
    module.eval()
    return module


def occlusion_for_scenes() -> VariableOcclusion:
    """Variable occlusion whose discs are as the objects of scenes, instead of as those of COCO (SPEC M16, M.6a).

    Fitted to 8,000 of them by `python experiments/train_scenes.py occlusion`; `results/scene_objects.json` tells how
    well they fit. Lengths are for photos of 224 pixels, as everywhere; scenes have 96.
    """
    return VariableOcclusion(log_area=LOG_AREA, height=HEIGHT)


def write_coco(
    folder: Path, count: int, seed: int, kind: Kind = "scenes", split: Split = "test", objects_each: int | None = None
) -> Path:
    """Write scenes 0 to `count` of a seed to folder/photos and folder/instances.json; give the path of that.

    Boxes are [left, top, width, height] of the mask, masks are uncompressed RLE, areas are those of the mask; points
    are said by the pixel that they are in the middle of (visibility 2). `garments` says, beyond COCO, what each object
    is made of. The same arguments give the same bytes.
    """
    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    labels = CLASSES if kind == "scenes" else PART_CLASSES
    points = {} if kind == "scenes" else {"keypoints": ["eyes", "feet"], "skeleton": []}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        made = scene(source(split), seed, index, kind, objects_each)
        name = f"{index:06d}.png"
        Image.fromarray(made.picture).save(photos / name)
        images.append({"id": index + 1, "file_name": name, "width": SIDE, "height": SIDE})
        for thing in made.things:
            of = {"id": len(annotations) + 1, "image_id": index + 1, "category_id": labels.index(thing.label) + 1}
            annotations.append({**of, **_coco(thing)})
    whole = {
        "info": {
            "description": f"{kind} of preimage, composed of Fashion-MNIST and Imagenette",
            "seed": seed,
            "split": split,
        },
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": i, "name": label, "supercategory": "garment", **points} for i, label in enumerate(labels, 1)
        ],
    }
    written = folder / "instances.json"
    partial = folder / "instances.json.partial"
    partial.write_text(json.dumps(whole) + "\n")
    partial.replace(written)
    return written


def _coco(thing: Thing) -> dict[str, Any]:
    # Down the columns, beginning with what is not of the object.
    pixels = np.concatenate([[False], thing.mask.ravel(order="F")])
    turns = np.flatnonzero(pixels[1:] != pixels[:-1])
    counts = np.diff(np.concatenate([[0], turns, [thing.mask.size]])).tolist()
    found: dict[str, Any] = {
        "bbox": list(thing.box),
        "area": int(thing.mask.sum()),
        "iscrowd": 0,
        "segmentation": {"size": list(thing.mask.shape), "counts": counts},
        "garments": [list(one) for one in thing.garments],
    }
    if thing.parts:
        found["keypoints"] = [value for x, y in thing.points.values() for value in (int(x), int(y), 2)]
        found["num_keypoints"] = len(thing.points)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--objects", type=int, choices=(1, 2, 3), help="so many on each scene, if there is room")
    parser.add_argument("--split", choices=("train", "test"), default="test")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--parts", dest="kind", action="store_const", const="parts")
    parts.add_argument("--parts-swapped", dest="kind", action="store_const", const="parts-swapped")
    asked = parser.parse_args()
    if asked.kind and asked.objects:
        parser.error("scenes of parts have one object")
    print(write_coco(asked.out, asked.count, asked.seed, asked.kind or "scenes", asked.split, asked.objects))


if __name__ == "__main__":
    main()
