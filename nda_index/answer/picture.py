"""An answer as one picture: the query, the best images, and heat maps on both."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from nda_index.answer.data import AnswerData, format_share
from nda_index.answer.heat import enlarge, lay_heat
from nda_index.images import encode_png

SHOWN = 8  # images in the picture form
MARGIN = 24


def as_png(answer: AnswerData) -> bytes:
    """Draw the query, then the best images with their shares, heat maps on both, as a PNG file."""
    shown = min(len(answer), SHOWN)
    query = enlarge(answer.query)
    width, height = query.size
    top, text = MARGIN + 44, 44
    canvas = Image.new(
        "RGB", (MARGIN + (shown + 1) * (width + MARGIN), top + text + 3 * (height + 12) + MARGIN), "white"
    )
    draw, title, small = ImageDraw.Draw(canvas), ImageFont.load_default(size=20), ImageFont.load_default(size=13)
    draw.text((MARGIN, MARGIN - 4), "Where this picture comes from", "black", title)
    if answer.missing:
        lacks = f"This answer is not whole: {answer.missing:,} more images could not be searched."
        draw.text((MARGIN, MARGIN + 20), lacks, "#b00020", small)
    draw.text((MARGIN, top), "your picture", "black", small)
    canvas.paste(query, (MARGIN, top + text))
    for row, label in enumerate(("where on your picture", "where on the image"), start=1):
        draw.text((MARGIN, top + text + row * (height + 12) + height // 2 - 8), label, "#444444", small)
    for rank in range(shown):
        x, y = MARGIN + (rank + 1) * (width + MARGIN), top + text
        draw.text((x, top), f"{rank + 1}.  {format_share(answer.shares[rank])}", "black", small)
        draw.text((x, top + 18), _shorten(answer.keys[rank], width // 7), "#444444", small)
        canvas.paste(enlarge(answer.images[rank]), (x, y))
        canvas.paste(lay_heat(answer.query, answer.query_map(rank)), (x, y + height + 12))
        canvas.paste(lay_heat(answer.images[rank], answer.train_map(rank)), (x, y + 2 * (height + 12)))
    return encode_png(canvas)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else "..." + text[-(length - 3) :]
