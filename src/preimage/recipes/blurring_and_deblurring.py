"""Paper 0: Wang, Liu & Cheng 2018, "Visualizing deep neural network by alternately image blurring and deblurring".

All of them change the pixels themselves, starting from N(0, 1) on the 0..255 scale (SPEC A9), and show the network a
window that moves over a canvas 300/224 times as large, held for ten steps (SPEC A2). Lengths of steps that the paper's
code gives in levels of 0..255 are divided by 255 here.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from preimage.errors import RequestError
from preimage.optimization import Ascent, NormalisedAscent, Stage
from preimage.parametrizations import Pixels
from preimage.priors import BlurAndDeblur, FallingBlur, Grey
from preimage.recipes.recipe import Recipe
from preimage.transforms import Window

_CANVAS = 300 / 224
_HELD = 10
_STEP = 1.5 / 255
_STEPS = 300
_DECAY = 0.01


def _pixels(channels: int, height: int, width: int, colours: Tensor | None) -> Pixels:
    return Pixels(channels, height, width, shown=0.99)


_JITTERED = Stage(_STEPS, NormalisedAscent(_STEP), transforms=(Window(placing="edges", frame=5),), hold=_HELD)
_RESIZED = Window(placing="edges", frame=5, scale=(0.8, 1.2))

UNCONSTRAINED = Recipe(
    "unconstrained",
    "paper 0, section 2 (SPEC A1)",
    "the pixels themselves, plain gradient ascent, nothing else; the step size is in units of the first gradient",
    _pixels,
    (Stage(_STEPS, Ascent(_STEP, per_first_gradient=True)),),
)

JITTER = Recipe(
    "jitter",
    "paper 0, figure 4a (SPEC A2)",
    "a window that moves over a larger canvas, and nothing else",
    _pixels,
    (_JITTERED,),
    _CANVAS,
)

JITTER_RESIZE = Recipe(
    "jitter-resize",
    "paper 0, figure 4c (SPEC A3)",
    "a moving window of 0.8 to 1.2 times the network's size, resampled bilinearly",
    _pixels,
    (replace(_JITTERED, transforms=(_RESIZED,)),),
    _CANVAS,
)

JITTER_RESIZE_NEAREST = Recipe(
    "jitter-resize-nearest",
    "paper 0, figure 4b (SPEC A4)",
    "the same, resampled to the nearest pixel: places share their gradients, neighbouring pixels do not",
    _pixels,
    (replace(_JITTERED, transforms=(replace(_RESIZED, interpolation="nearest"),)),),
    _CANVAS,
)


def _octave(steps: int, levels: tuple[float, float], scale: float, first: float, last: float) -> Stage:
    """A stage of Øygard's: steps of so many levels at its beginning and end, sigma from `first` to `last`."""
    return Stage(
        steps,
        NormalisedAscent(levels[0] / 255),
        transforms=(Window(placing="middle"),),
        smooth_solution=FallingBlur(first, last),
        last_step_size=levels[1] / levels[0],
        scale=scale,
    )


BLUR = Recipe(
    "blur",
    "Øygard 2015, paper 0 (SPEC A5)",
    "blurring after every step by a Gaussian that narrows, over three octaves of the canvas",
    _pixels,
    (
        _octave(190, (11, 11), 1 / 1.44, 2.5, 0.78),
        _octave(150, (6, 6), 1 / 1.2, 0.936, 0.78),
        _octave(150, (6, 3), 1.0, 0.936, 0.44),
        _octave(10, (3, 3), 1.0, 0.44, 0.304),
    ),
    1.44,
)

BLUR_DEBLUR = Recipe(
    "blur-deblur",
    "paper 0 (SPEC A6)",
    "a moving window; in each round of ten steps the canvas is blurred after the first and deblurred after the sixth",
    _pixels,
    (replace(_JITTERED, smooth_solution=BlurAndDeblur()),),
    _CANVAS,
)


def with_weight_decay(recipe: Recipe, decay: float = _DECAY) -> Recipe:
    """The same recipe, with every pixel pulled towards grey by `decay` of itself in each step (SPEC A7).

    Without it some pixels of VGG-like networks grow without bound, and blurring spreads them
    (`experiments/weight_decay.py`). 0.01 is the published code's.

    Raises `RequestError` for a share outside [0, 1], and for a recipe that pulls towards something else.
    """
    if not 0 <= decay <= 1:
        raise RequestError(f"weight decay takes a share of each pixel, from 0 to 1, not {decay}")
    if any(stage.denoiser is not None and not isinstance(stage.denoiser, Grey) for stage in recipe.stages):
        raise RequestError(f"recipe '{recipe.name}' pulls towards something else than grey already")
    stages = tuple(replace(stage, denoiser=Grey(), pull=decay) for stage in recipe.stages)
    return replace(recipe, says=f"{recipe.says}; weight decay {decay:g}", stages=stages)
