from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nda_index import Scale
from nda_index.coarse.assignment import assign
from nda_index.coarse.block_encoder import BlockEncoder
from nda_index.coarse.blocks import BlockRunner
from nda_index.coarse.cells import Segment
from nda_index.coarse.embedding import Embedding, embed, fit_embedding
from nda_index.coarse.ivf import Codec
from nda_index.coarse.storage import read_quantizer, read_segment
from nda_index.coarse.trainer import read_encoder, train_encoder, write_encoder

DEVICE = torch.device("cpu:0")  # the CPU, as a device that is not it


@pytest.fixture(scope="module")
def images(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pictures = pictures[:100].copy()
    pictures[:20] = 255  # windows that are the same
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def trained(folder: Path, images: NDArray[np.uint8], codec: Codec) -> tuple[Embedding, Segment]:
    """Cells in a folder, and what FAISS makes of the images."""
    embedding = fit_embedding(images, Scale(8, 2), 10)
    patches = embed(embedding, images, 3)  # [N, P, d]
    write_encoder(folder, train_encoder(patches.reshape(-1, 10), codec, 32))
    encoder = read_encoder(folder)
    encoder.add(patches.reshape(-1, 10), np.repeat(np.arange(len(images)), patches.shape[1]))
    return embedding, encoder.segment()


@pytest.mark.parametrize("codec", ["sq8", "pq"])
def test_a_device_makes_the_segments_that_faiss_makes(tmp_path: Path, images: NDArray[np.uint8], codec: Codec) -> None:
    embedding, theirs = trained(tmp_path, images, codec)
    centroids, _, codebook = read_quantizer(tmp_path)
    runner, tries = BlockRunner(DEVICE), list[int]()

    def find(patches: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
        tries.append(len(patches))
        if len(patches) > 20 * 56:
            raise torch.cuda.OutOfMemoryError
        return assign(patches, centroids)

    encoder = BlockEncoder(embedding, 3, centroids, codebook, runner, find)
    assert encoder.code_size == theirs.codes.shape[1]
    for start in (0, 70):
        encoder.add_images(images[start : start + 70], np.arange(start, min(start + 70, 100)))
    encoder.write(tmp_path / "lists-00000.arrow")
    ours = read_segment(tmp_path / "lists-00000.arrow", 10)
    assert [size // 56 for size in tries] == [70, 35, 17, 17, 17, 17, 2, 17, 13]
    assert (runner.halved, runner.on_cpu) == (2, 0)
    np.testing.assert_array_equal(ours.offsets, theirs.offsets)
    np.testing.assert_array_equal(ours.image_ids, theirs.image_ids)
    assert (ours.codes != theirs.codes).mean() < 1e-4
    np.testing.assert_allclose(ours.means, theirs.means, atol=1e-4)
    np.testing.assert_allclose(ours.variances, theirs.variances, atol=1e-4)
    encoder.add_images(images[:1], np.array([7]))  # a written encoder is empty
    assert encoder.segment().image_ids.tolist() == [7] * 56


def test_latents_are_encoded_too(tmp_path: Path) -> None:
    latents = np.random.default_rng(0).normal(size=(40, 4, 12, 12)).astype(np.float16)
    embedding = fit_embedding(latents, Scale(3), 12)
    patches = embed(embedding, latents, 2).reshape(-1, 12)
    write_encoder(tmp_path, train_encoder(patches, "sq8", 8))
    centroids, _, codebook = read_quantizer(tmp_path)
    encoder = BlockEncoder(embedding, 2, centroids, codebook, BlockRunner(DEVICE))
    encoder.add_images(latents, np.arange(40))
    theirs = read_encoder(tmp_path)
    theirs.add(patches, np.repeat(np.arange(40), 36))
    np.testing.assert_array_equal(encoder.segment().image_ids, theirs.segment().image_ids)
