"""Image files: read with suspicion, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from preimage.errors import RequestError

MAX_PIXELS = 64_000_000
"""Larger files are refused before they are decoded: a few kilobytes can unfold into gigabytes."""

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_MODES_WITH_OPACITY = {1: "LA", 3: "RGBA", 4: "RGBA"}
_CLEAR = {"1": (int,), "L": (int,), "I;16": (int,), "RGB": (tuple,), "P": (int, bytes)}
"""How a picture of each mode names the colour that is transparent, or (P) the opacity of each of its colours."""


def image_files(folder: str | Path) -> list[Path]:
    """All image files below `folder`, sorted; raises `RequestError` if it is no folder or holds none."""
    root = Path(folder)
    if not root.is_dir():
        raise RequestError(f"'{root}' is not a folder")
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise RequestError(f"'{root}' holds no image files")
    return found


Photo = str | Path | Image.Image | np.ndarray | Tensor
"""A file, a picture of Pillow's, an array [H, W, C] (bytes, or floats in [0, 1]) or a tensor [C, H, W] in [0, 1]."""


def as_image(photo: Photo, channels: int = 3) -> Tensor:
    """Any way in which an image can be given, as float32 [channels, H, W] in [0, 1].

    Files and pictures of Pillow's are read as `read_image` says; of several frames, the one at which the picture
    stands. Where 3 channels are asked, an array may also be grey, [H, W] or [H, W, 1], which stands for three equal
    channels, or have the opacity as a fourth, which is laid over white. A tensor has the channels that are asked.

    Raises `RequestError` for what `read_image` refuses, other shapes, and values outside [0, 1] or not finite.
    """
    if isinstance(photo, (str, Path)):
        return read_image(photo, channels)
    if isinstance(photo, Image.Image):
        if 0 in photo.size:
            raise RequestError(f"an image has pixels; this one is {photo.width} x {photo.height}")
        with _refused("the picture"):
            image = _pixels(photo, "the picture", channels if channels in _MODES else 3)
    elif isinstance(photo, np.ndarray):
        if photo.dtype.kind not in "buif":
            raise RequestError(f"an image is an array of numbers, not of {photo.dtype}")
        array = photo[..., None] if photo.ndim == 2 else photo
        values = torch.from_numpy(np.array(array)).movedim(-1, 0)
        image = values.float() / 255 if values.dtype == torch.uint8 else values.float()
        if channels == 3 and image.ndim == 3 and image.shape[0] == 1:
            image = _checked(image, 1).repeat(3, 1, 1)
        elif channels == 3 and image.ndim == 3 and image.shape[0] == 4:
            image = _over_white(_checked(image, 4))
    elif isinstance(photo, Tensor):
        image = photo.detach().cpu().float()
    else:
        raise RequestError(f"an image is a file, a PIL image, an array or a tensor, not {type(photo).__name__}")
    return _checked(image, channels)


def _checked(image: Tensor, channels: int) -> Tensor:
    """`image`, if it is one: [channels, H, W] with finite values in [0, 1]."""
    if image.ndim != 3 or image.shape[0] != channels or 0 in image.shape:
        raise RequestError(f"an image has shape [{channels}, H, W] here, not {list(image.shape)}")
    if not (image.isfinite().all() and image.min() >= 0 and image.max() <= 1):
        raise RequestError(
            f"an image's values lie in [0, 1], not between {image.min():g} and {image.max():g}; give it as it is, "
            "without the network's preprocessing"
        )
    return image


def listed_photos(photos: Photo | Sequence[Photo]) -> list[Photo]:
    """One photo, several, or a stack of them (a tensor [N, C, H, W], an array [N, H, W, C]), as a list."""
    if isinstance(photos, (Tensor, np.ndarray)):
        return list(photos) if photos.ndim == 4 else [photos]
    return list(photos) if isinstance(photos, Sequence) and not isinstance(photos, str) else [photos]


def photo_names(photos: Sequence[Photo]) -> list[str]:
    """How each photo is called: its file's name, or its number."""
    return [Path(photo).stem if isinstance(photo, (str, Path)) else f"photo {i}" for i, photo in enumerate(photos)]


def photo_as_setting(photo: Photo, image: Tensor) -> str:
    """A photo as settings name it: its path, or what tells its pixels from others."""
    if isinstance(photo, (str, Path)):
        return str(photo)
    return f"{list(image.shape)} {hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()}"


