from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nda_index import ConfigError, Scale
from nda_index.coarse.ivf import Codec, choose_codec, new_index
from nda_index.coarse.storage import (
    read_embedding,
    read_lists,
    read_quantizer,
    write_embedding,
    write_lists,
    write_quantizer,
)
from nda_index.embedding import fit_embedding


@pytest.mark.parametrize("codec", ["flat", "sq8", "pq"])
def test_an_index_rebuilt_from_its_files_answers_identically(tmp_path: Path, codec: Codec) -> None:
    rng = np.random.default_rng(0)
    patches, queries = (rng.normal(size=(n, 12)).astype(np.float32) for n in (5000, 40))
    index = new_index(codec, 12, 32)
    index.train(patches)
    write_quantizer(tmp_path, index, codec)
    for number, part in enumerate(np.split(np.arange(5000), 2)):  # two segments
        index.add_with_ids(patches[part], part)
        write_lists(tmp_path / f"lists-{number}.arrow", index)
        index.reset()
    index.add_with_ids(patches, np.arange(5000))
    rebuilt = read_quantizer(tmp_path)
    for number in range(2):
        read_lists(tmp_path / f"lists-{number}.arrow", rebuilt)
    assert rebuilt.ntotal == 5000
    index.nprobe = rebuilt.nprobe = 5
    expected, found = index.search(queries, 50), rebuilt.search(queries, 50)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(np.sort(found[1]), np.sort(expected[1]))


def test_an_embedding_is_read_as_it_was_written(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 10, 10), np.uint8)
    embedding = fit_embedding(images, Scale(4, 2), dimensions=9)
    write_embedding(tmp_path, embedding)
    again = read_embedding(tmp_path, Scale(4, 2))
    np.testing.assert_array_equal(again.directions, embedding.directions)


def test_the_most_precise_codec_that_fits_is_chosen() -> None:
    sizes = {"flat": 28 * 4 + 8, "sq8": 28 + 8, "pq": 14 + 8}
    for codec, size in sizes.items():
        assert choose_codec(1000, 28, memory=1000 * size).codec == codec
    with pytest.raises(ConfigError, match="allow more memory"):
        choose_codec(1000, 28, memory=1000 * sizes["pq"] - 1)
