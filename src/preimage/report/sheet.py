"""All images of a result on one picture, with what they answer written below."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from preimage.images import to_pil
from preimage.result import Result

_CAPTION = 18
_GAP = 6


def contact_sheet(result: Result, columns: int = 6, side: int = 160) -> Image.Image:
    """The images row by row, each scaled to `side` pixels, with its objective below."""
    count = len(result.objectives)
    rows = -(-count // columns)
    cell_width, cell_height = side + _GAP, side + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * cell_width + _GAP, rows * cell_height + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for index, (image, said) in enumerate(zip(result.images, result.objectives, strict=True)):
        left, top = _GAP + index % columns * cell_width, _GAP + index // columns * cell_height
        sheet.paste(to_pil(image).convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (left, top))
        draw.text((left, top + side + 2), _fitted(said, font, side), fill="black", font=font)
    return sheet


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text
