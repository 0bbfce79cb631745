"""maximize: what does this unit want to see?"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from preimage.canvas import check_size, picture_and_window, takes
from preimage.errors import RequestError
from preimage.images import Photo, as_image, centre_crop
from preimage.network import Network
from preimage.objectives import EachItsOwn, Objective, resolve
from preimage.optimization import Climb, Optimizer, Search, check_finite, climb, plain_scores, scaled, search_step_size
from preimage.parametrizations import PHOTOGRAPHS, Parametrization, measured_colours
from preimage.recipes import Recipe, find_recipe, with_weight_decay
from preimage.result import Making, Result

BATCH = 16
"""How many images are optimised together unless one says."""

_REPETITION = 1_000_003
"""How far apart the seeds of two images with the same objective are."""
_VIEWS = 500_001
"""How far the seed of the views is from that of the images."""


def maximize(
    network: Network,
    objectives: str | Objective | Sequence[str | Objective],
    *,
    recipe: str | Recipe | None = None,
    steps: int | None = None,
    size: int | tuple[int, int] | Literal["receptive-field"] | None = None,
    window: int | tuple[int, int] | None = None,
    optimizer: Optimizer | Literal["auto"] | None = None,
    weight_decay: float | None = None,
    start: Photo | None = None,
    seed: int = 0,
    colours: str | Path | Tensor | None = None,
    batch_size: int = BATCH,
    snapshot_every: int | None = None,
    progress: bool | None = None,
) -> Result:
    """Make an image for each objective that the network answers as strongly as can be.

    objectives: strings (`layer3.2:17`, `layer3.2:0-15`, `class:tabby`; see `preimage.objectives.parse`) or objects.
    recipe: a name from `preimage.recipes()` or a `Recipe`; default: the best that we know.
    steps: in all; default: the recipe's.
    size: of the pictures, one side or (height, width) in pixels, or "receptive-field": what the network sees at once is
        no larger than what the units that are asked can see. Default: what it sees, times the recipe's `canvas`.
    window: what the network sees at once. Default: its input size, or `size` where it sees the whole picture.
    optimizer: instead of the recipe's; "auto" keeps that, but finds the step size that leads highest, for each
        objective by itself (paper 0, SPEC A8), at the cost of a few runs; `settings` says what was tried.
    weight_decay: pull every parameter (with `Pixels`, every pixel's distance from grey) towards zero by this share of
        itself in each step (0.01 in paper 0, for networks like VGG; SPEC A7). Default: the recipe's.
    start: an image to start from (noise as the recipe has it comes on top); default: noise alone.
    seed: of all randomness. An image depends on its objective and the seed, not on what else is asked with it (up to
        rounding); the same objective asked twice gives two different images.
    colours: a folder of images to measure the colours on, for networks that were not trained on photographs, or a
        matrix [C, C] from `measured_colours`. Default: those of photographs for three channels, else independent.
    batch_size: how many images are optimised together, at most.
    snapshot_every: keep the images after every so many steps.
    progress: show a bar on standard error; default: if that is a terminal.

    Ctrl-C ends the run; the result holds what was reached (`result.interrupted`). While step sizes are still being
    looked for nothing is, and it ends without a result.

    Raises `RequestError` for anything that cannot be done as asked, `NonFiniteScoreError` if a score is not finite.
    """
    if batch_size < 1:
        raise RequestError(f"batch_size must be at least 1, not {batch_size}")
    if snapshot_every is not None and snapshot_every < 1:
        raise RequestError(f"snapshot_every must be at least 1, not {snapshot_every}")
    if not 0 <= seed < 2**62:
        raise RequestError(f"a seed is a whole number from 0 to 2^62 - 1, not {seed}")
    settings = find_recipe(recipe).stretched(steps)
    if isinstance(optimizer, Optimizer):
        settings = settings.with_optimizer(optimizer)
    elif optimizer not in (None, "auto"):
        raise RequestError(f"an optimizer is 'auto' or an Optimizer, not '{optimizer}'")
    if weight_decay is not None:
        settings = with_weight_decay(settings, weight_decay)
    members = resolve(objectives, network)
    ready = prepared(network, members, settings, size=size, window=window, colours=colours)
    settings, parametrization, scored = ready.recipe, ready.parametrization, ready.scored
    height, width = ready.size
    generators = _generators(members, seed)
    starts = [parametrization.start(generator) for generator in generators]
    if start is not None:
        image = centre_crop(as_image(start, network.channels), (height, width))
        starts = [one + parametrization.parameters(image[None])[0] for one in starts]
    hidden = None if progress is None else not progress
    searches: dict[Objective, Search] = {}
    if optimizer == "auto":
        with tqdm(disable=hidden, unit="step", leave=False, desc="step sizes") as bar:
            searches = _searches(
                network, members, parametrization, starts, settings, scored, ready.views(seed), batch_size, bar.update
            )
    batches = _batches(members, batch_size)
    climbs: list[tuple[list[int], Climb]] = []
    with tqdm(total=settings.steps * len(batches), disable=hidden, unit="step", leave=False) as bar:
        for indices in batches:
            asked = EachItsOwn(tuple(members[i] for i in indices))
            stages = settings.stages
            if searches:
                factors = tuple(searches[members[i]].factor for i in indices)
                stages = tuple(scaled(stage, factors) for stage in stages)
            views = torch.Generator().manual_seed(ready.views(seed))
            reached = climb(
                network,
                asked,
                parametrization,
                torch.stack([starts[i] for i in indices]).to(network.device),
                stages,
                views,
                noise=[generators[i] for i in indices],
                snapshot_every=snapshot_every,
                on_step=bar.update,
            )
            climbs.append((indices, reached))
            if reached.interrupted:
                break
    said = {
        "verb": "maximize",
        "network": repr(network),
        "recipe": settings.describe(parametrization),
        "parametrization": parametrization.describe(),
        "size": [height, width],
        "seed": seed,
        "batch_size": batch_size,
        "device": str(network.device),
    }
    if start is not None:
        said["start"] = (
            str(start) if isinstance(start, (str, Path)) else hashlib.sha256(image.numpy().tobytes()).hexdigest()
        )
    if settings.has_window:
        said |= {"window": list(ready.seen), "scored_at": list(scored)}
    if searches:
        said["step_sizes"] = [search.as_dict() for search in searches.values()]
    return _gathered(network, members, climbs, said, scored, settings)


@dataclass(frozen=True)
class Prepared:
    """What follows from the objectives and the recipe before anything is optimised.

    recipe: with the window that it moves over the picture. size: (height, width) of the pictures. seen: of what the
    network sees at once. scored: at which finished pictures are asked.
    """

    recipe: Recipe
    parametrization: Parametrization
    size: tuple[int, int]
    seen: tuple[int, int]
    scored: tuple[int, int]

    def starts(self, members: Sequence[Objective], seed: int) -> list[Tensor]:
        """The noise that each objective's picture begins with."""
        return [self.parametrization.start(generator) for generator in _generators(members, seed)]

    def views(self, seed: int) -> int:
        """The seed of the views."""
        return seed + _VIEWS


def prepared(
    network: Network,
    members: Sequence[Objective],
    recipe: Recipe,
    *,
    size: int | tuple[int, int] | Literal["receptive-field"] | None = None,
    window: int | tuple[int, int] | None = None,
    colours: str | Path | Tensor | None = None,
) -> Prepared:
    """All of it as in `maximize`; raises `RequestError` for sizes at which the network cannot be asked."""
    (height, width), seen = picture_and_window(network, recipe, members, size, window)
    check_size(network, members, seen)
    settings = recipe.windowed(*seen)
    scored = (height, width) if takes(network, members, (height, width)) else seen
    parametrization = settings.parametrization(network.channels, height, width, _colours(colours, network.channels))
    return Prepared(settings, parametrization, (height, width), seen, scored)


def _searches(
    network: Network,
    members: Sequence[Objective],
    parametrization: Parametrization,
    starts: Sequence[Tensor],
    settings: Recipe,
    scored: tuple[int, int],
    views: int,
    batch_size: int,
    on_step: Callable[[], object],
) -> dict[Objective, Search]:
    """The best step size for each objective, found from the start of its first image."""
    found: dict[Objective, Search] = {}
    for member, begin in zip(members, starts, strict=True):
        if member not in found:
            found[member] = search_step_size(
                network,
                member,
                parametrization,
                begin.to(network.device),
                settings.stages,
                scored,
                views,
                batch_size=batch_size,
                on_step=on_step,
            )
    return found


def _colours(asked: str | Path | Tensor | None, channels: int) -> Tensor | None:
    if asked is None:
        return PHOTOGRAPHS if channels == 3 else None
    matrix = asked if isinstance(asked, Tensor) else measured_colours(asked, channels)
    if matrix.shape != (channels, channels):
        raise RequestError(f"a colour matrix has shape [{channels}, {channels}] here, not {list(matrix.shape)}")
    return matrix


def _generators(members: Sequence[Objective], seed: int) -> list[torch.Generator]:
    """The randomness of each image: the same for all objectives, and another for each repetition of the same one."""
    seen: dict[Objective, int] = defaultdict(int)
    generators = []
    for member in members:
        generators.append(torch.Generator().manual_seed(seed + _REPETITION * seen[member]))
        seen[member] += 1
    return generators


def _batches(members: Sequence[Objective], batch_size: int) -> list[list[int]]:
    """Objectives that need the same taps are optimised together, so that none runs deeper than it has to."""
    by_places: dict[frozenset[object], list[int]] = defaultdict(list)
    for index, member in enumerate(members):
        by_places[frozenset(member.all_places())].append(index)
    return [group[i : i + batch_size] for group in by_places.values() for i in range(0, len(group), batch_size)]


def _gathered(
    network: Network,
    members: Sequence[Objective],
    climbs: Sequence[tuple[list[int], Climb]],
    settings: dict[str, object],
    scored: tuple[int, int],
    recipe: Recipe,
) -> Result:
    """All batches in the order in which they were asked, with the plain score of each finished image.

    scored: the size at which the network is asked; where it takes its own size only, a larger canvas is resampled.
    """
    images: dict[int, Tensor] = {}
    parameters: dict[int, Tensor] = {}
    scores: dict[int, float] = {}
    traces: dict[int, list[float]] = {}
    snapshots: dict[int, dict[int, Tensor]] = defaultdict(dict)
    for indices, reached in climbs:
        made = reached.pictures()
        asked = EachItsOwn(tuple(members[i] for i in indices))
        score = plain_scores(network, asked, made, scored)
        check_finite([*reached.trace, score], asked)
        trace = torch.stack(reached.trace).T.tolist() if reached.trace else [[] for _ in indices]
        for position, index in enumerate(indices):
            images[index], scores[index], traces[index] = made[position].cpu(), float(score[position]), trace[position]
            parameters[index] = reached.parameters[position].cpu()
            for steps, kept in reached.snapshots:
                snapshots[steps][index] = kept[position]
    done = sorted(images)
    longest = max(len(traces[i]) for i in done)
    padded = [traces[i] + [float("nan")] * (longest - len(traces[i])) for i in done]
    return Result(
        images=torch.stack([images[i] for i in done]).float(),
        scores=torch.tensor([scores[i] for i in done]),
        trace=torch.tensor(padded).T.reshape(longest, len(done)),
        objectives=[str(members[i]) for i in done],
        settings=settings,
        snapshots=[
            (n, torch.stack([kept[i] for i in done])) for n, kept in snapshots.items() if len(kept) == len(done)
        ],
        interrupted=any(reached.interrupted for _, reached in climbs),
        asked=done,
        made=Making(
            network,
            [members[i] for i in done],
            climbs[0][1].parametrization,
            torch.stack([parameters[i].to(parameters[done[0]].dtype) for i in done]),
            recipe.stages,
        ),
    )
