"""An answer written down: as a page for a person, as one picture, as JSON and as a table."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from nda_index.answer.arrow import answer_bytes
from nda_index.errors import ConfigError
from nda_index.images import encode_png

if TYPE_CHECKING:
    from nda_index.answer.attribution import Attribution
    from nda_index.answer.denoised import Denoised

SIDE = 176  # pixels of a picture's shorter side in the report
SHOWN = 8  # images in the picture form
COLUMNS = 6  # metadata columns that the page shows unfolded
MARGIN = 24
UNEXPLAINED = 0.5  # difference of pixels from -1 to 1 at which the map of what is left over is brightest
STOPS = (0.0, 0.35, 0.65, 0.85, 1.0)
RAMP = ((66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))  # inferno, at STOPS

_TEMPLATES = jinja2.Environment(loader=jinja2.PackageLoader("nda_index.answer", "."), autoescape=True, trim_blocks=True)


def heat_layer(heat: NDArray[np.float32], size: tuple[int, int], highest: float | None = None) -> Image.Image:
    """A heat map as a transparent layer, from clear (nothing) to bright (most of it).

    Args:
        heat: float32 [H, W], 0 or more.
        size: (width, height) of the layer.
        highest: heat that is brightest, and all above it; the map's own highest by default.

    Returns:
        RGBA image.

    Example:
        >>> heat_layer(np.zeros((4, 6), np.float32), (60, 40)).size
        (60, 40)
    """
    highest = float(heat.max(initial=0.0)) if highest is None else highest
    relative = np.minimum(heat / highest, 1) if highest > 0 else np.zeros_like(heat)
    grey = Image.fromarray((relative * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    smooth = np.asarray(grey.filter(ImageFilter.GaussianBlur(size[0] / heat.shape[1] / 3))) / 255
    layer = [np.interp(smooth, STOPS, colours) for colours in zip(*RAMP, strict=True)]
    return Image.fromarray(np.stack([*layer, 235 * np.sqrt(smooth)], axis=2).astype(np.uint8), "RGBA")


def enlarged(image: NDArray[np.uint8], side: int = SIDE) -> Image.Image:
    """An image uint8 [H, W, C] in RGB, resized so that its shorter side has `side` pixels."""
    picture = Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).convert("RGB")
    factor = side / min(picture.size)
    return picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC)


def with_heat(image: NDArray[np.uint8], heat: NDArray[np.float32], highest: float | None = None) -> Image.Image:
    """An image in muted grey under its heat map."""
    picture = enlarged(image)
    muted = picture.convert("L").point([value // 2 + 20 for value in range(256)]).convert("RGBA")
    return Image.alpha_composite(muted, heat_layer(heat, picture.size, highest)).convert("RGB")


def percent(share: float) -> str:
    """A share as people read it.

    Example:
        >>> percent(0.4123), percent(0.0001)
        ('41.2%', 'under 0.1%')
    """
    return f"{share:.1%}" if share >= 0.001 or share == 0 else "under 0.1%"


def as_html(answer: Attribution, explained: Sequence[Denoised] = ()) -> bytes:
    """A page in one file, without any request to elsewhere, with pictures as the collection explains them."""
    script = (Path(__file__).parent / "report.js").read_text()
    query = enlarged(answer.query)
    matches = [
        {
            "rank": rank + 1,
            "key": answer.keys[rank],
            "image_id": int(answer.image_ids[rank]),
            "share": float(answer.shares[rank]),
            "percent": percent(float(answer.shares[rank])),
            "score": float(answer.scores[rank]),
            "verdict": None if np.isnan(answer.percentiles[rank]) else answer.verdict(rank),
            "copies": int((answer.groups == answer.groups[rank]).sum()) - 1,
            "group_percent": percent(float(answer.group_shares[rank])),
            "image": _data_uri(enlarged(answer.images[rank])),
            "query_heat": _data_uri(heat_layer(answer.query_map(rank), query.size)),
            "train_heat": _data_uri(heat_layer(answer.train_map(rank), query.size)),
            "metadata": _known_values(answer.metadata, rank),
        }
        for rank in range(len(answer))
    ]
    means = [
        {
            "image": _data_uri(enlarged(each.picture)),
            "left_over": _data_uri(with_heat(each.query, each.unexplained, UNEXPLAINED)),
            "distance": each.distance,
            "averaged": each.averaged,
            "without": _left_out(each.settings["without"], answer.image_ids),
        }
        for each in explained
    ]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _TEMPLATES.get_template("report.html").render(
        answer=answer, matches=matches, means=means, query=_data_uri(query), script=script, script_hash=digest,
        shown_columns=COLUMNS,
    )  # fmt: skip
    return page.encode()


def as_png(answer: Attribution) -> bytes:
    """One picture: the query, then the best images with their shares, heat maps on both."""
    shown = min(len(answer), SHOWN)
    query = enlarged(answer.query)
    width, height = query.size
    top, text = MARGIN + 44, 44
    canvas = Image.new(
        "RGB", (MARGIN + (shown + 1) * (width + MARGIN), top + text + 3 * (height + 12) + MARGIN), "white"
    )
    draw, title, small = ImageDraw.Draw(canvas), ImageFont.load_default(size=20), ImageFont.load_default(size=13)
    draw.text((MARGIN, MARGIN - 4), "Where this picture comes from", "black", title)
    if answer.missing:
        lacks = f"This answer is not whole: {answer.missing:,} more images could not be asked."
        draw.text((MARGIN, MARGIN + 20), lacks, "#b00020", small)
    draw.text((MARGIN, top), "your picture", "black", small)
    canvas.paste(query, (MARGIN, top + text))
    for row, label in enumerate(("where on your picture", "where on the image"), start=1):
        draw.text((MARGIN, top + text + row * (height + 12) + height // 2 - 8), label, "#444444", small)
    for rank in range(shown):
        x, y = MARGIN + (rank + 1) * (width + MARGIN), top + text
        draw.text((x, top), f"{rank + 1}.  {percent(answer.shares[rank])}", "black", small)
        draw.text((x, top + 18), _shortened(answer.keys[rank], width // 7), "#444444", small)
        canvas.paste(enlarged(answer.images[rank]), (x, y))
        canvas.paste(with_heat(answer.query, answer.query_map(rank)), (x, y + height + 12))
        canvas.paste(with_heat(answer.images[rank], answer.train_map(rank)), (x, y + 2 * (height + 12)))
    return encode_png(canvas)


def as_json(answer: Attribution) -> bytes:
    """All numbers and settings, without pixels."""
    return (strict_json(answer.to_dict()) + "\n").encode()


def strict_json(values: dict[str, Any], indent: int | None = 1) -> str:
    """JSON that any parser reads: dates become text, and NaN, which metadata may hold, null.

    Example:
        >>> strict_json({"a": float("nan")})
        '{\\n "a": null\\n}'
    """
    return json.dumps(json.loads(json.dumps(values, default=str), parse_constant=lambda _: None), indent=indent)


def as_parquet(answer: Attribution) -> bytes:
    """The table of images; index hash, version and settings stand in the file's metadata."""
    facts = {"index_hash": answer.index_hash, "version": answer.version, "settings": json.dumps(answer.settings)}
    table = answer.to_table()
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({f"nda_index.{name}": value for name, value in facts.items()}), buffer)
    return buffer.getvalue()


