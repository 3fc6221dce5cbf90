"""The pictures of responses: images of the index, queries and maps of answers, as PNG."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nda_index.answer.attribution import Attribution
from nda_index.answer.heat import enlarge, heat_layer
from nda_index.images import encode_png
from nda_index.index import Index
from nda_index.serve.refusal import Refusal


def read_pixels(index: Index, image_id: int) -> NDArray[np.uint8]:
    """Return an image of the index, uint8 [H, W, C].

    Raises:
        Refusal: the index has no image of this id.
    """
    place = np.searchsorted(index.image_ids, image_id)
    if place == len(index.image_ids) or index.image_ids[place] != image_id:
        raise Refusal(404, "image_id", f"there is no image {image_id} in the index; take an id from one of its answers")
    return np.asarray(index.pixels(np.array([image_id], np.int64))[0].transpose(1, 2, 0))


def render_pixels(pixels: NDArray[np.uint8], side: int | None) -> bytes:
    """Return pixels uint8 [H, W, C] as PNG, resized to the shorter side `side` if that is given."""
    return encode_png(enlarge(pixels, side or min(pixels.shape[:2])))


def render_map(answer: Attribution, rank: int, which: str, scale: str | None, side: int | None) -> bytes:
    """Return a heat map as a transparent PNG layer.

    Args:
        answer: the answer.
        rank: from 0.
        which: "query" or "train".
        scale: name of a scale, or None for all together.
        side: shorter side in pixels; by default as in the report.

    Raises:
        QueryError: there is no such rank or scale.
    """
    heat = answer.query_map(rank, scale) if which == "query" else answer.train_map(rank, scale)
    size = enlarge(answer.query, side).size if side else enlarge(answer.query).size
    return encode_png(heat_layer(heat, size))
