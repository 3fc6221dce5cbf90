from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import nda_index as nda
from nda_index import ConfigError, Scale
from nda_index.coarse.cells import decode
from nda_index.coarse.embedding import fit_embedding
from nda_index.coarse.ivf import choose_codec
from nda_index.coarse.storage import (
    read_cells,
    read_embedding,
    write_embedding,
)
from nda_index.coarse.trainer import train_encoder, write_encoder


def test_segments_together_have_the_moments_of_all_members(index: nda.Index, tmp_path: Path) -> None:
    patches = np.random.default_rng(0).normal(size=(3000, 12)).astype(np.float32)
    scale = Scale(4, 2)
    write_embedding(tmp_path, fit_embedding(np.zeros((1, 3, 10, 10), np.uint8), scale, dimensions=12))
    encoder = train_encoder(patches, "sq8", 8)
    write_encoder(tmp_path, encoder)
    for number, part in enumerate(np.split(np.arange(3000), [1000])):
        encoder.add(patches[part], part)
        encoder.write(tmp_path / f"lists-{number:05d}.arrow")
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
            small = train_encoder(np.random.default_rng(0).normal(size=(300, 28)).astype(np.float32), "sq8", 1)
            small.write(mixed / name)
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
