"""Learned masks: they find what a network looks at, step by step as equation 6 says, and say so when they do not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from squares import BOX, SIDE, Box, Sharpness, inside, noise, overlap, sharpness, watched, weighted
from torch import Tensor, nn

from preimage import Network, RequestError, UnknownTapError, explain, objectives
from preimage.explain import Explanation, HybridMask, Mask, PreservingMask, find_method
from preimage.explain.mask import Game, is_probability
from preimage.images import centre_crop
from preimage.objectives import label, probabilities
from preimage.priors import L1, Clip, TotalVariation

GAMES: list[Game] = ["deletion", "preservation", "both"]
few = settings(max_examples=8, deadline=None)
LARGE, LARGE_BOX = 112, (32, 48, 36, 40)


def most_important(heatmap: Tensor, count: int) -> Tensor:
    return heatmap >= heatmap.flatten().topk(count).values[-1]


def explained(network: Network, photo: Any, target: Any = "class:0", **settings: Any) -> Explanation:
    made = explain(network, photo, target, method=Mask(**settings))
    assert isinstance(made, Explanation)
    return made


# --- they find what is looked at ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["mask", "mask-preserve", "mask-both"])
@pytest.mark.parametrize("box", [LARGE_BOX, (24, 52, 40, 44), (60, 20, 32, 60)], ids=str)
def test_the_mask_finds_the_square_that_a_network_looks_at(method: str, box: Box) -> None:
    """Its most important pixels, as many as the square has. The photo is as full of detail everywhere else."""
    network = sharpness(box, size=LARGE)
    made = explain(network, noise(3, LARGE), "class:0", method=method)
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
    made = explained(sharpness(LARGE_BOX, size=LARGE), noise(3, LARGE), game=game, start=start)
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
    made = explained(network, photo, game=game, l1=1e-3, beta=2.0, perturbation=kind)
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
    made = explained(sharpness(box, size=(64, 112)), noise(2, 64, 112))
    assert made.heatmap.shape == (64, 112)
    assert overlap(most_important(made.heatmap, 24 * 32), inside(box, 64, 112)) > 0.8


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize(("down", "right"), [(0, 12), (16, 0), (-8, 8)])
def test_a_photo_and_what_is_looked_at_moved_by_whole_cells_move_the_mask(game: Game, down: int, right: int) -> None:
    """Where the border plays no part: started from a flat mask, away from it, without jitter."""
    box = (32, 28, 20, 24)
    moved = (box[0] + down, box[1] + right, *box[2:])
    size, photo = 96, noise(5, 96)
    ask: dict[str, Any] = {"game": game, "start": "half", "jitter": 0, "cells": 24, "tv": 1e-3, "iterations": 60}
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


class Indifferent(nn.Module):
    """Always the same answer, also while gradients are asked."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([images.sum((1, 2, 3)) * 0, images.sum((1, 2, 3)) * 0], 1)


def offset(part: Tensor, whole: Tensor, left: int) -> tuple[int, int]:
    """Where on a canvas a part of the picture, from column `left` on, was taken."""
    height, width = part.shape[1:]
    for y in range(whole.shape[1] - height + 1):
        for x in range(whole.shape[2] - left - width + 1):
            there = whole[:, y : y + height, left + x : left + x + width]
            if (part - there).abs().max() < 1e-4:
                return y, x
    raise AssertionError("nowhere")


def test_photo_and_perturbed_are_moved_alike_by_0_to_3_pixels_and_the_mask_is_not() -> None:
    """SPEC M.2: resized to 228, cropped to 224, each axis by itself. The mask here keeps the photo's left half."""
    network, shown = watched(Network(Indifferent(), 224, channels=3))
    photo = noise(4, 224, 224)
    start = torch.zeros(28, 28)
    start[:, :14] = 1
    method = Mask(start=start, mask_blur=0.0, l1=0.0, tv=0.0, iterations=60, perturbation=lambda photos: 1 - photos)
    explain(network, photo, "prob:0", method=method)
    canvas = centre_crop(photo, (228, 228))
    offsets = []
    for one in shown:
        kept = offset(one[0, :, :, :112], canvas, 0)
        assert offset(one[0, :, :, 112:], 1 - canvas, 112) == kept
        offsets.append(kept)
    assert len(offsets) == 60
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


# --- other questions ----------------------------------------------------------------------------------------------


BOXES: list[Box] = [(8, 8, 16, 20), (36, 8, 20, 16), (24, 36, 24, 20)]


