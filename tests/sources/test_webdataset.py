from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from nda_index import SourceError
from nda_index.sources import open_source
from nda_index.sources.webdataset import split_name
from tests.conftest import GREEN, RED, encoded
from tests.sources.contents import numbered, read, write_shard


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_members_are_grouped_and_their_json_class_and_text_are_metadata(tmp_path: Path) -> None:
    members = {
        "x/0.jpg": encoded(RED, "JPEG"), "x/0.json": as_json({"width": 10, "ok": True, "deep": {}}), "x/0.cls": b"7",
        "x/1.png": encoded(GREEN), "x/1.json": as_json({"width": 10.5}), "x/1.txt": b"green",
        "x/2.txt": b"without an image",
    }  # fmt: skip
    shard = write_shard(tmp_path / "shard.tar", members)
    contents = read(shard)
    assert (contents.keys, contents.failures) == (["x/0", "x/1"], [])
    np.testing.assert_array_equal(contents.images[1].transpose(1, 2, 0), GREEN)
    expected = {"width": [10.0, 10.5], "ok": [True, None], "cls": [7, None], "txt": [None, "green"]}
    assert contents.metadata.to_pydict() == expected
    opened = open_source(shard)
    assert (opened.kind, opened.count) == ("webdataset", 2)


def test_columns_take_the_type_that_holds_all_their_values(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"int": 1, "float": 1, "bool": True, "text": "x", "mixed": 1, "flag": True, "none": None},
        {"int": -2, "float": 0.5, "bool": False, "text": "y", "mixed": "b", "flag": 3, "none": None},
    ]
    members = {f"{i}.{e}": d for i, row in enumerate(rows) for e, d in (("png", encoded(RED)), ("json", as_json(row)))}
    schema = open_source(write_shard(tmp_path / "shard.tar", members)).schema
    assert dict(zip(schema.names, schema.types, strict=True)) == {
        "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "text": pa.string(), "mixed": pa.string(),
        "flag": pa.string(),
    }  # fmt: skip
    metadata = read(tmp_path / "shard.tar").metadata.to_pydict()
    assert metadata["mixed"] == ["1", "b"]
    assert metadata["flag"] == ["True", "3"]
    assert metadata["float"] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("name", "key", "ending"),
    [
        ("a.png", "a", ".png"),
        ("x/y/a.PNG", "x/y/a", ".png"),
        ("a.seg.png", "a.seg", ".png"),
        ("x.1/a.png", "x.1/a", ".png"),
        ("x/a", "x/a", "."),
    ],
)
def test_a_name_is_split_at_the_last_dot_of_its_last_part(name: str, key: str, ending: str) -> None:
    assert split_name(name) == (key, ending)


def test_several_shards_are_read_in_the_order_they_are_given(tmp_path: Path) -> None:
    images = numbered(6)
    for shard in range(3):
        members = {f"{shard}-{i}.png": encoded(images[2 * shard + i]) for i in (0, 1)}
        write_shard(tmp_path / f"{shard}.tar", members)
    contents = read(str(tmp_path / "?.tar"), (2, 2))
    assert contents.keys == ["0-0", "0-1", "1-0", "1-1", "2-0", "2-1"]
    np.testing.assert_array_equal(contents.images.transpose(0, 2, 3, 1), images)
    assert read([tmp_path / "2.tar", tmp_path / "0.tar"], (2, 2)).keys == ["2-0", "2-1", "0-0", "0-1"]
    assert open_source([tmp_path / "2.tar", tmp_path / "0.tar"]).count == 4


def test_a_column_of_one_shard_is_missing_in_the_others(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", {"a.png": encoded(RED), "a.cls": b"1"})
    write_shard(tmp_path / "1.tar", {"b.png": encoded(RED), "b.txt": b"red"})
    assert read(str(tmp_path / "*.tar")).metadata.to_pydict() == {"cls": [1, None], "txt": [None, "red"]}


def test_the_order_of_members_in_a_shard_is_kept_and_metadata_may_come_first(tmp_path: Path) -> None:
    members = {"9.cls": b"9", "9.png": encoded(RED), "10.png": encoded(GREEN), "10.cls": b"10", "1.png": encoded(RED)}
    contents = read(write_shard(tmp_path / "shard.tar", members))
    assert contents.keys == ["9", "10", "1"]
    assert contents.metadata.to_pydict() == {"cls": [9, 10, None]}
    np.testing.assert_array_equal(contents.images[1].transpose(1, 2, 0), GREEN)


def test_hidden_members_and_folders_are_left_out(tmp_path: Path) -> None:
    path = write_shard(
        tmp_path / "shard.tar", {"x/.png": encoded(GREEN), "x/._0.png": b"fork", "x/0.png": encoded(RED)}
    )
    with tarfile.open(path, "a") as archive:
        folder = tarfile.TarInfo("y.png")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    contents = read(path)
    assert (contents.keys, contents.failures) == (["x/0"], [])
    assert open_source(path).count == 1


def test_a_broken_image_is_a_failure_and_its_neighbours_are_read(tmp_path: Path) -> None:
    members = {"0.png": encoded(RED), "1.png": b"broken", "1.cls": b"1", "2.png": encoded(GREEN), "2.cls": b"2"}
    shard = write_shard(tmp_path / "shard.tar", members)
    contents = read(shard)
    assert (contents.keys, [failure.key for failure in contents.failures]) == (["0", "2"], ["1"])
    assert contents.metadata.to_pydict() == {"cls": [None, 2]}
    assert open_source(shard).count == 3


@pytest.mark.parametrize("size", [0.3, 0.6, 0.9])
def test_a_shard_that_is_cut_short_is_refused_and_named(tmp_path: Path, size: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    write_shard(tmp_path / "0.tar", {"a.png": encoded(RED)})
    whole = write_shard(tmp_path / "whole.tar", {f"{i}.png": encoded(noise) for i in range(5)})
    data = whole.read_bytes()
    with tarfile.open(whole) as archive:
        last = archive.getmembers()[-1]
    end = last.offset_data + last.size
    cuts = [int(end * size), int(end * size) // 512 * 512, last.offset + 100]  # in a block, between two, in a header
    for cut in cuts:
        (tmp_path / "cut.tar").write_bytes(data[:cut])
        with pytest.raises(SourceError, match=r"cut\.tar' .*check that the shard is complete"):
            open_source([tmp_path / "0.tar", tmp_path / "cut.tar"])


def test_what_is_not_a_tar_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_bytes(b"not an archive".ljust(1024))
    with pytest.raises(SourceError, match=r"text\.tar' cannot be read to its end"):
        open_source(tmp_path / "text.tar")


def test_shards_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no image"):
        open_source(write_shard(tmp_path / "shard.tar", {"a.txt": b"x", "b.json": b"{}"}))
