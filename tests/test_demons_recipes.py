"""Paper 2's schemes as recipes: what their names mean, the published numbers, and that every recipe of both verbs runs.

Optimizers and steps of what is not published as such are tuned elsewhere and not pinned down here.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from preimage import Network, Recipe, RequestError, invert, maximize, recipes
from preimage.optimization import Adam, Ascent, Stage
from preimage.priors import L2, Gaussian, Kernel, Sobolev, TotalVariation
from preimage.recipes import Verb
from preimage.recipes.demons import published, under_scheme
from preimage.transforms import Jitter, Window

SIDE = 32
VERBS: tuple[Verb, ...] = get_args(Verb)
SCHEMES = ("tv", "fluid", "elastic", "fluid-elastic")
FILTERED = SCHEMES[1:]
GAUSSIANS = tuple(f"{scheme}-gaussian" for scheme in FILTERED)

PUBLISHED = {
    "vgg19": ((100, 50, 10), (5, 2, 1)),
    "resnet50": ((160, 60, 16), (60, 20, 5)),
    "densenet121": ((100, 60, 8), (5, 0.05, 0.02)),
}
"""Figure 2 (SPEC S-F2): steps of the three octaves, and their lengths in levels of 0..255."""
TOTALS = {"vgg19": 160, "resnet50": 236, "densenet121": 168}

few = settings(max_examples=10, deadline=None)


def network(side: int = SIDE) -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 5, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    return Network(module, side, labels=list("abcde"), channels=3)


def filters(stage: Stage) -> tuple[Any, Any]:
    return stage.smooth_update, stage.smooth_solution


# --- what the schemes mean ----------------------------------------------------------------------------------------


@few
@given(st.sampled_from([Sobolev(5), Sobolev(9), Gaussian(7), Gaussian(sigma=1.5)]), st.integers(1, 500))
def test_schemes_smooth_what_their_equations_say(kernel: Kernel, steps: int) -> None:
    """Equation 5, v <- K_e (v + A(g)); 8, v <- v + A(K_f g); 6 and 18, both."""
    stage = Stage(steps, Adam(0.1), transforms=(Jitter(2),), regularizers=(L2(0.1),), noise=0.5)
    assert filters(under_scheme(stage, "fluid", kernel)) == (kernel, None)
    assert filters(under_scheme(stage, "elastic", kernel)) == (None, kernel)
    assert filters(under_scheme(stage, "fluid-elastic", kernel)) == (kernel, kernel)
    for scheme in FILTERED:
        changed = under_scheme(stage, scheme, kernel)  # type: ignore[arg-type]
        assert replace(changed, smooth_update=None, smooth_solution=None) == stage


def test_total_variation_is_an_energy_beside_others_and_no_filter() -> None:
    with pytest.raises(RequestError, match="energies already, whose weights are not in units"):
        under_scheme(Stage(3, Adam(0.1), regularizers=(L2(0.1),)), "tv")
    stage = Stage(3, Adam(0.1), regularizers=(L2(0.1),), weights_per_gradient=True)
    changed = under_scheme(stage, "tv")
    assert filters(changed) == (None, None)
    first, second = changed.regularizers
    assert first == L2(0.1)
    assert isinstance(second, TotalVariation) and second.weight > 0 and second.beta == 1
    assert replace(changed, regularizers=stage.regularizers) == stage


@pytest.mark.parametrize("kernel", [None, 9, "sobolev"])
def test_a_filtered_scheme_takes_a_kernel(kernel: Any) -> None:
    with pytest.raises(RequestError, match=r"scheme 'fluid' takes a kernel, Gaussian\(11\) or Sobolev\(11\) say"):
        under_scheme(Stage(1, Adam(0.1)), "fluid", kernel)


def test_what_a_scheme_does_not_smooth_stays_as_it_is() -> None:
    stage = Stage(3, Adam(0.1), smooth_solution=Gaussian(5), smooth_update=Gaussian(7))
    assert filters(under_scheme(stage, "fluid", Sobolev(9))) == (Sobolev(9), Gaussian(5))
    assert filters(under_scheme(stage, "elastic", Sobolev(9))) == (Gaussian(7), Sobolev(9))
    assert filters(under_scheme(stage, "tv", Sobolev(9))) == (Gaussian(7), Gaussian(5))


@pytest.mark.parametrize("scheme", ["plastic", "", "Fluid", "fluid-gaussian"])
def test_other_schemes_are_refused(scheme: Any) -> None:
    with pytest.raises(RequestError, match=rf"one of tv, fluid, elastic, fluid-elastic, not '{scheme}'"):
        under_scheme(Stage(1, Adam(0.1)), scheme, Sobolev(9))


def test_other_schemes_were_not_published() -> None:
    with pytest.raises(RequestError, match=r"one of tv, fluid, elastic, fluid-elastic, not 'plastic'"):
        published("vgg19", "plastic")  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", VERBS)
def test_names_say_the_scheme_and_the_filter(verb: Verb) -> None:
    table = recipes(verb)
    assert {*SCHEMES, *GAUSSIANS} <= set(table)
    for name in (*FILTERED, *GAUSSIANS):
        scheme, kind = (name.removesuffix("-gaussian"), Gaussian) if name in GAUSSIANS else (name, Sobolev)
        smoothed: set[str] = set()
        for stage in table[name].stages:
            update, solution = filters(stage)
            smoothed |= {what for what, kernel in (("fluid", update), ("elastic", solution)) if kernel is not None}
            assert all(isinstance(kernel, kind) for kernel in (update, solution) if kernel is not None)
        assert smoothed == set(scheme.split("-"))
        assert kind.__name__ in table[name].says
    for stage in table["tv"].stages:
        assert filters(stage) == (None, None)
        assert any(isinstance(one, TotalVariation) for one in stage.regularizers)


# --- published numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("architecture", list(PUBLISHED))
def test_the_published_octaves(architecture: str, scheme: str) -> None:
    found = recipes()[f"{scheme}@{architecture}-octaves"]
    steps, levels = PUBLISHED[architecture]
    assert tuple(stage.steps for stage in found.stages) == steps
    assert found.steps == TOTALS[architecture]
    lengths = [stage.optimizer.step_size * 255 for stage in found.stages if isinstance(stage.optimizer, Ascent)]
    assert lengths == pytest.approx(list(levels))
    # The picture is 1.0, 1.1 and 1.2 times what the network sees, which is a window that jumps over it.
    assert [stage.scale * found.canvas for stage in found.stages] == pytest.approx([1.0, 1.1, 1.2])
    assert (found.canvas, found.stages[-1].scale) == (1.2, 1.0)
    assert all(stage.transforms == (Window(placing="uniform"),) for stage in found.stages)
    check_scheme(found, scheme)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("architecture", list(PUBLISHED))
def test_without_octaves_all_steps_have_the_first_length_and_nothing_moves(architecture: str, scheme: str) -> None:
    found = recipes()[f"{scheme}@{architecture}"]
    (stage,) = found.stages
    assert stage.steps == TOTALS[architecture]
    assert isinstance(stage.optimizer, Ascent)
    assert stage.optimizer.step_size * 255 == pytest.approx(PUBLISHED[architecture][1][0])
    assert (stage.transforms, stage.scale, stage.hold, found.canvas) == ((), 1.0, 1, 1.0)
    check_scheme(found, scheme)


def check_scheme(found: Recipe, scheme: str) -> None:
    """Sobolev filters of 9 x 9 pixels, where the scheme has them; gamma is the table's of SPEC S.3-4."""
    for stage in found.stages:
        assert stage == under_scheme(
            replace(stage, smooth_update=None, smooth_solution=None, regularizers=(), weights_per_gradient=False),
            scheme,  # type: ignore[arg-type]
            Sobolev(9),
        )
        for kernel in filters(stage):
            if kernel is not None:
                assert isinstance(kernel, Sobolev)
                assert kernel.kernel.shape == (9, 9)
                assert kernel.gamma == pytest.approx(0.1761, abs=1e-4)


