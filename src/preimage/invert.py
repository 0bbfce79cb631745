"""invert: what does a layer still know of a photo?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from preimage.canvas import pair
from preimage.errors import RequestError
from preimage.images import (
    Photo,
    as_image,
    centre_crop,
    listed_photos,
    photo_as_setting,
    photo_names,
    to_pil,
    written_whole,
)
from preimage.maximize import BATCH, maximize
from preimage.network import Network, Place
from preimage.objectives import Distance, Features, features_of_each
from preimage.optimization import Optimizer
from preimage.recipes import Recipe, find_recipe
from preimage.result import Result, figure_html, number


@dataclass(kw_only=True)
class Inversion(Result):
    """Images whose features at a tap are those of a photo; one for each photo and tap, photo by photo.

    Besides what every `Result` has (its scores are minus the distance that was asked, for a layer that ends in a ReLU
    taken before it: see `preimage.objectives.Features`):
    photos: float32 [N, C, H, W], the photo that each image is to resemble, as the network saw it.
    of: which of the photos that were given each image is made of, by number, [N]. taps: of each image, [N].
    feature_errors: float32 [N], |Phi(u) - Phi_0|^2 / |Phi_0|^2; 0: the layer cannot tell them apart, 1: as far off as
        an image that it does not answer.
    pixel_errors: float32 [N], root of the mean squared difference to the photo, on the [0, 1] scale.
    """

    photos: Tensor
    of: list[int]
    taps: list[str]
    feature_errors: Tensor
    pixel_errors: Tensor

    def __repr__(self) -> str:
        count, _, height, width = self.images.shape
        return f"Inversion({count} images of {height} x {width} at {', '.join(dict.fromkeys(self.taps))})"

    def image_as_dict(self, index: int) -> dict[str, Any]:
        errors = {"feature_error": self.feature_errors[index], "pixel_error": self.pixel_errors[index]}
        said = {name: number(float(error)) for name, error in errors.items()}
        return {**super().image_as_dict(index), "tap": self.taps[index], "photo": self.photo_file(index), **said}

    def photo_file(self, index: int) -> str:
        """The name of the file in which `save` puts the photo of an image."""
        photos = list(dict.fromkeys(self.of))
        return f"photo-{photos.index(self.of[index])}.png"

    def save(self, folder: str | Path) -> Path:
        """Write the images, the photos as the network saw them, and `result.json`; see `Result.save`."""
        path = super().save(folder)
        for name, photo in {self.photo_file(i): photo for i, photo in enumerate(self.photos)}.items():
            with written_whole(path / name) as file:
                to_pil(photo).save(file)
        return path

    def _repr_html_(self) -> str:
        cells = []
        for i, image in enumerate(self.images):
            if i == 0 or self.of[i] != self.of[i - 1]:
                cells.append(figure_html(self.photos[i], "photo"))
            cells.append(figure_html(image, self.taps[i], f"feature error {float(self.feature_errors[i]):.3f}"))
        return "".join(cells)


def invert(
    network: Network,
    photos: Photo | Sequence[Photo],
    at: str | Sequence[str],
    *,
    recipe: str | Recipe | None = None,
    distance: Distance = "l2",
    after_relu: bool = True,
    one_sided: bool = True,
    steps: int | None = None,
    size: int | tuple[int, int] | None = None,
    optimizer: Optimizer | Literal["auto"] | None = None,
    start: Photo = "noise",
    seed: int = 0,
    colours: str | Path | Tensor | None = None,
    batch_size: int = BATCH,
    snapshot_every: int | None = None,
    progress: bool | None = None,
) -> Inversion:
    """Find an image whose features at a tap are those of a photo (paper 2, equation 3; SPEC S2).

    photos: one, or many: files, PIL images, arrays [H, W, C], tensors [C, H, W] or one tensor [N, C, H, W] in [0, 1].
        Each is scaled, and cropped to its centre, to `size`.
    at: the tap, or several.
    recipe: a name from `preimage.recipes("invert")` or a `Recipe`; default: the best that we know. A name that only
        `maximize` has means its parametrization, optimizers, filters and energies without its transforms: here the
        picture is compared as a whole.
    distance: "l2", squared; "l2-root", without the square; "l1". All are relative to the photo's own features.
    after_relu: compare what the layer hands on, behind a final ReLU; False: what stands before it, which says more.
    one_sided: ask for what is behind a ReLU before it (see `preimage.objectives.features`); False: paper 2's distance.
    size: (height, width) or one side of photo and picture in pixels; default: what the network takes.
    start: "noise", as the recipe has it; "grey"; or an image, on which the recipe's noise comes.
    batch_size: how many pictures are made together; the default recipe holds about 25 MB for each of 224 x 224 pixels,
        besides what the network needs.
    Others: as in `preimage.maximize`. Ctrl-C keeps what was reached. A photo that is given twice is inverted alike.

    Raises `RequestError` for a tap that does not exist or knows nothing of the photo, for a photo that cannot be read,
    and for what does not fit together; `NonFiniteScoreError` if a score is not finite.
    """
    given = listed_photos(photos)
    taps: list[Any] = list(at) if isinstance(at, (list, tuple)) and not isinstance(at, Place) else [at]
    if not all(type(tap) is str for tap in taps):
        raise RequestError(f"a tap is named by a string, as `taps()` lists them, not {at!r}")
    if not given or not taps:
        raise RequestError("an inversion takes at least one photo and one tap")
    if batch_size < 1:
        raise RequestError(f"batch_size must be at least 1, not {batch_size}")
    settings = find_recipe(recipe, "invert")
    if settings.has_window:
        raise RequestError(
            f"recipe '{settings.name}' shows the network a part of the picture at a time, but an inversion compares "
            f"the whole; use Recipe.still() of it"
        )
    sides = network.input_size if size is None else pair("size", size)
    if isinstance(start, str) and start == "gray":
        raise RequestError("a start is 'noise', 'grey' or an image, not 'gray'")
    cropped, named = [], []
    for photo in given:  # (one after the other: two hundred photographs of a camera do not fit into memory)
        image = as_image(photo, network.channels)
        cropped.append(centre_crop(image, sides))
        named.append(photo_as_setting(photo, image))
    fitted = torch.stack(cropped)
    names = photo_names(given)
    asked: list[Features] = []
    options: dict[str, Any] = {"distance": distance, "after_relu": after_relu, "one_sided": one_sided}
    for tap in taps:
        for first in range(0, len(given), batch_size):
            some = slice(first, first + batch_size)
            asked += features_of_each(network, tap, fitted[some], names[some], **options)
    # Photo by photo, from tap to tap.
    asked = [asked[tap * len(given) + photo] for photo in range(len(given)) for tap in range(len(taps))]
    made = maximize(
        network,
        asked,
        recipe=settings.without_noise() if isinstance(start, str) and start == "grey" else settings,
        steps=steps,
        size=sides,
        optimizer=optimizer,
        start=None if isinstance(start, str) and start in ("noise", "grey") else start,
        seed=seed,
        colours=colours,
        batch_size=batch_size,
        snapshot_every=snapshot_every,
        progress=progress,
    )
    done = [asked[i] for i in made.asked]
    of = [i // len(taps) for i in made.asked]
    originals = fitted[of]
    said: dict[str, Any] = {
        "verb": "invert",
        "at": taps,
        "photos": named,
    }
    said |= {**options, "start": made.settings.get("start", start)}
    return Inversion(
        **{**vars(made), "settings": made.settings | said},
        photos=originals,
        of=of,
        taps=[one.place.tap for one in done],
        feature_errors=_feature_errors(network, done, made.images, batch_size),
        pixel_errors=(made.images - originals).square().mean((1, 2, 3)).sqrt(),
    )


@torch.no_grad()
def _feature_errors(network: Network, asked: Sequence[Features], images: Tensor, batch_size: int) -> Tensor:
    errors = torch.zeros(len(asked))
    for place in {one.place for one in asked}:
        here = [i for i, one in enumerate(asked) if one.place == place]
        for first in range(0, len(here), batch_size):
            some = here[first : first + batch_size]
            seen = network.run(images[some].to(network.device), [place])[place]
            for i, values in zip(some, seen, strict=True):
                errors[i] = float(asked[i].error({place: values[None]}))
    return errors
