"""compare: which features of a second network correspond to those of a first? (paper 1, section 4)

A feature is realised in the first network, and the picture is inverted in the second: where activations only say which
channels answer the same pictures, this asks for which channel no picture would be better.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from preimage.canvas import pair
from preimage.errors import RequestError
from preimage.images import Photo, as_image, centre_crop, listed_photos, photo_as_setting
from preimage.maximize import maximize
from preimage.network import Network, Place
from preimage.objectives import Aggregate, aggregated, direction
from preimage.parametrizations import PHOTOGRAPHS, Fourier
from preimage.recipes import Recipe, find_recipe
from preimage.recover.angles import angle
from preimage.recover.comparison import Comparison
from preimage.recover.recovering import recovered
from preimage.recover.sensitivity import MEMORY, sensitivity
from preimage.recover.solving import shrinking
from preimage.result import Result

FEWEST_PHOTOS = 3
"""Of two pictures every correlation is 1 or -1."""
_NOISE, _NOISE_SPREAD = 64, 0.5
"""How many pictures of noise stand in for photos, and the spread of their parameters: about photographs' contrast."""
_CONSTANT = 1e-6
"""Responses that differ by no more than this share of the largest are equal as far as float32 can tell."""
_CHUNK = 16


class InUnits(Network):
    """The same network, whose answers at one tap are divided by units: positive, one for each of its channels.

    What a response of 1 means is arbitrary in a network of ReLUs (each channel may be scaled at will, if what follows
    undoes it), but the cosine x^T y / |y| depends on it, and so does how wide kinks are made.
    """

    def __init__(self, network: Network, tap: str, units: Tensor):
        vars(self).update(vars(network))
        self._scaled, self._units = network.tap(tap).name, units

    def run(
        self, images: Tensor, taps: Iterable[str | Place], *, instead: tuple[str, Tensor] | None = None
    ) -> dict[Place, Tensor]:
        found = super().run(images, taps, instead=instead)
        return {place: self._in_units(value) if self._is_it(place) else value for place, value in found.items()}

    def _is_it(self, place: Place) -> bool:
        return self.tap(place.tap).name == self._scaled

    def _in_units(self, value: Tensor) -> Tensor:
        return value / self._units.to(value).view(1, -1, *(1 for _ in value.shape[2:]))


@dataclass(frozen=True)
class Side:
    """One of the two networks, at its tap, and what all its channels answer to the pictures, float64 [N, channels]."""

    network: Network
    place: Place
    answers: Tensor

    @cached_property
    def alive(self) -> list[int]:
        """The channels that do not answer all pictures alike."""
        living: list[int] = varying(self.answers).nonzero()[:, 0].tolist()
        return living

    @property
    def dead(self) -> list[int]:
        """All other channels."""
        return sorted(set(range(self.answers.shape[1])) - set(self.alive))

    @cached_property
    def units(self) -> Tensor:
        """Each channel's usual size, its root mean square over the pictures, [channels]; 1 where it is dead."""
        return self.answers.square().mean(0).sqrt().where(varying(self.answers), 1.0)

    @cached_property
    def scaled(self) -> InUnits:
        """The network with its answers at the tap in their usual size."""
        return InUnits(self.network, self.place.tap, self.units)


