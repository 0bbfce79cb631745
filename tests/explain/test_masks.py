"""Learned masks: they find what a network looks at, step by step as equation 6 says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from squares import (
    GAMES,
    SIDE,
    Box,
    Indifferent,
    explained,
    inside,
    noise,
    overlap,
    sharpness,
    watched,
    weighted,
)
from torch import Tensor, nn

from preimage import Network, RequestError, explain
from preimage.explain import HybridMask, Mask, PreservingMask, find_method
from preimage.explain.mask import Game
from preimage.images import centre_crop
from preimage.priors import L1, Clip, TotalVariation

few = settings(max_examples=8, deadline=None)
LARGE, LARGE_BOX, QUICK = 112, (32, 48, 36, 40), 75


def most_important(heatmap: Tensor, count: int) -> Tensor:
    return heatmap >= heatmap.flatten().topk(count).values[-1]


# --- they find what is looked at ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["mask", "mask-preserve", "mask-both"])
@pytest.mark.parametrize("box", [LARGE_BOX, (24, 52, 40, 44), (60, 20, 32, 60)], ids=str)
def test_the_mask_finds_the_square_that_a_network_looks_at(method: str, box: Box) -> None:
    """Its most important pixels, as many as the square has. The photo is as full of detail everywhere else.

    With as many steps as are published for one of the squares, and with a quarter of them for the others.
    """
    network, settings = sharpness(box, size=LARGE), find_method(method)
    assert isinstance(settings, Mask)
    settings = settings if box == LARGE_BOX else replace(settings, iterations=QUICK)
    made = explain(network, noise(3, LARGE), "class:0", method=settings)
    assert overlap(most_important(made.heatmap, box[2] * box[3]), inside(box, LARGE)) > 0.8
    assert made.notes == []
    lost = made.scores["photo"] - made.scores["perturbed"]
    if method != "mask-preserve":
        gone = made.scores["masked" if method == "mask" else "deleted"]
        assert gone - made.scores["perturbed"] < 0.05 * lost
    if method != "mask":
        held = made.scores["masked" if method == "mask-preserve" else "kept"]
        assert made.scores["photo"] - held < 0.05 * lost


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("start", ["circle", "random", "half", "zeros", "ones"])
def test_every_start_leads_there(game: Game, start: Any) -> None:
    network = sharpness(LARGE_BOX, size=LARGE)
    made = explained(network, noise(3, LARGE), game=game, start=start, iterations=QUICK)
    assert overlap(most_important(made.heatmap, 36 * 40), inside(LARGE_BOX, LARGE)) > 0.8
    assert ("radius" in made.details) == (start == "circle")
    assert made.notes == []


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("kind", ["blur", "constant", "noise"])
def test_every_perturbation_leads_there_with_the_settings_for_localisation(game: Game, kind: Any) -> None:
    """SPEC M.2: lambda_1 1e-3, beta 2. (Noise is as sharp as the photo, so there its colours are looked at.)"""
    box = LARGE_BOX
    if kind == "blur":
        network = sharpness(box, size=LARGE)
    else:
        weights = inside(box, LARGE).float().expand(3, -1, -1) / (3 * box[2] * box[3])
        network = Network(weighted(weights).module, LARGE, mean=(0.1,) * 3, std=(0.05,) * 3)
        network = Network(Preprocessed(network), LARGE, mean=(0.1,) * 3, std=(0.05,) * 3)
    photo = noise(3, LARGE) if kind == "blur" else 0.8 + 0.15 * noise(3, LARGE)
    made = explained(network, photo, game=game, l1=1e-3, beta=2.0, perturbation=kind, iterations=QUICK)
    assert overlap(most_important(made.heatmap, 36 * 40), inside(box, LARGE)) > 0.8


class Preprocessed(nn.Module):
    """Undoes a network's preprocessing."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.inner = network.module

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.inner(images * 0.05 + 0.1)
        return out


def test_a_photo_that_is_not_square() -> None:
    box = (16, 60, 24, 32)
    made = explained(sharpness(box, size=(64, 112)), noise(2, 64, 112), iterations=QUICK)
    assert made.heatmap.shape == (64, 112)
    assert overlap(most_important(made.heatmap, 24 * 32), inside(box, 64, 112)) > 0.8


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize(("down", "right"), [(0, 12), (16, 0), (-8, 8)])
def test_a_photo_and_what_is_looked_at_moved_by_whole_cells_move_the_mask(game: Game, down: int, right: int) -> None:
    """Where the border plays no part: started from a flat mask, away from it, without jitter."""
    box = (32, 28, 20, 24)
    moved = (box[0] + down, box[1] + right, *box[2:])
    size, photo = 96, noise(5, 96)
    ask: dict[str, Any] = {"game": game, "start": "half", "jitter": 0, "cells": 24, "tv": 1e-3, "iterations": 40}
    here = explained(sharpness(box, size=size), photo, **ask)
    there = explained(sharpness(moved, size=size), photo.roll((down, right), (1, 2)), **ask)
    torch.testing.assert_close(there.heatmap, here.heatmap.roll((down, right), (0, 1)), rtol=0, atol=2e-3)
    assert here.heatmap.std() > 0.1


