"""An atlas that took a second, and what it was made of."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import preimage as pi
from small_photos import photo

sys.path.insert(0, str(Path(__file__).parent))
from small_atlas import small


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "atlas"


@pytest.fixture(scope="module")
def net(tiny: str) -> pi.Network:
    return pi.load(f"{tiny}:net")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(7):
        photo(folder / f"{i}.png", i, (40 + 7 * i, 90 - 8 * i))
    return folder


@pytest.fixture(scope="module")
def whole(tiny: str, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas that nothing happened to, which tests leave as it is."""
    folder = tmp_path_factory.mktemp("whole") / "atlas"
    made = small(f"{tiny}:net", folder, photos=photos, examples=3)
    assert (made.state, made.made, made.units, made.failures, made.broken) == ("finished", 12, 12, [], [])
    return folder
