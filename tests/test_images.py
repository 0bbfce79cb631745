"""Image files: what is read and how, what is refused (also whatever fuzzing makes of a file), writing whole or not."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch import Tensor

from preimage import RequestError
from preimage.images import MAX_PIXELS, as_image, image_files, read_image, to_pil, writable_folder, written_whole

ORIENTATION = 0x0112  # the tag of EXIF
few_examples = settings(max_examples=20, deadline=None)
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, size=(6, 9, 3), dtype=np.uint8)
GREY = RANDOM.integers(0, 256, size=(6, 9), dtype=np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG written by hand: whatever header, and whatever rows."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tensor(array: np.ndarray) -> Tensor:
    """Bytes [H, W] or [H, W, C] as the image [C, H, W] that they stand for."""
    return torch.from_numpy(np.atleast_3d(array).copy()).permute(2, 0, 1).float() / 255


def over_white(array: np.ndarray) -> Tensor:
    """Bytes [H, W, C + 1] with the opacity last, by the definition of "over" (Porter and Duff, 1984), over white."""
    levels = array / 255
    mixed = levels[..., :-1] * levels[..., -1:] + 1.0 * (1 - levels[..., -1:])
    return torch.from_numpy(mixed).permute(2, 0, 1).float()


def close(found: Tensor, expected: Tensor, levels: float = 0.01) -> None:
    """Alike within so many of 255 levels; shapes must be the same."""
    torch.testing.assert_close(found, expected, rtol=0, atol=levels / 255)


def saved(picture: Image.Image, kind: str, **options: Any) -> Any:
    """A file in memory; `read_image` takes it in place of a path."""
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    buffer.seek(0)
    return buffer


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_rgb_is_read_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, **({"lossless": True} if suffix == "webp" else {}))
    expected = torch.from_numpy(RGB).permute(2, 0, 1).float() / 255
    for name in (path, str(path)):
        found = read_image(name)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


def test_grey_is_read_as_one_channel_or_three_equal_ones(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    expected = torch.from_numpy(GREY).float() / 255
    assert torch.equal(read_image(tmp_path / "a.png", 1), expected[None])
    assert torch.equal(read_image(tmp_path / "a.png"), expected.expand(3, -1, -1))


def test_rgb_is_read_as_luma_where_one_channel_is_asked(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    luma = RGB @ np.array([0.299, 0.587, 0.114]) / 255  # ITU-R 601-2, as Pillow documents for mode L
    found = read_image(tmp_path / "a.png", 1)
    assert found.shape == (1, 6, 9)
    assert np.abs(found[0].numpy() - luma).max() <= 1 / 255


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    indices = RANDOM.integers(0, 4, size=(5, 7), dtype=np.uint8)
    colours = np.array([[255, 0, 0], [0, 255, 0], [10, 20, 30], [255, 255, 255]], dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(colours.flatten().tolist())
    assert image.mode == "P"
    expected = torch.from_numpy(colours[indices]).permute(2, 0, 1).float() / 255
    for name in ("a.png", "a.gif"):
        image.save(tmp_path / name)
        assert torch.equal(read_image(tmp_path / name), expected)


def test_one_bit_images_are_black_and_white(tmp_path: Path) -> None:
    bits = GREY > 127
    Image.fromarray(bits).save(tmp_path / "a.png")
    assert torch.equal(read_image(tmp_path / "a.png", 1)[0], torch.from_numpy(bits).float())


def test_transparency_is_kept_where_four_channels_are_asked(tmp_path: Path) -> None:
    array = RANDOM.integers(0, 256, size=(4, 5, 4), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    expected = torch.from_numpy(array).permute(2, 0, 1).float() / 255
    assert torch.equal(read_image(tmp_path / "a.png", 4), expected)
    close(read_image(tmp_path / "a.png"), over_white(array))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_read_on_the_same_scale(tmp_path: Path, name: str, channels: int) -> None:
    deep = np.array([[0, 1000, 30000], [32768, 60000, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / name)
    found = read_image(tmp_path / name, channels)
    assert found.shape == (channels, 2, 3)
    for one in found.numpy():
        assert np.abs(one - deep / 65535).max() <= 1 / 255


def test_sixteen_bits_of_colour_are_read_on_the_same_scale(tmp_path: Path) -> None:
    deep = RANDOM.integers(0, 65536, size=(3, 4, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    (tmp_path / "a.png").write_bytes(png(4, 3, rows, depth=16))
    found = read_image(tmp_path / "a.png").permute(1, 2, 0).numpy()
    assert np.abs(found - deep / 65535).max() <= 1 / 255


@pytest.mark.parametrize("channels", [0, 2, 5, -1])
def test_files_have_no_other_numbers_of_channels(tmp_path: Path, channels: int) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with pytest.raises(RequestError, match=rf"1, 3 or 4 channels, not {channels}"):
        read_image(tmp_path / "a.png", channels)


# --- refusing -----------------------------------------------------------------------------------------------------


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no image file '.*nowhere\.png'"):
        read_image(tmp_path / "nowhere.png")


@pytest.mark.parametrize(
    "content", [b"", b"hello, I am text\n" * 50, b"\x00" * 1000, b"<svg></svg>", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.png"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=r"text\.png"):
        read_image(path)


def test_folders_and_impossible_names(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "a.png" / "b.png", "a\0b.png", "x" * 5000):
        with pytest.raises(RequestError):
            read_image(path)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_truncated_png(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "half.png"
    Image.fromarray(RANDOM.integers(0, 256, size=(50, 50, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(RequestError, match=r"half\.png"):
        read_image(path)


@pytest.mark.parametrize(
    ("width", "height"), [(100_000, 100_000), (2**31 - 1, 1), (MAX_PIXELS + 1, 1), (8001, 8000), (12_000, 12_000)]
)
def test_a_header_that_claims_too_much_is_refused_before_decoding(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(width, height, bytes(100_000)))
    with pytest.raises(RequestError, match=rf"bomb\.png.*more than {MAX_PIXELS:,} pixels"):
        read_image(path)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (0, 0)])
def test_a_header_without_pixels(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "hollow.png"
    path.write_bytes(png(width, height, b""))
    with pytest.raises(RequestError, match=r"hollow\.png"):
        read_image(path)


def test_rows_that_do_not_unpack(tmp_path: Path) -> None:
    path = tmp_path / "torn.png"
    rows = b"".join(b"\0" + RANDOM.bytes(12) for _ in range(4))
    whole = png(4, 4, rows)
    path.write_bytes(whole)
    assert read_image(path).shape == (3, 4, 4)
    packed = zlib.compress(rows)
    path.write_bytes(whole.replace(chunk(b"IDAT", packed), chunk(b"IDAT", packed[:20])))
    with pytest.raises(RequestError, match=r"torn\.png"):
        read_image(path)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, format=kind)
    return buffer.getvalue()


def unusual() -> dict[str, bytes]:
    """Files with palettes, transparency, CMYK, several frames and metadata: what is damaged there is read by itself."""
    picture = Image.fromarray(RGB)
    few = picture.quantize(8)
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x011A], exif[0x010F] = 6, 72.5, "a maker"
    exif.get_ifd(0x8769)[0x829A] = 0.01
    files = {f"turned {kind}": saved(picture, kind, exif=exif) for kind in ("PNG", "JPEG", "TIFF", "WEBP")}
    files |= {"clear PNG": saved(few, "PNG", transparency=bytes(range(0, 256, 32)))}
    files |= {"clear GIF": saved(few, "GIF", transparency=1, save_all=True, append_images=[few.rotate(90)])}
    files |= {f"CMYK {kind}": saved(picture.convert("CMYK"), kind) for kind in ("JPEG", "TIFF")}
    return {name: file.getvalue() for name, file in files.items()}


FILES = {kind: encoded(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")} | unusual()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_either_read_or_refused_as_a_request(data: st.DataObject) -> None:
    content = bytearray(FILES[data.draw(st.sampled_from(sorted(FILES)))])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(content)) | st.just(len(content)))
    with suppress(RequestError):
        found = read_image(io.BytesIO(bytes(content[:cut])))  # type: ignore[arg-type]
        assert found.shape[0] == 3
        assert found.min() >= 0
        assert found.max() <= 1


def test_a_damaged_picture_of_pillows_is_refused_by_a_sentence() -> None:
    """Pillow decodes late: the damage comes to light when the picture is already handed over."""
    content = encoded("PNG")
    torn = Image.open(io.BytesIO(content[: len(content) * 2 // 3]))
    closed = Image.open(io.BytesIO(content))
    closed.close()
    for picture in (torn, closed):
        with pytest.raises(RequestError, match=r"^'the picture' cannot be read: [^\n]+$"):
            as_image(picture)


# --- modes --------------------------------------------------------------------------------------------------------


def in_palette(array: np.ndarray) -> Image.Image:
    """RGB bytes with at most 256 colours as a picture with a palette, exactly."""
    colours, indices = np.unique(array.reshape(-1, 3), axis=0, return_inverse=True)
    picture = Image.fromarray(indices.reshape(array.shape[:2]).astype(np.uint8))
    picture.putpalette(colours.flatten().tolist())
    return picture


def in_mode(array: np.ndarray, mode: str) -> Image.Image:
    """RGB bytes as an opaque picture of a mode."""
    if mode in ("P", "PA"):
        return in_palette(array).convert(mode)
    picture = Image.fromarray(array)
    return picture.convert({"RGBa": "RGBA", "La": "LA"}.get(mode, mode)).convert(mode)


COLOUR_MODES = {  # how many of 255 levels are lost
    "RGB": 0, "RGBA": 0, "RGBa": 0, "RGBX": 0, "P": 0, "PA": 0, "CMYK": 0, "YCbCr": 3, "HSV": 7, "LAB": 45
}  # fmt: skip
FILE_MODES = [
    (mode, kind)
    for kind, modes in {
        "PNG": ["RGB", "RGBA", "P"],
        "TIFF": ["RGB", "RGBA", "RGBX", "P", "CMYK", "YCbCr", "LAB"],
        "WEBP": ["RGB", "RGBA"],
        "GIF": ["P"],
        "BMP": ["RGB", "P"],
    }.items()
    for mode in modes
]


@pytest.mark.parametrize("mode", COLOUR_MODES)
@few_examples
@given(st.integers(0, 2**31))
def test_a_picture_reads_the_same_in_every_mode(mode: str, seed: int) -> None:
    """Also with one channel, which is the luma, and with four, the last of which says that all is opaque."""
    array = np.random.default_rng(seed).integers(0, 256, size=(7, 5, 3), dtype=np.uint8)
    picture, loss = in_mode(array, mode), COLOUR_MODES[mode] + 0.01
    close(as_image(picture), tensor(array), loss)
    close(as_image(picture, 4), torch.cat([tensor(array), torch.ones(1, 7, 5)]), loss)
    close(as_image(picture, 1), tensor(array @ np.array([0.299, 0.587, 0.114])), loss + 1)


@pytest.mark.parametrize(("mode", "kind"), FILE_MODES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_file_reads_the_same_in_every_mode(mode: str, kind: str, channels: int) -> None:
    file = saved(in_mode(RGB, mode), kind, **({"lossless": True} if kind == "WEBP" else {}))
    found = read_image(file, channels)
    expected = {1: tensor(RGB @ np.array([0.299, 0.587, 0.114])), 3: tensor(RGB)}
    expected[4] = torch.cat([expected[3], torch.ones(1, *RGB.shape[:2])])
    close(found, expected[channels], COLOUR_MODES[mode] + 1)
    with Image.open(file) as picture:
        assert torch.equal(as_image(picture, channels), found)


@pytest.mark.parametrize("mode", ["L", "LA", "La", "P", "PA", "I;16", "1"])
def test_grey_reads_the_same_in_every_mode(mode: str) -> None:
    """Exactly, too, where one channel is asked: the way through three must lose nothing."""
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    if mode == "I;16":
        picture = Image.fromarray(levels.astype(np.uint16) * 257)
    elif mode == "1":
        levels = np.where(levels > 127, 255, 0).astype(np.uint8)
        picture = Image.fromarray(levels > 127)
    elif mode in ("P", "PA"):
        picture = in_palette(np.stack([levels] * 3, -1)).convert(mode)
    else:
        picture = in_mode(np.stack([levels] * 3, -1), mode)
    assert picture.mode == mode
    assert torch.equal(as_image(picture, 1), tensor(levels))
    assert torch.equal(as_image(picture), tensor(levels).expand(3, -1, -1))
    close(as_image(picture, 4), torch.cat([tensor(levels).expand(3, -1, -1), torch.ones(1, 16, 16)]))


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
@pytest.mark.parametrize(
    ("ink", "colour"),
    [
        ((0, 255, 255, 0), (1, 0, 0)),
        ((255, 0, 0, 0), (0, 1, 1)),
        ((0, 0, 0, 0), (1, 1, 1)),
        ((0, 0, 0, 255), (0, 0, 0)),
    ],
)
def test_ink_reads_as_the_colour_that_is_printed(
    kind: str, ink: tuple[int, int, int, int], colour: tuple[int, int, int]
) -> None:
    """A JPEG of Adobe's holds the ink inverted, and says so."""
    file = saved(Image.new("CMYK", (16, 16), ink), kind)
    assert (b"Adobe" in file.getvalue()) == (kind == "JPEG")
    close(read_image(file), torch.tensor(colour)[:, None, None].expand(3, 16, 16).float(), 3)


