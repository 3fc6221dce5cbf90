from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nda_index import SourceError
from nda_index.sources import open_source
from tests.conftest import GREEN, RED, encoded
from tests.sources.contents import read, write_shard


def fill(folder: Path, *names: str) -> None:
    """Write red images, and green ones where the name has a "g"."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(GREEN if "g" in path.stem else RED, "PNG"))


def test_images_at_every_depth_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    fill(tmp_path, "b/2.PNG", "b/10g.png", "a.png", "b/c/d/1.png", "b-c/0.png", "Z.png")
    contents = read(tmp_path)
    assert contents.keys == ["Z.png", "a.png", "b-c/0.png", "b/10g.png", "b/2.PNG", "b/c/d/1.png"]
    for key, image in zip(contents.keys, contents.images, strict=True):
        np.testing.assert_array_equal(image.transpose(1, 2, 0), GREEN if "g." in key else RED)
    opened = open_source(str(tmp_path))
    assert (opened.kind, opened.count, opened.schema.names) == ("folder", 6, [])


def test_hidden_files_and_folders_are_left_out_but_not_those_above_the_source(tmp_path: Path) -> None:
    source = tmp_path / ".cache" / "set"
    fill(source, "a.png", ".b.png", ".c/d.png", "e/.f/g.png", "e/h.png")
    assert read(source).keys == ["a.png", "e/h.png"]


def test_images_are_known_by_their_names(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.JPEG", "c.webp", "d.bmp", "e.gif", "f.tif", "g.tiff", "h.ppm", "i.pgm", "j.png")
    fill(tmp_path, "k.txt", "l.png.part", "png", "m.json")
    (tmp_path / "folder.png").mkdir()
    contents = read(tmp_path)
    assert [key[0] for key in contents.keys] == list("abcdefghij")
    assert contents.failures == []


def test_broken_images_are_counted_and_listed(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "d.png")
    (tmp_path / "b.jpg").write_bytes(encoded(np.tile(RED, (20, 20, 1)), "JPEG")[:400])
    (tmp_path / "c.png").write_text("not an image")
    contents = read(tmp_path)
    assert open_source(tmp_path).count == 4
    assert contents.keys == ["a.png", "d.png"]
    assert [failure.key for failure in contents.failures] == ["b.jpg", "c.png"]
    assert "is truncated" in contents.failures[0].reason
    assert "cannot be read as an image" in contents.failures[1].reason


def test_an_image_that_is_gone_when_it_is_read_is_a_failure(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png")
    opened = open_source(tmp_path)
    (tmp_path / "a.png").unlink()
    contents = read(opened)
    assert contents.keys == ["b.png"]
    assert [(f.key, "there is no image at" in f.reason) for f in contents.failures] == [("a.png", True)]


def test_a_folder_of_parquet_files_alone_is_read_folder_by_folder(tmp_path: Path) -> None:
    for name in ("b/0.parquet", "b-c/0.parquet", "a.PARQUET", ".hidden/0.parquet"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"image": [encoded(RED)], "id": [name]}), path)
    assert read(tmp_path).keys == ["a.PARQUET", "b/0.parquet", "b-c/0.parquet"]
    assert open_source(tmp_path).kind == "parquet"


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(
        SourceError, match=r"holds no image \(it holds notes.txt, which is not a picture by its name \(.txt\)\)"
    ):
        open_source(tmp_path)


def left_out(source: Path) -> dict[str, str]:
    return {one.key: one.reason for one in open_source(source).left_out}


def test_everything_that_is_left_out_is_named_with_its_reason(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", ".hidden.png", ".git/b.png")
    (tmp_path / "deep").mkdir()
    pq.write_table(pa.table({"year": [1999], "place": ["x"]}), tmp_path / "deep" / "labels.parquet")
    for name in ("logo.svg", "notes.txt", "set.npz", "plain", "old.zip"):
        (tmp_path / "deep" / name).write_bytes(b"...")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = left_out(tmp_path)
    assert list(found) == sorted(found)
    expected = {
        ".git": "is hidden", ".hidden.png": "is hidden", "deep/labels.parquet": "the columns year, place",
        "deep/logo.svg": "is SVG", "deep/notes.txt": "not a picture by its name (.txt)", "deep/plain": "(no ending)",
        "deep/old.zip": "is an archive", "deep/set.npz": "give it as a source of its own",
        "gone.png": "is a link to nothing", "pipe.png": "is neither a file nor a folder",
    }  # fmt: skip
    assert set(found) == set(expected)
    assert [name for name, words in expected.items() if words not in found[name]] == []
    assert read(tmp_path).keys == ["a.png"]


def test_encodings_without_a_reader_are_failures_not_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    (tmp_path / "b.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (tmp_path / "c.jxl").write_bytes(b"\xff\x0a" + bytes(40))
    contents = read(tmp_path)
    assert [(one.key, one.reason.split(" ", 2)[2]) for one in contents.failures] == [
        ("b.HEIC", "HEIC, which the extra heif reads: pip install 'nda-index[heif]'"),
        ("c.jxl", "JPEG XL, which no extra reads; convert it to PNG or WebP"),
    ]


def test_linked_folders_and_files_are_followed_and_each_folder_is_read_once(tmp_path: Path) -> None:
    source, other = tmp_path / "source", tmp_path / "other"
    fill(source, "z/a.png")
    fill(other, "g.png", "sub/b.png")
    (source / "0-same").symlink_to(source / "z")  # comes before the folder that it leads to
    (source / "linked").symlink_to(other)
    (source / "again").symlink_to(other)
    (other / "up").symlink_to(source)  # a circle
    (source / "file.png").symlink_to(other / "g.png")
    (source / "self").symlink_to(source / "self")
    assert read(source).keys == ["again/g.png", "again/sub/b.png", "file.png", "z/a.png"]
    assert left_out(source) == {
        "0-same": "leads to the folder 'z', which is read already",
        "again/up": "leads to the folder '.', which is read already",
        "linked": "leads to the folder 'again', which is read already",
        "self": "cannot be opened: Too many levels of symbolic links; check where it leads",
    }


def test_a_folder_that_cannot_be_opened_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.png", "locked/b.png")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert left_out(tmp_path) == {"locked": "cannot be opened: Permission denied; check its permissions"}


def test_an_index_in_the_folder_is_not_read(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "x.nda/b.png")
    (tmp_path / "x.nda" / "writer.lock").touch()
    assert list(left_out(tmp_path)) == ["x.nda"]
    assert read(tmp_path).keys == ["a.png"]


@pytest.mark.parametrize("other", ["tables", "shards", "both"])
def test_a_folder_of_several_kinds_is_refused_with_the_names_of_each(tmp_path: Path, other: str) -> None:
    fill(tmp_path, "logo.png")
    if other != "shards":
        pq.write_table(pa.table({"image": [encoded(RED)]}), tmp_path / "0.parquet")
    if other != "tables":
        write_shard(tmp_path / "0.tar", {"a.png": encoded(RED)})
    with pytest.raises(SourceError, match=r"holds 1 images \('logo.png'\) and 1 .*; give one kind, as "):
        open_source(tmp_path)


def test_a_folder_of_shards_is_read_with_what_stands_beside_them(tmp_path: Path) -> None:
    for number in (1, 0):
        write_shard(tmp_path / f"0000{number}.tar", {f"{number}.png": encoded(RED)})
        pq.write_table(pa.table({"key": ["0"], "url": ["x"]}), tmp_path / f"0000{number}.parquet")
    (tmp_path / "00000_stats.json").write_text("{}")
    opened = open_source(tmp_path)
    assert (opened.kind, read(tmp_path).keys) == ("webdataset", ["0", "1"])
    assert [one.key for one in opened.left_out] == ["00000.parquet", "00000_stats.json", "00001.parquet"]


def test_names_that_are_not_utf8_are_kept_percent_encoded(tmp_path: Path) -> None:
    for name, data in ((b"caf\xe9%.png", encoded(RED)), (b"caf\xe8.txt", b""), (b"caf\xe7.jpg", b"broken")):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(data)
    contents = read(tmp_path)
    assert contents.keys == ["caf%E9%25.png"]
    assert [one.key for one in contents.failures] == ["caf%E7.jpg"]
    assert contents.failures[0].reason.encode()
    assert list(left_out(tmp_path)) == ["caf%E8.txt"]


def test_a_list_of_image_files_is_a_source(tmp_path: Path) -> None:
    fill(tmp_path, "b/g.png", "a.png")
    paths = [tmp_path / "b" / "g.png", tmp_path / "a.png"]
    assert read(paths).keys == [path.as_posix() for path in paths]
    assert read(str(tmp_path / "*.png")).keys == [(tmp_path / "a.png").as_posix()]
