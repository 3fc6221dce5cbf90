"""From images to the files of a scale: an embedding and cells, trained once, and segments of encoded patches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from nda_index.coarse.embedding import count_positions, embed, fit_embedding
from nda_index.coarse.ivf import POINTS_PER_LIST, list_count
from nda_index.coarse.storage import read_embedding, write_embedding
from nda_index.coarse.trainer import Encoder, train_encoder, write_encoder
from nda_index.images import Pixels
from nda_index.indexing import plan as plans
from nda_index.indexing.plan import EMBEDDED_DIMENSIONS, ScalePlan
from nda_index.scales import Scale
from nda_index.store.corpus import Corpus, Images
from nda_index.store.files import writing

FIT_PATCHES = 200_000  # that the principal directions are fitted on: more change them little
FEWEST_TRAINED = 256  # patches: product quantisation has 256 codes to train
SEED = 0


def train_scale(folder: Path, images: Images, plan: ScalePlan) -> None:
    """Fit the embedding and train the cells of a scale on a random sample of the images, and write both.

    Args:
        folder: of the scale; it is made.
        images: the collection.
        plan: how patches are taken and kept.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    fit_images = -(-FIT_PATCHES // count_positions(plan.scale, *images.shape[1:], 1))
    embedding = fit_embedding(_sample(images, fit_images), plan.scale, EMBEDDED_DIMENSIONS)
    lists = list_count(images.count * plan.per_image)
    train_images = -(-max(FEWEST_TRAINED, POINTS_PER_LIST * lists) // plan.per_image)
    patches = embed(embedding, _sample(images, train_images), plan.stride)  # [n, P, d]
    encoder = train_encoder(patches.reshape(-1, embedding.dimensions), plan.codec.codec, lists)
    write_embedding(folder, embedding)
    write_encoder(folder, encoder)


def encode_segment(
    path: Path,
    encoder: Encoder,
    corpus: Corpus,
    scale: Scale,
    stride: int,
    images: range,
    report: Callable[[int], None],
) -> None:
    """Write the patches of a range of images as one segment.

    Args:
        path: of the segment, in the scale's folder.
        encoder: of the scale; it is left empty.
        corpus: the images.
        scale: the scale.
        stride: every how many pixels a patch is taken.
        images: ids.
        report: is called with the number of images done.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    embedding = read_embedding(path.parent, scale)
    for image_ids, pixels in corpus.batches(plans.READ_BATCH, images.start, images.stop):
        patches = embed(embedding, pixels, stride)  # [n, P, d]
        encoder.add(patches.reshape(-1, embedding.dimensions), np.repeat(image_ids, patches.shape[1]))
        report(int(image_ids[-1]) + 1 - images.start)
    encoder.write(path)


def _sample(images: Images, count: int) -> Pixels:
    chosen = np.random.default_rng(SEED).choice(images.count, min(count, images.count), replace=False)
    return images.pixels(np.sort(chosen))
