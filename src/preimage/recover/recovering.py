"""recover: which objective is this image the answer to? (paper 1, Grad-IFV)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from preimage.errors import RequestError
from preimage.exact import Picture, Question, is_folder, pictures
from preimage.images import Photo, listed_photos
from preimage.network import Network, Place
from preimage.objectives import Aggregate
from preimage.parametrizations import Parametrization, SigmoidPixels
from preimage.recover.critical_space import CriticalSpace
from preimage.recover.recovery import Recoveries, Recovery
from preimage.recover.sensitivity import MEMORY, Precision, Sensitivity, sensitivity
from preimage.recover.solving import solve

AsMade = Literal["as made"]
_CANDIDATES = 5


def recover(
    network: Network,
    images: Photo | Sequence[Photo],
    at: str | Place | None = None,
    *,
    cosine_power: float | None = None,
    aggregate: Aggregate | None = None,
    features: Sequence[int] | None = None,
    parametrization: Parametrization | None = None,
    smoothing: float | AsMade | None = "as made",
    space: CriticalSpace | None = None,
    average: bool = False,
    memory: int = MEMORY,
    precision: Precision = "double",
    progress: bool | None = None,
) -> Recovery | Recoveries:
    """Find the objective at a tap whose maximum an image is (Reinbold & Westermann 2020, equation 3; SPEC I7).

    That is the unit vector x for which the gradient of S_x(y) = x^T y (x^T y / |y|)^k by the image's parameters is
    smallest: the left-singular vector of Z_k(y) Dy with the smallest singular value. It is right for images that are
    maxima, as `maximize(..., recipe="plain")` makes them; `Recovery.stands_out` says whether this one looks like it.

    images: one, or many: files, folders, PIL images, arrays [H, W, C], tensors [C, H, W] in [0, 1]. They are taken at
        the size that they have, since a resampled maximum is none. A folder that `maximize(..., recipe="plain")` was
        saved to stands for its pictures in float32, and what its result.json says is the default for `at`,
        `cosine_power`, `aggregate`, `features` and `smoothing`; any other folder stands for its image files.
    at: the tap; before a ReLU that it ends in. Needed for all but such folders.
    cosine_power, aggregate, features: k (2), how a map becomes one number per feature ("max-mean"), and which channels
        are features (all): what the image was made with, as in `objectives.direction`.
    parametrization: how the image was parametrized; its size is fitted. Default: `SigmoidPixels`, as `plain` has it.
        The answer hardly depends on it, but pixels that have reached black or white count as little as they could move.
    smoothing: how wide the network's kinks are made, as in the recipe (`plain`: 0.01, which is the default); None: not
        at all.
    space: the critical space, for layers in which some directions move no image (`critical_spaces`).
    average: the images are the last steps of one ascent (`maximize(..., snapshot_every=1)`), whose mean is stationary
        where the images are not: gives one `Recovery`, of the last image. For images made without smoothing.
    memory: bytes that Jacobians may take; below what they need, they are computed in blocks, several times.
    precision: "single" lets the network compute in float32, up to twice as fast on a CPU. Objectives then differ
        by thousandths of a degree, but directions that move the image not at all look like ones that hardly do.
    progress: show a bar on standard error; default: if that is a terminal.

    Features that no image can change are taken out first, and listed (`Recovery.dead`). Ctrl-C between images keeps
    those that are done.

    Raises `RequestError` for images and folders that cannot be read or that the network does not take, unknown taps, a
    network in half precision, a space of other features, and where the Jacobian does not fit into memory.
    """
    is_stack = isinstance(images, (Tensor, np.ndarray)) and images.ndim == 4
    single = not is_stack and not isinstance(images, (list, tuple)) and not is_folder(images)
    if not listed_photos(images):
        raise RequestError("there is no image to recover an objective from")
    if cosine_power is not None and cosine_power < 0:
        raise RequestError(f"cosine_power must not be negative, but is {cosine_power:g}")
    if aggregate is not None and aggregate not in get_args(Aggregate):
        raise RequestError(f"aggregate must be one of {', '.join(get_args(Aggregate))}, not '{aggregate}'")
    given = pictures(images, network.channels)
    asked = [question_of(one, at, cosine_power, aggregate, features, smoothing) for one in given]
    chosen = {one: _features(network, one) for one in asked}
    if space is not None:
        for some in chosen.values():
            if len(space.basis) != len(some):
                raise RequestError(f"the critical space has {len(space.basis)} features, but here are {len(some)}")
    if average and len({tuple(one.image.shape) for one in given}) > 1:
        raise RequestError("the steps of one ascent have one size, but these images have several")
    if average and len(chosen) > 1:
        raise RequestError("the steps of one ascent answer one question, but these images were made for several")
    settings = {
        "verb": "recover",
        "network": repr(network),
        "critical_space": None if space is None else {"left_out": space.complement.T.tolist()},
        "average": average,
        "precision": precision,
        "images": [one.source for one in given],
    }
    typed = {
        "at": at is not None,
        "cosine_power": cosine_power is not None,
        "aggregate": aggregate is not None,
        "features": features is not None,
        "smoothing": smoothing != "as made",
    }
    found: list[Recovery] = []
    turns = [list(range(len(given)))] if average else [[i] for i in range(len(given))]
    interrupted = False
    hidden = None if progress is None else not progress
    with network.held(), tqdm(turns, disable=hidden, unit="image", leave=False) as bar:
        try:
            for turn in bar:
                last, question = given[turn[-1]], asked[turn[-1]]
                height, width = last.image.shape[1:]
                own = parametrization or SigmoidPixels(network.channels, height, width)
                own = own.resized(height, width)
                seen = sensitivity(
                    network,
                    own.parameters(torch.stack([given[i].image for i in turn]).double()),
                    question.at,
                    own,
                    aggregate=question.aggregate,
                    features=chosen[question],
                    smoothing=question.smoothing,
                    memory=memory,
                    average=average,
                    precision=precision,
                )
                said = settings | _settings(last, question, typed) | {"parametrization": own.describe()}
                found.append(
                    recovered(seen, question.cosine_power, space, last.image, last.name, question.at.tap, said)
                )
        except KeyboardInterrupt:
            interrupted = True
            if not found:
                raise
    return found[0] if single or average else Recoveries(found, interrupted)


def question_of(
    picture: Picture,
    at: str | Place | None,
    cosine_power: float | None = None,
    aggregate: Aggregate | None = None,
    features: Sequence[int] | None = None,
    smoothing: float | AsMade | None = "as made",
) -> Question:
    """How a picture is looked at: as one says (not None), else as the folder it comes from does, else as usual.

    Raises `RequestError` where neither says at which tap.
    """
    if at is None and picture.question is None:
        raise RequestError(
            f"nothing says at which tap {picture.name} was made; name it (at=, on the command line --at)"
        )
    made = picture.question or Question(Place(""))
    place = made.at if at is None else at if isinstance(at, Place) else Place(at)
    if features is None and place == made.at:  # (of another tap they mean nothing)
        features = made.features
    return Question(
        place,
        made.aggregate if aggregate is None else aggregate,
        made.cosine_power if cosine_power is None else cosine_power,
        None if features is None else tuple(int(index) for index in features),
        made.smoothing if smoothing == "as made" else smoothing,
    )


def _features(network: Network, question: Question) -> list[int]:
    channels = network.tap(question.at.tap).channels
    return list(range(channels)) if question.features is None else list(question.features)


def _settings(picture: Picture, question: Question, typed: dict[str, bool]) -> dict[str, Any]:
    """What settings say of how one picture was looked at, and which of it nobody had to type."""
    said = question.as_dict() | {"at": str(question.at)}
    if picture.question is not None:
        taken = {name: said[name] for name, was_typed in typed.items() if not was_typed}
        said["as_made"] = {"file": str(picture.said_by), **taken}
    if picture.exact is not None:
        said["exact"] = str(picture.exact)
    return said


def recovered(
    seen: Sensitivity,
    cosine_power: float,
    space: CriticalSpace | None,
    image: Tensor,
    name: str,
    tap: str,
    settings: dict[str, Any],
) -> Recovery:
    """The answer for one image, whose sensitivity is known."""
    alive = (~seen.dead()).nonzero()[:, 0]
    if not len(alive):
        raise RequestError(f"no feature of '{tap}' changes with this image, so nothing can be recovered from it")
    some = seen.of(alive)
    basis = None
    if space is not None:
        basis = space.basis
        if len(alive) < len(seen.features) and space.complement.shape[1]:
            # What C leaves out it still leaves out, less the dead features, which are out already.
            left, lengths, _ = torch.linalg.svd(space.complement[alive])
            basis = left[:, int((lengths > 1e-8).sum()) :]
            if not basis.shape[1]:
                raise RequestError(f"the critical space leaves out every feature of '{tap}' that this image can change")
        elif len(alive) < len(seen.features):
            basis = torch.eye(len(alive), dtype=torch.float64)
    solution = solve(some.response, some.gram, cosine_power, basis)

    def whole(vectors: Tensor) -> Tensor:
        out = torch.zeros(*vectors.shape[:-1], len(seen.features), dtype=torch.float64)
        out[..., alive] = vectors[..., : len(alive)]
        unit: Tensor = out / out.norm(dim=-1, keepdim=True).clamp_min(1e-300)
        return unit

    best = solution.best[0]
    share = float(best[: len(alive)].norm().clamp_min(1e-300))

    # Each feature's gradient by itself, and all of them added up.
    lengths = some.gram[0].diagonal()
    apart = float((best.square() * lengths).sum().sqrt().clamp_min(1e-300))
    dead = sorted(set(range(len(seen.features))) - set(alive.tolist()))
    return Recovery(
        image=image,
        name=name,
        tap=tap,
        objective=whole(best),
        response=seen.response[0, : len(seen.features)],
        singular_values=solution.singular_values[0],
        candidates=whole(solution.objectives[0, :_CANDIDATES]),
        features=seen.features,
        dead=seen.features[dead].tolist(),
        is_plane=bool(solution.is_plane[0]),
        uncancelled=float(solution.singular_values[0, 0]) / apart,
        known=(best[len(alive) :] / share).tolist(),
        settings=settings,
    )
