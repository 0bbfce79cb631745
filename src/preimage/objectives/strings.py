"""Objectives as one types them: `layer3.2:17`, `layer3.2:0-15`, `layer3.2:*`, `layer3.2:17@4,5`, `class:tabby`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

from preimage.errors import RequestError
from preimage.network import Network, Place
from preimage.objectives.classes import Kind, Label
from preimage.objectives.objective import Objective
from preimage.objectives.units import CENTRE, Channel, Unit

_KINDS: dict[str, Kind] = {"class": "logit", "logit": "logit", "prob": "prob", "logprob": "logprob"}
_AFTER = "after:"
_CHANNELS = re.compile(r"(?P<all>\*)|(?P<first>\d{1,4000})(-(?P<last>\d{1,4000}))?")
_POSITION = re.compile(r"(?P<y>\d{1,4000})\s*,\s*(?P<x>\d{1,4000})")


def parse(text: str, network: Network) -> list[Objective]:
    """The objectives that `text` names, bound to `network`: one, or one per channel of `FIRST-LAST` and `*`.

    `TAP:CHANNEL`, `TAP:FIRST-LAST`, `TAP:*` (means over positions), any of them with `@Y,X` or `@centre` (one
    position), `class:`, `prob:` or `logprob:` with a number or a name. `after:` in front asks behind a final ReLU.

    Raises `RequestError` that points at the place where it cannot be read, or says what the network does not have.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind in _KINDS:
        if not rest.strip():
            _fail(text, len(text), "the number or name of a class")
        label = rest.strip()
        is_number = label.isdecimal() and len(label) <= 4000
        return [Label(int(label) if is_number else label, _KINDS[kind]).bind(network)]
    after_relu = text.startswith(_AFTER)
    tap, colon, question = (text[len(_AFTER) :] if after_relu else text).rpartition(":")
    if colon and not tap:
        _fail(text, len(_AFTER) if after_relu else 0, "the name of a tap")
    if not colon:
        _fail(text, len(text), "':' and a channel (TAP:CHANNEL, TAP:FIRST-LAST, TAP:*, class:NAME)")
    start = len(text) - len(question)
    network.tap(tap)
    channels, at, position = question.partition("@")
    match = _CHANNELS.fullmatch(channels)
    if match is None:
        _fail(text, start, "a channel number, FIRST-LAST or *")
    place = Place(tap, after_relu)
    where = _parse_position(text, start + len(channels) + 1, position) if at else None
    count = network.tap(tap).channels
    first, last = (0, count - 1) if match["all"] else (int(match["first"]), int(match["last"] or match["first"]))
    if last < first:
        _fail(text, start, f"the smaller channel first: {last}-{first}")
    for end in (first, last):
        if end >= count:  # before making a list of them: someone may have typed 0-99999999999
            raise RequestError(f"'{tap}' has channels 0 to {count - 1}, not {end}")
    objectives: list[Objective] = [Unit(place, i, where) if at else Channel(place, i) for i in range(first, last + 1)]
    return [objective.bind(network) for objective in objectives]


def resolve(asked: str | Objective | Sequence[str | Objective], network: Network) -> list[Objective]:
    """Everything that was asked, strings and objects mixed, as a flat list of objectives bound to `network`."""
    if isinstance(asked, str):
        return parse(asked, network)
    if isinstance(asked, Objective):
        return [asked.bind(network)]
    if not isinstance(asked, Sequence):
        raise RequestError(f"an objective is a string or an Objective, not {type(asked).__name__}")
    found = [objective for one in asked for objective in resolve(one, network)]
    if not found:
        raise RequestError("there is no objective to optimise")
    return found


def _parse_position(text: str, start: int, position: str) -> tuple[int, int] | None:
    if position == CENTRE:
        return None
    match = _POSITION.fullmatch(position)
    if match is None:
        _fail(text, start, f"a position Y,X or {CENTRE}")
    return int(match["y"]), int(match["x"])


def _fail(text: str, at: int, expected: str) -> NoReturn:
    found = f"'{text[at:]}'" if at < len(text) else "the end"
    raise RequestError(f"objective '{text}' cannot be read: expected {expected} at character {at + 1}, found {found}")
