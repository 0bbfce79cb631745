"""A chain as a film: what a program that opens the file finds in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_sampling import walked
from torch import Tensor

from preimage import Chain, RequestError
from preimage.images import to_pil
from preimage.sample.chain import spread

FRAME, REST = 100, 1500


def chain(samples: Tensor) -> Chain:
    """Chains of these samples, [kept, chains, C, H, W], that were asked nothing of interest."""
    kept, count = samples.shape[:2]
    codes, scores, trace = torch.zeros(3, kept, count).unbind()
    asked = [f"class:{i} (a/b)" for i in range(count)]
    return Chain(samples, list(range(1, kept + 1)), codes, scores, trace, kept, asked, {}, codes[-1], {})


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def frames(path: Path) -> tuple[list[np.ndarray], list[int], int]:
    """All frames of a film, [H, W, 3], for how many milliseconds each stands, and how often it repeats (0: always)."""
    pictures, durations = [], []
    with Image.open(path) as film:
        assert film.format == "WEBP"
        for t in range(getattr(film, "n_frames", 1)):
            film.seek(t)
            pictures.append(np.asarray(film.convert("RGB")))
            durations.append(int(film.info.get("duration", 0)))
        return pictures, durations, int(film.info.get("loop", 0))


def test_each_chain_is_a_film_that_repeats_and_holds_its_last_sample(tmp_path: Path) -> None:
    made = chain(noise(6, 3, 3, 8, 8))
    films = made.save_animations(tmp_path)
    assert [film.name for film in films] == [f"{Path(name).stem}-chain.webp" for name in made.image_names()]
    assert sorted(tmp_path.iterdir()) == sorted(films)  # and nothing half-written
    for film in films:
        pictures, durations, loop = frames(film)
        assert len(pictures) == 6 and loop == 0
        assert durations == [FRAME] * 5 + [REST]


@pytest.mark.parametrize(("size", "factor"), [((8, 8), 16), ((32, 32), 4), ((64, 80), 2), ((65, 80), 1), ((1, 3), 128)])
def test_small_pictures_are_enlarged_pixel_by_pixel_and_exact(
    tmp_path: Path, size: tuple[int, int], factor: int
) -> None:
    samples = noise(2, 1, 3, *size)
    (film,) = chain(samples).save_animations(tmp_path)
    pictures, _, _ = frames(film)
    for picture, sample in zip(pictures, samples[:, 0], strict=True):
        assert picture.shape == (size[0] * factor, size[1] * factor, 3)
        if factor > 1:
            whole = (sample * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(picture, whole.repeat(factor, 0).repeat(factor, 1))


def test_grey_chains_are_films_too(tmp_path: Path) -> None:
    (film,) = chain(noise(3, 1, 1, 16, 16)).save_animations(tmp_path)
    pictures, durations, _ = frames(film)
    assert durations == [FRAME, FRAME, REST]
    assert all((picture == picture[..., :1]).all() for picture in pictures)


def test_larger_pictures_take_less_than_their_png(tmp_path: Path) -> None:
    """Smooth pictures, as those of generators are: a film of ten has fewer bytes than the strip, which is exact."""
    ways = torch.linspace(0, 6, 96)
    waves = [(0.5 + 0.4 * torch.sin(ways[:, None] + t / 3) * torch.cos(ways)).expand(3, 96, 96) for t in range(10)]
    samples = (torch.stack(waves) + 0.02 * noise(10, 3, 96, 96)).clamp(0, 1)
    (film,) = chain(samples[:, None]).save_animations(tmp_path)
    strip = tmp_path / "strip.png"
    to_pil(torch.cat(list(samples), 2)).save(strip)
    assert film.stat().st_size < strip.stat().st_size
    assert len(frames(film)[0]) == 10


def test_long_chains_have_a_hundred_frames_with_both_ends(tmp_path: Path) -> None:
    greys = torch.arange(250)[:, None, None, None, None].expand(250, 1, 3, 8, 8) / 255
    (film,) = chain(greys.contiguous()).save_animations(tmp_path)
    pictures, durations, _ = frames(film)
    shown = [int(picture[0, 0, 0]) for picture in pictures]
    assert len(shown) == 100 and shown[0] == 0 and shown[-1] == 249
    assert set(np.diff(shown).tolist()) == {2, 3}  # 249 / 99 = 2.5
    assert sum(durations) == 99 * FRAME + REST


def test_a_sample_that_stays_keeps_its_time(tmp_path: Path) -> None:
    """The file holds equal frames once; the film is as long as it would be with all of them."""
    samples = noise(4, 1, 3, 8, 8)
    samples[2] = samples[1]
    (film,) = chain(samples).save_animations(tmp_path)
    assert sum(frames(film)[1]) == 3 * FRAME + REST


def test_a_chain_of_one_sample_stands_still(tmp_path: Path) -> None:
    (film,) = chain(noise(1, 1, 3, 8, 8)).save_animations(tmp_path)
    pictures, _, _ = frames(film)
    assert len(pictures) == 1


def test_films_of_chains_that_were_walked_show_their_samples(tmp_path: Path) -> None:
    made = walked(["class:cat", "class:dog"])
    for i, film in enumerate(made.save_animations(tmp_path)):
        pictures, durations, _ = frames(film)
        assert durations == [FRAME, FRAME, REST]
        for t, picture in enumerate(pictures):
            sample = (made.samples[t, i] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(picture[8::16, 8::16], sample)


def test_where_no_film_can_be_written_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot write to the folder"):
        chain(noise(2, 1, 3, 8, 8)).save_animations(tmp_path / "file")
    Image.init()
    without: dict[str, Any] = {name: save for name, save in Image.SAVE_ALL.items() if name != "WEBP"}
    monkeypatch.setattr(Image, "SAVE_ALL", without)
    with pytest.raises(RequestError, match="built without animated WebP"):
        chain(noise(2, 1, 3, 8, 8)).save_animations(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@given(st.integers(1, 500), st.integers(2, 60))
def test_places_are_spread_evenly_over_all(count: int, most: int) -> None:
    places = spread(count, most)
    assert len(places) == min(count, most)
    assert places[0] == 0 and places[-1] == count - 1
    gaps = np.diff(places)
    assert len(places) == 1 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)
