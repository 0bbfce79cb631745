"""Asking for a class: its logit, probability or log-probability."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from torch import Tensor

from preimage.errors import RequestError, nearest
from preimage.network import OUTPUT, Network, Place
from preimage.objectives.objective import Activations, Objective

Kind = Literal["logit", "prob", "logprob", "unsure"]
_LOGITS = Place(OUTPUT, after_relu=True)
_PREFIX = {"logit": "class", "prob": "prob", "logprob": "logprob", "unsure": "unsure"}


@dataclass(frozen=True, repr=False)
class Label(Objective):
    """A class of the network. Three kinds have the gradients of paper 3, Table S2 (SPEC P2): that of the logit
    l_i; of s_i, the softmax; and of log s_i = l_i - log sum_j exp(l_j). The fourth, "unsure", has that of paper 3's
    released code, (1 - s_i) dl_i: of log s_i without the other classes' logits (SPEC P.5-2); its value is log s_i too.

    Where the scores have positions (a segmentation), the mean over them is taken. `classes`: how many there are, once
    it is bound.
    """

    label: int | str
    kind: Kind = "logit"
    name: str | None = None
    place: Place = _LOGITS
    classes: int | None = field(default=None, compare=False)

    def places(self) -> frozenset[Place]:
        return frozenset({self.place})

    def score(self, activations: Activations) -> Tensor:
        assert isinstance(self.label, int), "bind() resolves names"
        logits = activations[self.place]
        if self.kind == "prob":
            logits = logits.softmax(1)
        elif self.kind == "logprob":
            logits = logits.log_softmax(1)
        elif self.kind == "unsure":
            sure = logits.detach().softmax(1)
            logits = (1 - sure) * (logits - logits.detach()) + logits.detach().log_softmax(1)
        return logits[:, self.label].flatten(1).mean(1) if logits.ndim > 2 else logits[:, self.label]

    def bind(self, network: Network) -> Label:
        tap = network.tap(network.logits)
        index = self.label if isinstance(self.label, int) else find_label(network, self.label)
        if not 0 <= index < tap.channels:
            raise RequestError(f"{network.name} has classes 0 to {tap.channels - 1}, not {index}")
        name = network.labels[index] if network.labels and index < len(network.labels) else None
        place = Place(tap.name, after_relu=True)
        return replace(self, label=index, name=name, place=place, classes=tap.channels)

    def __str__(self) -> str:
        return f"{_PREFIX[self.kind]}:{self.label}" + (f" ({self.name})" if self.name else "")


def label(index_or_name: int | str, kind: Kind = "logit") -> Label:
    """A class by number or name: its logit, its softmax ("prob"), its log-softmax ("logprob"), or "unsure"."""
    if kind not in get_args(Kind):
        raise RequestError(f"kind of class score must be one of {', '.join(get_args(Kind))}, not '{kind}'")
    return Label(index_or_name if isinstance(index_or_name, str) else int(index_or_name), kind)


def log_probabilities(objective: Objective) -> Objective:
    """The same question with every class logit replaced by the class's log-probability."""
    return class_gradients(objective, "logprob")


def class_gradients(objective: Objective, kind: Kind) -> Objective:
    """The same question with every class logit replaced by this kind of score."""

    def change(leaf: Objective) -> Objective:
        return replace(leaf, kind=kind) if isinstance(leaf, Label) and leaf.kind == "logit" else leaf

    return objective.each(change)


def probabilities(objective: Objective) -> Objective:
    """The same question with every class logit replaced by the class's probability."""
    return class_gradients(objective, "prob")


def find_label(network: Network, name: str) -> int:
    """The class called `name`: case, `_` and what stands in brackets do not count, and any synonym will do.

    Raises `RequestError` that lists the candidates if there is none or more than one.
    """
    if not network.labels:
        raise RequestError(
            f"{network.name} comes without class names, so '{name}' cannot be looked up; give its number"
        )
    wanted = _fold(name)
    exact = [i for i, full in enumerate(network.labels) if wanted == _fold(full)]
    found = exact or [i for i, full in enumerate(network.labels) if wanted in _synonyms(full)]
    if len(found) == 1:
        return found[0]
    if found:
        raise RequestError(f"class '{name}' is ambiguous: {_listing(network.labels, found)}")
    close = [network.labels.index(full) for full in nearest(name.replace("_", " "), network.labels)]
    hint = f"; the nearest are {_listing(network.labels, close)}" if close else ""
    raise RequestError(f"{network.name} has no class '{name}'{hint}")


def _fold(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _synonyms(full: str) -> set[str]:
    """ "crane (bird)" -> crane; "tabby, tabby cat" -> tabby, tabby cat."""
    return {_fold(part.partition("(")[0]) for part in full.split(",")}


def _listing(labels: tuple[str, ...], indices: list[int]) -> str:
    return ", ".join(f"class:{i} ({labels[i]})" for i in indices)
