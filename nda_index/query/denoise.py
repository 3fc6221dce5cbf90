"""The posterior mean: a picture as the collection explains it, and what of the picture the collection does not explain.

It shows what a list of images cannot: whether the images that an answer names suffice to make the picture, and how
little of it changes without them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nda_index.answer.denoised import Denoised
from nda_index.errors import ConfigError, QueryError
from nda_index.exact.means import posterior_mean
from nda_index.images import to_float
from nda_index.progress import Progress
from nda_index.query.attribute import Opened, check_counts
from nda_index.query.gather import Averaged, average, conversing
from nda_index.query.shard import Ask
from nda_index.query.timing import Clock
from nda_index.question import Question
from nda_index.version import __version__


def denoised(
    opened: Opened,
    question: Question,
    query: NDArray[np.uint8],
    without: Sequence[int] | NDArray[np.int64],
    progress: Progress | None,
    decode_seconds: float,
) -> Denoised:
    """The posterior mean of a query uint8 [C, H, W]; `Index.denoise` has the arguments and errors."""
    clock = Clock()
    left_out = _checked_ids(without, int(opened.offsets[-1]))

    def converse() -> Averaged:
        with conversing(opened.shards, Ask(question, query, opened.probes, progress, mean=True)) as conversation:
            return average(
                conversation, opened.offsets, question.candidates or opened.candidates, left_out,
                lambda allowed: check_counts(question, 1, int(allowed.sum())),
            )  # fmt: skip

    result = opened.shards.attempt(converse)
    image, by_scale = posterior_mean(result.sums, opened.scales)
    picture = query.transpose(1, 2, 0)
    settings = question.as_settings()
    del settings["per_image_topk"]
    return Denoised(
        image=image,
        by_scale=by_scale,
        unexplained=np.sqrt(np.square(to_float(picture) - image).mean(axis=2)),
        query=picture,
        averaged=len(result.ids),
        collection=result.asked,
        missing=opened.shards.missing(),
        settings={**settings, "without": left_out.tolist(), "scales": [scale.name for scale in opened.scales]},
        scales=opened.scales,
        index_hash=opened.index_hash,
        version=__version__,
        seconds=clock.including({**result.seconds, "decode": decode_seconds}),
    )


def _checked_ids(image_ids: Sequence[int] | NDArray[np.int64], count: int) -> NDArray[np.int64]:
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