FORMS: dict[str, Callable[[Any], bytes]] = {
    "arrow": answer_bytes,
    "html": as_html,
    "json": as_json,
    "parquet": as_parquet,
    "png": as_png,
}


def form_of(path: Path, forms: Collection[str] = FORMS.keys()) -> str:
    """The form that a file's name asks for, one of these.

    Raises:
        ConfigError: it ends in none of them.

    Example:
        >>> form_of(Path("answer.HTML"))
        'html'
    """
    form = path.suffix.lower().removeprefix(".")
    if form not in forms:
        endings = ", ".join(f".{name}" for name in sorted(forms))
        raise ConfigError(f"cannot save as {path.name!r}: the name must end in {endings}")
    return form


def _left_out(image_ids: Sequence[int], answered: NDArray[np.int64]) -> str:
    if set(image_ids) == set(answered.tolist()):
        return "Without the image above" if len(image_ids) == 1 else f"Without the {len(image_ids)} images above"
    return "" if not image_ids else "Without 1 image" if len(image_ids) == 1 else f"Without {len(image_ids)} images"


def _known_values(metadata: pa.Table, row: int) -> list[tuple[str, Any]]:
    values = ((name, metadata[name][row].as_py()) for name in metadata.column_names)
    return [(name, value) for name, value in values if value is not None]


def _data_uri(image: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode()


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else "..." + text[-(length - 3) :]