# --- transparency -------------------------------------------------------------------------------------------------


def half_red() -> dict[str, Any]:
    """Red that lets half of what lies below through, in all ways in which it can be given."""
    array = np.zeros((2, 3, 4), dtype=np.uint8) + np.array([255, 0, 0, 128], dtype=np.uint8)
    picture = Image.fromarray(array)
    red = in_palette(array[:, :, :3].copy())
    ways: dict[str, Any] = {mode: picture.convert(mode) for mode in ("RGBA", "RGBa", "PA")}
    ways |= {kind: Image.open(saved(picture, kind)) for kind in ("PNG", "TIFF")}
    ways |= {"WEBP": Image.open(saved(picture, "WEBP", lossless=True))}
    ways |= {"palette": Image.open(saved(red, "PNG", transparency=bytes([128])))}
    palette = red.copy()
    palette.putpalette([255, 0, 0, 128], "RGBA")
    return ways | {"palette of RGBA": palette, "bytes": array, "floats": array / 255}


@pytest.mark.parametrize("way", half_red())
def test_half_transparent_red_over_white_is_pink(way: str) -> None:
    photo = half_red()[way]
    pink = torch.tensor([1.0, 127 / 255, 127 / 255])
    close(as_image(photo), pink[:, None, None].expand(3, 2, 3))
    kept = torch.tensor([1.0, 0.0, 0.0, 128 / 255])
    close(as_image(photo, 4), kept[:, None, None].expand(4, 2, 3))
    if isinstance(photo, Image.Image):
        grey = 0.299 + (1 - 0.299) * 127 / 255  # the luma of pink
        close(as_image(photo, 1), torch.full((1, 2, 3), grey), 1)