def test_several_classes_are_the_sum_of_their_probabilities() -> None:
    """SPEC M3. The strongest five of four classes are none, of three here `top:3`."""
    network, photo = sharpness(*BOXES), noise(2)
    place = network.module(photo[None]).softmax(1)[0]
    ranked = place.sort(descending=True).indices.tolist()
    ask = Mask(iterations=15)
    found = explain(network, photo, "top:3", method=ask)
    total = label(ranked[0], "prob") + label(ranked[1], "prob") + label(ranked[2], "prob")
    expected = explain(network, photo, total, method=ask)
    torch.testing.assert_close(found.heatmap, expected.heatmap)
    assert found.scores["photo"] == pytest.approx(place[ranked[:3]].sum().item(), abs=1e-5)
    assert found.objective == expected.objective
    assert explain(network, photo, "top:1", method=ask).objective == explain(network, photo, method=ask).objective


def test_several_classes_are_found_where_each_of_them_is() -> None:
    boxes: list[Box] = [(12, 16, 32, 28), (64, 16, 32, 36), (40, 68, 40, 28)]
    made = explained(sharpness(*boxes, size=LARGE), noise(2, LARGE), label(0) + label(1) + label(2), l1=1e-3)
    wanted = torch.stack([inside(box, LARGE) for box in boxes]).any(0)
    assert overlap(most_important(made.heatmap, int(wanted.sum())), wanted) > 0.8


