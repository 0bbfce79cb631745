"""explain: which part of the photo made the answer?"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import Tensor
from tqdm import tqdm

from preimage.canvas import check_size, pair
from preimage.errors import RequestError
from preimage.explain.explanation import Explanation, Explanations
from preimage.explain.method import Found, Method, Question
from preimage.explain.methods import find_method
from preimage.images import Photo, as_image, centre_crop, listed_photos, photo_as_setting, photo_names
from preimage.network import Network, Place
from preimage.objectives import Label, Objective, WeightedSum, label, probabilities, resolve

BATCH = 16
"""How many photos go through the network together unless one says."""

LEAST_PROBABILITY = 1e-3
"""Of a class that is given less, there is next to nothing that a mask could take away."""

Target = str | Objective
_TOP = "top:"
_MAYBE = ("logit", "prob")


@overload
def explain(
    network: Network,
    photos: Photo,
    targets: Target | None = None,
    *,
    method: str | Method = "mask",
    size: int | tuple[int, int] | None = None,
    enlarge: bool = False,
    least_probability: float = LEAST_PROBABILITY,
    seed: int = 0,
    batch_size: int = BATCH,
    progress: bool | None = None,
) -> Explanation: ...
@overload
def explain(
    network: Network,
    photos: Photo | Sequence[Photo],
    targets: Target | Sequence[Target] | Sequence[Sequence[Target]] | None = None,
    *,
    method: str | Method | Sequence[str | Method] = "mask",
    size: int | tuple[int, int] | None = None,
    enlarge: bool = False,
    least_probability: float = LEAST_PROBABILITY,
    seed: int = 0,
    batch_size: int = BATCH,
    progress: bool | None = None,
) -> Any: ...
def explain(
    network: Network,
    photos: Photo | Sequence[Photo],
    targets: Target | Sequence[Target] | Sequence[Sequence[Target]] | None = None,
    *,
    method: str | Method | Sequence[str | Method] = "mask",
    size: int | tuple[int, int] | None = None,
    enlarge: bool = False,
    least_probability: float = LEAST_PROBABILITY,
    seed: int = 0,
    batch_size: int = BATCH,
    progress: bool | None = None,
) -> Explanation | Explanations:
    """Which parts of a photo made the network answer as it did (paper 4; SPEC M1 to M16).

    photos: one, or many: files, PIL images, arrays [H, W, C], tensors [C, H, W] or one tensor [N, C, H, W] in [0, 1].
        Each is scaled, and cropped to its centre, to what the network takes, whatever its own size is.
    targets: what is to be explained. None: each photo's strongest class. A string (`class:tabby`, `layer3.2:17`, see
        `preimage.objectives.parse`; or `top:5`, the sum over each photo's five strongest classes, SPEC M3) or an
        objective; several; or one list of them for each photo. Of a class, masks and RISE ask the probability and all
        other methods the logit; `prob:tabby` and `logprob:tabby` are asked as they are.
    method: a name from `preimage.methods()`, or a `Method` with settings of its own; several to compare them.
    size: (height, width) or one side at which the network is shown the photos; default: its input size.
    enlarge: allow photos that are smaller than that.
    least_probability: a class that the network gives less is refused by methods which ask for probabilities.
    seed: of all randomness; a result depends on photo, objective, method and seed, not on what else is asked with it
        (up to rounding; where a method draws views for a whole batch, as masks do with jitter, the same views).
    batch_size: how many photos go through the network together, at most.
    progress: show a bar on standard error; default: if that is a terminal.

    Of several methods, one that cannot be applied to the network leaves the others alone; `settings["refused"]` says
    why.
    One photo, one target and one method give an `Explanation`; anything else `Explanations`: photo by photo, for each
    its targets, for each of those all methods. Ctrl-C keeps what is finished.

    Raises `RequestError` for what cannot be done as asked: a photo that cannot be read or is too small, an unknown
    class, tap or method, a method that has no rule for something in the network, a class of almost no probability.
    """
    if batch_size < 1:
        raise RequestError(f"batch_size must be at least 1, not {batch_size}")
    if not 0 <= seed < 2**62:
        raise RequestError(f"a seed is a whole number from 0 to 2^62 - 1, not {seed}")
    given = listed_photos(photos)
    if not given:
        raise RequestError("an explanation takes at least one photo")
    asked_methods: list[Any] = list(method) if isinstance(method, (list, tuple)) else [method]
    methods = [(_name(one), find_method(one)) for one in asked_methods]
    if not methods:
        raise RequestError("an explanation takes at least one method")
    sides = network.input_size if size is None else pair("size", size)
    names = photo_names(given)
    pictures = [as_image(photo, network.channels) for photo in given]
    if not enlarge:
        _check_large_enough(network, pictures, names, sides)
    fitted = torch.stack([centre_crop(picture, sides) for picture in pictures])
    asked = _targets(network, targets, fitted, names, batch_size)
    check_size(network, [one for some in asked for one in some], sides)
    if any(one.asks_probabilities for _, one in methods):
        _check_probable(network, fitted, asked, names, least_probability, batch_size)
    settings: dict[str, Any] = {
        "verb": "explain",
        "network": repr(network),
        "photos": [photo_as_setting(photo, picture) for photo, picture in zip(given, pictures, strict=True)],
        "methods": [{**one.describe(), "name": name} for name, one in methods],
        "size": list(sides),
        "seed": seed,
        "batch_size": batch_size,
        "device": str(network.device),
    }
    wanted = [(i, objective) for i, some in enumerate(asked) for objective in some]
    made: dict[tuple[int, int], Explanation] = {}
    refusals: list[RequestError] = []
    jobs = [(k, rows) for k in range(len(methods)) for rows in _batches(wanted, batch_size)]
    hidden = None if progress is None else not progress
    try:
        with (
            network.held(),
            tqdm(total=sum(methods[k][1].steps() for k, _ in jobs), disable=hidden, unit="step", leave=False) as bar,
        ):
            for k, rows in jobs:
                name, one = methods[k]
                bar.set_description(name)
                some = [
                    (i, probabilities(o) if one.asks_probabilities else o) for i, o in (wanted[row] for row in rows)
                ]
                question = Question(
                    network,
                    tuple(pictures[i] for i, _ in some),
                    tuple(objective for _, objective in some),
                    sides,
                    tuple(_seed(seed, objective) for _, objective in some),
                    tuple(i for i, _ in some),
                    len(given),
                    chunk=batch_size,
                    on_step=bar.update,
                )
                try:
                    found = one.explain(question)
                except RequestError as error:
                    # What one method cannot do must not cost the others' work.
                    if len(methods) == 1:
                        raise
                    refusals.append(error)
                    settings.setdefault("refused", {})[name] = str(error)
                    continue
                found.scores = found.scores or {"photo": question.photo_scores()}
                for position, row in enumerate(rows):
                    i = wanted[row][0]
                    objective = question.objectives[position]
                    made[row, k] = _explanation(found, position, question, objective, names[i], i, name, settings)
                if found.interrupted:
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        if not made:
            raise
        settings["interrupted"] = True
    if refusals and not made:
        raise refusals[0]
    done = [made[key] for key in sorted(made)]
    is_one = len(jobs) == len(wanted) == len(given) == 1 and _is_single(photos) and _is_single_target(targets)
    return done[0] if is_one and isinstance(method, (str, Method)) else Explanations(done)


def _explanation(
    found: Found,
    position: int,
    question: Question,
    objective: Objective,
    name: str,
    of: int,
    method: str,
    settings: dict[str, Any],
) -> Explanation:
    return Explanation(
        photo=question.photos[position].cpu(),
        name=name,
        of=of,
        objective=str(objective),
        method=method,
        heatmap=found.heatmaps[position].detach().float().cpu(),
        mask=None if found.masks is None else found.masks[position].float().cpu(),
        scores={name: float(values[position]) for name, values in found.scores.items()},
        trace=None if found.traces is None else found.traces[:, position].cpu(),
        notes=[*([] if found.notes is None else found.notes[position]), *_not_finite(found.heatmaps[position])],
        details={} if found.details is None else found.details[position],
        settings=settings,
        interrupted=found.interrupted,
    )


def _not_finite(heatmap: Tensor) -> list[str]:
    return [] if heatmap.isfinite().all() else ["the network's answers are not finite: do not read this map"]


def _name(method: str | Method) -> str:
    return method.name if isinstance(method, Method) else method


def _is_single(photos: Photo | Sequence[Photo]) -> bool:
    return not isinstance(photos, (list, tuple)) and getattr(photos, "ndim", 3) != 4


def _is_single_target(targets: Any) -> bool:
    return targets is None or isinstance(targets, (str, Objective))


def _check_large_enough(
    network: Network, pictures: Sequence[Tensor], names: Sequence[str], sides: tuple[int, int]
) -> None:
    small = [i for i, one in enumerate(pictures) if one.shape[1] < sides[0] or one.shape[2] < sides[1]]
    if small:
        height, width = pictures[small[0]].shape[1:]
        more = f" (and {len(small) - 1} others)" if len(small) > 1 else ""
        raise RequestError(
            f"{names[small[0]]}{more} has {width} x {height} pixels, fewer than the {sides[1]} x {sides[0]} that "
            f"{network.name} is to see; enlarge=True (--enlarge) resamples it, size= (--size) shows the network less"
        )


def _targets(
    network: Network, targets: Any, photos: Tensor, names: Sequence[str], batch_size: int
) -> list[list[Objective]]:
    """For each photo, what is asked of it, bound to the network."""
    count = len(photos)
    each = [targets] * count
    if isinstance(targets, (list, tuple)) and any(isinstance(one, (list, tuple)) for one in targets):
        if not all(isinstance(one, (list, tuple)) for one in targets):
            raise RequestError("targets are the same for all photos, or a list for each photo; not both")
        if len(targets) != count:
            raise RequestError(f"targets for {len(targets)} photos were given, but {count} photos")
        each = list(targets)
    if any(
        not (one is None or isinstance(one, (str, Objective)))
        for some in each
        for one in (some if isinstance(some, (list, tuple)) else [some])
    ):
        raise RequestError("a target is a string or an Objective; several are a list, or one list for each photo")
    if any(targets == [] or targets == () for targets in each):
        raise RequestError("there is nothing to explain: a list of targets is empty")
    flat = [list(one) if isinstance(one, (list, tuple)) else [one] for one in each]
    if any(one is None or (isinstance(one, str) and one.startswith(_TOP)) for some in flat for one in some):
        logits = _answers(network, photos, batch_size)
        logits = logits.flatten(2).mean(2) if logits.ndim > 2 else logits
        ranks = logits.sort(dim=1, descending=True, stable=True).indices
        flat = [[_strongest(one, row) for one in some] for some, row in zip(flat, ranks.tolist(), strict=True)]
    # Many photos are often asked the same.
    known: dict[Any, list[Objective]] = {}
    return [[o for one in some for o in known.setdefault(one, resolve(one, network))] for some in flat]


def _strongest(target: Any, ranks: list[int]) -> Any:
    if target is None:
        return label(ranks[0])
    if not (isinstance(target, str) and target.startswith(_TOP)):
        return target
    count = target.removeprefix(_TOP)
    if not count.isdecimal() or not 1 <= int(count[:9]) <= len(ranks):
        raise RequestError(f"top:K is the sum of the K strongest classes, of 1 to {len(ranks)}, not '{target}'")
    # Sums of logits mean little, but a sum of probabilities does: methods that ask for those change it.
    return WeightedSum(tuple((1.0, label(c)) for c in ranks[: int(count)])) if int(count) > 1 else label(ranks[0])


@torch.no_grad()
def _answers(network: Network, photos: Tensor, batch_size: int) -> Tensor:
    """The class scores of each photo, [N, classes] or, of a network that answers position by position, with those."""
    place = Place(network.logits, after_relu=True)
    with network.held():
        parts = [network.run(some.to(network.device), [place])[place].cpu() for some in torch.split(photos, batch_size)]
    return torch.cat(parts)


def _check_probable(
    network: Network,
    photos: Tensor,
    asked: Sequence[Sequence[Objective]],
    names: Sequence[str],
    least: float,
    batch_size: int,
) -> None:
    wanted: set[tuple[int, int]] = set()
    for i, some in enumerate(asked):
        wanted |= {(i, int(one.label)) for one in some if isinstance(one, Label) and one.kind in _MAYBE}
    if not wanted or least <= 0:
        return
    chances = _answers(network, photos, batch_size).softmax(1)
    chances = chances.flatten(2).mean(2) if chances.ndim > 2 else chances
    faint = [(i, c) for i, c in sorted(wanted) if not float(chances[i, c]) >= least]
    if not faint:
        return
    i, c = faint[0]
    best = int(chances[i].argmax())
    more = f", and {len(faint) - 1} others are as faint" if len(faint) > 1 else ""
    raise RequestError(
        f"{network.name} gives {label(c).bind(network)} a probability of {float(chances[i, c]):.2g} for "
        f"{names[i]}{more}; there is next to nothing to explain. Its first answer is {label(best).bind(network)}, "
        f"{float(chances[i, best]):.2g}; least_probability=0 (--faint) explains it all the same"
    )


def _seed(seed: int, objective: Objective) -> int:
    """Another for each objective, the same in whatever company it is asked."""
    digest = hashlib.sha256(f"{seed} {objective}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def _batches(wanted: Sequence[tuple[int, Objective]], batch_size: int) -> list[list[int]]:
    """What needs the same taps is asked together, so that none runs deeper than it has to."""
    by_places: dict[frozenset[Place], list[int]] = defaultdict(list)
    for row, (_, objective) in enumerate(wanted):
        by_places[objective.all_places()].append(row)
    return [rows[i : i + batch_size] for rows in by_places.values() for i in range(0, len(rows), batch_size)]