# --- step by step -------------------------------------------------------------------------------------------------


def reference(
    module: nn.Module,
    photo: Tensor,
    other: Tensor,
    start: Tensor,
    steps: int,
    game: Game,
    l1: float,
    tv: float,
    beta: float,
    sigma: float,
    anisotropic: bool = False,
) -> Tensor:
    """Equation 6 once more, written down plainly in float64, with torch's own Adam; the mask at the photo's size."""
    side, cells = photo.shape[-1], len(start)
    repeat = np.eye(cells).repeat(side // cells, 0)
    if sigma:
        repeat = gaussian_filter1d(repeat, sigma, axis=0, mode="reflect", radius=math.ceil(3 * sigma))
    up = torch.from_numpy(repeat)
    m = start.double().clone().requires_grad_(True)
    adam = torch.optim.Adam([m], lr=0.1, betas=(0.9, 0.999), eps=1e-8)

    def probability(over: Tensor) -> Tensor:
        shown = over * photo.double() + (1 - over) * other.double()
        return module(shown[None].float()).softmax(1)[0, 0].double()

    for _ in range(steps):
        adam.zero_grad()
        over = up @ m @ up.T
        loss = {
            "deletion": lambda o: probability(o),
            "preservation": lambda o: -probability(o),
            "both": lambda o: -probability(o) + probability(1 - o),
        }[game](over)
        loss = loss + l1 * ((1 - m).abs().sum() if game == "deletion" else m.abs().sum())
        down = F.pad(m[1:] - m[:-1], (0, 0, 0, 1))
        right = F.pad(m[:, 1:] - m[:, :-1], (0, 1))
        if anisotropic:
            loss = loss + tv * ((down**2 + 1e-12) ** (beta / 2) + (right**2 + 1e-12) ** (beta / 2)).sum()
        else:
            loss = loss + tv * ((down**2 + right**2 + 1e-12) ** (beta / 2)).sum()
        loss.backward()
        adam.step()
        with torch.no_grad():
            m.clamp_(0, 1)
    return (up @ m @ up.T).detach().float()


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize(("beta", "anisotropic"), [(3.0, False), (2.0, False), (3.0, True)])
def test_it_is_equation_6_with_adam_and_clipping(game: Game, beta: float, anisotropic: bool) -> None:
    """Weights of sums over 28 x 28 cells, scaled for 16 x 16: lambda_1 * cells is constant (SPEC M.6)."""
    network, photo = sharpness(), noise(1)
    start = torch.rand((16, 16), generator=torch.Generator().manual_seed(7))
    made = explained(
        network, photo, game=game, beta=beta, anisotropic=anisotropic, start=start, jitter=0, iterations=25
    )
    sigma = 10 * SIDE / 224
    other = gaussian_filter(photo.double().numpy(), (0, sigma, sigma), mode="reflect", radius=math.ceil(3 * sigma))
    expected = reference(
        network.module,
        photo,
        torch.from_numpy(other),
        start,
        25,
        game,
        1e-4 * 784 / 256,
        1e-2 * (256 / 784) ** (beta / 2 - 1),
        beta,
        5 * SIDE / 224,
        anisotropic,
    )
    assert made.mask is not None
    torch.testing.assert_close(made.mask, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(made.heatmap, 1 - made.mask if game == "deletion" else made.mask)


@few
@given(st.integers(0, 1000), st.sampled_from(GAMES))
def test_without_smoothness_each_cell_is_kept_or_not_by_its_own_weight(seed: int, game: Game) -> None:
    """A probability that is linear in the mask: the optimum is 0 or 1 as the weight is above or below lambda_1."""
    side = 8
    weights = torch.rand((1, side, side), generator=torch.Generator().manual_seed(seed)) / side**2
    l1 = 0.4 / side**2
    factor = {"deletion": 1, "preservation": 1, "both": 2}[game]
    clear = (factor * weights[0] - l1).abs() > 0.02 / side**2
    method = Mask(
        game=game,
        l1=l1 * side**2 / 784,
        tv=0.0,
        cells=side,
        mask_blur=0.0,
        jitter=0,
        perturbation="constant",
        start="half",
        iterations=60,
    )
    made = explain(weighted(weights), torch.ones(1, side, side), "prob:0", method=method)
    important = factor * weights[0] > l1
    assert torch.equal((made.heatmap > 0.5)[clear], important[clear])


@pytest.mark.parametrize("game", GAMES)
def test_masks_stay_within_bounds_in_every_step(game: Game) -> None:
    """Over a white photo perturbed to black, the network is shown the mask: clipped after each step, 0.1 far at most.

    Adam's steps are longer than its step size only while gradients shrink: twice as long does.
    """
    network, shown = watched(weighted(torch.randn((1, 32, 32), generator=torch.Generator().manual_seed(0)) / 300))
    method = Mask(
        game=game, cells=32, mask_blur=0.0, jitter=0, perturbation="constant", start="random", l1=1e-3, iterations=40
    )
    explain(network, torch.ones(1, 32, 32), "prob:0", method=method, least_probability=0)
    masks = torch.cat([one[:1] for one in shown[:40]])
    assert len(masks) == 40
    assert masks.min() >= 0 and masks.max() == 1
    assert masks.diff(dim=0).abs().max() <= 0.2
    assert masks[0].std() > 0.2
    if game == "both":
        assert all(torch.allclose(one[0], 1 - one[1], atol=1e-6) for one in shown)


@pytest.mark.parametrize("through", [True, False])
def test_the_gradient_goes_through_the_blur_or_not(through: bool) -> None:
    """One pixel counts: with the blur's gradient cells around it learn in the first step, without only its own."""
    weights = torch.zeros(1, 64, 64)
    weights[0, 34, 34] = 0.9
    ask: dict[str, Any] = {"l1": 0.0, "tv": 0.0, "jitter": 0, "perturbation": "constant", "cells": 16, "mask_blur": 5.0}
    network, shown = watched(weighted(weights))
    start = torch.full((16, 16), 0.5)
    method = Mask(iterations=2, start=start, gradient_through_blur=through, **ask)
    explain(network, torch.ones(1, 64, 64), "prob:0", method=method)
    first, second = shown
    changed = (second - first).abs()[0, 0] > 1e-6
    sigma = 5 * 64 / 224
    reach = math.ceil(3 * sigma)
    rows = changed.any(1).nonzero().flatten()
    cells = [8] if not through else list(range((34 - reach) // 4, (34 + reach) // 4 + 1))
    assert (rows.min(), rows.max()) == (4 * cells[0] - reach, 4 * cells[-1] + 3 + reach)


# --- jitter -------------------------------------------------------------------------------------------------------


def offset(part: Tensor, whole: Tensor, left: int) -> tuple[int, int]:
    """Where on a canvas a part of the picture, from column `left` on, was taken."""
    height, width = part.shape[1:]
    for y in range(whole.shape[1] - height + 1):
        for x in range(whole.shape[2] - left - width + 1):
            there = whole[:, y : y + height, left + x : left + x + width]
            if all((a - b).abs().max() < 1e-4 for a, b in ((part[:, :4], there[:, :4]), (part, there))):
                return y, x
    raise AssertionError("nowhere")


def test_photo_and_perturbed_are_moved_alike_by_0_to_3_pixels_and_the_mask_is_not() -> None:
    """SPEC M.2: resized to 228, cropped to 224, each axis by itself. The mask here keeps the photo's left half."""
    network, shown = watched(Network(Indifferent(), 224, channels=3))
    photo = noise(4, 224, 224)
    start = torch.zeros(28, 28)
    start[:, :14] = 1
    method = Mask(start=start, mask_blur=0.0, l1=0.0, tv=0.0, iterations=40, perturbation=lambda photos: 1 - photos)
    explain(network, photo, "prob:0", method=method)
    canvas = centre_crop(photo, (228, 228))
    offsets = []
    for one in shown:
        kept = offset(one[0, :, :, :112], canvas, 0)
        assert offset(one[0, :, :, 112:], 1 - canvas, 112) == kept
        offsets.append(kept)
    assert len(offsets) == 40
    assert {y for y, _ in offsets} == {x for _, x in offsets} == {0, 1, 2, 3}
    assert len(set(offsets)) > 8


def test_without_jitter_the_photo_is_shown_as_it_is() -> None:
    network, shown = watched(Network(Indifferent(), 64, channels=3))
    photo = noise(4, 64)
    explained(network, photo, jitter=0, start=torch.ones(16, 16), l1=0.0, tv=0.0, iterations=3)
    torch.testing.assert_close(torch.cat(list(shown)), photo.expand(3, -1, -1, -1))


def test_small_photos_are_moved_by_one_pixel_and_without_jitter_shown_as_they_are() -> None:
    network, shown = watched(Network(Indifferent(), 64, channels=3))
    photo = noise(4, 64)
    explained(network, photo, start=torch.ones(16, 16), l1=0.0, tv=0.0, iterations=12)
    assert len({tuple(one.flatten().tolist()) for one in shown}) == 4  # 0 or 1 pixel on each axis
    shown.clear()
    explained(network, photo, start=torch.ones(16, 16), l1=0.0, tv=0.0, iterations=3, jitter=1)
    torch.testing.assert_close(torch.cat(list(shown)), photo.expand(3, -1, -1, -1))


# --- settings -----------------------------------------------------------------------------------------------------


def test_the_settings_are_the_paper_s() -> None:
    """SPEC M.2."""
    method = Mask()
    assert (method.iterations, method.step_size, method.beta) == (300, 0.1, 3)
    assert (method.blur, method.mask_blur, method.jitter, method.start) == (10, 5, 4, "circle")
    assert method.weights((28, 28)) == (1e-4, 1e-2)
    # VGG-16's pool1 to pool5 (SPEC M.2).
    published = {112: (5e-5, 1e-2), 56: (1e-4, 1e-2), 28: (1e-4, 1e-2), 14: (5e-3, 1e-2), 7: (1e-2, 1e-3)}
    for cells, weights in published.items():
        assert Mask(at="any").weights((cells, cells)) == weights
        assert Mask(at="any", l1=0.5, tv=0.25).weights((cells, cells)) == (0.5, 0.25)
    assert isinstance(find_method("mask-preserve"), PreservingMask)
    assert isinstance(find_method("mask-both"), HybridMask)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from([2.0, 3.0, 4.0]),
    st.floats(1e-5, 1),
    st.floats(1e-5, 1),
    st.sampled_from("xy"),
)
def test_the_same_mask_on_more_cells_costs_the_same(seed: int, beta: float, l1: float, tv: float, axis: str) -> None:
    """Sums, not means: lambda_1 * cells is constant; and a ramp costs the same by its differences, of each pair."""
    coarse = torch.rand((1, 1, 14, 14), generator=torch.Generator().manual_seed(seed))
    fine = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    first, second = Mask(l1=l1, tv=tv, beta=beta).weights((14, 14)), Mask(l1=l1, tv=tv, beta=beta).weights((28, 28))
    a, b = (L1(w[0], centre=1.0) for w in (first, second))
    torch.testing.assert_close(a.weight * a.energy(coarse), b.weight * b.energy(fine), rtol=1e-4, atol=0)
    for w, n in ((first, 14), (second, 28)):
        ramp = (torch.arange(n, dtype=torch.float64) / n).expand(1, 1, n, n)
        ramp = ramp if axis == "x" else ramp.mT
        cost = w[1] * TotalVariation(1.0, beta).energy(ramp) * n / (n - 1)
        assert cost.item() == pytest.approx(tv * 28 ** (2 - beta), rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1.0, 1.5, 2.0, 3.0]), st.integers(1, 6), st.integers(1, 6))
def test_anisotropic_total_variation_is_that_of_numpy(seed: int, beta: float, height: int, width: int) -> None:
    masks = torch.rand((2, 1, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = TotalVariation(1.0, beta, epsilon=1e-12, anisotropic=True).energy(masks)
    u = masks.numpy()
    expected = (np.abs(np.diff(u, axis=2)) ** beta).sum((1, 2, 3)) + (np.abs(np.diff(u, axis=3)) ** beta).sum((1, 2, 3))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-8)


def test_clipping() -> None:
    values = torch.tensor([-1.0, 0.25, 3.0])
    assert Clip(0.0, 1.0)(values).tolist() == [0, 0.25, 1]
    assert Clip(torch.tensor([0.0, 0.5, 0.0]), torch.ones(3))(values).tolist() == [0, 0.5, 1]
    with pytest.raises(RequestError, match="lower of two bounds"):
        Clip(1.0, 0.0)
    with pytest.raises(RequestError, match="lower of two bounds"):
        Clip(torch.zeros(2), torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize(
    "method",
    [
        Mask(),
        Mask(start=torch.ones(2, 2), perturbation=torch.ones(3, 4, 4)),
        Mask(perturbation=lambda photos: photos),
        PreservingMask(at="layer", l1=1e-3),
        HybridMask(),
    ],
)
def test_every_setting_is_json(method: Mask) -> None:
    said = json.loads(json.dumps(method.describe(), allow_nan=False))
    assert said["name"] == method.name
    assert set(said) > {"game", "iterations", "l1", "tv", "beta", "cells", "perturbation", "start", "at", "jitter"}
