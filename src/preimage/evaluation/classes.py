"""Which of the network's answers is meant by a label of a data set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from preimage.errors import RequestError
from preimage.evaluation.data.csv_file import table
from preimage.network import Network
from preimage.network.loading import imagenet_labels
from preimage.objectives.classes import find_label

_NAMED = 5
"""How many labels without a class a message names."""

_RIGHT = "a file of classes starts with label,class"


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """The 1000 WordNet ids of ImageNet's classes, in the usual order.

    The list is `timm/data/_info/imagenet_synsets.txt` of timm 1.0 (Ross Wightman, Apache-2.0), unchanged.
    """
    return tuple((files("preimage.network") / "imagenet_wnids.txt").read_text("utf-8").split())


def match_classes(
    network: Network, labels: Iterable[str], mapping: Mapping[str, str | int] | None = None
) -> dict[str, int]:
    """The number of the class of `network` that each label means, in the order of the labels.

    mapping: what a label means, as a number or by a name (see `read_mapping`); others mean what they say. That is, in
        this order: a whole number; a wnid (n02102040), if the network's labels are ImageNet's 1000 classes; a name, as
        in `class:NAME`. A label that means "" is left out.

    Raises `RequestError` that tells how many labels have no class, and why the first few have none.
    """
    outputs = network.tap(network.logits).channels
    given = {} if mapping is None else mapping
    found: dict[str, int] = {}
    why: dict[str, str] = {}
    for label in dict.fromkeys(labels):
        if given.get(label) == "":
            continue
        try:
            found[label] = _index(network, given.get(label, label), outputs)
        except RequestError as error:
            why[label] = str(error) + (f" (the mapping's class for '{label}')" if label in given else "")
    if not why:
        return found
    # Of a network without names, or with others than ImageNet's, every label would be told the same.
    reasons = list(dict.fromkeys(list(why.values())[:_NAMED]))
    more = f"; and {len(why) - len(reasons)} more" if len(why) > len(reasons) else ""
    raise RequestError(
        f"{len(why)} of {len(why) + len(found)} labels have no class in {network.name}: {'; '.join(reasons)}{more}; "
        "a CSV file with the columns label,class can say which are meant"
    )


def read_mapping(path: str | Path) -> dict[str, str]:
    """A CSV file with the columns label and class: what each label of a data set means, by number or by name.

    A label without a class is left out.

    Raises `RequestError`, which names all faulty lines, if it is no such file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise RequestError(f"there is no file '{file}'; {_RIGHT}")
    found: dict[str, str] = {}
    wrong = []
    for line, row in table(file, ("label", "class"), ("label", "class"), _RIGHT)[1]:
        label, name = row["label"], row["class"]
        if None in row or not label or name is None:
            wrong.append(f"line {line} is not a label and a class")
        elif found.setdefault(label, name) != name:
            wrong.append(f"line {line} says that '{label}' is '{name}', after '{found[label]}'")
    if wrong:
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise RequestError(f"'{file}' cannot be used: {'; '.join(wrong[:_NAMED])}{more}")
    return found


def _index(network: Network, name: str | int, outputs: int) -> int:
    text = str(name).strip()
    if re.fullmatch(r"-?[0-9]{1,9}", text):
        index = int(text)
        if not 0 <= index < outputs:
            raise RequestError(f"{network.name} has classes 0 to {outputs - 1}, not {index}")
        return index
    if network.labels and list(network.labels) == imagenet_labels() and text in _wnid_numbers():
        return _wnid_numbers()[text]
    index = find_label(network, text)
    if index >= outputs:
        raise RequestError(f"'{text}' is class {index} by the labels of {network.name}, which has only {outputs}")
    return index


@cache
def _wnid_numbers() -> dict[str, int]:
    return {wnid: i for i, wnid in enumerate(imagenet_wnids())}
