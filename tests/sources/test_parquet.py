from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nda_index import ConfigError, SourceError
from nda_index.sources import base, open_source, read_batches
from nda_index.sources.parquet import choose_image_column, find_key_column
from tests.conftest import GREEN, RED, encoded
from tests.sources.contents import numbered, read

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def structs(*images: Any) -> pa.Array:
    return pa.array([{"bytes": image, "path": None} for image in images], STRUCT)


def large_binary(*images: Any) -> pa.Array:
    return pa.array(images, pa.large_binary())


def test_paths_of_image_structs_are_keys_and_plain_columns_are_metadata(tmp_path: Path) -> None:
    rows = [
        {"bytes": encoded(RED), "path": "r.png"},
        {"bytes": None, "path": "gone.png"},
        {"bytes": encoded(GREEN), "path": None},
    ]
    contents = read(write(tmp_path / "set.parquet", image=rows, label=[3, 4, 5], nested=[[1], [2], [3]]))
    assert contents.keys == ["r.png", "set-00000002"]
    assert contents.metadata.to_pydict() == {"label": [3, 5], "nested": [[1], [3]]}
    assert [(f.key, f.reason) for f in contents.failures] == [("gone.png", "the source holds no bytes for it")]
    np.testing.assert_array_equal(contents.images[0].transpose(1, 2, 0), RED)
    np.testing.assert_array_equal(contents.images[1].transpose(1, 2, 0), GREEN)


@pytest.mark.parametrize("form", [structs, lambda *images: pa.array(images, pa.binary()), large_binary])
def test_every_form_of_image_column_gives_the_same(tmp_path: Path, form: Callable[..., pa.Array]) -> None:
    path = write(tmp_path / "set.parquet", img=form(encoded(RED), None, encoded(GREEN), b"broken"))
    contents = read(path)
    np.testing.assert_array_equal(contents.images.transpose(0, 2, 3, 1), [RED, GREEN])
    assert contents.keys == ["set-00000000", "set-00000002"]
    assert [failure.key for failure in contents.failures] == ["set-00000003"]
    assert contents.metadata.column_names == []
    opened = open_source(path)
    assert (opened.kind, opened.count) == ("parquet", 4)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"png": pa.binary(), "thumbnail": STRUCT}, "png"),
        ({"conditioning_image": STRUCT, "image": STRUCT}, "image"),
        ({"hash": pa.binary(), "photo": STRUCT}, "photo"),
        ({"mask": pa.binary(), "jpg": pa.large_binary(), "image": pa.binary()}, "image"),
        ({"mask": pa.binary(), "bytes": pa.binary_view()}, "bytes"),
        ({"photo": pa.binary(), "box": pa.struct([("x", pa.int64())])}, "photo"),
    ],
)
def test_the_image_column_is_told_by_its_name_or_its_type(columns: dict[str, pa.DataType], expected: str) -> None:
    assert choose_image_column(pa.schema(columns.items()), None, Path("a.parquet")) == expected


def test_an_image_column_that_is_not_told_must_be_named(tmp_path: Path) -> None:
    schema = pa.schema([("before", STRUCT), ("after", STRUCT), ("label", pa.string())])
    with pytest.raises(SourceError, match=r"hold the images: before, after; say which with image_column='before'"):
        choose_image_column(schema, None, tmp_path)
    assert choose_image_column(schema, "after", tmp_path) == "after"
    with pytest.raises(
        ConfigError, match="image_column is 'label', but in .* the columns with images are before, after"
    ):
        choose_image_column(schema, "label", tmp_path)
    path = write(tmp_path / "set.parquet", before=structs(encoded(GREEN)), after=structs(encoded(RED)), label=[1])
    contents = read(path, image_column="after")
    np.testing.assert_array_equal(contents.images[0].transpose(1, 2, 0), RED)
    assert open_source(path, image_column="after").notes == ("the column 'before' holds pictures too and is left out",)


def test_notes_of_hugging_face_tell_images_from_other_bytes(tmp_path: Path) -> None:
    table = pa.table({"sound": structs(b"x"), "picture": structs(encoded(RED))})
    features = {"sound": {"_type": "Audio"}, "picture": {"_type": "Image"}}
    noted = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(noted, tmp_path / "set.parquet")
    np.testing.assert_array_equal(read(tmp_path / "set.parquet").images[0].transpose(1, 2, 0), RED)


def test_a_split_of_a_folder_is_chosen(tmp_path: Path) -> None:
    for split, image in (("train", RED), ("test", GREEN)):
        write(tmp_path / f"{split}-00000-of-00001.parquet", image=structs(encoded(image)))
    for source in (tmp_path, str(tmp_path / "*.parquet")):
        with pytest.raises(ConfigError, match="holds the splits test, train; say which to index with split='train'"):
            open_source(source)
        assert read(source, split="test").images[0, 1, 0, 0] == GREEN[0, 0, 1]
        assert open_source(source, split="test+train").count == 2
    assert open_source(sorted(tmp_path.iterdir())).count == 2


