"""From images to the files of a scale: an embedding and cells, trained once, and segments of encoded patches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nda_index.coarse.block_encoder import BlockEncoder, ImageEncoder
from nda_index.coarse.blocks import BlockRunner
from nda_index.coarse.embedding import Embedding, count_positions, embed, fit_embedding
from nda_index.coarse.ivf import POINTS_PER_LIST, list_count
from nda_index.coarse.storage import read_embedding, read_quantizer, write_embedding
from nda_index.coarse.trainer import Encoder, faiss_has_gpu, find_assigner, read_encoder, train_encoder, write_encoder
from nda_index.device import CPU
from nda_index.images import Pixels
from nda_index.indexing import plan as plans
from nda_index.indexing.ahead import read_ahead
from nda_index.indexing.plan import EMBEDDED_DIMENSIONS, ScalePlan
from nda_index.scales import Scale
from nda_index.store.corpus import Corpus, Images
from nda_index.store.files import writing

FIT_PATCHES = 200_000  # that the principal directions are fitted on: more change them little
FEWEST_TRAINED = 256  # patches: product quantisation has 256 codes to train
SEED = 0


class FaissImages:
    """Encodes the patches of images on the CPU, by FAISS."""

    def __init__(self, embedding: Embedding, stride: int, encoder: Encoder) -> None:
        """Take the embedding of a scale, every how many pixels a patch is taken, and what encodes patches."""
        self._embedding, self._stride, self._encoder = embedding, stride, encoder

    @property
    def code_size(self) -> int:
        """Bytes of a coded patch."""
        return self._encoder.code_size

    def add_images(self, images: Pixels, image_ids: NDArray[np.int64]) -> None:
        """Encode the patches of images, uint8 or float16 [n, C, H, W]."""
        patches = embed(self._embedding, images, self._stride)  # [n, P, d]
        self._encoder.add(patches.reshape(-1, patches.shape[2]), np.repeat(image_ids, patches.shape[1]))

    def write(self, path: Path) -> None:
        """Write what was encoded as one segment, and start over."""
        self._encoder.write(path)


def open_encoder(folder: Path, scale: Scale, stride: int, runner: BlockRunner) -> ImageEncoder:
    """Open what encodes images of a scale on the device of a build.

    Args:
        folder: of the scale, with what `train_scale` wrote.
        scale: the scale.
        stride: every how many pixels a patch is taken.
        runner: has the device.

    Raises:
        CorruptIndexError: what was trained cannot be read.
    """
    embedding = read_embedding(folder, scale)
    if runner.device == CPU:
        return FaissImages(embedding, stride, read_encoder(folder))
    centroids, _, codebook = read_quantizer(folder)
    return BlockEncoder(embedding, stride, centroids, codebook, runner, find_assigner())


def describe_engine(device: torch.device) -> str:
    """Say what a build computes on."""
    if device.type == "cpu":
        return "cpu"
    by = "faiss-gpu" if faiss_has_gpu() else "torch; FAISS has no GPU support here, and trains the cells on the CPU"
    return f"cuda ({torch.cuda.get_device_name(device)}), cells by {by}"


def train_scale(folder: Path, images: Images, plan: ScalePlan, runner: BlockRunner) -> None:
    """Fit the embedding and train the cells of a scale on a random sample of the images, and write both.

    The sample is embedded on the CPU, so that where FAISS trains there, cells do not depend on the device.

    Args:
        folder: of the scale; it is made.
        images: the collection.
        plan: how patches are taken and kept.
        runner: has the device.

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
    flat = patches.reshape(-1, embedding.dimensions)  # [n P, d]
    encoder = runner.run_whole(lambda device: train_encoder(flat, plan.codec.codec, lists, gpu=device.type == "cuda"))
    write_embedding(folder, embedding)
    write_encoder(folder, encoder)


def encode_segment(
    path: Path, encoder: ImageEncoder, corpus: Corpus, images: range, report: Callable[[int], None]
) -> None:
    """Write the patches of a range of images as one segment; a thread reads images while others are encoded.

    Args:
        path: of the segment, in the scale's folder.
        encoder: of the scale; it is left empty.
        corpus: the images.
        images: ids.
        report: is called with the number of images done.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    with closing(read_ahead(corpus.batches(plans.READ_BATCH, images.start, images.stop))) as batches:
        for image_ids, pixels in batches:
            encoder.add_images(pixels, image_ids)
            report(int(image_ids[-1]) + 1 - images.start)
    encoder.write(path)


def _sample(images: Images, count: int) -> Pixels:
    chosen = np.random.default_rng(SEED).choice(images.count, min(count, images.count), replace=False)
    return images.pixels(np.sort(chosen))