def test_there_are_settings_for_three_networks_and_no_other() -> None:
    names = {name for name in recipes() if "@" in name}
    expected = {f"{scheme}@{one}{tail}" for scheme in SCHEMES for one in PUBLISHED for tail in ("", "-octaves")}
    assert names == expected
    for name in names:
        scheme, _, rest = name.partition("@")
        made = published(rest.removesuffix("-octaves"), scheme, octaves=rest.endswith("-octaves"))  # type: ignore[arg-type]
        assert made.describe() == recipes()[name].describe()
    with pytest.raises(RequestError, match="settings for vgg19, resnet50, densenet121, not for 'alexnet'"):
        published("alexnet", "tv")  # type: ignore[arg-type]


@few
@given(st.integers(9, 50))
def test_octaves_fit_networks_of_any_size(side: int) -> None:
    """The first octave is what the network sees, whichever way 1.2 of it is rounded."""
    made = maximize(network(side), "2:0", recipe="fluid@vgg19-octaves", steps=16)
    assert made.images.shape == (1, 3, round(1.2 * side), round(1.2 * side))
    assert made.trace.shape == (16, 1)


# --- every recipe runs --------------------------------------------------------------------------------------------


def fewest(name: str) -> int:
    """Two steps, or as many as it takes for everything that is planned to happen."""
    return 6 if name == "blur-deblur" else 2


