"""maximize: what does this unit want to see?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from preimage.errors import RequestError
from preimage.network import Network
from preimage.objectives import EachItsOwn, Objective, resolve
from preimage.optimization import Climb, check_finite, climb
from preimage.parametrizations import PHOTOGRAPHS, Parametrization, measured_colours
from preimage.recipes import Recipe, find_recipe
from preimage.result import Result

_BATCH = 16
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
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    colours: str | Path | Tensor | None = None,
    batch_size: int = _BATCH,
    snapshot_every: int | None = None,
    progress: bool | None = None,
) -> Result:
    """Make an image for each objective that the network answers as strongly as can be.

    objectives: strings (`layer3.2:17`, `layer3.2:0-15`, `class:tabby`; see `preimage.objectives.parse`) or objects.
    recipe: a name from `preimage.recipes()` or a `Recipe`; default: the best that we know.
    steps: in all; default: the recipe's.
    size: of the images, one side or (height, width) in pixels; default: the network's input size.
    seed: of all randomness. An image depends on its objective and the seed, not on what else is asked with it (up to
        rounding); the same objective asked twice gives two different images.
    colours: a folder of images to measure the colours on, for networks that were not trained on photographs, or a
        matrix [C, C] from `measured_colours`. Default: those of photographs for three channels, else independent.
    batch_size: how many images are optimised together, at most.
    snapshot_every: keep the images after every so many steps.
    progress: show a bar on standard error; default: if that is a terminal.

    Ctrl-C ends the run; the result holds what was reached (`result.interrupted`).

    Raises `RequestError` for anything that cannot be done as asked, `NonFiniteScoreError` if a score is not finite.
    """
    if batch_size < 1:
        raise RequestError(f"batch_size must be at least 1, not {batch_size}")
    if snapshot_every is not None and snapshot_every < 1:
        raise RequestError(f"snapshot_every must be at least 1, not {snapshot_every}")
    if not 0 <= seed < 2**62:
        raise RequestError(f"a seed is a whole number from 0 to 2^62 - 1, not {seed}")
    settings = find_recipe(recipe).stretched(steps)
    members = resolve(objectives, network)
    height, width = _size(network, size)
    network.check_size((height, width))
    parametrization = settings.parametrization(network.channels, height, width, _colours(colours, network.channels))
    generators = _generators(members, seed)
    starts = [parametrization.start(generator) for generator in generators]
    batches = _batches(members, batch_size)
    climbs: list[tuple[list[int], Climb]] = []
    hidden = None if progress is None else not progress
    with tqdm(total=settings.steps * len(batches), disable=hidden, unit="step", leave=False) as bar:
        for indices in batches:
            asked = EachItsOwn(tuple(members[i] for i in indices))
            start = torch.stack([starts[i] for i in indices]).to(network.device)
            views = torch.Generator().manual_seed(seed + _VIEWS)
            reached = climb(
                network,
                asked,
                parametrization,
                start,
                settings.stages,
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
        "recipe": settings.describe(),
        "parametrization": parametrization.describe(),
        "size": [height, width],
        "seed": seed,
        "batch_size": batch_size,
        "device": str(network.device),
    }
    return _gathered(network, members, parametrization, climbs, said)


def _size(network: Network, size: int | tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        return network.input_size
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise RequestError(f"a size is one side or (height, width), in whole pixels above zero, not {size}")
    return sides[0], sides[1]


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
        by_places[frozenset(member.places())].append(index)
    return [group[i : i + batch_size] for group in by_places.values() for i in range(0, len(group), batch_size)]


def _gathered(
    network: Network,
    members: Sequence[Objective],
    parametrization: Parametrization,
    climbs: Sequence[tuple[list[int], Climb]],
    settings: dict[str, object],
) -> Result:
    """All batches in the order in which they were asked, with the plain score of each finished image."""
    images: dict[int, Tensor] = {}
    scores: dict[int, float] = {}
    traces: dict[int, list[float]] = {}
    snapshots: dict[int, dict[int, Tensor]] = defaultdict(dict)
    for indices, reached in climbs:
        with torch.no_grad():
            made = parametrization.image(reached.parameters).clamp(0, 1)
            asked = EachItsOwn(tuple(members[i] for i in indices))
            score = asked.score(network.run(made, asked.places()))
        check_finite([*reached.trace, score], asked)
        trace = torch.stack(reached.trace).T.tolist() if reached.trace else [[] for _ in indices]
        for position, index in enumerate(indices):
            images[index], scores[index], traces[index] = made[position].cpu(), float(score[position]), trace[position]
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
    )
