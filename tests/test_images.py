"""Image files: what is read and how, what is refused (also whatever fuzzing makes of a file), writing whole or not."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from preimage import RequestError
from preimage.images import MAX_PIXELS, image_files, read_image, to_pil, writable_folder, written_whole

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
    assert torch.equal(read_image(tmp_path / "a.png"), expected[:3])


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


FILES = {kind: encoded(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")}


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
