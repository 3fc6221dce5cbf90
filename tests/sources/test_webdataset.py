from __future__ import annotations

import io
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


def left_out(source: Any) -> dict[str, str]:
    return {one.key: one.reason for one in open_source(source).left_out}


def test_names_with_dots_have_keys_of_their_own(tmp_path: Path) -> None:
    names = ["22.05.png", "22.06.png", "a.left.png", "a.right.PNG", "d.png", "e.png", "e.jpg"]
    shard = write_shard(tmp_path / "a.tar", {name: encoded(numbered(9)[i]) for i, name in enumerate(names)})
    contents = read(shard, (2, 2))
    assert contents.keys == ["22.05", "22.06", "a.left", "a.right", "d", "e.png", "e.jpg"]
    assert contents.images[:, 0, 0, 0].tolist() == list(range(7))
    assert left_out(shard) == {}


def test_metadata_belong_to_the_nearest_name_wherever_they_stand(tmp_path: Path) -> None:
    members = {
        "a.cls": b"1", "a.left.png": encoded(RED), "a.right.png": encoded(RED), "b.png": encoded(RED),
        "a.right.json": as_json({"side": "r"}), "b.json": as_json({"side": "b"}), "a.json": as_json({"side": "a"}),
        "b.png.txt": b"whole name", "b.txt": b"stem", "lost.json": b"{}",
    }  # fmt: skip
    shard = write_shard(tmp_path / "a.tar", members)
    assert read(shard).metadata.to_pydict() == {
        "cls": [1, 1, None], "side": ["a", "r", "b"], "txt": [None, None, "whole name"],
    }  # fmt: skip
    assert left_out(shard) == dict.fromkeys(
        ("b.txt", "lost.json"), "belongs to no picture of this shard: none has its name"
    )


def test_what_is_no_picture_and_metadata_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    members = {
        "a.png": encoded(RED), "a.cls": "\u00b2".encode(), "a.json": b"[", "a.wav": b"", "b.svg": b"<svg/>", "c": b"",
        ".d.png": b"",
    }  # fmt: skip
    shards = [write_shard(tmp_path / name, members) for name in ("0.tar", "1.tar")]
    found = left_out(shards)
    assert sorted(found) == [f"{n}.tar: {name}" for n in (0, 1) for name in sorted(set(members) - {"a.png"})]
    assert found["1.tar: a.cls"] == "is not a whole number: '\u00b2'; the picture has no class"
    assert found["1.tar: b.svg"].startswith("is SVG")
    assert found["1.tar: c"] == "is not a picture by its name (no ending)"


def add_link(path: Path, name: str, target: str, kind: bytes) -> None:
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo(name)
        link.type, link.linkname = kind, target
        archive.addfile(link)


def test_links_lead_to_pictures_of_the_same_shard_or_are_failures(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", {"x/g.png": encoded(GREEN), "r.png": encoded(RED)})
    links = [
        ("hard.png", "x/g.png", tarfile.LNKTYPE), ("y/soft.png", "../x/g.png", tarfile.SYMTYPE),
        ("chain.png", "hard.png", tarfile.SYMTYPE), ("out.png", "/etc/g.png", tarfile.SYMTYPE),
        ("round.png", "round.png", tarfile.SYMTYPE),
    ]  # fmt: skip
    for link in links:
        add_link(path, *link)
    contents = read(path)
    assert contents.keys == ["x/g", "r", "hard", "y/soft", "chain"]
    for key, image in zip(contents.keys, contents.images, strict=True):
        np.testing.assert_array_equal(image.transpose(1, 2, 0), RED if key == "r" else GREEN)
    assert [(one.key, one.reason) for one in contents.failures] == [
        ("out", "is a link to '/etc/g.png', which is not in this shard; pack it with what it names"),
        ("round", "is a link in a circle"),
    ]


def test_a_later_member_of_the_same_name_replaces_an_earlier_one(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", {"a.png": encoded(RED), "b.png": encoded(RED)})
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("a.png")
        member.size = len(encoded(GREEN))
        archive.addfile(member, io.BytesIO(encoded(GREEN)))
    contents = read(path)
    assert contents.keys == ["b", "a"]
    np.testing.assert_array_equal(contents.images[1].transpose(1, 2, 0), GREEN)
    assert left_out(path) == {"a.png": "is replaced by a later member of the same name, as when the shard is unpacked"}


def test_names_that_are_not_utf8_are_kept_percent_encoded(tmp_path: Path) -> None:
    assert read(write_shard(tmp_path / "a.tar", {"caf\udce9.png": encoded(RED), "b\udce9.wav": b""})).keys == ["caf%E9"]
    assert list(left_out(tmp_path / "a.tar")) == ["b%E9.wav"]


def test_a_damaged_header_is_no_end_of_a_shard(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", {f"{i}.png": encoded(RED) for i in range(4)})
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        header = archive.getmembers()[2].offset
    data[header + 150] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        SourceError, match=r"a\.tar' cannot be read to its end: the header after byte [\d,]+ is damaged"
    ):
        open_source(path)


def test_what_comes_after_the_end_of_a_shard_is_named(tmp_path: Path) -> None:
    path, other = (write_shard(tmp_path / name, {name[0] + ".png": encoded(RED)}) for name in ("a.tar", "b.tar"))
    whole = path.read_bytes()
    path.write_bytes(whole + other.read_bytes())  # as cat makes one of two
    assert read(path).keys == ["a"]
    assert "the file goes on; unpack it with tar --ignore-zeros" in next(iter(left_out(path).values()))
    with tarfile.open(other) as archive:
        end = archive.getmembers()[-1].offset_data + 512
    other.write_bytes(other.read_bytes()[:end])
    assert "has no end mark" in next(iter(left_out(other).values()))
