"""One unit of an evaluation: a batch of pictures, explained by one method and measured."""

from __future__ import annotations

import hashlib
import math
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from preimage.errors import RequestError
from preimage.evaluation.asked import Asked
from preimage.evaluation.measure import Case, Measure
from preimage.evaluation.planning import explained_as
from preimage.evaluation.view import Fit
from preimage.explain import Explanation, explain
from preimage.explain.method import Method
from preimage.explain.targets import targets_of_each
from preimage.network import Network
from preimage.network.lazy import LazyNetwork
from preimage.objectives import Objective, label


@dataclass(frozen=True)
class Unit:
    """pictures: which of the evaluation's kinds of pictures; first, last: which of them (last is just outside)."""

    pictures: str
    method: str
    first: int
    last: int


@dataclass
class Work:
    """All that a unit needs, so that any process can do any of them.

    pictures: by kind, what is asked. methods: by the name under which they are listed. measures: of each kind of
        pictures, by name. target: "label" or "first": the asked class is explained; or "top:K", see `preimage.explain`.
        on_cluster: whether photos that are not there end it, because a machine that does not see them would else record
        all of them as failures. The rest: see `preimage.evaluate`.
    """

    network: LazyNetwork
    pictures: Mapping[str, Sequence[Asked]]
    methods: Mapping[str, Method]
    measures: Mapping[str, Mapping[str, Measure]]
    size: tuple[int, int]
    fit: Fit
    target: str
    seed: int
    on_cluster: bool = False

    def __call__(self, unit: Unit) -> list[dict[str, Any]]:
        """Of each picture "index", "failed" (why, or None), "probability", "notes"; by measure "found", "unmeasured".

        Whatever cannot be read, explained or measured is said and leaves the rest alone. Raises `RequestError` on a
        cluster, for photos that are not there.
        """
        network, method = self.network.opened(), self.methods[unit.method]
        asked = self.pictures[unit.pictures][unit.first : unit.last]
        if self.on_cluster:
            _check_there(asked)
        out: list[dict[str, Any]] = [{"index": unit.first + i, "failed": None} for i in range(len(asked))]
        shown: dict[int, Tensor] = {}
        for i, one in enumerate(asked):
            try:
                shown[i] = one.picture(self.size, self.fit, network.channels)
            except RequestError as error:
                out[i]["failed"] = str(error)
        with network.held():
            made = self._explained_apart(network, unit.method, shown, asked, out)
            for i, (explanation, objective) in made.items():
                if not explanation.heatmap.isfinite().all():
                    out[i]["failed"] = f"{unit.method}: the heat map is not finite"
                    continue
                which = f"{unit.pictures} {unit.first + i}"
                case = self._case(network, method, asked[i], objective, explanation, which)
                out[i] |= {"probability": _plain(case.score), "notes": explanation.notes, "found": {}, "unmeasured": {}}
                for name, measure in self.measures[unit.pictures].items():
                    try:
                        out[i]["found"][name] = _plain(measure.measure(case))
                    except RequestError as error:
                        out[i]["unmeasured"][name] = str(error)
        return out

    def _explained_apart(
        self,
        network: Network,
        name: str,
        shown: Mapping[int, Tensor],
        asked: Sequence[Asked],
        out: Sequence[dict[str, Any]],
    ) -> dict[int, tuple[Explanation, Objective]]:
        """All that can be explained, one by one where not all can; `out` is told why others cannot."""
        if not shown:
            return {}
        try:
            made, wanted = self._explained(network, self.methods[name], shown, asked)
        except RequestError as error:
            if len(shown) > 1:
                apart = [self._explained_apart(network, name, {i: one}, asked, out) for i, one in shown.items()]
                return {i: one for some in apart for i, one in some.items()}
            out[next(iter(shown))]["failed"] = f"{name}: {error}"
            return {}
        return dict(zip(shown, zip(made, wanted, strict=True), strict=True))

    def _explained(
        self, network: Network, method: Method, shown: Mapping[int, Tensor], asked: Sequence[Asked]
    ) -> tuple[Sequence[Explanation], list[Objective]]:
        """Of each picture its explanation, and what was explained: a sum of classes is that of this picture."""
        photos = torch.stack(list(shown.values()))
        targets = [[explained_as(asked[i], self.target)] for i in shown]
        wanted = [some[0] for some in targets_of_each(network, targets, photos, [], len(photos))]
        return self._of(network, method, photos, wanted), wanted

    def _of(
        self, network: Network, method: Method, photos: Tensor, wanted: Sequence[Objective]
    ) -> Sequence[Explanation]:
        made = explain(
            network,
            photos,
            [[one] for one in wanted],
            method=[method],
            size=self.size,
            least_probability=0.0,
            seed=self.seed,
            batch_size=len(photos),
            progress=False,
        )
        if made.interrupted:
            raise KeyboardInterrupt
        return list(made)

    def _case(
        self,
        network: Network,
        method: Method,
        one: Asked,
        objective: Objective,
        explanation: Explanation,
        which: str,
    ) -> Case:
        def again(photos: Tensor, other: Network | None) -> Tensor:
            made = self._of(other or network, method, photos, [objective] * len(photos))
            return torch.stack([one.heatmap for one in made])

        point = explanation.details.get("point")
        return Case(
            network,
            explanation.photo,
            explanation.heatmap,
            label(one.index, "prob").bind(network),
            one.label,
            one.example,
            one.view(self.size, self.fit),
            again,
            None if point is None else (int(point[0]), int(point[1])),
            one.of,
            int.from_bytes(hashlib.sha256(f"{self.seed} {which}".encode()).digest()[:4], "big"),
        )


def _check_there(asked: Sequence[Asked]) -> None:
    for path in (example.path for one in asked for example in one.examples):
        if not path.is_file():
            raise RequestError(
                f"the photo '{path}' is not there any more, or not on the machine of the cluster that looks at it "
                f"({socket.gethostname()})"
            )


def _plain(value: Any) -> Any:
    """Without numbers that JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