def compare(
    first: Network,
    second: Network,
    at: str | Place | tuple[str | Place, str | Place],
    *,
    features: Sequence[int] | None = None,
    photos: Photo | Sequence[Photo] | None = None,
    recipe: str | Recipe = "plain",
    steps: int | None = None,
    size: int | tuple[int, int] | None = None,
    cosine_power: float = 2.0,
    aggregate: Aggregate = "max-mean",
    seed: int = 0,
    memory: int = MEMORY,
    progress: bool | None = None,
) -> Comparison:
    """Realise channels of one network and ask another what these pictures are the answer to.

    at: the tap in the first network and that in the second, or one name for both; before a ReLU that they end in.
    features: channels of the first that are realised; default: all, of which each takes as long as a picture of
        `maximize` does.
    photos: at least 3, better hundreds, on which channels are correlated: files, PIL images, arrays or tensors in
        [0, 1]. Their centres are shown to each network at its input size. Default: no correlation.
    recipe: one whose pictures are maxima: the last stage smooths kinks, and has neither transforms nor energies.
    steps, size, seed, progress: as in `preimage.maximize`; both networks have to take that size.
    cosine_power, aggregate: k, and how a map becomes one number per channel, in both networks.
    memory: bytes that Jacobians may take.

    Features are responses in their usual size: each channel's is divided by its root mean square over the photos (64
    pictures of noise, coloured and smooth as photographs are, where none are given), in both networks, so that the
    outcome does not depend on how a network scales its channels. (The realisations are those of `maximize` for
    directions in such units, not quite its realisations of channels.) Channels that answer all of these pictures alike
    are dead: they are listed and left out.

    The picture is a maximum in the first network, and in the second only as far as that has the same feature. Three
    rankings of the second network's channels say what it is there (`Comparison.ranked`): by their weight in the
    recovered objective (equation 3), by how much of each channel's own gradient is left, |e_j^T Z_k Dy| / |Dy_j|, and
    by response.

    Ctrl-C keeps the channels that are done.

    Raises `RequestError` for taps that are unknown or have no such channels, networks of different input channels,
    fewer than 3 photos, recipes with other terms, and if all channels in question are dead.
    """
    places = _places(at)
    if first.channels != second.channels:
        raise RequestError(
            f"{first.name} takes images of {first.channels} channels and {second.name} of {second.channels}, so that "
            "none can be shown to both"
        )
    if cosine_power < 0:
        raise RequestError(f"cosine_power must not be negative, but is {cosine_power:g}")
    if aggregate not in get_args(Aggregate):
        raise RequestError(f"aggregate must be one of {', '.join(get_args(Aggregate))}, not '{aggregate}'")
    last = find_recipe(recipe).stages[-1]
    if last.smoothing is None or last.transforms or last.regularizers or last.denoiser or last.smooth_solution:
        raise RequestError(
            "the pictures have to be maxima of the objective alone: a recipe whose last stage smooths kinks and has no "
            f"transforms, energies or filters, as 'plain'; '{find_recipe(recipe).name}' is not like that"
        )
    counts = [network.tap(place.tap).channels for network, place in zip((first, second), places, strict=True)]
    wanted = list(range(counts[0])) if features is None else [int(index) for index in features]
    if not wanted or len(set(wanted)) < len(wanted) or not all(0 <= index < counts[0] for index in wanted):
        raise RequestError(f"'{places[0].tap}' has channels 0 to {counts[0] - 1}, each at most once, not {features}")
    sides = first.input_size if size is None else pair("size", size)
    given = None if photos is None else listed_photos(photos)
    if given is not None and len(given) < FEWEST_PHOTOS:
        raise RequestError(f"a correlation takes at least {FEWEST_PHOTOS} photos, not {len(given)}")
    pictures = (
        _noise(first.channels, sides, seed) if given is None else [as_image(one, first.channels) for one in given]
    )
    # Before the first network has worked for hours, so that a second that cannot take its pictures says so.
    responses(second, places[1], [torch.full((second.channels, *sides), 0.5)], aggregate, sides)
    here, there = (
        Side(
            network,
            place,
            responses(network, place, pictures, aggregate, sides if given is None else network.input_size),
        )
        for network, place in zip((first, second), places, strict=True)
    )
    realised = [index for index in wanted if index in set(here.alive)]
    for some, side in ((realised, here), (there.alive, there)):
        if not some:
            where = f"{side.network.name} '{side.place}'"
            raise RequestError(f"the channels of {where} that are in question are dead: they answer all pictures alike")
    targets = torch.eye(len(here.alive), dtype=torch.float64)[[here.alive.index(index) for index in realised]]
    asked = [
        direction(here.place.tap, x, cosine_power, aggregate, after_relu=here.place.after_relu, features=here.alive)
        for x in targets
    ]
    result = maximize(here.scaled, asked, recipe=recipe, steps=steps, size=sides, seed=seed, progress=progress)
    found: list[_Inverse] = []
    interrupted = result.interrupted
    hidden = None if progress is None else not progress
    try:
        for i, number in enumerate(tqdm(result.asked, disable=hidden, unit="image", leave=False, desc="inverting")):
            found.append(_inverse(result, i, targets[number], here, there, cosine_power, aggregate, memory))
    except KeyboardInterrupt:
        interrupted = True
        if not found:
            raise
    channels = [realised[number] for number in result.asked[: len(found)]]
    return Comparison(
        names=(first.name, second.name),
        taps=(str(places[0]), str(places[1])),
        channels=channels,
        images=result.images[: len(found)],
        weights=_columns([one.weights for one in found], there),
        residuals=_columns([one.residuals for one in found], there),
        responses=_columns([one.responses for one in found], there),
        correlations=None if given is None else correlations(here.answers, there.answers)[channels],
        cosines=torch.tensor([one.cosine for one in found], dtype=torch.float64),
        own_angles=torch.tensor([one.own_angle for one in found], dtype=torch.float64),
        ratios=torch.tensor([one.ratio for one in found], dtype=torch.float64),
        dead=(here.dead, there.dead),
        settings={
            "verb": "compare",
            "networks": [repr(first), repr(second)],
            "at": [str(place) for place in places],
            "after_relu": [place.after_relu for place in places],
            "features": None if features is None else wanted,
            "cosine_power": cosine_power,
            "aggregate": aggregate,
            "smoothing": last.smoothing,
            "photos": None if given is None else [photo_as_setting(*one) for one in zip(given, pictures, strict=True)],
            "usual_sizes": [here.units.tolist(), there.units.tolist()],
            **{name: result.settings[name] for name in ("recipe", "parametrization", "size", "seed", "device")},
        },
        interrupted=interrupted,
    )


