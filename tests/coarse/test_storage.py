from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import nda_index as nda
from nda_index import ConfigError, Scale
from nda_index.coarse.cells import decode
from nda_index.coarse.embedding import fit_embedding
from nda_index.coarse.ivf import Codec, choose_codec, load_faiss, new_index
from nda_index.coarse.storage import (
    read_cells,
    read_codebook,
    read_embedding,
    read_segment,
    write_embedding,
    write_lists,
    write_quantizer,
)


@pytest.mark.parametrize("codec", ["sq8", "pq"])
def test_segments_hold_what_faiss_encoded(tmp_path: Path, codec: Codec) -> None:
    faiss = load_faiss()
    patches = np.random.default_rng(0).normal(size=(5000, 12)).astype(np.float32)
    index = new_index(codec, 12, 32)
    index.train(patches)
    index.add_with_ids(patches, np.arange(5000))
    write_lists(tmp_path / "lists-00000.arrow", index, codec)
    segment = read_segment(tmp_path / "lists-00000.arrow", 12)
    cell = np.repeat(np.arange(32), np.diff(segment.offsets))
    vectors = decode(segment.codes, index.quantizer.reconstruct_n(0, 32)[cell], read_codebook(index, codec))
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    expected = np.stack([index.reconstruct(int(i)) for i in segment.image_ids])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert sorted(segment.image_ids.tolist()) == list(range(5000))
    for c in range(32):
        np.testing.assert_allclose(segment.means[c], vectors[cell == c].mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(segment.variances[c], vectors[cell == c].var(axis=0), atol=1e-5)


def test_segments_together_have_the_moments_of_all_members(index: nda.Index, tmp_path: Path) -> None:
    patches = np.random.default_rng(0).normal(size=(3000, 12)).astype(np.float32)
    scale = Scale(4, 2)
    write_embedding(tmp_path, fit_embedding(np.zeros((1, 3, 10, 10), np.uint8), scale, dimensions=12))
    faiss_index = new_index("sq8", 12, 8)
    faiss_index.train(patches)
    write_quantizer(tmp_path, faiss_index, "sq8")
    for number, part in enumerate(np.split(np.arange(3000), [1000])):
        faiss_index.add_with_ids(patches[part], part)
        write_lists(tmp_path / f"lists-{number:05d}.arrow", faiss_index, "sq8")
        faiss_index.reset()
    cells = read_cells(tmp_path, scale, 2, ["lists-00000.arrow", "lists-00001.arrow"])
    assert cells.census.counts.sum() == 3000
    members = [
        decode(s.codes, cells.centroids[np.repeat(np.arange(8), np.diff(s.offsets))], cells.codebook)
        for s in cells.segments
    ]
    cell = np.concatenate([np.repeat(np.arange(8), np.diff(s.offsets)) for s in cells.segments])
    for c in range(8):
        mine = np.concatenate(members)[cell == c]
        np.testing.assert_allclose(cells.census.means[c], mine.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(cells.census.variances[c], mine.var(axis=0), atol=1e-5)


def test_files_of_different_builds_are_refused(index: nda.Index, index_folder: Path, tmp_path: Path) -> None:
    first, second = (index_folder / "scales" / scale.name for scale in index.scales)
    for name in ("lists-00000.arrow", "embedding.arrow"):
        mixed = tmp_path / name.split(".")[0]
        shutil.copytree(first, mixed)
        write_embedding(mixed, fit_embedding(np.zeros((1, 3, 24, 20), np.uint8), index.scales[0], dimensions=9))
        if name == "lists-00000.arrow":
            shutil.copy(first / "embedding.arrow", mixed)
            small = new_index("sq8", 28, 1)
            small.train(np.random.default_rng(0).normal(size=(300, 28)).astype(np.float32))
            write_lists(mixed / name, small, "sq8")
        with pytest.raises(nda.MismatchError, match="of different builds"):
            read_cells(mixed, index.scales[0], 2, ["lists-00000.arrow"])
    assert second.exists()


def test_an_embedding_is_read_as_it_was_written(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 10, 10), np.uint8)
    embedding = fit_embedding(images, Scale(4, 2), dimensions=9)
    write_embedding(tmp_path, embedding)
    again = read_embedding(tmp_path, Scale(4, 2))
    np.testing.assert_array_equal(again.directions, embedding.directions)


def test_the_most_precise_codec_that_fits_is_chosen() -> None:
    sizes = {"sq8": 28 + 4, "pq": 14 + 4}
    for codec, size in sizes.items():
        assert choose_codec(1000, 28, memory=1000 * size).codec == codec
    with pytest.raises(ConfigError, match="allow more memory"):
        choose_codec(1000, 28, memory=1000 * sizes["pq"] - 1)
