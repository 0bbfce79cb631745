"""Discs to start from: against an explicit construction, and the search on networks that measure a centred disc."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from preimage import Network, explain
from preimage.explain import Mask, Question
from preimage.explain.circle import RADII, circular_masks, discs
from preimage.explain.mask import Game
from preimage.parametrizations import MaskOver

SIDE = 64


def explicit(radius: float, size: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """A disc softened by 10 pixels of 224, of which each cell takes its first pixel."""
    unit = min(size) / 224
    rows, columns = np.ogrid[: size[0], : size[1]]
    away = np.sqrt((rows - size[0] // 2) ** 2 + (columns - size[1] // 2) ** 2)
    hard = (away <= radius * unit).astype(float)
    soft = gaussian_filter(hard, 10 * unit, mode="reflect", radius=math.ceil(30 * unit))
    taken = [np.arange(n) * side // n for n, side in zip(cells, size, strict=True)]
    return soft[np.ix_(*taken)]


def test_there_are_36_radii() -> None:
    assert list(RADII) == list(range(0, 176, 5))
    assert len(RADII) == 36


@pytest.mark.parametrize(
    ("size", "cells"),
    [((224, 224), (28, 28)), ((64, 64), (16, 16)), ((227, 227), (30, 30)), ((48, 64), (12, 16)), ((96, 96), (96, 96))],
)
def test_discs_are_those_of_an_explicit_construction(size: tuple[int, int], cells: tuple[int, int]) -> None:
    found = discs(size, cells)
    assert found.shape == (36, 1, *cells)
    for radius, one in zip(RADII, found[:, 0], strict=True):
        np.testing.assert_allclose(one.numpy(), explicit(radius, size, cells), atol=1e-5)


@pytest.mark.parametrize("size", [(224, 224), (64, 64), (48, 64)])
def test_the_first_is_one_pixel_and_the_last_nearly_all(size: tuple[int, int]) -> None:
    """175 pixels are more than the 158 from the centre to a corner of a square photo."""
    found = discs(size, size)
    torch.testing.assert_close(found.flatten(1).sum(1)[0].item(), 1.0, rtol=0, atol=1e-4)
    if size[0] == size[1]:
        torch.testing.assert_close(found[-1], torch.ones_like(found[-1]))
    assert (found.flatten(1).sum(1).diff() >= -1e-3).all()
    assert found.min() >= 0 and found.max() <= 1 + 1e-5


# --- the search ---------------------------------------------------------------------------------------------------


class Falls(nn.Module):
    """Class 0 has the probability that `answer` gives to how much of a centred disc is white."""

    def __init__(self, radius: float, answer: Callable[[Tensor], Tensor] = lambda share: 0.9 * share + 0.05) -> None:
        super().__init__()
        rows = torch.arange(SIDE) - SIDE // 2
        self.disc = (rows[:, None].square() + rows.square()).sqrt() <= radius * SIDE / 224
        self.answer = answer

    def forward(self, images: Tensor) -> Tensor:
        share = images[:, 0][:, self.disc].mean(1)
        likely = self.answer(share)
        return torch.stack([likely, 1 - likely], 1).log()


def black_over_white(module: nn.Module) -> Network:
    return Network(module, SIDE, mean=(0.0,))


def start_of(module: nn.Module, game: Game) -> tuple[float | None, Tensor]:
    """The radius, and the mask that a run of no more than one step reports to have begun with."""
    made = explain(black_over_white(module), torch.ones(1, SIDE, SIDE), "prob:0", method=starting(game))
    return made.details["radius"], made.heatmap


def starting(game: Game) -> Mask:
    return Mask(game=game, iterations=1, perturbation="constant")


def whites(radius: float, disc: int, cells: int = 16) -> tuple[float, float]:
    """How much of a disc of `radius` a softened disc of index `disc` covers, and leaves, after the mask's own blur."""
    soft = explicit(RADII[disc], (SIDE, SIDE), (cells, cells))
    mask = soft.repeat(SIDE // cells, 0).repeat(SIDE // cells, 1)
    sigma = 5 * SIDE / 224
    mask = gaussian_filter(mask, sigma, mode="reflect", radius=math.ceil(3 * sigma))
    covered = float(mask[Falls(radius).disc.numpy()].mean())
    return covered, 1 - covered


@pytest.mark.parametrize("radius", [0, 20, 40, 75, 110])
@pytest.mark.parametrize("game", ["deletion", "preservation", "both"])
def test_the_smallest_disc_that_is_enough_is_taken(radius: float, game: Game) -> None:
    """Linear in the white of a disc: enough is where less than 1 % of it is left; preserving, where 99 % is kept."""
    covered, left = zip(*(whites(radius, i) for i in range(36)), strict=True)
    enough = [c >= 0.99 for c in covered] if game == "preservation" else [rest < 0.01 for rest in left]
    expected = RADII[enough.index(True)] * SIDE / 224
    found, _ = start_of(Falls(radius), game)
    assert found == pytest.approx(expected)
    assert found > 0


def test_the_larger_what_the_network_sees_the_larger_the_disc() -> None:
    radii = [start_of(Falls(radius), "deletion")[0] for radius in (10, 40, 70, 100)]
    assert radii == sorted(set(radii))  # type: ignore[type-var]


def searched(modules: list[nn.Module], game: Game) -> tuple[Tensor, list[float | None]]:
    """`circular_masks` of white photos, one network's answer for each."""
    networks = [black_over_white(module) for module in modules]
    white = torch.ones(len(modules), 1, SIDE, SIDE)
    asked = Question(networks[0], tuple(white), (), (SIDE, SIDE), (0,) * len(modules))
    over = MaskOver(1, 16, 16, photos=white, perturbed=torch.zeros_like(white), seen=(SIDE, SIDE), sigma=5 * SIDE / 224)

    def scores(index: int, images: Tensor) -> Tensor:
        out: Tensor = modules[index](images).exp()[:, 0]
        return out

    return circular_masks(asked, over, scores, game)


@pytest.mark.parametrize("game", ["deletion", "preservation", "both"])
def test_each_photo_has_its_own_disc(game: Game) -> None:
    """Within it the mask deletes, or keeps."""
    modules: list[nn.Module] = [Falls(20), Falls(90), Falls(55)]
    masks, radii = searched(modules, game)
    assert masks.shape == (3, 1, 16, 16)
    assert radii[0] is not None and radii[2] is not None and radii[1] is not None
    assert radii[0] < radii[2] < radii[1]
    for module, mask, radius in zip(modules, masks, radii, strict=True):
        (alone,), (same,) = searched([module], game)
        assert same == radius and torch.equal(alone, mask)
        disc = torch.from_numpy(explicit(radius * 224 / SIDE, (SIDE, SIDE), (16, 16))).float()  # type: ignore[operator]
        torch.testing.assert_close(mask[0], 1 - disc if game == "deletion" else disc, rtol=0, atol=1e-5)


@pytest.mark.parametrize("game", ["deletion", "preservation", "both"])
@pytest.mark.parametrize(
    "answer",
    [
        lambda share: 0.9 - 0.5 * share,
        lambda share: 0.3 + 0 * share,
        lambda share: torch.where(share > 0.5, share, torch.nan),
    ],
    ids=["rises when all is black", "is the same", "is not finite when all is black"],
)
def test_where_the_score_does_not_fall_everything_is_perturbed(game: Game, answer: Callable[[Tensor], Tensor]) -> None:
    masks, radii = searched([Falls(40, answer), Falls(20)], game)
    assert radii[0] is None and radii[1] is not None
    assert torch.equal(masks[0], torch.zeros_like(masks[0]))


class Corner(nn.Module):
    """The corner alone counts."""

    def forward(self, images: Tensor) -> Tensor:
        likely = 0.05 + 0.9 * images[:, 0, 0, 0]
        return torch.stack([likely, 1 - likely], 1).log()


@pytest.mark.parametrize("game", ["deletion", "preservation", "both"])
def test_where_no_disc_is_enough_everything_is_perturbed(game: Game) -> None:
    """The corners of a wide photo lie outside of the largest disc."""
    network = Network(Corner(), (48, 96), mean=(0.0,))
    made = explain(network, torch.ones(1, 48, 96), "prob:0", method=starting(game))
    assert made.details["radius"] is None


@pytest.mark.parametrize("game", ["deletion", "preservation"])
def test_the_search_goes_as_far_as_the_corners_of_a_square_photo(game: Game) -> None:
    """SPEC M.5-5: the search goes to 175 pixels, and the reference is the wholly perturbed photo."""

    covered = []
    for i in range(36):
        soft = explicit(RADII[i], (SIDE, SIDE), (16, 16)).repeat(4, 0).repeat(4, 1)
        sigma = 5 * SIDE / 224
        covered.append(gaussian_filter(soft, sigma, mode="reflect", radius=math.ceil(3 * sigma))[0, 0])
    expected = next(RADII[i] for i, c in enumerate(covered) if c >= 0.99) * SIDE / 224
    found, _ = start_of(Corner(), game)
    assert found == pytest.approx(expected)
    assert found > 150 * SIDE / 224
