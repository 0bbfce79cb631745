"""Explanations side by side on one picture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from preimage.explain.overlay import coloured, masked, overlay, pictured
from preimage.images import to_pil

if TYPE_CHECKING:
    from preimage.explain.explanation import Explanation

SIDE = 192
"""Of the pictures on a sheet, in pixels, unless one says."""

_BLACK, _GREY, _RED = (17, 17, 17), (96, 96, 96), (176, 0, 32)
_GAP, _MARGIN, _TITLE, _TEXT = 10, 16, 15, 13
_BAR = (160, 11)
_MOST_LINES = 3

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Line = tuple[str, tuple[int, int, int]]


@dataclass
class Cell:
    """A picture [3, H, W] in [0, 1], or none, with lines of text below, each in its colour."""

    image: Tensor | None
    lines: list[Line] = field(default_factory=list)


@dataclass
class Row:
    """What was found about one photo and objective: a cell for every method, None where a method has not come to it."""

    made: list[Explanation | None]

    @property
    def first(self) -> Explanation:
        """One that there is: photo, objective and answer are the same for all."""
        return next(one for one in self.made if one is not None)


def sheet(explanations: Sequence[Explanation], side: int = SIDE) -> Image.Image:
    """All explanations: a row for each photo and objective, the photo first and then a column for each method.

    side: of each picture in pixels, its longer one. Wherever the photo is shown, what it is, what was asked and what
    the network answers stand below; below a mask, what the network answers to the masked photo.
    """
    columns, rows = table(explanations)
    cells = [
        [_photo_cell(row), *(Cell(None) if one is None else _overlay_cell(one) for one in row.made)] for row in rows
    ]
    signed = any(bool((one.heatmap < 0).any()) for one in explanations)
    return _with_legend(laid_out(["photo", *columns], cells, side), signed)


def panels(one: Explanation, side: int) -> Image.Image:
    """One explanation: photo, heat map, overlay and, for masks, the masked photo, with a caption below."""
    titles, images = ["photo", "heat map", "overlay"], views(one)
    if one.mask is not None:
        titles.append("kept")
    whole = laid_out(titles, [[Cell(image) for image in images]], side)
    caption: list[Line] = [(f"{one.name}: {one.objective}, {one.method}", _BLACK), (answers(one), _GREY)]
    lines = [*caption, *((note, _RED) for note in one.notes)]
    return _with_lines(whole, [line for line in lines if line[0]])


def views(one: Explanation) -> list[Tensor]:
    """Photo, heat map, overlay and, for masks, the masked photo; each [3, H, W]."""
    shown = [pictured(one.photo), coloured(one.heatmap), overlay(one.photo, one.heatmap)]
    return shown if one.mask is None else [*shown, masked(one.photo, one.mask)]


def answers(one: Explanation) -> str:
    """What the network answers, in words."""
    return ", ".join([f"{name} {value:.3g}" for name, value in one.scores.items()] + _keeps(one))


def table(explanations: Sequence[Explanation]) -> tuple[list[str], list[Row]]:
    """The methods, and a row for each photo and objective with what each method found.

    Methods of the same name are told apart by the settings in which they differ.
    """
    keys: dict[tuple[str, int], None] = {}
    found: list[dict[tuple[str, int], Explanation]] = []
    last: Explanation | None = None
    for one in explanations:
        allowed = Counter(method["name"] for method in one.settings.get("methods", ()))[one.method]
        here = sum(name == one.method for name, _ in found[-1]) if found else 0
        # A new photo, a new question, or the same question in other words (prob:3 beside class:3): methods come again.
        is_new = last is None or not (same_photo(last, one) and _same_question(last, one))
        if is_new or here >= max(1, allowed):
            found.append({})
            here = 0
        found[-1][one.method, here] = one
        keys[one.method, here] = None
        last = one
    return [_title(key, explanations) for key in keys], [Row([row.get(key) for key in keys]) for row in found]


def same_photo(one: Explanation, other: Explanation) -> bool:
    """Whether both are about the same photo, be they of one call or of several."""
    return (one.of, one.name) == (other.of, other.name) and torch.equal(one.photo, other.photo)


def _same_question(one: Explanation, other: Explanation) -> bool:
    """Whether the same was asked: of a class, masks are asked the probability where gradients are asked the logit."""
    asked, also = (re.sub(r"\bprob:", "class:", objective) for objective in (one.objective, other.objective))
    return asked == also


def _title(key: tuple[str, int], explanations: Sequence[Explanation]) -> str:
    name, position = key
    for one in explanations:
        same = [method for method in one.settings.get("methods", ()) if method["name"] == name]
        if len(same) > 1 and position < len(same):
            here = same[position]
            differ = [k for k in here if k != "filling" and any(method.get(k) != here[k] for method in same)]
            return f"{name} {', '.join(f'{k}={same[position][k]}' for k in differ)}".strip()
    return name


def _photo_cell(row: Row) -> Cell:
    one = row.first
    lines: list[Line] = [(one.name, _BLACK), (one.objective, _GREY)]
    asked = next((e for e in row.made if e is not None and "photo" in e.scores), None)
    if asked is not None:
        kind = "probability" if asked.objective.startswith("prob:") else "score"
        lines.append((f"{kind} {asked.scores['photo']:.3g}", _GREY))
    return Cell(pictured(one.photo), lines)


def _overlay_cell(one: Explanation) -> Cell:
    said = [f"{name} {value:.3g}" for name, value in one.scores.items() if name not in ("photo", "perturbed")]
    lines: list[Line] = [(line, _GREY) for line in (", ".join(said), *_keeps(one)) if line]
    return Cell(overlay(one.photo, one.heatmap), [*lines, *((note, _RED) for note in one.notes)])


def _keeps(one: Explanation) -> list[str]:
    return [] if one.mask is None else [f"keeps {float(one.mask.mean()):.0%} of the photo"]


def laid_out(titles: Sequence[str], rows: Sequence[Sequence[Cell]], side: int) -> Image.Image:
    """Cells in rows under titles, on white; every picture as large as fits `side` x `side` pixels."""
    title_font, font = ImageFont.load_default(_TITLE), ImageFont.load_default(_TEXT)
    heads = [_wrapped(title, title_font, side) for title in titles]
    head = max(map(len, heads)) * _line(_TITLE)
    wrapped = [
        [[(t, colour) for text, colour in cell.lines for t in _wrapped(text, font, side)] for cell in row]
        for row in rows
    ]
    tall = [max(_fitted(cell.image, side)[1] for cell in row if cell.image is not None) for row in rows]
    heights = [
        pictures + 4 + max(map(len, lines)) * _line(_TEXT) + _GAP for pictures, lines in zip(tall, wrapped, strict=True)
    ]
    width = 2 * _MARGIN + len(titles) * (side + _GAP) - _GAP
    picture = Image.new("RGB", (width, 2 * _MARGIN + head + 4 + sum(heights) - _GAP), "white")
    draw = ImageDraw.Draw(picture)
    lefts = [_MARGIN + i * (side + _GAP) for i in range(len(titles))]
    for left, lines in zip(lefts, heads, strict=True):
        for i, text in enumerate(lines):  # flush with the pictures below
            draw.text((left, _MARGIN + head - (len(lines) - i) * _line(_TITLE)), text, fill=_BLACK, font=title_font)
    top = _MARGIN + head + 4
    for row, texts, pictures, height in zip(rows, wrapped, tall, heights, strict=True):
        for left, cell, said in zip(lefts, row, texts, strict=True):
            if cell.image is not None:
                picture.paste(_resized(cell.image, side), (left, top))
            for i, (text, colour) in enumerate(said):
                draw.text((left, top + pictures + 4 + i * _line(_TEXT)), text, fill=colour, font=font)
        top += height
    return picture


def _with_lines(picture: Image.Image, lines: Sequence[Line]) -> Image.Image:
    """The picture with lines of text below."""
    font = ImageFont.load_default(_TEXT)
    room = picture.width - 2 * _MARGIN
    wrapped = [(t, colour) for text, colour in lines for t in _wrapped(text, font, room)]
    taller = Image.new("RGB", (picture.width, picture.height + len(wrapped) * _line(_TEXT)), "white")
    taller.paste(picture, (0, 0))
    draw = ImageDraw.Draw(taller)
    for i, (text, colour) in enumerate(wrapped):
        draw.text((_MARGIN, picture.height - _MARGIN + 4 + i * _line(_TEXT)), text, fill=colour, font=font)
    return taller


def _with_legend(picture: Image.Image, signed: bool) -> Image.Image:
    """The picture with what its colours mean below."""
    font = ImageFont.load_default(_TEXT)
    width, height = _BAR
    values = torch.linspace(-1 if signed else 0, 1, width).expand(height, width)
    bar = to_pil(overlay(torch.full((3, height, width), 0.5), values))
    least, most = "speaks against" if signed else "does not matter", "important"
    at = _MARGIN + round(font.getlength(least)) + _GAP
    end = at + width + _GAP + round(font.getlength(most)) + _MARGIN
    taller = Image.new("RGB", (max(picture.width, end), picture.height + _line(_TEXT) + _GAP), "white")
    taller.paste(picture, (0, 0))
    taller.paste(bar, (at, picture.height + 3))
    draw = ImageDraw.Draw(taller)
    for left, text in ((_MARGIN, least), (at + width + _GAP, most)):
        draw.text((left, picture.height), text, fill=_GREY, font=font)
    return taller


def _line(size: int) -> int:
    """From one line of text to the next."""
    return round(1.3 * size)


def _fitted(image: Tensor | None, side: int) -> tuple[int, int]:
    """(width, height) of an image [3, H, W] whose longer side becomes `side`."""
    if image is None:
        return 0, 0
    height, width = image.shape[1:]
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(image: Tensor, side: int) -> Image.Image:
    size = _fitted(image, side)
    # The pixels of a very small photo are to be seen as they are.
    coarse = max(image.shape[1:]) * 2 <= side
    return to_pil(image).resize(size, Image.Resampling.NEAREST if coarse else Image.Resampling.LANCZOS)


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    """Text in lines no wider than `width` pixels, broken at spaces and behind hyphens; no more than `_MOST_LINES`."""
    lines, rest = [""], re.findall(r"[^\s-]*-|\S+|\s+", " ".join(text.split()))
    for piece in rest:
        if font.getlength((lines[-1] + piece).rstrip()) <= width:
            lines[-1] += piece
        else:
            lines.append(piece.lstrip())
    lines = [line.rstrip() for line in lines if line.strip()]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], " ".join(lines[_MOST_LINES - 1 :])]
    return [_shortened(line, font, width) for line in lines]


def _shortened(text: str, font: Font, width: int) -> str:
    """Text that is too wide even so, cut, with dots where it is cut."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."
