"""An answer as one picture: its regions with both crops, then the best images with heat maps."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from nda_index.answer.data import AnswerData, format_share
from nda_index.answer.heat import enlarge, lay_heat
from nda_index.answer.region import Box, Region, say_no_region_is_strong
from nda_index.images import encode_png

SHOWN = 8  # images in the picture form
SHOWN_REGIONS = 6  # regions in it
MARGIN = 24
PICTURE = 720, 720  # pixels that the question's picture is fitted into
CROP = 176, 132  # the same of both crops of a region
BOX = "#e11d48"


def as_png(answer: AnswerData) -> bytes:
    """Draw an answer as a PNG file: regions of its picture, where it has any, and the best images."""
    if answer.picture_size is None:
        return encode_png(_draw_images(answer, f"Where this {'latent' if answer.latents else 'picture'} comes from"))
    upper = _draw_regions(answer, answer.picture_size)
    lower = _draw_images(answer, "Whole pictures that are like it")
    canvas = Image.new("RGB", (max(upper.width, lower.width), upper.height + lower.height), "white")
    canvas.paste(upper, (0, 0))
    canvas.paste(lower, (0, upper.height))
    return encode_png(canvas)


def _draw_regions(answer: AnswerData, size: tuple[int, int]) -> Image.Image:
    """Draw the picture with a numbered box for each leading region, and beside it both crops of each."""
    picture = Image.open(io.BytesIO(answer.picture)).convert("RGB")
    whole = ImageOps.contain(picture, PICTURE)
    regions = answer.leading_regions[:SHOWN_REGIONS]
    line, top, left = CROP[1] + 78, MARGIN + 60, 2 * MARGIN + whole.width
    height = top + max(whole.height, line * len(regions)) + MARGIN
    canvas = Image.new("RGB", (left + 2 * (CROP[0] + MARGIN), height), "white")
    draw, title, small = ImageDraw.Draw(canvas), ImageFont.load_default(size=20), ImageFont.load_default(size=13)
    draw.text((MARGIN, MARGIN - 4), "Where this picture comes from", "black", title)
    draw.text((MARGIN, MARGIN + 26), _count_strong(regions), "#444444", small)
    canvas.paste(_draw_boxes(whole, size, regions), (MARGIN, top))
    for number, (region, crop) in enumerate(zip(regions, answer.crops, strict=False)):
        y = top + number * line
        draw.text((left, y), _shorten(f"{number + 1}.  {region.key}", 50), "black", small)
        draw.text((left, y + 18), region.describe(), "#444444", small)
        draw.text((left, y + 36), str(region.verdict), "#444444", small)
        asked = picture.crop(_scale_box(region.box, picture.width / size[0]))
        canvas.paste(ImageOps.contain(asked, CROP), (left, y + 58))
        source = Image.open(io.BytesIO(crop)).convert("RGB")
        canvas.paste(ImageOps.contain(source, CROP), (left + CROP[0] + MARGIN, y + 58))
    return canvas


def _draw_boxes(whole: Image.Image, size: tuple[int, int], regions: Sequence[Region]) -> Image.Image:
    """Draw the regions of a picture, whose own size is `size`, as numbered boxes on it."""
    drawn, number = whole.copy(), ImageFont.load_default(size=20)
    draw = ImageDraw.Draw(drawn)
    for rank, region in enumerate(regions, start=1):
        left, top, right, bottom = _scale_box(region.box, whole.width / size[0])
        draw.rectangle((left, top, right - 1, bottom - 1), outline="white", width=5)
        draw.rectangle((left + 1, top + 1, right - 2, bottom - 2), outline=BOX, width=3)
        draw.text((left + 9, top + 5), str(rank), BOX, number, stroke_width=3, stroke_fill="white")
    return drawn


def _scale_box(box: Box, scale: float) -> Box:
    left, top, right, bottom = (round(edge * scale) for edge in box)
    return left, top, max(right, left + 4), max(bottom, top + 4)


def _count_strong(regions: Sequence[Region]) -> str:
    strong = sum(region.strong for region in regions)
    if strong == 0:
        return say_no_region_is_strong(regions)
    return "1 region of the picture matches strongly." if strong == 1 else f"{strong} regions match strongly."


def _draw_images(answer: AnswerData, heading: str) -> Image.Image:
    """Draw the query, then the best images with their shares, heat maps on both."""
    shown = min(len(answer), SHOWN)
    query = enlarge(answer.shown_query)
    width, height = query.size
    thing = "latent" if answer.latents else "picture"
    top, text = MARGIN + 44, 44
    canvas = Image.new(
        "RGB", (MARGIN + (shown + 1) * (width + MARGIN), top + text + 3 * (height + 12) + MARGIN), "white"
    )
    draw, title, small = ImageDraw.Draw(canvas), ImageFont.load_default(size=20), ImageFont.load_default(size=13)
    draw.text((MARGIN, MARGIN - 4), heading, "black", title)
    if answer.missing:
        lacks = f"This answer is not whole: {answer.missing:,} more images could not be searched."
        draw.text((MARGIN, MARGIN + 20), lacks, "#b00020", small)
    draw.text((MARGIN, top), f"your {thing}", "black", small)
    canvas.paste(query, (MARGIN, top + text))
    for row, label in enumerate((f"where on your {thing}", "where on the image"), start=1):
        draw.text((MARGIN, top + text + row * (height + 12) + height // 2 - 8), label, "#444444", small)
    for rank in range(shown):
        x, y = MARGIN + (rank + 1) * (width + MARGIN), top + text
        draw.text((x, top), f"{rank + 1}.  {format_share(answer.shares[rank])}", "black", small)
        draw.text((x, top + 18), _shorten(answer.keys[rank], width // 7), "#444444", small)
        image = enlarge(answer.shown_image(rank)).resize(query.size)
        canvas.paste(image, (x, y))
        canvas.paste(lay_heat(query, answer.query_map(rank)), (x, y + height + 12))
        canvas.paste(lay_heat(image, answer.train_map(rank)), (x, y + 2 * (height + 12)))
    return canvas


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else "..." + text[-(length - 3) :]
