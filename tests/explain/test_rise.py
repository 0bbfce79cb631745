"""RISE: its masks are the published code's, its heat map their weighted sum, and its expectation has a closed form."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onlookers import looking, picture, question, rectifying, square, weights
from skimage.transform import resize
from torch import Tensor

import preimage as pi
from preimage.explain.rise import RISE, enlarging

few = settings(max_examples=15, deadline=None)


def published_masks(method: RISE, size: tuple[int, int], seed: int) -> Tensor:
    """As github.com/eclique/RISE makes masks out of grids and shifts: float64 [samples, H, W]."""
    grids, shifts = method.draw(size, seed)
    enlarged = [(method.cells + 1) * math.ceil(side / method.cells) for side in size]
    masks = []
    for grid, (down, across) in zip(grids.double().numpy(), shifts.tolist(), strict=True):
        large = resize(grid, enlarged, order=1, mode="reflect", anti_aliasing=False)
        masks.append(large[down : down + size[0], across : across + size[1]])
    return torch.from_numpy(np.stack(masks))


@few
@given(st.integers(1, 60), st.integers(1, 9))
def test_grids_are_enlarged_as_the_published_code_does(side: int, cells: int) -> None:
    matrix = enlarging(side, cells).double()
    grid = picture(side, cells, cells).double()
    length = (cells + 1) * math.ceil(side / cells)
    assert matrix.shape == (length, cells)
    torch.testing.assert_close(matrix.sum(1), torch.ones(length).double())
    expected = torch.from_numpy(resize(grid.numpy(), (length, length), order=1, mode="reflect", anti_aliasing=False))
    torch.testing.assert_close(matrix @ grid @ matrix.T, expected, rtol=0, atol=1e-6)


@few
@given(
    st.integers(0, 2**31),
    st.sampled_from([(3, 20, 20), (1, 12, 31), (2, 9, 7)]),
    st.integers(1, 5),
    st.floats(0.05, 1),
)
def test_heat_is_the_weighted_sum_of_the_published_masks(
    seed: int, shape: tuple[int, int, int], cells: int, shown: float
) -> None:
    """Where a mask is 0, the network's mean colour shows."""
    size, mean = (shape[1], shape[2]), [0.2, 0.5, 0.7][: shape[0]]
    seen, photo = weights(seed, *shape), picture(seed, *shape)
    network, method = looking(seen, mean=mean), RISE(30, cells, shown)
    heat = method.explain(question(network, photo[None], "class:0", [seed])).heatmaps[0]
    masks, behind = published_masks(method, size, seed), torch.tensor(mean)[:, None, None]
    pictures = masks[:, None] * photo + (1 - masks[:, None]) * behind
    # The network takes its mean away from what it is given.
    scores = ((pictures - behind) * seen).sum((1, 2, 3))
    expected = torch.einsum("k,khw->hw", scores, masks) / (30 * shown)
    atol = 1e-6 * float(seen.abs().sum()) / shown
    torch.testing.assert_close(heat.double(), expected, rtol=0, atol=atol)


def test_the_mean_over_many_masks_is_the_expectation_of_a_linear_answer() -> None:
    """E[score M(x)] / p, with E[M(x) M(y)] = p^2 + p (1 - p) * the mean over all shifts of what cells they share."""
    size, cells, shown, count = (8, 12), 3, 0.3, 20_000
    seen, photo = weights(0, 1, *size), picture(1, 1, *size)
    down, across = (enlarging(side, cells).double() for side in size)
    shared = torch.zeros(size[0] * size[1], size[0] * size[1], dtype=torch.float64)
    shifts = [(y, x) for y in range(math.ceil(size[0] / cells)) for x in range(math.ceil(size[1] / cells))]
    for y, x in shifts:
        of_cell = torch.kron(down[y : y + size[0]], across[x : x + size[1]])  # pixels x cells
        shared += of_cell @ of_cell.T / len(shifts)
    moments = shown**2 + shown * (1 - shown) * shared
    expected = (moments @ (seen * photo).flatten().double()).view(size) / shown
    method, network = RISE(count, cells, shown), looking(seen, mean=[0.0])
    heat = method.explain(question(network, photo[None], "class:0", [3], chunk=500)).heatmaps[0].double()
    masks = published_masks(method, size, 3)
    terms = (masks * (seen[0] * photo[0])).sum((1, 2))[:, None, None] * masks / shown
    errors = terms.std(0) / math.sqrt(count)
    # 96 pixels, each of which is off by five standard errors less than once in a million times.
    assert ((heat - expected).abs() < 5 * errors).all()


