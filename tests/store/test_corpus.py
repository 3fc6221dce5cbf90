from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import nda_index as nda
from nda_index.sources import ImageBatch
from nda_index.store.corpus import Corpus, append_images, as_rows, table_schema

SHAPE = (3, 4, 5)


def batch(count: int, seed: int) -> ImageBatch:
    images = np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), np.uint8)
    metadata = pa.table({"year": pa.array([1990 + i if i else None for i in range(count)], pa.int64())})
    return ImageBatch(images, [f"{seed}/{i}" for i in range(count)], metadata, [])


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    schema = table_schema(SHAPE, batch(1, 0).metadata.schema)
    append_images(tmp_path, "images", [as_rows(batch(4, 1), 0, schema)])
    table = append_images(tmp_path, "images", [as_rows(batch(3, 2), 4, schema)])
    append_images(tmp_path, "images", [as_rows(batch(2, 3), 7, schema)])  # in a later version
    return Corpus(tmp_path, SHAPE, table)


def test_images_come_back_in_any_order(corpus: Corpus) -> None:
    assert (corpus.count, corpus.metadata_schema.names) == (7, ["year"])
    images = np.concatenate([batch(4, 1).images, batch(3, 2).images])
    np.testing.assert_array_equal(corpus.pixels(np.array([5, 0, 3])), images[[5, 0, 3]])
    keys, metadata = corpus.rows(np.array([5, 0, 3]))
    assert keys == ("2/1", "1/0", "1/3")
    assert metadata["year"].to_pylist() == [1991, None, 1993]
    assert corpus.pixels(np.empty(0, np.int64)).shape == (0, *SHAPE)
    parts = list(corpus.batches(3, 1))
    assert [ids.tolist() for ids, _ in parts] == [[1, 2, 3], [4, 5, 6]]
    np.testing.assert_array_equal(np.concatenate([pixels for _, pixels in parts]), images[1:])


def test_conditions_and_keys_find_images(corpus: Corpus) -> None:
    assert corpus.matching("year >= 1992").tolist() == [2, 3, 6]
    assert corpus.matching("year IS NULL").tolist() == [0, 4]
    assert corpus.matching("key = '2/2'").tolist() == [6]
    assert corpus.with_keys(["2/0", "1/1", "3/0"]).tolist() == [1, 4]
    with pytest.raises(nda.QueryError, match="colour.*on the columns key, year"):
        corpus.matching("colour = 1")


def test_an_image_that_is_not_there_is_damage(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(nda.CorruptIndexError):
        corpus.pixels(np.array([7]))
    with pytest.raises(nda.CorruptIndexError, match="cannot be opened"):
        Corpus(tmp_path / "empty", SHAPE, {"name": "images", "version": 1})
