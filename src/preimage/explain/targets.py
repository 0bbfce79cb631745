"""What is to be explained of each photo: one class or several, the strongest, or any objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from preimage.errors import RequestError
from preimage.network import Network
from preimage.objectives import Label, Objective, WeightedSum, label, resolve

TOP = "top:"
"""`top:5` is the sum over a photo's five strongest classes (SPEC M3)."""

Target = str | int | Objective


def targets_of_each(
    network: Network, targets: Any, photos: Tensor, names: Sequence[str], batch_size: int
) -> list[list[Objective]]:
    """For each photo [N, C, H, W], what is asked of it, bound to the network; see `preimage.explain`.

    Raises `RequestError` for what is no target, and for lists that do not fit the photos.
    """
    count = len(photos)
    each = [targets] * count
    if isinstance(targets, (list, tuple)) and any(isinstance(one, (list, tuple)) for one in targets):
        if not all(isinstance(one, (list, tuple)) for one in targets):
            raise RequestError("targets are the same for all photos, or a list for each photo; not both")
        if len(targets) != count:
            raise RequestError(f"targets for {len(targets)} photos were given, but {count} photos")
        each = list(targets)
    flat = [list(one) if isinstance(one, (list, tuple)) else [one] for one in each]
    if not all(flat):
        raise RequestError("there is nothing to explain: a list of targets is empty")
    if not all(one is None or isinstance(one, (str, int, Objective)) for some in flat for one in some):
        raise RequestError(
            "a target is a string (class:tabby), the number of a class or an Objective; several are a list, or one "
            "list for each photo"
        )
    if any(one is None or (isinstance(one, str) and one.startswith(TOP)) for some in flat for one in some):
        ranks = network.class_scores(photos, batch_size).sort(dim=1, descending=True, stable=True).indices
        flat = [[_strongest(one, row) for one in some] for some, row in zip(flat, ranks.tolist(), strict=True)]
    # Many photos are often asked the same.
    known: dict[Any, list[Objective]] = {}
    out: list[list[Objective]] = []
    for some in flat:
        for one in some:
            if one not in known:
                known[one] = resolve(label(one) if isinstance(one, int) else one, network)
        out.append([objective for one in some for objective in known[one]])
    return out


def _strongest(target: Any, ranks: list[int]) -> Any:
    if target is None:
        return label(ranks[0])
    if not (isinstance(target, str) and target.startswith(TOP)):
        return target
    count = target.removeprefix(TOP)
    if not count.isdecimal() or not 1 <= int(count[:9]) <= len(ranks):
        raise RequestError(f"top:K is the sum of the K strongest classes, of 1 to {len(ranks)}, not '{target}'")
    # Sums of logits mean little, but a sum of probabilities does: methods that ask for those change it.
    return WeightedSum(tuple((1.0, label(c)) for c in ranks[: int(count)])) if int(count) > 1 else label(ranks[0])


def why_not_probable(
    network: Network,
    photos: Tensor,
    asked: Sequence[Sequence[Objective]],
    names: Sequence[str],
    least: float,
    batch_size: int,
) -> str | None:
    """Why methods that ask for probabilities have nothing to explain, in a sentence; None: they have.

    least: the probability below which there is next to nothing that a mask could take away.
    """
    wanted: set[tuple[int, int]] = set()
    for i, some in enumerate(asked):
        wanted |= {(i, int(one.label)) for one in some if isinstance(one, Label) and one.kind in ("logit", "prob")}
    if not wanted:
        return None
    chances = network.class_scores(photos, batch_size, softmax=True)
    if chances.shape[1] == 1:
        return (
            f"{network.name} has one output, whose softmax is 1 whatever it sees; ask for the unit itself "
            f"({network.logits}:0) instead of a class"
        )
    faint = [(i, c) for i, c in sorted(wanted) if not float(chances[i, c]) >= least]
    if least <= 0 or not faint:
        return None
    i, c = faint[0]
    best = int(chances[i].argmax())
    more = f", and {len(faint) - 1} others are as faint" if len(faint) > 1 else ""
    return (
        f"{network.name} gives {label(c).bind(network)} a probability of {float(chances[i, c]):.2g} for "
        f"{names[i]}{more}; there is next to nothing to explain. Its first answer is {label(best).bind(network)}, "
        f"{float(chances[i, best]):.2g}; least_probability=0 (--faint) explains it all the same"
    )