def centre_crop(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest centred part of [C, H, W] with the shape of `size`, resampled to it."""
    scale = max(size[0] / image.shape[1], size[1] / image.shape[2])
    whole = [max(round(side * scale), least) for side, least in zip(image.shape[1:], size, strict=True)]
    resized = F.interpolate(image[None], size=whole, mode="bilinear", antialias=True, align_corners=False)[0]
    top, left = ((side - least) // 2 for side, least in zip(whole, size, strict=True))
    return resized[:, top : top + size[0], left : left + size[1]].clamp(0, 1)


def read_image(path: str | Path, channels: int = 3) -> Tensor:
    """An image file as a viewer shows it, float32 [channels, H, W] in [0, 1]; channels may be 1, 3 or 4.

    It is held as its EXIF orientation says. Of several frames it is the first. What is transparent lies over white;
    where 4 channels are asked, the fourth is the opacity instead. Colour profiles are not looked at.

    Raises `RequestError` if it is missing, no image, damaged or larger than `MAX_PIXELS`.
    """
    if channels not in _MODES:
        raise RequestError(f"image files have 1, 3 or 4 channels, not {channels}; give a tensor [{channels}, H, W]")
    with _refused(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked below
        with Image.open(path) as file:
            if file.width * file.height > MAX_PIXELS:
                raise RequestError(
                    f"'{path}' is {file.width} x {file.height}; more than {MAX_PIXELS:,} pixels are refused"
                )
            return _pixels(file, path, channels)


@contextmanager
def _refused(path: str | Path) -> Iterator[None]:
    """Whatever Pillow raises over a picture that cannot be read becomes a `RequestError` that names it."""
    try:
        yield
    except RequestError:
        raise
    except FileNotFoundError as error:
        raise RequestError(f"there is no image file '{path}'") from error
    except Image.DecompressionBombError as error:
        raise RequestError(f"'{path}' is far too large; more than {MAX_PIXELS:,} pixels are refused") from error
    except UnidentifiedImageError as error:
        raise RequestError(f"'{path}' is no image that can be read") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise RequestError(f"'{path}' cannot be read: {error}") from error


def _pixels(picture: Image.Image, path: str | Path, channels: int) -> Tensor:
    """A picture of any mode as `read_image` describes it; the picture itself stays as it is."""
    eight = _eight_bits(_upright(picture), path)
    if not eight.has_transparency_data:
        # By way of RGB, because Pillow does not turn every mode into grey, and gives Lab colours no opacity.
        return _channels_first(eight.convert("RGB").convert(_MODES[channels]))
    if eight.mode == "La":
        eight = eight.convert("LA")  # the only mode into which Pillow turns it
    image = _channels_first(eight.convert("RGBA").convert(_MODES_WITH_OPACITY[channels]))
    return image if channels == 4 else _over_white(image)


def _upright(picture: Image.Image) -> Image.Image:
    """A copy of the picture, turned and mirrored as its EXIF orientation says."""
    picture.load()  # outside of the block below, which is about metadata and would hide damaged pixels
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata makes Pillow raise errors of any kind; the pixels are no worse for it
        orientation = 1
    copy = picture.copy()
    # Pillow writes all metadata anew when it turns a picture, and fails over many a camera's: it gets none but this.
    copy.info = {}
    # Pillow leaves the transparent colour of one mode behind in pictures of another, where it means nothing.
    clear = picture.info.get("transparency")
    if isinstance(clear, _CLEAR.get(copy.mode, ())):
        copy.info["transparency"] = clear
    copy.getexif()[ExifTags.Base.Orientation] = orientation
    ImageOps.exif_transpose(copy, in_place=True)
    return copy


def _eight_bits(file: Image.Image, path: str | Path) -> Image.Image:
    """Pillow clips 16-bit grey values instead of scaling them, and knows no range for 32-bit ones."""
    if file.mode.startswith("I;16"):
        deep = np.asarray(file, dtype=np.uint32)
        grey = Image.fromarray((deep * 255 // 65535).astype(np.uint8))
        clear = file.info.get("transparency")
        if clear is not None:  # one of 65536 values, which cannot be told from its neighbours in eight bits
            grey.putalpha(Image.fromarray(np.where(deep == clear, 0, 255).astype(np.uint8)))
        return grey
    if file.mode in ("I", "F"):
        raise RequestError(f"'{path}' has 32-bit values, whose range is not known; save it with 8 or 16 bits")
    return file


def _channels_first(eight: Image.Image) -> Tensor:
    """A picture of eight bits as float32 [C, H, W] in [0, 1]."""
    array = np.array(eight).reshape(eight.height, eight.width, -1)
    return torch.from_numpy(array).permute(2, 0, 1).float() / 255


def _over_white(image: Tensor) -> Tensor:
    """[C + 1, H, W], the last channel being the opacity, as it looks on a white page: [C, H, W]."""
    colours, opacity = image[:-1], image[-1:]
    return colours * opacity + (1 - opacity)


def to_pil(image: Tensor) -> Image.Image:
    """A tensor [C, H, W] in [0, 1] as a picture; numbers of channels other than 1 and 3 are laid side by side."""
    pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    if pixels.shape[0] == 3:
        return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    return Image.fromarray(torch.cat(list(pixels), dim=1).contiguous().numpy())


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to, beside `path`; it takes `path`'s place when the block ends well, and vanishes otherwise."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def writable_folder(folder: str | Path) -> Path:
    """`folder`, made if it is not there; raises `RequestError` if nothing can be written into it."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise RequestError(f"cannot write to the folder '{path}': {error.strerror or error}") from error
    return path