@few_examples
@given(st.integers(0, 2**31))
def test_opacity_is_applied_to_each_colour_of_a_palette(seed: int) -> None:
    random = np.random.default_rng(seed)
    colours = random.integers(0, 256, size=(16, 4), dtype=np.uint8)
    indices = random.integers(0, 16, size=(5, 6), dtype=np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(colours[:, :3].flatten().tolist())
    file = saved(picture, "PNG", transparency=colours[:, 3].tobytes())
    close(read_image(file), over_white(colours[indices]))
    close(read_image(file, 4), tensor(colours[indices]))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_one_clear_colour_of_a_palette_is_white(kind: str) -> None:
    picture = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    file = saved(picture, kind, transparency=1)
    expected = np.array([[[10, 20, 30], [255, 255, 255], [70, 80, 90]]], dtype=np.uint8)
    assert torch.equal(read_image(file), tensor(expected))
    assert read_image(file, 4)[3].tolist() == [[1, 0, 1]]


@pytest.mark.parametrize(
    ("picture", "clear"),
    [
        (Image.fromarray(np.array([[0, 100, 255]], dtype=np.uint8)), 100),
        (Image.fromarray(np.array([[0, 25700, 65535]], dtype=np.uint16)), 25700),
        (Image.fromarray(np.array([[[0] * 3, [9, 99, 199], [255] * 3]], dtype=np.uint8)), (9, 99, 199)),
    ],
    ids=["grey", "16 bits", "RGB"],
)
def test_a_clear_colour_without_a_palette_is_white(picture: Image.Image, clear: Any) -> None:
    file = saved(picture, "PNG", transparency=clear)
    for channels in (1, 3):
        assert read_image(file, channels).tolist() == [[[0, 1, 1]]] * channels
    assert read_image(file, 4)[3].tolist() == [[1, 0, 1]]
    with Image.open(file) as opened:
        assert torch.equal(as_image(opened, 4), read_image(file, 4))


def test_one_clear_value_of_sixteen_bits_leaves_its_neighbours() -> None:
    """They are the same in eight bits."""
    deep = Image.fromarray(np.array([[25699, 25700, 25701]], dtype=np.uint16))
    assert read_image(saved(deep, "PNG", transparency=25700), 4)[3].tolist() == [[1, 0, 1]]


def test_one_bit_can_be_clear() -> None:
    picture = Image.fromarray(np.array([[False, True]]))
    assert read_image(saved(picture, "PNG", transparency=0), 1).tolist() == [[[1, 1]]]
    assert read_image(saved(picture, "PNG", transparency=1), 4)[3].tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("mode", "clear"),
    [(mode, clear) for mode in ("1", "L", "I;16", "CMYK", "HSV") for clear in (b"\0\1\2", (7, 7, 7), None)]
    + [("RGB", b"\0\1\2"), ("RGB", 7), ("RGB", None), ("P", (7, 7, 7)), ("P", None), ("CMYK", 7), ("HSV", 7)],
)
def test_a_transparent_colour_of_another_mode_means_nothing(mode: str, clear: Any) -> None:
    """Pillow hands it on when it converts a picture, also to modes that name colours in another way."""
    picture = Image.new(mode, (2, 2), 7)
    expected = as_image(picture, 4)
    picture.info["transparency"] = clear
    assert torch.equal(as_image(picture, 4), expected)


