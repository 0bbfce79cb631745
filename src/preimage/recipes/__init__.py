"""Published settings, by name."""

from __future__ import annotations

from preimage.errors import RequestError, nearest
from preimage.recipes.blurring_and_deblurring import (
    BLUR,
    BLUR_DEBLUR,
    JITTER,
    JITTER_RESIZE,
    JITTER_RESIZE_NEAREST,
    UNCONSTRAINED,
    with_weight_decay,
)
from preimage.recipes.default import DEFAULT
from preimage.recipes.inverse_feature_visualization import PLAIN
from preimage.recipes.lucid import FOURIER
from preimage.recipes.recipe import Recipe

_PAPER_0 = (UNCONSTRAINED, JITTER, JITTER_RESIZE, JITTER_RESIZE_NEAREST, BLUR, BLUR_DEBLUR)
_ALL = {recipe.name: recipe for recipe in (DEFAULT, FOURIER, *_PAPER_0, PLAIN)}


class RecipeTable(dict[str, Recipe]):
    """All recipes by name; prints as a table."""

    def __str__(self) -> str:
        width = max(map(len, self))
        return "\n".join(f"{name.ljust(width)}  {recipe.source}: {recipe.says}" for name, recipe in self.items())

    __repr__ = __str__


def recipes() -> RecipeTable:
    """Every recipe by name, with its source."""
    return RecipeTable(_ALL)


def find_recipe(recipe: str | Recipe | None) -> Recipe:
    """The recipe of this name (None: the default); raises `RequestError`, which lists them, for an unknown one."""
    if isinstance(recipe, Recipe):
        return recipe
    name = DEFAULT.name if recipe is None else recipe
    if name not in _ALL:
        close = nearest(name, _ALL)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise RequestError(f"there is no recipe '{name}'{hint} (there are {', '.join(_ALL)})")
    return _ALL[name]


__all__ = ["DEFAULT", "Recipe", "RecipeTable", "find_recipe", "recipes", "with_weight_decay"]