class Layers(nn.Module):
    """A first layer that does nothing, and scores that weigh its positions."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.features = nn.Conv2d(2, 3, 1, bias=False)
        nn.init.ones_(self.features.weight)
        self.head = Sum(weights)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(images))
        return out


class Sum(nn.Module):
    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, values: Tensor) -> Tensor:
        return (values[:, None] * self.weights).flatten(2).sum(2)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("start", ["half", "circle", "ones"])
def test_a_mask_over_activations_finds_the_positions_that_count(game: Game, start: Any) -> None:
    """On a linear network: those that count are switched off, or kept, and exactly those (SPEC M7)."""
    weights = torch.zeros(2, 3, 8, 8)
    weights[0, 1, 2:5, 3:6] = 1.0
    weights[1] = 0.5
    network = Network(Layers(weights), 8, channels=2)
    method = Mask(game=game, at="features", start=start, tv=0.0, l1=1e-3, iterations=60)
    made = explain(network, torch.full((2, 8, 8), 0.5), "head:0", method=method)
    assert torch.equal(made.heatmap > 0.5, inside((2, 3, 3, 3), 8))
    assert made.scores["photo"] == pytest.approx(9)
    assert made.scores["perturbed"] == pytest.approx(0)
    kept = made.scores["masked" if game != "both" else "kept"]
    assert kept == pytest.approx(0 if game == "deletion" else 9, abs=1e-3)


def test_a_mask_over_activations_is_shown_at_the_photo_s_size() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, 1, 1), nn.AdaptiveAvgPool2d(1)
    )
    network = Network(nn.Sequential(*module, nn.Flatten(), nn.Linear(4, 3)), 32, channels=3)
    made = explained(network, noise(0, 32), "class:1", at="2", iterations=5, start="half", l1=0.0)
    assert made.mask is not None and made.mask.shape == (32, 32)
    assert made.trace is not None and made.trace.shape == (5,)
    coarse = F.interpolate(made.mask[None, None], (8, 8), mode="nearest")
    assert torch.equal(F.interpolate(coarse, (32, 32), mode="nearest")[0, 0], made.mask)
    # What the rest of the network says of the masked activations, computed by hand.
    with torch.no_grad():
        values = network.module[:3](noise(0, 32)[None])
        answers = network.module[3:](values * coarse).softmax(1)
    assert made.scores["masked"] == pytest.approx(answers[0, 1].item(), abs=1e-5)


@pytest.mark.parametrize(("tap", "words"), [("output", "no positions"), ("nowhere", "no tap 'nowhere'")])
def test_taps_without_positions_or_that_are_not_there_are_refused(tap: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        explained(sharpness(), noise(0), at=tap)
    with pytest.raises(UnknownTapError):
        explained(sharpness(), noise(0), at="nowhere")


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e4])
def test_scores_of_any_size_are_normalised(game: Game, factor: float) -> None:
    """The weights are for scores from 0 to 1; a logit a thousand times as large has the same mask."""
    weights = torch.zeros(2, 3, 8, 8)
    weights[0, 1, 2:5, 3:6] = torch.rand((3, 3), generator=torch.Generator().manual_seed(0))
    weights[1] = 0.01
    ask: dict[str, Any] = {
        "game": game, "iterations": 15, "cells": 8, "jitter": 0, "perturbation": "constant", "start": "half",
        "mask_blur": 10.0,
    }  # fmt: skip
    network = Network(Layers(weights), 8, channels=2, mean=(0.0, 0.0))
    photo = torch.full((2, 8, 8), 0.5)
    one = explained(network, photo, "head:0", **ask)
    other = explained(network, photo, factor * objectives.channel("head", 0), **ask)
    torch.testing.assert_close(other.heatmap, one.heatmap, rtol=0, atol=1e-3)
    assert other.scores["photo"] == pytest.approx(factor * one.scores["photo"], rel=1e-5)
    # From 1 for the photo to 0 for the perturbed one: as a probability of that size would be.
    share = weights[0].sum(0)[None] / weights[0].sum()
    if game != "both":
        twin = explained(weighted(share), torch.ones(1, 8, 8), "prob:0", **ask, l1=1e-4)
        torch.testing.assert_close(one.heatmap, twin.heatmap, rtol=0, atol=1e-3)


def test_an_objective_that_does_not_see_the_mask_has_nothing_to_find() -> None:
    made = explained(
        Network(Layers(torch.zeros(2, 3, 8, 8)), 8, channels=2), torch.zeros(2, 8, 8), "head:0", iterations=2
    )
    assert made.notes[0] == "the answer is the same for the photo and for the perturbed one: nothing to find"


def test_of_a_class_the_probability_is_asked() -> None:
    asked = [label(3), label(3, "logprob"), objectives.channel("a", 1), label(1) + label(2), 2 * label(1)]
    changed = [probabilities(one) for one in asked]
    assert changed[0] == label(3, "prob")
    assert changed[1:3] == asked[1:3]
    assert str(changed[3]) == "prob:1 + prob:2"
    assert [is_probability(one) for one in changed] == [True, False, False, True, False]
    assert not is_probability(label(1))


# --- batches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("game", GAMES)
def test_a_batch_is_what_each_photo_is_alone(game: Game) -> None:
    """The same class, so that the views are the same too."""
    network, photos = sharpness(), [noise(i) for i in range(3)]
    method = Mask(game=game, iterations=20)
    together = explain(network, photos, "class:0", method=method)
    for photo, one in zip(photos, together, strict=True):
        alone = explain(network, photo, "class:0", method=method)
        torch.testing.assert_close(one.heatmap, alone.heatmap, rtol=0, atol=1e-4)
        assert one.scores == pytest.approx(alone.scores, abs=1e-5)
        assert one.details == alone.details
        torch.testing.assert_close(one.trace, alone.trace, rtol=0, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_different_classes_in_a_batch_are_what_each_is_alone(batch_size: int) -> None:
    """The jitter is the same for all, whatever else is asked."""
    network, photos = sharpness(*BOXES), [noise(0), noise(1)]
    method = Mask(iterations=20)
    classes = ["class:0", "class:1", "class:2"]
    together = explain(network, photos, classes, method=method, batch_size=batch_size)
    assert len(together) == 6
    for i, photo in enumerate(photos):
        for k, name in enumerate(classes):
            alone = explain(network, photo, name, method=method)
            one = together[3 * i + k]
            assert (one.of, one.objective) == (i, alone.objective)
            torch.testing.assert_close(one.heatmap, alone.heatmap, rtol=0, atol=1e-4)


def test_a_random_start_is_each_objective_s_own_in_any_company() -> None:
    """Over a white photo perturbed to black, the first that the network is shown is the start."""
    method = Mask(iterations=1, start="random", jitter=0, mask_blur=0.0, cells=32, perturbation="constant")

    def first(*targets: str, seed: int = 0) -> Tensor:
        network, shown = watched(weighted(torch.full((1, 32, 32), 0.5 / 1024)))
        explain(network, torch.ones(1, 32, 32), list(targets), method=method, seed=seed)
        return shown[0][:, 0]

    together, alone = first("prob:0", "prob:1"), first("prob:1")
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(first("prob:1", seed=1), alone)
    # Evenly between 0 and 1: five standard errors.
    assert abs(alone.mean().item() - 0.5) < 5 * 12**-0.5 / 32
    assert abs(alone.std().item() - 12**-0.5) < 0.02


# --- runs that do not converge ------------------------------------------------------------------------------------


class Sick(nn.Module):
    """Answers as another network does, but NaN where a picture is as `when` says."""

    def __init__(self, inner: nn.Module, when: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.when = inner, when

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.inner(images)
        return answers * torch.where(self.when(images), torch.nan, 1.0)[:, None]


def marked(images: Tensor) -> Tensor:
    return images[:, 0, 0, 0] > 0.99


@pytest.mark.parametrize("game", GAMES)
def test_a_photo_without_a_finite_score_does_not_spoil_the_others(game: Game) -> None:
    network = Network(Sick(Sharpness(BOX), marked), SIDE, channels=3)
    photos = [noise(i) * 0.9 for i in range(3)]
    photos[1][:, :8, :8] = 1.0
    method = Mask(game=game, iterations=15)
    together = explain(network, photos, "class:0", method=method, least_probability=0)
    for i in (0, 2):
        alone = explain(network, photos[i], "class:0", method=method)
        torch.testing.assert_close(together[i].heatmap, alone.heatmap, rtol=0, atol=1e-4)
        assert together[i].notes == []
    assert together[1].notes[:3] == [
        "the mask did not converge; started again from 'half'",
        "the mask did not converge; started again from 'random'",
        "no mask was found that does better than none: do not read it",
    ]
    json.dumps(together.as_dict(), allow_nan=False)


@pytest.mark.parametrize("game", GAMES[:2])
def test_a_run_that_fails_is_started_again_from_another_mask_and_that_is_said(game: Game) -> None:
    """NaN when all is perturbed, so that no mask of zeros can learn; every other can."""

    def black(images: Tensor) -> Tensor:
        return (images < 1e-3).flatten(1).all(1)

    network = Network(Sick(Sharpness(BOX), black), SIDE, mean=(0.0,) * 3)
    ask: dict[str, Any] = {"game": game, "perturbation": "constant", "iterations": 80, "jitter": 0}
    made = explained(network, 0.2 + 0.8 * noise(1), "prob:0", start="zeros", **ask)
    assert made.notes == ["the mask did not converge; started again from 'half'"]
    assert made.heatmap.isfinite().all() and made.trace is not None and made.trace.isfinite().all()
    half = explained(network, 0.2 + 0.8 * noise(1), "prob:0", start="half", **ask)
    torch.testing.assert_close(made.heatmap, half.heatmap, rtol=0, atol=1e-5)
    assert half.notes == []


def test_where_no_mask_does_better_than_none_that_is_said() -> None:
    made = explained(Network(Indifferent(), SIDE, channels=3), noise(0), "prob:0", iterations=20)
    assert made.notes[-1] == "no mask was found that does better than none: do not read it"
    assert len(made.notes) == 3


def test_a_mask_that_is_given_is_not_replaced_by_another_start() -> None:
    network, shown = watched(Network(Indifferent(), SIDE, channels=3))
    made = explained(network, noise(0), "prob:0", start=torch.ones(16, 16), iterations=4)
    assert len(shown) == 4
    assert made.notes == ["no mask was found that does better than none: do not read it"]


def test_a_mask_that_does_far_better_than_none_is_not_said_to_do_worse() -> None:
    network, photo = sharpness(), noise(1)
    start = torch.ones(16, 16)
    start[4:9, 6:12] = 0  # the square, exactly
    ask: dict[str, Any] = {"start": start, "l1": 1e-3, "tv": 1e-3, "jitter": 0}
    good = explained(network, photo, **ask, iterations=300)
    assert good.mask is not None
    learned = F.interpolate(good.mask[None, None], (16, 16), mode="area")[0, 0].clamp(0, 1)
    once_more = explained(network, photo, **{**ask, "start": learned}, iterations=1)
    # Less than a sixth of the photo is masked, and little of the answer is left.
    assert once_more.scores["masked"] < 0.3 * once_more.scores["photo"]
    assert once_more.heatmap.mean() < 0.3
    again = explained(network, photo, **{**ask, "start": start}, iterations=1)
    assert once_more.notes == [] and again.notes == []


def test_it_is_started_again_from_another_mask_than_the_first() -> None:
    made = explained(Network(Indifferent(), SIDE, channels=3), noise(0), "prob:0", start="half", iterations=4)
    assert not any("from 'half'" in note for note in made.notes)


# --- Ctrl-C -------------------------------------------------------------------------------------------------------


class Impatient(nn.Module):
    """Somebody presses Ctrl-C when it is shown masked photos for the `left`-th time."""

    def __init__(self, inner: nn.Module, left: int) -> None:
        super().__init__()
        self.inner, self.left = inner, left

    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        out: Tensor = self.inner(images)
        return out


def impatient(steps: int, inner: nn.Module | None = None) -> Network:
    return Network(Impatient(inner or Sharpness(BOX), steps + 1), SIDE, channels=3)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_ctrl_c_keeps_the_steps_that_were_done(steps: int) -> None:
    network = impatient(steps)
    made = explained(network, noise(1), iterations=20)
    assert made.interrupted
    assert made.trace is not None and made.trace.shape == (steps,)
    assert made.settings["interrupted"] is True
    if steps:
        complete = explained(sharpness(), noise(1), iterations=steps)
        torch.testing.assert_close(made.heatmap, complete.heatmap)
        assert made.scores == pytest.approx(complete.scores)
        assert not complete.interrupted
    json.dumps(made.as_dict(), allow_nan=False)


def test_ctrl_c_in_a_later_batch_keeps_the_earlier_ones() -> None:
    """Six steps of the first, two of the second; the third never began."""
    method = Mask(iterations=6)
    photos = [noise(i) for i in range(5)]
    made = explain(impatient(8), photos, "class:0", method=method, batch_size=2)
    assert [one.of for one in made] == [0, 1, 2, 3]
    assert [one.interrupted for one in made] == [False, False, True, True]
    assert made.interrupted
    whole = explain(sharpness(), photos, "class:0", method=method, batch_size=2)
    for i in range(2):
        torch.testing.assert_close(made[i].heatmap, whole[i].heatmap)
    assert [None if one.trace is None else len(one.trace) for one in made] == [6, 6, 2, 2]


def test_ctrl_c_before_anything_is_done_is_passed_on() -> None:
    class Nervous(Sharpness):
        def forward(self, images: Tensor) -> Tensor:
            if len(images) > 8:  # the discs of the circular search
                raise KeyboardInterrupt
            return super().forward(images)

    network = Network(Nervous(BOX), SIDE, channels=3)
    network.module.train()
    with pytest.raises(KeyboardInterrupt):
        explained(network, noise(1))
    assert network.module.training


def test_ctrl_c_in_a_second_run_ends_it_too() -> None:
    def nothing(images: Tensor) -> Tensor:
        return torch.ones(len(images), dtype=torch.bool)

    made = explain(
        impatient(8 + 3, Sick(Sharpness(BOX), nothing)),
        noise(1),
        "prob:0",
        method=Mask(iterations=8),
        least_probability=0,
    )
    assert made.interrupted


# --- bad settings, and the module is only borrowed ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"game": "chess"}, "a game is 'deletion', 'preservation' or 'both', not 'chess'"),
        ({"iterations": 0}, "iterations of 1 or more, in whole numbers, not 0"),
        ({"cells": 0}, "cells of 1 or more, in whole numbers, not 0"),
        ({"cells": -3}, "cells of 1 or more, in whole numbers, not -3"),
        ({"cells": SIDE + 1}, "65 x 65 cells is larger than what it is laid over, 64 x 64"),
        ({"start": "middle"}, "circle, random, half, zeros, ones or a tensor, not 'middle'"),
        ({"start": torch.ones(16, 15)}, r"shape \[16, 16\] here, .*, not \[16, 15\]"),
        ({"start": torch.ones(3, 16, 16)}, r"shape \[16, 16\] here, .*, not \[3, 16, 16\]"),
        ({"start": torch.ones(16)}, r"shape \[16, 16\] here, .*, not \[16\]"),
        ({"start": torch.tensor(1.0)}, r"shape \[16, 16\] here, .*, not \[\]"),
        ({"start": torch.full((16, 16), 1.5)}, r"values in \[0, 1\]"),
        ({"start": torch.full((16, 16), -0.1)}, r"values in \[0, 1\]"),
        ({"start": torch.full((16, 16), torch.nan)}, r"values in \[0, 1\]"),
        ({"perturbation": "fog"}, "blur, constant, noise or an image file, not 'fog'"),
        ({"blur": 0.0}, "blur above zero"),
        ({"mask_blur": -1.0}, "mask_blur of zero or more"),
    ],
)
def test_bad_settings_are_one_sentence(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        explained(sharpness(), noise(0), **{"iterations": 2, **wrong})


def test_a_start_with_four_axes_is_taken_or_refused_in_one_sentence() -> None:
    explained(sharpness(), noise(0), start=torch.ones(1, 1, 16, 16), iterations=2)
    with pytest.raises(RequestError, match="a mask to start from"):
        explained(sharpness(), noise(0), start=torch.ones(1, 2, 16, 16), iterations=2)


@pytest.mark.parametrize(
    "wrong", [{"jitter": -4}, {"step_size": math.nan}, {"step_size": -0.1}, {"l1": math.nan}, {"beta": 0.0}], ids=str
)
def test_settings_that_make_no_sense_are_one_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        explained(sharpness(), noise(0), **{"iterations": 2, **wrong})


def test_one_start_for_all_or_one_for_each() -> None:
    network, photos = sharpness(), [noise(0), noise(1)]
    starts = torch.rand((2, 16, 16), generator=torch.Generator().manual_seed(0))
    ask: dict[str, Any] = {"iterations": 3, "jitter": 0}
    each = explain(network, photos, "class:0", method=Mask(start=starts, **ask))
    every = explain(network, photos, "class:0", method=Mask(start=starts[0], **ask))
    for i, (photo, one, same) in enumerate(zip(photos, each, every, strict=True)):
        alone = explained(network, photo, start=starts[i], **ask)
        torch.testing.assert_close(one.heatmap, alone.heatmap, rtol=0, atol=1e-5)
        shared = explained(network, photo, start=starts[0], **ask)
        torch.testing.assert_close(same.heatmap, shared.heatmap, rtol=0, atol=1e-5)
    assert torch.equal(starts, torch.rand((2, 16, 16), generator=torch.Generator().manual_seed(0)))


def state(module: nn.Module) -> dict[str, Any]:
    return {
        "training": [part.training for part in module.modules()],
        "needed": [parameter.requires_grad for parameter in module.parameters()],
        "gradients": [parameter.grad for parameter in module.parameters()],
        "values": {name: value.clone() for name, value in module.state_dict().items()},
        "hooks": [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()],
    }


class Fails(nn.Module):
    """Raises when it is shown masked photos for the `left`-th time."""

    def __init__(self, left: int, error: type[BaseException]) -> None:
        super().__init__()
        self.left, self.error = left, error

    def forward(self, values: Tensor) -> Tensor:
        if values.requires_grad:
            self.left -= 1
            if self.left == 0:
                raise self.error
        return values


@pytest.mark.parametrize("at", [None, "0"])
@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_the_module_is_as_it_was(at: str | None, game: Game, error: type[BaseException] | None) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(),
        Fails(3 if error else 0, error or ZeroDivisionError), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    module[0].weight.requires_grad_(False)
    module.train()
    before = state(module)
    network, method = Network(module, 32, channels=3), Mask(game=game, at=at, iterations=5, start="half")
    if error is ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            explain(network, noise(0, 32), "class:1", method=method)
    else:
        made = explain(network, noise(0, 32), "class:1", method=method)
        assert made.interrupted == (error is KeyboardInterrupt)
    after = state(module)
    assert all(torch.equal(value, after["values"].pop(name)) for name, value in before.pop("values").items())
    assert not after.pop("values")
    assert after == before


def test_photos_and_starts_are_not_written_to() -> None:
    photo, start = noise(0), torch.full((16, 16), 0.5)
    explained(sharpness(), photo, start=start, iterations=3)
    assert torch.equal(photo, noise(0))
    assert torch.equal(start, torch.full((16, 16), 0.5))


def test_an_answer_that_resampling_takes_away_is_said_and_jitter_0_finds_it() -> None:
    """The network sees a pattern of single pixels, as in an attacked photo."""

    pattern = torch.randint(0, 2, (64, 64), generator=torch.Generator().manual_seed(0)) * 2.0 - 1

    class Patterned(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            found = (images.mean(1) * pattern)[:, 20:44, 20:44].mean((1, 2))
            return torch.stack([40 * found, torch.full_like(found, 4.0)], 1)

    photo = (0.5 + 0.3 * pattern).expand(3, -1, -1)
    network = Network(Patterned(), 64, channels=3)
    said = "resampling the photo by a few pixels, to jitter it, loses half of the answer or more; try jitter=0"
    assert said in explained(network, photo, iterations=30).notes
    still = explained(network, photo, iterations=200, jitter=0)
    assert still.notes == []
    assert still.scores["masked"] < 0.1 * still.scores["photo"]
    assert still.heatmap[20:44, 20:44].mean() > 4 * still.heatmap[:8].mean()
