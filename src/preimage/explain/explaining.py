"""explain: which part of the photo made the answer?"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, overload

import torch
from torch import Tensor
from tqdm import tqdm

from preimage.canvas import check_size, pair
from preimage.errors import RequestError
from preimage.explain.explanation import Explanation, Explanations
from preimage.explain.filling import Filling, as_filling
from preimage.explain.mask import Mask
from preimage.explain.method import Found, Method, Question
from preimage.explain.methods import find_method
from preimage.explain.perturbation import Perturbation
from preimage.explain.targets import Target, targets_of_each, why_not_probable
from preimage.images import Photo, as_image, centre_crop, listed_photos, photo_as_setting, photo_names
from preimage.network import Network, Place
from preimage.objectives import Objective, probabilities
from preimage.sample.prior import Prior

BATCH = 16
"""How many photos go through the network together unless one says."""

LEAST_PROBABILITY = 1e-3
"""Of a class that is given less, there is next to nothing that a mask could take away."""


@overload
def explain(
    network: Network,
    photos: Photo,
    targets: Target | None = None,
    *,
    method: str | Method = "mask",
    perturbation: Perturbation | Prior | Filling | None = None,
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
    perturbation: Perturbation | Prior | Filling | None = None,
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
    perturbation: Perturbation | Prior | Filling | None = None,
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
        `preimage.objectives.parse`; or `top:5`, the sum over each photo's five strongest classes, SPEC M3), the number
        of a class, or an objective; several; or one list of them for each photo. Of a class, masks and RISE ask the
        probability and all other methods the logit; `prob:tabby` and `logprob:tabby` are asked as they are.
    method: a name from `preimage.methods()`, or a `Method` with settings of its own; several to compare them.
    size: (height, width) or one side at which the network is shown the photos; default: its input size.
    perturbation: what masks put in the place of what they remove, instead of a blur (see `Mask`); with a prior of
        `preimage.sample`, its file or `cifar10`, it is filled in by inpainting (see `Filling`).
    enlarge: allow photos that are smaller than that.
    least_probability: a class that the network gives less is refused by methods which ask for probabilities.
    seed: of all randomness; a result depends on photo, objective, method and seed, not on what else is asked with it
        (up to rounding).
    batch_size: how many photos go through the network together, at most.
    progress: show a bar on standard error; default: if that is a terminal.

    Of several methods, one that cannot be applied to the network leaves the others alone; `settings["refused"]` says
    why.
    One photo, one target and one method give an `Explanation`; anything else `Explanations`: photo by photo, for each
    its targets, for each of those all methods. Ctrl-C keeps what is finished.

    Raises `RequestError` for what cannot be done as asked, if nothing else could: a photo that cannot be read or is too
    small, an unknown class, tap or method, a method that has no rule for something in the network, a class of almost no
    probability.
    """
    if not isinstance(network, Network):
        raise RequestError(
            f"explain takes a preimage.Network, not {type(network).__name__}; wrap a module: "
            "pi.Network(module, input_size=..., mean=..., std=...)"
        )
    if batch_size < 1:
        raise RequestError(f"batch_size must be at least 1, not {batch_size}")
    if not 0 <= seed < 2**62:
        raise RequestError(f"a seed is a whole number from 0 to 2^62 - 1, not {seed}")
    given = listed_photos(photos)
    if not given:
        raise RequestError("an explanation takes at least one photo")
    asked_methods: list[Any] = list(method) if isinstance(method, (list, tuple)) else [method]
    methods = [(_name(one), find_method(one)) for one in asked_methods]
    if perturbation is not None:
        methods = _perturbing(methods, perturbation)
    if not methods:
        raise RequestError("an explanation takes at least one method")
    sides = network.input_size if size is None else pair("size", size)
    is_one = (
        len(given) == len(methods) == 1 and not isinstance(photos, (list, tuple)) and getattr(photos, "ndim", 3) < 4
    )
    is_one = is_one and not isinstance(targets, (list, tuple)) and not isinstance(method, (list, tuple))
    # (A gradient cannot be had of what is made in inference mode.)
    with torch.inference_mode(False), network.held():
        run = _Run(network, given, sides, enlarge, seed, batch_size)
        run.ask(targets, methods, least_probability)
        made = run.explain(None if progress is None else not progress)
    return made[0] if is_one and len(made) == 1 else made