# --- which way up -------------------------------------------------------------------------------------------------

# Where the first row and the first column of the file belong in the upright picture (EXIF 2.32, tag 0x0112).
FIRST_ROW_AND_COLUMN = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


def as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera writes with this orientation when it means the array [H, W] or [H, W, C]."""
    row, column = FIRST_ROW_AND_COLUMN[orientation]
    stored = upright if row in ("top", "bottom") else upright.swapaxes(0, 1)
    stored = stored[::-1] if row in ("bottom", "right") else stored
    return np.ascontiguousarray(stored[:, ::-1] if column in ("bottom", "right") else stored)


def turned(orientation: Any) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def tagged(tag: int, kind: int, count: int, value: bytes, orientation: int = 6) -> bytes:
    """EXIF written by hand: an orientation, and one other entry, whatever it says."""
    entries = sorted([(ORIENTATION, 3, 1, struct.pack("<HH", orientation, 0)), (tag, kind, count, value)])
    packed = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)


@pytest.mark.parametrize("orientation", FIRST_ROW_AND_COLUMN)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF of LZW", "WEBP", "JPEG"])
def test_a_photo_is_upright_whichever_way_the_camera_was_held(orientation: int, kind: str) -> None:
    upright = np.kron(RGB, np.ones((8, 8, 1), dtype=np.uint8))  # whole blocks of a JPEG
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    options |= {"compression": "tiff_lzw"} if kind == "TIFF of LZW" else {}
    file = saved(Image.fromarray(as_stored(upright, orientation)), kind.split()[0], exif=turned(orientation), **options)
    found = read_image(file)
    close(found, tensor(upright), 8 if kind == "JPEG" else 0.01)
    with Image.open(file) as picture:
        assert torch.equal(as_image(picture), found)
        assert torch.equal(as_image(picture), found)  # and it was not turned for good
    with Image.open(file) as picture:
        assert torch.equal(as_image(picture.convert("RGB")), found)
        assert torch.equal(as_image(ImageOps.exif_transpose(picture)), found)


@pytest.mark.parametrize("orientation", FIRST_ROW_AND_COLUMN)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_pictures_of_all_modes_are_turned(orientation: int, mode: str) -> None:
    if mode in ("1", "I;16"):
        grey = GREY > 127 if mode == "1" else GREY.astype(np.uint16) * 257
        upright, stored = Image.fromarray(grey), Image.fromarray(as_stored(grey, orientation))
    else:
        upright, stored = in_mode(RGB, mode), in_mode(as_stored(RGB, orientation), mode)
    assert upright.mode == stored.mode == mode
    file = saved(stored, "PNG", exif=turned(orientation))
    for channels in (1, 3, 4):
        assert torch.equal(read_image(file, channels), as_image(upright, channels))


def test_a_picture_that_is_handed_over_stays_as_it_is() -> None:
    picture = Image.open(saved(in_palette(RGB), "PNG", exif=turned(6), transparency=bytes(54)))
    picture.load()
    before = picture.mode, picture.size, picture.tobytes(), picture.getpalette("RGBA"), dict(picture.info)
    assert as_image(picture).shape == (3, 9, 6)
    assert before == (picture.mode, picture.size, picture.tobytes(), picture.getpalette("RGBA"), dict(picture.info))
    assert picture.getexif()[ORIENTATION] == 6


@pytest.mark.parametrize("orientation", [0, 9, 65535, -1, "6", "sideways", (6, 6), 6.5])
def test_an_orientation_that_there_is_not_turns_nothing(orientation: Any) -> None:
    picture = Image.fromarray(RGB)
    picture.getexif()[ORIENTATION] = orientation
    assert torch.equal(as_image(picture), tensor(RGB))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("tag", "entry"),
    [
        (0x010F, (11, 1, bytes(4))),  # the maker as a number
        (0x011A, (5, 1, b"\xff\xff\xff\xff")),  # a resolution that lies outside of the file
        (0x8769, (4, 1, b"\xff\xff\xff\xff")),  # and so does the rest of the metadata
    ],
)
def test_a_photo_is_upright_also_where_other_metadata_is_damaged(
    kind: str, tag: int, entry: tuple[int, int, bytes]
) -> None:
    upright = np.kron(RGB, np.ones((8, 8, 1), dtype=np.uint8))
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    file = saved(Image.fromarray(as_stored(upright, 6)), kind, exif=tagged(tag, *entry), **options)
    close(read_image(file), tensor(upright), 8 if kind == "JPEG" else 0.01)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.binary(max_size=60), st.data())
def test_damaged_metadata_harms_no_pixel(kind: str, noise: bytes, data: st.DataObject) -> None:
    """The picture is read, one way up or another."""
    valid = bytearray(tagged(0x010F, 2, 4, b"abc\0"))
    for _ in range(data.draw(st.integers(1, 6))):
        valid[data.draw(st.integers(6, len(valid) - 1))] = data.draw(st.integers(0, 255))
    options = {"lossless": True} if kind == "WEBP" else {}
    plain = read_image(saved(Image.fromarray(RGB), kind, **options))
    ways = [tensor(as_stored(plain.mul(255).byte().permute(1, 2, 0).numpy(), way)) for way in FIRST_ROW_AND_COLUMN]
    for metadata in (b"Exif\0\0" + noise, bytes(valid)):
        found = read_image(saved(Image.fromarray(RGB), kind, exif=metadata, **options))
        assert any(found.shape == way.shape and (found - way).abs().max() < 1e-6 for way in ways)


# --- frames -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    file = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    red, green = (tensor(np.array(frame)) for frame in frames[:2])
    assert torch.equal(read_image(file), red)
    with Image.open(file) as picture:
        assert picture.n_frames == 3  # type: ignore[attr-defined]
        assert torch.equal(as_image(picture), red)
        picture.seek(1)  # whoever turns to another frame means that one
        assert torch.equal(as_image(picture), green)
        assert picture.tell() == 1


# --- arrays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grey", [GREY, GREY / 255, (GREY / 255).astype(np.float32), GREY > 127])
def test_a_grey_array_is_three_equal_channels_where_three_are_asked(grey: np.ndarray) -> None:
    expected = torch.from_numpy(grey).float() if grey.dtype != np.uint8 else tensor(grey)[0]
    for array in (grey, grey[:, :, None]):
        found = as_image(array)
        assert torch.equal(found, expected.expand(3, -1, -1))
        found[0] += 1  # whoever writes into one channel does not write into the others
        assert torch.equal(found[1], expected)


@few_examples
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 5))
def test_an_array_with_opacity_lies_over_white_as_its_picture_does(seed: int, height: int, width: int) -> None:
    array = np.random.default_rng(seed).integers(0, 256, size=(height, width, 4), dtype=np.uint8)
    for photo in (array, array / 255, (array / 255).astype(np.float32), Image.fromarray(array)):
        close(as_image(photo), over_white(array))
        close(as_image(photo, 4), tensor(array))


@pytest.mark.parametrize("colour", [(0.5, 0.5, 0.5, 255), (2, 0, 0, 0), (np.nan, 0, 0, 0), (0, 0, 0, np.nan)])
def test_no_wrong_value_hides_behind_opacity(colour: tuple[float, ...]) -> None:
    array = np.zeros((2, 2, 4))
    array[1, 1] = colour
    with pytest.raises(RequestError, match=r"values lie in \[0, 1\], not between"):
        as_image(array)


@pytest.mark.parametrize(
    ("shape", "channels", "seen"),
    [
        ((4, 5, 2), 3, [2, 4, 5]),
        ((4, 5, 5), 3, [5, 4, 5]),
        ((4, 5), 4, [1, 4, 5]),
        ((4, 5, 4), 1, [4, 4, 5]),
        ((4, 5, 3), 1, [3, 4, 5]),
        ((2, 4, 5, 4), 3, [4, 2, 4, 5]),
    ],
)
def test_arrays_of_other_shapes_are_not_guessed_at(shape: tuple[int, ...], channels: int, seen: list[int]) -> None:
    with pytest.raises(RequestError) as refused:
        as_image(np.zeros(shape), channels)
    assert str(refused.value) == f"an image has shape [{channels}, H, W] here, not {seen}"


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 5, 1), (0, 5, 4), (5, 0, 4)])
def test_an_array_without_pixels_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match=r"an image has shape \[\d, H, W\] here, not"):
        as_image(np.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 4, 5), (4, 4, 5), (4, 5), (4, 5, 3)])
def test_a_tensor_has_the_channels_that_are_asked(shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match=r"an image has shape \[3, H, W\] here"):
        as_image(torch.zeros(shape))


# --- folders ------------------------------------------------------------------------------------------------------


def test_image_files_are_sorted_found_below_and_told_by_their_suffix(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "looks.png").mkdir()
    for name in ("z.png", "b/a.JPEG", "b/c/m.TIF", "notes.txt", "b/png"):
        (tmp_path / name).touch()
    expected = [tmp_path / "b" / "a.JPEG", tmp_path / "b" / "c" / "m.TIF", tmp_path / "z.png"]
    assert image_files(tmp_path) == image_files(str(tmp_path)) == expected


def test_image_files_wants_a_folder_with_images(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(RequestError, match="no image files"):
        image_files(tmp_path)
    for path in (tmp_path / "a.txt", tmp_path / "nowhere"):
        with pytest.raises(RequestError, match="not a folder"):
            image_files(path)


# --- pictures -----------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_to_pil_rounds_to_the_nearest_of_256_and_lays_other_channels_side_by_side(
    seed: int, channels: int, height: int, width: int
) -> None:
    image = torch.rand((channels, height, width), generator=torch.Generator().manual_seed(seed))
    picture = np.array(to_pil(image)).astype(float)
    if channels == 3:
        assert picture.shape == (height, width, 3)
        back = picture.transpose(2, 0, 1)
    else:
        assert picture.shape == (height, channels * width)
        back = picture.reshape(height, channels, width).transpose(1, 0, 2)
    assert np.abs(back / 255 - image.numpy()).max() <= 0.5 / 255 + 1e-6


def test_to_pil_clips_what_lies_outside() -> None:
    image = torch.tensor([[[-1.0, 0.0, 0.5, 1.0, 7.0]]], requires_grad=True)
    assert np.array(to_pil(image)).tolist() == [[0, 0, 128, 255, 255]]


# --- writing ------------------------------------------------------------------------------------------------------


def test_written_whole_puts_the_file_in_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with written_whole(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.parent == tmp_path and partial.suffix == ".txt" and partial != path
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("there_before", [True, False])
def test_written_whole_leaves_nothing_behind_on_failure(
    tmp_path: Path, failure: type[BaseException], there_before: bool
) -> None:
    path = tmp_path / "a.txt"
    if there_before:
        path.write_text("old")

    def write() -> None:
        with written_whole(path) as partial:
            partial.write_text("half")
            raise failure

    with pytest.raises(failure):
        write()
    assert [file.read_text() for file in tmp_path.iterdir()] == (["old"] if there_before else [])


def test_written_whole_leaves_nothing_behind_where_the_place_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()

    def write() -> None:
        with written_whole(tmp_path / "a.txt") as partial:
            partial.write_text("new")

    with pytest.raises(OSError):  # noqa: PT011
        write()
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]


def test_a_writable_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    for _ in range(2):
        assert writable_folder(tmp_path / "new" / "er") == tmp_path / "new" / "er"
        assert list((tmp_path / "new" / "er").iterdir()) == []


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("I am no folder")
    for path in (
        tmp_path / "file",
        tmp_path / "file" / "below",
        str(tmp_path / "file" / "deep" / "below"),
        "/proc/nope",
    ):
        with pytest.raises(RequestError, match="cannot write to the folder"):
            writable_folder(path)
    assert (tmp_path / "file").read_text() == "I am no folder"