def test_other_binary_columns_are_not_metadata(tmp_path: Path) -> None:
    digest = pa.array([bytes(32)], pa.binary(32))
    path = write(tmp_path / "set.parquet", mask=[b"x"], image=[encoded(RED)], digest=digest, label=["red"])
    assert read(path).metadata.to_pydict() == {"label": ["red"]}
    assert open_source(path).notes == (
        "the column 'mask' holds pictures too and is left out",
        "the column 'digest' is of type fixed_size_binary[32] and is left out",
    )
    with pytest.raises(ConfigError, match="the column 'digest' is of type .*; leave it out of columns"):
        open_source(path, columns=["digest"])


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"id": pa.string(), "path": pa.string(), "key": pa.string()}, "key"),
        ({"file_name": pa.string(), "path": pa.string()}, "path"),
        ({"key": pa.int64(), "filename": pa.string()}, "key"),
        ({"key": pa.float64(), "id": pa.large_string()}, "id"),
        ({"uuid": pa.binary(16), "label": pa.string()}, "uuid"),
        ({"image_id": pa.uint64()}, "image_id"),
        ({"name": pa.string()}, None),
    ],
)
def test_the_key_column_is_the_best_named_string_one(columns: dict[str, pa.DataType], expected: str | None) -> None:
    assert find_key_column(pa.schema(columns.items())) == expected


def test_a_column_named_key_is_not_metadata_too_but_other_key_columns_are(tmp_path: Path) -> None:
    images = [encoded(RED)] * 3
    named_key = read(write(tmp_path / "a.parquet", image=images, key=["x", "y", None]))
    assert (named_key.keys, named_key.metadata.column_names) == (["x", "y", "a-00000002"], [])
    named_id = read(write(tmp_path / "b.parquet", image=images, id=["x", "y", ""]))
    assert (named_id.keys, named_id.metadata.to_pydict()) == (["x", "y", "b-00000002"], {"id": ["x", "y", ""]})


@pytest.mark.parametrize(
    ("column", "keys"),
    [
        (pa.array(["7", None], pa.large_string()), ["7", "set-00000001"]),
        (pa.array(["7", "8"], pa.string_view()), ["7", "8"]),
        (pa.array(["7", "8"]).dictionary_encode(), ["7", "8"]),
        (pa.array([7, 0]), ["7", "0"]),
        (pa.array([7, 2**64 - 1], pa.uint64()), ["7", "18446744073709551615"]),
        (pa.array([bytes(range(16))] * 2, pa.binary(16)), ["00010203-0405-0607-0809-0a0b0c0d0e0f"] * 2),
        (pa.array([bytes(range(16))] * 2, pa.uuid()), ["00010203-0405-0607-0809-0a0b0c0d0e0f"] * 2),
    ],
)
def test_keys_of_any_kind_become_text(tmp_path: Path, column: pa.Array, keys: list[str]) -> None:
    path = write(tmp_path / "set.parquet", image=[encoded(RED)] * 2, key=column)
    assert read(path).keys == keys
    assert open_source(path).notes == ()


def test_a_key_column_goes_before_the_path_of_a_struct_and_a_float_is_no_key(tmp_path: Path) -> None:
    rows = [{"bytes": encoded(RED), "path": f"{i}.png"} for i in range(2)]
    assert read(write(tmp_path / "a.parquet", image=rows, key=["x", None])).keys == ["x", "1.png"]
    assert read(write(tmp_path / "b.parquet", image=rows, id=["x", "y"])).keys == ["0.png", "1.png"]
    odd = read(write(tmp_path / "c.parquet", image=rows, key=[0.5, 1.5]))
    assert (odd.keys, odd.metadata.to_pydict()) == (["0.png", "1.png"], {"source_key": [0.5, 1.5]})


def test_keys_are_kept_where_their_column_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", image=[encoded(RED)], id=["x"], year=[1999])
    contents = read(path, columns=["year"])
    assert (contents.keys, contents.metadata.to_pydict()) == (["x"], {"year": [1999]})


def test_metadata_keep_their_types_and_missing_values(tmp_path: Path) -> None:
    columns = {
        "i": pa.array([1, None], pa.int16()),
        "f": pa.array([0.5, None], pa.float32()),
        "b": pa.array([True, None]),
        "s": pa.array(["x", None]),
        "d": pa.array([datetime.date(1999, 1, 2), None]),
        "t": pa.array([datetime.datetime(1999, 1, 2), None], pa.timestamp("us")),
    }
    path = write(tmp_path / "set.parquet", image=[encoded(RED)] * 2, **columns)
    metadata = read(path).metadata
    assert metadata.equals(pa.table(columns))
    assert open_source(path).schema.equals(metadata.schema)


