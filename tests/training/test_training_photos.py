"""Folders and tensors of photos: sizes, damage, and that it makes no difference how they are held."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from preimage import RequestError
from preimage.images import centre_crop, read_image
from preimage.training import PhotoFolder, PhotoTensor, photos


def picture(path: Path, width: int, height: int, seed: int = 0) -> Path:
    values = torch.rand(height, width, 3, generator=torch.Generator().manual_seed(seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((values * 255).byte().numpy()).save(path)
    return path


def test_mixed_sizes_name_two_files_and_the_option(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 8, 8), picture(tmp_path / "b.png", 8, 8), picture(tmp_path / "sub" / "c.png", 9, 7)
    with pytest.raises(RequestError) as caught:
        photos.opened(tmp_path, 3)
    said = str(caught.value)
    assert f"'{tmp_path / 'a.png'}' is 8 x 8" in said and f"'{tmp_path / 'sub' / 'c.png'}' 9 x 7" in said
    assert "--size N" in said and "\n" not in said


def test_photos_that_are_no_squares(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 9, 7)
    with pytest.raises(RequestError, match=r"are square, but .* is 9 x 7; --size N"):
        photos.opened(tmp_path, 3)


def test_a_size_crops_and_resamples_all(tmp_path: Path) -> None:
    files = [picture(tmp_path / "a.png", 16, 11, 1), picture(tmp_path / "b.png", 6, 8, 2)]
    found = photos.opened(tmp_path, 3, 5)
    assert (len(found), found.channels, found.size) == (2, 3, 5)
    for index, file in enumerate(files):
        wanted = centre_crop(read_image(file), (5, 5))
        assert (found.batch(torch.tensor([index]))[0] - wanted).abs().max() <= 0.5 / 255 + 1e-6


def test_read_at_once_or_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        picture(tmp_path / f"{i}.png", 6, 6, i)
    chosen = torch.tensor([3, 0, 3])
    at_once = photos.opened(tmp_path, 3)
    monkeypatch.setattr(photos, "MEMORY", 0)
    one_by_one = photos.opened(tmp_path, 3)
    assert isinstance(at_once, PhotoTensor) and isinstance(one_by_one, PhotoFolder)
    assert torch.equal(at_once.batch(chosen), one_by_one.batch(chosen))
    expected = torch.stack([read_image(tmp_path / f"{i}.png") for i in chosen.tolist()])
    assert torch.equal(at_once.batch(chosen), expected)


def test_pictures_held_sideways_count_as_they_are_seen(tmp_path: Path) -> None:
    upright = picture(tmp_path / "a.png", 6, 6)
    sideways = Image.open(picture(tmp_path / "b.jpg", 6, 4))
    metadata = sideways.getexif()
    metadata[0x0112] = 6
    sideways.save(tmp_path / "b.jpg", exif=metadata)
    with pytest.raises(RequestError, match=rf"'{upright}' is 6 x 6 and '.*b.jpg' 4 x 6"):
        photos.opened(tmp_path, 3)


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 6, 6)
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(RequestError, match=r"'.*b.png' is no image that can be read"):
        photos.opened(tmp_path, 3)


def test_a_damaged_file(tmp_path: Path) -> None:
    whole = picture(tmp_path / "a.png", 60, 60).read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RequestError, match=r"'.*a.png' cannot be read"):
        photos.opened(tmp_path, 3)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds no image files"):
        photos.opened(tmp_path, 3)


def test_bytes_and_numbers_are_the_same_photos() -> None:
    pixels = torch.randint(0, 256, (4, 3, 5, 5), dtype=torch.uint8)
    every = torch.arange(4)
    assert torch.equal(PhotoTensor(pixels).batch(every), PhotoTensor(pixels.float() / 255).batch(every))


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (torch.zeros(3, 5, 5), r"have the shape \[N, channels, size, size\], not \[3, 5, 5\]"),
        (torch.zeros(2, 3, 5, 6), r"not \[2, 3, 5, 6\]"),
        (torch.zeros(0, 3, 5, 5), r"not \[0, 3, 5, 5\]"),
        (torch.full((2, 3, 5, 5), 255.0), r"have values in \[0, 1\], not between 255 and 255"),
        (torch.full((2, 3, 5, 5), float("nan")), r"have values in \[0, 1\]"),
        (torch.zeros(2, 1, 5, 5), "takes images of 3 channels, but the photos have 1"),
    ],
)
def test_tensors_that_are_no_photos(pixels: torch.Tensor, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        photos.opened(pixels, 3)


def test_the_digest_tells_photos_apart_and_not_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, seed in (("one", 0), ("two", 0), ("three", 1)):
        picture(tmp_path / folder / "a.png", 6, 6, seed)
    first, same, other = (photos.opened(tmp_path / name, 3).digest() for name in ("one", "two", "three"))
    assert first == same != other
    monkeypatch.setattr(photos, "MEMORY", 0)
    first, same = (photos.opened(tmp_path / name, 3).digest() for name in ("one", "two"))
    assert first == same
