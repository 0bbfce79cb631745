"""Recipes by name, stretched to another number of steps, and described in JSON."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import preimage
from preimage import Recipe, RequestError
from preimage.objectives import Objective, floored_cosines
from preimage.optimization import Adam, Ascent, Stage
from preimage.parametrizations import Parametrization, Pixels
from preimage.priors import L2
from preimage.recipes import DEFAULT, find_recipe
from preimage.transforms import Jitter

few = settings(max_examples=80, deadline=None)


def pixels(channels: int, height: int, width: int, colours: Any) -> Pixels:
    return Pixels(channels, height, width)


def recipe(*steps: int, **changes: Any) -> Recipe:
    stages = tuple(Stage(count, Ascent(float(i)), **changes) for i, count in enumerate(steps))
    return Recipe("mine", "here", "says nothing", pixels, stages)


@few
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.integers(1, 5000))
def test_stretched_keeps_the_total_and_the_shares(steps: list[int], asked: int) -> None:
    before = recipe(*steps)
    after = before.stretched(asked)
    assert before.steps == sum(steps)
    assert after.steps == asked
    assert len(after.stages) == len(steps)
    for stage, count in zip(after.stages, steps, strict=True):
        assert stage.steps >= 0
        assert abs(stage.steps - count * asked / sum(steps)) <= 1
    done = [sum(stage.steps for stage in after.stages[:i]) for i in range(len(steps) + 1)]
    exact = [sum(steps[:i]) * asked / sum(steps) for i in range(len(steps) + 1)]
    assert all(abs(a - b) <= 0.5 for a, b in zip(done, exact, strict=True))


@few
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.integers(1, 9))
def test_stretched_by_whole_numbers_is_exact(steps: list[int], times: int) -> None:
    after = recipe(*steps).stretched(sum(steps) * times)
    assert [stage.steps for stage in after.stages] == [count * times for count in steps]


def test_stretched_changes_nothing_else() -> None:
    before = recipe(3, 5, transforms=(Jitter(2),), regularizers=(L2(0.1),), noise=0.5)
    assert before.stretched(None) is before
    after = before.stretched(16)
    assert [stage.steps for stage in after.stages] == [6, 10]
    assert [stage.steps for stage in before.stages] == [3, 5]
    assert after.stretched(8) == before


@pytest.mark.parametrize("steps", [0, -1, -100])
def test_there_must_be_a_step(steps: int) -> None:
    with pytest.raises(RequestError, match=rf"at least one step, not {steps}"):
        recipe(3).stretched(steps)


def test_every_recipe_is_found_by_its_name_and_the_default_without_one() -> None:
    table = preimage.recipes()
    assert {"default", "fourier", "plain"} <= set(table)
    for name, found in table.items():
        assert found.name == name
        assert find_recipe(name) is found
        assert find_recipe(found) is found
    assert find_recipe(None) is DEFAULT


def test_an_unknown_recipe_lists_the_known_ones_and_guesses() -> None:
    with pytest.raises(RequestError, match=r"no recipe 'fuorier'; did you mean fourier\?") as caught:
        find_recipe("fuorier")
    assert all((name in str(caught.value)) == ("@" not in name) for name in preimage.recipes())
    with pytest.raises(RequestError, match="no recipe ''"):
        find_recipe("")


def test_the_table_prints_every_recipe_with_its_source() -> None:
    table = preimage.recipes()
    lines = str(table).splitlines()
    assert len(lines) == len(table)
    for line, (name, found) in zip(lines, table.items(), strict=True):
        assert line.startswith(name) and found.source in line and found.says in line
    assert repr(table) == str(table)


def test_the_table_is_a_copy() -> None:
    preimage.recipes().clear()
    assert "plain" in preimage.recipes()


@pytest.mark.parametrize("name", sorted(preimage.recipes()))
def test_every_recipe_describes_itself_in_json_and_makes_images(name: str) -> None:
    found = find_recipe(name)
    said = found.describe()
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert said["name"] == name
    assert [stage["steps"] for stage in said["stages"]] == [stage.steps for stage in found.stages]
    assert sum(stage["steps"] for stage in said["stages"]) == found.steps > 0
    assert found.stages[0].optimizer is not None
    for channels, colours in ((3, torch.eye(3)), (3, None), (1, None), (5, None)):
        kind = found.parametrization(channels, 6, 7, colours)
        assert isinstance(kind, Parametrization)
        start = kind.start(torch.Generator().manual_seed(0))
        assert kind.image(start[None]).shape == (1, channels, 6, 7)


def test_describe_says_every_setting_that_is_in_force_and_no_other() -> None:
    def smooth(values: torch.Tensor) -> torch.Tensor:
        return values

    full = Stage(
        7,
        Adam(0.25),
        asks=floored_cosines,
        transforms=(Jitter(3),),
        regularizers=(L2(0.125),),
        smooth_solution=smooth,
        smooth_update=smooth,
        denoiser=smooth,
        pull=0.5,
        noise=0.75,
        last_step_size=0.0625,
    ).describe()
    assert full["asks"] == "floored_cosines"
    assert full["transforms"] == ["Jitter(pixels=3, border='reflect')"]
    assert "0.25" in full["optimizer"] and "0.125" in full["regularizers"][0]
    assert (full["pull"], full["noise"], full["last_step_size"]) == (0.5, 0.75, 0.0625)
    assert all("smooth" in full[name] for name in ("smooth_solution", "smooth_update", "denoiser"))
    json.dumps(full, allow_nan=False)
    assert Stage(3, None).describe() == {"steps": 3}


def test_describe_takes_any_callable_that_asks() -> None:
    def scaled(objective: Objective, by: float) -> Objective:
        return by * objective

    said = Stage(1, None, asks=functools.partial(scaled, by=2.0)).describe()
    assert "scaled" in json.dumps(said)