@pytest.mark.parametrize("name", sorted(recipes("maximize")))
def test_every_recipe_maximizes(name: str) -> None:
    made = maximize(network(), ["2:1", "class:a"], recipe=name, steps=fewest(name))
    canvas = round(SIDE * recipes()[name].canvas)
    assert made.images.shape == (2, 3, canvas, canvas)
    assert made.scores.isfinite().all()
    assert made.images.std() > 0


@pytest.mark.parametrize("name", sorted(recipes("invert")))
def test_every_recipe_inverts(name: str) -> None:
    photos = torch.rand(2, 3, 40, 36, generator=torch.Generator().manual_seed(0))
    made = invert(network(), photos, "0", recipe=name, steps=fewest(name))
    assert made.images.shape == (2, 3, SIDE, SIDE)
    assert made.feature_errors.isfinite().all()
    assert made.images.std() > 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_recipe_describes_itself_in_json(verb: Verb) -> None:
    for name, found in recipes(verb).items():
        said = found.describe()
        assert json.loads(json.dumps(said, allow_nan=False)) == said
        assert said["name"] == found.name == name
        assert said["source"] and said["says"]
    assert recipes(verb)["tv"].describe()["stages"][0]["weights_per_gradient"] is True


def test_what_can_be_maximized_can_be_inverted_and_nothing_moves_there() -> None:
    assert set(recipes("maximize")) <= set(recipes("invert"))
    for name, found in recipes("invert").items():
        assert not found.has_window and found.canvas == 1, name
        assert all(stage.scale == 1 for stage in found.stages), name


def test_still_keeps_all_that_does_not_move() -> None:
    moving = recipes()["fluid-elastic@vgg19-octaves"]
    still = moving.still()
    assert (still.name, still.parametrization, still.steps) == (moving.name, moving.parametrization, moving.steps)
    for one, other in zip(moving.stages, still.stages, strict=True):
        assert replace(one, transforms=(), scale=1.0) == other


@pytest.mark.parametrize("scheme", [*SCHEMES, *GAUSSIANS])
def test_a_scheme_climbs(scheme: str) -> None:
    """Of a layer without stride, to which small shifts make no difference."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.Conv2d(6, 4, 5))
    trace = maximize(Network(module, SIDE, channels=3), "2:0", recipe=scheme, steps=40).trace[:, 0]
    assert trace[-5:].mean() > trace[:5].mean()


@pytest.mark.parametrize("scheme", ["default", *SCHEMES, *GAUSSIANS])
def test_a_scheme_inverts(scheme: str) -> None:
    """Of a smooth photo, which no filter holds back."""
    rows, columns = torch.meshgrid(torch.linspace(0, 3, SIDE), torch.linspace(0, 3, SIDE), indexing="ij")
    smooth = torch.stack([rows.sin(), columns.cos(), (rows + columns).sin()]) / 2.5 + 0.5
    first, last = (invert(network(), smooth, "0", recipe=scheme, steps=steps).feature_errors for steps in (1, 100))
    assert last < first / 2
