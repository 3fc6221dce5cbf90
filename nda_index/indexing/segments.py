"""From images to the files of a scale: an embedding and cells, trained once, and segments of encoded patches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nda_index.coarse import ivf, storage
from nda_index.coarse.embedding import count_positions, embed, fit_embedding
from nda_index.indexing.plan import EMBEDDED_DIMENSIONS, READ_BATCH, ScalePlan
from nda_index.scales import Scale
from nda_index.store.corpus import Corpus
from nda_index.store.files import writing

FIT_PATCHES = 200_000
SEED = 0


class Images(Protocol):
    """Images [C, H, W] that can be sampled, wherever they lie."""

    count: int
    shape: tuple[int, int, int]

    def pixels(self, image_ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels of some, uint8 [n, C, H, W]."""


def train_scale(folder: Path, corpus: Images, plan: ScalePlan) -> None:
    """Fit the embedding and train the cells of a scale on a random sample of the images, and write both.

    Args:
        folder: of the scale; it is made.
        corpus: the images.
        plan: how patches are taken and kept.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    fit_images = -(-FIT_PATCHES // count_positions(plan.scale, *corpus.shape[1:], 1))
    embedding = fit_embedding(_sample(corpus, fit_images), plan.scale, EMBEDDED_DIMENSIONS)
    lists = ivf.list_count(corpus.count * plan.per_image)
    index = ivf.new_index(plan.codec.codec, embedding.dimensions, lists)
    train_images = -(-max(256, ivf.POINTS_PER_LIST * lists) // plan.per_image)
    patches = embed(embedding, _sample(corpus, train_images), plan.stride)  # [n, P, d]
    index.train(patches.reshape(-1, embedding.dimensions))
    storage.write_embedding(folder, embedding)
    storage.write_quantizer(folder, index, plan.codec.codec)


def encode_segment(
    path: Path,
    trained: Any,
    corpus: Corpus,
    scale: Scale,
    stride: int,
    images: range,
    report: Callable[[int], None],
) -> None:
    """Write the patches of a range of images as one segment.

    Args:
        path: of the segment, in the scale's folder.
        trained: from `storage.load_trained`; it is left empty.
        corpus: the images.
        scale: the scale.
        stride: every how many pixels a patch is taken.
        images: ids.
        report: is called with the number of images done.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    embedding = storage.read_embedding(path.parent, scale)
    for image_ids, pixels in corpus.batches(READ_BATCH, images.start, images.stop):
        patches = embed(embedding, pixels, stride)  # [n, P, d]
        trained.add_with_ids(patches.reshape(-1, embedding.dimensions), np.repeat(image_ids, patches.shape[1]))
        report(int(image_ids[-1]) + 1 - images.start)
    storage.write_lists(path, trained, "sq8" if hasattr(trained, "sq") else "pq")
    trained.reset()


def segment_name(scale: Scale, number: int) -> str:
    """Path of a segment in its index."""
    return f"scales/{scale.name}/lists-{number:05d}.arrow"


def segment_names(files: Iterable[str], scale: Scale) -> list[str]:
    """Names of a scale's segments, in its folder, among the files of an index; in order."""
    prefix = segment_name(scale, 0).rpartition("-")[0]
    return sorted(name.rpartition("/")[2] for name in files if name.startswith(prefix))


def _sample(corpus: Images, count: int) -> NDArray[np.uint8]:
    chosen = np.random.default_rng(SEED).choice(corpus.count, min(count, corpus.count), replace=False)
    return corpus.pixels(np.sort(chosen))
