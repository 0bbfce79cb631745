"""Paper 2: Baust et al., "Understanding regularization to visualize convolutional neural networks".

Demons: the pixels climb, and a filter smooths the update (fluid, K_f), the solution (elastic, K_e) or both (SPEC S5 to
S7); or the total variation is held against them as an energy (S8). Lengths of steps are in levels of 0..255 there, and
divided by 255 here. What a step of that length is steep against is not said; see `Ascent.per_first_gradient`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

from torch import Tensor

from preimage.errors import RequestError
from preimage.optimization import Ascent, Momentum, Stage
from preimage.parametrizations import Pixels
from preimage.priors import Gaussian, Kernel, Schedule, Sobolev, TotalVariation
from preimage.recipes.recipe import MakeParametrization, Recipe
from preimage.transforms import Jitter, Window

Scheme = Literal["tv", "fluid", "elastic", "fluid-elastic"]
Architecture = Literal["vgg19", "resnet50", "densenet121"]

_SIZE = 11
_OCTAVES = (1.0, 1.1, 1.2)
_TV = 0.1
"""Which weight was used is not said (SPEC S.3-7). In units of the data term's first mean |gradient|."""

_PUBLISHED: dict[Architecture, tuple[tuple[int, float], ...]] = {
    "vgg19": ((100, 5), (50, 2), (10, 1)),
    "resnet50": ((160, 60), (60, 20), (16, 5)),
    "densenet121": ((100, 5), (60, 0.05), (8, 0.02)),
}
"""(steps, step size in levels) of each octave (paper 2, section 3.1; SPEC S-F2)."""


def _pixels(channels: int, height: int, width: int, colours: Tensor | None) -> Pixels:
    return Pixels(channels, height, width, spread=0.01, shown=0.99)


def under_scheme(stage: Stage, scheme: Scheme, kernel: Kernel | None = None) -> Stage:
    """The same stage under one of paper 2's schemes (equations 5, 8, 6 and 18; SPEC S5 to S8).

    kernel: smooths the update under `fluid`, the solution under `elastic`, both under `fluid-elastic`; `tv` has none,
        but the total variation as an energy. The stage's parameters have to be images: [N, C, H, W].

    Raises `RequestError` for an unknown scheme, a filtered one without a kernel, and `tv` where the stage has energies
    with weights of their own, whose unit would change.
    """
    _check(scheme)
    if scheme == "tv" and stage.regularizers and not stage.weights_per_gradient:
        raise RequestError("the stage has energies already, whose weights are not in units of the score's gradient")
    if scheme != "tv" and not isinstance(kernel, (Gaussian, Sobolev, Schedule)):
        raise RequestError(f"scheme '{scheme}' takes a kernel, Gaussian(11) or Sobolev(11) say, not {kernel!r}")
    if scheme == "tv":
        return replace(stage, regularizers=(*stage.regularizers, TotalVariation(_TV)), weights_per_gradient=True)
    return replace(
        stage,
        smooth_update=kernel if scheme != "elastic" else stage.smooth_update,
        smooth_solution=kernel if scheme != "fluid" else stage.smooth_solution,
    )


def published(architecture: Architecture, scheme: Scheme, *, octaves: bool = False) -> Recipe:
    """The setting by which paper 2 maximised classes of one of its networks (figure 2; SPEC S-F2).

    Sobolev filters of 9 x 9 pixels. octaves: three sizes of the picture with steps of their own, the network seeing a
    window that jumps over it (SPEC S11, S12); otherwise all steps at the first octave's length, and nothing moves.

    Raises `RequestError` for an unknown architecture or scheme.
    """
    if architecture not in _PUBLISHED:
        raise RequestError(f"paper 2 has settings for {', '.join(_PUBLISHED)}, not for '{architecture}'")
    _check(scheme)
    spans = _PUBLISHED[architecture]
    if not octaves:
        spans = ((sum(steps for steps, _ in spans), spans[0][1]),)
    stages = [
        Stage(
            steps,
            Ascent(levels / 255, per_first_gradient=True),
            transforms=(Window(placing="uniform"),) if octaves else (),
            scale=scale / _OCTAVES[-1] if octaves else 1.0,
        )
        for (steps, levels), scale in zip(spans, _OCTAVES, strict=False)
    ]
    return Recipe(
        f"{scheme}@{architecture}{'-octaves' if octaves else ''}",
        "paper 2, figure 2 (SPEC S-F2)",
        f"{_SAYS[scheme]}, as published for {architecture}" + (", over three octaves" if octaves else ""),
        _pixels,
        tuple(under_scheme(stage, scheme, Sobolev(9)) for stage in stages),
        _OCTAVES[-1] if octaves else 1.0,
    )


def _check(scheme: str) -> None:
    if scheme not in get_args(Scheme):
        raise RequestError(f"a scheme is one of {', '.join(get_args(Scheme))}, not '{scheme}'")


_SAYS: dict[Scheme, str] = {
    "tv": "the pixels climb against their total variation, an explicit energy",
    "fluid": "every update of the pixels is smoothed",
    "elastic": "the picture is smoothed after every step",
    "fluid-elastic": "every update is smoothed, and the picture after it",
}


def _by_each(
    source: str, parametrization: MakeParametrization, stage: Callable[[Scheme], Stage], how: str = ""
) -> tuple[Recipe, ...]:
    """A recipe for each scheme by its own name, and for its Gaussian twin."""
    made = []
    for suffix, kernel in (("", Sobolev(_SIZE)), ("-gaussian", Gaussian(_SIZE))):
        for scheme in get_args(Scheme):
            filtered = "" if scheme == "tv" else f" by a {type(kernel).__name__} filter of {_SIZE} pixels"
            stages = (under_scheme(stage(scheme), scheme, kernel),)
            made.append(Recipe(f"{scheme}{suffix}", source, f"{_SAYS[scheme]}{filtered}{how}", parametrization, stages))
    return tuple(recipe for recipe in made if recipe.name != "tv-gaussian")


def _as_in_figure_1(scheme: Scheme) -> Stage:
    return Stage(160, Ascent(5 / 255, per_first_gradient=True), transforms=(Jitter(2),))


def _inversion(scheme: Scheme) -> Stage:
    # The paper descends without momentum, by steps of 20 levels of an unknown unit. That takes too long here.
    # Filtering the solution shrinks it in every step; longer steps keep up with that, and do not diverge.
    levels = 0.3 if "elastic" in scheme else 0.1
    return Stage(300, Momentum(levels / 255, per_first_gradient=True))


def _unscaled(channels: int, height: int, width: int, colours: Tensor | None) -> Pixels:
    return Pixels(channels, height, width, spread=0.01)


DEMONS = _by_each("paper 2, section 3.1 (SPEC S-F1)", _pixels, _as_in_figure_1)
INVERTING_DEMONS = _by_each("after paper 2, section 3.2 (SPEC S-T1)", _unscaled, _inversion, "; with momentum")

PUBLISHED_DEMONS = tuple(
    published(architecture, scheme, octaves=octaves)
    for architecture in get_args(Architecture)
    for scheme in get_args(Scheme)
    for octaves in (False, True)
)
