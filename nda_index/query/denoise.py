"""From a query to its posterior mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nda_index.answer.denoised import Denoised
from nda_index.exact.means import posterior_mean
from nda_index.exact.views import scales_of
from nda_index.images import to_float
from nda_index.query.conversation import Collection, converse
from nda_index.query.gather import average_images
from nda_index.query.timing import StageTimer
from nda_index.question import Query
from nda_index.store.names import check_ids
from nda_index.version import __version__


def denoise(collection: Collection, query: Query, without: Sequence[int] | NDArray[np.int64]) -> Denoised:
    """Average a query's posterior; `Index.denoise` has the options and errors.

    Args:
        collection: an open index.
        query: a picture with a question; its `top` has no meaning here.
        without: ids of images that take no part.
    """
    timer = StageTimer()
    left_out = check_ids("without", without, np.ones(collection.offsets[-1], np.bool_))
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