class _Run:
    """One call of `explain`."""

    def __init__(
        self, network: Network, given: list[Photo], sides: tuple[int, int], enlarge: bool, seed: int, batch_size: int
    ):
        self._network, self._given, self._sides = network, given, sides
        self._seed, self._batch_size = seed, batch_size
        self._names = photo_names(given)
        fitted, said = [], []
        for photo, name in zip(given, self._names, strict=True):
            # Photographs may be far larger than what the network sees: one at a time.
            picture = as_image(photo, network.channels)
            if not enlarge:
                _check_large_enough(network, picture, name, sides)
            said.append(photo_as_setting(photo, picture))
            fitted.append(centre_crop(picture, sides))
        self._photos = torch.stack(fitted)
        self._settings: dict[str, Any] = {
            "verb": "explain",
            "network": repr(network),
            "photos": said,
            "size": list(sides),
            "seed": seed,
            "batch_size": batch_size,
            "device": str(network.device),
        }

    def ask(self, targets: Any, methods: list[tuple[str, Method]], least_probability: float) -> None:
        """Find out what is wanted of each photo, and by which methods that can be told."""
        network, photos = self._network, self._photos
        asked = targets_of_each(network, targets, photos, self._names, self._batch_size)
        check_size(network, [one for some in asked for one in some], self._sides)
        self._wanted = [(i, objective) for i, some in enumerate(asked) for objective in some]
        self._methods = methods
        self._settings["methods"] = [{**one.describe(), "name": name} for name, one in methods]
        self._refusals: dict[int, RequestError] = {}
        if any(one.asks_probabilities for _, one in methods):
            why = why_not_probable(network, photos, asked, self._names, least_probability, self._batch_size)
            if why is not None:
                self._refusals = {k: RequestError(why) for k, (_, one) in enumerate(methods) if one.asks_probabilities}

    def explain(self, hidden: bool | None) -> Explanations:
        """Everything that was asked, until Ctrl-C."""
        jobs = [(k, rows) for k in range(len(self._methods)) if k not in self._refusals for rows in self._batches()]
        made: dict[tuple[int, int], Explanation] = {}
        try:
            total = sum(self._methods[k][1].steps() for k, _ in jobs)
            with tqdm(total=total, disable=hidden, unit="step", leave=False) as bar:
                for done, (k, rows) in enumerate(jobs):
                    bar.set_description(self._methods[k][0])
                    question = self._question(k, rows, bar.update)
                    try:
                        found = self._methods[k][1].explain(question)
                    except RequestError as error:
                        # What one method cannot do, or of one batch of photos, must not cost the others' work.
                        self._refusals[k] = error
                        continue
                    self._keep(found, question, k, rows, made)
                    bar.update(max(0, sum(self._methods[k][1].steps() for k, _ in jobs[: done + 1]) - bar.n))
                    if found.interrupted:
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            if not made:
                raise
            self._settings["interrupted"] = True
        if self._refusals:
            if not made:
                raise next(iter(self._refusals.values()))
            self._settings["refused"] = {self._methods[k][0]: str(why) for k, why in self._refusals.items()}
        return Explanations([made[key] for key in sorted(made)])

    def _batches(self) -> list[list[int]]:
        """What needs the same taps is asked together, so that none runs deeper than it has to."""
        by_places: dict[frozenset[Place], list[int]] = defaultdict(list)
        for row, (_, objective) in enumerate(self._wanted):
            by_places[objective.all_places()].append(row)
        size = self._batch_size
        return [rows[i : i + size] for rows in by_places.values() for i in range(0, len(rows), size)]

    def _question(self, k: int, rows: list[int], on_step: Callable[[int], object]) -> Question:
        of = tuple(self._wanted[row][0] for row in rows)
        objectives = [self._wanted[row][1] for row in rows]
        if self._methods[k][1].asks_probabilities:
            objectives = [probabilities(one) for one in objectives]
        return Question(
            self._network,
            _Pictures([self._given[i] for i in of], self._network.channels),
            tuple(objectives),
            self._sides,
            tuple(_seed(self._seed, objective) for objective in objectives),
            self._batch_size,
            on_step,
            of=of,
            given=len(self._given),
            views_seed=self._seed,
            fitted=self._photos[list(of)],
        )

    def _keep(
        self, found: Found, question: Question, k: int, rows: list[int], made: dict[tuple[int, int], Explanation]
    ) -> None:
        scores = found.scores or {"photo": question.photo_scores()}
        for position, row in enumerate(rows):
            i = question.of[position]
            heatmap = found.heatmaps[position].detach().float().cpu()
            notes = [] if found.notes is None else list(found.notes[position])
            if not heatmap.isfinite().all():
                notes.append("the network's answers are not finite: do not read this map")
            made[row, k] = Explanation(
                photo=self._photos[i],
                name=self._names[i],
                of=i,
                objective=str(question.objectives[position]),
                method=self._methods[k][0],
                heatmap=heatmap,
                mask=None if found.masks is None else found.masks[position].float().cpu(),
                scores={name: float(values[position]) for name, values in scores.items()},
                trace=None if found.traces is None else found.traces[:, position].cpu(),
                fills=None if found.fills is None else found.fills[position].float().cpu(),
                notes=notes,
                details={} if found.details is None else found.details[position],
                settings=self._settings,
                interrupted=found.interrupted,
            )


class _Pictures(Sequence[Tensor]):
    """Photos that are read when they are looked at."""

    def __init__(self, given: Sequence[Photo], channels: int):
        self._given, self._channels = given, channels

    def __len__(self) -> int:
        return len(self._given)

    def __getitem__(self, index: Any) -> Any:
        return as_image(self._given[index], self._channels)


def _name(method: str | Method) -> str:
    return method.name if isinstance(method, Method) else method


def _perturbing(
    methods: list[tuple[str, Method]], perturbation: Perturbation | Prior | Filling
) -> list[tuple[str, Method]]:
    """The same methods, masks with this perturbation; raises `RequestError` where none is a mask."""
    if not any(isinstance(one, Mask) for _, one in methods):
        raise RequestError(f"only masks take a perturbation, not {', '.join(name for name, _ in methods)}")
    perturbation = as_filling(perturbation)  # (a prior's file is read once)
    return [(name, replace(one, perturbation=perturbation) if isinstance(one, Mask) else one) for name, one in methods]


def _check_large_enough(network: Network, picture: Tensor, name: str, sides: tuple[int, int]) -> None:
    height, width = picture.shape[1:]
    if height < sides[0] or width < sides[1]:
        raise RequestError(
            f"{name} has {width} x {height} pixels, fewer than the {sides[1]} x {sides[0]} that {network.name} is to "
            "see; enlarge=True (--enlarge) resamples it, size= (--size) shows the network less"
        )


def _seed(seed: int, objective: Objective) -> int:
    """Another for each objective, the same in whatever company it is asked."""
    digest = hashlib.sha256(f"{seed} {objective}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
