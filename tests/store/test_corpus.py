from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import nda_index as nda
from nda_index.sources import ImageBatch
from nda_index.store.corpus import PICTURE, Corpus, append_images, as_rows, table_schema

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
    assert corpus.matching("year > 1991 AND year <= 1992 OR key LIKE '2/%' AND NOT year = 1992").tolist() == [2, 5, 6]
    with pytest.raises(nda.QueryError, match="';"):
        corpus.matching("year > 1990; year < 1992")
    assert corpus.with_keys(["2/0", "1/1", "3/0"]).tolist() == [1, 4]
    with pytest.raises(nda.QueryError, match="'colour' is not a column; the columns are key, year"):
        corpus.matching("colour = 1")


def test_an_image_that_is_not_there_is_damage(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(nda.CorruptIndexError):
        corpus.pixels(np.array([7]))
    with pytest.raises(nda.CorruptIndexError, match="cannot be opened"):
        Corpus(tmp_path / "empty", SHAPE, {"name": "images", "version": 1})


RECORD = pa.struct([pa.field("width", pa.int32()), pa.field("copy", pa.binary())])


def with_records(count: int, seed: int) -> ImageBatch:
    records = [{"width": 100 * seed + i, "copy": bytes([seed, i])} for i in range(count)]
    return replace(batch(count, seed), pictures=records)


def test_records_of_pictures_are_read_by_their_ids_and_copied(tmp_path: Path) -> None:
    schema = table_schema(SHAPE, batch(1, 0).metadata.schema, RECORD)
    append_images(tmp_path, "images", [as_rows(with_records(4, 1), 0, schema)])
    table = append_images(tmp_path, "images", [as_rows(with_records(3, 2), 4, schema)])
    corpus = Corpus(tmp_path, SHAPE, table)
    assert corpus.pictures(np.array([5, 0, 3, 0])) == [
        {"width": 201, "copy": b"\2\1"}, {"width": 100, "copy": b"\1\0"}, {"width": 103, "copy": b"\1\3"},
        {"width": 100, "copy": b"\1\0"},
    ]  # fmt: skip
    assert corpus.pictures(np.empty(0, np.int64)) == []
    assert corpus.metadata_schema.names == ["year"]  # a record is no metadata
    assert corpus.rows(np.array([5]))[1].to_pylist() == [{"year": 1991}]
    np.testing.assert_array_equal(corpus.pixels(np.array([5])), batch(3, 2).images[[1]])
    with pytest.raises(nda.CorruptIndexError):
        corpus.pictures(np.array([7]))
    copied = append_images(tmp_path, "images-1", [corpus.copy_rows(np.array([6, 2]), 0)])
    again = Corpus(tmp_path, SHAPE, copied)
    assert [record["width"] for record in again.pictures(np.array([0, 1]))] == [202, 102]


def test_a_table_without_records_has_the_columns_that_it_had(corpus: Corpus) -> None:
    assert corpus.schema.names == ["image_id", "key", "pixels", "sha256", "row_sha256", "year"]
    schema = table_schema(SHAPE, batch(1, 0).metadata.schema, RECORD)
    assert [name for name in schema.names if name not in corpus.schema.names] == [PICTURE]
    digests = [
        as_rows(made, 0, kind)["row_sha256"]
        for made, kind in ((batch(2, 1), corpus.schema), (with_records(2, 1), schema))
    ]
    assert digests[0].to_pylist() == digests[1].to_pylist()
