"""From a query to its posterior mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nda_index.answer.denoised import Denoised
from nda_index.errors import ConfigError, QueryError
from nda_index.exact.means import posterior_mean
from nda_index.exact.views import scales_of
from nda_index.images import to_float
from nda_index.query.conversation import Collection, converse
from nda_index.query.gather import average_images
from nda_index.query.timing import StageTimer
from nda_index.question import Query
from nda_index.version import __version__


def denoise(collection: Collection, query: Query, without: Sequence[int] | NDArray[np.int64]) -> Denoised:
    """Average a query's posterior; `Index.denoise` has the options and errors.

    Args:
        collection: an open index.
        query: a picture with a question; its `top` has no meaning here.
        without: ids of images that take no part.
    """
    timer = StageTimer()
    left_out = _check_ids(without, int(collection.offsets[-1]))
    with timer.stage("decode"):
        prepared = collection.prepare(query, mean=True)
    candidates = query.question.candidates or collection.candidates
    averaged = converse(collection, prepared, lambda conversation: average_images(conversation, candidates, left_out))
    scales = tuple(scales_of(prepared.views))
    image, by_scale = posterior_mean(averaged.pixels, scales)
    picture = query.pixels.transpose(1, 2, 0)
    settings = query.question.as_settings()
    del settings["per_image_topk"]
    return Denoised(
        image=image,
        by_scale=by_scale,
        unexplained=np.sqrt(np.square(to_float(picture) - image).mean(axis=2)),
        query=picture,
        averaged=len(averaged.image_ids),
        collection=averaged.allowed,
        missing=collection.missing(),
        settings={**settings, "without": left_out.tolist(), "scales": [scale.name for scale in scales]},
        scales=scales,
        index_hash=collection.index_hash,
        version=__version__,
        seconds=timer.add({**averaged.seconds, "decode": query.decode_seconds}),
    )


def _check_ids(image_ids: Sequence[int] | NDArray[np.int64], count: int) -> NDArray[np.int64]:
    try:
        ids = np.asarray(image_ids)
    except ValueError:  # rows of different lengths
        ids = np.empty(0, object)[None]
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ConfigError(f"without is {image_ids!r}; it must be ids of images, as `Attribution.image_ids` has them")
    unknown = ids[(ids < 0) | (ids >= count)]
    if len(unknown):
        raise QueryError(f"without holds {unknown[0]}; image ids are from 0 to {count - 1}")
    return ids.astype(np.int64)