def test_of_masks_that_show_everything_the_probability_remains() -> None:
    size = (24, 24)
    network, photo = rectifying(0, size), picture(0, 3, *size)
    found = pi.explain(network, photo, "class:2", method=RISE(20, shown=1.0))
    probability = found.scores["photo"]
    assert found.objective == "prob:2"
    torch.testing.assert_close(found.heatmap, torch.full(size, probability), rtol=1e-5, atol=0)
    with torch.no_grad():
        logits = network.module(network.prepare(photo[None]))
    assert probability == pytest.approx(float(logits.softmax(1)[0, 2]), rel=1e-5)


def test_half_of_the_cells_are_shown_and_all_shifts_are_drawn() -> None:
    grids, shifts = RISE().draw((224, 160), 0)
    assert grids.shape == (4000, 7, 7) and shifts.shape == (4000, 2)
    assert set(grids.unique().tolist()) == {0.0, 1.0}
    assert float(grids.mean()) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(grids.numel()))
    assert sorted(set(shifts[:, 0].tolist())) == list(range(32))
    assert sorted(set(shifts[:, 1].tolist())) == list(range(23))


def test_a_batch_is_answered_as_each_alone() -> None:
    size = (24, 30)
    network, photos = rectifying(0, size), picture(2, 3, 3, *size)
    options: dict[str, Any] = {"method": RISE(50), "seed": 5, "least_probability": 0}
    targets = ["class:1", "2:3", "logprob:0"]
    together = pi.explain(network, photos, targets, batch_size=4, **options)
    for number, one in enumerate(together):
        alone = pi.explain(network, photos[one.of], targets[number % 3], batch_size=7, **options)
        torch.testing.assert_close(one.heatmap, alone.heatmap, rtol=1e-4, atol=1e-5 * float(alone.heatmap.abs().max()))
    again = pi.explain(network, photos[0], "class:1", method=RISE(50), seed=6, least_probability=0)
    assert not torch.equal(again.heatmap, together[0].heatmap)


def test_no_more_images_at_once_than_asked_and_all_steps_are_said() -> None:
    network, done = looking(torch.ones(1, 16, 16)), []
    asked = question(network, picture(0, 3, 1, 16, 16), "class:0", chunk=5)
    object.__setattr__(asked, "on_step", done.append)
    network.module.shown.clear()
    RISE(33).explain(asked)
    assert max(network.module.shown) == 5
    assert sum(done) == RISE(33).steps() == 33


@few
@given(st.integers(0, 40), st.integers(0, 30))
def test_the_heat_lies_where_the_network_looks(top: int, left: int) -> None:
    size = (56, 46)
    seen = square(size, top, left, 16)
    asked = question(looking(seen, mean=[0.0]), torch.ones(1, 1, *size), "class:0")
    heat = RISE(600).explain(asked).heatmaps[0]
    assert seen[0, *divmod(int(heat.argmax()), size[1])]
    assert heat[seen[0] > 0].mean() > heat[seen[0] == 0].mean()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples are a whole number above zero"),
        ({"cells": 2.5}, "cells are a whole number above zero"),
        ({"shown": 0}, "probability above 0"),
        ({"shown": math.nan}, "probability above 0"),
        ({"shown": 1.1}, "at most 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(pi.RequestError, match=message):
        RISE(**settings)


def test_what_was_asked_is_written_down() -> None:
    assert json.loads(json.dumps(RISE().describe())) == {"name": "rise", "samples": 4000, "cells": 7, "shown": 0.5}
    assert RISE().says.endswith(".")