@dataclass(frozen=True)
class _Inverse:
    """What one realisation is to the second network, and whether it is a maximum in the first; see `Comparison`."""

    weights: Tensor
    residuals: Tensor
    responses: Tensor
    ratio: float
    cosine: float
    own_angle: float


def _inverse(
    result: Result,
    index: int,
    target: Tensor,
    here: Side,
    there: Side,
    cosine_power: float,
    aggregate: Aggregate,
    memory: int,
) -> _Inverse:
    made = result.made
    assert made is not None
    at_home, abroad = (
        sensitivity(
            side.scaled,
            made.parameters[index : index + 1],
            side.place,
            made.parametrization,
            aggregate=aggregate,
            features=side.alive,
            smoothing=made.stages[-1].smoothing,
            memory=memory,
        )
        for side in (here, there)
    )
    own, other = (
        recovered(seen, cosine_power, None, result.images[index], "", side.place.tap, {})
        for seen, side in ((at_home, here), (abroad, there))
    )
    return _Inverse(
        weights=other.objective,
        residuals=uncancelled(abroad.response, abroad.gram, cosine_power)[0],
        responses=abroad.response[0],
        ratio=other.ratio,
        cosine=float(at_home.response[0] @ target / at_home.response[0].norm()),
        own_angle=float(angle(own.objective, target)),
    )


def _columns(rows: Sequence[Tensor], side: Side) -> Tensor:
    """Rows [alive] as [N, channels], NaN where a channel is dead."""
    out = torch.full((len(rows), side.answers.shape[1]), torch.nan, dtype=torch.float64)
    out[:, side.alive] = torch.stack(list(rows))
    return out


def uncancelled(response: Tensor, gram: Tensor, cosine_power: float) -> Tensor:
    """How much of each feature's own gradient is left in that of S_{e_j}: |e_j^T Z_k Dy| / |Dy_j|, [N, features].

    response: y, float64 [N, features]. gram: Dy Dy^T, [N, features, features]. 0 where the image is a stationary point
    of feature j's objective (paper 1, section 2.1, for x = e_j); 1 where nothing works against the feature's gradient.
    NaN for a feature whose gradient is zero. Without the division, features that hardly change would come first.
    """
    shrink = shrinking(response, cosine_power)
    left = (shrink @ gram @ shrink).diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    share: Tensor = left / gram.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    return share.where(share.isfinite(), torch.nan)


def correlations(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of each column of [N, A] with each of [N, B], float64 [A, B]; NaN where one is constant."""
    a, b = ((some - some.mean(0)).double() for some in (first, second))
    a, b = a / a.norm(dim=0), b / b.norm(dim=0)
    a[:, ~varying(first)], b[:, ~varying(second)] = torch.nan, torch.nan
    matrix: Tensor = a.mT @ b
    return matrix.clamp(-1, 1)


@torch.no_grad()
def responses(
    network: Network, place: Place, pictures: Sequence[Tensor], aggregate: Aggregate, size: tuple[int, int]
) -> Tensor:
    """What a tap's channels answer to the centres of pictures, aggregated, float64 [N, channels]."""
    found = []
    with network.held():
        for i in range(0, len(pictures), _CHUNK):
            shown = torch.stack([centre_crop(one, size) for one in pictures[i : i + _CHUNK]])
            answer = network.run(shown.to(network.device), [place])[place]
            found.append(aggregated(answer, aggregate).double().cpu())
    return torch.cat(found)


def varying(answers: Tensor) -> Tensor:
    """Which columns of [N, channels] are not constant, bool [channels]."""
    spread = answers.amax(0) - answers.amin(0)
    varying: Tensor = spread > _CONSTANT * answers.abs().amax(0)
    return varying


def _noise(channels: int, size: tuple[int, int], seed: int) -> list[Tensor]:
    """Pictures of noise that have photographs' spectrum and colours."""
    kind = Fourier(channels, *size, spread=_NOISE_SPREAD, colours=PHOTOGRAPHS if channels == 3 else None)
    generator = torch.Generator().manual_seed(seed)
    return list(kind.picture(torch.stack([kind.start(generator) for _ in range(_NOISE)])))


def _places(at: Any) -> tuple[Place, Place]:
    both = (at, at) if isinstance(at, (str, Place)) else at
    if not isinstance(both, (tuple, list)) or len(both) != 2 or not all(isinstance(one, (str, Place)) for one in both):
        raise RequestError(f"two networks are compared at two taps, (of the first, of the second), not at {at!r}")
    a, b = (one if isinstance(one, Place) else Place(one) for one in both)
    return a, b
