"""The posterior mean: a picture as the collection explains it, and what of the picture the collection does not explain.

It shows what a list of images cannot: whether the images that an answer names suffice to make the picture, and how
little of it changes without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nda_index.answer.report import form_of, png_bytes, write_replacing
from nda_index.errors import ConfigError, QueryError
from nda_index.exact.maps import to_float
from nda_index.exact.means import explained
from nda_index.indexing.pipeline import Progress
from nda_index.query.attribute import Opened, check_counts
from nda_index.query.gather import Averaged, average, conversing
from nda_index.query.shard import Ask
from nda_index.query.timing import Clock
from nda_index.question import Question
from nda_index.scales import Scale
from nda_index.version import __version__

DENOISED_FORMS = ("png",)  # endings of the files that a mean is saved in


@dataclass(frozen=True, repr=False)
class Denoised:
    """A picture as a collection explains it: what the best possible local denoiser would make of it.

    Attributes:
        image: float32 [H, W, C] in [-1, 1], the posterior mean.
        by_scale: float32 [scales, H, W, C], that of each scale; `image` is their mean by the scales' weights.
        unexplained: float32 [H, W], how far the picture is from `image`: root mean square over channels, in units of
            pixels from -1 to 1.
        query: uint8 [H, W, C], the picture as it was compared: resized and cropped to the index's size.
        averaged: number of images that the posterior runs over.
        collection: number of images that were asked about, those that `without` leaves out among them.
        missing: number of images that could not be asked about, because their shard was lost; 0 on one machine.
        settings: the question's options, as JSON values.
        scales: the index's scales, in the order of `by_scale`.
        index_hash: sha256 of the index's manifest: names the data that was asked.
        version: version of nda_index that answered.
        seconds: time spent, by stage.
    """

    image: NDArray[np.float32]
    by_scale: NDArray[np.float32]
    unexplained: NDArray[np.float32]
    query: NDArray[np.uint8]
    averaged: int
    collection: int
    missing: int
    settings: dict[str, Any]
    scales: tuple[Scale, ...]
    index_hash: str
    version: str
    seconds: dict[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        height, width = self.unexplained.shape
        return f"<Denoised {height} x {width} from {self.averaged:,} images: {self.distance:.3f} away from the picture>"

    @property
    def distance(self) -> float:
        """Root mean square of `unexplained` over the picture."""
        return float(np.sqrt(np.square(self.unexplained, dtype=np.float64).mean()))

    @property
    def picture(self) -> NDArray[np.uint8]:
        """`image` in bytes, uint8 [H, W, C]."""
        return np.asarray(np.rint((self.image + 1) * 127.5).clip(0, 255), np.uint8)

    def to_dict(self) -> dict[str, Any]:
        """Numbers and settings, without pixels, as JSON values."""
        return {
            "distance": self.distance,
            "averaged": self.averaged,
            "collection": self.collection,
            "missing": self.missing,
            "settings": self.settings,
            "index_hash": self.index_hash,
            "version": self.version,
            "seconds": self.seconds,
        }

    def save(self, path: str | PathLike[str]) -> None:
        """Write `picture` as a PNG file.

        Raises:
            ConfigError: the path does not end in .png.
            StorageError: the file cannot be written.
        """
        path, picture = Path(path), self.picture
        form_of(path, DENOISED_FORMS)
        write_replacing(path, png_bytes(Image.fromarray(picture if picture.shape[2] == 3 else picture[..., 0])))


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
    image, by_scale = explained(result.sums, opened.scales)
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