def test_a_moment_that_python_does_not_have_is_a_failure_of_its_row(tmp_path: Path) -> None:
    moments = pa.array([0, 2**50, None], pa.timestamp("ms"))
    contents = read(write(tmp_path / "set.parquet", image=[encoded(RED)] * 3, at=moments))
    assert contents.metadata["at"].to_pylist() == [datetime.datetime(1970, 1, 1), None]
    assert [failure.key for failure in contents.failures] == ["set-00000001"]


def test_several_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table([[encoded(RED)], [1], [2]], names=["image", "a", "a"]), tmp_path / "set.parquet")
    with pytest.raises(SourceError, match="has several columns 'a'; rename them"):
        open_source(tmp_path / "set.parquet")


def test_a_dictionary_column_becomes_its_values(tmp_path: Path) -> None:
    labels = pa.array(["cat", "dog", "cat"]).dictionary_encode()
    metadata = read(write(tmp_path / "set.parquet", image=[encoded(RED)] * 3, label=labels)).metadata
    assert metadata.schema.field("label").type == pa.string()
    assert metadata["label"].to_pylist() == ["cat", "dog", "cat"]


def test_several_files_are_read_in_order_past_a_chunk_and_count_their_rows_alone(tmp_path: Path) -> None:
    count = base.CHUNK + 5
    images = numbered(2 * count)
    for part in range(2):
        own = images[part * count : (part + 1) * count]
        write(tmp_path / f"part{part}.parquet", png=[encoded(image) for image in own], year=[part] * count)
    for source in (tmp_path, tmp_path / "part*.parquet", sorted(tmp_path.iterdir())):
        contents = read(source if isinstance(source, list) else str(source), (2, 2))
        np.testing.assert_array_equal(contents.images.transpose(0, 2, 3, 1), images)
        assert contents.keys == [f"part{part}-{row:08d}" for part in range(2) for row in range(count)]
        assert contents.metadata.to_pydict() == {"year": [0] * count + [1] * count}
    assert read(sorted(tmp_path.iterdir(), reverse=True), (2, 2)).keys[0] == "part1-00000000"


def test_files_of_other_columns_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "0.parquet", png=[encoded(RED)], year=[1])
    for columns in ({}, {"year": ["1"]}, {"year": [1], "label": [1]}):
        write(tmp_path / "1.parquet", png=[encoded(RED)], **columns)
        with pytest.raises(SourceError, match=r"1\.parquet' has other columns than '.*0\.parquet'"):
            open_source(tmp_path)


def test_the_notes_that_writers_leave_in_a_schema_are_not_compared(tmp_path: Path) -> None:
    table = pa.table({"png": [encoded(RED)]})
    pq.write_table(table, tmp_path / "0.parquet")
    pq.write_table(table.replace_schema_metadata({"writer": "another"}), tmp_path / "1.parquet")
    assert open_source(tmp_path).count == 2


def test_a_row_that_never_had_an_image_is_left_out_in_its_own_words(tmp_path: Path) -> None:
    rows = {
        "jpg": [encoded(RED), None, None, None],
        "key": ["a", "b", "c", "d"],
        "status": ["success", "failed_to_download", "failed_to_download", None],
        "error_message": [None, "HTTP Error 404: Not Found", None, None],
    }
    pq.write_table(pa.table(rows), tmp_path / "00000.parquet")
    [batch] = read_batches(open_source(tmp_path / "00000.parquet", columns=[]), (2, 2), 3)
    assert (batch.keys, batch.failures, batch.read) == (["a"], [], 4)
    assert [(one.key, one.reason) for one in batch.absent] == [
        ("b", "has no image in the source, which says: HTTP Error 404: Not Found"),
        ("c", "has no image in the source, which says: failed_to_download"),
        ("d", "has no image in the source"),
    ]


def test_a_file_without_images_and_a_broken_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no column with the bytes of images .* its columns are label, url"):
        open_source(write(tmp_path / "text.parquet", label=[1], url=["http://x/y.png"]))
    path = tmp_path / "set.parquet"
    path.write_bytes(b"PAR1 no")
    with pytest.raises(SourceError, match=r"set\.parquet' cannot be read as Parquet: .*; check that it is complete"):
        open_source(path)


def test_where_a_file_is_damaged_inside_the_rows_of_that_part_are_failures(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    rows = [encoded(RED), encoded(GREEN), encoded(RED)]
    pq.write_table(pa.table({"image": rows}), path, compression="gzip", row_group_size=2)
    data = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    data[start : start + 60] = bytes(60)
    path.write_bytes(data)
    contents = read(path)
    assert contents.keys == ["set-00000002"]
    assert [failure.key for failure in contents.failures] == ["set-00000000", "set-00000001"]
    assert all("this part of" in failure.reason for failure in contents.failures)
