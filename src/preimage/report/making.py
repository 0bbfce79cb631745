"""Making the pictures of a report, one contact sheet after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from preimage.errors import RequestError
from preimage.images import centre_crop, to_pil, written_whole
from preimage.invert import invert
from preimage.maximize import maximize
from preimage.network import Network, Tap
from preimage.objectives import channel, label
from preimage.recover import Audit
from preimage.recover.audit import Verdict
from preimage.report.plot import sparkline
from preimage.report.why import Why, why
from preimage.result import Result

_ANSWERS, _PICTURED = 5, 3
_FAINT = 0.01
_WEIGHTS, _SINGULAR = 3, 8

KINDS: dict[Verdict, str] = {
    "as asked": "good",
    "probably as asked": "fair",
    "something else": "bad",
    "cannot be told": "open",
}
"""Of an audit's verdict, for style sheets."""


@dataclass
class Weight:
    """A channel of an answer: what it is called, its weight in a unit vector, and |weight| in percent."""

    name: str
    weight: float
    percent: float


@dataclass
class Audited:
    """What a picture is the answer to (`Result.audit`), for recipes of which that can be told.

    verdict: in a word or two; kind: the same for the style sheet, one of good, fair, bad, open. cosine: of what was
    asked and the answer. answer: its strongest channels. spectrum: the smallest singular values, the answer's first:
    percent of the last of these, and of the largest of all. candidates: what else the picture could be the answer to.
    says: all of it, and what spoils the comparison, in sentences. numbers: what `result.json` says of it.
    """

    verdict: str
    kind: str
    cosine: float
    answer: list[Weight]
    spectrum: list[tuple[float, float]]
    candidates: list[list[Weight]]
    says: list[str]
    numbers: dict[str, Any]


@dataclass
class Picture:
    """One picture on the page, with all that is said about it; unaudited: why it has no audit, where one was tried."""

    file: str
    title: str
    objective: str
    score: float
    width: int
    height: int
    trace: str
    receptive_field: str
    stride: str
    settings: str
    audit: Audited | None = None
    unaudited: str = ""


@dataclass
class Depth:
    """What a layer still knows of a photograph: a picture that it cannot tell from it, as far as that was found.

    says: how it was made; where there is no file, why there is no picture.
    """

    tap: str
    says: str
    file: str | None = None
    feature_error: float = float("nan")
    pixel_error: float = float("nan")


@dataclass
class Section:
    """A contact sheet with its heading; for a photograph also the file, the network's (class, probability)s, what each
    depth still knows of it, and why the network answers so."""

    anchor: str
    title: str
    note: str
    pictures: list[Picture]
    photo: str | None = None
    answers: list[tuple[str, float]] = field(default_factory=list)
    depths: list[Depth] = field(default_factory=list)
    why: Why = field(default_factory=Why)


class PictureMaker:
    """Makes the pictures of one section after the other and writes them below `folder`, until Ctrl-C.

    options: what `preimage.maximize` takes besides network, objectives and size.
    steps: of `preimage.invert` and of masks; None: as their recipes have it.
    """

    def __init__(self, network: Network, folder: Path, options: dict[str, Any], steps: int | None = None):
        self._network = network
        self._folder = folder
        self._options = options
        self._steps = steps
        self._taps = network.taps()
        self.sections: list[Section] = []
        self.interrupted = False

    def photo(self, number: int, path: Path, image: Tensor, depths: list[str], reasons: int) -> None:
        """A photograph [C, H, W], the network's five strongest classes, why it answers so for so many of them, what
        each of these taps still knows of the photograph, and what it wants to see for three classes."""
        network = self._network
        fitted = centre_crop(image, network.input_size)
        chances = network.class_scores(fitted[None]).softmax(1)[0]
        probabilities, classes = chances.topk(min(_ANSWERS, len(chances)))
        bound = [label(int(i)).bind(network) for i in classes]
        name = f"images/photo{number}.png"
        self._write(fitted, name)
        note = "The photograph as the network gets it, its strongest classes, and what they rest on."
        answers = [(_title(str(one)), float(p)) for one, p in zip(bound, probabilities, strict=True)]
        said = Why()
        # A mask takes a probability away: where there is next to none, it has nothing to do.
        worth = [one for one, p in zip(bound, probabilities, strict=True) if p >= _FAINT][:reasons]
        if worth and not self.interrupted:
            said = why(
                network,
                fitted,
                worth,
                self._write,
                f"images/photo{number}",
                titles=[title for title, _ in answers],
                seed=self._options["seed"],
                iterations=self._steps,
                progress=self._options["progress"],
            )
            self.interrupted = said.interrupted
        known = self._depths(fitted, depths, number)
        pictures = self._make(bound[:_PICTURED], self._taps[network.logits], f"photo{number}", None)
        self.sections.append(Section(f"photo-{number}", path.name, note, pictures, name, answers, known, said))

    def classes(self, indices: list[int], note: str) -> None:
        """What the network wants to see for these classes."""
        tap = self._taps[self._network.logits] if indices else None
        pictures = self._make([label(i) for i in indices], tap, "class", None) if tap else []
        self.sections.append(Section("classes", "Classes", note, pictures))

    def units(self, tap: Tap, channels: list[int]) -> None:
        """What these channels of a tap want to see, on a canvas that fits their receptive field."""
        size = picture_size(self._network, tap)
        pictures = self._make([channel(tap.name, i) for i in channels], tap, "unit", size)
        note = f"{tap.kind} with {tap.channels} channels; a unit sees {_pixels(tap.receptive_field)}"
        note += f", its neighbour {_pixels(tap.stride)} further on." if tap.stride else "."
        self.sections.append(Section(f"tap-{tap.name}", tap.name, note, pictures))

    def _depths(self, photo: Tensor, taps: list[str], number: int) -> list[Depth]:
        options = {name: self._options[name] for name in ("seed", "colours", "progress")}
        out: list[Depth] = []
        for i, tap in enumerate(taps):
            if self.interrupted:
                break
            try:
                made = invert(self._network, photo, tap, steps=self._steps, **options)
            except RequestError as error:  # a dead layer, say
                out.append(Depth(tap, str(error)))
                continue
            self.interrupted = made.interrupted
            name = f"images/photo{number}-depth{i}.png"
            self._write(made.images[0], name)
            says = f"recipe {made.settings['recipe']['name']}, {len(made.trace)} steps, seed {made.settings['seed']}"
            out.append(Depth(tap, says, name, float(made.feature_errors[0]), float(made.pixel_errors[0])))
        return out

    def _make(self, asked: list[Any], tap: Tap, prefix: str, size: tuple[int, int] | None) -> list[Picture]:
        if not asked or self.interrupted:
            return []
        result = maximize(self._network, asked, window=size, **self._options)
        self.interrupted = result.interrupted
        pictures = [self._picture(result, i, tap, prefix) for i in range(len(result.objectives))]
        made = result.made
        if made is not None and made.stages[-1].smoothing is not None and not self.interrupted:
            try:
                for picture, found in zip(pictures, _audits(result), strict=True):
                    if isinstance(found, str):
                        picture.unaudited = found
                    else:
                        picture.audit = _audited(found, self._network)
            except KeyboardInterrupt:
                self.interrupted = True
        return pictures

    def _picture(self, result: Result, index: int, tap: Tap, prefix: str) -> Picture:
        name = f"images/{prefix}-{result.file_names()[index].partition('-')[2]}"
        self._write(result.images[index], name)
        height, width = result.images.shape[2:]
        said, settings = result.objectives[index], result.settings
        return Picture(
            file=name,
            title=_title(said),
            objective=said,
            score=float(result.scores[index]),
            width=width,
            height=height,
            trace=sparkline(result.trace[:, index].tolist()),
            receptive_field=_pixels(tap.receptive_field),
            stride=_pixels(tap.stride) if tap.stride else "one position",
            settings=f"recipe {settings['recipe']['name']}, {len(result.trace)} steps, {width} x {height} px, "
            f"seed {settings['seed']}",
        )

    def _write(self, image: Tensor, name: str) -> None:
        with written_whole(self._folder / name) as file:
            to_pil(image).save(file)


