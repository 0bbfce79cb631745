"""Published settings, by name."""

from __future__ import annotations

from typing import Literal, get_args

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
from preimage.recipes.default import DEFAULT, UNIT
from preimage.recipes.demons import DEMONS, INVERTING_DEMONS, PUBLISHED_DEMONS, published, under_scheme
from preimage.recipes.inverse_feature_visualization import PLAIN
from preimage.recipes.inversion import INVERSION, ROBUST
from preimage.recipes.lucid import FOURIER
from preimage.recipes.recipe import Recipe

Verb = Literal["maximize", "invert"]

_PAPER_0 = (UNCONSTRAINED, JITTER, JITTER_RESIZE, JITTER_RESIZE_NEAREST, BLUR, BLUR_DEBLUR)
_MAXIMIZE = {recipe.name: recipe for recipe in (DEFAULT, UNIT, FOURIER, *_PAPER_0, PLAIN, *DEMONS, *PUBLISHED_DEMONS)}
_INVERT = {recipe.name: recipe for recipe in (INVERSION, ROBUST, *INVERTING_DEMONS)}
# What moves the picture has no place where the picture as a whole is compared.
_INVERT |= {name: recipe.still() for name, recipe in _MAXIMIZE.items() if name not in _INVERT}


class RecipeTable(dict[str, Recipe]):
    """All recipes by name; prints as a table."""

    def __str__(self) -> str:
        width = max(map(len, self))
        return "\n".join(
            f"{name.ljust(width)}  {recipe.regularization.ljust(8)}  {recipe.source}: {recipe.says}"
            for name, recipe in self.items()
        )

    __repr__ = __str__


def recipes(verb: Verb = "maximize") -> RecipeTable:
    """Every recipe of a verb by name, with its source; raises `RequestError` for a verb that has none."""
    if verb not in get_args(Verb):
        raise RequestError(f"there are recipes for {' and '.join(get_args(Verb))}, not for '{verb}'")
    return RecipeTable(_MAXIMIZE if verb == "maximize" else _INVERT)


def find_recipe(recipe: str | Recipe | None, verb: Verb = "maximize") -> Recipe:
    """The recipe of this name (None: the default); raises `RequestError`, which lists them, for an unknown one."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe is not None and not isinstance(recipe, str):
        raise RequestError(f"a recipe is a name or a Recipe, not {type(recipe).__name__}")
    table = recipes(verb)
    name = DEFAULT.name if recipe is None else recipe
    if name not in table:
        close = nearest(name, table)
        hint = f"; did you mean {close[0]}?" if close else ""
        short = [known for known in table if "@" not in known]
        raise RequestError(f"there is no recipe '{name}'{hint} (there are {', '.join(short)})")
    return table[name]


__all__ = [
    "DEFAULT",
    "UNIT",
    "Recipe",
    "RecipeTable",
    "Verb",
    "find_recipe",
    "published",
    "recipes",
    "under_scheme",
    "with_weight_decay",
]
