"""An answer as a page for a person, in one file that asks nothing of any other machine."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from nda_index.answer.data import AnswerData, format_share
from nda_index.answer.denoised import Denoised
from nda_index.answer.heat import enlarge, heat_layer, lay_heat
from nda_index.answer.region import format_box
from nda_index.images import encode_png
from nda_index.recipe import RECIPES
from nda_index.trust.verdict import FEWEST

COLUMNS = 6  # metadata columns that the page shows unfolded
UNEXPLAINED = 0.5  # difference of pixels from -1 to 1 at which the map of what is left over is brightest

_TEMPLATES = jinja2.Environment(loader=jinja2.PackageLoader("nda_index.answer", "."), autoescape=True, trim_blocks=True)


def as_html(answer: AnswerData, explained: Sequence[Denoised] = ()) -> bytes:
    """Write a page in one file, with pictures as the collection explains them."""
    script = (Path(__file__).parent / "report.js").read_text()
    query = enlarge(answer.shown_query)
    matches = [
        {
            "rank": rank + 1,
            "key": answer.keys[rank],
            "image_id": int(answer.image_ids[rank]),
            "share": float(answer.shares[rank]),
            "percent": format_share(float(answer.shares[rank])),
            "score": float(answer.scores[rank]),
            "verdict": None if np.isnan(answer.percentiles[rank]) else answer.verdict(rank),
            "copies": int((answer.groups == answer.groups[rank]).sum()) - 1,
            "group_percent": format_share(float(answer.group_shares[rank])),
            "image": _data_uri(enlarge(answer.shown_image(rank)).resize(query.size)),
            "query_heat": _data_uri(heat_layer(answer.query_map(rank), query.size)),
            "train_heat": _data_uri(heat_layer(answer.train_map(rank), query.size)),
            "metadata": _known_values(answer.metadata, rank),
        }
        for rank in range(len(answer))
    ]
    means = [
        {
            "image": _data_uri(enlarge(each.image.astype(np.float16) if each.latents else each.picture)),
            "left_over": _data_uri(lay_heat(each.query, each.unexplained, UNEXPLAINED)),
            "distance": each.distance,
            "averaged": each.averaged,
            "without": _name_left_out(each.settings["without"], answer.image_ids),
        }
        for each in explained
    ]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _TEMPLATES.get_template("report.html").render(
        answer=answer, matches=matches, means=means, query=_data_uri(query), script=script, script_hash=digest,
        shown_columns=COLUMNS, looked_for=describe_recipe(answer.settings), regions=_show_regions(answer),
        picture=_jpeg_uri(answer.picture), fewest=FEWEST,
    )  # fmt: skip
    return page.encode()


def _show_regions(answer: AnswerData) -> list[dict[str, Any]]:
    """Return the leading regions as the page shows them."""
    return [
        {
            "region": region,
            "crop": _jpeg_uri(crop),
            "link": Path(region.path).as_uri() if region.path else None,
            "where": format_box(region.box),
            "source": format_box(region.source_box),
            "size": (region.box[2] - region.box[0], region.box[3] - region.box[1]),
        }
        for region, crop in zip(answer.leading_regions, answer.crops, strict=True)
    ]


def _jpeg_uri(data: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def describe_recipe(settings: Mapping[str, Any]) -> str:
    """Say in a sentence what an answer's recipe looks for; empty where it has timesteps.

    Example:
        >>> describe_recipe({"recipe": "3@100", "recipe_name": None})
        'It was compared by the recipe 3@100.'
    """
    named = RECIPES.get(settings.get("recipe_name") or "")
    if named is not None:
        return named.summary
    return f"It was compared by the recipe {settings['recipe']}." if "recipe" in settings else ""


def _name_left_out(image_ids: Sequence[int], answered: NDArray[np.int64]) -> str:
    if set(image_ids) == set(answered.tolist()):
        return "Without the image above" if len(image_ids) == 1 else f"Without the {len(image_ids)} images above"
    return "" if not image_ids else "Without 1 image" if len(image_ids) == 1 else f"Without {len(image_ids)} images"


def _known_values(metadata: pa.Table, row: int) -> list[tuple[str, Any]]:
    values = ((name, metadata[name][row].as_py()) for name in metadata.column_names)
    return [(name, value) for name, value in values if value is not None]


def _data_uri(image: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode()