def _audits(result: Result) -> list[Audit | str]:
    """Of all pictures at once, so that what moves none of them is left out; or why a picture has none."""
    try:
        return [*result.audit()]
    except RequestError:
        pass  # some picture answers nothing: find out which
    found: dict[int, Audit | str] = {}
    for i in range(len(result.objectives)):
        try:
            result.audit([i])
        except RequestError as error:
            found[i] = str(error)
    rest = [i for i in range(len(result.objectives)) if i not in found]
    found |= dict(zip(rest, result.audit(rest), strict=True))
    return [found[i] for i in range(len(result.objectives))]


def _audited(found: Audit, network: Network) -> Audited:
    recovery = found.recovery
    # What a channel of the classes' layer is called, people know better.
    labels = network.labels if network.labels and recovery.tap == network.logits else None

    def weights(objective: Tensor, count: int) -> list[Weight]:
        top = objective.abs().topk(min(count, len(objective))).indices.tolist()
        channels = [int(recovery.features[i]) for i in top]
        names = [labels[channel].split(",")[0] if labels else f"channel {channel}" for channel in channels]
        return [
            Weight(name, float(objective[i]), 100 * abs(float(objective[i])))
            for name, i in zip(names, top, strict=True)
        ]

    shares = (recovery.singular_values[:_SINGULAR] / recovery.singular_values[-1]).tolist()
    return Audited(
        verdict=found.verdict,
        kind=KINDS[found.verdict],
        cosine=found.cosine,
        answer=weights(recovery.objective, _WEIGHTS),
        spectrum=[(100 * share / max(shares[-1], 1e-300), 100 * share) for share in shares],
        candidates=[weights(one, 2) for one in recovery.candidates[1:3]],
        says=[_sentence(one) for one in (found.says(), *found.notes)],
        numbers={name: value for name, value in found.as_dict().items() if name not in ("answer_to", "verdict")},
    )


def _sentence(said: str) -> str:
    return said if said.endswith("?") else f"{said}."


def picture_size(network: Network, tap: Tap) -> tuple[int, int]:
    """Twice the receptive field, at least 96 pixels and at most the input: low layers need no more, and cost less.

    A network that takes only one size (a transformer) gets that.
    """
    field_height, field_width = tap.receptive_field or network.input_size
    height, width = network.input_size
    size = (min(max(2 * field_height, 96), height), min(max(2 * field_width, 96), width))
    try:
        network.check_size(size)
    except RequestError:
        return network.input_size
    return size


def _pixels(pair: tuple[int, int] | None) -> str:
    return "-" if pair is None else f"{pair[1]} x {pair[0]} px"


def _title(objective: str) -> str:
    """`class:281 (tabby)` -> tabby; `stage3.1:7` -> channel 7."""
    said, _, name = objective.partition(" (")
    kind, _, rest = said.rpartition(":")
    return name.removesuffix(")") or (f"class {rest}" if kind == "class" else f"channel {rest}")
